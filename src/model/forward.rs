//! Forwards over given tokens: plain, with hooks, with gradients, and teacher-forced over given responses.

use polars::prelude::*;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::batch::{self, Batch};
use super::decoder::Depth;
use super::{Config, Model};
use crate::display::{Bundle, Show, headed};
use crate::error::{Error, Result};
use crate::kind::widened;
use crate::libtorch::{guarded, user_code};
use crate::nn::{self, CachedPrefix, DropoutDraws, Hooks, KvCache, Packed, Pass};

/// Width of the residual stream from which packing pays. (One thread of an EPYC, f32: with 128 and little padding it took 9 % longer, with 576 and a
/// third of padding 14 % less.)
const PACKED_FROM: i64 = 256;

/// Logits of a plain forward.
#[derive(Debug)]
pub struct Logits {
    /// `[example, token, vocab]`; from an example's length on, values are padding.
    pub values: Tensor,
    /// Real tokens of each example.
    pub lengths: Vec<usize>,
}

/// Gradients of a scalar at hook points.
#[derive(Debug)]
pub struct Gradients {
    /// The scalar.
    pub scalar: f64,
    /// Per hook point, in forward order: its path, its value and the gradient of the scalar there, both of the value's shape.
    pub points: Vec<(String, Tensor, Tensor)>,
}

/// A prompt and the response whose tokens are trained on or measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Tokens before the response; never empty.
    pub prompt: Vec<u32>,
    /// Tokens of the response; never empty.
    pub response: Vec<u32>,
}

impl Sample {
    /// The tokens a forward reads: the last response token is predicted, never read.
    pub(crate) fn read(&self) -> Vec<u32> {
        let mut tokens = self.prompt.clone();
        tokens.extend_from_slice(&self.response[..self.response.len().saturating_sub(1)]);
        tokens
    }
}

/// How a forward over samples is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TeacherForcing {
    /// How far it goes.
    pub depth: Depth,
    /// Whether the last layer computes the response positions alone, so that hooks on it see `[example, longest response, hidden]`.
    pub narrow: bool,
    /// Whether the samples stand one behind the other in one row, so that nothing is computed for padding and hooks see `[1, token, hidden]`; only where
    /// [`Model::packs`] allows.
    pub packed: bool,
    /// In a step of training what an adapter's dropout draws from; without it dropout is off.
    pub draws: Option<DropoutDraws>,
}

/// What a forward over samples gives; the first axis runs over all response tokens of all samples, one sample after the other.
pub(crate) struct TeacherForced {
    /// Normalised hidden states `[token, hidden]`; `None` if the forward ended at the last hook point.
    pub hidden: Option<Tensor>,
    /// Token ids `[token]` to be predicted there.
    pub labels: Tensor,
    /// Response lengths.
    pub counts: Vec<usize>,
}

impl Model {
    /// Logits at every token of every prompt, `[example, token, vocab]`.
    ///
    /// # Errors
    /// An empty batch, an empty prompt, an id outside the vocabulary, a prompt over the context.
    pub fn forward(&self, prompts: &[Vec<u32>]) -> Result<Logits> {
        self.forward_with(prompts, &mut Hooks::new())
    }

    /// [`Model::forward`] with observers and editors.
    ///
    /// # Errors
    /// Also a pattern that selects nothing, an editor that never replaces a value, and what the hooks themselves return.
    pub fn forward_with(&self, prompts: &[Vec<u32>], hooks: &mut Hooks<'_>) -> Result<Logits> {
        guarded("forward", || {
            let _inference = tch::no_grad_guard();
            self.logits_of(prompts, hooks)
        })
    }

    fn logits_of(&self, prompts: &[Vec<u32>], hooks: &mut Hooks<'_>) -> Result<Logits> {
        self.check(prompts, 0)?;
        hooks.bind(self.points())?;
        let batch = Batch::new(prompts, self.device());
        let examples: Vec<usize> = (0..prompts.len()).collect();
        let mut cache = self.behind(self.prefix(None)?, &batch);
        let mut pass = self.pass_over(nn::positions(0, batch.tokens(), self.device()), &examples, &batch.lengths);
        pass.cache = cache.as_mut();
        pass.hooks = Some(hooks);
        self.steer(&mut pass, batch.lengths.iter().map(|length| length - 1));
        let hidden = self.decoder().forward(&batch.ids, Depth::Full, &mut pass)?;
        let hidden = hidden.ok_or_else(|| Error::internal("a full forward ended early"))?;
        let values = self.decoder().logits(&hidden, &mut pass)?;
        drop(pass);
        hooks.finish()?;
        Ok(Logits { values, lengths: batch.lengths })
    }

