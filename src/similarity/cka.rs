//! Centred kernel alignment.

use tch::{Kind, Tensor};

use super::representation::{Representation, double_centred, product, unit};
use crate::error::{Error, Result};

/// σ of the Gaussian kernel as a multiple of the median distance: Kornblith et al. found 0.4 and 0.8 alike, and 0.2 worse.
const BANDWIDTH: f64 = 0.8;

/// Linear centred kernel alignment, in [0, 1].
///
/// `CKA = |Yᵀ X|² / (|Xᵀ X| |Yᵀ Y|)` = cos(H K H, H L H), Frobenius norms, with the centred `X`, `Y` `[example, hidden]`, the Gram matrices
/// `K = X Xᵀ`, `L = Y Yᵀ` and the centring `H = 1 - 11ᵀ / n` (Kornblith et al. 2019). Biased: for independent data it grows with hidden / n,
/// to nearly 1 where the width is far greater than the number of examples. [`debiased_cka`] is not.
///
/// # Errors
/// Another number of examples, fewer than 3, or all examples the same.
pub fn linear_cka(a: &Representation, b: &Representation) -> Result<f64> {
    let value = product(("linear CKA", 0), a, b, 3, |one| unit(one.gram()?, one.gram()?))?;
    Ok(value.max(0.0))
}

/// Debiased linear centred kernel alignment, in [-1, 1], about 0 for independent data.
///
/// The cosine of the U-centred Gram matrices (diagonal left out), which is HSIC₁(K, L) / √(HSIC₁(K, K) HSIC₁(L, L)) with the unbiased
/// estimator HSIC₁ of Song et al. 2012 (used for CKA by Nguyen et al. 2021).
///
/// # Errors
/// Another number of examples, fewer than 4, all examples the same, or inner products of different examples that do not vary.
pub fn debiased_cka(a: &Representation, b: &Representation) -> Result<f64> {
    product(("debiased CKA", 0), a, b, 4, |one| u_centred(one.gram()?))
}

/// Centred kernel alignment with the Gaussian kernel, in [0, 1].
///
/// As [`linear_cka`] with `K_ij = exp(-|x_i - x_j|² / 2σ²)`, where σ is 0.8 times the median of the distances between different examples of
/// the representation itself (Kornblith et al. 2019). Biased: independent data do not read 0.
///
/// # Errors
/// As [`linear_cka`]; half of the examples or more the same, so that the median distance is 0.
pub fn rbf_cka(a: &Representation, b: &Representation) -> Result<f64> {
    let centred = |one: &Representation| {
        let kernel = gaussian(one)?;
        unit(&double_centred(&kernel), &kernel)
    };
    Ok(product(("RBF CKA", 0), a, b, 3, centred)?.max(0.0))
}

/// [`rbf_cka`] with the unbiased estimator of [`debiased_cka`], in [-1, 1], about 0 for independent data.
///
/// # Errors
/// As [`rbf_cka`] and [`debiased_cka`].
pub fn debiased_rbf_cka(a: &Representation, b: &Representation) -> Result<f64> {
    product(("debiased RBF CKA", 0), a, b, 4, |one| u_centred(&gaussian(one)?))
}

/// `m_ij - Σ_k m_ik / (n - 2) - Σ_k m_kj / (n - 2) + Σ_kl m_kl / ((n - 1)(n - 2))` off the diagonal, 0 on it, sums without the diagonal
/// (Székely and Rizzo 2014); of norm 1. Needs at least 4 examples.
pub(super) fn u_centred(matrix: &Tensor) -> Result<Tensor> {
    let n = matrix.size().first().map_or(0.0, |&n| n as f64);
    let bare = matrix.copy().fill_diagonal_(0.0, false);
    let sum = |axis: i64| bare.sum_dim_intlist([axis].as_slice(), true, Kind::Double) / (n - 2.0);
    let all = bare.sum(Kind::Double) / ((n - 1.0) * (n - 2.0));
    unit(&(&bare - sum(0) - sum(1) + all).fill_diagonal_(0.0, false), &bare)
}

fn gaussian(of: &Representation) -> Result<Tensor> {
    let distances = of.distances()?;
    let between = upper(distances);
    let (sorted, _) = between.sort(0, false);
    let count = sorted.size1()?;
    // The middle one, or the mean of the two in the middle.
    let median = (sorted.double_value(&[(count - 1) / 2]) + sorted.double_value(&[count / 2])) / 2.0;
    let sigma = BANDWIDTH * median;
    if sigma <= 1e-12 * sorted.double_value(&[count - 1]) {
        return Err(Error::numeric(
            "the median distance between examples is 0, so that the Gaussian kernel has no width: remove repeated examples",
        ));
    }
    Ok((distances.square() * (-0.5 / (sigma * sigma))).exp())
}

/// What stands above the diagonal.
pub(super) fn upper(matrix: &Tensor) -> Tensor {
    let n = matrix.size().first().copied().unwrap_or(0);
    let above = Tensor::ones([n, n], (Kind::Bool, matrix.device())).triu(1);
    matrix.masked_select(&above)
}
