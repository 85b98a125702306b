//! How many rows of each file are kept, and why the others are not.

use std::collections::HashMap;
use std::path::PathBuf;

use polars::prelude::*;

use crate::error::Result;
use crate::prompt::{AnswerForm, Example};

/// The reasons for rows that ask what an earlier one asks: with its gold, and with another one.
const REPEATED: &str = "the query of an earlier row";
const DISPUTED: &str = "the query of an earlier row, with another gold";

/// One query with two golds.
#[derive(Clone, Debug)]
pub(super) struct Dispute {
    query: String,
    kept: String,
    other: String,
}

/// Keeps the first of the rows that ask the same, and notes those that answer it otherwise.
#[derive(Default)]
pub(super) struct DuplicateFilter {
    golds: HashMap<String, String>,
    pub disputes: Vec<Dispute>,
}

impl DuplicateFilter {
    /// What becomes of a row. Golds are compared by the answer that is read in them: two ways to one result are no dispute.
    pub(super) fn outcome(&mut self, row: &Example, form: &AnswerForm) -> Outcome {
        let Some(kept) = self.golds.get(&row.query) else {
            self.golds.insert(row.query.clone(), row.gold.clone());
            return Outcome::Kept;
        };
        let read = |gold: &str| form.gold(gold).unwrap_or_else(|| gold.to_owned());
        if read(kept) == read(&row.gold) {
            return Outcome::Dropped(REPEATED);
        }
        self.disputes.push(Dispute { query: row.query.clone(), kept: kept.clone(), other: row.gold.clone() });
        Outcome::Dropped(DISPUTED)
    }
}

/// One row per dispute: `query`, `gold` (kept), `other` (left out).
pub(super) fn disputed(disputes: &[Dispute]) -> Result<DataFrame> {
    let column = |text: fn(&Dispute) -> &str| disputes.iter().map(text).collect::<Vec<_>>();
    Ok(df!(
        "query" => column(|dispute| &dispute.query),
        "gold" => column(|dispute| &dispute.kept),
        "other" => column(|dispute| &dispute.other),
    )?)
}

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
        match self.outcome.iter_mut().find(|(own, _)| *own == outcome) {
            Some((_, count)) => *count += 1,
            None => self.outcome.push((outcome, 1)),
        }
    }

    /// How many rows were left out because an earlier one asks the same.
    pub(super) fn repeated(&self) -> usize {
        let repeats = |outcome: Outcome| [REPEATED, DISPUTED].map(Outcome::Dropped).contains(&outcome);
        self.outcome.iter().filter(|(outcome, _)| repeats(*outcome)).map(|(_, rows)| *rows as usize).sum()
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
