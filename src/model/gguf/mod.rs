//! Models in GGUF, the files of llama.cpp: what a folder of `config.json`, `tokenizer.json` and weights says, in one file.
//!
//! The metadata become the same JSON that such a folder holds, so that everything behind is shared; the weights are de-quantised one by one.
//! A family says in its table entry how llama.cpp stores it ([`Layout`]); nothing here knows of one.

mod blocks;
mod container;
pub(super) mod layout;
mod metadata;
mod tensors;
#[cfg(test)]
mod tests;
mod tokens;

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json, json};
use tch::Kind;

use super::family::Family;
use super::storage::Storage;
use super::weights::opened::Opened;
use crate::error::{Error, Result};
use crate::file;
use container::{Header, List, Value};
use layout::Layout;

/// What is looked at of a file that may be something else.
const GLANCE: u64 = 512;

/// Matrices that llama.cpp keeps in F32 whatever the others are in, and that say nothing of them.
const IN_F32: [&str; 2] = ["position_embd.weight", "ffn_gate_inp.weight"];

/// An opened file: its header, and its data to be read.
pub(super) struct Gguf {
    file: Opened,
    header: Header,
    family: Family,
    layout: Layout,
}

impl Gguf {
    /// Reads the header and checks that all the data are there.
    ///
    /// A file error says what is damaged, truncated, unknown or not supported.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = Opened::open(path)?;
        let place = format!("`{}`", path.display());
        let mut first = Vec::new();
        // One that cannot be read is found out below.
        let _ = file::From(file.file(), 0).take(GLANCE).read_to_end(&mut first);
        let read = match file::misidentified(&first, "model") {
            Some(what) => Err(what),
            None => container::read(file.file(), file.length()),
        };
        let header = read.map_err(|wrong| Error::file(format!("{place} {wrong}")))?;
        let architecture = match header.metadata.get("general.architecture") {
            Some(Value::Text(name)) => name,
            _ => return Err(Error::file(format!("{place} is damaged: its metadata lack `general.architecture`"))),
        };
        let (family, layout) = Family::in_gguf(architecture, |key| marked(&header, key)).map_err(|error| error.context(&place))?;
        let opened = Self { file, header, family, layout };
        opened.demand_whole_model()?;
        Ok(opened)
    }

    /// A file that holds something besides a model, or only a part of one.
    fn demand_whole_model(&self) -> Result<()> {
        match self.text("general.type")? {
            None | Some("model") => {}
            Some(other) => {
                return Err(self.error(format!("holds a part of the kind `{other}`, and no language model: take the model's file")));
            }
        }
        match self.unsigned("split.count")? {
            None | Some(0 | 1) => Ok(()),
            Some(parts) => Err(self.error(format!(
                "is one of {parts} parts of a model: put them together with llama.cpp's `llama-gguf-split --merge`, or take the model in one file"
            ))),
        }
    }

    /// How the weights are stored under the names that are given here.
    pub(super) fn storage(&self) -> &'static Storage {
        self.layout.storage
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    pub(super) fn source(&self) -> Result<file::Source> {
        self.file.source()
    }

    fn error(&self, wrong: impl std::fmt::Display) -> Error {
        Error::file(format!("`{}` {wrong}", self.path().display()))
    }

    /// The kind in which the weights are opened unless another is asked for: that of the matrices where they are stored as plain numbers of
    /// one kind, bf16 where they are quantised.
    pub(super) fn kind(&self) -> Kind {
        // Norms and biases are kept in F32, whatever the matrices are in.
        let says = |name: &str| !IN_F32.iter().any(|kept| name.ends_with(kept));
        let matrices = self.header.tensors.iter().filter(|(name, stored)| stored.shape.len() > 1 && says(name));
        let mut matrices = matrices.map(|(_, stored)| stored.block.name);
        match matrices.next() {
            Some(first) if matrices.all(|other| other == first) => match first {
                "F32" => Kind::Float,
                "F16" => Kind::Half,
                _ => Kind::BFloat16,
            },
            _ => Kind::BFloat16,
        }
    }

    /// The files of a folder with this model that are no weights: name and content.
    pub(super) fn files(&self) -> Result<Vec<(&'static str, Json)>> {
        let mut files = vec![("config.json", self.config()?)];
        if let Some(tokenizer) = self.tokenizer_json()? {
            files.push(("tokenizer.json", tokenizer));
            files.push(("tokenizer_config.json", self.tokenizer_config()?));
        }
        Ok(files)
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.header.metadata.get(key)
    }

    fn wrong(&self, key: &str, value: &Value, expected: &str) -> Error {
        self.error(format!("is damaged: `{key}` must be {expected}, but is {}", shown(value)))
    }

    fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, other, "a text")),
        }
    }

    fn unsigned(&self, key: &str) -> Result<Option<u64>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Unsigned(number)) => Ok(Some(*number)),
            Some(Value::Signed(number)) if *number >= 0 => Ok(Some(*number as u64)),
            Some(other) => Err(self.wrong(key, other, "a whole number of at least 0")),
        }
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Flag(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.wrong(key, other, "true or false")),
        }
    }

    fn list(&self, key: &str) -> Result<Option<&List>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::List(list)) => Ok(Some(list)),
            Some(other) => Err(self.wrong(key, other, "a list")),
        }
    }

    /// The texts of a list.
    fn texts(&self, key: &str) -> Result<Option<Vec<String>>> {
        let texts = |list: &List| {
            list.texts(self.file.file(), self.file.length()).map_err(|wrong| self.error(format!("is damaged: `{key}` {wrong}")))
        };
        self.list(key)?.map(texts).transpose()
    }

    /// The numbers of a list.
    fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let numbers = |list: &List| {
            list.numbers(self.file.file(), self.file.length()).map_err(|wrong| self.error(format!("is damaged: `{key}` {wrong}")))
        };
        self.list(key)?.map(numbers).transpose()
    }
}

