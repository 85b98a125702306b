//! IA2 and SFT against PyTorch on the families that differ most (`tests/golden/families/*/steps`), and IA2 on the real model.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::parity_tests::{GRADIENT_IN_F32, Given, Golden, TOLERANCE, apart, folder, losses, open, responses_to, samples, some_split};
use super::*;
use crate::activations::Activations;
use crate::adapter::{Adapter, Lora};
use crate::libtorch::guarded;
use crate::train::{Optimizer, Training};

const CASES: [&str; 3] = ["gemma3_text", "gpt2", "gpt_neox"];

fn golden(case: &str) -> Golden {
    Tensor::read_safetensors(folder(&format!("families/{case}/steps/golden.safetensors"))).unwrap().into_iter().collect()
}

fn objective(name: &str, golden: &Golden, kind: Kind) -> Result<Box<dyn Objective>> {
    let responses = responses_to(&samples(golden));
    if name == "sft" {
        return Ok(Box::new(Sft::on(&responses)));
    }
    let values = golden["self_attn"].to_kind(kind);
    let points = (0..values.size()[1]).map(|layer| format!("model.layers.{layer}.self_attn")).collect();
    Ok(Box::new(Ia2::toward(&Activations::new(values, points, responses)?)))
}

/// Each tensor of the adapter's files by PEFT's key: how the family's own names are mapped is a part of what is compared.
fn by_key(adapter: &Adapter, flat: &Tensor) -> Vec<(String, Tensor)> {
    let mut start = 0;
    let entries = adapter.parameters().entries().iter().map(|(name, parameter)| {
        let count = parameter.numel() as i64;
        start += count;
        (adapter.key(name), flat.narrow(0, start - count, count).view(parameter.size().as_slice()))
    });
    entries.collect()
}

#[test]
fn losses_and_gradients_are_pytorchs_and_so_are_five_adamw_steps() -> Result<()> {
    for case in CASES {
        let golden = golden(case);
        let (model, exact) =
            (open(&format!("families/{case}"), Kind::Float, Device::Cpu), open(&format!("families/{case}"), Kind::Double, Device::Cpu));
        let place = folder(&format!("families/{case}/steps/adapter"));
        let adapter = Adapter::open(&place, &model)?;
        for (name, packed) in [("sft", false), ("sft", true), ("ia2", false), ("ia2", true)] {
            let losses = losses(objective(name, &golden, Kind::Float)?.as_ref(), &model.with(&adapter)?, &samples(&golden), packed)?;
            let distance = apart(&losses, &golden[&format!("{name}.example_losses")]);
            println!("{case} {name}: losses {distance:.1e} apart");
            assert!(distance < TOLERANCE, "{case} {name} packed {packed} losses: {distance:.1e}");
            let gradients = by_key(&adapter, &adapter.parameters().gradient(&losses.mean(None))?);
            let theirs = golden.keys().filter(|key| key.starts_with(&format!("{name}.gradient."))).count();
            assert_eq!(gradients.len(), theirs, "{case}");
            for (key, ours) in gradients {
                let theirs = &golden[&format!("{name}.gradient.{key}")];
                // What lies behind all that IA2 compares has none.
                let distance = if theirs.count_nonzero(None).int64_value(&[]) == 0 {
                    ours.abs().max().double_value(&[])
                } else {
                    apart(&ours, theirs)
                };
                // Of a key's norm little is left where a softmax takes differences: 3.0e-5 in Gemma 3 here, and 1e-10 in f64 below.
                assert!(distance < 2.5 * GRADIENT_IN_F32, "{case} {name} packed {packed} gradient of {key}: {distance:.1e}");
            }
            if packed {
                continue;
            }

            let start = Adapter::open(&place, &exact)?;
            let given = Given(objective(name, &golden, Kind::Double)?, samples(&golden));
            let training = Training::from_adapter(&start, given)?
                .optimizer(Optimizer::adamw(0.1))
                .learning_rate(1e-2)
                .batch(3)
                .epochs(5)
                .check_every(1);
            let trained = training.run(&exact, &some_split()?)?;
            let history = trained.history()?;
            let column = |name: &str| history.column(name).unwrap().f64().unwrap().into_no_null_iter().collect::<Vec<_>>();
            let (train, dev) = (column("train_loss"), column("dev_loss"));
            let expected: Vec<f64> = (&golden[&format!("{name}.losses")]).try_into().unwrap();
            for step in 0..5 {
                assert!((train[step] - expected[step]).abs() < TOLERANCE * expected[step], "{case} {name} step {step}");
                assert!((dev[step] - expected[step + 1]).abs() < TOLERANCE * expected[step + 1], "{case} {name} dev {step}");
            }
            for (key, ours) in by_key(trained.adapter(), trained.adapter().parameters().flat()) {
                let distance = apart(&ours, &golden[&format!("{name}.after.{key}")]);
                assert!(distance < TOLERANCE, "{case} {name} {key}: {distance:.1e}");
            }
        }
    }
    Ok(())
}

