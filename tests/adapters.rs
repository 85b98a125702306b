//! Every kind of adapter: against PEFT (`tests/golden/adapters`, `tests/python/check_adapters.py`), and the laws that hold for each.

mod common;

use std::path::{Path, PathBuf};

use common::{difference, disturbed, golden, golden_folder, read, refused, rows};
use ia2::Result;
use ia2::adapter::{AdapterConfig, KINDS, Start};
use ia2::dataset::Card;
use ia2::prelude::*;
use ia2::prompt::AnswerForm;

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

/// The folders of adapters that PEFT wrote for a checkpoint.
fn peft_cases(checkpoint: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(golden_folder("adapters").join(checkpoint)).unwrap();
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    cases.sort();
    cases
}

/// Where the case's files are: an adapter with a name lies in a folder of that name.
fn files_of(case: &Path) -> PathBuf {
    if case.ends_with("lora_named") { case.join("other") } else { case.to_path_buf() }
}

/// The case's entry in [`KINDS`].
fn peft_kind(case: &Path) -> String {
    let text = std::fs::read_to_string(files_of(case).join("adapter_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&text).unwrap();
    let with = if config["use_dora"] == true { " with use_dora" } else { "" };
    format!("{}{with}", config["peft_type"].as_str().unwrap())
}

#[test]
fn pefts_adapters_give_pefts_logits_and_ours_written_again_the_same() -> Result<()> {
    let mut worst = 0f64;
    for checkpoint in CHECKPOINTS {
        let models = [Kind::Float, Kind::Double].map(|kind| open(checkpoint, kind).unwrap());
        for case in peft_cases(checkpoint) {
            let name = case.file_name().unwrap().to_str().unwrap().to_string();
            let golden = golden(&format!("adapters/{checkpoint}/{name}.safetensors"))?;
            let prompts = rows(&golden["input_ids"], &golden["lengths"]);
            let lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
            for model in &models {
                let adapter = Adapter::open(files_of(&case), model)?;
                let logits = model.with(&adapter)?.forward(&prompts)?.values;
                let distance = difference(&logits, &golden["logits"], &lengths);
                assert!(distance < 1e-5, "{checkpoint} {name}: {distance:.1e}");
                worst = worst.max(distance);
                let base = difference(&model.forward(&prompts)?.values, &golden["logits"], &lengths);
                assert!(base > 0.02, "{checkpoint} {name}: the adapter does nothing");

                let folder = tempfile::tempdir().unwrap();
                adapter.save(folder.path())?;
                let again = Adapter::open(folder.path(), model)?;
                assert_eq!(again.config().name(), adapter.config().name());
                assert_eq!(model.with(&again)?.forward(&prompts)?.values, logits, "{checkpoint} {name}");
            }
        }
    }
    println!("largest distance from PEFT {worst:.1e}");
    Ok(())
}

#[test]
fn a_round_trip_keeps_every_bit() -> Result<()> {
    for checkpoint in CHECKPOINTS {
        let model = open(checkpoint, Kind::Float)?;
        for config in configs() {
            let adapter = disturbed(&Adapter::new(&model, config.clone(), 3)?, &model, 0.3)?;
            let folder = tempfile::tempdir().unwrap();
            adapter.save(folder.path().join("a"))?;
            let again = Adapter::open(folder.path().join("a"), &model)?;
            assert_eq!(logits(&model.with(&again)?)?, logits(&model.with(&adapter)?)?, "{}", config.name());
            assert!(apart(&logits(&model.with(&adapter)?)?, &logits(&model)?) > 1e-2, "{} does nothing", config.name());
            // The second save is the first one's bytes.
            again.save(folder.path().join("b"))?;
            for file in ["adapter_config.json", "adapter_model.safetensors"] {
                let bytes = |place: &str| std::fs::read(folder.path().join(place).join(file)).unwrap();
                assert_eq!(bytes("a"), bytes("b"), "{} {file}", config.name());
            }
        }
    }
    Ok(())
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
fn a_saved_model_opens_to_the_same_bits() -> Result<()> {
    for (checkpoint, kind) in
        [("llama_biases", Kind::Float), ("llama_grouped_tied", Kind::BFloat16), ("qwen3_sharded", Kind::Float), ("qwen3_f16", Kind::Half)]
    {
        let model = open(checkpoint, kind)?;
        let merged = disturbed(&Adapter::new(&model, Lora::rank(2), 3)?, &model, 0.3)?.merge(&model)?.model;
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("deep/model");
        for _ in 0..2 {
            merged.save(&place)?;
            let again = Model::open(&place)?;
            assert_eq!((again.kind(), logits(&again)?), (kind, logits(&merged)?), "{checkpoint}");
            assert_eq!(again.config().kind, kind);
        }
        assert!(apart(&logits(&merged)?, &logits(&model)?) > 1e-2);
    }
    // What goes with it goes along; what cannot be saved says why.
    let words = common::with_words("llama_grouped_tied");
    let model = Model::open(words.path())?;
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path())?;
    assert_eq!(Model::open(folder.path())?.tokenizer()?.encode("t5 t6")?, [5, 6]);
    refused(model.save(words.path()), &["opened from", "another folder"]);
    refused(model.with(&Adapter::new(&model, Lora::rank(2), 0)?)?.save(folder.path()), &["adapter", "merge"]);
    refused(open("llama_grouped_tied", Kind::Double)?.save(folder.path()), &["Double", "Float"]);
    refused(model.save("/dev/null/model"), &["cannot", "/dev/null"]);
    std::fs::write(folder.path().join("model.safetensors.index.json"), "{}").unwrap();
    refused(model.save(folder.path()), &["shards of another model"]);
    Ok(())
}

/// What is done to the settings and tensors of a file.
type Change<'a> = dyn Fn(&mut serde_json::Value, &mut Vec<(String, Tensor)>) + 'a;

#[test]
fn what_does_not_fit_is_refused_by_name() -> Result<()> {
    let model = open("llama_grouped_tied", Kind::Float)?;
    let qwen = open("qwen3_grouped_tied", Kind::Float)?;
    for case in peft_cases("llama_grouped_tied") {
        refused(Adapter::open(files_of(&case), &qwen), &["wrong base model"]);
        let adapter = Adapter::open(files_of(&case), &model)?;
        refused(open("llama_full", Kind::Float)?.with(&adapter), &["does not fit"]);
    }
    refused(Adapter::open(golden_folder("adapters/llama_grouped_tied/lora_named"), &model), &["named adapters `other`"]);
    refused(Adapter::open(golden_folder("nowhere"), &model), &["adapter_config.json"]);

    // Each change of a file, and what the error must name.
    let spoilt = |case: &str, change: &Change<'_>| {
        let (from, folder) = (golden_folder(&format!("adapters/llama_grouped_tied/{case}")), tempfile::tempdir().unwrap());
        let mut config = serde_json::from_str(&std::fs::read_to_string(from.join("adapter_config.json")).unwrap()).unwrap();
        let mut tensors = read(from.join("adapter_model.safetensors")).unwrap();
        change(&mut config, &mut tensors);
        std::fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
        Tensor::write_safetensors(&tensors, folder.path().join("adapter_model.safetensors")).unwrap();
        Adapter::open(folder.path(), &model)
    };
    spoilt("lora_all_sites", &|_, _| {})?;
    refused(spoilt("lora_all_sites", &|config, _| config["use_dora"] = true.into()), &["missing", "lora_magnitude_vector"]);
    refused(spoilt("dora", &|config, _| config["use_dora"] = false.into()), &["unexpected", "lora_magnitude_vector"]);
    let settings: &[(&str, &str, serde_json::Value)] = &[
        ("lora_all_sites", "bias", "lora_only".into()),
        ("lora_all_sites", "lora_bias", true.into()),
        ("lora_all_sites", "fan_in_fan_out", true.into()),
        ("lora_all_sites", "modules_to_save", serde_json::json!(["lm_head"])),
        ("lora_all_sites", "init_lora_weights", "pissa".into()),
        ("lora_all_sites", "layer_replication", serde_json::json!([[0, 2]])),
        ("lora_all_sites", "trainable_token_indices", serde_json::json!([3])),
        ("lora_all_sites", "alora_invocation_tokens", serde_json::json!([3])),
        ("lora_all_sites", "something_of_tomorrow", 3.into()),
        ("lora_all_sites", "target_modules", serde_json::json!(["query"])),
        ("lora_regex", "target_modules", "model.(layers".into()),
        ("lora_patterns", "layers_pattern", "blocks".into()),
        ("lora_patterns", "rank_pattern", serde_json::json!({"o_proj": "two"})),
        ("lora_all_sites", "peft_type", "LOHA".into()),
        ("lora_all_sites", "task_type", "SEQ_CLS".into()),
        ("ia3", "fan_in_fan_out", true.into()),
        ("ia3", "feedforward_modules", serde_json::Value::Null),
        ("prompt", "num_layers", 9.into()),
        ("prompt", "num_virtual_tokens", (-1).into()),
        ("prefix", "token_dim", 24.into()),
        ("prefix", "num_transformer_submodules", 2.into()),
        ("cartridge", "num_frozen_tokens", 7.into()),
        ("cartridge", "num_frozen_tokens", 0.5.into()),
    ];
    for (case, key, value) in settings {
        refused(spoilt(case, &|config, _| config[*key] = value.clone()), &[key]);
    }
    for case in ["lora_all_sites", "ia3", "prompt", "prefix", "cartridge"] {
        let first = read(golden_folder(&format!("adapters/llama_grouped_tied/{case}/adapter_model.safetensors")))?.remove(0).0;
        refused(spoilt(case, &|_, tensors| tensors.retain(|(name, _)| *name != first)), &["missing", &first]);
        refused(spoilt(case, &|_, tensors| tensors.push(("stray.weight".into(), Tensor::from(1.0)))), &["unexpected", "stray.weight"]);
        let short = |tensors: &mut Vec<(String, Tensor)>| {
            tensors.iter_mut().for_each(|(_, values)| *values = values.narrow(-1, 0, values.size()[1] - 1).copy())
        };
        if case != "ia3" {
            refused(spoilt(case, &|_, tensors| short(tensors)), &["mis-shaped", "wrong base model"]);
        }
        refused(spoilt(case, &|_, tensors| tensors[0].1 = &tensors[0].1 * f64::NAN), &["NaN", tensors_name(&first)]);
        refused(spoilt(case, &|_, tensors| tensors[0].1 = tensors[0].1.to_kind(Kind::Int64)), &["not floats"]);
    }
    // All of a module's keys gone is no smaller adapter: the settings name the module.
    let gone = "model.layers.2.mlp.up_proj";
    refused(spoilt("lora_all_sites", &|_, tensors| tensors.retain(|(name, _)| !name.contains(gone))), &["missing", gone]);

    for (config, words) in [
        (Lora::rank(2).sites("q_proj, qproj"), vec!["qproj"]),
        (Lora::rank(2).layers([3]), vec!["layer 3", "0 to 2"]),
        (Lora::rank(2).rank_at("v_proj", 1), vec!["v_proj"]),
        (Lora::rank(2).rank_at("q_proj", 0), vec!["rank 0"]),
        (Lora::rank(2).sites("model.layers.0.self_attn.q_proj").layers([1]), vec!["selects no linear module"]),
        (Lora::rank(2).alpha(f64::INFINITY), vec!["alpha inf"]),
    ] {
        refused(Adapter::new(&model, config, 0), &words);
    }
    refused(Adapter::new(&model, Ia3::new().scale_inputs("down_proj"), 0), &["down_proj"]);
    Ok(())
}

/// What each case of `tests/python/refused_adapters.py` must say; nothing for one that must open.
const REFUSED: &[(&str, &[&str])] = &[
    ("plain", &[]),
    ("tying_without_need", &[]),
    ("lm_head", &["a LoRA update of the output layer", "`base_model.model.lm_head.lora_A.weight`", "not supported", "merge_and_unload"]),
    ("lm_head_alone", &["`target_modules` chooses `lm_head`", "not supported"]),
    ("lm_head_as_peft_saves_it", &["a LoRA update of the output layer", "`base_model.model.lm_head.base_layer.weight`", "not supported"]),
    ("lm_head_tied", &["a LoRA update of the output layer", "not supported"]),
    ("embedding", &["a LoRA update of the output layer or the embedding", "embed_tokens.lora_embedding_A", "not supported"]),
    ("embeddings_saved", &["an embedding or output layer saved beside the adapter", "not supported"]),
    ("modules_to_save", &["`modules_to_save`", "not supported"]),
    ("modules_to_save_tied", &["`modules_to_save`", "not supported"]),
    ("layer_replication", &["`layer_replication` is [[0,2],[1,3]], which is not supported"]),
    ("tokens", &["`trainable_token_indices`", "not supported"]),
    ("bias", &["`bias`", "not supported"]),
    ("pickle", &["`adapter_model.bin`, a Python pickle", "save_pretrained"]),
    ("ia3_lm_head", &["(IA)³ factors of the output layer", "not supported"]),
];

fn says_what_it_is(case: &str, opened: Result<Adapter>) {
    let words = REFUSED.iter().find(|(own, _)| *own == case).unwrap().1;
    if words.is_empty() {
        opened.unwrap_or_else(|error| panic!("{case}: {error}"));
    } else {
        let text = refused(opened, words).to_string();
        assert!(!text.contains("wrong base model"), "{case}: {text}");
    }
}

#[test]
fn what_peft_can_do_and_this_cannot_says_so() -> Result<()> {
    let model = open("llama_grouped_tied", Kind::Float)?;
    let (vocab, hidden) = (model.config().vocab_size, model.config().hidden_size);
    // Settings and keys as PEFT 0.21 writes them (`peft_s_own_files_say_so_too` has PEFT do it).
    let write = |case: &str, from: &str, settings: serde_json::Value, keys: &[(&str, [i64; 2])]| {
        let (from, folder) = (golden_folder(&format!("adapters/llama_grouped_tied/{from}")), tempfile::tempdir().unwrap());
        let text = std::fs::read_to_string(from.join("adapter_config.json")).unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
        for (key, value) in settings.as_object().unwrap() {
            config[key] = value.clone();
        }
        let mut tensors = read(from.join("adapter_model.safetensors")).unwrap();
        tensors.extend(keys.iter().map(|(key, size)| (format!("base_model.model.{key}"), Tensor::zeros(size, (Kind::Float, Device::Cpu)))));
        std::fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
        if case == "pickle" {
            std::fs::write(folder.path().join("adapter_model.bin"), "PK").unwrap();
        } else {
            Tensor::write_safetensors(&tensors, folder.path().join("adapter_model.safetensors")).unwrap();
        }
        says_what_it_is(case, Adapter::open(folder.path(), &model));
    };
    let sites = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
    let with = |more: &str| {
        let targets = [&sites[..], &[more]].concat();
        serde_json::json!({ "target_modules": targets })
    };
    let none = serde_json::json!({});
    let head = [("lm_head.lora_A.weight", [4, hidden]), ("lm_head.lora_B.weight", [vocab, 4])];
    let embedding = [("model.embed_tokens.lora_embedding_A", [4, vocab]), ("model.embed_tokens.lora_embedding_B", [hidden, 4])];
    let whole = [("lm_head.weight", [vocab, hidden]), ("model.embed_tokens.weight", [vocab, hidden])];
    let set = |key: &str, value: serde_json::Value| serde_json::json!({ key: value });
    let lora = "lora_all_sites";
    write("plain", lora, none.clone(), &[]);
    write("tying_without_need", lora, set("ensure_weight_tying", true.into()), &[]);
    write("lm_head", lora, with("lm_head"), &head);
    write("lm_head_alone", lora, set("target_modules", serde_json::json!(["lm_head"])), &head);
    write("lm_head_as_peft_saves_it", lora, with("lm_head"), &[&head[..], &[("lm_head.base_layer.weight", [vocab, hidden])]].concat());
    write("lm_head_tied", lora, with("lm_head"), &[head, embedding].concat());
    write("embedding", lora, with("embed_tokens"), &embedding);
    write("embeddings_saved", lora, none.clone(), &whole);
    write("modules_to_save", lora, set("modules_to_save", serde_json::json!(["lm_head"])), &whole[..1]);
    write("modules_to_save_tied", lora, set("modules_to_save", serde_json::json!(["embed_tokens"])), &whole);
    write("layer_replication", lora, set("layer_replication", serde_json::json!([[0, 2], [1, 3]])), &[]);
    write(
        "tokens",
        lora,
        set("trainable_token_indices", serde_json::json!([3])),
        &[("model.embed_tokens.token_adapter.trainable_tokens_delta", [1, hidden])],
    );
    write("bias", lora, set("bias", "lora_only".into()), &[]);
    write("pickle", lora, none.clone(), &[]);
    write(
        "ia3_lm_head",
        "ia3",
        serde_json::json!({"target_modules": ["k_proj", "v_proj", "down_proj", "lm_head"]}),
        &[("lm_head.ia3_l", [vocab, 1])],
    );
    // Weights that are simply not there, and keys that are of nothing known.
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(
        golden_folder("adapters/llama_grouped_tied/lora_all_sites/adapter_config.json"),
        folder.path().join("adapter_config.json"),
    )
    .unwrap();
    refused(Adapter::open(folder.path(), &model), &["holds no adapter_model.safetensors", "download the weights"]);
    Ok(())
}

#[test]
fn peft_s_own_files_say_so_too() -> Result<()> {
    let Some(python) = std::env::var_os("IA2_TEST_PYTHON") else {
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), "\nSKIPPED: IA2_TEST_PYTHON names no Python with peft (tests/python/requirements.txt)");
        return Ok(());
    };
    let (folder, checkpoint) = (tempfile::tempdir().unwrap(), "llama_grouped_tied");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/refused_adapters.py");
    let done = std::process::Command::new(python).arg(script).arg(golden_folder(checkpoint)).arg(folder.path()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let model = open(checkpoint, Kind::Float)?;
    for (case, _) in REFUSED {
        // An older PEFT cannot write every case, and says so.
        match folder.path().join(case) {
            written if written.exists() => says_what_it_is(case, Adapter::open(written, &model)),
            _ => println!("{case} was not written: {}", String::from_utf8_lossy(&done.stdout)),
        }
    }
    Ok(())
}

