//! Activations on disk: safetensors with a manifest in its metadata.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::rows::Rows;
use super::{Activations, Positions, TOKEN, shards};
use crate::error::{Error, Result};
use crate::file;
use crate::interrupt;
use crate::kind::is_float;
use crate::libtorch::guarded;
use crate::model::Responses;

const VALUES: &str = "values";
const MANIFEST: &str = "ia2_activations";

#[derive(Serialize, Deserialize)]
struct Manifest {
    ia2: String,
    axes: [String; 4],
    hook_points: Vec<String>,
    lengths: Vec<usize>,
    positions: Positions,
    responses: Responses,
}

/// What to do about a file that is not what was saved.
const REMEDY: &str = "capture the activations again";

impl Manifest {
    /// What the values must keep.
    fn check(&self, values: &Tensor) -> std::result::Result<(), String> {
        let size = values.size();
        let spans = self.responses.rows().iter().map(|row| (row.tokens.prompt.len(), row.tokens.response.len()));
        if spans.clone().any(|(prompt, response)| prompt == 0 || response == 0) {
            return Err("a response without tokens".into());
        }
        let lengths: Vec<usize> = spans.map(|(prompt, response)| self.positions.span(prompt, response).1).collect();
        let expected = [lengths.len(), self.hook_points.len(), lengths.iter().copied().max().unwrap_or(0)].map(|axis| axis as i64);
        if self.lengths != lengths || size.len() != 4 || size[..3] != expected {
            return Err(format!("lengths, responses and values {size:?} do not agree"));
        }
        let named = self.hook_points.iter().enumerate().all(|(place, path)| !path.is_empty() && !self.hook_points[..place].contains(path));
        if !named {
            return Err("hook points that are named twice or not at all".into());
        }
        match values.kind() {
            kind if is_float(kind) => Ok(()),
            other => Err(format!("values of kind {other:?}, which are no activations")),
        }
    }
}

impl Activations {
    /// Writes the values and, as the file's metadata, what they are and a checksum over all of it.
    ///
    /// # Errors
    /// The file cannot be written; values in several files on disk do not fit into memory together.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let save = || {
            let manifest = Manifest {
                ia2: env!("CARGO_PKG_VERSION").into(),
                axes: ["example", "layer", "token", "hidden"].map(Into::into),
                hook_points: self.hook_points.clone(),
                lengths: self.lengths.clone(),
                positions: self.positions,
                responses: self.responses.clone(),
            };
            let text = serde_json::to_string(&manifest).map_err(|error| Error::internal("writing the manifest").because(error))?;
            file::write_safetensors(path.as_ref(), &[(VALUES.into(), self.values()?)], HashMap::from([(MANIFEST.into(), text)]))
        };
        guarded("saving activations", || interrupt::saving(save))
    }

    /// Reads what [`Activations::save`] wrote, or opens the shards in a folder that targets were collected into, of which memory then holds what
    /// is read.
    ///
    /// # Errors
    /// A file is missing, truncated, changed since it was written, or holds something else.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        guarded("opening activations", || {
            if path.is_dir() {
                let none = || Error::file(format!("the shards in {} hold no activations", path.display()));
                return shards::open_folder(path)?.activations.ok_or_else(none);
            }
            let (manifest, values, _) = file::read_values::<Manifest>(path, MANIFEST, "activations", REMEDY)?;
            manifest.check(&values).map_err(|what| Error::file(format!("{}: {what}: {REMEDY}", path.display())))?;
            let Manifest { hook_points, lengths, positions, responses, .. } = manifest;
            Ok(Self { rows: Rows::whole(values, TOKEN), hook_points, lengths, positions, responses })
        })
    }
}
