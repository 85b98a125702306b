//! Runs together: means and tests.

use std::collections::{HashMap, HashSet};

use polars::prelude::*;

use super::record::ModelId;
use super::study::{Row, metrics};
use super::{Method, Study, effects};
use crate::error::{Error, Result};
use crate::frame::{below, maybe_numbers};
use crate::interrupt;
use crate::sample::spread;
use crate::statistics;

/// What is compared unless said otherwise: SFT with all that starts from the model under ICL, and IA2 with what follows it.
const PAIRS: [(Method, Method); 6] = [
    (Method::Sft, Method::Ia2ThenSft),
    (Method::Sft, Method::Ia2),
    (Method::Sft, Method::Ia2PlusSft),
    (Method::Sft, Method::Soft),
    (Method::Sft, Method::SftOnIcl),
    (Method::Ia2, Method::Ia2ThenSft),
];
const LEVEL: f64 = 0.95;

impl Study {
    /// Means and standard deviations (n - 1 below) over the runs of the chosen rows: `model`, `task`, `evaluated_on`, `ood`, `n`, `method`,
    /// `adapter`, `runs` (those with an accuracy), `failed` (those without), and `accuracy`, `accuracy_std` and so on for each metric, `asim`, `distance_to_icl`,
    /// `drift` and the other columns of [`Study::frame`] for side effects and costs, `dev_loss` and `seconds`. A mean is of the runs that have the number, null where none has; a standard deviation of one run is null.
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn summary(&self) -> Result<DataFrame> {
        interrupt::during("summarising a study", || self.means())
    }

    fn means(&self) -> Result<DataFrame> {
        let rows = self.rows()?;
        let (mut groups, mut places): (Vec<Vec<Row<'_>>>, HashMap<_, usize>) = (Vec::new(), HashMap::new());
        for (at, row) in rows.iter().enumerate() {
            interrupt::at(at as u64, rows.len() as u64, "rows")?;
            let place = *places.entry(group_of(row)).or_insert(groups.len());
            match groups.get_mut(place) {
                Some(group) => group.push(*row),
                None => groups.push(vec![*row]),
            }
        }
        let firsts: Vec<Row<'_>> = groups.iter().map(|group| group[0]).collect();
        let runs = |group: &Vec<Row<'_>>, done: bool| {
            group
                .iter()
                .filter(|row| !done || row.chosen.is && row.number("accuracy").is_some())
                .map(|row| row.run().run)
                .collect::<HashSet<_>>()
                .len() as u32
        };
        let counted: Vec<u32> = groups.iter().map(|group| runs(group, true)).collect();
        let failed: Vec<u32> = groups.iter().map(|group| runs(group, false) - runs(group, true)).collect();
        let mut columns = vec![Column::new("runs".into(), counted), Column::new("failed".into(), failed)];
        for name in metrics(&rows).into_iter().chain(["asim"]).chain(effects::all()).chain(["dev_loss", "seconds"]) {
            let values =
                |group: &Vec<Row<'_>>| group.iter().filter(|row| row.chosen.is).filter_map(|row| row.number(name)).collect::<Vec<f64>>();
            let (mean, std): (Vec<_>, Vec<_>) = groups.iter().map(|group| spread(&values(group))).unzip();
            columns.push(Column::new(name.into(), mean));
            columns.push(Column::new(format!("{name}_std").into(), std));
        }
        Ok(self.names(&firsts)?.drop("run")?.hstack(&columns)?)
    }

    /// [`significance_of`](Self::significance_of) SFT against IA2 → SFT, IA2, IA2 + SFT, soft labels and SFT on ICL, and of IA2 against
    /// IA2 → SFT, as far as they were run: of `accuracy` and, where answers have a confidence, `ece_equal_width_15`.
    ///
    /// # Errors
    /// As [`significance_of`](Self::significance_of).
    pub fn significance(&self) -> Result<DataFrame> {
        let rows = self.chosen()?;
        let ran = |method: Method| rows.iter().any(|row| row.run().method == method);
        let pairs: Vec<_> = PAIRS.into_iter().filter(|(first, second)| ran(*first) && ran(*second)).collect();
        let there = metrics(&rows);
        let values: Vec<&str> = ["accuracy", "ece_equal_width_15"].into_iter().filter(|value| there.contains(value)).collect();
        self.significance_of(&pairs, &values)
    }

