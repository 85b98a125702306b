//! How much a metric would vary over other examples.

use polars::prelude::*;

use super::Metric;
use super::read::named;
use crate::error::Result;
use crate::interrupt;
use crate::random::Random;
use crate::sample::Interval;

impl Metric {
    /// Percentile bootstrap interval at `level` (Efron 1979): the metric of `draws` frames of as many rows, drawn with repetition.
    ///
    /// Binned errors are biased upwards, the more the fewer rows a bin has, and their draws once more: such an interval may lie above the value.
    /// One seed draws the same rows for every metric.
    ///
    /// # Errors
    /// As the metric, on the frame or on a draw; fewer than 2 draws or more than a million, or a level outside (0, 1).
    pub fn bootstrap(&self, frame: &DataFrame, draws: usize, level: f64, seed: u64) -> Result<Interval> {
        Interval::check(draws, level)?;
        let value = self.compute(frame)?;
        let read = frame.select(named(frame, self.columns))?;
        let rows = read.height();
        let mut random = Random::new(seed, "bootstrap", 0);
        let found = interrupt::during("a bootstrap", || {
            let draw = |place: usize| {
                interrupt::at(place as u64, draws as u64, "draws")?;
                let drawn: Vec<IdxSize> = (0..rows).map(|_| random.below(rows) as IdxSize).collect();
                let value = self.compute(&read.take(&IdxCa::from_vec("row".into(), drawn))?);
                value.map_err(|error| error.context("a bootstrap draw"))
            };
            (0..draws).map(draw).collect::<Result<Vec<_>>>()
        })?;
        Ok(Interval::of(value, found, level))
    }
}
