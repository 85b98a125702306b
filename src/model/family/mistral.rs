//! Mistral: <https://arxiv.org/abs/2310.06825>. Llama's layout; in the first release every layer attends to a window.

use serde_json::json;

use super::{Family, PLAIN};
use crate::error::Result;
use crate::model::config::{Config, Defaults};
use crate::model::keys::Keys;

pub(super) const MISTRAL: Family = Family { model_type: "mistral", architecture: "MistralForCausalLM", read, ..PLAIN };

fn read(keys: &mut Keys, family: Family) -> Result<Config> {
    keys.default(json!({"sliding_window": 4096}));
    let mut config = Config::shared(keys, family, Defaults::PLAIN)?;
    // The reference's class for it reads no `layer_types`.
    keys.only("use_sliding_window", true, "a switch that this family does not have")?;
    let window = keys.size("sliding_window")?;
    config.read_windows(keys, window, |_| true)?;
    Ok(config)
}
