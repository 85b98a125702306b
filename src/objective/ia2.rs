//! In-context-learning activation alignment.

use tch::Tensor;

use super::{Objective, Outputs, Samples, sft, squared};
use crate::activations::{Activations, Positions};
use crate::dataset::Split;
use crate::error::{Error, Result};
use crate::model::Model;

/// IA2: the adapted model without demonstrations is to show, at the response positions, the activations of the base model with them.
///
/// `sum_l mean_{t,h} (A_l[t, h] - A_ICL,l[t, h])^2` per example, on the responses of the base model under ICL (paper, IA2 loss; the
/// authors' mean over layers, tokens and hidden times the number of layers is the same number).
#[derive(Clone, Debug)]
pub struct Ia2 {
    target: Activations,
}

impl Ia2 {
    /// Toward the activations captured on the responses to [`Split::target_prompts`], train and dev, at the response positions.
    pub fn toward(target: &Activations) -> Self {
        Self { target: target.clone() }
    }
}

impl Objective for Ia2 {
    fn name(&self) -> String {
        "IA2".into()
    }

    fn samples(&self, model: &Model, split: &Split) -> Result<Samples> {
        if self.target.positions() != Positions::Response {
            return Err(Error::input(format!("IA2 targets lie at the response positions, these at {:?}", self.target.positions())));
        }
        sft::taught(self.target.responses(), model, split)
    }

    fn hook_points(&self) -> &[String] {
        self.target.hook_points()
    }

    fn needs_logits(&self) -> bool {
        false
    }

    fn losses(&self, examples: &[usize], outputs: &Outputs) -> Result<Vec<Tensor>> {
        let ours = outputs.activations.as_ref().ok_or_else(|| Error::internal("IA2 was given no activations"))?;
        let targets = examples.iter().map(|&example| self.target.example(example)).collect::<Result<Vec<_>>>()?;
        let target = Tensor::cat(&targets, 1).to_device(ours.device());
        if target.size() != ours.size() {
            return Err(Error::internal(format!("activations are {:?}, targets {:?} [layer, token, hidden]", ours.size(), target.size())));
        }
        Ok(vec![outputs.per_example(&squared(ours, &target))])
    }

    fn identity(&self) -> Vec<u8> {
        self.target.content()
    }
}
