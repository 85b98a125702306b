//! Temperature scaling.

use polars::prelude::*;

use super::read::{Labels, PROBABILITIES, named};
use crate::display::{self, Bundle, Show};
use crate::error::{Error, Result};
use crate::interrupt;

/// A fitted temperature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature {
    /// T > 0; above 1 where the model is over-confident.
    pub value: f64,
    /// Mean negative log-likelihood before, nats.
    pub nll_before: f64,
    /// The same with the temperature, at most as great.
    pub nll_after: f64,
}

impl Show for Temperature {
    fn bundle(&self) -> Bundle {
        display::facts("temperature", &[("value", self.value), ("nll before", self.nll_before), ("nll after", self.nll_after)])
    }
}

/// The temperature T at which the labels' log-probabilities divided by T give the least negative log-likelihood (Guo et al. 2017).
///
/// `min_T -mean log softmax(log p / T)[gold]`, from the columns `gold` and `p_<label>`. In 1/T this is convex; its one stationary point is
/// found by bisection on the derivative, to about 1e-12. Fit on development rows, and scale others with [`with_temperature`]: a
/// temperature fitted on the rows it is measured on flatters.
///
/// # Errors
/// As [`label_set_accuracy`](super::label_set_accuracy); numeric errors when a gold label has probability 0, when every gold is the likeliest
/// label (the likelihood grows without end as T falls to 0), and when the labels are no better than an even guess at any T.
pub fn fit_temperature(frame: &DataFrame) -> Result<Temperature> {
    interrupt::during("fitting a temperature", || fit(frame))
}

fn fit(frame: &DataFrame) -> Result<Temperature> {
    let labels = Labels::of(frame)?;
    if let Some(row) = labels.rows().position(|(row, gold)| row[gold] == 0.0) {
        return Err(Error::numeric(format!(
            "the gold label has probability 0 in row {row}, which no temperature can correct: compute logits in f32 or wider"
        )));
    }
    if slope(&labels, 0.0) >= 0.0 {
        return Err(Error::numeric(
            "at every temperature the labels' probabilities are no better than an even guess: there is nothing to scale, check golds and labels",
        ));
    }
    if labels.rows().all(|(row, gold)| row.iter().all(|&other| row[gold] >= other)) {
        return Err(Error::numeric(
            "every gold label is the likeliest one, so that the best temperature is 0: fit on more rows, some of them answered wrongly",
        ));
    }
    let (mut low, mut high) = (0.0, 1.0);
    while slope(&labels, high) < 0.0 {
        (low, high) = (high, high * 2.0);
        if !f64::is_finite(high) {
            return Err(Error::numeric("no temperature above 0 is best: fit on more rows"));
        }
    }
    // Until the ends are neighbours among f64 numbers, or nearly.
    for step in 0..200 {
        interrupt::at(step, 200, "steps")?;
        let middle = (low + high) / 2.0;
        if slope(&labels, middle) < 0.0 { low = middle } else { high = middle }
    }
    let inverse = (low + high) / 2.0;
    let nll = |inverse: f64| labels.mean(|row, gold| -scaled(row, inverse)[gold].ln());
    Ok(Temperature { value: 1.0 / inverse, nll_before: nll(1.0), nll_after: nll(inverse) })
}

/// The frame with its labels' probabilities at temperature `value`: `p_<label>`, `confidence`, and `nll` and `entropy` where it has them.
/// Answers, and so `correct`, stay.
///
/// # Errors
/// As [`label_set_accuracy`](super::label_set_accuracy); a temperature that is not above 0.
pub fn with_temperature(frame: &DataFrame, value: f64) -> Result<DataFrame> {
    if !(value > 0.0 && value.is_finite()) {
        return Err(Error::input(format!("a temperature is above 0, this is {value}")));
    }
    let labels = Labels::of(frame)?;
    let rows: Vec<Vec<f64>> = labels.probabilities.iter().map(|row| scaled(row, 1.0 / value)).collect();
    let mut changed = frame.clone();
    let mut set = |name: &str, values: Vec<f64>| -> Result<()> {
        changed.with_column(Column::new(name.into(), values))?;
        Ok(())
    };
    for (label, name) in named(frame, &[PROBABILITIES]).iter().enumerate() {
        set(name, rows.iter().map(|row| row[label]).collect())?;
    }
    set("confidence", rows.iter().map(|row| row.iter().copied().fold(0.0, f64::max)).collect())?;
    if frame.column("nll").is_ok() {
        set("nll", rows.iter().zip(&labels.golds).map(|(row, &gold)| -row[gold].ln()).collect())?;
    }
    if frame.column("entropy").is_ok() {
        let part = |p: &f64| if *p > 0.0 { -p * p.ln() } else { 0.0 };
        set("entropy", rows.iter().map(|row| row.iter().map(part).sum()).collect())?;
    }
    Ok(changed)
}

/// `softmax(log p / T)` at `inverse` = 1/T.
fn scaled(row: &[f64], inverse: f64) -> Vec<f64> {
    let largest = row.iter().copied().fold(0.0, f64::max);
    let powers: Vec<f64> = row.iter().map(|p| if inverse == 0.0 { 1.0 } else { (p / largest).powf(inverse) }).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// Derivative of the mean negative log-likelihood by 1/T: `mean (Σ_label s_label log p_label - log p_gold)`, s the scaled probabilities.
fn slope(labels: &Labels, inverse: f64) -> f64 {
    labels.mean(|row, gold| {
        let expected: f64 =
            scaled(row, inverse).iter().zip(row).map(|(s, p)| if *s > 0.0 { s * p.max(f64::MIN_POSITIVE).ln() } else { 0.0 }).sum();
        expected - row[gold].ln()
    })
}
