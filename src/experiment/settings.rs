//! What decides a grid besides its models and tasks.

use serde::{Deserialize, Serialize};

use super::record::{Run, TrainingId};
use super::{Choice, Demonstrations, Method, Rollouts};
use crate::activations::Keep;
use crate::adapter::{AdapterConfig, Lora};
use crate::compat::Compat;
use crate::metric::Confidence;
use crate::objective::Distilled;
use crate::train::{EPOCHS, PATIENCE, exact};

/// The table in the docs of [`Experiment`](super::Experiment) says what each is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Settings {
    pub sizes: Vec<usize>,
    pub runs: u64,
    pub methods: Vec<Method>,
    pub adapters: Vec<AdapterConfig>,
    #[serde(with = "exact::many")]
    pub learning_rates: Vec<f64>,
    #[serde(with = "exact::many")]
    pub betas: Vec<f64>,
    pub epochs: u64,
    pub patience: u64,
    pub test_at_most: usize,
    pub compared_at_most: usize,
    pub distributions: Keep,
    pub compat: Compat,
    pub choice: Choice,
    pub demonstrations: Demonstrations,
    pub rollouts: Rollouts,
    pub retry_failed: bool,
    /// Columns that a run must have, whenever it was evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forgetting_on: Vec<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub confidence: Confidence,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fill_outcomes: bool,
    /// As many train and dev rows of each label as of any other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub balanced: bool,
    /// Dev rows, whatever N.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<usize>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub self_distillation: Distilled,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What a record must have for nothing to be left to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand<'s> {
    /// Whether what failed counts as not done.
    pub retry: bool,
    pub columns: &'s [String],
    /// Whether each test must have outcomes row by row.
    pub outcomes: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sizes: vec![2, 4, 8, 16],
            runs: 5,
            methods: vec![Method::Icl, Method::Sft, Method::Ia2, Method::Ia2ThenSft],
            adapters: vec![Lora::rank(8).into()],
            learning_rates: vec![1e-4, 3e-4, 1e-3],
            betas: vec![0.1, 0.5, 0.9],
            epochs: EPOCHS,
            patience: PATIENCE,
            test_at_most: 500,
            compared_at_most: 100,
            distributions: Keep::All,
            compat: Compat::Corrected,
            choice: Choice::DevLoss,
            demonstrations: Demonstrations::Same,
            rollouts: Rollouts::Icl,
            retry_failed: false,
            columns: None,
            forgetting_on: Vec::new(),
            confidence: Confidence::default(),
            fill_outcomes: false,
            balanced: false,
            dev: None,
            self_distillation: Distilled::default(),
        }
    }
}

impl Settings {
    pub(super) fn demand(&self) -> Demand<'_> {
        Demand { retry: self.retry_failed, outcomes: self.fill_outcomes, columns: self.columns.as_deref().unwrap_or_default() }
    }

    /// Whether a column that takes a forward of its own is measured where a run is evaluated.
    pub(super) fn measures(&self, column: &str) -> bool {
        self.columns.as_ref().is_none_or(|columns| columns.iter().any(|name| name == column))
    }

    /// The runs of a cell, what one goes on from before it. `cell` is any of them.
    pub(super) fn runs_of(&self, cell: &Run) -> Vec<Run> {
        let mut runs = Vec::new();
        for method in Method::with_earlier(&self.methods) {
            let run = Run { method, ..cell.clone() };
            if !method.has_rates() {
                runs.push(run);
                continue;
            }
            let betas: Vec<Option<f64>> = if method.has_beta() { self.betas.iter().copied().map(Some).collect() } else { vec![None] };
            for adapter in method.own_adapter().map_or_else(|| self.adapters.clone(), |own| vec![own]) {
                for &learning_rate in &self.learning_rates {
                    for &beta in &betas {
                        let distributions = method.needs_distributions().then(|| format!("{:?}", self.distributions));
                        let (epochs, patience, compat, adapter) = (self.epochs, self.patience, self.compat, adapter.clone());
                        let self_distillation = Some(self.self_distillation).filter(|how| method.is_on_policy() && !is_default(how));
                        let training =
                            TrainingId { adapter, learning_rate, beta, epochs, patience, compat, distributions, self_distillation };
                        runs.push(Run { training: Some(training), ..run.clone() });
                    }
                }
            }
        }
        runs
    }
}
