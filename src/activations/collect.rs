//! One pass of generation that keeps responses, activations and distributions, in memory or in shards on disk.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tch::Device;

use super::distributions::Filling;
use super::store::Store;
use super::{Activations, Capture, Distributions, Keep, memory, shards};
use crate::display::{Bundle, Show};
use crate::error::{Error, Result};
use crate::file;
use crate::interrupt;
use crate::model::reading::Watch;
use crate::model::{Generation, Model, Responses};
use crate::nn::Hooks;
use crate::progress::Progress;
use crate::prompt::Prompts;

/// Bytes of one shard, unless set.
const SHARD: u64 = 512 << 20;

/// What a pass gives.
#[derive(Clone, Debug)]
pub(crate) struct Collected {
    pub responses: Responses,
    pub activations: Option<Activations>,
    pub distributions: Option<Distributions>,
}

/// Where a collection lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageLocation {
    /// In the memory of a device.
    Memory(Device),
    /// In this number of files in a folder: memory holds what is read.
    Shards(PathBuf, usize),
}

/// What a collection will take, before anything is computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectionPlan {
    /// How many prompts are answered.
    pub examples: usize,
    /// The most tokens of a response.
    pub tokens: usize,
    /// The hook points of the activations.
    pub hook_points: Vec<String>,
    /// Bytes of the activations, if every response is as long as it may be.
    pub activation_bytes: u64,
    /// Bytes of the distributions, if every response is as long as it may be.
    pub distribution_bytes: u64,
    /// Bytes that are free on the device, or the budget given.
    pub free_bytes: u64,
    /// Where they go: a device if they take at most half of what is free there, since training needs room as well; else shards.
    pub place: StorageLocation,
}

/// A collection to be made; every setting but the prompts has a default.
#[derive(Clone, Debug)]
pub(crate) struct Collection {
    pub model: Model,
    pub prompts: Prompts,
    pub settings: Generation,
    pub capture: Option<Capture>,
    pub keep: Option<Keep>,
    /// The model's unless set.
    pub device: Option<Device>,
    pub folder: Option<PathBuf>,
    pub budget: Option<u64>,
    pub shard_bytes: Option<u64>,
}

/// Responses to prompts, and what was asked for of the forwards that made them: nothing is computed twice.
pub(super) fn one_pass(
    model: &Model,
    prompts: &Prompts,
    settings: &Generation,
    capture: Option<&Capture>,
    keep: Option<(Keep, Device)>,
) -> Result<Collected> {
    let rows = model.encode(prompts)?;
    let settings = &model.reaching(prompts, settings)?;
    let (limit, context) = (settings.max_new_tokens(), model.config().max_positions);
    // Before memory is reserved for them.
    if limit as u64 > context as u64 {
        return Err(Error::input(format!("responses of up to {limit} tokens, but the model's context is {context}: set a lower limit")));
    }
    let store = match capture {
        None => None,
        Some(capture) => {
            let spans: Vec<(usize, usize)> = rows.iter().map(|row| capture.positions.span(row.len(), limit)).collect();
            let plan = capture.plan_for(model, rows.len(), spans.iter().map(|span| span.1).max().unwrap_or(0))?;
            Some((capture, Store::new(capture, model, plan, spans, rows.iter().map(Vec::len).collect())?))
        }
    };
    let filling = keep.map(|(keep, device)| Filling::new(keep, model, rows.len(), limit, device)).transpose()?;
    let watch = if capture.is_none_or(|capture| capture.positions.is_narrow()) { Watch::End } else { Watch::Pieces };
    let generated = {
        let mut hooks = Hooks::new();
        if let Some((capture, store)) = &store {
            hooks.observe(&capture.pattern, |point, value| store.put(point, point.examples, value));
        }
        if let Some(filling) = &filling {
            hooks.observe("lm_head", |point, logits| filling.put(point, logits));
        }
        hooks.bind(model.points())?;
        model.generate_hooked(&rows, settings, Some(&mut hooks), watch)?
    };
    let responses = Responses::new(prompts, generated);
    let activations = store.map(|(capture, store)| store.finish(capture.positions, responses.clone())).transpose()?;
    let distributions = filling.map(|filling| filling.finish(responses.clone())).transpose()?;
    Ok(Collected { responses, activations, distributions })
}

impl Collection {
    /// What will be stored and where, before it runs.
    ///
    /// # Errors
    /// What is asked for does not fit the model, or does not fit into memory and no folder is given.
    pub(crate) fn plan(&self) -> Result<CollectionPlan> {
        let examples = self.prompts.len();
        if examples == 0 {
            return Err(Error::input("there are no prompts to collect targets of"));
        }
        let tokens = self.model.reaching(&self.prompts, &self.settings)?.max_new_tokens();
        let (vocab, context) = (self.model.config().vocab_size, self.model.config().max_positions);
        if tokens as u64 > context as u64 {
            return Err(Error::input(format!(
                "targets of up to {tokens} response tokens, but the model's context is {context}: set a lower `max_new_tokens`"
            )));
        }
        let capture = self.capture.as_ref().map(|capture| capture.plan_for(&self.model, examples, tokens)).transpose()?;
        self.keep.map_or(Ok(()), |keep| keep.check(vocab))?;
        let activation_bytes = capture.as_ref().map_or(0, |plan| plan.bytes);
        let distribution_bytes = self.keep.map_or(0, |keep| keep.bytes(&self.model, examples, tokens));
        let bytes = activation_bytes + distribution_bytes;
        let device = self.device.unwrap_or(self.model.device());
        let free_bytes = self.budget.unwrap_or_else(|| memory::free(device));
        let begun =
            self.folder.as_ref().is_some_and(|folder| folder.is_dir() && shards::files(folder).is_ok_and(|files| !files.is_empty()));
        let place = match &self.folder {
            // A collection that has begun on disk goes on there.
            _ if bytes <= free_bytes / 2 && !begun => StorageLocation::Memory(device),
            Some(folder) => StorageLocation::Shards(folder.clone(), examples.div_ceil(self.examples_per_shard(bytes))),
            None => {
                return Err(Error::input(format!(
                    "the targets of {examples} prompts with up to {tokens} tokens take {} ({} of activations, {} of distributions), more than \
                     half of the {} free on {device:?}: give a folder for them with `.shards(folder)`, or{} choose fewer hook points or layers, \
                     `Keep::Top(k)`, a smaller kind, or shorter responses",
                    size(bytes),
                    size(activation_bytes),
                    size(distribution_bytes),
                    size(free_bytes),
                    if device.is_cuda() { " hold them in `.device(Device::Cpu)`, or" } else { "" }
                )));
            }
        };
        let hook_points = capture.map(|plan| plan.hook_points).unwrap_or_default();
        Ok(CollectionPlan { examples, tokens, hook_points, activation_bytes, distribution_bytes, free_bytes, place })
    }

