//! Prompts read as a tree: the same numbers as one by one, whatever they share, and fewer tokens read.

#[cfg(test)]
mod families;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use super::{Tree, Watch};
use crate::error::Result;
use crate::model::{Generation, Model, OpenOptions, Sample};
use crate::nn::{Adapt, DropoutDraws, Frozen, Hooks, Prefix, VirtualTokens};

/// Virtual tokens before all, and the tokens counted that pass by the first layer.
#[derive(Debug)]
struct Counting {
    prefix: Option<Tensor>,
    tokens: Rc<Cell<i64>>,
}

impl Adapt for Counting {
    fn linear(&self, module: &Frozen<'_>, input: &Tensor, _draws: Option<DropoutDraws>) -> Result<Tensor> {
        if module.path() == "model.layers.0.mlp.down_proj" {
            self.tokens.set(self.tokens.get() + input.size()[0] * input.size()[1]);
        }
        module.forward(input)
    }

    fn prefix(&self) -> Option<Prefix> {
        let tokens = VirtualTokens::Embeddings(self.prefix.as_ref()?.shallow_clone());
        Some(Prefix { shift: self.prefix.as_ref()?.size()[0], tokens, visible: true })
    }
}

fn open(name: &str, kind: Kind) -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    OpenOptions::new().kind(kind).device(Device::Cpu).open(folder).unwrap()
}

/// Models in f64 without and with virtual tokens, and how many tokens each has read.
fn models(kind: Kind) -> Vec<(Model, Rc<Cell<i64>>)> {
    let mut models = Vec::new();
    for name in ["llama_grouped_tied", "qwen3_grouped_tied"] {
        let model = open(name, kind);
        for count in [0, 3] {
            tch::manual_seed(count);
            let prefix = (count > 0).then(|| Tensor::randn([count, model.config().hidden_size], (kind, Device::Cpu)));
            let tokens = Rc::new(Cell::new(0));
            models.push((model.adapted(Rc::new(Counting { prefix, tokens: tokens.clone() })), tokens));
        }
    }
    models
}

fn words(seed: u32, count: u32) -> Vec<u32> {
    (0..count).map(|word| 3 + (seed * 31 + word * (7 + seed % 5)) % 60).collect()
}

/// Leave-one-out prompts of `count` demonstrations of 8 to 12 tokens in a halving tree's orders, two queries a leaf, one prompt twice, one that
/// is the prefix of others, and some that share nothing.
fn rows(count: usize) -> Vec<Vec<u32>> {
    let shown: Vec<Vec<u32>> = (0..count as u32).map(|seed| words(seed, 8 + seed % 5)).collect();
    let mut rows = Vec::new();
    for own in 0..count {
        let (mut first, mut end, mut row) = (0, count, vec![1]);
        while end - first > 1 {
            let middle = first + (end - first) / 2;
            let others = if own < middle { middle..end } else { first..middle };
            row.extend(others.flat_map(|other| shown[other].clone()));
            (first, end) = if own < middle { (first, middle) } else { (middle, end) };
        }
        rows.push([row.clone(), words(own as u32, 5)].concat());
        rows.push([row, words(90 + own as u32, 1 + own as u32 % 3)].concat());
    }
    rows.push(rows[3].clone());
    let half = rows[2].len() / 2;
    rows.push(rows[2][..half].to_vec());
    rows.extend([words(70, 9), words(71, 30), words(72, 1)]);
    rows
}

fn apart(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[]) / b.abs().max().double_value(&[])
}

/// By row and hook point.
type Shown = HashMap<(usize, String), Tensor>;

const POINTS: &str = "model.layers.*.self_attn, model.layers.*.self_attn.k_proj, model.layers.*";

