//! Models: their configuration and their weights.

pub mod config;
pub mod family;
mod keys;
pub mod weights;
