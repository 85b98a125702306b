//! How likely given texts are.

use polars::prelude::*;
use tch::{Kind, Tensor};

use super::batch::Batch;
use super::decoder::Depth;
use super::reading::Watch;
use super::{Model, Sample, TeacherForcing};
use crate::display::{Bundle, Show, headed};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::kind::widened;
use crate::libtorch::guarded;
use crate::nn::KvCache;
use crate::prompt::Prompts;

/// Maximum number of prompts, and of continuations, per forward.
const BATCH: usize = 16;
/// Rows of logits that are read at a time: several copies of them lie in memory.
const ROWS: usize = 64;

/// Log-probability below which none adds to an entropy.
pub(crate) const NEVER: f64 = -1e30;

/// What a step of generation says of the token that it gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Step {
    /// ln p(token | what stands before it), nats.
    pub log_likelihood: f64,
    /// Of the next token over the vocabulary, nats.
    pub entropy: f64,
}

/// Of each row of `logits [example, vocab]`, in f32 at least, and the id that was chosen there: at temperature 1, whatever ids were drawn with.
pub(super) fn steps(logits: &Tensor, ids: &[i64]) -> Result<Vec<Step>> {
    let logs = logits.log_softmax(-1, logits.kind());
    let chosen = logs.gather(1, &Tensor::from_slice(ids).to_device(logs.device()).unsqueeze(1), false).squeeze_dim(1);
    // What cannot be said at all, with a logit of -inf, adds nothing.
    let entropies = -(logs.exp() * logs.clamp_min(NEVER)).sum_dim_intlist([-1i64].as_slice(), false, Kind::Double);
    let numbers = Tensor::stack(&[chosen.to_kind(Kind::Double), entropies], 1);
    let rows: Vec<Vec<f64>> = Vec::try_from(numbers)?;
    // Rounding may take the entropy of a sure step below 0.
    Ok(rows.iter().map(|row| Step { log_likelihood: row[0], entropy: row[1].max(0.0) }).collect())
}

/// A continuation of a prompt, and how likely each of its tokens is.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// The prompt's place in its set.
    pub index: usize,
    /// The text that follows the prompt.
    pub continuation: String,
    /// Its tokens.
    pub ids: Vec<u32>,
    /// ln p(token | prompt, tokens before it) of each, nats.
    pub log_likelihoods: Vec<f64>,
    /// Whether prompt and continuation merge over their border, so that these are not the tokens that the two have together.
    pub merged: bool,
    /// The tokens as they read.
    spellings: Vec<String>,
}

impl Score {
    /// ln p(continuation | prompt): the sum over its tokens, nats.
    pub fn log_likelihood(&self) -> f64 {
        self.log_likelihoods.iter().sum()
    }

    /// The mean over its tokens, nats: the sum without its preference for short continuations.
    pub fn mean_log_likelihood(&self) -> f64 {
        self.log_likelihood() / self.log_likelihoods.len() as f64
    }
}

/// Scores of continuations: prompt by prompt, each with its continuations in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores(Vec<Score>);

impl Scores {
    /// One per prompt and continuation.
    pub fn rows(&self) -> &[Score] {
        &self.0
    }

    /// One row per continuation: `index` (the prompt's), `continuation`, `token` (count), `log_likelihood` (ln p(continuation | prompt), the sum over
    /// its tokens), `mean_log_likelihood` (over its tokens), `merged` (whether it merges with the prompt over their border).
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn frame(&self) -> Result<DataFrame> {
        let rows = &self.0;
        let numbers = |value: fn(&Score) -> f64| rows.iter().map(value).collect::<Vec<_>>();
        Ok(df!(
            "index" => rows.iter().map(|row| row.index as u32).collect::<Vec<_>>(),
            "continuation" => rows.iter().map(|row| row.continuation.as_str()).collect::<Vec<_>>(),
            "token" => rows.iter().map(|row| row.ids.len() as u32).collect::<Vec<_>>(),
            "log_likelihood" => numbers(Score::log_likelihood),
            "mean_log_likelihood" => numbers(Score::mean_log_likelihood),
            "merged" => rows.iter().map(|row| row.merged).collect::<Vec<_>>(),
        )?)
    }

