//! The one decoder of every family.

use tch::{Kind, Tensor};

use super::config::Config;
use crate::error::Result;
use crate::nn::{Attention, AttentionShape, Fused, Linear, Mlp, Pass, RmsNorm, Source};

/// Token embedding, layers, final norm and output head; a family is a [`Config`], not a decoder of its own.
#[derive(Debug)]
pub struct Decoder {
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: RmsNorm,
    head: Linear,
    points: Vec<String>,
    weights: Vec<(String, Tensor)>,
}

#[derive(Debug)]
struct Layer {
    path: String,
    attention_norm: RmsNorm,
    attention: Attention,
    mlp_norm: RmsNorm,
    mlp: Mlp,
}

/// How far a forward has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Through the final norm: somebody reads logits.
    Full,
    /// To the last hook point that somebody wants: nothing after it is computed.
    Hooks,
}

impl Decoder {
    /// Takes the weights that `config` calls for, by their Hugging Face names.
    pub fn new(config: &Config, source: &mut Source<'_>) -> Result<Self> {
        let mut weights = Vec::new();
        let source: &mut Source<'_> = &mut |name, shape| {
            let weight = source(name, shape)?;
            weights.push((name.to_string(), weight.shallow_clone()));
            Ok(weight)
        };
        let hidden = config.hidden_size;
        let shape = AttentionShape {
            hidden,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            qkv_bias: config.qkv_bias,
            output_bias: config.o_bias,
            qk_norm: config.qk_norm.then_some(config.rms_norm_eps),
        };
        let embedding = source("model.embed_tokens.weight", &[config.vocab_size, hidden])?;
        let mut layers = Vec::with_capacity(config.layers as usize);
        for index in 0..config.layers as usize {
            let path = format!("model.layers.{index}");
            layers.push(Layer {
                attention_norm: RmsNorm::new(format!("{path}.input_layernorm"), hidden, config.rms_norm_eps, source)?,
                attention: Attention::new(format!("{path}.self_attn"), index, shape, source)?,
                mlp_norm: RmsNorm::new(format!("{path}.post_attention_layernorm"), hidden, config.rms_norm_eps, source)?,
                mlp: Mlp::new(format!("{path}.mlp"), hidden, config.intermediate_size, config.mlp_bias, source)?,
                path,
            });
        }
        let norm = RmsNorm::new("model.norm".into(), hidden, config.rms_norm_eps, source)?;
        let head = if config.tie_embeddings {
            Linear::tied("lm_head", &embedding)
        } else {
            Linear::new("lm_head".into(), hidden, config.vocab_size, false, source)?
        };
        let points = hook_points(&layers);
        Ok(Self { embedding, layers, norm, head, points, weights })
    }

    /// Every hook point, in the order in which a forward reaches them.
    pub fn hook_points(&self) -> &[String] {
        &self.points
    }

    /// Every weight by its Hugging Face name, as it was taken.
    pub fn weights(&self) -> &[(String, Tensor)] {
        &self.weights
    }

    /// The groups of linear modules that the family's files hold as one matrix each; the whole is a site, too.
    pub fn fused(&self) -> Vec<&Fused> {
        Vec::new()
    }

    /// Every linear module that an adapter can sit on, with its `(in, out)` widths.
    pub fn sites(&self) -> Vec<(String, (i64, i64))> {
        let linears = self.layers.iter().flat_map(|layer| layer.attention.linears().into_iter().chain(layer.mlp.linears()));
        linears.map(|linear| (linear.path().to_string(), linear.widths())).collect()
    }

    /// Ids `[example, token]` to normalised hidden states `[example, kept, hidden]`; `None` if the depth ended before.
    pub fn forward(&self, ids: &Tensor, depth: Depth, pass: &mut Pass<'_, '_>) -> Result<Option<Tensor>> {
        let stream = pass.hook("model.embed_tokens", Tensor::embedding(&self.embedding, ids, -1, false, false))?;
        self.run(stream, depth, pass)
    }

    /// The same from embeddings `[example, token, hidden]` on.
    pub(crate) fn run(&self, mut stream: Tensor, depth: Depth, pass: &mut Pass<'_, '_>) -> Result<Option<Tensor>> {
        let last_wanted = match (&pass.hooks, depth) {
            (Some(hooks), Depth::Hooks) => {
                let wanted = hooks.paths();
                self.points.iter().rposition(|point| wanted.contains(&point.as_str()))
            }
            _ => None,
        };
        let done = |path: &str| last_wanted.is_some_and(|last| self.points[last] == path);

        let last = self.layers.len() - 1;
        for (index, layer) in self.layers.iter().enumerate() {
            let keep = if index == last { pass.keep.as_ref().map(Tensor::shallow_clone) } else { None };
            let normed = layer.attention_norm.forward(&stream, pass)?;
            let attended = layer.attention.forward(&normed, keep.as_ref(), pass)?;
            if done(layer.attention.path()) {
                return Ok(None);
            }
            if let Some(keep) = &keep {
                stream = Pass::gather(&stream, keep);
            }
            // Never in place: an observer may hold the stream.
            stream = stream.g_add(&attended);
            let normed = layer.mlp_norm.forward(&stream, pass)?;
            stream = stream.g_add(&layer.mlp.forward(&normed, pass)?);
            stream = pass.hook(&layer.path, stream)?;
            if done(&layer.path) {
                return Ok(None);
            }
        }
        self.normalised(&stream, pass).map(Some)
    }

    /// The last layer's output `[.., hidden]` through the final norm.
    pub(crate) fn normalised(&self, stream: &Tensor, pass: &mut Pass<'_, '_>) -> Result<Tensor> {
        self.norm.forward(stream, pass)
    }

    /// Normalised hidden states `[.., hidden]` to logits `[.., vocab]`.
    pub fn logits(&self, hidden: &Tensor, pass: &mut Pass<'_, '_>) -> Result<Tensor> {
        self.head.forward(hidden, pass)
    }

    /// The kind the weights are held in.
    pub fn kind(&self) -> Kind {
        self.embedding.kind()
    }
}

fn hook_points(layers: &[Layer]) -> Vec<String> {
    let mut points = vec!["model.embed_tokens".to_string()];
    for Layer { path, attention, mlp, .. } in layers {
        let [key, value, query, output] = attention.linears().map(|linear| linear.path().to_string());
        points.extend([format!("{path}.input_layernorm"), key, value]);
        if attention.has_norms() {
            points.push(format!("{path}.self_attn.k_norm"));
        }
        points.push(query);
        if attention.has_norms() {
            points.push(format!("{path}.self_attn.q_norm"));
        }
        points.extend([format!("{path}.self_attn.pattern"), output, format!("{path}.self_attn")]);
        points.push(format!("{path}.post_attention_layernorm"));
        points.extend(mlp.linears().map(|linear| linear.path().to_string()));
        points.extend([format!("{path}.mlp"), path.clone()]);
    }
    points.extend(["model.norm".to_string(), "lm_head".to_string()]);
    points
}
