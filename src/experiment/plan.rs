//! What an experiment will take, before it is run.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use polars::prelude::*;

use super::cell::{Cell, excused};
use super::grid::CellOutline;
use super::record::Run;
use super::{Demonstrations, Experiment, Rollouts, effects, protocol};
use crate::adapter::AdapterConfig;
use crate::compat::Compat;
use crate::dataset::{SHOWN_AT_MOST, Split};
use crate::display::{Bundle, Show, headed};
use crate::error::{Error, Result};
use crate::evaluate::evaluate;
use crate::interrupt;
use crate::libtorch::{self, guarded};
use crate::model::Model;
use crate::objective::Sft;
use crate::prompt::Examples;
use crate::train::{BATCH, CHECK_EVERY, Training};

/// Steps that are timed, their examples, and the time after which no other is begun.
const STEPS: u64 = 4;
const EXAMPLES: usize = 2;
const STEPS_FOR: Duration = Duration::from_secs(2);
/// Queries that are timed.
const QUERIES: usize = 4;
/// Of answers that are generated, tokens that are timed, and queries.
const TOKENS: usize = 8;
const FREE_QUERIES: usize = 2;
/// Rows whose lengths stand for those of their task.
const ROWS: usize = 64;
/// A forward takes about a third of what a forward with its backward takes.
const FORWARD: f64 = 1.0 / 3.0;
/// A search for a vector takes about as long on a dev query as this many queries.
const SEARCH: f64 = 10.0;
/// A record, and an adapter's manifest and history.
const RECORD_BYTES: u64 = 4 << 10;
const HISTORY_BYTES: u64 = 24 << 10;

/// A time as people say it.
pub(super) fn words_of(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 60.0 => format!("{seconds:.0} s"),
        seconds if seconds < 3600.0 => format!("{:.1} min", seconds / 60.0),
        seconds => format!("{:.1} h", seconds / 3600.0),
    }
}

/// What an experiment will take: a dry run.
///
/// Times are extrapolated by the lengths of each task's rows from a few seconds of each model: up to 4 steps of SFT (begun within 2 seconds) and 4 queries, and
/// 8 tokens of 2 answers where answers are generated, timed on this machine just now. They are upper bounds in two respects: every training is
/// counted with all its epochs, while most stop early, and every generated answer with as many tokens as its form allows. Evaluation under ICL
/// counts demonstrations once where all queries share them. Core-hours are hours times the threads of this process
/// ([`libtorch::threads`](crate::libtorch::threads)).
#[derive(Clone, Debug)]
pub struct Plan {
    rows: Vec<Line>,
    /// What is not done as it is by default, in words.
    notes: Vec<String>,
    refused: usize,
    threads: usize,
}

#[derive(Clone, Debug)]
struct Line {
    model: usize,
    name: String,
    task: String,
    n: usize,
    cells: usize,
    runs: usize,
    done: usize,
    trainings: usize,
    training_seconds: f64,
    other_seconds: f64,
    bytes: u64,
    /// The longest cell.
    longest: f64,
    /// Why there are no times.
    note: Option<String>,
}

/// Seconds of one model on one task.
#[derive(Clone, Copy, Default)]
struct Timed {
    /// One example, forward and backward.
    example: f64,
    /// One query with its answer.
    query: f64,
}

/// What was timed so far.
#[derive(Default)]
struct Clock {
    paces: HashMap<usize, Pace>,
    task: HashMap<(usize, usize), Result<Timed, String>>,
    /// Bytes of an adapter of each model, by its name.
    adapters: HashMap<(usize, String), u64>,
}

/// Seconds of one model for a token, each timed once, on the first task that lets it.
#[derive(Default)]
struct Pace {
    /// Forward and backward of an example.
    learned: Option<f64>,
    /// Of a query with its answer, where that is a label.
    read: Option<f64>,
    /// Of an answer that is generated.
    written: Option<f64>,
}

