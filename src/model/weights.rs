//! The weights of a checkpoint: found, checked and loaded one tensor at a time.

pub(super) mod copy;
mod index;
mod kinds;
#[cfg(test)]
mod memory;
mod names;
pub(super) mod opened;
mod shard;
#[cfg(test)]
mod tests;

use super::gguf::Gguf;
use super::storage::Ending;
use crate::display::few;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::kind::is_float;
use names::all;
use shard::Shard;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// An opened checkpoint: safetensors files or a GGUF file, whose tensors are taken one by one by name.
///
/// [`Weights::open`] reads only the headers. [`Weights::take`] reads (or de-quantises) one tensor into memory of its own, so the peak is the weights taken so
/// far, and no tensor depends on the file afterwards.
/// The order is: `open`, [`Weights::check`] against [`Config::weights`](super::config::Config::weights), `take` each, [`Weights::finish`].
///
/// Nothing is mapped: a file that is cut short while it is being loaded is an error, where touching a mapped page that is gone would end the
/// process.
pub struct Weights {
    /// The folder, or the file that is all.
    place: PathBuf,
    sources: Sources,
    /// Where a tensor is that is still to be taken.
    left: BTreeMap<String, Held>,
    taken: BTreeSet<String>,
    device: Device,
    kind: Option<Kind>,
}

/// What holds the tensors.
enum Sources {
    Shards(Vec<Shard>),
    Gguf(Box<Gguf>),
}

/// The place of a tensor: its shard's in the list, or its name in the GGUF file.
enum Held {
    Shard(usize),
    Own(String),
}

impl Weights {
    /// Opens `model.safetensors` in a folder, else the shards that `model.safetensors.index.json` lists, else all of
    /// `model-00001-of-0000N.safetensors` to `model-0000N-of-0000N.safetensors`, and reads the headers; or opens a GGUF file, whose tensors
    /// bear Hugging Face's names here.
    ///
    /// Tensors will be put on `device` and converted to `kind`, which is f32, bf16, f16 or (to verify) f64, or kept as stored when `None`;
    /// quantised ones become bf16 then.
    ///
    /// A file error says which file is missing, empty, truncated, of another format, or not what the index promises, and what to do.
    pub fn open(place: impl AsRef<Path>, device: Device, kind: Option<Kind>) -> Result<Self> {
        let place = place.as_ref();
        if place.is_file() {
            return Self::of_gguf(Gguf::open(place)?, device, kind);
        }
        check_kind(kind)?;
        let (shards, left) = index::open(place)?;
        let left = left.into_iter().map(|(name, shard)| (name, Held::Shard(shard))).collect();
        Ok(Self { place: place.to_owned(), sources: Sources::Shards(shards), left, taken: BTreeSet::new(), device, kind })
    }

    /// The tensors of an opened GGUF file.
    pub(super) fn of_gguf(file: Gguf, device: Device, kind: Option<Kind>) -> Result<Self> {
        check_kind(kind)?;
        let left = file.names().into_iter().map(|(name, own)| (name, Held::Own(own))).collect();
        let (place, kind) = (file.path().to_owned(), Some(kind.unwrap_or(file.kind())));
        Ok(Self { place, sources: Sources::Gguf(Box::new(file)), left, taken: BTreeSet::new(), device, kind })
    }

    /// Refuses files that this library saved and that were changed since, and others next to them than were saved with them.
    pub(crate) fn check_saved(&self) -> Result<()> {
        self.shards().iter().try_for_each(|shard| shard.check_saved(&self.place))
    }

    /// The files, for the model's identity.
    pub(crate) fn sources(&self) -> Result<Vec<crate::file::Source>> {
        match &self.sources {
            Sources::Shards(shards) => shards.iter().map(Shard::source).collect(),
            Sources::Gguf(file) => Ok(vec![file.source()?]),
        }
    }

    /// None for a GGUF file.
    fn shards(&self) -> &[Shard] {
        match &self.sources {
            Sources::Shards(shards) => shards,
            Sources::Gguf(_) => &[],
        }
    }

    /// The shard that holds a tensor that is still to be taken.
    fn shard(&self, name: &str) -> Option<&Shard> {
        match self.left.get(name)? {
            Held::Shard(at) => self.shards().get(*at),
            Held::Own(_) => None,
        }
    }

