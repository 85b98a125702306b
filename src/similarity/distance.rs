//! Measures of the distances between examples: distance correlation and representational similarity analysis.

use tch::{Kind, Tensor};

use super::cka::{u_centred, upper};
use super::representation::{Representation, double_centred, product, unit};
use crate::error::{Error, Result};

/// Distance correlation, in [0, 1]; in the limit of many examples 0 only where the two are independent.
///
/// `dCor = √cos(H D H, H E H)` with the Euclidean distances `D`, `E` between examples and the centring `H` (Székely, Rizzo and Bakirov 2007).
/// Biased towards 1 where the width is far greater than the number of examples; [`debiased_distance_correlation`] is not.
///
/// # Errors
/// Another number of examples, fewer than 3, or all examples the same.
pub fn distance_correlation(a: &Representation, b: &Representation) -> Result<f64> {
    let centred = |one: &Representation| unit(&double_centred(one.distances()?), one.distances()?);
    Ok(product(("distance correlation", 0), a, b, 3, centred)?.max(0.0).sqrt())
}

/// Bias-corrected squared distance correlation, in [-1, 1], about 0 for independent data.
///
/// The cosine of the U-centred distances (Székely and Rizzo 2013, 2014). It estimates the *square* of the distance correlation, and no root
/// is taken, because it may be negative.
///
/// # Errors
/// Another number of examples, fewer than 4, or distances that do not vary.
pub fn debiased_distance_correlation(a: &Representation, b: &Representation) -> Result<f64> {
    product(("debiased distance correlation", 0), a, b, 4, |one| u_centred(one.distances()?))
}

/// Representational similarity analysis: Pearson's correlation of the two lists of distances, in [-1, 1], about 0 for independent data.
///
/// The dissimilarity of two examples is their Euclidean distance; each pair of examples counts once (Kriegeskorte et al. 2008).
///
/// # Errors
/// Another number of examples, fewer than 3, all examples the same, or all equally far from each other.
pub fn rsa_pearson(a: &Representation, b: &Representation) -> Result<f64> {
    product(("RSA", 0), a, b, 3, |one| standard(one.distances()?))
}

/// [`rsa_pearson`] with Spearman's rank correlation: only the order of the distances counts; equal ones share their mean rank.
///
/// # Errors
/// As [`rsa_pearson`].
pub fn rsa_spearman(a: &Representation, b: &Representation) -> Result<f64> {
    product(("rank RSA", 0), a, b, 3, |one| {
        // Distances that differ by rounding alone would have ranks, and those a correlation.
        let _ = standard(one.distances()?)?;
        standard(&ranks(one.distances()?))
    })
}

/// Mutual k nearest neighbours: the mean share of an example's `k` nearest that are the same in both, in [0, 1]; by chance k / (n - 1).
///
/// Nearest by Euclidean distance, the example itself left out; of equally near ones the earlier (Huh et al. 2024, who compare by cosine).
///
/// # Errors
/// Another number of examples, `k` is 0, fewer than `k + 2` examples, or all of them the same.
pub fn mutual_neighbours(a: &Representation, b: &Representation, k: usize) -> Result<f64> {
    if k == 0 {
        return Err(Error::input("mutual nearest neighbours: 0 neighbours asked for, give at least 1"));
    }
    product(("mutual nearest neighbours", k), a, b, k.saturating_add(2), |one| {
        let others = one.distances()?.copy().fill_diagonal_(f64::INFINITY, false);
        let (_, order) = others.sort_stable(true, 1, false);
        let near = others.zeros_like().scatter_value(1, &order.narrow(1, 0, k as i64), 1.0);
        unit(&near, &near)
    })
}

/// Off the diagonal less its mean, 0 on it, of norm 1: the inner product of two is Pearson's correlation over pairs of examples.
fn standard(symmetric: &Tensor) -> Result<Tensor> {
    let n = symmetric.size().first().map_or(0.0, |&n| n as f64);
    let mean = symmetric.sum(Kind::Double) / (n * (n - 1.0));
    unit(&(symmetric - mean).fill_diagonal_(0.0, false), symmetric)
}

/// Ranks from 1 of what stands above the diagonal, mirrored below it, 0 on it; equal values share their mean rank.
fn ranks(symmetric: &Tensor) -> Tensor {
    let (sorted, order) = upper(symmetric).sort(0, false);
    let (_, group, counts) = sorted.unique_consecutive(true, true, 0);
    let mean = counts.cumsum(0, Kind::Double) - (counts - 1) / 2.0;
    let ranks = sorted.zeros_like().scatter(0, &order, &mean.index_select(0, &group));
    let above = symmetric.ones_like().triu(1).to_kind(Kind::Bool);
    let half = symmetric.zeros_like().masked_scatter(&above, &ranks);
    &half + half.tr()
}
