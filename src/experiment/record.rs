//! What is kept of a run: one small JSON file, written when the run has ended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Method;
use crate::adapter::AdapterConfig;
use crate::compat::Compat;
use crate::error::{Error, Result};
use crate::file;
use crate::model::Model;

/// Changes whenever the same settings would give other results.
pub(super) const FORMAT: u32 = 2;

/// Everything that decides a run's course.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    pub format: u32,
    pub model: ModelId,
    pub task: String,
    /// Of the train and dev sets: rows and form.
    pub rows: String,
    pub n: usize,
    pub run: u64,
    pub method: Method,
    /// Of methods that train.
    pub training: Option<TrainingId>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct TrainingId {
    pub adapter: AdapterConfig,
    pub learning_rate: f64,
    pub beta: Option<f64>,
    pub epochs: u64,
    pub patience: u64,
    pub compat: Compat,
    /// Which distributions soft labels are made of.
    pub distributions: Option<String>,
}

/// A model, as the manifest of a training knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ModelId {
    pub kind: String,
    pub config: String,
    pub weights: String,
}

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The model's folder, for people.
    pub model: String,
    pub run: Run,
    /// None for methods that do not train, and for a training that failed.
    pub trained: Option<TrainedRecord>,
    /// Why there is no result.
    pub failed: Option<String>,
    /// By the digest of what was asked.
    pub evaluated: BTreeMap<String, Evaluated>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct TrainedRecord {
    pub dev_loss: Option<f64>,
    /// The cross-entropy part of a loss with a beta.
    pub dev_cross_entropy: Option<f64>,
    pub steps: u64,
    pub seconds: f64,
}

/// How a run did on one set of queries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Evaluated {
    pub task: String,
    pub examples: usize,
    /// Those that are defined, by their names.
    pub metrics: BTreeMap<String, f64>,
    /// Layer and likeness to ICL there.
    pub asim: Vec<(Option<u32>, f64)>,
    pub failed: Option<String>,
}

impl Run {
    /// The run's name: a digest of everything in it.
    pub fn key(&self) -> Result<String> {
        digest(self).map(|digest| digest[..KEY].to_string())
    }
}

/// Letters of a key: 80 bits, so that even a million runs share none.
const KEY: usize = 20;

/// SHA-256 of a value's JSON, as hexadecimal digits.
pub(super) fn digest(value: &impl Serialize) -> Result<String> {
    let json = serde_json::to_vec(value).map_err(|error| Error::internal("writing JSON").because(error))?;
    Ok(format!("{:x}", Sha256::digest(json)))
}

impl Record {
    /// Of a run with nothing to show yet, or ever.
    pub fn new(model: &Model, run: &Run, failed: Option<String>) -> Self {
        Self { model: name(model), run: run.clone(), trained: None, failed, evaluated: BTreeMap::new() }
    }

    /// The record of `run` in `folder`, if it was made.
    pub fn open(folder: &Path, run: &Run) -> Result<Option<Self>> {
        let path = path(folder, &run.key()?);
        if !path.exists() {
            return Ok(None);
        }
        let malformed =
            |error| Error::file(format!("{} is no record of a run: remove it, and it is made again", path.display())).because(error);
        serde_json::from_str(&file::read_text(&path)?).map_err(malformed).map(Some)
    }

    /// Writes it whole or not at all.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self).map_err(|error| Error::internal("writing JSON").because(error))?;
        file::write(&path(folder, &self.run.key()?), &json)
    }
}

fn path(folder: &Path, key: &str) -> PathBuf {
    folder.join(format!("{key}.json"))
}

/// Where the adapter of a run lies.
pub(super) fn adapter(folder: &Path, key: &str) -> PathBuf {
    folder.join(key)
}

/// The model's folder, without those above it.
pub(super) fn name(model: &Model) -> String {
    let folder = model.folder();
    folder.file_name().map_or_else(|| folder.display().to_string(), |name| name.to_string_lossy().into_owned())
}
