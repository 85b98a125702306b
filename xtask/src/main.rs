//! `cargo xtask`: set-up, and the commands that stand on it.
//!
//! Everything made here lies in `.ia2/` next to the project's own files (the kernelspec, copied to the user's Jupyter folder, is the one exception),
//! and deleting that folder undoes it.

mod bench;
mod check;
mod command;
mod failure;
mod fonts;
mod fuzz;
mod model;
mod notebooks;
mod orders;
mod project;
mod setup;
mod skips;
mod slurm;
#[cfg(test)]
mod texts;

use std::path::Path;
use std::process::ExitCode;

use failure::{Failure, Result};
use project::Project;

const USAGE: &str = "\
usage: cargo xtask <command>

  quickstart [--lab] [--cuda]   set up what is missing and run notebooks/quickstart.ipynb;
                                --lab opens JupyterLab there instead
  setup [--cuda] [--lab]        set up what is missing, nothing more; --lab: with JupyterLab
  notebooks [--write] [NAME..]  run the notebooks and compare their outputs with the committed ones;
                                --write commits what comes out
  model [NAME..]                fetch a real model for Model::open(\"NAME\"), such as smollm2 (98 MB); without a name, list them
  fonts                         fetch fonts for figures with letters that neither the library's font nor the system's have (23 MB)
  test [--skips FILE]           everything CI runs; FILE lists what is expected to be left out, and anything more is a failure
  test --toolchain NAME         the same with another toolchain of rustup's, such as beta: does a newer Rust break the kernel?
  lab                           try the kernel in JupyterLab with a headless Chromium (apt-get install chromium)
  fuzz [--minutes N] [--seed S] [READER]
                                try changed inputs on every reader, or on those whose name holds READER, for N minutes (10)
  bench [..]                    compare with the Python libraries in speed and memory (release build, minutes; see bench --help)

  --cuda                        libtorch with its CUDA part (a download of several GB)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nerror: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result {
    let Some((command, rest)) = arguments.split_first() else {
        println!("{USAGE}");
        return Ok(());
    };
    let project = Project::here();
    match command.as_str() {
        "setup" => {
            let flags = Flags::parse(rest, &["--cuda", "--lab"], false)?;
            setup::run(&project, setup::Options { cuda: flags.has("--cuda"), lab: flags.has("--lab"), ..setup::Options::default() })
        }
        "quickstart" => {
            let flags = Flags::parse(rest, &["--cuda", "--lab"], false)?;
            setup::run(&project, setup::Options { cuda: flags.has("--cuda"), lab: flags.has("--lab"), ..setup::Options::default() })?;
            if flags.has("--lab") { notebooks::open_lab(&project) } else { notebooks::quickstart(&project) }
        }
        "notebooks" => {
            let flags = Flags::parse(rest, &["--write"], true)?;
            setup::run(&project, setup::Options::default())?;
            notebooks::run(&project, flags.has("--write"), &flags.names)
        }
        "fonts" => {
            Flags::parse(rest, &[], false)?;
            fonts::run(&project)
        }
        "model" => {
            let flags = Flags::parse(rest, &[], true)?;
            model::run(&project, &flags.names)
        }
        "test" => match rest {
            [] => check::run(&project, None),
            [flag, file] if flag == "--skips" => check::run(&project, Some(Path::new(file))),
            [flag, name] if flag == "--toolchain" => check::with_toolchain(&project, name),
            _ => Err(Failure::new(format!("`{}` is not understood here", rest.join(" ")), USAGE)),
        },
        "lab" => {
            Flags::parse(rest, &[], false)?;
            setup::run(&project, setup::Options { lab: true, browser: true, ..setup::Options::default() })?;
            notebooks::test_lab(&project)
        }
        "fuzz" => fuzz::run(&project, rest),
        "bench" => bench::run(&project, rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        other => Err(Failure::new(format!("there is no command `{other}`"), USAGE)),
    }
}

/// What follows a command: flags it knows, and names where it takes some.
struct Flags {
    flags: Vec<String>,
    names: Vec<String>,
}

impl Flags {
    fn parse(arguments: &[String], known: &[&str], takes_names: bool) -> Result<Flags> {
        let (flags, names): (Vec<String>, Vec<String>) = arguments.iter().cloned().partition(|argument| argument.starts_with('-'));
        let stray = flags.iter().find(|flag| !known.contains(&flag.as_str())).or(if takes_names { None } else { names.first() });
        match stray {
            Some(stray) => Err(Failure::new(format!("`{stray}` is not understood here"), USAGE)),
            None => Ok(Flags { flags, names }),
        }
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|given| given == flag)
    }
}
