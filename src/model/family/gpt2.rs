//! GPT-2: <https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf>. Layer norms, learned
//! positions, a plain MLP, and matrices stored `[in, out]`, with q, k and v in one.

use serde_json::json;

use super::{Family, PLAIN};
use crate::error::Result;
use crate::model::config::{Config, Defaults};
use crate::model::gguf::layout::{self, Layout};
use crate::model::keys::Keys;
use crate::model::storage::{self, QKV, Storage};
use crate::nn::{Activation, NormKind};

pub(super) const GPT2: Family =
    Family { model_type: "gpt2", architecture: "GPT2LMHeadModel", storage: STORAGE, gguf: Some(GGUF), read, ..PLAIN };

#[rustfmt::skip]
const STORAGE: Storage = Storage {
    // The first release was saved without its output layer, and so without the base's name.
    base: &["transformer", ""],
    names: &[
        ("layers", "h"), ("self_attn", "attn"), ("qkv_proj", "c_attn"), ("o_proj", "c_proj"), ("up_proj", "c_fc"), ("down_proj", "c_proj"),
        ("embed_tokens", "wte"), ("embed_positions", "wpe"), ("norm", "ln_f"), ("input_layernorm", "ln_1"), ("post_attention_layernorm", "ln_2"),
    ],
    fused: &[QKV],
    transposed: true,
    ignored: &[".attn.bias", ".attn.masked_bias"],
    ..storage::PLAIN
};

const GGUF: Layout = Layout {
    name: "gpt2",
    pre: Some("gpt-2"),
    names: &[("position_embd", "model.embed_positions"), ("attn_qkv", "self_attn.qkv_proj")],
    storage: &Storage { fused: &[QKV], ..storage::PLAIN },
    needed: &[("attention.layer_norm_epsilon", "layer_norm_epsilon"), ("feed_forward_length", "n_inner")],
    ..layout::PLAIN
};

#[rustfmt::skip]
const KEYS: &[(&str, &str)] = &[
    ("hidden_size", "n_embd"), ("num_hidden_layers", "n_layer"), ("num_attention_heads", "n_head"), ("intermediate_size", "n_inner"),
    ("max_position_embeddings", "n_positions"), ("rms_norm_eps", "layer_norm_epsilon"),
];

fn read(keys: &mut Keys, family: Family) -> Result<Config> {
    keys.call(KEYS);
    if !keys.has("intermediate_size") {
        let hidden = keys.needed_size("hidden_size")?;
        keys.ignore(&["intermediate_size"]);
        keys.default(json!({"intermediate_size": 4 * hidden, "hidden_size": hidden}));
    }
    keys.ignore(&["num_key_value_heads"]);
    keys.default(json!({"rms_norm_eps": 1e-5, "scale_attn_weights": true, "activation_function": "gelu_new"}));
    let mut config = Config::shared(keys, family, Defaults { tied: true, ..Defaults::PLAIN })?;
    (config.qkv_bias, config.o_bias, config.mlp_bias) = (true, true, true);
    config.parts.norm = NormKind::Layer;
    config.parts.learned_positions = true;
    config.parts.gated = false;
    config.read_activation(keys, "activation_function", Activation::GeluTanh)?;
    let scale = if keys.flag("scale_attn_weights", true)? { (config.head_dim as f64).powf(-0.5) } else { 1.0 };
    let by_layer = keys.flag("scale_attn_by_inverse_layer_idx", false)?;
    for (index, layer) in config.parts.layers.iter_mut().enumerate() {
        layer.rotary = false;
        layer.scale = Some(if by_layer { scale / (index + 1) as f64 } else { scale });
    }
    keys.ignore(&["n_ctx", "attn_pdrop", "embd_pdrop", "resid_pdrop", "reorder_and_upcast_attn", "summary_type", "summary_use_proj"]);
    keys.ignore(&["summary_activation", "summary_first_dropout", "summary_proj_to_labels", "gradient_checkpointing"]);
    Ok(config)
}
