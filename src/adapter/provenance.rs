//! What the manifest of a training, which lies next to the adapter that it made, says of the adapter.

use std::path::Path;

use serde::Deserialize;
use tch::Tensor;

use crate::error::{Error, Result};
use crate::file;
use crate::model::Model;

/// The names of what a training saves next to its adapter.
pub(crate) const MANIFEST: &str = "ia2_manifest.json";
pub(crate) const HISTORY: &str = "ia2_history.csv";
/// The manifests that this library writes; earlier ones know their model by a sample of its bytes.
pub(crate) const FORMAT: u32 = 2;

/// The part of a manifest that concerns the adapter.
#[derive(Deserialize)]
struct Manifest {
    format: u32,
    model: Base,
    outcome: Option<Outcome>,
}

#[derive(Deserialize)]
struct Base {
    folder: String,
    kind: String,
    weights: String,
}

#[derive(Deserialize)]
struct Outcome {
    parameters: String,
}

/// Refuses parameters that are not those of the manifest next to them, and another base model than theirs.
pub(super) fn check(folder: &Path, stored: &[Tensor], model: &Model) -> Result<()> {
    let path = folder.join(MANIFEST);
    if !path.exists() {
        return Ok(());
    }
    let remedy = "remove it if the adapter itself is right (`Adapter::open_as_it_is` opens it all the same)";
    let format =
        file::read_text(&path).ok().and_then(|text| Some(serde_json::from_str::<serde_json::Value>(&text).ok()?["format"].as_u64()));
    if format.flatten().is_some_and(|format| format < u64::from(FORMAT)) {
        return Ok(());
    }
    let manifest: Manifest = file::read_json(&path, "a manifest of a training", remedy)?;
    if manifest.format != FORMAT {
        return Ok(());
    }
    let parameters = file::digest(&stored.iter().collect::<Vec<_>>());
    if manifest.outcome.is_some_and(|outcome| outcome.parameters != parameters) {
        return Err(Error::file(format!(
            "{} tells of other parameters than those that lie next to it: another program has changed the one or the other; {remedy}",
            path.display()
        )));
    }
    let ours = &model.identity()?.weights;
    let (theirs, kind) = (manifest.model.weights, manifest.model.kind);
    // Numbers in memory, of which there is no file, are those of one kind.
    let comparable =
        is_of_files(ours) && is_of_files(&theirs) || !is_of_files(ours) && !is_of_files(&theirs) && kind == format!("{:?}", model.kind());
    if comparable && *ours != theirs {
        let brief = |digest: &str| digest.chars().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect::<String>();
        return Err(Error::input(format!(
            "the adapter in `{}` was trained on another base model: on the one in `{}` (weights ...{}), and this one is of `{}` (weights ...{}); open its own, \
             or the adapter by `Adapter::open_as_it_is`",
            folder.display(),
            manifest.model.folder,
            brief(&theirs),
            model.folder().display(),
            brief(ours)
        )));
    }
    Ok(())
}

fn is_of_files(weights: &str) -> bool {
    !weights.contains(' ')
}
