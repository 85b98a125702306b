//! Several methods at once, by their ranks: Friedman's test, and how far apart mean ranks must lie (Nemenyi).

use statrs::distribution::{ChiSquared, Continuous, ContinuousCDF, Normal};

use super::{ROUNDING, finite};
use crate::display::{self, Bundle, Show};
use crate::error::{Error, Result};

/// What Friedman's test found.
#[derive(Clone, Debug, PartialEq)]
pub struct Friedman {
    /// Each method's rank, averaged over the blocks: 1 is the least value of a block; equal values share their mean rank.
    pub ranks: Vec<f64>,
    /// The statistic, χ² with `methods − 1` degrees of freedom, corrected for ties.
    pub statistic: f64,
    /// p-value of the χ² approximation, which holds for many blocks only (about 10 or more).
    pub p: f64,
    /// How many blocks.
    pub blocks: usize,
}

impl Show for Friedman {
    fn bundle(&self) -> Bundle {
        display::facts("Friedman's test", &[("statistic", self.statistic), ("p", self.p), ("blocks", self.blocks as f64)])
    }
}

/// Friedman's test (1937) of `values[method][block]`: do all methods have the same distribution of ranks within blocks?
///
/// A block is what the methods were compared on, independent of the other blocks: a run, or a data set (Demšar 2006). With k methods, n blocks and
/// mean ranks R_j, `χ² = (12 n / (k (k + 1)) Σ R_j² − 3 n (k + 1)) / (1 − Σ(t³ − t) / (n (k³ − k)))`, the sum over ties of t values (as scipy).
///
/// # Errors
/// Fewer than 3 methods or 2 blocks, methods of different lengths, NaN or infinity; every block has all its values equal.
pub fn friedman(values: &[Vec<f64>]) -> Result<Friedman> {
    let (methods, blocks) = (values.len(), values.first().map_or(0, Vec::len));
    if methods < 3 || blocks < 2 {
        return Err(Error::input(format!(
            "Friedman's test needs 3 methods and 2 blocks at least, not {methods} and {blocks}: for two methods use `wilcoxon`"
        )));
    }
    for (place, own) in values.iter().enumerate() {
        finite(own, &format!("the values of method {place}"))?;
        if own.len() != blocks {
            return Err(Error::input(format!("method {place} has {} blocks and the first one {blocks}: give each method all", own.len())));
        }
    }
    let (mut ranks, mut tied) = (vec![0.0; methods], 0.0);
    for block in 0..blocks {
        let own: Vec<f64> = values.iter().map(|method| method[block]).collect();
        let (places, ties) = places(&own);
        ranks.iter_mut().zip(places).for_each(|(sum, place)| *sum += place / blocks as f64);
        tied += ties;
    }
    let (k, n) = (methods as f64, blocks as f64);
    let untied = 1.0 - tied / (n * (k * k * k - k));
    if untied <= 0.0 {
        return Err(Error::numeric("in every block all methods have the same value, so that there is nothing to rank"));
    }
    let squares: f64 = ranks.iter().map(|rank| rank * rank).sum();
    let statistic = ((12.0 * n / (k * (k + 1.0)) * squares - 3.0 * n * (k + 1.0)) / untied).max(0.0);
    let chi = ChiSquared::new(k - 1.0).map_err(|error| Error::internal("no χ² distribution").because(error))?;
    Ok(Friedman { ranks, statistic, p: chi.sf(statistic), blocks })
}

/// The ranks of one block, from 1, and Σ(t³ − t) over its ties.
fn places(values: &[f64]) -> (Vec<f64>, f64) {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let largest = values.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    let (mut ranks, mut tied, mut from) = (vec![0.0; values.len()], 0.0, 0);
    while from < order.len() {
        let same = order[from..].iter().take_while(|&&place| values[place] - values[order[from]] <= ROUNDING * largest).count();
        // The mean of from + 1 to from + same.
        order[from..from + same].iter().for_each(|&place| ranks[place] = from as f64 + (same + 1) as f64 / 2.0);
        tied += (same * same * same - same) as f64;
        from += same;
    }
    (ranks, tied)
}

