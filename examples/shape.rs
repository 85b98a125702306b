//! A model of a given shape with random weights: how fast it captures and trains, and what share of the processor's matrix rate that is.
//!
//! `cargo run --release --example shape -- [--shape qwen3-4b] [--kind bf16] [--device cuda] [--prompt 300] [--response 32] [--batch 4]
//! [--samples 16] [--steps 8] [--rate 790]`
//!
//! Shapes are `tiny`, `qwen3-0.6b` and `qwen3-4b`. `--rate` is the processor's matrix rate in TFLOP/s, for the share; without it, that of one large product
//! is measured. A forward is counted as 2 operations per weight of a linear module and token, a step of training as twice that: weights get no gradient. Attention's own
//! products and the head are left out, so the share is a lower bound.

use std::time::Instant;

use ia2::dataset::Card;
use ia2::model::{Config, Decoder, Ending, Response, Sample};
use ia2::prelude::*;
use ia2::prompt::{AnswerForm, Prompt};
use ia2::tokenizer::Tokenizer;
use serde_json::json;

type Failure = Box<dyn std::error::Error>;
/// Words that the tokenizer knows.
const WORDS: usize = 512;

fn main() -> std::process::ExitCode {
    let listening = ia2::interrupt::listen().map_err(Box::<dyn std::error::Error>::from);
    ia2::interrupt::exit_code(listening.and_then(|()| run()))
}

fn run() -> std::result::Result<(), Failure> {
    let number = |name: &str, default: usize| option(name).map_or(Ok(default), |text| text.parse());
    let (prompt, response, batch) = (number("--prompt", 300)?, number("--response", 32)?, number("--batch", 4)?);
    let (samples, steps) = (number("--samples", 16)?, number("--steps", 8)? as u64);
    let kind = match option("--kind").as_deref() {
        None | Some("bf16") => Kind::BFloat16,
        Some("f32") => Kind::Float,
        Some(other) => return Err(format!("--kind {other}: f32 or bf16").into()),
    };
    let device = match option("--device").as_deref() {
        None => ia2::libtorch::best_device()?,
        Some("cpu") => Device::Cpu,
        Some("cuda") => ia2::libtorch::cuda_device(0)?,
        Some(other) => return Err(format!("--device {other}: cpu or cuda").into()),
    };
    let rate: f64 = match option("--rate") {
        Some(text) => text.parse()?,
        None => matrix_rate(kind, device),
    };
    tch::manual_seed(0);
    let model = random_model(option("--shape").as_deref().unwrap_or("tiny"), kind, device)?;
    println!("{model:?}");
    let linear: i64 = model.sites().iter().map(|(_, (inputs, outputs))| inputs * outputs).sum();
    let responses = responses(samples, prompt, response)?;
    let tokens = samples * (prompt + response - 1);
    let told = |what: &str, tokens: usize, seconds: f64, per_weight: f64| {
        let rate_here = per_weight * linear as f64 * tokens as f64 / seconds / 1e12;
        let (speed, share) = (tokens as f64 / seconds, 100.0 * rate_here / rate);
        println!("{what:<22} {speed:>10.0} tokens/s, {rate_here:.2} TFLOP/s in linear modules, {share:.0} % of {rate:.2} TFLOP/s");
    };

    let catch = || Capture::at("model.layers.*.self_attn").device(device).batch(batch).of(&model, &responses);
    let target = catch()?;
    let began = Instant::now();
    let again = catch()?;
    // Reading a number waits for a device that works on its own.
    let norm = again.values()?.norm().double_value(&[]);
    told("capture", tokens, began.elapsed().as_secs_f64(), 2.0);
    if !norm.is_finite() {
        return Err("activations are not finite".into());
    }
    for toward_activations in [true, false] {
        let split = split(&responses)?;
        let train = |steps: u64| -> Result<f64> {
            let training = match toward_activations {
                true => Training::new(Lora::rank(8), Ia2::toward(&target)),
                false => Training::new(Lora::rank(8), Sft::on(&responses)),
            };
            let began = Instant::now();
            training.batch(batch).learning_rate(1e-4).check_every(u64::MAX).epochs(1_000).at_most_steps(steps).run(&model, &split)?;
            Ok(began.elapsed().as_secs_f64())
        };
        train(1)?;
        // What a run costs before its first step falls out of the difference.
        let seconds = train(1 + steps)? - train(1)?;
        let name = if toward_activations { "IA2 training" } else { "SFT training" };
        told(name, steps as usize * batch * (prompt + response - 1), seconds, 4.0);
    }
    Ok(())
}

