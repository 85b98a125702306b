//! A collection on disk: safetensors files, each whole with its responses, of which memory holds what is read.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tch::Kind;

use super::collect::Collected;
use super::rows::Rows;
use super::stored::{Stored, digests};
use super::{Activations, Distributions, Positions, TOKEN};
use crate::error::{Error, Result};
use crate::file::{self, Head, Source};
use crate::interrupt;
use crate::kind::{self, is_float};
use crate::model::Responses;

const MANIFEST: &str = "ia2_shard";
const VALUES: &str = "values";
const PROBABILITIES: &str = "probabilities";
const IDS: &str = "ids";
#[derive(Serialize, Deserialize)]
struct Manifest {
    ia2: String,
    /// A digest of what the collection was made from: files of one collection agree in it.
    identity: String,
    shard: usize,
    shards: usize,
    hook_points: Vec<String>,
    positions: Positions,
    vocab: i64,
    responses: Responses,
    /// Of each tensor's examples, by the tensors' names: each is compared when it is first read, not all of the file when it is opened.
    digests: BTreeMap<String, Vec<String>>,
}

/// One opened file.
pub(super) struct Shard {
    manifest: Manifest,
    values: Option<Stored>,
    probabilities: Option<Stored>,
    ids: Option<Stored>,
}

pub(super) fn path(folder: &Path, shard: usize, shards: usize) -> PathBuf {
    folder.join(format!("shard-{:05}-of-{shards:05}.safetensors", shard + 1))
}

/// The files of a folder that look like shards, in their order.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |error| Error::file(format!("cannot read the folder {}", folder.display())).because(error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with("shard-") && name.ends_with(".safetensors") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Writes one part of a collection, whole or not at all.
pub(super) fn write(folder: &Path, (shard, shards): (usize, usize), identity: &str, part: &Collected) -> Result<()> {
    let mut tensors = Vec::new();
    let (mut hook_points, mut positions, mut vocab) = (Vec::new(), Positions::Response, 0);
    if let Some(activations) = &part.activations {
        tensors.push((VALUES.to_string(), activations.values()?));
        (hook_points, positions) = (activations.hook_points().to_vec(), activations.positions());
    }
    if let Some(distributions) = &part.distributions {
        let (probabilities, ids) = distributions.tensors()?;
        tensors.push((PROBABILITIES.to_string(), probabilities));
        tensors.extend(ids.map(|ids| (IDS.to_string(), ids)));
        vocab = distributions.vocab();
    }
    let (ia2, identity, responses) = (env!("CARGO_PKG_VERSION").into(), identity.into(), part.responses.clone());
    let digests = tensors.iter().map(|(name, tensor)| (name.clone(), digests(tensor))).collect();
    let manifest = Manifest { ia2, identity, shard, shards, hook_points, positions, vocab, responses, digests };
    let text = file::json(&manifest)?;
    file::write_safetensors(&path(folder, shard, shards), &tensors, HashMap::from([(MANIFEST.into(), text)]))
}

/// Opens one file, and reads its header alone, which holds a checksum of its own.
pub(super) fn open(path: &Path) -> Result<Shard> {
    let shown = path.display();
    let damaged = |what: String| Error::file(format!("{shown} {what}: delete it, and its part of the collection will be computed again"));
    let unreadable = |error| Error::file(format!("cannot read {shown}")).because(error);
    let source = Arc::new(Source::open(path).map_err(unreadable)?);
    let head = Head::read(source.file(), source.size()).map_err(unreadable)?;
    let head = head.map_err(|(_, error)| damaged("is no whole safetensors file (truncated?)".into()).because(error))?;
    let foreign = || Error::file(format!("{shown} is no part of a collection of this library: choose another folder"));
    let text = head.text(MANIFEST).ok_or_else(foreign)?;
    let manifest: Manifest = serde_json::from_str(text).map_err(|error| damaged("has a malformed manifest".into()).because(error))?;
    if !matches!(file::holds(text.as_bytes(), std::io::empty()), Ok(Some(true))) {
        return Err(damaged("has a manifest that was changed or damaged after it was written".into()));
    }
    let take = |name: &str| match (head.metadata.info(name), manifest.digests.get(name)) {
        (None, None) => Ok(None),
        (Some(info), Some(digests)) => {
            let size = info.shape.iter().map(|&axis| axis as i64).collect();
            let kind = kind::of_dtype(info.dtype);
            let stored = kind.and_then(|kind| Stored::new(&source, (head.bytes.len() + info.data_offsets.0) as u64, size, kind, digests));
            stored.map(Some).ok_or_else(|| damaged(format!("holds `{name}` of another type or size than its manifest says")))
        }
        _ => Err(damaged(format!("does not hold what its manifest says of `{name}`"))),
    };
    let (values, probabilities, ids) = (take(VALUES)?, take(PROBABILITIES)?, take(IDS)?);
    let shard = Shard { values, probabilities, ids, manifest };
    shard.check().map_err(damaged)?;
    Ok(shard)
}