    /// Independent of what is free, so that a later run finds the same shards.
    fn examples_per_shard(&self, bytes: u64) -> usize {
        let each = (bytes / self.prompts.len() as u64).max(1);
        (self.shard_bytes.unwrap_or(SHARD) / each).clamp(1, self.prompts.len() as u64) as usize
    }

    /// Computes all, or what is missing on disk.
    ///
    /// # Errors
    /// As [`Collection::plan`] and [`Model::respond`]; a shard that is damaged or of another collection; one that cannot be written.
    pub(crate) fn collect(&self) -> Result<Collected> {
        match self.plan()?.place {
            StorageLocation::Memory(device) => self.pass(&self.prompts, device),
            StorageLocation::Shards(folder, count) => self.to_disk(&folder, count),
        }
    }

    fn pass(&self, prompts: &Prompts, device: Device) -> Result<Collected> {
        let capture = self.capture.clone().map(|capture| capture.device(device));
        one_pass(&self.model, prompts, &self.settings, capture.as_ref(), self.keep.map(|keep| (keep, device)))
    }

    fn to_disk(&self, folder: &Path, count: usize) -> Result<Collected> {
        file::folder(folder)?;
        let identity = self.identity()?;
        let rows: Vec<_> = self.prompts.iter().cloned().collect();
        let mut parts = Vec::with_capacity(count);
        let mut progress = Progress::new("targets", rows.len() as u64);
        // A part is filled where the model is, if there is ample room: one copy to the file in place of one per layer and token.
        let room = memory::free(self.model.device()) / 4 > self.shard_bytes.unwrap_or(SHARD);
        let device = if room { self.model.device() } else { Device::Cpu };
        let expected: Vec<PathBuf> = (0..count).map(|shard| shards::path(folder, shard, count)).collect();
        if let Some(other) = shards::files(folder)?.into_iter().find(|file| !expected.contains(file)) {
            return Err(foreign(&other));
        }
        for (shard, prompts) in rows.chunks(rows.len().div_ceil(count)).enumerate() {
            let path = &expected[shard];
            interrupt::keeps(format!("{shard} of {count} files are in {}: the same call goes on from there", folder.display()));
            interrupt::at(shard as u64, count as u64, "files")?;
            if !path.exists() {
                let part = self.pass(&Prompts::new(prompts.to_vec()).with_form(self.prompts.form().clone()), device)?;
                shards::write(folder, (shard, count), &identity, &part)?;
            }
            let part = shards::open(path)?;
            if !part.belongs(&identity, shard, count) {
                return Err(foreign(path));
            }
            parts.push(part);
            progress.tick(prompts.len() as u64, "");
        }
        progress.finish();
        shards::join(parts)
    }

    /// A digest of all that decides what is collected.
    fn identity(&self) -> Result<String> {
        let mut digest = Sha256::new();
        let model = &self.model;
        let prompts = serde_json::to_string(&self.prompts).map_err(|error| Error::internal("writing prompts").because(error))?;
        let capture = self.capture.as_ref().map(|capture| (&capture.pattern, capture.positions, capture.kind));
        for text in [
            format!("{:?} {:?} {:?}", model.identity()?, model.kind(), model.adapter_digest()),
            format!("{:?} {capture:?} {:?}", self.settings, self.keep),
            prompts,
        ] {
            digest.update(text.len().to_le_bytes());
            digest.update(text);
        }
        Ok(format!("{:x}", digest.finalize()))
    }
}

fn foreign(path: &Path) -> Error {
    Error::input(format!(
        "{} belongs to another collection (model, prompts, hook points or settings differ): use one folder per collection, or delete it",
        path.display()
    ))
}

/// Bytes in the largest unit that leaves at least 1.
fn size(bytes: u64) -> String {
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} bytes"),
    }
}

impl CollectionPlan {
    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.activation_bytes + self.distribution_bytes
    }
}

impl Show for CollectionPlan {
    fn bundle(&self) -> Bundle {
        let place = match &self.place {
            StorageLocation::Memory(device) => format!("in the memory of {device:?}"),
            StorageLocation::Shards(folder, count) => format!("in {count} shards in {}", folder.display()),
        };
        Bundle::text(format!(
            "CollectionPlan({} prompts, up to {} tokens each: {} of activations at {} hook points, {} of distributions, {} free: {place})",
            self.examples,
            self.tokens,
            size(self.activation_bytes),
            self.hook_points.len(),
            size(self.distribution_bytes),
            size(self.free_bytes)
        ))
    }
}
