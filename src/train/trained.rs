//! What a training gives.

use polars::prelude::*;

use super::{Check, Settings, Stopped, Trained};
use crate::adapter::Adapter;
use crate::display::{self, Bundle, Show, headed};
use crate::error::Result;
use crate::model::Model;

impl Trained {
    /// The model with the trained adapter.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The trained adapter: the weights that were best on dev.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// Why the training ended.
    pub fn stopped(&self) -> Stopped {
        self.stopped
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The best dev loss, if there was a dev check.
    pub fn dev_loss(&self) -> Option<f64> {
        self.history.iter().filter(|check| check.best).map(|check| check.dev_loss).next_back()
    }

    /// One row per dev check: `step`, `epoch`, `objective`, `train_loss` (mean since the last check), `dev_loss`, `learning_rate`,
    /// `gradient_norm` (of the step before the check), `seconds` (since the start), `best`.
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn history(&self) -> Result<DataFrame> {
        let column = |value: fn(&Check) -> f64| self.history.iter().map(value).collect::<Vec<_>>();
        Ok(df!(
            "step" => self.history.iter().map(|check| check.step).collect::<Vec<_>>(),
            "epoch" => self.history.iter().map(|check| check.epoch).collect::<Vec<_>>(),
            "objective" => vec![self.objective.as_str(); self.history.len()],
            "train_loss" => column(|check| check.train_loss),
            "dev_loss" => column(|check| check.dev_loss),
            "learning_rate" => vec![self.settings.learning_rate; self.history.len()],
            "gradient_norm" => column(|check| check.gradient_norm),
            "seconds" => column(|check| check.seconds),
            "best" => self.history.iter().map(|check| check.best).collect::<Vec<_>>(),
        )?)
    }
}

impl Show for Trained {
    /// What was trained and how it ended, and the loss at ten dev checks spread over the run.
    fn bundle(&self) -> Bundle {
        let Settings { learning_rate, .. } = self.settings;
        let ended = match self.stopped {
            Stopped::Converged => "dev loss stopped improving",
            Stopped::Epochs => "all epochs done",
            Stopped::Budget => "budget used up",
        };
        let best = match self.history.iter().rfind(|check| check.best) {
            Some(check) => format!("best dev loss {} at step {}", display::number(check.dev_loss), check.step),
            None => "no dev check".into(),
        };
        let seconds = self.history.last().map_or(0.0, |check| check.seconds);
        let heading = format!(
            "Trained({}: {}, learning rate {learning_rate:e}, {} steps, {ended}, {best}, {seconds:.1} s)",
            self.objective,
            self.adapter.config().name(),
            self.steps
        );
        headed(&heading, self.glimpse())
    }
}

impl Trained {
    fn glimpse(&self) -> Result<DataFrame> {
        const ROWS: usize = 10;
        let last = self.history.len().saturating_sub(1);
        let chosen: Vec<&Check> = match self.history.len() {
            0..=ROWS => self.history.iter().collect(),
            _ => (0..ROWS).map(|row| &self.history[row * last / (ROWS - 1)]).collect(),
        };
        Ok(df!(
            "step" => chosen.iter().map(|check| check.step).collect::<Vec<_>>(),
            "epoch" => chosen.iter().map(|check| check.epoch).collect::<Vec<_>>(),
            "train_loss" => chosen.iter().map(|check| check.train_loss).collect::<Vec<_>>(),
            "dev_loss" => chosen.iter().map(|check| check.dev_loss).collect::<Vec<_>>(),
        )?)
    }
}
