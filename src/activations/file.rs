//! Activations on disk: safetensors with a manifest in its metadata.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::rows::Rows;
use super::{Activations, Positions, TOKEN, shards};
use crate::error::{Error, Result};
use crate::file;
use crate::libtorch::door;
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

impl Activations {
    /// Writes the values and, as the file's metadata, what they are.
    ///
    /// # Errors
    /// The file cannot be written; values in several files on disk do not fit into memory together.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        door("saving activations", || {
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
        })
    }

    /// Reads what [`Activations::save`] wrote, or maps the shards in a folder that targets were collected into.
    ///
    /// # Errors
    /// A file is missing, truncated or holds something else.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        door("opening activations", || {
            if path.is_dir() {
                let none = || Error::file(format!("the shards in {} hold no activations", path.display()));
                return shards::open_folder(path)?.activations.ok_or_else(none);
            }
            let (mut tensors, metadata) = file::read_with_metadata(path)?;
            let foreign = || Error::file(format!("{} holds no activations of this library", path.display()));
            let text = metadata.get(MANIFEST).ok_or_else(foreign)?;
            let manifest: Manifest = serde_json::from_str(text).map_err(|error| foreign().because(error))?;
            let values = tensors.remove(VALUES).ok_or_else(foreign)?;
            let size = values.size();
            if size.len() != 4 || size[0] as usize != manifest.lengths.len() || size[1] as usize != manifest.hook_points.len() {
                return Err(Error::file(format!("{}: values {size:?} and manifest do not agree", path.display())));
            }
            let whole = manifest.responses.len() == manifest.lengths.len();
            if !whole || manifest.lengths.iter().any(|&length| length as i64 > size[2]) {
                return Err(Error::file(format!("{}: lengths, responses and values {size:?} do not agree", path.display())));
            }
            let Manifest { hook_points, lengths, positions, responses, .. } = manifest;
            Ok(Self { rows: Rows::whole(values, TOKEN), hook_points, lengths, positions, responses })
        })
    }
}
