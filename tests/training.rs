//! Adapters, objectives and the training loop against PEFT and PyTorch (`tests/golden/training`), in f64.

mod common;

use std::collections::HashMap;

use common::{apart, difference, golden, golden_folder, rows};
use ia2::Result;
use ia2::activations::Activations;
use ia2::dataset::Split;
use ia2::model::{Ending, Response, Sample};
use ia2::objective::{Objective, Outputs, Samples};
use ia2::prelude::*;
use ia2::prompt::{AnswerForm, Example, Examples, Prompt};

const CHECKPOINTS: [&str; 2] = ["llama_grouped_tied", "qwen3_grouped_tied"];

/// An objective of the library on token ids of the test's choosing: the golden checkpoints have no tokenizer.
#[derive(Debug)]
struct Given<O> {
    objective: O,
    samples: Vec<Sample>,
}

impl<O: Objective> Objective for Given<O> {
    fn name(&self) -> String {
        self.objective.name()
    }
    fn samples(&self, _model: &Model, _split: &Split) -> Result<Samples> {
        // The dev set is the train set again: a dev loss is the train loss after the step.
        Ok(Samples { rows: [self.samples.clone(), self.samples.clone()].concat(), train: self.samples.len() })
    }
    fn hook_points(&self) -> &[String] {
        self.objective.hook_points()
    }
    fn needs_logits(&self) -> bool {
        self.objective.needs_logits()
    }
    fn losses(&self, examples: &[usize], outputs: &Outputs) -> Result<Vec<Tensor>> {
        let examples: Vec<usize> = examples.iter().map(|example| example % self.samples.len()).collect();
        self.objective.losses(&examples, outputs)
    }
    fn identity(&self) -> Vec<u8> {
        self.objective.identity()
    }
}

fn golden_samples(golden: &HashMap<String, Tensor>) -> Vec<Sample> {
    let tokens = rows(&golden["input_ids"], &golden["lengths"]);
    let prompts: Vec<i64> = (&golden["prompt_lengths"]).try_into().unwrap();
    tokens
        .iter()
        .zip(prompts)
        .map(|(row, cut)| {
            let (prompt, response) = row.split_at(cut as usize);
            Sample { prompt: prompt.to_vec(), response: response.to_vec() }
        })
        .collect()
}

fn some_split() -> Result<Split> {
    let rows = (0..12).map(|i| Example::new(format!("q{i}"), "g")).collect();
    let task = ia2::dataset::Task::of(Examples::new("any", AnswerForm::free(), rows)?, Default::default());
    task.few_shot(4, 0)
}

fn ia2(golden: &HashMap<String, Tensor>, layers: i64) -> Result<Given<Ia2>> {
    let samples = golden_samples(golden);
    let response = |(index, tokens): (usize, &Sample)| Response {
        prompt: Prompt { demonstrations: Vec::new(), example: Example::new(format!("q{index}"), "g"), index },
        tokens: tokens.clone(),
        text: String::new(),
        ending: Ending::Length,
        close_calls: 0,
    };
    let responses = Responses::from_rows(AnswerForm::free(), samples.iter().enumerate().map(response).collect());
    let points = (0..layers).map(|layer| format!("model.layers.{layer}.self_attn")).collect();
    let target = Activations::new(golden["targets"].to_kind(Kind::Double), points, responses)?;
    Ok(Given { objective: Ia2::toward(&target), samples })
}

fn sft(golden: &HashMap<String, Tensor>) -> Given<Sft> {
    Given { objective: Sft::gold(), samples: golden_samples(golden) }
}

#[test]
fn pefts_adapter_gives_pefts_logits_and_survives_a_round_trip() -> Result<()> {
    for name in CHECKPOINTS {
        let golden = golden(&format!("training/{name}/golden.safetensors"))?;
        let model = Model::open(golden_folder(name))?;
        let adapter = Adapter::open(golden_folder(&format!("training/{name}/adapter")), &model)?;
        let prompts = rows(&golden["input_ids"], &golden["lengths"]);
        let lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
        let logits = model.with(&adapter)?.forward(&prompts)?.values;
        let distance = difference(&logits, &golden["logits"], &lengths);
        assert!(distance < 1e-5, "{name}: {distance:.1e}");
        assert!(difference(&model.forward(&prompts)?.values, &golden["logits"], &lengths) > 1e-3, "the adapter does nothing");

        let folder = tempfile::tempdir().unwrap();
        adapter.save(folder.path().join("adapter"))?;
        let again = Adapter::open(folder.path().join("adapter"), &model)?;
        assert_eq!(model.with(&again)?.forward(&prompts)?.values, logits);
    }
    Ok(())
}

