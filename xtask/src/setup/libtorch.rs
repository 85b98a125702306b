//! libtorch 2.11, in `.ia2/libtorch`: the one that `LIBTORCH` names, else the one in the active Python environment, else the Python
//! registry's wheel, of which the CPU needs a few files only.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::Parts;
use super::python::PIP_REMEDIES;
use crate::command;
use crate::failure::{At, Failure, Result};
use crate::project::{self, Project};

/// tch 0.24 is made for this one.
const VERSION: (u32, u32) = (2, 11);
const TORCH: &str = "torch==2.11.0";
/// What the registry's libtorch_cpu.so loads even when there is no GPU.
const CUDA_STUBS: [&str; 2] = ["nvidia-cuda-runtime==13.0.96", "nvidia-cuda-cupti==13.0.85"];
/// Only the libraries in the wheel are used, so any Python's wheel does: always the same one, whatever the user's Python is.
const WHEEL: [&str; 12] = [
    "--python-version",
    "3.11",
    "--only-binary=:all:",
    "--implementation",
    "cp",
    "--platform",
    "manylinux_2_28_x86_64",
    "--platform",
    "manylinux_2_25_x86_64",
    "--platform",
    "manylinux2014_x86_64",
    "--no-input",
];

pub fn make(project: &Project, cuda: bool, parts: &mut Parts) -> Result {
    let place = project.libtorch();
    let ours = |named: &PathBuf| named.file_name() == place.file_name() && parent(named) == parent(&place);
    // Where the user's shell has no LIBTORCH, cargo's configuration here gives us the place itself, made or not.
    if let Some(named) = std::env::var_os("LIBTORCH").map(PathBuf::from).filter(|named| !named.as_os_str().is_empty() && !ours(named)) {
        return use_named(project, &named, parts);
    }
    let usable = version(&place) == Some(VERSION) && place.join("lib/libtorch_cpu.so").exists();
    if usable && (!cuda || place.join("lib/libtorch_cuda.so").exists()) {
        return Ok(());
    }
    if let Some(torch) = active_environment(project, cuda) {
        parts.announce("libtorch, from the active Python environment", 0.0);
        let started = Instant::now();
        assemble(project, &["link", &torch.to_string_lossy()])?;
        parts.done(started, &torch.to_string_lossy());
        return Ok(());
    }
    if cuda { from_registry_with_cuda(project, parts) } else { from_registry(project, parts) }
}

fn parent(path: &Path) -> Option<PathBuf> {
    path.parent()?.canonicalize().ok()
}

/// The folder that `LIBTORCH` names. Later commands find it through a link, without the variable.
fn use_named(project: &Project, named: &Path, parts: &mut Parts) -> Result {
    let place = project.libtorch();
    let folder = named.canonicalize().map_err(|error| {
        Failure::new(format!("LIBTORCH is {}: {error}", named.display()), "unset LIBTORCH to let set-up fetch libtorch, or correct it")
    })?;
    // The link that an earlier set-up made of it.
    if place.canonicalize().is_ok_and(|here| here == folder) {
        return Ok(());
    }
    check_named(&folder)?;
    parts.announce("libtorch, from LIBTORCH", 0.0);
    let partial = project.made("libtorch.partial");
    project::remove(&partial)?;
    std::os::unix::fs::symlink(&folder, &partial).at(&partial)?;
    // A link replaces a link in one move; a folder of an earlier set-up has to go first.
    if place.symlink_metadata().is_ok_and(|found| found.is_dir()) {
        project::remove(&place)?;
    }
    fs::rename(&partial, &place).at(&place)
}

fn check_named(folder: &Path) -> Result {
    let missing = ["lib/libtorch.so", "lib/libtorch_cpu.so", "lib/libc10.so", "include/torch"];
    if let Some(missing) = missing.iter().find(|file| !folder.join(file).exists()) {
        return Err(Failure::new(
            format!("LIBTORCH is {}, where {missing} is missing", folder.display()),
            "let LIBTORCH name a folder with libtorch's lib and include (a Python environment's site-packages/torch is one), \
             or unset it to let set-up fetch libtorch",
        ));
    }
    match version(folder) {
        Some(VERSION) => Ok(()),
        found => Err(Failure::new(
            match found {
                Some((major, minor)) => format!("LIBTORCH is {}, which is torch {major}.{minor}; 2.11 is needed", folder.display()),
                None => format!("LIBTORCH is {}, whose version cannot be read from its headers", folder.display()),
            },
            "unset LIBTORCH to let set-up fetch torch 2.11, or let it name one",
        )),
    }
}

