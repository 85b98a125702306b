//! From a long frame to the cells of a heat map.

use std::collections::HashMap;

use polars::prelude::*;

use super::read::{self, Along};
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::interrupt;

/// The most panels of one heat map: the heads of a large layer.
const MOST_PANELS: usize = 36;
/// The most places along one side: finer cells could not be seen.
const MOST_PLACES: usize = 1024;

/// The columns a heat map reads.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    pub x: String,
    pub y: String,
    pub value: String,
    pub facet: Option<String>,
    pub text: Option<String>,
    pub x_names: Option<String>,
    pub y_names: Option<String>,
    pub order: Vec<String>,
}

/// One cell: the mean of its rows, and their text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    pub panel: usize,
    pub x: usize,
    pub y: usize,
    pub value: f64,
    pub text: String,
}

/// Everything a heat map draws.
#[derive(Clone, Debug)]
pub(super) struct Cells {
    pub panels: Vec<String>,
    /// What stands along x: names where there are some, else the values themselves.
    pub x: Along,
    pub y: Along,
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
        let called = columns.facet.as_deref().map_or_else(String::new, |name| settings.name(name));
        let (panels, panel_of) = read::panels(frame, columns.facet.as_deref(), &called, &columns.order)?;
        let (x_names, y_names) = (&columns.x_names, &columns.y_names);
        let [x_texts, y_texts] = [(x_names, "the names along x"), (y_names, "the names along y")]
            .map(|(name, role)| name.as_deref().map(|name| read::texts(frame, name, role)).transpose());
        let (x_texts, y_texts) = (x_texts?, y_texts?);
        read::some_rows(frame)?;
        let ((x, x_of), (y, y_of)) = (read::places(x, &columns.order)?, read::places(y, &columns.order)?);
        read::at_most(columns.facet.as_deref().unwrap_or(&columns.x), panels.len(), MOST_PANELS, "panels of a heat map")?;
        read::at_most(&columns.x, x.len(), MOST_PLACES, "places along x")?;
        read::at_most(&columns.y, y.len(), MOST_PLACES, "places along y")?;

        let mut places: HashMap<(usize, usize, usize), (Vec<f64>, String)> = HashMap::new();
        let mut skipped = 0;
        for row in 0..frame.height() {
            interrupt::check()?;
            match (x_of[row], y_of[row]) {
                (Some(x), Some(y)) if values[row].is_finite() => {
                    let text = || texts.as_ref().map_or_else(String::new, |texts| texts[row].clone());
                    places.entry((panel_of[row], y, x)).or_insert_with(|| (Vec::new(), text())).0.push(values[row]);
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
        let rows = places.values().map(|(values, _)| values.len()).max().unwrap_or(1);
        let mut cells: Vec<Cell> = places
            .into_iter()
            .map(|((panel, y, x), (values, text))| Cell { panel, x, y, value: values.iter().sum::<f64>() / values.len() as f64, text })
            .collect();
        cells.sort_by_key(|cell| (cell.panel, cell.y, cell.x));
        let x_named = x_texts.is_some() || matches!(x, Along::Names(_));
        let upward = matches!(y, Along::Numbers(_));
        let (x, y) = (renamed(x, &x_of, x_texts, &columns.x)?, renamed(y, &y_of, y_texts, &columns.y)?);
        Ok(Self { panels, x, y, x_named, upward, cells, skipped, rows })
    }

    /// The extent of the values.
    pub(super) fn extent(&self) -> (f64, f64) {
        super::scale::extent(self.cells.iter().map(|cell| cell.value))
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
    Ok(Along::Names(names.into_iter().map(|name| visible(&name.unwrap_or_default())).collect()))
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
    use super::*;

    fn columns() -> Columns {
        Columns {
            x: "p".into(),
            y: "l".into(),
            value: "v".into(),
            facet: None,
            text: None,
            x_names: Some("t".into()),
            y_names: None,
            order: vec![],
        }
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
    fn spaces_are_seen() {
        assert_eq!([" the", "a\n", "  ", "", "x "].map(visible), ["·the", "a\\n", "··", "", "x·"]);
    }
}
