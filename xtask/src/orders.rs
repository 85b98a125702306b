//! `cargo xtask bench orders`: targets in a tree's orders against this library's own independent ones, in turn in one process per row.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::bench;
use crate::command;
use crate::failure::{At, Failure, Result};
use crate::project::Project;
use crate::setup;

/// N, response tokens, and the ratio that is aimed at.
const CASES: &[(&str, &str, Option<f64>)] =
    &[("8", "1", None), ("8", "32", None), ("16", "1", Some(2.5)), ("32", "1", Some(4.0)), ("32", "32", None)];

const USAGE: &str = "\
usage: cargo xtask bench orders [--profile dev] [--threads 1] [--repeats 3]

  Of the bench model, which `cargo xtask bench` makes, and of smollm2, which `cargo xtask model` fetches: those that are there.";

/// Prints a row for each model, kind and case, and writes them to `target/bench-orders.md`.
pub fn run(project: &Project, arguments: &[String]) -> Result {
    let (mut profile, mut threads, mut repeats) = ("release", "1", "3");
    for pair in arguments.chunks(2) {
        match pair {
            [name, value] if name == "--profile" => profile = value,
            [name, value] if name == "--threads" => threads = value,
            [name, value] if name == "--repeats" => repeats = value,
            _ => return Err(Failure::new(format!("`{}` is not understood here", pair[0]), USAGE)),
        }
    }
    if !project.libtorch().exists() {
        setup::run(project, setup::Options::default())?;
    }
    let mut build = command::cargo(project);
    build.args(["build", "--locked", "--profile", profile, "--example", "orders"]);
    if !command::shown(&mut build)?.success() {
        return Err(Failure::new("the example `orders` does not compile", "see the messages above"));
    }
    let folder = if profile == "dev" { "debug" } else { profile };
    let program = project.join(format!("target/x86_64-unknown-linux-gnu/{folder}/examples/orders"));
    let models = [bench::folder(project, bench::RANDOM), project.made("models/smollm2")];
    let there: Vec<_> = models.iter().filter(|model| model.join("config.json").exists()).collect();
    if there.is_empty() {
        return Err(Failure::new("there is no model to measure with", USAGE));
    }
    let mut table = String::from(
        "| model | kind | N | response tokens | tokens read, tree / independent / all | seconds, tree / independent | ratio (target) | ratio of processor time |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    print!("{table}");
    for model in there {
        let name = model.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        for kind in ["float", "bf16"] {
            for &(n, tokens, target) in CASES {
                let mut run = command::new(project, &program);
                run.arg(model).args(["--n", n, "--tokens", tokens, "--kind", kind]);
                run.args(["--threads", threads, "--repeats", repeats]).env("OMP_WAIT_POLICY", "passive");
                let output = run.stdout(Stdio::piped()).output();
                let line = output.ok().filter(|output| output.status.success());
                let line: Option<Value> = line.and_then(|output| serde_json::from_slice(&output.stdout).ok());
                let line = line.ok_or_else(|| Failure::new(format!("collecting {n} targets of {name} failed"), "see the message above"))?;
                let number = |field: &str| line[field].as_f64().unwrap_or(f64::NAN);
                let target = target.map_or(String::new(), |target| format!(" ({target})"));
                let row = format!(
                    "| {name} | {kind} | {n} | {tokens} | {} / {} / {} | {:.2} / {:.2} | {:.2}{target} | {:.2} |\n",
                    number("read"),
                    number("plain_read"),
                    number("prompt_tokens"),
                    number("seconds"),
                    number("plain_seconds"),
                    number("ratio"),
                    number("ratio_cpu")
                );
                print!("{row}");
                table += &row;
            }
        }
    }
    let place = project.join("target/bench-orders.md");
    fs::write(&place, table).at(&place)
}
