//! `cargo xtask bench`: the same work in this library and in Hugging Face transformers + PEFT, in one run and as ratios.
//!
//! Each case runs in a process of its own, the two sides in turn and again in turn: what else the machine does falls on both.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::command;
use crate::failure::{At, Failure, Result};
use crate::notebooks;
use crate::orders;
use crate::project::{self, Project};
use crate::setup;

/// What is compared: our case, Python's, the ratios that are aimed at in f32 and bf16 (0: not compared in this kind), and how many of the
/// samples a slow way is given.
type Pair = (&'static str, &'static str, [f64; 2], Option<usize>);

const PAIRS: &[Pair] = &[
    ("collect-1", "collect-1-best", [2.2, 2.5], None),
    ("collect-32", "collect-32-best", [1.8, 2.0], None),
    ("collect-32", "collect-32-authors", [30.0, 0.0], Some(2)),
    ("ia2-1", "ia2-1-best", [1.25, 1.4], None),
    ("ia2-1", "ia2-1-authors", [1.8, 0.0], None),
    ("ia2-32", "ia2-32-best", [1.25, 1.4], None),
    ("ia2-32", "ia2-32-authors", [1.8, 0.0], None),
    ("sft-1", "sft-1-best", [1.25, 1.4], None),
    ("sft-1", "sft-1-authors", [1.8, 0.0], None),
    ("sft-32", "sft-32-best", [1.25, 1.4], None),
    ("sft-32", "sft-32-authors", [1.8, 0.0], None),
    ("evaluate", "evaluate-best", [1.6, 1.8], None),
    ("evaluate", "evaluate-plain", [9.0, 0.0], Some(20)),
    ("similarity", "similarity-python", [1.0, 0.0], Some(1)),
];

/// Training alone is compared on these, which are real models: the one that `cargo xtask model smollm2` fetches, if it is there, and the one that
/// comes with the library.
const REAL: &[(&str, &[&str])] = &[("smollm2", &["ia2-1", "ia2-32", "sft-1", "sft-32"]), ("tiny-icl", &["ia2-1", "sft-1"])];

/// The random model that all cases are compared on.
pub const RANDOM: &str = "random";

/// Where a model that is compared lies, or a copy of it.
pub fn folder(project: &Project, model: &str) -> PathBuf {
    project.join(format!("target/bench-{model}"))
}

/// One row of the table.
struct Row {
    /// Such as `sft-32`, `sft-32-bf16`, `smollm2-sft-1-bf16`.
    name: String,
    model: &'static str,
    kind: &'static str,
    ours: &'static str,
    theirs: &'static str,
    target: f64,
    limit: Option<usize>,
}

/// Every row there is.
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let models = [(RANDOM, None)].into_iter().chain(REAL.iter().map(|(model, cases)| (*model, Some(*cases))));
    for (model, cases) in models {
        for &(ours, theirs, targets, limit) in PAIRS {
            if cases.is_some_and(|cases| !cases.contains(&ours) || !theirs.ends_with("-best")) {
                continue;
            }
            for (kind, target) in [("f32", targets[0]), ("bf16", targets[1])].into_iter().filter(|(_, target)| *target > 0.0) {
                let model_name = if model == RANDOM { String::new() } else { format!("{model}-") };
                let kind_name = if kind == "f32" { "" } else { "-bf16" };
                rows.push(Row { name: format!("{model_name}{ours}{kind_name}"), model, kind, ours, theirs, target, limit });
            }
        }
    }
    rows
}

/// What may follow `cargo xtask bench`.
const USAGE: &str = "\
usage: cargo xtask bench [--python PATH] [--profile dev] [--threads 2] [--repeats 5] [--rounds 2] [--kind f32] [CASE..]

  --python PATH    a Python that has the packages of tests/python/requirements.txt; without it they are installed (5 GB, once)
  --profile dev    the build to measure; without it, release
  --rounds N       how often the two sides take turns
  --kind KIND      only rows in f32 or bf16
  --exactly        only rows of exactly the names given, not those that begin so
  CASE             only rows whose name begins so: collect, ia2-32, sft-1-bf16, smollm2, tiny-icl-sft-1
  kernel           how long the notebook kernel takes to start, and its cells; alone, and not among the cases when none is named
  orders           targets in a tree's orders against independent ones, by N; alone as well, and without Python";

