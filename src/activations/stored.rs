//! A tensor that stays in its file, of which memory holds the examples that are asked for.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};
use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::file::{self, Source};

/// A tensor `[example, ...]` in a file.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    source: Arc<Source>,
    start: u64,
    size: Vec<i64>,
    kind: Kind,
    /// One place of the axis behind *example*, which then is gone.
    place: Option<i64>,
    /// By [`digest`], one for each example, and which of them have been compared.
    digests: Arc<[String]>,
    compared: Arc<[AtomicBool]>,
}

/// SHA-256 of one example's bytes after its kind and size.
pub(super) fn digest(kind: Kind, size: &[i64], bytes: &[u8]) -> String {
    let mut digest = Sha256::new();
    digest.update(format!("{kind:?} {size:?} "));
    digest.update(bytes);
    format!("{:x}", digest.finalize())
}

/// The digests of a tensor's examples.
pub(super) fn digests(values: &Tensor) -> Vec<String> {
    let size = values.size();
    (0..size[0]).map(|row| digest(values.kind(), &size[1..], &file::content(&values.get(row)))).collect()
}

impl Stored {
    /// A tensor that begins at a place of the file; `None` if there is not one digest for each example.
    pub(super) fn new(source: &Arc<Source>, start: u64, size: Vec<i64>, kind: Kind, digests: &[String]) -> Option<Self> {
        let compared = digests.iter().map(|_| AtomicBool::new(false)).collect();
        let fits = size.first().is_some_and(|&rows| rows as usize == digests.len());
        fits.then(|| Self { source: source.clone(), start, size, kind, place: None, digests: digests.into(), compared })
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn size(&self) -> Vec<i64> {
        let mut size = self.size.clone();
        if self.place.is_some() {
            size.remove(1);
        }
        size
    }

    /// One place of the axis behind *example*.
    pub(super) fn at(&self, place: i64) -> Result<Self> {
        match self.place {
            None if self.size.len() > 1 && (0..self.size[1]).contains(&place) => Ok(Self { place: Some(place), ..self.clone() }),
            _ => Err(Error::internal(format!("no place {place} in {:?}", self.size))),
        }
    }

    /// One example, read from the file. The first time, and whenever somebody has written into the file meanwhile, all of it is read and compared
    /// with its digest.
    pub(super) fn get(&self, row: i64) -> Result<Tensor> {
        let size = &self.size[1..];
        let bytes = size.iter().product::<i64>() as u64 * self.kind.elt_size_in_bytes() as u64;
        let missing = || Error::internal(format!("no example {row} in {:?}", self.size));
        // Before anything is counted with it: a place before the first would overflow.
        let compared = usize::try_from(row).ok().and_then(|row| self.compared.get(row)).ok_or_else(missing)?;
        let start = self.start + row as u64 * bytes;
        let inner = self.size();
        let (from, length) = self.place.map_or((0, bytes), |place| (place as u64 * (bytes / size[0] as u64), bytes / size[0] as u64));
        if compared.load(Ordering::Relaxed) {
            let read = self.read(start + from, length)?;
            if self.source.is_as_opened() {
                return Ok(Tensor::f_from_data_size(&read, &inner[1..], self.kind)?);
            }
        }
        let read = self.read(start, bytes)?;
        if digest(self.kind, size, &read) != self.digests[row as usize] {
            return Err(self.spoilt());
        }
        compared.store(true, Ordering::Relaxed);
        Ok(Tensor::f_from_data_size(&read[from as usize..(from + length) as usize], &inner[1..], self.kind)?)
    }

    fn read(&self, start: u64, bytes: u64) -> Result<Vec<u8>> {
        let mut read = vec![0; bytes as usize];
        self.source.file().read_exact_at(&mut read, start).map_err(|error| self.spoilt().because(error))?;
        Ok(read)
    }

    fn spoilt(&self) -> Error {
        let place = self.source.path().display();
        Error::file(format!("{place} was changed, cut short or damaged after it was written: delete it, and collect again"))
    }
}