    /// One row per token: `index` (the prompt's), `continuation`, `position` (in the continuation, from 0), `id`, `token` (as
    /// [`Tokenizer::spelling`](crate::tokenizer::Tokenizer::spelling) spells it), `log_likelihood`.
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn tokens(&self) -> Result<DataFrame> {
        let (mut index, mut continuation, mut position) = (Vec::new(), Vec::new(), Vec::new());
        for row in &self.0 {
            for place in 0..row.ids.len() {
                index.push(row.index as u32);
                continuation.push(row.continuation.as_str());
                position.push(place as u32);
            }
        }
        Ok(df!(
            "index" => index,
            "continuation" => continuation,
            "position" => position,
            "id" => self.0.iter().flat_map(|row| row.ids.clone()).collect::<Vec<_>>(),
            "token" => self.0.iter().flat_map(|row| row.spellings.clone()).collect::<Vec<_>>(),
            "log_likelihood" => self.0.iter().flat_map(|row| row.log_likelihoods.clone()).collect::<Vec<_>>(),
        )?)
    }
}

impl Model {
    /// How likely each of the `continuations` is after each prompt.
    ///
    /// A continuation has the tokens that it has after the prompt's query ([`Tokenizer::encode_after`](crate::tokenizer::Tokenizer::encode_after)), no
    /// end-of-sequence token among them. A prefix that prompts share is computed once, and each prompt once for all its continuations.
    ///
    /// ```
    /// use ia2::prelude::*;
    ///
    /// let model = Model::open("tiny-icl")?;
    /// let prompts = Task::open("sentiment")?.few_shot(8, 0)?.test.zero_shot()?.take(5);
    /// let frame = model.score(&prompts, &["0", "1"])?.frame()?;
    /// assert_eq!(frame.height(), 10);
    /// # Ok::<(), ia2::Error>(())
    /// ```
    ///
    /// # Errors
    /// No prompts or continuations; an empty continuation; no tokenizer; a prompt that with a continuation exceeds the context; logits that are not
    /// finite.
    pub fn score<S: AsRef<str>>(&self, prompts: &Prompts, continuations: &[S]) -> Result<Scores> {
        let continuations: Vec<&str> = continuations.iter().map(AsRef::as_ref).collect();
        self.score_each(prompts, &vec![continuations; prompts.len()])
    }

    /// [`Model::score`] with continuations of its own for each prompt, such as the choices of each question.
    ///
    /// # Errors
    /// As [`Model::score`]; not as many lists of continuations as prompts.
    pub fn score_each<S: AsRef<str>>(&self, prompts: &Prompts, continuations: &[Vec<S>]) -> Result<Scores> {
        if prompts.len() != continuations.len() {
            return Err(Error::input(format!(
                "{} prompts and {} lists of continuations: give one list for each prompt",
                prompts.len(),
                continuations.len()
            )));
        }
        interrupt::during("scoring", || self.scored(prompts, continuations))
    }

    fn scored<S: AsRef<str>>(&self, prompts: &Prompts, continuations: &[Vec<S>]) -> Result<Scores> {
        let tokenizer = self.tokenizer()?;
        let (mut samples, mut scores) = (Vec::new(), Vec::new());
        for (prompt, own) in prompts.iter().zip(continuations) {
            interrupt::check()?;
            let ids = tokenizer.encode(&prompt.text())?;
            for continuation in own.iter().map(AsRef::as_ref) {
                let answer = tokenizer.encode_answer(&prompt.example.query, continuation);
                let (response, merged) =
                    answer.map_err(|error| error.context(format_args!("a continuation of prompt {}", prompt.index)))?;
                let spellings = tokenizer.spellings(&response);
                let (continuation, log_likelihoods) = (continuation.to_string(), Vec::new());
                scores.push(Score { index: prompt.index, continuation, ids: response.clone(), log_likelihoods, merged, spellings });
                samples.push(Sample { prompt: ids.clone(), response });
            }
        }
        for (score, values) in scores.iter_mut().zip(self.log_likelihoods(&samples)?) {
            score.log_likelihoods = values;
        }
        Ok(Scores(scores))
    }

