//! What is kept of a run: one small JSON file, written when the run has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::outcomes::Outcomes;
use super::settings::Demand;
use super::{Method, effects};
use crate::adapter::{Adapter, AdapterConfig};
use crate::compat::Compat;
use crate::error::{Error, Result};
use crate::file;
use crate::metric::METRICS;
use crate::model::{Identity, Model};
use crate::objective::Distilled;
use crate::train::exact;

/// Changes whenever the same settings would give other results.
pub(super) const FORMAT: u32 = 3;

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
    #[serde(with = "exact")]
    pub learning_rate: f64,
    #[serde(with = "exact::maybe")]
    pub beta: Option<f64>,
    pub epochs: u64,
    pub patience: u64,
    pub compat: Compat,
    /// Which distributions are learned from.
    pub distributions: Option<String>,
    /// Where it is not as by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_distillation: Option<Distilled>,
}

/// A model, as the manifest of a training knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct ModelId {
    pub kind: String,
    #[serde(flatten)]
    pub identity: Identity,
}

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The model's folder, for people.
    pub model: String,
    pub run: Run,
    /// None for methods that do not train, and for a training that failed.
    pub trained: Option<TrainedRecord>,
    /// What a method that trains nothing has found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Found>,
    /// Why there is no result.
    pub failed: Option<String>,
    /// Who trained or searched, in words; earlier versions did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// By the digest of what was asked.
    pub evaluated: BTreeMap<String, Evaluated>,
    /// What became of other tasks, by the digest of what was asked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub elsewhere: BTreeMap<String, ForgettingRecord>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct TrainedRecord {
    #[serde(default, with = "exact::maybe")]
    pub dev_loss: Option<f64>,
    /// The cross-entropy part of a loss with a beta.
    #[serde(default, with = "exact::maybe")]
    pub dev_cross_entropy: Option<f64>,
    pub steps: u64,
    #[serde(with = "exact")]
    pub seconds: f64,
    /// A digest of what it came to: the adapter next to the record holds these.
    pub parameters: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

/// What it took to come there, earlier phases included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Cost {
    /// Numbers trained or found.
    pub parameters: u64,
    /// Tokens read in training, or to try candidates.
    pub tokens: u64,
    /// Tokens read to collect targets, or for means under ICL.
    pub target_tokens: u64,
    /// Of both.
    #[serde(with = "exact")]
    pub seconds: f64,
}

/// A task that the run did not learn, before and after it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ForgettingRecord {
    pub task: String,
    pub examples: usize,
    /// Of the model on queries alone, nats.
    #[serde(default, with = "exact::maybe")]
    pub drift: Option<f64>,
    /// Accuracy under ICL.
    #[serde(default, with = "exact::maybe")]
    pub before: Option<f64>,
    #[serde(default, with = "exact::maybe")]
    pub after: Option<f64>,
    pub failed: Option<String>,
}

/// What was found on dev by forwards alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Found {
    /// For people.
    pub words: String,
    #[serde(default, with = "exact::maybe", skip_serializing_if = "Option::is_none")]
    pub dev_loss: Option<f64>,
    #[serde(with = "exact")]
    pub seconds: f64,
    /// A digest of the vector in the file next to the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector: Option<String>,
    #[serde(default, with = "exact::maybe", skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// With that of the training that it goes on from; earlier versions did not count what a search for a vector reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

/// How a run did on one set of queries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Evaluated {
    pub task: String,
    pub examples: usize,
    /// Those that are defined, by their names; and what else was measured.
    #[serde(with = "exact::named")]
    pub metrics: BTreeMap<String, f64>,
    /// Columns that were asked for and are not defined here.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub undefined: BTreeSet<String>,
    /// Layer and likeness to ICL there.
    #[serde(with = "exact::placed")]
    pub asim: Vec<(Option<u32>, f64)>,
    pub failed: Option<String>,
    /// Row by row; earlier versions of this library did not keep them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcomes: Option<Outcomes>,
}

impl Evaluated {
    /// Columns of these that neither are there nor were tried.
    pub(super) fn lacks<'c>(&self, columns: &'c [String]) -> Vec<&'c str> {
        // Where nothing could be evaluated, nothing can be added.
        let there = |name: &String| self.metrics.is_empty() || self.metrics.contains_key(name) || self.undefined.contains(name);
        columns.iter().filter(|name| !there(name)).map(String::as_str).collect()
    }
}

impl Run {
    /// The run's name: a digest of everything in it.
    pub(super) fn key(&self) -> Result<String> {
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
    pub(super) fn new(model: String, run: &Run, failed: Option<String>) -> Self {
        let (evaluated, elsewhere) = (BTreeMap::new(), BTreeMap::new());
        Self { model, run: run.clone(), trained: None, found: None, failed, machine: None, evaluated, elsewhere }
    }

    /// The record of `run` in `folder`, if it was made and what it tells of is there.
    pub(super) fn open(folder: &Path, run: &Run) -> Result<Option<Self>> {
        const REMEDY: &str = "remove it, and the run is done again";
        let key = run.key()?;
        let path = path(folder, &key);
        // Anything but "there is none" is no answer: a disk that fails would have every run done again.
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => return Err(Error::unread(&path, error)),
        }
        let record: Self = file::read_json(&path, "the record of a run", REMEDY)?;
        if record.run != *run {
            return Err(Error::file(format!("{} is the record of another run than its name says: {REMEDY}", path.display())));
        }
        record.check().map_err(|what| Error::file(format!("{} holds {what}: {REMEDY}", path.display())))?;
        // Without its adapter a training is as good as not done, and so is a search without its vector.
        let there = |record: &Self| match &record.found {
            Some(Found { vector: Some(_), .. }) => vector(folder, &key).is_file(),
            _ => record.trained.is_none() || Adapter::is_in(&adapter(folder, &key)),
        };
        Ok(Some(record).filter(there))
    }

