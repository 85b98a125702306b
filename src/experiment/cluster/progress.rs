//! How far the workers of a grid are.

use std::collections::HashMap;
use std::path::Path;
use std::time::SystemTime;

use super::claim::Claims;
use super::folder::GridFolder;
use super::life::{self, About};
use super::work::names;
use super::written::PlanFile;
use crate::error::Result;
use crate::experiment::grid::Grid;
use crate::file::{self, Holds};

/// What the files of a grid's workers say.
#[derive(Debug)]
pub(in crate::experiment) struct Progress {
    pub(super) cells: Vec<CellLine>,
    pub(super) workers: Vec<WorkerLine>,
    /// The place among them of the worker that has done a run.
    by_key: HashMap<String, usize>,
}

#[derive(Debug)]
pub(super) struct CellLine {
    pub model: String,
    pub task: String,
    pub n: usize,
    pub run: u64,
    pub runs: usize,
    pub done: usize,
    pub state: &'static str,
    /// The place of its worker.
    pub worker: Option<usize>,
}

#[derive(Debug)]
pub(super) struct WorkerLine {
    pub about: About,
    /// Seconds since its heartbeat, by the disk's clock.
    pub beat: f64,
    pub lives: bool,
}

impl Progress {
    /// `counts`: of each cell, its runs and those that are done.
    pub(super) fn read(home: &Path, grid: &Grid<'_>, plan: &PlanFile, counts: &[(usize, usize)]) -> Result<Self> {
        let place = GridFolder::new(home);
        let patience = plan.manner.patience().as_secs_f64();
        let now = now(&place);
        let (mut workers, mut by_key) = (Vec::new(), HashMap::new());
        for entry in std::fs::read_dir(place.workers()).into_iter().flatten().flatten() {
            let path = entry.path();
            // One that is just being replaced, or was damaged, is as one that nobody knows.
            let Some(about) = path.extension().filter(|ending| *ending == "json").and_then(|_| life::about(&path).ok()) else { continue };
            let age = life::beat(&path).and_then(|beat| now.duration_since(beat).ok()).map_or(0.0, |age| age.as_secs_f64());
            for line in file::text(&path.with_extension("csv"), Holds::Settings).unwrap_or_default().lines().skip(1) {
                by_key.insert(line.split(',').next().unwrap_or_default().to_string(), workers.len());
            }
            let lives = about.ended.is_none() && !about.process.is_gone() && age < patience;
            workers.push(WorkerLine { about, beat: age, lives });
        }
        let claims = Claims::new(&place);
        let states = claims.list()?;
        let mut cells = Vec::new();
        for (cell, &(runs, done)) in grid.cells.iter().zip(counts) {
            let (name, _) = names(grid, cell, plan.again.as_deref())?;
            let held = states.get(&name).filter(|state| done < runs && !state.is_free());
            let worker = held.and_then(|state| claims.holder(&name, state.number));
            let worker = worker.and_then(|id| workers.iter().position(|worker| worker.about.id == id));
            let state = match (held, worker) {
                _ if done == runs => "done",
                (None, _) => "waiting",
                (Some(_), Some(worker)) if workers[worker].lives => "held",
                (Some(_), _) => "silent",
            };
            let (model, task) = (grid.model(cell.model)?.name(), grid.task(cell.task)?.to_string());
            cells.push(CellLine { model, task, n: cell.n, run: cell.run, runs, done, state, worker });
        }
        Ok(Self { cells, workers, by_key })
    }

    /// Who has done a run.
    pub(super) fn worker_of(&self, key: &str) -> Option<&WorkerLine> {
        self.by_key.get(key).and_then(|&worker| self.workers.get(worker))
    }

    fn lives(&self) -> usize {
        self.workers.iter().filter(|worker| worker.lives).count()
    }

    /// Seconds left: the missing runs, by the mean time of those that workers have done, over the workers that live; none where nobody lives or nothing
    /// was done yet.
    pub(super) fn seconds_left(&self) -> Option<f64> {
        let (runs, seconds) = self.workers.iter().fold((0, 0.0), |all, worker| (all.0 + worker.about.runs, all.1 + worker.about.seconds));
        let missing: usize = self.cells.iter().map(|cell| cell.runs - cell.done).sum();
        (runs > 0 && self.lives() > 0).then(|| missing as f64 * seconds / runs as f64 / self.lives() as f64)
    }

    /// In words, for the heading of a study.
    pub(crate) fn words(&self) -> String {
        let of = |state: &str| self.cells.iter().filter(|cell| cell.state == state).count();
        let mut words = format!("; {} workers live", self.lives());
        for (state, what) in
            [("waiting", "cells wait"), ("held", "cells are held"), ("silent", "cells are held by workers that live no more")]
        {
            if of(state) > 0 {
                words.push_str(&format!(", {} {what}", of(state)));
            }
        }
        if let Some(seconds) = self.seconds_left().filter(|seconds| *seconds > 0.0) {
            words.push_str(&match seconds {
                seconds if seconds < 60.0 => format!(", about {seconds:.0} s left"),
                seconds if seconds < 3600.0 => format!(", about {:.0} min left", seconds / 60.0),
                _ => format!(", about {:.1} h left", seconds / 3600.0),
            });
        }
        let troubles: Vec<&str> = self.workers.iter().flat_map(|worker| worker.about.troubles.iter().map(String::as_str)).collect();
        if let Some(first) = troubles.first() {
            words.push_str(&format!(", {} troubles (`.workers()`), such as: {first}", troubles.len()));
        }
        words
    }
}

/// The time by the disk's clock, or by ours where nothing can be written.
fn now(place: &GridFolder) -> SystemTime {
    let made = tempfile::tempfile_in(place.workers()).and_then(|file| file.metadata()).and_then(|meta| meta.modified());
    made.unwrap_or_else(|_| SystemTime::now())
}
