//! Self-attention with grouped heads.

use tch::{Kind, Tensor};

use super::Source;
use super::fused::{Fused, FusedLayout};
use super::joined::Joined;
use super::linear::Linear;
use super::mask::mask;
use super::norm::{Norm, NormKind};
use super::pass::{Packed, Pass};
use crate::error::Result;
use crate::kind::wide;
use crate::libtorch::operations;

/// Sizes and kind of one attention block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionShape {
    /// Width of the residual stream.
    pub hidden: i64,
    /// Query heads.
    pub heads: i64,
    /// Key and value heads; `heads` is a multiple of it.
    pub kv_heads: i64,
    /// Width of one head.
    pub head_dim: i64,
    /// Whether query, key and value projections have a bias.
    pub qkv_bias: bool,
    /// Whether the output projection has one.
    pub output_bias: bool,
    /// The query and key norms where the family has them.
    pub qk_norm: Option<QkNorm>,
    /// Which of the pass's rotary embeddings turns queries and keys; none where the layer knows no order but the mask's.
    pub rope: Option<usize>,
    /// How many tokens a query sees at most, itself included; all before it without.
    pub window: Option<i64>,
    /// What scores are multiplied with; `1 / sqrt(head_dim)` without.
    pub scale: Option<f64>,
    /// Scores `s` become `cap tanh(s / cap)`.
    pub cap: Option<f64>,
    /// The order of the one matrix that the family's files hold for the three projections, if they do.
    pub fused: Option<FusedLayout>,
}

/// Norms of queries and keys before their rotation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct QkNorm {
    /// The kind of norm.
    pub kind: NormKind,
    /// Its epsilon; above 0.
    pub epsilon: f64,
    /// Over all heads together; over each head without.
    pub whole: bool,
}

/// `o_proj(softmax(scale rope(q) rope(k)^T) v)`, grouped-query (Ainslie et al. 2023).
///
/// Its value as a hook point is the output after `o_proj`, before the residual is added. `{path}.pattern`, `[example, head, query, key]`, is
/// computed only when a hook asks for it: the fused kernel never forms it. `{path}.heads`, `[example, query, head * head_dim]`, is what the heads
/// give to `o_proj`, one after the other.
#[derive(Debug)]
pub(crate) struct Attention {
    path: String,
    /// The hook point of what enters `o_proj`.
    heads: String,
    layer: usize,
    shape: AttentionShape,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    joined: Option<Joined>,
    norms: Option<(Norm, Norm)>,
    fused: Option<Fused>,
}

impl Attention {
    /// Takes `q_proj`, `k_proj`, `v_proj`, `o_proj` (and `q_norm`, `k_norm`) below `path`.
    pub(crate) fn new(path: String, layer: usize, shape: AttentionShape, source: &mut Source<'_>) -> Result<Self> {
        let AttentionShape { hidden, heads, kv_heads, head_dim, qkv_bias, output_bias, qk_norm, .. } = shape;
        let (asking, keys) = (heads.saturating_mul(head_dim), kv_heads.saturating_mul(head_dim));
        let norms = match qk_norm {
            Some(QkNorm { kind, epsilon, whole }) => {
                let width = |all: i64| if whole { all } else { head_dim };
                Some((
                    Norm::new(format!("{path}.q_norm"), kind, width(asking), epsilon, source)?,
                    Norm::new(format!("{path}.k_norm"), kind, width(keys), epsilon, source)?,
                ))
            }
            None => None,
        };
        let mut query = Linear::new(format!("{path}.q_proj"), hidden, asking, qkv_bias, source)?;
        let mut key = Linear::new(format!("{path}.k_proj"), hidden, keys, qkv_bias, source)?;
        let mut value = Linear::new(format!("{path}.v_proj"), hidden, keys, qkv_bias, source)?;
        let joined = Joined::new([&mut query, &mut key, &mut value])?;
        let output = Linear::new(format!("{path}.o_proj"), asking, hidden, output_bias, source)?;
        let fused = shape.fused.map(|order| Fused::new(format!("{path}.qkv_proj"), &[&query, &key, &value], order));
        Ok(Self { heads: format!("{path}.heads"), path, layer, shape, query, key, value, output, joined, norms, fused })
    }

