//! Norms.

use tch::Tensor;

use super::Source;
use super::pass::Pass;
use crate::error::Result;
use crate::kind::wide;
use crate::libtorch::operations;

/// A kind of norm over the last axis, with weight `w`, the kind's `eps`, and means over the axis; computed in f32 at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NormKind {
    /// `x / sqrt(mean(x^2) + eps)`, brought back to the kind of `x`, times `w` (Zhang & Sennrich 2019; as Llama rounds it).
    Rms,
    /// `x / sqrt(mean(x^2) + eps) * w`, then brought back to the kind of `x`.
    WideRms,
    /// `x / sqrt(mean(x^2) + eps) * (1 + w)`, then brought back to the kind of `x`.
    WideRmsPlusOne,
    /// `(x - mean(x)) / sqrt(var(x) + eps) * w + b` (Ba et al. 2016).
    Layer,
}

/// A norm over the last axis; a hook point at its path.
#[derive(Debug)]
pub(crate) struct Norm {
    path: String,
    /// What the input is multiplied with, `1 + w` where that is it; of the wider kind where it meets the input before that is brought back.
    weight: Tensor,
    bias: Option<Tensor>,
    epsilon: f64,
}

impl Norm {
    /// Takes `{path}.weight [width]` and, for a layer norm, `{path}.bias [width]`.
    ///
    /// # Errors
    /// What the source refuses.
    pub(crate) fn new(path: String, kind: NormKind, width: i64, epsilon: f64, source: &mut Source<'_>) -> Result<Self> {
        let weight = source(&format!("{path}.weight"), &[width])?;
        let bias = (kind == NormKind::Layer).then(|| source(&format!("{path}.bias"), &[width])).transpose()?;
        let weight = match kind {
            NormKind::Rms | NormKind::Layer => weight,
            NormKind::WideRms => weight.f_to_kind(wide(weight.kind()))?,
            NormKind::WideRmsPlusOne => weight.f_to_kind(wide(weight.kind()))?.f_add_scalar(1.0)?,
        };
        Ok(Self { path, weight, bias, epsilon })
    }

    /// Any shape whose last axis is the norm's width.
    ///
    /// # Errors
    /// When libtorch or a hook refuses.
    pub(crate) fn forward(&self, input: &Tensor, pass: &mut Pass<'_, '_>) -> Result<Tensor> {
        let output = match &self.bias {
            Some(bias) => operations::layer_norm(input, &self.weight, bias, self.epsilon)?,
            None => operations::rms_norm(input, &self.weight, self.epsilon)?,
        };
        pass.hook(&self.path, output)
    }

    /// `input + added`, and its norm.
    pub(crate) fn of_sum(&self, input: &Tensor, added: &Tensor, pass: &mut Pass<'_, '_>) -> Result<(Tensor, Tensor)> {
        if self.bias.is_some() {
            let sum = input.f_add(added)?;
            return Ok((sum.shallow_clone(), self.forward(&sum, pass)?));
        }
        let (sum, normed) = operations::add_rms_norm(input, added, &self.weight, self.epsilon)?;
        Ok((sum, pass.hook(&self.path, normed)?))
    }

    /// The norm of heads `[example, head, token, width]`, turned by the angles; `None` where the two are to be computed apart.
    pub(super) fn turned(&self, heads: &Tensor, angles: &(Tensor, Tensor), pass: &Pass<'_, '_>) -> Result<Option<Tensor>> {
        if self.bias.is_some() || pass.wants(&self.path) {
            return Ok(None);
        }
        operations::norm_rotate(heads, &self.weight, self.epsilon, angles).map(Some)
    }

    /// The module's path.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}