/// The parameter's name without what PEFT puts before it.
fn tensors_name(key: &str) -> &str {
    key.trim_start_matches("base_model.model.")
}

/// PEFT and transformers open what this library writes: run by hand or here, with a Python that `IA2_TEST_PYTHON` names.
#[test]
fn peft_reads_our_adapters_and_transformers_our_merged_models() -> Result<()> {
    let Some(python) = std::env::var_os("IA2_TEST_PYTHON") else {
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), "\nSKIPPED: IA2_TEST_PYTHON names no Python with peft (tests/python/requirements.txt)");
        return Ok(());
    };
    let folder = tempfile::tempdir().unwrap();
    let mut cases = Vec::new();
    for checkpoint in CHECKPOINTS {
        let model = open(checkpoint, Kind::Double)?;
        let plain = open(checkpoint, Kind::Float)?;
        let mut write = |name: String, logits: Vec<Tensor>, mut case: serde_json::Value| -> Result<()> {
            let file = folder.path().join(format!("{name}.safetensors"));
            let named: Vec<(String, Tensor)> =
                logits.into_iter().enumerate().map(|(row, values)| (format!("logits.{row}"), values)).collect();
            Tensor::write_safetensors(&named, &file)?;
            case["logits"] = file.to_str().unwrap().into();
            case["name"] = name.into();
            cases.push(case);
            Ok(())
        };
        let rows =
            |model: &Model| prompts().into_iter().map(|row| Ok(model.forward(&[row])?.values.squeeze_dim(0))).collect::<Result<Vec<_>>>();
        for (index, config) in configs().into_iter().enumerate() {
            let name = format!("{checkpoint}.{index}.{}", config.peft_type());
            let adapter = disturbed(&Adapter::new(&model, config.clone(), 3)?, &model, 0.3)?;
            let place = folder.path().join(&name);
            // From f32 parameters, so that both sides have the same numbers.
            let adapter = {
                adapter.save(&place)?;
                rounded(&place, &model)?
            };
            write(
                name.clone(),
                rows(&model.with(&adapter)?)?,
                serde_json::json!({"checkpoint": golden_folder(checkpoint), "adapter": place}),
            )?;
            if !has_virtual_tokens(&config) {
                let merged = Adapter::open(&place, &plain)?.merge(&plain)?.model;
                let place = folder.path().join(format!("{name}.merged"));
                merged.save(&place)?;
                let saved = OpenOptions::new().kind(Kind::Double).open(&place)?;
                write(format!("{name}.merged"), rows(&saved)?, serde_json::json!({"checkpoint": place}))?;
            }
        }
    }
    let manifest = folder.path().join("cases.json");
    std::fs::write(&manifest, serde_json::json!({"prompts": prompts(), "cases": cases}).to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/check_adapters.py");
    let output = std::process::Command::new(python)
        .arg(script)
        .arg(&manifest)
        .env("OMP_NUM_THREADS", "1")
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{text}");
    assert!(output.status.success(), "{text}");
    Ok(())
}

