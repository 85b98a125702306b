//! What is written, opened again, and refused.

use super::peft::{files_of, peft_cases, tensors_name};
use super::*;

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
    // What an earlier training left next to it goes with a new adapter.
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
