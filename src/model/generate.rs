//! Responses: cached, batched generation, and the first logits after many prompts.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::Model;
use super::batch::{self, Batch};
use super::decoder::Depth;
use crate::display::{Bundle, Show};
use crate::error::{Error, Result};
use crate::libtorch::door;
use crate::nn::{Hooks, KvCache, Pass};
use crate::random::Random;
use crate::tokenizer::Tokenizer;

/// Prompts that share fewer tokens than this are cheaper without a prefix cache.
const SHARED_PREFIX: usize = 16;

/// Two best logits closer than this may swap between a batch and a single prompt; such places are counted.
const CLOSE_CALL: f64 = 1e-4;

/// How to generate. Defaults: greedy, no stop strings, prompts in batches of at most 32.
#[derive(Clone, Debug)]
pub struct Generation {
    max_new_tokens: usize,
    stop: Vec<String>,
    sampling: Option<Sampling>,
    batch: usize,
    ignore_eos: bool,
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
        Self { max_new_tokens, stop: Vec::new(), sampling: None, batch: 32, ignore_eos: false }
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
    /// `max_new_tokens` was reached.
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
    /// Responses to tokenised prompts, in their order.
    ///
    /// # Errors
    /// An empty batch or prompt, an id outside the vocabulary, a prompt that with `max_new_tokens` exceeds the context, unusable settings,
    /// stop strings without a tokenizer.
    pub fn generate(&self, prompts: &[Vec<u32>], settings: &Generation) -> Result<Vec<Generated>> {
        door("generate", || self.generate_hooked(prompts, settings, None, true))
    }

    /// [`Model::generate`] with observers and editors, which see the prompt's tokens once and then each new token.
    ///
    /// # Errors
    /// Also a pattern that selects nothing, an editor that never replaces a value, and what the hooks themselves return.
    pub fn generate_with(&self, prompts: &[Vec<u32>], settings: &Generation, hooks: &mut Hooks<'_>) -> Result<Vec<Generated>> {
        door("generate", || {
            hooks.bind(self.hook_points())?;
            let responses = self.generate_hooked(prompts, settings, Some(hooks), false)?;
            hooks.finish()?;
            Ok(responses)
        })
    }

    /// With `narrow`, bound hooks see the tokens at decode positions only: prefixes are shared and the last layer is narrowed.
    pub(crate) fn generate_hooked(
        &self,
        prompts: &[Vec<u32>],
        settings: &Generation,
        mut hooks: Option<&mut Hooks<'_>>,
        narrow: bool,
    ) -> Result<Vec<Generated>> {
        let _inference = tch::no_grad_guard();
        settings.check()?;
        if !settings.stop.is_empty() {
            self.tokenizer()?;
        }
        // The last new token is never read, so it needs no place in the context.
        self.check(prompts, settings.max_new_tokens - 1)?;
        let prefix = self.prefill_shared(prompts, if narrow { usize::MAX } else { 0 })?;
        let mut responses: Vec<Option<Generated>> = vec![None; prompts.len()];
        for examples in by_length(prompts, settings.batch) {
            let mut running = Running::start(self, prompts, examples, settings, prefix.as_ref(), hooks.as_deref_mut(), narrow)?;
            while !running.examples.is_empty() {
                running.choose(self, settings, &mut responses)?;
                running.step(self, hooks.as_deref_mut())?;
            }
        }
        responses.into_iter().map(|response| response.ok_or_else(|| Error::internal("a prompt got no response"))).collect()
    }

