//! A training that is killed, again and again, ends with the bits of one that was left alone.
#![cfg(unix)]

mod common;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::speaking;
use ia2::Result;
use ia2::dataset::{Card, Split, Task};
use ia2::prelude::*;
use ia2::prompt::{AnswerForm, Example, Examples};

const NAME: &str = "qwen3_grouped_tied";
/// Set in a child: the folder it works in. Without it the child's test does nothing.
const FOLDER: &str = "IA2_TEST_KILLED_IN";
/// Several kills, or the test proves little.
const KILLS: usize = 4;
const EPOCHS: u64 = 80;
/// Six examples in batches of two.
const STEPS: u64 = 3 * EPOCHS;
const PATIENCE: Duration = Duration::from_secs(240);

fn split() -> Result<Split> {
    let rows = (0..20).map(|row| Example::new(format!("t{} t{} ", row + 10, row + 30), ["t3", "t4"][row * 5 % 7 % 2])).collect();
    Task::of(Examples::new("words", AnswerForm::labels(["t3", "t4"])?, rows)?, Card::default()).few_shot(6, 0)
}

/// Long enough to be killed in the middle; every second step is stored, so kills fall between checkpoints and within them.
fn training(folder: &Path) -> Training {
    let training = Training::new(Lora::rank(4), Sft::gold()).batch(2).epochs(EPOCHS).patience(10_000).seed(5).check_every(2);
    training.checkpoint(folder.join("run.safetensors"))
}

#[test]
#[ignore = "the child of `a_killed_training_ends_with_the_same_bits`"]
fn child() -> Result<()> {
    let Some(folder) = std::env::var_os(FOLDER) else { return Ok(()) };
    let folder = Path::new(&folder);
    training(folder).run(&speaking(NAME), &split()?)?.adapter().save(folder.join("adapter"))
}

fn start(folder: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--ignored"]).env(FOLDER, folder).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Steps taken, as the checkpoint says; none before there is one. A half-written checkpoint fails here.
fn steps(folder: &Path) -> u64 {
    let file = folder.join("run.safetensors");
    if !file.exists() {
        return 0;
    }
    let bytes = std::fs::read(file).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let state: serde_json::Value = serde_json::from_str(&header.metadata().as_ref().unwrap()["ia2_training"]).unwrap();
    state["step"].as_u64().unwrap()
}

fn weights(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join("adapter/adapter_model.safetensors")).unwrap()
}

#[test]
fn a_killed_training_ends_with_the_same_bits() {
    let (whole, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert!(start(whole.path()).wait().unwrap().success());
    assert_eq!(steps(whole.path()), STEPS);

    let began = Instant::now();
    let mut stops = Vec::new();
    for kill in 0..KILLS {
        let before = steps(broken.path());
        let mut child = start(broken.path());
        // It must have come further, so that each kill tests another resumption; then a moment that no clock of ours decides.
        while steps(broken.path()) <= before {
            assert!(began.elapsed() < PATIENCE, "no step in {PATIENCE:?}");
            assert!(child.try_wait().unwrap().is_none(), "the training ended before kill {kill}: make it longer");
            std::thread::sleep(Duration::from_millis(1));
        }
        let nanoseconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
        std::thread::sleep(Duration::from_micros(u64::from(nanoseconds / 7 % 20_000)));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "the training ended before kill {kill}: make it longer");
        assert!(!broken.path().join("adapter").exists());
        stops.push(steps(broken.path()));
    }
    assert!(stops.windows(2).all(|pair| pair[0] < pair[1]) && stops[KILLS - 1] < STEPS, "{stops:?}");

    assert!(start(broken.path()).wait().unwrap().success());
    assert_eq!(steps(broken.path()), STEPS);
    assert!(weights(broken.path()) == weights(whole.path()), "killed after steps {stops:?}, other weights came out");
}
