//! Objectives: what training minimises.
//!
//! Every objective speaks about the same forward: queries without demonstrations, their responses taught. An objective says which
//! responses, what it needs to see of the forward, and the loss of each example. One file per objective.

mod ia2;
mod sft;

use tch::{Kind, Tensor};

pub use ia2::Ia2;
pub use sft::Sft;

use crate::dataset::Split;
use crate::error::Result;
use crate::model::{Model, Sample};

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

/// What training minimises.
pub trait Objective: std::fmt::Debug {
    /// A short name for frames and messages.
    fn name(&self) -> String;

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

    /// The loss of each example, `[example]`; `examples` are their indices among the samples.
    ///
    /// # Errors
    /// Shapes that do not agree.
    fn losses(&self, examples: &[usize], outputs: &Outputs) -> Result<Tensor>;

    /// Bytes that tell this objective's data from another's beyond the samples: a checkpoint belongs to one run.
    fn identity(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// Samples of the train set, then of the dev set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Samples {
    /// Prompt and response tokens.
    pub rows: Vec<Sample>,
    /// How many of the rows, from the first, are trained on; the rest is the dev set.
    pub train: usize,
}

/// Squared difference, mean over *hidden*, sum over *layer*: two `[layer, token, hidden]` to `[token]`.
fn squared(ours: &Tensor, target: &Tensor) -> Tensor {
    let wide = if ours.kind() == Kind::Double { Kind::Double } else { Kind::Float };
    (ours.to_kind(wide) - target.to_kind(wide)).square().mean_dim([-1i64].as_slice(), false, None).sum_dim_intlist(
        [0i64].as_slice(),
        false,
        None,
    )
}
