//! OLMo 3: <https://arxiv.org/abs/2512.13961>. OLMo 2's norms; three windowed layers to one of full attention, whose rotation alone is scaled.

use serde_json::json;

use super::{Family, PLAIN};
use crate::error::Result;
use crate::model::config::{Config, Defaults};
use crate::model::keys::Keys;

pub(super) const OLMO3: Family = Family { model_type: "olmo3", architecture: "Olmo3ForCausalLM", read, ..PLAIN };

fn read(keys: &mut Keys, family: Family) -> Result<Config> {
    keys.default(json!({"sliding_window": 4096}));
    let mut config = Config::shared(keys, family, Defaults { theta: 5e5, windowed_theta: Some(5e5), ..Defaults::PLAIN })?;
    config.read_olmo(keys)?;
    let window = keys.size("sliding_window")?;
    config.read_windows(keys, window, |layer| (layer + 1) % 4 != 0)?;
    Ok(config)
}
