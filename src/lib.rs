//! Compare and align what in-context learning and supervised fine-tuning do inside a language model, in a Rust notebook.

pub mod activations;
pub mod adapter;
pub mod axes;
pub mod dataset;
pub mod display;
pub mod error;
pub mod evaluate;
pub mod figure;
mod file;
pub mod libtorch;
pub mod metric;
pub mod model;
pub mod nn;
pub mod objective;
pub mod progress;
pub mod prompt;
mod random;
pub mod similarity;
pub mod table;
pub mod tokenizer;
pub mod train;

pub use error::{Error, Result};

// What a notebook touches of these crates it reaches through here: a second copy in a cell would not know the first one's values.
pub use {plotters, polars, tch, tokenizers};

pub mod prelude {
    //! What a notebook types.
    pub use crate::activations::{Activations, Capture, Positions, capture};
    pub use crate::adapter::{Adapter, Lora};
    pub use crate::dataset::{Split, Task};
    pub use crate::display::Show;
    pub use crate::error::{Error, Result};
    pub use crate::evaluate::evaluate;
    pub use crate::figure::{bars, lines};
    pub use crate::metric::{Binning, accuracy, ece};
    pub use crate::model::{Generation, Model, OpenOptions, Responses};
    pub use crate::nn::Hooks;
    pub use crate::objective::{Ia2, Sft};
    pub use crate::table::{results, stack};
    pub use crate::train::{Trained, Training};
    pub use polars::prelude::*;
    pub use tch::{Device, Kind, Tensor};
}

/// Says that a test lacks what it needs; past the test runner's capture, so that it is seen and counted.
#[cfg(test)]
fn skipped(why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "\nSKIPPED: {why}");
}
