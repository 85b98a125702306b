//! A feed-forward block of many, of which each token takes a few.

use tch::Tensor;

use super::Source;
use super::activation::Activation;
use super::pass::Pass;
use crate::error::Result;
use crate::kind::wide;
use crate::libtorch::operations;

/// Sizes and kind of a block of experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ExpertsShape {
    /// How many there are.
    pub count: i64,
    /// How many each token takes; at most `count`.
    pub chosen: i64,
    /// Width inside one.
    pub intermediate: i64,
    /// Whether the weights of a token's experts are made to sum to 1.
    pub normalised: bool,
}

/// `sum_e p_e down_e(f(gate_e(x)) * up_e(x))` over the `chosen` experts with the largest `p = softmax(router(x))` (Shazeer et al. 2017).
///
/// The experts' matrices are held stacked; they are no adapter sites and no hook points: which tokens one sees depends on the tokens.
/// The whole block's value is a hook point at its path.
#[derive(Debug)]
pub(crate) struct Experts {
    path: String,
    shape: ExpertsShape,
    activation: Activation,
    router: Tensor,
    gate_up: Tensor,
    down: Tensor,
}

impl Experts {
    /// Takes `{path}.gate.weight [expert, hidden]`, `{path}.experts.gate_up_proj [expert, 2 intermediate, hidden]` and
    /// `{path}.experts.down_proj [expert, hidden, intermediate]`.
    pub(crate) fn new(path: String, hidden: i64, shape: ExpertsShape, activation: Activation, source: &mut Source<'_>) -> Result<Self> {
        let ExpertsShape { count, intermediate, .. } = shape;
        let router = source(&format!("{path}.gate.weight"), &[count, hidden])?;
        let gate_up = source(&format!("{path}.experts.gate_up_proj"), &[count, 2 * intermediate, hidden])?;
        let down = source(&format!("{path}.experts.down_proj"), &[count, hidden, intermediate])?;
        Ok(Self { path, shape, activation, router, gate_up, down })
    }

    /// `[example, token, hidden]` to the same.
    pub(crate) fn forward(&self, input: &Tensor, pass: &mut Pass<'_, '_>) -> Result<Tensor> {
        let size = input.size();
        let rows = input.reshape([-1, size[size.len() - 1]]);
        let scores = operations::linear(&rows, &self.router, None, false)?;
        let wide = wide(scores.kind());
        let (mut weights, places) = scores.softmax(-1, wide).topk(self.shape.chosen, -1, true, true);
        if self.shape.normalised {
            weights = &weights / weights.sum_dim_intlist([-1i64].as_slice(), true, wide);
        }
        let weights = weights.to_kind(rows.kind());
        let mut output = rows.zeros_like();
        for expert in 0..self.shape.count {
            // The tokens that take this expert, and as which of theirs.
            let taken = places.eq(expert).nonzero();
            if taken.size()[0] == 0 {
                continue;
            }
            let (tokens, ranks) = (taken.select(1, 0), taken.select(1, 1));
            let both = operations::linear(&rows.index_select(0, &tokens), &self.gate_up.get(expert), None, false)?.chunk(2, -1);
            let inner = self.activation.gated(&both[0], &both[1])?;
            let share = weights.index(&[Some(&tokens), Some(&ranks)]).unsqueeze(-1);
            let part = operations::linear(&inner, &self.down.get(expert), None, false)? * share;
            output = output.index_add(0, &tokens, &part);
        }
        pass.hook(&self.path, output.view(size.as_slice()))
    }

    /// The block's one hook point.
    pub(crate) fn points(&self) -> Vec<String> {
        vec![self.path.clone()]
    }
}
