//! The weights of a checkpoint: found, checked and loaded one tensor at a time.

pub(super) mod copy;
#[cfg(test)]
mod memory;
mod shard;
#[cfg(test)]
mod tests;

use super::gguf::Gguf;
use crate::error::{Error, Result};
use shard::Shard;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Component, Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// Names shown in one message; the rest is counted.
const NAMED: usize = 8;

/// An opened checkpoint: safetensors files, mapped, or a GGUF file, whose tensors are taken one by one by name.
///
/// [`Weights::open`] reads only the headers. [`Weights::take`] copies (or de-quantises) one tensor into memory of its own, in small pieces
/// (whose pages of a mapped file are let go at once), so the peak is the weights taken so far plus a few MiB, and no tensor depends on the file afterwards.
/// The order is: `open`, [`Weights::check`] against [`Config::weights`](super::config::Config::weights), `take` each, [`Weights::finish`].
///
/// The files must not be overwritten or cut short *while* they are being loaded, as with every mapped file: the operating system would
/// end the process. The length is checked again before every tensor and each piece's pages are asked for before they are touched (Linux
/// 5.14 and later), which turns all but an unlucky millisecond into an error.
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
#[derive(Clone)]
enum Held {
    Shard(usize),
    Own(String),
}

impl Weights {
    /// Opens `model.safetensors` in a folder, else the shards that `model.safetensors.index.json` lists, and reads the headers; or opens a
    /// GGUF file, whose tensors bear Hugging Face's names here.
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
        let single = place.join("model.safetensors");
        let index = place.join("model.safetensors.index.json");
        let (shards, left) = if single.exists() {
            let shard = Shard::open(&single)?;
            let left = shard.names().into_iter().map(|name| (name, Held::Shard(0))).collect();
            (vec![shard], left)
        } else if index.exists() {
            open_index(place, &index)?
        } else {
            return Err(nothing_to_open(place));
        };
        Ok(Self { place: place.to_owned(), sources: Sources::Shards(shards), left, taken: BTreeSet::new(), device, kind })
    }

    /// The tensors of an opened GGUF file.
    pub(super) fn of_gguf(file: Gguf, device: Device, kind: Option<Kind>) -> Result<Self> {
        check_kind(kind)?;
        let left = file.names().into_iter().map(|(name, own)| (name, Held::Own(own))).collect();
        let (place, kind) = (file.path().to_owned(), Some(kind.unwrap_or(file.kind())));
        Ok(Self { place, sources: Sources::Gguf(Box::new(file)), left, taken: BTreeSet::new(), device, kind })
    }
    /// The names of the tensors that are still to be taken, sorted.
    pub fn names(&self) -> Vec<String> {
        self.left.keys().cloned().collect()
    }

    /// The shape of a tensor that is still to be taken; `None` if there is none of that name.
    pub fn shape(&self, name: &str) -> Option<Vec<i64>> {
        match (&self.sources, self.left.get(name)?) {
            (Sources::Shards(shards), Held::Shard(at)) => shards.get(*at)?.shape(name),
            (Sources::Gguf(file), Held::Own(own)) => file.shape(own),
            _ => None,
        }
    }

    /// The size in bytes, as stored, of the tensors that are still to be taken.
    pub fn bytes(&self) -> usize {
        let bytes = |(name, held): (&String, &Held)| match (&self.sources, held) {
            (Sources::Shards(shards), Held::Shard(at)) => shards.get(*at).map_or(0, |shard| shard.bytes(name)),
            (Sources::Gguf(file), Held::Own(own)) => file.bytes(own),
            _ => 0,
        };
        self.left.iter().map(bytes).sum()
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
                "`{}`: {} asks for other shapes than the weights have: {}; the two do not belong together",
                self.place.display(),
                self.description(),
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
        let Some(held) = self.left.get(name) else {
            return Err(match self.taken.contains(name) {
                true => Error::internal(format!("the weight `{name}` was taken twice")),
                false => self.missing(&[format!("`{name}`")]),
            });
        };
        self.check(&[(name.to_owned(), shape.to_owned())])?;
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
        let mut unused = Vec::new();
        for (name, held) in &self.left {
            if name.ends_with(".rotary_emb.inv_freq") {
                continue;
            }
            if name == "lm_head.weight" && self.taken.contains("model.embed_tokens.weight") {
                if self.equals_embedding(held)? {
                    continue;
                }
                return Err(Error::file(format!(
                    "`{}`: config.json ties the output layer to the embedding, but `lm_head.weight` is stored and differs from it: \
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
                list(&unused),
                self.description()
            ))),
        }
    }

    fn equals_embedding(&self, head: &Held) -> Result<bool> {
        let embedding = "model.embed_tokens.weight";
        // In GGUF an output layer that is stored is one of its own.
        let (Sources::Shards(shards), Held::Shard(head)) = (&self.sources, head) else { return Ok(false) };
        let Some(holder) = shards.iter().find(|shard| shard.shape(embedding).is_some()) else { return Ok(false) };
        shards[*head].same_bytes("lm_head.weight", holder, embedding)
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
        Error::file(format!("`{}`: {} of the weights are missing: {}; {hint}", self.place.display(), names.len(), list(names)))
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

fn check_kind(kind: Option<Kind>) -> Result<()> {
    match kind {
        None | Some(Kind::Float | Kind::Double | Kind::BFloat16 | Kind::Half) => Ok(()),
        Some(kind) => Err(Error::input(format!("weights cannot be loaded as {kind:?}: choose Float (f32), BFloat16 or Half (f16)"))),
    }
}

/// The shards, and for each tensor its shard's place in the list.
type Indexed = (Vec<Shard>, BTreeMap<String, Held>);

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
        left.extend(tensors.into_iter().map(|tensor| (tensor.to_owned(), Held::Shard(shards.len()))));
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