    /// What the model would say if `stream [token, hidden]` were its last layer's output: logits `[token, vocab]`, in f32 at least.
    pub(crate) fn unembed(&self, stream: &Tensor) -> Result<Tensor> {
        let mut pass = self.pass_without_tokens();
        let hidden = self.decoder().normalised(stream, &mut pass)?;
        Ok(widened(&self.decoder().logits(&hidden, &mut pass)?))
    }

    /// The gradient of `scalar(logits)` with respect to the values at the hook points that `pattern` selects.
    ///
    /// `scalar` gets the logits `[example, token, vocab]` and must return one element.
    ///
    /// # Errors
    /// As [`Model::forward_with`]; a scalar that is not one element, not finite, or does not depend on a selected value.
    pub fn gradients(&self, prompts: &[Vec<u32>], pattern: &str, scalar: impl Fn(&Tensor) -> Tensor) -> Result<Gradients> {
        guarded("gradients", || {
            let mut values: Vec<(String, Tensor)> = Vec::new();
            let mut hooks = Hooks::new();
            hooks.edit(pattern, |point, value| {
                // The base weights need no gradient, so the first value has none either: it becomes the leaf of the graph.
                let value = if value.requires_grad() { value.shallow_clone() } else { value.detach().set_requires_grad(true) };
                values.push((point.path.to_string(), value.shallow_clone()));
                Ok(Some(value))
            });
            let logits = self.logits_of(prompts, &mut hooks)?.values;
            drop(hooks);
            let result = user_code(|| "the scalar of the logits".into(), || Ok(scalar(&logits)))?;
            if result.numel() != 1 {
                return Err(Error::input(format!(
                    "the scalar has shape {:?}: reduce it to one element, e.g. with `.sum(None)`",
                    result.size()
                )));
            }
            let number = result.double_value(&[]);
            if !number.is_finite() {
                return Err(Error::numeric(format!("the scalar is {number}: its gradient means nothing")));
            }
            if !result.requires_grad() {
                return Err(Error::input("the scalar does not depend on the values selected: compute it from the logits it is given"));
            }
            let inputs: Vec<&Tensor> = values.iter().map(|(_, value)| value).collect();
            let gradients = Tensor::run_backward(&[result.reshape([])], &inputs, false, false);
            if let Some(place) = gradients.iter().position(|gradient| !gradient.defined()) {
                return Err(Error::input(format!(
                    "the scalar does not depend on the value at `{}`: compute it from the logits",
                    values[place].0
                )));
            }
            let points = values.into_iter().zip(gradients).map(|((path, value), gradient)| (path, value.detach(), gradient)).collect();
            Ok(Gradients { scalar: number, points })
        })
    }

    /// The cache of virtual tokens for one forward over the batch.
    fn behind(&self, prefix: Option<KvCache>, batch: &Batch) -> Option<KvCache> {
        let cached_prefix = prefix.map(CachedPrefix::whole)?;
        let mut cache = KvCache::lent(&vec![Some(cached_prefix); batch.lengths.len()], batch.tokens(), self.device());
        cache.advance(&batch.real());
        Some(cache)
    }

