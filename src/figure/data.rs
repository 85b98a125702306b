//! From a long frame to what a chart draws: panels, groups, and the values of each place with their mean and spread.

use std::collections::{BTreeMap, HashMap};

use polars::prelude::*;

use super::spread::Spread;
use super::styles::styles;
use super::{bounds, read};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::plot::along::Along;
use crate::plot::palette::{self, MOST_GROUPS, MarkStyle};
use crate::plot::scale::shown;
use crate::plot::settings::Settings;
use crate::sample;

/// More groups than this are no figure.
const GROUPS: usize = 1000;

/// The columns a chart reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    pub x: String,
    pub y: String,
    /// More y columns: groups of the same panel.
    pub also: Vec<String>,
    /// More y columns: panels of their own.
    pub own_panels: Vec<String>,
    pub colour: Option<String>,
    /// A faint line of its own for each value.
    pub each: Option<String>,
    pub error: Option<String>,
    pub marked: Option<String>,
    /// What is shown around means.
    pub spread: Spread,
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
    /// The ends of what is shown around the mean: of the error column, or of several rows.
    pub interval: Option<(f64, f64)>,
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
        self.interval.filter(|(low, high)| low < high).map(|(low, high)| [end(low), end(high)])
    }
}

/// The line of one run: its panel, its group and its points.
pub(crate) type Run = (usize, usize, Vec<(f64, f64)>);

/// Everything a chart draws.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    pub along: Along,
    pub panels: Vec<String>,
    /// Panels of one y column in a row; those of the next follow.
    pub panels_per_row: usize,
    /// The names of rows of panels, where rows have some.
    pub row_names: Vec<String>,
    pub groups: Vec<String>,
    /// Each group's style: colour, marker and dash.
    pub styles: Vec<MarkStyle>,
    /// Are groups in order, and more than can be told apart one by one?
    pub ordered: bool,
    /// Do the groups' names need no title, as the paper's methods and the names of y columns?
    pub plain: bool,
    /// One line for each value of the column that has them, as panel, group and points.
    pub each: Vec<Run>,
    /// Sorted by panel, group and place.
    pub cells: Vec<Cell>,
    /// Values left out because x, y or the error is missing or not finite.
    pub skipped: usize,
    /// The y columns, in order.
    pub ys: usize,
    /// Which panels these are, where there are more, and the places of them among all.
    pub page: Option<String>,
    pub(super) turned: Option<std::ops::Range<usize>>,
    /// Means outside the range of x that is asked for.
    pub outside: usize,
    /// Does the frame say how much of the variance lies along x and y?
    pub has_shares: bool,
}

impl Data {
    /// The cells of one group in one panel, in order along x.
    pub(crate) fn series(&self, panel: usize, group: usize) -> Vec<&Cell> {
        self.cells.iter().filter(|cell| cell.panel == panel && cell.group == group).collect()
    }

