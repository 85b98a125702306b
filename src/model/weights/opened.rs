//! A file of weights, read by places.

use crate::error::{Error, Result};
use crate::file;
use crate::interrupt;
use crate::model::identity::Source;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// One opened file.
pub(in crate::model) struct Opened {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Opened {
    /// A file error if it is missing, empty or no file.
    pub(in crate::model) fn open(path: &Path) -> Result<Self> {
        let place = path.display();
        let unreadable = |error| Error::file(format!("`{place}` cannot be read")).because(error);
        let file = file::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        if length == 0 {
            return Err(Error::file(format!("`{place}` is empty: download it again")));
        }
        Ok(Self { path: path.to_owned(), file, length })
    }

    pub(in crate::model) fn path(&self) -> &Path {
        &self.path
    }

    pub(in crate::model) fn file(&self) -> &File {
        &self.file
    }

    pub(in crate::model) fn length(&self) -> u64 {
        self.length
    }

    pub(in crate::model) fn source(&self) -> Result<Source> {
        Source::new(&self.path, &self.file)
            .map_err(|error| Error::file(format!("`{}` cannot be kept open", self.path.display())).because(error))
    }

    /// Fills `bytes` from a place of the file on.
    pub(in crate::model) fn read(&self, start: u64, bytes: &mut [u8]) -> Result<()> {
        let changed = || {
            let place = self.path.display();
            Error::file(format!("`{place}` was changed while it was being loaded, or its disk fails: open the model again"))
        };
        for (place, piece) in (0..).zip(bytes.chunks_mut(file::PIECE)) {
            if place > 0 {
                interrupt::check()?;
            }
            self.file.read_exact_at(piece, start + place * file::PIECE as u64).map_err(|error| changed().because(error))?;
        }
        match self.file.metadata() {
            Ok(meta) if meta.len() == self.length => Ok(()),
            _ => Err(changed()),
        }
    }
}
