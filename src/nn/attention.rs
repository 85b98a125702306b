//! Self-attention with grouped heads and rotary positions.

use tch::{Kind, Tensor};

use super::Source;
use super::linear::Linear;
use super::pass::Pass;
use super::rms_norm::RmsNorm;
use crate::error::Result;
use crate::libtorch::operations;

/// Sizes of one attention block.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
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
    /// Epsilon of the query and key norms where the family has them.
    pub qk_norm: Option<f64>,
}

/// `o_proj(softmax(rope(q) rope(k)^T / sqrt(head_dim)) v)`, grouped-query (Ainslie et al. 2023).
///
/// Its value as a hook point is the output after `o_proj`, before the residual is added. `{path}.pattern`, `[example, head, query, key]`, is
/// computed only when a hook asks for it: the fused kernel never forms it.
#[derive(Debug)]
pub struct Attention {
    path: String,
    layer: usize,
    shape: AttentionShape,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    norms: Option<(RmsNorm, RmsNorm)>,
}

impl Attention {
    /// Takes `q_proj`, `k_proj`, `v_proj`, `o_proj` (and `q_norm`, `k_norm`) below `path`.
    pub fn new(path: String, layer: usize, shape: AttentionShape, source: &mut Source<'_>) -> Result<Self> {
        let AttentionShape { hidden, heads, kv_heads, head_dim, qkv_bias, output_bias, qk_norm } = shape;
        let norms = match qk_norm {
            Some(epsilon) => Some((
                RmsNorm::new(format!("{path}.q_norm"), head_dim, epsilon, source)?,
                RmsNorm::new(format!("{path}.k_norm"), head_dim, epsilon, source)?,
            )),
            None => None,
        };
        Ok(Self {
            query: Linear::new(format!("{path}.q_proj"), hidden, heads * head_dim, qkv_bias, source)?,
            key: Linear::new(format!("{path}.k_proj"), hidden, kv_heads * head_dim, qkv_bias, source)?,
            value: Linear::new(format!("{path}.v_proj"), hidden, kv_heads * head_dim, qkv_bias, source)?,
            output: Linear::new(format!("{path}.o_proj"), heads * head_dim, hidden, output_bias, source)?,
            path,
            layer,
            shape,
            norms,
        })
    }

    /// `input [example, token, hidden]` gives keys and values, `asking [example, query, hidden]` (the same, or its kept rows) the queries.
    pub fn forward(&self, input: &Tensor, keep: Option<&Tensor>, pass: &mut Pass<'_, '_>) -> Result<Tensor> {
        let AttentionShape { heads, kv_heads, head_dim, .. } = self.shape;
        let (rows, tokens) = (input.size()[0], input.size()[1]);
        let split = |projected: Tensor, heads: i64| {
            let tokens = projected.size()[1];
            projected.view([rows, tokens, heads, head_dim])
        };
        let mut key = split(self.key.forward(input, pass)?, kv_heads);
        let value = split(self.value.forward(input, pass)?, kv_heads).transpose(1, 2);
        if let Some((_, norm)) = &self.norms {
            key = norm.forward(&key, pass)?;
        }
        let key = operations::rotate(&key.transpose(1, 2), &pass.rotary)?;

        let start = pass.cache.as_ref().map_or(0, |cache| cache.len() - tokens);
        let (asking, angles) = match keep {
            None => (input.shallow_clone(), (pass.rotary.0.shallow_clone(), pass.rotary.1.shallow_clone())),
            Some(keep) => {
                let pick = |angles: &Tensor| {
                    let angles = angles.expand([rows, -1, -1, -1], false).squeeze_dim(1);
                    Pass::gather(&angles, keep).unsqueeze(1)
                };
                let angles = (pick(&pass.rotary.0), pick(&pass.rotary.1));
                pass.narrow(keep);
                (Pass::gather(input, keep), angles)
            }
        };
        let mut query = split(self.query.forward(&asking, pass)?, heads);
        if let Some((norm, _)) = &self.norms {
            query = norm.forward(&query, pass)?;
        }
        let query = operations::rotate(&query.transpose(1, 2), &angles)?;

        let mask = mask(start, tokens, keep, pass);
        let (key, value) = match &mut pass.cache {
            Some(cache) => cache.put(self.layer, &key, &value),
            None => (key, value),
        };
        let mixed = self.attend(&query, &key, &value, mask.as_ref(), pass)?;
        let asked = asking.size()[1];
        let output = self.output.forward(&mixed.transpose(1, 2).reshape([rows, asked, heads * head_dim]), pass)?;
        pass.hook(&self.path, output)
    }

    fn attend(&self, query: &Tensor, key: &Tensor, value: &Tensor, mask: Option<&Tensor>, pass: &mut Pass<'_, '_>) -> Result<Tensor> {
        let AttentionShape { heads, kv_heads, head_dim, .. } = self.shape;
        let path = format!("{}.pattern", self.path);
        if !pass.wants(&path) {
            return Ok(Tensor::scaled_dot_product_attention(query, key, value, mask, 0.0, mask.is_none(), None, heads != kv_heads));
        }
        let repeat = |grouped: &Tensor| grouped.repeat_interleave_self_int(heads / kv_heads, 1, None);
        let mut scores = query.matmul(&repeat(key).transpose(2, 3)) / (head_dim as f64).sqrt();
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
        let wide = if scores.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        let pattern = scores.softmax(-1, wide).to_kind(query.kind());
        Ok(pass.hook(&path, pattern)?.matmul(&repeat(value)))
    }

    /// The linear modules, in the order they run.
    pub(crate) fn linears(&self) -> [&Linear; 4] {
        [&self.key, &self.value, &self.query, &self.output]
    }

    /// The module's path.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// True if queries and keys are normalised.
    pub(crate) fn has_norms(&self) -> bool {
        self.norms.is_some()
    }
}

/// Which keys each query may see, true where it may, broadcastable to `[example, head, query, key]`; `None` for plain causal attention from slot 0.
fn mask(start: i64, tokens: i64, keep: Option<&Tensor>, pass: &Pass<'_, '_>) -> Option<Tensor> {
    if start == 0 && keep.is_none() {
        return None;
    }
    let device = pass.positions.device();
    let slots = start + tokens;
    let valid = (start > 0).then(|| pass.cache.as_ref().map(|cache| cache.valid().view([-1, 1, 1, slots]))).flatten();
    if tokens == 1 {
        return valid;
    }
    let asked = match keep {
        Some(keep) => keep.unsqueeze(1).unsqueeze(-1) + start,
        None => Tensor::arange_start(start, slots, (Kind::Int64, device)).view([1, 1, tokens, 1]),
    };
    let seen = Tensor::arange(slots, (Kind::Int64, device)).view([1, 1, 1, slots]).le_tensor(&asked);
    Some(match valid {
        Some(valid) => seen.logical_and(&valid),
        None => seen,
    })
}
