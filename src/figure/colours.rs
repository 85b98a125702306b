//! How the values of a figure are given colours: the range, and what of it a few values far off may decide.

use super::bounds;
use crate::error::{Error, Result};
use crate::plot::ramp::Ramp;
use crate::plot::scale;

/// The share of values on each side that a range of colours may leave out, and how far they must lie off to be left out.
const TAIL: f64 = 0.02;
const FAR: f64 = 4.0;

/// How a figure is told to colour its values; [`colour_setters`] gives it the methods.
#[derive(Clone, Copy, Debug)]
pub(super) struct Colours {
    pub range: Option<(f64, f64)>,
    pub diverging: bool,
    pub robust: bool,
}

impl Default for Colours {
    fn default() -> Self {
        Self { range: None, diverging: false, robust: true }
    }
}

impl Colours {
    /// The scale for the values of a column.
    ///
    /// # Errors
    /// The range is not ascending, or does not lie around zero where colours diverge.
    pub(super) fn ramp(&self, column: &str, values: &[f64]) -> Result<Ramp> {
        let open = bounds::of(column, values) == bounds::NONE;
        let (least, greatest) = robust(values).filter(|_| self.robust && open).unwrap_or_else(|| scale::extent(values.iter().copied()));
        let (from, to) = self.range.unwrap_or_else(|| {
            let far = least.abs().max(greatest.abs());
            match self.diverging {
                true => (-far, far),
                false => (least, greatest),
            }
        });
        if self.range.is_some() && (!from.is_finite() || !to.is_finite() || from >= to) {
            return Err(Error::input(format!("figure: the range of colours must be two ascending numbers, not {from} and {to}")));
        }
        if self.diverging && self.range.is_some() && from != -to {
            return Err(Error::input(format!("figure: diverging colours need a range around zero, not {from} to {to}")));
        }
        // Values that are all the same still have a colour.
        let (from, to) = if from < to { (from, to) } else { scale::range(from, to, false) };
        Ok(Ramp { from, to, diverging: self.diverging })
    }
}

/// The methods of a builder that has `colours`.
macro_rules! colour_setters {
    () => {
        /// Colours that part at zero: blue below, red above, and a range that reaches as far on both sides.
        pub fn diverging(mut self) -> Self {
            self.colours.diverging = true;
            self
        }

        /// The values of the two ends of the colours; by default the least and the greatest there are, or those of the bulk (`robust`).
        /// Values outside have the end's colour, and the note counts them.
        pub fn range(mut self, from: f64, to: f64) -> Self {
            self.colours.range = Some((from, to));
            self
        }

        /// Whether colours end before a few values that lie far off (a unit of a real model that is a hundred times as large as the others leaves
        /// no colours for them); by default they do. They end half a span beyond the middle 96 % of the values, where all values together take
        /// more than four times that span; the note says so. Never where the values are those of a metric, a measure or a probability.
        pub fn robust(mut self, robust: bool) -> Self {
            self.colours.robust = robust;
            self
        }
    };
}
pub(super) use colour_setters;

/// A range that a few values far off do not decide, where there are some: colours spent on them would leave none for the others.
pub(super) fn robust(values: &[f64]) -> Option<(f64, f64)> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let out = ((TAIL * values.len() as f64).ceil() as usize).max(1);
    let inner = values.get(out..values.len().checked_sub(out)?)?;
    let (low, high, least, greatest) = (*inner.first()?, *inner.last()?, *values.first()?, *values.last()?);
    let span = high - low;
    let far = values.len() >= 10 && span > 0.0 && greatest - least > FAR * span;
    far.then(|| ((low - span / 2.0).max(least), (high + span / 2.0).min(greatest)))
}
