//! GGUF files against transformers and the Python package `gguf`: the golden files are made by `tests/python/golden_gguf.py`.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::{Path, PathBuf};

use common::{difference, golden, golden_folder, listing, refused, rows};
use ia2::Result;
use ia2::prelude::*;
use ia2::tokenizer::{Chat, Tokenizer};

/// Keeps the largest block that each thread has asked for, so that a number of a damaged file cannot ask for much unseen.
struct Watched;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn watch(size: usize) {
    // A thread that ends has no such value any more.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
}

// SAFETY: the system's allocator does it all.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        watch(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        watch(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        watch(size);
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// Every golden file, so that none is left out of a test.
fn models() -> Vec<String> {
    let entries = std::fs::read_dir(golden_folder("gguf")).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|ending| ending == "gguf"));
    let mut names: Vec<String> = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort_unstable();
    names
}

fn file(name: &str) -> PathBuf {
    golden_folder("gguf").join(format!("{name}.gguf"))
}

fn in_f32(name: impl AsRef<Path>) -> Result<Model> {
    OpenOptions::new().kind(Kind::Float).open(name)
}

#[test]
fn logits_are_those_of_transformers() -> Result<()> {
    for name in &models() {
        let golden = golden(&format!("gguf/{name}.safetensors"))?;
        let prompts = rows(&golden["input_ids"], &golden["lengths"]);
        let lengths = prompts.iter().map(Vec::len).collect::<Vec<_>>();
        let model = in_f32(file(name))?;
        assert_eq!(model.kind(), Kind::Float);
        let mut attention = None;
        let mut hooks = Hooks::new();
        hooks.observe("model.layers.0.self_attn", |_, value| {
            attention = Some(value.shallow_clone());
            Ok(())
        });
        let logits = model.forward_with(&prompts, &mut hooks)?.values;
        drop(hooks);
        for (what, ours, theirs) in [("logits", &logits, &golden["logits"]), ("self_attn", &attention.unwrap(), &golden["self_attn"])] {
            let apart = difference(ours, theirs, &lengths);
            println!("{name} {what}: {apart:.1e}");
            assert!(apart < 1e-5, "{name} {what}: {apart:.1e}");
        }
        // As it is opened by default: bf16 for what is quantised, and for what is stored so.
        let plain = Model::open(file(name))?;
        assert_eq!(plain.kind(), Kind::BFloat16);
        let apart = difference(&plain.forward(&prompts)?.values.to_kind(Kind::Float), &golden["logits"], &lengths);
        let bound = if plain.config().layers > 4 { 1.2e-1 } else { 6e-2 };
        assert!(apart < bound, "{name} in bf16: {apart:.1e}");
    }
    Ok(())
}

/// Texts, their ids, and what these decode to.
fn check_texts(tokenizer: &Tokenizer, golden: &serde_json::Value, at_least: usize) -> Result<()> {
    let texts = golden["texts"].as_array().unwrap();
    assert!(texts.len() >= at_least);
    for row in texts {
        let text = row["text"].as_str().unwrap();
        let ids: Vec<u32> = serde_json::from_value(row["ids"].clone()).unwrap();
        assert_eq!(tokenizer.encode(text)?, ids, "{text:?}");
        assert_eq!(tokenizer.decode(&ids)?, row["decoded"].as_str().unwrap(), "{text:?}");
    }
    Ok(())
}

fn json(path: PathBuf) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn tokens_are_those_of_transformers() -> Result<()> {
    for name in &models() {
        let model = Model::open(file(name))?;
        let at_least = if ["gpt2", "gemma2"].contains(&name.as_str()) { 1000 } else { 160 };
        check_texts(model.tokenizer()?, &json(golden_folder("gguf").join(format!("{name}.json"))), at_least)?;
    }
    Ok(())
}

#[test]
fn what_is_saved_opens_as_the_same_model() -> Result<()> {
    for name in &models() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("a model.gguf");
        std::fs::copy(file(name), &source).unwrap();
        let before = listing(folder.path());
        // By its folder, which holds nothing else.
        let model = in_f32(folder.path())?;
        assert_eq!(model.folder(), source);
        let saved = folder.path().join("saved");
        model.save(&saved)?;
        let again = Model::open(&saved)?;
        assert_eq!((again.kind(), again.config().eos.clone()), (Kind::Float, model.config().eos.clone()));
        let prompts = [vec![1, 5, 9, 33], vec![1, 2]];
        assert_eq!(again.forward(&prompts)?.values, model.forward(&prompts)?.values, "{name}");
        for text in ["The Zürich  cat 12\n", "<s><|im_end|>"] {
            assert_eq!(again.tokenizer()?.encode(text)?, model.tokenizer()?.encode(text)?);
        }
        let template = json(saved.join("tokenizer_config.json"))["chat_template"].as_str().unwrap().to_owned();
        assert_eq!(template, "{{ messages[0]['content'] }}");
        std::fs::remove_dir_all(&saved).unwrap();
        assert!(listing(folder.path()) == before, "{name}: opening or saving changed the file's folder");
    }
    Ok(())
}

