//! One safetensors file, mapped, with its header read and checked.

use super::copy;
use crate::error::{Error, Result};
use memmap2::{Advice, Mmap, UncheckedAdvice};
use safetensors::tensor::{Dtype, Metadata, SafeTensorError, SafeTensors, TensorInfo};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// Bytes copied before the pages they came from are let go: it bounds the mapped memory. A multiple of every element and page size.
const PIECE: usize = 4 << 20;

/// The header's length in bytes stands in the first eight.
const LENGTH: usize = 8;

/// The system's numbers for a page that cannot be had: EFAULT, and EIO from the disk.
const NO_PAGE: i32 = 14;
const FAILED: i32 = 5;

/// One mapped file.
pub(super) struct Shard {
    path: PathBuf,
    file: File,
    map: Mmap,
    header: Metadata,
    /// Where the data begins in the file.
    start: usize,
}

impl Shard {
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
        // SAFETY: the map is read-only, and its bytes are only copied. That nobody cuts the file short meanwhile cannot be had from the
        // operating system; the type's documentation asks for it, and `load` looks at the length before it reads.
        let map =
            unsafe { Mmap::map(&file) }.map_err(|error| Error::file(format!("`{place}` cannot be mapped into memory")).because(error))?;
        let (length, header) = SafeTensors::read_metadata(&map).map_err(|error| explain(path, &map, error))?;
        // The header's pages stay otherwise; both are hints, so their failure loses nothing.
        let _ = map.advise(Advice::Sequential);
        let shard = Self { path: path.to_owned(), file, map, header, start: LENGTH + length };
        shard.let_go(0..shard.start);
        Ok(shard)
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    pub(super) fn shape(&self, name: &str) -> Option<Vec<i64>> {
        // A dimension cannot exceed the file's length, which the header was checked against, so the cast is exact.
        self.header.info(name).map(|info| info.shape.iter().map(|&size| size as i64).collect())
    }

    pub(super) fn bytes(&self, name: &str) -> usize {
        self.header.info(name).map_or(0, |info| info.data_offsets.1 - info.data_offsets.0)
    }

    /// Copies a tensor into new memory of libtorch's and checks that it is finite.
    pub(super) fn load(&self, name: &str) -> Result<Tensor> {
        let info = self.info(name)?;
        let kind = self.kind(name, info)?;
        let shape = self.shape(name).unwrap_or_default();
        self.check_length()?;
        let mut tensor = Tensor::f_empty(&shape, (kind, Device::Cpu))?;
        let range = self.range(info);
        let mut done = 0;
        for piece in pieces(range) {
            self.fetch(&piece)?;
            copy::bytes_into(&mut tensor, done, &self.map[piece.clone()])?;
            done += piece.len();
            self.let_go(piece);
        }
        copy::demand_finite(&tensor, || format!("the weight `{name}` in `{}`", self.path.display()))?;
        Ok(tensor)
    }

