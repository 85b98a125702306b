//! `cargo xtask bench`: the same work in this library and in Hugging Face transformers + PEFT, in one run and as ratios.
//!
//! Each case runs in a process of its own, the two sides in turn and again in turn: what else the machine does falls on both. No
//! dependencies here, so the few numbers of each side's JSON line are found by their names.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::command;
use crate::failure::{At, Failure, Result};
use crate::notebooks;
use crate::orders;
use crate::project::{self, Project};
use crate::setup;

/// What is compared: our case, Python's, the ratio that is aimed at, and how many of the samples a slow way is given.
const PAIRS: &[(&str, &str, f64, Option<usize>)] = &[
    ("collect-1", "collect-1-best", 1.3, None),
    ("collect-32", "collect-32-best", 1.3, None),
    ("collect-32", "collect-32-authors", 30.0, Some(2)),
    ("ia2-1", "ia2-1-best", 1.3, None),
    ("ia2-1", "ia2-1-authors", 1.8, None),
    ("ia2-32", "ia2-32-best", 1.3, None),
    ("ia2-32", "ia2-32-authors", 1.8, None),
    ("sft-1", "sft-1-best", 1.3, None),
    ("sft-1", "sft-1-authors", 1.8, None),
    ("sft-32", "sft-32-best", 1.3, None),
    ("sft-32", "sft-32-authors", 1.8, None),
    ("evaluate", "evaluate-best", 1.3, None),
    ("evaluate", "evaluate-plain", 9.0, Some(20)),
    ("similarity", "similarity-python", 1.0, Some(1)),
];

/// What may follow `cargo xtask bench`.
const USAGE: &str = "\
usage: cargo xtask bench [--python PATH] [--profile dev] [--threads 2] [--repeats 5] [--rounds 2] [CASE..]

  --python PATH    a Python that has the packages of tests/python/requirements.txt; without it they are installed (5 GB, once)
  --profile dev    the build to measure; without it, release
  --rounds N       how often the two sides take turns
  CASE             only cases whose name begins so, such as collect or ia2-32
  kernel           how long the notebook kernel takes to start, and its cells; alone, and not among the cases when none is named
  orders           targets in a tree's orders against independent ones, by N; alone as well, and without Python";

struct Options {
    python: Option<PathBuf>,
    profile: String,
    threads: usize,
    repeats: usize,
    rounds: usize,
    cases: Vec<String>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self { python: None, profile: "release".into(), threads: 2, repeats: 5, rounds: 2, cases: Vec::new() };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| Failure::new(format!("`{argument}` needs a value"), USAGE));
            let number = |text: &String| match text.parse() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(Failure::new(format!("`{argument}` needs a number above 0, not `{text}`"), USAGE)),
            };
            match argument.as_str() {
                "--python" => options.python = Some(PathBuf::from(value()?)),
                "--profile" => options.profile = value()?.clone(),
                "--threads" => options.threads = number(value()?)?,
                "--repeats" => options.repeats = number(value()?)?,
                "--rounds" => options.rounds = number(value()?)?,
                case if PAIRS.iter().any(|pair| pair.0.starts_with(case)) => options.cases.push(case.to_owned()),
                other => return Err(Failure::new(format!("`{other}` is not understood here"), USAGE)),
            }
        }
        Ok(options)
    }

    fn wants(&self, case: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|wanted| case.starts_with(wanted.as_str()))
    }
}

/// One side's rounds of one case.
struct Side {
    lines: Vec<String>,
}

impl Side {
    /// The best round: what a busy machine took away is not the library's.
    fn samples_per_s(&self) -> f64 {
        self.numbers("samples_per_s").fold(0.0, f64::max)
    }

    /// Samples per second of processor time.
    fn samples_per_cpu_s(&self) -> f64 {
        let samples = self.numbers("samples").fold(0.0, f64::max);
        samples / self.numbers("cpu_seconds").fold(f64::INFINITY, f64::min)
    }

    fn peak_mb(&self) -> f64 {
        self.numbers("peak_mb").fold(f64::INFINITY, f64::min)
    }

    fn above_baseline_mb(&self) -> f64 {
        self.peak_mb() - self.numbers("baseline_mb").fold(f64::INFINITY, f64::min)
    }

    fn numbers(&self, field: &str) -> impl Iterator<Item = f64> {
        self.lines.iter().filter_map(move |line| after(line, field)?.split([',', '}']).next()?.trim().parse().ok())
    }
}

