//! Adam and AdamW, with a state that can be stored.

use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::exact;
use crate::error::{Error, Result};
use crate::libtorch::operations::{self, AdamStep};

/// Adam (Kingma & Ba 2015, algorithm 1) or, with a weight decay, AdamW (Loshchilov & Hutter 2019, algorithm 2), as in PyTorch:
///
/// `p -= rate x decay x p`, `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`, and at step t, counted from 1,
/// `p -= rate x (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Optimizer {
    #[serde(with = "exact")]
    beta1: f64,
    #[serde(with = "exact")]
    beta2: f64,
    #[serde(with = "exact")]
    epsilon: f64,
    #[serde(with = "exact")]
    weight_decay: f64,
}

impl Optimizer {
    /// Adam with PyTorch's defaults: betas 0.9 and 0.999, epsilon 1e-8, no weight decay.
    pub fn adam() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }

    /// The same with decoupled weight decay: every step first shrinks the parameters by `rate x weight_decay`. PyTorch's default is 0.01.
    pub fn adamw(weight_decay: f64) -> Self {
        Self { weight_decay, ..Self::adam() }
    }

    /// How much of the running means of gradient and squared gradient a step keeps; in `[0, 1)`.
    pub fn betas(mut self, first: f64, second: f64) -> Self {
        (self.beta1, self.beta2) = (first, second);
        self
    }

    /// What is added to the denominator.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        let Self { beta1, beta2, epsilon, weight_decay } = *self;
        for (name, beta) in [("first", beta1), ("second", beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(Error::input(format!("the optimiser's {name} beta is {beta}: use a number from 0 to below 1, e.g. 0.9")));
            }
        }
        if !(epsilon > 0.0 && epsilon.is_finite()) {
            return Err(Error::input(format!("the optimiser's epsilon is {epsilon}: use a small positive number, e.g. 1e-8")));
        }
        if !(weight_decay >= 0.0 && weight_decay.is_finite()) {
            return Err(Error::input(format!("the weight decay is {weight_decay}: use 0 or a positive number, e.g. 0.01")));
        }
        Ok(())
    }
}

/// The optimiser's state over one flat parameter tensor; libtorch's own optimisers cannot hand out theirs, and a run must be able to go on.
#[derive(Debug)]
pub(super) struct Moments {
    pub first: Tensor,
    pub second: Tensor,
    pub steps: u64,
}

impl Moments {
    pub(super) fn new(parameters: &Tensor) -> Self {
        Self { first: parameters.zeros_like(), second: parameters.zeros_like(), steps: 0 }
    }

    /// A copy on a device.
    pub(super) fn on(&self, device: Device) -> Self {
        Self { first: self.first.copy().to_device(device), second: self.second.copy().to_device(device), steps: self.steps }
    }

    /// One step, in place, on tensors of which nobody else holds a value; `gradient` is used up. The first `frozen` parameters stay as they are.
    pub(super) fn step(&mut self, parameters: &Tensor, gradient: Tensor, frozen: i64, rate: f64, optimizer: &Optimizer) -> Result<()> {
        let _update = tch::no_grad_guard();
        let own = |all: &Tensor| all.narrow(0, frozen, all.numel() as i64 - frozen);
        let (parameters, mut gradient, mut first, mut second) = (own(parameters), own(&gradient), own(&self.first), own(&self.second));
        let Optimizer { beta1, beta2, epsilon, weight_decay } = *optimizer;
        self.steps += 1;
        let steps = self.steps as f64;
        let (unbias1, unbias2) = (1.0 - beta1.powf(steps), 1.0 - beta2.powf(steps));
        let shrink = 1.0 - rate * weight_decay;
        let in_one = AdamStep { shrink, beta1, beta2, rate: rate / unbias1, root: unbias2.sqrt(), epsilon };
        if operations::adam([&parameters, &first, &second, &gradient], &in_one) {
            return Ok(());
        }
        let mut parameters = parameters;
        if rate * weight_decay != 0.0 {
            let _ = parameters.f_mul_scalar_(shrink)?;
        }
        let _ = first.f_lerp_(&gradient, 1.0 - beta1)?;
        // tch's `addcmul_` takes no factor: it goes into the gradient, which has done its work.
        let _ = gradient.f_mul_scalar_((1.0 - beta2).sqrt())?;
        let _ = second.f_mul_scalar_(beta2)?;
        let _ = second.f_addcmul_(&gradient, &gradient)?;
        if rate == 0.0 {
            return Ok(());
        }
        // Neither does `addcdiv_`: the rate goes into the denominator.
        let mut denominator = second.f_sqrt()?;
        let _ = denominator.f_div_scalar_(unbias2.sqrt())?;
        let _ = denominator.f_add_scalar_(epsilon)?;
        let _ = denominator.f_mul_scalar_(-unbias1 / rate)?;
        let _ = parameters.f_addcdiv_(&first, &denominator)?;
        Ok(())
    }
}

/// The factor that brings a gradient of this norm down to `most`, as PyTorch's `clip_grad_norm_`: `min(1, most / (norm + 1e-6))`.
pub(super) fn clipping(norm: f64, most: f64) -> f64 {
    (most / (norm + 1e-6)).min(1.0)
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;

    use super::*;

    pub(crate) fn golden() -> HashMap<String, Tensor> {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/optimizers.safetensors");
        crate::file::read_tensors(&file, "").unwrap().tensors
    }

    /// Each case of the golden file: its optimiser, and its clipping if it has one.
    fn cases() -> [(&'static str, Optimizer, Option<f64>); 4] {
        [
            ("adam", Optimizer::adam(), None),
            ("adam_betas", Optimizer::adam().betas(0.8, 0.95).epsilon(1e-3), None),
            ("adamw", Optimizer::adamw(0.1), None),
            ("adamw_clipped", Optimizer::adamw(0.01).betas(0.5, 0.9), Some(2.0)),
        ]
    }

    #[test]
    fn steps_are_those_of_pytorch() {
        let golden = golden();
        let gradients = &golden["gradients"];
        let rates = Vec::<f64>::try_from(&golden["rates"]).unwrap();
        let mut clipped = 0;
        for (name, optimizer, clip) in cases() {
            let parameters = golden["start"].copy();
            let mut moments = Moments::new(&parameters);
            for (step, &rate) in rates.iter().enumerate() {
                let mut gradient = gradients.get(step as i64).copy();
                if let Some(most) = clip {
                    let factor = clipping(gradient.norm().double_value(&[]), most);
                    clipped += i32::from(factor < 1.0);
                    let _ = gradient.g_mul_scalar_(factor);
                }
                moments.step(&parameters, gradient, 0, rate, &optimizer).unwrap();
                let theirs = golden[&format!("{name}.after")].get(step as i64);
                let apart = (&parameters - &theirs).abs().max().double_value(&[]) / theirs.abs().max().double_value(&[]);
                assert!(apart < 1e-12, "{name} step {step}: {apart:.1e}");
            }
        }
        assert!(clipped > 0 && clipped < rates.len() as i32, "some gradients are clipped and some are not: {clipped}");
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let text = |optimizer: Optimizer| optimizer.check().unwrap_err().to_string();
        assert!(text(Optimizer::adam().betas(1.0, 0.9)).contains("first beta is 1"));
        assert!(text(Optimizer::adam().betas(0.9, f64::NAN)).contains("second beta is NaN"));
        assert!(text(Optimizer::adam().epsilon(0.0)).contains("epsilon is 0"));
        assert!(text(Optimizer::adamw(-0.1)).contains("weight decay is -0.1"));
    }
}
