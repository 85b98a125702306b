//! Adapters and saved models of every family, here and in PEFT and transformers.

use super::*;

fn peft_cases(case: &(String, String)) -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder(case).join("adapters")).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

#[test]
fn pefts_adapters_give_pefts_logits_and_ours_written_again_the_same() {
    each(adapted(), |case| {
        let models = [open(case, Kind::Float)?, open(case, Kind::Double)?];
        let mut kinds = BTreeSet::new();
        for place in peft_cases(case) {
            let name = place.file_name().unwrap().to_str().unwrap().to_string();
            let golden: std::collections::HashMap<_, _> = read(place.join("golden.safetensors"))?.into_iter().collect();
            let prompts = apart(&golden["input_ids"], &golden["lengths"]);
            for model in &models {
                let adapter = Adapter::open(&place, model)?;
                kinds.insert(adapter.config().kind());
                let batch = joined(&model.with(&adapter)?.forward(&prompts)?.values, &prompts);
                demand(case, "adapters", &name, deviation(&batch, &golden["logits"]), TOLERANCE);
                let base = deviation(&joined(&model.forward(&prompts)?.values, &prompts), &golden["logits"]);
                assert!(base > 0.02, "{} {name}: the adapter does nothing", case.0);
                // Written again: PEFT's own keys and modules, and the same bits.
                let again = tempfile::tempdir().unwrap();
                adapter.save(again.path())?;
                let keys = |folder: &Path| {
                    Ok::<_, ia2::Error>(read(folder.join("adapter_model.safetensors"))?.into_iter().map(|(key, _)| key).collect::<Vec<_>>())
                };
                assert_eq!(keys(again.path())?, keys(&place)?, "{} {name}", case.0);
                let reopened = Adapter::open(again.path(), model)?;
                assert_eq!(joined(&model.with(&reopened)?.forward(&prompts)?.values, &prompts), batch, "{} {name}", case.0);
                if !adapter.sites().is_empty() {
                    let merged = adapter.merge_on(model, &prompts)?;
                    demand(case, "merged", &name, merged.relative, if model.kind() == Kind::Double { 1e-12 } else { 1e-4 });
                    let merged = joined(&merged.model.forward(&prompts)?.values, &prompts);
                    assert!(deviation(&merged, &golden["logits"]) < 1e-4, "{} {name} merged", case.0);
                }
            }
        }
        assert_eq!(kinds, KINDS.iter().copied().collect(), "{}: a kind of adapter has no golden files", case.0);
        Ok(())
    });
    common::agrees("logits with PEFT's own adapters, other families, f32 and f64", worst(&["adapters"]));
}

/// One of each kind by the common names of sites; what must hold on every family.
fn configs() -> Vec<AdapterConfig> {
    vec![
        Lora::rank(2).into(),
        Lora::rank(2).sites("q_proj, k_proj, v_proj, o_proj").layers([1]).rank_at("v_proj", 1).alpha_at("v_proj", 4.0).into(),
        Dora::of(Lora::rank(2).alpha(3.0).sites("q_proj, k_proj, v_proj, o_proj")).into(),
        Ia3::new().into(),
        PromptTuning::tokens(3).into(),
        PrefixTuning::tokens(3).into(),
        Cartridge::of(&[1, 9, 30]).into(),
    ]
}

#[test]
fn adapters_by_common_names_round_trip_and_merge_on_every_family() {
    each(adapted(), |case| {
        let model = open(case, Kind::Float)?;
        for config in configs() {
            let adapter = disturbed(&Adapter::new(&model, config.clone(), 3)?, &model, 0.3)?;
            let before = logits(&model.with(&adapter)?, &some_prompts())?;
            assert!(deviation(&before, &logits(&model, &some_prompts())?) > 1e-3, "{} {} does nothing", case.0, config.name());
            let place = tempfile::tempdir().unwrap();
            adapter.save(place.path())?;
            let again = Adapter::open(place.path(), &model)?;
            assert_eq!(again.config().name(), adapter.config().name(), "{}", case.0);
            assert_eq!(logits(&model.with(&again)?, &some_prompts())?, before, "{} {}", case.0, config.name());
            if !adapter.sites().is_empty() {
                let merged = adapter.merge_on(&model, &some_prompts())?.relative;
                assert!(merged < 1e-4, "{} {} merged: {merged:.1e}", case.0, config.name());
            }
            let generated = model.with(&adapter)?.generate(&some_prompts(), &Generation::greedy(4).ignore_eos())?;
            for generated in generated {
                let mut row = generated.tokens.prompt.clone();
                for &token in &generated.tokens.response {
                    let last = model.with(&adapter)?.forward(&[row.clone()])?.values.select(1, row.len() as i64 - 1);
                    let best = last.topk(2, -1, true, true).0;
                    let gap = best.double_value(&[0, 0]) - best.double_value(&[0, 1]);
                    let same = last.argmax(-1, false).int64_value(&[0]) == i64::from(token);
                    assert!(same || gap < 1e-4, "{} {} after {} tokens", case.0, config.name(), row.len());
                    row.push(token);
                }
            }
        }
        Ok(())
    });
}

