//! Interrupts: at each question of every long call, and as signals at moments that no clock of ours decides.
#![cfg(unix)]

mod calls;
#[path = "../common/mod.rs"]
mod common;

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
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
    Ok(study.frame()?.drop_many(["seconds", "total_seconds"]))
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
    for round in 0.. {
        match after(all / 4 + all / 30 * round, || grid(&model, folder.path()).run()) {
            Ok(study) if study.missing() == 0 && table(&study)?.equals_missing(&expected) => break,
            Ok(study) => {
                let there = study.frame()?;
                assert_eq!(there.column("failed")?.null_count(), there.height());
                assert_eq!(there.height() + study.missing(), expected.height());
                missing.push(study.missing());
            }
            // Before the grid is known, there is no study.
            Err(error) => assert!(error.to_string().contains("what was done is kept"), "{error}"),
        }
        assert!(round < 40, "{missing:?}");
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

fn long_training(model: &Model, split: &Split, folder: &Path) -> Result<Trained> {
    let training = Training::new(Lora::rank(2), Sft::gold()).batch(2).epochs(100).check_every(3).patience(10_000);
    training.checkpoint(folder.join("run.safetensors")).run(model, split)
}

#[test]
#[ignore = "the child of the tests that send signals"]
fn child() {
    let Ok(what) = std::env::var(CHILD) else { return };
    let folder = std::env::var_os(FOLDER).unwrap_or_default();
    // In a kernel the library listens of its own accord.
    match what.as_str() {
        "deaf" | "kernel" => {}
        "warned" => interrupt::listen_to(&[libc::SIGTERM, libc::SIGUSR1]).unwrap(),
        _ => interrupt::listen().unwrap(),
    }
    // Opened before the test is told to send its signal, which would stop the opening as well.
    let (model, split) = (model(), split());
    let prompts = split.test.zero_shot().unwrap();
    // Within the call that is to be interrupted: before it a signal would go where it went before.
    let begun = || println!("\nbegun");
    let outcome = || -> Result<()> {
        match what.as_str() {
            "training" => {
                let trained = interrupt::during("a training", || {
                    begun();
                    long_training(&model, &split, Path::new(&folder))
                })?;
                println!("\n{:?} {}", trained.stopped(), trained.steps());
            }
            "evaluating" => {
                return interrupt::during("many evaluations", || {
                    begun();
                    loop {
                        evaluate(&model, &prompts)?;
                    }
                });
            }
            "warned" => {
                let error = interrupt::during("a wait", || {
                    begun();
                    loop {
                        interrupt::check()?;
                    }
                    #[expect(unreachable_code, reason = "says the type")]
                    Ok(())
                });
                // The process is to end: every later call stops as well, and what there is can still be saved.
                assert!(evaluate(&model, &prompts).unwrap_err().is_interrupted());
                Adapter::new(&model, Lora::rank(2), 0)?.save(&folder)?;
                println!("\nby {:?}", interrupt::ending());
                return error;
            }
            "kernel" => cells(&model, begun),
            // Nothing of this library runs.
            _ => {
                begun();
                std::thread::sleep(PATIENCE);
            }
        }
        Ok(())
    }();
    // The test runner has a code of its own; a program returns this one from `main`.
    let code = format!("{:?}", interrupt::exit_code(outcome));
    let code: String = code.chars().filter(char::is_ascii_digit).collect();
    std::process::exit(code.parse().unwrap());
}

/// What a notebook's cells do, each told by a line on standard output.
fn cells(model: &Model, begun: impl Fn()) {
    let prompts = split().test.zero_shot().unwrap();
    let wait = |most: u64| {
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(most) {
            std::hint::black_box(1);
        }
    };
    // Interrupted, a cell gives an error, and its variables are there for the next.
    let error = interrupt::during("a cell", || {
        begun();
        loop {
            evaluate(model, &prompts)?;
        }
        #[expect(unreachable_code, reason = "says the type")]
        Ok(())
    });
    let text = error.unwrap_err().to_string();
    assert!(text.contains("interrupted: a cell, evaluate") && text.contains("all variables are kept"), "{text}");
    assert_eq!(evaluate(model, &prompts).unwrap().height(), 24);
    println!("\nendless");
    // An endless loop, in which the library does nothing; it goes on after the first.
    wait(1500);
    // What came then is forgotten by now.
    evaluate(model, &prompts).unwrap();
    println!("\nbetween");
    // A loop that is between two calls when the signal comes: the next one stops.
    wait(600);
    assert!(evaluate(model, &prompts).unwrap_err().is_interrupted());
    evaluate(model, &prompts).unwrap();
    println!("\nlast");
    wait(PATIENCE.as_millis() as u64);
}

fn start(what: &str, folder: &Path) -> Child {
    start_with(what, folder, &[])
}

fn start_with(what: &str, folder: &Path, environment: &[(&str, &str)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--ignored", "--nocapture"]).env(CHILD, what).env(FOLDER, folder).envs(environment.iter().copied());
    // A shell's background job (`cargo test &`) is born deaf to SIGINT, and so would its children be.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            Ok(())
        })
    };
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&mut child, "begun");
    child
}

