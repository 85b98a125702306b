//! The models of a grid: open, or opened when one is first needed.

use std::cell::OnceCell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tch::Device;

use super::record::ModelId;
use crate::error::{Error, Result};
use crate::kind;
use crate::model::{Model, OpenOptions};

/// A model that a grid is of.
#[derive(Clone)]
pub(super) struct LazyModel(Rc<Inner>);

struct Inner {
    place: PathBuf,
    device: Option<Device>,
    id: OnceCell<ModelId>,
    model: OnceCell<Model>,
}

impl LazyModel {
    pub(super) fn open(model: &Model) -> Self {
        let inner = Inner { place: model.folder().into(), device: Some(model.device()), id: OnceCell::new(), model: OnceCell::new() };
        let _ = inner.model.set(model.clone());
        Self(Rc::new(inner))
    }

    /// One that lies at `place` and must be the one of this identity. Without a device it is opened on the best.
    pub(super) fn closed(place: PathBuf, id: ModelId, device: Option<Device>) -> Self {
        let inner = Inner { place, device, id: OnceCell::new(), model: OnceCell::new() };
        let _ = inner.id.set(id);
        Self(Rc::new(inner))
    }

    /// The model, opened by the first who asks.
    pub(super) fn get(&self) -> Result<&Model> {
        if self.0.model.get().is_none() {
            let _ = self.0.model.set(self.opened()?);
        }
        self.0.model.get().ok_or_else(|| Error::internal("a model that was opened got lost"))
    }

    fn opened(&self) -> Result<Model> {
        let (place, id) = (&self.0.place, self.id()?);
        let kind = kind::written(&id.kind)
            .ok_or_else(|| Error::file(format!("the plan wants the model in `{}`, which is no kind of weights", id.kind)))?;
        let options = self.0.device.map_or(OpenOptions::new(), |device| OpenOptions::new().device(device)).kind(kind);
        let here = super::cluster::host();
        // Its words would speak of names and the hub, where one path is meant.
        if !place.exists() {
            return Err(Error::file(format!(
                "the model of the plan is not on this machine ({here}): there is no {}; is its disk mounted here? Put it there, or prepare \
                 the grid again with a model on a disk that all nodes share",
                place.display()
            )));
        }
        let model = options.open(place).map_err(|error| error.context(format_args!("opening the model of the plan on {here}")))?;
        match id_of(&model)? {
            own if own == *id => Ok(model),
            _ => Err(Error::file(format!(
                "the model at {} on {here} is not the one that the plan was made with: its weights, configuration or tokenizer differ. Put that \
                 one there, or prepare the grid again with this one",
                place.display()
            ))),
        }
    }

    /// Which model it is; of an open one all bytes are read the first time.
    pub(super) fn id(&self) -> Result<&ModelId> {
        if self.0.id.get().is_none() {
            let _ = self.0.id.set(id_of(self.get()?)?);
        }
        self.0.id.get().ok_or_else(|| Error::internal("a model's identity got lost"))
    }

    /// The folder or file that it was, or will be, opened from.
    pub(super) fn place(&self) -> &Path {
        &self.0.place
    }

    /// The name of its folder, for people.
    pub(super) fn name(&self) -> String {
        let folder = self.place();
        folder.file_name().map_or_else(|| folder.display().to_string(), |name| name.to_string_lossy().into_owned())
    }
}

impl fmt::Debug for LazyModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.model.get() {
            Some(model) => model.fmt(f),
            None => write!(f, "Model({}, not opened yet)", self.place().display()),
        }
    }
}

fn id_of(model: &Model) -> Result<ModelId> {
    if model.is_adapted() {
        return Err(Error::input(
            "an experiment starts from a model without an adapter or a vector: give `model.base()`, or merge the adapter and save it",
        ));
    }
    Ok(ModelId { kind: format!("{:?}", model.kind()), identity: model.identity()?.clone() })
}
