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
    /// By the digest of what was asked.
    pub evaluated: BTreeMap<String, Evaluated>,
    /// What became of other tasks, by the digest of what was asked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub elsewhere: BTreeMap<String, Elsewhere>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

/// What it took to come there, earlier phases included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Cost {
    /// Numbers trained.
    pub parameters: u64,
    /// Tokens read in training.
    pub tokens: u64,
    /// Tokens read to collect targets.
    pub target_tokens: u64,
    /// Of both.
    pub seconds: f64,
}

/// A task that the run did not learn, before and after it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Elsewhere {
    pub task: String,
    pub examples: usize,
    /// Of the model on queries alone, nats.
    pub drift: Option<f64>,
    /// Accuracy under ICL.
    pub before: Option<f64>,
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
    pub seconds: f64,
    /// A digest of the vector in the file beside the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector: Option<String>,
    #[serde(default, with = "exact::maybe", skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// With that of the training that it goes on from; of a search for a vector nobody counted the tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

/// How a run did on one set of queries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Evaluated {
    pub task: String,
    pub examples: usize,
    /// Those that are defined, by their names; and what was measured besides.
    pub metrics: BTreeMap<String, f64>,
    /// Columns that were asked for and are not defined here.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub undefined: BTreeSet<String>,
    /// Layer and likeness to ICL there.
    pub asim: Vec<(Option<u32>, f64)>,
    pub failed: Option<String>,
    /// Row by row; earlier versions of this library did not keep them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcomes: Option<Outcomes>,
}