/// What stands after `"field":` in a line of JSON.
fn after<'l>(line: &'l str, field: &str) -> Option<&'l str> {
    let name = format!("\"{field}\":");
    line.find(&name).map(|place| line[place + name.len()..].trim_start())
}

/// Runs what is asked for, prints the table, and writes `target/bench.json` and `target/bench.md`.
pub fn run(project: &Project, arguments: &[String]) -> Result {
    if arguments.iter().any(|argument| argument == "--help") {
        println!("{USAGE}");
        return Ok(());
    }
    if arguments.first().is_some_and(|case| case == "kernel") {
        return kernel(project, &arguments[1..]);
    }
    if arguments.first().is_some_and(|case| case == "orders") {
        return orders::run(project, &arguments[1..]);
    }
    let options = Options::parse(arguments)?;
    // Of all that set-up makes, libtorch alone is needed here.
    if !project.libtorch().exists() {
        setup::run(project, setup::Options::default())?;
    }
    let python = match &options.python {
        Some(python) => python.clone(),
        None => environment(project)?,
    };
    println!("building the bench example ({})", options.profile);
    let ours = build(project, &options.profile)?;
    let (model, work) = (project.join("target/bench-model"), project.join("target/bench-work.json"));
    if !model.join("config.json").exists() {
        let mut make = command::new(project, &python);
        make.arg(project.join("tests/python/make_bench_model.py")).arg(&model);
        passed(command::shown(&mut make)?.success(), "the bench model could not be made")?;
    }
    project::write(&work, &work_json())?;

    let mut table = String::from(
        "| case | ia2, samples/s | against | samples/s | ratio (target) | ratio of processor time | peak MB, ia2 / other (ratio) | above baseline MB (ratio) |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let mut all = Vec::new();
    for &(case, theirs, target, limit) in PAIRS.iter().filter(|pair| options.wants(pair.0)) {
        let (mut rust, mut hf) = (Side { lines: Vec::new() }, Side { lines: Vec::new() });
        for round in 1..=options.rounds {
            println!("{case} against {theirs}, round {round} of {}", options.rounds);
            let mut run = command::new(project, &ours);
            run.arg(&model).arg(&work).arg(case);
            rust.lines.push(measure(&mut run, &options, options.repeats)?);
            let mut run = command::new(project, &python);
            let script = if case == "similarity" { "bench_similarity.py" } else { "bench_hf.py" };
            run.arg(project.join("tests/python").join(script)).arg(&model).arg(&work).arg(theirs);
            if let Some(limit) = limit {
                run.args(["--limit", &limit.to_string(), "--warmup", "0"]);
            }
            hf.lines.push(measure(&mut run, &options, if limit.is_some() { 1 } else { options.repeats })?);
        }
        compare(&rust.lines[0], &hf.lines[0], case)?;
        let row = format!(
            "| {case} | {:.2} | {theirs} | {:.3} | {:.2} ({target}) | {:.2} | {:.0} / {:.0} ({:.2}) | {:.0} / {:.0} ({:.2}) |\n",
            rust.samples_per_s(),
            hf.samples_per_s(),
            rust.samples_per_s() / hf.samples_per_s(),
            rust.samples_per_cpu_s() / hf.samples_per_cpu_s(),
            rust.peak_mb(),
            hf.peak_mb(),
            rust.peak_mb() / hf.peak_mb(),
            rust.above_baseline_mb(),
            hf.above_baseline_mb(),
            rust.above_baseline_mb() / hf.above_baseline_mb(),
        );
        print!("{row}");
        table += &row;
        all.extend(rust.lines.into_iter().chain(hf.lines));
        // After each case, so that an interrupted run leaves what it has measured.
        project::write(&project.join("target/bench.json"), &format!("[\n{}\n]\n", all.join(",\n")))?;
        project::write(&project.join("target/bench.md"), &table)?;
    }
    println!("\n{table}\n{} threads, best of {} rounds; target/bench.md, target/bench.json", options.threads, options.rounds);
    Ok(())
}

/// The notebook kernel's times.
fn kernel(project: &Project, arguments: &[String]) -> Result {
    setup::run(project, setup::Options::default())?;
    let mut measure = notebooks::jupyter(project);
    measure.arg(project.join("xtask/python/kernel_bench.py")).arg(&project.root).args(arguments);
    passed(command::shown(&mut measure)?.success(), "the kernel could not be measured")
}

fn passed(success: bool, what: &str) -> Result {
    if success { Ok(()) } else { Err(Failure::new(what, "see the messages above")) }
}

fn build(project: &Project, profile: &str) -> Result<PathBuf> {
    let mut build = command::cargo(project);
    build.args(["build", "--locked", "--profile", profile, "--example", "bench"]);
    passed(command::shown(&mut build)?.success(), "the bench example does not compile")?;
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(project.join(format!("target/x86_64-unknown-linux-gnu/{folder}/examples/bench")))
}

/// The last line that a side prints: other lines are its progress.
fn measure(run: &mut std::process::Command, options: &Options, repeats: usize) -> Result<String> {
    run.args(["--threads", &options.threads.to_string(), "--repeats", &repeats.to_string()]);
    let program = run.get_program().to_string_lossy().into_owned();
    let output = run.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| Failure::new(format!("`{program}` could not be run: {error}"), "check the path"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().next_back().filter(|line| output.status.success() && line.starts_with('{')) {
        Some(line) => Ok(line.to_owned()),
        None => Err(Failure::new(format!("`{program}` did not finish its case"), "see the messages above")),
    }
}

/// Both sides must have done the same work: the same tokens (where not cut short by a limit), the same norm or loss to 1e-4.
fn compare(ours: &str, theirs: &str, case: &str) -> Result {
    let differs = |what: &str| {
        Err(Failure::new(
            format!("{case}: the two sides differ in {what}"),
            "one of them does other work: compare the lines in target/bench.json",
        ))
    };
    let number = |line: &str, field: &str| after(line, field)?.split([',', '}']).next()?.trim().parse::<f64>().ok();
    for field in ["norm", "loss", "value"] {
        // A value is of the first sample, a norm or loss of all.
        if (field == "value" || number(ours, "samples") == number(theirs, "samples"))
            && let (Some(a), Some(b)) = (number(ours, field), number(theirs, field))
            && (a - b).abs() > 1e-4 * b.abs()
        {
            return differs(field);
        }
    }
    for field in ["tokens", "best"] {
        let ids = |line: &str| -> Vec<String> {
            let inside = after(line, field).unwrap_or_default().split(']');
            // Lists end at `]]`, that is at an empty piece.
            let inside =
                inside.take_while(|piece| piece.trim_start_matches([',', ' ']).starts_with('[') || piece.contains(char::is_numeric));
            inside
                .map(|piece| piece.chars().filter(|c| c.is_ascii_digit() || *c == ',').collect::<String>().trim_matches(',').to_owned())
                .collect()
        };
        let (a, b) = (ids(ours), ids(theirs));
        // Fewer samples on one side: what there is of one list begins the other.
        let fewer = number(ours, "samples") != number(theirs, "samples");
        let same = |a: &String, b: &String| a == b || fewer && (a.starts_with(&format!("{b},")) || b.starts_with(&format!("{a},")));
        if a.len().min(b.len()) > 0 && !a.iter().zip(&b).all(|(a, b)| same(a, b)) {
            return differs(field);
        }
    }
    Ok(())
}

/// Prompts of seeded random words, of the lengths that few-shot classification has: 8 prompts of 7 demonstrations and a query, their
/// queries alone with responses of 32 tokens, and 200 queries behind 8 shared demonstrations.
fn work_json() -> String {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    // xorshift64* (Vigna 2016); the words 0 and 1 stay out: unknown and begin of sequence.
    let mut below = move |bound: u64| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    };
    let mut words = |least: u64, most: u64| -> Vec<u64> {
        let count = least + below(most - least + 1);
        (0..count).map(|_| 2 + below(8190)).collect()
    };
    let queries: Vec<Vec<u64>> = (0..8).map(|_| words(32, 48)).collect();
    let leave_one_out = |asked: usize| -> Vec<u64> {
        // Another order for each, as the library draws one: the prompts share no beginning.
        let others = (0..8).map(|step| (asked * 3 + step * (1 + 2 * (asked % 4))) % 8).filter(|&other| other != asked);
        std::iter::once(1).chain(others.flat_map(|other| queries[other].clone())).chain(queries[asked].clone()).collect()
    };
    let collect: Vec<Vec<u64>> = (0..8).map(leave_one_out).collect();
    let prompts: Vec<Vec<u64>> = queries.iter().map(|query| std::iter::once(1).chain(query.iter().copied()).collect()).collect();
    let responses: Vec<Vec<u64>> = (0..8).map(|_| words(32, 32)).collect();
    let demonstrations: Vec<u64> = std::iter::once(1).chain(words(312, 312)).collect();
    let asked: Vec<Vec<u64>> = (0..200).map(|_| words(30, 50)).collect();
    let mut text = String::new();
    let _ = write!(
        text,
        "{{\"collect\": {collect:?},\n\"train\": {{\"prompts\": {prompts:?},\n\"responses\": {responses:?}}},\n\
         \"evaluate\": {{\"demonstrations\": {demonstrations:?},\n\"queries\": {asked:?}}}}}\n"
    );
    text
}

/// transformers and PEFT, pinned in `tests/python/requirements.txt`, in `.ia2/bench-python`.
fn environment(project: &Project) -> Result<PathBuf> {
    let list = project.join("tests/python/requirements.txt");
    let pins = fs::read_to_string(&list).at(&list)?;
    let folder = project.made("bench-python");
    let (python, stamp) = (folder.join("bin/python"), folder.join("requirements.txt"));
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == pins) {
        return Ok(python);
    }
    println!("installing the Python libraries to compare with: about 5 GB, once, into .ia2/bench-python (--python PATH uses another)");
    if !runs(project, &python) {
        let no_venv = "install Python's venv module: `sudo apt-get install python3-venv` (Debian, Ubuntu)";
        project::remove(&folder)?;
        command::logged(project, "bench-venv", command::new(project, "python3").args(["-m", "venv"]).arg(&folder), &[("", no_venv)])?;
    }
    let mut pip = command::new(project, &python);
    pip.args(["-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--requirement"]).arg(&list);
    command::logged(project, "bench-python", &mut pip, setup::PIP_REMEDIES)?;
    project::write(&stamp, &pins)?;
    Ok(python)
}

