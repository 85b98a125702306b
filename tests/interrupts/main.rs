//! Interrupts: at each question of every long call, and as signals at moments that no clock of ours decides.
#![cfg(unix)]

mod calls;
#[path = "../common/mod.rs"]
mod common;

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ia2::Result;
use ia2::interrupt;
use ia2::prelude::*;
use ia2::train::Stopped;

const OFF: u64 = u64::MAX;
/// More questions than any call asks.
const MANY: u64 = 1 << 40;

fn model() -> Model {
    Model::open("tiny-icl").unwrap()
}

fn split() -> Split {
    Task::open("sentiment").unwrap().test_at_most(24).unwrap().few_shot(4, 0).unwrap()
}

/// What `call` comes to when it is interrupted at its question after the next `asks`.
fn after<T>(asks: u64, call: impl FnOnce() -> T) -> T {
    interrupt::fuse(asks);
    let outcome = call();
    interrupt::fuse(OFF);
    outcome
}

/// How often `call` asks, and what it comes to.
fn asks<T>(call: impl FnOnce() -> T) -> (u64, T) {
    interrupt::fuse(MANY);
    let outcome = call();
    (MANY - interrupt::fuse(OFF), outcome)
}

/// Everything but times.
fn bits(trained: &Trained) -> (Vec<(String, Vec<u8>)>, String) {
    let folder = tempfile::tempdir().unwrap();
    trained.save(folder.path()).unwrap();
    let bytes =
        |tensor: &Tensor| Vec::<f32>::try_from(tensor.flatten(0, -1)).unwrap().iter().flat_map(|value| value.to_le_bytes()).collect();
    let tensors = common::read(folder.path().join("adapter_model.safetensors")).unwrap();
    let history = trained.history().unwrap().drop("seconds").unwrap().drop("tokens_per_second").unwrap();
    let mut csv = Vec::new();
    CsvWriter::new(&mut csv).finish(&mut history.clone()).unwrap();
    (tensors.iter().map(|(name, tensor)| (name.clone(), bytes(tensor))).collect(), String::from_utf8(csv).unwrap())
}

#[test]
fn an_interrupted_training_gives_what_it_has_and_goes_on_to_the_same_bits() -> Result<()> {
    let (model, split) = (model(), split());
    let training = || Training::new(Lora::rank(2).dropout(0.1), Sft::gold()).batch(2).epochs(8).check_every(2).patience(100);
    for paper in [false, true] {
        let training = || if paper { training().batch(3).compat(Compat::Paper) } else { training() };
        let (all, whole) = asks(|| training().run(&model, &split));
        let whole = whole?;
        assert!(all > 50, "{all} questions");
        let folder = tempfile::tempdir().unwrap();
        let mut ends = Vec::new();
        // At every kind of moment: in a forward of a step, of a dev check, between them.
        for moment in (0..all).step_by(all as usize / 15) {
            let file = folder.path().join(format!("{moment}.safetensors"));
            match after(moment, || training().checkpoint(&file).run(&model, &split)) {
                Ok(trained) => {
                    assert_eq!(trained.stopped(), Stopped::Interrupted, "{moment}");
                    assert!(trained.steps() > 0 && format!("{:?}", trained.manifest()).contains("Interrupted"));
                    ends.push((trained.steps(), trained.history()?.height()));
                }
                Err(error) => assert!(error.is_interrupted() && ends.is_empty() && error.to_string().contains("training"), "{error}"),
            }
            // Again in the middle of what is left, then to the end.
            let again = after(moment / 2, || training().checkpoint(&file).run(&model, &split));
            assert!(again.map_or_else(|error| error.is_interrupted(), |trained| trained.stopped() != Stopped::Budget), "{moment}");
            let resumed = training().checkpoint(&file).run(&model, &split)?;
            assert_eq!(resumed.stopped(), whole.stopped());
            assert!(bits(&resumed) == bits(&whole), "interrupted at question {moment} of {all}, other bits came out");
        }
        let steps: std::collections::BTreeSet<u64> = ends.iter().map(|end| end.0).collect();
        assert!(steps.len() > 3, "{ends:?}");
        // In the middle of a dev check, too: a step is done that has no row yet.
        let owed = ends.iter().filter(|(steps, rows)| steps % 2 == 0 && (*rows as u64) < steps / 2);
        assert!(owed.count() > 0, "no dev check was interrupted: {ends:?}");
    }
    Ok(())
}

