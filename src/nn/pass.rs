//! What travels with a forward.

use tch::{Device, Kind, Tensor};

use super::frozen::Frozen;
use super::hook::{HookPoint, Hooks};
use super::kv_cache::KvCache;
use super::rope::Rope;
use super::steer::Steered;
use crate::error::Result;
use crate::kind::wide;
use crate::libtorch::operations;
use crate::random::Random;

/// The random numbers of one forward: a seed, from which every module has a stream of its own.
///
/// libtorch has one generator for a process. What draws from that gives other numbers when something else draws, too; these are the same
/// whatever else is computed, and on whichever thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DropoutDraws(u64);

impl DropoutDraws {
    /// The draws of this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// `input` with each number zero with this `probability`, in `[0, 1)`, and the others grown by `1 / (1 - probability)`. The module at
    /// `site` drops the same numbers of an input of the same shape, kind and device each time.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub(crate) fn dropout(self, site: &str, input: &Tensor, probability: f64) -> Result<Tensor> {
        let seed = Random::new(self.0, site, 0).below(usize::MAX) as u64;
        operations::dropout(input, probability, seed)
    }
}

/// What an adapter may change in a forward. Each method's default leaves the base model as it is.
pub(crate) trait Adapt: std::fmt::Debug {
    /// The linear `module`, `[example, token, in]` to `[example, token, out]`.
    ///
    /// In a step of training there are `draws`: dropout is on, and draws from them.
    ///
    /// # Errors
    /// When libtorch refuses.
    fn linear(&self, module: &Frozen<'_>, input: &Tensor, draws: Option<DropoutDraws>) -> Result<Tensor> {
        let _ = draws;
        module.forward(input)
    }

    /// The low-rank update at `site`, where that is all that this changes there: the module computes it with its own product, in one operation
    /// that keeps less and is quicker than [`linear`](Self::linear), which is not called then.
    fn low_rank(&self, site: &str) -> Option<LowRankUpdate<'_>> {
        let _ = site;
        None
    }

    /// Whether [`Adapt::linear`] may change the module at `site`; where it says not, the module may be left unasked.
    fn applies_at(&self, site: &str) -> bool {
        let _ = site;
        true
    }

    /// What stands before the first real token of every example.
    fn prefix(&self) -> Option<Prefix> {
        None
    }

    /// The numbers that tell this change from another, by name and in one order.
    fn numbers(&self) -> Vec<(String, Tensor)> {
        let values = |prefix: Prefix| match prefix.tokens {
            VirtualTokens::Embeddings(values) | VirtualTokens::KeysValues(values) => ("prefix".to_string(), values),
        };
        self.prefix().map(values).into_iter().collect()
    }
}

/// A low-rank update of a linear module: `W x` becomes `W x + scale B A x`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LowRankUpdate<'a> {
    /// `[rank, in]`; f64 under an f64 model, else f32.
    pub a: &'a Tensor,
    /// `[out, rank]`, of the same kind.
    pub b: &'a Tensor,
    /// What `B A` is multiplied with.
    pub scale: f64,
    /// In training each component of the update's input is zero with this probability; in `[0, 1)`.
    pub dropout: f64,
}

/// Virtual tokens: trained places before the first real token, which every later token may attend to.
///
/// As attention is causal, what a virtual token is at any layer does not depend on the real ones. So virtual tokens are computed once,
/// for one example, and enter a forward as cached keys and values: hooks, losses and metrics count real tokens alone, whatever their number.
#[derive(Debug)]
pub(crate) struct Prefix {
    /// The virtual tokens.
    pub tokens: VirtualTokens,
    /// Whether real tokens see them; hidden ones must leave every value of the base model as it is.
    pub visible: bool,
    /// By how much they move the rotary position of every real token: their number, unless hidden.
    pub shift: i64,
}

/// How virtual tokens are given.
#[derive(Debug)]
pub(crate) enum VirtualTokens {
    /// In place of token embeddings, `[virtual, hidden]` (prompt tuning).
    Embeddings(Tensor),
    /// Keys and values of every layer as they enter attention, `[virtual, 2 layer, kv_head, head_dim]` in the order layer 0 key, layer 0
    /// value, layer 1 key, ... (prefix tuning).
    KeysValues(Tensor),
}

impl Prefix {
    /// How many virtual tokens.
    pub(crate) fn len(&self) -> i64 {
        match &self.tokens {
            VirtualTokens::Embeddings(values) | VirtualTokens::KeysValues(values) => values.size()[0],
        }
    }

