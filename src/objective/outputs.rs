//! What an objective sees of a forward.

use tch::Tensor;

use super::Objective;
use crate::error::{Error, Result};
use crate::model::{Depth, Model, Sample, Teaching};
use crate::nn::{HookPoint, Hooks};

/// What a forward over a batch of samples shows at the response positions. The axis *token* runs over all response tokens of the batch,
/// one example after the other.
#[derive(Debug)]
pub struct Outputs {
    /// `[token, vocab]`, if the objective asked for logits.
    pub logits: Option<Tensor>,
    /// `[layer, token, hidden]` at the hook points that the objective asked for.
    pub activations: Option<Tensor>,
    /// Token ids to be predicted, `[token]`.
    pub labels: Tensor,
    /// Response tokens of each example.
    pub counts: Vec<usize>,
}

impl Outputs {
    /// The mean over each example's tokens: `[token]` to `[example]`.
    pub fn per_example(&self, tokens: &Tensor) -> Tensor {
        let (mut owners, mut shares) = (Vec::new(), Vec::new());
        for (example, &count) in self.counts.iter().enumerate() {
            owners.extend(std::iter::repeat_n(example as i64, count));
            shares.extend(std::iter::repeat_n(1.0 / count as f64, count));
        }
        let owners = Tensor::from_slice(&owners).to_device(tokens.device());
        let shares = Tensor::from_slice(&shares).to_kind(tokens.kind()).to_device(tokens.device());
        Tensor::zeros([self.counts.len() as i64], (tokens.kind(), tokens.device())).index_add(0, &owners, &(tokens * shares))
    }
}

impl Outputs {
    /// A forward over samples, showing what the objective asked for. The user's hooks must be bound.
    pub(crate) fn of(model: &Model, samples: &[&Sample], objective: &dyn Objective, training: bool, user: &mut Hooks<'_>) -> Result<Self> {
        let points = objective.hook_points();
        let mut caught: Vec<Option<Tensor>> = points.iter().map(|_| None).collect();
        let starts: Vec<i64> = samples.iter().map(|sample| sample.prompt.len() as i64 - 1).collect();
        let counts: Vec<i64> = samples.iter().map(|sample| sample.response.len() as i64).collect();
        // A user's hooks see every token of every layer; without them the last layer may be narrowed.
        let narrow = user.is_empty();
        let taught = {
            let mut hooks = Hooks::on_top_of(user);
            if !points.is_empty() {
                hooks.observe(&points.join(","), |point, value| {
                    if let Some(place) = points.iter().position(|path| path == point.path) {
                        caught[place] = Some(at_responses(point, value, &starts, &counts)?);
                    }
                    Ok(())
                });
            }
            hooks.bind(model.hook_points())?;
            let depth = if objective.needs_logits() { Depth::Full } else { Depth::Hooks };
            model.teach(samples, Teaching { depth, narrow, training }, Some(&mut hooks))?
        };
        let caught =
            caught.into_iter().collect::<Option<Vec<_>>>().ok_or_else(|| Error::internal("a hook point of the objective never came"))?;
        let logits = match &taught.hidden {
            Some(hidden) if objective.needs_logits() => Some(model.logits(hidden, Some(user))?),
            _ => None,
        };
        let activations = (!caught.is_empty()).then(|| Tensor::stack(&caught, 0));
        Ok(Self { logits, activations, labels: taught.labels, counts: taught.counts })
    }
}

/// The response positions of a value `[example, token, hidden]`, packed to `[token, hidden]`.
fn at_responses(point: &HookPoint<'_>, value: &Tensor, starts: &[i64], counts: &[i64]) -> Result<Tensor> {
    let firsts: Vec<i64> = Vec::try_from(point.positions.select(1, 0).contiguous())?;
    let rows = starts.iter().zip(counts).enumerate().map(|(row, (start, &count))| {
        let first = firsts[row.min(firsts.len() - 1)];
        value.get(row as i64).narrow(0, start - first, count)
    });
    Ok(Tensor::cat(&rows.collect::<Vec<_>>(), 0))
}
