//! How often a test of t finds what is there.

use statrs::distribution::{ContinuousCDF, Normal};
use statrs::function::gamma::ln_gamma;

use crate::error::{Error, Result};

/// Pieces of the integral over the estimated spread.
const PIECES: usize = 400;

/// `P(|T| > bound)` for a noncentral t of `degrees` with noncentrality `shift`.
///
/// Given the estimated spread, `s² ν/σ² = w ~ χ²_ν`, the statistic is normal: `P(T ≤ t) = ∫ Φ(t √(w/ν) - shift) dχ²_ν(w)`, by Simpson's rule over the root of w.
pub(super) fn of_t(shift: f64, degrees: f64, bound: f64) -> Result<f64> {
    let normal = Normal::new(0.0, 1.0).map_err(|error| Error::internal("the normal distribution").because(error))?;
    let beyond = |spread: f64| normal.sf(bound * spread - shift) + normal.cdf(-bound * spread - shift);
    if degrees > 1e5 {
        return Ok(beyond(1.0));
    }
    // Of r = √(w/ν): density 2 (ν/2)^(ν/2) / Γ(ν/2) r^(ν-1) exp(-ν r²/2), about 1 ± 1/√(2ν).
    let wide = 10.0 / (2.0 * degrees).sqrt();
    let (low, high) = ((1.0 - wide).max(0.0), 1.0 + wide);
    let constant = 2f64.ln() + degrees / 2.0 * (degrees / 2.0).ln() - ln_gamma(degrees / 2.0);
    let density = |r: f64| if r > 0.0 { (constant + (degrees - 1.0) * r.ln() - degrees * r * r / 2.0).exp() } else { 0.0 };
    let step = (high - low) / PIECES as f64;
    let (mut sum, mut whole) = (0.0, 0.0);
    for piece in 0..=PIECES {
        let r = low + piece as f64 * step;
        let weight = if piece == 0 || piece == PIECES { 1.0 } else { 2.0 + 2.0 * (piece % 2) as f64 };
        sum += weight * density(r) * beyond(r);
        whole += weight * density(r);
    }
    Ok((sum / whole).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::crossing::critical;

    #[test]
    fn powers_are_those_of_scipys_noncentral_t() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/study.json");
        let Ok(text) = std::fs::read(file) else { return crate::skipped(&format!("`{file}` is not here")) };
        let all: serde_json::Value = serde_json::from_slice(&text).unwrap();
        for case in all["power"].as_array().unwrap() {
            let number = |name: &str| case[name].as_f64().unwrap();
            let bound = critical(0.95, number("degrees")).unwrap();
            let ours = of_t(number("shift"), number("degrees"), bound).unwrap();
            assert!((ours - number("power")).abs() < 1e-4, "{ours} and {}", number("power"));
        }
        // Of many degrees it is the normal's.
        assert!((of_t(2.0, 1e7, 1.959964).unwrap() - of_t(2.0, 5e4, 1.959964).unwrap()).abs() < 1e-3);
    }
}
