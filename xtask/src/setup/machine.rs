//! What must be there before anything can be made: the platform, Rust, a C++ compiler, disk space.

use std::fmt;
use std::time::Instant;

use super::Parts;
use crate::command;
use crate::failure::{Failure, Result};
use crate::project::Project;

/// libtorch's wheel is built for this C library and later ones.
const GLIBC: (u32, u32) = (2, 28);
/// The release of Rust that everything is checked with. rust-toolchain.toml says `stable`, because where no other can be fetched a number there
/// would leave a machine without Rust; the Dockerfile has the number.
pub const CHECKED: &str = "1.95.0";
/// What a full set-up takes at its peak, downloads included.
const DISK_GB: f64 = 8.0;

pub fn check_platform() -> Result {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
        return Err(Failure::new(
            format!("this is {} on {}; set-up knows Linux on x86-64 with glibc only", std::env::consts::OS, std::env::consts::ARCH),
            "use a Linux x86-64 machine or container. Elsewhere the library itself may build with a LIBTORCH of your own (version 2.11), \
             but nothing here is tested there",
        ));
    }
    let version = command::output(std::process::Command::new("getconf").arg("GNU_LIBC_VERSION"));
    match version.as_deref().and_then(version_in) {
        Some(found) if found < GLIBC => Err(Failure::new(
            format!("glibc is {}.{}, and libtorch needs {}.{} or later", found.0, found.1, GLIBC.0, GLIBC.1),
            "use a newer distribution (Debian 10, Ubuntu 20.04, RHEL 8 or later), for example in a container",
        )),
        _ => Ok(()),
    }
}

pub fn check_rust(project: &Project, parts: &mut Parts) -> Result {
    const OLDEST: &str = env!("CARGO_PKG_RUST_VERSION");
    let rust = rust(project);
    match (version_in(&rust.0), version_in(OLDEST)) {
        (None, _) => return Err(Failure::new("rustc cannot be run", "install Rust with rustup (https://rustup.rs) and open a new shell")),
        (Some(found), Some(oldest)) if found < oldest => {
            return Err(Failure::new(format!("Rust is {rust}, and {OLDEST} or later is needed"), "run `rustup update stable`"));
        }
        _ if !rust.is_checked() => println!("set-up: this is Rust {rust}; {}", rust.advice()),
        _ => {}
    }
    let sysroot = command::output(command::new(project, "rustc").args(["--print", "sysroot"])).unwrap_or_default();
    if std::path::Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/src/lib.rs").exists() {
        return Ok(());
    }
    let by_hand = "run `rustup component add rust-src`; with a Rust that did not come from rustup, install your distribution's package of \
                   the standard library's source (Debian: rust-src)";
    if command::output(command::new(project, "rustup").arg("--version")).is_none() {
        return Err(Failure::new("the source of Rust's standard library is missing, and there is no rustup to fetch it with", by_hand));
    }
    parts.announce("rust-src, for the types of a notebook's variables", 0.0);
    let started = Instant::now();
    command::logged(project, "rust-src", command::new(project, "rustup").args(["component", "add", "rust-src"]), &[("", by_hand)])?;
    parts.done(started, "installed into your Rust toolchain");
    Ok(())
}

/// What `rustc --version` says, in the project's folder; nothing where there is no rustc.
pub struct Rust(pub String);

pub fn rust(project: &Project) -> Rust {
    Rust(command::output(command::new(project, "rustc").arg("--version")).unwrap_or_default())
}

impl Rust {
    pub fn is_checked(&self) -> bool {
        self.to_string() == CHECKED
    }

    pub fn advice(&self) -> String {
        format!(
            "everything is checked with {CHECKED}. Should something fail, take that one: `rustup toolchain install {CHECKED}`, and \
             RUSTUP_TOOLCHAIN={CHECKED} in the environment of set-up and Jupyter"
        )
    }
}

/// The version alone.
impl fmt::Display for Rust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.split_whitespace().nth(1).unwrap_or_default())
    }
}

pub fn check_compiler(project: &Project) -> Result {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let folder = project.made("");
    let probe = folder.join("probe.cpp");
    crate::project::write(&probe, "#include <string>\nint main() { return std::string().size(); }\n")?;
    let mut words = compiler.split_whitespace();
    let compiled = command::output(
        command::new(project, words.next().unwrap_or("c++")).args(words).args(["-std=c++17", "-o"]).arg(folder.join("probe")).arg(&probe),
    );
    let linker = command::output(command::new(project, "cc").arg("--version"));
    crate::project::remove(&probe)?;
    crate::project::remove(&folder.join("probe"))?;
    if compiled.is_none() || linker.is_none() {
        return Err(Failure::new(
            format!("`{compiler}` does not compile a small C++17 program, or `cc` is missing"),
            "install a C and C++ compiler: `sudo apt-get install build-essential` (Debian, Ubuntu), `sudo dnf install gcc-c++` (Fedora)",
        ));
    }
    Ok(())
}

pub fn check_disk(project: &Project) -> Result {
    // `df -P` prints one line per file system; its fourth column is what is free, in KiB.
    let table = command::output(command::new(project, "df").arg("-Pk").arg(&project.root)).unwrap_or_default();
    let free = table.lines().last().and_then(|line| line.split_whitespace().nth(3)?.parse::<f64>().ok()).map(|kib| kib * 1024.0 / 1e9);
    match free {
        Some(free) if free < DISK_GB => Err(Failure::new(
            format!("{free:.1} GB are free where the project lies, and a full set-up takes about {DISK_GB:.0} GB"),
            "free some space, or clone the project onto a larger disk",
        )),
        _ => Ok(()),
    }
}

/// The first `major.minor` in a text such as `rustc 1.95.0 (…)`.
pub fn version_in(text: &str) -> Option<(u32, u32)> {
    let word = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut numbers = word.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_rust_is_told() {
        let rust = |version: &str| Rust(format!("rustc {version} (59807616e 2026-04-14)"));
        assert!(rust(CHECKED).is_checked());
        for other in ["1.97.0-nightly", "1.95.1", "1.9.0"] {
            assert!(!rust(other).is_checked() && rust(other).advice().contains(CHECKED) && rust(other).to_string() == other);
        }
    }

    #[test]
    fn versions_are_found() {
        assert_eq!(version_in("rustc 1.95.0 (59807616e 2026-04-14)"), Some((1, 95)));
        assert_eq!(version_in("glibc 2.36"), Some((2, 36)));
        assert_eq!(version_in("Python 3.11.7"), Some((3, 11)));
        assert_eq!(version_in("2.11.0+cu130"), Some((2, 11)));
        assert_eq!(version_in("nothing"), None);
    }
}
