//! What the search for a vector computes: activations at the last token of prompts, and how likely answers are under many edits there.

use std::cell::Cell;

use tch::{Kind, Tensor};

use super::Reading;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::kind::wide;
use crate::model::reading::Watch;
use crate::model::{Model, Sample, TokenRow};
use crate::nn::{HookPoint, Hooks};
use crate::prompt::{LabelTokens, Prompts};

/// Prompts per forward, and edits per forward, of which each reads a prompt's last token again.
const BATCH: usize = 16;
const EDITS: usize = 32;

/// A search on a model, which counts what it reads.
pub(super) struct Search<'m> {
    pub model: &'m Model,
    reading: Cell<Reading>,
}

/// How much of an answer is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum GoldSpan {
    /// All of it.
    Whole,
    /// Up to the token that tells the labels apart; of a free answer the first token.
    Telling,
}

/// Each prompt with its gold's tokens.
pub(super) fn golds(model: &Model, prompts: &Prompts, part: GoldSpan) -> Result<Vec<Sample>> {
    let (tokenizer, form) = (model.tokenizer()?, prompts.form());
    let labels = if form.label_set().is_empty() { Vec::new() } else { LabelTokens::of(tokenizer, prompts)? };
    let mut samples = Vec::with_capacity(prompts.len());
    for (place, (prompt, ids)) in prompts.iter().zip(model.encode(prompts)?).enumerate() {
        let context = |error: Error| error.context(format_args!("the answer of prompt {}", prompt.index));
        let gold = &prompt.example.gold;
        let (mut response, telling) = match labels.get(place) {
            None => (tokenizer.encode_answer(&prompt.example.query, gold).map_err(context)?.0, 1),
            Some(labels) => {
                let none = || Error::input(format!("the gold {gold:?} of prompt {} is none of the labels", prompt.index));
                let label = form.label_of(gold).ok_or_else(none)?;
                (labels.tokens(label).ok_or_else(none)?.to_vec(), labels.prefix().len() + 1)
            }
        };
        if part == GoldSpan::Telling {
            response.truncate(telling);
        }
        if response.is_empty() {
            return Err(context(Error::input("it has no tokens")));
        }
        model.check_ids(&response).map_err(context)?;
        samples.push(Sample { prompt: ids, response });
    }
    Ok(samples)
}

impl<'m> Search<'m> {
    pub(super) fn on(model: &'m Model) -> Self {
        Self { model, reading: Cell::default() }
    }

    /// What was read so far.
    pub(super) fn reading(&self) -> Reading {
        self.reading.get()
    }

    /// The values at the last token of each prompt at the hook points that `pattern` selects, which lie in one layer each:
    /// `[example, layer, width]`, in f32 or, of an f64 model, in f64.
    pub(super) fn at_the_end(&self, prompts: &Prompts, pattern: &str) -> Result<Tensor> {
        let rows = self.model.encode(prompts)?;
        let read = self.model.tokens_to_read(&rows, |row| rows[row].len() - 1);
        let reading = self.reading.get();
        self.reading.set(Reading { prompts: reading.prompts + read, ..reading });
        at_the_end(self.model, &rows, pattern)
    }

    /// ln p(answer | prompt), summed over the answer's tokens, under each of `edits` edits at the prompt's last token; nats.
    ///
    /// `edit` is given a layer, the number of an edit and the value `[width]` of that token at the layer's hook point that `pattern` selects, and
    /// gives another value, or none where that edit leaves it. What stands before the last token is read once.
    pub(super) fn under(
        &self,
        sample: &Sample,
        edits: usize,
        pattern: &str,
        edit: impl Fn(usize, usize, &Tensor) -> Option<Tensor>,
    ) -> Result<Vec<f64>> {
        let rows = vec![TokenRow { tokens: sample.read(), query: sample.prompt.len() }; edits];
        let read = self.model.tokens_to_read(&rows, |_| sample.prompt.len() - 1);
        let reading = self.reading.get();
        self.reading.set(Reading { candidates: reading.candidates + read, ..reading });
        under(self.model, sample, &rows, pattern, edit)
    }
}