#[test]
fn an_interrupted_training_without_a_checkpoint_has_the_best_so_far() -> Result<()> {
    let (model, split) = (model(), split());
    let training = || Training::new(Lora::rank(2), Sft::gold()).batch(2).epochs(4).check_every(1);
    let (all, _) = asks(|| training().run(&model, &split));
    let trained = after(all * 2 / 3, || training().run(&model, &split))?;
    let history = trained.history()?;
    let best = history.column("dev_loss")?.f64()?.min();
    assert_eq!((trained.stopped(), trained.dev_loss()), (Stopped::Interrupted, best));
    // As many steps without an interrupt.
    let same = training().at_most_steps(trained.steps()).run(&model, &split)?;
    if same.history()?.height() == history.height() {
        assert!(bits(&same) == bits(&trained));
    }
    assert!(trained.bundle().plain.contains("interrupted"), "{}", trained.bundle().plain);
    Ok(())
}

fn grid(model: &Model, folder: &Path) -> Experiment {
    let grid = Experiment::new(model).tasks(&["sentiment"]).tested_on("sentiment", &[]).sizes(&[2, 4]).runs(1);
    let grid = grid.methods(&[Method::Icl, Method::Sft, Method::Ia2ThenSft]).learning_rates(&[3e-3]).epochs(1);
    grid.test_at_most(8).compared_at_most(4).folder(folder)
}

fn table(study: &Study) -> Result<DataFrame> {
    Ok(study.frame()?.drop("seconds")?)
}

