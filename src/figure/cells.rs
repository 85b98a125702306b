//! From a long frame to the cells of a heat map.

use std::collections::HashMap;

use polars::prelude::*;

use super::bytes::joined;
use super::read;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::plot::along::Along;
use crate::plot::scale::shown;
use crate::plot::settings::Settings;

/// The most places along one side: finer cells could not be seen, and neighbours become one.
const MOST_PLACES: usize = 512;
/// The most places of a row of cells with text.
const MOST_TEXTS: usize = 20;

/// The columns a heat map reads.
#[derive(Clone, Debug, Default)]
pub(super) struct Columns {
    pub x: String,
    pub y: String,
    pub value: String,
    pub text: Option<String>,
    /// Columns of texts and of their values that are shown of a cell in addition.
    pub besides: Vec<(String, String)>,
    pub x_names: Option<String>,
    pub y_names: Option<String>,
}

/// One cell: the mean of its rows, and their text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    pub panel: usize,
    pub x: usize,
    pub y: usize,
    pub value: f64,
    pub text: String,
    /// What is shown of the cell in addition, in lines.
    pub besides: String,
}

/// Everything a heat map draws.
#[derive(Clone, Debug)]
pub(super) struct Cells {
    pub panels: Vec<String>,
    /// The names of rows of panels, where rows have some.
    pub row_names: Vec<String>,
    /// What stands along x: names where there are some, else the values themselves.
    pub x: Along,
    /// The same in pieces, one for each panel, where a row of text is too long for one.
    pub pieces: Vec<Along>,
    pub y: Along,
    /// How many places of x and of y one cell is the mean of.
    pub binned: (usize, usize),
    /// Which panels these are, where there are more.
    pub page: Option<String>,
    /// Do the places along x have names, which must all be readable?
    pub x_named: bool,
    /// Numbers go up, names go down.
    pub upward: bool,
    /// Sorted by panel, row and column.
    pub cells: Vec<Cell>,
    /// Rows left out because x, y or the value is missing or not finite.
    pub skipped: usize,
    /// The most rows that one cell is the mean of.
    pub rows: usize,
}

impl Cells {
    pub(super) fn read(frame: &DataFrame, columns: &Columns, settings: &Settings) -> Result<Self> {
        let (x, y) = (read::column(frame, &columns.x, "x")?, read::column(frame, &columns.y, "y")?);
        let values = read::numbers(frame, &columns.value, "the value")?;
        let texts = columns.text.as_deref().map(|name| read::texts(frame, name, "the cells' text")).transpose()?;
        let besides = Self::besides(frame, columns)?;
        let (panels, panel_of, row_names) = read::grid(frame, settings)?;
        let (x_names, y_names) = (&columns.x_names, &columns.y_names);
        let [x_texts, y_texts] = [(x_names, "the names along x"), (y_names, "the names along y")]
            .map(|(name, role)| name.as_deref().map(|name| read::texts(frame, name, role)).transpose());
        let (x_texts, y_texts) = (x_texts?, y_texts?);
        read::some_rows(frame)?;
        let ((x, x_of), (y, y_of)) = (read::places(x, &settings.order)?, read::places(y, &settings.order)?);
        let binned = (x.len().div_ceil(MOST_PLACES), y.len().div_ceil(MOST_PLACES));

        let mut places: HashMap<(usize, usize, usize), (f64, usize, usize)> = HashMap::new();
        let mut skipped = 0;
        for row in 0..frame.height() {
            interrupt::check()?;
            match (x_of[row], y_of[row]) {
                (Some(x), Some(y)) if values[row].is_finite() => {
                    // The first row of a place has its text.
                    let place = places.entry((panel_of[row], y / binned.1, x / binned.0)).or_insert((0.0, 0, row));
                    // A running mean: the sum of large numbers may have none.
                    place.1 += 1;
                    place.0 += (values[row] - place.0) / place.1 as f64;
                }
                _ => skipped += 1,
            }
        }
        if places.is_empty() {
            return Err(Error::numeric(format!(
                "figure: none of the {skipped} rows has numbers in `{}`, and places in `{}` and `{}`",
                columns.value, columns.x, columns.y
            )));
        }
        let rows = places.values().map(|place| place.1).max().unwrap_or(1);
        let text = |row: usize| texts.as_ref().map_or_else(String::new, |texts| texts[row].clone());
        let cell = |((panel, y, x), (value, _, row))| Cell { panel, x, y, value, text: text(row), besides: besides(row) };
        let mut cells: Vec<Cell> = places.into_iter().map(cell).collect();
        cells.sort_by_key(|cell| (cell.panel, cell.y, cell.x));
        let x_named = x_texts.is_some() || matches!(x, Along::Names(_));
        let upward = matches!(y, Along::Numbers(_));
        let called = settings.name(&columns.x);
        let at = |along: &Along, place: usize| along.labels().get(place).cloned().unwrap_or_default();
        let (values, x) = (x.clone(), renamed(x, &x_of, x_texts, &columns.x)?);
        let y = renamed(y, &y_of, y_texts, &columns.y)?;
        let (x, y) = (thinned(x, binned.0), thinned(y, binned.1));
        let mut read = Self { panels, row_names, pieces: Vec::new(), x, y, binned, page: None, x_named, upward, cells, skipped, rows };
        if columns.text.is_some() && settings.facet.is_none() && settings.rows.is_none() && read.x.len() > MOST_TEXTS {
            let name = |from: usize, to: usize| format!("{called} {} to {}", at(&values, from), at(&values, to));
            read.cut(&name);
        }
        Ok(read)
    }

