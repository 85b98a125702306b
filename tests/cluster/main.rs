//! Grids that workers are at: what they come to, whatever happens to them.
#![cfg(unix)]

#[path = "../common/mod.rs"]
mod common;
mod large;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::grid::{PATIENCE, prepared, random, same_results, small, timeless, worked_once};
use ia2::Result;
use ia2::prelude::*;

const WORKER: &str = env!("CARGO_BIN_EXE_ia2-worker");
/// Set in a child: the folder that it prepares.
const FOLDER: &str = "IA2_TEST_PREPARE_IN";
/// Nothing here takes as long.
const LONG: Duration = Duration::from_secs(300);

/// A process that does not outlive its test.
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Kept {
    fn signal(&self, signal: i32) {
        // SAFETY: a signal to a child that has not been waited for.
        unsafe { libc::kill(self.0.id() as i32, signal) };
    }

    fn ended(&mut self) -> Option<i32> {
        self.0.try_wait().unwrap().map(|status| status.code().unwrap_or(-1))
    }

    fn wait(&mut self) -> i32 {
        let began = Instant::now();
        loop {
            match self.ended() {
                Some(code) => return code,
                None => assert!(began.elapsed() < LONG, "a worker does not end"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A worker as a cluster starts it: an environment without anything, and the program in the folder.
fn worker(folder: &Path, log: &str) -> Kept {
    let mut command = Command::new(folder.join("cluster/ia2-worker"));
    command.arg(folder);
    started(command, folder, log)
}

fn started(mut command: Command, folder: &Path, log: &str) -> Kept {
    let log = std::fs::File::create(folder.join("cluster/logs").join(log)).unwrap();
    command.env_clear().stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    Kept(command.spawn().unwrap())
}

fn log(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join("cluster/logs").join(name)).unwrap()
}

fn texts(frame: &DataFrame, column: &str) -> Vec<String> {
    frame.column(column).unwrap().str().unwrap().iter().map(|text| text.unwrap_or("null").to_string()).collect()
}

#[test]
fn workers_that_are_killed_and_stopped_come_to_the_frame_of_a_local_grid() -> Result<()> {
    ia2::libtorch::set_threads(1)?;
    let model = Model::open("tiny-icl")?;
    let (folder, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Long enough that things happen in the middle of a training.
    let grid = small(&model, 16).epochs(40).patience(1000);
    let job = prepared(&grid, folder.path(), WORKER)?;
    let shown = job.bundle().plain;
    assert!(
        shown.contains("16 runs in 4 cells") && shown.contains("nothing is submitted yet") && shown.contains("#SBATCH --array=0-3"),
        "{shown}"
    );
    let local = grid.clone().folder(whole.path()).run()?.frame()?;

    let study = Experiment::open(folder.path())?;
    assert_eq!((study.missing(), study.frame()?.height(), study.hours_left()), (16, 0, None));
    assert_eq!(texts(&study.cells()?, "state"), ["waiting"; 4]);

    // Again and again, at moments that no clock of ours decides; a stopped one is found dead, and comes back to life.
    let began = Instant::now();
    let (mut workers, mut harm) = (Vec::<Kept>::new(), HashMap::<&str, usize>::new());
    let mut count = 0;
    while Experiment::open(folder.path())?.missing() > 0 {
        assert!(began.elapsed() < LONG, "{harm:?}");
        workers.retain_mut(|worker| worker.ended().is_none());
        while workers.len() < 3 {
            count += 1;
            workers.push(worker(folder.path(), &format!("{count}.log")));
        }
        std::thread::sleep(Duration::from_millis(300 + random() % 1200));
        let victim = &workers[random() as usize % workers.len()];
        let done: usize = harm.values().sum();
        let (name, signal) =
            [("SIGKILL", libc::SIGKILL), ("SIGTERM", libc::SIGTERM), ("SIGUSR1", libc::SIGUSR1), ("SIGSTOP", libc::SIGSTOP)][done % 4];
        if done < 12 {
            *harm.entry(name).or_default() += 1;
            victim.signal(signal);
        }
        if signal == libc::SIGSTOP && done < 12 {
            std::thread::sleep(PATIENCE + Duration::from_millis(500));
            victim.signal(libc::SIGCONT);
        }
    }
    for worker in &mut workers {
        assert!([0, 75, -1].contains(&worker.wait()), "{harm:?}");
    }
    let study = Experiment::open(folder.path())?;
    assert!(timeless(&study.frame()?).equals_missing(&timeless(&local)), "{harm:?}");
    same_results(folder.path(), whole.path());
    worked_once(folder.path(), 16);
    assert!(harm.values().sum::<usize>() >= 2, "nothing happened to anybody: {harm:?}");
    assert_eq!(texts(&study.cells()?, "state"), ["done"; 4]);
    // Nothing is left to do for anybody, at once, and nothing is left behind.
    assert_eq!(worker(folder.path(), "late.log").wait(), 0);
    assert!(log(folder.path(), "late.log").contains("every run is done"), "{}", log(folder.path(), "late.log"));
    assert_eq!(std::fs::read_dir(folder.path().join("cluster/checkpoints")).unwrap().count(), 0);
    Ok(())
}

#[test]
fn a_worker_that_is_stopped_gives_its_cell_back_and_a_notebook_does_the_rest() -> Result<()> {
    ia2::libtorch::set_threads(1)?;
    let model = Model::open("tiny-icl")?;
    let (folder, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // A long training, so that it is stopped in its middle.
    let grid = small(&model, 4).methods(&[Method::Sft]).sizes(&[4]).learning_rates(&[1e-4]).epochs(1500).patience(100_000);
    prepared(&grid, folder.path(), WORKER)?;
    let mut first = worker(folder.path(), "first.log");
    let began = Instant::now();
    while texts(&Experiment::open(folder.path())?.cells()?, "state") != ["held"] {
        assert!(began.elapsed() < LONG);
        std::thread::sleep(Duration::from_millis(20));
    }
    // While it is held by one that lives, a second start finds nothing to do.
    assert_eq!(worker(folder.path(), "second.log").wait(), 0);
    assert!(log(folder.path(), "second.log").contains("others that live have 1 cells"), "{}", log(folder.path(), "second.log"));
    std::thread::sleep(Duration::from_millis(1500));
    first.signal(libc::SIGUSR1);
    assert_eq!(first.wait(), 75, "{}", log(folder.path(), "first.log"));
    assert_eq!(std::fs::read_dir(folder.path().join("cluster/checkpoints")).unwrap().count(), 1, "{}", log(folder.path(), "first.log"));
    let study = Experiment::open(folder.path())?;
    assert_eq!((study.missing(), texts(&study.cells()?, "state")), (1, vec!["waiting".to_string()]));
    assert!(texts(&study.workers()?, "ended").iter().any(|ended| ended == "stopped; 1 cells are left"), "{:?}", study.workers()?);

    let frame = study.finish()?.frame()?;
    assert!(timeless(&frame).equals_missing(&timeless(&grid.clone().folder(whole.path()).run()?.frame()?)));
    same_results(folder.path(), whole.path());
    // The experiment itself finds the same in that folder, and the files of the study are those of a local one.
    assert!(timeless(&grid.clone().folder(folder.path()).run()?.frame()?).equals_missing(&timeless(&frame)));
    Ok(())
}

#[test]
fn workers_of_two_hosts_share_one_folder_and_take_over_from_each_other() -> Result<()> {
    // SAFETY: a question to the system.
    if unsafe { libc::geteuid() } != 0 || !Command::new("unshare").args(["-u", "true"]).status().is_ok_and(|status| status.success()) {
        common::skipped("a host name of its own for each worker (`unshare -u`) needs root");
        return Ok(());
    }
    ia2::libtorch::set_threads(1)?;
    let model = Model::open("tiny-icl")?;
    let (folder, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let grid = small(&model, 16).epochs(40).patience(1000);
    prepared(&grid, folder.path(), WORKER)?;
    let on = |host: &str, log: &str| {
        let mut command = Command::new("/usr/bin/unshare");
        let script = format!("echo {host} > /proc/sys/kernel/hostname && exec \"$0\" \"$1\"");
        command.args(["-u", "/bin/sh", "-c", &script]).arg(folder.path().join("cluster/ia2-worker")).arg(folder.path());
        started(command, folder.path(), log)
    };
    let (mut first, mut second) = (on("node-a", "a.log"), on("node-b", "b.log"));
    let began = Instant::now();
    let held = |study: &Study, host: &str| Ok::<_, Error>(texts(&study.cells()?, "host").iter().any(|own| own == host));
    loop {
        assert!(began.elapsed() < LONG && first.ended().is_none(), "{}{}", log(folder.path(), "a.log"), log(folder.path(), "b.log"));
        let study = Experiment::open(folder.path())?;
        if held(&study, "node-a")? && held(&study, "node-b")? && study.missing() < 16 {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // The other host cannot see that process: only that its heart stands still.
    first.signal(libc::SIGKILL);
    first.wait();
    assert_eq!(second.wait(), 0, "{}", log(folder.path(), "b.log"));
    assert!(log(folder.path(), "b.log").contains("taking over a cell of node-a-"), "{}", log(folder.path(), "b.log"));
    let study = Experiment::open(folder.path())?;
    assert!(timeless(&study.frame()?).equals_missing(&timeless(&grid.clone().folder(whole.path()).run()?.frame()?)));
    worked_once(folder.path(), 16);
    Ok(())
}

#[test]
fn a_failure_is_a_row_with_its_log_and_what_is_wrong_with_a_node_is_said() -> Result<()> {
    ia2::libtorch::set_threads(1)?;
    let (folder, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let place = home.path().join("a model");
    Model::open("tiny-icl")?.save(&place)?;
    let model = Model::open(&place)?;
    let grid = small(&model, 4).methods(&[Method::Icl, Method::Sft]).sizes(&[4]).learning_rates(&[1e300, 3e-3]);
    prepared(&grid, folder.path(), WORKER)?;
    let says = |log_name: &str, words: &[&str]| {
        let said = log(folder.path(), log_name);
        assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
    };

    // A node that lacks the model, or has another.
    let away = home.path().join("away");
    std::fs::rename(&place, &away).unwrap();
    assert_eq!(worker(folder.path(), "lacks.log").wait(), 1);
    says("lacks.log", &["the model of the plan is not on this machine", "a model", "is its disk mounted here?"]);
    let study = Experiment::open(folder.path())?;
    assert!(
        texts(&study.workers()?, "troubles")[0].contains("not on this machine") && study.bundle().plain.contains("1 troubles"),
        "{}",
        study.bundle().plain
    );
    let golden = common::with_words("qwen3_grouped_tied");
    Model::open(golden.path())?.save(&place)?;
    assert_eq!(worker(folder.path(), "other.log").wait(), 1);
    says("other.log", &["is not the one that the plan was made with"]);
    std::fs::remove_dir_all(&place).unwrap();
    std::fs::rename(&away, &place).unwrap();

    assert_eq!(worker(folder.path(), "does.log").wait(), 0);
    let study = Experiment::open(folder.path())?;
    let failures = study.failures()?;
    assert_eq!((failures.height(), study.missing(), study.frame()?.height()), (1, 0, 3));
    assert!(texts(&failures, "failed")[0].contains("learning rate"), "{failures}");
    assert_eq!(texts(&failures, "log"), [folder.path().join("cluster/logs/does.log").display().to_string()]);
    says("does.log", &["failed: sentiment, n 4, run 0, SFT"]);

    // Other code, and a plan that was damaged.
    let plan = folder.path().join("cluster/plan.json");
    let text = std::fs::read_to_string(&plan).unwrap();
    std::fs::write(&plan, text.replacen("\"threads\": 1", "\"threads\": 2", 1)).unwrap();
    assert_eq!(worker(folder.path(), "damaged.log").wait(), 1);
    says("damaged.log", &["plan.json was changed or damaged", "prepare the grid again"]);
    let code = text.split_once("\"code\": \"").unwrap().1[..16].to_string();
    std::fs::write(&plan, sealed(&text.replacen(&code, "0123456789abcdef", 1))).unwrap();
    assert_eq!(worker(folder.path(), "code.log").wait(), 1);
    says("code.log", &["made by other code", "0123456789abcdef", &code, "prepare the grid again"]);
    common::refused(Experiment::open(folder.path())?.finish(), &["made by other code"]);
    std::fs::remove_file(&plan).unwrap();
    assert_eq!(worker(folder.path(), "none.log").wait(), 1);
    says("none.log", &["holds no plan of a grid"]);
    common::refused(Experiment::open(folder.path()), &["holds no plan of a grid"]);

    // A model in memory alone, and a program that is none.
    let changed = Adapter::new(&model, Lora::rank(2), 0)?.merge(&model)?.model;
    let elsewhere = tempfile::tempdir().unwrap();
    common::refused(prepared(&small(&changed, 4), elsewhere.path(), WORKER), &["in memory alone", "save it"]);
    common::refused(prepared(&small(&model, 4), elsewhere.path(), "/bin/true"), &["built from other sources", "cargo build --release"]);
    common::refused(prepared(&small(&model, 4), elsewhere.path(), "/nowhere"), &["there is no worker program", "cargo build --release"]);
    Ok(())
}

/// A text with the checksum of what it says now.
fn sealed(text: &str) -> String {
    use sha2::{Digest, Sha256};
    let place = text.rfind("\"ia2_checksum\": \"").unwrap() + 17;
    let blank = format!("{}{}{}", &text[..place], "0".repeat(64), &text[place + 64..]);
    let digest = format!("{:x}", Sha256::digest(&blank));
    blank.replacen(&"0".repeat(64), &digest, 1)
}

#[test]
fn a_full_disk_ends_a_worker_with_a_clear_word_and_nothing_is_lost() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let mount = |options: &str| {
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(folder.path()).status();
        status.is_ok_and(|status| status.success())
    };
    // SAFETY: a question to the system.
    if unsafe { libc::geteuid() } != 0 || !mount("size=4g") {
        common::skipped("a small disk of its own (`mount -t tmpfs`) needs root");
        return Ok(());
    }
    struct Unmount<'p>(&'p Path);
    impl Drop for Unmount<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").args(["-l"]).arg(self.0).status();
        }
    }
    let _unmount = Unmount(folder.path());
    ia2::libtorch::set_threads(1)?;
    let model = Model::open("tiny-icl")?;
    prepared(&small(&model, 4), folder.path(), WORKER)?;
    let used: u64 = common::listing(folder.path())
        .iter()
        .map(|(_, bytes)| bytes.as_ref().map_or(0, |bytes| (bytes.len() as u64).div_ceil(4096) * 4096))
        .sum();
    let logs = tempfile::tempdir().unwrap();
    let run = || {
        let mut command = Command::new(folder.path().join("cluster/ia2-worker"));
        let output = command.arg(folder.path()).current_dir(logs.path()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert!(mount(&format!("remount,size={}", used + (96 << 10))));
    let (code, words) = run();
    assert!(code == Some(1) && words.contains("disk is full"), "{code:?}: {words}");
    assert!(mount("remount,size=4g"));
    assert_eq!(run().0, Some(0));
    assert_eq!(Experiment::open(folder.path())?.missing(), 0);
    Ok(())
}

#[test]
#[ignore = "the child of `secrets_never_enter_the_folder`"]
fn child() -> Result<()> {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return Ok(()) };
    let secret = std::env::var("HF_TOKEN").unwrap();
    let model = Model::open("tiny-icl")?;
    let grid = small(&model, 4).methods(&[Method::Icl]);
    let slurm = Slurm::new().program(WORKER);
    let line = slurm.clone().line(&format!("export TOKEN={secret}"));
    let error = common::refused(grid.prepare(&folder, &line), &["holds the value of HF_TOKEN"]);
    assert!(!error.to_string().contains(&secret));
    grid.prepare(&folder, &slurm).map(drop)
}

#[test]
fn secrets_never_enter_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let secret = "s3cret-value-of-this-test";
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "child", "--ignored"]).env(FOLDER, folder.path()).env("HF_TOKEN", secret).stdout(Stdio::null());
    assert!(child.status().unwrap().success());
    let status =
        Command::new(folder.path().join("cluster/ia2-worker")).arg(folder.path()).env("HF_TOKEN", secret).stdout(Stdio::null()).status();
    assert!(status.unwrap().success());
    for (path, bytes) in common::listing(folder.path()) {
        let found = bytes.is_some_and(|bytes| bytes.windows(secret.len()).any(|part| part == secret.as_bytes()));
        assert!(!found, "{} holds a secret", path.display());
    }
}

#[test]
fn a_grid_that_grew_is_prepared_again_and_failures_are_tried_again_once() -> Result<()> {
    ia2::libtorch::set_threads(1)?;
    let model = Model::open("tiny-icl")?;
    let (folder, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let grid = small(&model, 4).methods(&[Method::Icl, Method::Sft]).sizes(&[4]);
    prepared(&grid, folder.path(), WORKER)?;
    assert_eq!(worker(folder.path(), "1.log").wait(), 0);
    let lines = || {
        let files = std::fs::read_dir(folder.path().join("cluster/workers")).unwrap().map(|entry| entry.unwrap().path());
        files
            .filter(|path| path.extension().unwrap() == "csv")
            .map(|path| std::fs::read_to_string(path).unwrap().lines().count() - 1)
            .sum::<usize>()
    };
    assert_eq!(lines(), 2);

    let grown = grid.clone().learning_rates(&[3e-3, 1e300]).tested_on("sentiment", &["sentiment_film"]);
    prepared(&grown, folder.path(), WORKER)?;
    assert_eq!(Experiment::open(folder.path())?.missing(), 3, "a test of the two that are there, and one more");
    assert_eq!(worker(folder.path(), "2.log").wait(), 0);
    let frame = Experiment::open(folder.path())?.frame()?;
    assert!(timeless(&frame).equals_missing(&timeless(&grown.clone().folder(whole.path()).run()?.frame()?)));
    same_results(folder.path(), whole.path());
    assert_eq!(lines(), 5);

    // A failure stands until it is to be tried again, which is done once.
    prepared(&grown.clone().retry_failed(), folder.path(), WORKER)?;
    assert_eq!(worker(folder.path(), "3.log").wait(), 0);
    assert_eq!(worker(folder.path(), "4.log").wait(), 0);
    assert_eq!(lines(), 6);
    // A record that was removed is made again.
    let key = texts(&frame, "key").remove(0);
    std::fs::remove_file(folder.path().join(format!("{key}.json"))).unwrap();
    assert_eq!(Experiment::open(folder.path())?.missing(), 1);
    assert_eq!(worker(folder.path(), "5.log").wait(), 0);
    assert!(timeless(&Experiment::open(folder.path())?.frame()?).equals_missing(&timeless(&frame)));
    Ok(())
}

#[test]
fn a_worker_stops_when_its_time_is_over() -> Result<()> {
    let model = Model::open("tiny-icl")?;
    let folder = tempfile::tempdir().unwrap();
    prepared(&small(&model, 4).methods(&[Method::Sft]).sizes(&[4]).epochs(100_000).patience(1_000_000), folder.path(), WORKER)?;
    let mut command = Command::new(folder.path().join("cluster/ia2-worker"));
    command.arg(folder.path()).args(["--minutes", "0.05", "--threads", "1", "--cpu"]);
    assert_eq!(started(command, folder.path(), "short.log").wait(), 75, "{}", log(folder.path(), "short.log"));
    let mut command = Command::new(folder.path().join("cluster/ia2-worker"));
    command.arg(folder.path()).arg("--unknown");
    assert_eq!(started(command, folder.path(), "usage.log").wait(), 2);
    Ok(())
}
