//! Every cell of the grid, and every run of a cell.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::path::Path;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::cell::{Cell, Other, Test, excused};
use super::lazy_model::LazyModel;
use super::protocol::Rollouts;
use super::record::{self, FORMAT, Record, Run};
use super::settings::{Demand, Settings};
use super::tasks::Opened;
use super::{Experiment, Method, Wanted};
use crate::dataset::{Split, Task};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::metric::Confidence;
use crate::prompt::Examples;

/// The most splits of one experiment.
const MOST_SPLITS: u64 = 100_000;

/// A grid whose splits were drawn once, and are drawn again for the cell that is worked on: all of them at once would fill the memory.
pub(super) struct Grid<'e> {
    pub experiment: &'e Experiment,
    /// The tasks' names.
    names: Vec<String>,
    /// Opened by the first who needs rows.
    tasks: OnceCell<Vec<Opened>>,
    /// What is not as the tasks' cards say, in words.
    pub said: Vec<String>,
    pub cells: Vec<CellOutline>,
    pub refused: Vec<Refused>,
}

/// What a cell asks.
type CellQueries = (Vec<Test>, Option<Other>);

/// A cell, told by digests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CellOutline {
    /// The model's and the task's place in the grid.
    pub model: usize,
    pub task: usize,
    pub n: usize,
    pub run: u64,
    /// Of the train and dev sets.
    pub rows: String,
    /// Task and digest of each test; the task's own first.
    pub tests: Vec<(String, String)>,
    /// The same of the task that is learned by none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<(String, String)>,
    /// Queries of each test.
    pub asked: Vec<usize>,
}

/// Runs whose task has too few rows for their N, and the message that says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refused {
    pub model: usize,
    pub task: usize,
    pub n: usize,
    pub run: u64,
    pub message: String,
}

impl CellOutline {
    /// Whether a record has all that is asked.
    pub(super) fn is_whole(&self, record: &Record, demand: Demand<'_>) -> bool {
        let elsewhere = self.elsewhere.as_ref().map(|(_, digest)| digest.as_str());
        record.is_whole(self.tests.iter().map(|(_, digest)| digest.as_str()), elsewhere, demand)
    }
}

