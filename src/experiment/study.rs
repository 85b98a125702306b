//! The results of an experiment, and the frame of them.

use std::path::PathBuf;
use std::rc::Rc;

use polars::prelude::*;

use super::choose::{Chosen, choose};
use super::cluster::Progress;
use super::lazy_model::LazyModel;
use super::record::{Cost, Evaluated, ForgettingRecord, Record, Run};
use super::{Choice, effects};
use crate::display::{Bundle, Show, headed};
use crate::error::Result;
use crate::interrupt;
use crate::metric::METRICS;

/// The results of an [`Experiment`](super::Experiment).
#[derive(Debug)]
pub struct Study {
    home: Home,
    entries: Vec<Entry>,
    choice: Choice,
    /// What was not done as it is by default.
    notes: Vec<String>,
    /// Of each cell: its runs, and those that are done.
    counts: Vec<(usize, usize)>,
    /// Of a grid that workers are at.
    pub(super) progress: Option<Progress>,
}

/// Where results and adapters lie.
#[derive(Clone, Debug)]
pub(super) enum Home {
    Kept(PathBuf),
    Temporary(Rc<tempfile::TempDir>),
}

/// A run that has ended, and what it was asked.
#[derive(Debug)]
pub(super) struct Entry {
    pub key: String,
    pub record: Record,
    /// Task and digest of each test; the task's own first.
    pub tests: Vec<(String, String)>,
    /// Digest of what was asked of another task.
    pub elsewhere: Option<String>,
    pub model: LazyModel,
}

impl Entry {
    pub(super) fn evaluated(&self, test: usize) -> Option<&Evaluated> {
        self.tests.get(test).and_then(|(_, digest)| self.record.evaluated.get(digest))
    }
}

/// A run on one of its tests.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub entry: &'a Entry,
    pub test: usize,
    pub chosen: Chosen,
}

impl<'a> Row<'a> {
    pub(super) fn run(&self) -> &'a Run {
        &self.entry.record.run
    }

    pub(super) fn evaluated_on(&self) -> &'a str {
        &self.entry.tests[self.test].0
    }

    pub(super) fn evaluated(&self) -> Option<&'a Evaluated> {
        self.entry.evaluated(self.test)
    }

    pub(super) fn ood(&self) -> bool {
        self.test > 0
    }

    pub(super) fn adapter(&self) -> Option<String> {
        self.run().training.as_ref().map(|training| training.adapter.name())
    }

    /// The one of the grid's adapters that it belongs to: none where nothing is trained or the method brings its own, so that it is compared with all.
    pub(super) fn grid_adapter(&self) -> Option<String> {
        self.adapter().filter(|_| self.run().method.own_adapter().is_none())
    }

    /// What became of another task: told next to the run's own.
    pub(super) fn elsewhere(&self) -> Option<&'a ForgettingRecord> {
        self.entry.elsewhere.as_ref().filter(|_| !self.ood()).and_then(|digest| self.entry.record.elsewhere.get(digest))
    }

    /// Why numbers are missing.
    pub(super) fn failed(&self) -> Option<String> {
        if self.entry.record.failed.is_some() {
            return self.entry.record.failed.clone();
        }
        let here = self.evaluated().and_then(|evaluated| evaluated.failed.as_deref());
        let there = self.elsewhere().and_then(|there| there.failed.as_deref());
        let words: Vec<&str> = here.into_iter().chain(there).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }

    /// Mean over layers.
    pub(super) fn asim(&self) -> Option<f64> {
        let layers = &self.evaluated()?.asim;
        (!layers.is_empty()).then(|| layers.iter().map(|(_, asim)| asim).sum::<f64>() / layers.len() as f64)
    }

    /// A number of the row by its column's name.
    pub(super) fn number(&self, column: &str) -> Option<f64> {
        let trained = self.entry.record.trained.as_ref();
        let found = self.entry.record.found.as_ref();
        // What trains and searches nothing costs nothing.
        let cost = || match (trained, found) {
            (Some(trained), _) => trained.cost,
            (None, Some(found)) => found.cost,
            (None, None) if self.run().training.is_some() => None,
            (None, None) => Some(Cost::default()),
        };
        match column {
            "parameters" => cost().map(|cost| cost.parameters as f64),
            "training_tokens" => cost().map(|cost| cost.tokens as f64),
            "target_tokens" => cost().map(|cost| cost.target_tokens as f64),
            "total_seconds" => {
                cost().map(|cost| cost.seconds).or_else(|| found.filter(|found| found.vector.is_some()).map(|found| found.seconds))
            }
            "drift_elsewhere" => self.elsewhere()?.drift,
            "icl_before" => self.elsewhere()?.before,
            "icl_after" => self.elsewhere()?.after,
            "forgetting" => self.elsewhere().and_then(|there| Some(there.before? - there.after?)),
            "asim" => self.asim(),
            "dev_loss" => self.entry.record.dev_loss(),
            "dev_cross_entropy" => trained?.dev_cross_entropy,
            "seconds" => self.entry.record.seconds(),
            metric => self.evaluated()?.metrics.get(metric).copied(),
        }
    }
}

