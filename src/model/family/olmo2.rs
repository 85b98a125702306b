//! OLMo 2: <https://arxiv.org/abs/2501.00656>. Norms after both blocks alone, and of queries and keys over all heads together.

use super::{Family, PLAIN};
use crate::error::Result;
use crate::model::config::{Config, Defaults, NormPlacement};
use crate::model::gguf::layout::{self, BIASES, Layout, NORMS_AFTER};
use crate::model::keys::Keys;
use crate::nn::NormKind;

pub(super) const OLMO2: Family = Family { model_type: "olmo2", architecture: "Olmo2ForCausalLM", gguf: Some(GGUF), read, ..PLAIN };

pub(super) const GGUF: Layout = Layout { name: "olmo2", names: NORMS_AFTER, flags: &[BIASES[0]], ..layout::PLAIN };

fn read(keys: &mut Keys, family: Family) -> Result<Config> {
    let mut config = Config::shared(keys, family, Defaults::PLAIN)?;
    config.read_olmo(keys)?;
    Ok(config)
}

impl Config {
    /// What this family and its successor share.
    pub(super) fn read_olmo(&mut self, keys: &mut Keys) -> Result<()> {
        self.parts.norm = NormKind::WideRms;
        self.parts.norms = NormPlacement::After;
        self.qk_norm = true;
        self.parts.whole_qk_norm = true;
        self.read_biases(keys)
    }
}