/// The saved adapter with its numbers rounded to f32, as files usually hold them.
fn rounded(folder: &Path, model: &Model) -> Result<Adapter> {
    let file = folder.join("adapter_model.safetensors");
    let tensors: Vec<(String, Tensor)> = read(&file)?.into_iter().map(|(name, values)| (name, values.to_kind(Kind::Float))).collect();
    Tensor::write_safetensors(&tensors, &file)?;
    Adapter::open(folder, model)
}

#[test]
fn generation_with_a_cache_and_batches_change_nothing() -> Result<()> {
    for checkpoint in CHECKPOINTS {
        let model = open(checkpoint, Kind::Double)?;
        // Prompts that begin alike share a cache; ragged ones are padded.
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

#[test]
fn the_base_model_is_named_so_that_python_finds_it_from_anywhere() -> Result<()> {
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/models/tiny-icl");
    let cache = tempfile::tempdir().unwrap();
    let snapshot = cache.path().join("models--some--tiny-icl/snapshots/0123abcd");
    std::fs::create_dir_all(&snapshot).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(bundled.join(file), snapshot.join(file)).unwrap();
    }
    let written = |folder: &Path| -> Result<serde_json::Value> {
        let model = Model::open(folder)?;
        let saved = tempfile::tempdir().unwrap();
        Adapter::new(&model, Lora::rank(2), 0)?.save(saved.path())?;
        Adapter::open(saved.path(), &model)?;
        let config =
            serde_json::from_slice::<serde_json::Value>(&std::fs::read(saved.path().join("adapter_config.json")).unwrap()).unwrap();
        Ok(serde_json::json!([config["base_model_name_or_path"], config["revision"]]))
    };
    assert_eq!(written(&snapshot)?, serde_json::json!(["some/tiny-icl", "0123abcd"]));
    // Tests run in the project's folder.
    assert_eq!(written(Path::new("data/models/tiny-icl"))?, serde_json::json!([bundled.canonicalize().unwrap(), null]));
    Ok(())
}

#[test]
fn an_adapter_opens_as_it_was_saved_and_on_its_own_base() -> Result<()> {
    let homes = [common::with_words("llama_grouped_tied"), common::with_words("llama_grouped_tied")];
    let model = Model::open(homes[0].path())?;
    let trained = |seed: u64| Training::new(Lora::rank(2), Sft::gold()).epochs(1).seed(seed).run(&model, &split_of_words()?);
    let (one, two) = (trained(0)?, trained(1)?);
    let root = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| root.path().join(name));
    one.save(&first)?;
    two.save(&second)?;
    let weights = first.join("adapter_model.safetensors");
    let copy = |name: &str| std::fs::copy(second.join(name), first.join(name)).unwrap();
    // The file of another in the place of one of the four.
    copy("ia2_manifest.json");
    refused(Adapter::open(&first, &model), &["ia2_manifest.json", "other parameters", "open_as_it_is"]);
    Adapter::open_as_it_is(&first, &model)?;
    one.save(&first)?;
    copy("adapter_model.safetensors");
    refused(Adapter::open(&first, &model), &["ia2_manifest.json", "other parameters"]);
    // Edited settings, a flipped bit.
    one.save(&first)?;
    let config = first.join("adapter_config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.contains("\"lora_alpha\": 8"));
    std::fs::write(&config, text.replace("\"lora_alpha\": 8", "\"lora_alpha\": 9")).unwrap();
    refused(Adapter::open(&first, &model), &["adapter_config.json", "edited or damaged", "open_as_it_is"]);
    assert!(Adapter::open_as_it_is(&first, &model)?.config().name().contains("alpha=9"));
    one.save(&first)?;
    let mut bytes = std::fs::read(&weights).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    for result in [Adapter::open(&first, &model), Adapter::open_as_it_is(&first, &model)] {
        refused(result, &["adapter_model.safetensors", "checksum"]);
    }
    // What an earlier training left beside it goes with a new adapter.
    two.adapter().save(&first)?;
    let names: Vec<_> = common::listing(&first).into_iter().map(|(path, _)| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["adapter_config.json", "adapter_model.safetensors"]);
    Adapter::open(&first, &model)?;
    // Another base: the same shapes, one number of its weights is another.
    one.save(&first)?;
    let file = homes[1].path().join("model.safetensors");
    let tensors = read(&file)?;
    let _ = tensors[0].1.view([-1]).narrow(0, 0, 1).g_add_scalar_(0.5);
    Tensor::write_safetensors(&tensors, &file)?;
    let other = Model::open(homes[1].path())?;
    refused(Adapter::open(&first, &other), &["another base model", homes[0].path().to_str().unwrap(), "open_as_it_is"]);
    Adapter::open_as_it_is(&first, &other)?;
    // The same in another kind, or copied elsewhere, is its own.
    Adapter::open(&first, &OpenOptions::new().kind(Kind::Double).open(homes[0].path())?)?;
    let copied = common::with_words("llama_grouped_tied");
    Adapter::open(&first, &Model::open(copied.path())?)?;
    Ok(())
}

