//! Llama 1, 2 and 3: <https://arxiv.org/abs/2302.13971>, <https://arxiv.org/abs/2407.21783>.

use super::{Family, PLAIN};
use crate::error::Result;
use crate::model::config::{Config, Defaults};
use crate::model::gguf::layout::{self, BIASES, Layout};
use crate::model::keys::Keys;

pub(super) const LLAMA: Family =
    Family { model_type: "llama", architecture: "LlamaForCausalLM", gguf: Some(GGUF), betas: &[0.001, 0.01, 0.05, 0.5], read, ..PLAIN };

/// The rows of q and k stand in the order of Meta's own checkpoints. Several tokenizers go by this name.
const GGUF: Layout = Layout { name: "llama", paired: true, flags: BIASES, ..layout::PLAIN };

fn read(keys: &mut Keys, family: Family) -> Result<Config> {
    let mut config = Config::shared(keys, family, Defaults::PLAIN)?;
    // One switch for all four projections of the attention.
    config.read_biases(keys)?;
    config.mlp_bias = keys.flag("mlp_bias", false)?;
    // Sliced matrix products of the pre-training; they change the sums' rounding.
    keys.only("pretraining_tp", 1, "products in slices as in tensor-parallel pre-training")?;
    Ok(config)
}
