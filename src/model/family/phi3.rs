//! Phi-3 and Phi-4: <https://arxiv.org/abs/2404.14219>. Llama's layout with q, k and v in one matrix, gate and up in another.

use super::{Family, PLAIN};
use crate::error::Result;
use crate::model::config::{Config, Defaults};
use crate::model::gguf::layout::{self, Layout};
use crate::model::keys::Keys;
use crate::model::storage::{self, GATE_UP, QKV, Storage};

pub(super) const PHI3: Family = Family {
    model_type: "phi3",
    architecture: "Phi3ForCausalLM",
    storage: Storage { fused: &[QKV, GATE_UP], ..storage::PLAIN },
    partial: true,
    gguf: Some(GGUF),
    read,
    ..PLAIN
};

const GGUF: Layout = Layout {
    name: "phi3",
    names: &[("attn_qkv", "self_attn.qkv_proj"), ("ffn_up", "mlp.gate_up_proj")],
    storage: &Storage { fused: &[QKV, GATE_UP], ..storage::PLAIN },
    windows: Some(0),
    ..layout::PLAIN
};

fn read(keys: &mut Keys, family: Family) -> Result<Config> {
    let mut config = Config::shared(keys, family, Defaults::PLAIN)?;
    let window = keys.size("sliding_window")?;
    config.read_windows(keys, window, |_| true)?;
    // Neither has an effect in the reference's model.
    keys.ignore(&["attention_bias", "mlp_bias", "lm_head_bias", "embd_pdrop", "resid_pdrop"]);
    Ok(config)
}
