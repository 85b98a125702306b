//! Activation patching.

use polars::prelude::*;
use tch::Tensor;

use super::{encoded, last_of};
use crate::activations::Activations;
use crate::error::{Error, Result};
use crate::evaluate::evaluate_from;
use crate::frame::{below, in_front};
use crate::interrupt;
use crate::libtorch::guarded;
use crate::model::Model;
use crate::nn::{HookPoint, Hooks, layer_of};
use crate::prompt::{AnswerForm, Prompts};

/// Activation patching (Vig et al. 2020; Meng et al. 2022): what the model answers to each prompt when one activation of it is replaced by a donor's.
///
/// At each hook point of `donors`, and for each of the `last` tokens of the prompts alone, the value of prompt *i* is replaced by that of donor *i*
/// (put them in order with [`Activations::roll`] or [`Activations::select`]); everything before it stays, everything after it is computed
/// from it. Tokens are counted from the end of the prompts, whose lengths may differ. Donors captured at response positions or at the last
/// have the last token (`last` = 1); for more, capture [`Positions::Prompt`](crate::activations::Positions::Prompt).
///
/// One [`evaluate`](crate::evaluate::evaluate) of the prompts per hook point and token. Its columns, and before them:
///
/// | column | |
/// |---|---|
/// | `hook_point`, `layer` | where; `layer` is null where a hook point lies in none |
/// | `from_end` | which token: 0 is the last one of the prompt |
/// | `donor`, `donor_gold` | index and gold of the donor's prompt; the gold is null if it is none of these prompts' labels |
/// | `follows_donor` | whether the answer is the donor's gold; null where there is no answer |
/// | `logit_difference` | label tasks: logit of the gold less that of the donor's gold; null where they are the same |
///
/// # Errors
/// Not as many donors as prompts; tokens that a prompt or donor does not have; hook points that this model does not have, or of another width;
/// what [`evaluate`](crate::evaluate::evaluate) refuses.
pub fn patch(model: &Model, prompts: &Prompts, donors: &Activations, last: usize) -> Result<DataFrame> {
    guarded("activation patching", || {
        if donors.examples() != prompts.len() {
            let text = format!(
                "{} donors for {} prompts: each prompt takes the activation of the donor of the same place",
                donors.examples(),
                prompts.len()
            );
            return Err(Error::input(text));
        }
        let rows = encoded(model, prompts)?;
        let (least, place) = rows.iter().map(Vec::len).zip(0..).min().unwrap_or_default();
        if last_of(&rows, last)?.iter().any(|count| *count < last) {
            return Err(Error::input(format!(
                "prompt {place} has {least} tokens, the last {last} of each are to be patched: ask for fewer"
            )));
        }
        let lengths: Vec<i64> = rows.iter().map(|row| row.len() as i64).collect();
        let golds: Vec<Option<String>> =
            donors.responses().rows().iter().map(|row| gold(prompts.form(), &row.prompt.example.gold)).collect();
        let donor: Vec<u32> = donors.responses().rows().iter().map(|row| row.prompt.index as u32).collect();
        let mut whole = None;
        for from_end in 0..last {
            // [example, layer, hidden]
            let values = donors.at_end(from_end)?;
            for (place, path) in donors.hook_points().iter().enumerate() {
                let points = donors.hook_points().len();
                interrupt::at((from_end * points + place) as u64, (last * points) as u64, "places")?;
                let own = values.select(1, place as i64);
                let mut hooks = Hooks::new();
                hooks.edit(path, |point, value| replaced(point, value, &lengths, from_end as i64, &own));
                let mut frame = evaluate_from(model, prompts, &mut hooks, least - 1 - from_end)?;
                let height = frame.height();
                let follows: Vec<Option<bool>> =
                    frame.column("answer")?.str()?.iter().zip(&golds).map(|(answer, donor)| Some(answer? == donor.as_deref()?)).collect();
                let difference = logit_difference(&frame, &golds)?;
                let mut columns = vec![
                    Column::new("hook_point".into(), vec![path.as_str(); height]),
                    Column::new("layer".into(), vec![layer_of(path).map(|layer| layer as u32); height]),
                    Column::new("from_end".into(), vec![from_end as u32; height]),
                    Column::new("donor".into(), donor.as_slice()),
                    Column::new("donor_gold".into(), golds.as_slice()),
                    Column::new("follows_donor".into(), follows),
                ];
                columns.extend(difference.map(|values| Column::new("logit_difference".into(), values)));
                in_front(&mut frame, columns)?;
                whole = below(whole, frame)?;
            }
        }
        whole.ok_or_else(|| Error::input("the donors hold no hook points to patch"))
    })
}

/// `value [example, token, ..]` with the token that is `from_end` from the end of each prompt replaced by its row of `donors [example, ..]`;
/// `None` where these tokens are not among the value's.
fn replaced(point: &HookPoint<'_>, value: &Tensor, lengths: &[i64], from_end: i64, donors: &Tensor) -> Result<Option<Tensor>> {
    let size = value.size();
    if size.len() != 3 || size[2] != donors.size()[1] {
        return Err(Error::input(format!(
            "the donors' activations at `{}` are {} wide, the value there is {size:?} [example, token, hidden]: capture them on this model",
            point.path,
            donors.size()[1]
        )));
    }
    let firsts: Vec<i64> = Vec::try_from(point.positions.select(1, 0).contiguous())?;
    let (mut rows, mut tokens, mut examples) = (Vec::new(), Vec::new(), Vec::new());
    for (row, &example) in point.examples.iter().enumerate() {
        let token = lengths[example] - 1 - from_end - firsts[row.min(firsts.len() - 1)];
        if (0..size[1]).contains(&token) {
            rows.push(row as i64);
            tokens.push(token);
            examples.push(example as i64);
        }
    }
    if rows.is_empty() {
        return Ok(None);
    }
    let [rows, tokens] = [rows, tokens].map(|places| Tensor::from_slice(&places).to_device(value.device()));
    let chosen = donors.index_select(0, &Tensor::from_slice(&examples).to_device(donors.device()));
    let chosen = chosen.to_device(value.device()).to_kind(value.kind());
    Ok(Some(value.index_put(&[Some(&rows), Some(&tokens)], &chosen, false)))
}

/// A gold as frames of predictions spell answers: as its label, where there are some.
fn gold(form: &AnswerForm, gold: &str) -> Option<String> {
    match form.label_set() {
        [] => form.gold(gold),
        labels => form.label_of(gold).map(|place| labels[place].clone()),
    }
}

/// `ln p(gold) - ln p(donor's gold)` among the labels is the difference of their logits; `None` without labels.
fn logit_difference(frame: &DataFrame, donors: &[Option<String>]) -> Result<Option<Vec<Option<f64>>>> {
    let Ok(nll) = frame.column("nll") else { return Ok(None) };
    let (nll, gold) = (nll.f64()?, frame.column("gold")?.str()?);
    let mut values = Vec::with_capacity(donors.len());
    for (row, donor) in donors.iter().enumerate() {
        values.push(match (donor, gold.get(row), nll.get(row)) {
            (Some(donor), Some(gold), Some(nll)) if donor != gold => {
                frame.column(&format!("p_{donor}"))?.f64()?.get(row).map(|chance| -nll - chance.ln())
            }
            _ => None,
        });
    }
    Ok(Some(values))
}
