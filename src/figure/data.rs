//! From a long frame to what a chart draws: panels, groups, and one mean with its spread per place.

use std::collections::HashMap;

use polars::prelude::*;

use super::palette::MOST_GROUPS;
use super::scale;
use crate::display;
use crate::error::{Error, Result};

/// The most panels of one figure.
const MOST_PANELS: usize = 16;

/// The columns a chart reads.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    pub x: String,
    pub y: String,
    pub colour: Option<String>,
    pub facet: Option<String>,
    pub error: Option<String>,
}

/// The values along x.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Along {
    /// In ascending order, each once.
    Numbers(Vec<f64>),
    /// In order of appearance, each once.
    Names(Vec<String>),
}

impl Along {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Numbers(values) => values.len(),
            Self::Names(names) => names.len(),
        }
    }

    /// What the axis writes at each place.
    pub(crate) fn labels(&self) -> Vec<String> {
        match self {
            Self::Numbers(values) => values.iter().map(|&value| scale::signed(&display::number(value))).collect(),
            Self::Names(names) => names.clone(),
        }
    }
}

/// The rows of one panel, group and place together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cell {
    pub panel: usize,
    pub group: usize,
    /// Index into [`Data::along`].
    pub at: usize,
    pub mean: f64,
    /// The error column's mean, or the sample standard deviation of several rows.
    pub spread: Option<f64>,
    pub count: usize,
}

/// Everything a chart draws.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    pub along: Along,
    pub panels: Vec<String>,
    pub groups: Vec<String>,
    /// Sorted by panel, group and place.
    pub cells: Vec<Cell>,
    /// Rows left out because x, y or the error is missing or not finite.
    pub skipped: usize,
}

impl Data {
    /// The cells of one group in one panel, in order along x.
    pub(crate) fn series(&self, panel: usize, group: usize) -> Vec<&Cell> {
        self.cells.iter().filter(|cell| cell.panel == panel && cell.group == group).collect()
    }

    /// The least and greatest of mean ± spread.
    pub(crate) fn extent(&self) -> (f64, f64) {
        self.cells.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, greatest), cell| {
            let spread = cell.spread.unwrap_or(0.0);
            (least.min(cell.mean - spread), greatest.max(cell.mean + spread))
        })
    }

    /// Groups and aggregates the frame.
    pub(crate) fn read(frame: &DataFrame, columns: &Columns) -> Result<Self> {
        let x = column(frame, &columns.x, "x")?;
        let y = numbers(frame, &columns.y, "y")?;
        let error = columns.error.as_deref().map(|name| numbers(frame, name, "the error")).transpose()?;
        let of = |name: &Option<String>, role: &str| -> Result<(Vec<String>, Vec<usize>)> {
            match name {
                Some(name) => names(column(frame, name, role)?),
                None => Ok((vec![String::new()], vec![0; frame.height()])),
            }
        };
        let (groups, group_of) = of(&columns.colour, "the colour")?;
        let (panels, panel_of) = of(&columns.facet, "the panels")?;
        if frame.height() == 0 {
            return Err(Error::input(format!("figure: the frame has no rows (columns: {})", listed(frame))));
        }
        let too_many = |column: &Option<String>, there: usize, most: usize, what: &str| match column {
            Some(column) if there > most => Err(Error::input(format!(
                "figure: column `{column}` has {there} different values; {what} can be at most {most}: filter the frame first"
            ))),
            _ => Ok(()),
        };
        too_many(&columns.colour, groups.len(), MOST_GROUPS, "colours")?;
        too_many(&columns.facet, panels.len(), MOST_PANELS, "panels")?;
        let (along, at_of) = places(x)?;

        let mut places: HashMap<(usize, usize, usize), Vec<Row>> = HashMap::new();
        let mut skipped = 0;
        for row in 0..frame.height() {
            let bar = error.as_ref().map(|error| error[row]);
            match at_of[row] {
                Some(at) if y[row].is_finite() && bar.is_none_or(f64::is_finite) => {
                    places.entry((panel_of[row], group_of[row], at)).or_default().push((y[row], bar));
                }
                _ => skipped += 1,
            }
        }
        if places.is_empty() {
            return Err(Error::numeric(format!("figure: none of the {skipped} rows has numbers in `{}` and `{}`", columns.x, columns.y)));
        }
        let mut cells: Vec<Cell> = places.into_iter().map(|((panel, group, at), rows)| cell(panel, group, at, &rows)).collect();
        cells.sort_by_key(|cell| (cell.panel, cell.group, cell.at));
        Ok(Self { along, panels, groups, cells, skipped })
    }
}

