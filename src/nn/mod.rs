//! The layers of a decoder and what travels through them.
//!
//! A [`Pass`] carries positions, cache, hooks and adapter through one forward; every module asks it, so no capability forks the decoder.

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
pub mod rope;
mod steer;

pub use activation::Activation;
pub use attention::{Attention, AttentionShape, QkNorm};
pub use experts::{Experts, ExpertsShape};
pub use frozen::{Frozen, Weights};
pub use fused::{Fused, Order};
pub(crate) use fused::{join, split};
pub use hook::{HookPoint, Hooks, Selection};
pub(crate) use hook::{Pieces, layer_of};
pub(crate) use kv_cache::Beginning;
pub use kv_cache::KvCache;
pub use linear::{Linear, Precision};
pub use mlp::{Mlp, MlpShape};
pub use norm::{Norm, NormKind};
pub use pass::{Adapt, Draws, Pass, Prefix, Update, Virtual};
pub(crate) use pass::{Packed, positions};
pub use paths::Paths;
pub use steer::Edit;
pub(crate) use steer::{Steer, Steered};

use crate::error::Result;
use tch::Tensor;

crate::display::show_as_text!(Activation, Attention, AttentionShape, Draws, Edit, Experts, ExpertsShape, Fused, KvCache, Linear, Mlp);
crate::display::show_as_text!(MlpShape, Norm, NormKind, Order, Paths, Precision, Prefix, QkNorm, Selection, Virtual, rope::Rope);
crate::display::show_as_text!(rope::Scaling);

/// Where a module's weights come from: a path and the shape it must have, to a tensor.
///
/// A checkpoint on disk and freshly drawn weights are the two sources.
pub type Source<'a> = dyn FnMut(&str, &[i64]) -> Result<Tensor> + 'a;
