//! A grid that is ready for workers, and its jobs.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::folder::GridFolder;
use super::slurm::{Slurm, quoted};
use super::written::{CODE, PlanFile};
use super::{WorkerOutcome, secret};
use crate::display::{Bundle, Show};
use crate::error::{Error, Result};
use crate::experiment::{Experiment, Study};
use crate::file;
use crate::libtorch::guarded;

/// The worker's file name.
const PROGRAM: &str = "ia2-worker";

/// A grid in a folder, ready for workers. It shows what would be submitted; [`submit`](Self::submit) does so.
#[derive(Clone, Debug)]
pub struct Job {
    home: PathBuf,
    cells: usize,
    runs: usize,
    refused: usize,
    workers: usize,
    command: String,
    script: String,
}

/// Jobs that SLURM has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    id: String,
    workers: usize,
    folder: PathBuf,
}

impl Experiment {
    /// Makes a folder ready for workers on a cluster: a plan of this grid (models by path and digest, tasks with their rows, settings, code), the worker
    /// program and a script for `sbatch`. Nothing is started: the [`Job`] shows what would be, and [`Job::submit`] hands it to SLURM.
    ///
    /// The folder must lie on a disk that all nodes share, and so must the models. Results are the files that [`run`](Self::run) writes with this
    /// [`folder`](Self::folder): what is there already is not done again, and `run` itself takes part where workers are at work. A grid that was prepared
    /// before and has grown is prepared again in the same folder.
    ///
    /// # Errors
    /// As [`run`](Self::run); a model that is in no file; a setting of `slurm` that makes no sense; a script that would hold a secret of the environment;
    /// no worker program, or one that was built from other sources; a folder that cannot be written.
    pub fn prepare(&self, folder: impl AsRef<Path>, slurm: &Slurm) -> Result<Job> {
        let folder = folder.as_ref();
        guarded("preparing a grid for workers", || {
            slurm.check()?;
            let home = std::path::absolute(folder).map_err(|error| Error::unread(folder, error))?;
            let (script, command) = (slurm.script(&home)?, slurm.command(&home)?);
            let program = program(slurm)?;
            let experiment = self.clone().folder(&home);
            let grid = experiment.grid()?;
            file::folder(&home)?;
            let plan = PlanFile::write(&grid, &home, slurm.manner())?;
            let place = GridFolder::new(&home);
            put_program(&program, &place)?;
            file::write(&place.script(), script.as_bytes())?;
            let count = |runs: Result<Vec<_>>| runs.map(|runs: Vec<super::super::record::Run>| runs.len());
            Ok(Job {
                cells: plan.cells.len(),
                runs: grid.cells.iter().map(|cell| count(grid.runs(cell))).sum::<Result<_>>()?,
                refused: grid.refused.iter().map(|refused| count(grid.refused_runs(refused))).sum::<Result<_>>()?,
                workers: slurm.workers,
                home,
                command,
                script,
            })
        })
    }
}

impl Job {
    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.home
    }

    /// The script for `sbatch`.
    pub fn script(&self) -> &str {
        &self.script
    }

    /// The command of one worker, for any other way to start some: `xargs`, HyperQueue, by hand.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// Hands the script to `sbatch`. A second time, it adds as many workers: they share the work.
    ///
    /// Secrets of the environment (variables called like tokens, keys and passwords) are not passed on.
    ///
    /// # Errors
    /// There is no `sbatch` here, or it refuses: its words are the cause.
    pub fn submit(&self) -> Result<Submitted> {
        let script = GridFolder::new(&self.home).script();
        let names = std::env::vars_os().map(|(name, _)| name);
        let secrets: Vec<OsString> = names.filter(|name| name.to_str().is_some_and(secret::is_secret)).collect();
        let mut sbatch = Command::new("sbatch");
        sbatch.arg("--parsable").arg(&script).current_dir(&self.home).stdin(Stdio::null());
        for name in secrets {
            sbatch.env_remove(name);
        }
        let output = sbatch.output().map_err(|error| {
            let remedy = match error.kind() {
                ErrorKind::NotFound => format!("there is no `sbatch` here: on a machine that has it, type `sbatch {}`", script.display()),
                _ => "`sbatch` could not be started".into(),
            };
            Error::input(remedy).because(error)
        })?;
        let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        // `12345` or, with several clusters, `12345;name`.
        let id = said.trim().split(';').next().unwrap_or_default();
        if !output.status.success() || id.is_empty() {
            let words = std::io::Error::other(complained.trim().to_string());
            return Err(Error::input(format!("`sbatch {}` refused: change the settings of `Slurm`", script.display())).because(words));
        }
        Ok(Submitted { id: id.into(), workers: self.workers, folder: self.home.clone() })
    }
}