    /// Logits `[example, vocab]` (f32, or f64 for an f64 model) after the last token of each prompt.
    ///
    /// A prefix that all prompts share is computed once; prompts are batched by length. Bound hooks see every token from the position beside them on.
    pub(crate) fn next_logits(&self, prompts: &[Vec<u32>], batch: usize, hooks: Option<(&mut Hooks<'_>, usize)>) -> Result<Tensor> {
        let _inference = tch::no_grad_guard();
        self.check(prompts, 0)?;
        let (mut hooks, seen_from) = hooks.map_or((None, usize::MAX), |(hooks, from)| (Some(hooks), from));
        let prefix = self.prefill_shared(prompts, seen_from)?;
        let mut order = Vec::with_capacity(prompts.len());
        let mut parts = Vec::new();
        for examples in by_length(prompts, batch) {
            let narrow = hooks.is_none();
            let (logits, _) = self.prefill(prompts, &examples, prefix.as_ref(), 0, hooks.as_deref_mut(), narrow)?;
            parts.push(wide(&logits));
            order.extend(examples.into_iter().map(|example| example as i64));
        }
        let places = Tensor::from_slice(&order).argsort(0, false).to_device(self.device());
        Ok(Tensor::cat(&parts, 0).index_select(0, &places))
    }

    /// The cache of what all prompts begin with: virtual tokens, and at most so many of the tokens they share, if they are worth it.
    fn prefill_shared(&self, prompts: &[Vec<u32>], at_most: usize) -> Result<Option<KvCache>> {
        let shared = batch::shared_prefix(prompts).min(at_most);
        let virtual_tokens = self.prefix(None)?;
        if prompts.len() < 2 || shared < SHARED_PREFIX {
            return Ok(virtual_tokens);
        }
        let batch = Batch::new(&[&prompts[0][..shared]], self.device());
        let mut cache = match virtual_tokens {
            Some(cache) => cache.fork(1, cache.len() + batch.tokens(), false),
            None => self.cache(1, batch.tokens()),
        };
        cache.advance(&batch.real());
        let mut pass = self.pass(crate::nn::positions(0, batch.tokens(), self.device()), &[]);
        pass.cache = Some(&mut cache);
        // The last layer's keys and values are all that is left to compute there; its one kept query is the least a forward can do.
        pass.keep = Some(Tensor::zeros([1, 1], (Kind::Int64, self.device())));
        self.decoder().forward(&batch.ids, Depth::Full, &mut pass)?;
        drop(pass);
        Ok(Some(cache))
    }

    /// Reads the prompts; gives logits `[example, vocab]` after their last tokens and, if `room` new tokens are to follow, the cache.
    fn prefill(
        &self,
        prompts: &[Vec<u32>],
        examples: &[usize],
        prefix: Option<&KvCache>,
        room: i64,
        hooks: Option<&mut Hooks<'_>>,
        narrow: bool,
    ) -> Result<(Tensor, Option<KvCache>)> {
        let start = prefix.map_or(0, KvCache::tokens);
        let rows: Vec<&[u32]> = examples.iter().map(|&example| &prompts[example][start as usize..]).collect();
        let batch = Batch::new(&rows, self.device());
        let slots = prefix.map_or(0, KvCache::len) + batch.tokens() + room;
        let mut cache = match prefix {
            Some(prefix) => Some(prefix.fork(batch.rows(), slots, room == 0)),
            None => (room > 0).then(|| self.cache(batch.rows(), slots)),
        };
        if let Some(cache) = &mut cache {
            cache.advance(&batch.real());
        }
        let last: Vec<i64> = batch.lengths.iter().map(|&length| length as i64 - 1).collect();
        let last = Tensor::from_slice(&last).to_device(self.device()).unsqueeze(1);
        let mut pass = self.pass(crate::nn::positions(start, batch.tokens(), self.device()), examples);
        pass.cache = cache.as_mut();
        pass.hooks = hooks;
        pass.keep = narrow.then(|| last.shallow_clone());
        let hidden = self.decoder().forward(&batch.ids, Depth::Full, &mut pass)?;
        let mut hidden = hidden.ok_or_else(|| Error::internal("a full forward ended early"))?;
        if !narrow {
            hidden = Pass::gather(&hidden, &last);
            pass.narrow(&last);
        }
        let logits = self.decoder().logits(&hidden, &mut pass)?.squeeze_dim(1);
        Ok((logits, cache))
    }

    fn cache(&self, examples: i64, slots: i64) -> KvCache {
        let config = self.config();
        KvCache::new(config.layers as usize, examples, config.kv_heads, slots, config.head_dim, self.decoder().kind(), self.device())
    }
}

/// One batch of responses under way.
struct Running {
    examples: Vec<usize>,
    responses: Vec<Vec<u32>>,
    prompts: Vec<Vec<u32>>,
    close_calls: Vec<usize>,
    draws: Vec<Random>,
    cache: Option<KvCache>,
    /// `[example, vocab]` after the newest token of each example under way.
    logits: Tensor,
}

impl Running {
    fn start(
        model: &Model,
        prompts: &[Vec<u32>],
        examples: Vec<usize>,
        settings: &Generation,
        prefix: Option<&KvCache>,
        hooks: Option<&mut Hooks<'_>>,
        narrow: bool,
    ) -> Result<Self> {
        let room = settings.max_new_tokens as i64 - 1;
        let (logits, cache) = model.prefill(prompts, &examples, prefix, room, hooks, narrow)?;
        let seed = settings.sampling.map_or(0, |sampling| sampling.seed);
        Ok(Self {
            responses: vec![Vec::new(); examples.len()],
            prompts: examples.iter().map(|&example| prompts[example].clone()).collect(),
            close_calls: vec![0; examples.len()],
            draws: examples.iter().map(|&example| Random::new(seed, "sampling", example as u64)).collect(),
            examples,
            cache,
            logits,
        })
    }

