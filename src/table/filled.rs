//! A summary with its numbers: which are the best, what the cells and headings say, and the frame behind them.

use std::collections::HashMap;

use polars::prelude::*;

use super::summary::{Best, Summary, Value};
use super::tuples::Keys;
use super::value::{Cell, Table};
use crate::error::Result;
use crate::sample;

/// Row, column and value of a cell.
type Place = (usize, usize, usize);

/// A summary with its numbers.
pub(super) struct Filled<'a> {
    summary: &'a Summary,
    keys: Keys,
    shown: HashMap<Place, Shown>,
    best: Vec<Place>,
    /// Nulls among the values.
    missing: usize,
}

impl<'a> Filled<'a> {
    pub(super) fn of(summary: &'a Summary, keys: Keys, cells: HashMap<Place, Vec<f64>>, missing: usize) -> Self {
        let decimals: Vec<usize> = (0..summary.values.len()).map(|value| decimals(&summary.values[value], &cells, value)).collect();
        let shown =
            cells.iter().map(|(&place, numbers)| (place, Shown::of(numbers, &summary.values[place.2], decimals[place.2]))).collect();
        let mut filled = Self { summary, keys, shown, best: Vec::new(), missing };
        filled.best = filled.find_best();
        filled
    }

    /// The places whose mean is the best of those that differ only in the compared name. What reads the same is as good.
    fn find_best(&self) -> Vec<Place> {
        let (summary, keys, shown) = (self.summary, &self.keys, &self.shown);
        let compared = summary.compared();
        let others = |names: &[String], tuple: &[String]| -> Vec<String> {
            names.iter().zip(tuple).filter(|(name, _)| Some(*name) != compared).map(|(_, text)| text.clone()).collect()
        };
        let mut groups: HashMap<(Vec<String>, Vec<String>, usize), Vec<Place>> = HashMap::new();
        for &(row, column, value) in shown.keys() {
            let group = (others(&summary.rows, &keys.rows[row]), others(&summary.columns, &keys.columns[column]), value);
            groups.entry(group).or_default().push((row, column, value));
        }
        let mut out = Vec::new();
        for ((.., value), places) in groups {
            let sign = match summary.values[value].best {
                Best::Highest => 1.0,
                Best::Lowest => -1.0,
                Best::Neither => continue,
            };
            let top = places.iter().max_by(|a, b| (sign * shown[a].mean).total_cmp(&(sign * shown[b].mean)));
            if let Some(top) = top.filter(|_| places.len() > 1) {
                out.extend(places.iter().filter(|place| shown[place].number == shown[top].number));
            }
        }
        out
    }

    pub(super) fn table(&self) -> Result<Table> {
        let (summary, keys) = (self.summary, &self.keys);
        let places: Vec<(usize, usize)> =
            (0..keys.columns.len()).flat_map(|column| (0..summary.values.len()).map(move |value| (column, value))).collect();
        let rows = keys.rows.iter().enumerate().map(|(row, names)| {
            let names = names.iter().enumerate().map(|(key, name)| Cell::plain(keys.starred(summary, true, row, key, name)));
            let cells = places.iter().map(|&(column, value)| match self.shown.get(&(row, column, value)) {
                Some(shown) => Cell { text: shown.text(), bold: self.best.contains(&(row, column, value)) },
                None => Cell::plain("–"),
            });
            names.chain(cells).collect()
        });
        Ok(Table {
            caption: summary.caption.clone(),
            label: summary.label.clone(),
            headings: self.headings(&places),
            keys: summary.rows.len(),
            rows: rows.collect(),
            notes: self.notes(),
            frame: self.frame()?,
        })
    }

    fn headings(&self, places: &[(usize, usize)]) -> Vec<Vec<String>> {
        let (summary, keys) = (self.summary, &self.keys);
        let mut lines: Vec<Vec<String>> = (0..summary.columns.len())
            .map(|key| {
                let text = |column: usize| keys.starred(summary, false, column, key, &keys.columns[column][key]);
                // A number alone says nothing.
                let named = |column: usize| match keys.numbers[key] {
                    true => format!("{} {}", summary.called(&summary.columns[key]), text(column)),
                    false => text(column),
                };
                places.iter().map(|&(column, _)| named(column)).collect()
            })
            .collect();
        if summary.values.len() > 1 || lines.is_empty() {
            lines.push(places.iter().map(|&(_, value)| self.value_name(value)).collect());
        }
        let last = lines.len() - 1;
        let left = |level: usize| summary.rows.iter().map(move |name| if level == last { summary.called(name) } else { String::new() });
        lines.into_iter().enumerate().map(|(level, line)| left(level).chain(line).collect()).collect()
    }

