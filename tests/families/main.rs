//! Every family against transformers and PEFT: `tests/golden/families`, made by `tests/python/golden_families.py`.
//!
//! A family is what its golden folders say; one without a folder fails `every_family_has_golden_values`. With `--nocapture` the table of the
//! worst deviations, family by check, is printed when all checks are done. Deviations are `max |a - b| / max |b|` per tensor.

mod adapters;
#[path = "../common/mod.rs"]
mod common;
mod methods;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};

use common::{disturbed, golden, golden_folder, read};
use ia2::Result;
use ia2::adapter::{AdapterConfig, KINDS};
use ia2::lens::logit_lens;
use ia2::model::family::Family;
use ia2::prelude::*;

const TOLERANCE: f64 = 1e-5;
const CHECKS: [&str; 7] = ["logits", "attention", "hidden", "q, k, v", "adapters", "merged", "logit lens"];

/// The golden folders by name, each with its family (`model_type`).
static CASES: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let folders = std::fs::read_dir(golden_folder("families")).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<(String, String)> = folders
        .filter(|folder| folder.is_dir())
        .map(|folder| {
            let config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(folder.join("config.json")).unwrap()).unwrap();
            // Of a model of several senses its text part.
            let family = config["text_config"]["model_type"].as_str().or(config["model_type"].as_str()).unwrap().to_string();
            (folder.file_name().unwrap().to_str().unwrap().to_string(), family)
        })
        .collect();
    cases.sort();
    cases
});

/// Worst deviations by family and check.
static TABLE: Mutex<BTreeMap<(String, &str), f64>> = Mutex::new(BTreeMap::new());

/// Demands a small deviation, and keeps the worst for the table.
fn demand(case: &(String, String), check: &'static str, what: &str, deviation: f64, at_most: f64) {
    assert!(CHECKS.contains(&check));
    let mut table = TABLE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let worst = table.entry((case.1.clone(), check)).or_insert(0.0);
    *worst = worst.max(deviation);
    drop(table);
    assert!(deviation < at_most, "{}: {check}: {what}: {deviation:.1e}", case.0);
}

/// The worst of these checks, of all families.
fn worst(checks: &[&str]) -> f64 {
    let table = TABLE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    table.iter().filter(|((_, check), _)| checks.contains(check)).fold(0.0, |worst, (_, deviation)| worst.max(*deviation))
}

/// Prints the table once every check has a value.
fn print_table() {
    let table = TABLE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !CHECKS.iter().all(|check| table.keys().any(|(_, own)| own == check)) {
        return;
    }
    let families: BTreeSet<&String> = table.keys().map(|(family, _)| family).collect();
    let mut text = format!("\n| family | {} |\n|---|{}\n", CHECKS.join(" | "), "---|".repeat(CHECKS.len()));
    for family in families {
        let cell = |check: &&'static str| table.get(&(family.clone(), *check)).map_or(String::new(), |worst| format!("{worst:.0e}"));
        text.push_str(&format!("| {family} | {} |\n", CHECKS.iter().map(cell).collect::<Vec<_>>().join(" | ")));
    }
    print!("{text}");
}

/// Runs a check on every golden folder and names all that fail, so that one family's fault does not hide another's.
fn each(cases: impl IntoIterator<Item = (String, String)>, check: impl Fn(&(String, String)) -> Result<()>) {
    let mut failed = Vec::new();
    for case in cases {
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&case))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => failed.push(format!("{}: {error}", case.0)),
            Err(_) => failed.push(case.0),
        }
    }
    print_table();
    assert!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n"));
}

fn folder(case: &(String, String)) -> PathBuf {
    golden_folder("families").join(&case.0)
}

fn open(case: &(String, String), kind: Kind) -> Result<Model> {
    OpenOptions::new().kind(kind).open(folder(case))
}

/// The checkpoint's own files with the tokenizer that all share.
fn with_tokenizer(case: &(String, String)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in ["config.json", "generation_config.json", "model.safetensors"] {
        if folder(case).join(file).exists() {
            std::fs::copy(folder(case).join(file), copy.path().join(file)).unwrap();
        }
    }
    std::fs::copy(golden_folder("families/tokenizer.json"), copy.path().join("tokenizer.json")).unwrap();
    copy
}

/// Joined examples apart.
fn apart(joined: &Tensor, lengths: &Tensor) -> Vec<Vec<u32>> {
    let ids = Vec::<i64>::try_from(joined).unwrap();
    let mut rest = ids.iter().map(|&id| id as u32);
    Vec::<i64>::try_from(lengths).unwrap().into_iter().map(|length| rest.by_ref().take(length as usize).collect()).collect()
}

/// The real tokens of a padded batch `[example, token, ..]`, joined.
fn joined(values: &Tensor, prompts: &[Vec<u32>]) -> Tensor {
    let rows = prompts.iter().enumerate().map(|(row, prompt)| values.get(row as i64).narrow(0, 0, prompt.len() as i64));
    Tensor::cat(&rows.collect::<Vec<_>>(), 0)
}

