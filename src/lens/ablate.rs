//! Ablation of heads and modules.

use std::collections::HashMap;

use polars::prelude::*;
use tch::{Kind, Tensor};

use super::{BATCH, encoded};
use crate::error::{Error, Result};
use crate::evaluate::evaluate_with;
use crate::frame::{below, in_front};
use crate::interrupt;
use crate::libtorch::guarded;
use crate::model::Model;
use crate::model::reading::Watch;
use crate::nn::{Hooks, Selection, layer_of};
use crate::prompt::Prompts;

/// The end of the paths of attention patterns.
const PATTERN: &str = ".pattern";

/// What takes the place of a value that is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ablation {
    /// Zeros.
    Zero,
    /// The mean of the module's own output over all tokens of all the prompts: what it adds always stays, what depends on the prompt goes.
    Mean,
}

/// What the model answers to each prompt when one module, or one head, is switched off at every token.
///
/// `pattern` selects hook points, each ablated alone: `model.layers.*.mlp` one MLP after the other, `model.layers.*.self_attn` attention,
/// `model.layers.*.self_attn.pattern` one *head* after the other: with no attention weights it writes nothing.
///
/// One [`evaluate`](crate::evaluate::evaluate) of the prompts per module or head. Its columns, and before them `hook_point`, `layer` (null where
/// a hook point lies in none) and `head` (null for whole modules). Compare with the model's own `evaluate`.
///
/// # Errors
/// A pattern that selects nothing; [`Ablation::Mean`] of heads, or where the value is not `[example, token, hidden]`; what
/// [`evaluate`](crate::evaluate::evaluate) refuses.
pub fn ablate(model: &Model, prompts: &Prompts, pattern: &str, ablation: Ablation) -> Result<DataFrame> {
    guarded("ablation", || {
        let paths = model.points().select(&Selection::new(pattern)?)?;
        let means = match ablation {
            Ablation::Zero => HashMap::new(),
            Ablation::Mean => means(model, prompts, &paths)?,
        };
        let mut whole = None;
        for (place, path) in paths.iter().enumerate() {
            interrupt::count(place as u64, paths.len() as u64, "hook points");
            let heads = if path.ends_with(PATTERN) { (0..model.config().heads).map(Some).collect() } else { vec![None] };
            for head in heads {
                interrupt::check()?;
                let mut hooks = Hooks::new();
                hooks.edit(path, |_, value| {
                    Ok(Some(match (head, means.get(path)) {
                        (Some(head), _) => {
                            let weights = value.copy();
                            let _ = weights.select(1, head).zero_();
                            weights
                        }
                        (None, Some(mean)) => mean.to_kind(value.kind()).expand_as(value).contiguous(),
                        (None, None) => value.zeros_like(),
                    }))
                });
                let mut frame = evaluate_with(model, prompts, &mut hooks)?;
                let height = frame.height();
                let columns = vec![
                    Column::new("hook_point".into(), vec![path.as_str(); height]),
                    Column::new("layer".into(), vec![layer_of(path).map(|layer| layer as u32); height]),
                    Column::new("head".into(), vec![head.map(|head| head as u32); height]),
                ];
                in_front(&mut frame, columns)?;
                whole = below(whole, frame)?;
            }
        }
        whole.ok_or_else(|| Error::internal("a selection selected nothing"))
    })
}

/// The mean value at each path over all tokens of the prompts, `[hidden]`.
fn means(model: &Model, prompts: &Prompts, paths: &[String]) -> Result<HashMap<String, Tensor>> {
    if let Some(path) = paths.iter().find(|path| path.ends_with(PATTERN)) {
        return Err(Error::input(format!("`{path}` has no mean that fits every prompt: switch heads off with `Ablation::Zero`")));
    }
    paths.iter().try_for_each(|path| model.width_at(path).map(|_| ()))?;
    let _inference = tch::no_grad_guard();
    let rows = encoded(model, prompts)?;
    let mut sums: HashMap<String, Tensor> = HashMap::new();
    let mut hooks = Hooks::new();
    hooks.observe(&paths.join(", "), |point, value| {
        let firsts: Vec<i64> = Vec::try_from(point.positions.select(1, 0).contiguous())?;
        for (row, &example) in point.examples.iter().enumerate() {
            let left = rows[example].len() as i64 - firsts[row.min(firsts.len() - 1)];
            let own = value.get(row as i64).narrow(0, 0, left.min(value.size()[1]));
            let sum = own.sum_dim_intlist([0i64].as_slice(), false, Kind::Double);
            let sum = match sums.get(point.path) {
                Some(before) => before + sum,
                None => sum,
            };
            sums.insert(point.path.to_string(), sum);
        }
        Ok(())
    });
    model.visit(&rows, BATCH, |_| (0, 0), Watch::Pieces, &mut hooks)?;
    drop(hooks);
    let tokens: usize = rows.iter().map(Vec::len).sum();
    Ok(sums.into_iter().map(|(path, sum)| (path, sum / tokens as f64)).collect())
}
