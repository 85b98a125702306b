//! The notebook kernel: how Jupyter starts it, and the folders it builds cells in, with the library built ahead.
//!
//! evcxr makes every cell a version of a crate `ctx`, in a folder that we choose. That folder is a member of a small workspace of ours,
//! which gives it what evcxr has no setting for: the project's `Cargo.lock`, and the project's profiles. The lock would otherwise be lost at
//! every start, when evcxr first builds a `ctx` without dependencies; a second member, `anchor`, depends on the library at all times.
//!
//! There are a few such folders, for as many kernels at once. The first is built; the others are linked copies of it. The project's own
//! `target` folder is given the compiled dependencies too, so that `cargo test` need not compile them again.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;

use super::{Parts, rust};
use crate::command;
use crate::failure::{At, Result};
use crate::project::{self, Project};

/// Kernels that can run at the same time.
const FOLDERS: usize = 4;
/// Processor time of building the library with all that it is made of.
pub const PROCESSOR_MINUTES: f64 = 20.0;
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
const REMEDIES: &[(&str, &str)] = &[
    ("No space left", "free some disk space and run the command again"),
    ("failed to download", "check the network and run the command again; what is compiled is kept"),
    ("Could not resolve host", "check the network and run the command again; what is compiled is kept"),
    ("signal: 9", "the compiler was killed, probably for want of memory: close other programs, or set CARGO_BUILD_JOBS=1"),
    ("could not compile `ia2`", "the library itself does not compile: see the errors above"),
    ("", "read the log; run the command again to go on where it stopped"),
];

pub fn make(project: &Project, parts: &mut Parts) -> Result {
    evcxr_configuration(project)?;
    let first = folder(project, 1);
    // Another Rust compiles everything again, which nobody should have to wait for in a cell: the kernel compares as well.
    let (rust, stamp) = (rust(project).0, project.made("notebook/rustc"));
    let updated = fs::read_to_string(&stamp).is_ok_and(|built| built != rust);
    let changed = workspace(project, &first)? || updated || !is_built(project);
    let started = Instant::now();
    if changed {
        parts.announce("the library, built ahead for notebooks", PROCESSOR_MINUTES);
        // evcxr looks at the packages of all platforms, at every start; they had better be here.
        let mut fetch = cargo_in(project, &first);
        command::logged(project, "notebook-fetch", fetch.arg("fetch"), REMEDIES)?;
    }
    build(project, &first)?;
    project::write(&stamp, &rust)?;
    if changed {
        parts.done(started, ".ia2/notebook");
    }
    for number in 2..=FOLDERS {
        copy_folder(project, &first, &folder(project, number))?;
    }
    share_dependencies(project, &first)?;
    // Last: an editor that lists the kernel may start it, and then everything has to be there.
    kernelspec(project)
}

pub fn is_built(project: &Project) -> bool {
    library(&folder(project, 1)).exists()
}

fn folder(project: &Project, number: usize) -> PathBuf {
    project.made(format!("notebook/{number}"))
}

fn target(folder: &Path) -> PathBuf {
    folder.join("ctx/target")
}

fn library(folder: &Path) -> PathBuf {
    target(folder).join(TRIPLE).join("debug/libia2.so")
}

/// Tells Jupyter how to start the kernel: for our own runs next to everything else, for editors in the user's folder.
fn kernelspec(project: &Project) -> Result {
    let start = project.join("xtask/kernel/start");
    let spec = json!({
        "argv": [start.to_string_lossy(), "{connection_file}"], "display_name": "Rust (ia2)", "language": "rust", "interrupt_mode": "message",
    });
    let text = format!("{spec:#}\n");
    project::write(&project.made("jupyter/kernels/ia2/kernel.json"), &text)?;
    let Some(data) = user_data() else { return Ok(()) };
    let users = data.join("kernels/ia2/kernel.json");
    let replaced = fs::read_to_string(&users).ok().filter(|old| *old != text);
    match project::write(&users, &text) {
        Ok(_) if replaced.is_some() => println!("set-up: the kernel \"Rust (ia2)\" in {} is now this checkout's", data.display()),
        Ok(_) => {}
        // Our own commands do not need it.
        Err(failure) => println!("set-up: editors will not list the kernel \"Rust (ia2)\": {failure}"),
    }
    Ok(())
}

