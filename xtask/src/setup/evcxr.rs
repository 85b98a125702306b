//! The Rust kernel for Jupyter, at one version, with our changes to its text.
//!
//! `cargo install` would take it as it is, and then Tab inside a call's parentheses ends it. So its two crates are copied from cargo's registry,
//! the changes of `xtask/kernel/CHANGES.md` are made, and the copies are compiled with the versions of the lock file that evcxr_jupyter brings.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{Parts, changes, rust};
use crate::command;
use crate::failure::{At, Failure, Result};
use crate::project::{self, Project};

const VERSION: &str = "0.22.0";
pub const CHANGES: &str = include_str!("../../kernel/CHANGES.md");
/// Processor time of a build from nothing, and the wall time of two cores, were 11.2 and 5.7 minutes.
pub const PROCESSOR_MINUTES: f64 = 11.0;
const REMEDIES: &[(&str, &str)] = &[
    ("No space left", "free some disk space and run the command again"),
    ("failed to download", "check the network and run the command again; what is downloaded and compiled is kept"),
    ("Could not resolve host", "check the network and run the command again; what is downloaded and compiled is kept"),
    ("failed to get", "check the network and run the command again; what is downloaded and compiled is kept"),
    ("", "read the log; run the command again to go on where it stopped"),
];