#[test]
fn special_tokens_and_the_chat_template_come_along() -> Result<()> {
    for name in &models() {
        let (bos, eos) = if name.starts_with("gemma") { (2, 1) } else { (1, 2) };
        let model = Model::open(file(name))?;
        let tokenizer = model.tokenizer()?;
        let special = |token: &str, sentencepiece: u32| tokenizer.id(token).unwrap_or(sentencepiece);
        assert_eq!(tokenizer.bos(), Some(special("<|im_start|>", bos)), "{name}");
        assert_eq!(tokenizer.eos(), Some(special("<|im_end|>", eos)), "{name}");
        assert_eq!(model.eos(), tokenizer.eos());
        assert_eq!(tokenizer.chat(&Chat::of([("user", "What is it?")]))?, "What is it?");
    }
    Ok(())
}

#[test]
fn an_adapter_knows_the_file_as_its_base_model() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::open(file("qwen2"))?;
    Adapter::new(&model, Lora::rank(2), 1)?.save(folder.path())?;
    Adapter::open(folder.path(), &model)?;
    let error = refused(
        Adapter::open(folder.path(), &Model::open(file("qwen3"))?),
        &["qwen2.gguf` is a qwen2, this one a qwen3", "a wrong base model"],
    );
    assert!(error.is_file(), "{error}");
    Ok(())
}

/// A file of the tiny model with some bytes changed, opened; what Python's `gguf` would do does not matter.
fn open_changed(folder: &Path, bytes: &[u8]) -> Result<Model> {
    let path = folder.join("changed.gguf");
    std::fs::write(&path, bytes).unwrap();
    Model::open(&path)
}

#[test]
fn no_damage_makes_it_panic_or_ask_for_much_memory() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(file("qwen2")).unwrap();
    // Where the header ends: the data of the first tensor begin 32 bytes aligned after it.
    let header = whole.windows(18).rposition(|window| window == b"output_norm.weight").unwrap() + 60;
    let vocabulary = whole.windows(21).position(|window| window == b"tokenizer.ggml.tokens").unwrap();
    let table = whole.windows(17).rposition(|window| window == b"token_embd.weight").unwrap();
    let mut places: Vec<usize> = (0..vocabulary + 60).chain(table - 20..header).collect();
    places.extend((vocabulary + 60..table - 20).step_by(41));
    let mut random = 1u64;
    LARGEST.set(0);
    let (mut opened, mut failed) = (0, 0);
    let mut check = |result: Result<Model>, what: &dyn Fn() -> String| match result {
        Ok(_) => opened += 1,
        Err(error) => {
            failed += 1;
            let text = error.to_string();
            assert!(!error.is_internal(), "{}: {text}", what());
            assert!(error.is_torch() || text.contains("changed.gguf"), "{}: {text}", what());
            // An allocation that the machine refused would read so.
            assert!(!error.is_torch(), "{}: {text}", what());
        }
    };
    for place in places {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let mut bytes = whole.clone();
        bytes[place] = [0xff, 0, 0x80, (random >> 33) as u8][place % 4];
        check(open_changed(folder.path(), &bytes), &|| format!("byte {place}"));
    }
    // Numbers of eight bytes: counts, lengths, sizes and offsets.
    for place in (8..24).step_by(8).chain(table - 16..table + 60) {
        for number in [u64::MAX, u64::MAX / 2 + 1, 1 << 62, 1 << 40, 1 << 32, 1 << 31, 1 << 20, 33, 0] {
            let mut bytes = whole.clone();
            bytes[place..place + 8].copy_from_slice(&number.to_le_bytes());
            check(open_changed(folder.path(), &bytes), &|| format!("{number} at byte {place}"));
        }
    }
    for length in (0..header).step_by(61).chain((header..whole.len()).step_by(4093)) {
        let result = open_changed(folder.path(), &whole[..length]);
        assert!(result.is_err(), "opened with {length} of {} bytes", whole.len());
        check(result, &|| format!("cut to {length} bytes"));
    }
    // What other families' layouts say: lists, windows, shares of heads, factors as tensors, experts.
    for name in ["gemma3", "gptneox", "phi3", "qwen3moe"] {
        let whole = std::fs::read(file(name)).unwrap();
        let vocabulary = whole.windows(21).position(|window| window == b"tokenizer.ggml.tokens").unwrap();
        let after = whole.windows(23).position(|window| window == b"tokenizer.chat_template").unwrap();
        let table = whole.windows(17).rposition(|window| window == b"token_embd.weight").unwrap() + 40;
        for place in (0..vocabulary).step_by(7).chain((after..table).step_by(7)) {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let mut bytes = whole.clone();
            bytes[place] = [0xff, 0, 0x80, (random >> 33) as u8][place % 4];
            check(open_changed(folder.path(), &bytes), &|| format!("{name}, byte {place}"));
        }
        for length in (0..table).step_by(997).chain((table..whole.len()).step_by(29989)) {
            let result = open_changed(folder.path(), &whole[..length]);
            assert!(result.is_err(), "{name} opened with {length} of {} bytes", whole.len());
            check(result, &|| format!("{name} cut to {length} bytes"));
        }
    }
    assert!(failed > 1000 && opened > 100, "{failed} refused, {opened} opened");
    let largest = LARGEST.get();
    assert!(largest < 4 << 20, "{largest} bytes at once, for a file of {}", whole.len());
}

