//! From a long frame to what a chart draws: panels, groups, and the values of each place with their mean and spread.

use std::collections::HashMap;

use polars::prelude::*;

use super::bounds;
use super::palette::MOST_GROUPS;
use super::read::{self, Along};
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::interrupt;

/// The most panels of one figure.
const MOST_PANELS: usize = 16;

/// The columns a chart reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    pub x: String,
    pub y: String,
    /// More y columns: groups of the same panel.
    pub also: Vec<String>,
    /// More y columns: panels of their own.
    pub beside: Vec<String>,
    pub colour: Option<String>,
    pub facet: Option<String>,
    pub error: Option<String>,
    pub marked: Option<String>,
    /// Names that stand before others, wherever they occur.
    pub order: Vec<String>,
}

/// The rows of one panel, group and place together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cell {
    pub panel: usize,
    pub group: usize,
    /// Index into [`Data::along`].
    pub at: usize,
    pub values: Vec<f64>,
    pub mean: f64,
    /// The error column's mean, or the sample standard deviation of several rows.
    pub spread: Option<f64>,
    /// What its column's values cannot leave.
    pub bounds: (f64, f64),
    pub marked: bool,
}

/// One end of a spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct End {
    pub value: f64,
    /// Does the spread go on beyond the values there can be?
    pub cut: bool,
}

impl Cell {
    /// The lower and the upper end of the spread, where there is some: cut where no value can be.
    pub(crate) fn ends(&self) -> Option<[End; 2]> {
        let (least, greatest) = self.bounds;
        let end = |value: f64| End { value: value.clamp(least, greatest), cut: !(least..=greatest).contains(&value) };
        self.spread.filter(|&spread| spread > 0.0).map(|spread| [end(self.mean - spread), end(self.mean + spread)])
    }
}

/// Everything a chart draws.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    pub along: Along,
    pub panels: Vec<String>,
    /// Panels of one y column in a row; those of the next follow.
    pub abreast: usize,
    pub groups: Vec<String>,
    /// Each group's look: colour, marker and dash. A name keeps its own in all figures with the same order.
    pub looks: Vec<usize>,
    /// Does the legend need a name for numbers?
    pub numbered: bool,
    /// Sorted by panel, group and place.
    pub cells: Vec<Cell>,
    /// Values left out because x, y or the error is missing or not finite.
    pub skipped: usize,
    /// The y columns, in order.
    pub ys: usize,
}

impl Data {
    /// The cells of one group in one panel, in order along x.
    pub(crate) fn series(&self, panel: usize, group: usize) -> Vec<&Cell> {
        self.cells.iter().filter(|cell| cell.panel == panel && cell.group == group).collect()
    }

