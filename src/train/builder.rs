//! The settings of a training, one method each.

use std::path::Path;
use std::time::Duration;

use super::{Optimizer, Schedule, Training, exact};
use crate::compat::Compat;

impl Training {
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

    /// The most tokens that one forward takes, an example that is longer by itself excepted. Padding counts (examples times the longest of them) where
    /// there is any: on a CPU, a model at least 256 wide without virtual tokens, dropout, hooks or a vector computes none.
    ///
    /// A step's examples, and the dev set, are run as several forwards over examples of similar length, none larger than a batch, and the
    /// gradients summed to that of the whole step: shorter forwards take less memory, and the result differs by rounding alone. Unless set,
    /// 155 on the CPU, where larger ones were measured to be no more than 6 % faster (a model of 40 M parameters) and to take more memory, and
    /// no limit on CUDA.
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

    /// Of the adapter's start, of the order of examples, and of dropout, which draws again in every step.
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

    /// Ends this call after this number of steps of this phase, with what it has by then.
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

    /// As [`checkpoint`](Self::checkpoint), written only when the run ends early, and now and then before: many short runs are not held up.
    pub(crate) fn checkpoint_when_stopped(mut self, file: impl AsRef<Path>) -> Self {
        self.seldom = true;
        self.checkpoint(file)
    }
}
