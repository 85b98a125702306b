//! PEFT's adapters here, ours there, and what of PEFT's is refused.

use super::*;

/// The folders of adapters that PEFT wrote for a checkpoint.
pub fn peft_cases(checkpoint: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(golden_folder("adapters").join(checkpoint)).unwrap();
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    cases.sort();
    cases
}

/// Where the case's files are: an adapter with a name lies in a folder of that name.
pub fn files_of(case: &Path) -> PathBuf {
    if case.ends_with("lora_named") { case.join("other") } else { case.to_path_buf() }
}

/// The case's entry in [`KINDS`].
pub fn peft_kind(case: &Path) -> String {
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
    common::agrees("logits with PEFT's own adapters, Llama, Qwen2 and Qwen3, f32 and f64", worst);
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
    ("embeddings_saved", &["an embedding or output layer saved next to the adapter", "not supported"]),
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
        common::skipped("IA2_TEST_PYTHON names no Python with peft (tests/python/requirements.txt)");
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
pub fn tensors_name(key: &str) -> &str {
    key.trim_start_matches("base_model.model.")
}

/// PEFT and transformers open what this library writes: run by hand or here, with a Python that `IA2_TEST_PYTHON` names.
#[test]
fn peft_reads_our_adapters_and_transformers_our_merged_models() -> Result<()> {
    let Some(python) = std::env::var_os("IA2_TEST_PYTHON") else {
        common::skipped("IA2_TEST_PYTHON names no Python with peft (tests/python/requirements.txt)");
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
