//! A file of weights, mapped: its pages come when they are asked for and go when they have been read.

use crate::error::{Error, Result};
use memmap2::{Advice, Mmap, UncheckedAdvice};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Bytes copied before the pages they came from are let go: it bounds the mapped memory. A multiple of every element and page size.
pub(in crate::model) const PIECE: usize = 4 << 20;

/// How far around a page that is asked for the system may map others that it has in memory (64 KiB, or a large page of its cache).
const AROUND: usize = 1 << 20;

/// The system's numbers for a page that cannot be had: EFAULT, and EIO from the disk.
const NO_PAGE: i32 = 14;
const FAILED: i32 = 5;

/// One mapped file.
pub(in crate::model) struct Mapped {
    path: PathBuf,
    file: File,
    map: Mmap,
}

impl Mapped {
    /// A file error if it is missing, empty, no file, or cannot be mapped.
    pub(in crate::model) fn open(path: &Path) -> Result<Self> {
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
        // SAFETY: the map is read-only, and its bytes are only copied. That nobody cuts the file short meanwhile cannot be had from the
        // operating system; the documentation of `Weights` asks for it, and `check_length` looks at the length before a tensor is read.
        let map =
            unsafe { Mmap::map(&file) }.map_err(|error| Error::file(format!("`{place}` cannot be mapped into memory")).because(error))?;
        // A hint, so its failure loses nothing.
        let _ = map.advise(Advice::Sequential);
        Ok(Self { path: path.to_owned(), file, map })
    }

    pub(in crate::model) fn path(&self) -> &Path {
        &self.path
    }

    pub(in crate::model) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// An error if the file is no longer as long as when it was mapped.
    pub(in crate::model) fn check_length(&self) -> Result<()> {
        match self.file.metadata() {
            Ok(meta) if meta.len() == self.map.len() as u64 => Ok(()),
            _ => Err(self.changed()),
        }
    }

    fn changed(&self) -> Error {
        let place = self.path.display();
        Error::file(format!("`{place}` was changed while it was being loaded, or its disk fails: open the model again"))
    }

    /// Maps the pages of a range in one go: many times faster than page by page as they are touched, and pages that cannot be had,
    /// because the file was cut short or the disk fails, are an error instead of the signal that touching them would raise.
    pub(in crate::model) fn fetch(&self, range: &Range<usize>) -> Result<()> {
        match self.map.advise_range(Advice::PopulateRead, range.start, range.len()) {
            Err(error) if matches!(error.raw_os_error(), Some(NO_PAGE | FAILED)) => Err(self.changed().because(error)),
            // Kernels before 5.14 do not know this advice; then the pages come as they are touched.
            _ => Ok(()),
        }
    }

    /// Gives the pages of a range back, so that they do not count as this process's memory; and those around it that came unasked.
    pub(in crate::model) fn let_go(&self, range: Range<usize>) {
        let range = range.start.saturating_sub(AROUND)..self.map.len().min(range.end + AROUND);
        // SAFETY: for a read-only map of a file this advice drops pages that the next access reads from the file again; no write is lost.
        // It is a hint, and its failure costs memory only.
        let _ = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len()) };
    }
}

/// What a file is that was taken for weights, where that is seen from its beginning, and what to do.
pub(in crate::model) fn something_else(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(b"version https://git-lfs") {
        Some("is a pointer of Git LFS instead of the weights: run `git lfs pull` in its repository")
    } else if bytes.starts_with(b"<") {
        Some("is a web page instead of the weights: download it again")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_are_gone_are_an_error_and_no_signal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, [0; 4 * 4096]).unwrap();
        let mapped = Mapped::open(&path).unwrap();
        let whole = 0..mapped.bytes().len();
        if mapped.map.advise_range(Advice::PopulateRead, 0, whole.len()).is_err() {
            crate::skipped("this kernel cannot fetch pages ahead");
            return;
        }
        mapped.fetch(&whole).unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
        let error = mapped.fetch(&whole).unwrap_err();
        assert!(error.is_file() && error.to_string().contains("was changed while it was being loaded"), "{error}");
    }
}
