//! GPT-NeoX and Pythia: <https://arxiv.org/abs/2204.06745>, <https://arxiv.org/abs/2304.01373>. Layer norms, a rotation of a quarter of each
//! head, a plain MLP in parallel with attention, and q, k and v stored in one matrix, head by head.

use serde_json::json;

use super::{Family, PLAIN};
use crate::error::Result;
use crate::model::config::{Config, Defaults};
use crate::model::gguf::layout::{self, Layout};
use crate::model::keys::Keys;
use crate::model::storage::{self, QKV, Storage, Whole};
use crate::nn::{Activation, NormKind};

pub(super) const GPT_NEOX: Family =
    Family { model_type: "gpt_neox", architecture: "GPTNeoXForCausalLM", storage: STORAGE, gguf: Some(GGUF), partial: true, read, ..PLAIN };

const STORAGE: Storage = Storage {
    base: &["gpt_neox"],
    head: &["embed_out", "lm_head"],
    names: &[
        ("self_attn", "attention"),
        ("qkv_proj", "query_key_value"),
        ("o_proj", "dense"),
        ("up_proj", "dense_h_to_4h"),
        ("down_proj", "dense_4h_to_h"),
        ("embed_tokens", "embed_in"),
        ("norm", "final_layer_norm"),
    ],
    fused: &[Whole { by_head: true, ..QKV }],
    ignored: &[".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq"],
    ..storage::PLAIN
};

const GGUF: Layout = Layout {
    name: "gptneox",
    pre: Some("olmo"),
    names: &[("attn_qkv", "self_attn.qkv_proj")],
    storage: &Storage { fused: &[QKV], ..storage::PLAIN },
    flags: &[("attention_bias", "blk.0.attn_qkv.bias")],
    needed: &[("attention.layer_norm_epsilon", "layer_norm_eps")],
    keys: &[("use_parallel_residual", "use_parallel_residual")],
    implied: |config| {
        layout::rename(config, "partial_rotary_factor", "rotary_pct");
        layout::rename(config, "rope_theta", "rotary_emb_base");
    },
    ..layout::PLAIN
};

fn read(keys: &mut Keys, family: Family) -> Result<Config> {
    keys.call(&[("rope_theta", "rotary_emb_base"), ("partial_rotary_factor", "rotary_pct"), ("rms_norm_eps", "layer_norm_eps")]);
    keys.default(json!({"rms_norm_eps": 1e-5, "hidden_act": "gelu"}));
    keys.ignore(&["num_key_value_heads"]);
    let mut config = Config::shared(keys, family, Defaults { share: 0.25, ..Defaults::PLAIN })?;
    let bias = keys.flag("attention_bias", true)?;
    (config.qkv_bias, config.o_bias, config.mlp_bias) = (bias, bias, true);
    config.parts.norm = NormKind::Layer;
    config.parts.parallel = keys.flag("use_parallel_residual", true)?;
    config.parts.gated = false;
    config.read_activation(keys, "hidden_act", Activation::Gelu)?;
    keys.ignore(&["hidden_dropout", "classifier_dropout", "is_decoder"]);
    Ok(config)
}
