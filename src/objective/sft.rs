//! Supervised fine-tuning.

use tch::{Kind, Reduction, Tensor};

use super::{Objective, Outputs, Samples};
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
            Some(responses) => taught(responses, model, split),
            None => gold(model, split),
        }
    }

    fn needs_logits(&self) -> bool {
        true
    }

    fn losses(&self, _examples: &[usize], outputs: &Outputs) -> Result<Vec<Tensor>> {
        let logits = outputs.logits.as_ref().ok_or_else(|| Error::internal("SFT was given no logits"))?;
        let wide = if logits.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        let tokens = logits.to_kind(wide).cross_entropy_loss::<Tensor>(&outputs.labels, None, Reduction::None, -100, 0.0);
        Ok(vec![outputs.per_example(&tokens)])
    }
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

/// Given responses after the queries alone, checked to be those of the split's train and dev examples.
pub(super) fn taught(responses: &Responses, model: &Model, split: &Split) -> Result<Samples> {
    let expected = split.train.rows().iter().chain(split.dev.rows()).map(|example| &example.query);
    if !responses.rows().iter().map(|row| &row.prompt.example.query).eq(expected) {
        return Err(Error::input(format!(
            "the {} responses are not those to this split's {} train and {} dev queries: collect them from `split.target_prompts(..)`",
            responses.len(),
            split.train.len(),
            split.dev.len()
        )));
    }
    if let Some(row) = responses.rows().iter().find(|row| row.tokens.response.is_empty()) {
        return Err(Error::input(format!("the response to {:?} is empty: there is nothing to learn from it", row.prompt.example.query)));
    }
    let rows = responses.without_demonstrations(model)?.rows().iter().map(|row| row.tokens.clone()).collect();
    Ok(Samples { rows, train: split.train.len() })
}