    /// Writes what is shown of a row besides its text, in lines.
    fn besides(frame: &DataFrame, columns: &Columns) -> Result<impl Fn(usize) -> String> {
        let read = |(text, value): &(String, String)| {
            Ok((read::texts(frame, text, "further text")?, read::numbers(frame, value, "further values")?))
        };
        // A frame of another maker may not have them.
        let there = columns.besides.iter().filter(|(text, value)| frame.column(text).is_ok() && frame.column(value).is_ok());
        let read: Vec<(Vec<String>, Vec<f64>)> = there.map(read).collect::<Result<_>>()?;
        Ok(move |row: usize| read.iter().map(|(texts, values)| format!("\n{} {}", visible(&texts[row]), shown(values[row]))).collect())
    }

    /// Long rows as several below each other.
    fn cut(&mut self, name: &dyn Fn(usize, usize) -> String) {
        let (all, each) = (self.x.len(), self.x.len().div_ceil(self.x.len().div_ceil(MOST_TEXTS)));
        let pieces: Vec<(usize, usize)> = (0..all).step_by(each).map(|from| (from, (from + each).min(all))).collect();
        self.panels = pieces.iter().map(|&(from, to)| name(from, to - 1)).collect();
        self.pieces = pieces.iter().map(|&(from, to)| self.x.part(from, to)).collect();
        for cell in &mut self.cells {
            (cell.panel, cell.x) = (cell.x / each, cell.x % each);
        }
        self.cells.sort_by_key(|cell| (cell.panel, cell.y, cell.x));
    }

    /// Keeps the panels of the page that is asked for, of which each has `most`.
    ///
    /// # Errors
    /// There is no such page.
    pub(super) fn turn(&mut self, settings: &Settings, most: usize) -> Result<()> {
        let across = self.panels.len() / self.row_names.len().max(1);
        let unit = if self.row_names.is_empty() { 1 } else { across };
        let (range, page) = settings.paged(self.panels.len(), unit, most)?;
        let heads: Vec<String> = self.panels.iter().take(unit).cloned().collect();
        self.panels = self.panels[range.clone()].to_vec();
        if !self.row_names.is_empty() {
            // What stands above the first row stands above the first row of every page.
            self.panels.iter_mut().zip(heads).for_each(|(panel, head)| *panel = head);
            self.row_names = self.row_names[range.start / unit..range.end / unit].to_vec();
        }
        if !self.pieces.is_empty() {
            self.pieces = self.pieces[range.clone()].to_vec();
        }
        self.cells.retain_mut(|cell| {
            let kept = range.contains(&cell.panel);
            cell.panel = cell.panel.wrapping_sub(range.start);
            kept
        });
        self.page = page;
        Ok(())
    }

    /// The values of some panels.
    pub(super) fn values(&self, within: impl Fn(usize) -> bool) -> Vec<f64> {
        self.cells.iter().filter(|cell| within(cell.panel)).map(|cell| cell.value).collect()
    }

    /// The places along x of one panel.
    pub(super) fn across(&self, panel: usize) -> &Along {
        self.pieces.get(panel).unwrap_or(&self.x)
    }
}

/// The first of every few places.
fn thinned(along: Along, each: usize) -> Along {
    match along {
        Along::Numbers(values) => Along::Numbers(values.into_iter().step_by(each).collect()),
        Along::Names(names) => Along::Names(names.into_iter().step_by(each).collect()),
    }
}

