//! Toy: the layout of Llama, with biases on q, k and v, and query and key normed per head.

use super::{Family, PLAIN};
use crate::error::Result;
use crate::model::config::{Config, Defaults};
use crate::model::keys::Keys;

pub(super) const TOY: Family = Family { model_type: "toy", architecture: "ToyForCausalLM", read, ..PLAIN };

fn read(keys: &mut Keys, family: Family) -> Result<Config> {
    let mut config = Config::shared(keys, family, Defaults::PLAIN)?;
    (config.qkv_bias, config.qk_norm) = (keys.flag("qkv_bias", true)?, true);
    Ok(config)
}
