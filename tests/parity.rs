//! Against Hugging Face transformers: the golden files in `tests/golden` are made by `tests/python/make_golden.py`.
//!
//! Tolerances are `max |a - b| / max |b|` per tensor.

mod common;

use common::{difference, golden, golden_folder, rows};
use ia2::prelude::*;
use ia2::{Error, Result};

const CHECKPOINTS: [&str; 9] = [
    "llama_full",
    "llama_grouped_tied",
    "llama_multi_query_llama3",
    "llama_linear",
    "llama_biases",
    "qwen2_grouped",
    "qwen2_multi_query_tied",
    "qwen3_grouped_tied",
    "qwen3_multi_query",
];

fn captured(model: &Model, prompts: &[Vec<u32>], pattern: &str) -> Result<(Vec<(String, Tensor)>, Tensor)> {
    let mut values = Vec::new();
    let mut hooks = Hooks::new();
    hooks.observe(pattern, |point, value| {
        values.push((point.path.to_string(), value.shallow_clone()));
        Ok(())
    });
    let logits = model.forward_with(prompts, &mut hooks)?.values;
    drop(hooks);
    Ok((values, logits))
}

/// The golden name of a hook point.
fn golden_name(path: &str) -> String {
    match path.strip_prefix("model.layers.") {
        None => path.trim_start_matches("model.").to_string(),
        Some(rest) => match rest.split_once('.') {
            None => format!("hidden.{rest}"),
            Some((layer, "self_attn.pattern")) => format!("attn.{layer}"),
            Some((layer, module)) => format!("{module}.{layer}"),
        },
    }
}

#[test]
fn logits_attention_outputs_and_hidden_states_of_ragged_batches() -> Result<()> {
    let mut worst = 0f64;
    for name in CHECKPOINTS {
        let model = Model::open(golden_folder(name))?;
        let golden = golden(&format!("{name}/golden.safetensors"))?;
        let prompts = rows(&golden["input_ids"], &golden["lengths"]);
        let (values, logits) = captured(&model, &prompts, "model.layers.*.self_attn, model.layers.*, model.norm")?;
        assert_eq!(values.len(), 2 * model.config().layers as usize + 1);
        for (path, value) in values.iter().map(|(path, value)| (golden_name(path), value)).chain([("logits".to_string(), &logits)]) {
            let lengths = prompts.iter().map(Vec::len).collect::<Vec<_>>();
            let apart = difference(value, &golden[&path], &lengths);
            assert!(apart < 1e-5, "{name} {path}: {apart:.1e}");
            worst = worst.max(apart);
        }
    }
    common::agrees("logits, attention outputs and hidden states, Llama, Qwen2 and Qwen3, f32", worst);
    Ok(())
}

#[test]
fn the_attention_pattern_on_request() -> Result<()> {
    for name in ["llama_grouped_tied", "qwen3_grouped_tied"] {
        let model = Model::open(golden_folder(name))?;
        let golden = golden(&format!("{name}/golden.safetensors"))?;
        let prompts = rows(&golden["input_ids"], &golden["lengths"]);
        let (values, logits) = captured(&model, &prompts, "model.layers.*.self_attn.pattern")?;
        for (path, value) in &values {
            for (row, prompt) in prompts.iter().enumerate() {
                let tokens = prompt.len() as i64;
                let cut = |pattern: &Tensor| pattern.get(row as i64).narrow(1, 0, tokens).narrow(2, 0, tokens);
                let expected = cut(&golden[&golden_name(path)]);
                let apart = (cut(value) - &expected).abs().max().double_value(&[]) / expected.max().double_value(&[]);
                assert!(apart < 1e-5, "{name} {path}: {apart:.1e}");
            }
        }
        let lengths = prompts.iter().map(Vec::len).collect::<Vec<_>>();
        assert!(difference(&logits, &golden["logits"], &lengths) < 1e-5, "asking for the pattern changed the logits");
    }
    Ok(())
}

#[test]
fn both_spellings_and_shards_give_the_same_model() -> Result<()> {
    for name in CHECKPOINTS {
        let folder = tempfile::tempdir().map_err(|_| common::failed("no temporary folder"))?;
        let copy = |from: &str, to: &str| std::fs::copy(golden_folder(name).join(from), folder.path().join(to)).unwrap();
        copy("config.other_spelling.json", "config.json");
        copy("generation_config.json", "generation_config.json");
        copy("model.safetensors", "model.safetensors");
        let prompts = [vec![1, 5, 9, 33], vec![1, 2]];
        let ours = Model::open(golden_folder(name))?.forward(&prompts)?.values;
        assert_eq!(ours, Model::open(folder.path())?.forward(&prompts)?.values, "{name}");
    }
    let prompts = [vec![1, 5, 9, 33]];
    let whole = Model::open(golden_folder("qwen3_multi_query"))?.forward(&prompts)?.values;
    assert_eq!(whole, Model::open(golden_folder("qwen3_sharded"))?.forward(&prompts)?.values);
    Ok(())
}

