//! Set-up: each part is looked for, made if missing, and put in place in one move, so that an interruption costs only the part at work.

mod evcxr;
mod kernel;
mod libtorch;
mod machine;
mod python;

use std::fs::{self, File, TryLockError};
use std::time::Instant;

use crate::command;
use crate::failure::{At, Failure, Result};
use crate::project::Project;

pub use python::{PIP_REMEDIES, with_pip};

#[derive(Clone, Copy, Default)]
pub struct Options {
    /// Take libtorch with its CUDA part.
    pub cuda: bool,
    /// JupyterLab as well.
    pub lab: bool,
}

/// Makes what is missing. Quick when nothing is.
pub fn run(project: &Project, options: Options) -> Result {
    let started = Instant::now();
    let _lock = lock(project)?;
    let mut parts = Parts { said: 0 };
    machine::check_platform()?;
    machine::check_rust(project, &mut parts)?;
    if !project.libtorch().exists() || !project.evcxr().exists() || !kernel::is_built(project) {
        machine::check_compiler(project)?;
        machine::check_disk(project)?;
    }
    python::make(project, options.lab, &mut parts)?;
    libtorch::make(project, options.cuda, &mut parts)?;
    evcxr::make(project, &mut parts)?;
    kernel::make(project, &mut parts)?;
    match parts.said {
        0 if started.elapsed().as_secs() > 5 => println!("set-up: the library is compiled anew ({})", command::time(started.elapsed())),
        0 => println!("set-up: everything is there ({})", command::time(started.elapsed())),
        _ => println!("set-up: done in {}", command::time(started.elapsed())),
    }
    Ok(())
}

/// Announces the parts that have to be made; what is there already is passed over in silence.
pub struct Parts {
    said: usize,
}

impl Parts {
    pub fn announce(&mut self, what: &str) {
        if self.said == 0 {
            println!("set-up: the first time takes about ten minutes on two cores, and 1 GB to download");
        }
        self.said += 1;
        println!("  {}. {what}", self.said);
    }

    pub fn done(&self, started: Instant, what: &str) {
        println!("        {:>9}  {what}", command::time(started.elapsed()));
    }
}

/// Two set-ups of one checkout must not meet.
pub fn lock(project: &Project) -> Result<File> {
    let folder = project.made("");
    fs::create_dir_all(&folder).at(&folder)?;
    let path = project.made("setup.lock");
    let file = File::create(&path).at(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            println!("set-up: another one is at work in this checkout; waiting for it");
            file.lock().at(&path)?;
            Ok(file)
        }
        Err(TryLockError::Error(error)) => Err(Failure::new(
            format!("{} cannot be locked: {error}", path.display()),
            "clone the project on a file system that has file locks (a local disk)",
        )),
    }
}
