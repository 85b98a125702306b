//! Predictions: one row per example.

use polars::prelude::*;
use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::libtorch::door;
use crate::model::{Generation, Model};
use crate::prompt::{LabelTokens, Prompt, Prompts};

/// Prompts per forward of a label task.
const BATCH: usize = 16;

/// What the model answers to each prompt.
///
/// *Label tasks*: the labels' probabilities at the first position where their tokens differ, their common prefix given, in one forward per
/// batch; demonstrations that all prompts share are computed once. Columns: `index`, `demonstrations` (count), `query`, `gold`, `answer` (the
/// likeliest label), `correct`, `confidence` (the answer's probability among the labels, `[0, 1]`), `nll` (of the gold among the labels,
/// nats), `entropy` (over the labels, nats), `label_mass` (share of the whole vocabulary's probability on the labels), and `p_<label>` each.
///
/// *Free answers*: greedy responses, up to the form's stop string. Columns: `index`, `demonstrations`, `query`, `gold`, `response`,
/// `answer`, `correct`, `tokens`, `ending`, `close_calls`.
///
/// # Errors
/// No prompts; a gold that is no label; labels whose tokens cannot be told apart; a prompt over the context; logits that are not finite.
pub fn evaluate(model: &Model, prompts: &Prompts) -> Result<DataFrame> {
    door("evaluate", || {
        if prompts.is_empty() {
            return Err(Error::input("there are no prompts to evaluate"));
        }
        if prompts.form().label_set().is_empty() { free(model, prompts) } else { labels(model, prompts) }
    })
}

fn labels(model: &Model, prompts: &Prompts) -> Result<DataFrame> {
    let form = prompts.form();
    let names = form.label_set();
    let tokens = LabelTokens::new(model.tokenizer()?, names)?;
    let golds = prompts.iter().map(|prompt| gold_place(prompt, names)).collect::<Result<Vec<_>>>()?;
    let mut rows = model.encode(prompts)?;
    for row in &mut rows {
        row.extend_from_slice(tokens.prefix());
    }
    let logits = model.next_logits(&rows, BATCH)?;
    let ids: Vec<i64> = tokens.ids().iter().map(|&id| i64::from(id)).collect();
    let whole = logits.softmax(-1, Kind::Double).index_select(1, &Tensor::from_slice(&ids).to_device(logits.device()));
    let mass: Vec<f64> = Vec::try_from(whole.sum_dim_intlist([-1i64].as_slice(), false, None))?;
    let among = logits.index_select(1, &Tensor::from_slice(&ids).to_device(logits.device())).log_softmax(-1, Kind::Double);
    let among: Vec<Vec<f64>> = Vec::try_from(among)?;
    if let Some(row) = among.iter().position(|row| row.iter().any(|value| !value.is_finite())) {
        return Err(Error::numeric(format!(
            "prompt {row} gave logits that are not finite: the weights, an adapter or an editor is broken"
        )));
    }
    let best: Vec<usize> =
        among.iter().map(|row| (0..row.len()).fold(0, |best, place| if row[place] > row[best] { place } else { best })).collect();
    let mut frame = df!(
        "index" => prompts.iter().map(|prompt| prompt.index as u32).collect::<Vec<_>>(),
        "demonstrations" => prompts.iter().map(|prompt| prompt.demonstrations.len() as u32).collect::<Vec<_>>(),
        "query" => prompts.iter().map(|prompt| prompt.example.query.as_str()).collect::<Vec<_>>(),
        "gold" => golds.iter().map(|&gold| names[gold].as_str()).collect::<Vec<_>>(),
        "answer" => best.iter().map(|&place| names[place].as_str()).collect::<Vec<_>>(),
        "correct" => best.iter().zip(&golds).map(|(best, gold)| best == gold).collect::<Vec<_>>(),
        "confidence" => among.iter().zip(&best).map(|(row, &place)| row[place].exp()).collect::<Vec<_>>(),
        "nll" => among.iter().zip(&golds).map(|(row, &gold)| -row[gold]).collect::<Vec<_>>(),
        "entropy" => among.iter().map(|row| -row.iter().map(|log| log.exp() * log).sum::<f64>()).collect::<Vec<_>>(),
        "label_mass" => mass,
    )?;
    for (place, name) in names.iter().enumerate() {
        let column: Vec<f64> = among.iter().map(|row| row[place].exp()).collect();
        frame.with_column(Column::new(format!("p_{name}").into(), column))?;
    }
    Ok(frame)
}

fn gold_place(prompt: &Prompt, labels: &[String]) -> Result<usize> {
    let gold = prompt.example.gold.trim();
    labels
        .iter()
        .position(|label| label.trim() == gold)
        .ok_or_else(|| Error::input(format!("example {}: the gold {gold:?} is none of the labels {labels:?}", prompt.index)))
}

fn free(model: &Model, prompts: &Prompts) -> Result<DataFrame> {
    let form = prompts.form();
    let responses = model.respond_as(prompts, &Generation::for_form(form).batch(BATCH))?;
    let mut frame = responses.frame()?;
    let answers: Vec<Option<String>> = responses.rows().iter().map(|row| form.answer(&row.text)).collect();
    frame.insert_column(5, Column::new("answer".into(), answers))?;
    Ok(frame)
}
