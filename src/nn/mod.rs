//! The layers of a decoder and what travels through them.
//!
//! A [`Pass`] carries positions, cache, hooks and adapter through one forward; every module asks it, so no capability forks the decoder.

mod attention;
mod frozen;
mod fused;
mod hook;
mod kv_cache;
mod linear;
mod mlp;
mod pass;
mod rms_norm;
pub mod rope;

pub use attention::{Attention, AttentionShape};
pub use fused::{Fused, Order};
pub use frozen::{Frozen, Weights};
pub(crate) use hook::layer_of;
pub use hook::{HookPoint, Hooks, Selection};
pub use kv_cache::KvCache;
pub use linear::Linear;
pub use mlp::Mlp;
pub(crate) use pass::positions;
pub use pass::{Adapt, Draws, Pass, Prefix, Virtual};
pub use rms_norm::RmsNorm;

use crate::error::Result;
use tch::Tensor;

/// Where a module's weights come from: a path and the shape it must have, to a tensor.
///
/// A checkpoint on disk and freshly drawn weights are the two sources.
pub type Source<'a> = dyn FnMut(&str, &[i64]) -> Result<Tensor> + 'a;