    /// The names of the tensors that are still to be taken, sorted.
    pub fn names(&self) -> Vec<String> {
        self.left.keys().cloned().collect()
    }

    /// The shape of a tensor that is still to be taken; `None` if there is none of that name.
    pub fn shape(&self, name: &str) -> Option<Vec<i64>> {
        match (&self.sources, self.left.get(name)?) {
            (Sources::Gguf(file), Held::Own(own)) => file.shape(own),
            _ => self.shard(name)?.shape(name),
        }
    }

    /// The size in bytes, as stored, of the tensors that are still to be taken.
    pub fn bytes(&self) -> usize {
        let bytes = |(name, held): (&String, &Held)| match (&self.sources, held) {
            (Sources::Gguf(file), Held::Own(own)) => file.bytes(own),
            _ => self.shard(name).map_or(0, |shard| shard.bytes(name)),
        };
        self.left.iter().map(bytes).sum()
    }

    /// Compares names, shapes and kinds with what the configuration asks for before anything is loaded.
    ///
    /// # Errors
    /// A file error names *all* missing and all mis-shaped tensors (layers of which the same lacks are one entry, `model.layers.{0-3}.mlp`);
    /// else the tensors that are of another kind than most, unless [`Weights::open`] was given one kind for all; else 16-bit weights whose
    /// numbers make sense only as the other 16-bit kind than their header says. An unused tensor is left to [`Weights::finish`].
    pub fn check(&self, expected: &[(String, Vec<i64>)]) -> Result<()> {
        let (mut missing, mut misshaped) = (Vec::new(), Vec::new());
        for (name, shape) in expected {
            match self.shape(name) {
                None => missing.push(format!("`{name}`")),
                Some(found) if found != *shape => misshaped.push(format!("`{name}` (needed {shape:?}, found {found:?})")),
                Some(_) => {}
            }
        }
        match (missing.is_empty(), misshaped.is_empty()) {
            (true, true) => self.check_kinds(expected),
            (true, false) => Err(Error::file(format!("`{}`: {}", self.place.display(), self.misshaped(&misshaped)))),
            (false, true) => Err(self.missing(&missing)),
            (false, false) => Err(self.missing(&missing).context(self.misshaped(&misshaped))),
        }
    }

    fn misshaped(&self, names: &[String]) -> String {
        let description = self.description();
        format!("the weights have other shapes than {description} needs: {}; the two do not belong together", all(names))
    }

    fn check_kinds(&self, expected: &[(String, Vec<i64>)]) -> Result<()> {
        let places = || expected.iter().filter_map(|(name, _)| Some((name.as_str(), self.shard(name)?)));
        if self.kind.is_none() {
            kinds::demand_one(&self.place, places())?;
        }
        kinds::demand_plausible(places())
    }

    /// Loads the tensor `name`, whose shape must be `shape`: contiguous, without gradient, on the device and in the kind of
    /// [`Weights::open`].
    ///
    /// A file error names a tensor that is missing, taken already, of another shape or of an unsupported kind; a numeric error one that
    /// holds NaN or infinity (as stored, or by conversion to f16).
    pub fn take(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let (taken, all) = (self.taken.len(), self.taken.len() + self.left.len());
        interrupt::at(taken as u64, all as u64, "weights")?;
        let Some(held) = self.left.get(name) else {
            return Err(match self.taken.contains(name) {
                true => Error::internal(format!("the weight `{name}` was taken twice")),
                false => self.missing(&[format!("`{name}`")]),
            });
        };
        if let Some(found) = self.shape(name).filter(|found| found != shape) {
            let misshaped = self.misshaped(&[format!("`{name}` (needed {shape:?}, found {found:?})")]);
            return Err(Error::file(format!("`{}`: {misshaped}", self.place.display())));
        }
        let tensor = match (&self.sources, held, self.kind) {
            (Sources::Shards(shards), Held::Shard(at), _) => shards[*at].load(name)?,
            (Sources::Gguf(file), Held::Own(own), Some(kind)) => file.load(name, own, kind)?,
            _ => return Err(Error::internal(format!("the weight `{name}` is nowhere"))),
        };
        let tensor = match self.kind {
            Some(kind) if kind != tensor.f_kind()? => {
                let converted = tensor.f_to_kind(kind)?;
                // f16 ends at 65504: what was finite in bf16 or f32 need not be finite any more.
                copy::demand_finite(&converted, || format!("the weight `{name}`, converted to {kind:?},"))?;
                converted
            }
            _ => tensor,
        };
        let tensor = if self.device == Device::Cpu { tensor } else { tensor.f_to_device(self.device)? };
        self.left.remove(name);
        self.taken.insert(name.to_owned());
        Ok(tensor)
    }

