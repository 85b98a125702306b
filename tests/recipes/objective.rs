//! Fine-tuning by the probability that each token lacks.

use tch::{Kind, Tensor};

use super::registry::{ObjectiveEntry, PLAIN};
use super::{Objective, Outputs, Samples, Sft};
use crate::dataset::Split;
use crate::error::{Error, Result};
use crate::kind::widened;
use crate::model::Model;

pub(crate) const ENTRY: ObjectiveEntry = ObjectiveEntry {
    name: "missed",
    formula: "mean over tokens of 1 - p(token of the ICL response)",
    make: |given| Ok(Box::new(Missed { responses: given.targets()?.sft() })),
    ..PLAIN
};

/// `1/G sum_t (1 - p(y_t | x, y_<t))` per example, in [0, 1], on the responses that SFT learns from.
#[derive(Clone, Debug)]
pub struct Missed {
    responses: Sft,
}

impl Objective for Missed {
    fn name(&self) -> String {
        "missed".into()
    }

    fn samples(&self, model: &Model, split: &Split) -> Result<Samples> {
        self.responses.samples(model, split)
    }

    fn needs_logits(&self) -> bool {
        true
    }

    fn losses(&self, _examples: &[usize], outputs: &Outputs) -> Result<Vec<Tensor>> {
        let logits = widened(outputs.logits.as_ref().ok_or_else(|| Error::internal("`missed` was given no logits"))?);
        let likely = logits.softmax(-1, None::<Kind>).gather(1, &outputs.labels.unsqueeze(1), false).squeeze_dim(1);
        Ok(vec![outputs.per_example(&(1.0f64 - likely))])
    }
}

crate::display::show_as_text!(Missed);
