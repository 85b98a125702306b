//! A run's state on disk: one safetensors file, replaced whole.

use std::collections::HashMap;
use std::path::Path;

use super::optimizer::Moments;
use super::run::Loop;
use super::state::State;
use crate::axes;
use crate::error::{Error, Result};
use crate::file;

const STATE: &str = "ia2_training";
const IDENTITY: &str = "ia2_identity";

pub(super) fn store(run: &Loop<'_>, path: &Path) -> Result<()> {
    let mut tensors = vec![
        ("parameters".to_string(), run.adapter.parameters().flat().shallow_clone()),
        ("adam.first".to_string(), run.moments.first.shallow_clone()),
        ("adam.second".to_string(), run.moments.second.shallow_clone()),
        ("best".to_string(), run.best.shallow_clone()),
    ];
    tensors.extend(run.average.as_ref().map(|average| ("average".to_string(), average.flat().shallow_clone())));
    let state = State { optimizer_steps: run.moments.steps, ..run.state.clone() };
    let state = serde_json::to_string(&state).map_err(|error| Error::internal("writing the training state").because(error))?;
    file::write_safetensors(path, &tensors, HashMap::from([(STATE.into(), state), (IDENTITY.into(), run.identity.clone())]))
}

/// What to do about a file that cannot be gone on from.
const REMEDY: &str = "nothing can be gone on from there: delete it, and the run begins anew";

/// Continues from the file if it is there.
pub(super) fn restore(run: &mut Loop<'_>, path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let stored = file::read_tensors(path, REMEDY)?;
    let (Some(state), Some(identity)) = (stored.texts.get(STATE), stored.texts.get(IDENTITY)) else {
        return Err(Error::file(format!("{} is no training checkpoint: choose another file name", path.display())));
    };
    stored.demand_checksum(path, REMEDY)?;
    if *identity != run.identity {
        return Err(Error::input(format!(
            "{} belongs to another run (its settings, model, adapter or data differ): use one file per run, or delete it",
            path.display()
        )));
    }
    let malformed = |what: String| Error::file(format!("{} holds {what}: {REMEDY}", path.display()));
    let state: State = serde_json::from_str(state).map_err(|error| malformed("a malformed state".into()).because(error))?;
    let begun = run.moments.steps;
    state.check(run.total(), begun).map_err(|what| malformed(format!("a state that no run comes to ({what})")))?;
    let take = |name: &str| {
        let tensor = stored.tensors.get(name).filter(|tensor| tensor.size() == run.best.size() && tensor.kind() == run.best.kind());
        let tensor = tensor.ok_or_else(|| malformed(format!("no `{name}` {:?} of {:?}", run.best.size(), run.best.kind())))?;
        axes::finite(tensor, name).map_err(|_| malformed(format!("NaN or infinity in `{name}`")))?;
        Ok::<_, Error>(tensor.to_device(run.best.device()))
    };
    let (parameters, first, second, best) = (take("parameters")?, take("adam.first")?, take("adam.second")?, take("best")?);
    if second.min().double_value(&[]) < 0.0 {
        return Err(malformed("negative numbers in `adam.second`, which are means of squares".into()));
    }
    if let Some(average) = &run.average {
        average.set(&take("average")?)?;
    }
    run.adapter.parameters().set(&parameters)?;
    run.moments = Moments { first, second, steps: state.optimizer_steps };
    (run.best, run.state) = (best, state);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tch::{Kind, Tensor};

    use super::*;
    use crate::adapter::Lora;
    use crate::dataset::{Split, Task};
    use crate::model::Model;
    use crate::objective::Sft;
    use crate::train::Training;

    fn training(path: &Path) -> Training {
        Training::new(Lora::rank(2), Sft::gold()).epochs(6).at_most_steps(3).checkpoint(path)
    }

    /// The file after `change`, with a checksum that is right.
    fn changed(path: &Path, change: impl FnOnce(&mut HashMap<String, Tensor>, &mut serde_json::Value)) -> Vec<u8> {
        let before = std::fs::read(path).unwrap();
        let stored = file::read_tensors(path, "").unwrap();
        let (mut tensors, mut texts) = (stored.tensors, stored.texts);
        let mut state = serde_json::from_str(&texts[STATE]).unwrap();
        change(&mut tensors, &mut state);
        texts.insert(STATE.into(), state.to_string());
        file::write_safetensors(path, &tensors.into_iter().collect::<Vec<_>>(), texts).unwrap();
        before
    }

    #[test]
    fn a_checkpoint_that_no_run_wrote_is_refused() -> Result<()> {
        let model = Model::open("tiny-icl")?;
        let split: Split = Task::open("sentiment")?.test_at_most(4)?.few_shot(4, 0)?;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.safetensors");
        training(&path).run(&model, &split)?;
        let whole = std::fs::read(&path).unwrap();
        let refused = |words: &str| {
            let error = training(&path).run(&model, &split).unwrap_err();
            let text = error.to_string();
            assert!(error.is_file() && text.contains(words) && text.contains("delete it"), "{words}: {text}");
        };
        // Any bit, wherever it lies.
        for place in (0..whole.len()).step_by(whole.len() / 23) {
            let mut bytes = whole.clone();
            bytes[place] ^= 4;
            std::fs::write(&path, bytes).unwrap();
            refused("");
        }
        std::fs::write(&path, &whole).unwrap();
        for name in ["parameters", "adam.first", "adam.second", "best"] {
            let before = changed(&path, |tensors, _| drop(tensors.insert(name.into(), &tensors[name] * f64::NAN)));
            refused(&format!("NaN or infinity in `{name}`"));
            std::fs::write(&path, before).unwrap();
            let before = changed(&path, |tensors, _| drop(tensors.insert(name.into(), tensors[name].to_kind(Kind::Int64))));
            refused(&format!("no `{name}`"));
            std::fs::write(&path, before).unwrap();
        }
        let before = changed(&path, |tensors, _| drop(tensors.insert("adam.second".into(), &tensors["adam.second"] - 1.0)));
        refused("negative");
        std::fs::write(&path, before).unwrap();
        let counts = ["step", "optimizer_steps", "checks_without_gain"];
        let numbers = ["best_dev", "seconds"];
        let edits = counts.iter().flat_map(|name| [u64::MAX, 1000].map(|value| (*name, serde_json::json!(value))));
        let edits = edits.chain(numbers.iter().flat_map(|name| ["NaN", "-inf", "-1.0"].map(|value| (*name, serde_json::json!(value)))));
        for (name, value) in edits {
            let before = changed(&path, |_, state| state[name] = value.clone());
            refused("a state that no run comes to");
            std::fs::write(&path, before).unwrap();
        }
        for (name, value) in [("examples", u64::MAX), ("tokens", u64::MAX)] {
            let before = changed(&path, |_, state| state["since"][name] = value.into());
            refused("a state that no run comes to");
            std::fs::write(&path, before).unwrap();
        }
        let before = changed(&path, |_, state| state["stopped"] = "epochs".into());
        refused("a state that no run comes to");
        std::fs::write(&path, before).unwrap();
        // As it was it goes on.
        assert_eq!(training(&path).at_most_steps(4).run(&model, &split)?.steps(), 4);
        Ok(())
    }
}
