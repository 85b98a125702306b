//! How the learning rate moves over a run.

use serde::{Deserialize, Serialize};

/// The learning rate over the steps of a run, after the warm-up.
///
/// As `get_constant_schedule_with_warmup`, `get_linear_schedule_with_warmup` and `get_cosine_schedule_with_warmup` (half a cycle) of Hugging
/// Face transformers: with step `s` counted from 0, `W` steps of warm-up and `S` steps in all (those of all epochs, however early the run
/// ends), the rate is the learning rate times `s / W` while `s < W`, and then times the factor below. The very first step of a warm-up thus
/// has the rate 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// 1.
    #[default]
    Constant,
    /// `(S - s) / (S - W)`: down to 0 in a straight line.
    Linear,
    /// `(1 + cos(pi (s - W) / (S - W))) / 2`: down to 0 along half a wave.
    Cosine,
}

impl Schedule {
    /// What the learning rate is multiplied with at `step` of `steps`, counted from 0.
    pub(super) fn factor(self, step: u64, warm_up: u64, steps: u64) -> f64 {
        let (step, warm_up, steps) = (step as f64, warm_up as f64, steps as f64);
        if step < warm_up {
            return step / warm_up.max(1.0);
        }
        let rest = (steps - warm_up).max(1.0);
        match self {
            Self::Constant => 1.0,
            Self::Linear => ((steps - step) / rest).max(0.0),
            Self::Cosine => (0.5 * (1.0 + (std::f64::consts::PI * ((step - warm_up) / rest)).cos())).max(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::optimizer::tests::golden;

    #[test]
    fn rates_are_those_of_transformers() {
        let golden = golden();
        for (name, schedule) in [("constant", Schedule::Constant), ("linear", Schedule::Linear), ("cosine", Schedule::Cosine)] {
            for (warm_up, steps) in [(0, 20), (5, 20), (7, 7), (30, 20)] {
                let theirs = Vec::<f64>::try_from(&golden[&format!("schedule.{name}.{warm_up}.{steps}")]).unwrap();
                assert_eq!(theirs.len(), 25);
                for (step, theirs) in theirs.into_iter().enumerate() {
                    let ours = 2e-3 * schedule.factor(step as u64, warm_up, steps);
                    assert!((ours - theirs).abs() < 1e-17, "{name} {warm_up} {steps}, step {step}: {ours:e} and {theirs:e}");
                }
            }
        }
    }
}
