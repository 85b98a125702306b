//! Pairs of results that differ in their method alone, and their values as means over runs and rows take them.

use std::collections::{HashMap, HashSet};

use crate::error::Result;
use crate::experiment::Method;
use crate::experiment::outcomes::Outcomes;
use crate::experiment::record::ModelId;
use crate::experiment::study::Row;
use crate::metric::{Binning, augrc_of, debiased_square, smooth_error, smooth_error_at};
use crate::sample;
use crate::statistics::crossing::{Crossing, Influences};
use crate::statistics::numbered::Numbered;

/// Parts into which rows fall by their digests, of which one at a time is left out where a number is not a mean over rows.
const PARTS: usize = 10;
pub(super) const BINNING: Binning = Binning::EqualMass(15);

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Accuracy,
    Brier,
    SmoothEce,
    DebiasedSquare,
    Augrc,
}

impl Value {
    pub(super) const ALL: [Self; 5] = [Self::Accuracy, Self::Brier, Self::SmoothEce, Self::DebiasedSquare, Self::Augrc];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Brier => "brier",
            Self::SmoothEce => "smooth_ece",
            Self::DebiasedSquare => "debiased_ce_15_squared",
            Self::Augrc => "augrc",
        }
    }

    /// Whether it is a mean over rows.
    pub(super) fn is_mean(self) -> bool {
        matches!(self, Self::Accuracy | Self::Brier)
    }
}

/// A result with its outcomes.
#[derive(Clone, Copy)]
pub(super) struct Outcome<'a> {
    pub row: Row<'a>,
    pub outcomes: &'a Outcomes,
}

/// Results of two methods that agree in all else; the first is the baseline's.
pub(super) type Pair<'a> = (Outcome<'a>, Outcome<'a>);

/// What two results must share to be paired.
type Key<'a> = (&'a ModelId, &'a str, &'a str, usize, u64);

fn key<'a>(row: &Row<'a>) -> Key<'a> {
    let run = row.run();
    (&run.model, &run.task, row.evaluated_on(), run.n, run.run)
}

/// The pairs of a method with the baseline, and the results of either that found no other.
pub(super) fn pairs<'a>(results: &[Outcome<'a>], baseline: Method, method: Method) -> (Vec<Pair<'a>>, usize) {
    let of = |method: Method| results.iter().enumerate().filter(move |(_, result)| result.row.run().method == method);
    let mut bases: HashMap<Key<'a>, Vec<usize>> = HashMap::new();
    for (at, result) in of(baseline) {
        bases.entry(key(&result.row)).or_default().push(at);
    }
    let (mut pairs, mut paired) = (Vec::new(), vec![false; results.len()]);
    for (at, result) in of(method) {
        for &base in bases.get(&key(&result.row)).map(Vec::as_slice).unwrap_or_default() {
            let (one, other) = (results[base].row.grid_adapter(), result.row.grid_adapter());
            let same_rows = results[base].outcomes.rows == result.outcomes.rows;
            // What trains nothing, or an adapter of its own, is compared with every adapter.
            if same_rows && (one == other || one.is_none() || other.is_none()) {
                pairs.push((results[base], *result));
                (paired[base], paired[at]) = (true, true);
            }
        }
    }
    let alone = of(baseline).chain(of(method)).filter(|(at, _)| !paired[*at]).count();
    let runs = several(pairs.iter().map(|pair| &pair.1));
    let all = pairs.len();
    pairs.retain(|pair| runs.contains(pair.1.row.run().task.as_str()));
    let alone = alone + 2 * (all - pairs.len());
    (pairs, alone)
}

/// The tasks with more than one run: a single one tells nothing of how much runs differ.
fn several<'r, 'a: 'r>(results: impl Iterator<Item = &'r Outcome<'a>>) -> HashSet<&'a str> {
    let mut runs: HashMap<&str, HashSet<u64>> = HashMap::new();
    for result in results {
        let run = result.row.run();
        runs.entry(&run.task).or_default().insert(run.run);
    }
    runs.into_iter().filter(|(_, runs)| runs.len() > 1).map(|(task, _)| task).collect()
}

/// A number of each row; none where outcomes have none.
pub(super) fn of_rows(outcomes: &Outcomes, value: Value) -> Option<Vec<f64>> {
    match value {
        Value::Brier => outcomes.brier(),
        _ => Some(outcomes.correct().map(|right| f64::from(u8::from(right))).collect()),
    }
}

