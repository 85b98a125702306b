//! A linear module as an adapter meets it.

use tch::Tensor;

use crate::error::Result;

/// A weight `[out, in]` and its bias `[out]`, if it has one.
pub(crate) type LinearWeights = (Tensor, Option<Tensor>);

/// A linear module of the base model, frozen: where it is, its weight, and what it makes of an input.
pub(crate) struct Frozen<'a> {
    path: &'a str,
    base: &'a dyn Fn(&Tensor) -> Result<Tensor>,
    weights: &'a dyn Fn() -> Result<LinearWeights>,
}

impl<'a> Frozen<'a> {
    /// The module at `path`; `base` must give a fresh tensor, which nobody else holds.
    pub(crate) fn new(path: &'a str, base: &'a dyn Fn(&Tensor) -> Result<Tensor>, weights: &'a dyn Fn() -> Result<LinearWeights>) -> Self {
        Self { path, base, weights }
    }

    /// The module's path, such as `model.layers.3.self_attn.q_proj`.
    pub(crate) fn path(&self) -> &str {
        self.path
    }

    /// `W x + b` from any number of axes before the last, as a fresh tensor that nobody else holds.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor> {
        (self.base)(input)
    }

    /// The weight `[out, in]` and the bias `[out]`, if there is one, in the model's kind.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub(crate) fn weights(&self) -> Result<LinearWeights> {
        (self.weights)()
    }
}

impl std::fmt::Debug for Frozen<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frozen({})", self.path)
    }
}
