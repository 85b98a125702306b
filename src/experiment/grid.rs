//! Every cell of the grid, and every run of a cell.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::cell::{Cell, Test};
use super::protocol::Rollouts;
use super::record::{self, FORMAT, ModelId, Run, TrainingId};
use super::{Experiment, Method, Wanted};
use crate::dataset::{Split, Task};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::model::Model;

/// The most splits of one experiment.
const MOST_SPLITS: u64 = 100_000;

/// A grid with its splits drawn.
pub(super) struct Grid<'e> {
    pub cells: Vec<Cell<'e>>,
    /// Runs whose task has too few rows for their N, and the message that says so.
    pub refused: Vec<(&'e Model, Run, String)>,
}

impl Experiment {
    /// Every model, task, N and run.
    pub(super) fn grid(&self) -> Result<Grid<'_>> {
        self.check()?;
        let (tasks, mut cells, mut refused) = (self.opened()?, Vec::new(), Vec::new());
        for model in &self.models {
            let id = model_id(model)?;
            for (task, others) in &tasks {
                let before = cells.len();
                for &n in &self.sizes {
                    for run in 0..self.runs {
                        interrupt::check()?;
                        let of = |rows: String| Run {
                            format: FORMAT,
                            model: id.clone(),
                            task: task.name().into(),
                            rows,
                            n,
                            run,
                            method: Method::Icl,
                            training: None,
                        };
                        match task.few_shot(n, run) {
                            Ok(split) => {
                                let runs = self.runs_of(&of(record::digest(&(&split.train, &split.dev))?));
                                let pool = self.demonstrations.pool(task);
                                let tests = self.tests(&split, pool.as_deref(), others)?;
                                cells.push(Cell::new(self, model, (split, pool), tests, runs));
                            }
                            Err(error) if error.is_input() => {
                                refused.extend(self.runs_of(&of(String::new())).into_iter().map(|run| (model, run, error.to_string())));
                            }
                            Err(error) => return Err(error),
                        }
                    }
                }
                if let (true, Some((_, _, message))) = (cells.len() == before, refused.last()) {
                    return Err(Error::input(message.clone()));
                }
            }
        }
        let mut keys = HashSet::new();
        for run in cells.iter().flat_map(|cell| &cell.runs).chain(refused.iter().map(|(_, run, _)| run)) {
            if !keys.insert(run.key()?) {
                let Run { task, n, method, .. } = run;
                let remedy = "name each model, task, size, adapter, learning rate and beta once";
                return Err(Error::input(format!(
                    "the same run is asked for twice ({}, {n} examples of `{task}`): {remedy}",
                    method.name()
                )));
            }
        }
        Ok(Grid { cells, refused })
    }

    /// The task's own queries, then those out of distribution.
    fn tests(&self, split: &Split, pool: Option<&Task>, others: &[Task]) -> Result<Vec<Test>> {
        // What is drawn from is no part of a run's own digest.
        let ways = (pool.map(|task| record::digest(&task.others(split))).transpose()?, self.rollouts == Rollouts::Own);
        let mut tests = vec![Test::new(&split.task, split.test.clone(), self.compared_at_most, &ways)?];
        for other in others {
            tests.push(Test::new(other.name(), other.test(self.test_at_most, split.run)?, self.compared_at_most, &ways)?);
        }
        Ok(tests)
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
    fn opened(&self) -> Result<Vec<(Rc<Task>, Vec<Task>)>> {
        let mut others: HashMap<String, Task> = HashMap::new();
        let mut tasks = Vec::new();
        for wanted in &self.tasks {
            let task = match wanted {
                Wanted::Named(name) => Task::open_as(name, self.compat)?,
                Wanted::Open(task) => (**task).clone(),
            };
            let task = task.test_at_most(self.test_at_most)?;
            let named = self.tested_on.iter().find(|(name, _)| name == task.name()).map_or(task.ood(), |(_, named)| named);
            let mut tested = Vec::new();
            for name in named {
                if !others.contains_key(name) {
                    let remedy = "say by `.tested_on(task, others)` on which it is to be tested";
                    let opened = Task::open_as(name, self.compat);
                    others.insert(
                        name.clone(),
                        opened.map_err(|error| error.context(format_args!("`{}` is tested on `{name}` ({remedy})", task.name())))?,
                    );
                }
                tested.extend(others.get(name).cloned());
            }
            tasks.push((Rc::new(task), tested));
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
        // Before splits are drawn: each takes memory.
        let splits =
            [self.models.len(), self.tasks.len(), self.sizes.len()].iter().fold(self.runs, |all, &count| all.saturating_mul(count as u64));
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

fn model_id(model: &Model) -> Result<ModelId> {
    if model.is_adapted() {
        return Err(Error::input(
            "an experiment starts from a model without an adapter: give `model.base()`, or merge the adapter and save it",
        ));
    }
    Ok(ModelId { kind: format!("{:?}", model.kind()), identity: model.identity()?.clone() })
}
