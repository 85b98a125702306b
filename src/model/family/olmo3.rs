//! OLMo 3: <https://arxiv.org/abs/2512.13961>. OLMo 2's norms; three windowed layers to one of full attention, whose rotation alone is scaled.

use serde_json::json;

use super::{Family, PLAIN, olmo2};
use crate::error::Result;
use crate::model::config::{Config, Defaults};
use crate::model::gguf::layout::Layout;
use crate::model::keys::Keys;

pub(super) const OLMO3: Family = Family { model_type: "olmo3", architecture: "Olmo3ForCausalLM", gguf: Some(GGUF), read, ..PLAIN };

/// llama.cpp has one name for this and its predecessor, which has no window.
const GGUF: Layout = Layout {
    mark: Some("attention.sliding_window"),
    keys: &[("rope.freq_base_swa", "rope_local_base_freq")],
    windows: Some(4),
    implied: |config| {
        let theta = config.get("rope_theta").cloned().unwrap_or_else(|| json!(1e4));
        config.entry("rope_local_base_freq").or_insert(theta);
    },
    ..olmo2::GGUF
};

fn read(keys: &mut Keys, family: Family) -> Result<Config> {
    keys.default(json!({"sliding_window": 4096}));
    let mut config = Config::shared(keys, family, Defaults { theta: 5e5, windowed_theta: Some(5e5), ..Defaults::PLAIN })?;
    config.read_olmo(keys)?;
    let window = keys.size("sliding_window")?;
    config.read_windows(keys, window, |layer| (layer + 1) % 4 != 0)?;
    Ok(config)
}
