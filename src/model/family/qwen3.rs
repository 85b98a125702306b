//! Qwen3 (dense): <https://arxiv.org/abs/2505.09388>. Query and key are normed per head before the rotation; `head_dim` is free.

use super::{Family, no_sliding_window};
use crate::error::Result;
use crate::model::config::Config;
use crate::model::gguf::{DECODER, Layout};
use crate::model::keys::Keys;

pub(super) const QWEN3: Family = Family { model_type: "qwen3", architecture: "Qwen3ForCausalLM", gguf: GGUF, read };

const GGUF: Layout =
    Layout { name: "qwen3", paired: false, pre: Some("qwen2"), names: DECODER, flags: &[("attention_bias", "blk.0.attn_output.bias")] };

/// What the reference takes when `head_dim` is absent, whatever the hidden size.
const HEAD_DIM: i64 = 128;

fn read(keys: &mut Keys, family: Family) -> Result<Config> {
    let mut config = Config::shared(keys, family, Some(HEAD_DIM))?;
    config.qk_norm = true;
    let bias = keys.flag("attention_bias", false)?;
    config.qkv_bias = bias;
    config.o_bias = bias;
    no_sliding_window(keys)?;
    Ok(config)
}
