//! Columns other than accuracy and calibration: what a method does to the model, and what it costs.

use super::Experiment;
use crate::error::{Error, Result};
use crate::metric::METRICS;

/// KL(base || run) on the base's own answers to the queries.
pub(super) const DRIFT: &str = "drift";
/// KL(base under ICL || run) on the answers under ICL.
pub(super) const DISTANCE: &str = "distance_to_icl";
/// Tokens that a query takes.
pub(super) const QUERY_TOKENS: &str = "query_tokens";

/// Measured of a run on a test, with what they may be.
const MEASURED: [(&str, (f64, f64)); 3] =
    [(DRIFT, (0.0, f64::INFINITY)), (DISTANCE, (0.0, f64::INFINITY)), (QUERY_TOKENS, (0.0, f64::INFINITY))];

/// Of a run on another task.
pub(super) const ELSEWHERE: [&str; 4] = ["drift_elsewhere", "icl_before", "icl_after", "forgetting"];
/// What a run takes.
pub(super) const COSTS: [&str; 4] = ["parameters", "training_tokens", "target_tokens", "total_seconds"];

pub(super) fn range(column: &str) -> Option<(f64, f64)> {
    MEASURED.iter().find(|(name, _)| *name == column).map(|(_, range)| *range)
}

/// In the order of the frame.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    MEASURED.iter().map(|(name, _)| *name)
}

/// All columns of this kind, in the order of the frame.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    [DISTANCE, DRIFT].into_iter().chain(ELSEWHERE).chain([QUERY_TOKENS]).chain(COSTS)
}

/// Whether a column holds whole numbers.
pub(super) fn is_count(column: &str) -> bool {
    COSTS[..3].contains(&column)
}

/// Whether a column takes a comparison with the untouched model; others come with the answers.
pub(super) fn compares(column: &str) -> bool {
    [DRIFT, DISTANCE].contains(&column)
}

impl Experiment {
    /// Columns that every run must have: names of [`METRICS`], `drift`, `distance_to_icl` and `query_tokens`. A run that was
    /// evaluated before the library knew one, or without it, is evaluated again as far as it must be, and never trained again.
    ///
    /// Without this call a run is evaluated with all of them, and one that has been evaluated stays as it is, with nulls. With it, `drift` and
    /// `distance_to_icl`, the two that take time, are measured only where they are named: `.columns(&[])` leaves both out.
    pub fn columns(mut self, names: &[&str]) -> Self {
        self.settings.columns = Some(names.iter().map(|name| (*name).into()).collect());
        self
    }

    /// Measures what a run does to a task that it did not learn: the first of these that is another than its own. Columns `drift_elsewhere`,
    /// `icl_before`, `icl_after` and `forgetting`; runs that lack them are completed, without training. By default no task is: each run is evaluated
    /// under ICL once more, which is about as long as [`Method::Icl`](super::Method::Icl) takes.
    ///
    /// The other task is asked as it would be for itself: N demonstrations of its own, drawn by the run's seed, and up to
    /// [`test_at_most`](Self::test_at_most) queries; drift is on up to [`compared_at_most`](Self::compared_at_most) of these alone.
    pub fn forgetting_on(mut self, names: &[&str]) -> Self {
        self.settings.forgetting_on = names.iter().map(|name| (*name).into()).collect();
        self
    }

    /// What stands for the confidence of free answers, from which all calibration is computed; [`Confidence::Answer`](crate::metric::Confidence) unless set. Labels have
    /// their probability in any case. Each is a test of its own: with another one, runs are evaluated again.
    pub fn confidence(mut self, confidence: crate::metric::Confidence) -> Self {
        self.settings.confidence = confidence;
        self
    }

    pub(super) fn check_columns(&self) -> Result<()> {
        let known: Vec<&str> = METRICS.iter().map(|metric| metric.name).chain(names()).collect();
        match self.settings.columns.iter().flatten().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(Error::input(format!(
                "there is no column `{name}` that a run could be given by `.columns()`; there are {} (what becomes of another task: `.forgetting_on()`)",
                known.join(", ")
            ))),
            None => Ok(()),
        }
    }
}