#[test]
fn a_saved_model_opens_to_the_same_bits_under_the_familys_own_names() {
    each(CASES.clone(), |case| {
        let copy = with_tokenizer(case);
        // In its own kind, BF16: saved and opened nothing is rounded.
        let model = Model::open(copy.path())?;
        assert_eq!(model.kind(), Kind::BFloat16);
        let place = tempfile::tempdir().unwrap();
        model.save(place.path())?;
        let again = Model::open(place.path())?;
        assert_eq!(logits(&again, &some_prompts())?, logits(&model, &some_prompts())?, "{}", case.0);
        let theirs: BTreeMap<String, Tensor> = read(folder(case).join("model.safetensors"))?.into_iter().collect();
        let ours: BTreeMap<String, Tensor> = read(place.path().join("model.safetensors"))?.into_iter().collect();
        for (name, tensor) in &ours {
            // As released, GPT-2 has no outer name; a text part is saved alone.
            let spellings = [name.to_string(), name.trim_start_matches("transformer.").to_string(), format!("language_model.{name}")];
            let same = spellings.iter().find_map(|name| theirs.get(name));
            assert!(same.is_some_and(|same| same == tensor), "{}: {name} is another or not in the checkpoint", case.0);
        }
        Ok(())
    });
}

/// PEFT and transformers open what this library writes: with a Python that `IA2_TEST_PYTHON` names.
#[test]
fn peft_reads_our_adapters_and_transformers_our_models() -> Result<()> {
    let Some(python) = std::env::var_os("IA2_TEST_PYTHON") else {
        common::skipped("IA2_TEST_PYTHON names no Python with peft (tests/python/requirements.txt)");
        return Ok(());
    };
    let root = tempfile::tempdir().unwrap();
    let mut cases = Vec::new();
    for case in adapted() {
        let (model, plain) = (open(&case, Kind::Double)?, open(&case, Kind::Float)?);
        let mut write = |name: String, model: &Model, mut entry: serde_json::Value| -> Result<()> {
            let rows = some_prompts().into_iter().enumerate();
            let values = rows.map(|(row, ids)| Ok((format!("logits.{row}"), model.forward(&[ids])?.values.squeeze_dim(0))));
            let file = root.path().join(format!("{name}.safetensors"));
            Tensor::write_safetensors(&values.collect::<Result<Vec<_>>>()?, &file)?;
            entry["logits"] = file.to_str().unwrap().into();
            entry["name"] = name.into();
            cases.push(entry);
            Ok(())
        };
        for (index, config) in configs().into_iter().enumerate() {
            let name = format!("{}.{index}.{}", case.0, config.kind());
            let place = root.path().join(&name);
            disturbed(&Adapter::new(&plain, config.clone(), 3)?, &plain, 0.3)?.save(&place)?;
            let adapter = Adapter::open(&place, &model)?;
            write(name.clone(), &model.with(&adapter)?, serde_json::json!({"checkpoint": folder(&case), "adapter": place}))?;
            if index == 0 {
                let merged = Adapter::open(&place, &plain)?.merge(&plain)?.model;
                let place = root.path().join(format!("{name}.merged"));
                merged.save(&place)?;
                write(
                    format!("{name}.merged"),
                    &OpenOptions::new().kind(Kind::Double).open(&place)?,
                    serde_json::json!({"checkpoint": place}),
                )?;
            }
        }
    }
    let manifest = root.path().join("cases.json");
    std::fs::write(&manifest, serde_json::json!({"prompts": some_prompts(), "cases": cases}).to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/check_adapters.py");
    let run =
        std::process::Command::new(python).arg(script).arg(&manifest).env("OMP_NUM_THREADS", "1").env_remove("LD_LIBRARY_PATH").output();
    let output = run.unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{text}");
    assert!(output.status.success(), "{text}");
    Ok(())
}
