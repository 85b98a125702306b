//! What whiskers and bands are: how far the mean of several rows may be off, or how far they lie apart.

use crate::error::{Error, Result};
use crate::random::Random;
use crate::sample::{self, deviation};
use crate::statistics::mean_interval;

/// Draws of a bootstrap interval.
const DRAWS: usize = 999;

/// What is shown around the mean of several rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Spread {
    /// Nothing.
    None,
    /// One sample standard deviation to each side: how far rows lie apart.
    #[default]
    Sd,
    /// One standard error to each side, s / √n.
    Se,
    /// The interval of the mean at this level in (0, 1), by Student's t ([`mean_interval`]). It takes rows for independent runs.
    T(f64),
    /// The percentile bootstrap interval of the mean at this level in (0, 1), of 999 draws that are the same in every session.
    Bootstrap(f64),
}

impl Spread {
    /// The lower and the upper end around the mean of these values; none of a single value.
    pub(super) fn ends(self, values: &[f64]) -> Result<Option<(f64, f64)>> {
        let count = values.len() as f64;
        if values.len() < 2 || self == Self::None {
            return Ok(None);
        }
        let (mean, sd) = (sample::mean(values), deviation(values));
        Ok(Some(match self {
            Self::T(level) => {
                let interval = mean_interval(values, level)?;
                (interval.lower, interval.upper)
            }
            Self::Bootstrap(level) => {
                let mut random = Random::new(0, "figure", 0);
                let mut draw = || (0..values.len()).map(|_| values[random.below(values.len())]).sum::<f64>() / count;
                let mut means: Vec<f64> = (0..DRAWS).map(|_| draw()).collect();
                means.sort_by(f64::total_cmp);
                sample::ends(&means, level).into()
            }
            Self::Se => (mean - sd / count.sqrt(), mean + sd / count.sqrt()),
            Self::Sd | Self::None => (mean - sd, mean + sd),
        }))
    }

    /// What a note says of it.
    pub(super) fn words(self) -> String {
        let percent = |level: f64| format!("{} %", (level * 1e4).round() / 100.0);
        match self {
            Self::None => String::new(),
            Self::Sd => "± 1 standard deviation".to_owned(),
            Self::Se => "± 1 standard error".to_owned(),
            Self::T(level) => format!("{} interval of the mean (Student's t)", percent(level)),
            Self::Bootstrap(level) => format!("{} interval of the mean (percentile bootstrap)", percent(level)),
        }
    }

    /// # Errors
    /// A level outside (0, 1).
    pub(super) fn check(self) -> Result<()> {
        match self {
            Self::T(level) | Self::Bootstrap(level) if !(level > 0.0 && level < 1.0) => {
                Err(Error::input(format!("figure: the level of an interval lies in (0, 1), such as 0.95, not {level}")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scipy 1.17: `x.std(ddof=1)`, `scipy.stats.sem(x)`, `scipy.stats.t.interval(0.95, 3, x.mean(), sem)` of 1, 2, 4, 7.
    #[test]
    fn ends_are_those_of_scipy() {
        let x = [1.0, 2.0, 4.0, 7.0];
        let near = |spread: Spread, low: f64, high: f64| {
            let (a, b) = spread.ends(&x).unwrap().unwrap();
            assert!((a - low).abs() < 1e-9 && (b - high).abs() < 1e-9, "{spread:?}: {a} {b}");
        };
        near(Spread::Sd, 3.5 - 2.645_751_311_064_590_7, 3.5 + 2.645_751_311_064_590_7);
        near(Spread::Se, 3.5 - 1.322_875_655_532_295_4, 3.5 + 1.322_875_655_532_295_4);
        near(Spread::T(0.95), -0.709_980_742_298_516, 7.709_980_742_298_516);
        let (low, high) = Spread::Bootstrap(0.95).ends(&x).unwrap().unwrap();
        assert!(low > 1.0 && low < 2.2 && high > 4.8 && high < 7.0, "{low} {high}");
        assert_eq!((Spread::None.ends(&x).unwrap(), Spread::Sd.ends(&[1.0]).unwrap()), (None, None));
        assert!(Spread::T(95.0).check().unwrap_err().to_string().contains("in (0, 1)"));
    }
}
