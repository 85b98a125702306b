//! A Python environment of the project's own, for Jupyter. Every package in it is pinned.

use std::fs;
use std::time::Instant;

use super::machine::version_in;
use super::{Options, Parts};
use crate::command;
use crate::failure::{At, Failure, Result};
use crate::project::{self, Project};

const OLDEST: (u32, u32) = (3, 10);

/// What to do when pip fails.
pub const PIP_REMEDIES: &[(&str, &str)] = &[
    ("No space left", "free some disk space and run the command again"),
    ("Temporary failure in name resolution", "check the network (pip reads https_proxy and PIP_INDEX_URL) and run the command again"),
    ("Failed to establish a new connection", "check the network (pip reads https_proxy and PIP_INDEX_URL) and run the command again"),
    ("CERTIFICATE_VERIFY_FAILED", "name your network's certificates to pip with PIP_CERT and run the command again"),
    (
        "No matching distribution",
        "check the network, and that your package index (PIP_INDEX_URL) has the version named in the log: a mirror may lag behind",
    ),
    ("", "read the log; a run after an interrupted download starts that part again"),
];

pub fn make(project: &Project, options: Options, parts: &mut Parts) -> Result {
    install(project, "jupyter", parts)?;
    for (list, wanted) in [("lab", options.lab), ("browser", options.browser), ("checks", options.checks)] {
        if wanted {
            install(project, list, parts)?;
        }
    }
    Ok(())
}

/// Installs the pinned packages of `xtask/python/<list>.txt`.
fn install(project: &Project, list: &str, parts: &mut Parts) -> Result {
    let path = project.join(format!("xtask/python/{list}.txt"));
    let pins = fs::read_to_string(&path).at(&path)?;
    // The list as installed: written last, so that an interrupted installation is taken up again.
    let stamp = project.made(format!("python/{list}.txt"));
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == pins) && runs(project) {
        return Ok(());
    }
    parts.announce(&format!("Python packages ({list}.txt)"), 0.0);
    let started = Instant::now();
    with_pip(project)?;
    let mut pip = command::new(project, project.python());
    pip.args(["-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--requirement"]).arg(&path);
    command::logged(project, &format!("python-{list}"), &mut pip, PIP_REMEDIES)?;
    project::write(&stamp, &pins)?;
    parts.done(started, ".ia2/python");
    Ok(())
}

/// The environment with pip alone.
pub fn with_pip(project: &Project) -> Result {
    if runs(project) { Ok(()) } else { create(project) }
}

fn runs(project: &Project) -> bool {
    command::output(command::new(project, project.python()).args(["-c", "import pip"])).is_some()
}

fn create(project: &Project) -> Result {
    let version = command::output(command::new(project, "python3").arg("--version"));
    match version.as_deref().and_then(version_in) {
        None => {
            return Err(Failure::new(
                "there is no python3",
                "install Python 3.10 or later with its venv module: `sudo apt-get install python3 python3-venv` (Debian, Ubuntu), \
                 `sudo dnf install python3` (Fedora)",
            ));
        }
        Some(found) if found < OLDEST => {
            return Err(Failure::new(
                format!("python3 is {}.{}, and {}.{} or later is needed", found.0, found.1, OLDEST.0, OLDEST.1),
                "put a newer python3 first on the PATH",
            ));
        }
        Some(_) => {}
    }
    // Made where it stays: the programs in a virtual environment hold its path.
    let folder = project.made("python");
    project::remove(&folder)?;
    let mut venv = command::new(project, "python3");
    venv.args(["-m", "venv"]).arg(&folder);
    let no_venv = "install Python's venv module: `sudo apt-get install python3-venv` (Debian, Ubuntu)";
    let remedies = [("ensurepip is not", no_venv), ("No module named venv", no_venv), ("", no_venv)];
    command::logged(project, "python-venv", &mut venv, &remedies)
}
