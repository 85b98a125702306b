//! Predictions: one row per example.

mod free;

use free::free;
use polars::prelude::*;
use sha2::{Digest, Sha256};
use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::interrupt;
use crate::libtorch::guarded;
use crate::model::{Model, NEVER, TokenRow};
use crate::nn::Hooks;
use crate::prompt::{AnswerForm, LabelTokens, Prompt, Prompts};

/// Prompts per forward, unless said.
const BATCH: usize = 16;
/// The likeliest tokens that `top_10_mass` sums, as many as the authors renormalise over.
const TOP: i64 = 10;
/// Rows of logits that are read at a time: several copies of them lie in memory.
const ROWS: i64 = 64;
/// Letters of a digest.
const DIGEST: usize = 16;

/// What the model answers to each prompt.
///
/// Both forms have `index`, `demonstrations` (count), `query`, `gold`, `answer`, `correct`, `response`, `prompt_tokens` (count, special tokens
/// included) and `prompt_digest` (the first 16 digits of the SHA-256 of the prompt's text, which [`Prompts::frame`] shows).
///
/// *Label tasks* are read at the first position where the labels' tokens differ, their common prefix given, in one forward per batch;
/// a prefix that prompts share is computed once. The tokens are those that query and label have together ([`LabelTokens`]).
///
/// | among the labels | |
/// |---|---|
/// | `answer`, `correct` | the likeliest label |
/// | `confidence` | its probability among the labels, `[0, 1]` |
/// | `p_<label>` each | every label's |
/// | `nll`, `entropy` | of the gold; over the labels, nats |
/// | `merged_label` | labels, joined by commas, that merge with the query over their border (`:true`) and so were read as other tokens than their demonstrations have; empty for none |
///
/// | in the whole vocabulary | |
/// |---|---|
/// | `label_mass` | probability of all labels together |
/// | `response`, `top_1_correct` | the text of the likeliest token (after the labels' common prefix); whether it is the gold, spaces around apart |
/// | `top_1_confidence` | its probability; divided by `top_10_mass` it is the authors' top-1 confidence |
/// | `top_10_mass` | probability of the ten likeliest tokens together |
/// | `gold_rank` | place of the gold's token, from 1; at most k in the top k. Of equally likely tokens each has the best place |
/// | `vocabulary_entropy` | over all tokens, nats |
///
/// *Free answers*: greedy responses, up to where [`Prompts::stop`] says and the form's limit of tokens. `answer` is null where a response holds none.
///
/// | of free answers | |
/// |---|---|
/// | `tokens`, `ending`, `close_calls` | of the response: how many, why it ended, how many were chosen where the two best logits were closer than 1e-4 |
/// | `confidence` | the answer's probability given what the response says before it, `exp(answer_log_likelihood)`, `[0, 1]`; 0 where there is no answer. [`with_confidence`](crate::metric::with_confidence) makes it another |
/// | `answer_tokens`, `answer_log_likelihood` | the tokens that hold a part of the answer (not what the response says after it, nor the token that ends it), and the sum of their `ln p`, nats. 0 and null where there is no answer |
/// | `response_log_likelihood` | the sum over all tokens of the response, nats |
/// | `entropy` | of the next token over the whole vocabulary, mean over the steps of the response, nats |
///
/// # Errors
/// No prompts; a gold that is no label; labels whose tokens cannot be told apart; a prompt over the context; logits that are not finite.
pub fn evaluate(model: &Model, prompts: &Prompts) -> Result<DataFrame> {
    evaluate_in_batches(model, prompts, BATCH)
}

/// [`evaluate`] with observers and editors, which see every token of every prompt, and then each new token of free answers.
///
/// ```
/// # use ia2::prelude::*;
/// # fn main() -> Result<()> {
/// # let model = Model::open("tiny-icl")?;
/// # let prompts = Task::open("sentiment")?.few_shot(8, 0)?.test.zero_shot()?.take(8);
/// let mut hooks = Hooks::new();
/// hooks.edit("model.layers.4.mlp", |_, value| Ok(Some(value * 0.5)));
/// let frame = evaluate_with(&model, &prompts, &mut hooks)?;
/// assert_eq!(frame.height(), 8);
/// # Ok(()) }
/// ```
///
/// Where the labels of a task share their first tokens, these follow each prompt.
///
/// # Errors
/// As [`evaluate`]; a pattern that selects nothing, an editor that never replaces a value, and what the hooks themselves return.
pub fn evaluate_with(model: &Model, prompts: &Prompts, hooks: &mut Hooks<'_>) -> Result<DataFrame> {
    evaluate_from(model, prompts, hooks, 0)
}

