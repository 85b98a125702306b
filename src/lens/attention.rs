//! Attention patterns.

use polars::prelude::*;
use tch::{Kind, Tensor};

use super::{BATCH, encoded, last_of};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::libtorch::guarded;
use crate::model::Model;
use crate::model::reading::Watch;
use crate::nn::Hooks;
use crate::prompt::Prompts;

/// The most rows: with two columns of text this is about 3 GB.
const MOST: usize = 50_000_000;
/// The most weights of one layer in one forward.
const WEIGHTS: usize = 1 << 26;

/// Where each head looks: attention weights after the softmax, of the layers asked for.
///
/// `weight[query, key] = softmax_key(q · k / √head_dim)` over the keys at or before the query; those of a query sum to 1. The `last` tokens of
/// each prompt are the queries: 1 is the place that predicts the answer, `usize::MAX` all.
///
/// One row per prompt, layer, head, query and key that it may see: `index`, `layer`, `head`, `query`, `key` (positions from 0; an adapter's
/// virtual tokens have negative keys, -1 before the first real token), `query_token`, `key_token` (as
/// [`Tokenizer::spelling`](crate::tokenizer::Tokenizer::spelling) spells them; null for a virtual token), `weight` (in [0, 1]).
///
/// For one prompt, [`figure::attention_heads`](crate::figure::attention_heads) draws all heads as thumbnails, and
/// [`figure::attention_head`](crate::figure::attention_head) one large.
///
/// # Errors
/// No prompts, layers or tokens asked for; a layer that the model does not have; no tokenizer; a prompt over the context; more than 50 million
/// rows, before anything is computed.
pub fn attention_patterns(model: &Model, prompts: &Prompts, layers: impl IntoIterator<Item = usize>, last: usize) -> Result<DataFrame> {
    let layers: Vec<usize> = layers.into_iter().collect();
    guarded("attention patterns", || {
        let _inference = tch::no_grad_guard();
        let (count, heads) = (model.config().layers as usize, model.config().heads as usize);
        if layers.is_empty() {
            return Err(Error::input(format!("there are no layers to look at: ask for some of 0 to {}", count - 1)));
        }
        if let Some(layer) = layers.iter().find(|layer| **layer >= count) {
            return Err(Error::input(format!("layer {layer} does not exist: the model has 0 to {}", count - 1)));
        }
        let rows = encoded(model, prompts)?;
        let counts = last_of(&rows, last)?;
        let keys = |row: usize| (rows[row].len() - counts[row]..rows[row].len()).map(|query| query + 1).sum::<usize>();
        let height = (0..rows.len()).map(keys).sum::<usize>().saturating_mul(layers.len() * heads);
        if height > MOST {
            return Err(Error::input(format!(
                "that is a frame of {height} rows: ask for fewer layers, prompts or last tokens ({MOST} rows at most)"
            )));
        }
        let longest = rows.iter().map(Vec::len).max().unwrap_or(1);
        let batch = (WEIGHTS / (heads * longest * longest)).clamp(1, BATCH);
        let paths: Vec<String> = layers.iter().map(|layer| format!("model.layers.{layer}.self_attn.pattern")).collect();
        // [head, query, key] per prompt and layer.
        let mut found: Vec<Vec<Option<Tensor>>> = rows.iter().map(|_| layers.iter().map(|_| None).collect()).collect();
        let mut hooks = Hooks::new();
        hooks.observe(&paths.join(", "), |point, value| {
            let slots = value.size()[3] - value.size()[2];
            for (row, &example) in point.examples.iter().enumerate() {
                let (length, asked) = (rows[example].len() as i64, counts[example] as i64);
                let weights = value.get(row as i64).narrow(1, length - asked, asked).narrow(2, 0, slots + length);
                for (layer, _) in paths.iter().enumerate().filter(|(_, path)| *path == point.path) {
                    // A copy: what is narrowed would keep the whole.
                    found[example][layer] = Some(weights.to_kind(Kind::Float).to_device(tch::Device::Cpu).copy());
                }
            }
            Ok(())
        });
        // Whole rows: what a shared prefix's tokens look at lies elsewhere in each batch.
        model.visit(&rows, batch, |_| (0, 0), Watch::From(0), &mut hooks)?;
        drop(hooks);
        frame(model, prompts, &rows, &layers, found)
    })
}

fn frame(model: &Model, prompts: &Prompts, rows: &[Vec<u32>], layers: &[usize], found: Vec<Vec<Option<Tensor>>>) -> Result<DataFrame> {
    let tokenizer = model.tokenizer()?;
    let tokens: Vec<Vec<String>> = rows.iter().map(|row| tokenizer.spellings(row)).collect();
    let (mut index, mut layer, mut head, mut query, mut key) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut query_token, mut key_token, mut weight) = (Vec::new(), Vec::new(), Vec::new());
    for ((prompt, tokens), found) in prompts.iter().zip(&tokens).zip(found) {
        interrupt::check()?;
        for (&own, weights) in layers.iter().zip(found) {
            let weights = weights.ok_or_else(|| Error::internal(format!("layer {own} showed no pattern")))?;
            let (heads, asked, slots) = weights.size3()?;
            if heads != model.config().heads {
                return Err(Error::internal(format!("layer {own} showed {heads} heads of {}", model.config().heads)));
            }
            let virtual_tokens = slots as usize - tokens.len();
            let values = Vec::<f32>::try_from(weights.reshape([-1]))?;
            for (line, values) in values.chunks(slots as usize).enumerate() {
                let asking = tokens.len() - asked as usize + line % asked as usize;
                for (slot, &value) in values.iter().enumerate().take(virtual_tokens + asking + 1) {
                    index.push(prompt.index as u32);
                    layer.push(own as u32);
                    head.push((line / asked as usize) as u32);
                    query.push(asking as u32);
                    key.push(slot as i32 - virtual_tokens as i32);
                    query_token.push(tokens[asking].as_str());
                    key_token.push(slot.checked_sub(virtual_tokens).map(|place| tokens[place].as_str()));
                    weight.push(value);
                }
            }
        }
    }
    Ok(df!(
        "index" => index, "layer" => layer, "head" => head, "query" => query, "key" => key,
        "query_token" => query_token, "key_token" => key_token, "weight" => weight,
    )?)
}
