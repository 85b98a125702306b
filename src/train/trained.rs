//! What a training gives.

use std::path::Path;

use polars::prelude::*;

use super::history::{self, Row};
use super::manifest::{Manifest, loss_text};
use super::{Earlier, Moments, Settings, Start, Stopped};
use crate::adapter::{Adapter, HISTORY, MANIFEST};
use crate::display::{Bundle, Show, headed};
use crate::error::Result;
use crate::libtorch::guarded;
use crate::model::Model;

/// A training that has ended: the adapter that was best on dev, the model with it, and how it went.
#[derive(Debug)]
pub struct Trained {
    pub(super) model: Model,
    pub(super) adapter: Adapter,
    /// The optimiser's state after the last step.
    pub(super) moments: Moments,
    /// Of all phases.
    pub(super) history: Vec<Row>,
    pub(super) stopped: Stopped,
    pub(super) tokens: u64,
    pub(super) manifest: Manifest,
}

impl Trained {
    /// The model with the trained adapter.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The trained adapter: the weights that were best on dev; the last ones where there was no dev check, and under
    /// [`Compat::Paper`](crate::compat::Compat).
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// Why the training ended.
    pub fn stopped(&self) -> Stopped {
        self.stopped
    }

    /// Steps taken in this phase.
    pub fn steps(&self) -> u64 {
        self.manifest.outcome.as_ref().map_or(0, |outcome| outcome.steps)
    }

    /// Tokens that this phase has read, padding left out: in its steps and its dev checks; where samples are drawn
    /// ([`SelfDistillation`](crate::objective::SelfDistillation)), also to draw them, and by the teacher. A run that went on counts as one that was never stopped.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The best dev loss of this phase, if there was a dev check.
    pub fn dev_loss(&self) -> Option<f64> {
        self.best().map(|row| row.dev_loss)
    }

    /// What the run was, so that it can be done again: [`Training::repeat`](super::Training::repeat).
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// One row per dev check, of all phases:
    ///
    /// | column | |
    /// |---|---|
    /// | `phase` | from 1; one for each training in a chain of [`Training::resume`](super::Training::resume) |
    /// | `objective` | its name |
    /// | `step`, `epoch` | of the phase, from 1 |
    /// | `train_loss` | mean per example over the steps since the last check, each before its update |
    /// | `dev_loss` | mean per dev example |
    /// | `train_<part>`, `dev_<part>` | the same by part, before its weight, where an objective has several; null in phases without that part |
    /// | `learning_rate`, `gradient_norm` | of the step before the check; the norm is the Euclidean one over all parameters, before clipping |
    /// | `adapter_norm` | Euclidean norm over all parameters |
    /// | `seconds` | since the phase's start, interruptions left out |
    /// | `tokens_per_second` | tokens read (padding left out) in the steps since the last check, by their time |
    /// | `best` | whether the dev loss is the lowest of the phase (the first such check) |
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn history(&self) -> Result<DataFrame> {
        history::frame(&self.history)
    }

    /// Writes PEFT's two files of the adapter, `ia2_manifest.json` and `ia2_history.csv` into `folder`, all of one training or none, as
    /// [`Adapter::save`].
    ///
    /// # Errors
    /// The folder cannot be made or written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<()> {
        let folder = folder.as_ref();
        guarded("saving a training", || {
            let mut csv = Vec::new();
            CsvWriter::new(&mut csv).finish(&mut self.history()?)?;
            let manifest = self.manifest.json()?;
            self.adapter.save_with(folder, &[(HISTORY, &csv), (MANIFEST, manifest.as_bytes())])
        })
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.manifest.settings
    }

    /// What the next phase goes on from.
    pub(super) fn as_start(&self) -> Result<Start> {
        let earlier =
            Earlier { history: self.history.clone(), manifests: self.manifest.chain(), moments: self.moments.on(self.model.device()) };
        Ok(Start { adapter: self.adapter.duplicate()?, earlier: Some(earlier) })
    }

    /// The rows of this phase.
    fn rows(&self) -> impl DoubleEndedIterator<Item = &Row> {
        self.history.iter().filter(|row| row.phase == self.manifest.phase)
    }

    fn best(&self) -> Option<&Row> {
        self.rows().rfind(|row| row.best)
    }

    fn heading(&self) -> String {
        let ended = self.stopped.reason();
        let best = match self.best() {
            Some(row) => format!("best {} at step {}", loss_text(row.dev_loss), row.step),
            None => "no dev check".into(),
        };
        let phases: Vec<&str> =
            self.manifest.earlier.iter().chain([&self.manifest]).map(|manifest| manifest.objective.name.as_str()).collect();
        let seconds = self.manifest.outcome.as_ref().map_or(0.0, |outcome| outcome.seconds.0);
        format!(
            "Trained({}: {}, learning rate {:e}, {} steps, {ended}, {best}, {seconds:.1} s)",
            phases.join(" → "),
            self.adapter.config().name(),
            self.settings().learning_rate,
            self.steps()
        )
    }

    /// Ten dev checks spread over the run.
    fn glimpse(&self) -> Result<DataFrame> {
        const ROWS: usize = 10;
        let last = self.history.len().saturating_sub(1);
        let chosen: Vec<&Row> = match self.history.len() {
            0..=ROWS => self.history.iter().collect(),
            _ => (0..ROWS).map(|row| &self.history[row * last / (ROWS - 1)]).collect(),
        };
        let losses = |value: fn(&Row) -> f64| chosen.iter().map(|row| value(row)).collect::<Vec<_>>();
        let counts = |value: fn(&Row) -> u64| chosen.iter().map(|row| value(row)).collect::<Vec<_>>();
        let mut frame = df!(
            "phase" => counts(|row| row.phase),
            "step" => counts(|row| row.step),
            "epoch" => counts(|row| row.epoch),
            "train_loss" => losses(|row| row.train_loss),
            "dev_loss" => losses(|row| row.dev_loss),
        )?;
        if self.manifest.phase == 1 {
            frame = frame.drop("phase")?;
        }
        Ok(frame)
    }
}

impl Show for Trained {
    /// What was trained and how it ended, and the loss at ten dev checks spread over the run.
    fn bundle(&self) -> Bundle {
        headed(&self.heading(), self.glimpse())
    }
}