/// A GGUF file in a folder that holds no weights in safetensors, which go before it.
///
/// A file error if there are several: one must be named.
pub(super) fn in_folder(folder: &Path) -> Result<Option<PathBuf>> {
    if ["model.safetensors", "model.safetensors.index.json"].iter().any(|name| folder.join(name).exists()) {
        return Ok(None);
    }
    let mut found = file::gguf_files(folder);
    match found.len() {
        0 | 1 => Ok(found.pop()),
        _ => {
            let names: Vec<String> = found.iter().map(|path| format!("`{}`", path.display())).collect();
            Err(Error::file(format!("`{}` holds several models as GGUF: open one of {}", folder.display(), names.join(", "))))
        }
    }
}

/// Whether the metadata say something under a key, and not 0.
fn marked(header: &Header, key: &str) -> bool {
    header.metadata.get(key).is_some_and(|value| !matches!(value, Value::Unsigned(0) | Value::Signed(0)))
}

/// A value in a message.
fn shown(value: &Value) -> String {
    match value {
        Value::Unsigned(number) => number.to_string(),
        Value::Signed(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Flag(flag) => flag.to_string(),
        Value::Text(text) => format!("{:?}", crate::display::shortened(text, 60)),
        Value::List(list) => format!("a list of {}", list.len()),
    }
}

/// A value as JSON has it; `None` for a list, and for a number that JSON has no word for.
fn as_json(value: &Value) -> Option<Json> {
    match value {
        Value::Unsigned(number) => Some(json!(number)),
        Value::Signed(number) => Some(json!(number)),
        Value::Float(number) => number.is_finite().then(|| json!(number)),
        Value::Flag(flag) => Some(json!(flag)),
        Value::Text(text) => Some(json!(text)),
        Value::List(_) => None,
    }
}

/// A JSON object of what is given.
fn object(pairs: impl IntoIterator<Item = (&'static str, Json)>) -> Json {
    Json::Object(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Map<String, Json>>())
}
