//! What this process has, and what is wrong with it: the first thing to run, and to send along with a question.

use crate::display::{Bundle, Show};
use crate::{hub, libtorch};
use std::env;
use std::fmt;
use std::path::Path;
use tch::Cuda;

/// What [`doctor`] found; prints as a few lines, each problem with its remedy.
#[derive(Clone, Debug)]
pub struct Doctor {
    findings: Vec<Finding>,
}

#[derive(Clone, Debug)]
struct Finding {
    what: &'static str,
    found: String,
    /// What is wrong and what to do; `None` where all is well.
    problem: Option<String>,
}

impl Doctor {
    /// True if nothing was found that would keep the library from working.
    pub fn healthy(&self) -> bool {
        self.problems().next().is_none()
    }

    /// What is wrong, each with what to do about it.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        self.findings.iter().filter_map(|finding| finding.problem.as_deref())
    }
}

impl fmt::Display for Doctor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { what, found, problem } in &self.findings {
            writeln!(f, "{what:<9} {found}")?;
            if let Some(problem) = problem {
                writeln!(f, "{:<9} PROBLEM: {problem}", "")?;
            }
        }
        match self.problems().count() {
            0 => f.write_str("all is well"),
            1 => f.write_str("1 problem"),
            count => write!(f, "{count} problems"),
        }
    }
}

impl Show for Doctor {
    fn bundle(&self) -> Bundle {
        Bundle::text(self.to_string())
    }
}

/// Looks at this process: versions, libtorch, CUDA, threads, the notebook kernel, the working folder and the cache of models.
///
/// It fails at nothing: what is wrong stands in the report. It writes a small file into the working folder and removes it.
pub fn doctor() -> Doctor {
    let text = |error: crate::Error| Some(error.to_string());
    let library = Finding {
        what: "ia2",
        found: format!("{} with polars {}, in `{}`", env!("CARGO_PKG_VERSION"), polars::VERSION, env!("CARGO_MANIFEST_DIR")),
        problem: libtorch::check_copies().err().and_then(text),
    };
    let version = libtorch::version().map_or("unknown".to_owned(), |(major, minor, patch)| format!("{major}.{minor}.{patch}"));
    let folder = libtorch::folder().map_or("an unknown folder".to_owned(), |folder| format!("`{}`", folder.display()));
    let torch =
        Finding { what: "libtorch", found: format!("{version} in {folder}"), problem: libtorch::check_version().err().and_then(text) };
    let cache = hub::cache_folder();
    let hub = if cfg!(feature = "hub") { "missing ones are downloaded" } else { "no downloads: built without the feature `hub`" };
    let cache = Finding {
        what: "models",
        found: format!("`{}`{}; {hub}", cache.display(), if cache.is_dir() { "" } else { " (not there yet)" }),
        problem: None,
    };
    Doctor { findings: vec![library, torch, cuda(), threads(), kernel(), working_folder(), cache] }
}

fn cuda() -> Finding {
    let (found, problem) = match libtorch::load_cuda() {
        Ok(false) => ("no CUDA part beside libtorch; the CPU is used".to_owned(), None),
        Ok(true) if Cuda::is_available() => (format!("{} devices", Cuda::device_count()), None),
        Ok(true) => (
            "loaded, but no usable device; the CPU is used".to_owned(),
            // A libtorch with CUDA on a machine without a GPU is in order.
            Path::new("/dev/nvidiactl")
                .exists()
                .then(|| "there is a GPU that libtorch cannot use: check the driver with `nvidia-smi`".to_owned()),
        ),
        Err(error) => ("cannot be loaded".to_owned(), Some(error.to_string())),
    };
    Finding { what: "CUDA", found, problem }
}

fn threads() -> Finding {
    let (threads, processors) = (libtorch::threads(), std::thread::available_parallelism().map_or(1, usize::from));
    let passive = env::var("OMP_WAIT_POLICY").is_ok_and(|policy| policy.eq_ignore_ascii_case("passive"));
    let problem = if threads > processors {
        Some(format!("more threads than processors: `ia2::libtorch::set_threads({processors})`"))
    } else if threads > 1 && !passive {
        Some("threads that wait keep a processor busy: start the process with OMP_WAIT_POLICY=passive".to_owned())
    } else {
        None
    };
    Finding { what: "threads", found: format!("{threads} on {processors} processors"), problem }
}

fn kernel() -> Finding {
    let inside = env::var_os("EVCXR_IS_RUNTIME").is_some();
    let found = match (inside, env::var("EVCXR_TMPDIR")) {
        (true, Ok(folder)) => format!("evcxr, cells are built in `{folder}`"),
        (true, Err(_)) => "evcxr".to_owned(),
        (false, _) => "none: this is a program of its own".to_owned(),
    };
    let problem = inside && env::var_os("EVCXR_CONFIG_DIR").is_none();
    let problem = problem
        .then(|| "this kernel builds the library again at each start: choose the kernel \"Rust (ia2)\" of `cargo xtask setup`".to_owned());
    Finding { what: "kernel", found, problem }
}

/// Where relative paths lead, and checkpoints go.
fn working_folder() -> Finding {
    let (found, problem) = match env::current_dir() {
        Ok(folder) => {
            let problem = tempfile::tempfile_in(&folder).err().map(|error| {
                format!("nothing can be written there ({error}): change its permissions, or give full paths to what is saved")
            });
            (format!("`{}`", folder.display()), problem)
        }
        Err(error) => ("unknown".to_owned(), Some(format!("the working folder is gone ({error}): start in another"))),
    };
    Finding { what: "folder", found, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_described() {
        let report = doctor();
        let text = report.to_string();
        for (what, expected) in
            [("ia2", env!("CARGO_PKG_VERSION")), ("libtorch", "2.11."), ("threads", " on "), ("kernel", "program"), ("models", "hub")]
        {
            assert!(text.lines().any(|line| line.starts_with(what) && line.contains(expected)), "{what}: {text}");
        }
        let folder = env::current_dir().unwrap().display().to_string();
        assert!(text.lines().any(|line| line.starts_with("folder") && line.contains(&folder)), "{text}");
        assert_eq!(report.healthy(), text.ends_with("all is well"));
    }

    #[test]
    fn problems_stand_below_what_they_belong_to() {
        let finding = |what, problem: Option<&str>| Finding { what, found: "something".into(), problem: problem.map(str::to_owned) };
        let report = Doctor { findings: vec![finding("libtorch", Some("too old: install 2.11")), finding("CUDA", None)] };
        assert!(!report.healthy());
        assert_eq!(report.to_string(), "libtorch  something\n          PROBLEM: too old: install 2.11\nCUDA      something\n1 problem");
    }
}
