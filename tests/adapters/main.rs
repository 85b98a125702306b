//! Every kind of adapter: against PEFT (`tests/golden/adapters`, `tests/python/check_adapters.py`), and the laws that hold for each.

mod cartridge;
#[path = "../common/mod.rs"]
mod common;
mod files;
mod peft;

use std::path::{Path, PathBuf};

use common::{difference, disturbed, golden, golden_folder, read, refused, rows};
use ia2::Result;
use ia2::adapter::{AdapterConfig, KINDS, Start};
use ia2::dataset::Card;
use ia2::prelude::*;
use ia2::prompt::AnswerForm;
use peft::{peft_cases, peft_kind};

const CHECKPOINTS: [&str; 3] = ["llama_grouped_tied", "qwen3_grouped_tied", "llama_biases"];

/// One of each kind, and of each way in which a kind can act; on any model of two layers and more.
fn configs() -> Vec<AdapterConfig> {
    vec![
        Lora::rank(2).sites("q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj").into(),
        Lora::rank(3)
            .alpha(5.0)
            .rank_stabilised()
            .sites("q_proj, up_proj")
            .layers([1])
            .rank_at("q_proj", 1)
            .alpha_at("up_proj", 2.0)
            .into(),
        Dora::of(Lora::rank(2).alpha(3.0).sites("q_proj, v_proj, down_proj")).into(),
        Ia3::new().into(),
        Ia3::new().sites("k_proj, v_proj, down_proj").scale_inputs("down_proj").into(),
        Ia3::new().compat(Compat::Paper).into(),
        PromptTuning::tokens(5).into(),
        PrefixTuning::tokens(4).into(),
        Cartridge::of(&[1, 9, 30, 7]).into(),
    ]
}

fn has_virtual_tokens(config: &AdapterConfig) -> bool {
    ["PROMPT_TUNING", "PREFIX_TUNING", "CARTRIDGE"].contains(&config.peft_type())
}

fn open(name: &str, kind: Kind) -> Result<Model> {
    OpenOptions::new().kind(kind).open(golden_folder(name))
}

fn prompts() -> Vec<Vec<u32>> {
    vec![vec![1, 7, 9, 12, 33, 2, 8], vec![1, 3], vec![1, 40, 41, 42]]
}

/// Logits at the real tokens, `[token, vocab]`, of each prompt by itself.
fn logits(model: &Model) -> Result<Tensor> {
    let each = prompts().into_iter().map(|row| Ok(model.forward(&[row])?.values.squeeze_dim(0))).collect::<Result<Vec<_>>>()?;
    Ok(Tensor::cat(&each, 0))
}

fn apart(ours: &Tensor, theirs: &Tensor) -> f64 {
    let (ours, theirs) = (ours.to_kind(Kind::Double), theirs.to_kind(Kind::Double));
    assert_eq!(ours.size(), theirs.size());
    let distance = (ours - &theirs).abs().max().double_value(&[]) / theirs.abs().max().double_value(&[]);
    if distance.is_nan() { f64::INFINITY } else { distance }
}

#[test]
fn every_kind_is_tested() {
    for kind in KINDS {
        assert!(configs().iter().any(|config| config.kind() == *kind), "{kind} has no configuration in `configs`");
        let cases = peft_cases("llama_biases");
        assert!(cases.iter().any(|case| peft_kind(case) == *kind), "{kind} has no golden adapter");
    }
}

