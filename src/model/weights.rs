//! The weights of a checkpoint: found, checked and loaded one tensor at a time.

mod copy;
mod index;
mod kinds;
#[cfg(test)]
mod memory;
mod names;
mod shard;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use names::{all, first};
use shard::Shard;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// An opened checkpoint: safetensors files whose tensors are taken one by one by name.
///
/// [`Weights::open`] reads only the headers. [`Weights::take`] reads one tensor into memory of its own, so the peak is the weights taken so
/// far, and no tensor depends on the file afterwards.
/// The order is: `open`, [`Weights::check`] against [`Config::weights`](super::config::Config::weights), `take` each, [`Weights::finish`].
///
/// Nothing is mapped: a file that is cut short while it is being loaded is an error, where touching a mapped page that is gone would end the
/// process.
pub struct Weights {
    folder: PathBuf,
    shards: Vec<Shard>,
    /// Which shard holds a tensor that is still to be taken.
    left: BTreeMap<String, usize>,
    taken: BTreeSet<String>,
    device: Device,
    kind: Option<Kind>,
}

impl Weights {
    /// Opens `model.safetensors` in `folder`, else the shards that `model.safetensors.index.json` lists, else all of
    /// `model-00001-of-0000N.safetensors` to `model-0000N-of-0000N.safetensors`, and reads the headers.
    ///
    /// Tensors will be put on `device` and converted to `kind`, which is f32, bf16, f16 or (to verify) f64, or kept as stored when `None`.
    ///
    /// A file error says which file is missing, empty, truncated, no safetensors file, or not what the index promises, and what to do.
    pub fn open(folder: impl AsRef<Path>, device: Device, kind: Option<Kind>) -> Result<Self> {
        if let Some(kind) = kind
            && !matches!(kind, Kind::Float | Kind::Double | Kind::BFloat16 | Kind::Half)
        {
            return Err(Error::input(format!("weights cannot be loaded as {kind:?}: choose Float (f32), BFloat16 or Half (f16)")));
        }
        let folder = folder.as_ref();
        let (shards, left) = index::open(folder)?;
        Ok(Self { folder: folder.to_owned(), shards, left, taken: BTreeSet::new(), device, kind })
    }

    /// Refuses files that this library saved and that were changed since, and others beside them than were saved with them.
    pub(crate) fn check_saved(&self) -> Result<()> {
        self.shards.iter().try_for_each(|shard| shard.check_saved(&self.folder))
    }

    /// The files, for the model's identity.
    pub(crate) fn sources(&self) -> Result<Vec<super::identity::Source>> {
        self.shards.iter().map(Shard::source).collect()
    }

    /// The names of the tensors that are still to be taken, sorted.
    pub fn names(&self) -> Vec<String> {
        self.left.keys().cloned().collect()
    }

    /// The shape of a tensor that is still to be taken; `None` if there is none of that name.
    pub fn shape(&self, name: &str) -> Option<Vec<i64>> {
        self.left.get(name).and_then(|&shard| self.shards[shard].shape(name))
    }

    /// The size in bytes, as stored, of the tensors that are still to be taken.
    pub fn bytes(&self) -> usize {
        self.left.iter().map(|(name, &shard)| self.shards[shard].bytes(name)).sum()
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
            (true, false) => Err(Error::file(format!("`{}`: {}", self.folder.display(), self.misshaped(&misshaped)))),
            (false, true) => Err(self.missing(&missing)),
            (false, false) => Err(self.missing(&missing).context(self.misshaped(&misshaped))),
        }
    }

    fn misshaped(&self, names: &[String]) -> String {
        format!("config.json asks for other shapes than the weight files hold: {}; the two do not belong together", all(names))
    }

    fn check_kinds(&self, expected: &[(String, Vec<i64>)]) -> Result<()> {
        let places = || expected.iter().filter_map(|(name, _)| Some((name.as_str(), &self.shards[*self.left.get(name)?])));
        if self.kind.is_none() {
            kinds::demand_one(&self.folder, places())?;
        }
        kinds::demand_plausible(places())
    }

    /// Loads the tensor `name`, whose shape must be `shape`: contiguous, without gradient, on the device and in the kind of
    /// [`Weights::open`].
    ///
    /// A file error names a tensor that is missing, taken already, of another shape or of an unsupported kind; a numeric error one that
    /// holds NaN or infinity (as stored, or by conversion to f16).
    pub fn take(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let Some(&at) = self.left.get(name) else {
            return Err(match self.taken.contains(name) {
                true => Error::internal(format!("the weight `{name}` was taken twice")),
                false => self.missing(&[format!("`{name}`")]),
            });
        };
        if let Some(found) = self.shape(name).filter(|found| found != shape) {
            let misshaped = self.misshaped(&[format!("`{name}` (needed {shape:?}, found {found:?})")]);
            return Err(Error::file(format!("`{}`: {misshaped}", self.folder.display())));
        }
        let tensor = self.shards[at].load(name)?;
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
        let mut unused = Vec::new();
        for (name, &shard) in &self.left {
            if name.ends_with(".rotary_emb.inv_freq") {
                continue;
            }
            if name == "lm_head.weight" && self.taken.contains("model.embed_tokens.weight") {
                if self.equals_embedding(shard)? {
                    continue;
                }
                return Err(Error::file(format!(
                    "`{}`: config.json ties the output layer to the embedding, but `lm_head.weight` is stored and differs from it: \
                     set `tie_word_embeddings` to false in config.json if the model has an output layer of its own",
                    self.folder.display()
                )));
            }
            unused.push(format!("`{name}`"));
        }
        match unused.is_empty() {
            true => Ok(()),
            false => Err(Error::file(format!(
                "`{}`: the model has no place for {} of the stored weights: {}; config.json and the weight files do not belong together",
                self.folder.display(),
                unused.len(),
                first(&unused)
            ))),
        }
    }

    fn equals_embedding(&self, head: usize) -> Result<bool> {
        let embedding = "model.embed_tokens.weight";
        let Some(holder) = self.shards.iter().find(|shard| shard.shape(embedding).is_some()) else { return Ok(false) };
        self.shards[head].same_bytes("lm_head.weight", holder, embedding)
    }

    fn missing(&self, names: &[String]) -> Error {
        let hint = if names.iter().any(|name| name == "`lm_head.weight`") && names.len() == 1 {
            "config.json says that the output layer is not tied to the embedding (`tie_word_embeddings`)"
        } else if self.left.contains_key("embed_tokens.weight") {
            "this is a model saved without its output layer; save the `...ForCausalLM` model instead"
        } else if self.left.keys().any(|name| name.contains("lora_")) {
            "these are an adapter's weights; open the base model first"
        } else {
            "config.json and the weight files do not belong together, or the download is incomplete"
        };
        Error::file(format!("`{}`: {} of the weights are missing: {}; {hint}", self.folder.display(), names.len(), all(names)))
    }
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Weights(`{}`, {} tensors, {:.1} MiB left)",
            self.folder.display(),
            self.left.len(),
            self.bytes() as f64 / f64::from(1 << 20)
        )
    }
}
