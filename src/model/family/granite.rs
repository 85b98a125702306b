//! Granite 3: <https://github.com/ibm-granite/granite-3.0-language-models>. Llama's layout with four factors.

use super::{Family, PLAIN};
use crate::error::Result;
use crate::model::config::{Config, Defaults};
use crate::model::keys::Keys;

pub(super) const GRANITE: Family = Family { model_type: "granite", architecture: "GraniteForCausalLM", read, ..PLAIN };

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
