//! Columns of a frame of predictions, checked.

use polars::prelude::*;

use crate::error::{Error, Result};
use crate::frame::{self, column, complete, missing};

/// Where [`super::Metric::columns`] stands for the probabilities of all labels, one column `p_<label>` each.
pub(super) const PROBABILITIES: &str = "p_<label>";
const PREFIX: &str = "p_";

/// The columns a metric's entry means: its own names, and one per label for [`PROBABILITIES`].
pub(super) fn named(frame: &DataFrame, columns: &[&str]) -> Vec<String> {
    let labels = || frame.get_column_names().into_iter().filter(|name| name.starts_with(PREFIX)).map(|name| name.to_string());
    columns.iter().flat_map(|&column| if column == PROBABILITIES { labels().collect() } else { vec![column.to_string()] }).collect()
}

/// True if the frame has all of a metric's columns.
pub(super) fn has(frame: &DataFrame, columns: &[&str]) -> bool {
    columns.iter().all(|column| {
        let names = named(frame, &[column]);
        !names.is_empty() && names.iter().all(|name| frame.column(name).is_ok())
    })
}

/// The column `correct` without nulls, at least one row.
pub(super) fn correct(frame: &DataFrame) -> Result<Vec<bool>> {
    let column = column(frame, "correct")?;
    let values =
        column.bool().map_err(|_| Error::input(format!("`correct` must hold true and false, it is of type {}", column.dtype())))?;
    any_rows(complete("correct", values.iter().collect())?)
}

/// A floating point column without nulls, at least one row, each in `least..=greatest`.
pub(super) fn numbers(frame: &DataFrame, name: &str, (least, greatest): (f64, f64)) -> Result<Vec<f64>> {
    let column = column(frame, name)?;
    if !column.dtype().is_float() {
        return Err(Error::input(format!("`{name}` must hold floating point numbers, it is of type {}", column.dtype())));
    }
    let values = any_rows(frame::numbers(frame, name)?)?;
    for (row, value) in values.iter().enumerate() {
        if value.is_nan() {
            return Err(Error::numeric(format!("`{name}` is NaN in row {row}: look for NaN in the weights, or drop the row")));
        }
        if !(least..=greatest).contains(value) {
            return Err(Error::input(format!("`{name}` must lie in [{least}, {greatest}], it is {value} in row {row}")));
        }
    }
    Ok(values)
}

/// The column `confidence`, in [0, 1].
pub(super) fn confidence(frame: &DataFrame) -> Result<Vec<f64>> {
    numbers(frame, "confidence", (0.0, 1.0))
}

fn any_rows<T>(values: Vec<T>) -> Result<Vec<T>> {
    match values.is_empty() {
        true => Err(Error::input("the frame has no rows to measure: was everything filtered away?")),
        false => Ok(values),
    }
}

/// The labels' probabilities of every row, and which of them is right.
pub(super) struct Labels {
    /// In the order of the frame's columns.
    pub names: Vec<String>,
    /// `[row][label]`, each row summing to 1.
    pub probabilities: Vec<Vec<f64>>,
    /// Place of the gold label, row by row.
    pub golds: Vec<usize>,
}

impl Labels {
    /// From the columns `p_<label>` and `gold`.
    pub(super) fn of(frame: &DataFrame) -> Result<Self> {
        let columns = named(frame, &[PROBABILITIES]);
        if columns.is_empty() {
            return Err(missing(frame, PROBABILITIES));
        }
        let gold = column(frame, "gold")?;
        let gold = gold.str().map_err(|_| Error::input(format!("`gold` must hold text, it is of type {}", gold.dtype())))?;
        let golds = any_rows(complete("gold", gold.iter().collect())?)?;
        let names: Vec<String> = columns.iter().map(|name| name[PREFIX.len()..].to_string()).collect();
        let golds = golds.into_iter().enumerate().map(|(row, gold)| {
            let place = names.iter().position(|name| name == gold);
            place.ok_or_else(|| Error::input(format!("`gold` is {gold:?} in row {row}, which is none of the labels {names:?}")))
        });
        let golds = golds.collect::<Result<Vec<_>>>()?;
        let columns = columns.iter().map(|name| numbers(frame, name, (0.0, 1.0))).collect::<Result<Vec<_>>>()?;
        let probabilities: Vec<Vec<f64>> = (0..golds.len()).map(|row| columns.iter().map(|column| column[row]).collect()).collect();
        for (row, all) in probabilities.iter().enumerate() {
            let sum: f64 = all.iter().sum();
            if (sum - 1.0).abs() > 1e-3 {
                return Err(Error::input(format!(
                    "the probabilities of the labels sum to {sum} in row {row}, not to 1: divide them by their sum"
                )));
            }
        }
        Ok(Self { names, probabilities, golds })
    }

    /// Each row's probabilities and the place of its gold.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&[f64], usize)> {
        self.probabilities.iter().map(Vec::as_slice).zip(self.golds.iter().copied())
    }

    /// The mean of a number of each row.
    pub(super) fn mean(&self, of: impl Fn(&[f64], usize) -> f64) -> f64 {
        self.rows().map(|(row, gold)| of(row, gold)).sum::<f64>() / self.golds.len() as f64
    }
}