fn at_the_end(model: &Model, rows: &[Vec<u32>], pattern: &str) -> Result<Tensor> {
    let layers = model.config().layers as usize;
    let mut found: Vec<Option<Tensor>> = vec![(); rows.len() * layers].into_iter().map(|()| None).collect();
    let mut hooks = Hooks::new();
    hooks.observe(pattern, |point, value| {
        let layer = layer(point)?;
        let firsts = firsts(point)?;
        for (row, &example) in point.examples.iter().enumerate() {
            let token = rows[example].len() as i64 - 1 - firsts[row.min(firsts.len() - 1)];
            if (0..value.size()[1]).contains(&token) {
                // A copy: a part would keep the whole.
                found[example * layers + layer] = Some(value.get(row as i64).get(token).to_kind(wide(model.kind())).copy());
            }
        }
        Ok(())
    });
    model.visit(rows, BATCH, |row| (rows[row].len() - 1, 1), Watch::End, &mut hooks)?;
    drop(hooks);
    let found = found.into_iter().collect::<Option<Vec<_>>>().ok_or_else(|| Error::internal("a layer's value never came"))?;
    Ok(Tensor::stack(&found, 0).view([rows.len() as i64, layers as i64, -1]))
}

fn under(
    model: &Model,
    sample: &Sample,
    rows: &[TokenRow],
    pattern: &str,
    edit: impl Fn(usize, usize, &Tensor) -> Option<Tensor>,
) -> Result<Vec<f64>> {
    let (asked, answer) = (sample.prompt.len() as i64 - 1, sample.response.len() as i64);
    let ids: Vec<i64> = sample.response.iter().map(|&id| i64::from(id)).collect();
    let ids = Tensor::from_slice(&ids).to_device(model.device());
    let mut sums = vec![f64::NAN; rows.len()];
    let mut hooks = Hooks::new();
    hooks.edit(pattern, |point, value| {
        let (layer, firsts) = (layer(point)?, firsts(point)?);
        let mut changed: Option<Tensor> = None;
        for (row, &number) in point.examples.iter().enumerate() {
            let token = asked - firsts[row.min(firsts.len() - 1)];
            if !(0..value.size()[1]).contains(&token) {
                continue;
            }
            if let Some(other) = edit(layer, number, &value.get(row as i64).get(token)) {
                let changed = changed.get_or_insert_with(|| value.copy());
                changed.get(row as i64).get(token).copy_(&other);
            }
        }
        Ok(changed)
    });
    hooks.observe("model.norm", |point, value| {
        interrupt::check()?;
        let firsts = firsts(point)?;
        let own = |row: usize| value.get(row as i64).narrow(0, asked - firsts[row.min(firsts.len() - 1)], answer);
        let hidden: Vec<Tensor> = (0..point.examples.len()).map(own).collect();
        // [edit, token, vocab]
        let logits = model.logits(&Tensor::cat(&hidden, 0), None)?.view([hidden.len() as i64, answer, -1]);
        let ids = ids.view([1, -1, 1]).expand([hidden.len() as i64, -1, 1], false);
        let logs = logits.to_kind(wide(model.kind())).log_softmax(-1, None).gather(2, &ids, false).squeeze_dim(-1);
        let own: Vec<f64> = Vec::try_from(logs.sum_dim_intlist([-1i64].as_slice(), false, Kind::Double))?;
        for (&number, sum) in point.examples.iter().zip(own) {
            sums[number] = sum;
        }
        Ok(())
    });
    model.visit(rows, EDITS, |_| (asked as usize, answer as usize), Watch::End, &mut hooks)?;
    drop(hooks);
    match sums.iter().any(|sum| sum.is_nan()) {
        true => Err(Error::numeric("logits are not finite under an edit: the weights, or what is put into the stream, are broken")),
        false => Ok(sums),
    }
}

fn layer(point: &HookPoint<'_>) -> Result<usize> {
    point.layer().ok_or_else(|| Error::internal(format!("`{}` lies in no layer", point.path)))
}

/// Position of the first token of each row.
fn firsts(point: &HookPoint<'_>) -> Result<Vec<i64>> {
    Ok(Vec::try_from(point.positions.select(1, 0).contiguous())?)
}