#[test]
fn fresh_adapters_start_where_they_say() -> Result<()> {
    for checkpoint in CHECKPOINTS {
        let model = open(checkpoint, Kind::Float)?;
        let base = logits(&model)?;
        let started = |config: AdapterConfig, seed: u64| logits(&model.with(&Adapter::new(&model, config, seed)?)?);
        for config in configs() {
            assert_eq!(started(config.clone(), 5)?, started(config.clone(), 5)?, "the same seed gives another {}", config.name());
            if config.peft_type() == "CARTRIDGE" {
                assert_eq!(started(config.clone(), 5)?, started(config.clone(), 6)?, "nothing is drawn");
                assert!(apart(&started(config.clone(), 5)?, &base) > 1e-3);
            } else if has_virtual_tokens(&config) {
                assert!(apart(&started(config.clone(), 5)?, &started(config.clone(), 6)?) > 1e-3, "the seed is not used");
            } else if config.kind() == "LORA" {
                assert_eq!(started(config.clone(), 5)?, base, "{} is not the base model at its start", config.name());
            } else {
                // These compute a module by itself that the base model computes joined with others: the last bits may differ.
                assert!(apart(&started(config.clone(), 5)?, &base) < 1e-5, "{} is not the base model at its start", config.name());
            }
        }
        // Virtual tokens: none are the base model; a prefix starts as the keys and values of the prompt that starts with the same seed.
        for none in [AdapterConfig::from(PromptTuning::tokens(0)), PrefixTuning::tokens(0).into(), Cartridge::of(&[]).frozen(0).into()] {
            let adapter = Adapter::new(&model, none, 0)?;
            assert_eq!((adapter.count(), logits(&model.with(&adapter)?)?), (0, base.shallow_clone()));
            let folder = tempfile::tempdir().unwrap();
            adapter.save(folder.path())?;
            assert_eq!(logits(&model.with(&Adapter::open(folder.path(), &model)?)?)?, base);
        }
        for start in [Start::Vocabulary, Start::Random] {
            let prompt = started(PromptTuning::tokens(6).start(start.clone()).into(), 2)?;
            let prefix = started(PrefixTuning::tokens(6).start(start.clone()).into(), 2)?;
            assert!(apart(&prefix, &prompt) < 1e-5 && apart(&prompt, &base) > 1e-3, "{start:?}");
        }
    }
    Ok(())
}

#[test]
fn virtual_tokens_start_as_embeddings() -> Result<()> {
    let model = common::speaking("llama_grouped_tied");
    let table = &read(golden_folder("llama_grouped_tied/model.safetensors"))?
        .into_iter()
        .find(|(name, _)| name == "model.embed_tokens.weight")
        .unwrap()
        .1;
    let values = |start: Start| -> Result<Tensor> {
        let folder = tempfile::tempdir().unwrap();
        Adapter::new(&model, PromptTuning::tokens(40).start(start), 1)?.save(folder.path())?;
        Ok(read(folder.path().join("adapter_model.safetensors"))?.remove(0).1)
    };
    let text = values(Start::Text("t5 t9 t60".into()))?;
    for (row, id) in [5i64, 9, 60, 5, 9].into_iter().enumerate() {
        assert_eq!(text.get(row as i64), table.get(id), "row {row}");
    }
    let drawn = values(Start::Vocabulary)?;
    let same = drawn.unsqueeze(1).eq_tensor(&table.unsqueeze(0)).all_dim(2, false);
    assert_eq!(Vec::<i64>::try_from(same.sum_dim_intlist([1i64].as_slice(), false, Kind::Int64)).unwrap(), [1; 40]);
    assert!(same.sum_dim_intlist([0i64].as_slice(), false, Kind::Int64).max().int64_value(&[]) == 1, "a token twice");
    let (random, expected) = (values(Start::Random)?, table.std(false).double_value(&[]));
    // 960 draws: five standard errors of a standard deviation.
    assert!((random.std(false).double_value(&[]) / expected - 1.0).abs() < 5.0 / (2.0 * 960f64).sqrt());
    assert!(random.mean(None).double_value(&[]).abs() < 5.0 * expected / 960f64.sqrt());
    refused(Adapter::new(&model, PromptTuning::tokens(65), 0), &["65", "64"]);
    refused(
        Adapter::new(&open("llama_grouped_tied", Kind::Float)?, PromptTuning::tokens(3).start(Start::Text("t1".into())), 0),
        &["tokenizer"],
    );
    Ok(())
}

