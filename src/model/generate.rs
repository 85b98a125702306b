//! Responses: cached, batched generation, and the first logits after many prompts.

mod running;

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use running::Running;
pub(super) use running::continuation;

use super::Model;
use super::changed::Row;
use super::decoder::Depth;
use super::reading::Watch;
use super::score::Step;
use crate::display::{Bundle, Show};
use crate::error::{Error, Result};
use crate::kind::widened;
use crate::libtorch::guarded;
use crate::nn::Hooks;
use crate::prompt::{AnswerForm, LabelTokens, Prompts};

/// How to generate. Defaults: greedy, no stop strings, prompts in batches of at most 32.
#[derive(Clone, Debug)]
pub struct Generation {
    max_new_tokens: usize,
    stop: Vec<String>,
    sampling: Option<Sampling>,
    batch: usize,
    ignore_eos: bool,
    /// Whether the limit is a label task's own, which the longest label may exceed.
    reach_labels: bool,
    /// The labels of each prompt, where a response ends with its label.
    labels: Option<Rc<[LabelTokens]>>,
}

#[derive(Clone, Copy, Debug)]
struct Sampling {
    temperature: f64,
    top_p: f64,
    seed: u64,
}

impl Generation {
    /// The likeliest token each time, at most `max_new_tokens` of them.
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self { max_new_tokens, stop: Vec::new(), sampling: None, batch: 32, ignore_eos: false, reach_labels: false, labels: None }
    }

    /// Greedy, with the stop string and length limit of an answer form. Where it has labels of several tokens, [`Model::respond_as`] lets an answer
    /// go on to the end of its label.
    pub fn for_form(form: &AnswerForm) -> Self {
        let settings = Self::for_targets(form);
        match form.stop() {
            Some(stop) => settings.stop(stop),
            None => settings,
        }
    }

    /// [`Generation::for_form`] without the stop string.
    pub(crate) fn for_targets(form: &AnswerForm) -> Self {
        Self { reach_labels: !form.label_set().is_empty(), ..Self::greedy(form.max_new_tokens()) }
    }

    /// Ends a response where `text` appears; the response's text ends before it, its tokens include it.
    pub fn stop(mut self, text: impl Into<String>) -> Self {
        self.stop.push(text.into());
        self
    }

    /// Draws each token from the softmax of `logits / temperature`, among the likeliest tokens that together hold `top_p` of the mass.
    ///
    /// Draws depend on `seed` and the prompt's index alone, never on how prompts are batched.
    pub fn sample(mut self, temperature: f64, top_p: f64, seed: u64) -> Self {
        self.sampling = Some(Sampling { temperature, top_p, seed });
        self
    }

    /// Prompts per batch.
    pub fn batch(mut self, prompts: usize) -> Self {
        self.batch = prompts;
        self
    }

    /// Goes on to `max_new_tokens` even where the model would end: for measurements that need responses of one length.
    pub fn ignore_eos(mut self) -> Self {
        self.ignore_eos = true;
        self
    }

    /// The most tokens a response may have.
    pub fn max_new_tokens(&self) -> usize {
        self.max_new_tokens
    }

    /// Whether the response so far is a whole label or none at all, where it is to end with its label. `prompt` counts the prompts from 0.
    fn is_answered(&self, prompt: usize, response: &[u32]) -> bool {
        self.labels.as_ref().and_then(|labels| labels.get(prompt)).is_some_and(|labels| !labels.goes_on(response))
    }

    fn check(&self) -> Result<()> {
        if self.max_new_tokens == 0 {
            return Err(Error::input("max_new_tokens is 0: ask for at least one token"));
        }
        if self.batch == 0 {
            return Err(Error::input("the batch size is 0: use at least 1"));
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::input("a stop string is empty: it would end every response at once"));
        }
        if let Some(Sampling { temperature, top_p, .. }) = self.sampling
            && !(temperature > 0.0 && temperature.is_finite() && top_p > 0.0 && top_p <= 1.0)
        {
            return Err(Error::input(format!("temperature {temperature} and top_p {top_p}: need temperature > 0 and 0 < top_p <= 1")));
        }
        Ok(())
    }
}

/// Why a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// The model gave an end-of-sequence token (kept as the last of the tokens).
    Eos,
    /// A stop string appeared.
    Stop,
    /// `max_new_tokens` was reached, or a label of several tokens is complete.
    Length,
}

impl Ending {
    /// `eos`, `stop` or `length`, as frames show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eos => "eos",
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// One generated response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// Tokens of the prompt and of the response.
    pub tokens: super::Sample,
    /// The response up to its stop string, without special tokens; empty if the model has no tokenizer.
    pub text: String,
    /// Why it ended.
    pub ending: Ending,
    /// Tokens chosen where the two best logits were closer than 1e-4 (greedy only): there another batch may choose the other.
    pub close_calls: usize,
}

