//! The Rust kernel for Jupyter, at one version.

use std::fs;
use std::time::Instant;

use super::Parts;
use crate::command;
use crate::failure::Result;
use crate::project::{self, Project};

const VERSION: &str = "0.22.0";

pub fn make(project: &Project, parts: &mut Parts) -> Result {
    let root = project.made("evcxr");
    let installed = fs::read_to_string(root.join(".crates.toml")).unwrap_or_default();
    if installed.contains(&format!("\"evcxr_jupyter {VERSION} ")) && project.evcxr().exists() {
        return Ok(());
    }
    parts.announce(&format!("evcxr_jupyter {VERSION}, the Rust kernel (350 crates, 3 minutes on two cores)"));
    let started = Instant::now();
    // A build folder that stays until the end, so that an interrupted build goes on where it was.
    let build = project.made("build-evcxr");
    let mut cargo = command::cargo(project);
    cargo.args(["install", "evcxr_jupyter", "--version", &format!("={VERSION}"), "--locked", "--force", "--root"]).arg(&root);
    cargo.arg("--target-dir").arg(&build);
    command::logged(
        project,
        "evcxr",
        &mut cargo,
        &[
            ("No space left", "free some disk space and run the command again"),
            ("failed to download", "check the network and run the command again; what is downloaded and compiled is kept"),
            ("Could not resolve host", "check the network and run the command again; what is downloaded and compiled is kept"),
            ("", "read the log; run the command again to go on where it stopped"),
        ],
    )?;
    project::remove(&build)?;
    parts.done(started, ".ia2/evcxr");
    Ok(())
}
