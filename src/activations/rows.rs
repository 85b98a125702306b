//! One tensor per example, kept together: in one piece in memory, or in several that lie in files.

use sha2::{Digest, Sha256};
use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::file;

/// Tensors whose first axis is *example*; every other axis but *token* has one size. Pieces of a file are mapped: memory holds what is read.
#[derive(Debug)]
pub(super) struct Rows {
    pieces: Vec<Tensor>,
    /// Which axis of a piece is *token*.
    token: i64,
    /// What stands for the content in a digest, where reading all of it would undo the mapping: that of the collection it comes from.
    identity: Option<String>,
}

impl Rows {
    pub fn whole(values: Tensor, token: i64) -> Self {
        Self { pieces: vec![values], token, identity: None }
    }

    /// The pieces of one collection; at least one.
    pub fn pieces(pieces: Vec<Tensor>, token: i64, identity: String) -> Self {
        Self { pieces, token, identity: Some(identity) }
    }

    pub fn examples(&self) -> usize {
        self.pieces.iter().map(|piece| piece.size()[0] as usize).sum()
    }

    /// The size of all in one tensor, padded to the longest.
    pub fn size(&self) -> Vec<i64> {
        let mut size = self.pieces[0].size();
        size[0] = self.examples() as i64;
        size[self.token as usize] = self.pieces.iter().map(|piece| piece.size()[self.token as usize]).max().unwrap_or(0);
        size
    }

    pub fn kind(&self) -> Kind {
        self.pieces[0].kind()
    }

    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| super::bytes(&piece.size(), piece.kind())).sum()
    }

    /// True if the pieces lie in mapped files.
    pub fn on_disk(&self) -> bool {
        self.identity.is_some()
    }

    /// One example with its first `length` tokens, without the axis *example*; shares memory.
    pub fn get(&self, index: usize, length: usize) -> Result<Tensor> {
        let mut row = index as i64;
        for piece in &self.pieces {
            let here = piece.size()[0];
            if row < here {
                return Ok(piece.f_get(row)?.f_narrow(self.token - 1, 0, length as i64)?);
            }
            row -= here;
        }
        Err(Error::input(format!("example {index} does not exist: there are {}", self.examples())))
    }

    /// All in one tensor: shared where there is one piece, else a copy of them all, padded with zeros.
    pub fn gather(&self) -> Result<Tensor> {
        if let [whole] = self.pieces.as_slice() {
            return Ok(whole.shallow_clone());
        }
        let all = Tensor::f_zeros(self.size(), (self.kind(), self.pieces[0].device()))?;
        let mut row = 0;
        for piece in &self.pieces {
            let size = piece.size();
            all.f_narrow(0, row, size[0])?.f_narrow(self.token, 0, size[self.token as usize])?.f_copy_(piece)?;
            row += size[0];
        }
        Ok(all)
    }

    /// One place of the axis behind *example*, which then is gone: a layer of activations.
    pub fn at(&self, place: i64) -> Result<Self> {
        let pieces = self.pieces.iter().map(|piece| Ok(piece.f_select(1, place)?)).collect::<Result<_>>()?;
        Ok(Self { pieces, token: self.token - 1, identity: self.identity.clone() })
    }

    /// A digest of the content, or of the collection that made it.
    pub fn digest(&self) -> String {
        if let Some(identity) = &self.identity {
            return identity.clone();
        }
        let mut digest = Sha256::new();
        for piece in &self.pieces {
            digest.update(format!("{:?} {:?}", piece.kind(), piece.size()));
            // One example at a time: a copy of all of it may not fit beside it.
            for row in 0..piece.size()[0] {
                digest.update(file::content(&piece.get(row)));
            }
        }
        format!("{:x}", digest.finalize())
    }

    pub fn shared(&self) -> Self {
        Self { pieces: self.pieces.iter().map(Tensor::shallow_clone).collect(), token: self.token, identity: self.identity.clone() }
    }
}
