//! The curve inside a feed-forward block.

use tch::Tensor;

use crate::error::Result;
use crate::libtorch::operations;

/// A function of each number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `x sigmoid(x)` (Hendrycks & Gimpel 2016).
    Silu,
    /// `x Phi(x)`, `Phi` the normal distribution (Hendrycks & Gimpel 2016).
    Gelu,
    /// `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`, the approximation of the same.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
}

impl Activation {
    /// By the names that transformers has for it; `None` for one that is not here.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "silu" | "swish" => Some(Self::Silu),
            "gelu" | "gelu_python" => Some(Self::Gelu),
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_python_tanh" => Some(Self::GeluTanh),
            "relu" => Some(Self::Relu),
            _ => None,
        }
    }

    /// The function's value.
    pub(crate) fn of(self, input: &Tensor) -> Result<Tensor> {
        match self {
            Self::Silu => Ok(input.f_silu()?),
            Self::Gelu => operations::gelu(input, false),
            Self::GeluTanh => operations::gelu(input, true),
            Self::Relu => Ok(input.f_relu()?),
        }
    }

    /// `f(gate) * up`.
    pub(crate) fn gated(self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        match self {
            Self::Silu => operations::swiglu(gate, up),
            Self::GeluTanh => operations::geglu(gate, up),
            _ => Ok(self.of(gate)?.f_mul(up)?),
        }
    }
}