#[test]
fn an_interrupted_training_continues_to_the_same_bits() -> Result<()> {
    let name = CHECKPOINTS[1];
    let golden = golden(&format!("training/{name}/golden.safetensors"))?;
    let model = Model::open(golden_folder(name))?;
    let split = some_split()?;
    let folder = tempfile::tempdir().unwrap();
    let training = || Training::new(Lora::rank(4), sft(&golden)).batch(2).epochs(6).seed(3).check_every(2);
    let whole = training().run(&model, &split)?;
    let file = folder.path().join("run.safetensors");
    let part = training().checkpoint(&file).at_most_steps(5).run(&model, &split)?;
    assert_eq!(part.steps(), 5);
    let rest = training().checkpoint(&file).run(&model, &split)?;
    assert_eq!(rest.steps(), whole.steps());
    let bits = |trained: &Trained| -> Result<Vec<u8>> {
        trained.adapter().save(folder.path().join("adapter"))?;
        Ok(std::fs::read(folder.path().join("adapter/adapter_model.safetensors")).unwrap())
    };
    assert_eq!(bits(&rest)?, bits(&whole)?);
    assert_ne!(bits(&part)?, bits(&whole)?);
    // A finished run is not trained again.
    assert_eq!(bits(&training().checkpoint(&file).run(&model, &split)?)?, bits(&whole)?);
    // Another run's file is refused and left alone.
    let before = std::fs::read(&file).unwrap();
    let error = training().seed(4).checkpoint(&file).run(&model, &split).unwrap_err();
    assert!(error.is_input() && error.to_string().contains("another run"), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), before);
    Ok(())
}

#[test]
fn the_best_weights_on_dev_are_restored() -> Result<()> {
    // A rate so high that the loss only grows after some steps: the last weights are not the best.
    let golden = golden(&format!("training/{}/golden.safetensors", CHECKPOINTS[0]))?;
    let model = Model::open(golden_folder(CHECKPOINTS[0]))?;
    let split = some_split()?;
    let trained = Training::new(Lora::rank(4), sft(&golden)).learning_rate(0.5).batch(3).epochs(30).check_every(1).run(&model, &split)?;
    let history = trained.history()?;
    let dev: Vec<f64> = history.column("dev_loss").unwrap().f64().unwrap().into_no_null_iter().collect();
    let best = trained.dev_loss().unwrap();
    assert!(dev.iter().all(|&loss| loss >= best) && *dev.last().unwrap() > best, "{dev:?}");
    // Train again from the restored weights with a rate too small to change them: the first loss is the best dev loss.
    let again = Training::from_adapter(trained.adapter(), sft(&golden))?.learning_rate(1e-12).batch(3).epochs(1).run(&model, &split)?;
    let first = again.history()?.column("train_loss").unwrap().f64().unwrap().get(0).unwrap();
    assert!((first - best).abs() < 1e-5 * best, "{first} and {best}");
    Ok(())
}

#[test]
fn a_fresh_adapter_changes_nothing_and_gradients_reach_only_its_own_parameters() -> Result<()> {
    for name in CHECKPOINTS {
        let model = Model::open(golden_folder(name))?;
        let adapter = Adapter::new(&model, Lora::rank(2).sites("q_proj, v_proj, down_proj"), 1)?;
        let prompts = [vec![1, 7, 9, 12], vec![1, 3]];
        assert_eq!(model.with(&adapter)?.forward(&prompts)?.values, model.forward(&prompts)?.values);
        let before = model.forward(&prompts)?.values;
        let golden = golden(&format!("training/{name}/golden.safetensors"))?;
        let trained = Training::new(Lora::rank(2), sft(&golden)).epochs(2).run(&model, &some_split()?)?;
        assert_ne!(trained.model().forward(&prompts)?.values, before);
        assert_eq!(model.forward(&prompts)?.values, before, "training changed the base model");
    }
    Ok(())
}

