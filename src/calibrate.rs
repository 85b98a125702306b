//! Calibration of ICL by what the labels have before anything is asked.
//!
//! ```
//! use ia2::calibrate::contextual;
//! use ia2::prelude::*;
//!
//! # fn main() -> Result<()> {
//! let model = Model::open("tiny-icl")?;
//! let split = Task::open("topic")?.test_at_most(40)?.few_shot(8, 0)?;
//! let prompts = split.test.with_demonstrations(&split.train, 0)?;
//! let frame = contextual(&model, &prompts)?;
//! # assert_eq!(frame.height(), 40);
//! let batch = batch_calibrated(&evaluate(&model, &prompts)?)?; // uses all test queries together
//! # assert_eq!(batch.height(), 40);
//! # Ok(()) }
//! ```

use polars::prelude::*;

use crate::error::Result;
use crate::evaluate::evaluate;
use crate::frame::numbers;
use crate::libtorch::guarded;
use crate::metric;
use crate::model::Model;
use crate::prompt::Prompts;

/// What contextual calibration asks unless told otherwise, as the paper does.
pub const CONTENT_FREE: [&str; 3] = ["N/A", "[MASK]", ""];

/// [`evaluate`] with contextual calibration (Zhao et al. 2021, arXiv:2102.09690): each label's probability divided by the one that it has after the same
/// demonstrations and a query without content ([`CONTENT_FREE`] in the queries' template, [`Prompts::content_free`]).
///
/// `q(label | c, x) ∝ p(label | c, x) / p_cf(label | c)` with `p_cf(label | c) ∝ 1/3 Σ_input P(label | c, input)`, where `P` is the probability in the whole
/// vocabulary, as in the authors' code, and `p` that among the labels. The labels' `q` sum to 1. (The paper's formula has
/// a softmax around `p / p_cf`. It gives the same answers, but changes probabilities even where `p_cf` is even, and is left out here.)
///
/// Of [`evaluate`]'s columns those change, and those go, that [`with_prior`](crate::metric::with_prior) names. Demonstrations that all prompts share cost one more
/// reading of three short queries; prompts with demonstrations of their own three each.
///
/// # Errors
/// As [`evaluate`] and [`Prompts::content_free`]: only for tasks with labels.
pub fn contextual(model: &Model, prompts: &Prompts) -> Result<DataFrame> {
    contextual_with(model, prompts, &CONTENT_FREE)
}

/// [`contextual`] with other inputs without content.
///
/// # Errors
/// As [`contextual`].
pub fn contextual_with(model: &Model, prompts: &Prompts, inputs: &[&str]) -> Result<DataFrame> {
    guarded("contextual calibration", || calibrated(model, prompts, &evaluate(model, prompts)?, inputs))
}

/// What `evaluate` gave of these prompts, calibrated.
pub(crate) fn calibrated(model: &Model, prompts: &Prompts, frame: &DataFrame, inputs: &[&str]) -> Result<DataFrame> {
    let (free, groups) = prompts.content_free_of(inputs)?;
    let asked = evaluate(model, &free)?;
    let (masses, labels) = (numbers(&asked, "label_mass")?, prompts.form().label_set());
    let columns = labels.iter().map(|label| numbers(&asked, &format!("p_{label}"))).collect::<Result<Vec<_>>>()?;
    let prior = |list: usize| {
        let rows = list * inputs.len()..(list + 1) * inputs.len();
        let sums: Vec<f64> = columns.iter().map(|column| rows.clone().map(|row| masses[row] * column[row]).sum()).collect();
        let all: f64 = sums.iter().sum();
        sums.into_iter().map(|sum| sum / all).collect::<Vec<f64>>()
    };
    let priors: Vec<Vec<f64>> = (0..free.len() / inputs.len()).map(prior).collect();
    metric::divided(frame, |row| &priors[groups[row]])
}
