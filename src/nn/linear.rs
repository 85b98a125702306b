//! `y = x W^T + b`, and what an adapter adds.

use tch::Tensor;

use super::Source;
use super::frozen::{Frozen, Weights};
use super::pass::Pass;
use crate::error::Result;
use crate::libtorch::operations;

/// A linear module: an adapter site and a hook point at its path.
#[derive(Debug)]
pub struct Linear {
    path: String,
    widths: (i64, i64),
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Takes `{path}.weight [out, in]` and, where there is one, `{path}.bias [out]`.
    pub fn new(path: String, inputs: i64, outputs: i64, bias: bool, source: &mut Source<'_>) -> Result<Self> {
        let weight = source(&format!("{path}.weight"), &[outputs, inputs])?;
        let bias = bias.then(|| source(&format!("{path}.bias"), &[outputs])).transpose()?;
        Ok(Self { path, widths: (inputs, outputs), weight, bias })
    }

    /// A head that shares another module's weight `[out, in]`.
    pub(crate) fn tied(path: &str, inputs: i64, outputs: i64, weight: &Tensor) -> Self {
        Self { path: path.to_string(), widths: (inputs, outputs), weight: weight.shallow_clone(), bias: None }
    }

    /// `[example, token, in]` to `[example, token, out]`.
    pub fn forward(&self, input: &Tensor, pass: &mut Pass<'_, '_>) -> Result<Tensor> {
        let output = self.adapted(input, pass)?;
        pass.hook(&self.path, output)
    }

    /// The same without hooks.
    pub(crate) fn adapted(&self, input: &Tensor, pass: &Pass<'_, '_>) -> Result<Tensor> {
        match pass.adapter {
            Some(adapter) => {
                let base = |input: &Tensor| self.base(input);
                let weights = || Ok(self.weights());
                adapter.linear(&Frozen::new(&self.path, &base, &weights), input, pass.draws)
            }
            None => self.base(input),
        }
    }

    /// Without hooks and adapter: a fresh tensor.
    pub(super) fn base(&self, input: &Tensor) -> Result<Tensor> {
        operations::linear(input, &self.weight, self.bias.as_ref())
    }

    /// The weight `[out, in]` and the bias, if there is one.
    pub(super) fn weights(&self) -> Weights {
        (self.weight.shallow_clone(), self.bias.as_ref().map(Tensor::shallow_clone))
    }

    /// The module's path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `(in, out)` widths.
    pub fn widths(&self) -> (i64, i64) {
        self.widths
    }
}
