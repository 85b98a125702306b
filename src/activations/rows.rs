//! One tensor per example, kept together: in one piece in memory, or in several that lie in files.

use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use super::stored::Stored;
use crate::error::{Error, Result};
use crate::file;
use crate::interrupt;

/// Tensors whose first axis is *example*; every other axis but *token* has one size. Pieces stay in their files: memory holds what is read.
#[derive(Debug)]
pub(super) struct Rows {
    pieces: Vec<Piece>,
    /// Which axis of a piece is *token*.
    token: i64,
    /// What stands for the content in a digest, where reading all of it would take long: that of the collection it comes from.
    identity: Option<String>,
}

#[derive(Debug)]
enum Piece {
    Memory(Tensor),
    File(Stored),
}

impl Piece {
    fn size(&self) -> Vec<i64> {
        match self {
            Self::Memory(values) => values.size(),
            Self::File(stored) => stored.size(),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Memory(values) => values.kind(),
            Self::File(stored) => stored.kind(),
        }
    }

    fn get(&self, row: i64) -> Result<Tensor> {
        match self {
            Self::Memory(values) => Ok(values.f_get(row)?),
            Self::File(stored) => stored.get(row),
        }
    }
}

impl Rows {
    pub(super) fn whole(values: Tensor, token: i64) -> Self {
        Self { pieces: vec![Piece::Memory(values)], token, identity: None }
    }

    /// The pieces of one collection; at least one.
    pub(super) fn pieces(pieces: Vec<Stored>, token: i64, identity: String) -> Self {
        Self { pieces: pieces.into_iter().map(Piece::File).collect(), token, identity: Some(identity) }
    }

    pub(super) fn examples(&self) -> usize {
        self.pieces.iter().map(|piece| piece.size()[0] as usize).sum()
    }

    /// The size of all in one tensor, padded to the longest.
    pub(super) fn size(&self) -> Vec<i64> {
        let mut size = self.pieces[0].size();
        size[0] = self.examples() as i64;
        size[self.token as usize] = self.pieces.iter().map(|piece| piece.size()[self.token as usize]).max().unwrap_or(0);
        size
    }

    pub(super) fn kind(&self) -> Kind {
        self.pieces[0].kind()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| super::bytes(&piece.size(), piece.kind())).sum()
    }

    /// True if the pieces lie in files.
    pub(super) fn on_disk(&self) -> bool {
        self.identity.is_some()
    }

    /// One example with its first `length` tokens, without the axis *example*; shares memory where it lies there.
    pub(super) fn get(&self, index: usize, length: usize) -> Result<Tensor> {
        let mut row = index as i64;
        for piece in &self.pieces {
            let here = piece.size()[0];
            if row < here {
                return Ok(piece.get(row)?.f_narrow(self.token - 1, 0, length as i64)?);
            }
            row -= here;
        }
        Err(Error::input(format!("example {index} does not exist: there are {}", self.examples())))
    }

    /// All in one tensor: shared where there is one piece in memory, else a copy of them all, padded with zeros.
    pub(super) fn gather(&self) -> Result<Tensor> {
        if let [Piece::Memory(whole)] = self.pieces.as_slice() {
            return Ok(whole.shallow_clone());
        }
        interrupt::during("reading a collection", || {
            let all = Tensor::f_zeros(self.size(), (self.kind(), Device::Cpu))?;
            let mut place = 0;
            for piece in &self.pieces {
                let size = piece.size();
                for row in 0..size[0] {
                    interrupt::at(place as u64, self.examples() as u64, "examples")?;
                    all.f_get(place)?.f_narrow(self.token - 1, 0, size[self.token as usize])?.f_copy_(&piece.get(row)?)?;
                    place += 1;
                }
            }
            Ok(all)
        })
    }

    /// One place of the axis behind *example*, which then is gone: a layer of activations.
    pub(super) fn at(&self, place: i64) -> Result<Self> {
        let at = |piece: &Piece| {
            Ok(match piece {
                Piece::Memory(values) => Piece::Memory(values.f_select(1, place)?),
                Piece::File(stored) => Piece::File(stored.at(place)?),
            })
        };
        Ok(Self { pieces: self.pieces.iter().map(at).collect::<Result<_>>()?, token: self.token - 1, identity: self.identity.clone() })
    }

    /// A digest of the content, or of the collection that made it.
    pub(super) fn digest(&self) -> String {
        if let Some(identity) = &self.identity {
            return identity.clone();
        }
        let mut digest = Sha256::new();
        let in_memory = self.pieces.iter().filter_map(|piece| if let Piece::Memory(values) = piece { Some(values) } else { None });
        for piece in in_memory {
            digest.update(format!("{:?} {:?}", piece.kind(), piece.size()));
            // One example at a time: a copy of all of it may not fit next to it.
            for row in 0..piece.size()[0] {
                digest.update(file::content(&piece.get(row)));
            }
        }
        format!("{:x}", digest.finalize())
    }

    pub(super) fn shared(&self) -> Self {
        let share = |piece: &Piece| match piece {
            Piece::Memory(values) => Piece::Memory(values.shallow_clone()),
            Piece::File(stored) => Piece::File(stored.clone()),
        };
        Self { pieces: self.pieces.iter().map(share).collect(), token: self.token, identity: self.identity.clone() }
    }
}
