//! Virtual tokens: hidden ones and none leave the base model as it is, visible ones are what the decoder makes of their embeddings.

use std::path::Path;
use std::rc::Rc;

use tch::{Kind, Tensor};

use super::{Depth, Generation, Model, OpenOptions, Sample, TeacherForcing};
use crate::error::Result;
use crate::nn::{self, Adapt, DropoutDraws, Hooks, Prefix, VirtualTokens};

#[derive(Debug)]
struct Fixed {
    embeddings: Option<Tensor>,
    keys_values: Option<Tensor>,
    hidden: bool,
}

impl Adapt for Fixed {
    fn prefix(&self) -> Option<Prefix> {
        let embeddings = self.embeddings.as_ref().map(|values| VirtualTokens::Embeddings(values.shallow_clone()));
        let tokens = embeddings.or_else(|| Some(VirtualTokens::KeysValues(self.keys_values.as_ref()?.shallow_clone())))?;
        let shift = match (&tokens, self.hidden) {
            (_, true) => 0,
            (VirtualTokens::Embeddings(values) | VirtualTokens::KeysValues(values), false) => values.size()[0],
        };
        Some(Prefix { tokens, visible: !self.hidden, shift })
    }
}

fn models() -> Vec<Model> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let open = |name: &str| OpenOptions::new().kind(Kind::Double).device(tch::Device::Cpu).open(folder.join(name)).unwrap();
    ["llama_grouped_tied", "qwen3_grouped_tied", "llama_multi_query_llama3"].map(open).into()
}

fn with(model: &Model, count: i64, keys_values: bool, hidden: bool) -> Model {
    tch::manual_seed(count);
    let config = model.config();
    let draw = |size: &[i64]| Some(Tensor::randn(size, (Kind::Double, model.device())));
    model.adapted(Rc::new(match keys_values {
        true => Fixed { embeddings: None, keys_values: draw(&[count, 2 * config.layers, config.kv_heads, config.head_dim]), hidden },
        false => Fixed { embeddings: draw(&[count, config.hidden_size]), keys_values: None, hidden },
    }))
}

const PROMPTS: [&[u32]; 3] = [&[1, 7, 9, 12, 33, 2, 8], &[1, 3], &[1, 7, 9, 40]];

fn prompts() -> Vec<Vec<u32>> {
    PROMPTS.iter().map(|row| row.to_vec()).collect()
}

/// Prompts with a common prefix that is long enough to share a cache.
fn alike() -> Vec<Vec<u32>> {
    (0..3).map(|tail| (4..30).chain([tail + 5, 9, 11 + tail]).collect()).collect()
}

fn apart(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[]) / b.abs().max().double_value(&[])
}

/// Logits and self-attention outputs at the real tokens, one example at a time.
fn seen(model: &Model) -> Result<Vec<Tensor>> {
    let mut all = Vec::new();
    for row in prompts() {
        let mut values = Vec::new();
        let mut hooks = Hooks::new();
        hooks.observe("model.layers.*.self_attn, model.layers.*", |point, value| {
            assert_eq!(point.positions.int64_value(&[0, 0]), 0, "the first real token is at position 0");
            values.push(value.copy());
            Ok(())
        });
        let logits = model.forward_with(&[row], &mut hooks)?.values;
        drop(hooks);
        all.push(logits);
        all.extend(values);
    }
    Ok(all)
}

#[test]
fn hidden_virtual_tokens_and_none_leave_the_base_as_it_is() -> Result<()> {
    for model in models() {
        let base = seen(&model)?;
        let texts = |model: &Model| -> Result<Vec<Vec<u32>>> {
            let settings = Generation::greedy(6).ignore_eos();
            Ok(model.generate(&alike(), &settings)?.into_iter().map(|row| row.tokens.response).collect())
        };
        for (count, keys_values, hidden) in [(0, false, false), (0, true, false), (3, false, true), (5, true, true)] {
            let adapted = with(&model, count, keys_values, hidden);
            for (ours, base) in seen(&adapted)?.iter().zip(&base) {
                assert!(apart(ours, base) < 1e-12);
            }
            assert_eq!(texts(&adapted)?, texts(&model)?);
        }
        assert!(apart(&seen(&with(&model, 3, false, false))?[0], &base[0]) > 1e-3, "visible ones do nothing");
    }
    Ok(())
}

