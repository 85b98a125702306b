//! The one training loop: an adapter, an objective, a split.

mod adam;
mod batches;
mod checkpoint;
mod trained;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::adapter::{Adapter, AdapterConfig};
use crate::dataset::Split;
use crate::error::{Error, Result};
use crate::libtorch::door;
use crate::model::{Model, Sample};
use crate::nn::Hooks;
use crate::objective::{Objective, Outputs, Samples};
use crate::progress::Progress;
use crate::random::Random;
use adam::Adam;

/// How to train. Defaults are the authors': at most 50 epochs, batches of 4, a dev check every 2 steps, stop after 5 checks without improvement.
#[derive(Debug)]
pub struct Training {
    adapter: AdapterConfig,
    objective: Box<dyn Objective>,
    start: Option<Adapter>,
    settings: Settings,
    at_most_steps: Option<u64>,
    checkpoint: Option<PathBuf>,
}

/// Padded tokens of a forward on the CPU, unless set.
const TOKENS_ON_CPU: usize = 512;
/// Examples of a forward over the dev set.
const DEV_ROWS: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Settings {
    learning_rate: f64,
    epochs: u64,
    batch: usize,
    check_every: u64,
    patience: u64,
    seed: u64,
    tokens_per_forward: Option<usize>,
}

/// Why a training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// Dev loss had not improved for `patience` checks.
    Converged,
    /// All epochs are done.
    Epochs,
    /// The step budget is used up; a checkpoint lets the run continue.
    Budget,
}

/// One dev check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Check {
    step: u64,
    epoch: u64,
    train_loss: f64,
    dev_loss: f64,
    gradient_norm: f64,
    seconds: f64,
    best: bool,
}

/// A finished (or budgeted) training: the best-on-dev adapter, the model with it, and how it went.
#[derive(Debug)]
pub struct Trained {
    model: Model,
    adapter: Adapter,
    objective: String,
    settings: Settings,
    history: Vec<Check>,
    stopped: Stopped,
    steps: u64,
}

impl Training {
    /// A fresh adapter, trained toward an objective.
    pub fn new(adapter: impl Into<AdapterConfig>, objective: impl Objective + 'static) -> Self {
        let settings =
            Settings { learning_rate: 1e-3, epochs: 50, batch: 4, check_every: 2, patience: 5, seed: 0, tokens_per_forward: None };
        Self { adapter: adapter.into(), objective: Box::new(objective), start: None, settings, at_most_steps: None, checkpoint: None }
    }

    /// Goes on from a trained adapter toward another objective, with a fresh optimiser and the same settings (IA2 -> SFT).
    ///
    /// # Errors
    /// When libtorch refuses to copy the parameters.
    pub fn resume(trained: &Trained, objective: impl Objective + 'static) -> Result<Self> {
        let mut training = Self::from_adapter(&trained.adapter, objective)?;
        training.settings = trained.settings;
        Ok(training)
    }

    /// Goes on from an adapter, e.g. one that was opened from files.
    ///
    /// # Errors
    /// When libtorch refuses to copy the parameters.
    pub fn from_adapter(adapter: &Adapter, objective: impl Objective + 'static) -> Result<Self> {
        let mut training = Self::new(adapter.config().clone(), objective);
        training.start = Some(adapter.duplicate()?);
        Ok(training)
    }

    /// Adam's constant rate; 1e-3 unless set.
    pub fn learning_rate(mut self, rate: f64) -> Self {
        self.settings.learning_rate = rate;
        self
    }

    /// At most this often over the training examples.
    pub fn epochs(mut self, epochs: u64) -> Self {
        self.settings.epochs = epochs;
        self
    }

    /// Examples per step.
    pub fn batch(mut self, examples: usize) -> Self {
        self.settings.batch = examples;
        self
    }

    /// Steps between two looks at the dev loss.
    pub fn check_every(mut self, steps: u64) -> Self {
        self.settings.check_every = steps;
        self
    }

    /// Stops after this many checks without improvement.
    pub fn patience(mut self, checks: u64) -> Self {
        self.settings.patience = checks;
        self
    }

    /// Of the adapter's start and of the order of examples.
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// The most padded tokens (examples times the longest of them) that one forward takes, an example that is longer by itself excepted; on
    /// the CPU 512 unless set, on CUDA no limit.
    ///
    /// A step's batch, and the dev set, are run as several forwards over examples of similar length, and the gradients summed to that of the
    /// mean over the batch: fewer tokens take less memory, and the result differs by rounding alone.
    pub fn tokens_per_forward(mut self, tokens: usize) -> Self {
        self.settings.tokens_per_forward = Some(tokens);
        self
    }

    /// Ends this call after so many steps in all, with what it has by then.
    pub fn at_most_steps(mut self, steps: u64) -> Self {
        self.at_most_steps = Some(steps);
        self
    }

    /// Keeps the run's state in this file, and continues from it if it is there: to bit-identical weights on the CPU (same machine and threads).
    pub fn checkpoint(mut self, file: impl AsRef<Path>) -> Self {
        self.checkpoint = Some(file.as_ref().to_path_buf());
        self
    }