/// The parameters as they are saved.
fn parameters(adapter: &Adapter) -> Result<Vec<(String, Tensor)>> {
    let folder = tempfile::tempdir().unwrap();
    adapter.save(folder.path())?;
    read(folder.path().join("adapter_model.safetensors"))
}

/// A split of a task in the words of [`common::speaking`].
fn split_of_words() -> Result<Split> {
    let rows = (0..12).map(|row| Example::new(format!("t{} t{} ", row + 10, row + 20), ["t3", "t4"][row % 2])).collect();
    Task::of(Examples::new("words", AnswerForm::labels(["t3", "t4"])?, rows)?, Card::default()).few_shot(4, 0)
}

#[test]
fn training_moves_every_parameter_of_the_adapter_and_nothing_else() -> Result<()> {
    for checkpoint in CHECKPOINTS {
        let model = common::speaking(checkpoint);
        let before = logits(&model)?;
        for config in configs() {
            let start = Adapter::new(&model, config.clone(), 0)?;
            let training = Training::new(config.clone(), Sft::gold()).learning_rate(1e-2).batch(2).epochs(1);
            let trained = training.run(&model, &split_of_words()?)?;
            assert_eq!(logits(&model)?, before, "{} changed the base model", config.name());
            for ((name, old), (same, new)) in parameters(&start)?.into_iter().zip(parameters(trained.adapter())?) {
                assert!(name == same && old != new, "{checkpoint} {}: {name} did not move", config.name());
            }
        }
    }
    Ok(())
}

#[test]
fn every_kind_learns_both_objectives() -> Result<()> {
    let model = Model::open("tiny-icl")?;
    let split = Task::open("sentiment")?.test_at_most(4)?.few_shot(8, 0)?;
    let target = capture(&model, &model.respond(&split.target_prompts(256)?)?, "model.layers.*.self_attn")?;
    for config in configs() {
        let dev = |training: Training, rate: f64, epochs: u64| -> Result<f64> {
            Ok(training.learning_rate(rate).epochs(epochs).run(&model, &split)?.dev_loss().unwrap())
        };
        let objectives: [&dyn Fn() -> Training; 2] =
            [&|| Training::new(config.clone(), Sft::gold()), &|| Training::new(config.clone(), Ia2::toward(&target))];
        for training in objectives {
            let (before, after) = (dev(training(), 1e-12, 1)?, dev(training(), 3e-3, 4)?);
            assert!(after < before, "{}: dev loss {before} became {after}", config.name());
        }
    }
    Ok(())
}

#[test]
fn dropout_acts_in_training_alone() -> Result<()> {
    let model = common::speaking("llama_grouped_tied");
    let adapter = |dropout: f64| disturbed(&Adapter::new(&model, Lora::rank(2).dropout(dropout), 0)?, &model, 0.3);
    assert_eq!(logits(&model.with(&adapter(0.5)?)?)?, logits(&model.with(&adapter(0.0)?)?)?);
    let first_loss = |dropout: f64| -> Result<f64> {
        tch::manual_seed(1);
        let training = Training::from_adapter(&adapter(dropout)?, Sft::gold())?.learning_rate(1e-9).batch(4).epochs(1).check_every(1);
        Ok(training.run(&model, &split_of_words()?)?.history()?.column("train_loss")?.f64()?.get(0).unwrap())
    };
    assert_ne!(first_loss(0.5)?, first_loss(0.0)?);
    refused(Adapter::new(&model, Lora::rank(2).dropout(1.0), 0), &["dropout 1"]);
    Ok(())
}

