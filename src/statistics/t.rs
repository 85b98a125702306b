//! Student's t: the paired test, its effect size, and intervals.

use super::crossing::{critical, two_sided};
use super::{differences, finite};
use crate::display::{self, Bundle, Show};
use crate::error::{Error, Result};
use crate::sample::{check_level, deviation, mean};

/// What a paired t-test found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TTest {
    /// Mean of the differences, second less first.
    pub difference: f64,
    /// Lower end of the interval of the mean difference.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
    /// The statistic, `mean / (std / √n)`.
    pub t: f64,
    /// Degrees of freedom, n - 1.
    pub degrees: usize,
    /// Two-sided p-value.
    pub p: f64,
}

impl Show for TTest {
    fn bundle(&self) -> Bundle {
        display::facts(
            "paired t-test",
            &[
                ("difference", self.difference),
                ("lower", self.lower),
                ("upper", self.upper),
                ("t", self.t),
                ("degrees of freedom", self.degrees as f64),
                ("p", self.p),
            ],
        )
    }
}

/// A mean with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeanInterval {
    /// Mean.
    pub mean: f64,
    /// Sample standard deviation, with n - 1 below.
    pub std: f64,
    /// Lower end.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
    /// Number of values.
    pub count: usize,
}

impl Show for MeanInterval {
    fn bundle(&self) -> Bundle {
        display::facts(
            "mean",
            &[("mean", self.mean), ("std", self.std), ("lower", self.lower), ("upper", self.upper), ("count", self.count as f64)],
        )
    }
}

/// Paired t-test (Student 1908) of `second` against `first`, two-sided, with the interval of the mean difference at `level`.
///
/// `t = d̄ / (s_d / √n)` with n - 1 degrees of freedom, for differences that are about normal.
///
/// # Errors
/// Different lengths, fewer than 2 pairs, NaN or infinity, a level outside (0, 1); differences that are all the same, for which t is
/// not defined.
pub fn paired_t(first: &[f64], second: &[f64], level: f64) -> Result<TTest> {
    let differences = differences(first, second, 2)?;
    let spread = spread(&differences)?;
    let MeanInterval { mean, lower, upper, count, .. } = mean_interval(&differences, level)?;
    let t = mean / (spread / (count as f64).sqrt());
    let p = two_sided(t, (count - 1) as f64)?;
    Ok(TTest { difference: mean, lower, upper, t, degrees: count - 1, p })
}

/// Cohen's d of paired differences, `d_z = d̄ / s_d`: the mean difference in its own standard deviations (Lakens 2013).
///
/// # Errors
/// As [`paired_t`].
pub fn cohen_dz(first: &[f64], second: &[f64]) -> Result<f64> {
    let differences = differences(first, second, 2)?;
    Ok(mean(&differences) / spread(&differences)?)
}

/// Mean of `values` with its t interval at `level`: `x̄ ± t_{n-1} s / √n`.
///
/// # Errors
/// Fewer than 2 values, NaN or infinity, a level outside (0, 1).
pub fn mean_interval(values: &[f64], level: f64) -> Result<MeanInterval> {
    finite(values, "the values")?;
    if values.len() < 2 {
        return Err(Error::input(format!("an interval needs at least 2 values, there are {}: add runs", values.len())));
    }
    check_level(level)?;
    let (mean, std, count) = (mean(values), deviation(values), values.len());
    let half = critical(level, (count - 1) as f64)? * std / (count as f64).sqrt();
    Ok(MeanInterval { mean, std, lower: mean - half, upper: mean + half, count })
}

/// The standard deviation of differences, which must not all be the same.
fn spread(differences: &[f64]) -> Result<f64> {
    let (spread, largest) = (deviation(differences), differences.iter().fold(0.0_f64, |largest, value| largest.max(value.abs())));
    // The same difference computed from different numbers differs by rounding.
    match spread <= 1e-12 * largest || largest == 0.0 {
        true => Err(Error::numeric(format!(
            "all {} differences are the same, so that they have no spread to compare with: add runs or data",
            differences.len()
        ))),
        false => Ok(spread),
    }
}