impl Submitted {
    /// The number that SLURM gave the array of jobs.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What is done so far.
    ///
    /// # Errors
    /// As [`Experiment::open`].
    pub fn so_far(&self) -> Result<Study> {
        Experiment::open(&self.folder)
    }
}

/// The built worker program, which must be of this code.
fn program(slurm: &Slurm) -> Result<PathBuf> {
    let root = env!("CARGO_MANIFEST_DIR");
    let remedy = format!("build it in {root} by `cargo build --release --bin {PROGRAM}`, or name one by `Slurm::program(path)`");
    let own = match &slurm.program {
        Some(path) if path.is_file() => path.clone(),
        Some(path) => return Err(Error::input(format!("there is no worker program {}: {remedy}", path.display()))),
        None => {
            let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| Path::new(root).join("target"), PathBuf::from);
            let built = ["x86_64-unknown-linux-gnu/release", "release"].map(|folder| target.join(folder).join(PROGRAM));
            let found = built.into_iter().find(|path| path.is_file());
            found.ok_or_else(|| Error::input(format!("there is no worker program: {remedy}")))?
        }
    };
    let output = Command::new(&own).arg("--code").stdin(Stdio::null()).output();
    let output = output.map_err(|error| Error::input(format!("{} cannot be started: {remedy}", own.display())).because(error))?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        CODE => Ok(own),
        other => Err(Error::input(format!(
            "{} was built from other sources than this library (it says {other:?}, and this is {CODE}): {remedy}",
            own.display()
        ))),
    }
}

/// Puts a program, the libraries that it was built with, and what starts it, into the folder.
fn put_program(program: &Path, place: &GridFolder) -> Result<()> {
    let folder = place.program();
    file::folder(&folder)?;
    let output = Command::new(program).arg("--parts").stdin(Stdio::null()).output();
    let output = output.map_err(|error| Error::input(format!("{} cannot be started", program.display())).because(error))?;
    let parts = String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect::<Vec<_>>();
    for part in parts.iter().map(PathBuf::as_path).chain([program]) {
        if let Some(name) = part.file_name() {
            put(part, &folder.join(name))?;
        }
    }
    let own = folder.join(program.file_name().unwrap_or_default());
    let (folder, own) = (quoted(&folder)?, quoted(&own)?);
    let starter = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH={folder}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}} OMP_WAIT_POLICY=${{OMP_WAIT_POLICY:-passive}}\n\
         export LD_LIBRARY_PATH OMP_WAIT_POLICY\nexec {own} \"$@\"\n"
    );
    file::write(&place.starter(), starter.as_bytes())?;
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place.starter(), executable).map_err(|error| Error::unwritten(&place.starter(), error))
}

/// Copies a program or library, unless it is there; one that runs keeps the old file.
fn put(from: &Path, to: &Path) -> Result<()> {
    let size = |path: &Path| path.metadata().and_then(|meta| Ok((meta.len(), meta.modified()?)));
    if let (Ok((own, made)), Ok((there, copied))) = (size(from), size(to))
        && own == there
        && copied >= made
    {
        return Ok(());
    }
    let partial = to.with_extension("partial");
    let copied = std::fs::copy(from, &partial).and_then(|_| std::fs::rename(&partial, to));
    copied.map_err(|error| Error::unwritten(to, error))
}

impl Show for Job {
    fn bundle(&self) -> Bundle {
        let refused = match self.refused {
            0 => String::new(),
            refused => format!(" ({refused} more cannot be done: too few rows for their N)"),
        };
        let script = quoted(&GridFolder::new(&self.home).script()).unwrap_or_default();
        let local = ["/tmp", "/dev/shm", "/var/tmp", "/run"].iter().any(|folder| self.home.starts_with(folder));
        let local = if local { "\nThis folder looks like one of this machine alone: other nodes could not see it." } else { "" };
        Bundle::text(format!(
            "Job({} runs in {} cells{refused}, for {} workers, in {}): nothing is submitted yet; `.submit()?` does so, or\n  sbatch {script}\n\
             One worker, by hand or under xargs or HyperQueue:\n  {}\nThe script:\n{}{local}",
            self.runs,
            self.cells,
            self.workers,
            self.home.display(),
            self.command,
            self.script.trim_end()
        ))
    }
}

impl Show for Submitted {
    fn bundle(&self) -> Bundle {
        Bundle::text(format!(
            "Submitted(job {}, {} workers): `Experiment::open({:?})?` shows what is done",
            self.id,
            self.workers,
            self.folder.display().to_string()
        ))
    }
}

impl Show for WorkerOutcome {
    fn bundle(&self) -> Bundle {
        Bundle::text(self.to_string())
    }
}
