//! Every reader of the crate against changed inputs: no panic, no end of the process, no endless wait, and of what this library wrote no
//! changed value that opens as if it were whole.
//!
//! `cargo test` tries what its share of a minute allows, from a fixed seed; `cargo xtask fuzz --minutes N` goes on for longer, from another
//! one. The readers stand in `readers.rs`, the changes in `mutate.rs`, what once fell in `corpus.rs` and `tests/corpus`.
//!
//! Inputs are opened in a child process, one after the other. The parent looks after it: what ends the child, holds it for longer than
//! [`PATIENCE`] or takes more than [`MEMORY`] is a finding like a panic, and a new child goes on with the next input.
#![cfg(unix)]

#[path = "../common/mod.rs"]
mod common;
mod corpus;
mod mutate;
mod parent;
mod readers;

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mutate::{Random, mutated};
use parent::judge;
use readers::{Outcome, Reader, Workshop};
use serde::{Deserialize, Serialize};

/// The longest that one input may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most memory that the child may hold, and the most it may ask for.
const MEMORY: u64 = 3 << 30;
const ADDRESSES_KB: u64 = 16 << 20;
/// An error is read by a person.
const LONGEST_MESSAGE: usize = 10_000;
/// A reader that ends this many children is left alone.
const DEATHS: usize = 12;
const DEATHS_IN_SHORT: usize = 3;
const CHANGED: &str = "changed value";
const SEED: u64 = 20_261_128;

/// Findings that are known and not cured here: the reader's name begins so, the kind, why.
const KNOWN: &[(&str, &str, &str)] =
    &[("benchmark", "slow", "the parquet crate skips the elements of a damaged header one by one, up to 2^31: some ten seconds")];

const TASK: &str = "IA2_MUTATED_TASK";
const FOLDER: &str = "IA2_MUTATED_FOLDER";

