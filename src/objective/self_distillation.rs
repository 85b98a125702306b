//! On-policy self-distillation: the student answers, and the teacher, who sees the demonstrations, says at each token what it expects.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;

use sha2::{Digest, Sha256};
use tch::Tensor;

use super::distilled::{Distilled, Teacher};
use super::registry::{ObjectiveEntry, PLAIN};
use super::{Divergence, Objective, Outputs, Samples, Targets, responses};
use crate::activations::Capture;
use crate::dataset::Split;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::kind::widened;
use crate::model::{Config, Generation, Model, Responses, Sample};
use crate::nn::CachedPrefix;
use crate::prompt::{Prompt, Prompts};

pub(crate) const ENTRY: ObjectiveEntry = ObjectiveEntry {
    name: "self_distillation",
    formula: "mean over sampled tokens of KL(p || ICL distribution)",
    on_policy: true,
    make: |given| Ok(Box::new(SelfDistillation { how: given.self_distillation, ..given.targets()?.self_distillation()? })),
    ..PLAIN
};

impl Targets {
    /// On-policy self-distillation on the queries of the responses, whose demonstrations the teacher sees.
    ///
    /// # Errors
    /// None now: what does not fit is found when a training begins.
    pub fn self_distillation(&self) -> Result<SelfDistillation> {
        Ok(SelfDistillation::on(self.responses()))
    }
}

/// The output of the last layer's norm, which the output head reads.
const HIDDEN: &str = "model.norm";
/// Bytes of keys and values up to which the contexts of a teacher that never changes are kept. A run takes the same way whatever memory is free.
const KEPT: u64 = 1 << 30;
/// TRL's bound on the log of the mass that the largest probabilities hold, so that the rest has a logarithm.
const MOST_HELD: f64 = -1e-7;

/// On-policy self-distillation: in every step the student (the adapted model without demonstrations) answers the step's queries, and at each token
/// of its own answers it is to expect what a teacher, who has the demonstrations in context, expects there.
///
/// With `x` a query, `c` its demonstrations, `y ~ q(. | x)` of `G` tokens a sample from the student, the loss of an example is
/// `1/G sum_t D(q_t, p_t)`, where `q_t = q(. | x, y_<t)` is the student's distribution, `p_t = p(. | c, x, y_<t)` the teacher's and `D` a
/// [`Divergence`], reverse KL unless set. The sample is a given text for the gradient, as is all that the teacher says (Shenfeld et al. 2026,
/// SDFT, arXiv:2601.19897; on-policy context distillation, arXiv:2602.12275; TRL's `experimental.sdft`).
///
/// A sample is drawn token by token from `softmax(z / T)` over the whole vocabulary, with temperature `T` = 1 unless [set](Self::temperature) and
/// without dropout; it ends as the responses of [`Targets`](super::Targets) do: with the end-of-sequence token, at the length of the answer
/// form, and for labels of several tokens at the end of the label. `T` shapes the samples alone: distributions are compared at temperature 1.
/// What is drawn follows from the training's seed and the step, so a run that goes on from a checkpoint draws the same.
///
/// The dev loss is the same divergence on samples that the student of that moment draws for the dev queries, with the same random numbers at every check and
/// at every learning rate of one seed: checks differ by the student, not by luck of the draw.
///
/// A step costs more than one of other objectives: it generates, and the teacher reads. Demonstrations are read once in a run where the teacher is the
/// base (as long as their keys and values take no more than 1 GiB), and again in each step where it changes. Observers and editors
/// ([`Training::run_with`](crate::train::Training::run_with)) see the student's forward over its samples alone.
///
/// ```
/// use ia2::prelude::*;
///
/// # fn main() -> Result<()> {
/// let model = Model::open("tiny-icl")?;
/// let split = Task::open("sentiment")?.test_at_most(16)?.few_shot(4, 0)?;
/// let targets = Targets::of(&model, &split).without_activations().collect()?;
/// let objective = targets.self_distillation()?.divergence(Divergence::ForwardKl).teacher(Teacher::Average(0.05));
/// let trained = Training::new(Lora::rank(8), objective).epochs(2).run(&model, &split)?;
/// println!("{:?}", trained.history()?);
/// # assert!(trained.dev_loss().is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SelfDistillation {
    /// Whose prompts are the teacher's contexts, train, then dev.
    responses: Responses,
    how: Distilled,
    temperature: f64,
    max_new_tokens: Option<usize>,
    stop: bool,
    contexts: Contexts,
}