/// What each row shows at [`POINTS`] alone, and its logits after the last token.
fn plain(model: &Model, rows: &[Vec<u32>]) -> Result<(Shown, Tensor)> {
    let (mut shown, mut logits) = (HashMap::new(), Vec::new());
    for (row, tokens) in rows.iter().enumerate() {
        let mut hooks = Hooks::new();
        hooks.observe(POINTS, |point, value| {
            shown.insert((row, point.path.to_string()), value.get(0).copy());
            Ok(())
        });
        logits.push(model.forward_with(std::slice::from_ref(tokens), &mut hooks)?.values.select(1, tokens.len() as i64 - 1));
    }
    Ok((shown, Tensor::cat(&logits, 0)))
}

#[test]
fn logits_and_all_that_is_shown_are_those_of_plain_forwards() -> Result<()> {
    let _inference = tch::no_grad_guard();
    let rows = rows(8);
    let whole: usize = rows.iter().map(Vec::len).sum();
    let planned: usize = Tree::of(&rows, |_| usize::MAX).read(&rows).iter().sum();
    assert!(planned * 2 < whole, "{planned} of {whole} tokens");
    for (model, tokens) in models(Kind::Double) {
        let (shown, logits) = plain(&model, &rows)?;
        for batch in [1, 2, 5, 16, 99] {
            tokens.set(0);
            assert!(apart(&model.next_logits(&rows, batch, None)?, &logits) < 1e-10, "batches of {batch}");
            // Padding adds some; virtual tokens are read once.
            assert!((tokens.get() as usize) < planned * 3 / 2, "batches of {batch}: {} for {planned}", tokens.get());
            // All tokens of all rows, in pieces, each once.
            let seen: RefCell<HashMap<(usize, String, i64), Tensor>> = RefCell::default();
            let mut hooks = Hooks::new();
            hooks.observe(POINTS, |point, value| {
                let positions: Vec<Vec<i64>> = Vec::try_from(point.positions).unwrap();
                for (place, &row) in point.examples.iter().enumerate() {
                    for (token, &position) in positions[place.min(positions.len() - 1)].iter().enumerate() {
                        if position < rows[row].len() as i64 {
                            let own = value.get(place as i64).get(token as i64);
                            assert!(seen.borrow_mut().insert((row, point.path.to_string(), position), own).is_none(), "seen twice");
                        }
                    }
                }
                Ok(())
            });
            tokens.set(0);
            model.visit(&rows, batch, |_| (0, 0), Watch::Pieces, &mut hooks)?;
            drop(hooks);
            assert!((tokens.get() as usize) < planned * 3 / 2);
            let seen = seen.into_inner();
            assert_eq!(seen.len(), whole * 3 * model.config().layers as usize);
            for ((row, path), values) in &shown {
                let own: Vec<&Tensor> = (0..rows[*row].len()).map(|position| &seen[&(*row, path.clone(), position as i64)]).collect();
                assert!(apart(&Tensor::stack(&own, 0), values) < 1e-10, "{path} of row {row} in batches of {batch}");
            }
        }
    }
    Ok(())
}

#[test]
fn only_the_end_is_shown_where_no_more_is_asked_for() -> Result<()> {
    let _inference = tch::no_grad_guard();
    let rows = rows(6);
    let span = |row: usize| (rows[row].len() - (1 + row % 3).min(rows[row].len()), (1 + row % 3).min(rows[row].len()));
    for (model, _) in models(Kind::Double) {
        let (shown, _) = plain(&model, &rows)?;
        for batch in [3, 64] {
            let found = RefCell::new(HashMap::new());
            let mut hooks = Hooks::new();
            hooks.observe(POINTS, |point, value| {
                let firsts: Vec<i64> = Vec::try_from(point.positions.select(1, 0).contiguous())?;
                for (place, &row) in point.examples.iter().enumerate() {
                    let (start, count) = span(row);
                    let before = start as i64 - firsts[place.min(firsts.len() - 1)];
                    let own = value.get(place as i64).narrow(0, before, count as i64);
                    assert!(found.borrow_mut().insert((row, point.path.to_string()), own).is_none());
                }
                Ok(())
            });
            model.visit(&rows, batch, span, Watch::End, &mut hooks)?;
            drop(hooks);
            let found = found.into_inner();
            assert_eq!(found.len(), shown.len());
            for ((row, path), own) in found {
                let (start, count) = span(row);
                let expected = shown[&(row, path.clone())].narrow(0, start as i64, count as i64);
                assert!(apart(&own, &expected) < 1e-10, "{path} of row {row}");
            }
        }
    }
    Ok(())
}