#[test]
fn a_model_opens_as_it_was_saved() -> Result<()> {
    let home = common::with_words("llama_grouped_tied");
    let model = Model::open(home.path())?;
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str| place.path().join(name);
    std::fs::write(file("merges.txt"), "of another tokenizer").unwrap();
    model.save(place.path())?;
    assert!(!file("merges.txt").exists());
    Model::open(place.path())?;
    for (name, from, to) in [("config.json", "\"rms_norm_eps\": 1e-", "\"rms_norm_eps\": 2e-"), ("tokenizer.json", "\"t9\"", "\"t_\"")] {
        let text = std::fs::read_to_string(file(name)).unwrap();
        assert!(text.contains(from), "{name}: {text}");
        std::fs::write(file(name), text.replace(from, to)).unwrap();
        refused(Model::open(place.path()), &[name, "edited or damaged", "as_it_is"]);
        OpenOptions::new().as_it_is().open(place.path())?;
        std::fs::write(file(name), text).unwrap();
    }
    let whole = std::fs::read(file("model.safetensors")).unwrap();
    for place_in_file in [whole.len() - 1, whole.len() / 2, 200] {
        let mut bytes = whole.clone();
        bytes[place_in_file] ^= 1;
        std::fs::write(file("model.safetensors"), bytes).unwrap();
        refused(Model::open(place.path()), &["model.safetensors"]);
    }
    std::fs::write(file("model.safetensors"), &whole).unwrap();
    Model::open(place.path()).map(drop)
}