impl Model {
    /// The settings as they are for these prompts: with the length limit of a label task, each response may have all tokens of a label, and ends
    /// with it or where it is none. A limit of 1 would cut labels with a common prefix (the space of ` 0` and ` 1`) before they differ.
    pub(crate) fn reaching(&self, prompts: &Prompts, settings: &Generation) -> Result<Generation> {
        if !settings.reach_labels || prompts.form().label_set().is_empty() {
            return Ok(settings.clone());
        }
        let labels = LabelTokens::of(self.tokenizer()?, prompts)?;
        let longest = labels.iter().map(LabelTokens::longest).max().unwrap_or(0);
        if longest <= settings.max_new_tokens {
            return Ok(settings.clone());
        }
        Ok(Generation { max_new_tokens: longest, labels: Some(labels.into()), ..settings.clone() })
    }

    /// Responses to tokenised prompts, in their order.
    ///
    /// # Errors
    /// An empty batch or prompt, an id outside the vocabulary, a prompt that with `max_new_tokens` exceeds the context, unusable settings,
    /// stop strings without a tokenizer.
    pub fn generate(&self, prompts: &[Vec<u32>], settings: &Generation) -> Result<Vec<Generated>> {
        guarded("generate", || self.generate_hooked(prompts, settings, None, Watch::End))
    }

    /// [`Model::generate`] with observers and editors, which see the prompt's tokens once and then each new token.
    ///
    /// # Errors
    /// Also a pattern that selects nothing, an editor that never replaces a value, and what the hooks themselves return.
    pub fn generate_with(&self, prompts: &[Vec<u32>], settings: &Generation, hooks: &mut Hooks<'_>) -> Result<Vec<Generated>> {
        guarded("generate", || {
            hooks.bind(self.points())?;
            let responses = self.generate_hooked(prompts, settings, Some(hooks), Watch::From(0))?;
            hooks.finish()?;
            Ok(responses)
        })
    }

    /// Bound hooks see the prompts as `watch` says, and then each new token.
    pub(crate) fn generate_hooked(
        &self,
        prompts: &[Vec<u32>],
        settings: &Generation,
        hooks: Option<&mut Hooks<'_>>,
        watch: Watch,
    ) -> Result<Vec<Generated>> {
        Ok(self.generate_steps(prompts, settings, hooks, watch, false)?.into_iter().map(|(generated, _)| generated).collect())
    }

    /// The same with what each step says of its token, if they are to be `measured`: a pass or two over logits that are there.
    pub(super) fn generate_steps(
        &self,
        prompts: &[Vec<u32>],
        settings: &Generation,
        hooks: Option<&mut Hooks<'_>>,
        watch: Watch,
        measured: bool,
    ) -> Result<Vec<(Generated, Vec<Step>)>> {
        let _inference = tch::no_grad_guard();
        settings.check()?;
        if !settings.stop.is_empty() {
            self.tokenizer()?;
        }
        // The last new token is never read, so it needs no place in the context.
        self.check(prompts, settings.max_new_tokens - 1)?;
        let anew = prompts.iter().any(|prompt| self.turns_anew(prompt.len() + settings.max_new_tokens - 1));
        if anew && hooks.is_some() && settings.max_new_tokens > 1 {
            return Err(Error::input(
                "hooks in a generation beyond the context of the pre-training, where this model turns all positions anew with each length: they \
                 would see every token again and again; generate first, then run a forward with hooks over the texts",
            ));
        }
        let mut responses: Vec<Option<(Generated, Vec<Step>)>> = vec![None; prompts.len()];
        self.read(prompts, watch.shared(), settings.batch, (watch, Depth::Full), hooks, &mut |batched, mut hooks| {
            let mut running = Running::start(self, prompts, batched, settings, watch, hooks.as_deref_mut())?;
            running.is_measured = measured;
            while !running.examples.is_empty() {
                running.choose(self, settings, &mut responses)?;
                running.step(self, hooks.as_deref_mut())?;
            }
            Ok(())
        })?;
        responses.into_iter().map(|response| response.ok_or_else(|| Error::internal("a prompt got no response"))).collect()
    }

    /// Logits `[example, vocab]` (f32, or f64 for an f64 model) after the last token of each prompt.
    ///
    /// A prefix that prompts share is computed once. Bound hooks see every token from the position next to them on.
    pub(crate) fn next_logits<R: Row>(&self, prompts: &[R], batch: usize, hooks: Option<(&mut Hooks<'_>, usize)>) -> Result<Tensor> {
        let _inference = tch::no_grad_guard();
        self.check(prompts, 0)?;
        let (hooks, watch) = hooks.map_or((None, Watch::End), |(hooks, from)| (Some(hooks), Watch::From(from)));
        let mut order = Vec::with_capacity(prompts.len());
        let mut parts = Vec::new();
        self.read(prompts, watch.shared(), batch, (watch, Depth::Full), hooks, &mut |batched, hooks| {
            let (logits, _) = self.prefill(prompts, batched, 0, watch, hooks)?;
            parts.push(widened(&logits));
            order.extend(batched.examples.iter().map(|&example| example as i64));
            Ok(())
        })?;
        let places = Tensor::from_slice(&order).argsort(0, false).to_device(self.device());
        Ok(Tensor::cat(&parts, 0).index_select(0, &places))
    }
}

impl Show for Generated {
    fn bundle(&self) -> Bundle {
        let text = if self.text.is_empty() { format!("{:?}", self.tokens.response) } else { self.text.clone() };
        Bundle::text(format!("{text}  [{} tokens, {}]", self.tokens.response.len(), self.ending.name()))
    }
}
