//! IA2 and SFT in one loss.

use tch::Tensor;

use super::registry::{ObjectiveEntry, PLAIN};
use super::{Ia2, LossTerm, Objective, Outputs, Samples, Targets, sft};
use crate::compat::Compat;
use crate::dataset::Split;
use crate::error::{Error, Result};
use crate::model::Model;

pub(crate) const ENTRY: ObjectiveEntry = ObjectiveEntry {
    name: "ia2_sft",
    formula: "0.5 ia2 + 0.5 sft",
    beta: true,
    make: |given| Ok(Box::new(Ia2Sft::new(&given.targets()?.ia2()?.compat(given.compat), given.beta)?)),
    ..PLAIN
};

impl Targets {
    /// IA2 and cross-entropy on the responses, the latter with the weight `beta`.
    ///
    /// # Errors
    /// As [`Targets::activations`] and [`Ia2Sft::new`].
    pub fn ia2_sft(&self, beta: f64) -> Result<Ia2Sft> {
        Ia2Sft::new(&self.ia2()?, beta)
    }
}

/// IA2 and cross-entropy in one loss, both on the responses of the base model under ICL: `(1 - beta) IA2 + beta CE` (paper, IA2 + SFT).
///
/// A history shows the two parts apart, each without its factor.
#[derive(Clone, Debug)]
pub struct Ia2Sft {
    ia2: Ia2,
    beta: f64,
}

impl Ia2Sft {
    /// `beta` in [0, 1] is the weight of cross-entropy; the paper tries 0.001 to 0.9. `ia2` may have distances, layers and weights of its own.
    ///
    /// # Errors
    /// `beta` is outside [0, 1].
    pub fn new(ia2: &Ia2, beta: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&beta) {
            return Err(Error::input(format!("beta is {beta}, the weight of cross-entropy next to IA2: choose one from 0 to 1")));
        }
        Ok(Self { ia2: ia2.clone(), beta })
    }
}

impl Objective for Ia2Sft {
    fn name(&self) -> String {
        format!("{} + SFT (beta {})", self.ia2.name(), self.beta)
    }

    fn parts(&self) -> Vec<LossTerm> {
        vec![LossTerm { name: "IA2".into(), weight: 1.0 - self.beta }, LossTerm { name: "SFT".into(), weight: self.beta }]
    }

    fn samples(&self, model: &Model, split: &Split) -> Result<Samples> {
        self.ia2.samples(model, split)
    }

    fn hook_points(&self) -> &[String] {
        self.ia2.hook_points()
    }

    fn needs_logits(&self) -> bool {
        true
    }

    /// The IA2 part alone is misplaced in the authors' code, which takes cross-entropy from PEFT.
    fn compat(&self) -> Compat {
        Objective::compat(&self.ia2)
    }

    fn losses(&self, examples: &[usize], outputs: &Outputs) -> Result<Vec<Tensor>> {
        let mut losses = self.ia2.losses(examples, outputs)?;
        losses.push(sft::cross_entropy(outputs)?);
        Ok(losses)
    }

    fn identity(&self) -> Vec<u8> {
        self.ia2.identity()
    }
}