#[test]
fn a_cartridge_begins_as_pefts_and_its_first_tokens_stay() -> Result<()> {
    for checkpoint in CHECKPOINTS {
        let golden = golden(&format!("adapters/{checkpoint}/cartridge.safetensors"))?;
        let text: Vec<u32> = Vec::<i64>::try_from(&golden["text"])?.into_iter().map(|id| id as u32).collect();
        let place = golden_folder(&format!("adapters/{checkpoint}/cartridge"));
        let theirs = read(place.join("adapter_model.safetensors"))?.remove(0).1;
        for kind in [Kind::Float, Kind::Double] {
            let model = open(checkpoint, kind)?;
            let opened = Adapter::open(&place, &model)?;
            assert_eq!(opened.config().name(), "cartridge V=6, 2 frozen");
            let ours = Adapter::new(&model, Cartridge::of(&text).at_most(6).frozen(2), 0)?;
            let distance = apart(&parameters(&ours)?.remove(0).1, &theirs);
            assert!(distance < 1e-5, "{checkpoint} in {kind:?}: {distance:.1e}");
        }
        // Weight decay moves what has no gradient, and must not move what is frozen.
        let model = common::speaking(checkpoint);
        for (frozen, rate) in [(0, 1e-2), (2, 1e-2), (2, 1e-30)] {
            let config = Cartridge::of(&text).frozen(frozen);
            let start = parameters(&Adapter::new(&model, config.clone(), 0)?)?.remove(0).1;
            let training = Training::new(config, Sft::gold()).optimizer(Optimizer::adamw(0.5)).learning_rate(rate).epochs(3);
            let trained = training.run(&model, &split_of_words()?)?;
            let end = parameters(trained.adapter())?.remove(0).1;
            for token in 0..text.len() {
                let stays = token < frozen || rate < 1e-20;
                assert_eq!(start.get(token as i64) == end.get(token as i64), stays, "{checkpoint}: token {token}, {frozen} frozen");
            }
        }
        refused(Adapter::new(&model, Cartridge::of(&text).frozen(10), 0), &["10 of 9", "freeze fewer"]);
        refused(Adapter::new(&model, Cartridge::new(), 0), &["no text", "shown(&model, &split)"]);
        refused(Adapter::new(&model, opened_config(&place, &model)?, 0), &["no text"]);
        let all = Training::new(Cartridge::of(&text[..1]), Sft::gold()).run(&model, &split_of_words()?);
        refused(all, &["nothing to train"]);
    }
    Ok(())
}

