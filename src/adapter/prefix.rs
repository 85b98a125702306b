//! Prefix tuning: virtual tokens given by their keys and values.

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::Tensor;

use super::method::Tuning;
use super::peft::{PROMPT, Settings};
use super::prompt::Embeddings;
use super::start::Start;
use super::{Base, Parameters};
use crate::error::Result;
use crate::kind::wide;
use crate::model::{Config, Model};
use crate::nn::{Adapt, Prefix, VirtualTokens};

/// `V` virtual tokens given by trained keys and values of every layer, `[virtual, 2 layer, kv_head, head_dim]` in the order layer 0 key, layer 0
/// value, layer 1 key, ... (Li and Liang 2021, arXiv:2101.00190), as PEFT's `[virtual, 2 layer kv_head head_dim]`.
///
/// Keys enter attention as they are: no rotary embedding and no norm is applied to them. Real tokens take the rotary positions from `V` on; all
/// positions that hooks, activations, losses and metrics speak of count real tokens alone. Without virtual tokens the adapted model is the base model.
///
/// Prefixes that PEFT trained with `prefix_projection` are read, too: it saves what they are projected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixTuning {
    tokens: i64,
    start: Start,
}

impl PrefixTuning {
    /// The number of virtual tokens, at most the number of positions in the model's context.
    pub fn tokens(count: usize) -> Self {
        Self { tokens: i64::try_from(count).unwrap_or(i64::MAX), start: Start::default() }
    }

    /// Which embeddings the first keys and values are computed from.
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }
}

/// Width of one virtual token.
pub(super) fn width(config: &Config) -> i64 {
    2 * config.layers * config.kv_heads * config.head_dim
}

/// The keys and values that `embeddings [virtual, hidden]` leave in the cache, at the positions from 0 on.
pub(super) fn started(model: &Model, embeddings: Tensor) -> Result<Vec<(String, Tensor)>> {
    let size = [embeddings.size()[0], width(model.config())];
    let values = match model.adapted(Rc::new(Embeddings(embeddings))).prefix(None)? {
        Some(cache) => cache.keys_values().reshape(size),
        None => Tensor::zeros(size, (model.kind(), model.device())),
    };
    Ok(vec![(PROMPT.into(), values.to_kind(wide(model.kind())))])
}

impl Tuning for PrefixTuning {
    fn name(&self) -> String {
        format!("prefix tuning V={}", self.tokens)
    }

    fn layout(&self, model: &Model) -> Result<Vec<(String, Vec<i64>)>> {
        Ok(vec![(PROMPT.into(), vec![self.tokens, width(model.config())])])
    }

    fn start(&self, model: &Model, seed: u64) -> Result<Vec<(String, Tensor)>> {
        let _constant = tch::no_grad_guard();
        started(model, self.start.embeddings(model, self.tokens, seed)?)
    }

    fn attach(&self, parameters: &Parameters, config: &Config) -> Result<Rc<dyn Adapt>> {
        let values = parameters.get(PROMPT)?;
        Ok(Rc::new(KeysValues::new(&values, 0, config)))
    }

    fn write(&self, _parameters: &Parameters, base: &Base) -> Result<Value> {
        let Config { layers, kv_heads, head_dim, .. } = base.config;
        Ok(json!({
            "encoder_hidden_size": kv_heads * head_dim, "num_attention_heads": kv_heads, "num_layers": layers, "num_transformer_submodules": 1,
            "num_virtual_tokens": self.tokens, "prefix_projection": false, "token_dim": kv_heads * head_dim,
        }))
    }

    fn read(settings: &mut Settings, model: &Model) -> Result<Self> {
        let Config { layers, kv_heads, head_dim, .. } = *model.config();
        let tokens = settings.virtual_tokens(layers, kv_heads, kv_heads * head_dim)?;
        settings.keys.ignore(&["encoder_hidden_size", "prefix_projection", "init_weights"]);
        Ok(Self { tokens, start: Start::default() })
    }
}

#[derive(Debug)]
pub(super) struct KeysValues {
    /// `[virtual, 2 layer, kv_head, head_dim]`.
    values: Tensor,
    /// The first virtual tokens, which no gradient reaches.
    frozen: i64,
}

impl KeysValues {
    /// Of parameters `[virtual, 2 layer kv_head head_dim]`.
    pub(super) fn new(parameters: &Tensor, frozen: i64, config: &Config) -> Self {
        let size = [parameters.size()[0], 2 * config.layers, config.kv_heads, config.head_dim];
        Self { values: parameters.view(size), frozen }
    }

    fn values(&self) -> Tensor {
        let rest = self.values.size()[0] - self.frozen;
        if self.frozen == 0 || rest == 0 {
            return if rest == 0 { self.values.detach() } else { self.values.shallow_clone() };
        }
        Tensor::cat(&[self.values.narrow(0, 0, self.frozen).detach(), self.values.narrow(0, self.frozen, rest)], 0)
    }
}

impl Adapt for KeysValues {
    fn applies_at(&self, _site: &str) -> bool {
        false
    }

    fn prefix(&self) -> Option<Prefix> {
        Some(Prefix { tokens: VirtualTokens::KeysValues(self.values()), visible: true, shift: self.values.size()[0] })
    }
}
