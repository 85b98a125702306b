//! Task vectors.

use tch::Tensor;

use super::search::Search;
use super::{Edit, Tried, Vector, VectorKind, dev_losses, mean, shown};
use crate::dataset::Split;
use crate::error::Result;
use crate::libtorch::guarded;
use crate::model::Model;

/// The task vector of Hendel, Geva and Globerson (2023, arXiv:2310.15916): what the residual stream holds under ICL where the answer is to come.
///
/// `θ_l = 1/N Σ_i h_l(c_i, x_i)`, `[hidden]`: the residual stream after layer *l* at the last token of a dummy query after demonstrations, the mean over
/// N dummies, each training query after the other training examples. (The paper takes one dummy query; its code has the mean over several, too,
/// and with a mean no dummy is a choice.) In a zero-shot prompt it takes the place of the stream there: all that the model knows of the task at later
/// layers comes from `θ_l`, all that it knows of the query from the keys and values of earlier tokens.
#[derive(Clone, Copy, Debug)]
pub struct TaskVector;

impl TaskVector {
    /// Finds it on the train set; the layer is the one with the least dev loss ([`Vector::tried`]).
    ///
    /// # Errors
    /// Fewer than two training examples; no tokenizer; a prompt over the context; labels that cannot be told apart; logits that are not finite.
    pub fn find(model: &Model, split: &Split) -> Result<Vector> {
        guarded("finding a task vector", || {
            let _inference = tch::no_grad_guard();
            // [layer, hidden]
            let search = Search::on(model);
            let means = mean(&search.at_the_end(&shown(split)?, "model.layers.*")?);
            let at = |layer: usize| means.get(layer as i64);
            let layers = model.config().layers as usize;
            let losses = dev_losses(&search, split, layers, |layer, candidate, stream: &Tensor| {
                (layer == candidate).then(|| at(layer).to_kind(stream.kind()))
            })?;
            let tried = losses.into_iter().enumerate().map(|(layer, dev_loss)| Tried { layer, strength: 1.0, heads: 0, dev_loss });
            Vector::found(VectorKind::Task, Edit::Replace, &search, tried.collect(), |best| Ok(at(best.layer)))
        })
    }
}