/// [`evaluate_with`] where the hooks need not see the tokens of label tasks before the position `seen_from`, so that they may be shared.
pub(crate) fn evaluate_from(model: &Model, prompts: &Prompts, hooks: &mut Hooks<'_>, seen_from: usize) -> Result<DataFrame> {
    evaluated(model, prompts, BATCH, Some((hooks, seen_from)))
}

/// [`evaluate`] with this number of prompts per forward (16 there): fewer take less memory. Numbers differ by rounding alone, below 1e-4.
///
/// # Errors
/// As [`evaluate`]; a batch of 0.
pub fn evaluate_in_batches(model: &Model, prompts: &Prompts, batch: usize) -> Result<DataFrame> {
    evaluated(model, prompts, batch, None)
}

/// Hooks, and the position from which on they have to see the tokens.
type Watched<'a, 'h> = Option<(&'a mut Hooks<'h>, usize)>;

fn evaluated(model: &Model, prompts: &Prompts, batch: usize, hooks: Watched<'_, '_>) -> Result<DataFrame> {
    guarded("evaluate", || {
        if prompts.is_empty() {
            return Err(Error::input("there are no prompts to evaluate"));
        }
        if batch == 0 {
            return Err(Error::input("the batch size is 0: use at least 1"));
        }
        let mut frame = match prompts.form().label_set() {
            [] => free(model, prompts, batch, hooks)?,
            _ => labels(model, prompts, batch, hooks)?,
        };
        let digest = |prompt: &Prompt| format!("{:x}", Sha256::digest(prompt.text()))[..DIGEST].to_string();
        frame.with_column(Column::new("prompt_digest".into(), prompts.iter().map(digest).collect::<Vec<_>>()))?;
        Ok(frame)
    })
}

fn labels(model: &Model, prompts: &Prompts, batch: usize, hooks: Watched<'_, '_>) -> Result<DataFrame> {
    let form = prompts.form();
    let names = form.label_set();
    let tokens = LabelTokens::of(model.tokenizer()?, prompts)?;
    for labels in &tokens {
        model.check_ids(labels.ids()).map_err(|error| error.context("the labels"))?;
    }
    let golds = prompts.iter().map(|prompt| gold_place(prompt, form)).collect::<Result<Vec<_>>>()?;
    let rows = model.encode(prompts)?;
    let lengths: Vec<u32> = rows.iter().map(|row| row.len() as u32).collect();
    let begun = |(row, labels): (Vec<u32>, &LabelTokens)| TokenRow { query: row.len(), tokens: [&row, labels.prefix()].concat() };
    let rows: Vec<TokenRow> = rows.into_iter().zip(&tokens).map(begun).collect();
    let logits = match hooks {
        None => model.next_logits(&rows, batch, None)?,
        Some((hooks, seen_from)) => {
            hooks.bind(model.points())?;
            let logits = model.next_logits(&rows, batch, Some((hooks, seen_from)))?;
            hooks.finish()?;
            logits
        }
    };
    let read = read(&logits, &tokens, &golds)?;
    let among: Vec<&[f64]> = read.iter().map(|row| row.among.as_slice()).collect();
    let best: Vec<usize> =
        among.iter().map(|row| (0..row.len()).fold(0, |best, place| if row[place] > row[best] { place } else { best })).collect();
    let said = read.iter().zip(&tokens).map(|(row, tokens)| model.tokenizer()?.decode(&[tokens.prefix(), &[row.likeliest]].concat()));
    let said = said.collect::<Result<Vec<_>>>()?;
    let numbers = |value: fn(&Read) -> f64| read.iter().map(value).collect::<Vec<_>>();
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
        "label_mass" => numbers(|row| row.label_mass),
    )?;
    for (place, name) in names.iter().enumerate() {
        let column: Vec<f64> = among.iter().map(|row| row[place].exp()).collect();
        frame.with_column(Column::new(format!("p_{name}").into(), column))?;
    }
    let top_1_correct: Vec<bool> = said.iter().zip(&golds).map(|(said, &gold)| said.trim() == names[gold].trim()).collect();
    Ok(frame.hstack(&[
        Column::new("response".into(), said),
        Column::new("top_1_correct".into(), top_1_correct),
        Column::new("top_1_confidence".into(), numbers(|row| row.top_1)),
        Column::new("top_10_mass".into(), numbers(|row| row.top_10)),
        Column::new("gold_rank".into(), read.iter().map(|row| row.gold_rank).collect::<Vec<_>>()),
        Column::new("vocabulary_entropy".into(), numbers(|row| row.entropy)),
        Column::new("prompt_tokens".into(), lengths),
        Column::new("merged_label".into(), tokens.iter().map(|tokens| tokens.merged().join(", ")).collect::<Vec<_>>()),
    ])?)
}