/// y, and the error column's value where there is one.
type Row = (f64, Option<f64>);

fn cell(panel: usize, group: usize, at: usize, rows: &[Row]) -> Cell {
    let count = rows.len();
    let mean_of = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / count as f64;
    let mean = mean_of(&mut rows.iter().map(|row| row.0));
    let spread = if rows.iter().all(|row| row.1.is_some()) {
        Some(mean_of(&mut rows.iter().filter_map(|row| row.1)).abs())
    } else if count > 1 {
        let squares: f64 = rows.iter().map(|row| (row.0 - mean).powi(2)).sum();
        Some((squares / (count - 1) as f64).sqrt())
    } else {
        None
    };
    Cell { panel, group, at, mean, spread, count }
}

/// The named column.
fn column<'a>(frame: &'a DataFrame, name: &str, role: &str) -> Result<&'a Column> {
    frame.column(name).map_err(|_| Error::input(format!("figure: the frame has no column `{name}` for {role}; it has {}", listed(frame))))
}

fn listed(frame: &DataFrame) -> String {
    let names: Vec<String> = frame.get_column_names().iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// The named column as numbers, NaN where null; true counts as 1.
fn numbers(frame: &DataFrame, name: &str, role: &str) -> Result<Vec<f64>> {
    let column = column(frame, name, role)?;
    if !(column.dtype().is_primitive_numeric() || column.dtype().is_bool()) {
        return Err(Error::input(format!("figure: column `{name}` for {role} holds {}, but numbers are needed", column.dtype())));
    }
    (0..column.len()).map(|row| Ok(number(&column.get(row)?))).collect()
}

fn number(value: &AnyValue<'_>) -> f64 {
    match value {
        AnyValue::Boolean(value) => f64::from(u8::from(*value)),
        value => value.extract::<f64>().unwrap_or(f64::NAN),
    }
}

fn name(value: &AnyValue<'_>) -> String {
    match value {
        AnyValue::String(text) => (*text).to_owned(),
        AnyValue::StringOwned(text) => text.to_string(),
        value if value.is_primitive_numeric() => display::number(number(value)),
        value => value.to_string(),
    }
}

/// The distinct values of a column as names, and each row's index among them. Numbers ascend, others come as they appear.
fn names(column: &Column) -> Result<(Vec<String>, Vec<usize>)> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut distinct: Vec<(String, f64)> = Vec::new();
    let mut rows = Vec::with_capacity(column.len());
    for row in 0..column.len() {
        let value = column.get(row)?;
        let text = name(&value);
        let index = *seen.entry(text.clone()).or_insert_with(|| {
            distinct.push((text, number(&value)));
            distinct.len() - 1
        });
        rows.push(index);
    }
    let mut order: Vec<usize> = (0..distinct.len()).collect();
    if column.dtype().is_primitive_numeric() {
        order.sort_by(|&a, &b| distinct[a].1.total_cmp(&distinct[b].1));
    }
    let mut rank = vec![0; order.len()];
    order.iter().enumerate().for_each(|(place, &index)| rank[index] = place);
    let rows = rows.into_iter().map(|index| rank[index]).collect();
    Ok((order.into_iter().map(|index| std::mem::take(&mut distinct[index].0)).collect(), rows))
}

