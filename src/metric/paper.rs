//! Confidences as the authors' code has them.

use polars::prelude::*;

use super::read::{Labels, numbers};
use crate::compat::Compat;
use crate::error::Result;
use crate::frame::column;

/// The frame with `correct`, `confidence` and `entropy` of its labels as `compat` wants them.
///
/// [`Compat::Corrected`] leaves the frame of [`evaluate`](crate::evaluate::evaluate) as it is: probabilities among the labels. Under
/// [`Compat::Paper`] they are as in the authors' `calculate_metrics`: the softmax *of the probabilities* `q = p_<label> · label_mass` over the
/// whole vocabulary, so that two labels never reach more than 0.731, the entropy of that, and ties of the gold label count as correct.
/// With [`Binning::Paper`](super::Binning::Paper), [`ece`](super::ece) then is the authors' label ECE. [`top_1_as_reported`] is for their
/// other one.
///
/// # Errors
/// Under [`Compat::Paper`], those of [`label_set_accuracy`](super::label_set_accuracy), and a `label_mass` that is missing or outside [0, 1].
pub fn as_reported(frame: &DataFrame, compat: Compat) -> Result<DataFrame> {
    if compat == Compat::Corrected {
        return Ok(frame.clone());
    }
    let labels = Labels::of(frame)?;
    // The mass is a sum of rounded probabilities.
    let mass = numbers(frame, "label_mass", (0.0, 1.0 + 1e-6))?;
    let soft: Vec<Vec<f64>> = labels.probabilities.iter().zip(mass).map(|(row, mass)| softmax(row, mass)).collect();
    let correct = labels.rows().map(|(row, gold)| row.iter().all(|&other| row[gold] >= other)).collect::<Vec<_>>();
    let confidence = soft.iter().map(|row| row.iter().copied().fold(0.0, f64::max)).collect::<Vec<_>>();
    let entropy = soft.iter().map(|row| -row.iter().map(|p| p * (p + 1e-10).ln()).sum::<f64>()).collect::<Vec<_>>();
    let mut changed = frame.clone();
    changed.with_column(Column::new("correct".into(), correct))?;
    changed.with_column(Column::new("confidence".into(), confidence))?;
    changed.with_column(Column::new("entropy".into(), entropy))?;
    Ok(changed)
}

/// The frame with `correct` and `confidence` of the likeliest token of all, as the authors' code has them for its top-1 accuracy and ECE: whether
/// its text is the gold, and its probability among the ten likeliest tokens.
///
/// # Errors
/// An input error when `top_1_correct`, `top_1_confidence` or `top_10_mass` is missing, of another type, has nulls or values outside [0, 1].
pub fn top_1_as_reported(frame: &DataFrame) -> Result<DataFrame> {
    // The mass is a sum of rounded probabilities.
    let mass = numbers(frame, "top_10_mass", (f64::MIN_POSITIVE, 1.0 + 1e-6))?;
    top_1(frame, |row| mass[row])
}

/// `correct` and `confidence` of the likeliest token of all, the latter divided by a number of its row.
fn top_1(frame: &DataFrame, mass: impl Fn(usize) -> f64) -> Result<DataFrame> {
    let top = numbers(frame, "top_1_confidence", (0.0, 1.0))?;
    let confidence: Vec<f64> = top.iter().enumerate().map(|(row, top)| (top / mass(row)).min(1.0)).collect();
    let mut changed = frame.clone();
    changed.with_column(column(frame, "top_1_correct")?.clone().with_name("correct".into()))?;
    changed.with_column(Column::new("confidence".into(), confidence))?;
    Ok(changed)
}

/// Share of rows whose likeliest token of the whole vocabulary is the gold (`top_1_correct`), in [0, 1]; higher is better. What the paper's
/// tables print for tasks with labels; [`accuracy`](super::accuracy) there chooses among the labels alone.
///
/// # Errors
/// An input error when the column is missing, not boolean, has nulls, or there are no rows.
pub fn top_1_accuracy(frame: &DataFrame) -> Result<f64> {
    super::accuracy(&frame_of(frame, "top_1_correct")?)
}

fn frame_of(frame: &DataFrame, correct: &str) -> Result<DataFrame> {
    Ok(column(frame, correct)?.clone().with_name("correct".into()).into_frame())
}

/// Expected calibration error of the likeliest token of the whole vocabulary, in [0, 1]; lower is better: of `top_1_correct` at the
/// confidence `top_1_confidence`. Under [`Compat::Paper`] the confidence is divided by `top_10_mass`, as the authors' is, who renormalise over the
/// ten likeliest tokens; theirs are [`Binning::Paper`](super::Binning::Paper) bins.
///
/// # Errors
/// As [`ece`](super::ece) of these columns.
pub fn top_1_ece(frame: &DataFrame, binning: super::Binning, compat: Compat) -> Result<f64> {
    let frame = match compat {
        Compat::Corrected => top_1(frame, |_| 1.0)?,
        Compat::Paper => top_1_as_reported(frame)?,
    };
    super::ece(&frame, binning)
}

fn softmax(row: &[f64], mass: f64) -> Vec<f64> {
    let exponentials: Vec<f64> = row.iter().map(|p| (p * mass).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|value| value / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{Binning, accuracy, ece};

    #[test]
    fn top_1_by_hand() {
        let frame = df!(
            "correct" => [true, true], "confidence" => [0.9, 0.9],
            "top_1_correct" => [true, false], "top_1_confidence" => [0.4, 0.3], "top_10_mass" => [0.8, 0.6],
        );
        let frame = top_1_as_reported(&frame.unwrap()).unwrap();
        assert_eq!(accuracy(&frame).unwrap(), 0.5);
        assert!(ece(&frame, Binning::Paper(1)).unwrap() < 1e-12, "both are 0.5 sure, and one is right");
        assert_eq!(top_1_accuracy(&frame).unwrap(), 0.5);
        assert!(top_1_ece(&frame, Binning::Paper(1), Compat::Paper).unwrap() < 1e-12);
        // |1/2 - (0.4 + 0.3) / 2|
        assert!((top_1_ece(&frame, Binning::EqualWidth(1), Compat::Corrected).unwrap() - 0.15).abs() < 1e-12);
        let error = top_1_as_reported(&frame.drop("top_10_mass").unwrap()).unwrap_err().to_string();
        assert!(error.contains("no column `top_10_mass`"), "{error}");
    }
}
