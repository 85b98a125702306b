//! Safetensors files: written from tensors, read with their text metadata.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, SafeTensorError};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tch::Tensor;

use super::seal;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::kind;

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

fn dtype(name: &str, tensor: &Tensor) -> Result<Dtype> {
    kind::dtype(tensor.kind()).ok_or_else(|| Error::internal(format!("`{name}` of kind {:?} cannot be stored", tensor.kind())))
}

/// A file to be written: the same tensors and texts give the same bytes, which the format's own library leaves to chance.
pub(super) struct Layout<'t> {
    head: Vec<u8>,
    tensors: Vec<&'t Tensor>,
}

impl<'t> Layout<'t> {
    pub(super) fn new(tensors: &'t [(String, Tensor)], texts: &HashMap<String, String>) -> Result<Self> {
        let typed = tensors.iter().map(|(name, tensor)| Ok((dtype(name, tensor)?, name, tensor)));
        let mut typed = typed.collect::<Result<Vec<_>>>()?;
        // Larger elements first, so that each tensor begins at a multiple of its element, as the format's own library has it.
        typed.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        let mut texts: BTreeMap<&str, &str> = texts.iter().map(|(key, text)| (key.as_str(), text.as_str())).collect();
        texts.insert(seal::CHECKSUM, seal::BLANK);
        let mut header = serde_json::Map::from_iter([("__metadata__".to_string(), serde_json::json!(texts))]);
        let mut end = 0;
        for (dtype, name, tensor) in &typed {
            let start = end;
            end += tensor.numel() * tensor.kind().elt_size_in_bytes();
            header.insert((*name).clone(), serde_json::json!({"dtype": dtype, "shape": tensor.size(), "data_offsets": [start, end]}));
        }
        let mut header = serde_json::Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(LENGTH), b' ');
        let head = [(header.len() as u64).to_le_bytes().as_slice(), &header].concat();
        Ok(Self { head, tensors: typed.into_iter().map(|(_, _, tensor)| tensor).collect() })
    }

    /// Writes it with its checksum, one tensor in memory at a time.
    pub(super) fn write(&self, file: &mut File) -> std::io::Result<()> {
        let mut digest = Sha256::new();
        let mut put = |bytes: &[u8]| {
            digest.update(bytes);
            file.write_all(bytes)
        };
        put(&self.head)?;
        for tensor in &self.tensors {
            for piece in super::content(tensor).chunks(super::PIECE) {
                interrupt::io()?;
                put(piece)?;
            }
        }
        seal::stamp(file, &self.head, &format!("{:x}", digest.finalize()))
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

/// Whether this library wrote a file with such metadata: then it has a checksum.
pub(crate) fn is_ours(texts: &HashMap<String, String>) -> bool {
    texts.contains_key(seal::CHECKSUM) || texts.contains_key(super::COMPANIONS)
}

/// All tensors by name, and the text metadata. A checksum of ours is compared; `remedy` is for the message.
pub(crate) fn read_tensors(path: &Path, remedy: &str) -> Result<Tensors> {
    let bytes = super::bytes(path, super::Holds::Tensors).map_err(|error| Error::unread(path, error))?;
    let malformed = |error| {
        let what =
            super::misidentified(&bytes, "numbers").unwrap_or_else(|| format!("is no readable safetensors file (truncated?): {remedy}"));
        Error::file(format!("{} {what}", path.display())).because(error)
    };
    let (header, metadata) = safetensors::SafeTensors::read_metadata(&bytes).map_err(malformed)?;
    let texts = metadata.metadata().clone().unwrap_or_default();
    let (head, rest) = bytes.split_at(LENGTH + header);
    let sealed = seal::holds(head, rest).map_err(|error| Error::unread(path, error))?;
    if sealed == Some(false) || sealed.is_none() && is_ours(&texts) {
        return Err(seal::broken(path, remedy));
    }
    let file = safetensors::SafeTensors::deserialize(&bytes).map_err(malformed)?;
    let mut tensors = HashMap::new();
    for (name, view) in file.tensors() {
        let Some(kind) = kind::of_dtype(view.dtype()) else {
            return Err(Error::file(format!("{}: `{name}` has the unsupported type {:?}: {remedy}", path.display(), view.dtype())));
        };
        let shape: Vec<i64> = view.shape().iter().map(|&axis| axis as i64).collect();
        tensors.insert(name, Tensor::f_from_data_size(view.data(), &shape, kind)?);
    }
    Ok(Tensors { tensors, texts })
}

/// The manifest under `key` of a file of ours, its tensor `values`, and its other tensors. `what` it should hold, as in "vector", and `remedy` are for
/// messages.
pub(crate) fn read_values<T: DeserializeOwned>(
    path: &Path,
    key: &str,
    what: &str,
    remedy: &str,
) -> Result<(T, Tensor, HashMap<String, Tensor>)> {
    let mut stored = read_tensors(path, remedy)?;
    let foreign = || Error::file(format!("{} holds no {what} of this library", path.display()));
    let text = stored.texts.get(key).ok_or_else(foreign)?;
    stored.demand_checksum(path, remedy)?;
    let manifest = serde_json::from_str(text).map_err(|error| foreign().because(error))?;
    let values = stored.tensors.remove("values").ok_or_else(foreign)?;
    Ok((manifest, values, stored.tensors))
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_any_changed_bit_shows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let kinds = [Kind::Half, Kind::Int64, Kind::Float, Kind::BFloat16, Kind::Double];
        let tensors: Vec<(String, Tensor)> = kinds
            .iter()
            .enumerate()
            .map(|(place, kind)| {
                (format!("t{place}"), (Tensor::arange(6, (Kind::Float, tch::Device::Cpu)) - place as i64).view([2, 3]).to_kind(*kind))
            })
            .collect();
        let texts = HashMap::from([("format".to_string(), "pt".to_string()), ("note".to_string(), "\"quoted\" \n".to_string())]);
        let write = || crate::file::write_safetensors(&path, &tensors, texts.clone()).unwrap();
        write();
        let whole = std::fs::read(&path).unwrap();
        write();
        assert!(whole == std::fs::read(&path).unwrap(), "the same content gives other bytes");
        let read = read_tensors(&path, "").unwrap();
        for (name, tensor) in &tensors {
            assert_eq!((read.tensors[name].kind(), &read.tensors[name]), (tensor.kind(), tensor));
        }
        assert_eq!(read.texts["note"], texts["note"]);
        // As the format's own readers see it.
        let theirs: HashMap<String, Tensor> = Tensor::read_safetensors(&path).unwrap().into_iter().collect();
        assert_eq!(theirs["t1"], tensors[1].1);
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 1 << (place % 8);
            std::fs::write(&path, bytes).unwrap();
            // A file without its checksum's name is another program's: who wants ours alone says so.
            let error = read_tensors(&path, "remedy").and_then(|read| read.demand_checksum(&path, "remedy")).unwrap_err();
            assert!(error.is_file() && error.to_string().contains("remedy"), "{place}: {error}");
        }
    }
}
