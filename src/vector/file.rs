//! Vectors on disk: safetensors with a manifest in its metadata.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::{Kind as Number, Tensor};

use super::{Edit, MadeFor, Tried, Vector, VectorKind};
use crate::error::{Error, Result};
use crate::file;
use crate::interrupt;
use crate::libtorch::guarded;
use crate::model::Model;
use crate::train::exact;

const VALUES: &str = "values";
const TRIED: &str = "tried";
const EFFECTS: &str = "effects";
const MANIFEST: &str = "ia2_vector";

/// Columns of what was tried: layer, strength, number of heads, dev loss.
const COLUMNS: i64 = 4;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    ia2: String,
    kind: VectorKind,
    edit: Edit,
    layer: usize,
    #[serde(with = "exact")]
    strength: f64,
    heads: Vec<(usize, usize)>,
    made_for: MadeFor,
}

/// What to do about a file that is not what was saved.
const REMEDY: &str = "find the vector again";

impl Vector {
    /// Writes its values, what it is, what was tried on dev (and a function vector's effects of heads) into one safetensors file with a checksum.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let save = || {
            let (tensors, text) = self.content()?;
            file::write_safetensors(path.as_ref(), &tensors, HashMap::from([(MANIFEST.into(), text)]))
        };
        guarded("saving a vector", || interrupt::saving(save))
    }

    /// Reads what [`Vector::save`] wrote, for the model that it was made on.
    ///
    /// # Errors
    /// A file that is missing, truncated, changed since it was written, or holds something else; another model.
    pub fn open(path: impl AsRef<Path>, model: &Model) -> Result<Self> {
        let path = path.as_ref();
        guarded("opening a vector", || {
            let (manifest, values, mut others) = file::read_values::<Manifest>(path, MANIFEST, "vector", REMEDY)?;
            let (tried, effects) = (others.remove(TRIED), others.remove(EFFECTS));
            let vector = manifest.vector(values, tried, effects);
            let vector = vector.map_err(|what| Error::file(format!("{}: {what}: {REMEDY}", path.display())))?;
            vector.check_fit(model).map_err(|error| error.context(path.display()))?;
            Ok(vector)
        })
    }

    /// SHA-256 of all that it is.
    ///
    /// # Errors
    /// When its settings cannot be written as JSON: a bug.
    pub(crate) fn digest(&self) -> Result<String> {
        let (tensors, text) = self.content()?;
        let mut digest = Sha256::new();
        digest.update(text);
        for (name, tensor) in &tensors {
            digest.update(format!("{name} {:?} {:?} ", tensor.kind(), tensor.size()));
            digest.update(file::content(tensor));
        }
        Ok(format!("{:x}", digest.finalize()))
    }

    fn content(&self) -> Result<(Vec<(String, Tensor)>, String)> {
        let mut tensors = vec![(VALUES.to_string(), self.values.shallow_clone())];
        if !self.tried.is_empty() {
            let row = |row: &Tried| [row.layer as f64, row.strength, row.heads as f64, row.dev_loss];
            let rows: Vec<f64> = self.tried.iter().flat_map(row).collect();
            tensors.push((TRIED.into(), Tensor::from_slice(&rows).view([-1, COLUMNS])));
        }
        tensors.extend(self.effects.iter().map(|effects| (EFFECTS.into(), effects.shallow_clone())));
        let manifest = Manifest {
            ia2: env!("CARGO_PKG_VERSION").into(),
            kind: self.kind,
            edit: self.edit,
            layer: self.layer,
            strength: self.strength,
            heads: self.heads.clone(),
            made_for: self.made_for.clone(),
        };
        Ok((tensors, serde_json::to_string(&manifest).map_err(|error| Error::internal("writing the manifest").because(error))?))
    }
}

impl Manifest {
    fn vector(self, values: Tensor, tried: Option<Tensor>, effects: Option<Tensor>) -> std::result::Result<Vector, String> {
        let Self { kind, edit, layer, strength, heads, made_for, .. } = self;
        let wide = |tensor: &Tensor| matches!(tensor.kind(), Number::Float | Number::Double);
        let finite = |tensor: &Tensor| tensor.isfinite().all().int64_value(&[]) == 1;
        if values.size() != [made_for.hidden] || !wide(&values) || !finite(&values) {
            return Err(format!("values {:?} that are no vector of [{}]", values.size(), made_for.hidden));
        }
        if layer >= made_for.layers || !strength.is_finite() {
            return Err(format!("layer {layer} of {} or strength {strength}", made_for.layers));
        }
        if heads.iter().any(|(layer, _)| *layer >= made_for.layers) {
            return Err("heads of a layer that the model has not".into());
        }
        let effects = match effects {
            Some(effects) if effects.size().len() != 2 || effects.kind() != Number::Double || !finite(&effects) => {
                return Err(format!("effects {:?} of kind {:?}", effects.size(), effects.kind()));
            }
            Some(effects) if heads.iter().any(|(_, head)| *head as i64 >= effects.size()[1]) => {
                return Err("a head that the model has not".into());
            }
            effects => effects,
        };
        let tried = match tried {
            None => Vec::new(),
            Some(tried) if tried.size().len() != 2 || tried.size()[1] != COLUMNS || tried.kind() != Number::Double || !finite(&tried) => {
                return Err(format!("what was tried as {:?} of kind {:?}", tried.size(), tried.kind()));
            }
            Some(tried) => {
                let rows: Vec<Vec<f64>> = Vec::try_from(&tried).map_err(|_| "what was tried in a form that is no table".to_string())?;
                let row = |row: Vec<f64>| Tried { layer: row[0] as usize, strength: row[1], heads: row[2] as usize, dev_loss: row[3] };
                rows.into_iter().map(row).collect()
            }
        };
        Ok(Vector { kind, edit, layer, strength, values, heads, tried, effects, reading: None, made_for })
    }
}
