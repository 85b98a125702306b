//! A vector that enters the residual stream at one token of each text.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::error::Result;

/// What a vector does to the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edit {
    /// It takes the stream's place.
    Replace,
    /// It is added.
    Add,
}

/// A vector in its place.
#[derive(Debug)]
pub(crate) struct Steer {
    /// The layer whose output it changes, from 0.
    pub layer: usize,
    pub edit: Edit,
    /// `[hidden]`, at its strength.
    pub vector: Tensor,
}

/// The same in one forward.
pub(crate) struct Steered<'a> {
    pub steer: &'a Steer,
    /// `[example]`: position of the last token of each row's query, where it acts.
    pub ends: Tensor,
}

impl Steered<'_> {
    /// `stream [example, token, hidden]`, whose tokens lie at `positions` (`[example, token]` or `[1, token]`), after `layer`.
    pub(crate) fn apply(&self, layer: usize, stream: Tensor, positions: &Tensor) -> Result<Tensor> {
        if layer != self.steer.layer {
            return Ok(stream);
        }
        // [example, token, 1]
        let there = positions.f_eq_tensor(&self.ends.unsqueeze(1))?.unsqueeze(-1);
        let vector = self.steer.vector.to_device(stream.device()).to_kind(stream.kind());
        Ok(match self.steer.edit {
            Edit::Replace => vector.f_where_self(&there, &stream)?,
            Edit::Add => stream.f_add(&vector)?.f_where_self(&there, &stream)?,
        })
    }
}