#[test]
fn adapters_are_swapped_and_settings_are_stored() -> Result<()> {
    let model = open("qwen3_grouped_tied", Kind::Float)?;
    let adapters =
        configs().into_iter().map(|config| disturbed(&Adapter::new(&model, config, 3)?, &model, 0.3)).collect::<Result<Vec<_>>>()?;
    let alone = adapters.iter().map(|adapter| logits(&model.with(adapter)?)).collect::<Result<Vec<_>>>()?;
    let mut changed = model.clone();
    for (adapter, alone) in adapters.iter().zip(&alone) {
        changed = changed.with(adapter)?;
        assert_eq!(logits(&changed)?, *alone, "another adapter is left behind under {}", adapter.config().name());
        let copy = adapter.duplicate()?;
        assert_eq!(logits(&changed.with(&copy)?)?, *alone);
        assert_eq!(adapter.frame()?.height(), parameters(adapter)?.len());
        assert!(format!("{:?}", adapter.bundle()).contains(&adapter.config().name()));
    }
    assert_eq!(logits(&changed.base())?, logits(&model)?);
    for config in configs() {
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<AdapterConfig>(&text).unwrap(), config, "{text}");
    }
    Ok(())
}

#[test]
fn scaling_is_in_proportion() -> Result<()> {
    for checkpoint in CHECKPOINTS {
        let model = open(checkpoint, Kind::Double)?;
        for config in configs() {
            let adapter = disturbed(&Adapter::new(&model, config.clone(), 3)?, &model, 0.3)?;
            if has_virtual_tokens(&config) {
                refused(adapter.scaled(0.5), &["virtual tokens", "LoRA"]);
                continue;
            }
            if config.kind().contains("use_dora") {
                refused(adapter.scaled(0.5), &["magnitudes", "LoRA"]);
                continue;
            }
            let at = |factor: f64| -> Result<Tensor> { logits(&model.with(&adapter.scaled(factor)?)?) };
            let whole = logits(&model.with(&adapter)?)?;
            assert!(apart(&at(0.0)?, &logits(&model)?) < 1e-12 && apart(&at(1.0)?, &whole) < 1e-12, "{}", config.name());
            assert!(apart(&at(0.5)?, &whole) > 1e-3, "{}", config.name());
            // Half of a half is a quarter, and survives its files.
            let folder = tempfile::tempdir().unwrap();
            adapter.scaled(0.5)?.scaled(0.5)?.save(folder.path())?;
            assert!(apart(&logits(&model.with(&Adapter::open(folder.path(), &model)?)?)?, &at(0.25)?) < 1e-12, "{}", config.name());
            refused(adapter.scaled(f64::NAN), &["NaN"]);
        }
    }
    Ok(())
}

#[test]
fn an_update_is_the_product_of_its_factors() -> Result<()> {
    let model = open("qwen3_grouped_tied", Kind::Double)?;
    let lora = Lora::rank(4).alpha(6.0).rank_stabilised().sites("q_proj, o_proj").rank_at("o_proj", 2).alpha_at("o_proj", 3.0);
    let adapter = disturbed(&Adapter::new(&model, lora, 0)?, &model, 0.3)?;
    assert_eq!(adapter.sites().len() as i64, 2 * model.config().layers);
    let update = |site: &str| adapter.update(site).map(Option::unwrap);
    let (q, o) = (update("model.layers.1.self_attn.q_proj")?, update("model.layers.1.self_attn.o_proj")?);
    assert_eq!((q.scale, o.scale), (6.0 / 2.0, 3.0 / 2f64.sqrt()));
    assert_eq!((q.a.size(), q.b.size(), o.delta().size()), (vec![4, 24], vec![32, 4], vec![24, 32]));
    assert!(adapter.update("model.layers.1.self_attn.k_proj")?.is_none());
    assert!(Adapter::new(&model, Ia3::new(), 0)?.update("model.layers.1.self_attn.k_proj")?.is_none());
    // Without the factors of the others, the forward adds `scale B A` to the weight.
    let merged = adapter.merge(&model)?;
    assert!(merged.change < 1e-12, "{merged:?}");
    Ok(())
}

