//! Adapters folded into weights.

use std::collections::HashMap;

use tch::Tensor;

use super::Adapter;
use crate::display::{Bundle, Show};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::libtorch::guarded;
use crate::model::Model;
use crate::random::Random;

/// Number and length of the prompts that a merge is checked on unless others are given.
const PROBES: (usize, usize) = (4, 32);

/// A model with an adapter folded into its weights, and what that changed.
#[derive(Debug)]
pub struct Merged {
    /// The merged model: no adapter on it, weights that the adapter does not touch shared with the base model. Its folder is still the base
    /// model's; [`Model::save`] writes it to one of its own.
    pub model: Model,
    /// How many linear modules were changed.
    pub modules: usize,
    /// The largest difference of a logit between the merged and the adapted model, over all tokens of the probe prompts.
    pub change: f64,
    /// The same by the adapted model's largest logit.
    pub relative: f64,
    /// How many probe prompts were compared.
    pub probes: usize,
    name: String,
}

impl Adapter {
    /// Folds the adapter into `model`'s weights, and compares logits on four seeded prompts of 32 random tokens.
    ///
    /// `W + s B A` for LoRA, its rows at their magnitudes for DoRA; `diag(l) W` and `l * b`, or `W diag(l)`, for (IA)³. Computed in f32 (f64 for a model held in it) and then held in the
    /// model's kind: a half-precision model loses what is below its weights' rounding, and the largest logit change says how much that is.
    ///
    /// # Errors
    /// Virtual tokens, which are no weights; parameters that do not fit the model; a logit that is not finite.
    pub fn merge(&self, model: &Model) -> Result<Merged> {
        let mut draws = Random::new(0, "merge probes", 0);
        let (vocabulary, context) = (model.config().vocab_size as usize, model.config().max_positions as usize);
        let prompt = |_| (0..PROBES.1.min(context)).map(|_| draws.below(vocabulary) as u32).collect();
        let probes: Vec<Vec<u32>> = (0..PROBES.0).map(prompt).collect();
        self.merge_on(model, &probes)
    }

    /// [`Adapter::merge`] with prompts of the caller's to compare logits on.
    ///
    /// # Errors
    /// Also prompts that no forward takes.
    pub fn merge_on(&self, model: &Model, probes: &[Vec<u32>]) -> Result<Merged> {
        guarded("merging an adapter", || {
            if probes.is_empty() {
                return Err(Error::input("no prompts to compare the merged model on: give at least one"));
            }
            let _constant = tch::no_grad_guard();
            let adapted = model.with(self)?;
            let (merged, modules) = self.fold(model)?;
            let (mut change, mut largest) = (0f64, 0f64);
            for prompt in probes {
                let logits =
                    |model: &Model| Ok::<Tensor, Error>(model.forward(std::slice::from_ref(prompt))?.values.to_kind(tch::Kind::Double));
                let (ours, theirs) = (logits(&merged)?, logits(&adapted)?);
                let difference = (ours - &theirs).abs().max().double_value(&[]);
                if !difference.is_finite() {
                    return Err(Error::numeric(
                        "merged or adapted, the model gives logits that are not finite: look for NaN in the adapter",
                    ));
                }
                change = change.max(difference);
                largest = largest.max(theirs.abs().max().double_value(&[]));
            }
            Ok(Merged { model: merged, modules, change, relative: change / largest, probes: probes.len(), name: self.config().name() })
        })
    }

    /// The model with the adapter in its weights, and how many modules changed.
    fn fold(&self, model: &Model) -> Result<(Model, usize)> {
        let weights: HashMap<&str, &Tensor> = model.decoder().weights().iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let (mut replaced, mut modules) = (HashMap::new(), 0);
        let method = self.config.method();
        for (site, _) in model.sites() {
            interrupt::check()?;
            let (weight, bias) = (format!("{site}.weight"), format!("{site}.bias"));
            let Some(there) = weights.get(weight.as_str()) else { return Err(Error::internal(format!("no weight `{weight}`"))) };
            let Some((merged, merged_bias)) = method.merged(&self.parameters, &site, there, weights.get(bias.as_str()).copied())? else {
                continue;
            };
            modules += 1;
            replaced.insert(weight, merged);
            replaced.extend(merged_bias.map(|tensor| (bias, tensor)));
        }
        // Wholes, whose rows stand in the order of the family's files.
        for fused in model.decoder().fused() {
            let of = |ending: &str| {
                let parts =
                    fused.parts().iter().map(|part| weights.get(format!("{part}.{ending}").as_str()).map(|part| part.shallow_clone()));
                parts.collect::<Option<Vec<_>>>().map(|parts| fused.join(&parts, 0)).transpose()
            };
            let (weight, bias) = (of("weight")?, of("bias")?);
            let Some(weight) = weight else { return Err(Error::internal(format!("no weights of `{}`", fused.path()))) };
            let Some((merged, merged_bias)) = method.merged(&self.parameters, fused.path(), &weight, bias.as_ref())? else { continue };
            modules += 1;
            for (ending, whole) in [("weight", Some(merged)), ("bias", merged_bias)] {
                let Some(whole) = whole else { continue };
                let parts = fused.split(&whole, 0)?;
                replaced.extend(fused.parts().iter().zip(parts).map(|(part, tensor)| (format!("{part}.{ending}"), tensor)));
            }
        }
        Ok((model.with_weights(replaced)?, modules))
    }
}

impl Show for Merged {
    fn bundle(&self) -> Bundle {
        Bundle::text(format!(
            "Merged({} into {} modules; largest logit change {:.1e}, {:.1e} of the largest logit, over {} prompts)",
            self.name, self.modules, self.change, self.relative, self.probes
        ))
    }
}
