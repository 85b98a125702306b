//! One safetensors file with its header read and checked.

use super::copy;
use super::opened::Opened;
use crate::error::{Error, Result};
use crate::file::{self, Head, Holds, LENGTH};
use crate::kind;
use crate::model::identity;
use safetensors::tensor::{Dtype, SafeTensorError, TensorInfo};
use std::ops::Range;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Bytes compared in one go.
const PIECE: usize = 1 << 20;

/// What a model is saved with besides its weights and read from.
const BESIDE: [&str; 3] = ["config.json", "generation_config.json", "tokenizer.json"];

/// One opened file.
pub(super) struct Shard {
    file: Opened,
    head: Head,
}

impl Shard {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = Opened::open(path)?;
        let length = file.length();
        let head =
            Head::read(file.file(), length).map_err(|error| Error::file(format!("`{}` cannot be read", path.display())).because(error))?;
        let head = head.map_err(|(bytes, error)| explain(path, &bytes, length, error))?;
        Ok(Self { file, head })
    }

    /// See [`Weights::check_saved`](super::Weights::check_saved).
    pub(super) fn check_saved(&self, folder: &Path) -> Result<()> {
        let Some(texts) = self.head.metadata.metadata().as_ref().filter(|texts| file::is_ours(texts)) else { return Ok(()) };
        identity::check_seal(self.path(), self.file.file(), &self.head.bytes)?;
        for path in BESIDE.map(|name| folder.join(name)).iter().filter(|path| path.is_file()) {
            let bytes = file::bytes(path, Holds::Vocabulary)
                .map_err(|error| Error::file(format!("cannot read {}", path.display())).because(error))?;
            file::check_companion(texts, path, &bytes, "save the model again, or open it by `OpenOptions::as_it_is`")?;
        }
        Ok(())
    }

    pub(super) fn source(&self) -> Result<file::Source> {
        self.file.source()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.head.metadata.offset_keys()
    }

    pub(super) fn shape(&self, name: &str) -> Option<Vec<i64>> {
        // A dimension cannot exceed the file's length, which the header was checked against, so the cast is exact.
        self.head.metadata.info(name).map(|info| info.shape.iter().map(|&size| size as i64).collect())
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// The kind that the header gives.
    pub(super) fn dtype(&self, name: &str) -> Option<Dtype> {
        self.head.metadata.info(name).map(|info| info.dtype)
    }

    /// Up to `most` numbers from the middle of a tensor of 16-bit numbers.
    pub(super) fn sixteen_bits(&self, name: &str, most: usize) -> Result<Vec<u16>> {
        let range = self.range(self.info(name)?);
        let count = range.len() / 2;
        let taken = count.min(most);
        let mut bytes = vec![0; 2 * taken];
        self.file.read((range.start + (count - taken) / 2 * 2) as u64, &mut bytes)?;
        Ok(bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect())
    }

    pub(super) fn bytes(&self, name: &str) -> usize {
        self.head.metadata.info(name).map_or(0, |info| info.data_offsets.1 - info.data_offsets.0)
    }

    /// Reads a tensor into new memory of libtorch's and checks that it is finite.
    pub(super) fn load(&self, name: &str) -> Result<Tensor> {
        let info = self.info(name)?;
        let kind = self.kind(name, info)?;
        let shape = self.shape(name).unwrap_or_default();
        let mut tensor = Tensor::f_empty(&shape, (kind, Device::Cpu))?;
        let range = self.range(info);
        self.file.read(range.start as u64, copy::bytes_of(&mut tensor, range.len())?)?;
        copy::demand_finite(&tensor, || format!("the weight `{name}` in `{}`", self.path().display()))?;
        Ok(tensor)
    }

    /// True if two tensors hold the same bytes in the same kind and shape.
    pub(super) fn same_bytes(&self, name: &str, other: &Shard, other_name: &str) -> Result<bool> {
        let (info, other_info) = (self.info(name)?, other.info(other_name)?);
        if info.dtype != other_info.dtype || info.shape != other_info.shape {
            return Ok(false);
        }
        let (mut ours, mut theirs) = (vec![0; PIECE], vec![0; PIECE]);
        for (piece, other_piece) in pieces(self.range(info)).zip(pieces(other.range(other_info))) {
            let (ours, theirs) = (&mut ours[..piece.len()], &mut theirs[..piece.len()]);
            self.file.read(piece.start as u64, ours)?;
            other.file.read(other_piece.start as u64, theirs)?;
            if ours != theirs {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn info(&self, name: &str) -> Result<&TensorInfo> {
        self.head.metadata.info(name).ok_or_else(|| Error::internal(format!("`{}` has no tensor `{name}`", self.path().display())))
    }

    fn range(&self, info: &TensorInfo) -> Range<usize> {
        self.head.bytes.len() + info.data_offsets.0..self.head.bytes.len() + info.data_offsets.1
    }

    fn kind(&self, name: &str, info: &TensorInfo) -> Result<Kind> {
        kind::of_dtype(info.dtype).filter(|kind| kind::in_config(*kind).is_some()).ok_or_else(|| {
            Error::file(format!(
                "the weight `{name}` in `{}` is stored as {}, but only F32, BF16 and F16 are supported: save the model in one of them",
                self.path().display(),
                info.dtype
            ))
        })
    }
}

/// Cuts a range into pieces of at most [`PIECE`] bytes.
fn pieces(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    range.clone().step_by(PIECE).map(move |start| start..range.end.min(start + PIECE))
}

/// Says what is wrong with a file of `held` bytes whose header was refused, and what to do; `bytes` are its first, the header included.
fn explain(path: &Path, bytes: &[u8], held: u64, error: SafeTensorError) -> Error {
    let place = path.display();
    let what = file::misidentified(bytes, "weights").unwrap_or_else(|| match (&error, promised(bytes)) {
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
    });
    Error::file(format!("`{place}` {what}")).because(error)
}

/// True if the file begins as a safetensors file does, so that only its end is missing.
fn looks_cut(bytes: &[u8]) -> bool {
    bytes.get(LENGTH) == Some(&b'{')
}

/// The file length that the header describes.
fn promised(bytes: &[u8]) -> Option<u64> {
    let length = usize::try_from(u64::from_le_bytes(bytes.get(..LENGTH)?.try_into().ok()?)).ok()?;
    let header: serde_json::Value = serde_json::from_slice(bytes.get(LENGTH..LENGTH.checked_add(length)?)?).ok()?;
    let ends = header.as_object()?.iter().filter(|(name, _)| *name != "__metadata__");
    let ends = ends.map(|(_, info)| info.get("data_offsets").and_then(|offsets| offsets.get(1)).and_then(|end| end.as_u64()));
    let end = ends.collect::<Option<Vec<u64>>>()?.into_iter().max().unwrap_or(0);
    (LENGTH as u64).checked_add(length as u64)?.checked_add(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::{TensorView, serialize_to_file};

    #[test]
    fn what_is_cut_short_while_it_is_loaded_is_an_error_and_no_signal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let view = TensorView::new(Dtype::F32, vec![4096], &[0; 4 * 4096]).unwrap();
        serialize_to_file([("w", view)], None, &path).unwrap();
        let shard = Shard::open(&path).unwrap();
        assert_eq!(shard.load("w").unwrap().size(), [4096]);
        for length in [1 << 20, 8000, 0] {
            std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
            let error = shard.load("w").unwrap_err();
            assert!(error.is_file() && error.to_string().contains("was changed while it was being loaded"), "{error}");
        }
    }
}
