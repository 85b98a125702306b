//! The one training loop: an adapter, an objective, a split.
//!
//! [`Training`] says what and how, [`Training::preview`] shows which tokens are taught, [`Training::run`] trains and gives a [`Trained`]: the
//! model with its adapter, the history as a frame, and the [`Manifest`] from which the run can be repeated.
//!
//! | setting | default |
//! |---|---|
//! | [`learning_rate`](Training::learning_rate) | 1e-3 |
//! | [`optimizer`](Training::optimizer) | [`Optimizer::adam`]: betas 0.9 and 0.999, epsilon 1e-8 |
//! | [`schedule`](Training::schedule), [`warm_up`](Training::warm_up) | [`Schedule::Constant`], none |
//! | [`clip`](Training::clip) | none |
//! | [`epochs`](Training::epochs) | 50 |
//! | [`batch`](Training::batch), [`accumulate`](Training::accumulate), [`by_length`](Training::by_length) | 4, 1, false |
//! | [`tokens_per_forward`](Training::tokens_per_forward) | 320 on the CPU, no limit on CUDA |
//! | [`check_every`](Training::check_every), [`patience`](Training::patience) | 2 steps, 5 checks |
//! | [`seed`](Training::seed) | 0 |
//! | [`compat`](Training::compat) | [`Compat::Corrected`] |
//!
//! A step takes the mean over its examples of the objective's loss, and Adam moves the adapter. Every `check_every` steps and at each
//! epoch's end the mean loss over the dev set is looked at; after `patience` looks without a strict improvement the run ends, and the
//! weights that were best on dev are those it gives. An adapter's parameters are held in f32 (f64 on an f64 model), whatever the model's kind.

mod batches;
mod checkpoint;
mod exact;
mod history;
mod manifest;
mod optimizer;
mod preview;
mod run;
mod schedule;
mod settings;
mod state;
mod trained;
mod weights;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::adapter::{Adapter, AdapterConfig};
use crate::compat::Compat;
use crate::dataset::Split;
use crate::error::{Error, Result};
use crate::libtorch::door;
use crate::model::Model;
use crate::nn::Hooks;
use crate::objective::Objective;
pub use manifest::Manifest;
use optimizer::Moments;
pub use optimizer::Optimizer;
pub use schedule::Schedule;
use settings::Settings;
pub use trained::Trained;

/// What to train, and how: a builder. The [module](self) lists the defaults, which are the authors' but for the learning rate.
#[derive(Debug)]
pub struct Training {
    adapter: AdapterConfig,
    objective: Box<dyn Objective>,
    start: Option<Start>,
    settings: Settings,
    limits: Limits,
    checkpoint: Option<PathBuf>,
    /// The run that this one is to be again.
    expected: Option<Manifest>,
}

/// What a training goes on from.
#[derive(Debug)]
struct Start {
    adapter: Adapter,
    earlier: Option<Earlier>,
}

/// The phases before.
#[derive(Debug)]
struct Earlier {
    history: Vec<history::Row>,
    manifests: Vec<Manifest>,
    moments: Moments,
}

/// What ends a call early; no part of what the run is.
#[derive(Debug, Default)]
struct Limits {
    steps: Option<u64>,
    time: Option<Duration>,
    stop_file: Option<PathBuf>,
}

/// Why a training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// Dev loss had not improved for `patience` checks.
    Converged,
    /// All epochs are done.
    Epochs,
    /// The budget of steps or time is used up; a checkpoint lets the run continue.
    Budget,
    /// The stop file was there; a checkpoint lets the run continue.
    StopFile,
}

impl Stopped {
    /// Whether the run could go on.
    pub fn is_early(self) -> bool {
        matches!(self, Self::Budget | Self::StopFile)
    }
}

impl Training {
    /// A fresh adapter, trained toward an objective.
    pub fn new(adapter: impl Into<AdapterConfig>, objective: impl Objective + 'static) -> Self {
        Self {
            adapter: adapter.into(),
            objective: Box::new(objective),
            start: None,
            settings: Settings::default(),
            limits: Limits::default(),
            checkpoint: None,
            expected: None,
        }
    }