#[test]
fn an_interrupted_grid_stops_and_goes_on_to_the_same_results() -> Result<()> {
    let model = model();
    let whole = tempfile::tempdir().unwrap();
    let (all, study) = asks(|| grid(&model, whole.path()).run());
    let expected = table(&study?)?;
    let folder = tempfile::tempdir().unwrap();
    let mut missing: Vec<usize> = Vec::new();
    // Each goes on from where the one before stopped.
    loop {
        match after(all / 4 + all / 30 * missing.len() as u64, || grid(&model, folder.path()).run()) {
            Ok(study) if study.missing() == 0 && table(&study)?.equals_missing(&expected) => break,
            Ok(study) => {
                let there = study.frame()?;
                assert_eq!(there.column("failed")?.null_count(), there.height());
                assert_eq!(there.height() + study.missing(), expected.height());
                missing.push(study.missing());
            }
            Err(error) => panic!("{error}"),
        }
        assert!(missing.len() < 40, "{missing:?}");
    }
    assert!(missing.len() > 2 && missing[0] > 2 && missing.is_sorted_by(|a, b| a >= b), "{missing:?}");
    // Not a file more or less, and none half written.
    let names = |folder: &Path| {
        common::listing(folder).into_iter().map(|(path, _)| path.strip_prefix(folder).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(folder.path()), names(whole.path()));
    Ok(())
}

/// Set in a child: what it does. Without it the child's test does nothing.
const CHILD: &str = "IA2_TEST_INTERRUPTED";
const FOLDER: &str = "IA2_TEST_INTERRUPTED_IN";
const PATIENCE: Duration = Duration::from_secs(120);

fn long_training(model: &Model, folder: &Path) -> Result<Trained> {
    let training = Training::new(Lora::rank(2), Sft::gold()).batch(2).epochs(100).check_every(3).patience(10_000);
    training.checkpoint(folder.join("run.safetensors")).run(model, &split())
}

#[test]
#[ignore = "the child of the tests that send signals"]
fn child() {
    let Ok(what) = std::env::var(CHILD) else { return };
    let folder = std::env::var_os(FOLDER).unwrap_or_default();
    if what != "deaf" {
        interrupt::listen().unwrap();
    }
    let model = model();
    let outcome = || -> Result<()> {
        println!("\nbegun");
        match what.as_str() {
            "training" => {
                let trained = long_training(&model, Path::new(&folder))?;
                println!("\n{:?} {}", trained.stopped(), trained.steps());
            }
            "evaluating" => loop {
                evaluate(&model, &split().test.zero_shot()?)?;
            },
            // Nothing of this library runs.
            _ => std::thread::sleep(PATIENCE),
        }
        Ok(())
    }();
    // The test runner has a code of its own; a program returns this one from `main`.
    let code = format!("{:?}", interrupt::exit_code(outcome));
    let code: String = code.chars().filter(char::is_ascii_digit).collect();
    std::process::exit(code.parse().unwrap());
}

fn start(what: &str, folder: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--ignored", "--nocapture"]).env(CHILD, what).env(FOLDER, folder);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut seen, mut byte) = (String::new(), [0]);
    while !seen.contains("begun\n") {
        child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
        seen.push(byte[0].into());
    }
    child
}

fn send(child: &Child, signal: i32) {
    // SAFETY: a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

/// A moment within `most`.
fn moment(most: Duration) {
    let nanoseconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    std::thread::sleep(most.mul_f64(f64::from(nanoseconds / 7 % 1000) / 1000.0));
}

/// How the child ended, what it wrote, and how long that took.
fn ended(mut child: Child) -> (std::process::ExitStatus, String, String, Duration) {
    let began = Instant::now();
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (child.wait().unwrap(), out, err, began.elapsed())
}

#[test]
fn a_training_that_gets_signals_stops_and_goes_on_to_the_same_bits() -> Result<()> {
    let (model, whole, broken) = (model(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = long_training(&model, whole.path())?;
    let mut steps = 0;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGINT, libc::SIGTERM] {
        let child = start("training", broken.path());
        moment(Duration::from_millis(400));
        send(&child, signal);
        let (status, out, err, _) = ended(child);
        assert_eq!(status.code(), Some(128 + signal), "{status:?} {out} {err}");
        let stopped = out.lines().find_map(|line| line.strip_prefix("Interrupted ")?.parse().ok());
        match stopped {
            Some(now) => {
                assert!(now >= steps && now < expected.steps(), "{now} after {steps}: make it longer");
                steps = now;
            }
            None => assert!(err.contains("interrupted") && err.contains("training") && steps == 0, "{out} {err}"),
        }
        assert_eq!(common::listing(broken.path()).iter().filter(|(path, _)| !path.ends_with("run.safetensors")).count(), 0);
    }
    assert!(steps > 0);
    assert!(bits(&long_training(&model, broken.path())?) == bits(&expected), "interrupted until step {steps}, other bits came out");
    Ok(())
}

#[test]
fn signals_go_where_they_went_before_unless_a_call_is_running() {
    let nowhere = Path::new("");
    // A program that did not ask: its own way, whatever this library is doing.
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let child = start("deaf", nowhere);
        send(&child, signal);
        assert_eq!(ended(child).0.signal(), Some(signal));
    }
    // One that listens while nothing of this library runs.
    let child = start("idle", nowhere);
    send(&child, libc::SIGINT);
    assert_eq!(ended(child).0.signal(), Some(libc::SIGINT));
    // An error of what ran, and the code that shells give.
    let child = start("evaluating", nowhere);
    moment(Duration::from_millis(200));
    send(&child, libc::SIGTERM);
    let (status, _, err, took) = ended(child);
    assert!(status.code() == Some(143) && err.contains("interrupted by SIGTERM: evaluate"), "{status:?} {err}");
    assert!(took < Duration::from_secs(60), "{took:?}");
}
