//! Two methods on the same test rows of the same runs.

use polars::prelude::*;

use super::gather::{Value, of_rows, pairs};
use super::{Method, Study};
use crate::error::{Error, Result};

impl Study {
    /// What `method` did otherwise than `baseline` on each test row: one row per run, test and test row that both have, in 2 runs of a task or more.
    ///
    /// Columns: `model`, `task`, `evaluated_on`, `ood`, `n`, `run`, `method`, `adapter` (null where neither trains one of the grid's), `baseline`, `row` as in
    /// [`outcomes`](Self::outcomes); `accuracy` (1 where the method alone is right, -1 where the baseline alone is, else 0) and `brier` (the method's less the
    /// baseline's; null where answers have no confidence). [`evidence_against`](Self::evidence_against) is made of these:
    /// its `difference`, `lower`, `upper` and `p` of accuracy are [`crossed_mean`](crate::statistics::crossed_mean)'s of this frame, with model, task, evaluated_on, n and adapter
    /// for strata, task and run for a run, and evaluated_on and row for a row; the mixed model's are [`mixed_mean`](crate::statistics::mixed_mean)'s.
    ///
    /// # Errors
    /// No rows that both methods have, with outcomes, in 2 runs of a task.
    pub fn differences(&self, baseline: Method, method: Method) -> Result<DataFrame> {
        let (results, _) = self.results()?;
        let (pairs, _) = pairs(&results, baseline, method);
        let (mut rows, mut adapters, mut names) = (Vec::new(), Vec::new(), Vec::new());
        let (mut accuracy, mut brier): (Vec<Option<f64>>, Vec<Option<f64>>) = (Vec::new(), Vec::new());
        for (base, other) in &pairs {
            let adapter = other.row.grid_adapter().or_else(|| base.row.grid_adapter());
            let of = |value: Value| Some((of_rows(base.outcomes, value)?, of_rows(other.outcomes, value)?));
            let (right, score) = (of(Value::Accuracy), of(Value::Brier));
            for (at, name) in other.outcomes.rows().enumerate() {
                rows.push(other.row);
                adapters.push(adapter.clone());
                names.push(name);
                accuracy.push(right.as_ref().map(|(base, other)| other[at] - base[at]));
                brier.push(score.as_ref().map(|(base, other)| other[at] - base[at]));
            }
        }
        if rows.is_empty() {
            return Err(Error::input(format!(
                "{} and {} have no test rows in common, with outcomes row by row, in 2 runs of a task: run both, with `.runs(2)` or more",
                method.name(),
                baseline.name()
            )));
        }
        let mut frame = self.names(&rows)?;
        frame.with_column(Column::new("adapter".into(), adapters))?;
        Ok(frame.hstack(&[
            Column::new("baseline".into(), vec![baseline.name(); rows.len()]),
            Column::new("row".into(), names),
            Column::new("accuracy".into(), accuracy),
            Column::new("brier".into(), brier),
        ])?)
    }
}
