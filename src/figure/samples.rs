//! A small frame for each kind of figure: the shape it draws, in made-up numbers.

use polars::prelude::*;

use crate::error::Result;

const METHODS: [&str; 4] = ["ICL", "SFT", "IA2", "IA2 → SFT"];

/// Scatter in [-1, 1] that is the same in every run.
fn noise(at: usize) -> f64 {
    let swirl = (at as f64 * 12.9898).sin() * 43_758.545_3;
    2.0 * (swirl - swirl.floor()) - 1.0
}

/// Every combination of indices below `sizes`, the last counting fastest, with its own index.
fn grid<const N: usize>(sizes: [usize; N]) -> Vec<(usize, [usize; N])> {
    let all = sizes.iter().product();
    let place = |at: usize| {
        let mut rest = at;
        let mut place = [0; N];
        for axis in (0..N).rev() {
            place[axis] = rest % sizes[axis];
            rest /= sizes[axis];
        }
        (at, place)
    };
    (0..all).map(place).collect()
}

/// Similarities of two methods over six layers, two tasks and two runs.
pub(super) fn layers() -> Result<DataFrame> {
    let rows = grid([2, 2, 2, 6]);
    let of = |value: &dyn Fn([usize; 4]) -> f64| rows.iter().map(|&(_, place)| value(place)).collect::<Vec<_>>();
    Ok(df!(
        "layer" => rows.iter().map(|row| row.1[3] as u32).collect::<Vec<_>>(),
        "asim" => of(&|[run, task, method, layer]| 0.9 - 0.1 * (layer * (method + 1)) as f64 + 0.05 * (task + run) as f64),
        "method" => rows.iter().map(|row| ["IA2 → SFT", "SFT"][row.1[2]]).collect::<Vec<_>>(),
        "task" => rows.iter().map(|row| ["sentiment", "topic"][row.1[1]]).collect::<Vec<_>>(),
        "run" => rows.iter().map(|row| row.1[0] as u32).collect::<Vec<_>>()
    )?)
}

/// Accuracy, ECE and asim of four methods for four numbers of demonstrations and five runs.
pub(super) fn runs() -> Result<DataFrame> {
    let rows = grid([4, 4, 5]);
    let asim = |at: usize, method: usize| [0.95, 0.5, 0.8, 0.68][method] + 0.04 * noise(at);
    Ok(df!(
        "demonstrations" => rows.iter().map(|row| [2u32, 4, 8, 16][row.1[1]]).collect::<Vec<_>>(),
        "method" => rows.iter().map(|row| METHODS[row.1[0]]).collect::<Vec<_>>(),
        "run" => rows.iter().map(|row| row.1[2] as u32).collect::<Vec<_>>(),
        "asim" => rows.iter().map(|&(at, [method, ..])| asim(at, method)).collect::<Vec<_>>(),
        "accuracy" => rows.iter().map(|&(at, [method, n, _])| 0.3 + 0.4 * asim(at, method) + 0.06 * n as f64 + 0.04 * noise(at + 500)).collect::<Vec<_>>(),
        "ece" => rows.iter().map(|&(at, [method, n, _])| 0.34 - 0.25 * asim(at, method) - 0.015 * n as f64 + 0.02 * noise(at + 900)).collect::<Vec<_>>()
    )?)
}

/// asim of three methods in models of 16 and 28 layers, over three runs.
pub(super) fn models() -> Result<DataFrame> {
    let rows: Vec<_> = grid([3, 2, 3, 28]).into_iter().filter(|(_, [_, model, _, layer])| *model == 1 || *layer < 16).collect();
    Ok(df!(
        "layer" => rows.iter().map(|row| row.1[3] as u32).collect::<Vec<_>>(),
        "asim" => rows.iter().map(|&(at, [run, model, method, layer])| {
            let depth = layer as f64 / [15.0, 27.0][model];
            [0.55, 0.85, 0.72][method] - 0.25 * depth * (1.0 - 0.3 * method as f64) + 0.06 * (depth * 9.0 + model as f64).sin() + 0.03 * run as f64 + 0.02 * noise(at)
        }).collect::<Vec<_>>(),
        "method" => rows.iter().map(|row| METHODS[row.1[2] + 1]).collect::<Vec<_>>(),
        "model" => rows.iter().map(|row| ["Llama-3.2-1B", "Llama-3.2-3B"][row.1[1]]).collect::<Vec<_>>(),
        "run" => rows.iter().map(|row| row.1[0] as u32).collect::<Vec<_>>()
    )?)
}