#[test]
fn virtual_embeddings_are_tokens_in_front() -> Result<()> {
    for model in models() {
        let config = model.config();
        let adapted = with(&model, 4, false, false);
        let Some(Prefix { tokens: VirtualTokens::Embeddings(embeddings), .. }) = adapted.virtual_tokens() else { unreachable!() };
        for row in prompts() {
            // The plain way: all embeddings in one row through the decoder.
            let ids: Vec<i64> = row.iter().map(|&id| i64::from(id)).collect();
            let none = Tensor::from_slice(&ids).unsqueeze(0);
            let mut real = None;
            let mut hooks = Hooks::new();
            hooks.observe("model.embed_tokens", |_, value| {
                real = Some(value.copy());
                Ok(())
            });
            model.forward_with(std::slice::from_ref(&row), &mut hooks)?;
            drop(hooks);
            let whole = Tensor::cat(&[embeddings.unsqueeze(0), real.unwrap()], 1);
            let positions = nn::positions(0, whole.size()[1], model.device());
            let mut pass = nn::Pass::new(positions, 0, &config.rope, config.head_dim, Kind::Double, &[0]);
            let hidden = model.decoder().run(whole, Depth::Full, &mut pass)?.unwrap();
            let logits = model.decoder().logits(&hidden, &mut pass)?.narrow(1, 4, none.size()[1]);
            assert!(apart(&adapted.forward(&[row])?.values, &logits) < 1e-10);
        }
    }
    Ok(())
}

#[test]
fn batches_caches_and_shared_prefixes_change_nothing() -> Result<()> {
    for model in models() {
        for keys_values in [false, true] {
            let adapted = with(&model, 4, keys_values, false);
            let rows = alike();
            let alone: Vec<Tensor> = rows
                .iter()
                .map(|row| Ok(adapted.forward(std::slice::from_ref(row))?.values.select(1, row.len() as i64 - 1)))
                .collect::<Result<_>>()?;
            assert!(apart(&adapted.next_logits(&rows, 2, None)?, &Tensor::cat(&alone, 0)) < 1e-10);
            let ragged = adapted.forward(&prompts())?;
            for (index, row) in prompts().into_iter().enumerate() {
                let batched = ragged.values.narrow(0, index as i64, 1).narrow(1, 0, row.len() as i64);
                assert!(apart(&adapted.forward(&[row])?.values, &batched) < 1e-10);
            }
            // Greedy with the cache against a full forward per token.
            for generated in adapted.generate(&rows, &Generation::greedy(5).ignore_eos())? {
                let mut row = generated.tokens.prompt.clone();
                for &token in &generated.tokens.response {
                    let logits = adapted.forward(&[row.clone()])?.values.select(1, row.len() as i64 - 1);
                    assert_eq!(logits.argmax(-1, false).int64_value(&[0]), i64::from(token));
                    row.push(token);
                }
            }
        }
    }
    Ok(())
}

#[test]
fn gradients_reach_virtual_tokens_and_narrowing_changes_nothing() -> Result<()> {
    let model = &models()[1];
    for keys_values in [false, true] {
        let adapted = with(model, 4, keys_values, false);
        let Some(prefix) = adapted.virtual_tokens() else { unreachable!() };
        let (VirtualTokens::Embeddings(leaf) | VirtualTokens::KeysValues(leaf)) = prefix.tokens;
        let leaf = leaf.set_requires_grad(true);
        let samples = [Sample { prompt: vec![1, 7, 9], response: vec![4, 5] }, Sample { prompt: vec![1, 3], response: vec![9] }];
        let samples: Vec<&Sample> = samples.iter().collect();
        let gradient = |narrow: bool| -> Result<Tensor> {
            let forced = adapted.teacher_forced(
                &samples,
                TeacherForcing { depth: Depth::Full, narrow, packed: false, draws: Some(DropoutDraws::new(0)) },
                None,
            )?;
            let sum = forced.hidden.unwrap().square().sum(None);
            Ok(Tensor::run_backward(&[sum], &[&leaf], false, false).remove(0))
        };
        let (narrow, wide) = (gradient(true)?, gradient(false)?);
        assert!(narrow.abs().sum(None).double_value(&[]) > 0.0 && apart(&narrow, &wide) < 1e-10);
    }
    Ok(())
}