/// TFLOP/s of a square product.
fn matrix_rate(kind: Kind, device: Device) -> f64 {
    let size: i64 = if device.is_cuda() { 8192 } else { 1024 };
    let matrix = Tensor::randn([size, size], (kind, device));
    let products = |count: usize| {
        let began = Instant::now();
        let mut product = matrix.shallow_clone();
        for _ in 0..count {
            product = matrix.matmul(&matrix);
        }
        // Reading a number waits for the device.
        product.double_value(&[0, 0]);
        began.elapsed().as_secs_f64() / count as f64
    };
    products(2);
    2.0 * (size as f64).powi(3) / products(10) / 1e12
}

fn random_model(shape: &str, kind: Kind, device: Device) -> std::result::Result<Model, Failure> {
    let [hidden, intermediate, layers, heads, kv_heads, head_dim, vocabulary] = match shape {
        "tiny" => [64, 128, 2, 4, 2, 16, 1024],
        "qwen3-0.6b" => [1024, 3072, 28, 16, 8, 128, 151_936],
        "qwen3-4b" => [2560, 9728, 36, 32, 8, 128, 151_936],
        other => return Err(format!("--shape {other}: tiny, qwen3-0.6b or qwen3-4b").into()),
    };
    let folder = tempfile::tempdir()?;
    let config = json!({
        "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "vocab_size": vocabulary, "hidden_size": hidden,
        "intermediate_size": intermediate, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "head_dim": head_dim, "max_position_embeddings": 32_768, "rope_theta": 1e6, "rms_norm_eps": 1e-6, "hidden_act": "silu",
        "attention_bias": false, "tie_word_embeddings": true, "eos_token_id": 2,
    });
    std::fs::write(folder.path().join("config.json"), config.to_string())?;
    let words: serde_json::Map<_, _> = (0..WORDS).map(|word| (format!("t{word}"), word.into())).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null, "post_processor": null, "decoder": null,
        "pre_tokenizer": { "type": "WhitespaceSplit" }, "model": { "type": "WordLevel", "vocab": words, "unk_token": "t0" },
    });
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string())?;
    let config = Config::open(folder.path())?;
    let decoder = Decoder::new(&config, &mut |name, shape| {
        if name.ends_with("norm.weight") {
            return Ok(Tensor::f_ones(shape, (kind, device))?);
        }
        Ok(Tensor::f_randn(shape, (kind, device))? * 0.02)
    })?;
    Ok(Model::from_parts(config, decoder, Some(Tokenizer::open(folder.path())?), device))
}

/// Responses of random words to random words, and the first again as a dev set.
fn responses(samples: usize, prompt: usize, response: usize) -> Result<Responses> {
    let word = |place: usize| (place * 7919 % (WORDS - 10) + 10) as u32;
    let row = |index: usize| {
        let tokens: Vec<u32> = (0..prompt + response).map(|place| word((index % samples) * 1000 + place)).collect();
        let (query, answer) = tokens.split_at(prompt);
        let text = |ids: &[u32]| ids.iter().map(|id| format!("t{id}")).collect::<Vec<_>>().join(" ");
        Response {
            prompt: Prompt { demonstrations: Vec::new(), example: Example::new(text(query), text(answer)), index },
            tokens: Sample { prompt: query.to_vec(), response: answer.to_vec() },
            text: text(answer),
            ending: Ending::Length,
            close_calls: 0,
        }
    };
    Ok(Responses::from_rows(AnswerForm::free(), (0..samples).map(row).chain([row(samples)]).collect()))
}

/// The samples as a split whose dev set is their first.
fn split(responses: &Responses) -> Result<Split> {
    let rows: Vec<Example> = responses.rows().iter().map(|row| row.prompt.example.clone()).collect();
    let examples = Examples::new("random", AnswerForm::free(), rows[..rows.len() - 1].to_vec())?;
    let mut split = Task::of(examples.clone(), Card::default()).few_shot(1, 0)?;
    (split.dev, split.train) = (examples.take(1), examples);
    Ok(split)
}

fn option(name: &str) -> Option<String> {
    let arguments: Vec<String> = std::env::args().collect();
    arguments.iter().position(|argument| argument == name).and_then(|place| arguments.get(place + 1).cloned())
}
