//! Gemma 3, text alone or the text part of a checkpoint with images: <https://arxiv.org/abs/2503.19786>. Gemma 2's norms, without its caps; five
//! windowed layers, with a rotary base of their own, to one of full attention; norms of queries and keys.

use serde_json::json;

use super::{Family, PLAIN, gemma2};
use crate::error::Result;
use crate::model::config::{Config, Defaults};
use crate::model::gguf::layout::{self, Layout};
use crate::model::keys::Keys;
use crate::model::storage::{self, Storage};

pub(super) const GEMMA3: Family = Family {
    model_type: "gemma3_text",
    architecture: "Gemma3ForCausalLM",
    within: Some(("gemma3", "Gemma3ForConditionalGeneration")),
    storage: Storage {
        base: &["model", "language_model.model", "model.language_model"],
        head: &["lm_head", "language_model.lm_head"],
        ignored: &["vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector."],
        ..storage::PLAIN
    },
    gguf: Some(GGUF),
    read,
    ..PLAIN
};

const GGUF: Layout = Layout {
    name: "gemma3",
    keys: &[("final_logit_softcapping", "final_logit_softcapping"), ("rope.freq_base_swa", "rope_local_base_freq")],
    windows: Some(6),
    implied: |config| {
        layout::scale_by_depth(config, 62);
        // Without a window none is meant, not the usual one.
        config.entry("sliding_window").or_insert_with(|| json!(null));
    },
    ..gemma2::GGUF
};

fn read(keys: &mut Keys, family: Family) -> Result<Config> {
    // A checkpoint with images leaves out of its `text_config` what is usual.
    keys.default(json!({
        "vocab_size": 262_208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8,
        "num_key_value_heads": 4, "max_position_embeddings": 131_072, "rms_norm_eps": 1e-6, "query_pre_attn_scalar": 256,
        "sliding_window": 4096, "sliding_window_pattern": 6,
    }));
    let thetas = (1e6, Some(1e4));
    let mut config = Config::shared(
        keys,
        family,
        Defaults { head_dim: Some(256), theta: thetas.0, windowed_theta: thetas.1, tied: true, ..Defaults::PLAIN },
    )?;
    config.qk_norm = true;
    config.read_gemma(keys)?;
    let (window, every) = (keys.size("sliding_window")?, keys.needed_size("sliding_window_pattern")?);
    config.read_windows(keys, window, |layer| (layer + 1) % every != 0)?;
    // Where images stand among the tokens.
    keys.ignore(&["_sliding_window_pattern", "vision_config", "mm_tokens_per_image", "boi_token_index", "eoi_token_index"]);
    keys.ignore(&["image_token_index", "boi_token_id", "eoi_token_id", "image_token_id"]);
    Ok(config)
}
