//! Set-up: each part is looked for, made if missing, and put in place in one move, so that an interruption costs only the part at work.

mod changes;
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

#[cfg(test)]
pub use machine::CHECKED;
pub use machine::rust;
pub use python::{PIP_REMEDIES, with_pip};

/// What Python's packages and libtorch take, mostly waiting for the network.
const PYTHON_MINUTES: f64 = 4.0;

#[derive(Clone, Copy, Default)]
pub struct Options {
    /// Take libtorch with its CUDA part.
    pub cuda: bool,
    /// JupyterLab as well.
    pub lab: bool,
    /// What drives a browser.
    pub browser: bool,
    /// What only checks need.
    pub checks: bool,
}

/// Makes what is missing. Quick when nothing is.
pub fn run(project: &Project, options: Options) -> Result {
    let started = Instant::now();
    let _lock = lock(project)?;
    let nothing = [project.libtorch(), project.evcxr(), project.python()].iter().all(|made| !made.exists());
    let mut parts = Parts { said: 0, first_time: nothing && !kernel::is_built(project) };
    machine::check_platform()?;
    machine::check_rust(project, &mut parts)?;
    if !project.libtorch().exists() || !project.evcxr().exists() || !kernel::is_built(project) {
        machine::check_compiler(project)?;
        machine::check_disk(project)?;
    }
    python::make(project, options, &mut parts)?;
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
    /// Whether nothing is there yet.
    first_time: bool,
}

impl Parts {
    /// Says what is made now, and how long that takes where it is more than a minute: `processor_minutes` of one core.
    pub fn announce(&mut self, what: &str, processor_minutes: f64) {
        if self.said == 0 && self.first_time {
            let all = wall(evcxr::PROCESSOR_MINUTES + kernel::PROCESSOR_MINUTES + PYTHON_MINUTES);
            println!("set-up: the first time takes {all} in all, and 1 GB to download");
        }
        self.said += 1;
        match processor_minutes < 1.0 {
            true => println!("  {}. {what}", self.said),
            false => println!("  {}. {what}: {}", self.said, wall(processor_minutes)),
        }
    }

    pub fn done(&self, started: Instant, what: &str) {
        println!("        {:>9}  {what}", command::time(started.elapsed()));
    }
}

/// `about 6 minutes on 2 cores`: how long so much processor time takes here.
fn wall(processor_minutes: f64) -> String {
    wall_on(processor_minutes, std::thread::available_parallelism().map_or(1, usize::from))
}

fn wall_on(processor_minutes: f64, cores: usize) -> String {
    // The largest crates of both builds are compiled one after the other, so more cores than these find nothing to do.
    const USED: usize = 6;
    let minutes = (processor_minutes / cores.min(USED) as f64).ceil();
    let cores = if cores == 1 { "one core".to_owned() } else { format!("{cores} cores") };
    format!("about {minutes} minutes on {cores}")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_announced_time_is_that_of_the_parts() {
        assert_eq!(wall_on(11.0, 2), "about 6 minutes on 2 cores");
        assert_eq!(wall_on(11.0, 1), "about 11 minutes on one core");
        assert_eq!(wall_on(30.0, 64), "about 5 minutes on 64 cores");
        let all = evcxr::PROCESSOR_MINUTES + kernel::PROCESSOR_MINUTES + PYTHON_MINUTES;
        assert_eq!(wall_on(all, 2), "about 18 minutes on 2 cores");
    }
}
