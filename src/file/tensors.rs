//! Safetensors files: written from tensors, read with their text metadata.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, SafeTensorError, View};
use tch::{Kind, Tensor};

use super::seal;
use crate::error::{Error, Result};

/// The header's length in bytes stands in the first eight.
pub(crate) const LENGTH: usize = 8;
/// What the format allows.
const LONGEST_HEADER: u64 = 100_000_000;
/// What is read of a file whose header's length makes no sense.
const GLANCE: u64 = 512;

/// The first bytes of a safetensors file, its header included, and what the header says. The tensors themselves are not read.
pub(crate) struct Head {
    pub bytes: Vec<u8>,
    pub metadata: Metadata,
}

impl Head {
    /// Reads the head of a file of `length` bytes; where it is none, the first bytes come with the reason.
    pub(crate) fn read(file: &File, length: u64) -> std::io::Result<std::result::Result<Self, (Vec<u8>, SafeTensorError)>> {
        let first = |count: u64| {
            let mut bytes = Vec::new();
            seal::From(file, 0).take(count.min(length)).read_to_end(&mut bytes).map(|_| bytes)
        };
        let glance = first(GLANCE)?;
        let Some(header) = glance.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) else {
            return Ok(Err((glance, SafeTensorError::HeaderTooSmall)));
        };
        if header > LONGEST_HEADER {
            return Ok(Err((glance, SafeTensorError::HeaderTooLarge)));
        }
        let bytes = first(LENGTH as u64 + header)?;
        if (bytes.len() as u64) < LENGTH as u64 + header {
            return Ok(Err((bytes, SafeTensorError::InvalidHeaderLength)));
        }
        let text = match std::str::from_utf8(&bytes[LENGTH..]) {
            Ok(text) => text,
            Err(error) => return Ok(Err((bytes, SafeTensorError::InvalidHeader(error)))),
        };
        match serde_json::from_str::<Metadata>(text) {
            Err(error) => Ok(Err((bytes, SafeTensorError::InvalidHeaderDeserialization(error)))),
            Ok(metadata) if bytes.len() as u64 + metadata.data_len() as u64 != length => {
                Ok(Err((bytes, SafeTensorError::MetadataIncompleteBuffer)))
            }
            Ok(metadata) => Ok(Ok(Self { bytes, metadata })),
        }
    }

    /// The metadata's text under a key.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.metadata.metadata().as_ref()?.get(key).map(String::as_str)
    }
}

/// libtorch's kind of a stored type; `None` for those that this library stores nothing in.
pub(crate) fn kind(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F32 => Some(Kind::Float),
        Dtype::F64 => Some(Kind::Double),
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        Dtype::I64 => Some(Kind::Int64),
        _ => None,
    }
}

/// A tensor as safetensors wants it.
pub(super) struct Stored<'t> {
    dtype: Dtype,
    shape: Vec<usize>,
    tensor: &'t Tensor,
}

impl<'t> Stored<'t> {
    pub fn new(name: &str, tensor: &'t Tensor) -> Result<Self> {
        let dtype = match tensor.kind() {
            Kind::Float => Dtype::F32,
            Kind::Double => Dtype::F64,
            Kind::Half => Dtype::F16,
            Kind::BFloat16 => Dtype::BF16,
            Kind::Int64 => Dtype::I64,
            other => return Err(Error::internal(format!("`{name}` of kind {other:?} cannot be stored"))),
        };
        Ok(Self { dtype, shape: tensor.size().iter().map(|&axis| axis as usize).collect(), tensor })
    }
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        super::content(self.tensor).into()
    }
    fn data_len(&self) -> usize {
        self.tensor.numel() * self.tensor.kind().elt_size_in_bytes()
    }
}

/// What a safetensors file holds.
pub(crate) struct Tensors {
    pub tensors: HashMap<String, Tensor>,
    pub texts: HashMap<String, String>,
}

impl Tensors {
    /// Refuses a file that came without a checksum, where this library alone writes such files.
    pub(crate) fn demand_checksum(&self, path: &Path, remedy: &str) -> Result<()> {
        if self.texts.contains_key(seal::CHECKSUM) { Ok(()) } else { Err(seal::unsealed(path, remedy)) }
    }
}

/// All tensors by name, and the text metadata. A checksum of ours is compared; `remedy` is for the message.
pub(crate) fn read_tensors(path: &Path, remedy: &str) -> Result<Tensors> {
    let malformed =
        |error| Error::file(format!("{} is no readable safetensors file (truncated?): {remedy}", path.display())).because(error);
    let bytes = std::fs::read(path).map_err(|error| Error::file(format!("cannot read {}", path.display())).because(error))?;
    let (header, metadata) = safetensors::SafeTensors::read_metadata(&bytes).map_err(malformed)?;
    let texts = metadata.metadata().clone().unwrap_or_default();
    let (head, rest) = bytes.split_at(LENGTH + header);
    let sealed = seal::holds(head, rest).map_err(|error| Error::file(format!("cannot read {}", path.display())).because(error))?;
    if sealed == Some(false) || sealed.is_none() && texts.contains_key(seal::CHECKSUM) {
        return Err(seal::broken(path, remedy));
    }
    let file = safetensors::SafeTensors::deserialize(&bytes).map_err(malformed)?;
    let mut tensors = HashMap::new();
    for (name, view) in file.tensors() {
        let Some(kind) = kind(view.dtype()) else {
            return Err(Error::file(format!("{}: `{name}` has the unsupported type {:?}: {remedy}", path.display(), view.dtype())));
        };
        let shape: Vec<i64> = view.shape().iter().map(|&axis| axis as i64).collect();
        tensors.insert(name, Tensor::f_from_data_size(view.data(), &shape, kind)?);
    }
    Ok(Tensors { tensors, texts })
}