/// Subspace overlaps of three pairs of methods over 48 sites.
pub(super) fn overlaps() -> Result<DataFrame> {
    let rows = grid([3, 48]);
    Ok(df!(
        "pair" => rows.iter().map(|row| ["SFT / IA2", "SFT / IA2 → SFT", "IA2 / IA2 → SFT"][row.1[0]]).collect::<Vec<_>>(),
        "overlap" => rows.iter().map(|&(at, [pair, _])| {
            [0.055, 0.07, 0.39][pair] + [0.03, 0.04, 0.2][pair] * (noise(at) + noise(at + 300) + noise(at + 600)) / 1.8
        }).collect::<Vec<_>>()
    )?)
}

/// Similarities per layer and position, of both signs.
pub(super) fn positions() -> Result<DataFrame> {
    let rows = grid([12, 16]);
    Ok(df!(
        "layer" => rows.iter().map(|row| row.1[0] as u32).collect::<Vec<_>>(),
        "position" => rows.iter().map(|row| row.1[1] as u32).collect::<Vec<_>>(),
        "asim" => rows.iter().map(|&(at, [layer, position])| (layer as f64 / 3.0 + position as f64 / 5.0).sin() * 0.7 + 0.15 * noise(at)).collect::<Vec<_>>()
    )?)
}

/// CKA of eight layers with each other.
pub(super) fn likeness() -> Result<DataFrame> {
    let rows = grid([8, 8]);
    Ok(df!(
        "layer" => rows.iter().map(|row| row.1[0] as u32).collect::<Vec<_>>(),
        "other_layer" => rows.iter().map(|row| row.1[1] as u32).collect::<Vec<_>>(),
        "value" => rows.iter().map(|&(_, [a, b])| (-(a.abs_diff(b) as f64) / 3.0).exp()).collect::<Vec<_>>()
    )?)
}

/// Ten bins of a model that is surer than right.
pub(super) fn bins() -> Result<DataFrame> {
    Ok(df!(
        "lower" => (0..10).map(|bin| f64::from(bin) / 10.0).collect::<Vec<_>>(),
        "upper" => (0..10).map(|bin| f64::from(bin + 1) / 10.0).collect::<Vec<_>>(),
        "count" => [2u32, 0, 3, 7, 12, 16, 22, 31, 48, 59],
        "confidence" => [Some(0.08), None, Some(0.26), Some(0.35), Some(0.46), Some(0.55), Some(0.65), Some(0.76), Some(0.85), Some(0.96)],
        "accuracy" => [Some(0.5), None, Some(0.33), Some(0.29), Some(0.42), Some(0.5), Some(0.55), Some(0.61), Some(0.71), Some(0.86)]
    )?)
}

/// Twenty checks of a training that overfits.
pub(super) fn history() -> Result<DataFrame> {
    let checks = 0..20usize;
    Ok(df!(
        "step" => checks.clone().map(|check| (check * 10) as u32).collect::<Vec<_>>(),
        "train_loss" => checks.clone().map(|check| 2.0 * (-(check as f64) / 4.0).exp() + 0.02 * (1.0 + noise(check))).collect::<Vec<_>>(),
        "dev_loss" => checks.clone().map(|check| 1.8 * (-(check as f64) / 4.0).exp() + 0.15 + 0.012 * check as f64).collect::<Vec<_>>(),
        "best" => checks.map(|check| check == 14).collect::<Vec<_>>()
    )?)
}

/// What six layers say after each of eight tokens.
pub(super) fn lens() -> Result<DataFrame> {
    let tokens = ["Text", ":", " a", " warm", " and", " funny", " film", "\n"];
    let says = [",", " the", " very", " good", " movie", "Label", ":", " positive"];
    let rows = grid([6, 8]);
    Ok(df!(
        "layer" => rows.iter().map(|row| row.1[0] as u32).collect::<Vec<_>>(),
        "position" => rows.iter().map(|row| row.1[1] as u32).collect::<Vec<_>>(),
        "token" => rows.iter().map(|row| tokens[row.1[1]]).collect::<Vec<_>>(),
        "top" => rows.iter().map(|&(at, [layer, position])| if layer > 2 { says[position] } else { says[at * 7 % 8] }).collect::<Vec<_>>(),
        "probability" => rows.iter().map(|&(at, [layer, _])| (0.08 + 0.15 * layer as f64 + 0.1 * noise(at)).clamp(0.0, 1.0)).collect::<Vec<_>>()
    )?)
}

