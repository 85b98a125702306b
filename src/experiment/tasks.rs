//! The tasks of a grid: opened, in other words, and what could not be.

use std::collections::HashMap;
use std::rc::Rc;

use super::{Experiment, Wanted};
use crate::dataset::{Benchmark, Task};
use crate::error::{Error, Result};

/// A task with those it is tested on out of distribution.
pub(super) struct Opened {
    pub task: Rc<Task>,
    pub others: Vec<Task>,
    /// One that is neither learned nor tested on: what becomes of it?
    pub elsewhere: Option<Task>,
}

impl Experiment {
    /// The tasks and those they are tested on, and in words what is not as their cards say.
    pub(super) fn opened(&self) -> Result<(Vec<Opened>, Vec<String>)> {
        let (mut others, mut tasks, mut said) = (HashMap::<String, Task>::new(), Vec::new(), self.said.clone());
        for wanted in &self.tasks {
            let task = match wanted {
                Wanted::Named(name) => self.named(name, &mut said)?,
                Wanted::Open(task) => self.worded((**task).clone())?,
                Wanted::Stored(rows) => rows.open()?,
            };
            let task = task.test_at_most(self.settings.test_at_most)?;
            let task = self.settings.dev.map_or(Ok(task.clone()), |count| task.dev_rows(count))?;
            let asked = self.tested_on.iter().find(|(name, _)| name == task.name()).map(|(_, others)| others);
            let (mut tested, mut absent) = (Vec::new(), Vec::new());
            for name in asked.map_or(task.ood(), Vec::as_slice) {
                // What the card names is tested on where it is; what is asked for must be there.
                if asked.is_none() && !others.contains_key(name) && !Task::is_there(name)? {
                    absent.push(name.as_str());
                    continue;
                }
                if !others.contains_key(name) {
                    let remedy = "say by `.tested_on(task, others)` on which it is to be tested";
                    let why = |error: Error| error.context(format_args!("`{}` is tested on `{name}` ({remedy})", task.name()));
                    others.insert(name.clone(), self.other(name, &mut said).map_err(why)?);
                }
                tested.extend(others.get(name).cloned());
            }
            if !absent.is_empty() {
                said.push(format!("{} not tested on {}: not installed", task.name(), absent.join(", ")));
            }
            let elsewhere = self.settings.forgetting_on.iter().find(|name| *name != task.name());
            let elsewhere = elsewhere.map(|name| match others.get(name) {
                Some(other) => Ok(other.clone()),
                None => self.other(name, &mut said).map_err(|error| error.context(format_args!("`{name}` of `.forgetting_on()`"))),
            });
            let elsewhere = elsewhere.transpose()?;
            tasks.push(Opened { task: Rc::new(task), others: tested, elsewhere });
        }
        for (name, _) in &self.words {
            let known = |opened: &Opened| opened.task.name() == name || opened.others.iter().any(|other| other.name() == name);
            if !tasks.iter().any(known) && !Task::is_there(name)? && Benchmark::named(name).is_err() {
                return Err(Error::input(format!("words are given for the labels of `{name}`, and there is no such task")));
            }
        }
        Ok((tasks, said))
    }

    /// A task that is not learned, by name or from a plan's files.
    fn other(&self, name: &str, said: &mut Vec<String>) -> Result<Task> {
        let stored = self.others.iter().find(|rows| rows.name == *name);
        stored.map_or_else(|| self.named(name, said), |rows| rows.open())
    }

    /// A task by its name; a benchmark of which a part is missing is drawn from those that are there.
    fn named(&self, name: &str, said: &mut Vec<String>) -> Result<Task> {
        let compat = self.settings.compat;
        let task = match Task::open_as(name, compat) {
            Ok(task) => task,
            Err(error) => {
                let partial = Benchmark::named(name).ok().filter(|benchmark| !benchmark.is_installed());
                let partial = partial.map(|benchmark| benchmark.compat(compat).subsets_present()).filter(Benchmark::is_installed);
                let Some(benchmark) = partial else { return Err(error) };
                said.push(format!("{name} {}: the rest of it is not installed", benchmark.subsets_in_words()));
                benchmark.open()?
            }
        };
        self.worded(task)
    }

    fn worded(&self, task: Task) -> Result<Task> {
        match self.words.iter().find(|(name, _)| name == task.name()) {
            Some((_, words)) => task.relabelled(words.iter().map(String::as_str)),
            None => Ok(task),
        }
    }
}