    /// Chooses a token for each example; those that end move to `done` and leave the batch.
    fn choose(&mut self, model: &Model, settings: &Generation, done: &mut [Option<Generated>]) -> Result<()> {
        let logits = wide(&self.logits);
        let chosen = match settings.sampling {
            None => {
                let (values, ids) = logits.topk(2.min(logits.size()[1]), -1, true, true);
                let values: Vec<Vec<f64>> = Vec::try_from(values.to_kind(Kind::Double))?;
                for (row, best) in values.iter().enumerate() {
                    if !best[0].is_finite() {
                        return Err(Error::numeric(format!(
                            "prompt {} gave a logit of {}: the weights, an adapter or an editor is broken",
                            self.examples[row], best[0]
                        )));
                    }
                    self.close_calls[row] += usize::from(best.len() > 1 && best[0] - best[1] < CLOSE_CALL);
                }
                Vec::<i64>::try_from(ids.select(1, 0))?
            }
            Some(sampling) => self.draw(&logits, sampling)?,
        };
        let mut stay = Vec::new();
        for (row, &id) in chosen.iter().enumerate() {
            let id = id as u32;
            self.responses[row].push(id);
            let response = &self.responses[row];
            let ending = if !settings.ignore_eos && model.config().eos.contains(&id) {
                Some(Ending::Eos)
            } else if stops(model, response, settings)? {
                Some(Ending::Stop)
            } else {
                (response.len() == settings.max_new_tokens).then_some(Ending::Length)
            };
            match ending {
                None => stay.push(row),
                Some(ending) => done[self.examples[row]] = Some(self.finish(model, row, ending, settings)?),
            }
        }
        if stay.len() < self.examples.len() {
            let rows = Tensor::from_slice(&stay.iter().map(|&row| row as i64).collect::<Vec<_>>()).to_device(model.device());
            if let Some(cache) = self.cache.as_mut().filter(|_| !stay.is_empty()) {
                cache.select(&rows);
            }
            self.examples = stay.iter().map(|&row| self.examples[row]).collect();
            self.responses = stay.iter().map(|&row| std::mem::take(&mut self.responses[row])).collect();
            self.prompts = stay.iter().map(|&row| std::mem::take(&mut self.prompts[row])).collect();
            self.close_calls = stay.iter().map(|&row| self.close_calls[row]).collect();
            self.draws = stay.iter().map(|&row| self.draws[row].clone()).collect();
        }
        Ok(())
    }

    fn draw(&mut self, logits: &Tensor, Sampling { temperature, top_p, .. }: Sampling) -> Result<Vec<i64>> {
        let (probabilities, ids) = (logits / temperature).softmax(-1, Kind::Double).sort(-1, true);
        let probabilities: Vec<Vec<f64>> = Vec::try_from(probabilities)?;
        let ids: Vec<Vec<i64>> = Vec::try_from(ids)?;
        let mut chosen = Vec::with_capacity(ids.len());
        for (row, probabilities) in probabilities.iter().enumerate() {
            if !probabilities[0].is_finite() {
                return Err(Error::numeric(format!(
                    "prompt {} gave logits that are not finite: the weights, an adapter or an editor is broken",
                    self.examples[row]
                )));
            }
            // The likeliest tokens whose mass before them is under top_p: always at least one.
            let mut mass = 0.0;
            let mut nucleus = 0;
            while nucleus < probabilities.len() && mass < top_p {
                mass += probabilities[nucleus];
                nucleus += 1;
            }
            let mut point = self.draws[row].unit() * mass;
            let mut place = 0;
            while place + 1 < nucleus && point >= probabilities[place] {
                point -= probabilities[place];
                place += 1;
            }
            chosen.push(ids[row][place]);
        }
        Ok(chosen)
    }

