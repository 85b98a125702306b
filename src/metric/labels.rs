//! Metrics of the labels' probabilities: columns `gold` and one `p_<label>` for each label.

use polars::prelude::DataFrame;

use super::read::Labels;
use crate::error::{Error, Result};

/// Share of rows whose gold label is as likely as any other, in [0, 1]; higher is better.
///
/// A tie for the first place counts as right, as in the authors' code; `accuracy` reads the answer that was given, which is one of them.
///
/// # Errors
/// An input error when `gold` or the columns `p_<label>` are missing, of another type, have nulls, values outside [0, 1] or rows that do not sum
/// to 1, a gold is no label, or there are no rows; a numeric error on NaN.
pub fn label_set_accuracy(frame: &DataFrame) -> Result<f64> {
    top_k(frame, 1)
}

/// Share of rows with fewer than `k` labels likelier than the gold one, in [0, 1]; higher is better. Ties count as right.
///
/// # Errors
/// As [`label_set_accuracy`]; `k` is 0 or above the number of labels.
pub fn top_k(frame: &DataFrame, k: usize) -> Result<f64> {
    let labels = Labels::of(frame)?;
    if k == 0 || k > labels.names.len() {
        return Err(Error::input(format!("the top {k} of {} labels: ask for 1 to {}", labels.names.len(), labels.names.len())));
    }
    Ok(labels.mean(|row, gold| if row.iter().filter(|&&other| other > row[gold]).count() < k { 1.0 } else { 0.0 }))
}

/// Brier score, in [0, 2]; lower is better: the mean of `Σ_label (p_label - [label is gold])²` (Brier 1950, the sum over all labels; halve it
/// for the form of two labels that lies in [0, 1]).
///
/// # Errors
/// As [`label_set_accuracy`].
pub fn brier(frame: &DataFrame) -> Result<f64> {
    let distance = |row: &[f64], gold: usize| -> f64 {
        row.iter().enumerate().map(|(label, p)| (p - f64::from(u8::from(label == gold))).powi(2)).sum()
    };
    Ok(Labels::of(frame)?.mean(distance))
}
