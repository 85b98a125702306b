//! The logit lens.

use polars::prelude::*;
use tch::{Kind, Tensor};

use super::{BATCH, encoded, last_of};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::libtorch::guarded;
use crate::model::reading::Watch;
use crate::model::{Model, TokenRow};
use crate::nn::Hooks;
use crate::prompt::{LabelTokens, Prompts};

/// Rows of logits at a time: several copies of them lie in memory.
const ROWS: usize = 64;
/// The likeliest tokens that are given for each place.
const LIKELIEST: usize = 5;

/// What each layer would say if it were the last: its output through the final norm and the unembedding (the logit lens, nostalgebraist 2020).
///
/// p(token | layer, position) = softmax(lm_head(norm(h))), where h is the value at `model.layers.<layer>`. At the last layer this is what the
/// model says itself. Only the last layer was trained to be read like this: what earlier ones show is a hint.
///
/// `last` tokens of each prompt are read: 1 is the place that predicts the answer, `usize::MAX` all. One forward per batch of 16 prompts.
/// Where the labels of a task share their first tokens, these follow the prompt, as in [`evaluate`](crate::evaluate::evaluate).
///
/// One row per prompt, layer and position:
///
/// | column | |
/// |---|---|
/// | `index`, `gold` | the prompt's |
/// | `layer`, `position` | from 0 |
/// | `token` | the token that is read at the position, spelled as [`Tokenizer::spelling`](crate::tokenizer::Tokenizer::spelling) does |
/// | `top`, `probability` | the likeliest next token and its probability in the whole vocabulary |
/// | `top_2`, `probability_2` to `top_5`, `probability_5` | the next likeliest, as the last columns |
/// | `label_mass`, `p_<label>` each | label tasks: probability of all labels together in the whole vocabulary; of each among the labels |
///
/// [`figure::token_table`](crate::figure::token_table) draws it for one prompt.
///
/// # Errors
/// No prompts, no tokens asked for; no tokenizer; labels that cannot be told apart; a prompt over the context; logits that are not finite.
pub fn logit_lens(model: &Model, prompts: &Prompts, last: usize) -> Result<DataFrame> {
    guarded("the logit lens", || {
        let _inference = tch::no_grad_guard();
        let mut rows = encoded(model, prompts)?;
        let names = prompts.form().label_set();
        let labels = if names.is_empty() { Vec::new() } else { LabelTokens::of(model.tokenizer()?, prompts)? };
        let queries: Vec<usize> = rows.iter().map(Vec::len).collect();
        for (row, labels) in rows.iter_mut().zip(&labels) {
            model.check_ids(labels.ids()).map_err(|error| error.context("the labels"))?;
            row.extend_from_slice(labels.prefix());
        }
        let layers = model.config().layers as usize;
        let counts = last_of(&rows, last)?;
        // Where the rows of each prompt begin.
        let starts: Vec<usize> = counts.iter().scan(0, |next, count| Some(std::mem::replace(next, *next + layers * count))).collect();
        let mut read = Read::new(model, &labels, &starts, layers * counts.iter().sum::<usize>());
        let mut hooks = Hooks::new();
        hooks.observe("model.layers.*", |point, value| {
            let layer = point.layer().ok_or_else(|| Error::internal(format!("`{}` lies in no layer", point.path)))?;
            let firsts: Vec<i64> = Vec::try_from(point.positions.select(1, 0).contiguous())?;
            let (mut wanted, mut places) = (Vec::new(), Vec::new());
            for (row, &example) in point.examples.iter().enumerate() {
                let (length, count) = (rows[example].len(), counts[example]);
                // In several pieces, of which the first may lie before what is asked for.
                let first = firsts[row.min(firsts.len() - 1)] as usize;
                let (from, to) = (first.max(length - count), length.min(first + value.size()[1] as usize));
                if from < to {
                    wanted.push(value.get(row as i64).narrow(0, (from - first) as i64, (to - from) as i64));
                    places.extend((from..to).map(|token| starts[example] + layer * count + token - (length - count)));
                }
            }
            if wanted.is_empty() {
                return Ok(());
            }
            read.put(model, &Tensor::cat(&wanted, 0), &places).map_err(|error| error.context(format_args!("`{}`", point.path)))
        });
        // Observers of all tokens see shared ones; of the last few no other is shown.
        let watch = if counts.iter().zip(&rows).all(|(&count, row)| count == row.len()) { Watch::Pieces } else { Watch::End };
        let texts: Vec<TokenRow> = rows.iter().zip(queries).map(|(row, query)| TokenRow { tokens: row.clone(), query }).collect();
        model.visit(&texts, BATCH, |row| (rows[row].len() - counts[row], counts[row]), watch, &mut hooks)?;
        drop(hooks);
        read.frame(model, prompts, &rows, &counts)
    })
}

