//! The weights of a checkpoint: found, checked and loaded one tensor at a time.

mod copy;
#[cfg(test)]
mod memory;
mod shard;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use shard::Shard;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Component, Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// Names shown in one message; the rest is counted.
const NAMED: usize = 8;

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
    /// Opens `model.safetensors` in `folder`, else the shards that `model.safetensors.index.json` lists, and reads the headers.
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
        let single = folder.join("model.safetensors");
        let index = folder.join("model.safetensors.index.json");
        let (shards, left) = if single.exists() {
            let shard = Shard::open(&single)?;
            let left = shard.names().into_iter().map(|name| (name, 0)).collect();
            (vec![shard], left)
        } else if index.exists() {
            open_index(folder, &index)?
        } else {
            return Err(nothing_to_open(folder));
        };
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

    /// Compares names and shapes with the `expected` ones before anything is loaded.
    ///
    /// A file error names the missing and the mis-shaped tensors; an unused tensor is left to [`Weights::finish`].
    pub fn check(&self, expected: &[(String, Vec<i64>)]) -> Result<()> {
        let missing: Vec<String> =
            expected.iter().filter(|(name, _)| !self.left.contains_key(name)).map(|(name, _)| format!("`{name}`")).collect();
        if !missing.is_empty() {
            return Err(self.missing(&missing));
        }
        let shaped = expected.iter().filter_map(|(name, shape)| {
            let found = self.shape(name)?;
            (found != *shape).then(|| format!("`{name}` (needed {shape:?}, found {found:?})"))
        });
        let shaped: Vec<String> = shaped.collect();
        match shaped.is_empty() {
            true => Ok(()),
            false => Err(Error::file(format!(
                "`{}`: config.json asks for other shapes than the weight files hold: {}; the two do not belong together",
                self.folder.display(),
                list(&shaped)
            ))),
        }
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
        self.check(&[(name.to_owned(), shape.to_owned())])?;
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
                list(&unused)
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
        Error::file(format!("`{}`: {} of the weights are missing: {}; {hint}", self.folder.display(), names.len(), list(names)))
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

/// The shards, and for each tensor its shard's place in the list.
type Indexed = (Vec<Shard>, BTreeMap<String, usize>);

fn open_index(folder: &Path, path: &Path) -> Result<Indexed> {
    let place = format!("`{}`", path.display());
    let again = "download the index again";
    let text = std::fs::read_to_string(path).map_err(|error| Error::file(format!("{place} cannot be read")).because(error))?;
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| Error::file(format!("{place} is not valid JSON: {again}")).because(error))?;
    let map = json.get("weight_map").and_then(serde_json::Value::as_object).filter(|map| !map.is_empty());
    let map = map.ok_or_else(|| Error::file(format!("{place} has no `weight_map` object that names tensors: {again}")))?;

    let mut files: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (tensor, file) in map {
        let file = file.as_str().ok_or_else(|| Error::file(format!("{place}: the file of `{tensor}` is not a string: {again}")))?;
        // A shard lies beside its index: any other path would let a downloaded model read anywhere on the disk.
        let mut parts = Path::new(file).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
            return Err(Error::file(format!(
                "{place}: the file of `{tensor}` is `{file}`, but must be a plain file name in the same folder"
            )));
        }
        files.entry(file).or_default().insert(tensor);
    }
    let absent: Vec<String> = files.keys().filter(|file| !folder.join(file).exists()).map(|file| format!("`{file}`")).collect();
    if !absent.is_empty() {
        return Err(Error::file(format!(
            "`{}`: {} of the {} shards that the index lists are missing: {}; download them again",
            folder.display(),
            absent.len(),
            files.len(),
            list(&absent)
        )));
    }

    let (mut shards, mut left) = (Vec::new(), BTreeMap::new());
    for (file, tensors) in files {
        let shard = Shard::open(&folder.join(file))?;
        let held = shard.names();
        let held: BTreeSet<&str> = held.iter().map(String::as_str).collect();
        let differing = |message: &str, names: Vec<&&str>| {
            let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
            Error::file(format!("{place} {message} `{file}`: {}; download both again", list(&names)))
        };
        let absent: Vec<&&str> = tensors.difference(&held).collect();
        if !absent.is_empty() {
            return Err(differing("lists tensors that are not in", absent));
        }
        let unlisted: Vec<&&str> = held.difference(&tensors).collect();
        if !unlisted.is_empty() {
            return Err(differing("does not list these tensors of", unlisted));
        }
        left.extend(tensors.into_iter().map(|tensor| (tensor.to_owned(), shards.len())));
        shards.push(shard);
    }
    Ok((shards, left))
}

fn nothing_to_open(folder: &Path) -> Error {
    let place = folder.display();
    if !folder.is_dir() {
        return Error::file(format!(
            "`{place}` is not a folder: a model is a folder with config.json, model.safetensors and tokenizer.json"
        ));
    }
    let pickled = ["pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth"];
    match pickled.into_iter().find(|name| folder.join(name).exists()) {
        Some(name) => Error::file(format!(
            "`{place}` holds its weights only as `{name}`, a Python pickle, which can run code when it is read and is therefore not opened: \
             convert it in Python with `AutoModelForCausalLM.from_pretrained(\"{place}\").save_pretrained(\"<new folder>\")`, \
             or take a revision of the model with safetensors files"
        )),
        None => {
            Error::file(format!("`{place}` holds neither `model.safetensors` nor `model.safetensors.index.json`: download the weights too"))
        }
    }
}

/// The first names, and how many more there are.
fn list(names: &[String]) -> String {
    match names.len() > NAMED {
        true => format!("{} and {} more", names[..NAMED].join(", "), names.len() - NAMED),
        false => names.join(", "),
    }
}