#[test]
fn a_merged_model_is_the_adapted_one() -> Result<()> {
    for checkpoint in CHECKPOINTS {
        let models = [(Kind::Float, 1e-4), (Kind::Double, 1e-12)];
        for (kind, most) in models {
            let model = open(checkpoint, kind)?;
            let base = logits(&model)?;
            for config in configs() {
                let adapter = disturbed(&Adapter::new(&model, config.clone(), 3)?, &model, 0.3)?;
                if has_virtual_tokens(&config) {
                    refused(adapter.merge(&model), &["virtual tokens", "with(&adapter)"]);
                    continue;
                }
                let merged = adapter.merge_on(&model, &prompts())?;
                // The report is what a comparison by hand gives.
                let (ours, adapted) = (logits(&merged.model)?, logits(&model.with(&adapter)?)?);
                let change = (ours.to_kind(Kind::Double) - adapted.to_kind(Kind::Double)).abs().max().double_value(&[]);
                assert_eq!((merged.change, merged.modules, merged.probes), (change, adapter.sites().len(), 3));
                assert!((merged.relative - apart(&ours, &adapted)).abs() < 1e-12);
                assert!(merged.relative < most, "{checkpoint} {kind:?} {}: {:.1e}", config.name(), merged.relative);
                assert_eq!((merged.model.kind(), merged.model.is_adapted(), logits(&model)?), (kind, false, base.shallow_clone()));
                let random = adapter.merge(&model)?.relative;
                assert!(random < most, "{checkpoint} {kind:?} {}: {random:.1e}", config.name());
            }
        }
    }
    // A half-precision model: merged in f32, then rounded once.
    let (half, whole) = (open("llama_bf16", Kind::BFloat16)?, open("llama_bf16", Kind::Float)?);
    for config in configs().into_iter().filter(|config| !has_virtual_tokens(config)) {
        let saved = |model: &Model| -> Result<(Vec<(String, Tensor)>, f64)> {
            let folder = tempfile::tempdir().unwrap();
            let merged = disturbed(&Adapter::new(model, config.clone(), 3)?, model, 0.3)?.merge(model)?;
            merged.model.save(folder.path())?;
            Ok((read(folder.path().join("model.safetensors"))?, merged.change))
        };
        let ((ours, change), (exact, _)) = (saved(&half)?, saved(&whole)?);
        for ((name, ours), (same, exact)) in ours.iter().zip(&exact) {
            assert!(name == same && ours.kind() == Kind::BFloat16 && *ours == exact.to_kind(Kind::BFloat16), "{}: {name}", config.name());
        }
        assert!(change > 0.0, "bf16 cannot hold this merge without loss");
    }
    let model = open(CHECKPOINTS[0], Kind::Float)?;
    let adapter = Adapter::new(&model, Lora::rank(2), 0)?;
    assert_eq!(adapter.merge(&model)?.change, 0.0);
    refused(adapter.merge_on(&model, &[]), &["at least one"]);
    refused(adapter.merge(&open(CHECKPOINTS[1], Kind::Float)?), &["does not fit"]);
    Ok(())
}

#[test]
fn generation_with_a_cache_and_batches_change_nothing() -> Result<()> {
    for checkpoint in CHECKPOINTS {
        let model = open(checkpoint, Kind::Double)?;
        // Prompts that share a prefix share a cache; ragged ones are padded.
        let alike: Vec<Vec<u32>> = (0..3).map(|tail| (4..30).chain([tail + 5, 9, 11 + tail]).collect()).collect();
        for config in configs() {
            let adapted = model.with(&disturbed(&Adapter::new(&model, config.clone(), 3)?, &model, 0.3)?)?;
            for rows in [alike.clone(), prompts()] {
                for generated in adapted.generate(&rows, &Generation::greedy(6).ignore_eos())? {
                    let mut row = generated.tokens.prompt.clone();
                    for &token in &generated.tokens.response {
                        let logits = adapted.forward(&[row.clone()])?.values.select(1, row.len() as i64 - 1);
                        assert_eq!(logits.argmax(-1, false).int64_value(&[0]), i64::from(token), "{checkpoint} {}", config.name());
                        row.push(token);
                    }
                }
            }
            let batch = adapted.forward(&prompts())?;
            let packed: Vec<Tensor> =
                batch.lengths.iter().enumerate().map(|(row, &length)| batch.values.get(row as i64).narrow(0, 0, length as i64)).collect();
            assert!(apart(&Tensor::cat(&packed, 0), &logits(&adapted)?) < 1e-12, "{checkpoint} {}", config.name());
        }
    }
    Ok(())
}

