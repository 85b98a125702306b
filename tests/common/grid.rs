//! Grids for workers, and what must be true of them in the end.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ia2::Result;
use ia2::experiment::Job;
use ia2::prelude::*;

/// After how long without a heartbeat a worker is taken for dead in these tests.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// A grid of `runs` runs, a multiple of 4: four in each cell.
pub fn small(model: &Model, runs: usize) -> Experiment {
    let grid =
        Experiment::new(model).tasks(&["sentiment"]).tested_on("sentiment", &[]).methods(&[Method::Icl, Method::Sft, Method::Ia2ThenSft]);
    let sizes: &[usize] = if runs.is_multiple_of(8) { &[2, 4] } else { &[4] };
    grid.sizes(sizes).runs((runs / 4 / sizes.len()) as u64).learning_rates(&[3e-3]).epochs(3).test_at_most(24).compared_at_most(8)
}

pub fn prepared(grid: &Experiment, folder: &Path, program: &str) -> Result<Job> {
    grid.prepare(folder, &Slurm::new().patience(PATIENCE).program(program))
}

/// Numbers that no clock of ours decides.
pub fn random() -> u64 {
    u64::from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos()) / 7
}

/// Everything but how long it took.
pub fn timeless(frame: &DataFrame) -> DataFrame {
    frame.drop_many(["seconds", "total_seconds"])
}

/// The records of a folder by their keys, without times and machines.
fn records(folder: &Path) -> HashMap<String, serde_json::Value> {
    let mut found = HashMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "json") {
            let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            record["ia2_checksum"].take();
            record["machine"].take();
            if record["trained"].is_object() {
                record["trained"]["seconds"].take();
                record["trained"]["cost"]["seconds"].take();
            }
            if record["found"].is_object() {
                record["found"]["seconds"].take();
                record["found"]["cost"]["seconds"].take();
            }
            found.insert(path.file_stem().unwrap().to_str().unwrap().to_string(), record);
        }
    }
    found
}

/// The numbers of an adapter; the header before them holds digests of files with times.
fn weights(folder: &Path) -> Vec<u8> {
    let bytes = std::fs::read(folder.join("adapter_model.safetensors")).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + header..].to_vec()
}

/// Demands the same records and adapters, to the bit.
pub fn same_results(one: &Path, other: &Path) {
    let (ours, theirs) = (records(one), records(other));
    assert_eq!(ours.len(), theirs.len());
    for (key, record) in &ours {
        assert_eq!(*record, theirs[key], "{key}");
        if record["trained"].is_object() {
            assert!(weights(&one.join(key)) == weights(&other.join(key)), "the adapters of {key} differ");
        }
    }
}

/// Demands that no run was done by two workers; gives how many workers have done some.
pub fn worked_once(folder: &Path, runs: usize) -> usize {
    let (mut by, mut workers) = (HashMap::<String, String>::new(), 0);
    for entry in std::fs::read_dir(folder.join("cluster/workers")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "csv") {
            let text = std::fs::read_to_string(&path).unwrap();
            workers += usize::from(text.lines().count() > 1);
            for line in text.lines().skip(1) {
                let key = line.split(',').next().unwrap().to_string();
                let before = by.insert(key.clone(), path.display().to_string());
                assert!(before.is_none(), "{key} was done twice: {before:?} and {}", path.display());
            }
        }
    }
    // A worker that is killed between a run's record and this line leaves one out.
    assert!(by.len() <= runs);
    workers
}