/// Jupyter's folder of the user, as Jupyter finds it.
fn user_data() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("JUPYTER_DATA_DIR")
        .or_else(|| Some(variable("XDG_DATA_HOME")?.join("jupyter")))
        .or_else(|| Some(variable("HOME")?.join(".local/share/jupyter")))
}

/// What evcxr reads when a notebook's folder has no `evcxr.toml` of its own: the library, and its prelude, in every notebook.
fn evcxr_configuration(project: &Project) -> Result {
    let text = format!(
        "# Written by `cargo xtask setup`.\n[evcxr]\nprelude = \"use ia2::prelude::*;\"\n\n[dependencies]\nia2 = {{ path = {} }}\n",
        toml::Value::from(project.root.to_string_lossy().as_ref())
    );
    project::write(&project.made("evcxr-config/evcxr.toml"), &text)?;
    Ok(())
}

/// Writes the workspace that cells are built in; says whether anything changed that means compiling.
fn workspace(project: &Project, folder: &Path) -> Result<bool> {
    let manifest = project.join("Cargo.toml");
    let profiles = profiles(&fs::read_to_string(&manifest).at(&manifest)?)?;
    let members = "[workspace]\nmembers = [\"anchor\", \"ctx\"]\nresolver = \"3\"\n";
    let root = toml::Value::from(project.root.to_string_lossy().as_ref()).to_string();
    let package = |name: &str, version: &str, lib: &str| {
        format!(
            "[package]\nname = \"{name}\"\nversion = \"{version}\"\nedition = \"2024\"\n\n{lib}[dependencies]\nia2 = {{ path = {root} }}\n"
        )
    };
    // A loop written in a cell should not be twenty times slower than it need be; compiling the cell takes hardly longer.
    let cells = "[profile.dev.package.ctx]\nopt-level = 1\n";
    let manifest = format!("# Written by `cargo xtask setup`.\n{members}\n{profiles}\n{cells}");
    let mut changed = project::write(&folder.join("Cargo.toml"), &manifest)?;
    changed |= project::write(&folder.join("anchor/Cargo.toml"), &package("anchor", "0.0.0", ""))?;
    project::write(&folder.join("anchor/src/lib.rs"), "")?;
    // evcxr rewrites this one. A running kernel's is left alone; one that names another place is from before the checkout was moved.
    let cells = fs::read_to_string(folder.join("ctx/Cargo.toml")).unwrap_or_default();
    if cells.is_empty() || cells.contains("ia2 = ") && !cells.contains(&root) {
        project::write(&folder.join("ctx/src/lib.rs"), "")?;
        project::write(&folder.join("ctx/Cargo.toml"), &package("ctx", "1.0.0", "[lib]\ncrate-type = [\"cdylib\"]\n\n"))?;
    }
    // cargo adds the two members to its copy, so what was copied is remembered next to it.
    let lock = project.join("Cargo.lock");
    let lock = fs::read_to_string(&lock).at(&lock)?;
    if fs::read_to_string(folder.join("Cargo.lock.project")).is_ok_and(|copied| copied == lock) && folder.join("Cargo.lock").exists() {
        return Ok(changed);
    }
    project::write(&folder.join("Cargo.lock"), &lock)?;
    project::write(&folder.join("Cargo.lock.project"), &lock)?;
    Ok(true)
}

/// The profiles of a manifest.
fn profiles(manifest: &str) -> Result<String> {
    let mut manifest = project::table(manifest, "Cargo.toml")?;
    manifest.retain(|section, _| section == "profile");
    Ok(manifest.to_string())
}

/// Builds the library, and leaves `ctx` to evcxr.
fn build(project: &Project, folder: &Path) -> Result {
    let mut cargo = cargo_in(project, folder);
    command::logged(project, "notebook", cargo.args(["build", "--package", "anchor", "--target", TRIPLE]), REMEDIES)
}

/// cargo as evcxr runs it; anything else, and cells would build the library again.
fn cargo_in(project: &Project, folder: &Path) -> std::process::Command {
    let mut cargo = command::cargo(project);
    cargo.current_dir(folder.join("ctx"));
    cargo.env("CARGO_TARGET_DIR", "target").env("CARGO_BUILD_BUILD_DIR", "target").env("RUSTFLAGS", "-Cprefer-dynamic");
    cargo
}

