//! What an experiment will take, before it is run.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use polars::prelude::*;

use super::cell::{Cell, excused};
use super::record::Run;
use super::{Demonstrations, Experiment, Method};
use crate::adapter::Adapter;
use crate::compat::Compat;
use crate::dataset::SHOWN_AT_MOST;
use crate::display::{Bundle, Show, headed};
use crate::error::Result;
use crate::evaluate::evaluate;
use crate::libtorch::door;
use crate::objective::Sft;
use crate::train::{BATCH, CHECK_EVERY, Training};

/// Steps that are timed.
const STEPS: u64 = 8;
/// Queries that are timed.
const QUERIES: usize = 16;
/// A forward takes about a third of what a forward with its backward takes.
const FORWARD: f64 = 1.0 / 3.0;
/// A record, and an adapter's manifest and history.
const RECORD_BYTES: u64 = 4 << 10;
const HISTORY_BYTES: u64 = 24 << 10;

/// What an experiment will take: a dry run.
///
/// Times are extrapolated from 8 steps of SFT and 16 queries, timed on this machine for each model and task just now, and are upper bounds
/// in one respect: every training is counted with all its epochs, while most stop early. Evaluation under ICL counts demonstrations once where all queries share them.
#[derive(Clone, Debug)]
pub struct Plan {
    rows: Vec<Line>,
    refused: usize,
}

#[derive(Clone, Debug)]
struct Line {
    model: String,
    task: String,
    n: usize,
    runs: usize,
    done: usize,
    trainings: usize,
    training_seconds: f64,
    other_seconds: f64,
    bytes: u64,
    /// Why there are no times.
    note: Option<String>,
}

/// Seconds of one model on one task.
#[derive(Clone, Copy, Default)]
struct Timed {
    /// One example, forward and backward.
    example: f64,
    /// One query.
    query: f64,
}

impl Experiment {
    /// Predicts runs, hours and disk of what is not done yet, from a short timed sample.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn plan(&self) -> Result<Plan> {
        door("planning an experiment", || {
            let folder = self.folder.as_deref();
            let mut rows: Vec<Line> = Vec::new();
            let mut timed: HashMap<(String, String), Result<Timed, String>> = HashMap::new();
            let grid = self.grid()?;
            for cell in &grid.cells {
                let missing = missing(cell, folder)?;
                let key = (format!("{:?}", cell.model), cell.split.task.clone());
                if !missing.is_empty() && !timed.contains_key(&key) {
                    timed.insert(key.clone(), self.time(cell).map(Ok).or_else(excused)?);
                }
                let line = self.line(cell, &missing, timed.get(&key).unwrap_or(&Ok(Timed::default())))?;
                match rows.iter_mut().find(|row| row.model == line.model && row.task == line.task && row.n == line.n) {
                    Some(row) => row.add(&line),
                    None => rows.push(line),
                }
            }
            Ok(Plan { rows, refused: grid.refused.len() })
        })
    }

    fn time(&self, cell: &Cell<'_>) -> Result<Timed> {
        let training = |steps| {
            let training = Training::new(self.adapters[0].clone(), Sft::gold()).epochs(STEPS).patience(STEPS);
            training.at_most_steps(steps).run(cell.model, &cell.split)
        };
        // The first step of a process pays for what later ones find warm.
        training(1)?;
        let began = Instant::now();
        let steps = training(STEPS)?.steps().max(1);
        let seconds = began.elapsed().as_secs_f64() / steps as f64;
        let queries = cell.split.test.take(QUERIES);
        let began = Instant::now();
        evaluate(cell.model, &queries.zero_shot()?)?;
        let query = began.elapsed().as_secs_f64() / queries.len() as f64;
        Ok(Timed { example: seconds / examples_of_step(cell.split.train.len(), cell.split.dev.len()), query })
    }

    fn line(&self, cell: &Cell<'_>, missing: &[&Run], time: &Result<Timed, String>) -> Result<Line> {
        let (n, dev) = (cell.split.train.len(), cell.split.dev.len());
        let (time, note) = match time {
            Ok(time) => (*time, None),
            Err(message) => (Timed::default(), Some(message.clone())),
        };
        let steps = self.epochs as f64 * n.div_ceil(BATCH) as f64;
        let training = steps * examples_of_step(n, dev) * time.example;
        let trainings: Vec<_> = missing.iter().filter_map(|run| run.training.as_ref()).collect();
        let asked: usize = cell.tests.iter().map(|test| test.len()).sum();
        let compared: usize = cell.tests.iter().map(|test| test.compared()).sum();
        // Each run is asked everything, and compared at the answers of the first queries.
        let mut other = missing.len() as f64 * (asked + compared) as f64 * time.query;
        // Demonstrations that all queries share are read once.
        let shown = match self.demonstrations {
            Demonstrations::Same => n,
            Demonstrations::PerQuery => n.saturating_sub(1).min(SHOWN_AT_MOST) * asked,
        };
        if missing.iter().any(|run| run.method == Method::Icl) {
            other += shown as f64 * time.query;
        }
        if missing.iter().any(|run| run.method.needs_targets()) {
            // Each of n + dev prompts has n - 1 demonstrations and a query; of a tree's orders each level reads n of them.
            let levels = match self.compat {
                Compat::Paper => n + dev,
                Compat::Corrected => n.next_power_of_two().ilog2() as usize + 1,
            };
            other += (levels * n + n + dev) as f64 * time.query;
        }
        let mut bytes = missing.len() as u64 * RECORD_BYTES;
        for config in &self.adapters {
            let own = trainings.iter().filter(|training| training.adapter == *config).count() as u64;
            bytes += own * (Adapter::new(cell.model, config.clone(), 0)?.count() as u64 * 4 + HISTORY_BYTES);
        }
        Ok(Line {
            model: super::record::name(cell.model),
            task: cell.split.task.clone(),
            n,
            runs: cell.runs.len(),
            done: cell.runs.len() - missing.len(),
            trainings: trainings.len(),
            training_seconds: trainings.len() as f64 * training,
            other_seconds: other,
            bytes,
            note,
        })
    }
}

