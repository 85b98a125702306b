//! `cargo xtask bench orders`: targets in a tree's orders against this library's own independent ones, in turn in one process per row.

use std::fs;
use std::process::Stdio;

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
    let models = [project.join("target/bench-model"), project.made("models/smollm2")];
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
                let line =
                    output.ok().filter(|output| output.status.success()).map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
                let line = line.ok_or_else(|| Failure::new(format!("collecting {n} targets of {name} failed"), "see the message above"))?;
                let number = |field: &str| number(&line, field);
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

/// The number that stands after `"field":`.
fn number(line: &str, field: &str) -> f64 {
    let name = format!("\"{field}\":");
    let value = line.find(&name).map(|place| &line[place + name.len()..]);
    value.and_then(|value| value.split([',', '}']).next()?.trim().parse().ok()).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_whole_name() {
        let line = r#"{"plain_read":9,"ratio":2.5,"ratio_cpu":2.25,"read":3}"#;
        assert_eq!(["read", "plain_read", "ratio", "ratio_cpu"].map(|field| number(line, field)), [3.0, 9.0, 2.5, 2.25]);
        assert!(number(line, "seconds").is_nan());
    }
}