/// Makes a further build folder, unless a kernel runs in it or it is up to date.
fn copy_folder(project: &Project, first: &Path, folder: &Path) -> Result {
    if workspace_of(first) == workspace_of(folder) && same_age(&library(first), &library(folder)) {
        return Ok(());
    }
    fs::create_dir_all(folder).at(folder)?;
    let lock = folder.join("lock");
    let lock_file = File::create(&lock).at(&lock)?;
    if lock_file.try_lock().is_err() {
        return Ok(());
    }
    link_tree(&target(first), &target(folder), &|name| !is_cell(name), true)?;
    // The lock file of cargo knows the two members already; with it nothing is looked up again.
    fs::copy(first.join("Cargo.lock"), folder.join("Cargo.lock")).at(folder)?;
    fs::copy(first.join("Cargo.lock.project"), folder.join("Cargo.lock.project")).at(folder)?;
    workspace(project, folder)?;
    Ok(())
}

fn workspace_of(folder: &Path) -> Option<(String, String)> {
    Some((fs::read_to_string(folder.join("Cargo.toml")).ok()?, fs::read_to_string(folder.join("Cargo.lock.project")).ok()?))
}

fn same_age(a: &Path, b: &Path) -> bool {
    let age = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    age(a).is_some() && age(a) == age(b)
}

/// Gives the project's own target folder the compiled dependencies, the first time. The library itself is left out: cargo sees it
/// differently from inside its own workspace.
fn share_dependencies(project: &Project, first: &Path) -> Result {
    let (source, destination) = (target(first), project.join("target"));
    let stamp = destination.join(TRIPLE).join("debug/.ia2-shared");
    if stamp.exists() {
        return Ok(());
    }
    link_tree(&source, &destination, &|name| !is_cell(name) && !name.starts_with("ia2-") && !name.starts_with("libia2"), false)?;
    project::write(&stamp, "The dependencies here were compiled for notebooks (`cargo xtask setup`).\n")?;
    Ok(())
}

/// What belongs to the cells of one kernel, or to cargo's bookkeeping of one folder.
fn is_cell(name: &str) -> bool {
    let cell = ["ctx", "libctx", "libcode_", "anchor", "libanchor"].iter().any(|prefix| name.starts_with(prefix));
    cell || ["incremental", ".cargo-lock", "CACHEDIR.TAG", ".rustc_info.json", "cargo-timings"].contains(&name)
}

/// Copies what a folder lacks of another, and with `refresh` what is older there, keeping times (cargo judges by them). What is compiled is
/// linked, so that it takes no disk: it is replaced when it changes, never written into. What cargo does write into is copied.
fn link_tree(source: &Path, destination: &Path, wanted: &dyn Fn(&str) -> bool, refresh: bool) -> Result {
    fs::create_dir_all(destination).at(destination)?;
    for entry in fs::read_dir(source).at(source)? {
        let entry = entry.at(source)?;
        let (from, to) = (entry.path(), destination.join(entry.file_name()));
        if !wanted(&entry.file_name().to_string_lossy()) {
            continue;
        }
        let metadata = entry.metadata().at(&from)?;
        if metadata.is_dir() {
            link_tree(&from, &to, wanted, refresh)?;
        } else if metadata.is_file() && (!to.exists() || refresh && !same_age(&from, &to)) {
            let compiled = ["rlib", "rmeta", "so", "a"].iter().any(|known| from.extension().is_some_and(|extension| extension == *known));
            project::remove(&to)?;
            if !((compiled || metadata.permissions().mode() & 0o111 != 0) && fs::hard_link(&from, &to).is_ok()) {
                fs::copy(&from, &to).at(&to)?;
                let modified = metadata.modified().at(&from)?;
                File::options().write(true).open(&to).and_then(|file| file.set_modified(modified)).at(&to)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_cut_out() {
        let manifest =
            "[package]\nname = \"a\"\n\n# why\n[profile.dev]\ndebug = false\n# more\n[profile.dev.package.\"*\"]\nopt-level = 1\n\n[lib]\n";
        assert_eq!(profiles(manifest).unwrap(), "[profile.dev]\ndebug = false\n\n[profile.dev.package.\"*\"]\nopt-level = 1\n");
        assert!(profiles("[package").is_err());
    }
}
