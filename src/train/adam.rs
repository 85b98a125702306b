//! Adam, with a state that can be stored.

use tch::Tensor;

use crate::error::Result;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// Adam (Kingma & Ba 2015) over one flat parameter tensor; libtorch's own cannot hand out its state, and a run must be able to continue.
#[derive(Debug)]
pub(super) struct Adam {
    pub first: Tensor,
    pub second: Tensor,
    pub steps: i64,
}

impl Adam {
    pub fn new(parameters: &Tensor) -> Self {
        Self { first: parameters.zeros_like(), second: parameters.zeros_like(), steps: 0 }
    }

    /// `p -= rate * m^ / (sqrt(v^) + eps)`, in place.
    pub fn step(&mut self, parameters: &Tensor, gradient: &Tensor, rate: f64) -> Result<()> {
        let _update = tch::no_grad_guard();
        self.steps += 1;
        self.first = &self.first * BETA1 + gradient * (1.0 - BETA1);
        self.second = &self.second * BETA2 + gradient.square() * (1.0 - BETA2);
        let (unbias1, unbias2) = (1.0 - BETA1.powf(self.steps as f64), 1.0 - BETA2.powf(self.steps as f64));
        let denominator = self.second.sqrt() / unbias2.sqrt() + EPSILON;
        let _ = parameters.shallow_clone().f_sub_(&(&self.first / denominator * (rate / unbias1)))?;
        Ok(())
    }
}
