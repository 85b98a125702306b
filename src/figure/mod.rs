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
//! The builders have the same settings: [`Chart`] (lines, bars, points, violins), [`HeatMap`], [`Reliability`], [`Forest`], [`CriticalDifference`], [`TokenText`]
//! (text coloured by a value per token) and [`AttentionHeads`] (all heads as thumbnails). [`paper`] has the figures of the paper, and [`training`],
//! [`components`], [`matrix`], [`token_table`], [`attention`], [`attention_head`], [`patching`] and [`forest()`] are builders whose columns are set:
//! `training().title("IA2 on sentiment").draw(&trained.history()?)`.
//!
//! Pictures have a white ground and dark text, so they are legible on light and dark pages; groups differ in
//! colours that colour-blind readers can tell apart, and in markers and dashes as well. What is in order (layers, steps, N) goes from dark to light.
//! In a notebook and in SVG, marks say their values when the pointer rests on them, as long as they are not more than about 700.
//!
//! A [`Method`](crate::experiment::Method) has one name, place, colour and marker in all figures and tables.
//! `SFT only` and `IA2 only`, the paper's words, are SFT and IA2.
//!
//! PNG is set in the library's font, with letters for Latin, Greek and Cyrillic, arrows, mathematics and signs for spaces and breaks. Others
//! (Chinese, Arabic, Hebrew, emoji) come from the system's fonts, from those of the folder or file `IA2_FONTS`, and from what `cargo xtask fonts`
//! fetches; what none of them has is spelled by its number (`\u{4e2d}`). SVG has whatever fonts its viewer has.
//!
//! Every kind has an entry in [`FIGURES`]; the registry test draws each entry's sample, and demands that a missing column is named.
#![doc = include_str!("pictures.md")]

mod alt;
mod attention_heads;
mod bars;
mod bounds;
mod bytes;
mod calibration_curve;
mod cells;
mod chart;
mod check;
mod colours;
mod data;
mod difference;
mod forest;
mod heat;
mod heat_words;
mod heights;
mod lines;
mod note;
mod pages;
pub mod paper;
mod points;
mod ranks;
mod read;
mod reliability;
mod samples;
mod scrolled;
mod select;
mod settings;
mod shapes;
mod spread;
mod styles;
mod token_text;
mod value;
mod violins;

pub use attention_heads::AttentionHeads;
pub use chart::Chart;
pub use forest::Forest;
pub use heat::HeatMap;
pub use ranks::CriticalDifference;
pub use reliability::Reliability;
pub use shapes::{attention, attention_head, attention_heads, components, forest, matrix, patching, token_table, token_text, training};
pub use spread::Spread;
pub use token_text::TokenText;
pub use value::{Figure, Figures};

pub use crate::plot::settings::{COLUMN, NOTEBOOK, PAPER};
pub use crate::plot::text::register_fonts;

use polars::prelude::*;

use crate::display::{Bundle, Show};
use crate::error::Result;
use crate::metric::{Binning, calibration};

crate::display::show_as_text!(AttentionHeads, Chart, CriticalDifference, Forest, HeatMap, Reliability, Spread, TokenText);

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

/// A point per row: the column `y` over the column `x`, coloured by the column `colour`, with the least-squares line and Pearson's correlation.
///
/// # Errors
/// As [`Chart::draw`].
pub fn scatter(frame: &DataFrame, x: &str, y: &str, colour: &str) -> Result<Figure> {
    Chart::points(x, y).colour(colour).fit().draw(frame)
}

/// The distribution of the column `y` for each value of the column `x`, as violins ([`Chart::violins`]).
///
/// # Errors
/// As [`Chart::draw`].
pub fn violins(frame: &DataFrame, x: &str, y: &str) -> Result<Figure> {
    Chart::violins(x, y).colour(x).draw(frame)
}

/// The column `value` as colour over the columns `x` and `y`: layers by tokens, or any other two.
///
/// # Errors
/// As [`HeatMap::draw`].
pub fn heat_map(frame: &DataFrame, x: &str, y: &str, value: &str) -> Result<Figure> {
    HeatMap::new(x, y, value).draw(frame)
}

/// How often the predictions of a frame are right for how sure the model was: the frame of [`evaluate`](crate::evaluate::evaluate), with
/// the columns `correct` and `confidence`. [`Reliability`] has the settings, for bins that are already counted.
///
/// # Errors
/// As [`calibration`] and [`Reliability::draw`].
pub fn reliability(frame: &DataFrame, binning: Binning) -> Result<Figure> {
    Reliability::new().binning(binning).draw(&calibration(frame, binning)?)
}

/// One kind of figure.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FigureEntry {
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

impl Show for FigureEntry {
    fn bundle(&self) -> Bundle {
        Bundle::text(format!("{}: {} (reads {})", self.name, self.about, self.columns.join(", ")))
    }
}

