//! Extreme pictures of what a model does at its tokens.

use polars::prelude::*;

use super::extreme::{Draw, HOSTILE, Picture, column, noise, pairs, tokens};
use super::*;

const PLAIN: [&str; 10] = ["Text", ":", "·a", "·warm", "·and", "·funny", "·internationalisation", "\\n", "Label", "·positive"];

/// Tokens of a text with a loss each, the first without.
fn text(tokens: &[&str], long: usize) -> Result<DataFrame> {
    let loss = |at: usize| (at > 0).then(|| -(0.002 + noise(at)).ln());
    Ok(
        df!("token" => (0..long).map(|at| tokens[at % tokens.len()]).collect::<Vec<_>>(), "loss" => (0..long).map(loss).collect::<Vec<_>>(), "text" => (0..long).map(|at| format!("text {}", at * 3 / long)).collect::<Vec<_>>())?,
    )
}

/// The last queries of a prompt, each with all keys before it.
fn patterns(layers: usize, heads: usize, queries: std::ops::Range<usize>, tokens: &[&str]) -> Result<DataFrame> {
    let places: Vec<(usize, usize)> = queries.flat_map(|query| (0..=query).map(move |key| (query, key))).collect();
    let rows = pairs(layers * heads, places.len());
    let weight = |head: usize, (query, key): (usize, usize)| {
        let score = |key: usize| {
            let first = if key == 0 { 8.0 * noise(head) } else { 0.1 };
            first + 6.0 / (1.0 + ((query - key) as f64 - (head % 7) as f64).powi(2)) * noise(head + 1)
        };
        score(key) / (0..=query).map(score).sum::<f64>()
    };
    Ok(df!(
        "layer" => column(&rows, |head, _| (head / heads) as u32), "head" => column(&rows, |head, _| (head % heads) as u32),
        "query" => column(&rows, |_, at| places[at].0 as u32), "key" => column(&rows, |_, at| places[at].1 as i32),
        "query_token" => column(&rows, |_, at| tokens[places[at].0 % tokens.len()]), "key_token" => column(&rows, |_, at| tokens[places[at].1 % tokens.len()]),
        "weight" => column(&rows, |head, at| weight(head, places[at]))
    )?)
}

/// A patching map of a prompt, of three kinds of hook point.
fn patches(layers: usize, tokens: &[&str], positions: usize) -> Result<DataFrame> {
    let rows = pairs(3 * layers, positions);
    let value = |at: usize, position: usize| {
        let depth = (at % layers) as f64 / layers as f64;
        let here = if position == positions / 3 {
            1.0 - depth
        } else if position + 1 == positions {
            1.4 * depth
        } else {
            0.1 * (noise(at * 99 + position) - 0.5)
        };
        (at != 7 || position != 1).then_some(here)
    };
    Ok(df!(
        "site" => column(&rows, |at, _| ["model.layers.*", "model.layers.*.self_attn", "model.layers.*.mlp"][at / layers]),
        "layer" => column(&rows, |at, _| (at % layers) as u32), "position" => column(&rows, |_, position| position as u32),
        "token" => column(&rows, |_, position| tokens[position % tokens.len()]), "normalised_logit_difference" => column(&rows, value)
    )?)
}

/// What the logit lens gives, with the five likeliest tokens.
fn lens(layers: usize, words: &[&str], positions: usize) -> Result<DataFrame> {
    let mut frame = tokens(layers, words, positions)?;
    for place in 2..=5usize {
        frame.with_column(Column::new(
            format!("top_{place}").into(),
            (0..layers * positions).map(|at| words[(at + place) % words.len()]).collect::<Vec<_>>(),
        ))?;
        frame.with_column(Column::new(
            format!("probability_{place}").into(),
            (0..layers * positions).map(|at| noise(at) / place as f64 / 4.0).collect::<Vec<_>>(),
        ))?;
    }
    Ok(frame)
}