impl Study {
    pub(super) fn new(home: Home, entries: Vec<Entry>, counts: Vec<(usize, usize)>, choice: Choice, notes: Vec<String>) -> Self {
        Self { home, entries, choice, notes, counts, progress: None }
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What was not done as it is by default, in words.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    pub(super) fn counts(&self) -> &[(usize, usize)] {
        &self.counts
    }

    pub(super) fn home(&self) -> &Home {
        &self.home
    }

    pub(super) fn rows(&self) -> Result<Vec<Row<'_>>> {
        let chosen = choose(&self.entries, self.choice)?;
        let rows =
            |(entry, chosen): (_, Vec<Chosen>)| chosen.into_iter().enumerate().map(move |(test, chosen)| Row { entry, test, chosen });
        // A run that was stopped between its training and a test, or that is to be tested on more, has nothing to tell there yet.
        let told = |row: &Row<'_>| row.evaluated().is_some() || row.failed().is_some();
        Ok(self.entries.iter().zip(chosen).flat_map(rows).filter(told).collect())
    }

    /// Rows that stand for their method.
    pub(super) fn chosen(&self) -> Result<Vec<Row<'_>>> {
        Ok(self.rows()?.into_iter().filter(|row| row.chosen.is).collect())
    }

    /// One row per run and task it was tested on:
    ///
    /// | column | |
    /// |---|---|
    /// | `key` | the run's digest: its file's name |
    /// | `model`, `task`, `n`, `run`, `method` | what was learned, from how many examples, how |
    /// | `evaluated_on`, `ood` | what it was tested on, and whether that is another task |
    /// | `adapter`, `learning_rate`, `beta` | null where there is none |
    /// | `dev_loss`, `dev_cross_entropy` | the least dev loss; of IA2 + SFT, its cross-entropy part at that check; of SFT + temperature, SFT's |
    /// | `steps`, `seconds` | of this phase's training; seconds also of the search for a vector or a temperature |
    /// | `found` | what a method that trains nothing found on dev, in words (`layer 3, strength 2`; `T = 1.31`); where the study has such a method |
    /// | `examples` | test queries |
    /// | `accuracy` and other [metrics](crate::metric::METRICS) | by their names; null where one is not defined |
    /// | `asim` | likeness to the model under ICL on up to 100 of the queries, mean over layers |
    /// | `distance_to_icl` | `KL(p(. | c, x) || q(. | x))`, nats: the untouched model `p` under ICL (demonstrations `c`) against the run's `q`, on `p`'s answers under ICL; mean over the tokens of each answer, then over up to 100 queries |
    /// | `drift` | `KL(p(. | x) || q(. | x))`, nats, on `p`'s own answers to the queries alone, the same means; of ICL `q` is `p(. | c, x)`. What changes the probabilities of labels alone (calibrated ICL, a temperature) leaves the model, and so `asim`, `distance_to_icl`, `drift` and `forgetting`, as they were |
    /// | `drift_elsewhere` | the same on the queries of the task `elsewhere` |
    /// | `icl_before`, `icl_after`, `forgetting` | accuracy under ICL on the task `elsewhere` of the untouched model and of the run's; the first less the second, so that more is worse |
    /// | `elsewhere` | the other task ([`Experiment::forgetting_on`](super::Experiment::forgetting_on)); null on rows out of distribution, and where there is none |
    /// | `query_tokens` | tokens that a query takes at use, demonstrations and what is generated included, mean over the queries. Virtual tokens are not counted |
    /// | `parameters`, `training_tokens`, `target_tokens` | numbers trained; tokens read in training with its dev checks, and to collect targets. Of all phases. Of a vector its width, the tokens read to try candidates, and those read for means under ICL; of a temperature SFT's with 1 number and the dev queries more. 0 for what neither trains nor searches |
    /// | `total_seconds` | of all phases and the collection of their targets, which a cell makes once and each method that needs it counts whole |
    /// | `chosen`, `chosen_by` | whether it stands for its method, and what decided |
    /// | `failed` | why numbers are missing; null for runs that did not fail |
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn frame(&self) -> Result<DataFrame> {
        let rows = self.rows()?;
        let numbers = |name: &str| rows.iter().map(|row| row.number(name)).collect::<Vec<_>>();
        let training = |value: fn(&super::record::TrainingId) -> Option<f64>| {
            rows.iter().map(|row| row.run().training.as_ref().and_then(value)).collect::<Vec<_>>()
        };
        let mut frame = self.names(&rows)?;
        frame.insert_column(0, Column::new("key".into(), rows.iter().map(|row| row.entry.key.as_str()).collect::<Vec<_>>()))?;
        let steps = rows.iter().map(|row| row.entry.record.trained.as_ref().map(|trained| trained.steps)).collect::<Vec<_>>();
        let examples = rows.iter().map(|row| row.evaluated().map(|evaluated| evaluated.examples as u32)).collect::<Vec<_>>();
        let mut columns = vec![
            Column::new("learning_rate".into(), training(|training| Some(training.learning_rate))),
            Column::new("beta".into(), training(|training| training.beta)),
            Column::new("dev_loss".into(), numbers("dev_loss")),
            Column::new("dev_cross_entropy".into(), numbers("dev_cross_entropy")),
            Column::new("steps".into(), steps),
            Column::new("seconds".into(), numbers("seconds")),
            Column::new("examples".into(), examples),
        ];
        let found: Vec<Option<&str>> = rows.iter().map(|row| row.entry.record.found.as_ref().map(|found| found.words.as_str())).collect();
        if found.iter().any(Option::is_some) {
            columns.push(Column::new("found".into(), found));
        }
        columns.extend(metrics(&rows).into_iter().map(|name| Column::new(name.into(), numbers(name))));
        columns.push(Column::new("asim".into(), numbers("asim")));
        columns.extend(effects::all().map(|name| Column::new(name.into(), numbers(name))));
        columns.extend([
            Column::new("elsewhere".into(), rows.iter().map(|row| row.elsewhere().map(|there| there.task.as_str())).collect::<Vec<_>>()),
            Column::new("chosen".into(), rows.iter().map(|row| row.chosen.is).collect::<Vec<_>>()),
            Column::new("chosen_by".into(), rows.iter().map(|row| row.chosen.by).collect::<Vec<_>>()),
            Column::new("failed".into(), rows.iter().map(Row::failed).collect::<Vec<_>>()),
        ]);
        Ok(frame.hstack(&columns)?)
    }

    /// What names a row: `model`, `task`, `evaluated_on`, `ood`, `n`, `run`, `method`, `adapter`.
    pub(super) fn names(&self, rows: &[Row<'_>]) -> Result<DataFrame> {
        Ok(df!(
            "model" => rows.iter().map(|row| row.entry.record.model.as_str()).collect::<Vec<_>>(),
            "task" => rows.iter().map(|row| row.run().task.as_str()).collect::<Vec<_>>(),
            "evaluated_on" => rows.iter().map(Row::evaluated_on).collect::<Vec<_>>(),
            "ood" => rows.iter().map(Row::ood).collect::<Vec<_>>(),
            "n" => rows.iter().map(|row| row.run().n as u32).collect::<Vec<_>>(),
            "run" => rows.iter().map(|row| row.run().run as u32).collect::<Vec<_>>(),
            "method" => rows.iter().map(|row| row.run().method.name()).collect::<Vec<_>>(),
            "adapter" => rows.iter().map(Row::adapter).collect::<Vec<_>>(),
        )?)
    }

    /// asim with ICL of the chosen runs, layer by layer: `model`, `task`, `evaluated_on`, `ood`, `n`, `run`, `method`, `adapter`, `layer`, `asim`.
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn asim(&self) -> Result<DataFrame> {
        let (mut rows, mut layers, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for row in self.chosen()? {
            for (layer, asim) in row.evaluated().map(|evaluated| evaluated.asim.as_slice()).unwrap_or_default() {
                rows.push(row);
                layers.push(*layer);
                values.push(*asim);
            }
        }
        Ok(self.names(&rows)?.hstack(&[Column::new("layer".into(), layers), Column::new("asim".into(), values)])?)
    }

    fn heading(&self) -> Result<String> {
        let failed = self.rows()?.iter().filter(|row| row.failed().is_some()).count();
        let failed = if failed > 0 { format!(", {failed} rows failed (column `failed` of `.frame()`)") } else { String::new() };
        let notes = self.notes.iter().map(|note| format!("; {note}")).collect::<String>();
        let missing = match self.missing() {
            0 => String::new(),
            missing => format!(", {missing} more are yet to be made"),
        };
        let progress = self.progress.as_ref().filter(|_| !missing.is_empty()).map_or(String::new(), Progress::words);
        let told = |entry: &&Entry| entry.record.failed.is_some() || (0..entry.tests.len()).any(|test| entry.evaluated(test).is_some());
        let runs = self.entries.iter().filter(told).count();
        Ok(format!("Study({runs} runs{missing}{failed}{notes}{progress}); means over runs:"))
    }
}

/// The metrics that any row has, in the order of the registry.
pub(super) fn metrics(rows: &[Row<'_>]) -> Vec<&'static str> {
    let there = |name: &&str| rows.iter().any(|row| row.evaluated().is_some_and(|evaluated| evaluated.metrics.contains_key(*name)));
    METRICS.iter().map(|metric| metric.name).filter(there).collect()
}

impl Show for Study {
    fn bundle(&self) -> Bundle {
        match self.heading() {
            // A value is shown, whatever else is to stop.
            Ok(heading) => headed(&heading, interrupt::undisturbed(|| self.summary())),
            Err(error) => Bundle::text(error.to_string()),
        }
    }
}
