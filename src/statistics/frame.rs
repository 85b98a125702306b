//! Tests and intervals of a frame of runs.

use std::collections::HashMap;

use polars::prelude::*;

use super::{cohen_dz, holm_of_defined, mean_interval, paired_t, rank_biserial, wilcoxon};
use crate::error::{Error, Result};
use crate::frame::{cells, finite_numbers};
use crate::interrupt;
use crate::sample::mean;

/// One row per method and run: the mean of each value over the rows that share `by` (the method) and `keys` (what names an independent run),
/// in the order they first occur. Columns: those of `by` and `keys` as text, `rows` (how many were averaged), and `values`.
///
/// What depends on the same draw of data (other N of the same seed, other tests of the same training) is to be averaged before it is
/// tested: see the [module](super). The methods' rows should be matched first: a mean over other rows is of another thing.
///
/// # Errors
/// A column that is not there; a value that is null, not a number or not finite; no rows.
pub fn averaged(frame: &DataFrame, by: &str, keys: &[&str], values: &[&str]) -> Result<DataFrame> {
    if keys.is_empty() || values.is_empty() || frame.height() == 0 {
        return Err(Error::input("averages need at least one column that names the run, one of values, and one row"));
    }
    let names: Vec<&str> = std::iter::once(by).chain(keys.iter().copied()).collect();
    let numbers = values.iter().map(|value| finite_numbers(frame, value)).collect::<Result<Vec<_>>>()?;
    let rows = cells(frame, &names)?;
    let mut places: HashMap<&[String], usize> = HashMap::new();
    let mut groups: Vec<(&[String], Vec<usize>)> = Vec::new();
    for (row, name) in rows.iter().enumerate() {
        let place = *places.entry(name).or_insert(groups.len());
        if place == groups.len() {
            groups.push((name, Vec::new()));
        }
        groups[place].1.push(row);
    }
    let named = |place: usize| groups.iter().map(|(name, _)| name[place].as_str()).collect::<Vec<_>>();
    let mut columns: Vec<Column> = names.iter().enumerate().map(|(place, name)| Column::new((*name).into(), named(place))).collect();
    columns.push(Column::new("rows".into(), groups.iter().map(|(_, rows)| rows.len() as u32).collect::<Vec<_>>()));
    for (value, numbers) in values.iter().zip(&numbers) {
        let of = |rows: &Vec<usize>| mean(&rows.iter().map(|&row| numbers[row]).collect::<Vec<_>>());
        columns.push(Column::new((*value).into(), groups.iter().map(|(_, rows)| of(rows)).collect::<Vec<_>>()));
    }
    Ok(DataFrame::new(groups.len(), columns)?)
}

/// Paired comparisons of methods: one row per pair of methods and value column.
///
/// `frame` has one row per run and method. `by` is the column that names the method; `pairs` are (first, second); `keys` are the columns that
/// together name a run, by which rows of the two methods are matched; `values` are the columns compared. Runs are taken to be independent
/// of each other: where rows share a draw of data, make one of each run by [`averaged`] first.
///
/// Columns: `first`, `second`, `value` (the column's name), `pairs`, `mean_first`, `mean_second`, `difference` (second less first), `lower`,
/// `upper` (t interval of the difference at `level`), `t`, `p_t`, `d_z`, `w` (lesser rank sum), `p_wilcoxon`, `exact` (was it counted out),
/// `rank_biserial`, `p_t_holm`, `p_wilcoxon_holm` (corrected over all rows of this call) and `note`. What is not defined, such as a test of
/// differences that are all the same, is null, and `note` says why.
///
/// **What it assumes.** Pairs are independent; differences are normal (t) or symmetric (Wilcoxon). Test rows are taken as they are: to resample them with the runs, use
/// [`crossed_mean`](super::crossed_mean). So keys that would count what was done with one draw of data as several pairs are refused: a run at several values of
/// `n` (or `demonstrations`), whose training sets are nested, or on several of `evaluated_on` (`evaluation`, `ood`), which test one training.
///
/// # Errors
/// Keys that pool such rows; a column or method that is not there; a run that only one of the two methods has, or one has twice; a value that is null, not a number or
/// not finite; fewer than 2 pairs; a level outside (0, 1).
pub fn compare(frame: &DataFrame, by: &str, pairs: &[(&str, &str)], keys: &[&str], values: &[&str], level: f64) -> Result<DataFrame> {
    interrupt::during("comparing methods", || compared(frame, by, pairs, keys, values, level))
}

