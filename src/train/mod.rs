//! The one training loop: an adapter, an objective, a split.
//!
//! [`Training`] says what and how, [`Training::preview`] shows which tokens are trained on, [`Training::run`] trains and gives a [`Trained`]: the
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
//! | [`tokens_per_forward`](Training::tokens_per_forward) | 155 on the CPU, no limit on CUDA |
//! | [`check_every`](Training::check_every), [`patience`](Training::patience) | 2 steps, 5 checks |
//! | [`seed`](Training::seed) | 0 |
//! | [`compat`](Training::compat) | [`Compat::Corrected`](crate::compat::Compat) |
//!
//! A step takes the mean over its examples of the objective's loss, and Adam moves the adapter. Every `check_every` steps and at each
//! epoch's end the mean loss over the dev set is looked at; after `patience` looks without a strict improvement the run ends, and the
//! weights that were best on dev are those it gives. An adapter's parameters are held in f32 (f64 on an f64 model), whatever the model's kind.

mod batches;
mod builder;
mod checkpoint;
mod drawn;
pub(crate) mod exact;
mod history;
mod losses;
mod manifest;
mod optimizer;
mod preview;
mod run;
mod schedule;
mod settings;
mod state;
mod trained;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::adapter::{Adapter, AdapterConfig};
use crate::dataset::Split;
use crate::error::{Error, Result};
use crate::libtorch::guarded;
use crate::model::Model;
use crate::nn::Hooks;
use crate::objective::Objective;
pub use manifest::Manifest;
use optimizer::Moments;
pub use optimizer::Optimizer;
pub use schedule::Schedule;
use settings::Settings;
pub(crate) use settings::{BATCH, CHECK_EVERY, EPOCHS, PATIENCE};
pub use trained::Trained;

crate::display::show_as_text!(Optimizer, Schedule, Stopped, Training);

/// What to train, and how: a builder. The [module](self) lists the defaults, which are the authors' but for the learning rate.
#[derive(Debug)]
pub struct Training {
    adapter: AdapterConfig,
    objective: Box<dyn Objective>,
    start: Option<Start>,
    settings: Settings,
    limits: Limits,
    checkpoint: Option<PathBuf>,
    /// Whether the checkpoint is for when the run ends early, or has lasted long.
    seldom: bool,
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
    /// It was [interrupted](crate::interrupt); a checkpoint lets the run continue.
    Interrupted,
}

impl Stopped {
    /// Whether the run could go on.
    pub fn is_early(self) -> bool {
        matches!(self, Self::Budget | Self::StopFile | Self::Interrupted)
    }

    /// In words.
    fn reason(self) -> &'static str {
        match self {
            Self::Converged => "dev loss stopped improving",
            Self::Epochs => "all epochs done",
            Self::Budget => "budget used up",
            Self::StopFile => "stopped by file",
            Self::Interrupted => "interrupted",
        }
    }
}

impl Training {
    /// A fresh adapter, trained toward an objective.
    pub fn new(adapter: impl Into<AdapterConfig>, objective: impl Into<Box<dyn Objective>>) -> Self {
        Self {
            adapter: adapter.into(),
            objective: objective.into(),
            start: None,
            settings: Settings::default(),
            limits: Limits::default(),
            checkpoint: None,
            seldom: false,
            expected: None,
        }
    }

    /// A new phase: goes on from a trained adapter toward another objective (IA2 → SFT, SFT → IA2), with the same settings.
    ///
    /// The optimiser starts afresh, as in the authors' code, unless [`keep_optimizer`](Self::keep_optimizer) is set; steps, epochs, schedule
    /// and early stopping start afresh in any case. The history of the new [`Trained`] has the rows of all phases.
    ///
    /// # Errors
    /// When libtorch refuses to copy the parameters.
    pub fn resume(trained: &Trained, objective: impl Into<Box<dyn Objective>>) -> Result<Self> {
        let mut training = Self::new(trained.adapter().config().clone(), objective);
        training.settings = Settings { keep_optimizer: false, ..*trained.settings() };
        training.after(trained)
    }

