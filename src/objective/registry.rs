//! The objectives there are.

use super::{Objective, Sft, Targets};
use crate::error::{Error, Result};
use crate::model::{Model, Sample};

/// The weight of cross-entropy that the entry `ia2_sft` has.
const BETA: f64 = 0.5;

/// An objective: what it is called, what it minimises, and how it is made of targets.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Name for grids and frames, singular snake_case.
    pub name: &'static str,
    /// The formula of one example's loss.
    pub formula: &'static str,
    /// The least value it can take.
    pub minimum: f64,
    make: fn(&Targets) -> Result<Box<dyn Objective>>,
}

impl Known {
    /// The objective of that name.
    ///
    /// # Errors
    /// An input error that lists the known names.
    pub fn named(name: &str) -> Result<Self> {
        OBJECTIVES.iter().find(|known| known.name == name).copied().ok_or_else(|| {
            let known = OBJECTIVES.iter().map(|known| known.name).collect::<Vec<_>>().join(", ");
            Error::input(format!("there is no objective `{name}`; there are {known}"))
        })
    }

    /// The objective on these targets.
    ///
    /// # Errors
    /// The targets lack what it needs.
    pub fn of(&self, targets: &Targets) -> Result<Box<dyn Objective>> {
        (self.make)(targets)
    }
}

/// Every objective.
pub const OBJECTIVES: &[Known] = &[
    Known { name: "sft_gold", formula: "mean over tokens of -log p(gold token)", minimum: 0.0, make: |_| Ok(Box::new(Sft::gold())) },
    Known {
        name: "sft",
        formula: "mean over tokens of -log p(token of the ICL response)",
        minimum: 0.0,
        make: |targets| Ok(Box::new(targets.sft())),
    },
    Known {
        name: "soft_sft",
        formula: "mean over tokens of KL(ICL distribution || p)",
        minimum: 0.0,
        make: |targets| Ok(Box::new(targets.soft_sft()?)),
    },
    Known {
        name: "self_distillation",
        formula: "mean over sampled tokens of KL(p || ICL distribution)",
        minimum: 0.0,
        make: |targets| Ok(Box::new(targets.self_distillation()?)),
    },
    Known {
        name: "ia2",
        formula: "sum over layers of the mean over tokens and hidden of (activation - ICL activation)^2",
        minimum: 0.0,
        make: |targets| Ok(Box::new(targets.ia2()?)),
    },
    Known { name: "ia2_sft", formula: "0.5 ia2 + 0.5 sft", minimum: 0.0, make: |targets| Ok(Box::new(targets.ia2_sft(BETA)?)) },
];

/// A boxed objective is one: what a table or a grid gives can be trained on.
impl Objective for Box<dyn Objective> {
    fn name(&self) -> String {
        (**self).name()
    }

    fn parts(&self) -> Vec<super::Part> {
        (**self).parts()
    }

    fn samples(&self, model: &Model, split: &crate::dataset::Split) -> Result<super::Samples> {
        (**self).samples(model, split)
    }

    fn hook_points(&self) -> &[String] {
        (**self).hook_points()
    }

    fn needs_logits(&self) -> bool {
        (**self).needs_logits()
    }

    fn compat(&self) -> crate::compat::Compat {
        (**self).compat()
    }

    fn draw(&self, examples: &[usize], given: &[&Sample], student: &Model, seed: u64) -> Result<Option<Vec<Sample>>> {
        (**self).draw(examples, given, student, seed)
    }

    fn teach(&self, examples: &[usize], samples: &[&Sample], student: &Model, average: Option<&Model>) -> Result<Option<tch::Tensor>> {
        (**self).teach(examples, samples, student, average)
    }

    fn average(&self) -> Option<f64> {
        (**self).average()
    }

    fn losses(&self, examples: &[usize], outputs: &super::Outputs) -> Result<Vec<tch::Tensor>> {
        (**self).losses(examples, outputs)
    }

    fn identity(&self) -> Vec<u8> {
        (**self).identity()
    }
}