    /// `input [example, token, hidden]` gives keys and values, `asking [example, query, hidden]` (the same, or its kept rows) the queries.
    pub(crate) fn forward(&self, input: &Tensor, keep: Option<&Tensor>, pass: &mut Pass<'_, '_>) -> Result<Tensor> {
        let AttentionShape { heads, kv_heads, head_dim, window, .. } = self.shape;
        let (rows, tokens) = (input.size()[0], input.size()[1]);
        let [queries, key, value] = self.projected(input, keep, pass)?;
        let project = |linear: &Linear, whole: Option<Tensor>, input: &Tensor, pass: &mut Pass<'_, '_>| match whole {
            Some(value) => Joined::hook(linear, value, pass),
            None => linear.forward(input, pass),
        };
        let key = project(&self.key, key, input, pass)?;
        let mut value = project(&self.value, value, input, pass)?;
        // Attention keeps the values for its gradient: as a part of what holds queries and keys as well, only where those are kept, too.
        if !self.keeps_projected() {
            value = value.f_contiguous()?;
        }
        let value = value.view([rows, tokens, kv_heads, head_dim]).transpose(1, 2);
        let angles = self.shape.rope.and_then(|place| pass.rotary.get(place)).map(both);
        let key = self.placed(key, self.norms.as_ref().map(|(_, norm)| norm), kv_heads, angles.as_ref(), pass)?;

        let start = pass.cache.as_ref().map_or(0, |cache| cache.len() - tokens);
        let (asking, angles) = match keep {
            None => (input.shallow_clone(), angles),
            Some(keep) => {
                let pick = |angles: &Tensor| {
                    let angles = angles.expand([rows, -1, -1, -1], false).squeeze_dim(1);
                    Pass::gather(&angles, keep).unsqueeze(1)
                };
                let angles = angles.map(|(cos, sin)| (pick(&cos), pick(&sin)));
                pass.narrow(keep);
                (Pass::gather(input, keep), angles)
            }
        };
        let query = project(&self.query, queries, &asking, pass)?;
        let query = self.placed(query, self.norms.as_ref().map(|(norm, _)| norm), heads, angles.as_ref(), pass)?;

        let mixed = match pass.packed {
            Some(packed) => self.attend_apart(packed, &query, &key, &value, keep.is_some(), pass)?,
            None => {
                let mask = mask(start, tokens, window, keep, pass);
                let (key, value) = match &mut pass.cache {
                    Some(cache) => cache.put(self.layer, &key, &value),
                    None => (key, value),
                };
                self.attend(&query, &key, &value, mask.as_ref(), pass)?
            }
        };
        let asked = asking.size()[1];
        let mixed = pass.hook(&self.heads, mixed.reshape([rows, asked, heads * head_dim]))?;
        let output = self.output.forward(&mixed, pass)?;
        pass.hook(&self.path, output)
    }

    /// Queries, keys and values before their own hooks, those that are not to be computed by themselves.
    fn projected(&self, input: &Tensor, keep: Option<&Tensor>, pass: &mut Pass<'_, '_>) -> Result<[Option<Tensor>; 3]> {
        let linears = [&self.query, &self.key, &self.value];
        // Where somebody asks for all three as one.
        if let Some(fused) = &self.fused
            && let Some(mut parts) = fused.values(&linears, input, pass)?
        {
            if let Some(keep) = keep {
                parts[0] = Pass::gather(&parts[0], keep);
            }
            return three(parts);
        }
        // Queries of a few tokens are a product of their own.
        let first = usize::from(keep.is_some());
        let parts = match &self.joined {
            Some(joined) => joined.values(&linears, first, input, pass)?,
            None => None,
        };
        parts.map_or(Ok([None, None, None]), three)
    }

    /// Whether queries and keys are kept for the gradient as they were projected.
    fn keeps_projected(&self) -> bool {
        self.shape.rope.is_none() || self.shape.qk_norm.is_some_and(|norm| !norm.whole)
    }

    /// Queries or keys `[example, token, width]` by heads, `[example, head, token, head_dim]`, normed before or after they are split, and turned.
    fn placed(
        &self,
        projected: Tensor,
        norm: Option<&Norm>,
        heads: i64,
        angles: Option<&(Tensor, Tensor)>,
        pass: &mut Pass<'_, '_>,
    ) -> Result<Tensor> {
        let split = |values: Tensor| {
            let size = values.size();
            values.view([size[0], size[1], heads, self.shape.head_dim])
        };
        let split = match (norm, self.shape.qk_norm) {
            (Some(norm), Some(QkNorm { whole: true, .. })) => split(norm.forward(&projected, pass)?),
            (Some(norm), _) => {
                let split = split(projected);
                if let Some(angles) = angles
                    && let Some(turned) = norm.turned(&split.transpose(1, 2), angles, pass)?
                {
                    return Ok(turned);
                }
                norm.forward(&split, pass)?
            }
            (None, _) => split(projected),
        };
        let values = split.transpose(1, 2);
        match angles {
            Some(angles) => operations::rotate(&values, angles),
            None => Ok(values),
        }
    }

