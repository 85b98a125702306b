//! Compare and align what in-context learning and supervised fine-tuning do inside a language model, in a Rust notebook.

pub mod axes;
pub mod display;
pub mod error;
pub mod figure;
pub mod progress;
pub mod similarity;

pub use error::{Error, Result};
