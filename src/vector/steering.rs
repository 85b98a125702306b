//! Mean-difference steering.

use tch::Tensor;

use super::search::Search;
use super::{Edit, Tried, Vector, VectorKind, dev_losses, mean, shown};
use crate::dataset::Split;
use crate::error::Result;
use crate::libtorch::guarded;
use crate::model::Model;

/// The strengths that are tried.
const STRENGTHS: [f64; 5] = [0.25, 0.5, 1.0, 2.0, 4.0];

/// Mean-difference steering: what demonstrations add to the residual stream, on average, added without them.
///
/// `v_l = 1/N Σ_i (h_l(c_i, x_i) - h_l(x_i))`, `[hidden]`: over the training queries, the residual stream after layer *l* at the last token under ICL less
/// that without demonstrations. In a zero-shot prompt the stream there becomes `h_l + strength v_l`. In-context vectors (Liu et al. 2024,
/// arXiv:2311.06668) are of this kind, with the first principal component in place of the mean; the mean is that of contrastive activation addition
/// (Rimsky et al. 2024, arXiv:2312.06681).
#[derive(Clone, Copy, Debug)]
pub struct Steering;

impl Steering {
    /// Finds it on the train set; layer and strength (0.25, 0.5, 1, 2 or 4) are those with the least dev loss ([`Vector::tried`]).
    ///
    /// # Errors
    /// As [`TaskVector::find`](super::TaskVector::find).
    pub fn find(model: &Model, split: &Split) -> Result<Vector> {
        guarded("finding a steering vector", || {
            let _inference = tch::no_grad_guard();
            let search = Search::on(model);
            let values = |prompts| search.at_the_end(prompts, "model.layers.*");
            // [layer, hidden]
            let means = mean(&(values(&shown(split)?)? - values(&split.train.zero_shot()?)?));
            let at = |layer: usize| means.get(layer as i64);
            let layers = model.config().layers as usize;
            let candidates: Vec<(usize, f64)> = (0..layers).flat_map(|layer| STRENGTHS.map(|strength| (layer, strength))).collect();
            let losses = dev_losses(&search, split, candidates.len(), |layer, candidate, stream: &Tensor| {
                let (own, strength) = candidates[candidate];
                (layer == own).then(|| stream + (at(layer) * strength).to_kind(stream.kind()))
            })?;
            let tried = candidates.iter().zip(losses).map(|(&(layer, strength), dev_loss)| Tried { layer, strength, heads: 0, dev_loss });
            Vector::found(VectorKind::Steering, Edit::Add, &search, tried.collect(), |best| Ok(at(best.layer)))
        })
    }
}