/// What a child is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Job {
    work: Work,
    seed: u64,
    /// For all readers together.
    seconds: f64,
    /// Part of a reader's name.
    only: Option<String>,
    /// Reader and input to begin at, and the seconds that this reader has had.
    from: (u64, u64, f64),
    /// Readers that ended too many children.
    without: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Work {
    Mutations,
    Corpus,
    SpecialFiles,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Tried {
    inputs: u64,
    opened: u64,
    seconds: f64,
    /// How often what was found.
    found: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Line {
    Finding { reader: String, input: String, kind: String, text: String },
    Done { reader: String, tried: Tried },
}

/// The child's side: where it is, and what it has found.
struct Diary {
    folder: PathBuf,
    state: std::fs::File,
    lines: std::fs::File,
    /// One example of each kind of finding is kept.
    met: BTreeMap<(String, String, String), u64>,
}

impl Diary {
    fn open(folder: &Path) -> Self {
        let write =
            |name: &str| std::fs::OpenOptions::new().append(name == "lines").write(true).create(true).open(folder.join(name)).unwrap();
        Self { folder: folder.into(), state: write("state"), lines: write("lines"), met: BTreeMap::new() }
    }

    /// Before an input is opened; 0 for none. The time tells an input that lasts from one that has its turn again.
    fn at(&self, reader: u64, input: u64, used: f64) {
        let numbers = [reader, input, (used * 1e6) as u64];
        self.state.write_all_at(&numbers.map(u64::to_le_bytes).concat(), 0).unwrap();
    }

    fn line(&mut self, line: &Line) {
        use std::io::Write;
        writeln!(self.lines, "{}", serde_json::to_string(line).unwrap()).unwrap();
    }

    fn found(&mut self, reader: &str, input: &str, kind: &str, text: &str, bytes: &[u8]) {
        let words = |text: &str| text.chars().filter(|letter| letter.is_ascii_alphabetic() || *letter == ' ').take(60).collect();
        let same = if kind == CHANGED { String::new() } else { words(text) };
        let count = self.met.entry((reader.into(), kind.into(), same)).or_default();
        *count += 1;
        if *count == 1 {
            std::fs::write(self.folder.join(format!("{}.{input}.{kind}", slug(reader))), bytes).unwrap();
            self.line(&Line::Finding {
                reader: reader.into(),
                input: input.into(),
                kind: kind.into(),
                text: text.chars().take(600).collect(),
            });
        }
    }
}

/// A name as a file's.
fn slug(name: &str) -> String {
    name.replace(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.', "-").replace("--", "-")
}

/// True while an input is being opened: then a panic is a finding, otherwise a mistake of the test.
static OPENING: AtomicBool = AtomicBool::new(false);
/// Where the last panic came from.
static PLACE: Mutex<String> = Mutex::new(String::new());

/// What this process has had of a processor: other work on the machine does not count.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes into the struct that it is given.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// One input: what is wrong with how it went, if anything is, and its value if it opened.
fn attempt(
    reader: &Reader,
    input: &[u8],
    open: impl FnOnce() -> Outcome,
    valid: &[String],
) -> (Option<(&'static str, String)>, Option<String>) {
    let began = processor_time();
    OPENING.store(true, Ordering::Relaxed);
    let outcome = catch_unwind(AssertUnwindSafe(|| open().map_err(|error| (error.is_internal(), error.is_torch(), error.to_string()))));
    OPENING.store(false, Ordering::Relaxed);
    let lasted = processor_time().saturating_sub(began);
    if lasted > PATIENCE {
        return (Some(("slow", format!("{lasted:?}"))), None);
    }
    match outcome {
        Err(_) => (Some(("panic", PLACE.lock().unwrap().clone())), None),
        Ok(Err((true, _, text))) => (Some(("bug", text)), None),
        Ok(Err((_, true, text))) => (Some(("libtorch", text)), None),
        Ok(Err((_, _, text))) if text.chars().count() > LONGEST_MESSAGE => {
            (Some(("long message", format!("{} letters: {text:.300}", text.chars().count()))), None)
        }
        Ok(Err((_, _, text))) if text.trim().is_empty() => (Some(("no message", String::new())), None),
        Ok(Err(_)) => (None, None),
        Ok(Ok(value)) if reader.ours && !valid.contains(&value) && reader.mark.is_none_or(|mark| holds(input, mark)) => {
            (Some((CHANGED, difference(&value, &valid[0]))), Some(value))
        }
        Ok(Ok(value)) => (None, Some(value)),
    }
}

fn holds(input: &[u8], mark: &str) -> bool {
    input.windows(mark.len()).any(|window| window == mark.as_bytes())
}

/// Where two texts part.
fn difference(now: &str, then: &str) -> String {
    let place = now.bytes().zip(then.bytes()).position(|(a, b)| a != b).unwrap_or(now.len().min(then.len()));
    let cut = |text: &str| String::from_utf8_lossy(&text.as_bytes()[place.saturating_sub(50)..(place + 40).min(text.len())]).into_owned();
    format!("…{}… was …{}…", cut(now), cut(then))
}

#[test]
#[ignore = "the child of the other tests"]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = PathBuf::from(folder);
    let job: Job = serde_json::from_str(&std::env::var(TASK).unwrap()).unwrap();
    let mut diary = Diary::open(&folder);
    diary.at(job.from.0, u64::MAX, job.from.2);
    let workshop = Workshop::new(&folder.join("work"));
    let readers = workshop.readers();
    std::panic::set_hook(Box::new(|info| match OPENING.load(Ordering::Relaxed) {
        true => *PLACE.lock().unwrap() = format!("{info}"),
        false => eprintln!("{info}"),
    }));
    let chosen = |reader: &Reader| job.only.as_ref().is_none_or(|only| reader.name.contains(only));
    let weights: f64 = readers.iter().filter(|reader| chosen(reader)).map(|reader| reader.weight).sum();
    for (place, reader) in readers.iter().enumerate().filter(|(_, reader)| chosen(reader)) {
        let place = place as u64;
        if place < job.from.0 || job.without.contains(&place) {
            continue;
        }
        let (first, used) = if place == job.from.0 { (job.from.1, job.from.2) } else { (0, 0.0) };
        let share = job.seconds * reader.weight / weights;
        one_reader(&mut diary, &job, reader, place, first, used, share);
        reader.restore();
    }
    diary.at(u64::MAX, 0, 0.0);
}

fn one_reader(diary: &mut Diary, job: &Job, reader: &Reader, place: u64, first: u64, used: f64, share: f64) {
    let began = Instant::now();
    let mut tried = Tried::default();
    let lasted = || used + began.elapsed().as_secs_f64();
    let mut values = Vec::new();
    for input in &reader.inputs {
        for _ in 0..2 {
            match reader.try_input(input) {
                Ok(value) => values.push(value),
                Err(error) => return diary.found(&reader.name, "valid", "valid input refused", &error.to_string(), input),
            }
        }
    }
    if values.chunks(2).any(|pair| pair[0] != pair[1]) {
        return diary.found(&reader.name, "valid", "one input with two values", &difference(&values[1], &values[0]), &reader.inputs[0]);
    }
    match job.work {
        Work::Mutations => {
            let bases: Vec<Vec<u8>> = reader.inputs.iter().chain(&reader.others).cloned().collect();
            let mut input = first;
            while lasted() < share || input < 20 {
                let bytes = mutated(reader.shape, &bases, &mut Random::new(job.seed, &reader.name, input));
                one_input(diary, reader, (place, input, lasted()), &input.to_string(), &bytes, &values, &mut tried);
                input += 1;
            }
        }
        Work::Corpus => {
            for (input, (label, bytes)) in corpus::of(reader).into_iter().enumerate().skip(first as usize) {
                one_input(diary, reader, (place, input as u64, lasted()), &label, &bytes, &values, &mut tried);
            }
        }
        Work::SpecialFiles => special_files(diary, reader, place, first, &values, &mut tried),
    }
    tried.seconds = began.elapsed().as_secs_f64();
    for ((_, kind, _), count) in diary.met.iter().filter(|((name, _, _), _)| *name == reader.name) {
        *tried.found.entry(kind.clone()).or_default() += count;
    }
    diary.line(&Line::Done { reader: reader.name.clone(), tried });
}

fn one_input(diary: &mut Diary, reader: &Reader, at: (u64, u64, f64), label: &str, bytes: &[u8], values: &[String], tried: &mut Tried) {
    std::fs::write(diary.folder.join("current"), bytes).unwrap();
    diary.at(at.0, at.1, at.2);
    let mut outcome = attempt(reader, bytes, || reader.try_input(bytes), values);
    // Once may be other work on the machine.
    if outcome.0.as_ref().is_some_and(|(kind, _)| *kind == "slow") {
        diary.at(at.0, at.1, at.2 + PATIENCE.as_secs_f64());
        outcome = attempt(reader, bytes, || reader.try_input(bytes), values);
    }
    let (finding, value) = outcome;
    tried.inputs += 1;
    tried.opened += u64::from(value.is_some());
    if let Some((kind, text)) = finding {
        diary.found(&reader.name, label, kind, &text, bytes);
    }
}

/// What is no regular file in place of one.
fn special_files(diary: &mut Diary, reader: &Reader, place: u64, first: u64, values: &[String], tried: &mut Tried) {
    let Some(file) = &reader.file else { return };
    let kinds = ["pipe", "device", "folder", "socket", "loop", "sparse"];
    for (input, kind) in kinds.into_iter().enumerate().skip(first as usize) {
        let _ = std::fs::remove_file(file).or_else(|_| std::fs::remove_dir(file));
        match kind {
            "pipe" => assert!(Command::new("mkfifo").arg(file).status().unwrap().success()),
            "device" => symlink("/dev/zero", file).unwrap(),
            "folder" => std::fs::create_dir(file).unwrap(),
            // Its name would be too long where it is to stand.
            "socket" => {
                let short = diary.folder.join("s");
                let _ = std::fs::remove_file(&short);
                drop(std::os::unix::net::UnixListener::bind(&short).unwrap());
                std::fs::rename(short, file).unwrap();
            }
            "loop" => symlink(file, file).unwrap(),
            _ => std::fs::File::create(file).unwrap().set_len(1 << 42).unwrap(),
        }
        diary.at(place, input as u64, 0.0);
        let (mut finding, value) = attempt(reader, b"", || (reader.open)(""), values);
        // A link that leads nowhere is a file that is not there, and some need not be.
        if kind == "loop" {
            finding = finding.filter(|(fault, _)| *fault != CHANGED);
        } else if value.is_some() {
            finding = finding.or(Some(("opened", format!("a {kind} in place of {}", file.display()))));
        }
        tried.inputs += 1;
        if let Some((fault, text)) = finding {
            diary.found(&reader.name, kind, fault, &text, b"");
        }
    }
}

#[test]
fn mutated_inputs_harm_nobody() {
    judge(Work::Mutations, 30.0);
}

#[test]
fn what_once_fell_stands() {
    judge(Work::Corpus, 0.0);
}

#[test]
fn pipes_devices_folders_and_sockets_are_refused() {
    judge(Work::SpecialFiles, 0.0);
}
