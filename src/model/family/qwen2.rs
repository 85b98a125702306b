//! Qwen2 and Qwen2.5: <https://arxiv.org/abs/2407.10671>. Llama's layout with biases on q, k and v always, and on o never.

use super::{Family, PLAIN, read_upper_windows};
use crate::error::Result;
use crate::model::config::{Config, Defaults};
use crate::model::gguf::layout::{self, Layout};
use crate::model::keys::Keys;

pub(super) const QWEN2: Family = Family { model_type: "qwen2", architecture: "Qwen2ForCausalLM", gguf: Some(GGUF), read, ..PLAIN };

const GGUF: Layout = Layout { name: "qwen2", pre: Some("qwen2"), ..layout::PLAIN };

fn read(keys: &mut Keys, family: Family) -> Result<Config> {
    let mut config = Config::shared(keys, family, Defaults::PLAIN)?;
    config.qkv_bias = true;
    read_upper_windows(keys, &mut config)?;
    Ok(config)
}
