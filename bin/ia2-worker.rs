//! A worker of a grid that `Experiment::prepare` has put into a folder: takes cells until none is left or its time is over.
//!
//! `ia2-worker FOLDER [--threads N] [--minutes M] [--cpu] [--requeue]`
//!
//! Exit code: 0 where nothing is left to take; 75 where it was stopped (SIGTERM, SIGUSR1, SIGINT, its time) with work left, for SLURM's
//! `RequeueExit`; 1 where some cells could not be done here; 2 for arguments that it does not know.

use std::process::{Command, ExitCode};
use std::time::Duration;

use ia2::experiment::{Worker, WorkerOutcome};
use ia2::interrupt;

const USAGE: &str = "\
usage: ia2-worker FOLDER [--threads N] [--minutes M] [--cpu] [--requeue]

  FOLDER       where Experiment::prepare has put a grid
  --threads N  in place of the plan's number
  --minutes M  stops after this time
  --cpu        keeps to the CPU
  --requeue    asks SLURM for another turn (scontrol requeue) when it was stopped with work left";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        // For `Experiment::prepare`: which code this is, and what it needs besides libtorch.
        Some("--code") => println!("{}", Worker::code()),
        Some("--parts") => Worker::parts().iter().for_each(|path| println!("{}", path.display())),
        Some("--help" | "-h") => println!("{USAGE}"),
        _ => {
            let Some((worker, requeues)) = parse(&arguments) else {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            };
            return work(&worker, requeues);
        }
    }
    ExitCode::SUCCESS
}

fn parse(arguments: &[String]) -> Option<(Worker, bool)> {
    let (folder, rest) = arguments.split_first().filter(|(folder, _)| !folder.starts_with('-'))?;
    let (mut worker, mut requeues) = (Worker::new(folder), false);
    let mut rest = rest.iter();
    while let Some(argument) = rest.next() {
        worker = match argument.as_str() {
            "--threads" => worker.threads(rest.next()?.parse().ok()?),
            "--minutes" => worker.at_most(Duration::try_from_secs_f64(rest.next()?.parse::<f64>().ok()? * 60.0).ok()?),
            "--cpu" => worker.cpu(),
            "--requeue" => {
                requeues = true;
                worker
            }
            _ => return None,
        };
    }
    Some((worker, requeues))
}

fn work(worker: &Worker, requeues: bool) -> ExitCode {
    // A scheduler warns by the one, and ends by the other.
    let listening = interrupt::listen_to(&[libc::SIGINT, libc::SIGTERM, libc::SIGUSR1]);
    match listening.and_then(|()| worker.run()) {
        Ok(ended) => {
            println!("ia2-worker: {ended}");
            if requeues && matches!(ended, WorkerOutcome::Stopped(_)) {
                requeue();
            }
            ExitCode::from(ended.exit_code())
        }
        Err(error) => {
            eprintln!("ia2-worker: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Another turn for this job.
fn requeue() {
    let of = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    // An array's own number would mean all of its tasks.
    let job = match (of("SLURM_ARRAY_JOB_ID"), of("SLURM_ARRAY_TASK_ID")) {
        (Some(job), Some(task)) => Some(format!("{job}_{task}")),
        _ => of("SLURM_JOB_ID"),
    };
    let Some(job) = job else { return eprintln!("ia2-worker: --requeue is for jobs of SLURM, and this is none") };
    let asked = Command::new("scontrol").arg("requeue").arg(job).output();
    // After a preemption it waits already.
    let waits = |said: &[u8]| String::from_utf8_lossy(said).contains("pending");
    match asked {
        Ok(output) if output.status.success() || waits(&output.stderr) || waits(&output.stdout) => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
            eprintln!("ia2-worker: `scontrol requeue` refused ({said}): submit the script again for what is left");
        }
        Err(error) => eprintln!("ia2-worker: `scontrol` cannot be started ({error}): submit the script again for what is left"),
    }
}