impl Evaluated {
    /// Columns of these that neither are there nor were tried.
    pub fn lacks<'c>(&self, columns: &'c [String]) -> Vec<&'c str> {
        // Where nothing could be evaluated, nothing can be added.
        let there = |name: &String| self.metrics.is_empty() || self.metrics.contains_key(name) || self.undefined.contains(name);
        columns.iter().filter(|name| !there(name)).map(String::as_str).collect()
    }
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
        let (evaluated, elsewhere) = (BTreeMap::new(), BTreeMap::new());
        Self { model, run: run.clone(), trained: None, found: None, failed, evaluated, elsewhere }
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
        // Without its adapter a training is as good as not done, and so is a search without its vector.
        let there = |record: &Self| match &record.found {
            Some(Found { vector: Some(_), .. }) => vector(folder, &key).is_file(),
            _ => record.trained.is_none() || Adapter::is_in(&adapter(folder, &key)),
        };
        Ok(Some(record).filter(there))
    }

    /// Whether nothing is left to do, given the digests of the tests and of the task elsewhere.
    pub fn is_whole<'t>(&self, mut tests: impl Iterator<Item = &'t str>, elsewhere: Option<&str>, demand: Demand<'_>) -> bool {
        let again = demand.retry && self.failed.is_some()
            || tests.any(|digest| self.lacks(digest, demand))
            || elsewhere.is_some_and(|digest| self.lacks_elsewhere(digest, demand));
        !again
    }

    /// Whether the test of that digest is still to be asked, or more of it; a run that failed has nothing to test.
    pub fn lacks(&self, digest: &str, demand: Demand<'_>) -> bool {
        // What could not be evaluated has no outcomes, however often it is tried.
        let bare = |there: &Evaluated| there.outcomes.is_none() && !there.metrics.is_empty();
        let lacks = |there: &Evaluated| {
            demand.retry && there.failed.is_some() || demand.outcomes && bare(there) || !there.lacks(demand.columns).is_empty()
        };
        self.failed.is_none() && self.evaluated.get(digest).is_none_or(lacks)
    }

    pub fn lacks_elsewhere(&self, digest: &str, demand: Demand<'_>) -> bool {
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
        if let Some(cost) = self.trained.as_ref().and_then(|trained| trained.cost)
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
    pub fn dev_loss(&self) -> Option<f64> {
        match &self.trained {
            Some(trained) => trained.dev_loss,
            None => self.found.as_ref()?.dev_loss,
        }
    }

    pub fn seconds(&self) -> Option<f64> {
        self.trained.as_ref().map(|trained| trained.seconds).or_else(|| Some(self.found.as_ref()?.seconds))
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
mod tests {
    use super::*;

    fn run(n: usize) -> Run {
        let identity = Identity { config: "c".into(), weights: "w".into(), tokenizer: None };
        let model = ModelId { kind: "Float".into(), identity };
        Run { format: FORMAT, model, task: "t".into(), rows: "r".into(), n, run: 0, method: Method::Icl, training: None }
    }

    #[test]
    fn keys_and_records_stay_as_they_were_written() {
        // SHA-256 of the JSON by Python's hashlib: whatever is added to a run must be left out where it is not used.
        assert_eq!(run(2).key().unwrap(), "4c53335f8fb19c0efd40");
        // A run of a study on SmolLM2, as a file called so tells of it.
        let run_of_a_study: Run = serde_json::from_str(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/run.json"))).unwrap();
        assert_eq!(run_of_a_study.key().unwrap(), "48e3d0ba694d12d1f9a5");
        let metrics = BTreeMap::from([("accuracy".to_string(), 0.5)]);
        let evaluated = Evaluated { task: "t".into(), examples: 4, metrics, ..Evaluated::default() };
        let record = Record { evaluated: BTreeMap::from([("d".into(), evaluated)]), ..Record::new("m".into(), &run(2), None) };
        let names = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let mut json = serde_json::to_value(&record).unwrap();
        assert_eq!(names(&json), ["evaluated", "failed", "model", "run", "trained"]);
        assert_eq!(names(&json["evaluated"]["d"]), ["asim", "examples", "failed", "metrics", "task"]);
        json["trained"] = serde_json::json!({"dev_loss": 1.0, "dev_cross_entropy": null, "steps": 1, "seconds": 1.0, "parameters": "p"});
        let old: Record = serde_json::from_value(json).unwrap();
        assert_eq!(old.trained.unwrap().cost, None);
        // What it lacks is missing only to those who ask.
        let columns = ["accuracy".to_string(), "drift".to_string()];
        let demand = |columns| Demand { retry: false, outcomes: false, columns };
        assert!(record.is_whole(["d"].into_iter(), None, demand(&[])) && record.is_whole(["d"].into_iter(), None, demand(&columns[..1])));
        assert!(!record.is_whole(["d"].into_iter(), None, demand(&columns)));
        assert!(!record.is_whole(["d"].into_iter(), Some("other"), demand(&[])));
    }

    #[test]
    fn what_no_run_can_come_to_is_refused() {
        let good = Cost { parameters: 1, tokens: 1, target_tokens: 1, seconds: 1.0 };
        let with = |cost: Cost, drift: f64, after: f64| {
            let metrics = BTreeMap::from([("drift".to_string(), drift)]);
            let evaluated = BTreeMap::from([("d".to_string(), Evaluated { metrics, ..Evaluated::default() })]);
            let elsewhere = BTreeMap::from([("e".to_string(), Elsewhere { after: Some(after), ..Elsewhere::default() })]);
            let training = TrainingId {
                adapter: crate::adapter::Lora::rank(2).into(),
                learning_rate: 1.0,
                beta: None,
                epochs: 1,
                patience: 1,
                compat: Compat::Corrected,
                distributions: None,
            };
            let trained =
                TrainedRecord { dev_loss: None, dev_cross_entropy: None, steps: 1, seconds: 1.0, parameters: "p".into(), cost: Some(cost) };
            let run = Run { method: Method::Sft, training: Some(training), ..run(2) };
            Record { evaluated, elsewhere, trained: Some(trained), ..Record::new("m".into(), &run, None) }.check()
        };
        assert_eq!(with(good, 0.0, 1.0), Ok(()));
        for (record, words) in [
            (with(good, -0.1, 1.0), "-0.1 for `drift`"),
            (with(good, f64::INFINITY, 1.0), "inf for `drift`"),
            (with(good, 0.0, 1.5), "1.5 for `accuracy`"),
            (with(Cost { seconds: f64::NAN, ..good }, 0.0, 1.0), "NaN seconds"),
        ] {
            assert!(record.as_ref().is_err_and(|error| error.contains(words)), "{words}: {record:?}");
        }
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

    /// Hours of work lie under such names.
    #[test]
    fn a_run_keeps_its_key_and_a_record_without_what_later_ones_have_opens() {
        assert_eq!(run(2).key().unwrap(), "4c53335f8fb19c0efd40");
        let record = Record::new("m".into(), &run(2), None);
        let json = serde_json::to_string(&record).unwrap();
        assert!(json.contains(r#""trained":null,"failed":null"#) && !json.contains("found"), "{json}");
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
    }

    #[test]
    fn what_was_found_is_told_and_nothing_that_no_search_finds() {
        let folder = tempfile::tempdir().unwrap();
        let found = Found {
            words: "layer 1".into(),
            dev_loss: Some(0.1 + 0.2),
            seconds: 1.0,
            vector: Some("d".into()),
            temperature: None,
            cost: None,
        };
        let of = |method, found| Record { found, ..Record::new("m".into(), &Run { method, ..run(2) }, None) };
        let record = of(Method::TaskVector, Some(found.clone()));
        record.save(folder.path()).unwrap();
        assert_eq!(Record::open(folder.path(), &record.run).unwrap(), None, "its vector is not there");
        std::fs::write(vector(folder.path(), &record.run.key().unwrap()), "").unwrap();
        assert_eq!(Record::open(folder.path(), &record.run).unwrap(), Some(record));
        for record in [
            of(Method::TaskVector, None),
            of(Method::Icl, Some(found.clone())),
            of(Method::TaskVector, Some(Found { vector: None, ..found.clone() })),
            of(Method::TaskVector, Some(Found { seconds: -1.0, ..found.clone() })),
            of(Method::TaskVector, Some(Found { temperature: Some(0.0), ..found })),
        ] {
            record.save(folder.path()).unwrap();
            let error = Record::open(folder.path(), &record.run).unwrap_err();
            assert!(error.is_file() && error.to_string().contains("remove it"), "{error}");
        }
    }

    #[test]
    fn a_record_is_that_of_the_run_that_asks_and_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let evaluated = |accuracy: f64, asim: f64| {
            let metrics = BTreeMap::from([("accuracy".to_string(), accuracy)]);
            let evaluated = Evaluated { task: "t".into(), examples: 4, metrics, asim: vec![(Some(0), asim)], ..Evaluated::default() };
            BTreeMap::from([("d".to_string(), evaluated)])
        };
        let record = |n: usize| Record { evaluated: evaluated(0.5, 0.25), ..Record::new("m".into(), &run(n), None) };
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
        let trained =
            Some(TrainedRecord { dev_loss: None, dev_cross_entropy: None, steps: 1, seconds: 1.0, parameters: "p".into(), cost: None });
        Record { trained, ..one.clone() }.save(folder.path()).unwrap();
        refused("a training that the run has not");
    }
}
