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

/// A field of `/proc/self/status`, in bytes.
fn status(field: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Run alone by the next test: loads the checkpoint in `IA2_TEST_FOLDER` and prints the peak above what the process had before.
#[test]
#[ignore = "the child of `loading_takes_little_more_than_the_weights`"]
fn child() {
    let folder = std::env::var("IA2_TEST_FOLDER").unwrap();
    let _ = Tensor::zeros([1], (Kind::Float, Device::Cpu)).sum(Kind::Float);
    let before = status("VmRSS");
    let mut weights = Weights::open(&folder, Device::Cpu, None).unwrap();
    let bytes = weights.bytes();
    let clock = std::time::Instant::now();
    let loaded: Vec<Tensor> = parts(bytes).iter().map(|(name, size)| weights.take(name, &[(size / 4) as i64]).unwrap()).collect();
    weights.finish().unwrap();
    let seconds = clock.elapsed().as_secs_f64();
    let peak = status("VmHWM") - before;
    assert_eq!(loaded.iter().map(|tensor| 4 * tensor.numel()).sum::<usize>(), bytes);
    println!("PEAK {peak} OF {bytes} IN {seconds:.2} s");
}

#[test]
fn loading_takes_little_more_than_the_weights() {
    let mib = std::env::var("IA2_TEST_MIB").map_or(128, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    write_checkpoint(&folder.path().join("model.safetensors"), mib * MIB);
    let mut process = std::process::Command::new(std::env::current_exe().unwrap());
    let process = process.args(["--exact", "model::weights::memory::child", "--ignored", "--nocapture"]);
    let output = process.env("IA2_TEST_FOLDER", folder.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    let line = text.lines().find_map(|line| Some(&line[line.find("PEAK ")?..])).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    let (peak, bytes): (f64, f64) = (words[1].parse().unwrap(), words[3].parse().unwrap());
    println!("loading {mib} MiB of weights peaks at {:.4} of their size, in {} s", peak / bytes, words[5]);
    // Less than the weights would mean that nothing was loaded, or that the measure is broken.
    assert!((1.0..=1.15).contains(&(peak / bytes)), "{line}");
}