    /// ln p(token | prompt, tokens before it) of each response token of each sample, nats.
    ///
    /// Samples with the same prompt share its forward, and a prefix that prompts share is computed once.
    ///
    /// # Errors
    /// No samples; an empty prompt or response, an id outside the vocabulary, a sample over the context; logits that are not finite.
    pub fn log_likelihoods(&self, samples: &[Sample]) -> Result<Vec<Vec<f64>>> {
        guarded("scoring", || {
            let _inference = tch::no_grad_guard();
            if let Some(place) = samples.iter().position(|sample| sample.response.is_empty()) {
                return Err(Error::input(format!("the continuation of sample {place} has no tokens: there is nothing to score")));
            }
            // The last token is never read, but it must be one that the model knows.
            let lasts: Vec<&[u32]> = samples.iter().map(|sample| &sample.response[sample.response.len() - 1..]).collect();
            self.check(&samples.iter().map(Sample::read).collect::<Vec<_>>(), 0)?;
            self.check(&lasts, 0)?;
            if samples.iter().any(|sample| self.turns_anew(sample.prompt.len() + sample.response.len() - 1)) {
                return samples.iter().map(|sample| self.whole(sample)).collect();
            }
            let (prompts, of_prompt) = by_prompt(samples);
            let mut values: Vec<Vec<f64>> = samples.iter().map(|sample| Vec::with_capacity(sample.response.len())).collect();
            self.read(&prompts, Watch::End.shared(), BATCH, (Watch::End, Depth::Full), None, &mut |batched, _| {
                // The samples of these prompts, each with its prompt's row.
                let of = |(row, &prompt): (i64, &usize)| of_prompt[prompt].iter().map(move |&sample| (row, sample));
                let rows: Vec<(i64, usize)> = (0..).zip(&batched.examples).flat_map(of).collect();
                let room = rows.iter().map(|&(_, sample)| samples[sample].response.len() - 1).max().unwrap_or(0);
                let (logits, cache) = self.prefill(&prompts, batched, room as i64, Watch::End, None)?;
                for rows in rows.chunks(ROWS) {
                    let firsts: Vec<u32> = rows.iter().map(|&(_, sample)| samples[sample].response[0]).collect();
                    let logits = logits.index_select(0, &self.indices(rows.iter().map(|&(row, _)| row)));
                    for (&(_, sample), value) in rows.iter().zip(self.chosen(&logits, &firsts)?) {
                        values[sample].push(value);
                    }
                }
                let Some(cache) = cache else { return Ok(()) };
                let longer: Vec<(i64, usize)> = rows.into_iter().filter(|&(_, sample)| samples[sample].response.len() > 1).collect();
                for rows in longer.chunks(BATCH) {
                    let samples: Vec<&Sample> = rows.iter().map(|&(_, sample)| &samples[sample]).collect();
                    let cache = cache.pick(&self.indices(rows.iter().map(|&(row, _)| row)));
                    for (&(_, sample), rest) in rows.iter().zip(self.followed(&samples, cache)?) {
                        values[sample].extend(rest);
                    }
                }
                Ok(())
            })?;
            Ok(values)
        })
    }

    /// Of all tokens of one sample, by one forward over it.
    fn whole(&self, sample: &Sample) -> Result<Vec<f64>> {
        let forced =
            self.teacher_forced(&[sample], TeacherForcing { depth: Depth::Full, narrow: true, packed: false, draws: None }, None)?;
        let hidden = forced.hidden.ok_or_else(|| Error::internal("a full forward ended early"))?;
        self.chosen(&self.logits(&hidden, None)?, &sample.response)
    }

