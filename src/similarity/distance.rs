//! Measures of the distances between examples: distance correlation and representational similarity analysis.

use tch::{Kind, Tensor};

use super::cka::{u_cosine, upper};
use super::representation::{Representation, cosine, double_centred, paired};
use crate::error::{Error, Result};

/// Distance correlation, in [0, 1]; in the limit of many examples 0 only where the two are independent.
///
/// `dCor = √cos(H D H, H E H)` with the Euclidean distances `D`, `E` between examples and the centring `H` (Székely, Rizzo and Bakirov 2007).
/// Biased towards 1 where the width is far greater than the number of examples; [`debiased_distance_correlation`] is not.
///
/// # Errors
/// Another number of examples, fewer than 3, or all examples the same.
pub fn distance_correlation(a: &Representation, b: &Representation) -> Result<f64> {
    paired("distance correlation", a, b, 3, || {
        let (d, e) = (a.distances()?, b.distances()?);
        Ok(cosine(&double_centred(d), &double_centred(e), (d, e), "no variance")?.max(0.0).sqrt())
    })
}

/// Bias-corrected squared distance correlation, in [-1, 1], about 0 for independent data.
///
/// The cosine of the U-centred distances (Székely and Rizzo 2013, 2014). It estimates the *square* of the distance correlation, and no root
/// is taken, because it may be negative.
///
/// # Errors
/// Another number of examples, fewer than 4, or distances that do not vary.
pub fn debiased_distance_correlation(a: &Representation, b: &Representation) -> Result<f64> {
    paired("debiased distance correlation", a, b, 4, || u_cosine(a.distances()?, b.distances()?))
}

/// Representational similarity analysis: Pearson's correlation of the two lists of distances, in [-1, 1], about 0 for independent data.
///
/// The dissimilarity of two examples is their Euclidean distance; each pair of examples counts once (Kriegeskorte et al. 2008).
///
/// # Errors
/// Another number of examples, fewer than 3, all examples the same, or all equally far from each other.
pub fn rsa_pearson(a: &Representation, b: &Representation) -> Result<f64> {
    paired("RSA", a, b, 3, || pearson(&upper(a.distances()?), &upper(b.distances()?)))
}

/// [`rsa_pearson`] with Spearman's rank correlation: only the order of the distances counts; equal ones share their mean rank.
///
/// # Errors
/// As [`rsa_pearson`].
pub fn rsa_spearman(a: &Representation, b: &Representation) -> Result<f64> {
    paired("RSA", a, b, 3, || pearson(&ranks(&upper(a.distances()?)), &ranks(&upper(b.distances()?))))
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
    paired("mutual nearest neighbours", a, b, k + 2, || {
        let near = |of: &Representation| -> Result<Tensor> {
            let others = of.distances()?.copy().fill_diagonal_(f64::INFINITY, false);
            let (_, order) = others.sort_stable(true, 1, false);
            Ok(others.zeros_like().scatter_value(1, &order.narrow(1, 0, k as i64), 1.0))
        };
        Ok((near(a)? * near(b)?).sum(Kind::Double).double_value(&[]) / (a.examples() * k) as f64)
    })
}

fn pearson(a: &Tensor, b: &Tensor) -> Result<f64> {
    let centred = |values: &Tensor| values - values.mean(Kind::Double);
    cosine(&centred(a), &centred(b), (a, b), "examples equally far from each other")
}

/// Ranks from 1; equal values share their mean rank.
fn ranks(values: &Tensor) -> Tensor {
    let (sorted, order) = values.sort(0, false);
    let (_, group, counts) = sorted.unique_consecutive(true, true, 0);
    let mean = counts.cumsum(0, Kind::Double) - (counts - 1) / 2.0;
    values.zeros_like().scatter(0, &order, &mean.index_select(0, &group))
}