/// Attention of four heads over ten positions.
pub(super) fn heads() -> Result<DataFrame> {
    let rows: Vec<_> = grid([4, 10, 10]).into_iter().filter(|(_, [_, query, key])| key <= query).collect();
    let score = |head: usize, query: usize, key: usize| match head {
        0 => 1.0 / (1 + query - key) as f64,
        1 => {
            if key == 0 {
                3.0
            } else {
                0.2
            }
        }
        2 => {
            if query > 0 && key + 1 == query {
                4.0
            } else {
                0.3
            }
        }
        _ => 1.0,
    };
    let weight = |[head, query, key]: [usize; 3]| score(head, query, key) / (0..=query).map(|key| score(head, query, key)).sum::<f64>();
    Ok(df!(
        "head" => rows.iter().map(|row| row.1[0] as u32).collect::<Vec<_>>(),
        "query" => rows.iter().map(|row| row.1[1] as u32).collect::<Vec<_>>(),
        "key" => rows.iter().map(|row| row.1[2] as u32).collect::<Vec<_>>(),
        "weight" => rows.iter().map(|row| weight(row.1)).collect::<Vec<_>>()
    )?)
}

/// Points of three labels in a plane.
pub(super) fn plane() -> Result<DataFrame> {
    let rows = grid([3, 40]);
    let centre = |label: usize| [(-4.0, 1.0), (3.0, 3.0), (1.0, -3.0)][label];
    let spread = |at: usize| 1.2 * (noise(at) + noise(at + 700));
    Ok(df!(
        "pc1" => rows.iter().map(|&(at, [label, _])| centre(label).0 + spread(at)).collect::<Vec<_>>(),
        "pc2" => rows.iter().map(|&(at, [label, _])| centre(label).1 + spread(at + 200)).collect::<Vec<_>>(),
        "pc1_share" => vec![0.62; rows.len()],
        "pc2_share" => vec![0.17; rows.len()],
        "label" => rows.iter().map(|row| ["negative", "positive", "neutral"][row.1[0]]).collect::<Vec<_>>()
    )?)
}

/// Differences of three methods to SFT on three tasks, of accuracy and of ECE.
pub(super) fn differences() -> Result<DataFrame> {
    let rows = grid([2, 3, 3]);
    let middle = |at: usize, [metric, task, method]: [usize; 3]| {
        [0.09, -0.05][metric] * (0.5 * method as f64 + 0.3 * task as f64 - 0.2) + 0.01 * noise(at)
    };
    let half = |[metric, task, method]: [usize; 3]| [0.03, 0.02][metric] * (1.0 + 0.4 * task as f64 - 0.2 * method as f64);
    Ok(df!(
        "method" => rows.iter().map(|row| ["soft labels", "IA2", "IA2 → SFT"][row.1[2]]).collect::<Vec<_>>(),
        "baseline" => vec!["SFT"; rows.len()],
        "metric" => rows.iter().map(|row| ["accuracy", "ece_equal_width_15"][row.1[0]]).collect::<Vec<_>>(),
        "task" => rows.iter().map(|row| ["SST2", "FinS", "AGNews"][row.1[1]]).collect::<Vec<_>>(),
        "difference" => rows.iter().map(|&(at, place)| middle(at, place)).collect::<Vec<_>>(),
        "low" => rows.iter().map(|&(at, place)| middle(at, place) - half(place)).collect::<Vec<_>>(),
        "high" => rows.iter().map(|&(at, place)| middle(at, place) + half(place)).collect::<Vec<_>>()
    )?)
}

/// Accuracy of six methods in twelve runs.
pub(super) fn blocks() -> Result<DataFrame> {
    let names = ["zero-shot", "ICL", "SFT", "soft labels", "IA2", "IA2 → SFT"];
    let rows = grid([6, 12]);
    Ok(df!(
        "method" => rows.iter().map(|row| names[row.1[0]]).collect::<Vec<_>>(),
        "run" => rows.iter().map(|row| row.1[1] as u32).collect::<Vec<_>>(),
        "accuracy" => rows.iter().map(|&(at, [method, _])| [0.5, 0.86, 0.68, 0.7, 0.76, 0.84][method] + 0.07 * noise(at)).collect::<Vec<_>>()
    )?)
}