/// How far apart the mean ranks of two of `methods` must lie over `blocks` to be told apart at significance `level` (Nemenyi 1963):
/// `q √(k (k + 1) / (6 n))`, where q is the (1 − level) quantile of the range of k independent standard normals, divided by √2 (Demšar 2006, table 5).
///
/// # Errors
/// Fewer than 2 methods or blocks, more than 200 methods, a level outside (0, 1).
pub fn nemenyi(methods: usize, blocks: usize, level: f64) -> Result<f64> {
    if !(2..=200).contains(&methods) || blocks < 2 || !(level > 0.0 && level < 1.0) {
        return Err(Error::input(format!(
            "a critical difference needs 2 to 200 methods, 2 blocks at least and a level in (0, 1), not {methods}, {blocks} and {level}"
        )));
    }
    let (mut low, mut high) = (0.0, 100.0);
    for _ in 0..60 {
        let middle: f64 = f64::midpoint(low, high);
        if range_above(middle, methods) > level { low = middle } else { high = middle }
    }
    let k = methods as f64;
    Ok(low / std::f64::consts::SQRT_2 * (k * (k + 1.0) / (6.0 * blocks as f64)).sqrt())
}

/// The chance that k independent standard normals span more than q: 1 − k ∫ φ(z) (Φ(z) − Φ(z − q))^(k − 1) dz, by Simpson's rule.
fn range_above(q: f64, methods: usize) -> f64 {
    const STEPS: usize = 800;
    let (from, to) = (-9.0, 9.0 + q.min(20.0));
    let step = (to - from) / STEPS as f64;
    let normal = Normal::standard();
    let at = |place: usize| {
        let z = from + step * place as f64;
        let weight = if place == 0 || place == STEPS { 1.0 } else { [2.0, 4.0][place % 2] };
        weight * normal.pdf(z) * (normal.cdf(z) - normal.cdf(z - q)).powi(methods as i32 - 1)
    };
    1.0 - methods as f64 * step / 3.0 * (0..=STEPS).map(at).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scipy 1.17.1: `friedmanchisquare(a, b, c, d)`, and the means of `rankdata` over blocks; the last block has a tie of three.
    #[test]
    fn ranks_and_p_are_those_of_scipy() {
        let values = [
            vec![0.61, 0.70, 0.66, 0.58, 0.70],
            vec![0.71, 0.74, 0.75, 0.69, 0.70],
            vec![0.9, 0.72, 0.95, 0.91, 0.93],
            vec![0.5, 0.5, 0.52, 0.58, 0.7],
        ];
        let found = friedman(&values).unwrap();
        assert!(found.ranks.iter().zip([1.9, 3.0, 3.8, 1.3]).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
        assert!((found.statistic - 12.466_666_666_666_665).abs() < 1e-9 && (found.p - 0.005_944_123_792_768_951).abs() < 1e-9, "{found:?}");
    }

    /// `scipy.stats.studentized_range.ppf(1 - level, k, inf) / sqrt(2)`; Demšar's table 5 has 1.960, 2.343, 2.728 and 3.164.
    #[test]
    fn critical_differences_are_those_of_scipy() {
        for (methods, level, q) in [
            (2, 0.05, 1.959_963_984_540_053),
            (3, 0.05, 2.343_700_586_378_409),
            (5, 0.05, 2.727_774_370_870_376),
            (10, 0.05, 3.163_683_577_053_373),
            (5, 0.1, 2.459_515_764_271_418),
        ] {
            let (k, n) = (methods as f64, 14.0);
            let expected = q * (k * (k + 1.0) / (6.0 * n)).sqrt();
            let found = nemenyi(methods, 14, level).unwrap();
            assert!((found - expected).abs() < 1e-7, "{methods}: {found} instead of {expected}");
        }
    }

    #[test]
    fn what_has_no_ranks_is_refused() {
        assert!(friedman(&[vec![1.0, 2.0], vec![2.0, 3.0]]).unwrap_err().to_string().contains("needs 3 methods"));
        assert!(friedman(&[vec![1.0, 2.0], vec![2.0, 3.0], vec![1.0]]).unwrap_err().to_string().contains("method 2 has 1 blocks"));
        assert!(friedman(&vec![vec![1.0, 2.0]; 3]).unwrap_err().to_string().contains("nothing to rank"));
        assert!(friedman(&[vec![1.0, f64::NAN], vec![1.0; 2], vec![1.0; 2]]).is_err() && nemenyi(3, 1, 0.05).is_err());
    }
}
