//! The one decoder of every family.

use std::cell::RefCell;

use tch::{Kind, Tensor};

use super::config::{Config, NormPlacement};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::libtorch::operations;
use crate::nn::{Attention, AttentionShape, Experts, Fused, Linear, Mlp, MlpShape, Norm, NormKind, Pass, Paths, Precision, QkNorm, Source};

/// Token embedding, layers, final norm and output head; a family is a [`Config`], not a decoder of its own.
#[derive(Debug)]
pub struct Decoder {
    embedding: Tensor,
    embedding_scale: Option<f64>,
    positions: Option<Tensor>,
    stream_scale: Option<f64>,
    layers: Vec<Layer>,
    norm: Norm,
    head: Linear,
    divisor: Option<f64>,
    cap: Option<f64>,
    points: Paths,
    weights: Vec<(String, Tensor)>,
}

#[derive(Debug)]
struct Layer {
    path: String,
    before_attention: Option<Norm>,
    attention: Attention,
    after_attention: Option<Norm>,
    before_mlp: Option<Norm>,
    mlp: Block,
    after_mlp: Option<Norm>,
    parallel: bool,
    scale: Option<f64>,
}

/// What stands in the place of the MLP.
#[derive(Debug)]
enum Block {
    One(Box<Mlp>),
    Many(Experts),
}

/// How far a forward has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Through the final norm: somebody reads logits.
    Full,
    /// To the last hook point that somebody wants: nothing after it is computed.
    Hooks,
}

