//! Everything that decides a run's course besides model, adapter, objective and data.

use serde::{Deserialize, Serialize};

use super::exact;
use super::{Optimizer, Schedule};
use crate::compat::Compat;
use crate::error::{Error, Result};

/// Defaults that others reckon with.
pub(crate) const EPOCHS: u64 = 50;
pub(crate) const BATCH: usize = 4;
pub(crate) const CHECK_EVERY: u64 = 2;
pub(crate) const PATIENCE: u64 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    #[serde(with = "exact")]
    pub learning_rate: f64,
    pub optimizer: Optimizer,
    pub schedule: Schedule,
    pub warm_up: u64,
    pub clip: Option<exact::Exact>,
    pub epochs: u64,
    pub batch: usize,
    pub accumulate: usize,
    pub by_length: bool,
    pub tokens_per_forward: Option<usize>,
    pub check_every: u64,
    pub patience: u64,
    pub seed: u64,
    pub keep_optimizer: bool,
    pub compat: Compat,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            optimizer: Optimizer::adam(),
            schedule: Schedule::Constant,
            warm_up: 0,
            clip: None,
            epochs: EPOCHS,
            batch: BATCH,
            accumulate: 1,
            by_length: false,
            tokens_per_forward: None,
            check_every: CHECK_EVERY,
            patience: PATIENCE,
            seed: 0,
            keep_optimizer: false,
            compat: Compat::Corrected,
        }
    }
}

impl Settings {
    pub(super) fn paper(&self) -> bool {
        self.compat == Compat::Paper
    }

    pub(super) fn check(&self) -> Result<()> {
        let Self { learning_rate, epochs, batch, accumulate, check_every, patience, .. } = *self;
        if !(learning_rate > 0.0 && learning_rate.is_finite()) {
            return Err(Error::input(format!("learning rate {learning_rate}: use a positive number, e.g. 1e-3")));
        }
        if let Some(exact::Exact(most)) = self.clip.filter(|clip| !(clip.0 > 0.0 && clip.0.is_finite())) {
            return Err(Error::input(format!("gradients are to be clipped to {most}: use a positive number, e.g. 1")));
        }
        let tokens = self.tokens_per_forward.map_or(1, |tokens| tokens as u64);
        let counts = [("epochs", epochs), ("batch", batch as u64), ("accumulate", accumulate as u64), ("check_every", check_every)];
        for (name, value) in counts.into_iter().chain([("patience", patience), ("tokens_per_forward", tokens)]) {
            if value == 0 {
                return Err(Error::input(format!("{name} is 0: use at least 1")));
            }
        }
        if self.paper() && (accumulate > 1 || self.by_length) {
            return Err(Error::input("the authors' code knows no `accumulate` and no `by_length`: leave them out, or `Compat::Paper`"));
        }
        self.optimizer.check()
    }
}
