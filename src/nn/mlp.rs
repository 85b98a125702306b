//! The feed-forward block.

use tch::Tensor;

use super::Source;
use super::activation::Activation;
use super::fused::{Fused, FusedLayout};
use super::joined::Joined;
use super::linear::Linear;
use super::pass::Pass;
use crate::error::Result;

/// Sizes and kind of a feed-forward block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MlpShape {
    /// Width of the residual stream.
    pub hidden: i64,
    /// Width inside.
    pub intermediate: i64,
    /// Whether the projections have biases.
    pub bias: bool,
    /// The curve `f`.
    pub activation: Activation,
    /// `down(f(gate(x)) * up(x))`; `down(f(up(x)))` without.
    pub gated: bool,
    /// The order of the one matrix that the family's files hold for gate and up, if they do.
    pub fused: Option<FusedLayout>,
}

/// `down(f(gate(x)) * up(x))` (Shazeer 2020; SwiGLU where `f` is SiLU), or the plain `down(f(up(x)))`.
#[derive(Debug)]
pub(crate) struct Mlp {
    path: String,
    activation: Activation,
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
    joined: Option<Joined>,
    fused: Option<Fused>,
}

impl Mlp {
    /// Takes `gate_proj` (where it is gated), `up_proj` and `down_proj` below `path`.
    pub(crate) fn new(path: String, shape: MlpShape, source: &mut Source<'_>) -> Result<Self> {
        let MlpShape { hidden, intermediate, bias, activation, gated, fused } = shape;
        let mut gate = match gated {
            true => Some(Linear::new(format!("{path}.gate_proj"), hidden, intermediate, bias, source)?),
            false => None,
        };
        let mut up = Linear::new(format!("{path}.up_proj"), hidden, intermediate, bias, source)?;
        let joined = match &mut gate {
            Some(gate) => Joined::new([gate, &mut up])?,
            None => None,
        };
        let down = Linear::new(format!("{path}.down_proj"), intermediate, hidden, bias, source)?;
        let fused = match (&gate, fused) {
            (Some(gate), Some(order)) => Some(Fused::new(format!("{path}.gate_up_proj"), &[gate, &up], order)),
            _ => None,
        };
        Ok(Self { path, activation, gate, up, down, joined, fused })
    }

    /// `[example, token, hidden]` to the same.
    pub(crate) fn forward(&self, input: &Tensor, pass: &mut Pass<'_, '_>) -> Result<Tensor> {
        let inner = match &self.gate {
            Some(gate) => {
                let linears = [gate, &self.up];
                let mut parts = match &self.fused {
                    Some(fused) => fused.values(&linears, input, pass)?,
                    None => None,
                };
                if let (None, Some(joined)) = (&parts, &self.joined) {
                    parts = joined.values(&linears, 0, input, pass)?;
                }
                let (gated, up) = match parts.as_deref() {
                    Some([of_gate, of_up]) => {
                        (Joined::hook(gate, of_gate.shallow_clone(), pass)?, Joined::hook(&self.up, of_up.shallow_clone(), pass)?)
                    }
                    _ => (gate.forward(input, pass)?, self.up.forward(input, pass)?),
                };
                self.activation.gated(&gated, &up)?
            }
            None => self.activation.of(&self.up.forward(input, pass)?)?,
        };
        let output = self.down.forward(&inner, pass)?;
        pass.hook(&self.path, output)
    }

    /// The linear modules, in the order they run.
    pub(crate) fn linears(&self) -> Vec<&Linear> {
        self.gate.iter().chain([&self.up, &self.down]).collect()
    }

    /// Gate and up as the one matrix that the family's files hold, if they do.
    pub(crate) fn fused(&self) -> Option<&Fused> {
        self.fused.as_ref()
    }

    /// Every hook point, in the order in which a forward reaches them.
    pub(crate) fn points(&self) -> Vec<String> {
        let fused = self.fused.iter().map(|fused| fused.path().to_string());
        fused.chain(self.linears().into_iter().map(|linear| linear.path().to_string())).chain([self.path.clone()]).collect()
    }
}