struct Options {
    python: Option<PathBuf>,
    profile: String,
    threads: usize,
    repeats: usize,
    rounds: usize,
    kind: Option<String>,
    exactly: bool,
    cases: Vec<String>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            python: None,
            profile: "release".into(),
            threads: 2,
            repeats: 5,
            rounds: 2,
            kind: None,
            exactly: false,
            cases: Vec::new(),
        };
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
                "--exactly" => options.exactly = true,
                "--kind" => match value()?.as_str() {
                    kind @ ("f32" | "bf16") => options.kind = Some(kind.to_owned()),
                    other => return Err(Failure::new(format!("there are no rows in `{other}`"), USAGE)),
                },
                case if rows().iter().any(|row| row.name.starts_with(case)) => options.cases.push(case.to_owned()),
                other => return Err(Failure::new(format!("`{other}` is not understood here"), USAGE)),
            }
        }
        Ok(options)
    }

    fn wants(&self, row: &Row) -> bool {
        let named = |wanted: &String| if self.exactly { row.name == *wanted } else { row.name.starts_with(wanted.as_str()) };
        (self.cases.is_empty() || self.cases.iter().any(named)) && self.kind.as_ref().is_none_or(|kind| kind == row.kind)
    }
}

/// One side's rounds of one case.
struct Side {
    lines: Vec<Value>,
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
        self.lines.iter().filter_map(move |line| line[field].as_f64())
    }
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
    let mut table = String::from(
        "| case | ia2, samples/s | against | samples/s | ratio (target) | ratio of processor time | peak MB, ia2 / other (ratio) | above baseline MB (ratio) |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let mut all = Vec::new();
    let (mut model, mut there) = ("", None);
    for row in rows().iter().filter(|row| options.wants(row)) {
        if row.model != model {
            (model, there) = (row.model, prepare(project, &ours, &python, row.model)?);
        }
        let Some((folder, work)) = &there else { continue };
        let Row { name: case, theirs, target, limit, .. } = row;
        let (mut rust, mut hf) = (Side { lines: Vec::new() }, Side { lines: Vec::new() });
        for round in 1..=options.rounds {
            println!("{case} against {theirs}, round {round} of {}", options.rounds);
            let mut run = command::new(project, &ours);
            run.arg(folder).arg(work).arg(row.ours).args(["--kind", row.kind]);
            rust.lines.push(measure(&mut run, &options, options.repeats)?);
            let mut run = command::new(project, &python);
            let script = if row.ours == "similarity" { "bench_similarity.py" } else { "bench_hf.py" };
            run.arg(project.join("tests/python").join(script)).arg(folder).arg(work).arg(theirs);
            if row.ours != "similarity" {
                run.args(["--kind", row.kind]);
            }
            if let Some(limit) = limit {
                run.args(["--limit", &limit.to_string(), "--warmup", "0"]);
            }
            hf.lines.push(measure(&mut run, &options, if limit.is_some() { 1 } else { options.repeats })?);
        }
        compare(&rust.lines[0], &hf.lines[0], case, row.kind)?;
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
        all.extend(rust.lines.into_iter().chain(hf.lines).map(|line| line.to_string()));
        // After each case, so that an interrupted run leaves what it has measured.
        project::write(&project.join("target/bench.json"), &format!("[\n{}\n]\n", all.join(",\n")))?;
        project::write(&project.join("target/bench.md"), &table)?;
    }
    println!("\n{table}\n{} threads, best of {} rounds; target/bench.md, target/bench.json", options.threads, options.rounds);
    Ok(())
}