fn runs(project: &Project, python: &Path) -> bool {
    command::output(command::new(project, python).args(["-c", "import pip"])).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = r#"{"case":"collect-1","samples":2,"check":{"norm":21.5,"tokens":[[5,6],[7,8]]}}"#;

    #[test]
    fn numbers_are_found_by_name() {
        let side = Side { lines: vec![OURS.into(), r#"{"samples": 8, "cpu_seconds": 2.0}"#.into()] };
        assert_eq!(side.numbers("samples").collect::<Vec<_>>(), [2.0, 8.0]);
        assert_eq!(side.numbers("norm").collect::<Vec<_>>(), [21.5]);
        assert_eq!(side.samples_per_cpu_s(), 4.0);
    }

    #[test]
    fn other_work_is_told() {
        let same = r#"{"check": {"tokens": [[5, 6], [7, 8]], "norm": 21.5001}, "samples": 2}"#;
        assert!(compare(OURS, same, "collect-1").is_ok());
        assert!(compare(OURS, r#"{"samples": 1, "check": {"tokens": [[5, 6]], "norm": 3.0}}"#, "collect-1").is_ok());
        assert!(compare(OURS, &same.replace("[7, 8]", "[7, 9]"), "collect-1").is_err());
        assert!(compare(OURS, &same.replace("21.5001", "21.6"), "collect-1").is_err());
        assert!(compare(r#"{"check":{"best":[1,2]}}"#, r#"{"check": {"best": [1, 3]}}"#, "evaluate").is_err());
        assert!(compare(r#"{"samples":3,"check":{"best":[1,2,3]}}"#, r#"{"samples": 2, "check": {"best": [1, 2]}}"#, "evaluate").is_ok());
        assert!(compare(r#"{"samples":3,"check":{"best":[1,2,3]}}"#, r#"{"samples": 2, "check": {"best": [1, 4]}}"#, "evaluate").is_err());
    }

    #[test]
    fn the_work_is_what_the_python_side_reads() {
        let text = work_json();
        for field in ["collect", "train", "prompts", "responses", "evaluate", "demonstrations", "queries"] {
            assert!(after(&text, field).is_some_and(|value| value.starts_with(['[', '{'])), "{field}");
        }
        assert!(Options::parse(&["collect".into(), "--threads".into(), "1".into()]).is_ok_and(|options| !options.wants("ia2-1")));
        assert!(Options::parse(&["--threads".into(), "0".into()]).is_err());
    }
}
