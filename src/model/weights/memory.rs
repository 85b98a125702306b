//! How much memory loading takes: measured in a process of its own, because the peak belongs to the whole process.
//!
//! By hand, for another size: `IA2_TEST_MIB=1024 cargo test --lib loading_takes_little_more -- --nocapture`.

use super::*;
use std::io::Write;

const MIB: usize = 1 << 20;

/// Half of the bytes in one tensor, as embeddings have them, and the rest in sixteen.
fn parts(bytes: usize) -> Vec<(String, usize)> {
    let rest = (0..16).map(|index| (format!("model.layers.{index}.weight"), bytes / 32));
    std::iter::once(("model.embed_tokens.weight".to_owned(), bytes / 2)).chain(rest).collect()
}

/// Written piece by piece, so that the test itself needs no memory to speak of.
fn write_checkpoint(path: &Path, bytes: usize) {
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, size) in parts(bytes) {
        header.insert(name, serde_json::json!({"dtype": "F32", "shape": [size / 4], "data_offsets": [end, end + size]}));
        end += size;
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    let piece: Vec<u8> = 0.25_f32.to_le_bytes().repeat(MIB / 4);
    for _ in 0..end / MIB {
        file.write_all(&piece).unwrap();
    }
}

/// Four bits a number: blocks of 18 bytes for 32 numbers, and as many numbers as the other checkpoint has in bf16.
fn write_gguf(path: &Path, bytes: usize) {
    const ROW: usize = 1024;
    let text = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    };
    let own = |name: String| match name.strip_prefix("model.layers.").and_then(|rest| rest.strip_suffix(".weight")) {
        Some(layer) => format!("blk.{layer}.ffn_up.weight"),
        None => "token_embd.weight".to_owned(),
    };
    let parts: Vec<(String, usize)> = parts(bytes).into_iter().map(|(name, size)| (own(name), size / 2 / ROW)).collect();
    let mut header = b"GGUF\x03\0\0\0".to_vec();
    header.extend((parts.len() as u64).to_le_bytes());
    header.extend(1u64.to_le_bytes());
    text(&mut header, "general.architecture");
    header.extend(8u32.to_le_bytes());
    text(&mut header, "llama");
    let mut end = 0u64;
    for (name, rows) in &parts {
        text(&mut header, name);
        header.extend(2u32.to_le_bytes());
        header.extend((ROW as u64).to_le_bytes());
        header.extend((*rows as u64).to_le_bytes());
        header.extend(2u32.to_le_bytes());
        header.extend(end.to_le_bytes());
        end += (rows * ROW / 32 * 18) as u64;
    }
    header.resize(header.len().next_multiple_of(32), 0);
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(&header).unwrap();
    let row = [[0x00, 0x3c].as_slice(), &[0x97; 16]].concat().repeat(ROW / 32);
    for _ in 0..parts.iter().map(|(_, rows)| rows).sum::<usize>() {
        file.write_all(&row).unwrap();
    }
}

/// The peak of what the process allocated, in bytes: without pages of files, which are libtorch's code. How many of these a fault brings in
/// is the system's choice, and none of them is given back before the end.
fn peak() -> usize {
    status("VmHWM") - status("RssFile")
}

/// A field of `/proc/self/status`, in bytes.
fn status(field: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Run alone by a test below: loads the checkpoint at `IA2_TEST_FOLDER` and prints the peak above what the process had before.
#[test]
#[ignore = "the child of `loading_takes_little_more_than_the_weights`"]
fn child() {
    let folder = std::env::var("IA2_TEST_FOLDER").unwrap();
    let _ = Tensor::zeros([1], (Kind::Float, Device::Cpu)).sum(Kind::Float);
    let before = status("RssAnon");
    let mut weights = Weights::open(&folder, Device::Cpu, None).unwrap();
    let clock = std::time::Instant::now();
    let loaded: Vec<Tensor> = weights.names().iter().map(|name| weights.take(name, &weights.shape(name).unwrap()).unwrap()).collect();
    weights.finish().unwrap();
    let seconds = clock.elapsed().as_secs_f64();
    let peak = peak() - before;
    let bytes: usize = loaded.iter().map(|tensor| tensor.kind().elt_size_in_bytes() * tensor.numel()).sum();
    println!("PEAK {peak} OF {bytes} IN {seconds:.2} s");
}

/// Run alone by a test below: opens the real model and prints the peak, its tokenizer included.
#[test]
#[ignore = "the child of `a_real_model_opens_in_little_more_than_its_weights`"]
fn opening_child() {
    let _ = Tensor::zeros([1], (Kind::Float, Device::Cpu)).sum(Kind::Float);
    let before = status("RssAnon");
    let clock = std::time::Instant::now();
    let model = crate::model::Model::open(std::env::var("IA2_TEST_FOLDER").unwrap()).unwrap();
    println!("PEAK {} OF {} IN {:.2} s", peak() - before, model.bytes(), clock.elapsed().as_secs_f64());
}

/// The peak and the bytes of the weights, from a child of that name.
fn measured(child: &str, place: &Path) -> (f64, f64) {
    let mut process = std::process::Command::new(std::env::current_exe().unwrap());
    let process = process.args(["--exact", &format!("model::weights::memory::{child}"), "--ignored", "--nocapture"]);
    let output = process.env("IA2_TEST_FOLDER", place).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    let line = text.lines().find_map(|line| Some(&line[line.find("PEAK ")?..])).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    let (peak, bytes): (f64, f64) = (words[1].parse().unwrap(), words[3].parse().unwrap());
    println!(
        "loading {} MiB of weights ({}) peaks at {:.4} of their size, in {} s",
        bytes as usize / MIB,
        place.display(),
        peak / bytes,
        words[5]
    );
    // Less than the weights would mean that nothing was loaded, or that the measure is broken.
    assert!((1.0..=1.15).contains(&(peak / bytes)), "{line}");
    (peak, bytes)
}

#[test]
fn loading_takes_little_more_than_the_weights() {
    let mib = std::env::var("IA2_TEST_MIB").map_or(128, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let gguf = folder.path().join("model.gguf");
    write_checkpoint(&folder.path().join("model.safetensors"), mib * MIB);
    write_gguf(&gguf, mib * MIB);
    for place in [folder.path(), &gguf] {
        assert_eq!(measured("child", place).1 as usize, mib * MIB);
    }
}

/// 272 tensors, around whose small ones the system maps what was not asked for, and a vocabulary of 49,152 tokens: as GGUF, and as the safetensors
/// that it is saved as. With `--nocapture` it says how long each takes.
#[test]
fn a_real_model_opens_in_little_more_than_its_weights() {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ia2/models/smollm2");
    if !place.is_dir() {
        return crate::skipped("`cargo xtask model smollm2` fetches the real model");
    }
    let (_, bytes) = measured("opening_child", &place);
    let folder = tempfile::tempdir().unwrap();
    crate::model::Model::open(&place).unwrap().save(folder.path()).unwrap();
    assert_eq!(measured("opening_child", folder.path()).1, bytes);
}
