//! A run's state on disk: one safetensors file, replaced whole.

use std::collections::HashMap;
use std::path::Path;

use super::optimizer::Moments;
use super::run::Loop;
use super::state::State;
use crate::error::{Error, Result};
use crate::file;

const STATE: &str = "ia2_training";
const IDENTITY: &str = "ia2_identity";

pub(super) fn store(run: &Loop<'_>, path: &Path) -> Result<()> {
    let tensors = [
        ("parameters".to_string(), run.adapter.parameters().flat().shallow_clone()),
        ("adam.first".to_string(), run.moments.first.shallow_clone()),
        ("adam.second".to_string(), run.moments.second.shallow_clone()),
        ("best".to_string(), run.best.shallow_clone()),
    ];
    let state = State { optimizer_steps: run.moments.steps, ..run.state.clone() };
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
            "{} belongs to another run (its settings, model, adapter or data differ): use one file per run, or delete it",
            path.display()
        )));
    }
    let state: State =
        serde_json::from_str(state).map_err(|error| Error::file(format!("{} has a malformed state", path.display())).because(error))?;
    let mut take = |name: &str| {
        let tensor = tensors.remove(name).filter(|tensor| tensor.size() == run.best.size());
        tensor
            .ok_or_else(|| Error::file(format!("{} lacks `{name}` of the right size", path.display())))
            .map(|tensor| tensor.to_device(run.best.device()))
    };
    let (parameters, first, second, best) = (take("parameters")?, take("adam.first")?, take("adam.second")?, take("best")?);
    run.adapter.parameters().set(&parameters)?;
    run.moments = Moments { first, second, steps: state.optimizer_steps };
    (run.best, run.state) = (best, state);
    Ok(())
}
