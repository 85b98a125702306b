//! Prompt tuning: virtual tokens given by their embeddings.

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::Tensor;

use super::method::Tuning;
use super::peft::{PROMPT, Settings};
use super::start::Start;
use super::{Base, Parameters};
use crate::error::Result;
use crate::model::{Config, Model};
use crate::nn::{Adapt, Prefix, VirtualTokens};

/// `V` trained embeddings `[virtual, hidden]` before the embeddings of the real tokens (Lester et al. 2021, arXiv:2104.08691).
///
/// The virtual tokens take the rotary positions `0..V`; real tokens follow. All positions that hooks, activations, losses and metrics speak of
/// count real tokens alone. Without virtual tokens the adapted model is the base model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptTuning {
    tokens: i64,
    start: Start,
}

impl PromptTuning {
    /// The number of virtual tokens, at most the number of positions in the model's context.
    pub fn tokens(count: usize) -> Self {
        Self { tokens: i64::try_from(count).unwrap_or(i64::MAX), start: Start::default() }
    }

    /// How they start.
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }
}

impl Tuning for PromptTuning {
    fn name(&self) -> String {
        format!("prompt tuning V={}", self.tokens)
    }

    fn layout(&self, model: &Model) -> Result<Vec<(String, Vec<i64>)>> {
        Ok(vec![(PROMPT.into(), vec![self.tokens, model.config().hidden_size])])
    }

    fn start(&self, model: &Model, seed: u64) -> Result<Vec<(String, Tensor)>> {
        Ok(vec![(PROMPT.into(), self.start.embeddings(model, self.tokens, seed)?)])
    }

    fn attach(&self, parameters: &Parameters, _config: &Config) -> Result<Rc<dyn Adapt>> {
        Ok(Rc::new(Embeddings(parameters.get(PROMPT)?)))
    }

    fn write(&self, _parameters: &Parameters, base: &Base) -> Result<Value> {
        let (start, text) = match &self.start {
            Start::Random => ("RANDOM", None),
            Start::Vocabulary => ("SAMPLE_VOCAB", None),
            Start::Text(text) => ("TEXT", Some(text)),
        };
        Ok(json!({
            "num_attention_heads": base.config.heads, "num_layers": base.config.layers, "num_transformer_submodules": 1,
            "num_virtual_tokens": self.tokens, "prompt_tuning_init": start, "prompt_tuning_init_text": text,
            "token_dim": base.config.hidden_size, "tokenizer_kwargs": null, "tokenizer_name_or_path": text.map(|_| &base.folder),
        }))
    }

    fn read(settings: &mut Settings, model: &Model) -> Result<Self> {
        let Config { layers, heads, hidden_size, .. } = *model.config();
        let tokens = settings.virtual_tokens(layers, heads, hidden_size)?;
        let start = match (settings.keys.word("prompt_tuning_init")?.as_deref(), settings.keys.word("prompt_tuning_init_text")?) {
            (Some("TEXT"), Some(text)) => Start::Text(text),
            (Some("SAMPLE_VOCAB"), _) => Start::Vocabulary,
            _ => Start::Random,
        };
        settings.keys.ignore(&["tokenizer_name_or_path", "tokenizer_kwargs"]);
        Ok(Self { tokens, start })
    }
}

/// `[virtual, hidden]`.
#[derive(Debug)]
pub(super) struct Embeddings(pub Tensor);

impl Adapt for Embeddings {
    fn applies_at(&self, _site: &str) -> bool {
        false
    }

    fn prefix(&self) -> Option<Prefix> {
        Some(Prefix { tokens: VirtualTokens::Embeddings(self.0.shallow_clone()), visible: true, shift: self.0.size()[0] })
    }
}