impl Experiment {
    /// Predicts runs, core-hours and disk of what is not done yet, in all and for a cell, from a few timed steps of each model, however many tasks there
    /// are. On a real model this takes seconds; a model that is not open yet is opened.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn plan(&self) -> Result<Plan> {
        guarded("planning an experiment", || {
            let mut rows: Vec<Line> = Vec::new();
            let mut clock = Clock::default();
            let grid = self.grid()?;
            for (place, sketch) in grid.cells.iter().enumerate() {
                interrupt::at(place as u64, grid.cells.len() as u64, "cells")?;
                let runs = grid.runs(sketch)?;
                let missing = match &self.folder {
                    Some(folder) => grid.missing(folder, sketch)?,
                    None => runs.clone(),
                };
                let key = (sketch.model, sketch.task);
                if !missing.is_empty() && !clock.task.contains_key(&key) {
                    let timed = clock.time(sketch.model, &grid.cell(sketch)?, &self.settings.adapters)?;
                    clock.task.insert(key, timed);
                }
                let mut line = Line {
                    model: sketch.model,
                    name: grid.model(sketch.model)?.name(),
                    task: grid.task(sketch.task)?.into(),
                    n: sketch.n,
                    cells: usize::from(!missing.is_empty()),
                    runs: runs.len(),
                    done: runs.len() - missing.len(),
                    trainings: 0,
                    training_seconds: 0.0,
                    other_seconds: 0.0,
                    bytes: 0,
                    longest: 0.0,
                    note: None,
                };
                if !missing.is_empty() {
                    let model = grid.model(sketch.model)?.get()?;
                    for training in missing.iter().filter(|run| run.method.is_trained()).filter_map(|run| run.training.as_ref()) {
                        line.bytes += HISTORY_BYTES + clock.adapter(sketch.model, model, &training.adapter)?;
                    }
                    self.fill(&mut line, sketch, &missing, clock.task.get(&key));
                }
                match rows.iter_mut().find(|row| row.model == line.model && row.task == line.task && row.n == line.n) {
                    Some(row) => row.add(&line),
                    None => rows.push(line),
                }
            }
            Ok(Plan {
                rows,
                notes: protocol::notes(self, &grid.said),
                refused: grid.refused.iter().map(|refused| grid.refused_runs(refused).map(|runs| runs.len())).sum::<Result<_>>()?,
                threads: libtorch::threads(),
            })
        })
    }

    fn fill(&self, line: &mut Line, cell: &CellOutline, missing: &[Run], timed: Option<&Result<Timed, String>>) {
        let settings = &self.settings;
        let (n, dev) = (cell.n, settings.dev.unwrap_or_else(|| Split::dev_of(cell.n)));
        let time = match timed {
            Some(Ok(time)) => *time,
            Some(Err(message)) => {
                line.note = Some(message.clone());
                Timed::default()
            }
            None => Timed::default(),
        };
        let forward = time.example * FORWARD;
        // A step costs its own examples, and its share of the next look at the dev set.
        let step = n.min(BATCH) as f64 + dev as f64 * FORWARD / CHECK_EVERY as f64;
        let training = settings.epochs as f64 * n.div_ceil(BATCH) as f64 * step * time.example;
        let trainings = missing.iter().filter(|run| run.method.is_trained()).count();
        // On policy each example is answered first and read once more; its demonstrations are read once.
        let looked = settings.epochs as f64 * n.div_ceil(BATCH) as f64 * (n.min(BATCH) as f64 + dev as f64 / CHECK_EVERY as f64);
        let contexts = (n + dev) as f64 * n.saturating_sub(1).min(SHOWN_AT_MOST) as f64 * forward;
        let on_policy = missing.iter().filter(|run| run.method.objective().is_some_and(|objective| objective.on_policy)).count() as f64;
        let on_policy = on_policy * (looked * (time.query + forward) + contexts);
        let tests = cell.tests.len();
        let asked: usize = cell.asked.iter().sum();
        let compared: usize = cell.asked.iter().map(|&asked| asked.min(settings.compared_at_most)).sum();
        // Each run is asked everything, and compared at the answers of the first queries.
        let comparing = if settings.rollouts == Rollouts::Own { time.query } else { forward };
        // Drift is read at answers of its own, unless they have one token.
        let drift = if settings.measures(effects::DRIFT) { forward } else { 0.0 };
        let mut other = missing.len() as f64 * (asked as f64 * time.query + compared as f64 * (comparing + drift));
        // Another task is taken to be like the own one: asked under ICL, and alone for its drift.
        if cell.elsewhere.is_some() {
            let trained = missing.iter().filter(|run| run.method.is_trained()).count() as f64;
            let (asked, n) = (cell.asked.first().copied().unwrap_or(0) as f64, n as f64);
            other += (trained + 1.0) * (asked * time.query + n * forward + asked.min(settings.compared_at_most as f64) * forward);
        }
        // Demonstrations that all queries share are read once.
        let shown = match settings.demonstrations {
            Demonstrations::Same => n * tests,
            Demonstrations::PerQuery => n.saturating_sub(1).min(SHOWN_AT_MOST) * asked,
        };
        if missing.iter().any(|run| run.method.is_under_icl()) {
            other += shown as f64 * forward;
        }
        if missing.iter().any(|run| run.method.needs_targets()) {
            // In independent orders each of n + dev prompts has n - 1 demonstrations; of a tree's orders each level reads n of them.
            let demonstrations = match settings.compat {
                Compat::Paper => (n + dev) * n.saturating_sub(1).min(SHOWN_AT_MOST),
                Compat::Corrected => n * (n.next_power_of_two().ilog2() as usize + 1),
            };
            other += demonstrations as f64 * forward + (n + dev) as f64 * time.query;
        }
        // A search for a vector reads the demonstrations, and dev's last tokens again for each candidate.
        let searches = missing.iter().filter(|run| run.method.vector().is_some()).count() as f64;
        other += searches * ((n * n + 4 * n) as f64 * forward + dev as f64 * time.query * SEARCH);
        line.bytes += missing.len() as u64 * RECORD_BYTES;
        (line.trainings, line.training_seconds, line.other_seconds) = (trainings, trainings as f64 * training + on_policy, other);
        line.longest = line.training_seconds + other;
    }
}

