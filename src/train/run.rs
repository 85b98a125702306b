//! A run under way.

use std::cell::Cell;
use std::time::{Duration, Instant};

use tch::Tensor;

use super::batches::{Step, Steps};
use super::drawn::{Average, DEV};
use super::exact::Exact;
use super::history::{Row, TermLoss};
use super::losses::{self, numbers, read};
use super::manifest::{Begun, Manifest, Outcome};
use super::optimizer::{Moments, clipping};
use super::state::{Since, State};
use super::{Earlier, Settings, Stopped, Trained, Training, checkpoint};
use crate::adapter::Adapter;
use crate::dataset::Split;
use crate::display::{Bundle, Curve, curves};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::model::Model;
use crate::nn::{DropoutDraws, Hooks};
use crate::objective::{LossTerm, Samples};
use crate::progress::Progress;

/// Between two checkpoints of a run that keeps few.
const SELDOM: Duration = Duration::from_secs(600);
/// Examples of a forward over the dev set.
const DEV_ROWS: usize = 16;

pub(super) struct Loop<'t> {
    pub training: &'t Training,
    pub model: Model,
    pub adapter: Adapter,
    pub samples: Samples,
    steps: Steps,
    pub parts: Vec<LossTerm>,
    /// Whether the adapter draws random numbers.
    pub draws: bool,
    pub moments: Moments,
    /// The best-on-dev parameters so far.
    pub best: Tensor,
    /// What follows the adapter, if the objective asks for it.
    pub average: Option<Average>,
    pub state: State,
    /// The step whose state the checkpoint holds.
    stored: Cell<u64>,
    stored_at: Cell<Instant>,
    pub manifest: Manifest,
    pub identity: String,
}

impl<'t> Loop<'t> {
    pub(super) fn new(training: &'t Training, model: Model, adapter: Adapter, samples: Samples, split: &Split) -> Result<Self> {
        let settings = &training.settings;
        let flat = adapter.parameters().flat();
        let moments = match training.earlier() {
            Some(earlier) if settings.keep_optimizer => earlier.moments.on(flat.device()),
            _ => Moments::new(flat),
        };
        let parts = training.objective.parts();
        if parts.is_empty() {
            return Err(Error::input(format!("the objective {} has no parts: give at least one", training.objective.name())));
        }
        let manifest = Manifest::new(&Begun {
            settings,
            adapter: &adapter,
            objective: training.objective.as_ref(),
            samples: &samples,
            model: &model,
            split,
            start: training.start.as_ref().map(|_| [flat, &moments.first, &moments.second]),
            earlier: training.earlier().map_or(&[], |earlier| &earlier.manifests),
        })?;
        if let Some(expected) = &training.expected {
            expected.demand(&manifest)?;
        }
        let steps = Steps {
            lengths: samples.rows[..samples.train].iter().map(read).collect(),
            batch: settings.batch,
            accumulate: settings.accumulate,
            by_length: settings.by_length,
            seed: settings.seed,
            paper: settings.paper(),
        };
        let (best, state) = (flat.copy(), State::new(moments.steps));
        let average = training.objective.average().map(|rate| Average::new(rate, &adapter, &model)).transpose()?;
        let identity = manifest.identity()?;
        let draws = adapter.config().draws();
        let mut run = Self {
            draws,
            training,
            model,
            adapter,
            samples,
            steps,
            parts,
            moments,
            best,
            average,
            state,
            stored: Cell::new(0),
            stored_at: Cell::new(Instant::now()),
            manifest,
            identity,
        };
        if let Some(path) = &training.checkpoint {
            checkpoint::restore(&mut run, path)?;
        }
        Ok(run)
    }