/// The contexts of a run's teacher that have been read; a copy of an objective begins with none.
#[derive(Default)]
struct Contexts(RefCell<HashMap<usize, Option<CachedPrefix>>>);

impl Clone for Contexts {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl fmt::Debug for Contexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} read", self.0.borrow().len())
    }
}

impl SelfDistillation {
    /// On the queries of these responses to [`Split::target_prompts`] (train, then dev), whose demonstrations the teacher sees. The responses themselves
    /// are not learned from: they stand for the samples where lengths are needed before any is drawn
    /// ([`Training::preview`](crate::train::Training::preview), [`Training::by_length`](crate::train::Training::by_length)).
    pub fn on(responses: &Responses) -> Self {
        Self {
            responses: responses.clone(),
            how: Distilled::default(),
            temperature: 1.0,
            max_new_tokens: None,
            stop: false,
            contexts: Contexts::default(),
        }
    }

    /// How distributions are compared.
    pub fn divergence(mut self, divergence: Divergence) -> Self {
        self.how.divergence = divergence;
        self
    }

    /// Who has the demonstrations in context.
    pub fn teacher(mut self, teacher: Teacher) -> Self {
        self.how.teacher = teacher;
        self
    }

    /// Compares the probabilities of the student's `k` likeliest tokens and, as one more, that of all others together (as TRL's
    /// `distillation_topk` with `distillation_add_tail`): at most the divergence over the whole vocabulary, which is compared unless this is set.
    pub fn top(mut self, k: usize) -> Self {
        self.how.top = Some(k);
        self
    }

    /// The temperature that samples are drawn at.
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.temperature = temperature;
        self
    }

    /// The most tokens of a sample; the limit of the answer form unless set, and for labels of several tokens those of the label.
    pub fn max_new_tokens(mut self, tokens: usize) -> Self {
        self.max_new_tokens = Some(tokens);
        self
    }

    /// Ends samples where [`Prompts::stop`] says, too, as evaluation does.
    pub fn stopping(mut self) -> Self {
        self.stop = true;
        self
    }

    fn generation(&self, model: &Model, prompts: &Prompts, seed: u64) -> Result<Generation> {
        let settings = responses::settings(prompts, self.max_new_tokens, self.responses.prompts().stop().filter(|_| self.stop));
        model.reaching(prompts, &settings.sample(self.temperature, 1.0, seed))
    }

    fn check(&self, vocab: i64) -> Result<()> {
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return Err(Error::input(format!("samples at temperature {}: use a positive number, e.g. 1", self.temperature)));
        }
        if self.max_new_tokens == Some(0) {
            return Err(Error::input("samples of at most 0 tokens: ask for at least one"));
        }
        if let Some(k) = self.how.top.filter(|&k| k == 0 || k as u64 >= vocab as u64) {
            return Err(Error::input(format!(
                "the {k} likeliest of {vocab} tokens cannot be compared alone: ask for 1 to {}, or leave out `top`",
                vocab - 1
            )));
        }
        match self.how.teacher {
            Teacher::Average(rate) if !(rate > 0.0 && rate <= 1.0) => {
                Err(Error::input(format!("a teacher that follows at the rate {rate}: use a number above 0 and at most 1, e.g. 0.05")))
            }
            _ => Ok(()),
        }
    }

    /// Of the keys and values of all contexts.
    fn bytes(&self, model: &Model) -> u64 {
        let Config { layers, kv_heads, head_dim, .. } = model.config();
        let tokens: usize = self.responses.rows().iter().map(|row| row.tokens.prompt.len()).sum();
        let each = 2 * layers * kv_heads * head_dim * model.kind().elt_size_in_bytes() as i64;
        tokens as u64 * each as u64
    }

    /// Whether a context is read once in a run.
    fn keeps_contexts(&self, base: &Model) -> bool {
        self.how.teacher == Teacher::Base && self.bytes(base) <= KEPT
    }

    /// The teacher's hidden states at the tokens of the samples. Each context is read by itself, so that it is the same whenever it is read.
    fn after_contexts(&self, examples: &[usize], samples: &[&Sample], teacher: &Model) -> Result<Tensor> {
        let (mut rows, mut starts, mut cached_prefixes) = (Vec::new(), Vec::new(), Vec::new());
        for (&example, sample) in examples.iter().zip(samples) {
            interrupt::check()?;
            let prompt = &self.row(example)?.tokens.prompt;
            let start = prompt.len() - 1;
            let known = self.contexts.0.borrow().get(&example).cloned();
            let cached_prefix = match known {
                Some(cached_prefix) => cached_prefix,
                None => {
                    let cached_prefix = teacher.begin(&prompt[..start])?;
                    self.contexts.0.borrow_mut().insert(example, cached_prefix.clone());
                    cached_prefix
                }
            };
            cached_prefixes.push(cached_prefix);
            rows.push(Sample { prompt: prompt.clone(), response: sample.response.clone() }.read());
            starts.push(start);
        }
        teacher.go_on(&rows, &starts, cached_prefixes)
    }

    fn row(&self, example: usize) -> Result<&crate::model::Response> {
        let rows = self.responses.rows();
        rows.get(example).ok_or_else(|| Error::input(format!("example {example} does not exist: there are {}", rows.len())))
    }
}

