//! Numbers from a frame of predictions: one row per example, with the columns `correct` (boolean) and, for calibration,
//! `confidence` (in [0, 1]).
//!
//! ```
//! use ia2::metric::{Binning, accuracy, ece};
//! use polars::prelude::*;
//!
//! let frame = df!("correct" => [true, true, false, true], "confidence" => [0.9, 0.8, 0.6, 0.7])?;
//! assert_eq!(accuracy(&frame)?, 0.75);
//! assert!((ece(&frame, Binning::EqualWidth(1))? - 0.0).abs() < 1e-12);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`METRICS`] lists what there is; [`summary`] computes all of it. A new metric is one file and one entry there.

mod accuracy;
mod calibration;

use std::fmt;

use polars::prelude::*;

pub use accuracy::{accuracy, mean_confidence};
pub use calibration::{Binning, calibration, ece};

use crate::error::{Error, Result};

/// Which values of a metric are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
    /// Neither: it describes.
    Neutral,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Higher => "higher",
            Self::Lower => "lower",
            Self::Neutral => "neutral",
        })
    }
}

/// A metric: what it is called, what it needs, what its values mean, and how it is computed.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name in frames, singular snake_case.
    pub name: &'static str,
    /// Unit of its values.
    pub unit: &'static str,
    /// Which values are better.
    pub direction: Direction,
    /// Least and greatest possible value.
    pub range: (f64, f64),
    /// Columns it reads.
    pub columns: &'static [&'static str],
    /// What it measures, with its source.
    pub what: &'static str,
    compute: fn(&DataFrame) -> Result<f64>,
}

impl Metric {
    /// The metric of that name.
    ///
    /// # Errors
    /// An input error that lists the known names.
    pub fn named(name: &str) -> Result<Self> {
        METRICS.iter().find(|metric| metric.name == name).copied().ok_or_else(|| {
            let known = METRICS.iter().map(|metric| metric.name).collect::<Vec<_>>().join(", ");
            Error::input(format!("there is no metric `{name}`; there are {known}"))
        })
    }

    /// Its value over the rows of `frame`.
    ///
    /// # Errors
    /// An input error when a column is missing, of another type, has nulls or values outside its range, or there are too
    /// few rows; a numeric error when one is NaN.
    pub fn compute(&self, frame: &DataFrame) -> Result<f64> {
        (self.compute)(frame)
    }
}

/// Every metric.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "accuracy",
        unit: "fraction",
        direction: Direction::Higher,
        range: (0.0, 1.0),
        columns: &["correct"],
        what: "share of examples answered correctly",
        compute: accuracy,
    },
    Metric {
        name: "mean_confidence",
        unit: "fraction",
        direction: Direction::Neutral,
        range: (0.0, 1.0),
        columns: &["confidence"],
        what: "mean probability of the predicted answer",
        compute: mean_confidence,
    },
    Metric {
        name: "ece_equal_width_15",
        unit: "fraction",
        direction: Direction::Lower,
        range: (0.0, 1.0),
        columns: &["correct", "confidence"],
        what: "expected calibration error over 15 bins of equal width (Guo et al. 2017)",
        compute: |frame| ece(frame, Binning::EqualWidth(15)),
    },
    Metric {
        name: "ece_equal_mass_15",
        unit: "fraction",
        direction: Direction::Lower,
        range: (0.0, 1.0),
        columns: &["correct", "confidence"],
        what: "expected calibration error over 15 bins of equal count (Nguyen and O'Connor 2015)",
        compute: |frame| ece(frame, Binning::EqualMass(15)),
    },
];

/// Every metric that `frame` has the columns for: `metric`, `value`, `unit`, `direction`, `note`.
///
/// Where a metric is not defined on these rows (too few of them, say), `value` is null and `note` says why.
///
/// # Errors
/// An input error when the frame has the columns of no metric.
pub fn summary(frame: &DataFrame) -> Result<DataFrame> {
    let has = |metric: &&Metric| metric.columns.iter().all(|name| frame.column(name).is_ok());
    let metrics: Vec<&Metric> = METRICS.iter().filter(has).collect();
    if metrics.is_empty() {
        column(frame, "correct")?;
    }
    let values: Vec<Result<f64>> = metrics.iter().map(|metric| metric.compute(frame)).collect();
    let text = |text: fn(&Metric) -> String| metrics.iter().map(|metric| text(metric)).collect::<Vec<_>>();
    Ok(df!(
        "metric" => text(|metric| metric.name.into()),
        "value" => values.iter().map(|value| value.as_ref().ok().copied()).collect::<Vec<_>>(),
        "unit" => text(|metric| metric.unit.into()),
        "direction" => text(|metric| metric.direction.to_string()),
        "note" => values.iter().map(|value| value.as_ref().err().map(Error::to_string)).collect::<Vec<_>>(),
    )?)
}

/// The column `name`, or an error that lists the columns there are.
fn column<'a>(frame: &'a DataFrame, name: &str) -> Result<&'a Column> {
    frame.column(name).map_err(|_| {
        let there = frame.get_column_names().iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let there = if there.is_empty() { "no columns".into() } else { there };
        Error::input(format!("the frame has no column `{name}`; it has {there}"))
    })
}

/// The column `correct` without nulls, at least one row.
fn correct(frame: &DataFrame) -> Result<Vec<bool>> {
    let column = column(frame, "correct")?;
    let values =
        column.bool().map_err(|_| Error::input(format!("`correct` must hold true and false, it is of type {}", column.dtype())))?;
    complete("correct", values.iter().collect())
}

