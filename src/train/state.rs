//! What a run under way knows besides its tensors.

use serde::{Deserialize, Serialize};

use super::Stopped;
use super::exact::{self, Exact};
use super::history::Row;

/// A count above it is none that a run comes to.
const MOST_COUNTED: u64 = 1 << 48;

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
    /// Tokens read so far, where samples are drawn: how long they are is known then alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
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
    pub(super) fn new(optimizer_steps: u64) -> Self {
        Self {
            step: 0,
            optimizer_steps,
            best_dev: f64::INFINITY,
            checks_without_gain: 0,
            since: Since::default(),
            seconds: 0.0,
            tokens: None,
            history: Vec::new(),
            stopped: None,
        }
    }
}

impl State {
    /// What could not be so in a run of `total` steps whose optimiser had taken `begun` before.
    pub(super) fn check(&self, total: u64, begun: u64) -> Result<(), String> {
        let Self { step, optimizer_steps, best_dev, checks_without_gain, since, seconds, tokens, history, stopped } = self;
        let steps = history.iter().map(|row| row.step);
        // A dev loss over no examples is no number.
        let numbers = |row: &Row| [row.train_loss, row.learning_rate, row.gradient_norm, row.adapter_norm, row.seconds];
        let best = history.iter().filter(|row| row.best).map(|row| row.dev_loss).fold(f64::INFINITY, f64::min);
        let checks = history.iter().rev().take_while(|row| !row.best).count() as u64;
        let ranges = [
            ("the step", *step <= total),
            ("the optimiser's steps", begun.checked_add(*step) == Some(*optimizer_steps)),
            (
                "the history's steps",
                steps.clone().zip(steps.clone().skip(1)).all(|(a, b)| a < b) && steps.clone().all(|at| (1..=*step).contains(&at)),
            ),
            (
                "the history's numbers",
                history.iter().all(|row| numbers(row).iter().all(|number| number.is_finite()) && (!row.best || row.dev_loss.is_finite())),
            ),
            ("the best dev loss", best_dev.to_bits() == best.to_bits()),
            ("the checks without gain", *checks_without_gain == checks),
            ("the seconds", seconds.is_finite() && *seconds >= 0.0),
            ("the tokens", tokens.is_none_or(|tokens| tokens <= MOST_COUNTED)),
            ("what was trained since the last check", since.is_sound()),
            ("the end", *stopped != Some(Stopped::Epochs) || *step == total),
        ];
        ranges.iter().find(|(_, holds)| !holds).map_or(Ok(()), |(what, _)| Err(format!("{what} cannot be so")))
    }
}

impl Since {
    /// Counts that can be gone on from, and finite numbers.
    fn is_sound(&self) -> bool {
        let numbers = self.parts.iter().map(|part| part.0).chain([self.seconds, self.gradient_norm, self.learning_rate]);
        self.examples <= MOST_COUNTED && self.tokens <= MOST_COUNTED && numbers.into_iter().all(f64::is_finite)
    }

    pub(super) fn add(&mut self, parts: &[f64]) {
        self.parts.resize(parts.len(), Exact(0.0));
        for (sum, part) in self.parts.iter_mut().zip(parts) {
            sum.0 += part;
        }
    }
}
