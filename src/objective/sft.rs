//! Supervised fine-tuning.

use tch::Tensor;

use super::registry::{ObjectiveEntry, PLAIN};
use super::{Objective, Outputs, Samples, Targets, responses};
use crate::dataset::Split;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::libtorch::operations;
use crate::model::{Model, Responses, Sample};

pub(crate) const GOLD: ObjectiveEntry = ObjectiveEntry {
    name: "sft_gold",
    formula: "mean over tokens of -log p(gold token)",
    targets: false,
    make: |_| Ok(Box::new(Sft::gold())),
    ..PLAIN
};

pub(crate) const ENTRY: ObjectiveEntry = ObjectiveEntry {
    name: "sft",
    formula: "mean over tokens of -log p(token of the ICL response)",
    make: |given| Ok(Box::new(given.targets()?.sft())),
    ..PLAIN
};

impl Targets {
    /// SFT on the responses.
    pub fn sft(&self) -> Sft {
        Sft::on(self.responses())
    }
}

/// Cross-entropy of the response tokens, mean over each example's tokens: `-1/G sum_t log p(y_t | x, y_<t)` (paper, SFT loss).
#[derive(Clone, Debug)]
pub struct Sft {
    responses: Option<Responses>,
}

impl Sft {
    /// Teaches the gold answers of the split.
    ///
    /// A gold has the tokens that it has after its query ([`Tokenizer::encode_after`](crate::tokenizer::Tokenizer::encode_after)); where the two merge
    /// over their border, those of a line that begins with it. Where answers may have several tokens
    /// ([`AnswerForm::ends_with_eos`](crate::prompt::AnswerForm::ends_with_eos)) an end-of-sequence token ([`Model::eos`]) follows, as in the authors'
    /// code; never after a label. A model that has no such token is not trained to end.
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
            Some(given) => responses::as_samples(given, model, split),
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
    Ok(outputs.per_example(&operations::cross_entropy(logits, &outputs.labels)?))
}

fn gold(model: &Model, split: &Split) -> Result<Samples> {
    let tokenizer = model.tokenizer()?;
    let mut rows = Vec::new();
    let eos = split.train.form().ends_with_eos().then(|| model.eos()).flatten();
    for example in split.train.rows().iter().chain(split.dev.rows()) {
        interrupt::check()?;
        let gold = tokenizer.encode_answer(&example.query, &example.gold);
        let (mut response, _) = gold.map_err(|error| error.context(format_args!("the gold answer {:?}", example.gold)))?;
        response.extend(eos);
        rows.push(Sample { prompt: tokenizer.encode(&example.query)?, response });
    }
    Ok(Samples { rows, train: split.train.len() })
}
