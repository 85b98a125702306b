//! Root-mean-square norm.

use tch::{Kind, Tensor};

use super::Source;
use super::pass::Pass;
use crate::error::Result;

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
        let kind = input.kind();
        let wide = if kind == Kind::Double { input.shallow_clone() } else { input.to_kind(Kind::Float) };
        let scale = (wide.square().mean_dim([-1i64].as_slice(), true, None) + self.epsilon).rsqrt();
        // The reference restores the kind before it multiplies with the weight.
        pass.hook(&self.path, (wide * scale).to_kind(kind) * &self.weight)
    }
}
