//! Doing what is missing of a grid.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;

use super::cell::RunControl;
use super::grid::Grid;
use super::record::{Record, Run};
use super::settings::Demand;
use super::study::{Entry, Home};
use super::{Experiment, Study, cluster, protocol};
use crate::display::{Bundle, Show};
use crate::error::{Error, Result};
use crate::file;
use crate::interrupt;
use crate::libtorch::guarded;
use crate::progress::Progress;

impl Experiment {
    /// Does what is missing of the grid and gives the results of all of it.
    ///
    /// A run that comes to NaN, whose prompts the model cannot take, or whose task has too few rows for its N, has failed with a message in the
    /// frame, and the grid goes on. An [interrupt] ends it with the results there are ([`Study::missing`]); the same call does the
    /// rest.
    ///
    /// # Errors
    /// A setting that makes no sense; a task that cannot be opened or has too few rows for every N; a model with an adapter on it; files that cannot be
    /// read or written, were changed since they were written, or are gone before the grid is done; a bug.
    pub fn run(&self) -> Result<Study> {
        guarded("running an experiment", || {
            let home = self.home()?;
            interrupt::keeps("what was done is kept: the same call does the rest");
            let grid = self.grid()?;
            self.finish(home, &grid)
        })
    }

    /// Does what is missing of a grid.
    pub(super) fn finish(&self, home: Home, grid: &Grid<'_>) -> Result<Study> {
        let (mut total, mut missing) = (0, vec![0; grid.cells.len()]);
        for (cell, missing) in grid.cells.iter().zip(&mut missing) {
            interrupt::check()?;
            total += grid.runs(cell)?.len() as u64;
            *missing = grid.missing(home.path(), cell)?.len() as u64;
        }
        let left: u64 = missing.iter().sum();
        let mut progress = Progress::new("experiment", total).resumed(total - left);
        let (begun, mut stopped) = (inode(home.path())?, false);
        let table = || self.table_so_far(&home, grid);
        if cluster::is_planned(home.path()) {
            // Workers may be at it, here or elsewhere.
            stopped = !cluster::run_all(grid, home.path(), &mut |run| progress.tick_above(1, run, table))?;
        } else {
            for (cell, _) in grid.cells.iter().zip(missing).filter(|(_, missing)| *missing > 0) {
                if inode(home.path())? != begun {
                    return Err(lost(home.path(), "was removed or replaced"));
                }
                let done = grid.cell(cell).and_then(|cell| cell.run(home.path(), &mut Alone { progress: &mut progress, table: &table }));
                let goes_on = match done {
                    Err(error) if error.is_interrupted() => false,
                    done => done?,
                };
                if !goes_on {
                    stopped = true;
                    break;
                }
            }
        }
        if stopped {
            progress.finish_early("interrupted: the same call does the rest");
            return interrupt::undisturbed(|| self.study(home, grid, false));
        }
        if left > 0 {
            progress.finish();
        }
        self.study(home, grid, true)
    }

    /// The results there are, of a grid that may be half done.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn so_far(&self) -> Result<Study> {
        guarded("reading an experiment", || self.study(self.home()?, &self.grid()?, false))
    }

    /// For the eyes while the rest is being done: what cannot be read now is told when all is.
    fn table_so_far(&self, home: &Home, grid: &Grid<'_>) -> Option<Bundle> {
        interrupt::undisturbed(|| Some(self.study(home.clone(), grid, false).ok()?.summary().ok()?.bundle()))
    }

    /// Of what is done; where `all` was done, what is missing now was taken away.
    pub(super) fn study(&self, home: Home, grid: &Grid<'_>, all: bool) -> Result<Study> {
        let (mut entries, mut counts) = (Vec::new(), Vec::new());
        for cell in &grid.cells {
            let mut count = (0, 0);
            for run in grid.runs(cell)? {
                interrupt::check()?;
                count.0 += 1;
                let record = Record::open(home.path(), &run)?;
                if all && record.is_none() {
                    return Err(lost(home.path(), "lost results"));
                }
                if let Some(record) = record {
                    // What failed is done, whatever is to become of it.
                    let demand = Demand { retry: false, outcomes: false, ..self.settings.demand() };
                    count.1 += usize::from(cell.is_whole(&record, demand));
                    let elsewhere = cell.elsewhere.as_ref().map(|(_, digest)| digest.clone());
                    let (tests, model) = (cell.tests.clone(), grid.model(cell.model)?.clone());
                    entries.push(Entry { key: run.key()?, record, tests, elsewhere, model });
                }
            }
            counts.push(count);
        }
        for refused in &grid.refused {
            let (model, tests) = (grid.model(refused.model)?, vec![(grid.task(refused.task)?.to_string(), String::new())]);
            for run in grid.refused_runs(refused)? {
                let record = Record::new(model.name(), &run, Some(refused.message.clone()));
                entries.push(Entry { key: run.key()?, record, tests: tests.clone(), elsewhere: None, model: model.clone() });
            }
        }
        Ok(Study::new(home, entries, counts, self.settings.choice, protocol::notes(self, &grid.said)))
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
}

/// Nobody else is at work.
struct Alone<'a> {
    progress: &'a mut Progress,
    /// What is done so far, for the eyes.
    table: &'a dyn Fn() -> Option<Bundle>,
}

impl RunControl for Alone<'_> {
    fn goes_on(&mut self) -> Result<bool> {
        Ok(!interrupt::is_requested())
    }

    fn done(&mut self, run: &Run, _: &Record, _: f64) -> Result<()> {
        let name = format!("{}, n {}, run {}, {}", run.task, run.n, run.run, run.method.name());
        self.progress.tick_above(1, &name, self.table);
        Ok(())
    }
}

/// Which folder this is, whatever it is called.
fn inode(folder: &Path) -> Result<(u64, u64)> {
    let meta = std::fs::metadata(folder).map_err(|error| lost(folder, "was removed").because(error))?;
    Ok((meta.dev(), meta.ino()))
}

fn lost(folder: &Path, what: &str) -> Error {
    Error::file(format!("the experiment's folder {} {what} while it ran: run it again, and what is missing is done", folder.display()))
}

impl Home {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }
}