#[test]
fn half_precision_checkpoints() -> Result<()> {
    // The rounded weights in f32 give the reference; the half kinds themselves are as far from it as transformers' are.
    for (name, native_tolerance) in [("llama_bf16", 6e-2), ("qwen3_f16", 2e-2)] {
        let golden = golden(&format!("{name}/golden.safetensors"))?;
        let prompts = rows(&golden["input_ids"], &golden["lengths"]);
        let lengths = prompts.iter().map(Vec::len).collect::<Vec<_>>();
        let wide = OpenOptions::new().kind(Kind::Float).open(golden_folder(name))?;
        let apart = difference(&wide.forward(&prompts)?.values, &golden["logits"], &lengths);
        assert!(apart < 1e-5, "{name} opened as f32: {apart:.1e}");
        let native = Model::open(golden_folder(name))?;
        assert_ne!(native.kind(), Kind::Float);
        let apart = difference(&native.forward(&prompts)?.values.to_kind(Kind::Float), &golden["logits"], &lengths);
        assert!(apart < native_tolerance, "{name} in its own kind: {apart:.1e}");
    }
    Ok(())
}

#[test]
fn greedy_generation_gives_the_tokens_of_single_prompts() -> Result<()> {
    for name in ["llama_grouped_tied", "qwen3_multi_query"] {
        let text = std::fs::read_to_string(golden_folder(name).join("generation.json")).unwrap();
        let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
        let lists = |key: &str| -> Vec<Vec<u32>> { serde_json::from_value(golden[key].clone()).unwrap() };
        let (prompts, expected) = (lists("prompts"), lists("tokens"));
        let model = Model::open(golden_folder(name))?;
        let settings = Generation::greedy(24).ignore_eos();
        let responses = model.generate(&prompts, &settings)?;
        for (index, response) in responses.iter().enumerate() {
            assert_eq!(response.tokens.response, expected[index], "{name} prompt {index} in a batch");
            assert_eq!(response.close_calls, 0);
            let alone = model.generate(&prompts[index..=index], &settings)?;
            assert_eq!(alone[0].tokens, response.tokens, "{name} prompt {index} alone");
        }
    }
    Ok(())
}

#[test]
fn a_shared_prefix_changes_nothing() -> Result<()> {
    let model = Model::open(golden_folder("qwen3_grouped_tied"))?;
    let shared: Vec<u32> = (0..30).map(|i| 2 + (i * 7) % 60).collect();
    let prompts: Vec<Vec<u32>> = [vec![5], vec![9, 11, 3], vec![8, 8]].iter().map(|tail| [shared.clone(), tail.clone()].concat()).collect();
    let settings = Generation::greedy(12).ignore_eos();
    let together = model.generate(&prompts, &settings)?;
    for (index, response) in together.iter().enumerate() {
        assert_eq!(model.generate(&prompts[index..=index], &settings)?[0].tokens, response.tokens);
    }
    Ok(())
}

#[test]
fn patching_and_gradients() -> Result<()> {
    for name in ["llama_grouped_tied", "qwen3_grouped_tied"] {
        let model = Model::open(golden_folder(name))?;
        let inputs = golden(&format!("{name}/golden.safetensors"))?;
        let golden = golden(&format!("{name}/hooks.safetensors"))?;
        let prompts = rows(&inputs["input_ids"], &inputs["lengths"]);
        let lengths = prompts.iter().map(Vec::len).collect::<Vec<_>>();

        let mut hooks = Hooks::new();
        hooks.edit("model.layers.1.self_attn", |_, value| {
            let patched = value.copy();
            patched.select(1, 3).copy_(&golden["patch.value"].expand([3, -1], false));
            Ok(Some(patched))
        });
        let patched = model.forward_with(&prompts, &mut hooks)?.values;
        drop(hooks);
        let apart = difference(&patched, &golden["patch.logits"], &lengths);
        assert!(apart < 1e-5, "{name} patched: {apart:.1e}");

        let gradients = model.gradients(&prompts, "model.layers.*.self_attn", |logits| {
            let last = lengths.iter().enumerate().map(|(row, &length)| logits.get(row as i64).get(length as i64 - 1)).collect::<Vec<_>>();
            (Tensor::stack(&last, 0) * &golden["gradient.vector"]).sum(None)
        })?;
        assert!((gradients.scalar - golden["gradient.scalar"].sum(None).double_value(&[])).abs() < 1e-4);
        assert_eq!(gradients.points.len(), model.config().layers as usize);
        for (layer, (path, _, gradient)) in gradients.points.iter().enumerate() {
            assert_eq!(path, &format!("model.layers.{layer}.self_attn"));
            let apart = difference(gradient, &golden[&format!("gradient.self_attn.{layer}")], &lengths);
            assert!(apart < 1e-5, "{name} {path}: {apart:.1e}");
        }
    }
    Ok(())
}

#[test]
fn the_real_model_gives_its_golden_tokens_logits_and_text() -> Result<()> {
    let Some(folder) = common::shared("models/stories260K") else { return Ok(()) };
    let model = Model::open(&folder)?;
    let text = std::fs::read_to_string(folder.join("golden.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
    common::check_stories(&model, &golden)
}

#[test]
fn an_error_is_readable() {
    let error: Error = Model::open(golden_folder("llama_full")).and_then(|model| model.forward(&[vec![1; 200]])).unwrap_err();
    assert!(error.is_input() && error.to_string().contains("context is 128"), "{error}");
}