/// Columns being filled in, one row per prompt, layer and position.
struct Read<'a> {
    /// Of each prompt; none for free answers.
    labels: &'a [LabelTokens],
    /// Where the rows of each prompt begin.
    starts: &'a [usize],
    /// The labels' tokens `[prompt, label]`.
    ids: Option<Tensor>,
    /// The likeliest tokens and their probabilities, the first of each row, the second of each, and so on.
    top: Vec<Vec<u32>>,
    probability: Vec<Vec<f64>>,
    mass: Vec<f64>,
    /// Per label.
    among: Vec<Vec<f64>>,
}

impl<'a> Read<'a> {
    fn new(model: &Model, labels: &'a [LabelTokens], starts: &'a [usize], rows: usize) -> Self {
        let ids: Vec<i64> = labels.iter().flat_map(|labels| labels.ids()).map(|&id| i64::from(id)).collect();
        let count = labels.first().map_or(0, |labels| labels.ids().len());
        let ids = (count > 0).then(|| Tensor::from_slice(&ids).view([-1, count as i64]).to_device(model.device()));
        let mass = vec![0.0; if count > 0 { rows } else { 0 }];
        let most = (model.config().vocab_size as usize).min(LIKELIEST);
        let (top, probability) = (vec![vec![0; rows]; most], vec![vec![0.0; rows]; most]);
        Self { labels, starts, ids, top, probability, mass, among: vec![vec![0.0; rows]; count] }
    }

    /// Reads `stream [token, hidden]`, whose tokens have their rows at `places`.
    fn put(&mut self, model: &Model, stream: &Tensor, places: &[usize]) -> Result<()> {
        for (chunk, places) in places.chunks(ROWS).enumerate() {
            interrupt::check()?;
            let logits = model.unembed(&stream.narrow(0, (chunk * ROWS) as i64, places.len() as i64))?;
            let all = logits.softmax(-1, logits.kind());
            let (probability, top) = all.topk(self.top.len() as i64, -1, true, true);
            let numbers = |values: &Tensor| Ok::<_, Error>(Vec::<f64>::try_from(values.to_kind(Kind::Double))?);
            for (likeliest, (tops, chances)) in self.top.iter_mut().zip(&mut self.probability).enumerate() {
                let chance = numbers(&probability.select(1, likeliest as i64))?;
                if chance.iter().any(|value| !value.is_finite()) {
                    return Err(Error::numeric("the logits are not finite: the weights or an adapter are broken"));
                }
                let top = Vec::<i64>::try_from(top.select(1, likeliest as i64).contiguous())?;
                for (row, &place) in places.iter().enumerate() {
                    (tops[place], chances[place]) = (top[row] as u32, chance[row]);
                }
            }
            let Some(ids) = &self.ids else { continue };
            let prompts: Vec<i64> = places.iter().map(|place| self.starts.partition_point(|start| start <= place) as i64 - 1).collect();
            let ids = ids.index_select(0, &Tensor::from_slice(&prompts).to_device(ids.device()));
            let mass = numbers(&all.gather(1, &ids, false).sum_dim_intlist([-1i64].as_slice(), false, Kind::Double))?;
            let among: Vec<Vec<f64>> = Vec::try_from(logits.gather(1, &ids, false).softmax(-1, Kind::Double))?;
            for (row, &place) in places.iter().enumerate() {
                self.mass[place] = mass[row];
                self.among.iter_mut().zip(&among[row]).for_each(|(column, &value)| column[place] = value);
            }
        }
        Ok(())
    }

    fn frame(self, model: &Model, prompts: &Prompts, rows: &[Vec<u32>], counts: &[usize]) -> Result<DataFrame> {
        let tokenizer = model.tokenizer()?;
        let layers = model.config().layers as u32;
        let (mut index, mut gold, mut layer, mut position, mut token) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for ((prompt, row), &count) in prompts.iter().zip(rows).zip(counts) {
            for own in 0..layers {
                index.extend(std::iter::repeat_n(prompt.index as u32, count));
                gold.extend(std::iter::repeat_n(prompt.example.gold.as_str(), count));
                layer.extend(std::iter::repeat_n(own, count));
                position.extend((row.len() - count..row.len()).map(|place| place as u32));
                token.extend_from_slice(&row[row.len() - count..]);
            }
        }
        let mut frame = df!(
            "index" => index,
            "gold" => gold,
            "layer" => layer,
            "position" => position,
            "token" => tokenizer.spellings(&token),
            "top" => tokenizer.spellings(&self.top[0]),
            "probability" => &self.probability[0],
        )?;
        if let Some(labels) = self.labels.first() {
            frame.with_column(Column::new("label_mass".into(), self.mass))?;
            for (label, column) in labels.labels().iter().zip(self.among) {
                frame.with_column(Column::new(format!("p_{label}").into(), column))?;
            }
        }
        for (place, (top, probability)) in self.top.iter().zip(self.probability).enumerate().skip(1) {
            frame.with_column(Column::new(format!("top_{}", place + 1).into(), tokenizer.spellings(top)))?;
            frame.with_column(Column::new(format!("probability_{}", place + 1).into(), probability))?;
        }
        Ok(frame)
    }
}
