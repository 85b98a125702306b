//! Labels' probabilities divided by those that they have beforehand.

use polars::prelude::*;

use super::read::{Labels, PROBABILITIES, named};
use crate::error::{Error, Result};

/// What is read in the whole vocabulary, where nothing is divided.
const VOCABULARY: [&str; 5] = ["top_1_correct", "top_1_confidence", "top_10_mass", "gold_rank", "vocabulary_entropy"];

/// The frame with each label's probability divided by its `prior`, and the labels' together made 1 again:
/// `q(label | x) = (p(label | x) / prior(label)) / Σ_other p(other | x) / prior(other)`.
///
/// `prior` has a positive number for each label, in the order of the columns `p_<label>`; only their proportions count. `p_<label>`, `confidence`,
/// `answer`, `correct`, and `nll` and `entropy` where the frame has them, are those of `q`; what concerns the whole vocabulary (`top_1_correct`, `top_1_confidence`,
/// `top_10_mass`, `gold_rank`, `vocabulary_entropy`) is left out.
///
/// # Errors
/// As [`label_set_accuracy`](super::label_set_accuracy); not as many numbers as labels; one that is not above 0.
pub fn with_prior(frame: &DataFrame, prior: &[f64]) -> Result<DataFrame> {
    divided(frame, |_| prior)
}

/// Batch calibration (Zhou et al. 2024, arXiv:2309.17249): each label's probability divided by its mean over the batch, which is all rows of the frame,
/// and the labels' together made 1 again: `q(label | x) ∝ p(label | x) / mean_x' p(label | x')`.
///
/// **It uses the test queries**, all of them together though without their golds: what it says of one query depends on the others. A row of its own
/// stays as it is only where the mean over the batch is even. [`with_prior`] says which columns change.
///
/// # Errors
/// As [`with_prior`]; a label that has probability 0 in all rows.
pub fn batch_calibrated(frame: &DataFrame) -> Result<DataFrame> {
    let labels = Labels::of(frame)?;
    let count = labels.probabilities.len() as f64;
    let mean = |label: usize| labels.probabilities.iter().map(|row| row[label]).sum::<f64>() / count;
    let prior: Vec<f64> = (0..labels.names.len()).map(mean).collect();
    with_prior(frame, &prior)
}

/// [`with_prior`], where each row has its own.
pub(crate) fn divided<'p>(frame: &DataFrame, prior: impl Fn(usize) -> &'p [f64]) -> Result<DataFrame> {
    let labels = Labels::of(frame)?;
    let mut rows = Vec::with_capacity(labels.golds.len());
    for (place, row) in labels.probabilities.iter().enumerate() {
        let prior = prior(place);
        if prior.len() != row.len() {
            return Err(Error::input(format!(
                "{} numbers for {} labels ({}): give one for each",
                prior.len(),
                row.len(),
                labels.names.join(", ")
            )));
        }
        if let Some(label) = prior.iter().position(|value| !(*value > 0.0 && value.is_finite())) {
            return Err(Error::numeric(format!(
                "the label {:?} has {} beforehand, by which nothing can be divided: compute logits in f32 or wider",
                labels.names[label], prior[label]
            )));
        }
        let own: Vec<f64> = row.iter().zip(prior).map(|(p, prior)| p / prior).collect();
        let sum: f64 = own.iter().sum();
        rows.push(own.into_iter().map(|value| value / sum).collect::<Vec<f64>>());
    }
    let first = |row: &Vec<f64>| (0..row.len()).fold(0, |best, place| if row[place] > row[best] { place } else { best });
    let best: Vec<usize> = rows.iter().map(first).collect();
    let mut changed = frame.drop_many(VOCABULARY);
    for (label, name) in named(frame, &[PROBABILITIES]).iter().enumerate() {
        changed.with_column(Column::new(name.into(), rows.iter().map(|row| row[label]).collect::<Vec<_>>()))?;
    }
    let of_rows =
        |value: &dyn Fn(&Vec<f64>, usize) -> f64| rows.iter().enumerate().map(|(place, row)| value(row, place)).collect::<Vec<f64>>();
    changed.with_column(Column::new("confidence".into(), of_rows(&|row, place| row[best[place]])))?;
    changed.with_column(Column::new("answer".into(), best.iter().map(|&place| labels.names[place].as_str()).collect::<Vec<_>>()))?;
    changed
        .with_column(Column::new("correct".into(), best.iter().zip(&labels.golds).map(|(best, gold)| best == gold).collect::<Vec<_>>()))?;
    if frame.column("nll").is_ok() {
        changed.with_column(Column::new("nll".into(), of_rows(&|row, place| -row[labels.golds[place]].ln())))?;
    }
    if frame.column("entropy").is_ok() {
        let part = |p: &f64| if *p > 0.0 { -p * p.ln() } else { 0.0 };
        changed.with_column(Column::new("entropy".into(), of_rows(&|row, _| row.iter().map(part).sum())))?;
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> DataFrame {
        df!("gold" => ["0", "1", "1"], "answer" => ["0", "0", "1"], "correct" => [true, false, true], "confidence" => [0.9, 0.6, 0.7],
            "p_0" => [0.9, 0.6, 0.3], "p_1" => [0.1, 0.4, 0.7], "nll" => [0.1, 0.9, 0.4], "top_1_correct" => [true, false, false])
        .unwrap()
    }

    fn numbers(frame: &DataFrame, column: &str) -> Vec<f64> {
        frame.column(column).unwrap().f64().unwrap().iter().map(Option::unwrap).collect()
    }

    #[test]
    fn a_prior_is_divided_out_and_answers_follow() {
        let changed = with_prior(&frame(), &[3.0, 1.0]).unwrap();
        // 0.9 / 3 to 0.1; 0.6 / 3 to 0.4; 0.3 / 3 to 0.7
        let close = |column, values: &[f64]| numbers(&changed, column).iter().zip(values).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(close("p_0", &[0.75, 1.0 / 3.0, 0.125]) && close("p_1", &[0.25, 2.0 / 3.0, 0.875]));
        assert!(
            close("confidence", &[0.75, 2.0 / 3.0, 0.875]) && close("nll", &[-(0.75f64.ln()), -((2.0f64 / 3.0).ln()), -(0.875f64.ln())])
        );
        let answers: Vec<_> = changed.column("answer").unwrap().str().unwrap().iter().flatten().collect();
        assert_eq!(answers, ["0", "1", "1"]);
        assert!(changed.column("correct").unwrap().bool().unwrap().all() && changed.column("top_1_correct").is_err());
        let same = with_prior(&frame(), &[0.5, 0.5]).unwrap();
        assert!(numbers(&same, "p_0").iter().zip(numbers(&frame(), "p_0")).all(|(a, b)| (a - b).abs() < 1e-12));
        assert!(with_prior(&frame(), &[1.0]).unwrap_err().is_input() && with_prior(&frame(), &[0.0, 1.0]).unwrap_err().is_numeric());
    }

    #[test]
    fn a_batch_is_divided_by_its_mean() {
        let batch = batch_calibrated(&frame()).unwrap();
        assert_eq!(numbers(&batch, "p_0"), numbers(&with_prior(&frame(), &[0.6, 0.4]).unwrap(), "p_0"));
        let error = batch_calibrated(&df!("gold" => ["a"], "answer" => ["a"], "correct" => [true]).unwrap()).unwrap_err();
        assert!(error.to_string().contains("p_<label>"), "{error}");
    }
}