impl Decoder {
    /// Takes the weights that `config` calls for, by the names and shapes of [`Config::weights`].
    pub fn new(config: &Config, source: &mut Source<'_>) -> Result<Self> {
        let weights = RefCell::new(Vec::<(String, Tensor)>::new());
        let source: &mut Source<'_> = &mut |name, shape| {
            let weight = source(name, shape)?;
            weights.borrow_mut().push((name.to_string(), weight.shallow_clone()));
            Ok(weight)
        };
        let (hidden, parts) = (config.hidden_size, &config.parts);
        let embedding = source("model.embed_tokens.weight", &[config.vocab_size, hidden])?;
        let positions = match parts.learned_positions {
            true => Some(source("model.embed_positions.weight", &[config.max_positions, hidden])?),
            false => None,
        };
        let mut layers = Vec::new();
        for index in 0..config.layers as usize {
            let before = weights.borrow().len();
            let layer = Layer::new(config, index, source)?;
            // Joined ones lie elsewhere now; what they were read into goes before the next layer comes.
            for linear in layer.linears() {
                let name = format!("{}.weight", linear.path());
                let mut weights = weights.borrow_mut();
                let own = weights[before..].iter_mut().find(|(weight, _)| *weight == name);
                own.ok_or_else(|| Error::internal(format!("no weight `{name}`")))?.1 = linear.weight().shallow_clone();
            }
            layers.push(layer);
        }
        let norm = Norm::new("model.norm".into(), parts.norm, hidden, config.rms_norm_eps, source)?;
        let head = match config.tie_embeddings {
            true => Linear::tied("lm_head", hidden, config.vocab_size, &embedding),
            false => Linear::new("lm_head".into(), hidden, config.vocab_size, false, source)?,
        };
        let mut points = vec!["model.embed_tokens".to_string()];
        points.extend(layers.iter().flat_map(Layer::points));
        points.extend(["model.norm".to_string(), "lm_head".to_string()]);
        Ok(Self {
            embedding,
            embedding_scale: parts.embedding_scale,
            positions,
            stream_scale: parts.stream_scale,
            layers,
            norm,
            head,
            divisor: parts.logits_divisor,
            cap: parts.logits_cap,
            points: Paths::new(points, |path| config.family.own_path(path)),
            weights: weights.into_inner(),
        })
    }

    /// Every hook point, in the order in which a forward reaches them.
    pub(crate) fn hook_points(&self) -> &[String] {
        self.points.common()
    }

    /// The hook points with the spellings of the family's own files.
    pub(crate) fn points(&self) -> &Paths {
        &self.points
    }

    /// Every weight by its name in [`Config::weights`], as it was taken.
    pub(crate) fn weights(&self) -> &[(String, Tensor)] {
        &self.weights
    }

    /// Every linear module that an adapter can sit on, with its `(in, out)` widths.
    pub(crate) fn sites(&self) -> Vec<(String, (i64, i64))> {
        self.linears().map(|linear| (linear.path().to_string(), linear.widths())).collect()
    }

    /// The layers' linear modules and the head multiply with this precision from now on; experts stay at the full one.
    pub(crate) fn set_precision(&self, precision: Precision) {
        self.linears().chain([&self.head]).for_each(|linear| linear.set_precision(precision));
    }

    fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.layers.iter().flat_map(Layer::linears)
    }

    /// The groups of linear modules that the family's files hold as one matrix each; the whole is a site, too.
    pub(crate) fn fused(&self) -> Vec<&Fused> {
        let fused = self.layers.iter().flat_map(|layer| {
            let mlp = match &layer.mlp {
                Block::One(mlp) => mlp.fused(),
                Block::Many(_) => None,
            };
            [layer.attention.fused(), mlp]
        });
        fused.flatten().collect()
    }

    /// What enters the first layer for each id, `[.., hidden]`, before any position is added.
    pub(crate) fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        let embedded = Tensor::f_embedding(&self.embedding, ids, -1, false, false)?;
        Ok(match self.embedding_scale {
            Some(scale) => embedded.f_mul_scalar(rounded(scale, self.kind())?)?,
            None => embedded,
        })
    }

    /// Ids `[example, token]` to normalised hidden states `[example, kept, hidden]`; `None` if the depth ended before.
    pub(crate) fn forward(&self, ids: &Tensor, depth: Depth, pass: &mut Pass<'_, '_>) -> Result<Option<Tensor>> {
        let stream = pass.hook("model.embed_tokens", self.embed(ids)?)?;
        self.run(stream, depth, pass)
    }

    /// The same from embeddings `[example, token, hidden]` on.
    pub(crate) fn run(&self, mut stream: Tensor, depth: Depth, pass: &mut Pass<'_, '_>) -> Result<Option<Tensor>> {
        if let Some(table) = &self.positions {
            // Padding behind a row's end may lie beyond the table; nobody reads what it gets.
            let places = pass.positions.f_add_scalar(pass.shift)?.f_clamp_max(table.size()[0] - 1)?;
            let positions = Tensor::f_embedding(table, &places, -1, false, false)?;
            stream = stream.f_add(&positions)?;
        }
        if let Some(scale) = self.stream_scale {
            stream = stream.f_mul_scalar(scale)?;
        }
        let last_wanted = match (&pass.hooks, depth) {
            (Some(hooks), Depth::Hooks) => {
                let wanted = hooks.paths();
                self.hook_points().iter().rposition(|point| wanted.contains(&point.as_str()))
            }
            _ => None,
        };
        let done = |path: &str| last_wanted.is_some_and(|last| self.hook_points()[last] == path);

        let last = self.layers.len() - 1;
        for (index, layer) in self.layers.iter().enumerate() {
            interrupt::check()?;
            let keep = if index == last { pass.keep.as_ref().map(Tensor::shallow_clone) } else { None };
            let attended = layer.attention.forward(&normed(&layer.before_attention, &stream, pass)?, keep.as_ref(), pass)?;
            if done(layer.attention.path()) {
                return Ok(None);
            }
            let attended = layer.scaled(normed(&layer.after_attention, &attended, pass)?);
            if let Some(keep) = &keep {
                stream = Pass::gather(&stream, keep);
            }
            // Never in place: an observer may hold the stream.
            stream = if layer.parallel {
                let normed = normed(&layer.before_mlp, &stream, pass)?;
                layer.write(&normed, pass)?.g_add(&attended).g_add(&stream)
            } else {
                let (read, normed) = match &layer.before_mlp {
                    Some(norm) => norm.of_sum(&stream, &attended, pass)?,
                    None => {
                        let read = stream.g_add(&attended);
                        (read.shallow_clone(), read)
                    }
                };
                read.g_add(&layer.write(&normed, pass)?)
            };
            let steered = pass.steer(index, stream)?;
            stream = pass.hook(&layer.path, steered)?;
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
    ///
    /// The value at the hook point `lm_head` is what the model says: with a family's factor and soft cap.
    pub(crate) fn logits(&self, hidden: &Tensor, pass: &mut Pass<'_, '_>) -> Result<Tensor> {
        if self.divisor.is_none() && self.cap.is_none() {
            return self.head.forward(hidden, pass);
        }
        let mut logits = self.head.adapted(hidden, pass)?;
        if let Some(divisor) = self.divisor {
            logits = logits.f_div_scalar(divisor)?;
        }
        if let Some(cap) = self.cap {
            logits = operations::soft_cap(&logits, cap)?;
        }
        pass.hook(self.head.path(), logits)
    }

    /// The kind the weights are held in.
    pub(crate) fn kind(&self) -> Kind {
        self.embedding.kind()
    }
}

impl Layer {
    fn new(config: &Config, index: usize, source: &mut Source<'_>) -> Result<Self> {
        let (hidden, parts, own) = (config.hidden_size, &config.parts, config.parts.layer(index));
        let path = format!("model.layers.{index}");
        let norm = |name: &str, there: bool, source: &mut Source<'_>| match there {
            true => Norm::new(format!("{path}.{name}"), parts.norm, hidden, config.rms_norm_eps, source).map(Some),
            false => Ok(None),
        };
        let (before, after) = (parts.norms != NormPlacement::After, parts.norms != NormPlacement::Before);
        let kind = if parts.norm == NormKind::Layer { NormKind::Rms } else { parts.norm };
        let shape = AttentionShape {
            hidden,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            qkv_bias: config.qkv_bias,
            output_bias: config.o_bias,
            qk_norm: config.qk_norm.then_some(QkNorm { kind, epsilon: config.rms_norm_eps, whole: parts.whole_qk_norm }),
            rope: parts.rope(index),
            window: own.window,
            scale: own.scale,
            cap: parts.score_cap,
            fused: config.fused("qkv_proj"),
        };
        let before_attention = norm("input_layernorm", before, source)?;
        let attention = Attention::new(format!("{path}.self_attn"), index, shape, source)?;
        let after_attention = norm("post_attention_layernorm", after, source)?;
        // Where there is none after attention, the one before the MLP has its name.
        let name = if after { "pre_feedforward_layernorm" } else { "post_attention_layernorm" };
        let before_mlp = norm(name, before, source)?;
        let mlp = match parts.experts.filter(|_| own.experts) {
            Some(shape) => Block::Many(Experts::new(format!("{path}.mlp"), hidden, shape, parts.activation, source)?),
            None => {
                let shape = MlpShape {
                    hidden,
                    intermediate: config.intermediate_size,
                    bias: config.mlp_bias,
                    activation: parts.activation,
                    gated: parts.gated,
                    fused: config.fused("gate_up_proj"),
                };
                Block::One(Box::new(Mlp::new(format!("{path}.mlp"), shape, source)?))
            }
        };
        let after_mlp = norm("post_feedforward_layernorm", after, source)?;
        let (parallel, scale) = (parts.parallel, parts.residual_scale);
        Ok(Self { before_attention, attention, after_attention, before_mlp, mlp, after_mlp, parallel, scale, path })
    }

    /// The linear modules, in the order they run.
    fn linears(&self) -> impl Iterator<Item = &Linear> {
        let mlp = match &self.mlp {
            Block::One(mlp) => mlp.linears(),
            Block::Many(_) => Vec::new(),
        };
        self.attention.linears().into_iter().chain(mlp)
    }

    /// What the MLP adds, of the normed stream.
    fn write(&self, read: &Tensor, pass: &mut Pass<'_, '_>) -> Result<Tensor> {
        let written = match &self.mlp {
            Block::One(mlp) => mlp.forward(read, pass)?,
            Block::Many(experts) => experts.forward(read, pass)?,
        };
        Ok(self.scaled(normed(&self.after_mlp, &written, pass)?))
    }

    fn scaled(&self, value: Tensor) -> Tensor {
        match self.scale {
            Some(scale) => value * scale,
            None => value,
        }
    }

    fn points(&self) -> Vec<String> {
        let of = |norm: &Option<Norm>| norm.iter().map(|norm| norm.path().to_string()).collect::<Vec<_>>();
        let mlp = match &self.mlp {
            Block::One(mlp) => mlp.points(),
            Block::Many(experts) => experts.points(),
        };
        let own = vec![self.path.clone()];
        [
            of(&self.before_attention),
            self.attention.points(),
            of(&self.after_attention),
            of(&self.before_mlp),
            mlp,
            of(&self.after_mlp),
            own,
        ]
        .concat()
    }
}

fn normed(norm: &Option<Norm>, value: &Tensor, pass: &mut Pass<'_, '_>) -> Result<Tensor> {
    match norm {
        Some(norm) => norm.forward(value, pass),
        None => Ok(value.shallow_clone()),
    }
}

/// A factor as the reference holds it: in f32, then in the weights' kind.
fn rounded(factor: f64, kind: Kind) -> Result<f64> {
    Ok(Tensor::f_from_slice(&[factor as f32])?.f_to_kind(kind)?.f_double_value(&[0])?)
}
