//! Whether this process holds the library twice.
//!
//! A notebook's cells share one `libia2.so`. Where a cell is linked with a copy of its own, that copy has its own polars and its own type
//! identities: columns of a frame from another cell are not found, registered hooks are not seen. Wrong results look like right ones, so
//! the copy that is used second refuses to work.

use super::{RTLD_NOLOAD, RTLD_NOW};
use crate::error::{Error, Result};
use libloading::os::unix::Library;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Each copy exports its own; a name of C, so that it can be looked up.
#[unsafe(no_mangle)]
static IA2_COPY_MARKER: u8 = 1;

const MARKER: &[u8] = b"IA2_COPY_MARKER\0";

/// A torch error if another copy of this library was loaded before this one was first used; looked up once.
pub(crate) fn check() -> Result<()> {
    static OTHER: OnceLock<Option<PathBuf>> = OnceLock::new();
    match OTHER.get_or_init(other) {
        None => Ok(()),
        Some(file) => Err(Error::torch(format!(
            "a second copy of ia2 is in this process (the first is in `{}`), and values of one would be misread by the other: in a notebook, \
             restart the kernel, and if it happens again run `cargo xtask setup`; elsewhere, link ia2 once, as a dylib",
            file.display()
        ))),
    }
}

/// The file of another copy, if there is one.
fn other() -> Option<PathBuf> {
    // Without /proc there is nothing to look at; this platform has it unless it is hidden on purpose.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let files: BTreeSet<&str> = maps.lines().filter_map(|line| Some(&line[line.find(" /")? + 1..])).collect();
    files
        .into_iter()
        .map(Path::new)
        .find(|file| marker(file).is_some_and(|address| address != &raw const IA2_COPY_MARKER))
        .map(Path::to_owned)
}

/// Where a loaded file, or what it is linked with, has the marker.
fn marker(file: &Path) -> Option<*const u8> {
    // SAFETY: only what is loaded already is opened, so no initialiser runs; the address is not read.
    unsafe {
        let library = Library::open(Some(file), RTLD_NOW | RTLD_NOLOAD).ok()?;
        Some(library.get::<*const u8>(MARKER).ok()?.into_raw().cast_const().cast())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn another_copy_is_found() {
        // First, because the answer is kept: other tests run guarded calls meanwhile.
        check().unwrap();
        assert_eq!(other(), None);
        let folder = tempfile::tempdir().unwrap();
        let (source, file) = (folder.path().join("copy.c"), folder.path().join("libcopy.so"));
        std::fs::write(&source, "unsigned char IA2_COPY_MARKER = 1;\n").unwrap();
        assert!(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&file).arg(&source).status().unwrap().success());
        // SAFETY: the library has no code.
        let library = unsafe { Library::open(Some(&file), RTLD_NOW) }.unwrap();
        assert_eq!(other().unwrap(), file.canonicalize().unwrap());
        library.close().unwrap();
        assert_eq!(other(), None);
    }
}
