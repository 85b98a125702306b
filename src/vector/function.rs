//! Function vectors.

use tch::{Kind as Number, Tensor};

use super::search::{self, Search};
use super::{Edit, Tried, Vector, VectorKind, dev_losses, mean, shown};
use crate::dataset::Split;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::libtorch::guarded;
use crate::model::Model;
use crate::prompt::{Prompt, Prompts};
use crate::random::Random;

/// What enters `o_proj`.
const HEADS: &str = "model.layers.*.self_attn.heads";
/// Numbers of heads that are tried.
const COUNTS: [usize; 8] = [1, 2, 5, 10, 20, 40, 80, 160];
/// Prompts with shuffled answers, at most, as in the authors' code.
const SHUFFLED: usize = 25;

/// The function vector of Todd et al. (2024, arXiv:2310.15213): what the heads that carry a task write under ICL.
///
/// 1. *Mean outputs.* `ē_a = 1/N Σ_i e_a(c_i, x_i)`, `[head_dim]`: of each head *a* the output before `o_proj` at the last token, over the training queries,
///    each after the other training examples. What it writes into the residual stream is `W_O,a ē_a`, `[hidden]`.
/// 2. *Average indirect effect.* In prompts whose demonstrations have each other's answers (shuffled by the run), head *a*'s output at the last token is
///    replaced by `ē_a`: `AIE_a = mean p(gold | shuffled, e_a := ē_a) - p(gold | shuffled)`, over the training queries (25 at most). The probability is
///    that of the gold up to the token that tells the labels apart, in the whole vocabulary; of a free answer that of the first token.
/// 3. *Vector.* `Σ W_O,a ē_a` over the heads with the largest effects, added to the residual stream after layer *l* at the last token of a zero-shot prompt.
///
/// The paper averages effects over many tasks and sums 10 heads (of GPT-J), added at about a third of the layers; here there is one task, and layer and number
/// of heads (1, 2, 5, 10, 20, 40, 80, 160) are chosen on dev. A bias of `o_proj` is no head's. Where a family norms the attention's output before it is added
/// (Gemma 2 and 3, OLMo 2 and 3), a head's output is what enters that norm.
#[derive(Clone, Copy, Debug)]
pub struct FunctionVector;

impl FunctionVector {
    /// The prompts whose answers tell the effects: each training query (25 at most) after the other training examples, which have each other's answers.
    ///
    /// # Errors
    /// Fewer than two training examples.
    pub fn shuffled(split: &Split) -> Result<Prompts> {
        Ok(shuffled(&shown(split)?, split.run))
    }

