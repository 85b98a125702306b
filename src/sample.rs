//! Numbers of a sample: their mean, standard deviation and quantiles, and the interval that draws of them give.

use crate::display::{self, Bundle, Show};
use crate::error::{Error, Result};

/// The most draws of a resampling: all are kept, and more tell nothing more.
pub(crate) const MOST_DRAWS: usize = 1_000_000;

/// NaN where there are no values.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Sample standard deviation, with n - 1 below; NaN of a single value.
pub(crate) fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0)).sqrt()
}

/// Mean and standard deviation, as far as there are values enough for them.
pub(crate) fn spread(values: &[f64]) -> (Option<f64>, Option<f64>) {
    ((!values.is_empty()).then(|| mean(values)), (values.len() > 1).then(|| deviation(values)))
}

/// The number below which a `share` of the sorted draws lie, between the two that enclose it (as numpy's default); NaN where there are none.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * sorted.len().saturating_sub(1) as f64;
    let at = |place: f64| sorted.get(place as usize).copied().unwrap_or(f64::NAN);
    at(place.floor()) + (at(place.ceil()) - at(place.floor())) * place.fract()
}

/// The ends of the middle `level` of sorted draws.
pub(crate) fn ends(sorted: &[f64], level: f64) -> [f64; 2] {
    [(1.0 - level) / 2.0, (1.0 + level) / 2.0].map(|share| quantile(sorted, share))
}

/// Refuses what is no share of intervals.
pub(crate) fn check_level(level: f64) -> Result<()> {
    match level > 0.0 && level < 1.0 {
        true => Ok(()),
        false => Err(Error::input(format!("a level must lie in (0, 1), such as 0.95, it is {level}"))),
    }
}

/// A value with an interval over draws of what it was computed from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Of all rows or examples.
    pub value: f64,
    /// Lower end.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
    /// Standard deviation of the draws, which estimates the standard error.
    pub std: f64,
    /// Share of such intervals that should hold the true value.
    pub level: f64,
}

impl Interval {
    /// Refuses a number of draws or a level that gives no interval.
    pub(crate) fn check(draws: usize, level: f64) -> Result<()> {
        match (2..=MOST_DRAWS).contains(&draws) && level > 0.0 && level < 1.0 {
            true => Ok(()),
            false => Err(Error::input(format!(
                "an interval needs 2 to {MOST_DRAWS} draws and a level in (0, 1), such as 999 and 0.95; got {draws} and {level}"
            ))),
        }
    }

    /// The middle `level` of the draws.
    pub(crate) fn of(value: f64, mut draws: Vec<f64>, level: f64) -> Self {
        draws.sort_by(f64::total_cmp);
        let [lower, upper] = ends(&draws, level);
        Self { value, lower, upper, std: deviation(&draws), level }
    }
}

impl Show for Interval {
    fn bundle(&self) -> Bundle {
        display::facts(
            "interval",
            &[("value", self.value), ("lower", self.lower), ("upper", self.upper), ("std", self.std), ("level", self.level)],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_by_hand() {
        assert_eq!(spread(&[1.0, 3.0]), (Some(2.0), Some(2f64.sqrt())));
        assert_eq!(spread(&[4.0]), (Some(4.0), None));
        assert_eq!(spread(&[]), (None, None));
        assert!(mean(&[]).is_nan() && deviation(&[4.0]).is_nan());
    }

    #[test]
    fn quantiles_by_hand() {
        let sorted = [1.0, 2.0, 4.0, 8.0, 16.0];
        assert_eq!([0.0, 0.25, 0.5, 0.625, 1.0].map(|share| quantile(&sorted, share)), [1.0, 2.0, 4.0, 6.0, 16.0]);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn an_interval_is_the_middle_of_its_draws() {
        let interval = Interval::of(7.0, vec![16.0, 1.0, 8.0, 2.0, 4.0], 0.5);
        assert_eq!((interval.value, interval.lower, interval.upper, interval.level), (7.0, 2.0, 8.0, 0.5));
        assert!((interval.std - 37.2f64.sqrt()).abs() < 1e-12);
        assert!(Interval::check(2, 0.95).is_ok() && Interval::check(MOST_DRAWS, 0.95).is_ok());
        for (draws, level) in [(1, 0.95), (MOST_DRAWS + 1, 0.95), (9, 0.0), (9, 1.0), (9, f64::NAN)] {
            assert!(Interval::check(draws, level).unwrap_err().is_input());
        }
    }
}