    /// Whether nothing is left to do, given the digests of the tests and of the task elsewhere.
    pub(super) fn is_whole<'t>(&self, mut tests: impl Iterator<Item = &'t str>, elsewhere: Option<&str>, demand: Demand<'_>) -> bool {
        let again = demand.retry && self.failed.is_some()
            || tests.any(|digest| self.lacks(digest, demand))
            || elsewhere.is_some_and(|digest| self.lacks_elsewhere(digest, demand));
        !again
    }

    /// Whether the test of that digest is still to be asked, or more of it; a run that failed has nothing to test.
    pub(super) fn lacks(&self, digest: &str, demand: Demand<'_>) -> bool {
        // What could not be evaluated has no outcomes, however often it is tried.
        let bare = |there: &Evaluated| there.outcomes.is_none() && !there.metrics.is_empty();
        let lacks = |there: &Evaluated| {
            demand.retry && there.failed.is_some() || demand.outcomes && bare(there) || !there.lacks(demand.columns).is_empty()
        };
        self.failed.is_none() && self.evaluated.get(digest).is_none_or(lacks)
    }

    pub(super) fn lacks_elsewhere(&self, digest: &str, demand: Demand<'_>) -> bool {
        self.failed.is_none() && self.elsewhere.get(digest).is_none_or(|there| demand.retry && there.failed.is_some())
    }

    /// What could not be so in the record of a run.
    fn check(&self) -> Result<(), String> {
        let (method, worked) = (self.run.method, self.failed.is_none());
        if self.trained.is_some() != (method.is_trained() && self.run.training.is_some() && worked) {
            return Err("a training that the run has not, or lacks the one that it has".into());
        }
        if self.found.is_some() != (method.finds() && worked) {
            return Err("a vector or a temperature that the run has not, or lacks the one that it has".into());
        }
        if let Some(Found { dev_loss, seconds, vector, temperature, .. }) = &self.found
            && !(*seconds >= 0.0
                && dev_loss.is_none_or(f64::is_finite)
                && temperature.is_none_or(|value| value > 0.0 && value.is_finite())
                && vector.is_some() == method.vector().is_some())
        {
            return Err("a vector, a temperature or seconds that no search has".into());
        }
        if let Some(trained) = &self.trained
            && !(trained.seconds >= 0.0
                && trained.dev_loss.is_none_or(f64::is_finite)
                && trained.dev_cross_entropy.is_none_or(f64::is_finite))
        {
            return Err("losses or seconds that no training has".into());
        }
        let costs = [self.trained.as_ref().and_then(|trained| trained.cost), self.found.as_ref().and_then(|found| found.cost)];
        if let Some(cost) = costs.into_iter().flatten().next()
            && !(cost.seconds >= 0.0 && cost.seconds.is_finite())
        {
            return Err(format!("{} seconds that a run took", cost.seconds));
        }
        let elsewhere = self.elsewhere.values().flat_map(|there| {
            [("drift", there.drift), ("accuracy", there.before), ("accuracy", there.after)]
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
        });
        let here = self.evaluated.values().flat_map(|evaluated| &evaluated.metrics).map(|(name, value)| (name.as_str(), *value));
        for (name, value) in here.chain(elsewhere) {
            let metric = METRICS.iter().find(|metric| metric.name == name).map(|metric| metric.range);
            let range = metric.or_else(|| effects::range(name)).unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
            if !(value.is_finite() && (range.0..=range.1).contains(&value)) {
                return Err(format!("{value} for `{name}`, which lies from {} to {}", range.0, range.1));
            }
        }
        for evaluated in self.evaluated.values() {
            evaluated.outcomes.as_ref().map_or(Ok(()), |outcomes| outcomes.check(evaluated.examples))?;
        }
        match self.evaluated.values().flat_map(|evaluated| &evaluated.asim).find(|(_, asim)| !(-1.0 - 1e-6..=1.0 + 1e-6).contains(asim)) {
            Some((_, asim)) => Err(format!("an asim of {asim}")),
            None => Ok(()),
        }
    }

    /// Of the training, or of what was found.
    pub(super) fn dev_loss(&self) -> Option<f64> {
        match &self.trained {
            Some(trained) => trained.dev_loss,
            None => self.found.as_ref()?.dev_loss,
        }
    }

    pub(super) fn seconds(&self) -> Option<f64> {
        self.trained.as_ref().map(|trained| trained.seconds).or_else(|| Some(self.found.as_ref()?.seconds))
    }

    /// Writes it whole or not at all.
    pub(super) fn save(&self, folder: &Path) -> Result<()> {
        file::write(&path(folder, &self.run.key()?), file::json(self)?.as_bytes())
    }

    /// The adapter that the run came to.
    pub(super) fn open_adapter(&self, folder: &Path, model: &Model) -> Result<Adapter> {
        let place = adapter(folder, &self.run.key()?);
        let opened = Adapter::open(&place, model)?;
        match &self.trained {
            Some(trained) if trained.parameters == opened.digest() => Ok(opened),
            _ => Err(Error::file(format!(
                "the adapter in {} is not the one that the record next to it tells of: remove both, and the run is done again",
                place.display()
            ))),
        }
    }
}

/// Where the vector of a run lies.
pub(super) fn vector(folder: &Path, key: &str) -> PathBuf {
    folder.join(format!("{key}.safetensors"))
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

#[cfg(test)]
mod tests;