#[test]
fn hooks_count_real_tokens_whatever_the_virtual_ones() -> Result<()> {
    let model = open("qwen3_grouped_tied", Kind::Float)?;
    for config in configs() {
        let adapted = model.with(&disturbed(&Adapter::new(&model, config, 3)?, &model, 0.3)?)?;
        let mut seen = 0;
        let mut hooks = Hooks::new();
        hooks.observe("model.layers.*.self_attn, model.layers.*.mlp, lm_head", |point, value| {
            assert_eq!(Vec::<Vec<i64>>::try_from(point.positions).unwrap(), [[0, 1, 2, 3, 4, 5, 6]]);
            assert_eq!(value.size()[..2], [3, 7]);
            seen += 1;
            Ok(())
        });
        adapted.forward_with(&prompts(), &mut hooks)?;
        drop(hooks);
        assert_eq!(seen, 2 * model.config().layers + 1);
    }
    Ok(())
}

#[test]
fn half_precision_models_keep_their_adapters_in_f32() -> Result<()> {
    let (half, whole) = (open("llama_bf16", Kind::BFloat16)?, open("llama_bf16", Kind::Float)?);
    let noise = apart(&logits(&half)?, &logits(&whole)?);
    for config in configs() {
        let adapter = Adapter::new(&half, config.clone(), 3)?;
        if !has_virtual_tokens(&config) {
            assert_eq!(logits(&half.with(&adapter)?)?, logits(&half)?, "{}", config.name());
        }
        let adapter = disturbed(&adapter, &half, 0.1)?;
        let folder = tempfile::tempdir().unwrap();
        adapter.save(folder.path())?;
        for (name, tensor) in read(folder.path().join("adapter_model.safetensors"))? {
            assert_eq!(tensor.kind(), Kind::Float, "{name}");
        }
        let ours = logits(&half.with(&adapter)?)?;
        assert_eq!(ours.kind(), Kind::BFloat16);
        let distance = apart(&ours, &logits(&whole.with(&Adapter::open(folder.path(), &whole)?)?)?);
        // As far from f32 as the base model is, within what one model differs from another: of disturbed virtual tokens 3.4 times.
        assert!(distance < 5.0 * noise, "{}: {distance:.1e}, the base model {noise:.1e}", config.name());
    }
    Ok(())
}

#[test]
fn an_adapted_model_does_all_that_the_base_does() -> Result<()> {
    let model = Model::open("tiny-icl")?;
    let split = Task::open("sentiment")?.test_at_most(4)?.few_shot(4, 0)?;
    let queries = split.test.zero_shot()?;
    let base = model.respond(&queries)?;
    let plain = capture(&model, &base, "model.layers.*.self_attn")?;
    for config in configs() {
        let adapted = model.with(&disturbed(&Adapter::new(&model, config.clone(), 3)?, &model, 0.2)?)?;
        // The same tokens through the adapted model: activations belong to the same places.
        let taught = capture(&adapted, &base, "model.layers.*.self_attn")?;
        let (taught, plain) = (taught.values()?, plain.values()?);
        assert_eq!(taught.size(), plain.size(), "{}", config.name());
        assert!(apart(&taught, &plain) > 1e-3, "{}", config.name());
        assert_eq!(adapted.respond(&queries)?.len(), base.len());
        let frame = evaluate(&adapted, &queries)?;
        assert_eq!(frame.height(), queries.len());
        assert!((0.0..=1.0).contains(&accuracy(&frame)?));
    }
    Ok(())
}