fn opened_config(place: &Path, model: &Model) -> Result<AdapterConfig> {
    Ok(Adapter::open(place, model)?.config().clone())
}

#[test]
fn an_untrained_cartridge_of_all_demonstrations_is_icl() -> Result<()> {
    let model = Model::open("tiny-icl")?;
    for task in ["sentiment", "answer"] {
        let split = Task::open(task)?.test_at_most(12)?.few_shot(8, 1)?;
        let config = Cartridge::new().shown(&model, &split)?;
        let prompts = split.test.with_demonstrations(&split.train, split.run)?;
        let prefix = model.tokenizer()?.encode(&prompts.get(0).unwrap().prefix())?;
        let adapted = model.with(&Adapter::new(&model, config.clone(), 0)?)?;
        let (icl, alone) = (model.encode(&prompts)?, model.encode(&split.test.zero_shot()?)?);
        let bos = model.tokenizer()?.bos().unwrap();
        for (whole, query) in icl.into_iter().zip(alone) {
            // In ICL the text begins once.
            let query = query.strip_prefix(&[bos]).unwrap().to_vec();
            assert_eq!(whole, [&prefix[..], &query[..]].concat());
            let theirs = model.forward(std::slice::from_ref(&whole))?.values.narrow(1, prefix.len() as i64, query.len() as i64);
            let distance = apart(&adapted.forward(&[query])?.values, &theirs);
            assert!(distance < 1e-5, "{task}: {distance:.1e}");
        }
        // The most that the context leaves room for is less, here.
        let all = Cartridge::new().at_most(usize::MAX).shown(&model, &split)?;
        assert_eq!(all, config);
        assert_eq!(AdapterConfig::from(config.at_most(20)).name(), "cartridge V=20");
    }
    Ok(())
}

