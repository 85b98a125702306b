//! The grid: nested loops over what a cell shares.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::rc::Rc;

use super::cell::{Cell, Test};
use super::record::{self, FORMAT, ModelId, Record, Run, TrainingId};
use super::study::{Entry, Home};
use super::{Experiment, Method, Study, Wanted};
use crate::dataset::Task;
use crate::error::{Error, Result};
use crate::file;
use crate::libtorch::door;
use crate::model::Model;
use crate::progress::Progress;
use crate::train;

impl Experiment {
    /// Does what is missing of the grid and gives the results of all of it.
    ///
    /// A run that comes to NaN, or whose prompts the model cannot take, is recorded as failed with its message, and the grid goes on.
    ///
    /// # Errors
    /// A setting that makes no sense; a task that cannot be opened or has too few rows; a model that was not opened from files or has an adapter
    /// on it; files that cannot be read or written; a bug.
    pub fn run(&self) -> Result<Study> {
        door("running an experiment", || {
            let home = self.home()?;
            let mut missing = 0;
            let mut total = 0;
            let cells = self.cells()?;
            for cell in &cells {
                total += cell.runs.len() as u64;
                missing += cell.runs.iter().map(|run| Ok(u64::from(!cell.is_done(home.path(), run)?))).sum::<Result<u64>>()?;
            }
            let mut progress = Progress::new("experiment", total).resumed(total - missing);
            for cell in &cells {
                cell.run(home.path(), |run| progress.tick(1, run))?;
            }
            if missing > 0 {
                progress.finish();
            }
            self.study(home, &cells)
        })
    }