impl Shard {
    /// What a manifest promises and the tensors must keep.
    fn check(&self) -> std::result::Result<(), String> {
        let Manifest { hook_points, positions, responses, vocab, .. } = &self.manifest;
        let rows = responses.len() as i64;
        let spans = || responses.rows().iter().map(|row| (row.tokens.prompt.len(), row.tokens.response.len()));
        if rows == 0 || spans().any(|(prompt, response)| prompt == 0 || response == 0) {
            return Err("has a manifest without responses".into());
        }
        let longest =
            |length: fn(Positions, (usize, usize)) -> usize| spans().map(|span| length(*positions, span)).max().unwrap_or(0) as i64;
        if let Some(values) = &self.values {
            let tokens = longest(|positions, (prompt, response)| positions.span(prompt, response).1);
            let size = values.size();
            if size.len() != 4 || size[..3] != [rows, hook_points.len() as i64, tokens] {
                return Err(format!(
                    "holds values {size:?} where its manifest says {rows} examples, {} layers, {tokens} tokens",
                    hook_points.len()
                ));
            }
        }
        if let Some(probabilities) = &self.probabilities {
            let tokens = longest(|_, (_, response)| response);
            let size = probabilities.size();
            let ids = self.ids.as_ref().map(Stored::size);
            let whole = ids.map_or(size.last() == Some(vocab), |ids| ids == size);
            if size.len() != 3 || size[..2] != [rows, tokens] || !whole {
                return Err(format!("holds probabilities {size:?} where its manifest says {rows} examples, {tokens} tokens"));
            }
        }
        let floats = |stored: &Stored| is_float(stored.kind());
        let kinds = [&self.values, &self.probabilities].into_iter().flatten().all(floats);
        if !kinds || self.ids.as_ref().is_some_and(|ids| ids.kind() != Kind::Int64) {
            return Err("holds tensors of other kinds than a collection's".into());
        }
        Ok(())
    }

    /// True if it is part `shard` of `shards` of the collection with this digest.
    pub(super) fn belongs(&self, identity: &str, shard: usize, shards: usize) -> bool {
        let manifest = &self.manifest;
        manifest.identity == identity && (manifest.shard, manifest.shards) == (shard, shards)
    }
}

/// A whole collection from its parts in order.
pub(super) fn join(parts: Vec<Shard>) -> Result<Collected> {
    let Some(first) = parts.first() else { return Err(Error::internal("a collection without parts")) };
    let Manifest { identity, hook_points, positions, vocab, .. } = &first.manifest;
    let (identity, hook_points, positions, vocab) = (identity.clone(), hook_points.clone(), *positions, *vocab);
    let form = first.manifest.responses.form().clone();
    let shape = |part: &Shard| {
        let inner = |stored: &Option<Stored>| stored.as_ref().map(|stored| (stored.kind(), stored.size().last().copied()));
        (inner(&part.values), inner(&part.probabilities), inner(&part.ids))
    };
    let alike = |part: &Shard| {
        let manifest = &part.manifest;
        (&manifest.hook_points, manifest.positions, manifest.vocab) == (&hook_points, positions, vocab)
            && manifest.responses.form() == &form
    };
    if parts.iter().any(|part| !alike(part) || shape(part) != shape(first)) {
        return Err(Error::file(
            "the files of a collection do not hold the same hook points, positions, widths or kinds: delete the folder and collect again",
        ));
    }
    let (mut rows, mut values, mut probabilities, mut ids) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let count = parts.len();
    for part in parts {
        rows.extend(part.manifest.responses.rows().iter().cloned());
        values.extend(part.values);
        probabilities.extend(part.probabilities);
        ids.extend(part.ids);
    }
    if [&values, &probabilities, &ids].iter().any(|pieces| !pieces.is_empty() && pieces.len() != count) {
        return Err(Error::file("the files of a collection do not hold the same tensors: delete the folder and collect again"));
    }
    let responses = Responses::from_rows(form, rows);
    let lengths = responses.rows().iter().map(|row| positions.span(row.tokens.prompt.len(), row.tokens.response.len()).1).collect();
    let activations = (!values.is_empty()).then(|| Activations {
        rows: Rows::pieces(values, TOKEN, identity.clone()),
        hook_points,
        lengths,
        positions,
        responses: responses.clone(),
    });
    let distributions =
        (!probabilities.is_empty()).then(|| Distributions::of_pieces(probabilities, ids, vocab, responses.clone(), &identity));
    Ok(Collected { responses, activations, distributions })
}

/// The collection in a folder.
///
/// # Errors
/// A file is missing, damaged, or of another collection: each named.
pub(super) fn open_folder(folder: &Path) -> Result<Collected> {
    let files = files(folder)?;
    let mut parts = Vec::with_capacity(files.len());
    for (place, file) in files.iter().enumerate() {
        interrupt::at(place as u64, files.len() as u64, "files")?;
        parts.push(open(file)?);
    }
    let Some(first) = parts.first() else {
        return Err(Error::file(format!(
            "{} holds no shards of a collection: collect into it by `.shards(folder)`, or name another",
            folder.display()
        )));
    };
    let (identity, shards) = (first.manifest.identity.clone(), first.manifest.shards);
    for (place, part) in parts.iter().enumerate() {
        if !part.belongs(&identity, place, shards) {
            let file = files[place].display();
            return Err(Error::file(format!(
                "{file} is not shard {} of {shards} of the collection: one is missing, or of another",
                place + 1
            )));
        }
    }
    if parts.len() != shards {
        return Err(Error::file(format!("{} holds {} of {shards} shards: collect again to make the rest", folder.display(), parts.len())));
    }
    join(parts)
}
