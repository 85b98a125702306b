//! Wrong answers that the model was sure of.

use polars::prelude::*;

use super::read::{confidence, correct};
use super::{Direction, Metric};
use crate::error::Result;

pub(super) const ENTRY: Metric = Metric {
    name: "sure_and_wrong",
    unit: "fraction",
    direction: Direction::Lower,
    range: (0.0, 1.0),
    columns: &["correct", "confidence"],
    what: "share of examples answered wrongly with a confidence of at least 0.9",
    compute: sure_and_wrong,
};

/// Share of rows that are wrong with a `confidence` of at least 0.9, in [0, 1]; lower is better.
///
/// # Errors
/// As [`accuracy`](super::accuracy) and [`mean_confidence`](super::mean_confidence).
pub fn sure_and_wrong(frame: &DataFrame) -> Result<f64> {
    let (correct, confidence) = (correct(frame)?, confidence(frame)?);
    let count = correct.iter().zip(&confidence).filter(|(correct, confidence)| !**correct && **confidence >= 0.9).count();
    Ok(count as f64 / correct.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_wrong_answers_that_are_sure_count() {
        let frame = df!("correct" => [true, false, false, false], "confidence" => [0.99, 0.9, 0.89, 0.95]).unwrap();
        assert_eq!(ENTRY.compute(&frame).unwrap(), 0.5);
    }
}