    /// A new phase: goes on from a trained adapter toward another objective (IA2 -> SFT, SFT -> IA2), with the same settings.
    ///
    /// The optimiser starts afresh, as in the authors' code, unless [`keep_optimizer`](Self::keep_optimizer) is set; steps, epochs, schedule
    /// and early stopping start afresh in any case. The history of the new [`Trained`] has the rows of all phases.
    ///
    /// # Errors
    /// When libtorch refuses to copy the parameters.
    pub fn resume(trained: &Trained, objective: impl Objective + 'static) -> Result<Self> {
        let mut training = Self::new(trained.adapter().config().clone(), objective);
        training.settings = Settings { keep_optimizer: false, ..*trained.settings() };
        training.after(trained)
    }

    /// Goes on from an adapter, e.g. one that was opened from files, with a history of its own.
    ///
    /// # Errors
    /// When libtorch refuses to copy the parameters.
    pub fn from_adapter(adapter: &Adapter, objective: impl Objective + 'static) -> Result<Self> {
        Self::new(adapter.config().clone(), objective).start_from(adapter)
    }

    /// The run of a manifest again: its adapter and all of its settings. To the same bits, on the same machine with as many threads.
    ///
    /// [`run`](Self::run) refuses, naming each, if objective, samples, model, or the adapter it goes on from are not the manifest's. For a
    /// later phase repeat the earlier ones ([`Manifest::earlier`]) first and say [`after`](Self::after) which.
    pub fn repeat(manifest: &Manifest, objective: impl Objective + 'static) -> Self {
        let mut training = Self::new(manifest.adapter.clone(), objective);
        training.settings = manifest.settings;
        training.expected = Some(manifest.clone());
        training
    }

    /// Goes on from an adapter, with a history of its own.
    ///
    /// # Errors
    /// An adapter of another kind or with other settings; when libtorch refuses to copy the parameters.
    pub fn start_from(mut self, adapter: &Adapter) -> Result<Self> {
        self.same_adapter(adapter)?;
        self.start = Some(Start { adapter: adapter.duplicate()?, earlier: None });
        Ok(self)
    }

    /// Makes this the phase after `trained`, and keeps this training's own settings.
    ///
    /// # Errors
    /// An adapter of another kind or with other settings; when libtorch refuses to copy the parameters.
    pub fn after(mut self, trained: &Trained) -> Result<Self> {
        self.same_adapter(trained.adapter())?;
        self.start = Some(door("going on from a training", || trained.as_start())?);
        Ok(self)
    }

    /// The rate that the schedule starts from.
    pub fn learning_rate(mut self, rate: f64) -> Self {
        self.settings.learning_rate = rate;
        self
    }

    /// What moves the parameters along the gradient.
    pub fn optimizer(mut self, optimizer: Optimizer) -> Self {
        self.settings.optimizer = optimizer;
        self
    }

