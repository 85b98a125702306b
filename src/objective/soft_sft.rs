//! Soft labels: the ICL distribution at every response position.

use sha2::{Digest, Sha256};
use tch::{Kind, Tensor};

use super::registry::{ObjectiveEntry, PLAIN};
use super::{Objective, Outputs, Samples, Targets, responses};
use crate::activations::{Distributions, Keep};
use crate::compat::Compat;
use crate::dataset::Split;
use crate::error::{Error, Result};
use crate::kind::widened;
use crate::model::Model;

pub(crate) const ENTRY: ObjectiveEntry = ObjectiveEntry {
    name: "soft_sft",
    formula: "mean over tokens of KL(ICL distribution || p)",
    distributions: true,
    make: |given| Ok(Box::new(given.targets()?.soft_sft()?.compat(given.compat))),
    ..PLAIN
};

impl Targets {
    /// Soft labels toward the distributions.
    ///
    /// # Errors
    /// As [`Targets::distributions`].
    pub fn soft_sft(&self) -> Result<SoftSft> {
        Ok(SoftSft::toward(self.distributions()?))
    }
}

/// Soft labels: the adapted model without demonstrations is to expect, at each response position, what the base model expects with them.
///
/// `1/G sum_t KL(p_t || q_t)` per example, with `p` the target, `q` the model's softmax and `KL(p || q) = sum_v p_v log(p_v / q_v)` in [0, inf)
/// (paper, soft labels). Where the target holds the `k` largest probabilities of `V` alone, the mass they leave is spread evenly over the
/// other `V - k` ids, as in the authors' code; that target is never written out, since all it takes of the rest is the sum of its logits.
#[derive(Clone, Debug)]
pub struct SoftSft {
    target: Distributions,
    compat: Compat,
}

impl SoftSft {
    /// Toward the distributions collected on the responses to [`Split::target_prompts`], train and dev.
    pub fn toward(target: &Distributions) -> Self {
        Self { target: target.clone(), compat: Compat::Corrected }
    }

    /// Under [`Compat::Paper`] distributions on prompt tuning are read as the authors' code does: response positions are counted from the first
    /// *virtual* token, of which there are V, so everything is compared V tokens too early. The default reads the response positions.
    pub fn compat(mut self, compat: Compat) -> Self {
        self.compat = compat;
        self
    }
}

impl Objective for SoftSft {
    fn name(&self) -> String {
        match self.target.keep() {
            Keep::All => "soft labels".into(),
            Keep::Top(count) => format!("soft labels (top {count})"),
        }
    }

    fn samples(&self, model: &Model, split: &Split) -> Result<Samples> {
        let (there, here) = (self.target.vocab(), model.config().vocab_size);
        if there != here {
            return Err(Error::input(format!("soft labels are over {there} ids, this model has {here}: collect them from this model")));
        }
        responses::as_samples(self.target.responses(), model, split)
    }

    fn needs_logits(&self) -> bool {
        true
    }

    fn compat(&self) -> Compat {
        self.compat
    }

    fn losses(&self, examples: &[usize], outputs: &Outputs) -> Result<Vec<Tensor>> {
        let logits = outputs.misplaced_logits.as_ref().or(outputs.logits.as_ref());
        let logits = widened(logits.ok_or_else(|| Error::internal("soft labels were given no logits"))?);
        let (mut probabilities, mut ids) = (Vec::new(), Vec::new());
        for &example in examples {
            let (these, places) = self.target.example(example)?;
            probabilities.push(these);
            ids.extend(places);
        }
        let target = joined(&probabilities).to_device(logits.device()).to_kind(logits.kind());
        let [tokens, vocab] = logits.size()[..] else { return Err(Error::internal("logits are not [token, vocab]")) };
        if vocab != self.target.vocab() || target.size()[0] != tokens {
            return Err(Error::internal(format!(
                "soft labels are {} tokens over {} ids, the model's logits {tokens} over {vocab}",
                target.size()[0],
                self.target.vocab()
            )));
        }
        let divergence = match ids.is_empty() {
            true => from_all(&target, &logits),
            false => from_largest(&target, &joined(&ids).to_device(logits.device()), &logits),
        };
        Ok(vec![outputs.per_example(&divergence)])
    }

    fn identity(&self) -> Vec<u8> {
        let mut digest = Sha256::new();
        digest.update(format!("{:?} ", self.compat));
        digest.update(self.target.digest());
        digest.finalize().to_vec()
    }
}

/// `[token, id]` of several examples; of one, itself.
fn joined(parts: &[Tensor]) -> Tensor {
    if let [one] = parts { one.shallow_clone() } else { Tensor::cat(parts, 0) }
}

/// KL divergence of each token, `[token]`, from `target [token, vocab]`.
///
/// `sum_v p log p - sum_v p z + (sum_v p) log sum_v e^z` with logits `z`: the log-softmax is never held, and the product is no tensor of its size.
fn from_all(target: &Tensor, logits: &Tensor) -> Tensor {
    let ids = [-1i64].as_slice();
    let entropy = target.xlogy(target).sum_dim_intlist(ids, false, None);
    let product = target.unsqueeze(1).bmm(&logits.unsqueeze(2)).reshape([-1]);
    entropy - product + target.sum_dim_intlist(ids, false, None) * logits.logsumexp(ids, false)
}

/// The same from the largest probabilities `target [token, k]` of the ids `ids [token, k]`.
///
/// With `r = 1 - sum_k p_k` the mass left, `n = V - k` the other ids and `c` the log normaliser, the others add
/// `r log(r / n) - r / n (sum_others z - n c)`, and `sum_others z = sum_V z - sum_k z_k`.
fn from_largest(target: &Tensor, ids: &Tensor, logits: &Tensor) -> Tensor {
    let last = [-1i64].as_slice();
    let sum = |values: &Tensor| values.sum_dim_intlist(last, false, None);
    let others = (logits.size()[1] - ids.size()[1]) as f64;
    let normaliser = logits.logsumexp(last, false);
    let known = logits.gather(1, ids, false);
    let left = (1.0f64 - sum(&target.to_kind(Kind::Double))).clamp_min(0.0).to_kind(target.kind());
    let share = &left / others;
    let of_known = sum(&target.xlogy(target)) - sum(&(target * (&known - normaliser.unsqueeze(1))));
    let of_others = left.xlogy(&share) - share * (sum(logits) - sum(&known) - normaliser * others);
    of_known + of_others
}