impl Objective for SelfDistillation {
    fn name(&self) -> String {
        let how = self.how.to_string();
        if how.is_empty() { "self-distillation".into() } else { format!("self-distillation ({how})") }
    }

    fn samples(&self, model: &Model, split: &Split) -> Result<Samples> {
        self.check(model.config().vocab_size)?;
        let samples = responses::as_samples(&self.responses, model, split)?;
        // What no teacher can read is found before the first step.
        let longest = self.generation(model, &self.responses.prompts(), 0)?.max_new_tokens();
        let contexts: Vec<&[u32]> = self.responses.rows().iter().map(|row| row.tokens.prompt.as_slice()).collect();
        model.base().check(&contexts, longest - 1).map_err(|error| error.context("the teacher's contexts"))?;
        self.contexts.0.borrow_mut().clear();
        Ok(samples)
    }

    fn needs_logits(&self) -> bool {
        true
    }

    fn average(&self) -> Option<f64> {
        match self.how.teacher {
            Teacher::Average(rate) => Some(rate),
            _ => None,
        }
    }

    fn draw(&self, examples: &[usize], given: &[&Sample], student: &Model, seed: u64) -> Result<Option<Vec<Sample>>> {
        let asked = |&example: &usize| Ok(Prompt { demonstrations: Vec::new(), ..self.row(example)?.prompt.clone() });
        let prompts = Prompts::new(examples.iter().map(asked).collect::<Result<_>>()?).with_form(self.responses.form().clone());
        let rows: Vec<Vec<u32>> = given.iter().map(|sample| sample.prompt.clone()).collect();
        let drawn = student.generate(&rows, &self.generation(student, &prompts, seed)?)?;
        Ok(Some(drawn.into_iter().map(|generated| generated.tokens).collect()))
    }