    /// The results there are, of a grid that may be half done.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn so_far(&self) -> Result<Study> {
        door("reading an experiment", || self.study(self.home()?, &self.cells()?))
    }

    fn study(&self, home: Home, cells: &[Cell<'_>]) -> Result<Study> {
        let mut entries = Vec::new();
        for cell in cells {
            for run in &cell.runs {
                if let Some(record) = Record::open(home.path(), run)? {
                    let tests = cell.tests.iter().map(|test| (test.task.clone(), test.digest.clone())).collect();
                    entries.push(Entry { key: run.key()?, record, tests, model: cell.model.clone() });
                }
            }
        }
        Ok(Study::new(home, entries, self.choice))
    }

    fn home(&self) -> Result<Home> {
        if let Some(folder) = &self.folder {
            file::folder(folder)?;
            return Ok(Home::Kept(folder.clone()));
        }
        if self.temporary.get().is_none() {
            let made = tempfile::tempdir()
                .map_err(|error| Error::file("cannot make a temporary folder: name one by `.folder()`").because(error))?;
            let _ = self.temporary.set(Rc::new(made));
        }
        self.temporary.get().map(|folder| Home::Temporary(folder.clone())).ok_or_else(|| Error::internal("a temporary folder got lost"))
    }

    /// Every model, task, N and run.
    pub(super) fn cells(&self) -> Result<Vec<Cell<'_>>> {
        self.check()?;
        let (tasks, mut cells) = (self.opened()?, Vec::new());
        for model in &self.models {
            let id = model_id(model)?;
            for (task, others) in &tasks {
                for &n in &self.sizes {
                    for run in 0..self.runs {
                        let split = task.few_shot(n, run)?;
                        let mut tests = vec![Test::new(task.name(), split.test.clone(), self.compared_at_most)?];
                        for other in others {
                            tests.push(Test::new(other.name(), other.test(self.test_at_most, run)?, self.compared_at_most)?);
                        }
                        let rows = record::digest(&(&split.train, &split.dev))?;
                        let own = Run {
                            format: FORMAT,
                            model: id.clone(),
                            task: task.name().into(),
                            rows,
                            n,
                            run,
                            method: Method::Icl,
                            training: None,
                        };
                        cells.push(Cell::new(self, model, split, tests, self.runs_of(&own)));
                    }
                }
            }
        }
        let mut keys = HashSet::new();
        for run in cells.iter().flat_map(|cell| &cell.runs) {
            if !keys.insert(run.key()?) {
                let Run { task, n, method, .. } = run;
                let remedy = "name each model, task, size, adapter, learning rate and beta once";
                return Err(Error::input(format!(
                    "the same run is asked for twice ({}, {n} examples of `{task}`): {remedy}",
                    method.name()
                )));
            }
        }
        Ok(cells)
    }

    /// The runs of a cell, what one goes on from before it.
    fn runs_of(&self, cell: &Run) -> Vec<Run> {
        let mut runs = Vec::new();
        for method in Method::with_earlier(&self.methods) {
            let run = Run { method, ..cell.clone() };
            if !method.is_trained() {
                runs.push(run);
                continue;
            }
            let betas: Vec<Option<f64>> = if method.has_beta() { self.betas.iter().copied().map(Some).collect() } else { vec![None] };
            for adapter in &self.adapters {
                for &learning_rate in &self.learning_rates {
                    for &beta in &betas {
                        let distributions = (method == Method::Soft).then(|| format!("{:?}", self.distributions));
                        let (epochs, patience, compat, adapter) = (self.epochs, self.patience, self.compat, adapter.clone());
                        let training = TrainingId { adapter, learning_rate, beta, epochs, patience, compat, distributions };
                        runs.push(Run { training: Some(training), ..run.clone() });
                    }
                }
            }
        }
        runs
    }

    /// Each task with those it is tested on out of distribution.
    pub(super) fn opened(&self) -> Result<Vec<(Task, Vec<Task>)>> {
        let mut others: HashMap<String, Task> = HashMap::new();
        let mut tasks = Vec::new();
        for wanted in &self.tasks {
            let task = match wanted {
                Wanted::Named(name) => Task::open(name)?,
                Wanted::Open(task) => (**task).clone(),
            };
            let task = task.test_at_most(self.test_at_most)?;
            let named = self.tested_on.iter().find(|(name, _)| name == task.name()).map_or(task.ood(), |(_, named)| named);
            let mut tested = Vec::new();
            for name in named {
                if !others.contains_key(name) {
                    let remedy = "say by `.tested_on(task, others)` on which it is to be tested";
                    let opened = Task::open(name);
                    others.insert(
                        name.clone(),
                        opened.map_err(|error| error.context(format_args!("`{}` is tested on `{name}` ({remedy})", task.name())))?,
                    );
                }
                tested.extend(others.get(name).cloned());
            }
            tasks.push((task, tested));
        }
        Ok(tasks)
    }

    fn check(&self) -> Result<()> {
        let lists = [
            ("tasks", self.tasks.len()),
            ("sizes", self.sizes.len()),
            ("runs", self.runs as usize),
            ("methods", self.methods.len()),
            ("adapters", self.adapters.len()),
            ("learning_rates", self.learning_rates.len()),
            ("betas", if self.methods.contains(&Method::Ia2PlusSft) { self.betas.len() } else { 1 }),
            ("test_at_most", self.test_at_most),
            ("compared_at_most", self.compared_at_most),
        ];
        if let Some((name, _)) = lists.iter().find(|(_, count)| *count == 0) {
            return Err(Error::input(format!("the experiment has no {name}: give at least one by `.{name}()`")));
        }
        let mut names: Vec<String> = self.opened_names();
        names.sort();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::input(format!("the task `{}` is named twice: name each once", pair[0])));
        }
        match self.learning_rates.iter().chain(&self.betas).find(|value| !value.is_finite() || **value < 0.0) {
            Some(value) => Err(Error::input(format!("a learning rate or beta is {value}: use positive numbers"))),
            None => Ok(()),
        }
    }

    fn opened_names(&self) -> Vec<String> {
        let name = |wanted: &Wanted| match wanted {
            Wanted::Named(name) => name.clone(),
            Wanted::Open(task) => task.name().into(),
        };
        self.tasks.iter().map(name).collect()
    }
}

impl Home {
    fn path(&self) -> &std::path::Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }

    /// Where the adapter of a run lies.
    pub(super) fn adapter(&self, key: &str) -> PathBuf {
        record::adapter(self.path(), key)
    }
}

fn model_id(model: &Model) -> Result<ModelId> {
    if model.is_adapted() {
        return Err(Error::input(
            "an experiment starts from a model without an adapter: give `model.base()`, or merge the adapter and save it",
        ));
    }
    match train::model_digests(model.folder())? {
        (Some(config), Some(weights)) => Ok(ModelId { kind: format!("{:?}", model.kind()), config, weights }),
        _ => Err(Error::input(
            "runs are known by the files of their model, and this one has none (any more): save it and open it from there",
        )),
    }
}
