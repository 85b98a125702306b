//! Cartridges: virtual tokens that begin as the keys and values which demonstrations leave in the cache.

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::Tensor;

use super::method::Tuning;
use super::peft::{PROMPT, Settings};
use super::prefix::{self, KeysValues};
use super::{AdapterConfig, Base, Parameters};
use crate::dataset::Split;
use crate::error::{Error, Result};
use crate::model::{Config, Model};
use crate::nn::Adapt;

/// The most tokens of demonstrations, unless set.
const AT_MOST: i64 = 1024;

/// A cartridge (Eyuboglu et al. 2025, arXiv:2506.06266): `V` virtual tokens whose keys and values begin as those that a text's first `V` tokens
/// leave in the cache of the model, the first of them frozen, and are trained so that the model without the text acts as it does after it, e.g. toward
/// [soft labels](crate::objective::SoftSft).
///
/// `[virtual, 2 layer, kv_head, head_dim]` as in [`PrefixTuning`](super::PrefixTuning). The keys are turned at the positions `0..V` which the text's tokens
/// had, and real tokens take the positions from `V` on, so that before training the model acts as after the text itself. With all tokens of the
/// demonstrations that is ICL, but for the special token that some tokenizers put before every text: the query alone begins with it, too, as under
/// PEFT (on tiny-icl, sentiment, N = 8, that is 0.0004 in KL from the soft labels).
///
/// The text is the demonstrations of the split that is trained on ([`Cartridge::new`]), or given tokens ([`Cartridge::of`]). `V` is the number of its
/// tokens, cut at [`at_most`](Self::at_most). PEFT's files (`CARTRIDGE`) hold the keys and values, and not the text.
///
/// ```
/// use ia2::prelude::*;
///
/// # fn main() -> Result<()> {
/// let model = Model::open("tiny-icl")?;
/// let split = Task::open("sentiment")?.test_at_most(16)?.few_shot(4, 0)?;
/// let targets = Targets::of(&model, &split).without_activations().distributions(Keep::All).collect()?;
/// let trained = Training::new(Cartridge::new(), targets.soft_sft()?).learning_rate(1e-2).epochs(2).run(&model, &split)?;
/// println!("{:?}", trained.adapter());
/// # assert!(trained.adapter().config().name().starts_with("cartridge V="));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cartridge {
    /// How many, or at most how many of a split's.
    tokens: i64,
    frozen: i64,
    text: Text,
}

/// Whose keys and values a cartridge begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Text {
    /// The demonstrations of the split that it is trained on.
    Demonstrations,
    Tokens(Vec<u32>),
    /// It was read from a file.
    Unknown,
}

impl Default for Cartridge {
    fn default() -> Self {
        Self::new()
    }
}

impl Cartridge {
    /// Of the training examples of the split that it is trained on, as ICL shows them to its test queries
    /// ([`Examples::with_demonstrations`](crate::prompt::Examples::with_demonstrations), seeded by the run): at most 1,024 tokens of them, and as many as
    /// leave room in the model's context for the split's longest query and its answer. Only [`Training`](crate::train::Training) knows the split;
    /// [`shown`](Self::shown) makes the same cartridge without training.
    pub fn new() -> Self {
        Self { tokens: AT_MOST, frozen: 1, text: Text::Demonstrations }
    }

    /// Of these tokens, e.g. [`Tokenizer::encode`](crate::tokenizer::Tokenizer::encode) of any text.
    pub fn of(tokens: &[u32]) -> Self {
        Self { tokens: tokens.len() as i64, frozen: 1, text: Text::Tokens(tokens.to_vec()) }
    }

    /// Of the first `tokens` tokens at most.
    pub fn at_most(mut self, tokens: usize) -> Self {
        self.tokens = i64::try_from(tokens).unwrap_or(i64::MAX).min(if self.text == Text::Demonstrations { i64::MAX } else { self.tokens });
        if let Text::Tokens(ids) = &mut self.text {
            ids.truncate(tokens);
        }
        self
    }

    /// How many of the first virtual tokens are not trained; 1 unless set: attention rests on the first token, and training is unstable where it
    /// moves.
    pub fn frozen(mut self, tokens: usize) -> Self {
        self.frozen = i64::try_from(tokens).unwrap_or(i64::MAX);
        self
    }

