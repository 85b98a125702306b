//! From a frame of runs to a table of means: rows and columns by name, mean (standard deviation) in the cells, the best in bold.

use std::collections::HashMap;

use polars::prelude::*;

use super::filled::Filled;
use super::keys;
use super::tuples::Keys;
use super::value::Table;
use super::words::words;
use crate::error::{Error, Result};
use crate::frame;

/// Which value is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Best {
    /// As of accuracies.
    Highest,
    /// As of calibration errors.
    Lowest,
    /// None is: no bold.
    Neither,
}

/// A column of numbers to show.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub column: String,
    pub best: Best,
    pub percent: bool,
    pub decimals: Option<usize>,
}

/// A table in the form of the paper's: each cell is the mean (sample standard deviation) over the rows of the frame that share its names.
///
/// ```
/// use ia2::polars::prelude::*;
/// use ia2::table::{Best, Summary};
///
/// let runs = df!(
///     "task" => ["FinS", "FinS", "FinS", "FinS"], "ood" => [true; 4], "method" => ["SFT", "SFT", "IA2 → SFT", "IA2 → SFT"],
///     "run" => [0, 1, 0, 1], "accuracy" => [0.60, 0.64, 0.78, 0.80],
/// )?;
/// let table = Summary::new(&["task"], &["method"]).value("accuracy", Best::Highest).percent("accuracy").star("task", "ood").build(&runs)?;
/// assert!(table.markdown().contains("| FinS\\* | 62.0 (2.8) | **79.0 (1.4)** |"));
/// # Ok::<(), ia2::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Summary {
    pub(super) rows: Vec<String>,
    pub(super) columns: Vec<String>,
    pub(super) values: Vec<Value>,
    compare: Option<String>,
    pub(super) star: Option<(String, String)>,
    pub(super) order: Vec<String>,
    names: HashMap<String, String>,
    pub(super) caption: Option<String>,
    pub(super) label: Option<String>,
}

impl Summary {
    /// The columns of the frame whose values name the rows, outer first, and those whose values name the columns.
    pub fn new(rows: &[&str], columns: &[&str]) -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let (rows, columns) = (owned(rows), owned(columns));
        Self {
            rows,
            columns,
            values: Vec::new(),
            compare: None,
            star: None,
            order: Vec::new(),
            names: HashMap::new(),
            caption: None,
            label: None,
        }
    }

    /// A column of numbers to show; with several, each cell's columns stand side by side.
    pub fn value(mut self, column: &str, best: Best) -> Self {
        self.values.push(Value { column: column.to_owned(), best, percent: false, decimals: None });
        self
    }

    /// This value times 100, with one decimal.
    pub fn percent(mut self, column: &str) -> Self {
        self.values.iter_mut().filter(|value| value.column == column).for_each(|value| value.percent = true);
        self
    }

    /// How many decimals this value has, the same in all its cells; by default 1 where it is in percent, 3 where its numbers lie in [0, 1], and else
    /// as many as show three digits of the span of its means.
    pub fn decimals(mut self, column: &str, decimals: usize) -> Self {
        self.values.iter_mut().filter(|value| value.column == column).for_each(|value| value.decimals = Some(decimals.min(9)));
        self
    }

    /// The column among whose values the best is bold, all other names being equal; by default the last that names columns, or rows where
    /// there are none.
    pub fn compare(mut self, column: &str) -> Self {
        self.compare = Some(column.to_owned());
        self
    }

    /// Names of the column `key` get a star where the boolean column `flag` is true (an evaluation out of distribution).
    pub fn star(mut self, key: &str, flag: &str) -> Self {
        self.star = Some((key.to_owned(), flag.to_owned()));
        self
    }

    /// Names that come first, in this order; others follow as they appear, numbers ascending.
    pub fn order(mut self, names: &[&str]) -> Self {
        self.order = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// What the table calls this column; by default what it is called in words (`ECE (15 equal-width bins)`), or its name with spaces for underscores.
    pub fn name(mut self, column: &str, text: &str) -> Self {
        self.names.insert(column.to_owned(), text.to_owned());
        self
    }

    /// The line above the table.
    pub fn caption(mut self, text: &str) -> Self {
        self.caption = Some(text.to_owned());
        self
    }

    /// What LaTeX refers to the table by ([`Table::label`]).
    pub fn label(mut self, name: &str) -> Self {
        self.label = Some(name.to_owned());
        self
    }

    /// Makes the table. Its frame has the columns that name rows and columns, and `value` (the column's name), `mean`, `std` (null for one
    /// row), `count`, `best` and `starred`.
    ///
    /// # Errors
    /// No rows, columns or values are asked for, or a column twice; a column is missing (the message lists those there are), a value column
    /// holds no numbers or a number that is not finite, the flag is not boolean or differs within one name; the frame has no rows. Nulls are
    /// left out and counted below the table.
    pub fn build(&self, frame: &DataFrame) -> Result<Table> {
        self.check(frame)?;
        let keys = Keys::read(self, frame)?;
        let mut cells: HashMap<(usize, usize, usize), Vec<f64>> = HashMap::new();
        let mut missing = 0;
        for (index, value) in self.values.iter().enumerate() {
            let column = column(frame, &value.column)?;
            if !(column.dtype().is_primitive_numeric() || column.dtype().is_bool()) {
                return Err(Error::input(format!("table: column `{}` holds {}, but numbers are needed", value.column, column.dtype())));
            }
            for row in 0..frame.height() {
                match column.get(row)? {
                    AnyValue::Null => missing += 1,
                    number => match keys::number(&number) {
                        number if number.is_finite() => {
                            cells.entry((keys.row_of[row], keys.column_of[row], index)).or_default().push(number)
                        }
                        number => {
                            let name = &value.column;
                            return Err(Error::numeric(format!(
                                "table: column `{name}` has {number} in row {row}: make it null to leave it out"
                            )));
                        }
                    },
                }
            }
        }
        Filled::of(self, keys, cells, missing).table()
    }

    fn check(&self, frame: &DataFrame) -> Result<()> {
        let keys: Vec<&String> = self.rows.iter().chain(&self.columns).collect();
        if self.rows.is_empty() || self.values.is_empty() {
            return Err(Error::input("table: at least one column must name the rows, and one must be a value"));
        }
        if let Some(twice) = keys.iter().enumerate().find(|(at, key)| keys[..*at].contains(key)) {
            return Err(Error::input(format!("table: column `{}` names twice", twice.1)));
        }
        let named = self.compare.iter().chain(self.star.as_ref().map(|star| &star.0));
        if let Some(other) = named.into_iter().find(|name| !keys.contains(name)) {
            return Err(Error::input(format!("table: column `{other}` names neither rows nor columns")));
        }
        keys.into_iter().chain(self.values.iter().map(|value| &value.column)).try_for_each(|name| column(frame, name).map(|_| ()))?;
        if frame.height() == 0 {
            return Err(Error::input("table: the frame has no rows: was everything filtered away?"));
        }
        Ok(())
    }

    pub(super) fn called(&self, column: &str) -> String {
        self.names.get(column).cloned().unwrap_or_else(|| words(column))
    }

    /// The column among whose values the best is.
    pub(super) fn compared(&self) -> Option<&String> {
        self.compare.as_ref().or_else(|| self.columns.last().or(self.rows.last()))
    }
}

/// The named column.
pub(super) fn column<'a>(frame: &'a DataFrame, name: &str) -> Result<&'a Column> {
    frame::column(frame, name).map_err(|error| error.context("table"))
}