    /// True if there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Positions, mask, cache, hooks and adapter of one forward.
///
/// Batches are padded on the right, so a plain forward needs no mask but the causal one: no real token ever sees padding before it.
/// With a cache, the slots of padding are masked by [`KvCache::valid`].
pub(crate) struct Pass<'a, 'h> {
    /// Logical position of each token, `[example, token]`, or `[1, token]` where all examples agree; 0 is the first real token.
    pub positions: Tensor,
    /// By how much the positions of what is embedded are higher than those that hooks see: the number of virtual tokens.
    pub shift: i64,
    /// Cosine and sine of the angles of each rotary embedding that layers turn by, `[example, 1, token, width]`.
    pub rotary: Vec<(Tensor, Tensor)>,
    /// Keys and values of earlier tokens; a forward adds its own.
    pub cache: Option<&'a mut KvCache>,
    /// Observers and editors, already bound.
    pub hooks: Option<&'a mut Hooks<'h>>,
    /// Changes to the base model.
    pub adapter: Option<&'a dyn Adapt>,
    /// In a step of training what an adapter's dropout draws from; without it dropout is off.
    pub draws: Option<DropoutDraws>,
    /// Which examples of the caller's batch these rows are.
    pub examples: &'a [usize],
    /// Token indices `[example, kept]` that the last layer has to give; earlier layers always compute all.
    ///
    /// The last layer needs keys and values of every token, but queries, output projection and MLP only where somebody reads them.
    pub keep: Option<Tensor>,
    /// A vector that changes the residual stream at the last token of each query.
    pub(crate) steered: Option<Steered<'a>>,
    /// What the tokens of the one row belong to, where that is several examples.
    pub(crate) packed: Option<&'a Packed>,
}

/// Examples that stand one behind the other in one row: nothing is computed for padding. They meet nowhere, as attention is computed for each of them
/// by itself and all else token by token.
#[derive(Debug)]
pub(crate) struct Packed {
    /// Tokens of each example.
    pub lengths: Vec<i64>,
    /// Those of each that the last layer has to give.
    pub kept: Vec<i64>,
}

impl<'a, 'h> Pass<'a, 'h> {
    /// A plain forward at logical `positions`, with one rotary embedding that turns the first `width` of each head; its positions are higher
    /// by `shift`.
    #[cfg(test)]
    pub fn new(positions: Tensor, shift: i64, rope: &Rope, width: i64, kind: Kind, examples: &'a [usize]) -> Self {
        Self::turning(positions, shift, &[rope], width, kind, &[], examples)
    }

    /// The same with all rotary embeddings of a model. Where frequencies depend on the length of a text, `lengths` are those of the rows, virtual
    /// tokens included; without them texts are within the pre-training's context.
    pub(crate) fn turning(
        positions: Tensor,
        shift: i64,
        ropes: &[&Rope],
        width: i64,
        kind: Kind,
        lengths: &[i64],
        examples: &'a [usize],
    ) -> Self {
        let turned = &positions + shift;
        let rotary = ropes.iter().map(|rope| rotary(&turned, rope, width, kind, lengths)).collect();
        Self {
            positions,
            shift,
            rotary,
            cache: None,
            hooks: None,
            adapter: None,
            draws: None,
            examples,
            keep: None,
            steered: None,
            packed: None,
        }
    }

    /// Lets the hooks at `path` see the value and perhaps replace it.
    pub(crate) fn hook(&mut self, path: &str, value: Tensor) -> Result<Tensor> {
        match &mut self.hooks {
            Some(hooks) if hooks.wants(path) => hooks.call(&HookPoint { path, examples: self.examples, positions: &self.positions }, value),
            _ => Ok(value),
        }
    }

    /// The residual stream after `layer`, with what a vector does to it there.
    pub(crate) fn steer(&self, layer: usize, stream: Tensor) -> Result<Tensor> {
        match &self.steered {
            Some(steered) => steered.apply(layer, stream, &self.positions),
            None => Ok(stream),
        }
    }

    /// True if a hook looks at `path`.
    pub(crate) fn wants(&self, path: &str) -> bool {
        self.hooks.as_ref().is_some_and(|hooks| hooks.wants(path))
    }

    /// Rows of `values [example, token, ...]` at the kept tokens.
    pub(crate) fn gather(values: &Tensor, keep: &Tensor) -> Tensor {
        let width = values.size()[2];
        values.gather(1, &keep.unsqueeze(-1).expand([-1, -1, width], false), false)
    }

    /// Narrows positions and angles to the kept tokens, for the rest of the forward.
    pub(crate) fn narrow(&mut self, keep: &Tensor) {
        let rows = keep.size()[0];
        self.positions = self.positions.expand([rows, -1], false).gather(1, keep, false);
    }
}

/// Cosine and sine of `position x inverse frequency`, `[example, 1, token, width]`, each frequency twice as rotary's halves need it.
///
/// Frequencies, angles and cosines are computed in f32 like the reference's and then brought to the model's kind; all in f64 for an f64 model,
/// where the reference stays at f32.
pub(crate) fn rotary(positions: &Tensor, rope: &Rope, width: i64, kind: Kind, lengths: &[i64]) -> (Tensor, Tensor) {
    let wide = wide(kind);
    let frequencies = |regime: i64| Tensor::from_slice(&rope.frequencies(width, wide, regime)).to_kind(wide).to_device(positions.device());
    let regimes: Vec<i64> = lengths.iter().map(|&length| rope.regime(length)).collect();
    let frequencies = match regimes.split_first() {
        Some((first, rest)) if rest.iter().any(|other| other != first) => {
            Tensor::stack(&regimes.iter().map(|&regime| frequencies(regime)).collect::<Vec<_>>(), 0).unsqueeze(1)
        }
        Some((&first, _)) => frequencies(first),
        None => frequencies(0),
    };
    let angles = positions.to_kind(wide).unsqueeze(-1) * frequencies;
    let angles = Tensor::cat(&[&angles, &angles], -1).unsqueeze(1);
    let (mut cos, mut sin) = (angles.cos(), angles.sin());
    if rope.growth() != 1.0 {
        (cos, sin) = (cos * rope.growth(), sin * rope.growth());
    }
    (cos.to_kind(kind), sin.to_kind(kind))
}

/// `[1, token]` positions from `start`.
pub(crate) fn positions(start: i64, tokens: i64, device: Device) -> Tensor {
    Tensor::arange_start(start, start + tokens, (Kind::Int64, device)).unsqueeze(0)
}
