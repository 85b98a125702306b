//! Compare and align what in-context learning and supervised fine-tuning do inside a language model, in a Rust notebook.

pub mod error;
pub mod libtorch;
pub mod model;
pub mod nn;

pub use error::{Error, Result};
