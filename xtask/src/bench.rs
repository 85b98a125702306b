//! The comparison with the Python libraries, in a Python environment of its own.

use std::fs;

use crate::command;
use crate::failure::{At, Failure, Result};
use crate::project::{self, Project};

/// Builds the `bench` example and hands it to the script that runs both sides. Further arguments are the script's.
pub fn run(project: &Project, arguments: &[String]) -> Result {
    let python = environment(project)?;
    println!("building the bench example (release)");
    let mut build = command::cargo(project);
    build.args(["build", "--release", "--example", "bench"]);
    if !command::shown(&mut build)?.success() {
        return Err(Failure::new("the bench example does not compile", "see the errors above"));
    }
    let mut bench = command::new(project, python);
    bench.arg(project.join("tests/python/bench_hf.py")).args(arguments).env("PYTHONUNBUFFERED", "1");
    if !command::shown(&mut bench)?.success() {
        return Err(Failure::new("the comparison did not run to its end", "see the message above"));
    }
    Ok(())
}

/// transformers and PEFT, pinned in `tests/python/bench.txt`.
fn environment(project: &Project) -> Result<std::path::PathBuf> {
    let list = project.join("tests/python/bench.txt");
    let pins = fs::read_to_string(&list).at(&list)?;
    let folder = project.made("bench");
    let (python, stamp) = (folder.join("bin/python"), folder.join("bench.txt"));
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == pins) {
        return Ok(python);
    }
    println!("installing the Python libraries to compare with (tests/python/bench.txt; a few GB, once)");
    let read_log = [("No space left", "free some disk space and run the command again"), ("", "read the log")];
    if !python.exists() {
        command::logged(project, "bench-venv", command::new(project, "python3").args(["-m", "venv"]).arg(&folder), &read_log)?;
    }
    let mut pip = command::new(project, &python);
    pip.args(["-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--requirement"]).arg(&list);
    command::logged(project, "bench-python", &mut pip, &read_log)?;
    project::write(&stamp, &pins)?;
    Ok(python)
}
