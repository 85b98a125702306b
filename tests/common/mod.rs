//! What the integration tests share.
#![allow(dead_code, reason = "each test file uses its own part")]

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

/// A file or folder of `../shared` (or of `IA2_SHARED`); where it is absent the test says so and is skipped.
pub fn shared(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("IA2_SHARED").map(PathBuf::from).unwrap_or(Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let path = root.join(name);
    if !path.exists() {
        // Past the test runner's capture, so that it is seen and counted.
        let _ = writeln!(std::io::stdout(), "\nSKIPPED: {} is absent", path.display());
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

/// The golden values of the real trained model.
pub fn check_stories(model: &Model, golden: &serde_json::Value) -> Result<()> {
    for case in golden["prompts"].as_array().unwrap() {
        let prompt = case["prompt"].as_str().unwrap();
        let ids: Vec<u32> = serde_json::from_value(case["input_ids"].clone()).unwrap();
        assert_eq!(model.tokenizer()?.encode(prompt)?, ids);
        let logits = model.forward(&[ids.clone()])?.values.get(0).get(ids.len() as i64 - 1);
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