/// `wave` of tests/python/golden_smollm2.py.
fn wave(shape: &[i64], frequency: f64, phase: f64, size: f64) -> Tensor {
    let places = Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu));
    ((places * frequency + phase).sin() * size).to_kind(Kind::Float).view(shape)
}

#[test]
fn ia2_on_the_real_model_is_pytorchs() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if !root.join(".ia2/models/smollm2").is_dir() {
        crate::skipped("the model smollm2 is absent: `cargo xtask model smollm2` fetches it");
        return Ok(());
    }
    let golden: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(root.join("tests/data/smollm2_ia2.json")).unwrap()).unwrap();
    let ids = |key: &str| -> Vec<u32> { serde_json::from_value(golden[key].clone()).unwrap() };
    // In f64: thirty layers of f32 leave 6e-5 of rounding in the gradients.
    let model = crate::model::OpenOptions::new().kind(Kind::Double).open("smollm2")?;
    let adapter = Adapter::new(&model, Lora::rank(2).alpha(4.0).sites("q_proj, k_proj, o_proj"), 0)?;
    let mut names: Vec<&String> = adapter.parameters().entries().iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    let start = adapter.parameters().entries().iter().map(|(name, parameter)| {
        let index = names.binary_search(&name).unwrap() as f64;
        wave(&parameter.size(), 7.31, index, if name.contains("lora_A") { 0.06 } else { 0.03 }).view([-1]).to_kind(Kind::Double)
    });
    adapter.parameters().set(&Tensor::cat(&start.collect::<Vec<_>>(), 0))?;

    let sample = Sample { prompt: ids("prompt"), response: ids("response") };
    let (layers, tokens) = (model.config().layers, sample.response.len() as i64);
    let targets = wave(&[1, layers, tokens, model.config().hidden_size], 0.37, 1.0, 0.2).to_kind(Kind::Double);
    let points = (0..layers).map(|layer| format!("model.layers.{layer}.self_attn")).collect();
    let responses = responses_to(std::slice::from_ref(&sample));
    let ia2 = Ia2::toward(&Activations::new(targets, points, responses)?);
    let loss = losses(&ia2, &model.with(&adapter)?, &[sample], false)?.mean(None);
    let distance = (loss.double_value(&[]) / golden["loss"].as_f64().unwrap() - 1.0).abs();
    assert!(distance < 1e-8, "loss: {distance:.1e}");
    let flat = guarded("a gradient", || adapter.parameters().gradient(&loss))?;
    let (mut start, mut worst) = (0, 0f64);
    for (name, parameter) in adapter.parameters().entries() {
        let count = parameter.numel() as i64;
        let ours = flat.narrow(0, start, count).to_kind(Kind::Double);
        start += count;
        let [norm, product] = [0, 1].map(|place| golden["gradients"][name][place].as_f64().unwrap());
        let along = (&ours * wave(&[count], 0.11, 0.0, 1.0)).sum(None).double_value(&[]);
        worst = worst.max((ours.norm().double_value(&[]) - norm).abs() / norm).max((along - product).abs() / norm);
    }
    crate::agrees("IA2's loss on SmolLM2-135M, f64", distance);
    crate::agrees("its gradients there, f64", worst);
    assert!(worst < 1e-7, "gradients: {worst:.1e}");
    Ok(())
}