/// Reads what the child writes up to this line.
fn wait_for(child: &mut Child, line: &str) -> String {
    let (mut seen, mut byte) = (String::new(), [0]);
    while !seen.ends_with(&format!("\n{line}\n")) {
        if let Err(error) = child.stdout.as_mut().unwrap().read_exact(&mut byte) {
            let mut said = String::new();
            child.stderr.as_mut().unwrap().read_to_string(&mut said).unwrap();
            panic!("{error} before `{line}`: {seen}\n{said}");
        }
        seen.push(byte[0].into());
    }
    seen
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

/// How the child ended and what it wrote.
fn ended(mut child: Child) -> (std::process::ExitStatus, String, String) {
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (child.wait().unwrap(), out, err)
}

#[test]
fn a_training_that_gets_signals_stops_and_goes_on_to_the_same_bits() -> Result<()> {
    let (model, split, whole, broken) = (model(), split(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = long_training(&model, &split, whole.path())?;
    let mut steps = 0;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGINT, libc::SIGTERM] {
        let child = start("training", broken.path());
        moment(Duration::from_millis(400));
        send(&child, signal);
        let (status, out, err) = ended(child);
        assert_eq!(status.code(), Some(128 + signal), "{status:?} {out} {err}");
        let stopped = out.lines().find_map(|line| line.strip_prefix("Interrupted ")?.parse().ok());
        match stopped {
            Some(now) => {
                assert!(now >= steps && now < expected.steps(), "{now} after {steps}: make it longer");
                steps = now;
            }
            // Before its first step.
            None => assert!(err.contains("interrupted") && err.contains("training"), "{out} {err}"),
        }
        assert_eq!(common::listing(broken.path()).iter().filter(|(path, _)| !path.ends_with("run.safetensors")).count(), 0);
    }
    assert!(steps > 0);
    assert!(bits(&long_training(&model, &split, broken.path())?) == bits(&expected), "interrupted until step {steps}, other bits came out");
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
    let (status, _, err) = ended(child);
    assert!(status.code() == Some(143) && err.contains("interrupted by SIGTERM: many evaluations"), "{status:?} {err}");
}

#[test]
fn a_schedulers_warning_stops_all_that_follows_and_lets_the_program_save() {
    let folder = tempfile::tempdir().unwrap();
    let child = start("warned", folder.path());
    send(&child, libc::SIGUSR1);
    let (status, out, err) = ended(child);
    assert_eq!(status.code(), Some(128 + libc::SIGUSR1), "{out} {err}");
    assert!(out.contains(&format!("by Some({})", libc::SIGUSR1)) && err.contains("interrupted by SIGUSR1: a wait"), "{out} {err}");
    assert!(folder.path().join("adapter_config.json").exists());
    for wrong in [0, -1, 65, libc::SIGKILL] {
        assert!(interrupt::listen_to(&[wrong]).unwrap_err().is_input(), "{wrong}");
    }
}

const IN_KERNEL: (&str, &str) = ("EVCXR_IS_RUNTIME", "1");

/// A kernel that ends the process itself at a second interrupt, and wants to hear of answers; and an unchanged one.
#[test]
fn in_a_kernel_an_interrupt_stops_what_runs_and_ends_nothing() {
    for minded in [true, false] {
        let changed = [IN_KERNEL, ("EVCXR_REPORTS_PANICS", "1"), ("EVCXR_COUNTS_INTERRUPTS", "1")];
        let mut child = start_with("kernel", Path::new(""), if minded { &changed } else { &changed[..1] });
        moment(Duration::from_millis(300));
        send(&child, libc::SIGINT);
        let seen = wait_for(&mut child, "endless");
        assert_eq!(seen.matches("EVCXR_INTERRUPT_ANSWERED").count(), usize::from(minded), "{seen}");
        // What comes sooner after another is the same press.
        std::thread::sleep(Duration::from_millis(400));
        send(&child, libc::SIGINT);
        let seen = wait_for(&mut child, "between");
        assert!(!seen.contains("EVCXR_INTERRUPT_ANSWERED"), "{seen}");
        std::thread::sleep(Duration::from_millis(100));
        send(&child, libc::SIGINT);
        wait_for(&mut child, "last");
        // One press that comes twice is one.
        for _ in 0..2 {
            send(&child, libc::SIGINT);
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_millis(400));
        assert!(child.try_wait().unwrap().is_none(), "it was ended by one press");
        send(&child, libc::SIGINT);
        if minded {
            std::thread::sleep(Duration::from_millis(300));
            assert!(child.try_wait().unwrap().is_none(), "its kernel ends it, not the library");
            send(&child, libc::SIGTERM);
        }
        let (status, _, err) = ended(child);
        assert_eq!(status.signal(), Some(if minded { libc::SIGTERM } else { libc::SIGINT }), "{err}");
        let said = err.matches("ia2: no call of ia2 is running").count();
        assert_eq!(said, if minded { 4 } else { 3 }, "{err}");
    }
}

/// The examples that cargo builds next to the tests.
#[test]
fn examples_end_with_the_code_of_their_signal() {
    let out = tempfile::tempdir().unwrap();
    for (name, signal) in [("quickstart", libc::SIGTERM), ("quickstart", libc::SIGINT), ("study", libc::SIGTERM)] {
        let Some(path) = common::example(name) else { continue };
        let mut command = Command::new(path);
        if name == "study" {
            command.args(["--runs", "1", "--n", "4", "--test", "20", "--out"]).arg(out.path());
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let began = Instant::now();
        match name {
            // It says which model it has.
            "quickstart" => child.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap(),
            _ => {
                while !out.path().join("runs").exists() {
                    assert!(began.elapsed() < PATIENCE && child.try_wait().unwrap().is_none(), "{name} does nothing");
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
        moment(Duration::from_millis(500));
        send(&child, signal);
        let (status, _, err) = ended(child);
        // Between two calls SIGINT goes where it went before.
        let own = status.code() == Some(128 + signal) || signal == libc::SIGINT && status.signal() == Some(signal);
        assert!(own, "{name}: {status:?} {err}");
    }
    let broken = common::listing(out.path()).into_iter().filter(|(path, _)| path.to_string_lossy().contains(".partial"));
    assert_eq!(broken.count(), 0);
}