/// What is read of one row of logits.
struct Read {
    /// Log-probability of each label among the labels.
    among: Vec<f64>,
    label_mass: f64,
    likeliest: u32,
    top_1: f64,
    top_10: f64,
    gold_rank: u32,
    entropy: f64,
}

/// Of `logits [example, vocab]`, each row with the labels' tokens after its query.
fn read(logits: &Tensor, tokens: &[LabelTokens], golds: &[usize]) -> Result<Vec<Read>> {
    let device = logits.device();
    let ids: Vec<i64> = tokens.iter().flat_map(|tokens| tokens.ids()).map(|&id| i64::from(id)).collect();
    // [example, label]
    let labels = Tensor::from_slice(&ids).view([golds.len() as i64, -1]).to_device(device);
    let places: Vec<i64> = golds.iter().map(|&gold| gold as i64).collect();
    let gold = labels.gather(1, &Tensor::from_slice(&places).to_device(device).unsqueeze(1), false);
    let list = |values: &Tensor| Ok::<_, Error>(Vec::<f64>::try_from(values.to_kind(Kind::Double))?);
    let mut rows = Vec::with_capacity(golds.len());
    for start in (0..golds.len() as i64).step_by(ROWS as usize) {
        interrupt::check()?;
        let count = ROWS.min(golds.len() as i64 - start);
        let (logits, labels, gold) = (logits.narrow(0, start, count), labels.narrow(0, start, count), gold.narrow(0, start, count));
        let among: Vec<Vec<f64>> = Vec::try_from(logits.gather(1, &labels, false).log_softmax(-1, Kind::Double))?;
        if let Some(row) = among.iter().position(|row| row.iter().any(|value| !value.is_finite())) {
            let row = start as usize + row;
            return Err(Error::numeric(format!(
                "prompt {row} gave logits that are not finite: the weights, an adapter or an editor is broken"
            )));
        }
        // In the logits' kind: in f64 a large vocabulary would take longer than a small model.
        let logs = logits.log_softmax(-1, logits.kind());
        let all = logs.exp();
        let (top, places) = all.topk(TOP.min(all.size()[1]), -1, true, true);
        let sum = |values: &Tensor| values.sum_dim_intlist([-1i64].as_slice(), false, Kind::Double);
        let (likeliest, top_1, top_10) = (Vec::<i64>::try_from(places.select(1, 0))?, list(&top.select(1, 0))?, list(&sum(&top))?);
        let ranks = list(&sum(&logits.gt_tensor(&logits.gather(1, &gold, false))))?;
        let masses = list(&sum(&all.gather(1, &labels, false)))?;
        // What cannot be said at all, with a logit of -inf, adds nothing.
        let entropies = list(&-sum(&(all * logs.clamp_min(NEVER))))?;
        for (row, among) in among.into_iter().enumerate() {
            rows.push(Read {
                among,
                label_mass: masses[row],
                likeliest: likeliest[row] as u32,
                top_1: top_1[row],
                top_10: top_10[row],
                gold_rank: ranks[row] as u32 + 1,
                entropy: entropies[row],
            });
        }
    }
    Ok(rows)
}

fn gold_place(prompt: &Prompt, form: &AnswerForm) -> Result<usize> {
    let gold = &prompt.example.gold;
    let place = form.label_of(gold);
    place.ok_or_else(|| Error::input(format!("example {}: the gold {gold:?} is none of the labels {:?}", prompt.index, form.label_set())))
}
