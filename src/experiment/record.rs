//! What is kept of a run: one small JSON file, written when the run has ended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Method;
use super::outcomes::Outcomes;
use crate::adapter::{Adapter, AdapterConfig};
use crate::compat::Compat;
use crate::error::{Error, Result};
use crate::file;
use crate::metric::METRICS;
use crate::model::{Identity, Model};
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
    /// Which distributions soft labels are made of.
    pub distributions: Option<String>,
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
    /// A digest of what it came to: the adapter beside the record holds these.
    pub parameters: String,
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
    /// Row by row; earlier versions of this library did not keep them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcomes: Option<Outcomes>,
}

/// What of a record is done again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Again {
    /// What failed.
    pub failed: bool,
    /// Tests whose outcomes were not kept row by row.
    pub outcomes: bool,
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
    pub fn new(model: String, run: &Run, failed: Option<String>) -> Self {
        Self { model, run: run.clone(), trained: None, failed, evaluated: BTreeMap::new() }
    }

    /// The record of `run` in `folder`, if it was made and what it tells of is there.
    pub fn open(folder: &Path, run: &Run) -> Result<Option<Self>> {
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
        // Without its adapter a training is as good as not done.
        Ok(Some(record).filter(|record| record.trained.is_none() || Adapter::is_in(&adapter(folder, &key))))
    }

    /// Whether nothing is left to do.
    pub fn is_whole<'t>(&self, mut tests: impl Iterator<Item = &'t str>, again: Again) -> bool {
        let lacks = again.failed && self.failed.is_some() || tests.any(|digest| self.lacks(digest, again));
        !lacks
    }

    /// Whether the test of that digest is still to be asked; a run that failed has nothing to test.
    pub fn lacks(&self, digest: &str, again: Again) -> bool {
        // What could not be evaluated has no outcomes, however often it is tried.
        let bare = |there: &Evaluated| there.outcomes.is_none() && !there.metrics.is_empty();
        let lacks = |there: &Evaluated| again.failed && there.failed.is_some() || again.outcomes && bare(there);
        self.failed.is_none() && self.evaluated.get(digest).is_none_or(lacks)
    }

    /// What could not be so in the record of a run.
    fn check(&self) -> Result<(), String> {
        if self.trained.is_some() != (self.run.training.is_some() && self.failed.is_none()) {
            return Err("a training that the run has not, or lacks the one that it has".into());
        }
        if let Some(trained) = &self.trained
            && !(trained.seconds >= 0.0
                && trained.dev_loss.is_none_or(f64::is_finite)
                && trained.dev_cross_entropy.is_none_or(f64::is_finite))
        {
            return Err("losses or seconds that no training has".into());
        }
        for (name, value) in self.evaluated.values().flat_map(|evaluated| &evaluated.metrics) {
            let range = METRICS.iter().find(|metric| metric.name == name).map_or((f64::NEG_INFINITY, f64::INFINITY), |metric| metric.range);
            if !(value.is_finite() && (range.0..=range.1).contains(value)) {
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

    /// Writes it whole or not at all.
    pub fn save(&self, folder: &Path) -> Result<()> {
        file::write(&path(folder, &self.run.key()?), file::json(self)?.as_bytes())
    }

    /// The adapter that the run came to.
    pub fn open_adapter(&self, folder: &Path, model: &Model) -> Result<Adapter> {
        let place = adapter(folder, &self.run.key()?);
        let opened = Adapter::open(&place, model)?;
        match &self.trained {
            Some(trained) if trained.parameters == opened.digest() => Ok(opened),
            _ => Err(Error::file(format!(
                "the adapter in {} is not the one that the record beside it tells of: remove both, and the run is done again",
                place.display()
            ))),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn run(n: usize) -> Run {
        let identity = Identity { config: "c".into(), weights: "w".into(), tokenizer: None };
        let model = ModelId { kind: "Float".into(), identity };
        Run { format: FORMAT, model, task: "t".into(), rows: "r".into(), n, run: 0, method: Method::Icl, training: None }
    }

    #[test]
    fn a_rate_comes_back_with_every_bit_and_a_disk_that_fails_is_no_missing_record() {
        let folder = tempfile::tempdir().unwrap();
        let adapter = crate::adapter::Lora::rank(2).into();
        let mut random = crate::random::Random::new(0, "rates", 0);
        for _ in 0..200 {
            // serde_json's quick reader misses the last bit of one in some.
            let learning_rate = (random.below(1 << 52) as f64 + 0.5) / (1u64 << 60) as f64;
            let training = TrainingId {
                adapter: Clone::clone(&adapter),
                learning_rate,
                beta: Some(learning_rate * 3.0),
                epochs: 1,
                patience: 1,
                compat: Compat::Corrected,
                distributions: None,
            };
            let record = Record::new("m".into(), &Run { method: Method::Sft, training: Some(training), ..run(2) }, Some("NaN".into()));
            record.save(folder.path()).unwrap();
            assert_eq!(Record::open(folder.path(), &record.run).unwrap(), Some(record));
        }
        // Neither there nor not there.
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = Record::open(&file, &run(2)).unwrap_err();
        assert!(error.is_file() && error.to_string().contains("cannot read"), "{error}");
    }

    #[test]
    fn a_record_is_that_of_the_run_that_asks_and_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let evaluated = |accuracy: f64, asim: f64| {
            let metrics = BTreeMap::from([("accuracy".to_string(), accuracy)]);
            let evaluated = Evaluated { task: "t".into(), examples: 4, metrics, asim: vec![(Some(0), asim)], ..Evaluated::default() };
            BTreeMap::from([("d".to_string(), evaluated)])
        };
        let record = |n: usize| Record { model: "m".into(), run: run(n), trained: None, failed: None, evaluated: evaluated(0.5, 0.25) };
        let [one, other] = [record(2), record(4)];
        one.save(folder.path()).unwrap();
        other.save(folder.path()).unwrap();
        assert_eq!(Record::open(folder.path(), &one.run).unwrap(), Some(one.clone()));
        assert_eq!(Record::open(folder.path(), &run(8)).unwrap(), None);
        let place = |record: &Record| path(folder.path(), &record.run.key().unwrap());
        let refused = |words: &str| {
            let error = Record::open(folder.path(), &one.run).unwrap_err();
            assert!(error.is_file() && error.to_string().contains(words) && error.to_string().contains("remove it"), "{words}: {error}");
        };
        let text = std::fs::read_to_string(place(&one)).unwrap();
        for (from, to) in [("0.5", "17.5"), ("0.5", "0.6"), ("0.25", "null"), ("\"n\": 2", "\"n\": 3"), ("ia2_checksum", "ia2_checksun")] {
            assert!(text.contains(from));
            std::fs::write(place(&one), text.replacen(from, to, 1)).unwrap();
            refused("");
        }
        std::fs::copy(place(&other), place(&one)).unwrap();
        refused("another run");
        // With a checksum that is right, too.
        for (evaluated, words) in [
            (evaluated(17.5, 0.0), "17.5 for `accuracy`"),
            (evaluated(-0.1, 0.0), "-0.1 for `accuracy`"),
            (evaluated(0.5, 1.5), "an asim of 1.5"),
        ] {
            Record { evaluated, ..one.clone() }.save(folder.path()).unwrap();
            refused(words);
        }
        let trained = Some(TrainedRecord { dev_loss: None, dev_cross_entropy: None, steps: 1, seconds: 1.0, parameters: "p".into() });
        Record { trained, ..one.clone() }.save(folder.path()).unwrap();
        refused("a training that the run has not");
    }
}
