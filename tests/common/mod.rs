//! What the integration tests share.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod grid;

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use ia2::prelude::*;
use ia2::{Error, Result};

pub fn golden_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The tensors of a golden file by name.
pub fn golden(file: &str) -> Result<HashMap<String, Tensor>> {
    Ok(Tensor::read_safetensors(golden_folder(file))?.into_iter().collect())
}

/// Says how far at most a test found this library from a reference; `guide::agreement` lists these.
pub fn agrees(what: &str, distance: f64) {
    println!("agreement: {what}: {distance:.1e}");
}

/// The numbers of a golden JSON file, of any nesting.
fn list(value: &serde_json::Value) -> Vec<f64> {
    match value {
        serde_json::Value::Array(values) => values.iter().flat_map(list).collect(),
        value => vec![value.as_f64().unwrap()],
    }
}

/// Demands that these numbers are the golden ones, and gives the largest difference, as a share of the largest of them (at least 1).
pub fn near(ours: &[f64], golden: &serde_json::Value, what: &str) -> f64 {
    let golden = list(golden);
    assert_eq!(ours.len(), golden.len(), "{what}");
    let largest = golden.iter().fold(1.0f64, |most, value| most.max(value.abs()));
    let apart: Vec<f64> = ours.iter().zip(&golden).map(|(ours, golden)| (ours - golden).abs() / largest).collect();
    assert!(apart.iter().all(|apart| *apart < 1e-5), "{what}: {ours:?} and {golden:?}");
    apart.into_iter().fold(0.0, f64::max)
}

/// Says that a test lacks what it needs; past the test runner's capture, so that it is seen and counted.
pub fn skipped(why: &str) {
    // The test runner calls a test's thread by its name.
    let thread = std::thread::current();
    let test = thread.name().and_then(|name| name.rsplit("::").next()).unwrap_or("a test");
    let _ = writeln!(std::io::stdout(), "\nSKIPPED: {test}: {why}");
}

/// A file or folder of `../shared` (or of `IA2_SHARED`); where it is absent the test says so and is skipped.
pub fn shared(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("IA2_SHARED").map(PathBuf::from).unwrap_or(Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let path = root.join(name);
    if !path.exists() {
        skipped(&format!("{} is absent", path.display()));
        return None;
    }
    Some(path)
}

pub fn failed(what: &str) -> Error {
    Model::open(format!("./{what}")).unwrap_err()
}

/// The real tokens of a right-padded batch `[example, token]`.
pub fn rows(ids: &Tensor, lengths: &Tensor) -> Vec<Vec<u32>> {
    let ids: Vec<Vec<i64>> = ids.try_into().unwrap();
    let lengths: Vec<i64> = lengths.try_into().unwrap();
    ids.iter().zip(lengths).map(|(row, length)| row[..length as usize].iter().map(|&id| id as u32).collect()).collect()
}

/// `max |a - b| / max |b|` over the real tokens of `[example, token, ...]`.
pub fn difference(ours: &Tensor, golden: &Tensor, lengths: &[usize]) -> f64 {
    assert_eq!(ours.size(), golden.size());
    let (mut apart, mut largest) = (0f64, 0f64);
    for (row, &length) in lengths.iter().enumerate() {
        let cut = |values: &Tensor| values.get(row as i64).narrow(0, 0, length as i64).to_kind(Kind::Double);
        apart = apart.max((cut(ours) - cut(golden)).abs().max().double_value(&[]));
        largest = largest.max(cut(golden).abs().max().double_value(&[]));
    }
    // NaN compares false with every tolerance only this way round.
    if apart.is_nan() { f64::INFINITY } else { apart / largest }
}

/// `max |a - b| / max |b|`; infinity where that is no number.
pub fn apart(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
    let distance = (a - &b).abs().max().double_value(&[]) / b.abs().max().double_value(&[]);
    // NaN compares false with every tolerance only this way round.
    if distance.is_nan() { f64::INFINITY } else { distance }
}

/// A column of numbers without nulls.
pub fn numbers(frame: &DataFrame, column: &str) -> Vec<f64> {
    frame.column(column).unwrap().cast(&DataType::Float64).unwrap().f64().unwrap().iter().map(Option::unwrap).collect()
}

/// A column of text.
pub fn texts(frame: &DataFrame, column: &str) -> Vec<String> {
    frame.column(column).unwrap().str().unwrap().iter().map(|text| text.unwrap_or("null").to_string()).collect()
}

/// A split of 6 examples of [`words_tokenizer`]'s words with the labels `t3` and `t4`.
pub fn words_split() -> Result<Split> {
    let rows = (0..20).map(|row| Example::new(format!("t{} t{} ", row + 10, row + 30), ["t3", "t4"][row * 5 % 7 % 2])).collect();
    ia2::dataset::Task::of(Examples::new("words", ia2::prompt::AnswerForm::labels(["t3", "t4"])?, rows)?, Default::default()).few_shot(6, 0)
}

/// The golden values of the real trained model.
pub fn check_stories(model: &Model, golden: &serde_json::Value) -> Result<()> {
    for case in golden["prompts"].as_array().unwrap() {
        let prompt = case["prompt"].as_str().unwrap();
        let ids: Vec<u32> = serde_json::from_value(case["input_ids"].clone()).unwrap();
        assert_eq!(model.tokenizer()?.encode(prompt)?, ids);
        let logits = model.forward(std::slice::from_ref(&ids))?.values.get(0).get(ids.len() as i64 - 1);
        for best in case["first_step_top5"].as_array().unwrap() {
            let (ours, theirs) = (logits.double_value(&[best["id"].as_i64().unwrap()]), best["logit"].as_f64().unwrap());
            assert!((ours - theirs).abs() < 1e-5 * logits.abs().max().double_value(&[]), "{prompt}: {ours} and {theirs}");
        }
        let expected: Vec<u32> = serde_json::from_value(case["continuation_ids"].clone()).unwrap();
        let response = model.generate(&[ids], &Generation::greedy(expected.len()))?.remove(0);
        assert_eq!(response.tokens.response, expected, "{prompt}");
        assert_eq!(response.text, case["continuation_text"].as_str().unwrap(), "{prompt}");
    }
    Ok(())
}

/// A `tokenizer.json` with one token per word, `t0`, `t1`, ...; words are cut at white space, unknown ones become `t0`.
pub fn words_tokenizer(words: usize) -> String {
    let vocabulary: serde_json::Map<_, _> = (0..words).map(|id| (format!("t{id}"), id.into())).collect();
    serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "t0"}
    })
    .to_string()
}

