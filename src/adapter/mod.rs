//! Adapters: few trained parameters on a frozen model.
//!
//! An [`AdapterConfig`] says which kind with which settings, an [`Adapter`] holds trained parameters. One file and one entry of the
//! config's enum per kind.

mod lora;
mod parameters;
mod peft;

use std::path::Path;
use std::rc::Rc;

use polars::prelude::*;
use serde::{Deserialize, Serialize};
use tch::Tensor;

pub use lora::Lora;
pub(crate) use parameters::Parameters;

use crate::display::{Bundle, Show, headed};
use crate::error::{Error, Result};
use crate::libtorch::door;
use crate::model::Model;
use crate::nn::Adapt;

/// Which adapter, with which settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdapterConfig {
    /// Low-rank updates of linear modules.
    Lora(Lora),
}

impl AdapterConfig {
    /// Names, shapes and starting values of the parameters on `model`.
    fn start(&self, model: &Model, seed: u64) -> Result<Vec<(String, Tensor)>> {
        match self {
            Self::Lora(lora) => lora.start(model, seed),
        }
    }

    /// What changes a forward, reading the parameters where they lie: an optimiser's step shows at once.
    fn attach(&self, parameters: &Parameters) -> Result<Rc<dyn Adapt>> {
        match self {
            Self::Lora(lora) => lora.attach(parameters),
        }
    }

    /// `LoRA r=8` and the like, for frames and messages.
    pub fn name(&self) -> String {
        match self {
            Self::Lora(lora) => lora.name(),
        }
    }
}

impl From<Lora> for AdapterConfig {
    fn from(lora: Lora) -> Self {
        Self::Lora(lora)
    }
}

/// A set of trained (or freshly started) adapter parameters.
#[derive(Debug)]
pub struct Adapter {
    config: AdapterConfig,
    parameters: Parameters,
    base_model: String,
}

impl Adapter {
    /// Fresh parameters for `model`: the adapted model equals the base model. The same seed gives the same parameters.
    ///
    /// # Errors
    /// Settings that do not fit the model: no such site, a rank of 0 or above the site's widths.
    pub fn new(model: &Model, config: impl Into<AdapterConfig>, seed: u64) -> Result<Self> {
        let config = config.into();
        door("starting an adapter", || {
            let parameters = Parameters::new(config.start(model, seed)?, model.device())?;
            Ok(Self { config, parameters, base_model: model.folder().display().to_string() })
        })
    }

    /// The settings.
    pub fn config(&self) -> &AdapterConfig {
        &self.config
    }

    /// How many numbers are trained.
    pub fn count(&self) -> i64 {
        self.parameters.flat().numel() as i64
    }

    pub(crate) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// A copy with parameters of its own.
    pub fn duplicate(&self) -> Result<Self> {
        door("copying an adapter", || {
            Ok(Self { config: self.config.clone(), parameters: self.parameters.duplicate()?, base_model: self.base_model.clone() })
        })
    }

    /// One row per tensor: `parameter`, `rows`, `columns`, `norm` (Frobenius).
    ///
    /// # Errors
    /// When libtorch or polars refuse.
    pub fn frame(&self) -> Result<DataFrame> {
        door("summarising an adapter", || {
            let entries = self.parameters.entries();
            let size = |axis: usize| entries.iter().map(|(_, tensor)| tensor.size().get(axis).copied().unwrap_or(1)).collect::<Vec<_>>();
            Ok(df!(
                "parameter" => entries.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
                "rows" => size(0),
                "columns" => size(1),
                "norm" => entries.iter().map(|(_, tensor)| tensor.detach().norm().double_value(&[])).collect::<Vec<_>>(),
            )?)
        })
    }

    /// Writes PEFT's `adapter_config.json` and `adapter_model.safetensors` into `folder`; what was there is replaced only when all is written.
    ///
    /// # Errors
    /// The folder cannot be made or written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<()> {
        door("saving an adapter", || peft::save(self, folder.as_ref()))
    }

    /// Reads an adapter that this library or Python's PEFT wrote, for `model`.
    ///
    /// # Errors
    /// Missing or malformed files, settings not supported here, missing, unexpected or mis-shaped parameters: each named.
    pub fn open(folder: impl AsRef<Path>, model: &Model) -> Result<Self> {
        door("opening an adapter", || peft::open(folder.as_ref(), model))
    }
}

impl Model {
    /// This model with an adapter on it, sharing both the weights and the adapter's parameters; one already there is replaced.
    ///
    /// # Errors
    /// The adapter's parameters do not fit the model.
    pub fn with(&self, adapter: &Adapter) -> Result<Model> {
        let expected = adapter.config.start(self, 0)?;
        let there = adapter.parameters.entries();
        if expected.len() != there.len() || expected.iter().zip(there).any(|(a, b)| a.0 != b.0 || a.1.size() != b.1.size()) {
            return Err(Error::input(format!("{} made for {} does not fit {self:?}", adapter.config.name(), adapter.base_model)));
        }
        Ok(self.adapted(adapter.config.attach(&adapter.parameters)?))
    }
}

impl Show for Adapter {
    fn bundle(&self) -> Bundle {
        headed(&format!("Adapter({}, {} parameters)", self.config.name(), self.count()), self.frame())
    }
}
