//! Figures: a frame in, a picture out, as SVG and as PNG, with its description in words and the frame it was drawn from.
//!
//! ```no_run
//! # fn show(frame: &polars::prelude::DataFrame) -> ia2::Result<()> {
//! let figure = ia2::figure::lines(frame, "layer", "asim", "method")?;
//! figure.save("asim.svg")?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Chart`] has the settings. Pictures have a white ground and dark text, so they are legible on light and dark pages; groups differ in
//! colours that colour-blind readers can tell apart, and in markers and dashes besides.
//! PNG has letters for Latin, Greek and Cyrillic, arrows and mathematics; SVG has whatever fonts its viewer has.
//!
//! Every kind has an entry in [`FIGURES`]; the registry test draws each entry's sample, and demands that a missing column is named.

mod alt;
mod axis;
mod bars;
mod chart;
mod data;
mod layout;
mod lines;
mod palette;
mod render;
mod scale;
mod scene;
mod text;
mod value;

pub use chart::Chart;
pub use text::register_fonts;
pub use value::{Figure, Figures};

use polars::prelude::*;

use crate::error::Result;

/// Lines of the column `y` over the column `x`, one per value of the column `colour`: layer-wise similarities, accuracy over N.
///
/// Rows that differ in none of the three (several runs) are averaged, with a band of one standard deviation.
///
/// # Errors
/// As [`Chart::draw`].
pub fn lines(frame: &DataFrame, x: &str, y: &str, colour: &str) -> Result<Figure> {
    Chart::lines(x, y).colour(colour).draw(frame)
}

/// Bars of the column `y` for each value of the column `x`, side by side for the values of the column `colour` (which may be `x` itself).
///
/// Rows that differ in none of the three (several runs) are averaged, with whiskers of one standard deviation.
///
/// # Errors
/// As [`Chart::draw`].
pub fn bars(frame: &DataFrame, x: &str, y: &str, colour: &str) -> Result<Figure> {
    Chart::bars(x, y).colour(colour).draw(frame)
}

/// One kind of figure.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// What it shows, in a line.
    pub about: &'static str,
    /// The columns that the sample is drawn from.
    pub columns: &'static [&'static str],
    /// A small frame of the shape it draws.
    pub sample: fn() -> Result<DataFrame>,
    /// Draws a frame of the sample's shape.
    pub draw: fn(&DataFrame) -> Result<Figure>,
}

/// All kinds of figures.
pub static FIGURES: &[Kind] = &[
    Kind {
        name: "lines",
        about: "a value over a number, one line per group, bands over runs, one panel per facet",
        columns: &["layer", "asim", "method", "task"],
        sample: layers,
        draw: |frame| Chart::lines("layer", "asim").colour("method").facet("task").draw(frame),
    },
    Kind {
        name: "bars",
        about: "a value per name, one bar per group, whiskers over runs",
        columns: &["demonstrations", "accuracy", "method"],
        sample: accuracies,
        draw: |frame| bars(frame, "demonstrations", "accuracy", "method"),
    },
];

/// Similarities of two methods over six layers, two tasks and two runs.
fn layers() -> Result<DataFrame> {
    let rows = || (0..48i64).map(|row| (row % 6, row / 6 % 2, row / 12 % 2, row / 24));
    Ok(df!(
        "layer" => rows().map(|(layer, ..)| layer).collect::<Vec<_>>(),
        "asim" => rows().map(|(layer, method, task, run)| 0.9 - 0.1 * layer as f64 * (method + 1) as f64 + 0.05 * (task + run) as f64).collect::<Vec<_>>(),
        "method" => rows().map(|(_, method, ..)| ["IA2 → SFT", "SFT"][method as usize]).collect::<Vec<_>>(),
        "task" => rows().map(|(_, _, task, _)| ["sentiment", "topic"][task as usize]).collect::<Vec<_>>(),
        "run" => rows().map(|(.., run)| run).collect::<Vec<_>>()
    )?)
}

/// Accuracies of three methods for three numbers of demonstrations and two runs.
fn accuracies() -> Result<DataFrame> {
    let rows = || (0..18i64).map(|row| (row % 3, row / 3 % 3, row / 9));
    Ok(df!(
        "demonstrations" => rows().map(|(n, ..)| [2i64, 4, 8][n as usize]).collect::<Vec<_>>(),
        "accuracy" => rows().map(|(n, method, run)| 0.5 + 0.1 * n as f64 + 0.05 * method as f64 + 0.06 * run as f64).collect::<Vec<_>>(),
        "method" => rows().map(|(_, method, _)| ["ICL", "SFT", "IA2 → SFT"][method as usize]).collect::<Vec<_>>(),
        "run" => rows().map(|(.., run)| run).collect::<Vec<_>>()
    )?)
}

#[cfg(test)]
mod tests;
