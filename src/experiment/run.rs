//! Doing what is missing of a grid.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;

use super::grid::Grid;
use super::protocol;
use super::record::Record;
use super::study::{Entry, Home};
use super::{Experiment, Study};
use crate::display::{Bundle, Show};
use crate::error::{Error, Result};
use crate::file;
use crate::interrupt;
use crate::libtorch::door;
use crate::progress::Progress;

impl Experiment {
    /// Does what is missing of the grid and gives the results of all of it.
    ///
    /// A run that comes to NaN, whose prompts the model cannot take, or whose task has too few rows for its N, has failed with a message in the
    /// frame, and the grid goes on. An [interrupt](crate::interrupt) ends it with the results there are ([`Study::missing`]); the same call does the
    /// rest.
    ///
    /// # Errors
    /// A setting that makes no sense; a task that cannot be opened or has too few rows for every N; a model with an adapter on it; files that cannot be
    /// read or written, were changed since they were written, or are gone before the grid is done; a bug.
    pub fn run(&self) -> Result<Study> {
        door("running an experiment", || {
            let home = self.home()?;
            interrupt::keeps("what was done is kept: the same call does the rest");
            let mut missing = 0;
            let mut total = 0;
            let grid = self.grid()?;
            for cell in &grid.cells {
                total += cell.runs.len() as u64;
                interrupt::check()?;
                missing += cell.runs.iter().map(|run| Ok(u64::from(!cell.is_done(home.path(), run)?))).sum::<Result<u64>>()?;
            }
            let mut progress = Progress::new("experiment", total).resumed(total - missing);
            let begun = inode(home.path())?;
            for cell in &grid.cells {
                if inode(home.path())? != begun {
                    return Err(lost(home.path(), "was removed or replaced"));
                }
                match cell.run(home.path(), |run| progress.tick_above(1, run, || self.table_so_far(&home, &grid))) {
                    Err(error) if error.is_interrupted() => {
                        progress.finish_early("interrupted: the same call does the rest");
                        return interrupt::undisturbed(|| self.study(home, &grid, false));
                    }
                    outcome => outcome?,
                }
            }
            if missing > 0 {
                progress.finish();
            }
            self.study(home, &grid, true)
        })
    }

    /// The results there are, of a grid that may be half done.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn so_far(&self) -> Result<Study> {
        door("reading an experiment", || self.study(self.home()?, &self.grid()?, false))
    }

    /// For the eyes while the rest is being done: what cannot be read now is told when all is.
    fn table_so_far(&self, home: &Home, grid: &Grid<'_>) -> Option<Bundle> {
        interrupt::undisturbed(|| Some(self.study(home.clone(), grid, false).ok()?.summary().ok()?.bundle()))
    }

    /// Of what is done; where `all` was done, what is missing now was taken away.
    fn study(&self, home: Home, grid: &Grid<'_>, all: bool) -> Result<Study> {
        let mut entries = Vec::new();
        for cell in &grid.cells {
            for run in &cell.runs {
                interrupt::check()?;
                let record = Record::open(home.path(), run)?;
                if all && record.is_none() {
                    return Err(lost(home.path(), "lost results"));
                }
                if let Some(record) = record {
                    let tests = cell.tests.iter().map(|test| (test.task.clone(), test.digest.clone())).collect();
                    entries.push(Entry { key: run.key()?, record, tests, model: cell.model.clone() });
                }
            }
        }
        for (model, run, message) in &grid.refused {
            let record = Record::new(model, run, Some(message.clone()));
            entries.push(Entry { key: run.key()?, record, tests: vec![(run.task.clone(), String::new())], model: (*model).clone() });
        }
        let total = grid.refused.len() + grid.cells.iter().map(|cell| cell.runs.len()).sum::<usize>();
        let missing = total.saturating_sub(entries.len());
        Ok(Study::new(home, entries, missing, self.choice, protocol::notes(self)))
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
