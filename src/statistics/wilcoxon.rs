//! Wilcoxon's signed-rank test.

use statrs::distribution::{ContinuousCDF, Normal};

use super::{ROUNDING, differences};
use crate::display::{self, Bundle, Show};
use crate::error::{Error, Result};

/// Up to this number of nonzero differences the distribution is exact; above it, the normal approximation is used.
const EXACT: usize = 50;

/// What a signed-rank test found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wilcoxon {
    /// Sum of the ranks of positive differences (second above first).
    pub positive: f64,
    /// Sum of the ranks of negative differences.
    pub negative: f64,
    /// Differences that are not zero.
    pub count: usize,
    /// Two-sided p-value.
    pub p: f64,
    /// True if the p-value was counted out, false if it is of the normal approximation.
    pub exact: bool,
}

impl Show for Wilcoxon {
    fn bundle(&self) -> Bundle {
        let what = if self.exact { "signed-rank test (exact)" } else { "signed-rank test (normal approximation)" };
        display::facts(what, &[("positive", self.positive), ("negative", self.negative), ("count", self.count as f64), ("p", self.p)])
    }
}

/// Wilcoxon's signed-rank test (1945) of `second` against `first`, two-sided: are the differences symmetric about 0?
///
/// Differences of zero are dropped; equal sizes, up to the rounding of 1e-12 of the greatest value, share their mean rank. Up to 50 differences the p-value is exact: the share of all 2ⁿ signs of
/// the ranks there are, ties included. Beyond, `z = (W⁺ - n(n+1)/4) / √(n(n+1)(2n+1)/24 - Σ(t³ - t)/48)` is taken as normal, with the
/// sum over groups of t ties and without a correction for continuity (as scipy).
///
/// # Errors
/// Different lengths, no pairs, NaN or infinity; differences that are all zero.
pub fn wilcoxon(first: &[f64], second: &[f64]) -> Result<Wilcoxon> {
    let mut differences = differences(first, second, 1)?;
    differences.retain(|difference| *difference != 0.0);
    if differences.is_empty() {
        return Err(Error::numeric("all differences are zero, so that there is nothing to rank: the two are the same"));
    }
    differences.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let largest = first.iter().chain(second).fold(0.0_f64, |largest, value| largest.max(value.abs()));
    let (ranks, ties) = twice_ranks(&differences, ROUNDING * largest);
    let signed =
        |positive: bool| ranks.iter().zip(&differences).filter(|(_, d)| (**d > 0.0) == positive).map(|(rank, _)| rank).sum::<usize>();
    let (positive, negative) = (signed(true), signed(false));
    let exact = ranks.len() <= EXACT;
    let p = if exact { counted(&ranks, positive.min(negative)) } else { normal(ranks.len() as f64, positive as f64 / 2.0, &ties)? };
    Ok(Wilcoxon { positive: positive as f64 / 2.0, negative: negative as f64 / 2.0, count: ranks.len(), p, exact })
}

/// Matched-pairs rank-biserial correlation, `(W⁺ - W⁻) / (W⁺ + W⁻)`, in [-1, 1]: 1 if every difference favours the second (Kerby 2014).
///
/// # Errors
/// As [`wilcoxon`].
pub fn rank_biserial(first: &[f64], second: &[f64]) -> Result<f64> {
    let Wilcoxon { positive, negative, .. } = wilcoxon(first, second)?;
    Ok((positive - negative) / (positive + negative))
}

/// Twice the mean ranks of differences sorted by size, which are whole numbers, and the sizes of the groups of equal ones, up to `rounding`.
fn twice_ranks(sorted: &[f64], rounding: f64) -> (Vec<usize>, Vec<usize>) {
    let (mut ranks, mut groups): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
    for group in sorted.chunk_by(|a, b| b.abs() - a.abs() <= rounding) {
        // Ranks r + 1 to r + t have the mean r + (t + 1) / 2.
        let twice = 2 * ranks.len() + group.len() + 1;
        ranks.extend(std::iter::repeat_n(twice, group.len()));
        groups.push(group.len());
    }
    (ranks, groups)
}

/// Share of signs whose sum is at most `least` or, by symmetry, as far at the other end.
fn counted(ranks: &[usize], least: usize) -> f64 {
    // How many choices of ranks sum to each number; at most 2⁵⁰, which f64 counts exactly.
    let mut ways = vec![0.0; ranks.iter().sum::<usize>() + 1];
    ways[0] = 1.0;
    for &rank in ranks {
        for sum in (rank..ways.len()).rev() {
            ways[sum] += ways[sum - rank];
        }
    }
    let tail: f64 = ways[..=least].iter().sum();
    (2.0 * tail / 2f64.powi(ranks.len() as i32)).min(1.0)
}

fn normal(n: f64, positive: f64, ties: &[usize]) -> Result<f64> {
    let tied: f64 = ties.iter().map(|&t| (t as f64).powi(3) - t as f64).sum();
    let variance = n * (n + 1.0) * (2.0 * n + 1.0) / 24.0 - tied / 48.0;
    let z = (positive - n * (n + 1.0) / 4.0) / variance.sqrt();
    let standard = Normal::new(0.0, 1.0).map_err(|error| Error::internal("the normal distribution").because(error))?;
    Ok(2.0 * standard.sf(z.abs()))
}