fn compared(frame: &DataFrame, by: &str, pairs: &[(&str, &str)], keys: &[&str], values: &[&str], level: f64) -> Result<DataFrame> {
    if pairs.is_empty() || keys.is_empty() || values.is_empty() {
        return Err(Error::input("a comparison needs at least one pair of methods, one column that names the run and one of values"));
    }
    let (methods, runs) = (cells(frame, &[by])?, cells(frame, keys)?);
    let asked = |method: &str| pairs.iter().any(|(first, second)| method == *first || method == *second);
    refuse_pooled(keys, methods.iter().zip(&runs).filter(|(method, _)| asked(&method[0])).map(|(_, run)| run.as_slice()))?;
    let mut rows = Vec::new();
    for (place, &(first, second)) in pairs.iter().enumerate() {
        for &value in values {
            interrupt::at(place as u64, pairs.len() as u64, "pairs")?;
            let numbers = finite_numbers(frame, value)?;
            let of = |method| by_run(method, by, &methods, &runs, &numbers);
            let (a, b) = matched((first, of(first)?), (second, of(second)?))?;
            rows.push(Row::new((first, second, value), &a, &b, level)?);
        }
    }
    let column = |of: fn(&Row) -> Option<f64>| rows.iter().map(of).collect::<Vec<_>>();
    Ok(df!(
        "first" => rows.iter().map(|row| row.names.0).collect::<Vec<_>>(),
        "second" => rows.iter().map(|row| row.names.1).collect::<Vec<_>>(),
        "value" => rows.iter().map(|row| row.names.2).collect::<Vec<_>>(),
        "pairs" => rows.iter().map(|row| row.pairs as u32).collect::<Vec<_>>(),
        "mean_first" => rows.iter().map(|row| row.means.0).collect::<Vec<_>>(),
        "mean_second" => rows.iter().map(|row| row.means.1).collect::<Vec<_>>(),
        "difference" => rows.iter().map(|row| row.interval.0).collect::<Vec<_>>(),
        "lower" => rows.iter().map(|row| row.interval.1).collect::<Vec<_>>(),
        "upper" => rows.iter().map(|row| row.interval.2).collect::<Vec<_>>(),
        "t" => column(|row| row.t),
        "p_t" => column(|row| row.p_t),
        "d_z" => column(|row| row.d_z),
        "w" => column(|row| row.w),
        "p_wilcoxon" => column(|row| row.p_wilcoxon),
        "exact" => rows.iter().map(|row| row.exact).collect::<Vec<_>>(),
        "rank_biserial" => column(|row| row.rank_biserial),
        "p_t_holm" => holm_of_defined(&column(|row| row.p_t))?,
        "p_wilcoxon_holm" => holm_of_defined(&column(|row| row.p_wilcoxon))?,
        "note" => rows.iter().map(|row| row.note.clone()).collect::<Vec<_>>(),
    )?)
}

/// Means over runs with their t intervals at `level`: one row per group of equal `by` columns and value column, in the order they first occur.
///
/// Columns: those of `by` (as text), `value` (the column's name), `count`, `mean`, `std`, `lower`, `upper`.
///
/// # Errors
/// A column that is not there, a value that is null, not a number or not finite, a group of one run, a level outside (0, 1).
pub fn intervals(frame: &DataFrame, by: &[&str], values: &[&str], level: f64) -> Result<DataFrame> {
    interrupt::during("intervals", || found(frame, by, values, level))
}

fn found(frame: &DataFrame, by: &[&str], values: &[&str], level: f64) -> Result<DataFrame> {
    if by.is_empty() || values.is_empty() || frame.height() == 0 {
        return Err(Error::input("intervals need at least one column to group by, one of values, and one run"));
    }
    let groups = cells(frame, by)?;
    let mut order: Vec<&Vec<String>> = Vec::new();
    for group in &groups {
        interrupt::check()?;
        if !order.contains(&group) {
            order.push(group);
        }
    }
    let (mut names, mut column, mut found) = (Vec::new(), Vec::new(), Vec::new());
    for group in order {
        for &value in values {
            let numbers = finite_numbers(frame, value)?;
            let own: Vec<f64> = groups.iter().zip(numbers).filter(|(other, _)| *other == group).map(|(_, number)| number).collect();
            found.push(mean_interval(&own, level).map_err(|error| error.context(format_args!("`{value}` of {}", group.join(", "))))?);
            names.push(group);
            column.push(value);
        }
    }
    let mut columns: Vec<Column> = by
        .iter()
        .enumerate()
        .map(|(place, name)| Column::new((*name).into(), names.iter().map(|group| group[place].as_str()).collect::<Vec<_>>()))
        .collect();
    columns.extend(
        df!(
            "value" => column,
            "count" => found.iter().map(|one| one.count as u32).collect::<Vec<_>>(),
            "mean" => found.iter().map(|one| one.mean).collect::<Vec<_>>(),
            "std" => found.iter().map(|one| one.std).collect::<Vec<_>>(),
            "lower" => found.iter().map(|one| one.lower).collect::<Vec<_>>(),
            "upper" => found.iter().map(|one| one.upper).collect::<Vec<_>>(),
        )?
        .into_columns(),
    );
    Ok(DataFrame::new_infer_height(columns)?)
}

/// Key columns whose values share a draw of data: training sets of one run are nested over N, and one training is tested several times.
const SHARED: [&str; 5] = ["n", "demonstrations", "evaluated_on", "ood", "evaluation"];

