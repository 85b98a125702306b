//! What this process has, and what is wrong with it: the first thing to run, and to send along with a question.

use crate::display::{Bundle, Show};
use crate::{hub, libtorch};
use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
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
    /// True if no problem was found: neither one that keeps the library from working nor one that makes it slow, such as an unused GPU.
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
    let (products, problem) = libtorch::products();
    let torch = Finding {
        what: "libtorch",
        found: format!("{version} in {folder}; f32 products by {products}"),
        problem: libtorch::check_version().err().and_then(text).or_else(other_libtorch).or(problem),
    };
    Doctor { findings: vec![library, torch, cuda(), threads(), kernel(), working_folder(), cache()] }
}

/// Where a GPU's driver shows itself.
fn has_gpu() -> bool {
    Path::new("/dev/nvidiactl").exists()
}

/// A libtorch that is named and not the one that is loaded: the next build would be made for it, or fail.
fn other_libtorch() -> Option<String> {
    let named = PathBuf::from(env::var_os("LIBTORCH").filter(|named| !named.is_empty())?);
    let file = |folder: &Path| folder.join("libtorch_cpu.so").canonicalize().ok();
    match (file(&named.join("lib")), libtorch::folder().and_then(|folder| file(&folder))) {
        (None, _) => Some(format!("LIBTORCH is `{}`, where there is no `lib/libtorch_cpu.so`: correct it, or unset it", named.display())),
        (Some(named_file), Some(loaded)) if named_file != loaded => {
            Some(format!("LIBTORCH is `{}`, which is not what is loaded: unset it, or build again with it", named.display()))
        }
        _ => None,
    }
}

