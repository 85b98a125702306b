//! Columns of a frame as figures read them: numbers, names, places along an axis; and what is wrong with them, in words.

use polars::prelude::*;

use crate::error::{Error, Result};
use crate::plot::along::Along;
use crate::plot::settings::Settings;
pub(super) use crate::table::keys::names;
use crate::table::keys::{number, text};

/// The named column.
pub(super) fn column<'a>(frame: &'a DataFrame, name: &str, role: &str) -> Result<&'a Column> {
    frame.column(name).map_err(|_| Error::input(format!("figure: the frame has no column `{name}` for {role}; it has {}", there(frame))))
}

/// The names of all columns.
fn there(frame: &DataFrame) -> String {
    let names: Vec<String> = frame.get_column_names().iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// # Errors
/// The frame has no rows.
pub(super) fn some_rows(frame: &DataFrame) -> Result<()> {
    if frame.height() > 0 {
        return Ok(());
    }
    Err(Error::input(format!("figure: the frame has no rows (columns: {})", there(frame))))
}

/// # Errors
/// More different values than a reader can tell apart.
pub(super) fn at_most(column: &str, there: usize, most: usize, what: &str) -> Result<()> {
    if there <= most {
        return Ok(());
    }
    Err(Error::input(format!(
        "figure: column `{column}` has {there} different values; {what} can be at most {most}: filter the frame first"
    )))
}

/// The named column as numbers, NaN where null; true counts as 1.
pub(super) fn numbers(frame: &DataFrame, name: &str, role: &str) -> Result<Vec<f64>> {
    let column = column(frame, name, role)?;
    if !(column.dtype().is_primitive_numeric() || column.dtype().is_bool()) {
        return Err(Error::input(format!("figure: column `{name}` for {role} holds {}, but numbers are needed", column.dtype())));
    }
    (0..column.len()).map(|row| Ok(number(&column.get(row)?))).collect()
}

/// The named column as one text per row.
pub(super) fn texts(frame: &DataFrame, name: &str, role: &str) -> Result<Vec<String>> {
    let column = column(frame, name, role)?;
    (0..column.len()).map(|row| Ok(text(&column.get(row)?))).collect()
}

/// The named column as true and false; null is false.
pub(super) fn flags(frame: &DataFrame, name: &str, role: &str) -> Result<Vec<bool>> {
    let column = column(frame, name, role)?;
    let values = column
        .bool()
        .map_err(|_| Error::input(format!("figure: column `{name}` for {role} holds {}, but booleans are needed", column.dtype())))?;
    Ok(values.iter().map(|value| value.unwrap_or(false)).collect())
}

/// The places along an axis, and each row's; a number that is missing or not finite has none.
pub(super) fn places(column: &Column, order: &[String]) -> Result<(Along, Vec<Option<usize>>)> {
    if !column.dtype().is_primitive_numeric() {
        let (names, rows) = names(column, order)?;
        return Ok((Along::Names(names), rows.into_iter().map(Some).collect()));
    }
    let values: Vec<f64> = (0..column.len()).map(|row| Ok(number(&column.get(row)?))).collect::<Result<_>>()?;
    // 0 and −0 are one place.
    let values: Vec<f64> = values.into_iter().map(|value| value + 0.0).collect();
    let mut distinct: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    distinct.sort_by(f64::total_cmp);
    distinct.dedup();
    let rows = values.iter().map(|value| distinct.binary_search_by(|other| other.total_cmp(value)).ok()).collect();
    Ok((Along::Numbers(distinct), rows))
}

/// The values of a column of panels as their names, and each row's. A number alone says nothing: it stands after the column's name.
pub(super) fn panels(frame: &DataFrame, name: Option<&str>, settings: &Settings) -> Result<(Vec<String>, Vec<usize>)> {
    let Some(name) = name else { return Ok((vec![String::new()], vec![0; frame.height()])) };
    let column = column(frame, name, "the panels")?;
    let (mut panels, rows) = names(column, &settings.order)?;
    if column.dtype().is_primitive_numeric() {
        panels.iter_mut().for_each(|panel| *panel = format!("{} {panel}", settings.name(name)));
    }
    Ok((panels, rows))
}

/// The panels of a facet's values, those of a second column's below each other: the panels' names, each row's panel, and the names of the rows.
pub(super) fn grid(frame: &DataFrame, settings: &Settings) -> Result<(Vec<String>, Vec<usize>, Vec<String>)> {
    let (mut facets, mut facet_of) = panels(frame, settings.facet.as_deref(), settings)?;
    let Some(rows) = &settings.rows else { return Ok((facets, facet_of, Vec::new())) };
    let (names, row_of) = panels(frame, Some(rows), settings)?;
    let across = facets.len();
    facet_of.iter_mut().zip(row_of).for_each(|(facet, row)| *facet += row * across);
    // What stands above the first row holds for all.
    facets.resize(across * names.len(), String::new());
    Ok((facets, facet_of, names))
}