    fn check(&self) -> Result<()> {
        let Settings { learning_rate, epochs, batch, check_every, patience, .. } = self.settings;
        if !(learning_rate > 0.0 && learning_rate.is_finite()) {
            return Err(Error::input(format!("learning rate {learning_rate}: use a positive number, e.g. 1e-3")));
        }
        let tokens = self.settings.tokens_per_forward.map_or(1, |tokens| tokens as u64);
        let counts = [("epochs", epochs), ("batch", batch as u64), ("check_every", check_every), ("patience", patience)];
        for (name, value) in counts.into_iter().chain([("tokens_per_forward", tokens)]) {
            if value == 0 {
                return Err(Error::input(format!("{name} is 0: use at least 1")));
            }
        }
        Ok(())
    }

    /// Trains on the split's train set, stops by its dev set, and gives the weights that were best there.
    ///
    /// # Errors
    /// Settings, objective or adapter that do not fit model and split; a loss that is not finite; a checkpoint of another run or one that
    /// cannot be written.
    pub fn run(self, model: &Model, split: &Split) -> Result<Trained> {
        self.run_with(model, split, &mut Hooks::new())
    }

    /// [`Training::run`] with observers and editors in every forward, those over the dev set included.
    ///
    /// # Errors
    /// Also a pattern that selects nothing, an editor that never replaces a value, and what the hooks themselves return.
    pub fn run_with(self, model: &Model, split: &Split, hooks: &mut Hooks<'_>) -> Result<Trained> {
        door("training", || {
            self.check()?;
            hooks.bind(model.hook_points())?;
            let samples = self.objective.samples(model, split)?;
            if samples.train == 0 || samples.rows.len() == samples.train {
                return Err(Error::input("training needs at least one train and one dev example"));
            }
            let adapter = match &self.start {
                Some(start) => start.duplicate()?,
                None => Adapter::new(model, self.adapter.clone(), self.settings.seed)?,
            };
            Loop::new(&self, model.with(&adapter)?, adapter, samples)?.run(hooks)
        })
    }
}

/// A run under way.
struct Loop<'t> {
    training: &'t Training,
    model: Model,
    adapter: Adapter,
    samples: Samples,
    adam: Adam,
    /// The best-on-dev parameters so far.
    best: Tensor,
    state: State,
    identity: String,
}

/// What a checkpoint holds beside tensors.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    step: u64,
    best_dev: f64,
    checks_without_gain: u64,
    /// Sum and count of the train losses since the last check.
    losses: (f64, u64),
    seconds: f64,
    history: Vec<Check>,
    stopped: Option<Stopped>,
}

impl<'t> Loop<'t> {
    fn new(training: &'t Training, model: Model, adapter: Adapter, samples: Samples) -> Result<Self> {
        let flat = adapter.parameters().flat();
        let (adam, best) = (Adam::new(flat), flat.copy());
        let state = State {
            step: 0,
            best_dev: f64::INFINITY,
            checks_without_gain: 0,
            losses: (0.0, 0),
            seconds: 0.0,
            history: Vec::new(),
            stopped: None,
        };
        let mut run = Self { training, model, adapter, samples, adam, best, state, identity: String::new() };
        if let Some(path) = &training.checkpoint {
            run.identity = checkpoint::identity(&run);
            checkpoint::restore(&mut run, path)?;
        }
        Ok(run)
    }

    fn run(mut self, hooks: &mut Hooks<'_>) -> Result<Trained> {
        let Settings { epochs, batch, check_every, patience, seed, learning_rate, .. } = self.training.settings;
        let count = self.samples.train;
        let per_epoch = count.div_ceil(batch) as u64;
        // A file that cannot be written is found before the first step, not after the first check.
        self.store()?;
        let began = Instant::now();
        let (before, steps_before) = (self.state.seconds, self.state.step);
        let mut progress = Progress::new(&self.training.objective.name(), per_epoch * epochs);
        progress.tick(self.state.step, "");
        if self.state.stopped == Some(Stopped::Budget) {
            self.state.stopped = None;
        }
        while self.state.stopped.is_none() {
            let epoch = self.state.step / per_epoch;
            if epoch == epochs {
                self.state.stopped = Some(Stopped::Epochs);
                break;
            }
            if self.training.at_most_steps.is_some_and(|limit| self.state.step >= limit) {
                self.state.stopped = Some(Stopped::Budget);
                break;
            }
            let order = Random::new(seed, "training order", epoch).order(count);
            let place = (self.state.step % per_epoch) as usize * batch;
            let examples = &order[place..(place + batch).min(count)];
            let (number, gradient) = self.gradient(examples, hooks)?;
            let norm = gradient.norm().double_value(&[]);
            if !norm.is_finite() {
                return Err(self.broken("gradient of the train", norm, examples));
            }
            self.adam.step(self.adapter.parameters().flat(), &gradient, learning_rate)?;
            self.state.step += 1;
            self.state.losses.0 += number;
            self.state.losses.1 += 1;
            if self.state.step.is_multiple_of(check_every) || self.state.step == per_epoch * epochs {
                self.state.seconds = before + began.elapsed().as_secs_f64();
                self.look(norm, epoch, hooks)?;
                if self.state.checks_without_gain >= patience {
                    self.state.stopped = Some(Stopped::Converged);
                }
                self.store()?;
            }
            let last = self.state.history.last().map(|check| format!("loss {:.4}, dev {:.4}", check.train_loss, check.dev_loss));
            progress.tick(1, &last.unwrap_or_default());
        }
        progress.finish();
        // A finished run that is opened again makes no forward, so its hooks have nothing to answer for.
        if self.state.step > steps_before {
            hooks.finish()?;
        }
        self.store()?;
        self.finish()
    }

