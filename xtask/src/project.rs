//! Where everything lies.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::{At, Failure, Result};

pub struct Project {
    pub root: PathBuf,
}

impl Project {
    /// The checkout this xtask was started from.
    pub fn here() -> Project {
        // cargo sets the variable when it runs us; the compiled-in value would be wrong after the checkout has been moved.
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.parent().expect("xtask lies inside the project").to_owned();
        // evcxr resolves links in dependency paths; with another spelling of the same folder cargo would build the library twice.
        Project { root: root.canonicalize().unwrap_or(root) }
    }

    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// A path inside `.ia2`, the folder of all that set-up makes.
    pub fn made(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(".ia2").join(path)
    }

    pub fn libtorch(&self) -> PathBuf {
        self.made("libtorch")
    }

    pub fn python(&self) -> PathBuf {
        self.made("python/bin/python")
    }

    pub fn evcxr(&self) -> PathBuf {
        self.made("evcxr/bin/evcxr_jupyter")
    }

    /// What our Python programs and pages go to.
    pub fn output(&self) -> PathBuf {
        self.join("target/notebooks")
    }
}

/// Writes a file so that it is there entirely or not at all, and leaves an equal one untouched. Says whether it wrote.
pub fn write(path: &Path, text: &str) -> Result<bool> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(false);
    }
    let folder = path.parent().expect("a file has a folder");
    fs::create_dir_all(folder).at(folder)?;
    let partial = path.with_extension("partial");
    fs::write(&partial, text).at(&partial)?;
    fs::rename(&partial, path).at(path)?;
    Ok(true)
}

/// A text in TOML; `what` it is, for the message.
pub fn table(text: &str, what: &str) -> Result<toml::Table> {
    let broken =
        |error| Failure::new(format!("{what} is not TOML: {error}"), "take the file as it was published, and run the command again");
    text.parse().map_err(broken)
}

/// Removes a file, a link or a folder if it is there.
pub fn remove(path: &Path) -> Result {
    match path.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(found) if found.is_dir() => fs::remove_dir_all(path).at(path),
        Ok(_) => fs::remove_file(path).at(path),
    }
}