#[test]
fn generation_and_scores_go_on_from_shared_beginnings() -> Result<()> {
    let rows = rows(7);
    for (model, tokens) in models(Kind::Double) {
        let settings = Generation::greedy(6).ignore_eos();
        let one = |row: &Vec<u32>| Ok(model.generate(std::slice::from_ref(row), &settings)?.remove(0));
        let alone: Vec<_> = rows.iter().map(one).collect::<Result<_>>()?;
        for batch in [1, 4, 32] {
            assert_eq!(model.generate(&rows, &settings.clone().batch(batch))?, alone, "batches of {batch}");
        }
        let drawn = Generation::greedy(4).sample(1.0, 0.9, 5).ignore_eos();
        assert_eq!(model.generate(&rows, &drawn.clone().batch(3))?, model.generate(&rows, &drawn)?);
        let samples: Vec<Sample> = rows
            .iter()
            .enumerate()
            .flat_map(|(row, prompt)| (1..3).map(move |length| Sample { prompt: prompt.clone(), response: words(row as u32, length) }))
            .collect();
        tokens.set(0);
        let together = model.log_likelihoods(&samples)?;
        assert!((tokens.get() as usize) < rows.iter().map(Vec::len).sum::<usize>() * 2 / 3);
        for (sample, together) in samples.iter().zip(together) {
            let own = model.log_likelihoods(std::slice::from_ref(sample))?.remove(0);
            assert!(own.iter().zip(&together).all(|(own, together)| (own - together).abs() < 1e-9), "{own:?} and {together:?}");
        }
    }
    Ok(())
}

#[test]
fn other_kinds_agree_within_their_rounding() -> Result<()> {
    let rows = rows(8);
    for (kind, most) in [(Kind::Float, 1e-5), (Kind::BFloat16, 0.05)] {
        for (model, _) in models(kind) {
            let alone: Vec<Tensor> = rows.iter().map(|row| model.next_logits(std::slice::from_ref(row), 1, None)).collect::<Result<_>>()?;
            for batch in [4, 64] {
                let distance = apart(&model.next_logits(&rows, batch, None)?, &Tensor::cat(&alone, 0));
                assert!(distance < most, "{kind:?} in batches of {batch}: {distance:.1e}");
            }
        }
    }
    Ok(())
}

#[test]
fn hooks_that_edit_see_whole_batches_from_where_they_look() -> Result<()> {
    let rows = rows(6);
    for (model, _) in models(Kind::Double) {
        let edit = |rows: &[Vec<u32>], batch: usize, from: usize, first: usize| {
            let mut hooks = Hooks::new();
            hooks.edit("model.layers.1", |point, value| {
                let positions = point.positions.expand([value.size()[0], -1], false);
                Ok(Some(value * (1.0 - positions.ge(first as i64).unsqueeze(-1).to_kind(value.kind()) * 1.5)))
            });
            hooks.bind(model.points())?;
            model.next_logits(rows, batch, Some((&mut hooks, from)))
        };
        let long: Vec<Vec<u32>> = rows.iter().filter(|row| row.len() > 40).cloned().collect();
        for first in [0, 39] {
            let alone: Vec<Tensor> = long.iter().map(|row| edit(std::slice::from_ref(row), 1, 0, first)).collect::<Result<_>>()?;
            for batch in [3, 64] {
                assert!(apart(&edit(&long, batch, first, first)?, &Tensor::cat(&alone, 0)) < 1e-10, "from {first} in batches of {batch}");
            }
        }
    }
    Ok(())
}
