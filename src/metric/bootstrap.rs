//! How much a metric would vary over other examples.

use polars::prelude::*;

use super::Metric;
use super::read::named;
use crate::display::{self, Bundle, Show};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::random::{MOST_DRAWS, Random, quantile};

/// A metric's value with its bootstrap interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Over all rows.
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

impl Show for Interval {
    fn bundle(&self) -> Bundle {
        display::facts(
            "bootstrap interval",
            &[("value", self.value), ("lower", self.lower), ("upper", self.upper), ("std", self.std), ("level", self.level)],
        )
    }
}

impl Metric {
    /// Percentile bootstrap interval at `level` (Efron 1979): the metric of `draws` frames of as many rows, drawn with repetition.
    ///
    /// Binned errors are biased upwards, the more the fewer rows a bin has, and their draws once more: such an interval may lie above the value.
    /// One seed draws the same rows for every metric.
    ///
    /// # Errors
    /// As the metric, on the frame or on a draw; fewer than 2 draws or more than a million, or a level outside (0, 1).
    pub fn bootstrap(&self, frame: &DataFrame, draws: usize, level: f64, seed: u64) -> Result<Interval> {
        if !((2..=MOST_DRAWS).contains(&draws) && level > 0.0 && level < 1.0) {
            return Err(Error::input(format!(
                "an interval needs 2 to {MOST_DRAWS} draws and a level in (0, 1), such as 999 and 0.95; got {draws} and {level}"
            )));
        }
        let value = self.compute(frame)?;
        let read = frame.select(named(frame, self.columns))?;
        let rows = read.height();
        let mut random = Random::new(seed, "bootstrap", 0);
        let mut found = interrupt::during("a bootstrap", || {
            let draw = |place: usize| {
                interrupt::at(place as u64, draws as u64, "draws")?;
                let drawn: Vec<IdxSize> = (0..rows).map(|_| random.below(rows) as IdxSize).collect();
                let value = self.compute(&read.take(&IdxCa::from_vec("row".into(), drawn))?);
                value.map_err(|error| error.context("a bootstrap draw"))
            };
            (0..draws).map(draw).collect::<Result<Vec<_>>>()
        })?;
        found.sort_by(f64::total_cmp);
        let mean = found.iter().sum::<f64>() / draws as f64;
        let std = (found.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / (draws - 1) as f64).sqrt();
        Ok(Interval { value, lower: quantile(&found, (1.0 - level) / 2.0), upper: quantile(&found, (1.0 + level) / 2.0), std, level })
    }
}
