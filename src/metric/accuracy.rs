//! Shares and means over the rows.

use polars::prelude::DataFrame;

use super::read::{confidence, correct, numbers};
use crate::error::Result;
use crate::sample;

/// Share of rows whose `correct` is true, in [0, 1]; higher is better.
///
/// # Errors
/// An input error when the column is missing, not boolean, has nulls, or there are no rows.
pub fn accuracy(frame: &DataFrame) -> Result<f64> {
    let correct = correct(frame)?;
    Ok(correct.iter().filter(|&&correct| correct).count() as f64 / correct.len() as f64)
}

/// Mean of `confidence`, in [0, 1]. Above the accuracy, the model is over-confident; below it, under-confident.
///
/// # Errors
/// An input error when the column is missing, not floating point, has nulls or values outside [0, 1], or there are no rows;
/// a numeric error on NaN.
pub fn mean_confidence(frame: &DataFrame) -> Result<f64> {
    Ok(sample::mean(&confidence(frame)?))
}

/// Mean negative log-likelihood of the gold answer: the mean of `nll`, in [0, ∞) nats; lower is better.
///
/// # Errors
/// An input error when the column is missing, not floating point, has nulls or negative values, or there are no rows; a numeric error on NaN.
pub fn mean_nll(frame: &DataFrame) -> Result<f64> {
    mean(frame, "nll")
}

/// Mean of `entropy`, in [0, ∞) nats: how undecided the answers are. Of labels it is over their probabilities, of free answers over the
/// vocabulary, mean over the steps of each response.
///
/// # Errors
/// As [`mean_nll`].
pub fn mean_entropy(frame: &DataFrame) -> Result<f64> {
    mean(frame, "entropy")
}

fn mean(frame: &DataFrame, name: &str) -> Result<f64> {
    // The entropy of a sure answer may be rounded to just below 0.
    Ok(sample::mean(&numbers(frame, name, (-1e-12, f64::INFINITY))?).max(0.0))
}

#[cfg(test)]
mod tests {
    use polars::prelude::*;

    use super::*;

    #[test]
    fn by_hand() {
        let frame = df!("correct" => [true, false, true, true, false], "confidence" => [0.5, 0.25, 1.0, 0.0, 0.75]).unwrap();
        assert_eq!(accuracy(&frame).unwrap(), 0.6);
        assert_eq!(mean_confidence(&frame).unwrap(), 0.5);
        assert_eq!(accuracy(&frame.head(Some(1))).unwrap(), 1.0);
    }
}