    /// The panels that share a y axis with this one.
    pub(crate) fn sharing(&self, panel: usize) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(move |cell| cell.panel / self.abreast == panel / self.abreast)
    }

    /// Where a cell stands along x when places keep their distances.
    pub(crate) fn x(&self, cell: &Cell) -> f64 {
        match &self.along {
            Along::Numbers(values) => values[cell.at],
            Along::Names(_) => cell.at as f64,
        }
    }

    /// Groups and aggregates the frame.
    pub(crate) fn read(frame: &DataFrame, columns: &Columns, settings: &Settings) -> Result<Self> {
        if !columns.also.is_empty() && !columns.beside.is_empty() {
            return Err(Error::input("figure: further y columns go into the same panel (`also`) or into their own (`beside`), not both"));
        }
        let order = &columns.order;
        let x = read::column(frame, &columns.x, "x")?;
        let ys: Vec<&String> = [&columns.y].into_iter().chain(&columns.also).chain(&columns.beside).collect();
        let values: Vec<Vec<f64>> = ys.iter().map(|name| read::numbers(frame, name, "y")).collect::<Result<_>>()?;
        let error = columns.error.as_deref().map(|name| read::numbers(frame, name, "the error")).transpose()?;
        let marked = columns.marked.as_deref().map(|name| read::flags(frame, name, "the marks")).transpose()?;
        let (groups, group_of, numbered) = match &columns.colour {
            Some(name) => {
                let column = read::column(frame, name, "the colour")?;
                let (groups, rows) = read::names(column, order)?;
                (groups, rows, column.dtype().is_primitive_numeric())
            }
            None => (vec![String::new()], vec![0; frame.height()], false),
        };
        let called = columns.facet.as_deref().map_or_else(String::new, |name| settings.name(name));
        let (facets, facet_of) = read::panels(frame, columns.facet.as_deref(), &called, order)?;
        read::some_rows(frame)?;
        let together = !columns.also.is_empty();
        let titles: Vec<String> = ys.iter().map(|name| settings.name(name)).collect();
        let looks = looks(&groups, order);
        let (groups, looks) =
            if together { (pairs(&groups, &titles, false), (0..groups.len() * ys.len()).collect()) } else { (groups, looks) };
        let abreast = facets.len();
        let panels = if columns.beside.is_empty() { facets } else { pairs(&titles, &facets, true) };
        read::at_most(columns.colour.as_deref().unwrap_or(&columns.y), groups.len(), MOST_GROUPS, "colours")?;
        read::at_most(columns.facet.as_deref().unwrap_or(&columns.y), panels.len(), MOST_PANELS, "panels")?;
        let (along, at_of) = read::places(x, order)?;

        let limits: Vec<(f64, f64)> = ys.iter().zip(&values).map(|(name, values)| bounds::of(name, values)).collect();
        let mut places: HashMap<(usize, usize, usize), Vec<Row>> = HashMap::new();
        let mut skipped = 0;
        for (index, y) in values.iter().enumerate() {
            for row in 0..frame.height() {
                interrupt::check()?;
                let bar = error.as_ref().map(|error| error[row]);
                let marked = marked.as_ref().is_some_and(|marked| marked[row]);
                let (panel, group) = match together {
                    true => (facet_of[row], group_of[row] * ys.len() + index),
                    false => (index * abreast + facet_of[row], group_of[row]),
                };
                match at_of[row] {
                    Some(at) if y[row].is_finite() && bar.is_none_or(f64::is_finite) => {
                        places.entry((panel, group, at)).or_default().push((y[row], bar, marked));
                    }
                    _ => skipped += 1,
                }
            }
        }
        if places.is_empty() {
            return Err(Error::numeric(format!("figure: none of the {skipped} rows has numbers in `{}` and `{}`", columns.x, columns.y)));
        }
        let bounds = |(panel, group, _): (usize, usize, usize)| limits[if together { group % ys.len() } else { panel / abreast }];
        let mut cells: Vec<Cell> = places.into_iter().map(|(place, rows)| cell(place, &rows, bounds(place))).collect();
        cells.sort_by_key(|cell| (cell.panel, cell.group, cell.at));
        Ok(Self { along, panels, abreast, groups, looks, numbered, cells, skipped, ys: ys.len() })
    }
}

/// y, the error column's value where there is one, and whether the row is marked.
type Row = (f64, Option<f64>, bool);

