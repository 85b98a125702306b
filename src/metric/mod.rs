//! Numbers from a frame of predictions, such as [`evaluate`](crate::evaluate::evaluate)'s: one row per example, with the columns `correct`
//! (boolean), for calibration `confidence` (in [0, 1]), and for what concerns all labels `gold` and `p_<label>` each.
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
//! The confidence of a free answer is its probability ([`Confidence`] says of what, [`with_confidence`] changes it).
//!
//! [`METRICS`] lists what there is; [`summary`] computes all of it; [`Metric::bootstrap`] gives an interval of any. [`calibration`] is the
//! frame of a reliability diagram, [`smooth_calibration`] a curve without bins; [`debiased_ce_interval`] has an interval that holds the truth near 0;
//! [`brier_parts`] and [`risk_coverage`] say how far confidences tell right from wrong; [`fit_temperature`] corrects confidences,
//! [`batch_calibrated`] and [`with_prior`] what the labels have beforehand; [`as_reported`] makes confidences the authors'.
//! A new metric is one file and one entry there.

mod accuracy;
mod bootstrap;
mod calibration;
mod confidence;
mod debiased;
mod labels;
mod paper;
mod prior;
mod read;
#[cfg(test)]
#[path = "../../tests/recipes/metric.rs"]
mod recipe;
mod selective;
mod smooth;
mod temperature;
#[cfg(test)]
mod tests;

use std::fmt;

use polars::prelude::*;

pub use crate::sample::Interval;
pub use accuracy::{accuracy, mean_confidence, mean_entropy, mean_nll};
pub use calibration::{Binning, calibration, classwise_ece, ece, mce, rmsce};
pub use confidence::{Confidence, answer_brier, answer_nll, with_confidence};
pub use debiased::{BrierParts, DebiasedError, brier_parts, debiased_ce, debiased_ce_interval};
pub use labels::{brier, label_set_accuracy, top_k};
pub use paper::{as_reported, top_1_accuracy, top_1_as_reported, top_1_ece};
pub(crate) use prior::divided;
pub use prior::{batch_calibrated, with_prior};
pub use selective::{augrc, aurc, risk_coverage};
pub use smooth::{SmoothCalibration, smooth_calibration, smooth_ece};
pub use temperature::{Temperature, fit_temperature, with_temperature};

pub(crate) use debiased::debiased_square;
pub(crate) use selective::augrc_of;
pub(crate) use smooth::{smooth_error, smooth_error_at};

use read::PROBABILITIES;

use crate::compat::Compat;
use crate::display::{Bundle, Show, listed, number};
use crate::error::{Error, Result};
use crate::frame;

crate::display::show_as_text!("{}": Binning, Direction);
crate::display::show_as_text!(Confidence);

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
    /// Columns it reads; `p_<label>` stands for one of each label.
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
            let known = listed(METRICS.iter().map(|metric| metric.name));
            Error::input(format!("there is no metric `{name}`; there are {known}"))
        })
    }

    /// Its value over the rows of `frame`.
    ///
    /// # Errors
    /// An input error when a column is missing, of another type, has nulls or values outside its range, or there are too
    /// few rows; a numeric error when one is NaN.
    pub fn compute(&self, frame: &DataFrame) -> Result<f64> {
        let value = (self.compute)(frame)?;
        // A sum of rounded shares may pass an end of its range by a rounding.
        let inside = value.clamp(self.range.0, self.range.1);
        Ok(if (value - inside).abs() < 1e-9 { inside } else { value })
    }
}