#[test]
fn editors_work_in_training_and_silence_is_an_error() -> Result<()> {
    let golden = golden(&format!("training/{}/golden.safetensors", CHECKPOINTS[0]))?;
    let model = Model::open(golden_folder(CHECKPOINTS[0]))?;
    let split = some_split()?;
    let training = || Training::new(Lora::rank(2), sft(&golden)).epochs(1);
    let plain = training().run(&model, &split)?.dev_loss();
    let mut hooks = Hooks::new();
    hooks.edit("model.layers.0.self_attn", |_, value| Ok(Some(value * 0.0)));
    let patched = training().run_with(&model, &split, &mut hooks)?.dev_loss();
    assert_ne!(plain, patched);
    let mut hooks = Hooks::new();
    hooks.edit("model.layers.0.self_attn", |_, _| Ok(None));
    assert!(training().run_with(&model, &split, &mut hooks).unwrap_err().to_string().contains("never replaced"));
    let mut hooks = Hooks::new();
    hooks.edit("model.layers.0.self_attn", |_, value| Ok(Some(value * f64::NAN)));
    let error = training().run_with(&model, &split, &mut hooks).unwrap_err();
    assert!(error.is_numeric() && error.to_string().contains("after 0 steps"), "{error}");
    Ok(())
}

#[test]
fn every_kind_of_adapter_takes_pefts_steps() -> Result<()> {
    let mut compared = 0;
    for name in CHECKPOINTS {
        let samples = golden(&format!("training/{name}/golden.safetensors"))?;
        let steps = golden(&format!("training/{name}/steps.safetensors"))?;
        let model = OpenOptions::new().kind(Kind::Double).open(golden_folder(name))?;
        for case in ["lora_all_sites", "lora_rs", "dora", "ia3", "ia3_authors", "prompt", "prefix", "cartridge"] {
            let start = Adapter::open(golden_folder(&format!("adapters/{name}/{case}")), &model)?;
            // The weights after the last step, not those that were best.
            let training = Training::from_adapter(&start, sft(&samples))?.learning_rate(1e-2).batch(3).epochs(5).compat(Compat::Paper);
            let trained = training.run(&model, &some_split()?)?;
            let folder = tempfile::tempdir().unwrap();
            trained.save(folder.path())?;
            let ours = Tensor::read_safetensors(folder.path().join("adapter_model.safetensors"))?;
            for (key, ours) in &ours {
                let distance = apart(ours, &steps[&format!("{case}.after.{key}")]);
                assert!(distance < 1e-5, "{name} {case} {key}: {distance:.1e}");
                compared += 1;
            }
            let history = trained.history()?;
            let losses: Vec<f64> = history.column("train_loss")?.f64()?.into_no_null_iter().collect();
            let theirs = Vec::<f64>::try_from(&steps[&format!("{case}.losses")])?;
            assert_eq!(losses.len(), theirs.len());
            assert!(
                losses.iter().zip(&theirs).all(|(ours, theirs)| (ours - theirs).abs() < 1e-8 * theirs),
                "{name} {case}: {losses:?} {theirs:?}"
            );
        }
    }
    let tensors = |case: &str| case.contains(".after.");
    let all =
        CHECKPOINTS.map(|name| golden(&format!("training/{name}/steps.safetensors")).unwrap().keys().filter(|key| tensors(key)).count());
    assert_eq!(compared, all.iter().sum::<usize>());
    Ok(())
}

/// Asks for what is not `[example, token, hidden]`.
#[derive(Debug)]
struct Elsewhere(Given<Sft>, Vec<String>);

impl Objective for Elsewhere {
    fn name(&self) -> String {
        "elsewhere".into()
    }
    fn samples(&self, model: &Model, split: &Split) -> Result<Samples> {
        self.0.samples(model, split)
    }
    fn hook_points(&self) -> &[String] {
        &self.1
    }
    fn needs_logits(&self) -> bool {
        true
    }
    fn losses(&self, examples: &[usize], outputs: &Outputs) -> Result<Vec<Tensor>> {
        self.0.losses(examples, outputs)
    }
}

