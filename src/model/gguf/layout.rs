//! How llama.cpp stores a family: the names of its tensors and of its metadata, and what its converter changes.

use serde_json::{Map, Value as Json, json};

use crate::model::storage::{self, Storage};

/// How llama.cpp stores a family; what a family does not say is as in [`PLAIN`].
#[derive(Clone, Copy)]
pub(in crate::model) struct Layout {
    /// What `general.architecture` says.
    pub name: &'static str,
    /// A key under that name that tells this family from another which goes by it, too.
    pub mark: Option<&'static str>,
    /// True if the two dimensions that the rotary embedding turns together stand side by side in the rows of q and k, not half a head apart.
    pub paired: bool,
    /// The pre-tokeniser where a file names none; none where the family has several.
    pub pre: Option<&'static str>,
    /// The layout's name of a weight, without layer and ending, and Hugging Face's; [`DECODER`] holds what most share.
    pub names: &'static [(&'static str, &'static str)],
    /// How the weights are stored under the names that are given here.
    pub storage: &'static Storage,
    /// True if the weights of norms are stored with 1 added, as they are multiplied.
    pub raised_norms: bool,
    /// Flags of `config.json` that are true where the file holds a tensor.
    pub flags: &'static [(&'static str, &'static str)],
    /// Keys under the architecture's name that must be there besides those of all, and `config.json`'s for them.
    pub needed: &'static [(&'static str, &'static str)],
    /// Keys that may be there, likewise; 0 asks for nothing.
    pub keys: &'static [(&'static str, &'static str)],
    /// Where layers attend to a window: of how many the last does not, 0 if all do.
    pub windows: Option<u64>,
    /// True if the pieces of a SentencePiece vocabulary merge in the order in which they stand, runs of spaces like all others; if not, their
    /// scores say so, and what a user has defined is found in a text as it is.
    pub in_order: bool,
    /// Adds what llama.cpp takes for granted to `config.json`.
    pub implied: fn(&mut Map<String, Json>),
}

/// What most have; each says its own name.
pub(in crate::model) const PLAIN: Layout = Layout {
    name: "",
    mark: None,
    paired: false,
    pre: None,
    names: &[],
    storage: &storage::PLAIN,
    raised_norms: false,
    flags: &[],
    needed: &[("attention.layer_norm_rms_epsilon", "rms_norm_eps")],
    keys: &[],
    windows: None,
    in_order: false,
    implied: |_| {},
};

/// The weights of a decoder with two norms a layer and a gated MLP.
const DECODER: &[(&str, &str)] = &[
    ("token_embd", "model.embed_tokens"),
    ("output_norm", "model.norm"),
    ("output", "lm_head"),
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// The names of norms after both blocks.
pub(in crate::model) const NORMS_AFTER: &[(&str, &str)] =
    &[("post_attention_norm", "post_attention_layernorm"), ("post_ffw_norm", "post_feedforward_layernorm")];

/// The names of norms before and after both blocks.
pub(in crate::model) const NORMS_AROUND: &[(&str, &str)] = &[NORMS_AFTER[0], NORMS_AFTER[1], ("ffn_norm", "pre_feedforward_layernorm")];

/// Flags that follow from the biases of a decoder whose projections have them all or none.
pub(in crate::model) const BIASES: &[(&str, &str)] = &[("attention_bias", "blk.0.attn_output.bias"), ("mlp_bias", "blk.0.ffn_down.bias")];

impl Layout {
    /// Hugging Face's name of a weight, without layer and ending.
    pub(crate) fn public(&self, own: &str) -> Option<&'static str> {
        self.names.iter().chain(DECODER).find(|(known, _)| *known == own).map(|(_, public)| *public)
    }
}

/// The scale of scores of a family with a number for it, which is the width of a head but in the largest model, known by its `layers`.
pub(in crate::model) fn scale_by_depth(config: &mut Map<String, Json>, layers: u64) {
    let number = |key: &str| config.get(key).and_then(Json::as_u64);
    let wide = match (number("hidden_size"), number("num_attention_heads")) {
        (Some(hidden), Some(heads)) if heads > 0 && number("num_hidden_layers") == Some(layers) => Some(hidden / heads),
        _ => number("head_dim"),
    };
    config.extend(wide.map(|wide| ("query_pre_attn_scalar".to_owned(), json!(wide))));
}

/// Calls a key of `config.json` by another name.
pub(in crate::model) fn rename(config: &mut Map<String, Json>, key: &str, own: &str) {
    if let Some(value) = config.remove(key) {
        config.insert(own.to_owned(), value);
    }
}