    /// A forward over prompts and their given responses. Hidden states come at the response positions, the places that *predict* the
    /// response tokens (the last prompt token, then each response token but the last).
    ///
    /// The hooks must be bound. Gradients flow if the caller lets them.
    pub(crate) fn teacher_forced(
        &self,
        samples: &[&Sample],
        teaching: TeacherForcing,
        hooks: Option<&mut Hooks<'_>>,
    ) -> Result<TeacherForced> {
        let TeacherForcing { depth, narrow, packed, draws } = teaching;
        let rows: Vec<Vec<u32>> = samples.iter().map(|sample| sample.read()).collect();
        self.check(&rows, 0)?;
        // The last one is not read, but its place among the logits is.
        for (index, sample) in samples.iter().enumerate() {
            self.check_ids(&sample.response).map_err(|error| error.context(format!("response {index}")))?;
        }
        let starts: Vec<usize> = samples.iter().map(|sample| sample.prompt.len() - 1).collect();
        let counts: Vec<usize> = samples.iter().map(|sample| sample.response.len()).collect();
        let labels: Vec<i64> = samples.iter().flat_map(|sample| sample.response.iter().map(|&id| i64::from(id))).collect();
        let examples: Vec<usize> = (0..samples.len()).collect();
        let (batch, positions) = match packed {
            true => Batch::packed(&rows, self.device()),
            false => {
                let batch = Batch::new(&rows, self.device());
                let positions = nn::positions(0, batch.tokens(), self.device());
                (batch, positions)
            }
        };
        let sizes = |sizes: &[usize]| sizes.iter().map(|&size| size as i64).collect();
        let packed = packed.then(|| Packed { lengths: sizes(&batch.lengths), kept: sizes(&counts) });
        let (keep, real) = match &packed {
            Some(_) => batch::packed_spans(&batch.lengths, &starts, &counts, self.device()),
            None => batch::spans(&starts, &counts, self.device()),
        };
        let mut cache = self.behind(self.prefix(None)?, &batch);
        let mut pass = self.pass_over(positions, &examples, &batch.lengths);
        pass.cache = cache.as_mut();
        pass.hooks = hooks;
        pass.draws = draws;
        pass.keep = narrow.then(|| keep.shallow_clone());
        pass.packed = packed.as_ref();
        self.steer(&mut pass, starts.iter().copied());
        let hidden = self.decoder().forward(&batch.ids, depth, &mut pass)?.map(|hidden| {
            let hidden = if narrow { hidden } else { Pass::gather(&hidden, &keep) };
            let width = hidden.size()[2];
            hidden.reshape([-1, width]).index_select(0, &real)
        });
        Ok(TeacherForced { hidden, labels: Tensor::from_slice(&labels).to_device(self.device()), counts })
    }

    /// A pass for hidden states that are there already: nothing is turned by angles.
    fn pass_without_tokens<'h>(&self) -> Pass<'_, 'h> {
        let mut pass = Pass::turning(Tensor::zeros([1, 1], (Kind::Int64, self.device())), 0, &[], 0, self.kind(), &[], &[]);
        pass.adapter = self.adapter.as_deref();
        pass
    }

    /// Whether samples of different lengths are best [`packed`](TeacherForcing::packed): on the CPU, from a width on at which a token costs more than the calls
    /// of attention for each sample; where nobody sees the padded shape (`unseen`) or draws by it (dropout), nothing stands before the first tokens
    /// (virtual tokens), and nothing goes by the row as a whole (the place of a vector, rotations that turn again).
    pub(crate) fn packs(&self, unseen: bool, draws: bool) -> bool {
        let Config { hidden_size, max_positions, .. } = *self.config();
        let alone = self.virtual_tokens().is_none() && !self.is_steered() && !self.turns_anew(max_positions as usize);
        unseen && !draws && alone && self.device() == Device::Cpu && hidden_size >= PACKED_FROM
    }

    /// Logits `[token, vocab]` of hidden states `[token, hidden]`; bound hooks on the head see these packed rows.
    pub(crate) fn logits(&self, hidden: &Tensor, hooks: Option<&mut Hooks<'_>>) -> Result<Tensor> {
        let mut pass = self.pass_without_tokens();
        pass.hooks = hooks;
        self.decoder().logits(hidden, &mut pass)
    }
}

impl Show for Logits {
    fn bundle(&self) -> Bundle {
        Bundle::stack(vec![Bundle::text(format!("Logits [example, token, vocab], real tokens {:?}", self.lengths)), self.values.bundle()])
    }
}

impl Show for Gradients {
    fn bundle(&self) -> Bundle {
        let norms = |value: fn(&(String, Tensor, Tensor)) -> &Tensor| {
            self.points.iter().map(|point| Ok(value(point).f_norm()?.f_double_value(&[])?)).collect::<Result<Vec<f64>>>()
        };
        let frame = || {
            Ok(df!(
                "hook_point" => self.points.iter().map(|point| point.0.as_str()).collect::<Vec<_>>(),
                "value_norm" => norms(|point| &point.1)?,
                "gradient_norm" => norms(|point| &point.2)?,
            )?)
        };
        headed(&format!("Gradients of a scalar of {:.6}", self.scalar), frame())
    }
}
