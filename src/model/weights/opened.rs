//! A file of weights, read by places.

use crate::error::{Error, Result};
use crate::file::{self, Source};
use crate::interrupt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// One opened file.
pub(in crate::model) struct Opened(Source);

impl Opened {
    /// A file error if it is missing, empty or no file.
    pub(in crate::model) fn open(path: &Path) -> Result<Self> {
        let place = path.display();
        let source = Source::open(path).map_err(|error| Error::file(format!("`{place}` cannot be read")).because(error))?;
        if source.size() == 0 {
            return Err(Error::file(format!("`{place}` is empty: download it again")));
        }
        Ok(Self(source))
    }

    pub(in crate::model) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(in crate::model) fn file(&self) -> &File {
        self.0.file()
    }

    pub(in crate::model) fn length(&self) -> u64 {
        self.0.size()
    }

    pub(in crate::model) fn source(&self) -> Result<Source> {
        let unkept = |error| Error::file(format!("`{}` cannot be kept open", self.path().display())).because(error);
        self.0.try_clone().map_err(unkept)
    }

    /// Fills `bytes` from a place of the file on.
    pub(in crate::model) fn read(&self, start: u64, bytes: &mut [u8]) -> Result<()> {
        let changed = || {
            let place = self.path().display();
            Error::file(format!("`{place}` was changed while it was being loaded, or its disk fails: open the model again"))
        };
        for (place, piece) in (0..).zip(bytes.chunks_mut(file::PIECE)) {
            if place > 0 {
                interrupt::check()?;
            }
            self.file().read_exact_at(piece, start + place * file::PIECE as u64).map_err(|error| changed().because(error))?;
        }
        match self.file().metadata() {
            Ok(meta) if meta.len() == self.length() => Ok(()),
            _ => Err(changed()),
        }
    }
}
