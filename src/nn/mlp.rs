//! The gated feed-forward block.

use tch::Tensor;

use super::Source;
use super::linear::Linear;
use super::pass::Pass;
use crate::error::Result;
use crate::libtorch::operations;

/// `down(silu(gate(x)) * up(x))` (Shazeer 2020, SwiGLU).
#[derive(Debug)]
pub struct Mlp {
    path: String,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Mlp {
    /// Takes `gate_proj`, `up_proj` and `down_proj` below `path`.
    pub fn new(path: String, hidden: i64, intermediate: i64, bias: bool, source: &mut Source<'_>) -> Result<Self> {
        Ok(Self {
            gate: Linear::new(format!("{path}.gate_proj"), hidden, intermediate, bias, source)?,
            up: Linear::new(format!("{path}.up_proj"), hidden, intermediate, bias, source)?,
            down: Linear::new(format!("{path}.down_proj"), intermediate, hidden, bias, source)?,
            path,
        })
    }

    /// `[example, token, hidden]` to the same.
    pub fn forward(&self, input: &Tensor, pass: &mut Pass<'_, '_>) -> Result<Tensor> {
        let gated = operations::swiglu(&self.gate.forward(input, pass)?, &self.up.forward(input, pass)?)?;
        let output = self.down.forward(&gated, pass)?;
        pass.hook(&self.path, output)
    }

    /// The linear modules, in the order they run.
    pub(crate) fn linears(&self) -> [&Linear; 3] {
        [&self.gate, &self.up, &self.down]
    }
}
