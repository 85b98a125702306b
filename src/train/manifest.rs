//! What a run was, so that it can be done again.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::Tensor;

use super::exact::Exact;
use super::{Settings, Stopped, Training};
use crate::adapter::{Adapter, AdapterConfig, FORMAT};
use crate::dataset::Split;
use crate::display::{self, Bundle, Show};
use crate::error::{Error, Result};
use crate::model::{Identity, Model};
use crate::objective::{Objective, Samples};
use crate::{file, libtorch};

/// What a run was: versions, machine, settings, and digests of all that it was made from and came to.
///
/// [`Training::repeat`](super::Training::repeat) does it again, to the same bits on the same machine with as many threads. Digests are
/// SHA-256: of the samples' tokens, of the objective's own data (the targets of IA2), of the model's configuration, tokenizer and all bytes of its
/// weight files (of a merged model, or one made in memory, of all its numbers), and of the parameters at the start and at the end.
///
/// A weight file is read for it once, at the speed of SHA-256 (measured: 0.5 s for 1 GB), and remembered by path, inode, size and times of
/// change: in the process and, from 64 MiB on, in `ia2/digests` of the user's cache folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    pub(super) library: String,
    pub(super) libtorch: String,
    pub(super) device: String,
    pub(super) threads: usize,
    pub(super) phase: u64,
    pub(super) settings: Settings,
    pub(super) adapter: AdapterConfig,
    parameters: i64,
    pub(super) objective: ObjectiveRecord,
    samples: SamplesRecord,
    model: ModelRecord,
    split: SplitRecord,
    /// Of the parameters (and the optimiser's state, if kept) that it went on from.
    pub(super) start: Option<String>,
    pub(super) outcome: Option<Outcome>,
    /// The phases before, from the first.
    pub(super) earlier: Vec<Manifest>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ObjectiveRecord {
    pub name: String,
    parts: Vec<(String, Exact)>,
    data: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SamplesRecord {
    train: usize,
    dev: usize,
    digest: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ModelRecord {
    folder: String,
    kind: String,
    #[serde(flatten)]
    identity: Identity,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SplitRecord {
    task: String,
    run: u64,
    train: usize,
    dev: usize,
    test: usize,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub steps: u64,
    pub stopped: Stopped,
    pub dev_loss: Option<Exact>,
    pub seconds: Exact,
    pub parameters: String,
}

impl Manifest {
    /// Of a run that is about to begin.
    pub(super) fn new(run: &Begun<'_>) -> Result<Self> {
        let Begun { settings, adapter, objective, samples, model, split, start, earlier } = *run;
        let version = libtorch::version().map_or("unknown".into(), |(major, minor, patch)| format!("{major}.{minor}.{patch}"));
        let identity = model.identity()?.clone();
        Ok(Self {
            format: FORMAT,
            library: env!("CARGO_PKG_VERSION").into(),
            libtorch: version,
            device: format!("{:?}", model.device()),
            threads: libtorch::threads(),
            phase: earlier.len() as u64 + 1,
            settings: *settings,
            adapter: adapter.config().clone(),
            parameters: adapter.count(),
            objective: ObjectiveRecord {
                name: objective.name(),
                parts: objective.parts().into_iter().map(|part| (part.name, Exact(part.weight))).collect(),
                data: hex(&objective.identity()),
            },
            samples: SamplesRecord { train: samples.train, dev: samples.rows.len() - samples.train, digest: samples_digest(samples) },
            model: ModelRecord { folder: model.folder().display().to_string(), kind: format!("{:?}", model.kind()), identity },
            split: SplitRecord {
                task: split.task.clone(),
                run: split.run,
                train: split.train.len(),
                dev: split.dev.len(),
                test: split.test.len(),
            },
            start: start.map(|tensors| file::digest(&tensors)),
            outcome: None,
            earlier: earlier.to_vec(),
        })
    }

    /// A digest of everything that decides the run's course: a checkpoint belongs to one.
    pub(super) fn identity(&self) -> Result<String> {
        let text = json(&(&self.settings, &self.adapter, &self.objective, &self.samples, &self.start, self.phase))?;
        let model = json(&(&self.model.kind, &self.model.identity))?;
        Ok(hex((text + &model).as_bytes()))
    }

    /// The phases before this run, from the first.
    pub fn earlier(&self) -> &[Manifest] {
        &self.earlier
    }

    /// The phases before and this one, each alone.
    pub(super) fn chain(&self) -> Vec<Manifest> {
        let mut chain = self.earlier.clone();
        chain.push(Self { earlier: Vec::new(), ..self.clone() });
        chain
    }

    /// Refuses a training that goes on from something else than this run did.
    pub(super) fn check_phase(&self, training: &Training) -> Result<()> {
        let earlier = training.start.as_ref().and_then(|start| start.earlier.as_ref()).map_or(0, |earlier| earlier.manifests.len());
        if earlier != self.earlier.len() {
            let all = self.earlier.len();
            return Err(Error::input(format!(
                "the run of the manifest came after {all} others, this one comes after {earlier}: repeat each of `earlier()` in turn, and name the one before by `after`"
            )));
        }
        if self.start.is_some() != training.start.is_some() {
            return Err(Error::input(
                "the run of the manifest went on from an adapter: give it by `start_from`; or it did not, and this one does",
            ));
        }
        Ok(())
    }

    /// Refuses another run than this one, naming what differs.
    pub(super) fn demand(&self, found: &Self) -> Result<()> {
        let pairs = [
            ("the objective", &self.objective.name, &found.objective.name),
            ("the objective's data", &self.objective.data, &found.objective.data),
            ("the samples", &self.samples.digest, &found.samples.digest),
            ("the model's kind", &self.model.kind, &found.model.kind),
            ("the model's configuration", &self.model.identity.config, &found.model.identity.config),
            ("the model's weights", &self.model.identity.weights, &found.model.identity.weights),
        ];
        let mut different: Vec<String> = pairs
            .iter()
            .filter(|(_, then, now)| then != now)
            .map(|(what, then, now)| format!("{what} ({} then, {} now)", brief(then), brief(now)))
            .collect();
        let options = [
            ("the model's tokenizer", &self.model.identity.tokenizer, &found.model.identity.tokenizer),
            ("the adapter it goes on from", &self.start, &found.start),
        ];
        for (what, then, now) in options.into_iter().filter(|(_, then, now)| then != now) {
            let text = |digest: &'_ Option<String>| digest.as_deref().map_or("none", brief).to_string();
            different.push(format!("{what} ({} then, {} now)", text(then), text(now)));
        }
        if self.settings != found.settings || self.adapter != found.adapter {
            different.push("the settings".into());
        }
        if self.objective.parts != found.objective.parts {
            different.push(format!("the objective's parts ({:?} then, {:?} now)", self.objective.parts, found.objective.parts));
        }
        if different.is_empty() {
            return Ok(());
        }
        Err(Error::input(format!("this would not repeat the run of the manifest: different are {}", different.join(", "))))
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// A file that is missing, is no manifest of this version, or was changed since it was written.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        // Earlier ones hold no checksum: what is wrong with them is their age.
        let format = serde_json::from_str::<serde_json::Value>(&file::read_text(path)?).ok().and_then(|value| value["format"].as_u64());
        if let Some(format) = format.filter(|&format| format != u64::from(FORMAT)) {
            return Err(Error::file(format!("{} has format {format}, this library reads {FORMAT}: train again", path.display())));
        }
        let remedy = "take it from where it was saved, or train again";
        let manifest: Self = file::read_json(path, "a manifest of a training", remedy)?;
        let phases = manifest.chain().iter().map(|manifest| manifest.phase).eq(1..=manifest.phase)
            && manifest.earlier.iter().all(|earlier| earlier.earlier.is_empty());
        if !phases {
            return Err(Error::file(format!("{}: its phases are not numbered from 1: {remedy}", path.display())));
        }
        Ok(manifest)
    }

    /// Writes the manifest; what was there is replaced only when all is written.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        file::write(path.as_ref(), self.json()?.as_bytes())
    }

    /// The manifest as JSON, with a checksum over the whole of it.
    ///
    /// # Errors
    /// Never for a manifest that a run gave.
    pub fn json(&self) -> Result<String> {
        file::json(self)
    }
}

impl Show for Manifest {
    fn bundle(&self) -> Bundle {
        match self.json() {
            Ok(json) => Bundle::text(json),
            Err(error) => Bundle::text(error.to_string()),
        }
    }
}

/// A run that is about to begin.
#[derive(Clone, Copy)]
pub(super) struct Begun<'a> {
    pub settings: &'a Settings,
    pub adapter: &'a Adapter,
    pub objective: &'a dyn Objective,
    pub samples: &'a Samples,
    pub model: &'a Model,
    pub split: &'a Split,
    pub start: Option<[&'a Tensor; 3]>,
    pub earlier: &'a [Manifest],
}

fn samples_digest(samples: &Samples) -> String {
    let mut digest = Sha256::new();
    digest.update((samples.train as u64).to_le_bytes());
    for row in &samples.rows {
        for ids in [&row.prompt, &row.response] {
            digest.update((ids.len() as u64).to_le_bytes());
            ids.iter().for_each(|id| digest.update(id.to_le_bytes()));
        }
    }
    format!("{:x}", digest.finalize())
}

fn hex(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// Digests are told apart by their beginnings.
fn brief(text: &str) -> &str {
    if text.len() == 64 { &text[..12] } else { text }
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::internal("writing JSON").because(error))
}

/// `best dev loss 0.41`, for a heading.
pub(super) fn loss_text(loss: f64) -> String {
    format!("dev loss {}", display::number(loss))
}
