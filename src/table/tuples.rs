//! The names of a table's rows and columns: the combinations that occur.

use polars::prelude::*;

use super::keys;
use super::summary::{Summary, column};
use crate::error::{Error, Result};

/// The names of rows and columns, and which of them each row of the frame belongs to.
pub(super) struct Keys {
    pub rows: Vec<Vec<String>>,
    pub columns: Vec<Vec<String>>,
    pub row_of: Vec<usize>,
    pub column_of: Vec<usize>,
    /// Which of the columns' keys are numbers.
    pub numbers: Vec<bool>,
    /// For each row or column of the table, by where the starred key is.
    stars: Vec<bool>,
}

impl Keys {
    pub(super) fn read(summary: &Summary, frame: &DataFrame) -> Result<Self> {
        let (rows, row_of) = tuples(frame, &summary.rows, &summary.order)?;
        let (columns, column_of) = tuples(frame, &summary.columns, &summary.order)?;
        let numeric = |name: &String| column(frame, name).map(|column| column.dtype().is_primitive_numeric());
        let numbers = summary.columns.iter().map(numeric).collect::<Result<_>>()?;
        let mut stars = Vec::new();
        if let Some((key, flag)) = &summary.star {
            let flags = column(frame, flag)?;
            let flags = flags
                .bool()
                .map_err(|_| Error::input(format!("table: column `{flag}` for stars holds {}, but booleans are needed", flags.dtype())))?;
            let (tuples, of) = if summary.rows.contains(key) { (&rows, &row_of) } else { (&columns, &column_of) };
            let mut found: Vec<Option<bool>> = vec![None; tuples.len()];
            for (row, flag_of_row) in flags.iter().enumerate() {
                let flagged = flag_of_row.unwrap_or(false);
                if found[of[row]].replace(flagged).is_some_and(|other| other != flagged) {
                    let names = tuples[of[row]].join(", ");
                    return Err(Error::input(format!("table: `{names}` has rows with `{flag}` and rows without: a star cannot say both")));
                }
            }
            stars = found.into_iter().map(|flag| flag.unwrap_or(false)).collect();
        }
        Ok(Self { rows, columns, row_of, column_of, numbers, stars })
    }

    pub(super) fn star(&self, summary: &Summary, row: usize, column: usize) -> bool {
        let of = |key: &String| if summary.rows.contains(key) { row } else { column };
        summary.star.as_ref().is_some_and(|(key, _)| self.stars[of(key)])
    }

    /// The name, with a star where this key of this row or column has one.
    pub(super) fn starred(&self, summary: &Summary, in_rows: bool, at: usize, key: usize, name: &str) -> String {
        let keys = if in_rows { &summary.rows } else { &summary.columns };
        let starred = summary.star.as_ref().is_some_and(|(starred, _)| *starred == keys[key] && self.stars[at]);
        format!("{name}{}", if starred { "*" } else { "" })
    }
}

/// The combinations of names that occur, in order, and each row's.
fn tuples(frame: &DataFrame, columns: &[String], order: &[String]) -> Result<(Vec<Vec<String>>, Vec<usize>)> {
    let read: Vec<(Vec<String>, Vec<usize>)> =
        columns.iter().map(|name| keys::names(column(frame, name)?, order)).collect::<Result<_>>()?;
    let of: Vec<Vec<usize>> = (0..frame.height()).map(|row| read.iter().map(|(_, rows)| rows[row]).collect()).collect();
    let mut distinct = of.clone();
    distinct.sort();
    distinct.dedup();
    let at = of.iter().map(|tuple| distinct.binary_search(tuple).unwrap_or_default()).collect();
    let names = distinct.iter().map(|tuple| tuple.iter().zip(&read).map(|(&index, (names, _))| names[index].clone()).collect()).collect();
    Ok((names, at))
}