/// The checkpoint and the work of a model, made where they are not there; `None` for a model that is not on this machine.
fn prepare(project: &Project, ours: &Path, python: &Path, model: &str) -> Result<Option<(PathBuf, PathBuf)>> {
    let (folder, work) = (folder(project, model), project.join(format!("target/bench-{model}.json")));
    let mut source = folder.clone().into_os_string();
    if model == RANDOM {
        if !folder.join("config.json").exists() {
            let mut make = command::new(project, python);
            make.arg(project.join("tests/python/make_bench_model.py")).arg(&folder);
            passed(command::shown(&mut make)?.success(), "the bench model could not be made")?;
        }
    } else if model == "tiny-icl" || project.made(format!("models/{model}")).exists() {
        source = model.into();
    } else {
        println!("{model} is not here: its rows are left out (`cargo xtask model {model}` fetches it)");
        return Ok(None);
    }
    let mut write = command::new(project, ours);
    write.arg("prepare").arg(source).arg(&folder).arg(&work);
    passed(command::shown(&mut write)?.success(), "the work could not be written")?;
    Ok(Some((folder, work)))
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
fn measure(run: &mut std::process::Command, options: &Options, repeats: usize) -> Result<Value> {
    run.args(["--threads", &options.threads.to_string(), "--repeats", &repeats.to_string()]);
    let program = run.get_program().to_string_lossy().into_owned();
    let output = run.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| Failure::new(format!("`{program}` could not be run: {error}"), "check the path"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next_back().filter(|_| output.status.success()).and_then(|line| serde_json::from_str(line).ok());
    line.ok_or_else(|| Failure::new(format!("`{program}` did not finish its case"), "see the messages above"))
}

/// Both sides must have done the same work: the same norm or loss to 1e-4, in bf16 to 1e-2 (Python's losses are rounded to 8 bits there), and the
/// same tokens, where they are not cut short by a limit; in bf16 near ties fall either way, so that only their number is compared.
fn compare(ours: &Value, theirs: &Value, case: &str, kind: &str) -> Result {
    let tolerance = if kind == "f32" { 1e-4 } else { 1e-2 };
    let differs = |what: &str| {
        Err(Failure::new(
            format!("{case}: the two sides differ in {what}"),
            "one of them does other work: compare the lines in target/bench.json",
        ))
    };
    let fewer = ours["samples"] != theirs["samples"];
    for field in ["norm", "loss", "value"] {
        // A value is of the first sample, a norm or loss of all.
        if (field == "value" || !fewer)
            && let (Some(a), Some(b)) = (ours["check"][field].as_f64(), theirs["check"][field].as_f64())
            && (a - b).abs() > tolerance * b.abs()
        {
            return differs(field);
        }
    }
    for field in ["tokens", "best"] {
        // A list for each sample, or one of a number for each.
        let lists = |side: &Value| -> Vec<Vec<Value>> {
            let all = side["check"][field].as_array().cloned().unwrap_or_default();
            if all.iter().all(Value::is_array) { all.iter().filter_map(Value::as_array).cloned().collect() } else { vec![all] }
        };
        // Fewer samples on one side: what there is of one list begins the other.
        let same = |(a, b): (&Vec<Value>, &Vec<Value>)| {
            a == b || kind != "f32" && a.len() == b.len() || fewer && (a.starts_with(b) || b.starts_with(a))
        };
        if !lists(ours).iter().zip(&lists(theirs)).all(same) {
            return differs(field);
        }
    }
    Ok(())
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

    use serde_json::json;

    #[test]
    fn numbers_are_found_by_name() {
        let side = Side { lines: vec![json!({"samples": 2, "check": {"samples": 5}}), json!({"samples": 8, "cpu_seconds": 2.0})] };
        assert_eq!(side.numbers("samples").collect::<Vec<_>>(), [2.0, 8.0]);
        assert_eq!(side.samples_per_cpu_s(), 4.0);
    }

    #[test]
    fn other_work_is_told() {
        let side = |samples: usize, check: Value| json!({"samples": samples, "check": check});
        let same = |ours: &Value, theirs: &Value| compare(ours, theirs, "a case", "f32").is_ok();
        let ours = side(2, json!({"norm": 21.5, "tokens": [[5, 6], [7, 8]]}));
        assert!(same(&ours, &side(2, json!({"norm": 21.5001, "tokens": [[5, 6], [7, 8]]}))));
        assert!(same(&ours, &side(1, json!({"norm": 3.0, "tokens": [[5, 6]]}))));
        assert!(!same(&ours, &side(2, json!({"norm": 21.5, "tokens": [[5, 6], [7, 9]]}))));
        assert!(!same(&ours, &side(2, json!({"norm": 21.6, "tokens": [[5, 6], [7, 8]]}))));
        assert!(!same(&side(2, json!({"best": [1, 2]})), &side(2, json!({"best": [1, 3]}))));
        assert!(same(&side(3, json!({"best": [1, 2, 3]})), &side(2, json!({"best": [1, 2]}))));
        assert!(!same(&side(3, json!({"best": [1, 2, 3]})), &side(2, json!({"best": [1, 4]}))));
        let near = side(2, json!({"norm": 21.6, "tokens": [[5, 6], [7, 9]]}));
        assert!(compare(&ours, &near, "a case", "bf16").is_ok());
    }

    #[test]
    fn rows_are_chosen_by_name_and_kind() {
        let options = |words: &[&str]| Options::parse(&words.iter().map(|word| word.to_string()).collect::<Vec<_>>());
        let chosen = |words: &[&str]| rows().iter().filter(|row| options(words).is_ok_and(|options| options.wants(row))).count();
        assert_eq!(chosen(&[]), rows().len());
        assert_eq!(chosen(&["--kind", "f32"]) + chosen(&["--kind", "bf16"]), rows().len());
        assert!(chosen(&["collect"]) > 1 && chosen(&["collect-1", "--exactly"]) == 1);
        assert_eq!(chosen(&["no-such-row"]), 0);
        assert!(options(&["--threads", "0"]).is_err());
    }
}
