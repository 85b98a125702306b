//! Gemma 2: <https://arxiv.org/abs/2408.00118>. Norms before and after both blocks, soft caps, and a window in every other layer.

use serde_json::json;

use super::{Family, PLAIN};
use crate::error::Result;
use crate::model::config::{Config, Defaults, NormPlacement};
use crate::model::gguf::layout::{self, Layout, NORMS_AROUND};
use crate::model::keys::Keys;
use crate::nn::{Activation, NormKind};

pub(super) const GEMMA2: Family = Family { model_type: "gemma2", architecture: "Gemma2ForCausalLM", gguf: Some(GGUF), read, ..PLAIN };

pub(super) const GGUF: Layout = Layout {
    name: "gemma2",
    names: NORMS_AROUND,
    raised_norms: true,
    keys: &[("attn_logit_softcapping", "attn_logit_softcapping"), ("final_logit_softcapping", "final_logit_softcapping")],
    windows: Some(2),
    in_order: true,
    implied: |config| layout::scale_by_depth(config, 46),
    ..layout::PLAIN
};

fn read(keys: &mut Keys, family: Family) -> Result<Config> {
    keys.default(json!({
        "query_pre_attn_scalar": 256, "sliding_window": 4096, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
    }));
    let mut config = Config::shared(keys, family, Defaults { head_dim: Some(256), tied: true, ..Defaults::PLAIN })?;
    config.read_gemma(keys)?;
    let window = keys.size("sliding_window")?;
    config.read_windows(keys, window, |layer| layer % 2 == 0)?;
    Ok(config)
}

impl Config {
    /// What this family and its successor share.
    pub(super) fn read_gemma(&mut self, keys: &mut Keys) -> Result<()> {
        self.parts.norm = NormKind::WideRmsPlusOne;
        self.parts.norms = NormPlacement::Around;
        self.parts.embedding_scale = Some((self.hidden_size as f64).sqrt());
        self.parts.score_cap = keys.number("attn_logit_softcapping")?;
        self.parts.logits_cap = keys.number("final_logit_softcapping")?;
        self.scale_scores(keys.needed_number("query_pre_attn_scalar")?.powf(-0.5));
        self.read_biases(keys)?;
        self.read_activation(keys, "hidden_activation", Activation::GeluTanh)?;
        // Of the first release, whose activation was mistaken; not read by the reference.
        keys.ignore(&["hidden_act", "cache_implementation", "sliding_window_size"]);
        keys.refuse("use_bidirectional_attention", "attention to what follows")
    }
}