/// All kinds of figures.
pub static FIGURES: &[FigureEntry] = &[
    FigureEntry {
        name: "lines",
        about: "a value over a number, one line per group, bands over runs, one panel per facet",
        columns: &["layer", "asim", "method", "task"],
        sample: samples::layers,
        draw: |frame| Chart::lines("layer", "asim").colour("method").facet("task").draw(frame),
    },
    FigureEntry {
        name: "bars",
        about: "a value per name, one bar per group, whiskers over runs",
        columns: &["demonstrations", "accuracy", "method"],
        sample: samples::runs,
        draw: |frame| bars(frame, "demonstrations", "accuracy", "method"),
    },
    FigureEntry {
        name: "scatter",
        about: "a point per row, coloured by group, with the least-squares line and the correlation",
        columns: &["asim", "accuracy", "method"],
        sample: samples::runs,
        draw: |frame| scatter(frame, "asim", "accuracy", "method"),
    },
    FigureEntry {
        name: "violins",
        about: "the distribution of a value per name, with mean and median",
        columns: &["pair", "overlap"],
        sample: samples::overlaps,
        draw: |frame| violins(frame, "pair", "overlap"),
    },
    FigureEntry {
        name: "heat_map",
        about: "a value as colour over two columns, with a colour bar",
        columns: &["position", "layer", "asim"],
        sample: samples::positions,
        draw: |frame| HeatMap::new("position", "layer", "asim").diverging().draw(frame),
    },
    FigureEntry {
        name: "matrix",
        about: "layers by layers or methods by methods, values in the cells",
        columns: &["layer", "other_layer", "value"],
        sample: samples::likeness,
        draw: |frame| matrix("other_layer", "layer", "value").range(0.0, 1.0).name("value", "CKA").draw(frame),
    },
    FigureEntry {
        name: "reliability",
        about: "accuracy per bin of confidence, with the counts and ECE",
        columns: &["lower", "upper", "count", "confidence", "accuracy"],
        sample: samples::bins,
        draw: |frame| Reliability::new().draw(frame),
    },
    FigureEntry {
        name: "training",
        about: "train and dev loss over steps, the best check marked",
        columns: &["step", "train_loss", "dev_loss", "best"],
        sample: samples::history,
        draw: |frame| training().draw(frame),
    },
    FigureEntry {
        name: "token_table",
        about: "the most probable token per layer and position, coloured by its probability",
        columns: &["layer", "position", "token", "top", "probability"],
        sample: samples::lens,
        draw: |frame| token_table().draw(frame),
    },
    FigureEntry {
        name: "attention",
        about: "attention weights of each head, queries by keys",
        columns: &["head", "query", "key", "weight"],
        sample: samples::heads,
        draw: |frame| attention().draw(frame),
    },
    FigureEntry {
        name: "attention_head",
        about: "one head large, with its tokens, the mask blank",
        columns: &["layer", "head", "query", "key", "query_token", "key_token", "weight"],
        sample: samples::patterns,
        draw: |frame| attention_head(0, 0).draw(frame),
    },
    FigureEntry {
        name: "attention_heads",
        about: "all heads of all layers as thumbnails",
        columns: &["layer", "head", "query", "key", "weight"],
        sample: samples::patterns,
        draw: |frame| attention_heads().draw(frame),
    },
    FigureEntry {
        name: "token_text",
        about: "text coloured by a value per token",
        columns: &["token", "log_likelihood"],
        sample: samples::text,
        draw: |frame| token_text("token", "log_likelihood").draw(frame),
    },
    FigureEntry {
        name: "patching",
        about: "how much of the donor's answer each layer and position brings back",
        columns: &["layer", "position", "token", "site", "normalised_logit_difference"],
        sample: samples::patches,
        draw: |frame| patching().draw(frame),
    },
    FigureEntry {
        name: "difference",
        about: "two heat maps in the same colours, and their difference",
        columns: &["position", "layer", "asim", "method"],
        sample: samples::two_maps,
        draw: |frame| HeatMap::new("position", "layer", "asim").difference("method", "SFT", "IA2").draw(frame),
    },
    FigureEntry {
        name: "components",
        about: "points in the plane of two principal components, coloured by label",
        columns: &["pc1", "pc2", "label"],
        sample: samples::plane,
        draw: |frame| components().draw(frame),
    },
    FigureEntry {
        name: "forest",
        about: "paired differences with their intervals, grouped, and the numbers at the side",
        columns: &["method", "baseline", "metric", "task", "difference", "low", "high"],
        sample: samples::differences,
        draw: |frame| forest().interval("95 % interval").draw(frame),
    },
    FigureEntry {
        name: "critical_difference",
        about: "mean ranks of methods, bars joining those that are not told apart",
        columns: &["method", "run", "accuracy"],
        sample: samples::blocks,
        draw: |frame| CriticalDifference::new("method", "run", "accuracy").draw(frame),
    },
    FigureEntry {
        name: "paper_1",
        about: "accuracy and ECE over N, bars per method",
        columns: &["demonstrations", "accuracy", "ece", "method"],
        sample: samples::runs,
        draw: |frame| paper::accuracy_and_ece().draw(frame),
    },
    FigureEntry {
        name: "paper_2",
        about: "asim over layers, one panel per method, one line per model",
        columns: &["layer", "asim", "method", "model"],
        sample: samples::models,
        draw: |frame| paper::asim_over_layers().draw(frame),
    },
    FigureEntry {
        name: "paper_3_and_5",
        about: "accuracy and ECE over asim, coloured by method",
        columns: &["asim", "accuracy", "ece", "method"],
        sample: samples::runs,
        draw: |frame| paper::asim_against_performance().draw(frame),
    },
    FigureEntry {
        name: "paper_4",
        about: "subspace overlap per pair of methods",
        columns: &["pair", "overlap"],
        sample: samples::overlaps,
        draw: |frame| paper::overlap().draw(frame),
    },
    FigureEntry {
        name: "paper_6",
        about: "accuracy over N by its logarithm, one line per method",
        columns: &["demonstrations", "accuracy", "method"],
        sample: samples::runs,
        draw: |frame| paper::accuracy_over_n().draw(frame),
    },
];

#[cfg(test)]
mod data_tests;
#[cfg(test)]
mod extreme;
#[cfg(test)]
mod extreme_tokens;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod forest_tests;
#[cfg(test)]
mod gallery;
#[cfg(test)]
mod geometry_tests;
#[cfg(test)]
#[path = "../../tests/recipes/figure.rs"]
mod recipe;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod token_tests;