    /// The panels that share a y axis with this one.
    pub(crate) fn sharing(&self, panel: usize) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(move |cell| cell.panel / self.panels_per_row == panel / self.panels_per_row)
    }

    /// Where a cell stands along x when places keep their distances.
    pub(crate) fn x(&self, cell: &Cell) -> f64 {
        self.place(cell.at)
    }

    /// Groups and aggregates the frame.
    pub(crate) fn read(frame: &DataFrame, columns: &Columns, settings: &Settings) -> Result<Self> {
        if !columns.also.is_empty() && !columns.own_panels.is_empty() {
            return Err(Error::input("figure: further y columns go into the same panel (`also`) or into their own (`panel`), not both"));
        }
        let order = &settings.order;
        let x = read::column(frame, &columns.x, "x")?;
        let ys: Vec<&String> = [&columns.y].into_iter().chain(&columns.also).chain(&columns.own_panels).collect();
        let values: Vec<Vec<f64>> = ys.iter().map(|name| read::numbers(frame, name, "y")).collect::<Result<_>>()?;
        let error = columns.error.as_deref().map(|name| read::numbers(frame, name, "the error")).transpose()?;
        let marked = columns.marked.as_deref().map(|name| read::flags(frame, name, "the marks")).transpose()?;
        let (groups, group_of, numeric) = match &columns.colour {
            Some(name) => {
                let column = read::column(frame, name, "the colour")?;
                let (groups, rows) = read::names(column, order)?;
                (groups, rows, column.dtype().is_primitive_numeric())
            }
            None => (vec![String::new()], vec![0; frame.height()], false),
        };
        if settings.rows.is_some() && !columns.own_panels.is_empty() {
            return Err(Error::input(
                "figure: rows of panels are either values of a column (`rows`) or further y columns (`panel`), not both",
            ));
        }
        let (facets, facet_of, row_names) = read::grid(frame, settings)?;
        read::some_rows(frame)?;
        let together = !columns.also.is_empty();
        let titles: Vec<String> = ys.iter().map(|name| settings.name(name)).collect();
        let groups = if together { pairs(&groups, &titles, false) } else { groups };
        read::at_most(columns.colour.as_deref().unwrap_or(&columns.y), groups.len(), GROUPS, "colours")?;
        let in_order = numeric && !together || groups.len() > MOST_GROUPS;
        let styles = match in_order {
            true => (0..groups.len()).map(|at| palette::ordered(at, groups.len())).collect(),
            false => styles(&groups, order),
        };
        let plain = together || groups.iter().all(|group| crate::method::Method::place(group).is_some());
        let panels_per_row = facets.len();
        let panels = if columns.own_panels.is_empty() { facets } else { pairs(&titles, &facets, true) };
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
                    false => (index * panels_per_row + facet_of[row], group_of[row]),
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
        let bounds = |(panel, group, _): (usize, usize, usize)| limits[if together { group % ys.len() } else { panel / panels_per_row }];
        let spread = columns.spread;
        let mut cells: Vec<Cell> =
            places.into_iter().map(|(place, rows)| cell(place, &rows, spread, bounds(place))).collect::<Result<_>>()?;
        cells.sort_by_key(|cell| (cell.panel, cell.group, cell.at));
        let mut data = Self {
            along,
            panels,
            panels_per_row,
            row_names,
            groups,
            styles,
            ordered: in_order,
            plain,
            each: Vec::new(),
            cells,
            skipped,
            ys: ys.len(),
            page: None,
            turned: None,
            outside: 0,
            has_shares: frame.column(&format!("{}_share", columns.x)).is_ok() && frame.column(&format!("{}_share", columns.y)).is_ok(),
        };
        if let Some(name) = &columns.each {
            let place = |index: usize, row: usize| match together {
                true => (facet_of[row], group_of[row] * ys.len() + index),
                false => (index * panels_per_row + facet_of[row], group_of[row]),
            };
            data.each = data.lines(read::names(read::column(frame, name, "each line")?, order)?.1, &values, &at_of, &place);
        }
        Ok(data)
    }

    /// One line for each run, panel and group.
    fn lines(
        &self,
        runs: Vec<usize>,
        values: &[Vec<f64>],
        at_of: &[Option<usize>],
        place: &dyn Fn(usize, usize) -> (usize, usize),
    ) -> Vec<Run> {
        let mut lines: BTreeMap<(usize, usize, usize), Vec<(f64, f64)>> = BTreeMap::new();
        for (index, y) in values.iter().enumerate() {
            for (row, (&run, at)) in runs.iter().zip(at_of).enumerate() {
                if let Some(at) = at.filter(|_| y[row].is_finite()) {
                    let (panel, group) = place(index, row);
                    lines.entry((panel, group, run)).or_default().push((self.place(at), y[row]));
                }
            }
        }
        let sorted = |mut line: Vec<(f64, f64)>| {
            line.sort_by(|a, b| a.0.total_cmp(&b.0));
            line
        };
        lines.into_iter().map(|((panel, group, _), line)| (panel, group, sorted(line))).collect()
    }

    /// The places along x that one panel has.
    pub(crate) fn along_of(&self, panel: usize) -> Along {
        match &self.along {
            Along::Numbers(values) => {
                let mut there: Vec<f64> = self.cells.iter().filter(|cell| cell.panel == panel).map(|cell| values[cell.at]).collect();
                there.sort_by(f64::total_cmp);
                there.dedup();
                Along::Numbers(there)
            }
            names => names.clone(),
        }
    }

    /// What stands at a place along x, in words.
    pub(crate) fn label(&self, at: usize) -> String {
        match &self.along {
            Along::Numbers(values) => shown(values[at]),
            Along::Names(names) => names[at].clone(),
        }
    }

    /// A cell's mean in words, with what is around it and how many rows it is of.
    pub(crate) fn words(cell: &Cell) -> String {
        let mut out = shown(cell.mean);
        if let Some((low, high)) = cell.interval.filter(|(low, high)| low < high) {
            out.push_str(&format!(" ({} to {})", shown(low), shown(high)));
        }
        if cell.values.len() > 1 {
            out.push_str(&format!(", {} rows", cell.values.len()));
        }
        out
    }

    /// The number at a place along x.
    fn place(&self, at: usize) -> f64 {
        match &self.along {
            Along::Numbers(values) => values[at],
            Along::Names(_) => at as f64,
        }
    }
}

/// y, the error column's value where there is one, and whether the row is marked.
type Row = (f64, Option<f64>, bool);

fn cell((panel, group, at): (usize, usize, usize), rows: &[Row], spread: Spread, bounds: (f64, f64)) -> Result<Cell> {
    let values: Vec<f64> = rows.iter().map(|row| row.0).collect();
    let mean = sample::mean(&values);
    let interval = match rows.iter().map(|row| row.1).collect::<Option<Vec<f64>>>() {
        Some(errors) => {
            let error = sample::mean(&errors).abs();
            Some((mean - error, mean + error))
        }
        None => spread.ends(&values)?,
    };
    Ok(Cell { panel, group, at, values, mean, interval, bounds, marked: rows.iter().any(|row| row.2) })
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
