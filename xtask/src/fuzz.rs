//! `cargo xtask fuzz`: the test of changed inputs (`tests/mutated`), for longer than `cargo test` does and from another seed.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::USAGE;
use crate::command;
use crate::failure::{Failure, Result};
use crate::project::Project;
use crate::setup;

pub fn run(project: &Project, arguments: &[String]) -> Result {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let wanted = Wanted::parse(arguments, now)?;
    setup::run(project, setup::Options::default())?;
    println!("seed {}: the same seed tries the same inputs, in as far as it comes", wanted.seed);
    let mut cargo = command::cargo(project);
    cargo.args(["test", "--locked", "--test", "mutated", "--", "--exact", "mutated_inputs_harm_nobody", "--nocapture"]);
    cargo.env("IA2_FUZZ_SECONDS", (wanted.minutes * 60).to_string()).env("IA2_FUZZ_SEED", wanted.seed.to_string());
    cargo.env("IA2_FUZZ_ONLY", wanted.reader);
    match command::shown(&mut cargo)?.success() {
        true => Ok(()),
        false => Err(Failure::new(
            "not every input was taken well",
            "the test names each reader, input and fault; the inputs lie in target/mutated, and those that are cured belong in tests/corpus",
        )),
    }
}

#[derive(Debug, PartialEq)]
struct Wanted {
    minutes: u64,
    seed: u64,
    reader: String,
}

impl Wanted {
    fn parse(arguments: &[String], seed: u64) -> Result<Self> {
        let mut wanted = Self { minutes: 10, seed, reader: String::new() };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut number = || rest.next().and_then(|text| text.parse::<u64>().ok()).filter(|&number| number > 0);
            let place = match argument.as_str() {
                "--minutes" => &mut wanted.minutes,
                "--seed" => &mut wanted.seed,
                flag if flag.starts_with('-') => return Err(Failure::new(format!("`{flag}` is not understood here"), USAGE)),
                reader => {
                    wanted.reader = reader.to_owned();
                    continue;
                }
            };
            *place = number().ok_or_else(|| Failure::new(format!("`{argument}` wants a whole number above 0"), USAGE))?;
        }
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::Wanted;

    #[test]
    fn minutes_seed_and_reader_are_read() {
        let parse = |text: &str| Wanted::parse(&text.split_whitespace().map(String::from).collect::<Vec<_>>(), 7);
        let wanted = |minutes, seed, reader: &str| Some(Wanted { minutes, seed, reader: reader.into() });
        assert_eq!(parse("").ok(), wanted(10, 7, ""));
        assert_eq!(parse("--minutes 25 checkpoint --seed 3").ok(), wanted(25, 3, "checkpoint"));
        for wrong in ["--minutes", "--minutes 0", "--seed x", "--hours 2"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