    pub(super) fn run(mut self, hooks: &mut Hooks<'_>) -> Result<Trained> {
        // A file that cannot be written is found before the first step, not after the first check.
        self.store()?;
        let begun = Instant::now();
        let (before, steps_before, total) = (self.state.seconds, self.state.step, self.total());
        let title = title(self.manifest.phase, &self.manifest.objective.name);
        let mut progress = Progress::new(&title, total.min(self.training.limits.steps.unwrap_or(total))).resumed(self.state.step);
        self.state.stopped = self.state.stopped.filter(|stopped| !stopped.is_early());
        let mut curve = Curve::new();
        self.state.history.iter().for_each(|row| curve.add(row.step, row.train_loss));
        while self.state.stopped.is_none() {
            match self.advance(begun, before, hooks) {
                Ok(Some(loss)) => {
                    let dev = self.state.history.last().map_or(String::new(), |row| format!(", dev {:.4}", row.dev_loss));
                    curve.add(self.state.step, loss);
                    progress.tick_above(1, &format!("loss {loss:.4}{dev}"), || self.losses_so_far(&curve));
                }
                Ok(None) => {}
                // A step or a check that was left in its middle has changed nothing.
                Err(error) if error.is_interrupted() && self.state.step > 0 => self.state.stopped = Some(Stopped::Interrupted),
                Err(error) => return Err(error),
            }
        }
        let progress = progress.leaving(|| self.losses_so_far(&curve));
        match self.state.stopped {
            Some(Stopped::Epochs) | None => progress.finish(),
            Some(stopped) => progress.finish_early(stopped.reason()),
        }
        // A finished run that is opened again makes no forward, so its hooks have nothing to answer for.
        if self.state.step > steps_before {
            // Nor have those of an interrupted one: what they wait for may lie ahead.
            if self.state.stopped != Some(Stopped::Interrupted) {
                hooks.finish()?;
            }
            self.state.seconds = before + begun.elapsed().as_secs_f64();
        }
        interrupt::undisturbed(|| {
            self.store()?;
            self.finish()
        })
    }

    /// One step, and the dev check that is due after it, or that an earlier call owes; gives the loss of a step. Or says why there is none.
    fn advance(&mut self, begun: Instant, before: f64, hooks: &mut Hooks<'_>) -> Result<Option<f64>> {
        let mut loss = None;
        if self.due().is_none() {
            self.state.stopped = self.ended(begun);
            if self.state.stopped.is_some() {
                return Ok(None);
            }
            interrupt::at(self.state.step, self.total(), "steps")?;
            let step = self.steps.step(self.state.step);
            loss = Some(self.step(&step, hooks)?);
        }
        if let Some(epoch) = self.due() {
            self.state.seconds = before + begun.elapsed().as_secs_f64();
            self.look(epoch, hooks)?;
            if self.state.checks_without_gain >= self.training.settings.patience {
                self.state.stopped = Some(Stopped::Converged);
            }
            self.store()?;
        }
        Ok(loss)
    }

    /// The epoch of the last step, if the dev check after it has yet to be made.
    fn due(&self) -> Option<u64> {
        let taken = self.state.step;
        let last = self.steps.step(taken.checked_sub(1)?);
        let due = taken.is_multiple_of(self.training.settings.check_every) || last.ends_epoch || taken == self.total();
        (due && self.state.history.last().is_none_or(|row| row.step != taken)).then_some(last.epoch)
    }

    /// The curves of what the steps of this call, or earlier ones of its checkpoint, gave.
    fn losses_so_far(&self, train: &Curve) -> Option<Bundle> {
        let mut dev = Curve::new();
        self.state.history.iter().for_each(|row| dev.add(row.step, row.dev_loss));
        curves("loss", &[("train", train), ("dev", &dev)])
    }

    pub(super) fn total(&self) -> u64 {
        self.steps.per_epoch().saturating_mul(self.training.settings.epochs)
    }

    fn ended(&self, begun: Instant) -> Option<Stopped> {
        let limits = &self.training.limits;
        if self.state.step >= self.total() {
            return Some(Stopped::Epochs);
        }
        if limits.steps.is_some_and(|most| self.state.step >= most) || limits.time.is_some_and(|most| begun.elapsed() >= most) {
            return Some(Stopped::Budget);
        }
        limits.stop_file.as_ref().is_some_and(|file| file.exists()).then_some(Stopped::StopFile)
    }