/// The places under the names that the rows give them.
///
/// # Errors
/// A place with two names, as when prompts of different tokens share one axis.
fn renamed(along: Along, at: &[Option<usize>], texts: Option<Vec<String>>, column: &str) -> Result<Along> {
    let Some(texts) = texts else { return Ok(along) };
    let mut names: Vec<Option<String>> = vec![None; along.len()];
    for (place, text) in at.iter().zip(texts) {
        let Some(place) = *place else { continue };
        if let Some(other) = names[place].as_ref().filter(|other| **other != text) {
            let value = &along.labels()[place];
            return Err(Error::input(format!(
                "figure: place {value} of column `{column}` has two names, `{other}` and `{text}`: filter the frame first"
            )));
        }
        names[place] = Some(text);
    }
    let names: Vec<String> = names.into_iter().map(Option::unwrap_or_default).collect();
    Ok(Along::Names(joined(&names).iter().map(|name| visible(name)).collect()))
}

/// A token with the spaces at its ends and the breaks in it made visible.
pub(super) fn visible(token: &str) -> String {
    let inner = token.trim_matches(' ');
    let before = token.len() - token.trim_start_matches(' ').len();
    let after = if inner.is_empty() { 0 } else { token.len() - token.trim_end_matches(' ').len() };
    let inner = inner.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t");
    format!("{}{inner}{}", "·".repeat(before), "·".repeat(after))
}

#[cfg(test)]
mod tests {
    use super::super::colours;
    use super::*;

    fn columns() -> Columns {
        Columns { x: "p".into(), y: "l".into(), value: "v".into(), text: None, besides: vec![], x_names: Some("t".into()), y_names: None }
    }

    #[test]
    fn cells_are_means_and_places_have_names() {
        let frame =
            df!("p" => [0i64, 1, 1, 0], "l" => [1i64, 1, 1, 0], "v" => [0.5, 0.2, 0.4, f64::NAN], "t" => [" a", "b\n", "b\n", " a"])
                .unwrap();
        let cells = Cells::read(&frame, &columns(), &Settings::default()).unwrap();
        assert_eq!((&cells.x, cells.skipped, cells.rows), (&Along::Names(vec!["·a".into(), "b\\n".into()]), 1, 2));
        assert!((cells.cells[1].value - 0.3).abs() < 1e-12 && cells.upward);
    }

    #[test]
    fn a_place_with_two_names_is_refused() {
        let frame = df!("p" => [3i64, 3], "l" => [0i64, 1], "v" => [0.5, 0.2], "t" => ["a", "b"]).unwrap();
        let error = Cells::read(&frame, &columns(), &Settings::default()).unwrap_err().to_string();
        assert!(error.contains("place 3 of column `p` has two names, `a` and `b`"), "{error}");
    }

    #[test]
    fn wide_maps_are_binned_and_a_few_far_values_do_not_decide_the_colours() {
        let rows: Vec<(i64, i64)> = (0..4 * 1030).map(|at| (at / 1030, at % 1030)).collect();
        let value = |&(layer, unit): &(i64, i64)| if (layer, unit) == (2, 300) { 800.0 } else { ((unit * 7 + layer) as f64).sin() };
        let frame = df!("l" => rows.iter().map(|row| row.0).collect::<Vec<_>>(), "p" => rows.iter().map(|row| row.1).collect::<Vec<_>>(), "v" => rows.iter().map(value).collect::<Vec<_>>()).unwrap();
        let cells = Cells::read(&frame, &Columns { x_names: None, ..columns() }, &Settings::default()).unwrap();
        assert_eq!((cells.binned, cells.x.len(), cells.y.len()), ((3, 1), 344, 4));
        let of = cells.cells.iter().find(|cell| (cell.y, cell.x) == (0, 1)).unwrap().value;
        let mean = [3.0, 4.0, 5.0].map(|unit: f64| (unit * 7.0).sin()).iter().sum::<f64>() / 3.0;
        assert!((of - mean).abs() < 1e-12, "{of} {mean}");
        let (low, high) = colours::robust(&cells.values(|_| true)).unwrap();
        assert!((-2.0..0.0).contains(&low) && (0.0..2.0).contains(&high), "{low} {high}");
        let even =
            df!("l" => vec![0i64; 40], "p" => (0..40i64).collect::<Vec<_>>(), "v" => (0..40).map(f64::from).collect::<Vec<_>>()).unwrap();
        let even = Cells::read(&even, &Columns { x_names: None, ..columns() }, &Settings::default()).unwrap();
        assert_eq!(colours::robust(&even.values(|_| true)), None);
    }

    #[test]
    fn spaces_are_seen() {
        assert_eq!([" the", "a\n", "  ", "", "x "].map(visible), ["·the", "a\\n", "··", "", "x·"]);
    }
}
