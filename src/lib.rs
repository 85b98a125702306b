//! Compare and align what in-context learning and supervised fine-tuning do inside a language model, in a Rust notebook.

pub mod dataset;
pub mod error;
pub mod metric;
pub mod prompt;
pub(crate) mod random;
pub mod tokenizer;

pub use error::{Error, Result};