    /// Paired tests of methods over runs: the columns of [`statistics::compare`], corrected by Holm over all rows, and `averaged`, the
    /// differences behind them, and `unpaired`, the results that only one of the two methods has.
    ///
    /// A run (seed) is one draw of data, and all that was done with it hangs together: its training sets are nested over N, one training is
    /// tested on several tasks, models and adapters learn from the same rows. So the differences of each run are averaged over models, tasks
    /// (in and out of distribution), N and adapters first, and the pairs that are tested are the runs (`pairs`): few, but independent. With five
    /// of them no signed-rank test goes below 0.0625. The paper's own t-test counts all data sets and runs as independent, which
    /// rejects a true null far too often, and which [`statistics::compare`] refuses for nested N; for one task and one N filter [`Study::runs`] first.
    /// Test rows are not resampled here: [`Study::evidence`] has intervals over runs and rows together.
    ///
    /// # Errors
    /// No pairs or values; fewer than 2 runs that both methods have.
    pub fn significance_of(&self, pairs: &[(Method, Method)], values: &[&str]) -> Result<DataFrame> {
        let rows = self.chosen()?;
        let mut whole: Option<DataFrame> = None;
        for (first, second) in pairs {
            for value in values {
                let of = |method: Method| rows.iter().filter(move |row| row.run().method == method && row.number(value).is_some());
                // One of ICL stands next to one of each adapter.
                let pairs: Vec<(&Row<'_>, &Row<'_>)> = of(*first)
                    .flat_map(|row| of(*second).filter(move |other| same_run(row, other)).map(move |other| (row, other)))
                    .collect();
                let alone = |method, there: &dyn Fn(&Row<'_>) -> bool| of(method).filter(|row| !there(row)).count();
                let unpaired = alone(*first, &|row| pairs.iter().any(|(one, _)| std::ptr::eq(*one, row)))
                    + alone(*second, &|row| pairs.iter().any(|(_, other)| std::ptr::eq(*other, row)));
                let both: Vec<&Row<'_>> = pairs.iter().flat_map(|(one, other)| [*one, *other]).collect();
                let frame = df!(
                    "method" => both.iter().map(|row| row.run().method.name()).collect::<Vec<_>>(),
                    "run" => both.iter().map(|row| row.run().run).collect::<Vec<_>>(),
                    *value => both.iter().filter_map(|row| row.number(value)).collect::<Vec<_>>(),
                )?;
                let tested = statistics::averaged(&frame, "method", &["run"], &[*value])
                    .and_then(|frame| statistics::compare(&frame, "method", &[(first.name(), second.name())], &["run"], &[*value], LEVEL))
                    .map_err(|error| error.context(format_args!("`{value}` of {} against {}", first.name(), second.name())))?;
                let counts = [("averaged", pairs.len()), ("unpaired", unpaired)];
                let tested = tested.hstack(&counts.map(|(name, count)| Column::new(name.into(), vec![count as u32])))?;
                whole = below(whole, tested)?;
            }
        }
        let mut whole = whole
            .ok_or_else(|| Error::input("there is nothing to compare: name at least one pair of methods that were run, and one value"))?;
        for name in ["p_t", "p_wilcoxon"] {
            let corrected = statistics::holm_of_defined(&maybe_numbers(&whole, name)?)?;
            whole.with_column(Column::new(format!("{name}_holm").into(), corrected))?;
        }
        Ok(whole)
    }
}

/// What rows have in common that differ in run, learning rate and beta at most.
fn group_of<'r>(row: &Row<'r>) -> (&'r ModelId, &'r str, &'r str, bool, usize, Method, Option<String>) {
    let run = row.run();
    (&run.model, &run.task, row.evaluated_on(), row.ood(), run.n, run.method, row.adapter())
}

/// Whether two methods' rows are of the same run; what trains nothing is of that of any adapter.
fn same_run(a: &Row<'_>, b: &Row<'_>) -> bool {
    let of = |row: &Row<'_>| (row.run().run, row.run().n, row.evaluated_on().to_string(), row.run().task.clone());
    let (adapter, other) = (a.grid_adapter(), b.grid_adapter());
    of(a) == of(b) && (adapter == other || adapter.is_none() || other.is_none()) && a.run().model == b.run().model
}