    /// Of each sample's tokens after the first, given the cache of its prompt.
    fn followed(&self, samples: &[&Sample], mut cache: KvCache) -> Result<Vec<Vec<f64>>> {
        let read: Vec<&[u32]> = samples.iter().map(|sample| &sample.response[..sample.response.len() - 1]).collect();
        let batch = Batch::new(&read, self.device());
        let starts = self.indices(samples.iter().map(|sample| sample.prompt.len() as i64)).unsqueeze(1);
        cache.advance(&batch.real());
        let mut pass = self.pass(starts + crate::nn::positions(0, batch.tokens(), self.device()), &[]);
        pass.cache = Some(&mut cache);
        let hidden = self.decoder().forward(&batch.ids, Depth::Full, &mut pass)?;
        let hidden = hidden.ok_or_else(|| Error::internal("a full forward ended early"))?;
        let width = batch.tokens();
        let places: Vec<i64> =
            (0..).zip(&read).flat_map(|(row, read)| (0..read.len() as i64).map(move |token| row * width + token)).collect();
        let next: Vec<u32> = samples.iter().flat_map(|sample| &sample.response[1..]).copied().collect();
        let hidden = hidden.reshape([-1, hidden.size()[2]]).index_select(0, &self.indices(places));
        let mut values = Vec::with_capacity(next.len());
        for (chunk, next) in next.chunks(ROWS).enumerate() {
            let hidden = hidden.narrow(0, (chunk * ROWS) as i64, next.len() as i64);
            values.extend(self.chosen(&self.logits(&hidden, None)?, next)?);
        }
        let mut values = values.into_iter();
        Ok(read.iter().map(|read| values.by_ref().take(read.len()).collect()).collect())
    }

    /// The log-probability of one id in each row of `logits [row, vocab]`.
    fn chosen(&self, logits: &Tensor, ids: &[u32]) -> Result<Vec<f64>> {
        let ids = self.indices(ids.iter().map(|&id| i64::from(id))).unsqueeze(1);
        let logs = widened(logits).log_softmax(-1, None).gather(1, &ids, false).squeeze_dim(1);
        let values = Vec::<f64>::try_from(logs.to_kind(Kind::Double))?;
        // What a model can never say has -inf.
        if values.iter().any(|value| value.is_nan()) {
            return Err(Error::numeric("logits are not finite: the weights or an adapter are broken"));
        }
        Ok(values)
    }

    fn indices(&self, values: impl IntoIterator<Item = i64>) -> Tensor {
        Tensor::from_slice(&values.into_iter().collect::<Vec<_>>()).to_device(self.device())
    }
}

/// The different prompts, in order, and the samples of each.
fn by_prompt(samples: &[Sample]) -> (Vec<Vec<u32>>, Vec<Vec<usize>>) {
    let mut places = std::collections::HashMap::new();
    let (mut prompts, mut of_prompt): (Vec<Vec<u32>>, Vec<Vec<usize>>) = Default::default();
    for (sample, Sample { prompt, .. }) in samples.iter().enumerate() {
        let place = *places.entry(prompt.as_slice()).or_insert(prompts.len());
        if place == prompts.len() {
            prompts.push(prompt.clone());
            of_prompt.push(Vec::new());
        }
        of_prompt[place].push(sample);
    }
    (prompts, of_prompt)
}

impl Show for Scores {
    fn bundle(&self) -> Bundle {
        headed(&format!("Scores of {} continuations", self.0.len()), self.frame())
    }
}

impl Show for Score {
    fn bundle(&self) -> Bundle {
        Bundle::text(format!("{:?}  [{} tokens, log-likelihood {:.4}]", self.continuation, self.ids.len(), self.log_likelihood()))
    }
}