impl Clock {
    /// The times of a model on a cell's task, or why there are none.
    fn time(&mut self, place: usize, cell: &Cell<'_>, adapters: &[AdapterConfig]) -> Result<Result<Timed, String>> {
        let pace = self.paces.entry(place).or_default();
        pace.time(cell.model, &cell.split, adapters).map(Ok).or_else(excused)
    }

    fn adapter(&mut self, place: usize, model: &Model, config: &AdapterConfig) -> Result<u64> {
        match self.adapters.entry((place, config.name())) {
            Entry::Occupied(there) => Ok(*there.get()),
            Entry::Vacant(none) => Ok(*none.insert(config.count(model)? as u64 * 4)),
        }
    }
}

impl Pace {
    /// By the lengths of this task's rows.
    fn time(&mut self, model: &Model, split: &Split, adapters: &[AdapterConfig]) -> Result<Timed> {
        let queries = mean(&model.encode(&split.test.take(ROWS).zero_shot()?)?);
        let solved = split.train.rows().iter().chain(split.test.rows()).map(|row| row.solved());
        let example = mean(&solved.take(ROWS).map(|text| model.tokenizer()?.encode(&text)).collect::<Result<Vec<_>>>()?);
        let adapter = adapters.first().ok_or_else(|| Error::internal("an experiment without adapters"))?;
        let learned = once(&mut self.learned, || Ok(step(model, split, adapter)? / example))?;
        let read = once(&mut self.read, || Ok(query(model, &split.test.take(QUERIES), 1)? / queries))?;
        let form = split.test.form();
        let most = if form.label_set().is_empty() { form.max_new_tokens() } else { 1 };
        let written = match most {
            1 => 0.0,
            _ => once(&mut self.written, || {
                let some = TOKENS.min(most);
                let alone = query(model, &split.test.take(FREE_QUERIES), 1)?;
                Ok((query(model, &split.test.take(FREE_QUERIES), some)? - alone).max(0.0) / (some - 1) as f64)
            })?,
        };
        Ok(Timed { example: learned * example, query: read * queries + written * (most - 1) as f64 })
    }
}

/// The value, made if it is not there yet. What fails is tried again on the next task.
fn once(value: &mut Option<f64>, make: impl FnOnce() -> Result<f64>) -> Result<f64> {
    let made = value.map_or_else(make, Ok)?;
    *value = Some(made);
    Ok(made)
}

/// The mean number of tokens.
fn mean(rows: &[Vec<u32>]) -> f64 {
    (rows.iter().map(Vec::len).sum::<usize>() as f64 / rows.len().max(1) as f64).max(1.0)
}

/// Seconds for an example of a step.
fn step(model: &Model, split: &Split, adapter: &AdapterConfig) -> Result<f64> {
    let split = |rows| Split { train: split.train.take(rows), dev: split.dev.take(1), ..split.clone() };
    let training = |split: &Split, steps| {
        let training = Training::new(adapter.clone(), Sft::gold()).epochs(STEPS).patience(STEPS).check_every(STEPS);
        training.at_most_steps(steps).at_most(STEPS_FOR).run(model, split)
    };
    // The first step of a process pays for what later ones find warm.
    training(&split(1), 1)?;
    let split = split(EXAMPLES);
    let began = Instant::now();
    let steps = training(&split, STEPS)?.steps().max(1);
    let examples = steps as f64 * (split.train.len() as f64 + split.dev.len() as f64 * FORWARD);
    Ok(began.elapsed().as_secs_f64() / examples)
}