    /// The cartridge of the split's demonstrations on this model, as a training on the split begins it.
    ///
    /// # Errors
    /// The model has no tokenizer; the split has no dev example; its longest query and answer leave no room in the context.
    pub fn shown(&self, model: &Model, split: &Split) -> Result<Self> {
        if self.text != Text::Demonstrations {
            return Ok(self.clone());
        }
        let tokenizer = model.tokenizer()?;
        let prompts = split.dev.with_demonstrations(&split.train, split.run)?;
        let prefix = prompts.get(0).map(|prompt| prompt.prefix()).unwrap_or_default();
        let ids = tokenizer.encode(&prefix)?;
        let mut longest = 0;
        for query in [&split.train, &split.dev, &split.test].into_iter().flat_map(|set| set.rows()) {
            longest = longest.max(tokenizer.encode(&query.query)?.len() as i64);
        }
        let answer = split.train.form().max_new_tokens() as i64;
        let (context, needed) = (model.config().max_positions, longest.saturating_add(answer));
        if needed >= context {
            return Err(Error::input(format!(
                "a query of up to {longest} tokens with an answer of up to {answer} leaves no room for a cartridge in a context of {context}: take \
                 shorter queries, or an answer form with a lower limit"
            )));
        }
        let room = self.tokens.min(context - needed);
        Ok(Self { frozen: self.frozen, ..Self::of(&ids).at_most(room as usize) })
    }
}

impl Tuning for Cartridge {
    fn name(&self) -> String {
        let frozen = if self.frozen == 1 { String::new() } else { format!(", {} frozen", self.frozen) };
        match self.text {
            Text::Demonstrations => format!("cartridge of at most {} tokens{frozen}", self.tokens),
            _ => format!("cartridge V={}{frozen}", self.tokens),
        }
    }

    fn on(&self, model: &Model, split: &Split) -> Result<Option<AdapterConfig>> {
        Ok(Some(self.shown(model, split)?.into()))
    }

    fn layout(&self, model: &Model) -> Result<Vec<(String, Vec<i64>)>> {
        Ok(vec![(PROMPT.into(), vec![self.tokens, prefix::width(model.config())])])
    }

    fn start(&self, model: &Model, _seed: u64) -> Result<Vec<(String, Tensor)>> {
        let Text::Tokens(ids) = &self.text else {
            return Err(Error::input(format!(
                "{} has no text to begin with: give it one by `Cartridge::of`, or a split by `Cartridge::new().shown(&model, &split)`",
                self.name()
            )));
        };
        if self.frozen > self.tokens {
            return Err(Error::input(format!("{} of {} virtual tokens are to be frozen: freeze fewer", self.frozen, self.tokens)));
        }
        if ids.is_empty() {
            return prefix::started(model, Tensor::zeros([0, model.config().hidden_size], (model.kind(), model.device())));
        }
        model.base().check(&[ids], 0).map_err(|error| error.context("the text of a cartridge"))?;
        let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        let _constant = tch::no_grad_guard();
        prefix::started(model, model.decoder().embed(&Tensor::from_slice(&ids).to_device(model.device()))?)
    }

    fn attach(&self, parameters: &Parameters, config: &Config) -> Result<Rc<dyn Adapt>> {
        Ok(Rc::new(KeysValues::new(&parameters.get(PROMPT)?, self.frozen.min(self.tokens), config)))
    }

    fn frozen(&self, config: &Config) -> i64 {
        self.frozen.min(self.tokens) * prefix::width(config)
    }

    fn write(&self, _parameters: &Parameters, base: &Base) -> Result<Value> {
        let Config { layers, kv_heads, head_dim, .. } = base.config;
        Ok(json!({
            "num_attention_heads": kv_heads, "num_frozen_tokens": self.frozen, "num_layers": layers, "num_transformer_submodules": 1,
            "num_virtual_tokens": self.tokens, "token_dim": kv_heads * head_dim,
        }))
    }

    fn read(settings: &mut Settings, model: &Model) -> Result<Self> {
        let Config { layers, kv_heads, head_dim, .. } = *model.config();
        let tokens = settings.virtual_tokens(layers, kv_heads, kv_heads * head_dim)?;
        let frozen = settings.keys.number("num_frozen_tokens")?.unwrap_or(1.0);
        match frozen.fract() == 0.0 && (0.0..=tokens as f64).contains(&frozen) {
            true => Ok(Self { tokens, frozen: frozen as i64, text: Text::Unknown }),
            false => Err(settings.keys.error(format!("`num_frozen_tokens` is {frozen}: it must be a whole number from 0 to {tokens}"))),
        }
    }
}
