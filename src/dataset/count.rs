//! How many rows of each file are kept, and why the others are not.

use std::path::PathBuf;

use polars::prelude::*;

use crate::error::Result;

/// The reason for rows that ask what an earlier one asks.
pub(super) const REPEATED: &str = "the query of an earlier row";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Kept,
    Dropped(&'static str),
}

/// The rows of one file, or of one folder of small files, by outcome.
#[derive(Clone, Debug)]
pub(super) struct Count {
    file: PathBuf,
    part: &'static str,
    used: &'static str,
    outcome: Vec<(Outcome, u32)>,
}

impl Count {
    pub(super) fn of(file: impl Into<PathBuf>, part: &'static str, used: &'static str) -> Self {
        Self { file: file.into(), part, used, outcome: vec![(Outcome::Kept, 0)] }
    }

    pub(super) fn add(&mut self, outcome: Outcome) {
        self.add_many(outcome, 1);
    }

    pub(super) fn add_many(&mut self, outcome: Outcome, rows: usize) {
        match self.outcome.iter_mut().find(|(own, _)| *own == outcome) {
            Some((_, count)) => *count += rows as u32,
            None => self.outcome.push((outcome, rows as u32)),
        }
    }

    /// How many rows were left out because an earlier one asks the same.
    pub(super) fn repeated(&self) -> usize {
        self.outcome.iter().filter(|(outcome, _)| *outcome == Outcome::Dropped(REPEATED)).map(|(_, rows)| *rows as usize).sum()
    }
}

/// One row per file and outcome: `file`, `part` (as published), `use` (learn or test), `outcome` (kept or dropped), `reason`, `row`.
pub(super) fn frame(counts: &[Count]) -> Result<DataFrame> {
    let rows: Vec<(&Count, Outcome, u32)> =
        counts.iter().flat_map(|count| count.outcome.iter().map(move |(outcome, rows)| (count, *outcome, *rows))).collect();
    let outcome = |outcome: Outcome| match outcome {
        Outcome::Kept => ("kept", ""),
        Outcome::Dropped(reason) => ("dropped", reason),
    };
    Ok(df!(
        "file" => rows.iter().map(|(count, ..)| count.file.display().to_string()).collect::<Vec<_>>(),
        "part" => rows.iter().map(|(count, ..)| count.part).collect::<Vec<_>>(),
        "use" => rows.iter().map(|(count, ..)| count.used).collect::<Vec<_>>(),
        "outcome" => rows.iter().map(|row| outcome(row.1).0).collect::<Vec<_>>(),
        "reason" => rows.iter().map(|row| outcome(row.1).1).collect::<Vec<_>>(),
        "row" => rows.iter().map(|row| row.2).collect::<Vec<_>>(),
    )?)
}
