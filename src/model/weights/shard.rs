//! One safetensors file, mapped, with its header read and checked.

use super::copy;
use super::mapped::{Mapped, PIECE, something_else};
use crate::error::{Error, Result};
use safetensors::tensor::{Dtype, Metadata, SafeTensorError, SafeTensors, TensorInfo};
use std::ops::Range;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The header's length in bytes stands in the first eight.
const LENGTH: usize = 8;

/// One file.
pub(super) struct Shard {
    file: Mapped,
    header: Metadata,
    /// Where the data begins in the file.
    start: usize,
}

impl Shard {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = Mapped::open(path)?;
        let (length, header) = SafeTensors::read_metadata(file.bytes()).map_err(|error| explain(path, file.bytes(), error))?;
        let start = LENGTH + length;
        // The header's pages stay otherwise.
        file.let_go(0..start);
        Ok(Self { file, header, start })
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
        self.file.check_length()?;
        let mut tensor = Tensor::f_empty(&shape, (kind, Device::Cpu))?;
        let range = self.range(info);
        let mut done = 0;
        for piece in pieces(range) {
            self.file.fetch(&piece)?;
            copy::bytes_into(&mut tensor, done, &self.file.bytes()[piece.clone()])?;
            done += piece.len();
            self.file.let_go(piece);
        }
        copy::demand_finite(&tensor, || format!("the weight `{name}` in `{}`", self.file.path().display()))?;
        Ok(tensor)
    }

    /// True if two tensors hold the same bytes in the same kind and shape.
    pub(super) fn same_bytes(&self, name: &str, other: &Shard, other_name: &str) -> Result<bool> {
        let (info, other_info) = (self.info(name)?, other.info(other_name)?);
        if info.dtype != other_info.dtype || info.shape != other_info.shape {
            return Ok(false);
        }
        self.file.check_length()?;
        other.file.check_length()?;
        for (piece, other_piece) in pieces(self.range(info)).zip(pieces(other.range(other_info))) {
            self.file.fetch(&piece)?;
            other.file.fetch(&other_piece)?;
            let same = self.file.bytes()[piece.clone()] == other.file.bytes()[other_piece.clone()];
            self.file.let_go(piece);
            other.file.let_go(other_piece);
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn info(&self, name: &str) -> Result<&TensorInfo> {
        self.header.info(name).ok_or_else(|| Error::internal(format!("`{}` has no tensor `{name}`", self.file.path().display())))
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
                self.file.path().display()
            ))),
        }
    }
}

/// Cuts a range into pieces of at most [`PIECE`] bytes.
fn pieces(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    range.clone().step_by(PIECE).map(move |start| start..range.end.min(start + PIECE))
}

/// Says what is wrong with a file whose header was refused, and what to do.
fn explain(path: &Path, bytes: &[u8], error: SafeTensorError) -> Error {
    let (place, held) = (path.display(), bytes.len());
    // A header's length may be written as any of these letters.
    let other = something_else(bytes).filter(|_| !looks_cut(bytes));
    let what = if let Some(what) = other {
        what.to_owned()
    } else if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02") {
        "is a Python pickle under a safetensors name: save the model with `save_pretrained`".to_owned()
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
