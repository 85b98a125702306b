//! `y = x W^T + b`, and what an adapter adds.

use tch::Tensor;

use super::Source;
use super::frozen::Frozen;
use super::pass::Pass;
use crate::error::Result;
use crate::libtorch::operations;

/// A linear module: an adapter site and a hook point at its path.
#[derive(Debug)]
pub struct Linear {
    path: String,
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Takes `{path}.weight [out, in]` and, where there is one, `{path}.bias [out]`.
    pub fn new(path: String, inputs: i64, outputs: i64, bias: bool, source: &mut Source<'_>) -> Result<Self> {
        let weight = source(&format!("{path}.weight"), &[outputs, inputs])?;
        let bias = bias.then(|| source(&format!("{path}.bias"), &[outputs])).transpose()?;
        Ok(Self { path, weight, bias })
    }

    /// A head that shares another module's weight.
    pub(crate) fn tied(path: &str, weight: &Tensor) -> Self {
        Self { path: path.to_string(), weight: weight.shallow_clone(), bias: None }
    }

    /// `[example, token, in]` to `[example, token, out]`.
    pub fn forward(&self, input: &Tensor, pass: &mut Pass<'_, '_>) -> Result<Tensor> {
        let bias = self.bias.as_ref();
        let base = |input: &Tensor| operations::linear(input, &self.weight, bias);
        let weights = || Ok((self.weight.shallow_clone(), bias.map(Tensor::shallow_clone)));
        let output = match pass.adapter {
            Some(adapter) => adapter.linear(&Frozen::new(&self.path, &base, &weights), input, pass.draws)?,
            None => base(input)?,
        };
        pass.hook(&self.path, output)
    }

    /// The module's path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `(in, out)` widths.
    pub fn widths(&self) -> (i64, i64) {
        let size = self.weight.size();
        (size[1], size[0])
    }
}