/// The workspace of the two copies. Optimisation 1 in 16 units instead of evcxr's own 3: the kernel starts 2 to 3 s later, cells are as fast, and
/// two cores need 6 minutes instead of 17.
const WORKSPACE: &str = "\
# Written by `cargo xtask setup`.
[workspace]
members = [\"evcxr_jupyter\"]
exclude = [\"evcxr\", \"found\"]
resolver = \"2\"

[patch.crates-io]
evcxr = { path = \"evcxr\" }

[profile.release]
opt-level = 1
codegen-units = 16
";

pub fn make(project: &Project, parts: &mut Parts) -> Result {
    let stamp = project.made("evcxr/made-from");
    let wanted = format!("evcxr_jupyter {VERSION}, {}\n\n{WORKSPACE}\n{CHANGES}", rust(project).0);
    if fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) && project.evcxr().exists() {
        return Ok(());
    }
    let build = project.made("build-evcxr");
    // What is compiled already is kept, and then little is left to do.
    let minutes = if build.exists() { 0.0 } else { PROCESSOR_MINUTES };
    parts.announce(&format!("evcxr_jupyter {VERSION}, the Rust kernel, with our changes (350 crates)"), minutes);
    let started = Instant::now();
    let sources = copies(project)?;
    changes::apply(&changes::parse(CHANGES)?, &sources)?;
    // The build folder stays, 0.7 GB: an interrupted build goes on where it was, and other changes take half a minute instead of six.
    let mut cargo = command::cargo(project);
    cargo.args(["build", "--release", "--locked", "--package", "evcxr_jupyter", "--manifest-path"]).arg(sources.join("Cargo.toml"));
    cargo.arg("--target-dir").arg(&build);
    // Not the flags of the project's own configuration: the kernel is a program of its own and links Rust's library into itself.
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "");
    command::logged(project, "evcxr", &mut cargo, REMEDIES)?;
    install(&build, project)?;
    project::write(&stamp, &wanted)?;
    parts.done(started, ".ia2/evcxr");
    Ok(())
}

/// Puts the program in its place in one move: a kernel may be running from the old one.
fn install(build: &Path, project: &Project) -> Result {
    let made = build.join("x86_64-unknown-linux-gnu/release/evcxr_jupyter");
    let program = project.evcxr();
    let partial = program.with_extension("partial");
    let folder = project.made("evcxr/bin");
    fs::create_dir_all(&folder).at(&folder)?;
    fs::copy(&made, &partial).at(&made)?;
    fs::rename(&partial, &program).at(&program)?;
    // What `cargo install` left there, in earlier versions of this set-up.
    project::remove(&project.made("evcxr/.crates.toml"))?;
    project::remove(&project.made("evcxr/.crates2.json"))
}

/// Fresh copies of the two crates in one workspace, with the lock file of the released program.
fn copies(project: &Project) -> Result<PathBuf> {
    let sources = project.made("evcxr-source");
    let found = metadata(project, &sources.join("found"))?;
    for name in ["evcxr", "evcxr_jupyter"] {
        let from = folder_in(&found, name).ok_or_else(|| {
            Failure::new(
                format!("cargo does not say where the sources of {name} {VERSION} are"),
                format!("run `cargo metadata --manifest-path {}` and see what it says", sources.join("found/Cargo.toml").display()),
            )
        })?;
        let to = sources.join(name);
        project::remove(&to)?;
        copy(&from, &to)?;
    }
    let lock = sources.join("evcxr_jupyter/Cargo.lock");
    project::write(&sources.join("Cargo.lock"), &unlocked(&fs::read_to_string(&lock).at(&lock)?)?)?;
    project::write(&sources.join("Cargo.toml"), WORKSPACE)?;
    Ok(sources)
}

/// What cargo knows of a package that depends on the two crates; cargo downloads them for that.
fn metadata(project: &Project, folder: &Path) -> Result<String> {
    let manifest = format!(
        "# Written by `cargo xtask setup`: with this, cargo downloads the two crates and says where they are.\n[workspace]\n\n[package]\n\
         name = \"found\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\nevcxr = \"={VERSION}\"\nevcxr_jupyter = \"={VERSION}\"\n"
    );
    project::write(&folder.join("Cargo.toml"), &manifest)?;
    project::write(&folder.join("src/lib.rs"), "")?;
    let manifest = folder.join("Cargo.toml");
    command::logged(project, "evcxr-fetch", command::cargo(project).args(["fetch", "--manifest-path"]).arg(&manifest), REMEDIES)?;
    let mut cargo = command::cargo(project);
    cargo.args(["metadata", "--format-version", "1", "--locked", "--offline", "--manifest-path"]).arg(&manifest);
    command::output(&mut cargo).ok_or_else(|| {
        Failure::new(
            "cargo metadata did not succeed for evcxr",
            format!("run it by hand: cargo metadata --manifest-path {}", manifest.display()),
        )
    })
}

/// The folder of a crate in what `cargo metadata` says.
fn folder_in(metadata: &str, name: &str) -> Option<PathBuf> {
    let metadata: serde_json::Value = serde_json::from_str(metadata).ok()?;
    let package = metadata["packages"].as_array()?.iter().find(|package| package["name"] == name && package["version"] == VERSION)?;
    Some(Path::new(package["manifest_path"].as_str()?).parent()?.to_owned())
}

/// A lock file in which evcxr is a folder next to it, not the registry's.
fn unlocked(lock: &str) -> Result<String> {
    let mut lock = project::table(lock, "the lock file of evcxr_jupyter")?;
    let packages = lock.get_mut("package").and_then(toml::Value::as_array_mut).into_iter().flatten();
    let is_evcxr = |package: &toml::Table| package["name"].as_str() == Some("evcxr") && package["version"].as_str() == Some(VERSION);
    let mut own: Vec<_> = packages.filter_map(toml::Value::as_table_mut).filter(|package| is_evcxr(package)).collect();
    let [package] = own.as_mut_slice() else {
        return Err(Failure::new(
            format!("the lock file of evcxr_jupyter {VERSION} does not name evcxr {VERSION} once"),
            "delete the folder registry/src in cargo's home, and run the command again: the sources there are not those that were published",
        ));
    };
    package.remove("source");
    package.remove("checksum");
    Ok(lock.to_string())
}

fn copy(from: &Path, to: &Path) -> Result {
    fs::create_dir_all(to).at(to)?;
    for entry in fs::read_dir(from).at(from)? {
        let (from, to) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).at(from)?;
        if from.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to).at(&from)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_crate_is_found_in_what_cargo_says() {
        let package = |name: &str, version: &str| json!({"name": name, "version": version, "manifest_path": format!("/a b/{name}-{version}/Cargo.toml")});
        let said =
            json!({"packages": [package("evcxr_jupyter", VERSION), package("evcxr", "0.1.0"), package("evcxr", VERSION)]}).to_string();
        assert_eq!(folder_in(&said, "evcxr"), Some("/a b/evcxr-0.22.0".into()));
        assert_eq!(folder_in(&said, "evcxr_jupyter"), Some("/a b/evcxr_jupyter-0.22.0".into()));
        assert_eq!(folder_in(&said, "evcxr_input"), None);
    }

    #[test]
    fn the_lock_names_the_folder_beside_it() {
        let package = |name: &str, more: &str| format!("\n[[package]]\nname = \"{name}\"\nversion = \"{VERSION}\"\n{more}");
        let registry = "source = \"registry+https\"\nchecksum = \"ee\"\n";
        let (other, last) = (package("other", registry), package("z", registry));
        let parsed = |text: &str| text.parse::<toml::Table>().unwrap();
        let lock = unlocked(&format!("version = 4\n{other}{}{last}", package("evcxr", registry))).unwrap();
        assert_eq!(parsed(&lock), parsed(&format!("version = 4\n{other}{}{last}", package("evcxr", ""))));
        assert!(unlocked(&format!("version = 4\n{other}")).unwrap_err().to_string().contains("does not name evcxr"));
    }
}
