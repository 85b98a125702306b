//! Supervised fine-tuning.

use tch::{Reduction, Tensor};

use super::{Objective, Outputs, Samples, responses, wide};
use crate::dataset::Split;
use crate::error::{Error, Result};
use crate::model::{Model, Responses, Sample};

/// Cross-entropy of the response tokens, mean over each example's tokens: `-1/G sum_t log p(y_t | x, y_<t)` (paper, SFT loss).
#[derive(Clone, Debug)]
pub struct Sft {
    responses: Option<Responses>,
}

impl Sft {
    /// Teaches the gold answers of the split.
    ///
    /// As in the authors' code an end-of-sequence token follows a gold of several tokens, none follows a single one.
    pub fn gold() -> Self {
        Self { responses: None }
    }

    /// Teaches given responses (train, then dev: those to [`Split::target_prompts`]), e.g. the model's own under ICL.
    pub fn on(responses: &Responses) -> Self {
        Self { responses: Some(responses.clone()) }
    }
}

impl Objective for Sft {
    fn name(&self) -> String {
        if self.responses.is_some() { "SFT on ICL responses".into() } else { "SFT".into() }
    }

    fn samples(&self, model: &Model, split: &Split) -> Result<Samples> {
        match &self.responses {
            Some(given) => responses::taught(given, model, split),
            None => gold(model, split),
        }
    }

    fn needs_logits(&self) -> bool {
        true
    }

    fn losses(&self, _examples: &[usize], outputs: &Outputs) -> Result<Vec<Tensor>> {
        Ok(vec![cross_entropy(outputs)?])
    }
}

/// `[example]`: mean cross-entropy of each example's response tokens.
pub(super) fn cross_entropy(outputs: &Outputs) -> Result<Tensor> {
    let logits = outputs.logits.as_ref().ok_or_else(|| Error::internal("SFT was given no logits"))?;
    let tokens = wide(logits).cross_entropy_loss::<Tensor>(&outputs.labels, None, Reduction::None, -100, 0.0);
    Ok(outputs.per_example(&tokens))
}

fn gold(model: &Model, split: &Split) -> Result<Samples> {
    let tokenizer = model.tokenizer()?;
    let mut rows = Vec::new();
    for example in split.train.rows().iter().chain(split.dev.rows()) {
        let mut response = tokenizer.encode_plain(&example.gold)?;
        if response.is_empty() {
            return Err(Error::input(format!("the gold answer {:?} has no tokens: there is nothing to learn from it", example.gold)));
        }
        if response.len() > 1 {
            response.extend(model.config().eos.first());
        }
        rows.push(Sample { prompt: tokenizer.encode(&example.query)?, response });
    }
    Ok(Samples { rows, train: split.train.len() })
}