    fn finish(&mut self, model: &Model, row: usize, ending: Ending, settings: &Generation) -> Result<Generated> {
        let response = std::mem::take(&mut self.responses[row]);
        let mut text = match model.tokenizer() {
            Ok(tokenizer) => continuation(tokenizer, &self.prompts[row], &response)?,
            Err(_) => String::new(),
        };
        if let Some(end) = settings.stop.iter().filter_map(|stop| text.find(stop)).min() {
            text.truncate(end);
        }
        let tokens = super::Sample { prompt: std::mem::take(&mut self.prompts[row]), response };
        Ok(Generated { tokens, text, ending, close_calls: self.close_calls[row] })
    }

    /// Reads the newest tokens.
    fn step(&mut self, model: &Model, hooks: Option<&mut Hooks<'_>>) -> Result<()> {
        let (Some(cache), false) = (&mut self.cache, self.examples.is_empty()) else { return Ok(()) };
        let newest: Vec<[u32; 1]> = self.responses.iter().filter_map(|response| response.last().map(|&id| [id])).collect();
        let positions: Vec<i64> = self.prompts.iter().zip(&self.responses).map(|(p, r)| (p.len() + r.len() - 1) as i64).collect();
        let positions = Tensor::from_slice(&positions).to_device(model.device()).unsqueeze(1);
        let batch = Batch::new(&newest, model.device());
        cache.advance(&batch.real());
        let mut pass = model.pass(positions, &self.examples);
        pass.cache = Some(cache);
        pass.hooks = hooks;
        let hidden = model.decoder().forward(&batch.ids, Depth::Full, &mut pass)?;
        let hidden = hidden.ok_or_else(|| Error::internal("a full forward ended early"))?;
        self.logits = model.decoder().logits(&hidden, &mut pass)?.squeeze_dim(1);
        Ok(())
    }
}

/// The response as it reads after its prompt: some tokenizers drop the space in front of a text, which here is no front.
fn continuation(tokenizer: &Tokenizer, prompt: &[u32], response: &[u32]) -> Result<String> {
    let whole = tokenizer.decode(&[prompt, response].concat())?;
    match whole.strip_prefix(&tokenizer.decode(prompt)?) {
        Some(text) => Ok(text.to_string()),
        None => tokenizer.decode(response),
    }
}

/// True if a stop string appears; only the newest tokens can have completed it.
fn stops(model: &Model, response: &[u32], settings: &Generation) -> Result<bool> {
    let Some(longest) = settings.stop.iter().map(String::len).max() else { return Ok(false) };
    let tail = &response[response.len().saturating_sub(longest + 4)..];
    let text = model.tokenizer()?.decode(tail)?;
    Ok(settings.stop.iter().any(|stop| text.contains(stop)))
}

/// Indices of the prompts in batches of similar length: little padding.
fn by_length(prompts: &[Vec<u32>], batch: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    order.sort_by_key(|&index| prompts[index].len());
    order.chunks(batch.max(1)).map(<[usize]>::to_vec).collect()
}

/// Logits are compared and summed in f32 at least.
pub(super) fn wide(logits: &Tensor) -> Tensor {
    if logits.kind() == Kind::Double { logits.shallow_clone() } else { logits.to_kind(Kind::Float) }
}

impl Show for Generated {
    fn bundle(&self) -> Bundle {
        let text = if self.text.is_empty() { format!("{:?}", self.tokens.response) } else { self.text.clone() };
        Bundle::text(format!("{text}  [{} tokens, {}]", self.tokens.response.len(), self.ending.name()))
    }
}
