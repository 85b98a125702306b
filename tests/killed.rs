//! A training that is killed, again and again, ends with the bits of one that was left alone.
#![cfg(unix)]

mod common;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{speaking, words_split};
use ia2::Result;
use ia2::prelude::*;
use ia2::train::{Optimizer, Schedule};

const CHECKPOINTS: [&str; 2] = ["run.safetensors", "next.safetensors"];
const NAME: &str = "qwen3_grouped_tied";
/// Set in a child: the folder it works in, and which run it makes. Without it the child's test does nothing.
const FOLDER: &str = "IA2_TEST_KILLED_IN";
const RUN: &str = "IA2_TEST_KILLED_RUN";
/// Each way to train, how often it is killed, and its steps in all. Several kills, or the test proves little.
const RUNS: [(&str, usize, u64); 3] = [("plain", 2, 3 * EPOCHS), ("paper", 2, EPOCHS), ("phases", 3, 5 * EPOCHS)];
const EPOCHS: u64 = 60;
const PATIENCE: Duration = Duration::from_secs(240);

/// Long enough to be killed in the middle; every second step is stored, so kills fall between checkpoints and within them.
fn settings(training: Training) -> Training {
    training.batch(2).epochs(EPOCHS).patience(10_000).seed(5).check_every(2)
}

#[test]
#[ignore = "the child of `a_killed_training_ends_with_the_same_bits`"]
fn child() -> Result<()> {
    let Some(folder) = std::env::var_os(FOLDER) else { return Ok(()) };
    let folder = Path::new(&folder);
    let model = speaking(NAME);
    let [first, second] = CHECKPOINTS.map(|name| folder.join(name));
    let new = |dropout: f64| settings(Training::new(Lora::rank(4).dropout(dropout), Sft::gold())).checkpoint(&first);
    let trained = match std::env::var(RUN).unwrap().as_str() {
        "plain" => new(0.0).run(&model, &words_split()?)?,
        // Six examples in fours: what is left of each epoch counts in the next.
        "paper" => new(0.2).batch(4).compat(Compat::Paper).run(&model, &words_split()?)?,
        _ => {
            let tuned = new(0.2).accumulate(2).by_length(true).tokens_per_forward(1).clip(0.5).run(&model, &words_split()?)?;
            let next = settings(Training::resume(&tuned, Sft::gold())?).accumulate(1).keep_optimizer().checkpoint(&second);
            let next = next.optimizer(Optimizer::adamw(0.1)).schedule(Schedule::Cosine).warm_up(20);
            next.run(&model, &words_split()?)?
        }
    };
    trained.adapter().save(folder.join("adapter"))
}

fn start(folder: &Path, run: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--ignored"]).env(FOLDER, folder).env(RUN, run).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Steps taken in all phases, as the checkpoints say; none before there is one. A half-written checkpoint fails here.
fn steps(folder: &Path) -> u64 {
    CHECKPOINTS.iter().map(|name| folder.join(name)).filter(|file| file.exists()).map(|file| steps_in(&file)).sum()
}

fn steps_in(file: &Path) -> u64 {
    let bytes = std::fs::read(file).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let state: serde_json::Value = serde_json::from_str(&header.metadata().as_ref().unwrap()["ia2_training"]).unwrap();
    state["step"].as_u64().unwrap()
}

/// The numbers; the header holds a digest of the settings, which name the folder of each child's model.
fn weights(folder: &Path) -> Vec<u8> {
    let bytes = std::fs::read(folder.join("adapter/adapter_model.safetensors")).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + header..].to_vec()
}

#[test]
fn a_killed_training_ends_with_the_same_bits() {
    for (run, kills, all) in RUNS {
        killed(run, kills, all);
    }
}

fn killed(run: &str, kills: usize, all: u64) {
    let (whole, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert!(start(whole.path(), run).wait().unwrap().success(), "{run}");
    assert_eq!(steps(whole.path()), all, "{run}");

    let began = Instant::now();
    let mut stops = Vec::new();
    for kill in 0..kills {
        // It must have come further, so that each kill tests another resumption; from half of the way on to the second phase.
        let before = steps(broken.path()).max(all * kill as u64 / (kills as u64 + 1));
        let mut child = start(broken.path(), run);
        while steps(broken.path()) <= before {
            assert!(began.elapsed() < PATIENCE, "{run}: no step in {PATIENCE:?}");
            assert!(child.try_wait().unwrap().is_none(), "{run}: the training ended before kill {kill}: make it longer");
            std::thread::sleep(Duration::from_millis(1));
        }
        // Then a moment that no clock of ours decides.
        let nanoseconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
        std::thread::sleep(Duration::from_micros(u64::from(nanoseconds / 7 % 20_000)));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "{run}: the training ended before kill {kill}: make it longer");
        assert!(!broken.path().join("adapter").exists());
        stops.push(steps(broken.path()));
    }
    assert!(stops.windows(2).all(|pair| pair[0] < pair[1]) && stops[kills - 1] < all, "{run}: {stops:?}");
    assert!(run != "phases" || (!broken_in_second(&stops[..1], all) && broken_in_second(&stops[kills - 1..], all)), "{run}: {stops:?}");

    assert!(start(broken.path(), run).wait().unwrap().success(), "{run}");
    assert_eq!(steps(broken.path()), all, "{run}");
    assert!(weights(broken.path()) == weights(whole.path()), "{run}: killed after steps {stops:?}, other weights came out");
}

/// Whether a kill fell into the second phase, which has 3 of 5 steps.
fn broken_in_second(stops: &[u64], all: u64) -> bool {
    stops.iter().any(|&stop| stop > all * 2 / 5)
}