#[test]
fn a_cartridge_trained_toward_icl_comes_nearer() -> Result<()> {
    let model = Model::open("tiny-icl")?;
    let split = Task::open("sentiment")?.test_at_most(4)?.few_shot(8, 0)?;
    let targets = Targets::of(&model, &split).without_activations().distributions(Keep::All).collect()?;
    let training = |config: Cartridge| Training::new(config, targets.soft_sft().unwrap()).learning_rate(3e-2).epochs(8).check_every(1);
    let trained = training(Cartridge::new().at_most(24)).run(&model, &split)?;
    assert_eq!(trained.adapter().config().name(), "cartridge V=24");
    let history = trained.history()?;
    let dev = history.column("dev_loss")?.f64()?.get(0).unwrap();
    assert!(dev > 0.5 && trained.dev_loss().unwrap() < 0.5 * dev, "{:?} of {dev}", trained.dev_loss());
    // All demonstrations are as good as ICL before training, though a second special token stands before the query.
    let whole = training(Cartridge::new()).learning_rate(1e-30).epochs(1).run(&model, &split)?;
    assert!(whole.dev_loss().unwrap() < 2e-3, "{:?}", whole.dev_loss());
    // The next phase, and a repetition, take the cartridge as it is.
    let next = Training::resume(&trained, Sft::gold())?.epochs(1).run(&model, &split)?;
    assert_eq!(next.adapter().config(), trained.adapter().config());
    let again = Training::repeat(trained.manifest(), targets.soft_sft()?).run(&model, &split)?;
    assert_eq!(parameters(again.adapter())?, parameters(trained.adapter())?);
    // After a round trip through PEFT's files it is no longer known of which text.
    let folder = tempfile::tempdir().unwrap();
    trained.save(folder.path())?;
    let opened = Adapter::open(folder.path(), &model)?;
    Training::from_adapter(&opened, targets.soft_sft()?)?.epochs(1).run(&model, &split)?;
    Training::new(Cartridge::new().at_most(24), Sft::gold()).start_from(&opened)?.epochs(1).run(&model, &split)?;
    refused(Training::new(Cartridge::new().at_most(23), Sft::gold()).start_from(&opened)?.run(&model, &split), &["cannot go on from"]);
    Ok(())
}
