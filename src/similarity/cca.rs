//! Canonical correlations and the family built on them.

use tch::{Kind, Tensor};

use super::representation::{Basis, Representation, paired};
use crate::error::{Error, Result};

/// How many principal directions of each representation enter [`svcca`] and [`pwcca`]: canonical correlations are all 1 where the
/// directions of both together are as many as the examples, whatever the data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pca {
    /// As few leading directions as hold this share of the variance, in (0, 1].
    pub variance: f64,
    /// At most one direction per this number of examples, at least 3.
    pub examples_per_direction: usize,
}

impl Default for Pca {
    /// 0.99 of the variance (Raghu et al. 2017), and at most one direction for 10 examples.
    fn default() -> Self {
        Self { variance: 0.99, examples_per_direction: 10 }
    }
}

/// Mean canonical correlation of all directions, in [0, 1]; the one measure here that no invertible linear map changes.
///
/// `mean_i ρ_i`, ρ the singular values of `Q_Xᵀ Q_Y`, with orthonormal bases `Q` of the centred columns (Hotelling 1936; Kornblith et al. 2019
/// call it CCA ρ̄); the mean is over the smaller of the two ranks. Independent data read about √(rank / n), not 0.
///
/// # Errors
/// Another number of examples; ranks that together reach n - 1, where every pair of representations would correlate fully, as with
/// more hidden units than half the examples: [`svcca`] takes fewer directions first.
pub fn cca(a: &Representation, b: &Representation) -> Result<f64> {
    paired("CCA", a, b, 3, || {
        let (a, b, n) = (a.basis()?, b.basis()?, a.examples());
        let (left, right) = (rank(a), rank(b));
        if left + right >= n - 1 {
            return Err(Error::input(format!(
                "CCA is not defined for {n} examples in {left} and {right} directions, any data would correlate fully: \
                 give more examples than both together, or use svcca, which takes fewer directions"
            )));
        }
        Ok(mean(&correlations(&a.vectors, &b.vectors).0))
    })
}

/// Singular vector canonical correlation: the mean canonical correlation of the leading principal directions `pca`, in [0, 1]
/// (Raghu et al. 2017). Independent data read about √(directions / n), not 0.
///
/// # Errors
/// Another number of examples, fewer than `examples_per_direction`, a `pca` out of its range, all examples the same.
pub fn svcca(a: &Representation, b: &Representation, pca: Pca) -> Result<f64> {
    paired("SVCCA", a, b, least(pca)?, || {
        let (a, b) = (leading(a, pca)?, leading(b, pca)?);
        Ok(mean(&correlations(&a.vectors, &b.vectors).0))
    })
}

/// Projection-weighted canonical correlation, in [0, 1]: canonical correlations of the leading principal directions `pca`, weighted by how
/// much of the first representation each one carries (Morcos et al. 2018).
///
/// `Σ_i α_i ρ_i / Σ_i α_i`, `α_i = Σ_j |<h_i, x_j>|` with the canonical variates `h_i` and the principal components `x_j` of the
/// representation with fewer directions, the first if they have as many (so the authors' code). Not symmetric.
///
/// # Errors
/// As [`svcca`].
pub fn pwcca(a: &Representation, b: &Representation, pca: Pca) -> Result<f64> {
    paired("PWCCA", a, b, least(pca)?, || {
        let (a, b) = (leading(a, pca)?, leading(b, pca)?);
        let (weighing, other) = if rank(&a) <= rank(&b) { (&a, &b) } else { (&b, &a) };
        let (rho, left) = correlations(&weighing.vectors, &other.vectors);
        // h_i = U w_i and x_j = s_j u_j, so <h_i, x_j> = s_j w_ji.
        let alpha = (left * weighing.singular.unsqueeze(1)).abs().sum_dim_intlist([0i64].as_slice(), false, Kind::Double);
        let weighted = (&alpha * rho).sum(Kind::Double) / alpha.sum(Kind::Double);
        Ok(weighted.double_value(&[]).clamp(0.0, 1.0))
    })
}

fn least(pca: Pca) -> Result<usize> {
    if !(pca.variance > 0.0 && pca.variance <= 1.0) || pca.examples_per_direction < 3 {
        return Err(Error::input(format!(
            "PCA must keep a share of the variance in (0, 1], it is {}, with at least 3 examples per direction, they are {}",
            pca.variance, pca.examples_per_direction
        )));
    }
    Ok(pca.examples_per_direction)
}

fn leading(of: &Representation, pca: Pca) -> Result<Basis> {
    let basis = of.basis()?;
    let squares = basis.singular.square();
    let share = squares.cumsum(0, Kind::Double) / squares.sum(Kind::Double);
    // The last share is 1 but for rounding.
    let enough = share.lt(pca.variance - 1e-12).sum(Kind::Int64).int64_value(&[]) + 1;
    let count = enough.min((of.examples() / pca.examples_per_direction) as i64).min(rank(basis) as i64);
    Ok(Basis { vectors: basis.vectors.narrow(1, 0, count), singular: basis.singular.narrow(0, 0, count) })
}

/// Canonical correlations of two orthonormal bases, greatest first, and their directions in the first.
fn correlations(a: &Tensor, b: &Tensor) -> (Tensor, Tensor) {
    let (left, rho, _) = a.tr().matmul(b).svd(true, true);
    (rho.clamp(0.0, 1.0), left)
}

fn mean(rho: &Tensor) -> f64 {
    rho.mean(Kind::Double).double_value(&[])
}

fn rank(basis: &Basis) -> usize {
    basis.singular.size().first().map_or(0, |&rank| rank as usize)
}
