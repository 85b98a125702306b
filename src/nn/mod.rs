//! The layers of a decoder and what travels through them.
//!
//! A `Pass` carries positions, cache, hooks and adapter through one forward; every module asks it, so no capability forks the decoder.

mod activation;
mod attention;
mod experts;
mod frozen;
mod fused;
mod hook;
mod joined;
mod kv_cache;
mod linear;
mod mask;
mod mlp;
mod norm;
mod pass;
mod paths;
pub(crate) mod rope;
mod steer;

pub(crate) use activation::Activation;
pub(crate) use attention::{Attention, AttentionShape, QkNorm};
pub(crate) use experts::{Experts, ExpertsShape};
pub(crate) use frozen::{Frozen, LinearWeights};
pub(crate) use fused::{Fused, FusedLayout, join, split};
pub use hook::{HookPoint, Hooks, Selection};
pub(crate) use hook::{Pieces, layer_of};
pub(crate) use kv_cache::{CachedPrefix, KvCache};
pub(crate) use linear::Linear;
pub use linear::Precision;
pub(crate) use mlp::{Mlp, MlpShape};
pub(crate) use norm::{Norm, NormKind};
pub(crate) use pass::{Adapt, DropoutDraws, LowRankUpdate, Packed, Pass, Prefix, VirtualTokens, positions};
pub(crate) use paths::Paths;
pub use steer::Edit;
pub(crate) use steer::{Steer, Steered};

use crate::error::Result;
use tch::Tensor;

crate::display::show_as_text!(Edit, Precision, Selection);

/// Where a module's weights come from: a path and the shape it must have, to a tensor.
///
/// A checkpoint on disk and freshly drawn weights are the two sources.
pub type Source<'a> = dyn FnMut(&str, &[i64]) -> Result<Tensor> + 'a;