    /// One step of the optimiser; gives its mean loss per example.
    fn step(&mut self, step: &Step, hooks: &mut Hooks<'_>) -> Result<f64> {
        let begun = Instant::now();
        let Settings { batch, clip, learning_rate, schedule, warm_up, optimizer, .. } = self.training.settings;
        let drawn = self.drawn("samples", &step.examples)?;
        let forwards = self.forwards(&step.examples, &drawn, batch, self.draws, hooks);
        let (mut sum, mut losses): (Option<Tensor>, Vec<Tensor>) = (None, Vec::new());
        for (place, examples) in forwards.iter().enumerate() {
            let seed = self.seed("dropout", place, hooks);
            let parts = self.losses(examples, &drawn, self.draws.then(|| DropoutDraws::new(seed)), hooks)?;
            let weighted = parts.iter().zip(&self.parts).map(|(loss, part)| loss * part.weight).reduce(|sum, loss| sum + loss);
            let weighted = weighted.ok_or_else(|| Error::internal("the objective has no parts"))?;
            let gradient = self.adapter.parameters().gradient(&(weighted / step.divisor))?;
            losses.extend(parts.into_iter().map(|loss| loss.detach()));
            sum = Some(match sum {
                None => gradient,
                Some(mut sum) => sum.f_add_(&gradient)?,
            });
        }
        let mut gradient = sum.ok_or_else(|| Error::internal("a step without examples"))?;
        losses.push(gradient.norm());
        // All numbers at once: a GPU is waited for once a step.
        let mut numbers = numbers(&losses)?;
        let norm = numbers.pop().unwrap_or(f64::NAN);
        let parts = self.sum_of_finite("train", &numbers, &forwards)?;
        if !norm.is_finite() {
            return Err(self.broken("gradient norm of the train loss", norm, &step.examples));
        }
        if let Some(Exact(most)) = clip {
            let _ = gradient.f_mul_scalar_(clipping(norm, most))?;
        }
        let rate = learning_rate * schedule.factor(self.state.step, warm_up, self.total());
        self.moments.step(self.adapter.parameters().flat(), gradient, self.adapter.frozen(), rate, &optimizer)?;
        if let Some(average) = &self.average {
            average.follow(&self.adapter)?;
        }
        let first = self.state.step < self.steps.per_epoch();
        self.count(&forwards, &drawn, first)?;
        self.state.step += 1;
        let tokens = step.examples.iter().map(|&example| read(self.row(example, &drawn)) as u64).sum::<u64>();
        let since = &mut self.state.since;
        since.examples += step.examples.len() as u64;
        since.tokens += tokens;
        since.add(&parts);
        (since.gradient_norm, since.learning_rate) = (norm, rate);
        since.seconds += begun.elapsed().as_secs_f64();
        Ok(self.weighted(&parts) / step.examples.len() as f64)
    }

    /// A dev check: mean loss per dev example.
    fn look(&mut self, epoch: u64, hooks: &mut Hooks<'_>) -> Result<()> {
        let _inference = tch::no_grad_guard();
        let dev: Vec<usize> = (self.samples.train..self.samples.rows.len()).collect();
        let drawn = self.drawn(DEV, &dev)?;
        let forwards = self.forwards(&dev, &drawn, DEV_ROWS, false, hooks);
        let mut losses = Vec::new();
        for (place, examples) in forwards.iter().enumerate() {
            self.seed("dev", place, hooks);
            losses.extend(self.losses(examples, &drawn, None, hooks)?);
        }
        losses.push(self.adapter.parameters().flat().norm());
        let mut numbers = numbers(&losses)?;
        let adapter_norm = numbers.pop().unwrap_or(f64::NAN);
        if !adapter_norm.is_finite() {
            return Err(self.broken("norm of the adapter", adapter_norm, &dev));
        }
        let mut parts = self.sum_of_finite("dev", &numbers, &forwards)?;
        self.count(&forwards, &drawn, self.state.history.is_empty())?;
        parts.iter_mut().for_each(|part| *part /= dev.len() as f64);
        let dev_loss = self.weighted(&parts);

        let best = dev_loss < self.state.best_dev;
        if best {
            self.state.best_dev = dev_loss;
            self.state.checks_without_gain = 0;
            self.best.copy_(self.adapter.parameters().flat());
        } else {
            self.state.checks_without_gain += 1;
        }
        let since = std::mem::take(&mut self.state.since);
        let train: Vec<f64> = since.parts.iter().map(|sum| sum.0 / since.examples as f64).collect();
        let part = |(part, (train, dev)): (&LossTerm, (&f64, f64))| TermLoss { name: part.name.clone(), train: *train, dev };
        let Since { tokens, seconds, gradient_norm, learning_rate, .. } = since;
        self.state.history.push(Row {
            phase: self.manifest.phase,
            objective: self.manifest.objective.name.clone(),
            step: self.state.step,
            epoch: epoch + 1,
            train_loss: self.weighted(&train),
            dev_loss,
            parts: self.parts.iter().zip(train.iter().zip(parts)).map(part).collect(),
            learning_rate,
            gradient_norm,
            adapter_norm,
            seconds: self.state.seconds,
            tokens_per_second: tokens as f64 / seconds.max(f64::MIN_POSITIVE),
            best,
        });
        Ok(())
    }