    fn value_name(&self, value: usize) -> String {
        let value = &self.summary.values[value];
        format!("{}{}", self.summary.called(&value.column), if value.percent { " (%)" } else { "" })
    }

    fn notes(&self) -> Vec<String> {
        let (summary, shown) = (self.summary, &self.shown);
        let counts = || shown.values().map(|shown| shown.count);
        let (fewest, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
        let values: Vec<String> = (0..summary.values.len()).map(|value| self.value_name(value)).collect();
        let mut notes = vec![match (fewest, most) {
            (_, 0 | 1) => values.join(", "),
            (fewest, most) if fewest == most => format!("{}: mean (standard deviation) of {most} rows", values.join(", ")),
            (fewest, most) => format!("{}: mean (standard deviation) of {fewest} to {most} rows", values.join(", ")),
        }];
        if let Some(compared) = summary.compared().filter(|_| !self.best.is_empty()) {
            notes[0].push_str(&format!("; bold: best {}", summary.called(compared)));
        }
        if let Some((_, flag)) = &summary.star {
            notes[0].push_str(&format!("; *: {}", summary.called(flag)));
        }
        match self.missing {
            0 => {}
            1 => notes.push("1 missing value left out".to_owned()),
            more => notes.push(format!("{more} missing values left out")),
        }
        notes
    }

    fn frame(&self) -> Result<DataFrame> {
        let (summary, keys, shown) = (self.summary, &self.keys, &self.shown);
        let mut places: Vec<&Place> = shown.keys().collect();
        places.sort();
        let text = |key: usize, of: fn(&Place) -> usize, tuples: &[Vec<String>]| {
            places.iter().map(|place| tuples[of(place)][key].clone()).collect::<Vec<_>>()
        };
        let rows =
            summary.rows.iter().enumerate().map(|(key, name)| Column::new(name.as_str().into(), text(key, |place| place.0, &keys.rows)));
        let across = summary.columns.iter().enumerate();
        let columns = across.map(|(key, name)| Column::new(name.as_str().into(), text(key, |place| place.1, &keys.columns)));
        let numbers = df!(
            "value" => places.iter().map(|place| summary.values[place.2].column.as_str()).collect::<Vec<_>>(),
            "mean" => places.iter().map(|place| shown[place].mean).collect::<Vec<_>>(),
            "std" => places.iter().map(|place| shown[place].std).collect::<Vec<_>>(),
            "count" => places.iter().map(|place| shown[place].count as u32).collect::<Vec<_>>(),
            "best" => places.iter().map(|place| self.best.contains(place)).collect::<Vec<_>>(),
            "starred" => places.iter().map(|place| keys.star(summary, place.0, place.1)).collect::<Vec<_>>(),
        )?;
        let all: Vec<Column> = rows.chain(columns).chain(numbers.into_columns()).collect();
        Ok(DataFrame::new(places.len(), all)?)
    }
}

/// How many decimals all cells of a value have.
fn decimals(value: &Value, cells: &HashMap<Place, Vec<f64>>, index: usize) -> usize {
    let own = || cells.iter().filter(|(place, _)| place.2 == index).map(|(_, numbers)| numbers);
    value.decimals.unwrap_or_else(|| match value.percent {
        true => 1,
        false if own().flatten().all(|number| (0.0..=1.0).contains(number)) => 3,
        false => super::decimals(own().map(|numbers| sample::mean(numbers))).unwrap_or(3).min(6),
    })
}

/// What a cell shows of its numbers.
#[derive(Clone, Debug)]
struct Shown {
    mean: f64,
    std: Option<f64>,
    count: usize,
    /// The mean as the table writes it.
    number: String,
    spread: Option<String>,
}

impl Shown {
    fn of(numbers: &[f64], value: &Value, decimals: usize) -> Self {
        let (mean, std) = (sample::mean(numbers), sample::spread(numbers).1);
        let times = if value.percent { 100.0 } else { 1.0 };
        let text = |number: f64| super::signed(format!("{:.decimals$}", number * times));
        Self { mean, std, count: numbers.len(), number: text(mean), spread: std.map(text) }
    }

    fn text(&self) -> String {
        match &self.spread {
            Some(spread) => format!("{} ({spread})", self.number),
            None => self.number.clone(),
        }
    }
}
