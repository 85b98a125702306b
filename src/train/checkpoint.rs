//! A run's state on disk: one safetensors file, replaced whole.

use std::collections::HashMap;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{Loop, State};
use crate::error::{Error, Result};
use crate::file;

const STATE: &str = "ia2_training";
const IDENTITY: &str = "ia2_identity";

/// A digest of everything that decides a run's course: settings, adapter and its start, samples, targets.
pub(super) fn identity(run: &Loop<'_>) -> String {
    let training = run.training;
    let mut digest = Sha256::new();
    let text = format!("{:?} {:?} {} {:?}", training.settings, training.adapter, training.objective.name(), run.samples);
    digest.update(text);
    digest.update(training.objective.identity());
    if let Some(start) = &training.start {
        digest.update(file::content(start.parameters().flat()));
    }
    format!("{:x}", digest.finalize())
}

pub(super) fn store(run: &Loop<'_>, path: &Path) -> Result<()> {
    let tensors = [
        ("parameters".to_string(), run.adapter.parameters().flat().shallow_clone()),
        ("adam.first".to_string(), run.adam.first.shallow_clone()),
        ("adam.second".to_string(), run.adam.second.shallow_clone()),
        ("best".to_string(), run.best.shallow_clone()),
    ];
    // JSON has no infinity: before the first dev check there is no best loss.
    let mut state = run.state.clone();
    if state.best_dev.is_infinite() {
        state.best_dev = f64::MAX;
    }
    let state = serde_json::to_string(&state).map_err(|error| Error::internal("writing the training state").because(error))?;
    file::write_safetensors(path, &tensors, HashMap::from([(STATE.into(), state), (IDENTITY.into(), run.identity.clone())]))
}

/// Continues from the file if it is there.
pub(super) fn restore(run: &mut Loop<'_>, path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let (mut tensors, metadata) = file::read_with_metadata(path)?;
    let (Some(state), Some(identity)) = (metadata.get(STATE), metadata.get(IDENTITY)) else {
        return Err(Error::file(format!("{} is no training checkpoint: choose another file name", path.display())));
    };
    if *identity != run.identity {
        return Err(Error::input(format!(
            "{} belongs to another run (its settings, adapter or data differ): use one file per run, or delete it",
            path.display()
        )));
    }
    let mut state: State =
        serde_json::from_str(state).map_err(|error| Error::file(format!("{} has a malformed state", path.display())).because(error))?;
    if state.best_dev == f64::MAX {
        state.best_dev = f64::INFINITY;
    }
    let mut take = |name: &str| {
        let tensor = tensors.remove(name).filter(|tensor| tensor.size() == run.best.size());
        tensor
            .ok_or_else(|| Error::file(format!("{} lacks `{name}` of the right size", path.display())))
            .map(|tensor| tensor.to_device(run.best.device()))
    };
    let (parameters, first, second, best) = (take("parameters")?, take("adam.first")?, take("adam.second")?, take("best")?);
    run.adapter.parameters().set(&parameters)?;
    (run.adam.first, run.adam.second, run.adam.steps) = (first, second, state.step as i64);
    (run.best, run.state) = (best, state);
    Ok(())
}
