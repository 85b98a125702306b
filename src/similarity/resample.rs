//! Is a value more than chance, and how sure is it? For any measure, by drawing examples.

use tch::Tensor;

use super::{Measure, Representation};
use crate::display::{self, Bundle, Show};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::libtorch::guarded;
use crate::random::Random;
use crate::sample::{Interval, MOST_DRAWS, mean};

/// What a measure reads when examples are matched at random.
#[derive(Clone, Debug, PartialEq)]
pub struct Null {
    /// The value of the examples as they belong together.
    pub value: f64,
    /// The values of the permutations, in the order they were drawn.
    pub draws: Vec<f64>,
    /// `(1 + number of draws that reach the value) / (1 + number of draws)`: one-sided, never 0 (Phipson and Smyth 2010).
    pub p: f64,
    /// Mean of the draws: what the measure reads by chance on such data.
    pub mean: f64,
}

impl Show for Null {
    fn bundle(&self) -> Bundle {
        display::facts(
            "permutation null",
            &[("value", self.value), ("mean of the draws", self.mean), ("p", self.p), ("draws", self.draws.len() as f64)],
        )
    }
}

/// Permutation null of `measure`: the examples of `b` are put in a random order `count` times, which leaves each representation as it is
/// and takes away only what they have to do with each other.
///
/// # Errors
/// As the measure; no permutations asked for, or more than a million.
pub fn permutation(measure: &Measure, a: &Representation, b: &Representation, count: usize, seed: u64) -> Result<Null> {
    if !(1..=MOST_DRAWS).contains(&count) {
        return Err(Error::input(format!("a permutation null needs 1 to {MOST_DRAWS} permutations, {count} asked for; 999 is usual")));
    }
    let mut random = Random::new(seed, "permutation null", 0);
    let (value, draws) = guarded("a permutation null", || {
        let value = measure.compute(a, b)?;
        let draw = |place: usize| {
            interrupt::at(place as u64, count as u64, "permutations")?;
            measure.compute(a, &b.permuted(&rows(&random.order(b.examples()), b)))
        };
        Ok((value, (0..count).map(draw).collect::<Result<Vec<_>>>()?))
    })?;
    // Rounding differs between orders of one sum; it must not decide whether a draw reaches the value.
    let reached = draws.iter().filter(|draw| **draw >= value - 1e-12).count();
    Ok(Null { value, p: (1 + reached) as f64 / (1 + count) as f64, mean: mean(&draws), draws })
}

/// Half-sample bootstrap interval of `measure` at `level`: `count` draws of half of the examples, without repetition.
///
/// The variance over halves is that of the value over fresh examples (Politis, Romano and Wolf 1999, with b = n/2). The usual bootstrap,
/// which draws with repetition, is wrong here: measures that compare examples with each other see a repeated example as a perfect match of
/// both representations, and independent ones would read far above 0. The interval is `value + (quantiles of the draws - their mean)`, so
/// that a measure's dependence on the number of examples (the biased ones, CCA) does not shift it, cut to the measure's range.
///
/// # Errors
/// As the measure on half of the examples; fewer than 2 draws or more than a million, or a level outside (0, 1).
pub fn interval(measure: &Measure, a: &Representation, b: &Representation, count: usize, level: f64, seed: u64) -> Result<Interval> {
    Interval::check(count, level)?;
    let mut random = Random::new(seed, "half samples", 0);
    let (value, mut draws) = guarded("an interval of half samples", || {
        let value = measure.compute(a, b)?;
        let draw = |place: usize| {
            interrupt::at(place as u64, count as u64, "half samples")?;
            let chosen = random.choose(a.examples() / 2, a.examples());
            let half = measure.compute(&a.some(&rows(&chosen, a)), &b.some(&rows(&chosen, b)));
            half.map_err(|error| error.context(format_args!("half of the {} examples", a.examples())))
        };
        Ok((value, (0..count).map(draw).collect::<Result<Vec<_>>>()?))
    })?;
    draws.sort_by(f64::total_cmp);
    let mean = mean(&draws);
    let whole = Interval::of(value, draws, level);
    let end = |drawn: f64| (value + drawn - mean).clamp(measure.range.0, measure.range.1);
    Ok(Interval { lower: end(whole.lower), upper: end(whole.upper), ..whole })
}

fn rows(order: &[usize], of: &Representation) -> Tensor {
    let order: Vec<i64> = order.iter().map(|&row| row as i64).collect();
    Tensor::from_slice(&order).to_device(of.values().device())
}