/// Tokens of a short text with what a model made of each.
pub(super) fn text() -> Result<DataFrame> {
    let tokens = [
        "Text",
        ":",
        "·a",
        "·warm",
        "·and",
        "·very",
        "·funny",
        "·film",
        "·about",
        "·a",
        "·lighthouse",
        "\\n",
        "Label",
        ":",
        "·positive",
        "\\n",
    ];
    let chance = |at: usize| [0.4, 0.97, 0.2, 0.02, 0.35, 0.1, 0.08, 0.4, 0.2, 0.5, 0.004, 0.6, 0.9, 0.99, 0.93, 0.95][at];
    Ok(df!("token" => tokens, "log_likelihood" => (0..tokens.len()).map(|at| f64::ln(chance(at))).collect::<Vec<_>>())?)
}

/// Attention of twelve layers of four heads over twelve tokens.
pub(super) fn patterns() -> Result<DataFrame> {
    let tokens = ["Text", ":", "·a", "·warm", "·film", "\\n", "Label", ":", "·1", "\\n", "Text", ":"];
    let rows: Vec<_> = grid([12, 4, 12, 12]).into_iter().filter(|(_, [_, _, query, key])| key <= query).collect();
    let score = |[layer, head, query, key]: [usize; 4]| match (layer + head) % 4 {
        0 => 1.0 / (1 + query - key) as f64,
        1 => f64::from(u8::from(key == 0)) * 4.0 + 0.2,
        2 => f64::from(u8::from(key + 1 == query)) * 5.0 + 0.2,
        _ => f64::from(u8::from(tokens[key] == tokens[query])) * 3.0 + 0.3,
    };
    let weight = |[layer, head, query, key]: [usize; 4]| {
        score([layer, head, query, key]) / (0..=query).map(|key| score([layer, head, query, key])).sum::<f64>()
    };
    let column = |of: usize| rows.iter().map(|row| row.1[of] as u32).collect::<Vec<_>>();
    Ok(df!(
        "layer" => column(0), "head" => column(1), "query" => column(2), "key" => column(3),
        "query_token" => rows.iter().map(|row| tokens[row.1[2]]).collect::<Vec<_>>(),
        "key_token" => rows.iter().map(|row| tokens[row.1[3]]).collect::<Vec<_>>(),
        "weight" => rows.iter().map(|row| weight(row.1)).collect::<Vec<_>>()
    )?)
}

/// What patching each layer and position of a prompt brings back: first at the word, then at the last token.
pub(super) fn patches() -> Result<DataFrame> {
    let tokens = ["Text", ":", "·a", "·dull", "·film", "\\n", "Label", ":"];
    let rows = grid([12, 8]);
    let value = |at: usize, layer: usize, position: usize| match position {
        3 => 1.0 / (1.0 + (layer as f64 - 6.0).exp()),
        7 => 1.0 / (1.0 + (6.0 - layer as f64).exp()),
        4 => 0.3 * (-(layer as f64 - 6.0).powi(2) / 6.0).exp() - 0.1,
        _ => 0.02 * noise(at),
    };
    Ok(df!(
        "site" => vec!["model.layers.*"; rows.len()],
        "layer" => rows.iter().map(|row| row.1[0] as u32).collect::<Vec<_>>(),
        "position" => rows.iter().map(|row| row.1[1] as u32).collect::<Vec<_>>(),
        "token" => rows.iter().map(|row| tokens[row.1[1]]).collect::<Vec<_>>(),
        "normalised_logit_difference" => rows.iter().map(|&(at, [layer, position])| value(at, layer, position)).collect::<Vec<_>>()
    )?)
}

/// Similarities per layer and position, of two methods.
pub(super) fn two_maps() -> Result<DataFrame> {
    let rows = grid([12, 10, 2]);
    Ok(df!(
        "layer" => rows.iter().map(|row| row.1[0] as u32).collect::<Vec<_>>(),
        "position" => rows.iter().map(|row| row.1[1] as u32).collect::<Vec<_>>(),
        "method" => rows.iter().map(|row| ["SFT", "IA2"][row.1[2]]).collect::<Vec<_>>(),
        "asim" => rows.iter().map(|&(at, [layer, position, method])| {
            0.95 - (0.05 - 0.03 * method as f64) * layer as f64 - 0.02 * (position as f64 / 2.0).sin() + 0.03 * noise(at)
        }).collect::<Vec<_>>()
    )?)
}