/// Runs of a cell that are not done yet.
fn missing<'c>(cell: &'c Cell<'_>, folder: Option<&Path>) -> Result<Vec<&'c Run>> {
    let mut missing = Vec::new();
    for run in &cell.runs {
        let done = match folder {
            Some(folder) => cell.is_done(folder, run)?,
            None => false,
        };
        if !done {
            missing.push(run);
        }
    }
    Ok(missing)
}

/// What one step costs in examples trained: its own, and its share of the next look at the dev set.
fn examples_of_step(n: usize, dev: usize) -> f64 {
    n.min(BATCH) as f64 + dev as f64 * FORWARD / CHECK_EVERY as f64
}

impl Line {
    fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.done += other.done;
        self.trainings += other.trainings;
        self.training_seconds += other.training_seconds;
        self.other_seconds += other.other_seconds;
        self.bytes += other.bytes;
    }
}

impl Plan {
    /// Runs that are not done yet.
    pub fn missing(&self) -> usize {
        self.rows.iter().map(|row| row.runs - row.done).sum()
    }

    /// Runs that cannot be done: their task has too few rows for their N.
    pub fn refused(&self) -> usize {
        self.refused
    }

    /// Hours at most, if no training stopped early, of what could be timed.
    pub fn hours(&self) -> f64 {
        self.rows.iter().map(|row| row.training_seconds + row.other_seconds).sum::<f64>() / 3600.0
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.rows.iter().map(|row| row.bytes).sum()
    }

    /// One row per model, task and N: `model`, `task`, `n`, `runs`, `done`, `trainings` (to do), `training_hours` (at most: all epochs),
    /// `other_hours` (targets, evaluations, asim), `megabytes`, and `note`, why the sample failed where it did: then hours are null, and in no sum.
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn frame(&self) -> Result<DataFrame> {
        let counts = |value: fn(&Line) -> usize| self.rows.iter().map(|row| value(row) as u32).collect::<Vec<_>>();
        let hours = |seconds: fn(&Line) -> f64| {
            self.rows.iter().map(|row| row.note.is_none().then(|| seconds(row) / 3600.0)).collect::<Vec<Option<f64>>>()
        };
        Ok(df!(
            "model" => self.rows.iter().map(|row| row.model.as_str()).collect::<Vec<_>>(),
            "task" => self.rows.iter().map(|row| row.task.as_str()).collect::<Vec<_>>(),
            "n" => counts(|row| row.n),
            "runs" => counts(|row| row.runs),
            "done" => counts(|row| row.done),
            "trainings" => counts(|row| row.trainings),
            "training_hours" => hours(|row| row.training_seconds),
            "other_hours" => hours(|row| row.other_seconds),
            "megabytes" => self.rows.iter().map(|row| row.bytes as f64 / 1e6).collect::<Vec<_>>(),
            "note" => self.rows.iter().map(|row| row.note.as_deref()).collect::<Vec<_>>(),
        )?)
    }
}

impl Show for Plan {
    fn bundle(&self) -> Bundle {
        let (missing, hours, megabytes) = (self.missing(), self.hours(), self.bytes() as f64 / 1e6);
        let runs: usize = self.rows.iter().map(|row| row.runs).sum();
        let refused = match self.refused {
            0 => String::new(),
            refused => format!(" ({refused} more cannot be done: too few rows for their N)"),
        };
        if missing == 0 {
            return headed(&format!("Plan: nothing to run, all {runs} runs are done{refused}"), self.frame());
        }
        let time = match hours * 3600.0 {
            seconds if seconds < 60.0 => format!("{seconds:.0} s"),
            seconds if seconds < 3600.0 => format!("{:.1} min", seconds / 60.0),
            _ => format!("{hours:.1} h"),
        };
        let untimed = if self.rows.iter().any(|row| row.note.is_some()) { " where it could be timed" } else { "" };
        let heading = format!(
            "Plan: {missing} of {runs} runs to do{refused}, about {time}{untimed} and less where trainings stop early (extrapolated from {STEPS} timed steps and {QUERIES} queries per model and \
             task), {megabytes:.1} MB"
        );
        headed(&heading, self.frame())
    }
}