    /// The mean over the batch of the objective's loss per example, and its gradient.
    fn gradient(&self, examples: &[usize], hooks: &mut Hooks<'_>) -> Result<(f64, Tensor)> {
        let mut sums: Option<(Tensor, Tensor)> = None;
        for forward in self.forwards(examples, examples.len()) {
            let loss = self.loss(&forward, true, hooks)? / examples.len() as f64;
            let gradient = self.adapter.parameters().gradient(&loss);
            sums = Some(match sums {
                None => (loss.detach(), gradient),
                Some((losses, gradients)) => (losses + loss.detach(), gradients + gradient),
            });
        }
        let (loss, gradient) = sums.ok_or_else(|| Error::internal("a step without examples"))?;
        // Read once per step: a GPU would be waited for.
        let number = loss.double_value(&[]);
        if number.is_finite() { Ok((number, gradient)) } else { Err(self.broken("train", number, examples)) }
    }

    fn forwards(&self, examples: &[usize], rows: usize) -> Vec<Vec<usize>> {
        let default = (!self.model.device().is_cuda()).then_some(TOKENS_ON_CPU);
        let length = |example: usize| self.samples.rows[example].prompt.len() + self.samples.rows[example].response.len() - 1;
        batches::forwards(examples, length, rows, self.training.settings.tokens_per_forward.or(default))
    }

    /// Sum over the examples of the objective's loss; gradients flow unless the caller forbids.
    fn loss(&self, examples: &[usize], training: bool, hooks: &mut Hooks<'_>) -> Result<Tensor> {
        let objective = self.training.objective.as_ref();
        let samples: Vec<&Sample> = examples.iter().map(|&example| &self.samples.rows[example]).collect();
        let outputs = Outputs::of(&self.model, &samples, objective, training, hooks)?;
        let losses = objective.losses(examples, &outputs)?;
        let weighted =
            objective.parts().iter().zip(&losses).map(|(part, loss)| loss.sum(None) * part.weight).reduce(|sum, part| sum + part);
        weighted.ok_or_else(|| Error::internal("the objective has no parts"))
    }

    /// A dev check: mean loss per dev example.
    fn look(&mut self, gradient_norm: f64, epoch: u64, hooks: &mut Hooks<'_>) -> Result<()> {
        let _inference = tch::no_grad_guard();
        let dev: Vec<usize> = (self.samples.train..self.samples.rows.len()).collect();
        let mut total = 0.0;
        for examples in self.forwards(&dev, DEV_ROWS) {
            let loss = self.loss(&examples, false, hooks)?.double_value(&[]);
            if !loss.is_finite() {
                return Err(self.broken("dev", loss, &examples));
            }
            total += loss;
        }
        let dev_loss = total / dev.len() as f64;
        let best = dev_loss < self.state.best_dev;
        if best {
            self.state.best_dev = dev_loss;
            self.state.checks_without_gain = 0;
            self.best = self.adapter.parameters().flat().copy();
        } else {
            self.state.checks_without_gain += 1;
        }
        let train_loss = self.state.losses.0 / self.state.losses.1.max(1) as f64;
        self.state.losses = (0.0, 0);
        let State { step, seconds, .. } = self.state;
        self.state.history.push(Check { step, epoch: epoch + 1, train_loss, dev_loss, gradient_norm, seconds, best });
        Ok(())
    }

    fn store(&self) -> Result<()> {
        match &self.training.checkpoint {
            Some(path) => checkpoint::store(self, path),
            None => Ok(()),
        }
    }

    fn broken(&self, what: &str, value: f64, examples: &[usize]) -> Error {
        let kept = match &self.training.checkpoint {
            Some(path) => format!("; the last good state is in {}", path.display()),
            None => String::new(),
        };
        Error::numeric(format!(
            "the {what} loss is {value} after {} steps, on examples {examples:?}: lower the learning rate ({:e}), or look for NaN in the weights{kept}",
            self.state.step, self.training.settings.learning_rate
        ))
    }

    fn finish(self) -> Result<Trained> {
        // A run too short for a dev check keeps the weights it has.
        if self.state.best_dev.is_finite() {
            self.adapter.parameters().set(&self.best)?;
        }
        Ok(Trained {
            model: self.model,
            adapter: self.adapter,
            objective: self.training.objective.name(),
            settings: self.training.settings,
            history: self.state.history,
            stopped: self.state.stopped.unwrap_or(Stopped::Epochs),
            steps: self.state.step,
        })
    }
}
