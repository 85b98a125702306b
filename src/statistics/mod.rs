//! Is one method better than another, over runs? Paired tests, effect sizes and intervals, of slices and of frames.
//!
//! Two methods are compared on the same runs, so every test here is of paired differences, **second less first**, and two-sided. A run is
//! one draw of data with all that was done with it: trainings on nested training sets (N = 4 within N = 8) and tests of one training on
//! several tasks are *not* independent, and tests that count them as if they were reject too often (a third of the time at a nominal
//! 0.05, simulated). [`averaged`] makes one row of each run; [`compare`] does the rest, and refuses to pool what hangs together:
//!
//! ```
//! use ia2::polars::prelude::*;
//! use ia2::statistics::compare;
//!
//! let runs = df!(
//!     "method" => ["SFT", "SFT", "SFT", "SFT", "IA2", "IA2", "IA2", "IA2"],
//!     "run" => [0, 1, 2, 3, 0, 1, 2, 3],
//!     "accuracy" => [0.61, 0.70, 0.66, 0.58, 0.71, 0.74, 0.75, 0.69],
//! )?;
//! let frame = compare(&runs, "method", &[("SFT", "IA2")], &["run"], &["accuracy"], 0.95)?;
//! assert!(frame.column("p_t")?.f64()?.get(0).unwrap() < 0.05);
//! assert_eq!(frame.column("p_wilcoxon")?.f64()?.get(0), Some(0.125)); // the least that four pairs can give
//! # Ok::<(), ia2::Error>(())
//! ```
//!
//! Where there is an outcome for each test row, rows are a second source of chance, and come up again in other runs and methods: [`crossed_mean`] clusters by
//! both, [`crossed_bootstrap`] draws both, [`mixed_model`] and [`mixed_mean`] give each a random effect; [`CrossedMean::power`] says what a further study needs.
//! [`Study::evidence`](crate::experiment::Study::evidence) puts them together.

mod crossed;
pub(crate) mod crossing;
mod frame;
mod friedman;
mod holm;
pub(crate) mod mixed;
pub(crate) mod numbered;
mod power;
mod t;
mod wilcoxon;

#[cfg(test)]
mod edge_tests;
#[cfg(test)]
mod null_tests;

pub use crossed::{CrossedMean, crossed_bootstrap, crossed_mean};
pub use frame::{averaged, compare, intervals};
pub use friedman::{Friedman, friedman, nemenyi};
pub use holm::holm;
pub(crate) use holm::holm_of_defined;
pub use mixed::{MixedModel, mixed_mean, mixed_model};
pub use t::{MeanInterval, TTest, cohen_dz, mean_interval, paired_t};
pub use wilcoxon::{Wilcoxon, rank_biserial, wilcoxon};

use crate::error::{Error, Result};

/// What two numbers that mean the same may differ by, relative to the larger: 0.3 - 0.1 is not quite 0.5 - 0.3.
const ROUNDING: f64 = 1e-12;

/// `second - first` of each pair; at least `least` pairs of finite numbers.
fn differences(first: &[f64], second: &[f64], least: usize) -> Result<Vec<f64>> {
    if first.len() != second.len() {
        return Err(Error::input(format!("{} values against {}: paired tests need one of each per run", first.len(), second.len())));
    }
    finite(first, "the first values")?;
    finite(second, "the second values")?;
    if first.len() < least {
        return Err(Error::input(format!("{} pairs are too few, at least {least} are needed: add runs", first.len())));
    }
    let difference = |(first, second): (&f64, &f64)| match (second - first).abs() <= ROUNDING * first.abs().max(second.abs()) {
        true => 0.0,
        false => second - first,
    };
    Ok(first.iter().zip(second).map(difference).collect())
}

fn finite(values: &[f64], what: &str) -> Result<()> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(place) => Err(Error::numeric(format!("{what}: the one at {place} is {}, give finite numbers", values[place]))),
        None => Ok(()),
    }
}