fn deviation(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.size(), theirs.size());
    let (ours, theirs) = (ours.to_kind(Kind::Double), theirs.to_kind(Kind::Double));
    let apart = (ours - &theirs).abs().max().double_value(&[]) / theirs.abs().max().double_value(&[]);
    if apart.is_nan() { f64::INFINITY } else { apart }
}

/// Logits of each prompt by itself, `[token of all, vocab]`.
fn logits(model: &Model, prompts: &[Vec<u32>]) -> Result<Tensor> {
    let each = prompts.iter().map(|row| Ok(model.forward(std::slice::from_ref(row))?.values.squeeze_dim(0))).collect::<Result<Vec<_>>>()?;
    Ok(Tensor::cat(&each, 0))
}

/// Longer than every window.
fn some_prompts() -> Vec<Vec<u32>> {
    vec![(0..19).map(|place| 4 + place * 37 % 100).collect(), vec![1, 7, 90], (0..11).map(|place| 5 + place * 53 % 100).collect()]
}

/// Cases for which PEFT wrote adapters.
fn adapted() -> Vec<(String, String)> {
    CASES.iter().filter(|case| folder(case).join("adapters").exists()).cloned().collect()
}

#[test]
fn every_family_has_golden_values() {
    let golden: BTreeSet<&str> = CASES.iter().map(|(_, family)| family.as_str()).collect();
    for family in Family::all() {
        let name = family.model_type();
        assert!(
            golden.contains(name),
            "the family {name} has no golden folder: add it to `CASES` of tests/python/golden_family_cases.py and `ADAPTED` of golden_families.py, and run the latter"
        );
        let adapted = CASES.iter().filter(|(_, own)| own == name).any(|case| folder(case).join("adapters").exists());
        assert!(adapted || name == "llama", "the family {name} has no golden adapters: add its case to `ADAPTED` in golden_families.py");
    }
    // The other way round: no folder of a family that is not in the table.
    let known: Vec<&str> = Family::all().iter().map(Family::model_type).collect();
    assert!(golden.iter().all(|family| known.contains(family)), "{golden:?} {known:?}");
}

#[test]
fn logits_attention_outputs_and_hidden_states_are_those_of_transformers() {
    each(CASES.clone(), |case| {
        let model = open(case, Kind::Float)?;
        let golden = golden(&format!("families/{}/golden.safetensors", case.0))?;
        let prompts = apart(&golden["input_ids"], &golden["lengths"]);
        let mut values = Vec::new();
        let mut hooks = Hooks::new();
        let mut paths = vec!["model.layers.*.self_attn", "model.layers.*", "model.layers.*.mlp", "model.norm"];
        if golden.contains_key("q_proj.0") {
            paths.extend(["model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj", "model.layers.0.self_attn.v_proj"]);
        }
        hooks.observe(&paths.join(", "), |point, value| {
            values.push((point.path.to_string(), value.shallow_clone()));
            Ok(())
        });
        let logits = model.forward_with(&prompts, &mut hooks)?.values;
        drop(hooks);
        let mut compared = 1;
        for (path, value) in values {
            let name = path.trim_start_matches("model.");
            let (name, check) = match name.strip_prefix("layers.").map(|rest| rest.split_once('.').unwrap_or((rest, "hidden"))) {
                None => (name.to_string(), "hidden"),
                Some((layer, "hidden")) => (format!("hidden.{layer}"), "hidden"),
                Some((layer, module @ ("self_attn" | "mlp"))) => (format!("{module}.{layer}"), "attention"),
                Some((layer, module)) => (format!("{}.{layer}", module.trim_start_matches("self_attn.")), "q, k, v"),
            };
            // Of the MLPs only the last layer's is in the file.
            let Some(expected) = golden.get(&name) else { continue };
            demand(case, check, &name, deviation(&joined(&value, &prompts), expected), TOLERANCE);
            compared += 1;
        }
        // Last: what stands before tells where it goes wrong.
        demand(case, "logits", "logits", deviation(&joined(&logits, &prompts), &golden["logits"]), TOLERANCE);
        assert_eq!(compared, golden.len() - 2, "{}: not every golden value was compared", case.0);
        Ok(())
    });
    let worst = worst(&["logits", "attention", "hidden", "q, k, v"]);
    common::agrees("logits, attention outputs and hidden states, other families, f32", worst);
}

#[test]
fn both_spellings_of_the_configuration_mean_the_same_model() {
    each(CASES.clone(), |case| {
        let copy = with_tokenizer(case);
        std::fs::copy(folder(case).join("config.other_spelling.json"), copy.path().join("config.json")).unwrap();
        let other = OpenOptions::new().kind(Kind::Float).open(copy.path())?;
        assert_eq!(logits(&other, &some_prompts())?, logits(&open(case, Kind::Float)?, &some_prompts())?, "{}", case.0);
        // And nothing in either is unknown.
        for model in [&other, &open(case, Kind::Float)?] {
            assert!(model.config().unknown()?.height() == 0, "{}: {:?}", case.0, model.config().unknown()?);
        }
        Ok(())
    });
}