impl Experiment {
    /// Every model, task, N and run.
    pub(super) fn grid(&self) -> Result<Grid<'_>> {
        self.check()?;
        let (tasks, said) = self.opened()?;
        let names: Vec<String> = tasks.iter().map(|opened| opened.task.name().into()).collect();
        let mut grid = Grid { experiment: self, names, tasks: OnceCell::from(tasks), said, cells: Vec::new(), refused: Vec::new() };
        for (model, held) in self.models.iter().enumerate() {
            held.id()?;
            for task in 0..grid.names.len() {
                let before = grid.cells.len();
                for &n in &self.settings.sizes {
                    for run in 0..self.settings.runs {
                        interrupt::check()?;
                        match grid.sketch(model, task, n, run) {
                            Ok(cell) => grid.cells.push(cell),
                            Err(error) if error.is_input() => {
                                grid.refused.push(Refused { model, task, n, run, message: error.to_string() });
                            }
                            Err(error) => return Err(error),
                        }
                    }
                }
                if let (true, Some(refused)) = (grid.cells.len() == before, grid.refused.last()) {
                    return Err(Error::input(refused.message.clone()));
                }
            }
        }
        let mut keys = HashSet::new();
        let runs = grid.cells.iter().map(|cell| grid.runs(cell)).chain(grid.refused.iter().map(|refused| grid.refused_runs(refused)));
        for run in runs.collect::<Result<Vec<_>>>()?.into_iter().flatten() {
            if !keys.insert(run.key()?) {
                let Run { task, n, method, .. } = run;
                let remedy = "name each model, task, size, adapter, learning rate and beta once";
                return Err(Error::input(format!(
                    "the same run is asked for twice ({}, {n} examples of `{task}`): {remedy}",
                    method.name()
                )));
            }
        }
        Ok(grid)
    }

    fn check(&self) -> Result<()> {
        let settings = &self.settings;
        self.check_columns()?;
        let lists = [
            ("tasks", self.tasks.len()),
            ("sizes", settings.sizes.len()),
            ("runs", settings.runs as usize),
            ("methods", settings.methods.len()),
            ("adapters", settings.adapters.len()),
            ("learning_rates", settings.learning_rates.len()),
            ("betas", if settings.methods.iter().any(|method| method.has_beta()) { settings.betas.len() } else { 1 }),
            ("test_at_most", settings.test_at_most),
            ("compared_at_most", settings.compared_at_most),
        ];
        if let Some((name, _)) = lists.iter().find(|(_, count)| *count == 0) {
            return Err(Error::input(format!("the experiment has no {name}: give at least one by `.{name}()`")));
        }
        // Before splits are drawn: each takes time.
        let splits = [self.models.len(), self.tasks.len(), settings.sizes.len()]
            .iter()
            .fold(settings.runs, |all, &count| all.saturating_mul(count as u64));
        if splits > MOST_SPLITS {
            return Err(Error::input(format!(
                "{splits} splits (models x tasks x sizes x runs) are asked for: {MOST_SPLITS} at most are one experiment"
            )));
        }
        let mut names: Vec<String> = self.opened_names();
        names.sort();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::input(format!("the task `{}` is named twice: name each once", pair[0])));
        }
        match settings.learning_rates.iter().chain(&settings.betas).find(|value| !value.is_finite() || **value < 0.0) {
            Some(value) => Err(Error::input(format!("a learning rate or beta is {value}: use positive numbers"))),
            None => Ok(()),
        }
    }

    fn opened_names(&self) -> Vec<String> {
        let name = |wanted: &Wanted| match wanted {
            Wanted::Named(name) => name.clone(),
            Wanted::Open(task) => task.name().into(),
            Wanted::Stored(rows) => rows.name.clone(),
        };
        self.tasks.iter().map(name).collect()
    }
}

impl<'e> Grid<'e> {
    /// A grid whose splits were drawn before, elsewhere.
    pub(super) fn drawn(experiment: &'e Experiment, cells: Vec<CellOutline>, refused: Vec<Refused>) -> Self {
        Self { experiment, names: experiment.opened_names(), tasks: OnceCell::new(), said: experiment.said.clone(), cells, refused }
    }

    pub(super) fn tasks(&self) -> Result<&[Opened]> {
        if self.tasks.get().is_none() {
            let _ = self.tasks.set(self.experiment.opened()?.0);
        }
        self.tasks.get().map(Vec::as_slice).ok_or_else(|| Error::internal("the tasks of a grid got lost"))
    }