    /// How the learning rate moves over the steps of all epochs.
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.settings.schedule = schedule;
        self
    }

    /// Steps over which the rate rises from 0 in a straight line, as in [`Schedule`].
    pub fn warm_up(mut self, steps: u64) -> Self {
        self.settings.warm_up = steps;
        self
    }

    /// Scales a gradient whose Euclidean norm over all parameters exceeds `norm` down to it, as PyTorch's `clip_grad_norm_`: by
    /// `min(1, norm / (its norm + 1e-6))`.
    pub fn clip(mut self, norm: f64) -> Self {
        self.settings.clip = Some(exact::Exact(norm));
        self
    }

    /// At most this often over the training examples.
    pub fn epochs(mut self, epochs: u64) -> Self {
        self.settings.epochs = epochs;
        self
    }

    /// Examples per batch.
    pub fn batch(mut self, examples: usize) -> Self {
        self.settings.batch = examples;
        self
    }

    /// Batches per step: the gradient is that of the mean over all their examples. An epoch's last step takes what batches are left.
    pub fn accumulate(mut self, batches: usize) -> Self {
        self.settings.accumulate = batches;
        self
    }

    /// Whether batches hold examples of similar length, so that less is padded; their order is random by the seed. Without it batches are
    /// drawn at random, as the authors' are.
    pub fn by_length(mut self, by_length: bool) -> Self {
        self.settings.by_length = by_length;
        self
    }

    /// The most padded tokens (examples times the longest of them) that one forward takes, an example that is longer by itself excepted.
    ///
    /// A step's examples, and the dev set, are run as several forwards over examples of similar length, none larger than a batch, and the
    /// gradients summed to that of the whole step: shorter forwards take less memory, and the result differs by rounding alone. Unless set,
    /// 320 on the CPU, where larger ones were measured to be no faster and to take up to 2.3 times the memory, and no limit on CUDA.
    pub fn tokens_per_forward(mut self, tokens: usize) -> Self {
        self.settings.tokens_per_forward = Some(tokens);
        self
    }

    /// Steps between two looks at the dev loss; there is one at each epoch's end, too.
    pub fn check_every(mut self, steps: u64) -> Self {
        self.settings.check_every = steps;
        self
    }

    /// Stops after this many checks without improvement.
    pub fn patience(mut self, checks: u64) -> Self {
        self.settings.patience = checks;
        self
    }

    /// Of the adapter's start, of the order of examples, and of dropout, which draws anew in every step.
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// [`Compat::Paper`] trains as the authors' code does: losses are summed and divided by min(batch, N), what is left of an epoch counts in
    /// the first step of the next one on top of its own examples (and is lost after the last), and the last weights are kept, not those
    /// that were best on dev. By default every step takes the mean over its own examples, and the best weights are restored. The order of
    /// examples is random by the seed in both; the authors' is not seeded.
    pub fn compat(mut self, compat: Compat) -> Self {
        self.settings.compat = compat;
        self
    }

    /// In a phase after another: goes on with the optimiser's state (moments and count of steps) as it was after the last step.
    pub fn keep_optimizer(mut self) -> Self {
        self.settings.keep_optimizer = true;
        self
    }

    /// Ends this call after so many steps of this phase, with what it has by then.
    pub fn at_most_steps(mut self, steps: u64) -> Self {
        self.limits.steps = Some(steps);
        self
    }

    /// Ends this call after the step during which so much time has passed, with what it has by then.
    pub fn at_most(mut self, time: Duration) -> Self {
        self.limits.time = Some(time);
        self
    }

    /// Ends this call before the next step once a file of this name is there, with what it has by then. The file is left where it is.
    pub fn stop_file(mut self, file: impl AsRef<Path>) -> Self {
        self.limits.stop_file = Some(file.as_ref().to_path_buf());
        self
    }

    /// Keeps the run's state in this file, and continues from it if it is there: to bit-identical weights on the CPU (same machine and
    /// threads). It is replaced whole, at each dev check and at the end.
    pub fn checkpoint(mut self, file: impl AsRef<Path>) -> Self {
        self.checkpoint = Some(file.as_ref().to_path_buf());
        self
    }

    fn same_adapter(&self, adapter: &Adapter) -> Result<()> {
        if *adapter.config() == self.adapter {
            return Ok(());
        }
        let (ours, theirs) = (self.adapter.name(), adapter.config().name());
        Err(Error::input(format!("a training of {ours} cannot go on from {theirs}: use one adapter, with the same settings")))
    }

    fn check(&self) -> Result<()> {
        if let Some(expected) = &self.expected {
            expected.check_phase(self)?;
        }
        self.settings.check()?;
        let earlier = self.start.as_ref().is_some_and(|start| start.earlier.is_some());
        if self.settings.keep_optimizer && !earlier {
            return Err(Error::input("keep_optimizer needs a training to go on from: use `Training::resume`"));
        }
        Ok(())
    }

    /// Trains on the split's train set, stops by its dev set, and gives the weights that were best there.
    ///
    /// # Errors
    /// Settings, objective or adapter that do not fit model and split; an example without response tokens; a loss that is not finite; a
    /// checkpoint of another run or one that cannot be written; data or a model that are not those of the run to be repeated.
    pub fn run(self, model: &Model, split: &Split) -> Result<Trained> {
        self.run_with(model, split, &mut Hooks::new())
    }

    /// [`Training::run`] with observers and editors in every forward, those over the dev set included. What they draw from libtorch's
    /// generator is seeded per step, as dropout is.
    ///
    /// # Errors
    /// Also a pattern that selects nothing, an editor that never replaces a value, and what the hooks themselves return.
    pub fn run_with(self, model: &Model, split: &Split, hooks: &mut Hooks<'_>) -> Result<Trained> {
        door("training", || {
            self.check()?;
            hooks.bind(model.hook_points())?;
            let samples = preview::samples(self.objective.as_ref(), model, split)?;
            let adapter = match &self.start {
                Some(start) => start.adapter.duplicate()?,
                None => Adapter::new(model, self.adapter.clone(), self.settings.seed)?,
            };
            run::Loop::new(&self, model.with(&adapter)?, adapter, samples, split)?.run(hooks)
        })
    }
}
