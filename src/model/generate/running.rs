//! One batch of responses under way.

use tch::{Kind, Tensor};

use super::super::batch::Batch;
use super::super::changed::TokenRow;
use super::super::decoder::Depth;
use super::super::reading::{Batched, Watch};
use super::super::score::{Step, steps};
use super::super::{Model, Sample};
use super::{Ending, Generated, Generation, Sampling};
use crate::error::{Error, Result};
use crate::kind::widened;
use crate::nn::{Hooks, KvCache};
use crate::random::Random;
use crate::tokenizer::Tokenizer;

/// Two best logits closer than this may swap between a batch and a single prompt; such places are counted.
const CLOSE_CALL: f64 = 1e-4;

/// Tokens more than a text has bytes that are decoded to find it: a letter may be spread over four, and some have no text.
const AROUND: usize = 4;

/// One batch of responses under way.
pub(super) struct Running {
    pub examples: Vec<usize>,
    responses: Vec<Vec<u32>>,
    prompts: Vec<Vec<u32>>,
    close_calls: Vec<usize>,
    /// Whether each step is measured.
    pub is_measured: bool,
    steps: Vec<Vec<Step>>,
    draws: Vec<Random>,
    cache: Option<KvCache>,
    /// `[example, vocab]` after the newest token of each example under way.
    logits: Tensor,
}

impl Running {
    pub(super) fn start(
        model: &Model,
        prompts: &[Vec<u32>],
        batched: &Batched,
        settings: &Generation,
        watch: Watch,
        hooks: Option<&mut Hooks<'_>>,
    ) -> Result<Self> {
        let examples = batched.examples.clone();
        let longest = examples.iter().map(|&example| prompts[example].len()).max().unwrap_or(0);
        // Without room there is no cache, and each step reads the whole texts.
        let anew = model.turns_anew(longest.saturating_add(settings.max_new_tokens - 1));
        let room = if anew { 0 } else { settings.max_new_tokens as i64 - 1 };
        let (logits, cache) = model.prefill(prompts, batched, room, watch, hooks)?;
        let seed = settings.sampling.map_or(0, |sampling| sampling.seed);
        Ok(Self {
            responses: vec![Vec::new(); examples.len()],
            prompts: examples.iter().map(|&example| prompts[example].clone()).collect(),
            close_calls: vec![0; examples.len()],
            is_measured: false,
            steps: vec![Vec::new(); examples.len()],
            draws: examples.iter().map(|&example| Random::new(seed, "sampling", example as u64)).collect(),
            examples,
            cache,
            logits,
        })
    }

    /// Chooses a token for each example; those that end move to `done` and leave the batch.
    pub(super) fn choose(&mut self, model: &Model, settings: &Generation, done: &mut [Option<(Generated, Vec<Step>)>]) -> Result<()> {
        let logits = widened(&self.logits);
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
        if self.is_measured {
            for (of, step) in self.steps.iter_mut().zip(steps(&logits, &chosen)?) {
                of.push(step);
            }
        }
        let ends: Vec<u32> = model.config().eos.iter().copied().chain(model.eos()).collect();
        let mut stay = Vec::new();
        for (row, &id) in chosen.iter().enumerate() {
            let id = id as u32;
            self.responses[row].push(id);
            let response = &self.responses[row];
            let ending = if !settings.ignore_eos && ends.contains(&id) {
                Some(Ending::Eos)
            } else if stops(model, &self.prompts[row], response, settings)? {
                Some(Ending::Stop)
            } else {
                let is_full = response.len() == settings.max_new_tokens || settings.is_answered(self.examples[row], response);
                is_full.then_some(Ending::Length)
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
            self.steps = stay.iter().map(|&row| std::mem::take(&mut self.steps[row])).collect();
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

    fn finish(&mut self, model: &Model, row: usize, ending: Ending, settings: &Generation) -> Result<(Generated, Vec<Step>)> {
        let response = std::mem::take(&mut self.responses[row]);
        let mut text = match model.tokenizer() {
            Ok(tokenizer) => continuation(tokenizer, &self.prompts[row], &response)?,
            Err(_) => String::new(),
        };
        if let Some(end) = settings.stop.iter().filter_map(|stop| text.find(stop)).min() {
            text.truncate(end);
        }
        let tokens = Sample { prompt: std::mem::take(&mut self.prompts[row]), response };
        Ok((Generated { tokens, text, ending, close_calls: self.close_calls[row] }, std::mem::take(&mut self.steps[row])))
    }

    /// Reads the newest tokens.
    pub(super) fn step(&mut self, model: &Model, hooks: Option<&mut Hooks<'_>>) -> Result<()> {
        if self.examples.is_empty() {
            return Ok(());
        }
        let Some(cache) = &mut self.cache else {
            let mut texts = vec![TokenRow::default(); self.examples.iter().max().map_or(0, |last| last + 1)];
            for (row, &example) in self.examples.iter().enumerate() {
                let tokens = [&self.prompts[row][..], &self.responses[row]].concat();
                texts[example] = TokenRow { tokens, query: self.prompts[row].len() };
            }
            self.logits = model.prefill(&texts, &Batched::unread(self.examples.clone()), 0, Watch::End, hooks)?.0;
            return Ok(());
        };
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
pub(in crate::model) fn continuation(tokenizer: &Tokenizer, prompt: &[u32], response: &[u32]) -> Result<String> {
    let whole = tokenizer.decode(&[prompt, response].concat())?;
    match whole.strip_prefix(&tokenizer.decode(prompt)?) {
        Some(text) => Ok(text.to_string()),
        None => tokenizer.decode(response),
    }
}

/// True if a stop string appears; only the newest tokens can have completed it.
///
/// The tokens before these are decoded with them: some tokenizers drop the space in front of what comes first.
fn stops(model: &Model, prompt: &[u32], response: &[u32], settings: &Generation) -> Result<bool> {
    let Some(longest) = settings.stop.iter().map(String::len).max() else { return Ok(false) };
    let start = response.len().saturating_sub(longest + AROUND);
    let before = match start {
        0 => &prompt[prompt.len().saturating_sub(AROUND)..],
        start => &response[start.saturating_sub(AROUND)..start],
    };
    let text = continuation(model.tokenizer()?, before, &response[start..])?;
    Ok(settings.stop.iter().any(|stop| text.contains(stop)))
}