/// Two methods, layers by positions.
fn methods(layers: usize, positions: usize) -> Result<DataFrame> {
    let rows = pairs(2 * layers, positions);
    Ok(df!(
        "method" => column(&rows, |at, _| ["SFT only", "IA2 -> SFT"][at / layers]), "layer" => column(&rows, |at, _| (at % layers) as u32),
        "position" => column(&rows, |_, position| position as u32),
        "asim" => column(&rows, |at, position| 0.9 - 0.4 * (at % layers) as f64 / layers as f64 * noise(at + 3 * position))
    )?)
}

/// Every one by its name.
pub(super) fn pictures() -> Vec<(&'static str, Draw)> {
    vec![
        ("real_text_300_tokens", || Ok((Picture::Text(token_text("token", "loss").title("Loss of each token")), text(&PLAIN, 300)?))),
        ("real_text_three", || Ok((Picture::Text(token_text("token", "loss").facet("text").diverging()), text(&PLAIN, 60)?))),
        ("real_text_3000_tokens", || Ok((Picture::Text(token_text("token", "loss")), text(&PLAIN, 3000)?))),
        ("real_text_narrow", || Ok((Picture::Text(token_text("token", "loss").width(COLUMN)), text(&PLAIN, 40)?))),
        ("letters_text", || Ok((Picture::Text(token_text("token", "loss").title("今天 مرحبا שלום \u{1f600} ไทย")), text(&HOSTILE, 60)?))),
        ("real_lens_30_by_40", || Ok((Picture::Map(token_table().title("What each layer would say")), lens(30, &PLAIN, 40)?))),
        ("letters_lens", || Ok((Picture::Map(token_table()), lens(30, &HOSTILE, 20)?))),
        ("real_heads_30_by_9", || {
            Ok((Picture::Heads(attention_heads().title("Every head of SmolLM2-135M")), patterns(30, 9, 40..64, &PLAIN)?))
        }),
        ("real_heads_36_by_32_page_2", || Ok((Picture::Heads(attention_heads().last(6).page(2)), patterns(36, 32, 14..20, &PLAIN)?))),
        ("real_heads_12_by_12", || Ok((Picture::Heads(attention_heads()), patterns(12, 12, 0..20, &PLAIN)?))),
        ("real_heads_one_query", || Ok((Picture::Heads(attention_heads()), patterns(30, 9, 63..64, &PLAIN)?))),
        ("real_head_of_94_tokens", || Ok((Picture::Map(attention_head(4, 2)), patterns(5, 3, 0..94, &PLAIN)?))),
        ("letters_head", || Ok((Picture::Map(attention_head(1, 0)), patterns(2, 1, 0..20, &HOSTILE)?))),
        ("real_patching_30_by_20", || {
            Ok((
                Picture::Map(patching().only("site", "model.layers.*").title("Which activation carries the answer")),
                patches(30, &PLAIN, 20)?,
            ))
        }),
        ("real_patching_three_kinds", || Ok((Picture::Map(patching()), patches(30, &PLAIN, 20)?))),
        ("letters_patching", || Ok((Picture::Map(patching().only("site", "model.layers.*")), patches(30, &HOSTILE, 20)?))),
        ("real_difference_30", || {
            Ok((Picture::Map(HeatMap::new("position", "layer", "asim").difference("method", "SFT", "IA2 -> SFT")), methods(30, 60)?))
        }),
        ("real_maps_rows_and_columns", || {
            let rows = pairs(3 * 4 * 28, 16);
            let frame = df!("model" => column(&rows, |at, _| ["Llama-3.2-1B", "Qwen3-4B-Base", "SmolLM2-135M"][at % 3]), "task" => column(&rows, |at, _| ["SST2", "FinS", "AGN", "SciQr"][at / 3 % 4]), "layer" => column(&rows, |at, _| (at / 12) as u32), "position" => column(&rows, |_, at| at as u32), "asim" => column(&rows, |at, position| 0.9 - 0.02 * (at / 12) as f64 - 0.2 * noise(at + position)));
            Ok((Picture::Map(HeatMap::new("position", "layer", "asim").rows("model").facet("task")), frame?))
        }),
    ]
}
