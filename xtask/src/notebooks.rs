//! Running notebooks: the quickstart, and all of them compared with what is committed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::command;
use crate::failure::{At, Failure, Result};
use crate::project::Project;

const QUICKSTART: &str = "notebooks/quickstart.ipynb";

/// Runs the quickstart notebook and prints what came out.
pub fn quickstart(project: &Project) -> Result {
    let started = Instant::now();
    println!("running {QUICKSTART} in the Rust kernel (the kernel itself takes about 20 s to start)");
    let status = command::shown(runner(project, &project.join(QUICKSTART)).arg("--out").arg(project.output()))?;
    let page = project.output().join("quickstart.html");
    if !status.success() {
        return Err(Failure::new(
            "the quickstart notebook did not run to its end",
            format!("the message is above, the notebook as far as it came is {}", page.display()),
        ));
    }
    let table = project.output().join("quickstart.txt");
    println!("\n{}\n", fs::read_to_string(&table).at(&table)?.trim_end());
    println!("ran in {}; with all figures: {}", command::time(started.elapsed()), page.display());
    println!("to go on by hand: cargo xtask quickstart --lab");
    Ok(())
}

/// Opens JupyterLab on the notebooks, and stays until it ends.
pub fn open_lab(project: &Project) -> Result {
    let mut lab = jupyter(project);
    lab.current_dir(project.join("notebooks")).args(["-m", "jupyterlab", "quickstart.ipynb"]);
    // The one program that is the user's to talk to.
    lab.stdin(std::process::Stdio::inherit());
    println!("JupyterLab: press Ctrl-C twice to end it");
    command::shown(&mut lab)?;
    Ok(())
}

/// Presses keys and buttons of JupyterLab in a headless Chromium; says loudly where there is none.
pub fn test_lab(project: &Project) -> Result {
    let pictures = project.join("target/lab");
    let status =
        command::shown(jupyter(project).arg(project.join("xtask/python/lab_tests.py")).arg(&project.root).arg("--out").arg(&pictures))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(
        "the kernel does not do in JupyterLab what it should",
        format!("the message is above, pictures of the page in {}", pictures.display()),
    ))
}

/// How a notebook did.
#[derive(Clone, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// It ran, but something its committed outputs depend on is not here: they were not compared. Why.
    Skipped(String),
    Failed,
}

/// Runs the notebooks and compares them with their committed outputs, or writes their outputs.
pub fn run(project: &Project, write: bool, names: &[String]) -> Result {
    let all = all(project)?;
    let name = |notebook: &Path| notebook.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let is = |notebook: &Path, wanted: &str| wanted == name(notebook) || notebook.ends_with(wanted);
    if let Some(stranger) = names.iter().find(|wanted| !all.iter().any(|notebook| is(notebook, wanted))) {
        let known = all.iter().map(|notebook| name(notebook)).collect::<Vec<_>>().join(", ");
        return Err(Failure::new(format!("there is no notebook `{stranger}`"), format!("choose from {known}, or give no name for all")));
    }
    let (mut failed, mut skipped) = (Vec::new(), Vec::new());
    for notebook in all.iter().filter(|notebook| names.is_empty() || names.iter().any(|wanted| is(notebook, wanted))) {
        match run_one(project, notebook, write)? {
            Outcome::Passed => {}
            Outcome::Skipped(_) => skipped.push(name(notebook)),
            Outcome::Failed => failed.push(name(notebook)),
        }
    }
    if !skipped.is_empty() {
        println!("not compared, for want of what lies next to the project: {}", skipped.join(", "));
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        format!("notebooks that failed: {}", failed.join(", ")),
        "what differs is above; where the new outputs are right, `cargo xtask notebooks --write` puts them in place",
    ))
}

/// Runs one notebook.
pub fn run_one(project: &Project, notebook: &Path, write: bool) -> Result<Outcome> {
    let how = if write { "--write" } else { "--compare" };
    let mut skipped = None;
    let mut python = runner(project, notebook);
    let status = command::shown_and_read(python.arg(how).arg("--out").arg(project.output()), |line| {
        skipped = line.split_once(command::SKIPPED).map(|(_, why)| why.to_owned()).or(skipped.take());
    })?;
    Ok(match (status.success(), skipped) {
        (false, _) => Outcome::Failed,
        (true, Some(why)) => Outcome::Skipped(why),
        (true, None) => Outcome::Passed,
    })
}

/// The notebooks, in the order of their names.
pub fn all(project: &Project) -> Result<Vec<PathBuf>> {
    let folder = project.join("notebooks");
    let mut notebooks: Vec<PathBuf> = fs::read_dir(&folder)
        .at(&folder)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "ipynb"))
        .collect();
    notebooks.sort();
    Ok(notebooks)
}

fn runner(project: &Project, notebook: &Path) -> Command {
    let mut python = jupyter(project);
    python.arg(project.join("xtask/python/notebooks.py")).arg(notebook).arg("--project").arg(&project.root);
    python
}

/// Our Python, which finds this checkout's kernel before any other of that name.
pub fn jupyter(project: &Project) -> Command {
    let mut python = command::new(project, project.python());
    python.env("JUPYTER_PATH", project.made("jupyter")).env("PYTHONUNBUFFERED", "1");
    python
}
