//! What is put on a model: an adapter, a vector; and at which token of a text a vector acts.

use std::rc::Rc;

use tch::Tensor;

use super::Model;
use crate::error::Result;
use crate::nn::{Adapt, Pass, Steer, Steered};

/// What [`Model::with`] puts on a model: an [`Adapter`](crate::adapter::Adapter), or a [`Vector`](crate::vector::Vector).
pub trait Change {
    /// The model with this on it.
    ///
    /// # Errors
    /// It does not fit the model.
    fn on(&self, model: &Model) -> Result<Model>;
}

impl Model {
    /// This model with an [`Adapter`](crate::adapter::Adapter) or a [`Vector`](crate::vector::Vector) on it, sharing the weights and what is put on
    /// them. It takes the place of an adapter, or a vector, that is already there; one of each can be on a model.
    ///
    /// A vector acts at the last token of each prompt: evaluation, generation, scores, capture and the lens see it there, and later tokens what follows
    /// from it.
    ///
    /// # Errors
    /// The adapter or vector does not fit the model.
    pub fn with(&self, change: &impl Change) -> Result<Model> {
        change.on(self)
    }

    /// The same weights with an adapter on them; an adapter already there is replaced.
    pub(crate) fn adapted(&self, adapter: Rc<dyn Adapt>) -> Self {
        Self { adapter: Some(adapter), ..self.clone() }
    }

    /// The same weights with a vector on them; a vector already there is replaced.
    pub(crate) fn steered(&self, steer: Rc<Steer>) -> Self {
        Self { steer: Some(steer), ..self.clone() }
    }

    /// The same weights without an adapter or a vector.
    pub fn base(&self) -> Self {
        Self { base: self.base.clone(), adapter: None, steer: None }
    }

    /// True if an adapter or a vector is on the weights.
    pub fn is_adapted(&self) -> bool {
        self.adapter.is_some() || self.is_steered()
    }

    /// True if a vector is on the weights.
    pub fn is_steered(&self) -> bool {
        self.steer.is_some()
    }

    /// The vector's numbers, if one is on the model.
    pub(super) fn steering(&self) -> Option<(String, Tensor)> {
        let Steer { layer, edit, vector } = &**self.steer.as_ref()?;
        Some((format!("{edit:?} at {layer}"), vector.shallow_clone()))
    }

    /// Has the vector act in a forward at these positions, one for each row.
    pub(super) fn steer<'a>(&'a self, pass: &mut Pass<'a, '_>, ends: impl Iterator<Item = usize>) {
        if let Some(steer) = &self.steer {
            let ends: Vec<i64> = ends.map(|end| end as i64).collect();
            pass.steered = Some(Steered { steer, ends: Tensor::from_slice(&ends).to_device(self.device()) });
        }
    }
}

/// The tokens of a text, and where its query ends.
pub(crate) trait Row: AsRef<[u32]> {
    /// The place of the query's last token, from 0.
    fn asked(&self) -> usize {
        self.as_ref().len().saturating_sub(1)
    }
}

impl Row for Vec<u32> {}

/// A text that goes on after its query.
#[derive(Clone, Debug, Default)]
pub(crate) struct TokenRow {
    pub tokens: Vec<u32>,
    /// Tokens up to the query's end.
    pub query: usize,
}

impl AsRef<[u32]> for TokenRow {
    fn as_ref(&self) -> &[u32] {
        &self.tokens
    }
}

impl Row for TokenRow {
    fn asked(&self) -> usize {
        self.query.saturating_sub(1)
    }
}