/// The places along x, and each row's; a number that is missing or not finite has none.
fn places(column: &Column) -> Result<(Along, Vec<Option<usize>>)> {
    if !column.dtype().is_primitive_numeric() {
        let (names, rows) = names(column)?;
        return Ok((Along::Names(names), rows.into_iter().map(Some).collect()));
    }
    let values: Vec<f64> = (0..column.len()).map(|row| Ok(number(&column.get(row)?))).collect::<Result<_>>()?;
    let mut distinct: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    distinct.sort_by(f64::total_cmp);
    distinct.dedup();
    let rows = values.iter().map(|value| distinct.binary_search_by(|other| other.total_cmp(value)).ok()).collect();
    Ok((Along::Numbers(distinct), rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(x: &str, y: &str, colour: Option<&str>) -> Columns {
        Columns { x: x.into(), y: y.into(), colour: colour.map(Into::into), facet: None, error: None }
    }

    #[test]
    fn repeated_places_become_mean_and_standard_deviation() {
        let frame = df!("n" => [8i64, 2, 8, 8], "acc" => [0.5, 0.25, 0.7, f64::NAN], "m" => ["b", "a", "b", "b"]).unwrap();
        let data = Data::read(&frame, &columns("n", "acc", Some("m"))).unwrap();
        assert_eq!(
            (&data.along, &data.groups[..], data.skipped),
            (&Along::Numbers(vec![2.0, 8.0]), &["b".to_owned(), "a".to_owned()][..], 1)
        );
        let cell = data.series(0, 0)[0];
        assert_eq!((cell.at, cell.count), (1, 2));
        assert!((cell.mean - 0.6).abs() < 1e-12 && (cell.spread.unwrap() - 0.02f64.sqrt()).abs() < 1e-12);
        assert_eq!(data.series(0, 1)[0].spread, None);
    }

    #[test]
    fn an_error_column_is_the_spread() {
        let frame = df!("m" => ["a", "b"], "acc" => [0.5, 0.7], "std" => [0.1, 0.2]).unwrap();
        let data = Data::read(&frame, &Columns { error: Some("std".into()), ..columns("m", "acc", None) }).unwrap();
        assert_eq!(data.cells.iter().map(|cell| cell.spread).collect::<Vec<_>>(), [Some(0.1), Some(0.2)]);
        let (least, greatest) = data.extent();
        assert!((least - 0.4).abs() < 1e-12 && (greatest - 0.9).abs() < 1e-12);
    }

    #[test]
    fn booleans_count_and_numeric_names_ascend() {
        let frame = df!("run" => [10i64, 9, 10], "correct" => [true, false, false]).unwrap();
        let data = Data::read(&frame, &columns("run", "correct", Some("run"))).unwrap();
        assert_eq!(data.groups, ["9", "10"]);
        assert_eq!(data.series(0, 1)[0].mean, 0.5);
    }

    #[test]
    fn every_bad_frame_says_what_is_wrong() {
        let frame = df!("layer" => [0i64, 1], "asim" => [0.1, 0.2], "method" => ["a", "b"], "none" => [f64::NAN; 2]).unwrap();
        let message =
            |x: &str, y: &str, colour: &str, frame: &DataFrame| Data::read(frame, &columns(x, y, Some(colour))).unwrap_err().to_string();
        assert_eq!(
            message("layer", "cka", "method", &frame),
            "figure: the frame has no column `cka` for y; it has `layer`, `asim`, `method`, `none`"
        );
        assert_eq!(message("layer", "method", "method", &frame), "figure: column `method` for y holds str, but numbers are needed");
        assert_eq!(message("layer", "none", "method", &frame), "figure: none of the 2 rows has numbers in `layer` and `none`");
        assert!(message("layer", "asim", "method", &frame.head(Some(0))).contains("no rows"));
        let many = df!("layer" => vec![0i64; 17], "asim" => vec![0.0; 17], "method" => (0..17i64).collect::<Vec<_>>()).unwrap();
        assert!(message("layer", "asim", "method", &many).contains("`method` has 17 different values; colours can be at most 16"));
    }
}