    /// True if two tensors hold the same bytes in the same kind and shape.
    pub(super) fn same_bytes(&self, name: &str, other: &Shard, other_name: &str) -> Result<bool> {
        let (info, other_info) = (self.info(name)?, other.info(other_name)?);
        if info.dtype != other_info.dtype || info.shape != other_info.shape {
            return Ok(false);
        }
        self.check_length()?;
        other.check_length()?;
        for (piece, other_piece) in pieces(self.range(info)).zip(pieces(other.range(other_info))) {
            self.fetch(&piece)?;
            other.fetch(&other_piece)?;
            let same = self.map[piece.clone()] == other.map[other_piece.clone()];
            self.let_go(piece);
            other.let_go(other_piece);
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn info(&self, name: &str) -> Result<&TensorInfo> {
        self.header.info(name).ok_or_else(|| Error::internal(format!("`{}` has no tensor `{name}`", self.path.display())))
    }

    fn range(&self, info: &TensorInfo) -> Range<usize> {
        self.start + info.data_offsets.0..self.start + info.data_offsets.1
    }

    fn kind(&self, name: &str, info: &TensorInfo) -> Result<Kind> {
        match info.dtype {
            Dtype::F32 => Ok(Kind::Float),
            Dtype::BF16 => Ok(Kind::BFloat16),
            Dtype::F16 => Ok(Kind::Half),
            other => Err(Error::file(format!(
                "the weight `{name}` in `{}` is stored as {other}, but only F32, BF16 and F16 are supported: save the model in one of them",
                self.path.display()
            ))),
        }
    }

    fn check_length(&self) -> Result<()> {
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
    fn fetch(&self, range: &Range<usize>) -> Result<()> {
        match self.map.advise_range(Advice::PopulateRead, range.start, range.len()) {
            Err(error) if matches!(error.raw_os_error(), Some(NO_PAGE | FAILED)) => Err(self.changed().because(error)),
            // Kernels before 5.14 do not know this advice; then the pages come as they are touched.
            _ => Ok(()),
        }
    }

    /// Gives the pages of a range back, so that they do not count as this process's memory.
    fn let_go(&self, range: Range<usize>) {
        // SAFETY: for a read-only map of a file this advice drops pages that the next access reads from the file again; no write is lost.
        // It is a hint, and its failure costs memory only.
        let _ = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len()) };
    }
}

/// Cuts a range into pieces of at most [`PIECE`] bytes.
fn pieces(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    range.clone().step_by(PIECE).map(move |start| start..range.end.min(start + PIECE))
}

/// Says what is wrong with a file whose header was refused, and what to do.
fn explain(path: &Path, bytes: &[u8], error: SafeTensorError) -> Error {
    let (place, held) = (path.display(), bytes.len());
    let what = if bytes.starts_with(b"version https://git-lfs") {
        "is a pointer of Git LFS instead of the weights: run `git lfs pull` in its repository".to_owned()
    } else if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02") {
        "is a Python pickle under a safetensors name: save the model with `save_pretrained`".to_owned()
    } else if bytes.starts_with(b"<") && !bytes.get(LENGTH..).is_some_and(|rest| rest.starts_with(b"{")) {
        "is a web page instead of the weights: download it again".to_owned()
    } else {
        match (&error, promised(bytes)) {
            (SafeTensorError::MetadataIncompleteBuffer, Some(promised)) if promised > held => {
                format!("is truncated: it holds {held} bytes, but its header promises {promised}; download it again")
            }
            (SafeTensorError::MetadataIncompleteBuffer, Some(promised)) => {
                format!("holds {held} bytes, but its header describes only {promised}: download it again")
            }
            (SafeTensorError::InvalidHeaderLength, _) if looks_cut(bytes) => {
                format!("is truncated inside its header: it holds {held} bytes; download it again")
            }
            _ => "is not a valid safetensors file: download it again, or save the model with `save_pretrained`".to_owned(),
        }
    };
    Error::file(format!("`{place}` {what}")).because(error)
}

/// True if the file begins as a safetensors file does, so that only its end is missing.
fn looks_cut(bytes: &[u8]) -> bool {
    bytes.get(LENGTH) == Some(&b'{')
}

/// The file length that the header describes.
fn promised(bytes: &[u8]) -> Option<usize> {
    let length = usize::try_from(u64::from_le_bytes(bytes.get(..LENGTH)?.try_into().ok()?)).ok()?;
    let header: serde_json::Value = serde_json::from_slice(bytes.get(LENGTH..LENGTH.checked_add(length)?)?).ok()?;
    let ends = header.as_object()?.iter().filter(|(name, _)| *name != "__metadata__");
    let ends = ends.map(|(_, info)| info.get("data_offsets").and_then(|offsets| offsets.get(1)).and_then(|end| end.as_u64()));
    let end = ends.collect::<Option<Vec<u64>>>()?.into_iter().max().unwrap_or(0);
    LENGTH.checked_add(length)?.checked_add(usize::try_from(end).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::{TensorView, serialize_to_file};

    #[test]
    fn pages_that_are_gone_are_an_error_and_no_signal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let view = TensorView::new(Dtype::F32, vec![4096], &[0; 4 * 4096]).unwrap();
        serialize_to_file([("w", view)], None, &path).unwrap();
        let shard = Shard::open(&path).unwrap();
        let whole = 0..shard.map.len();
        if shard.map.advise_range(Advice::PopulateRead, 0, whole.len()).is_err() {
            crate::skipped("this kernel cannot fetch pages ahead");
            return;
        }
        shard.fetch(&whole).unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
        let error = shard.fetch(&whole).unwrap_err();
        assert!(error.is_file() && error.to_string().contains("was changed while it was being loaded"), "{error}");
    }
}