    /// Goes on from an adapter, e.g. one that was opened from files, with a history of its own.
    ///
    /// # Errors
    /// When libtorch refuses to copy the parameters.
    pub fn from_adapter(adapter: &Adapter, objective: impl Into<Box<dyn Objective>>) -> Result<Self> {
        Self::new(adapter.config().clone(), objective).start_from(adapter)
    }

    /// The run of a manifest again: its adapter and all of its settings, and as many steps if it was ended early. To the same bits, on the
    /// same machine with as many threads (a dev check in whose middle the run was interrupted is made).
    ///
    /// [`run`](Self::run) refuses, naming each, if objective, samples, model, or the adapter it goes on from are not the manifest's. For a
    /// later phase repeat the earlier ones ([`Manifest::earlier`]) first and say [`after`](Self::after) which.
    pub fn repeat(manifest: &Manifest, objective: impl Into<Box<dyn Objective>>) -> Self {
        let mut training = Self::new(manifest.adapter.clone(), objective);
        training.settings = manifest.settings;
        training.limits.steps = manifest.outcome.as_ref().filter(|outcome| outcome.stopped.is_early()).map(|outcome| outcome.steps);
        training.expected = Some(manifest.clone());
        training
    }

    /// Goes on from an adapter, with a history of its own. [`run`](Self::run) refuses one of another kind, or whose settings say another thing;
    /// only dropout, and how virtual tokens started, may differ.
    ///
    /// # Errors
    /// When libtorch refuses to copy the parameters.
    pub fn start_from(mut self, adapter: &Adapter) -> Result<Self> {
        self.start = Some(Start { adapter: adapter.duplicate()?, earlier: None });
        Ok(self)
    }

    /// Makes this the phase after `trained`, and keeps this training's own settings. Adapters as in [`start_from`](Self::start_from).
    ///
    /// # Errors
    /// When libtorch refuses to copy the parameters.
    pub fn after(mut self, trained: &Trained) -> Result<Self> {
        self.start = Some(guarded("going on from a training", || trained.as_start())?);
        Ok(self)
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

    /// Trains on the split's train set, stops by its dev set, and gives the weights that were best there. An [interrupt](crate::interrupt) ends it
    /// as a budget does ([`Stopped::Interrupted`]), or with an error before the first step.
    ///
    /// # Errors
    /// Settings, objective or adapter that do not fit model and split; an example without response tokens; a loss that is not finite; a
    /// checkpoint of another run or one that cannot be written; data or a model that are not those of the run to be repeated.
    pub fn run(self, model: &Model, split: &Split) -> Result<Trained> {
        self.run_with(model, split, &mut Hooks::new())
    }

    /// [`Training::run`] with observers and editors in every forward of the adapted model over its samples, those of the dev set included (not where
    /// an objective draws samples or its teacher reads). What they draw from libtorch's
    /// generator is seeded per step; as there is one generator in a process, it is not the same again where two trainings with hooks that draw run
    /// side by side. (Dropout draws from a generator of its own.)
    ///
    /// # Errors
    /// Also a pattern that selects nothing, an editor that never replaces a value, and what the hooks themselves return.
    pub fn run_with(self, model: &Model, split: &Split, hooks: &mut Hooks<'_>) -> Result<Trained> {
        guarded("training", || {
            self.check()?;
            if model.is_steered() {
                return Err(Error::input("a vector is on the model, which no manifest of a training tells of: train on `model.base()`"));
            }
            hooks.bind(model.points())?;
            let samples = preview::samples(self.objective.as_ref(), model, split)?;
            let config = self.adapter.on(model, split)?;
            let adapter = match &self.start {
                Some(start) => start.adapter.under(&config, model)?,
                None => Adapter::new(model, config, self.settings.seed)?,
            };
            let model = model.with(&adapter)?;
            preview::fit(&samples, &model)?;
            run::Loop::new(&self, model, adapter, samples, split)?.run(hooks)
        })
    }
}
