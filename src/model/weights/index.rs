//! Which files of a folder hold a checkpoint.

use super::shard::Shard;
use crate::display::few;
use crate::error::{Error, Result};
use crate::file;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// One file, else the shards that an index lists, else shards that are known by their names.
pub(super) fn open(folder: &Path) -> Result<Indexed> {
    let (single, index) = (folder.join(SINGLE), folder.join(INDEX));
    if single.exists() {
        let shard = Shard::open(&single)?;
        let left = shard.names().into_iter().map(|name| (name, 0)).collect();
        return Ok((vec![shard], left));
    }
    if index.exists() {
        return open_index(folder, &index);
    }
    match numbered(folder)? {
        shards if shards.is_empty() => Err(nothing_to_open(folder)),
        shards => open_numbered(folder, &shards),
    }
}

/// The shards, and for each tensor its shard's place in the list.
pub(super) type Indexed = (Vec<Shard>, BTreeMap<String, usize>);

fn open_index(folder: &Path, path: &Path) -> Result<Indexed> {
    let place = format!("`{}`", path.display());
    let again = "download the index again";
    let text = file::text(path, file::Holds::Vocabulary).map_err(|error| Error::file(format!("{place} cannot be read")).because(error))?;
    let json: serde_json::Value = serde_json::from_str(&text).map_err(|error| {
        let what = file::misidentified(text.as_bytes(), "index").unwrap_or_else(|| format!("is not valid JSON: {again}"));
        Error::file(format!("{place} {what}")).because(error)
    })?;
    let map = json.get("weight_map").and_then(serde_json::Value::as_object).filter(|map| !map.is_empty());
    let map = map.ok_or_else(|| Error::file(format!("{place} has no `weight_map` object that names tensors: {again}")))?;

    let mut files: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (tensor, file) in map {
        let file = file.as_str().ok_or_else(|| Error::file(format!("{place}: the file of `{tensor}` is not a string: {again}")))?;
        // A shard lies next to its index: any other path would let a downloaded model read anywhere on the disk.
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
            few(&absent)
        )));
    }

    let (mut shards, mut left) = (Vec::new(), BTreeMap::new());
    for (file, tensors) in files {
        let shard = Shard::open(&folder.join(file))?;
        let held = shard.names();
        let held: BTreeSet<&str> = held.iter().map(String::as_str).collect();
        let differing = |message: &str, names: Vec<&&str>| {
            let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
            Error::file(format!("{place} {message} `{file}`: {}; download both again", few(&names)))
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

/// The names of all shards of a folder without an index; none where no file is called like one.
fn numbered(folder: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    file::numbered_shards(names)
        .map_err(|lack| Error::file(format!("`{}` has no `{INDEX}`, and {lack}: download the index and all shards", folder.display())))
}

fn open_numbered(folder: &Path, names: &[String]) -> Result<Indexed> {
    let (mut shards, mut left) = (Vec::new(), BTreeMap::new());
    for file in names {
        let shard = Shard::open(&folder.join(file))?;
        for tensor in shard.names() {
            if let Some(before) = left.insert(tensor.clone(), shards.len()) {
                return Err(Error::file(format!(
                    "`{}` has no `{INDEX}`, and both `{}` and `{file}` hold a tensor `{tensor}`: download the index and all shards",
                    folder.display(),
                    names[before]
                )));
            }
        }
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
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let mut others: Vec<String> =
                entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name.ends_with(".safetensors")).collect();
            others.sort_unstable();
            let others = others.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>();
            let others = if others.is_empty() {
                String::new()
            } else {
                format!(" (but {}, which is not what transformers calls a model's weights)", few(&others))
            };
            Error::file(format!("`{place}` holds neither `{SINGLE}` nor `{INDEX}`{others}: download the weights too"))
        }
    }
}