/// Seconds for a query whose answer has at most `tokens` tokens.
fn query(model: &Model, queries: &Examples, tokens: usize) -> Result<f64> {
    let prompts = queries.zero_shot()?;
    let form = prompts.form().clone().at_most(tokens)?;
    let began = Instant::now();
    evaluate(model, &prompts.with_form(form))?;
    Ok(began.elapsed().as_secs_f64() / queries.len().max(1) as f64)
}

impl Line {
    fn add(&mut self, other: &Self) {
        self.cells += other.cells;
        self.runs += other.runs;
        self.done += other.done;
        self.trainings += other.trainings;
        self.training_seconds += other.training_seconds;
        self.other_seconds += other.other_seconds;
        self.bytes += other.bytes;
        self.longest = self.longest.max(other.longest);
        self.note = self.note.take().or_else(|| other.note.clone());
    }
}

impl Line {
    /// Of one of its cells.
    fn core_hours(&self, threads: usize) -> f64 {
        (self.training_seconds + self.other_seconds) / 3600.0 * threads as f64 / self.cells.max(1) as f64
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

    /// Hours at most, one run after the other, if no training stopped early, of what could be timed.
    pub fn hours(&self) -> f64 {
        self.rows.iter().map(|row| row.training_seconds + row.other_seconds).sum::<f64>() / 3600.0
    }

    /// [`hours`](Self::hours) times threads.
    pub fn core_hours(&self) -> f64 {
        self.hours() * self.threads as f64
    }

    /// Hours of the longest cell, which one worker does: a job whose time is shorter goes on in the next one from a checkpoint.
    pub fn longest_cell(&self) -> f64 {
        self.rows.iter().map(|row| row.longest).fold(0.0, f64::max) / 3600.0
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.rows.iter().map(|row| row.bytes).sum()
    }

    /// One row per model, task and N: `model`, `task`, `n`, `runs`, `done`, `trainings` (to do), `training_hours` (at most: all epochs),
    /// `other_hours` (targets, evaluations, asim), `megabytes`, `cells` (with something to do), `core_hours_per_cell`, `megabytes_per_cell`, and `note`, why
    /// the sample failed where it did: then hours are null, and in no sum.
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn frame(&self) -> Result<DataFrame> {
        let counts = |value: fn(&Line) -> usize| self.rows.iter().map(|row| value(row) as u32).collect::<Vec<_>>();
        let hours = |seconds: fn(&Line) -> f64| {
            self.rows.iter().map(|row| row.note.is_none().then(|| seconds(row) / 3600.0)).collect::<Vec<Option<f64>>>()
        };
        Ok(df!(
            "model" => self.rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(),
            "task" => self.rows.iter().map(|row| row.task.as_str()).collect::<Vec<_>>(),
            "n" => counts(|row| row.n),
            "runs" => counts(|row| row.runs),
            "done" => counts(|row| row.done),
            "trainings" => counts(|row| row.trainings),
            "training_hours" => hours(|row| row.training_seconds),
            "other_hours" => hours(|row| row.other_seconds),
            "megabytes" => self.rows.iter().map(|row| row.bytes as f64 / 1e6).collect::<Vec<_>>(),
            "cells" => counts(|row| row.cells),
            "core_hours_per_cell" => self.rows.iter().map(|row| (row.note.is_none() && row.cells > 0).then(|| row.core_hours(self.threads))).collect::<Vec<_>>(),
            "megabytes_per_cell" => self.rows.iter().map(|row| row.bytes as f64 / 1e6 / row.cells.max(1) as f64).collect::<Vec<_>>(),
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
        let notes = self.notes.iter().map(|note| format!("; {note}")).collect::<String>();
        if missing == 0 {
            return headed(&format!("Plan: nothing to run, all {runs} runs are done{refused}{notes}"), self.frame());
        }
        let time = words_of(hours * 3600.0);
        let untimed = if self.rows.iter().any(|row| row.note.is_some()) { " where it could be timed" } else { "" };
        let heading = format!(
            "Plan: {missing} of {runs} runs to do{refused}, about {time}{untimed} with {} threads and less where trainings stop early (extrapolated from a few \
             timed steps and queries of each model), {megabytes:.1} MB{notes}",
            self.threads
        );
        headed(&heading, self.frame())
    }
}

#[cfg(test)]
mod tests;