    /// Finds it on the train set; layer and number of heads are those with the least dev loss ([`Vector::tried`]); [`Vector::effects`] has every head's
    /// effect.
    ///
    /// It takes a forward over the last token of each prompt for every head of the model, and for every candidate.
    ///
    /// # Errors
    /// As [`TaskVector::find`](super::TaskVector::find); a model with an adapter on it.
    pub fn find(model: &Model, split: &Split) -> Result<Vector> {
        guarded("finding a function vector", || {
            let _inference = tch::no_grad_guard();
            if model.is_adapted() {
                return Err(Error::input(
                    "a function vector is found on a model without an adapter: give `model.base()`, or merge the adapter",
                ));
            }
            let prompts = shown(split)?;
            let search = Search::on(model);
            // [layer, head * head_dim]
            let means = mean(&search.at_the_end(&prompts, HEADS)?);
            let effects = effects(&search, &shuffled(&prompts, split.run), &means)?;
            let heads = model.config().heads as usize;
            let mut order: Vec<usize> = (0..effects.len()).collect();
            order.sort_by(|&a, &b| effects[b].total_cmp(&effects[a]));
            let counts: Vec<usize> = COUNTS.into_iter().filter(|&count| count <= order.len()).collect();
            let mut sums: Vec<Tensor> = Vec::with_capacity(counts.len());
            for &count in &counts {
                let written = order[..count].iter().map(|&place| written(model, &means, place / heads, place % heads));
                let written = written.collect::<Result<Vec<_>>>()?;
                sums.push(Tensor::stack(&written, 0).sum_dim_intlist([0i64].as_slice(), false, Number::Double).to_kind(means.kind()));
            }
            let layers = model.config().layers as usize;
            let candidates: Vec<(usize, usize)> = (0..layers).flat_map(|layer| (0..counts.len()).map(move |sum| (layer, sum))).collect();
            let losses = dev_losses(&search, split, candidates.len(), |layer, candidate, stream: &Tensor| {
                let (own, sum) = candidates[candidate];
                (layer == own).then(|| stream + sums[sum].to_kind(stream.kind()))
            })?;
            let tried = candidates.iter().zip(losses);
            let tried = tried.map(|(&(layer, sum), dev_loss)| Tried { layer, strength: 1.0, heads: counts[sum], dev_loss }).collect();
            let mut summed = 0;
            let mut vector = Vector::found(VectorKind::Function, Edit::Add, &search, tried, |best| {
                summed = best.heads;
                let place = counts.iter().position(|&count| count == best.heads);
                place.map(|place| sums[place].shallow_clone()).ok_or_else(|| Error::internal("a number of heads got lost"))
            })?;
            vector.heads = order[..summed].iter().map(|&place| (place / heads, place % heads)).collect();
            vector.effects = Some(Tensor::from_slice(&effects).view([layers as i64, heads as i64]));
            Ok(vector)
        })
    }
}

/// The first prompts, whose demonstrations have each other's answers.
fn shuffled(prompts: &Prompts, run: u64) -> Prompts {
    let prompt = |(place, prompt): (usize, &Prompt)| {
        let order = Random::new(run, "shuffled answers", place as u64).order(prompt.demonstrations.len());
        let mut other = prompt.clone();
        for (demonstration, from) in other.demonstrations.iter_mut().zip(order) {
            demonstration.gold = prompt.demonstrations[from].gold.clone();
        }
        other
    };
    Prompts::new(prompts.iter().take(SHUFFLED).enumerate().map(prompt).collect()).with_form(prompts.form().clone())
}

/// Average indirect effects, head by head and layer by layer. `means [layer, head * head_dim]`.
fn effects(search: &Search<'_>, shuffled: &Prompts, means: &Tensor) -> Result<Vec<f64>> {
    let model = search.model;
    let (heads, width) = (model.config().heads as usize, model.config().head_dim);
    let count = heads * model.config().layers as usize;
    let samples = search::golds(model, shuffled, search::GoldSpan::Telling)?;
    let mut effects = vec![0.0; count];
    for (place, sample) in samples.iter().enumerate() {
        interrupt::at(place as u64, samples.len() as u64, "prompts with shuffled answers")?;
        // The last is the prompt as it is.
        let logs = search.under(sample, count + 1, HEADS, |layer, number, value: &Tensor| {
            let head = (number % heads) as i64;
            (number < count && number / heads == layer).then(|| {
                let changed = value.copy();
                changed.narrow(0, head * width, width).copy_(&means.get(layer as i64).narrow(0, head * width, width));
                changed
            })
        })?;
        for (effect, log) in effects.iter_mut().zip(&logs) {
            *effect += (log.exp() - logs[count].exp()) / samples.len() as f64;
        }
    }
    Ok(effects)
}

/// What a head's mean output writes, `[hidden]`.
fn written(model: &Model, means: &Tensor, layer: usize, head: usize) -> Result<Tensor> {
    let name = format!("model.layers.{layer}.self_attn.o_proj.weight");
    let weight = model.decoder().weights().iter().find(|(own, _)| *own == name);
    let (_, weight) = weight.ok_or_else(|| Error::internal(format!("the model has no `{name}`")))?;
    let width = model.config().head_dim;
    let part = |values: &Tensor, axis: i64| values.narrow(axis, head as i64 * width, width);
    let output = part(&means.get(layer as i64), 0);
    Ok(part(weight, 1).to_kind(output.kind()).matmul(&output))
}