impl Show for Metric {
    fn bundle(&self) -> Bundle {
        let (least, most) = self.range;
        Bundle::text(format!(
            "{}: {} ({}, {} to {}, better: {}; reads {})",
            self.name,
            self.what,
            self.unit,
            number(least),
            number(most),
            self.direction,
            self.columns.join(", ")
        ))
    }
}
/// One of the metrics, from which other errors differ in little.
const ECE: Metric = Metric {
    name: "ece_equal_width_15",
    unit: "fraction",
    direction: Direction::Lower,
    range: (0.0, 1.0),
    columns: &["correct", "confidence"],
    what: "expected calibration error over 15 bins of equal width (Guo et al. 2017)",
    compute: |frame| ece(frame, Binning::EqualWidth(15)),
};

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
        name: "label_set_accuracy",
        unit: "fraction",
        direction: Direction::Higher,
        range: (0.0, 1.0),
        columns: &["gold", PROBABILITIES],
        what: "share of examples whose gold label is as likely as any other",
        compute: label_set_accuracy,
    },
    Metric {
        name: "top_1_accuracy",
        unit: "fraction",
        direction: Direction::Higher,
        range: (0.0, 1.0),
        columns: &["top_1_correct"],
        what: "share of examples whose likeliest token of the whole vocabulary is the gold (the paper's accuracy where there are labels)",
        compute: top_1_accuracy,
    },
    Metric {
        name: "top_2_accuracy",
        unit: "fraction",
        direction: Direction::Higher,
        range: (0.0, 1.0),
        columns: &["gold", PROBABILITIES],
        what: "share of examples whose gold label is among the two likeliest",
        compute: |frame| top_k(frame, 2),
    },
    Metric {
        name: "nll",
        unit: "nat",
        direction: Direction::Lower,
        range: (0.0, f64::INFINITY),
        columns: &["nll"],
        what: "mean negative log-likelihood of the gold label among the labels",
        compute: mean_nll,
    },
    Metric {
        name: "brier",
        unit: "fraction",
        direction: Direction::Lower,
        range: (0.0, 2.0),
        columns: &["gold", PROBABILITIES],
        what: "mean squared distance of the labels' probabilities from the gold one's 1, summed over labels (Brier 1950)",
        compute: brier,
    },
    Metric {
        name: "answer_brier",
        what: "mean squared distance of the answer's confidence from 1 where it is right and from 0 where it is wrong (Brier 1950)",
        compute: answer_brier,
        ..ECE
    },
    Metric {
        name: "answer_nll",
        unit: "nat",
        direction: Direction::Lower,
        range: (0.0, confidence::MOST),
        columns: &["correct", "confidence"],
        what: "mean negative log-likelihood of the answers being right or wrong as they are, each at most 36",
        compute: answer_nll,
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
        name: "entropy",
        unit: "nat",
        direction: Direction::Neutral,
        range: (0.0, f64::INFINITY),
        columns: &["entropy"],
        what: "mean entropy of the labels' probabilities; of free answers, of the next token over the steps of a response",
        compute: mean_entropy,
    },
    ECE,
    Metric {
        name: "ece_equal_mass_15",
        what: "expected calibration error over 15 bins of equal count (Nguyen and O'Connor 2015)",
        compute: |frame| ece(frame, Binning::EqualMass(15)),
        ..ECE
    },
    Metric {
        name: "ece_paper_15",
        what: "expected calibration error over 15 bins as the authors' code cuts them",
        compute: |frame| ece(frame, Binning::Paper(15)),
        ..ECE
    },
    Metric {
        name: "top_1_ece_equal_width_15",
        columns: &["top_1_correct", "top_1_confidence"],
        what: "expected calibration error of the likeliest token of the whole vocabulary, 15 bins of equal width",
        compute: |frame| top_1_ece(frame, Binning::EqualWidth(15), Compat::Corrected),
        ..ECE
    },
    Metric {
        name: "top_1_ece_paper_15",
        columns: &["top_1_correct", "top_1_confidence", "top_10_mass"],
        what: "the same as the paper reports it: confidence divided by that of the ten likeliest tokens, 15 bins as the authors' code cuts them",
        compute: |frame| top_1_ece(frame, Binning::Paper(15), Compat::Paper),
        ..ECE
    },
    Metric {
        name: "mce_equal_width_15",
        what: "greatest gap between accuracy and confidence of 15 bins of equal width (Naeini et al. 2015)",
        compute: |frame| mce(frame, Binning::EqualWidth(15)),
        ..ECE
    },
    Metric {
        name: "rmsce_equal_width_15",
        what: "root mean square gap of 15 bins of equal width (Hendrycks et al. 2019)",
        compute: |frame| rmsce(frame, Binning::EqualWidth(15)),
        ..ECE
    },
    Metric {
        name: "classwise_ece_equal_width_15",
        columns: &["gold", PROBABILITIES],
        what: "mean over the labels of the expected calibration error of each one's probability, 15 bins of equal width (static calibration error, Nixon et al. 2019)",
        compute: |frame| classwise_ece(frame, Binning::EqualWidth(15)),
        ..ECE
    },
    Metric {
        name: "adaptive_ece_15",
        columns: &["gold", PROBABILITIES],
        what: "mean over the labels of the expected calibration error of each one's probability, 15 bins of equal count (adaptive calibration error, Nixon et al. 2019)",
        compute: |frame| classwise_ece(frame, Binning::EqualMass(15)),
        ..ECE
    },
    Metric {
        name: "smooth_ece",
        what: "smooth expected calibration error: no bins, the bandwidth by its own rule (Błasiok and Nakkiran 2023)",
        compute: smooth_ece,
        ..ECE
    },
    Metric {
        name: "debiased_ce_15",
        what: "l2 calibration error of 15 bins of equal count, less what chance adds (Kumar et al. 2019)",
        compute: |frame| debiased_ce(frame, Binning::EqualMass(15)),
        ..ECE
    },
    Metric { name: "aurc", what: "area under the risk-coverage curve (Geifman et al. 2019)", compute: aurc, ..ECE },
    Metric {
        name: "augrc",
        range: (0.0, 0.5),
        what: "area under the generalized risk-coverage curve: the mean chance of an undetected error (Traub et al. 2024)",
        compute: augrc,
        ..ECE
    },
];

/// Every metric that `frame` has the columns for: `metric`, `value`, `unit`, `direction`, `note`.
///
/// Where a metric is not defined on these rows (too few of them, say), `value` is null and `note` says why.
///
/// # Errors
/// An input error when the frame has the columns of no metric.
pub fn summary(frame: &DataFrame) -> Result<DataFrame> {
    let metrics: Vec<&Metric> = METRICS.iter().filter(|metric| read::has(frame, metric.columns)).collect();
    if metrics.is_empty() {
        frame::column(frame, "correct")?;
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