fn cuda() -> Finding {
    let (found, problem) = match libtorch::load_cuda() {
        Ok(false) => (
            "libtorch has no CUDA part; the CPU is used".to_owned(),
            has_gpu().then(|| "there is a GPU that this libtorch cannot use: run `cargo xtask setup --cuda`".to_owned()),
        ),
        Ok(true) if Cuda::is_available() => (format!("{} devices", Cuda::device_count()), None),
        Ok(true) => (
            "loaded, but no usable device; the CPU is used".to_owned(),
            // A libtorch with CUDA on a machine without a GPU is in order.
            has_gpu().then(|| "there is a GPU that libtorch cannot use: check the driver with `nvidia-smi`".to_owned()),
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
    let set = env::var("OMP_NUM_THREADS").map_or_else(|_| String::new(), |set| format!(" (OMP_NUM_THREADS is {set})"));
    Finding { what: "threads", found: format!("{threads} on {processors} processors{set}"), problem }
}

fn kernel() -> Finding {
    let inside = env::var_os("EVCXR_IS_RUNTIME").is_some();
    // Set by the kernel that set-up compiles (`xtask/kernel/CHANGES.md`), which tells Jupyter of failures.
    let name = match env::var_os("EVCXR_REPORTS_PANICS") {
        Some(_) => "evcxr with the changes of `cargo xtask setup`",
        None => "evcxr as published, to which a cell that fails by `?` or panics has succeeded",
    };
    let found = match (inside, env::var("EVCXR_TMPDIR")) {
        (true, Ok(folder)) => format!("{name}; cells are built in `{folder}`"),
        (true, Err(_)) => name.to_owned(),
        (false, _) => "none: this is a program of its own".to_owned(),
    };
    let problem = match env::var_os("EVCXR_TMPDIR").filter(|_| inside).and_then(|folder| unwritable(Path::new(&folder))) {
        Some(error) => Some(format!("cells cannot be built there ({error}): run `cargo xtask setup` and restart the kernel")),
        None if inside && env::var_os("EVCXR_CONFIG_DIR").is_none() => {
            Some("this kernel builds the library again at each start: choose the kernel \"Rust (ia2)\" of `cargo xtask setup`".to_owned())
        }
        None => None,
    };
    Finding { what: "kernel", found, problem }
}

/// Where relative paths lead, and checkpoints go.
fn working_folder() -> Finding {
    let (found, problem) = match env::current_dir() {
        Ok(folder) => {
            let problem = unwritable(&folder).map(|error| {
                format!("nothing can be written there ({error}): change its permissions, or give full paths to what is saved")
            });
            (format!("`{}`", folder.display()), problem)
        }
        Err(error) => ("unknown".to_owned(), Some(format!("the working folder is gone ({error}): start in another"))),
    };
    Finding { what: "folder", found, problem }
}

/// Where models from the hub are kept; a folder that is made when it is needed.
fn cache() -> Finding {
    let folder = hub::cache_folder();
    let hub = if cfg!(feature = "hub") { "missing ones are downloaded" } else { "no downloads: built without the feature `hub`" };
    let problem = match std::fs::read_dir(&folder) {
        Err(error) if folder.exists() => {
            Some(format!("it cannot be read ({error}): let HF_HUB_CACHE name a folder of yours, or change its permissions"))
        }
        Ok(_) if cfg!(feature = "hub") => {
            unwritable(&folder).map(|error| format!("nothing can be downloaded there ({error}): let HF_HUB_CACHE name a folder of yours"))
        }
        _ => None,
    };
    let found = format!("`{}`{}; {hub}", folder.display(), if folder.exists() { "" } else { " (not there yet)" });
    Finding { what: "models", found, problem }
}

/// Why no file can be made in a folder.
fn unwritable(folder: &Path) -> Option<std::io::Error> {
    tempfile::tempfile_in(folder).err()
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

    /// Run alone by the next test, in surroundings that are wrong on purpose.
    #[test]
    #[ignore = "the child of `what_is_wrong_is_named_with_its_remedy`"]
    fn child() {
        if env::var_os("REMOVE_THE_FOLDER").is_some() {
            std::fs::remove_dir(env::current_dir().unwrap()).unwrap();
        }
        if env::var_os("TOO_MANY_THREADS").is_some() {
            libtorch::set_threads(1000).unwrap();
        }
        println!("{}", doctor());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let (fine, gone, file) = (folder.path().join("fine"), folder.path().join("gone"), folder.path().join("file"));
        std::fs::create_dir(&fine).unwrap();
        std::fs::create_dir(&gone).unwrap();
        std::fs::create_dir_all(folder.path().join("torch/lib")).unwrap();
        for path in [&file, &folder.path().join("torch/lib/libtorch_cpu.so")] {
            std::fs::write(path, "").unwrap();
        }
        let report = |folder: &Path, variables: &[(&str, &str)]| {
            let mut child = std::process::Command::new(env::current_exe().unwrap());
            child.args(["--exact", "doctor::tests::child", "--ignored", "--nocapture"]).current_dir(folder);
            for name in [
                "LIBTORCH",
                "IA2_PRODUCTS",
                "OMP_NUM_THREADS",
                "EVCXR_IS_RUNTIME",
                "EVCXR_TMPDIR",
                "EVCXR_CONFIG_DIR",
                "EVCXR_REPORTS_PANICS",
                "HF_HUB_CACHE",
            ] {
                child.env_remove(name);
            }
            child.env("OMP_WAIT_POLICY", "passive").env("HF_HOME", folder.join("none")).envs(variables.iter().copied());
            String::from_utf8(child.output().unwrap().stdout).unwrap()
        };
        let healthy = report(&fine, &[]);
        assert!(healthy.contains("all is well") && healthy.contains("none/hub` (not there yet)"), "{healthy}");
        assert!(report(&fine, &[("OMP_NUM_THREADS", "1")]).contains(" processors (OMP_NUM_THREADS is 1)"));
        let torch = folder.path().join("torch").display().to_string();
        // What is set, the line it belongs to, and words of what is wrong and of what to do.
        for (name, value, line, words) in [
            ("LIBTORCH", "/no/such/folder", "libtorch", ["/no/such/folder", "unset it"]),
            ("LIBTORCH", &torch, "libtorch", ["not what is loaded", "unset it"]),
            ("IA2_PRODUCTS", "mlk", "libtorch", ["`mlk`", "unset it"]),
            ("TOO_MANY_THREADS", "1000", "threads", ["1000 on ", "set_threads("]),
            ("HF_HUB_CACHE", &file.display().to_string(), "models", ["cannot be read", "HF_HUB_CACHE"]),
        ] {
            let text = report(&fine, &[(name, value)]);
            let (_, below) = text.split_once(&format!("\n{line}")).unwrap();
            let own = below.lines().take(2).collect::<Vec<_>>().join("\n");
            assert!(text.contains("1 problem") && own.contains("PROBLEM: "), "{name}: {text}");
            assert!(words.iter().all(|word| own.contains(word)), "{name}: {text}");
        }
        let kernel = report(&fine, &[("EVCXR_IS_RUNTIME", "1")]);
        assert!(kernel.contains("choose the kernel \"Rust (ia2)\"") && kernel.contains("evcxr as published"), "{kernel}");
        let kernel = report(&fine, &[("EVCXR_IS_RUNTIME", "1"), ("EVCXR_REPORTS_PANICS", "1")]);
        assert!(kernel.contains("evcxr with the changes of `cargo xtask setup`"), "{kernel}");
        let kernel = report(&fine, &[("EVCXR_IS_RUNTIME", "1"), ("EVCXR_TMPDIR", "/no/such"), ("EVCXR_CONFIG_DIR", "/tmp")]);
        assert!(kernel.contains("cells cannot be built there (No such file"), "{kernel}");
        let unwritable = report(Path::new("/proc"), &[]);
        assert!(unwritable.contains("nothing can be written there") && unwritable.contains("full paths"), "{unwritable}");
        let gone = report(&gone, &[("REMOVE_THE_FOLDER", "1")]);
        assert!(gone.contains("the working folder is gone") && gone.contains("start in another"), "{gone}");
    }

    #[test]
    fn problems_stand_below_what_they_belong_to() {
        let finding = |what, problem: Option<&str>| Finding { what, found: "something".into(), problem: problem.map(str::to_owned) };
        let report = Doctor { findings: vec![finding("libtorch", Some("too old: install 2.11")), finding("CUDA", None)] };
        assert!(!report.healthy());
        assert_eq!(report.to_string(), "libtorch  something\n          PROBLEM: too old: install 2.11\nCUDA      something\n1 problem");
    }
}
