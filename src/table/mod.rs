//! Tables: frames of several methods next to each other, and tables in the forms that papers print.
//!
//! [`Summary`] makes a [`Table`] of a frame of runs: mean (standard deviation), the best in bold, names starred. [`significance`] makes one of
//! tests. A [`Table`] shows itself in a notebook and gives [`Table::markdown`], [`Table::latex`], [`Table::csv`] and [`Table::frame`];
//! [`Table::save`] writes the first three to files.

mod filled;
pub(crate) mod keys;
mod significance;
mod summary;
mod tuples;
mod value;
pub(crate) mod words;

pub(crate) use significance::share;
pub use significance::significance;
pub use summary::{Best, Summary};
pub use value::Table;
pub(crate) use value::latex;

use polars::prelude::*;

use crate::error::{Error, Result};
use crate::frame::below;
use crate::metric::{Binning, accuracy, ece};

crate::display::show_as_text!(Best, Summary);

/// Bins of the ECE in tables.
const BINS: usize = 15;

/// Frames of several methods as one long frame, the first column `method` telling them apart.
///
/// ```
/// use ia2::polars::prelude::*;
/// use ia2::table::stack;
///
/// let (a, b) = (df!("layer" => [0, 1], "asim" => [0.1, 0.2])?, df!("layer" => [0, 1], "asim" => [0.8, 0.9])?);
/// assert_eq!(stack(&[("SFT", &a), ("IA2", &b)])?.shape(), (4, 3));
/// # Ok::<(), ia2::Error>(())
/// ```
///
/// # Errors
/// No frames, or frames of different columns.
pub fn stack(frames: &[(&str, &DataFrame)]) -> Result<DataFrame> {
    let mut whole: Option<DataFrame> = None;
    for (method, frame) in frames {
        let mut frame = (*frame).clone();
        frame.insert_column(0, Column::new("method".into(), vec![*method; frame.height()]))?;
        whole = below(whole, frame).map_err(|error| {
            Error::input(format!("`{method}` has other columns than the frames above it: stack frames of one kind")).because(error)
        })?;
    }
    whole.ok_or_else(|| Error::input("there are no frames to stack: give at least one"))
}

/// One row per method: `method`, `examples`, `accuracy`, `ece_equal_width_15`, `asim` (mean over layers; null where none is given).
///
/// Each method gives its frame of [`evaluate`](crate::evaluate::evaluate) and, if there is one, its frame of
/// [`Activations::asim`](crate::activations::Activations::asim).
///
/// # Errors
/// A frame lacks the columns, which are named; no methods.
pub fn results(methods: &[(&str, &DataFrame, Option<&DataFrame>)]) -> Result<DataFrame> {
    if methods.is_empty() {
        return Err(Error::input("there are no methods to put in a table: give at least one"));
    }
    let mut columns = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (method, predictions, asim) in methods {
        let named = |error: Error| error.context(format_args!("method `{method}`"));
        columns.0.push(*method);
        columns.1.push(predictions.height() as u32);
        columns.2.push(accuracy(predictions).map_err(named)?);
        columns.3.push(match predictions.column("confidence") {
            Ok(_) => Some(ece(predictions, Binning::EqualWidth(BINS)).map_err(named)?),
            Err(_) => None,
        });
        columns.4.push(match asim {
            Some(frame) => frame.column("asim")?.f64()?.mean(),
            None => None,
        });
    }
    Ok(
        df!("method" => columns.0, "examples" => columns.1, "accuracy" => columns.2, "ece_equal_width_15" => columns.3, "asim" => columns.4)?,
    )
}

/// The decimals that show three digits of the span of these values, at most 9; None where they do not differ.
pub(crate) fn decimals(values: impl Iterator<Item = f64>) -> Option<usize> {
    let (least, greatest) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, greatest), value| (least.min(value), greatest.max(value)));
    let span = greatest - least;
    (span > 0.0 && span.is_finite()).then(|| (2.0 - span.log10().floor()).clamp(0.0, 9.0) as usize)
}

/// A number with a true minus sign, and none before a zero.
pub(crate) fn signed(text: String) -> String {
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|letter| matches!(letter, '0' | '.')) => rest.to_owned(),
        Some(rest) => format!("−{rest}"),
        None => text,
    }
}

#[cfg(test)]
mod tests;