fn cell((panel, group, at): (usize, usize, usize), rows: &[Row], bounds: (f64, f64)) -> Cell {
    let values: Vec<f64> = rows.iter().map(|row| row.0).collect();
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let spread = if rows.iter().all(|row| row.1.is_some()) {
        Some((rows.iter().filter_map(|row| row.1).sum::<f64>() / count).abs())
    } else if values.len() > 1 {
        Some((values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt())
    } else {
        None
    };
    Cell { panel, group, at, values, mean, spread, bounds, marked: rows.iter().any(|row| row.2) }
}

/// Names in the order have its places, the others follow; an order of other things (panels) has no say.
fn looks(groups: &[String], order: &[String]) -> Vec<usize> {
    let mut next = if groups.iter().any(|group| order.contains(group)) { order.len() } else { 0 };
    let mut other = || {
        next += 1;
        next - 1
    };
    groups.iter().map(|group| order.iter().position(|name| name == group).unwrap_or_else(&mut other)).collect()
}

/// Every outer name with every inner one; `short`: those without an outer name of their own stand alone.
fn pairs(outer: &[String], inner: &[String], inner_last: bool) -> Vec<String> {
    let name = |outer: &String, inner: &String| match (outer.is_empty(), inner.is_empty()) {
        (true, _) => inner.clone(),
        (_, true) => outer.clone(),
        _ if inner_last => format!("{outer}: {inner}"),
        _ => format!("{outer}, {inner}"),
    };
    outer.iter().flat_map(|outer| inner.iter().map(move |inner| name(outer, inner))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(x: &str, y: &str, colour: Option<&str>) -> Columns {
        Columns { x: x.into(), y: y.into(), colour: colour.map(Into::into), ..Columns::default() }
    }

    fn read(frame: &DataFrame, columns: &Columns) -> Result<Data> {
        Data::read(frame, columns, &Settings::default())
    }

    #[test]
    fn repeated_places_become_mean_and_standard_deviation() {
        let frame = df!("n" => [8i64, 2, 8, 8], "acc" => [0.5, 0.25, 0.7, f64::NAN], "m" => ["b", "a", "b", "b"]).unwrap();
        let data = read(&frame, &columns("n", "acc", Some("m"))).unwrap();
        assert_eq!(
            (&data.along, &data.groups[..], data.skipped),
            (&Along::Numbers(vec![2.0, 8.0]), &["b".to_owned(), "a".to_owned()][..], 1)
        );
        let cell = data.series(0, 0)[0];
        assert_eq!((cell.at, &cell.values[..]), (1, &[0.5, 0.7][..]));
        assert!((cell.mean - 0.6).abs() < 1e-12 && (cell.spread.unwrap() - 0.02f64.sqrt()).abs() < 1e-12);
        assert_eq!(data.series(0, 1)[0].spread, None);
    }

    #[test]
    fn an_error_column_is_the_spread() {
        let frame = df!("m" => ["a", "b"], "acc" => [0.5, 0.7], "std" => [0.1, 0.2]).unwrap();
        let data = read(&frame, &Columns { error: Some("std".into()), ..columns("m", "acc", None) }).unwrap();
        assert_eq!(data.cells.iter().map(|cell| cell.spread).collect::<Vec<_>>(), [Some(0.1), Some(0.2)]);
    }

    #[test]
    fn a_spread_ends_where_values_do() {
        let frame = df!("m" => ["a", "b", "c"], "accuracy" => [0.95, 0.5, 1.0], "std" => [0.1, 0.125, 0.0]).unwrap();
        let data = read(&frame, &Columns { error: Some("std".into()), ..columns("m", "accuracy", None) }).unwrap();
        let end = |value, cut| End { value, cut };
        assert_eq!(data.cells[0].ends().unwrap()[1], end(1.0, true));
        assert_eq!(data.cells[1].ends(), Some([end(0.375, false), end(0.625, false)]));
        assert_eq!(data.cells[2].ends(), None);
    }

    #[test]
    fn booleans_count_and_numeric_names_ascend() {
        let frame = df!("run" => [10i64, 9, 10], "correct" => [true, false, false]).unwrap();
        let data = read(&frame, &columns("run", "correct", Some("run"))).unwrap();
        assert_eq!(data.groups, ["9", "10"]);
        assert_eq!(data.series(0, 1)[0].mean, 0.5);
    }

    #[test]
    fn further_columns_are_groups_or_panels() {
        let frame =
            df!("step" => [1i64, 2], "train" => [3.0, 2.0], "dev" => [4.0, f64::NAN], "run" => [0i64, 0], "best" => [false, true]).unwrap();
        let also = Columns { also: vec!["dev".into()], marked: Some("best".into()), ..columns("step", "train", None) };
        let data = read(&frame, &also).unwrap();
        assert_eq!((&data.groups[..], data.panels.len(), data.skipped), (&["train".to_owned(), "dev".to_owned()][..], 1, 1));
        assert_eq!(data.series(0, 0).iter().map(|cell| (cell.mean, cell.marked)).collect::<Vec<_>>(), [(3.0, false), (2.0, true)]);
        let beside = Columns { beside: vec!["dev".into()], facet: Some("run".into()), ..columns("step", "train", None) };
        let data = read(&frame, &beside).unwrap();
        assert_eq!(data.panels, ["train: run 0", "dev: run 0"]);
        assert_eq!((data.abreast, data.sharing(1).count()), (1, 1));
        assert!(read(&frame, &Columns { also: vec!["dev".into()], ..beside }).unwrap_err().to_string().contains("not both"));
    }

    #[test]
    fn an_order_gives_names_their_places_and_looks() {
        let frame = df!("m" => ["SFT", "new", "ICL"], "y" => [1.0, 2.0, 3.0]).unwrap();
        let order: Vec<String> = ["ICL", "IA2", "SFT"].map(Into::into).to_vec();
        let data = read(&frame, &Columns { order, ..columns("m", "y", Some("m")) }).unwrap();
        assert_eq!((&data.groups[..], &data.looks[..]), (&["ICL", "SFT", "new"].map(str::to_owned)[..], &[0, 2, 3][..]));
        assert_eq!(data.along, Along::Names(data.groups.clone()));
        let order = vec!["panel".to_owned(), "other panel".to_owned()];
        assert_eq!(read(&frame, &Columns { order, ..columns("m", "y", Some("m")) }).unwrap().looks, [0, 1, 2]);
    }

    #[test]
    fn every_bad_frame_says_what_is_wrong() {
        let frame = df!("layer" => [0i64, 1], "asim" => [0.1, 0.2], "method" => ["a", "b"], "none" => [f64::NAN; 2]).unwrap();
        let message =
            |x: &str, y: &str, colour: &str, frame: &DataFrame| read(frame, &columns(x, y, Some(colour))).unwrap_err().to_string();
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
