//! Samples that an objective draws again in each step, and what follows the adapter to teach it.

use std::collections::HashMap;

use tch::Tensor;

use super::losses;
use super::run::Loop;
use crate::adapter::Adapter;
use crate::error::{Error, Result};
use crate::libtorch::user_code;
use crate::model::{Model, Sample};
use crate::random::Random;

/// Samples of some examples that take the place of those given; none, if the objective draws none.
#[derive(Debug, Default)]
pub(super) struct Drawn(HashMap<usize, Sample>);

impl Loop<'_> {
    /// What the objective draws for these examples. Training draws again in each step; every look at the dev set draws by the same random numbers,
    /// so that the checks of a run, and the runs of one seed, differ by the model alone.
    pub(super) fn drawn(&self, purpose: &str, examples: &[usize]) -> Result<Drawn> {
        let _constant = tch::no_grad_guard();
        let objective = self.training.objective.as_ref();
        let step = if purpose == DEV { 0 } else { self.state.step };
        let mut random = Random::new(self.training.settings.seed, purpose, self.manifest.phase << 52 ^ step);
        let seed = random.below(i64::MAX as usize) as u64;
        let given: Vec<&Sample> = examples.iter().map(|&example| &self.samples.rows[example]).collect();
        let name = || format!("the objective {}", objective.name());
        let Some(samples) = user_code(name, || objective.draw(examples, &given, &self.model, seed))? else { return Ok(Drawn::default()) };
        if samples.len() != examples.len() || samples.iter().any(|sample| sample.prompt.is_empty() || sample.response.is_empty()) {
            return Err(Error::input(format!(
                "{} drew {} samples for {} examples, or one without prompt or response tokens: draw one with both for each",
                name(),
                samples.len(),
                examples.len()
            )));
        }
        Ok(Drawn(examples.iter().copied().zip(samples).collect()))
    }

    /// Counts what these forwards over drawn samples read, and what drawing and teaching them takes.
    pub(super) fn count(&mut self, forwards: &[Vec<usize>], drawn: &Drawn, first: bool) -> Result<()> {
        if drawn.0.is_empty() {
            return Ok(());
        }
        let objective = self.training.objective.as_ref();
        let mut sum = 0;
        for examples in forwards {
            let samples: Vec<&Sample> = examples.iter().map(|&example| self.row(example, drawn)).collect();
            let name = || format!("the objective {}", objective.name());
            sum += user_code(name, || objective.tokens_besides(examples, &samples, &self.model, first))?;
            sum += samples.iter().map(|sample| losses::read(sample) as u64).sum::<u64>();
        }
        *self.state.tokens.get_or_insert(0) += sum;
        Ok(())
    }

    /// The sample of an example that is learned from now.
    pub(super) fn row<'a>(&'a self, example: usize, drawn: &'a Drawn) -> &'a Sample {
        drawn.0.get(&example).unwrap_or(&self.samples.rows[example])
    }

    /// What the objective's teacher expects at these samples.
    pub(super) fn teacher(&self, examples: &[usize], samples: &[&Sample]) -> Result<Option<Tensor>> {
        let _constant = tch::no_grad_guard();
        let objective = self.training.objective.as_ref();
        let average = self.average.as_ref().map(|average| &average.model);
        user_code(|| format!("the objective {}", objective.name()), || objective.teach(examples, samples, &self.model, average))
    }
}

/// What random numbers for the dev set are for.
pub(super) const DEV: &str = "dev samples";

/// The model with parameters that follow those of the adapter in training: `a = (1 - rate) a + rate s`.
#[derive(Debug)]
pub(super) struct Average {
    rate: f64,
    adapter: Adapter,
    pub model: Model,
}

impl Average {
    /// Begins as the adapter is.
    pub(super) fn new(rate: f64, adapter: &Adapter, model: &Model) -> Result<Self> {
        if !(rate > 0.0 && rate <= 1.0) {
            return Err(Error::input(format!("averaged parameters that follow at the rate {rate}: use a number above 0 and at most 1")));
        }
        let adapter = adapter.duplicate()?;
        Ok(Self { rate, model: model.with(&adapter)?, adapter })
    }

    /// `[parameter]`.
    pub(super) fn flat(&self) -> &Tensor {
        self.adapter.parameters().flat()
    }

    pub(super) fn set(&self, flat: &Tensor) -> Result<()> {
        self.adapter.parameters().set(flat)
    }

    pub(super) fn follow(&self, student: &Adapter) -> Result<()> {
        let _update = tch::no_grad_guard();
        let _ = self.flat().shallow_clone().f_lerp_(student.parameters().flat(), self.rate)?;
        Ok(())
    }
}
