//! Selective prediction: how many errors are left when the least sure answers are held back.

use polars::prelude::*;

use super::calibration::scored;
use crate::error::Result;

/// The points of the curves, from no coverage to all of it; equal confidences are one step.
struct Step {
    coverage: f64,
    /// Errors among what is answered, by all rows.
    generalized: f64,
}

fn steps(mut rows: Vec<(f64, bool)>) -> Vec<Step> {
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let all = rows.len() as f64;
    let mut steps = vec![Step { coverage: 0.0, generalized: 0.0 }];
    let mut errors = 0.0;
    for (at, &(confidence, correct)) in rows.iter().enumerate() {
        errors += f64::from(u8::from(!correct));
        if rows.get(at + 1).is_none_or(|next| next.0 != confidence) {
            steps.push(Step { coverage: (at + 1) as f64 / all, generalized: errors / all });
        }
    }
    steps
}

/// The selective risk at each step; at no coverage that of the first answers.
fn selective(steps: &[Step]) -> Vec<f64> {
    let of = |step: &Step| step.generalized / step.coverage;
    steps.iter().enumerate().map(|(at, step)| of(if at == 0 { &steps[1] } else { step })).collect()
}

fn area(steps: &[Step], heights: &[f64]) -> f64 {
    (1..steps.len()).map(|at| (steps[at].coverage - steps[at - 1].coverage) * (heights[at] + heights[at - 1]) / 2.0).sum()
}

/// Area under the risk-coverage curve, in [0, 1]; lower is better: the error rate among the share of rows with the highest `confidence`, averaged over all shares
/// (Geifman et al. 2019; trapezoids between the confidences that occur, equal ones taken together, as in Traub et al. 2024).
///
/// It weighs the errors at the highest confidences most, which [`augrc`] does not.
///
/// # Errors
/// As [`smooth_ece`](super::smooth_ece).
pub fn aurc(frame: &DataFrame) -> Result<f64> {
    let steps = steps(scored(frame)?);
    Ok(area(&steps, &selective(&steps)))
}

/// Area under the *generalized* risk-coverage curve, in [0, 0.5]; lower is better (Traub et al. 2024,
/// [arXiv:2407.01032](https://arxiv.org/abs/2407.01032)).
///
/// At each coverage the share of *all* rows that are answered, and wrong: the chance of an error that goes undetected, averaged over coverages. By pairs, it is
/// `(1 - AUROC) accuracy (1 - accuracy) + (1 - accuracy)²/2`: half the error rate where confidences say nothing, `(1 - accuracy)²/2` where all errors are surer to be held back.
///
/// # Errors
/// As [`smooth_ece`](super::smooth_ece).
pub fn augrc(frame: &DataFrame) -> Result<f64> {
    Ok(augrc_of(scored(frame)?))
}

pub(crate) fn augrc_of(rows: Vec<(f64, bool)>) -> f64 {
    let steps = steps(rows);
    area(&steps, &steps.iter().map(|step| step.generalized).collect::<Vec<_>>())
}

/// Both curves: `coverage` (from 0 to 1, a row per confidence that occurs), `risk` (errors among what is answered), `generalized_risk` (errors among what is answered, by
/// all rows).
///
/// # Errors
/// As [`smooth_ece`](super::smooth_ece); when polars cannot build the frame.
pub fn risk_coverage(frame: &DataFrame) -> Result<DataFrame> {
    let steps = steps(scored(frame)?);
    Ok(df!(
        "coverage" => steps.iter().map(|step| step.coverage).collect::<Vec<_>>(),
        "risk" => selective(&steps),
        "generalized_risk" => steps.iter().map(|step| step.generalized).collect::<Vec<_>>(),
    )?)
}