/// A copy of a golden checkpoint's own files, to be spoilt.
pub fn copied(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(golden_folder(name)).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap();
        if ["config.json", "generation_config.json", "model.safetensors.index.json"].contains(&file) || file.starts_with("model") {
            std::fs::copy(&path, folder.path().join(file)).unwrap();
        }
    }
    folder
}

/// A golden checkpoint, which has no tokenizer, with one of 64 words.
pub fn with_words(name: &str) -> tempfile::TempDir {
    let folder = copied(name);
    std::fs::write(folder.path().join("tokenizer.json"), words_tokenizer(64)).unwrap();
    folder
}

/// [`with_words`], opened.
pub fn speaking(name: &str) -> Model {
    Model::open(with_words(name).path()).unwrap()
}

/// Everything below a folder: path and content of each file, path of each folder. Temporary files show, too.
pub fn listing(folder: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(listing(&path));
            found.push((path, None));
        } else {
            let content = std::fs::read(&path).unwrap();
            found.push((path, Some(content)));
        }
    }
    found.sort();
    found
}

/// Demands an error that a person can act on, with these words in it; never a bug of the library's or a bare refusal of libtorch's.
pub fn refused<T>(result: Result<T>, words: &[&str]) -> Error {
    let Err(error) = result else { panic!("this must fail and say {words:?}") };
    let text = error.to_string();
    assert!(error.is_input() || error.is_file() || error.is_numeric(), "neither input, file nor number is blamed: {text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    error
}

/// The tensors of a file by name, in the order of their names.
pub fn read(file: impl AsRef<Path>) -> Result<Vec<(String, Tensor)>> {
    let mut tensors = Tensor::read_safetensors(file)?;
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(tensors)
}

/// The adapter with waves added to every parameter, by way of its files. (Tests run side by side, and libtorch has one generator.)
pub fn disturbed(adapter: &Adapter, model: &Model, by: f64) -> Result<Adapter> {
    let folder = tempfile::tempdir().unwrap();
    adapter.save(folder.path())?;
    let file = folder.path().join("adapter_model.safetensors");
    let mut noisy = read(&file)?;
    for (index, (_, values)) in noisy.iter_mut().enumerate() {
        let places = Tensor::arange(values.numel() as i64, (Kind::Double, Device::Cpu)) * 7.31 + index as i64;
        let wave = places.sin().view(values.size().as_slice()) * (by * 2f64.sqrt());
        *values = &*values + wave.to_kind(values.kind());
    }
    Tensor::write_safetensors(&noisy, &file)?;
    Adapter::open(folder.path(), model)
}

/// Writes a value of ours that was changed, with the checksum of what it says now.
#[allow(dead_code)]
pub fn seal(path: &Path, mut value: serde_json::Value) {
    const BLANK: &str = "0000000000000000000000000000000000000000000000000000000000000000";
    value["ia2_checksum"] = BLANK.into();
    let text = serde_json::to_string_pretty(&value).unwrap();
    let digest = format!("{:x}", <sha2::Sha256 as sha2::Digest>::digest(&text));
    std::fs::write(path, text.replacen(BLANK, &digest, 1)).unwrap();
}

/// A program of `examples/`, which cargo builds next to the tests where it is asked for all of them. One that was built before this test is of another library
/// (`cargo test --test NAME` builds no examples).
#[allow(dead_code, reason = "not every test has a use for it")]
pub fn example(name: &str) -> Option<std::path::PathBuf> {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().with_file_name("examples").join(name);
    let age = |path: &std::path::Path| path.metadata().and_then(|meta| meta.modified()).ok();
    let why = match age(&path) {
        None => "is absent",
        built if built < age(&test.with_file_name("libia2.so")) => "is older than the library",
        _ => return Some(path),
    };
    skipped(&format!("{} {why}: cargo build --examples", path.display()));
    None
}
