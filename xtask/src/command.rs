//! Running other programs: with a log and signs of life for long steps, or passing their output on.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::failure::{At, Failure, Result};
use crate::project::Project;

/// How often a long step says that it is alive.
const SIGN_OF_LIFE: Duration = Duration::from_secs(20);
/// How much of the log is shown when a step fails.
const SHOWN_ON_FAILURE: usize = 25;

/// In a line of output: a check was left out for want of what it needs, and counts as neither passed nor failed.
pub const SKIPPED: &str = "SKIPPED: ";

/// A program run in the project's folder, without input, in the environment the user's shell would give it.
pub fn new(project: &Project, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(&project.root).stdin(Stdio::null());
    // `cargo run` describes this very program in variables that would mislead another cargo, and puts its own target folders on the
    // library path, where a notebook kernel would find the wrong libia2.so.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let ours = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| text.starts_with(prefix));
        if ours || text == "CARGO_CRATE_NAME" || text == "CARGO_PRIMARY_PACKAGE" {
            command.env_remove(&name);
        }
    }
    if let Some(paths) = std::env::var_os("LD_LIBRARY_PATH") {
        let target = project.join("target");
        let kept =
            std::env::split_paths(&paths).filter(|path| !path.starts_with(&target) && !path.to_string_lossy().contains("/toolchains/"));
        match std::env::join_paths(kept) {
            Ok(kept) if !kept.is_empty() => command.env("LD_LIBRARY_PATH", kept),
            _ => command.env_remove("LD_LIBRARY_PATH"),
        };
    }
    // A LIBTORCH of the user's is behind the link that set-up made of it; one spelling for all, or torch-sys is compiled again and again.
    command.env_remove("LIBTORCH");
    command
}

/// The cargo that runs us.
pub fn cargo(project: &Project) -> Command {
    new(project, std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// What a short program prints, or `None` where it cannot be run or fails.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a long step with its output in `.ia2/log/<name>.log`, printing whole lines of progress. `remedies` holds words to look for in the
/// log and what to do when they are there; the last entry is for everything else.
pub fn logged(project: &Project, name: &str, command: &mut Command, remedies: &[(&str, &str)]) -> Result {
    let path = project.made(format!("log/{name}.log"));
    let folder = project.made("log");
    fs::create_dir_all(&folder).at(&folder)?;
    let log = File::create(&path).at(&path)?;
    let errors = log.try_clone().at(&path)?;
    let started = Instant::now();
    let mut child = command.stdout(log).stderr(errors).spawn().map_err(|error| cannot_start(command, &error))?;
    let mut said = started;
    let status = loop {
        if let Some(status) = child.try_wait().at(&path)? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(50));
        if said.elapsed() >= SIGN_OF_LIFE {
            said = Instant::now();
            println!("        {:>9}  {}", time(started.elapsed()), last_line(&path));
        }
    };
    if status.success() {
        return Ok(());
    }
    let text = fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(SHOWN_ON_FAILURE)..] {
        eprintln!("        | {line}");
    }
    let remedy = remedies.iter().find(|(words, _)| text.contains(words)).or(remedies.last()).map_or("read the log", |(_, remedy)| remedy);
    Err(Failure::new(format!("{name} did not succeed ({status}); its whole log is {}", path.display()), remedy))
}

/// Runs a program whose output is the user's to see.
pub fn shown(command: &mut Command) -> Result<ExitStatus> {
    command.status().map_err(|error| cannot_start(command, &error))
}

/// Like `shown`, handing each line of standard output to `read` as well.
pub fn shown_and_read(command: &mut Command, mut read: impl FnMut(&str)) -> Result<ExitStatus> {
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| cannot_start(command, &error))?;
    for line in BufReader::new(child.stdout.take().expect("stdout is piped")).split(b'\n') {
        let Ok(line) = line else { break };
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        read(&line);
    }
    child.wait().map_err(|error| cannot_start(command, &error))
}

fn cannot_start(command: &Command, error: &std::io::Error) -> Failure {
    let program = command.get_program().to_string_lossy().into_owned();
    Failure::new(format!("`{program}` could not be run: {error}"), format!("install `{program}`, or put it on the PATH"))
}

/// The last line with something on it, shortened to fit a terminal.
fn last_line(path: &Path) -> String {
    const WIDTH: usize = 90;
    let Ok(mut file) = File::open(path) else { return String::new() };
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut tail = Vec::new();
    let read = file.seek(SeekFrom::Start(length.saturating_sub(2000))).and_then(|_| file.read_to_end(&mut tail));
    if read.is_err() {
        return String::new();
    }
    let tail = String::from_utf8_lossy(&tail).into_owned();
    tail.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().chars().take(WIDTH).collect()
}

/// `0.3 s`, `42 s`, `7 min 05 s`.
pub fn time(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 60.0 => format!("{s:.0} s"),
        s => format!("{} min {:02} s", s as u64 / 60, s as u64 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_well() {
        assert_eq!(time(Duration::from_millis(340)), "0.3 s");
        assert_eq!(time(Duration::from_secs(42)), "42 s");
        assert_eq!(time(Duration::from_secs(425)), "7 min 05 s");
    }
}
