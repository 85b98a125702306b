//! `y = x W^T + b`, and what an adapter adds.

use tch::{Device, Kind, Tensor};

use super::Source;
use super::pass::Pass;
use crate::error::Result;
use crate::libtorch;

/// From this many rows on the copies into and out of oneDNN's layout are worth it.
const ONEDNN_ROWS: i64 = 48;

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
        let mut output = self.product(input);
        if let Some(adapter) = pass.adapter {
            output = adapter.linear(&self.path, input, output);
        }
        pass.hook(&self.path, output)
    }

    fn product(&self, input: &Tensor) -> Tensor {
        let rows = input.numel() as i64 / self.weight.size()[1].max(1);
        if rows >= ONEDNN_ROWS && input.device() == Device::Cpu && input.kind() == Kind::Float && libtorch::prefers_onednn() {
            let input = input.g_to_mkldnn(Kind::Float);
            return input.mkldnn_linear(&self.weight, self.bias.as_ref()).to_dense(Kind::Float, false);
        }
        input.linear(&self.weight, self.bias.as_ref())
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
