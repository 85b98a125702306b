//! Numbers of a method that are averaged over its results as they are: Brier's parts and the area under the risk-coverage curve.

use super::gather::{BINNING, Outcome};
use crate::error::Result;
use crate::metric::{aurc, brier_parts};

/// Names and means; none where a result has no confidence, or too few rows.
pub(super) fn of(results: &[Outcome<'_>]) -> Result<[(&'static str, Option<f64>); 6]> {
    const NAMES: [&str; 6] = ["brier_of_answer", "reliability", "resolution", "uncertainty", "within", "aurc"];
    let mut sums = Some([0.0; 6]);
    for result in results {
        let frame = result.outcomes.frame()?;
        let found = brier_parts(&frame, BINNING)
            .and_then(|parts| Ok([parts.score, parts.reliability, parts.resolution, parts.uncertainty, parts.within, aurc(&frame)?]));
        sums = match (sums, found) {
            (Some(sums), Ok(found)) => Some(std::array::from_fn(|at| sums[at] + found[at])),
            _ => None,
        };
    }
    let mean = |at: usize| sums.filter(|_| !results.is_empty()).map(|sums| sums[at] / results.len() as f64);
    Ok(std::array::from_fn(|at| (NAMES[at], mean(at))))
}