    pub(super) fn broken(&self, what: &str, value: f64, examples: &[usize]) -> Error {
        let kept = match &self.training.checkpoint {
            Some(path) if path.exists() => format!("; the last good state, of step {}, is in {}", self.stored.get(), path.display()),
            _ => String::new(),
        };
        Error::numeric(format!(
            "the {what} is {value} after {} steps, on examples {examples:?}: lower the learning rate ({:e}), or look for NaN in the weights{kept}",
            self.state.step, self.training.settings.learning_rate
        ))
    }

    fn store(&self) -> Result<()> {
        let early = self.state.stopped.is_some_and(Stopped::is_early);
        if self.training.seldom && !early && self.stored_at.get().elapsed() < SELDOM {
            return Ok(());
        }
        if let Some(path) = &self.training.checkpoint {
            // Nobody is sent back to a file that cannot be gone on from.
            let norm = self.adapter.parameters().flat().norm().double_value(&[]);
            if !norm.is_finite() {
                return Err(self.broken("norm of the adapter", norm, &[]));
            }
            checkpoint::store(self, path)?;
            self.stored.set(self.state.step);
            self.stored_at.set(Instant::now());
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Trained> {
        // A run too short for a dev check keeps the weights it has.
        if self.state.best_dev.is_finite() && !self.training.settings.paper() {
            self.adapter.parameters().set(&self.best)?;
        }
        let stopped = self.state.stopped.unwrap_or(Stopped::Epochs);
        let tokens = self.tokens();
        self.manifest.outcome = Some(Outcome {
            steps: self.state.step,
            stopped,
            dev_loss: self.state.best_dev.is_finite().then_some(Exact(self.state.best_dev)),
            seconds: Exact(self.state.seconds),
            parameters: self.adapter.digest(),
        });
        let mut history = self.training.earlier().map_or_else(Vec::new, |earlier| earlier.history.clone());
        history.extend(self.state.history);
        Ok(Trained { model: self.model, adapter: self.adapter, moments: self.moments, history, stopped, tokens, manifest: self.manifest })
    }

    /// Tokens read so far, in steps and dev checks: unless samples are drawn a function of their numbers, so that a run that goes on need not have counted.
    fn tokens(&self) -> u64 {
        if let Some(tokens) = self.state.tokens {
            return tokens;
        }
        let read = |example: usize| self.steps.lengths[example] as u64;
        let steps: u64 = (0..self.state.step).flat_map(|step| self.steps.step(step).examples).map(read).sum();
        let dev: u64 = self.samples.rows[self.samples.train..].iter().map(|sample| losses::read(sample) as u64).sum();
        steps + dev * self.state.history.len() as u64
    }
}

impl Training {
    fn earlier(&self) -> Option<&Earlier> {
        self.start.as_ref().and_then(|start| start.earlier.as_ref())
    }
}

/// What progress is called. A first phase may stay the only one, so it is none yet.
fn title(phase: u64, objective: &str) -> String {
    match phase {
        0 | 1 => format!("training, {objective}"),
        _ => format!("phase {phase}, {objective}"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_training_is_a_phase_once_there_are_two() {
        assert_eq!([1, 2].map(|phase| super::title(phase, "SFT")), ["training, SFT", "phase 2, SFT"]);
    }
}
