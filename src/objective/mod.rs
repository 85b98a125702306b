//! Objectives: what training minimises.
//!
//! Every objective speaks about the same forward: queries without demonstrations, their responses taught. An objective says which
//! responses, what it needs to see of the forward, and the loss of each example. One file per objective.

mod ia2;
mod ia2_sft;
mod outputs;
#[cfg(test)]
mod parity_tests;
mod registry;
mod responses;
mod sft;
mod soft_sft;
mod targets;

use tch::{Kind, Tensor};

pub use ia2::{Distance, Ia2};
pub use ia2_sft::Ia2Sft;
pub use outputs::Outputs;
pub use registry::{Known, OBJECTIVES};
pub use sft::Sft;
pub use soft_sft::SoftSft;
pub use targets::{Collect, Targets};

use crate::compat::Compat;
use crate::dataset::Split;
use crate::error::Result;
use crate::model::{Model, Sample};

/// What training minimises.
pub trait Objective: std::fmt::Debug {
    /// A short name for frames and messages.
    fn name(&self) -> String;

    /// What the loss is made of: `sum weight x part`. The history of a run has a column for each.
    fn parts(&self) -> Vec<Part> {
        vec![Part { name: self.name(), weight: 1.0 }]
    }

    /// The samples to learn from, then those of the dev set; their order is the index that [`Objective::losses`] is given.
    ///
    /// # Errors
    /// The objective does not fit the split, or a text cannot be encoded.
    fn samples(&self, model: &Model, split: &Split) -> Result<Samples>;

    /// Hook points whose activations the loss needs.
    fn hook_points(&self) -> &[String] {
        &[]
    }

    /// Whether the loss needs logits.
    fn needs_logits(&self) -> bool;

    /// Where activations and distributions are read on prompt tuning (an adapter whose V virtual tokens are embeddings).
    ///
    /// [`Compat::Paper`] counts response positions from the first virtual token, as the authors' code does, so [`Outputs::activations`] and
    /// [`Outputs::misplaced_logits`] are those of V tokens before the response positions. The default is right: virtual tokens do not count.
    fn compat(&self) -> Compat {
        Compat::Corrected
    }

    /// The loss of each example, `[example]`, by part and without the parts' weights; `examples` are their indices among the samples.
    ///
    /// # Errors
    /// Shapes that do not agree.
    fn losses(&self, examples: &[usize], outputs: &Outputs) -> Result<Vec<Tensor>>;

    /// Bytes that tell this objective's data from another's beyond the samples: a checkpoint belongs to one run.
    fn identity(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// One term of a loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// What it is called in a history.
    pub name: String,
    /// What it is multiplied with.
    pub weight: f64,
}

/// Samples of the train set, then of the dev set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Samples {
    /// Prompt and response tokens.
    pub rows: Vec<Sample>,
    /// How many of the rows, from the first, are trained on; the rest is the dev set.
    pub train: usize,
}

/// Losses are computed in f32 at least.
fn wide(values: &Tensor) -> Tensor {
    values.to_kind(if values.kind() == Kind::Double { Kind::Double } else { Kind::Float })
}