#[test]
fn generation_cached_batched_and_plain_is_that_of_transformers() {
    each(CASES.clone(), |case| {
        let text = std::fs::read_to_string(folder(case).join("generation.json")).unwrap();
        let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
        let lists = |key: &str| -> Vec<Vec<u32>> { serde_json::from_value(golden[key].clone()).unwrap() };
        let (prompts, expected) = (lists("prompts"), lists("tokens"));
        let model = open(case, Kind::Float)?;
        let settings = Generation::greedy(expected[0].len()).ignore_eos();
        // Together, in ragged batches of two, and alone; prompts that share a prefix share a cache.
        let shared: Vec<Vec<u32>> = vec![prompts[2].clone(), prompts[2].clone(), prompts[1].clone()];
        for (rows, batch) in [(prompts.clone(), 32), (prompts.clone(), 2), (prompts.clone(), 1), (shared, 32)] {
            for generated in model.generate(&rows, &settings.clone().batch(batch))? {
                let row = prompts.iter().position(|prompt| *prompt == generated.tokens.prompt).unwrap();
                assert_eq!(generated.tokens.response, expected[row], "{} prompt {row} in batches of {batch}", case.0);
            }
        }
        // Plain forwards of all that is there so far.
        for (prompt, expected) in prompts.iter().zip(&expected) {
            let mut row = prompt.clone();
            for &token in expected {
                let last = model.forward(&[row.clone()])?.values.select(1, row.len() as i64 - 1);
                assert_eq!(last.argmax(-1, false).int64_value(&[0]), i64::from(token), "{} after {} tokens", case.0, row.len());
                row.push(token);
            }
        }
        Ok(())
    });
}

/// The calls of notebooks/quickstart.ipynb on a tiny checkpoint, with fewer rows and steps.
fn quickstart(case: &(String, String), model: Model) -> Result<()> {
    let task = Task::open("sentiment")?.test_at_most(6)?;
    let split = task.few_shot(4, 0)?;
    let shown = split.test.with_demonstrations(&split.train, 0)?;
    let queries = split.test.zero_shot()?;
    let icl = evaluate(&model, &shown)?;
    let alone = evaluate(&model, &queries)?;
    results(&[("zero-shot", &alone, None), ("ICL", &icl, None)])?;

    const SITES: &str = "model.layers.*.self_attn";
    let responses = model.respond(&shown.take(100))?;
    let inside = capture(&model, &responses, SITES)?;
    let taught = responses.without_demonstrations(&model)?;
    let apart = capture(&model, &taught, SITES)?.asim(&inside)?;
    let _ = lines(&stack(&[("zero-shot", &apart)])?, "layer", "asim", "method")?;

    let short = |training: Training| training.learning_rate(1e-2).epochs(4);
    let tuned = short(Training::new(Lora::rank(8), Sft::gold())).run(&model, &split)?;
    let targets = Targets::of(&model, &split).collect()?;
    let primed = short(Training::new(Lora::rank(8), targets.ia2()?)).run(&model, &split)?;
    let both = short(Training::resume(&primed, Sft::gold())?).run(&model, &split)?;
    for trained in [&tuned, &primed, &both] {
        let losses = trained.history()?.column("train_loss")?.f64()?.clone();
        let losses: Vec<f64> = losses.into_no_null_iter().collect();
        // Of one that went on from another training, its own.
        let (before, after) = (losses[losses.len() - 4], losses[losses.len() - 1]);
        // A random model may by chance say the gold answer from the beginning.
        assert!(after < before || after < 0.05, "the loss does not fall: {losses:?}");
        assert!(evaluate(trained.model(), &queries)?.height() == queries.len());
        let asim = capture(trained.model(), &taught, SITES)?.asim(&inside)?;
        assert_eq!(asim.column("layer")?.len() as i64, model.config().layers);
        let place = tempfile::tempdir().unwrap();
        trained.save(place.path())?;
        let adapter = Adapter::open(place.path(), &model)?;
        let logits = |model: &Model| Ok::<_, ia2::Error>(model.forward(&some_prompts())?.values);
        assert_eq!(logits(&model.with(&adapter)?)?, logits(trained.model())?);
    }
    // At the last layer the lens reads what the model says itself, through all caps and multipliers.
    let lens = logit_lens(&model, &queries, 1)?;
    let last = lens.column("layer")?.u32()?.equal(model.config().layers as u32 - 1);
    let mass = |frame: &DataFrame| -> Result<Tensor> {
        Ok(Tensor::from_slice(&frame.column("label_mass")?.f64()?.into_no_null_iter().collect::<Vec<_>>()))
    };
    demand(case, "logit lens", "label mass", deviation(&mass(&lens.filter(&last)?)?, &mass(&alone)?), TOLERANCE);
    Ok(())
}

#[test]
fn the_quickstart_runs_on_every_family() {
    each(adapted(), |case| {
        let copy = with_tokenizer(case);
        quickstart(case, OpenOptions::new().kind(Kind::Float).open(copy.path())?)
    });
}