/// Refuses pairs that are of one draw of data.
fn refuse_pooled<'a>(keys: &[&str], runs: impl Iterator<Item = &'a [String]>) -> Result<()> {
    let mut seen: HashMap<Vec<&str>, &[String]> = HashMap::new();
    for run in runs {
        // Of `task → evaluated_on` the task tells the draw.
        let draw = keys.iter().zip(run).filter_map(|(key, value)| match *key {
            "evaluation" => value.split(" → ").next(),
            key => (!SHARED.contains(&key)).then_some(value.as_str()),
        });
        let other = seen.entry(draw.collect()).or_insert(run);
        if let Some(place) = (0..keys.len()).find(|place| other[*place] != run[*place]) {
            let key = keys[place];
            return Err(Error::input(format!(
                "the keys would take {} and {} of `{key}` in one run for two pairs, which are not independent (nested training sets, or tests of one training): such tests reject a \
                 true null up to 39 % of the time. Average them first (`averaged`), filter the frame to one value of `{key}`, or ask for `study.evidence()`",
                other[place], run[place]
            )));
        }
    }
    Ok(())
}

/// One comparison.
struct Row<'a> {
    names: (&'a str, &'a str, &'a str),
    pairs: usize,
    means: (f64, f64),
    interval: (f64, f64, f64),
    t: Option<f64>,
    p_t: Option<f64>,
    d_z: Option<f64>,
    w: Option<f64>,
    p_wilcoxon: Option<f64>,
    exact: Option<bool>,
    rank_biserial: Option<f64>,
    note: Option<String>,
}

impl<'a> Row<'a> {
    fn new(names: (&'a str, &'a str, &'a str), first: &[f64], second: &[f64], level: f64) -> Result<Self> {
        let named = |error: Error| error.context(format_args!("`{}` of `{}` and `{}`", names.2, names.0, names.1));
        let differences: Vec<f64> = first.iter().zip(second).map(|(first, second)| second - first).collect();
        let interval = mean_interval(&differences, level).map_err(named)?;
        // What stands above is checked: all that is left is data on which a test is not defined.
        let (t, ranks) = (paired_t(first, second, level), wilcoxon(first, second));
        let notes = [t.as_ref().err().map(Error::to_string), ranks.as_ref().err().map(Error::to_string)];
        let note = notes.into_iter().flatten().collect::<Vec<_>>().join("; ");
        Ok(Self {
            names,
            pairs: first.len(),
            means: (mean(first), mean(second)),
            interval: (interval.mean, interval.lower, interval.upper),
            t: t.as_ref().ok().map(|test| test.t),
            p_t: t.as_ref().ok().map(|test| test.p),
            d_z: cohen_dz(first, second).ok(),
            w: ranks.as_ref().ok().map(|test| test.positive.min(test.negative)),
            p_wilcoxon: ranks.as_ref().ok().map(|test| test.p),
            exact: ranks.as_ref().ok().map(|test| test.exact),
            rank_biserial: rank_biserial(first, second).ok(),
            note: (!note.is_empty()).then_some(note),
        })
    }
}

type Runs<'a> = HashMap<&'a [String], f64>;

fn by_run<'a>(method: &str, by: &str, methods: &[Vec<String>], runs: &'a [Vec<String>], numbers: &[f64]) -> Result<Runs<'a>> {
    let mut found: Runs<'a> = HashMap::new();
    for ((own, run), number) in methods.iter().zip(runs).zip(numbers) {
        if own[0] == method && found.insert(run, *number).is_some() {
            let run = run.join(", ");
            return Err(Error::input(format!("`{method}` has the run ({run}) twice: name more columns as keys, or keep one of the rows")));
        }
    }
    match found.is_empty() {
        true => Err(Error::input(format!("column `{by}` has no `{method}`: name a method that the frame holds"))),
        false => Ok(found),
    }
}

/// The values of both in one order of runs.
fn matched((first, a): (&str, Runs<'_>), (second, b): (&str, Runs<'_>)) -> Result<(Vec<f64>, Vec<f64>)> {
    for (has, own, lacks, other) in [(first, &a, second, &b), (second, &b, first, &a)] {
        let mut alone: Vec<&&[String]> = own.keys().filter(|run| !other.contains_key(**run)).collect();
        alone.sort();
        if let Some(run) = alone.first() {
            let (count, run) = (alone.len(), run.join(", "));
            return Err(Error::input(format!(
                "{count} runs of `{has}` are not there for `{lacks}`, the first is ({run}): finish them, or filter the frame to runs of both"
            )));
        }
    }
    // Sums round by their order: keep it the same from call to call.
    let mut runs: Vec<(&&[String], &f64)> = a.iter().collect();
    runs.sort_by_key(|(run, _)| **run);
    Ok((runs.iter().map(|(_, value)| **value).collect(), runs.iter().filter_map(|(run, _)| b.get(**run).copied()).collect()))
}
