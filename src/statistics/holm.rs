//! Many tests at once.

use crate::error::{Error, Result};

/// Holm's step-down correction (1979): p-values such that rejecting those below α holds the chance of any false rejection below α.
///
/// With p sorted ascending, `p'_i = max_{j ≤ i} min(1, (m - j) p_j)`, j from 0; returned in the order given.
///
/// # Errors
/// A p-value outside [0, 1] or NaN.
pub fn holm(p: &[f64]) -> Result<Vec<f64>> {
    if let Some(place) = p.iter().position(|p| !(0.0..=1.0).contains(p)) {
        return Err(Error::input(format!("a p-value lies in [0, 1], the one at {place} is {}", p[place])));
    }
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut corrected = vec![0.0; p.len()];
    let mut greatest = 0.0_f64;
    for (step, &place) in order.iter().enumerate() {
        greatest = greatest.max((p.len() - step) as f64 * p[place]).min(1.0);
        corrected[place] = greatest;
    }
    Ok(corrected)
}

/// The same over the tests that are defined.
pub(crate) fn holm_of_defined(p: &[Option<f64>]) -> Result<Vec<Option<f64>>> {
    let mut corrected = holm(&p.iter().flatten().copied().collect::<Vec<_>>())?.into_iter();
    Ok(p.iter().map(|p| p.and_then(|_| corrected.next())).collect())
}
