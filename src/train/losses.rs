//! Forwards of a run, and the numbers read from them.

use tch::{Kind, Tensor};

use super::batches;
use super::drawn::Drawn;
use super::run::Loop;
use crate::error::{Error, Result};
use crate::libtorch::user_code;
use crate::model::Sample;
use crate::nn::{DropoutDraws, Hooks};
use crate::objective::Outputs;
use crate::random::Random;

/// Padded tokens of a forward on the CPU, unless set.
const TOKENS_ON_CPU: usize = 155;

impl Loop<'_> {
    /// The sum over the examples of each part of the objective's loss, unweighted; gradients flow unless the caller forbids. With `draws`
    /// dropout is on.
    pub(super) fn losses(
        &self,
        examples: &[usize],
        drawn: &Drawn,
        draws: Option<DropoutDraws>,
        hooks: &mut Hooks<'_>,
    ) -> Result<Vec<Tensor>> {
        let objective = self.training.objective.as_ref();
        let samples: Vec<&Sample> = examples.iter().map(|&example| self.row(example, drawn)).collect();
        // One call of attention for all is best where nothing is padded.
        let differ = samples.windows(2).any(|pair| read(pair[0]) != read(pair[1]));
        let packed = differ && self.model.packs(hooks.is_empty(), draws.is_some());
        let mut outputs = Outputs::of(&self.model, &samples, objective, (packed, draws), hooks)?;
        outputs.teacher = self.teacher(examples, &samples)?;
        let losses = user_code(|| format!("the objective {}", objective.name()), || objective.losses(examples, &outputs))?;
        if losses.len() != self.parts.len() || losses.iter().any(|loss| loss.size() != [examples.len() as i64]) {
            let sizes: Vec<_> = losses.iter().map(Tensor::size).collect();
            return Err(Error::input(format!(
                "the objective {} gave losses of the sizes {sizes:?} for {} parts and {} examples: give one [example] per part",
                objective.name(),
                self.parts.len(),
                examples.len()
            )));
        }
        Ok(losses.into_iter().map(|loss| loss.sum(None)).collect())
    }

    /// The forwards over these examples; with `draws` dropout is on in them.
    pub(super) fn forwards(&self, examples: &[usize], drawn: &Drawn, rows: usize, draws: bool, hooks: &Hooks<'_>) -> Vec<Vec<usize>> {
        let default = (!self.model.device().is_cuda()).then_some(TOKENS_ON_CPU);
        let tokens = self.training.settings.tokens_per_forward.or(default);
        let packed = self.model.packs(hooks.is_empty(), draws);
        batches::forwards(examples, |example| read(self.row(example, drawn)), rows, tokens, packed)
    }

    /// The seed of what a forward draws, which depends on the run's seed and the forward's place in it alone, so that a run can go on.
    pub(super) fn seed(&self, purpose: &str, forward: usize, hooks: &Hooks<'_>) -> u64 {
        let index = self.manifest.phase << 52 ^ self.state.step << 16 ^ forward as u64;
        let seed = Random::new(self.training.settings.seed, purpose, index).below(i64::MAX as usize) as u64;
        // What hooks draw comes from the one generator that all of libtorch has.
        if !hooks.is_empty() {
            tch::manual_seed(seed as i64);
        }
        seed
    }

    pub(super) fn weighted(&self, parts: &[f64]) -> f64 {
        self.parts.iter().zip(parts).map(|(part, loss)| part.weight * loss).sum()
    }

    /// Each part's sum over the forwards, from `[forward, part]`.
    pub(super) fn sum_of_finite(&self, set: &str, numbers: &[f64], forwards: &[Vec<usize>]) -> Result<Vec<f64>> {
        let mut sums = vec![0.0; self.parts.len()];
        for (losses, examples) in numbers.chunks(self.parts.len()).zip(forwards) {
            for ((sum, &loss), part) in sums.iter_mut().zip(losses).zip(&self.parts) {
                if !loss.is_finite() {
                    let part = if self.parts.len() > 1 { format!(" (its part `{}`)", part.name) } else { String::new() };
                    return Err(self.broken(&format!("{set} loss{part}"), loss, examples));
                }
                *sum += loss;
            }
        }
        Ok(sums)
    }
}

/// Tokens that a forward reads: the last response token is predicted only.
pub(super) fn read(sample: &Sample) -> usize {
    sample.prompt.len() + sample.response.len() - 1
}

/// One element each, read from the device together.
pub(super) fn numbers(values: &[Tensor]) -> Result<Vec<f64>> {
    let values: Vec<Tensor> = values.iter().map(|value| value.detach().to_kind(Kind::Double).reshape([1])).collect();
    Ok(Vec::try_from(Tensor::cat(&values, 0))?)
}