/// The column `confidence` without nulls, at least one row, each in [0, 1].
fn confidence(frame: &DataFrame) -> Result<Vec<f64>> {
    let column = column(frame, "confidence")?;
    if !column.dtype().is_float() {
        return Err(Error::input(format!("`confidence` must hold floating point numbers, it is of type {}", column.dtype())));
    }
    let column = column.cast(&DataType::Float64)?;
    let values: Vec<f64> = complete("confidence", column.f64()?.iter().collect())?;
    for (row, value) in values.iter().enumerate() {
        if value.is_nan() {
            return Err(Error::numeric(format!("`confidence` is NaN in row {row}")));
        }
        if !(0.0..=1.0).contains(value) {
            return Err(Error::input(format!("`confidence` must lie in [0, 1], it is {value} in row {row}")));
        }
    }
    Ok(values)
}

fn complete<T>(name: &str, values: Vec<Option<T>>) -> Result<Vec<T>> {
    if values.is_empty() {
        return Err(Error::input("the frame has no rows to measure"));
    }
    let missing = |row| Error::input(format!("`{name}` has no value in row {row}"));
    values.into_iter().enumerate().map(|(row, value)| value.ok_or_else(|| missing(row))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 30 rows: confidences spread over [0.5, 1), every third wrong.
    fn sample() -> DataFrame {
        let confidence: Vec<f64> = (0..30).map(|i| 0.5 + f64::from(i) / 60.0).collect();
        df!("correct" => (0..30).map(|i| i % 3 > 0).collect::<Vec<_>>(), "confidence" => confidence).unwrap()
    }

    #[test]
    fn every_metric_keeps_what_its_entry_says() {
        let best = df!("correct" => [true; 15], "confidence" => [1.0; 15]).unwrap();
        let worst = df!("correct" => [false; 15], "confidence" => [1.0; 15]).unwrap();
        for (place, metric) in METRICS.iter().enumerate() {
            let name = metric.name;
            assert!(METRICS[..place].iter().all(|earlier| earlier.name != name), "{name} is there twice");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{name}");
            assert!(!metric.unit.is_empty() && !metric.what.is_empty() && metric.range.0 < metric.range.1, "{name}");
            assert_eq!(Metric::named(name).unwrap().name, name);
            let (low, high) = metric.range;
            let value = metric.compute(&sample()).unwrap();
            assert!((low..=high).contains(&value), "{name}: {value}");
            let (good, bad) = (metric.compute(&best).unwrap(), metric.compute(&worst).unwrap());
            match metric.direction {
                Direction::Higher => assert_eq!((good, bad), (high, low), "{name}"),
                Direction::Lower => assert_eq!((good, bad), (low, high), "{name}"),
                Direction::Neutral => {}
            }
            for column in metric.columns {
                let error = metric.compute(&sample().drop(column).unwrap()).unwrap_err().to_string();
                assert!(error.contains(&format!("no column `{column}`; it has")), "{name}: {error}");
                let error = metric.compute(&sample().head(Some(0))).unwrap_err();
                assert!(error.is_input() && error.to_string().contains("no rows"), "{name}: {error}");
            }
        }
        assert!(Metric::named("acc").unwrap_err().to_string().contains("there are accuracy, "));
    }

    #[test]
    fn bad_columns_are_named() {
        let bad = |correct: Column, confidence: Column| {
            let frame = DataFrame::new_infer_height(vec![correct, confidence]).unwrap();
            ece(&frame, Binning::EqualWidth(2)).unwrap_err()
        };
        let right = || Column::new("correct".into(), [true, false]);
        let sure = || Column::new("confidence".into(), [0.5, 0.6]);
        let error = bad(right(), Column::new("confidence".into(), [0.5, f64::NAN]));
        assert!(error.is_numeric() && error.to_string().contains("NaN in row 1"), "{error}");
        for (error, word) in [
            (bad(right(), Column::new("confidence".into(), [1.5, 0.5])), "it is 1.5 in row 0"),
            (bad(right(), Column::new("confidence".into(), [-0.1, 0.5])), "in [0, 1]"),
            (bad(right(), Column::new("confidence".into(), [f64::INFINITY, 0.5])), "in [0, 1]"),
            (bad(right(), Column::new("confidence".into(), [None, Some(0.5)])), "no value in row 0"),
            (bad(right(), Column::new("confidence".into(), ["a", "b"])), "of type str"),
            (bad(Column::new("correct".into(), [1_i32, 0]), sure()), "of type i32"),
            (bad(Column::new("correct".into(), [Some(true), None]), sure()), "`correct` has no value in row 1"),
        ] {
            assert!(error.is_input() && error.to_string().contains(word), "{error}");
        }
        assert!(accuracy(&DataFrame::default()).unwrap_err().to_string().contains("it has no columns"));
    }

    #[test]
    fn single_precision_confidences_are_read() {
        let frame = df!("correct" => [true], "confidence" => [0.25_f32]).unwrap();
        assert_eq!(ece(&frame, Binning::EqualWidth(15)).unwrap(), 0.75);
    }

    #[test]
    fn a_summary_says_what_is_not_defined() {
        let frame = summary(&sample().head(Some(4))).unwrap();
        assert_eq!(frame.get_column_names(), ["metric", "value", "unit", "direction", "note"]);
        let (value, note) = (frame.column("value").unwrap().f64().unwrap(), frame.column("note").unwrap().str().unwrap());
        assert_eq!((value.get(0), note.get(0)), (Some(0.5), None));
        assert_eq!(value.get(3), None);
        assert!(note.get(3).unwrap().contains("4 rows"));
        assert_eq!(summary(&df!("correct" => [true]).unwrap()).unwrap().height(), 1);
        assert!(summary(&df!("right" => [true]).unwrap()).unwrap_err().to_string().contains("it has `right`"));
    }
}