    /// [`Self::attend`] for each of the examples in one row: `[1, head, token, head_dim]` to `[1, query, head, head_dim]`. The positions are those of
    /// the queries already, which are the `kept` tokens or all.
    fn attend_apart(
        &self,
        packed: &Packed,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        kept: bool,
        pass: &mut Pass<'_, '_>,
    ) -> Result<Tensor> {
        let asked = if kept { &packed.kept } else { &packed.lengths };
        let (queries, positions) = (query.f_split_with_sizes(asked, 2)?, pass.positions.f_split_with_sizes(asked, 1)?);
        let (keys, values) = (key.f_split_with_sizes(&packed.lengths, 2)?, value.f_split_with_sizes(&packed.lengths, 2)?);
        let mut mixed = Vec::with_capacity(queries.len());
        for (place, &tokens) in packed.lengths.iter().enumerate() {
            let mask = mask(0, tokens, self.shape.window, kept.then_some(&positions[place]), pass);
            mixed.push(self.attend(&queries[place], &keys[place], &values[place], mask.as_ref(), pass)?);
        }
        Ok(Tensor::f_cat(&mixed, 1)?)
    }

    /// Queries, keys and values `[example, head, token, head_dim]` to `[example, query, head, head_dim]`.
    fn attend(&self, query: &Tensor, key: &Tensor, value: &Tensor, mask: Option<&Tensor>, pass: &mut Pass<'_, '_>) -> Result<Tensor> {
        let AttentionShape { heads, kv_heads, head_dim, scale, cap, .. } = self.shape;
        let path = format!("{}.pattern", self.path);
        if cap.is_none() && !pass.wants(&path) {
            return Ok(operations::attention([query, key, value], mask, scale)?.transpose(1, 2));
        }
        let repeat = |grouped: &Tensor| grouped.repeat_interleave_self_int(heads / kv_heads, 1, None);
        let mut scores = query.matmul(&repeat(key).transpose(2, 3));
        scores = match scale {
            Some(scale) => scores * scale,
            None => scores / (head_dim as f64).sqrt(),
        };
        if let Some(cap) = cap {
            scores = operations::soft_cap(&scores, cap)?;
        }
        let causal;
        let mask = match mask {
            Some(mask) => mask,
            None => {
                let tokens = query.size()[2];
                causal = Tensor::ones([tokens, tokens], (Kind::Bool, query.device())).tril(0);
                &causal
            }
        };
        scores = scores.masked_fill(&mask.logical_not(), f64::NEG_INFINITY);
        let pattern = scores.softmax(-1, wide(scores.kind())).to_kind(query.kind());
        Ok(pass.hook(&path, pattern)?.matmul(&repeat(value)).transpose(1, 2))
    }

    /// Every hook point, in the order in which a forward reaches them.
    pub(crate) fn points(&self) -> Vec<String> {
        let mut points: Vec<String> = self.fused.iter().map(|fused| fused.path().to_string()).collect();
        points.extend([self.key.path().to_string(), self.value.path().to_string()]);
        points.extend(self.norms.iter().map(|(_, norm)| norm.path().to_string()));
        points.push(self.query.path().to_string());
        points.extend(self.norms.iter().map(|(norm, _)| norm.path().to_string()));
        points.extend([format!("{}.pattern", self.path), self.heads.clone(), self.output.path().to_string(), self.path.clone()]);
        points
    }

    /// The linear modules, in the order they run.
    pub(crate) fn linears(&self) -> [&Linear; 4] {
        [&self.key, &self.value, &self.query, &self.output]
    }

    /// The three projections as the one matrix that the family's files hold, if they do.
    pub(crate) fn fused(&self) -> Option<&Fused> {
        self.fused.as_ref()
    }

    /// The module's path.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

/// The last are those there are.
fn three(parts: Vec<Tensor>) -> Result<[Option<Tensor>; 3]> {
    let mut all = [None, None, None];
    for (place, part) in all.iter_mut().rev().zip(parts.into_iter().rev()) {
        *place = Some(part);
    }
    Ok(all)
}

fn both((cos, sin): &(Tensor, Tensor)) -> (Tensor, Tensor) {
    (cos.shallow_clone(), sin.shallow_clone())
}
