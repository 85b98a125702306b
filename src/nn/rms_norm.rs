//! Root-mean-square norm.

use tch::Tensor;

use super::Source;
use super::pass::Pass;
use crate::error::Result;
use crate::libtorch::operations;

/// `x / sqrt(mean(x^2) + eps) * weight` over the last axis, computed in f32 at least and restored to the kind of `x` (Zhang & Sennrich 2019).
#[derive(Debug)]
pub struct RmsNorm {
    path: String,
    weight: Tensor,
    epsilon: f64,
}

impl RmsNorm {
    /// Takes `{path}.weight [width]`.
    pub fn new(path: String, width: i64, epsilon: f64, source: &mut Source<'_>) -> Result<Self> {
        let weight = source(&format!("{path}.weight"), &[width])?;
        Ok(Self { path, weight, epsilon })
    }

    /// Any shape whose last axis is the norm's width.
    pub fn forward(&self, input: &Tensor, pass: &mut Pass<'_, '_>) -> Result<Tensor> {
        pass.hook(&self.path, operations::rms_norm(input, &self.weight, self.epsilon)?)
    }
}
