//! SmolLM3: <https://huggingface.co/blog/smollm3>. Llama's layout, without positions in every fourth layer.

use super::{Family, PLAIN};
use crate::error::Result;
use crate::model::config::{Config, Defaults};
use crate::model::gguf::layout::{self, BIASES, Layout};
use crate::model::keys::Keys;

pub(super) const SMOLLM3: Family = Family { model_type: "smollm3", architecture: "SmolLM3ForCausalLM", gguf: Some(GGUF), read, ..PLAIN };

const GGUF: Layout = Layout { name: "smollm3", paired: true, flags: BIASES, ..layout::PLAIN };

fn read(keys: &mut Keys, family: Family) -> Result<Config> {
    let mut config = Config::shared(keys, family, Defaults { theta: 2e6, tied: true, ..Defaults::PLAIN })?;
    config.read_biases(keys)?;
    config.mlp_bias = keys.flag("mlp_bias", false)?;
    let every = keys.size("no_rope_layer_interval")?.unwrap_or(4);
    // 1 where a layer turns, 0 where it does not.
    let turning = keys.numbers("no_rope_layers")?;
    if turning.as_ref().is_some_and(|turning| (turning.len() as i64) < config.layers) {
        return Err(keys.error("`no_rope_layers` must hold a number for each layer"));
    }
    for (index, layer) in config.parts.layers.iter_mut().enumerate() {
        layer.rotary = turning.as_ref().map_or((index as i64 + 1) % every != 0, |turning| turning[index] != 0.0);
    }
    let on = keys.flag("use_sliding_window", false)?;
    let window = keys.size("sliding_window")?.filter(|_| on);
    let unturned: Vec<bool> = config.parts.layers.iter().map(|layer| !layer.rotary).collect();
    config.read_windows(keys, window, |layer| unturned[layer as usize])?;
    keys.ignore(&["max_window_layers"]);
    Ok(config)
}
