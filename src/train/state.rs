//! What a run under way knows beside its tensors.

use serde::{Deserialize, Serialize};

use super::Stopped;
use super::exact::{self, Exact};
use super::history::Row;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct State {
    /// Steps taken.
    pub step: u64,
    /// Steps the optimiser has taken, those of earlier phases included where its state was kept.
    pub optimizer_steps: u64,
    #[serde(with = "exact")]
    pub best_dev: f64,
    pub checks_without_gain: u64,
    pub since: Since,
    #[serde(with = "exact")]
    pub seconds: f64,
    /// The rows of this phase.
    pub history: Vec<Row>,
    pub stopped: Option<Stopped>,
}

/// What has been trained since the last dev check.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Since {
    pub examples: u64,
    /// Tokens read, without padding.
    pub tokens: u64,
    /// Of the steps alone.
    #[serde(with = "exact")]
    pub seconds: f64,
    /// Sum of each part's losses over the examples.
    pub parts: Vec<Exact>,
    /// Of the last step, before clipping.
    #[serde(with = "exact")]
    pub gradient_norm: f64,
    #[serde(with = "exact")]
    pub learning_rate: f64,
}

impl State {
    pub fn new(optimizer_steps: u64) -> Self {
        Self {
            step: 0,
            optimizer_steps,
            best_dev: f64::INFINITY,
            checks_without_gain: 0,
            since: Since::default(),
            seconds: 0.0,
            history: Vec::new(),
            stopped: None,
        }
    }
}

impl Since {
    pub fn add(&mut self, parts: &[f64]) {
        self.parts.resize(parts.len(), Exact(0.0));
        for (sum, part) in self.parts.iter_mut().zip(parts) {
            sum.0 += part;
        }
    }
}
