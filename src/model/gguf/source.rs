//! The file itself, read where it is asked for. Nothing is mapped: a file that is cut short meanwhile is an error and no signal.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

pub(super) struct Source {
    path: PathBuf,
    pub file: File,
    pub length: u64,
}

impl Source {
    /// A file error if it is missing, empty, no file, or cannot be read.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let place = path.display();
        let unreadable = |error| Error::file(format!("`{place}` cannot be read: check its permissions")).because(error);
        // Asked before opening, which would wait for ever on a pipe.
        let meta = path.metadata().map_err(unreadable)?;
        if !meta.is_file() {
            return Err(Error::file(format!("`{place}` is not a file")));
        }
        if meta.len() == 0 {
            return Err(Error::file(format!("`{place}` is empty: download it again")));
        }
        let file = File::open(path).map_err(unreadable)?;
        Ok(Self { path: path.to_owned(), file, length: meta.len() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What a file is that was taken for a model, where that is seen from its beginning, and what to do.
    pub(super) fn something_else(&self) -> Option<&'static str> {
        let mut beginning = [0; 23];
        let read = self.file.read_at(&mut beginning, 0).unwrap_or(0);
        if beginning[..read].starts_with(b"version https://git-lfs") {
            Some("is a pointer of Git LFS instead of the model: run `git lfs pull` in its repository")
        } else if beginning[..read].starts_with(b"<") {
            Some("is a web page instead of the model: download it again")
        } else {
            None
        }
    }

    /// The bytes from `at` on; an error if the file is no longer as long as when it was opened.
    pub(super) fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        let changed = || {
            let place = self.path.display();
            Error::file(format!("`{place}` was changed while it was being loaded, or its disk fails: open the model again"))
        };
        self.file.read_exact_at(into, at).map_err(|error| changed().because(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_cut_short_meanwhile_is_an_error_and_no_signal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, [7; 4 * 4096]).unwrap();
        let source = Source::open(&path).unwrap();
        let mut bytes = [0; 4096];
        source.read(8192, &mut bytes).unwrap();
        assert_eq!((bytes, source.length), ([7; 4096], 4 * 4096));
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
        let error = source.read(8192, &mut bytes).unwrap_err();
        assert!(error.is_file() && error.to_string().contains("was changed while it was being loaded"), "{error}");
        assert!(Source::open(&path).err().unwrap().to_string().contains("is empty"));
        assert!(Source::open(folder.path()).err().unwrap().to_string().contains("is not a file"));
    }
}
