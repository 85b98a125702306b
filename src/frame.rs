//! Columns of frames, checked; frames below each other.

use polars::prelude::*;

use crate::display::quoted;
use crate::error::{Error, Result};

/// The column `name`, or an error that lists the columns there are.
pub(crate) fn column<'a>(frame: &'a DataFrame, name: &str) -> Result<&'a Column> {
    frame.column(name).map_err(|_| missing(frame, name))
}

pub(crate) fn missing(frame: &DataFrame, name: &str) -> Error {
    let there = if frame.width() == 0 { "no columns".into() } else { quoted(frame.get_column_names()) };
    Error::input(format!("the frame has no column `{name}`; it has {there}"))
}

/// A column of numbers, null where it has none.
pub(crate) fn maybe_numbers(frame: &DataFrame, name: &str) -> Result<Vec<Option<f64>>> {
    let column = column(frame, name)?;
    if !column.dtype().is_primitive_numeric() {
        return Err(Error::input(format!("`{name}` must hold numbers, it is of type {}", column.dtype())));
    }
    Ok(column.cast(&DataType::Float64)?.f64()?.iter().collect())
}

/// A column of numbers without nulls.
pub(crate) fn numbers(frame: &DataFrame, name: &str) -> Result<Vec<f64>> {
    complete(name, maybe_numbers(frame, name)?)
}

/// A column of finite numbers without nulls.
pub(crate) fn finite_numbers(frame: &DataFrame, name: &str) -> Result<Vec<f64>> {
    let values = numbers(frame, name)?;
    match values.iter().position(|value| !value.is_finite()) {
        Some(row) => Err(Error::numeric(format!("`{name}` is {} in row {row}", values[row]))),
        None => Ok(values),
    }
}

/// A column of text, empty where it is null.
pub(crate) fn text<'a>(frame: &'a DataFrame, name: &str) -> Result<Vec<&'a str>> {
    let column = column(frame, name)?;
    let text = column.str().map_err(|_| Error::input(format!("`{name}` must hold text, it is of type {}", column.dtype())))?;
    Ok(text.iter().map(Option::unwrap_or_default).collect())
}

/// The cells of some columns as text, row by row; nulls are refused.
pub(crate) fn cells(frame: &DataFrame, names: &[&str]) -> Result<Vec<Vec<String>>> {
    let columns = names.iter().map(|name| column(frame, name)).collect::<Result<Vec<_>>>()?;
    let cell = |column: &Column, row: usize| match column.get(row)? {
        AnyValue::Null => Err(null(column.name(), row)),
        value => Ok(value.get_str().map_or_else(|| value.to_string(), str::to_string)),
    };
    (0..frame.height()).map(|row| columns.iter().map(|column| cell(column, row)).collect()).collect()
}

/// The values of the column `name`, none of which may be null.
pub(crate) fn complete<T>(name: &str, values: Vec<Option<T>>) -> Result<Vec<T>> {
    values.into_iter().enumerate().map(|(row, value)| value.ok_or_else(|| null(name, row))).collect()
}

fn null(name: &str, row: usize) -> Error {
    Error::input(format!("`{name}` has no value in row {row}: drop the row, or fill it"))
}

/// Columns in front of a frame.
pub(crate) fn in_front(frame: &mut DataFrame, columns: Vec<Column>) -> Result<()> {
    for (place, column) in columns.into_iter().enumerate() {
        frame.insert_column(place, column)?;
    }
    Ok(())
}

/// A frame below those of the same columns that there are.
pub(crate) fn below(mut whole: Option<DataFrame>, next: DataFrame) -> Result<Option<DataFrame>> {
    match &mut whole {
        Some(whole) => whole.vstack_mut_owned(next).map(|_| ())?,
        None => whole = Some(next),
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_checked() {
        let frame = df!("a" => [Some(1i64), None], "b" => [0.5, f64::INFINITY], "c" => ["x", "y"]).unwrap();
        let message = |error: Error| error.to_string();
        assert_eq!(message(column(&frame, "d").unwrap_err()), "the frame has no column `d`; it has `a`, `b`, `c`");
        assert!(message(column(&DataFrame::default(), "d").unwrap_err()).ends_with("it has no columns"));
        assert_eq!(maybe_numbers(&frame, "a").unwrap(), [Some(1.0), None]);
        assert_eq!(message(numbers(&frame, "a").unwrap_err()), "`a` has no value in row 1: drop the row, or fill it");
        assert_eq!(numbers(&frame, "b").unwrap(), [0.5, f64::INFINITY]);
        assert!(finite_numbers(&frame, "b").unwrap_err().is_numeric());
        assert_eq!(message(numbers(&frame, "c").unwrap_err()), "`c` must hold numbers, it is of type str");
        assert_eq!(text(&frame, "c").unwrap(), ["x", "y"]);
        assert_eq!(message(text(&frame, "b").unwrap_err()), "`b` must hold text, it is of type f64");
        assert_eq!(cells(&frame, &["c", "b"]).unwrap()[0], ["x", "0.5"]);
        assert!(message(cells(&frame, &["a"]).unwrap_err()).contains("row 1"));
    }

    #[test]
    fn frames_are_set_below_each_other() {
        let (first, second) = (df!("a" => [1, 2]).unwrap(), df!("a" => [3]).unwrap());
        let both = below(below(None, first).unwrap(), second).unwrap().unwrap();
        assert_eq!(both.column("a").unwrap().i32().unwrap().to_vec(), [Some(1), Some(2), Some(3)]);
        assert!(below(Some(both.clone()), df!("b" => [1]).unwrap()).is_err());
        assert!(below(Some(both), df!("a" => ["x"]).unwrap()).is_err());
    }
}