    /// Ends the loading: tensors that nobody took are a file error that names them.
    ///
    /// Two kinds are tolerated, because they hold nothing new: rotary frequencies (`*.rotary_emb.inv_freq`), which follow from the
    /// configuration, and an `lm_head.weight` that equals a taken `model.embed_tokens.weight` byte for byte, as tied models may store.
    pub fn finish(self) -> Result<()> {
        let (embedding, head) = ("model.embed_tokens.weight".to_owned(), "lm_head.weight".to_owned());
        self.finish_as(&Ending { embedding, head, ignored: &[".rotary_emb.inv_freq"] })
    }

    /// The same for a family with names of its own.
    pub(super) fn finish_as(self, ending: &Ending) -> Result<()> {
        let ignored = |name: &str| {
            ending.ignored.iter().any(|part| if part.starts_with('.') { name.ends_with(part) } else { name.starts_with(part) })
        };
        let mut unused = Vec::new();
        for name in self.left.keys() {
            if ignored(name) {
                continue;
            }
            if *name == ending.head && self.taken.contains(&ending.embedding) {
                if self.equals_embedding(ending)? {
                    continue;
                }
                return Err(Error::file(format!(
                    "`{}`: config.json ties the output layer to the embedding, but `{name}` is stored and differs from it: \
                     set `tie_word_embeddings` to false in config.json if the model has an output layer of its own",
                    self.place.display()
                )));
            }
            unused.push(format!("`{name}`"));
        }
        match unused.is_empty() {
            true => Ok(()),
            false => Err(Error::file(format!(
                "`{}`: the model has no place for {} of the stored weights: {}; {} and the weights do not belong together",
                self.place.display(),
                unused.len(),
                few(&unused),
                self.description()
            ))),
        }
    }

    fn equals_embedding(&self, Ending { embedding, head, .. }: &Ending) -> Result<bool> {
        // In GGUF an output layer that is stored is one of its own.
        let Some(own) = self.shard(head) else { return Ok(false) };
        let Some(holder) = self.shards().iter().find(|shard| shard.shape(embedding).is_some()) else { return Ok(false) };
        own.same_bytes(head, holder, embedding)
    }

    /// What says which weights there must be.
    fn description(&self) -> &'static str {
        match self.sources {
            Sources::Shards(_) => "config.json",
            Sources::Gguf(_) => "its metadata",
        }
    }

    fn missing(&self, names: &[String]) -> Error {
        let hint = if names.iter().any(|name| name == "`lm_head.weight`") && names.len() == 1 {
            "config.json says that the output layer is not tied to the embedding (`tie_word_embeddings`)"
        } else if self.left.contains_key("embed_tokens.weight") {
            "this is a model saved without its output layer; save the `...ForCausalLM` model instead"
        } else if self.left.keys().any(|name| name.contains("lora_")) {
            "these are an adapter's weights; open the base model first"
        } else if matches!(self.sources, Sources::Gguf(_)) {
            "its metadata promise a larger model, or the file is of a layout that is not known"
        } else {
            "config.json and the weight files do not belong together, or the download is incomplete"
        };
        Error::file(format!("`{}`: {} of the weights are missing: {}; {hint}", self.place.display(), names.len(), all(names)))
    }
}

fn check_kind(kind: Option<Kind>) -> Result<()> {
    match kind {
        Some(kind) if !is_float(kind) => {
            Err(Error::input(format!("weights cannot be loaded as {kind:?}: choose Float (f32), BFloat16 or Half (f16)")))
        }
        _ => Ok(()),
    }
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Weights(`{}`, {} tensors, {:.1} MiB left)",
            self.place.display(),
            self.left.len(),
            self.bytes() as f64 / f64::from(1 << 20)
        )
    }
}
