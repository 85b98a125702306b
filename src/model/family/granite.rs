//! Granite 3: <https://github.com/ibm-granite/granite-3.0-language-models>. Llama's layout with four factors.

use serde_json::{Value, json};

use super::{Family, PLAIN};
use crate::error::Result;
use crate::model::config::{Config, Defaults};
use crate::model::gguf::layout::{self, BIASES, Layout};
use crate::model::keys::Keys;

pub(super) const GRANITE: Family = Family { model_type: "granite", architecture: "GraniteForCausalLM", gguf: Some(GGUF), read, ..PLAIN };

const GGUF: Layout = Layout {
    name: "granite",
    paired: true,
    flags: BIASES,
    keys: &[
        ("attention.scale", "attention_multiplier"),
        ("embedding_scale", "embedding_multiplier"),
        ("residual_scale", "residual_multiplier"),
        ("logit_scale", "logits_scaling"),
    ],
    implied: |config| {
        // The usual scale, where transformers takes 1.
        let width =
            config.get("head_dim").and_then(Value::as_f64).filter(|_| config.get("attention_multiplier").is_none_or(Value::is_null));
        config.extend(width.map(|width| ("attention_multiplier".to_owned(), json!(width.powf(-0.5)))));
    },
    ..layout::PLAIN
};

fn read(keys: &mut Keys, family: Family) -> Result<Config> {
    let mut config = Config::shared(keys, family, Defaults::PLAIN)?;
    config.read_biases(keys)?;
    config.mlp_bias = keys.flag("mlp_bias", false)?;
    config.scale_scores(keys.number("attention_multiplier")?.unwrap_or(1.0));
    config.parts.stream_scale = keys.number("embedding_multiplier")?;
    config.parts.residual_scale = keys.number("residual_multiplier")?;
    config.parts.logits_divisor = keys.number("logits_scaling")?;
    Ok(config)
}