/// A number of all rows, and its pseudo-value for each part, `P θ - (P - 1) θ_(-part)` (Tukey's jackknife).
fn of_parts(outcomes: &Outcomes, value: Value) -> Option<(f64, Vec<f64>)> {
    let rows: Vec<(f64, bool)> = outcomes.confidence()?.into_iter().zip(outcomes.correct()).collect();
    let bandwidth = if value == Value::SmoothEce { smooth_error(&rows).1 } else { 0.0 };
    let of = |rows: Vec<(f64, bool)>| match value {
        Value::SmoothEce => Some(smooth_error_at(&rows, bandwidth)),
        Value::DebiasedSquare => debiased_square(rows, BINNING).ok(),
        _ => Some(augrc_of(rows)),
    };
    let parts: Vec<usize> = outcomes.rows().map(part).collect();
    let left =
        |part: usize| -> Vec<(f64, bool)> { rows.iter().zip(&parts).filter(|(_, own)| **own != part).map(|(row, _)| *row).collect() };
    let whole = of(rows.clone())?;
    let pseudo = (0..PARTS).map(|part| {
        let left = left(part);
        let without = if left.is_empty() || left.len() == rows.len() { whole } else { of(left)? };
        Some(PARTS as f64 * whole - (PARTS - 1) as f64 * without)
    });
    Some((whole, pseudo.collect::<Option<_>>()?))
}

/// The part that a row belongs to.
fn part(digest: &str) -> usize {
    u64::from_str_radix(digest, 16).map_or(0, |digest| (digest % PARTS as u64) as usize)
}

/// A value of results, or of pairs of them, as a mean over runs and rows.
pub(super) struct Gathered {
    pub crossing: Crossing,
    pub influences: Influences,
}

/// Differences of pairs in a value; none where no pair has it.
pub(super) fn differences(pairs: &[Pair<'_>], value: Value) -> Result<Option<Gathered>> {
    let adapter = |(base, other): &Pair<'_>| other.row.grid_adapter().or_else(|| base.row.grid_adapter());
    gathered(
        pairs.iter().map(|pair| (&pair.1.row, adapter(pair), numbers(&[(-1.0, pair.0.outcomes), (1.0, pair.1.outcomes)], value))),
        value,
        pairs.iter().map(|pair| pair.1.outcomes),
    )
}

/// The levels of results in a value.
pub(super) fn levels(results: &[Outcome<'_>], value: Value) -> Result<Option<Gathered>> {
    let runs = several(results.iter());
    let results: Vec<&Outcome<'_>> = results.iter().filter(|result| runs.contains(result.row.run().task.as_str())).collect();
    let of = results.iter().map(|result| (&result.row, result.row.grid_adapter(), numbers(&[(1.0, result.outcomes)], value)));
    gathered(of, value, results.iter().map(|result| result.outcomes))
}

/// A number of all rows and one of each row or part: a sum of outcomes' numbers, each taken some times.
fn numbers(sum: &[(f64, &Outcomes)], value: Value) -> Option<(f64, Vec<f64>)> {
    let mut total: Option<(f64, Vec<f64>)> = None;
    for (times, outcomes) in sum {
        let (whole, each) = match value.is_mean() {
            true => {
                let each = of_rows(outcomes, value)?;
                (sample::mean(&each), each)
            }
            false => of_parts(outcomes, value)?,
        };
        match &mut total {
            None => total = Some((times * whole, each.iter().map(|one| times * one).collect())),
            Some((sum, sums)) => {
                *sum += times * whole;
                sums.iter_mut().zip(each).for_each(|(sum, one)| *sum += times * one);
            }
        }
    }
    total
}

type Numbers = Option<(f64, Vec<f64>)>;

fn gathered<'a, 'r: 'a>(
    results: impl Iterator<Item = (&'a Row<'r>, Option<String>, Numbers)>,
    value: Value,
    outcomes: impl Iterator<Item = &'a Outcomes>,
) -> Result<Option<Gathered>> {
    let (mut strata, mut runs, mut rows) = (Numbered::default(), Numbered::default(), Numbered::default());
    let (mut crossing, mut wholes) = (Crossing::default(), Vec::<(f64, f64)>::new());
    for ((row, adapter, numbers), outcomes) in results.zip(outcomes) {
        let Some((whole, each)) = numbers else { continue };
        let run = row.run();
        let stratum = strata.of(&(&run.model, run.task.as_str(), row.evaluated_on(), run.n, adapter));
        if stratum == wholes.len() {
            wholes.push((0.0, 0.0));
        }
        wholes[stratum].0 += whole;
        wholes[stratum].1 += 1.0;
        // Models, N, adapters and tests of a run share its draw of data.
        let run = runs.of(&(run.task.as_str(), run.run));
        if value.is_mean() {
            for (number, digest) in each.into_iter().zip(outcomes.rows()) {
                crossing.push(number, stratum, run, rows.of(&(row.evaluated_on(), digest.to_string())));
            }
        } else {
            for (part, number) in each.into_iter().enumerate() {
                crossing.push(number, stratum, run, rows.of(&(row.evaluated_on(), part.to_string())));
            }
        }
    }
    if crossing.values.is_empty() {
        return Ok(None);
    }
    let mut influences = crossing.influences()?;
    if !value.is_mean() {
        // The mean of pseudo-values is another estimate, and for an absolute value a worse one.
        influences.mean = wholes.iter().map(|(sum, count)| sum / count).sum::<f64>() / wholes.len() as f64;
    }
    Ok(Some(Gathered { crossing, influences }))
}