#[test]
fn an_objective_reads_hidden_values_only() -> Result<()> {
    let golden = golden(&format!("training/{}/golden.safetensors", CHECKPOINTS[1]))?;
    let model = Model::open(golden_folder(CHECKPOINTS[1]))?;
    for path in ["model.layers.1.self_attn.q_norm", "model.layers.1.self_attn.pattern", "lm_head", "model.layers.9.mlp"] {
        let training = Training::new(Lora::rank(2), Elsewhere(sft(&golden), vec![path.into()]));
        common::refused(training.run(&model, &some_split()?), &[path]);
    }
    Training::new(Lora::rank(2), Elsewhere(sft(&golden), vec!["model.layers.1.self_attn.q_proj".into()]))
        .epochs(1)
        .run(&model, &some_split()?)?;
    Ok(())
}

#[test]
fn adapters_that_do_not_fit_are_refused_by_name() -> Result<()> {
    let model = Model::open(golden_folder(CHECKPOINTS[0]))?;
    let other = Model::open(golden_folder(CHECKPOINTS[1]))?;
    let text = |result: Result<Adapter>| result.unwrap_err().to_string();
    assert!(text(Adapter::new(&model, Lora::rank(0), 0)).contains("rank"));
    assert!(text(Adapter::new(&model, Lora::rank(99), 0)).contains("exceeds the widths"));
    assert!(text(Adapter::new(&model, Lora::rank(2).sites("q_porj"), 0)).contains("q_porj"));
    assert!(other.with(&Adapter::new(&model, Lora::rank(2), 0)?).unwrap_err().to_string().contains("does not fit"));
    let folder = golden_folder(&format!("training/{}/adapter", CHECKPOINTS[0]));
    assert!(text(Adapter::open(&folder, &other)).contains("wrong base model"));
    assert!(text(Adapter::open(golden_folder("nowhere"), &model)).contains("adapter_config.json"));

    let copy = tempfile::tempdir().unwrap();
    let config = std::fs::read_to_string(folder.join("adapter_config.json")).unwrap();
    std::fs::write(copy.path().join("adapter_config.json"), config.replace("\"use_dora\": false", "\"use_dora\": true")).unwrap();
    std::fs::copy(folder.join("adapter_model.safetensors"), copy.path().join("adapter_model.safetensors")).unwrap();
    assert!(text(Adapter::open(copy.path(), &model)).contains("lora_magnitude_vector"));
    std::fs::write(copy.path().join("adapter_config.json"), &config).unwrap();
    let bytes = std::fs::read(folder.join("adapter_model.safetensors")).unwrap();
    std::fs::write(copy.path().join("adapter_model.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
    assert!(text(Adapter::open(copy.path(), &model)).contains("truncated"));
    Ok(())
}

#[test]
fn a_batch_in_several_forwards_steps_as_in_one() -> Result<()> {
    for name in CHECKPOINTS {
        let golden = golden(&format!("training/{name}/golden.safetensors"))?;
        let model = OpenOptions::new().kind(Kind::Double).open(golden_folder(name))?;
        let folder = tempfile::tempdir().unwrap();
        // The examples read 6, 14 and 25 tokens: one forward, two, and three.
        let mut weights = Vec::new();
        for tokens in [75, 28, 1] {
            let training = Training::new(Lora::rank(4), ia2(&golden, model.config().layers)?).batch(3).epochs(5).tokens_per_forward(tokens);
            training.run(&model, &some_split()?)?.adapter().save(folder.path())?;
            let tensors = Tensor::read_safetensors(folder.path().join("adapter_model.safetensors"))?;
            weights.push(tensors.into_iter().collect::<HashMap<_, _>>());
        }
        for other in &weights[1..] {
            for (key, one) in &weights[0] {
                let distance = apart(&other[key], one);
                assert!(distance < 1e-9, "{name} {key}: {distance:.1e}");
            }
        }
    }
    let error = Training::new(Lora::rank(4), Sft::gold()).tokens_per_forward(0);
    let model = Model::open(golden_folder(CHECKPOINTS[0]))?;
    assert!(error.run(&model, &some_split()?).unwrap_err().to_string().contains("tokens_per_forward is 0"));
    Ok(())
}
