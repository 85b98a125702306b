//! Qwen3 (dense): <https://arxiv.org/abs/2505.09388>. Query and key are normed per head before the rotation; `head_dim` is free.

use super::{Family, PLAIN, read_upper_windows};
use crate::error::Result;
use crate::model::config::{Config, Defaults};
use crate::model::gguf::layout::{self, BIASES, Layout};
use crate::model::keys::Keys;

pub(super) const QWEN3: Family = Family { model_type: "qwen3", architecture: "Qwen3ForCausalLM", gguf: Some(GGUF), read, ..PLAIN };

const GGUF: Layout = Layout { name: "qwen3", pre: Some("qwen2"), flags: &[BIASES[0]], ..layout::PLAIN };

fn read(keys: &mut Keys, family: Family) -> Result<Config> {
    // Whatever the hidden size.
    let mut config = Config::shared(keys, family, Defaults { head_dim: Some(128), ..Defaults::PLAIN })?;
    config.qk_norm = true;
    config.read_biases(keys)?;
    read_upper_windows(keys, &mut config)?;
    Ok(config)
}