#[test]
fn damage_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(file("qwen2")).unwrap();
    let open = |bytes: &[u8], words: &[&str]| {
        let error = refused(open_changed(folder.path(), bytes), words);
        assert!(error.is_file(), "{error}");
    };
    let with = |place: usize, number: &[u8]| {
        let mut bytes = whole.clone();
        bytes[place..place + number.len()].copy_from_slice(number);
        bytes
    };
    open(b"", &["is empty"]);
    open(b"GG", &["is not a GGUF file"]);
    open(b"version https://git-lfs.github.com/spec/v1\n", &["git lfs pull"]);
    open(b"<!DOCTYPE html>", &["web page"]);
    open(b"tjgg\x03\0\0\0", &["before GGUF"]);
    open(&with(4, &[1]), &["version 1"]);
    open(&with(4, &[0, 0, 0, 3]), &["big-endian"]);
    open(&with(4, &[9]), &["version 9"]);
    open(&with(8, &u64::MAX.to_le_bytes()), &["damaged"]);
    open(&with(16, &u64::MAX.to_le_bytes()), &["damaged"]);
    open(&whole[..whole.len() - 40], &["truncated", "download it again"]);
    open(&whole[..200], &["truncated"]);
    let embedding = whole.windows(17).rposition(|window| window == b"token_embd.weight").unwrap() + 17;
    open(&with(embedding + 4, &(1u64 << 62).to_le_bytes()), &["`token_embd.weight`", "no tensor can have"]);
    open(&with(embedding + 20, &16u32.to_le_bytes()), &["`token_embd.weight`", "IQ2_XXS", "Q4_0"]);
    open(&with(embedding + 24, &64u64.to_le_bytes()), &["`token_embd.weight`", "said to begin 64 bytes after"]);
    // Nothing was written, and no other name helps.
    assert_eq!(listing(folder.path()).len(), 1);
    refused(Model::open(folder.path().join("other.gguf")), &["no file to open"]);
}

/// The real model in the folder of set-up; where it is absent the test says so and is skipped.
fn smollm2() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ia2/models/smollm2");
    if !path.is_dir() {
        common::skipped(&format!("{} is absent: `cargo xtask model smollm2` fetches it", path.display()));
        return None;
    }
    Some(path)
}

#[test]
fn smollm2_cuts_texts_and_computes_as_in_transformers() -> Result<()> {
    if smollm2().is_none() {
        return Ok(());
    }
    let golden = json(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/smollm2.json"));
    let model = in_f32("smollm2")?;
    check_texts(model.tokenizer()?, &golden, 1000)?;
    for case in golden["prompts"].as_array().unwrap() {
        let prompt = case["prompt"].as_str().unwrap();
        let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        assert_eq!(model.tokenizer()?.encode(prompt)?, ids);
        let logits = model.forward(std::slice::from_ref(&ids))?.values.get(0);
        let logits = logits.narrow(0, ids.len() as i64 - 2, 2).slice(1, None, None, 512).to_kind(Kind::Double);
        let expected: Vec<Vec<f64>> = serde_json::from_value(case["logits"].clone()).unwrap();
        let expected = Tensor::from_slice2(&expected);
        let apart = (logits - expected).abs().max().double_value(&[]) / case["largest"].as_f64().unwrap();
        println!("smollm2: logits {apart:.1e} apart");
        assert!(apart < 1e-5, "{prompt:?}: {apart:.1e}");
        let greedy: Vec<u32> = serde_json::from_value(case["greedy"].clone()).unwrap();
        let response = model.generate(&[ids], &Generation::greedy(60))?.remove(0);
        assert_eq!(response.tokens.response, greedy, "{prompt:?}");
        assert_eq!(response.text, case["text"].as_str().unwrap());
    }
    assert!(golden["prompts"][1]["greedy"].as_array().unwrap().len() == 60);
    Ok(())
}