    fn teach(&self, examples: &[usize], samples: &[&Sample], student: &Model, average: Option<&Model>) -> Result<Option<Tensor>> {
        let base = student.base();
        let teacher = match self.how.teacher {
            Teacher::Base => &base,
            Teacher::Live => student,
            Teacher::Average(_) => average.ok_or_else(|| Error::internal("self-distillation was given no averaged student"))?,
        };
        if self.keeps_contexts(teacher) {
            return teacher.logits(&self.after_contexts(examples, samples, teacher)?, None).map(Some);
        }
        let row = |(&example, sample): (&usize, &&Sample)| {
            let mut row = self.row(example)?.clone();
            row.tokens.response = sample.response.clone();
            Ok(row)
        };
        let rows = examples.iter().zip(samples).map(row).collect::<Result<Vec<_>>>()?;
        let answers = Responses::from_rows(self.responses.form().clone(), rows);
        // A prefix that contexts share is read once.
        let hidden = Capture::at(HIDDEN).device(teacher.device()).of(teacher, &answers)?;
        let each = (0..samples.len()).map(|place| Ok(hidden.example(place)?.squeeze_dim(0))).collect::<Result<Vec<_>>>()?;
        teacher.logits(&Tensor::cat(&each, 0), None).map(Some)
    }

    fn tokens_besides(&self, examples: &[usize], samples: &[&Sample], student: &Model, first: bool) -> Result<u64> {
        // The student reads its query, and all that it says but the last token.
        let drawn: usize = samples.iter().map(|sample| sample.read().len()).sum();
        let rows = examples.iter().map(|&example| self.row(example)).collect::<Result<Vec<_>>>()?;
        let contexts = || rows.iter().map(|row| row.tokens.prompt.len() - 1);
        let base = student.base();
        let taught = match self.keeps_contexts(&base) {
            // The teacher goes on from where a context ends.
            true => {
                let after: usize = samples.iter().map(|sample| sample.response.len()).sum();
                (after + if first { contexts().sum() } else { 0 }) as u64
            }
            false => {
                let rows = rows.iter().zip(samples);
                let texts: Vec<Vec<u32>> = rows
                    .map(|(row, sample)| Sample { prompt: row.tokens.prompt.clone(), response: sample.response.clone() }.read())
                    .collect();
                let ends: Vec<usize> = contexts().collect();
                base.tokens_to_read(&texts, |row| ends[row])
            }
        };
        Ok(drawn as u64 + taught)
    }

    fn losses(&self, _examples: &[usize], outputs: &Outputs) -> Result<Vec<Tensor>> {
        let given = |logits: &Option<Tensor>, whose: &str| {
            logits.as_ref().map(widened).ok_or_else(|| Error::internal(format!("self-distillation was given no logits of {whose}")))
        };
        let (student, teacher) = (given(&outputs.logits, "the student")?, given(&outputs.teacher, "the teacher")?);
        if student.size() != teacher.size() {
            return Err(Error::internal(format!("the student's logits are {:?}, the teacher's {:?}", student.size(), teacher.size())));
        }
        let [student, teacher] = match self.how.top {
            None => [student, teacher].map(|logits| logits.log_softmax(-1, None)),
            Some(k) => largest(&student, &teacher, k as i64),
        };
        Ok(vec![outputs.per_example(&self.how.divergence.between(&student, &teacher))])
    }

    fn identity(&self) -> Vec<u8> {
        let Self { responses, how: Distilled { divergence, teacher, top }, temperature, max_new_tokens, stop, contexts: _ } = self;
        let mut digest = Sha256::new();
        digest.update(format!("{divergence:?} {teacher:?} {top:?} {temperature:?} {max_new_tokens:?} {stop}"));
        for row in responses.rows() {
            digest.update((row.tokens.prompt.len() as u64).to_le_bytes());
            row.tokens.prompt.iter().for_each(|id| digest.update(id.to_le_bytes()));
        }
        digest.finalize().to_vec()
    }
}

/// Log-probabilities `[token, k + 1]` of the student's `k` likeliest tokens, and of all others together.
fn largest(student: &Tensor, teacher: &Tensor, k: i64) -> [Tensor; 2] {
    let ids = student.topk(k, -1, true, true).1;
    [student, teacher].map(|logits| {
        let last = [-1i64].as_slice();
        let logs = logits.gather(1, &ids, false) - logits.logsumexp(last, true);
        let rest = (-logs.logsumexp(last, true).clamp_max(MOST_HELD).expm1()).log();
        Tensor::cat(&[logs, rest], -1)
    })
}