/// The torch folder of the active virtual or conda environment, where it fits.
fn active_environment(project: &Project, cuda: bool) -> Option<PathBuf> {
    let environment = std::env::var_os("VIRTUAL_ENV").or_else(|| std::env::var_os("CONDA_PREFIX"))?;
    // Found, not imported: importing torch takes seconds.
    let find = "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')";
    let python = Path::new(&environment).join("bin/python");
    let torch = PathBuf::from(command::output(command::new(project, python).args(["-c", find]))?);
    let say = |why: &str| println!("        (the torch in {} is not used: {why})", Path::new(&environment).display());
    if !torch.join("lib/libtorch_cpu.so").exists() {
        return None;
    }
    match version(&torch) {
        Some(VERSION) if cuda && !torch.join("lib/libtorch_cuda.so").exists() => {
            say("it has no CUDA part, and --cuda asks for one");
            None
        }
        Some(VERSION) => Some(torch),
        Some((major, minor)) => {
            say(&format!("it is {major}.{minor}, and 2.11 is needed"));
            None
        }
        None => {
            say("its version cannot be read");
            None
        }
    }
}

fn from_registry(project: &Project, parts: &mut Parts) -> Result {
    parts.announce("libtorch 2.11 for the CPU, from the Python registry (530 MB)", 0.0);
    let started = Instant::now();
    let wheels = project.made("download");
    let mut pip = command::new(project, project.python());
    pip.args(["-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]).args(WHEEL);
    pip.arg("--dest").arg(&wheels).arg(TORCH).args(CUDA_STUBS);
    command::logged(project, "libtorch-download", &mut pip, PIP_REMEDIES)?;
    assemble(project, &["unpack", &wheels.to_string_lossy()])?;
    project::remove(&wheels)?;
    parts.done(started, ".ia2/libtorch");
    Ok(())
}

fn from_registry_with_cuda(project: &Project, parts: &mut Parts) -> Result {
    parts.announce("libtorch 2.11 with CUDA, from the Python registry (about 3 GB)", 0.0);
    let started = Instant::now();
    let packages = project.made("torch");
    project::remove(&packages)?;
    let mut pip = command::new(project, project.python());
    pip.args(["-m", "pip", "install", "--no-compile", "--disable-pip-version-check"]).args(WHEEL);
    pip.arg("--target").arg(&packages).arg(TORCH);
    command::logged(project, "libtorch-cuda", &mut pip, PIP_REMEDIES)?;
    assemble(project, &["link", &packages.join("torch").to_string_lossy()])?;
    parts.done(started, ".ia2/libtorch, links into .ia2/torch");
    Ok(())
}

/// Makes the folder next to its place, then moves it there.
fn assemble(project: &Project, how: &[&str]) -> Result {
    let place = project.libtorch();
    let partial = project.made("libtorch.partial");
    project::remove(&partial)?;
    let mut python = command::new(project, project.python());
    python.arg(project.join("xtask/python/libtorch.py")).args(how).arg(&partial);
    command::logged(
        project,
        "libtorch",
        &mut python,
        &[("No space left", "free some disk space and run the command again"), ("", "read the log")],
    )?;
    if version(&partial) != Some(VERSION) {
        return Err(Failure::new("what was put together is not libtorch 2.11", "please report this, with .ia2/log"));
    }
    project::remove(&place)?;
    fs::rename(&partial, &place).at(&place)
}

/// The version that libtorch's own headers give.
fn version(folder: &Path) -> Option<(u32, u32)> {
    let headers = ["include/torch/headeronly/version.h", "include/torch/csrc/api/include/torch/version.h"];
    headers.iter().find_map(|header| {
        let text = fs::read_to_string(folder.join(header)).ok()?;
        let number = |name: &str| text.lines().find_map(|line| line.strip_prefix(&format!("#define {name} "))?.trim().parse().ok());
        Some((number("TORCH_VERSION_MAJOR")?, number("TORCH_VERSION_MINOR")?))
    })
}