    fn settings(&self) -> &'e Settings {
        &self.experiment.settings
    }

    pub(super) fn model(&self, place: usize) -> Result<&'e LazyModel> {
        self.experiment.models.get(place).ok_or_else(|| Error::internal("a cell of a model that the grid has not"))
    }

    pub(super) fn task(&self, place: usize) -> Result<&str> {
        self.names.get(place).map(String::as_str).ok_or_else(|| Error::internal("a cell of a task that the grid has not"))
    }

    /// Draws the sets of a cell: what is learned from, whose rows demonstrations are drawn from, and what is tested.
    fn draw(&self, task: usize, n: usize, run: u64) -> Result<(Split, Option<Rc<Task>>, CellQueries)> {
        let opened = self.tasks()?.get(task).ok_or_else(|| Error::internal("a cell of a task that the grid has not"))?;
        let Opened { task, others, elsewhere } = opened;
        let split = if self.settings().balanced { task.few_shot_balanced(n, run)? } else { task.few_shot(n, run)? };
        let pool = self.settings().demonstrations.pool(task);
        let compared = self.settings().compared_at_most;
        // What is drawn from is no part of a run's own digest.
        let ways =
            (pool.as_deref().map(|task| record::digest(&task.others(&split))).transpose()?, self.settings().rollouts == Rollouts::Own);
        let confidence = self.settings().confidence;
        let test = |task: &str, queries: Examples| match queries.labels().is_empty() && confidence != Confidence::default() {
            true => Test::new(task, queries, compared, &(&ways, confidence)),
            false => Test::new(task, queries, compared, &ways),
        };
        let mut tests = vec![test(&split.task, split.test.clone())?];
        for other in others {
            tests.push(test(other.name(), other.test(self.settings().test_at_most, split.run)?)?);
        }
        let elsewhere = elsewhere.as_ref().map(|other| {
            let split = other.clone().test_at_most(self.settings().test_at_most).and_then(|other| other.few_shot(n, run));
            Other::new(other.name(), split.map(Ok).or_else(excused)?, compared)
        });
        Ok((split, pool, (tests, elsewhere.transpose()?)))
    }

    fn sketch(&self, model: usize, task: usize, n: usize, run: u64) -> Result<CellOutline> {
        let (split, _, (tests, other)) = self.draw(task, n, run)?;
        let asked = tests.iter().map(Test::len).collect();
        let tests = tests.into_iter().map(|test| (test.task, test.digest)).collect();
        let elsewhere = other.map(|other| (other.task, other.digest));
        Ok(CellOutline { model, task, n, run, rows: record::digest(&(&split.train, &split.dev))?, tests, elsewhere, asked })
    }

    /// The cell with its rows and its model.
    pub(super) fn cell(&self, sketch: &CellOutline) -> Result<Cell<'e>> {
        let (split, pool, (tests, other)) = self.draw(sketch.task, sketch.n, sketch.run)?;
        let same = record::digest(&(&split.train, &split.dev))? == sketch.rows
            && tests.iter().map(|test| (&test.task, &test.digest)).eq(sketch.tests.iter().map(|(task, digest)| (task, digest)))
            && other.as_ref().map(|other| &other.digest) == sketch.elsewhere.as_ref().map(|(_, digest)| digest);
        if !same {
            return Err(Error::file(format!(
                "the rows of `{}` are not those that this grid was made with (N = {}, run {}): prepare it again",
                split.task, sketch.n, sketch.run
            )));
        }
        Ok(Cell::new(self.experiment, self.model(sketch.model)?.get()?, (split, pool), (tests, other), self.runs(sketch)?))
    }

    /// The runs of a cell, in an order in which they can be done.
    pub(super) fn runs(&self, cell: &CellOutline) -> Result<Vec<Run>> {
        Ok(self.settings().runs_of(&self.run(cell.model, cell.task, cell.n, cell.run, &cell.rows)?))
    }

    /// The runs that cannot be done.
    pub(super) fn refused_runs(&self, refused: &Refused) -> Result<Vec<Run>> {
        Ok(self.settings().runs_of(&self.run(refused.model, refused.task, refused.n, refused.run, "")?))
    }

    /// What the runs of a cell have in common, as that of them which trains nothing.
    fn run(&self, model: usize, task: usize, n: usize, run: u64, rows: &str) -> Result<Run> {
        let (model, task) = (self.model(model)?.id()?.clone(), self.task(task)?.to_string());
        Ok(Run { format: FORMAT, model, task, rows: rows.into(), n, run, method: Method::Icl, training: None })
    }

    /// Whether a run of a cell is done, with all its tests.
    pub(super) fn is_done(&self, folder: &Path, cell: &CellOutline, run: &Run) -> Result<bool> {
        let record = Record::open(folder, run)?;
        Ok(record.is_some_and(|record| cell.is_whole(&record, self.settings().demand())))
    }

    /// Runs of a cell that are not done yet.
    pub(super) fn missing(&self, folder: &Path, cell: &CellOutline) -> Result<Vec<Run>> {
        let mut missing = Vec::new();
        for run in self.runs(cell)? {
            if !self.is_done(folder, cell, &run)? {
                missing.push(run);
            }
        }
        Ok(missing)
    }
}
