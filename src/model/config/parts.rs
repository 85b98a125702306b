//! What a decoder is made of besides its sizes.

use super::super::keys::Keys;
use super::Config;
use crate::error::Result;
use crate::nn::rope::Rope;
use crate::nn::{Activation, ExpertsShape, NormKind};

/// What `layer_types` calls a layer without a window.
const FULL: &str = "full_attention";

/// The parts a family's decoder is made of; what a family does not say is Llama's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parts {
    /// The kind of every norm.
    pub norm: NormKind,
    /// Where norms stand in a layer.
    pub norms: NormPlacement,
    /// Whether queries and keys are normed over all heads together, where they are (`qk_norm`); over each head if not.
    pub whole_qk_norm: bool,
    /// Whether attention and MLP both read the layer's input; if not, the MLP reads what attention has added to.
    pub parallel: bool,
    /// Whether a table of positions is added to the embeddings.
    pub learned_positions: bool,
    /// How much of each head the rotary embedding turns; even, and at most `head_dim`.
    pub rotary_width: i64,
    /// The rotary embedding of windowed layers, where it is another.
    pub windowed_rope: Option<Rope>,
    /// What is each layer's own.
    pub layers: Vec<LayerParts>,
    /// Attention scores `s` become `cap tanh(s / cap)`.
    pub score_cap: Option<f64>,
    /// The curve in the MLP.
    pub activation: Activation,
    /// Whether the MLP has a gate.
    pub gated: bool,
    /// The experts of the layers that have some.
    pub experts: Option<ExpertsShape>,
    /// What embeddings are multiplied with in their module; rounded to the weights' kind.
    pub embedding_scale: Option<f64>,
    /// What the first layer's input is multiplied with.
    pub stream_scale: Option<f64>,
    /// What the outputs of attention and MLP are multiplied with before they are added.
    pub residual_scale: Option<f64>,
    /// What logits are divided by.
    pub logits_divisor: Option<f64>,
    /// Logits `l` become `cap tanh(l / cap)`.
    pub logits_cap: Option<f64>,
}

/// What is one layer's own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LayerParts {
    /// How many tokens a query sees at most, itself included; all before it without.
    pub window: Option<i64>,
    /// Whether queries and keys are turned by their position.
    pub rotary: bool,
    /// What scores are multiplied with; `1 / sqrt(head_dim)` without.
    pub scale: Option<f64>,
    /// Whether the layer has experts in place of one MLP.
    pub experts: bool,
}

/// Where norms stand in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NormPlacement {
    /// Before attention and before the MLP.
    Before,
    /// Before and after both.
    Around,
    /// After both.
    After,
}

impl LayerParts {
    const PLAIN: Self = Self { window: None, rotary: true, scale: None, experts: false };
}

impl Parts {
    /// Llama's.
    pub(super) fn plain(layers: i64, rotary_width: i64) -> Self {
        Self {
            norm: NormKind::Rms,
            norms: NormPlacement::Before,
            whole_qk_norm: false,
            parallel: false,
            learned_positions: false,
            rotary_width,
            windowed_rope: None,
            layers: vec![LayerParts::PLAIN; layers.max(0) as usize],
            score_cap: None,
            activation: Activation::Silu,
            gated: true,
            experts: None,
            embedding_scale: None,
            stream_scale: None,
            residual_scale: None,
            logits_divisor: None,
            logits_cap: None,
        }
    }

    /// What is the layer's own.
    pub(crate) fn layer(&self, index: usize) -> LayerParts {
        self.layers.get(index).copied().unwrap_or(LayerParts::PLAIN)
    }

    /// Which of the model's rotary embeddings a layer turns by: 0 is [`Config::rope`], 1 the windowed layers' own.
    pub(in crate::model) fn rope(&self, index: usize) -> Option<usize> {
        let layer = self.layer(index);
        layer.rotary.then(|| usize::from(layer.window.is_some() && self.windowed_rope.is_some()))
    }
}

impl Config {
    /// Reads which layers attend to a window only: `layer_types`, else what `usual` says of each layer (from 0); `window` is how far they see.
    pub(in crate::model) fn read_windows(&mut self, keys: &mut Keys, window: Option<i64>, usual: impl Fn(i64) -> bool) -> Result<()> {
        // Where no layer differs from the others, nothing is said.
        let types = keys.words("layer_types")?.filter(|types| types.len() as i64 == self.layers || types.iter().any(|kind| kind != FULL));
        if let Some(types) = types.as_ref().filter(|types| types.len() as i64 != self.layers) {
            return Err(keys.error(format!("`layer_types` names {} layers, but the model has {}", types.len(), self.layers)));
        }
        for place in 0..self.layers {
            let windowed = match types.as_ref().map(|types| types[place as usize].as_str()) {
                Some(FULL) => false,
                Some("sliding_attention") => true,
                Some(other) => {
                    return Err(keys.error(format!(
                        "`layer_types` holds `{other}`, which is not supported; `full_attention` and `sliding_attention` are"
                    )));
                }
                None => window.is_some() && usual(place),
            };
            if windowed && window.is_none() {
                return Err(keys.error("`layer_types` asks for attention over a window, but `sliding_window` does not say how long it is"));
            }
            self.parts.layers[place as usize].window = window.filter(|_| windowed);
        }
        Ok(())
    }

    /// The softmax scale of every layer.
    pub(in crate::model) fn scale_scores(&mut self, scale: f64) {
        self.parts.layers.iter_mut().for_each(|layer| layer.scale = Some(scale));
    }

    /// The MLP's curve under `key`, which transformers takes for `usual` when it is absent.
    pub(in crate::model) fn read_activation(&mut self, keys: &mut Keys, key: &str, usual: Activation) -> Result<()> {
        let named = keys.word(key)?;
        self.parts.activation = match named.as_deref().map(Activation::named) {
            None => usual,
            Some(Some(activation)) => activation,
            Some(None) => {
                let name = named.unwrap_or_default();
                return Err(keys.error(format!(
                    "`{key}` is \"{name}\", an activation in the MLP that is not supported; silu, gelu, gelu_new, gelu_pytorch_tanh and relu are"
                )));
            }
        };
        Ok(())
    }

    /// Biases of all four projections of attention under one key, and of the MLP.
    pub(in crate::model) fn read_biases(&mut self, keys: &mut Keys) -> Result<()> {
        let bias = keys.flag("attention_bias", false)?;
        (self.qkv_bias, self.o_bias) = (bias, bias);
        Ok(())
    }
}
