//! A grid on a real SLURM: one node, started here, with workers that are killed, requeued and preempted.
//!
//! Packages `slurm-wlm` and `munge`; `cargo xtask test` installs them where it may. `IA2_TEST_SLURM_RUNS` sets the number of runs (a multiple of 8; 48
//! unless said), `IA2_TEST_SLURM_HARM` how often something is done to somebody, `IA2_TEST_SLURM_MINUTES` the jobs' time limit (30 unless said);
//! with `IA2_TEST_SLURM_BY_ITSELF` stopped workers ask for another turn themselves.
#![cfg(unix)]

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::grid::{PATIENCE, random, same_results, small, timeless, worked_once};
use ia2::Result;
use ia2::prelude::*;

const WORKER: &str = env!("CARGO_BIN_EXE_ia2-worker");
const PROGRAMS: [&str; 6] = ["munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue"];
const LONG: Duration = Duration::from_secs(1500);
/// Set in a child: the folder that it prepares and submits.
const FOLDER: &str = "IA2_TEST_SLURM_IN";

/// SLURM's daemons with a scratch folder of their own; they end with it.
struct Cluster {
    scratch: tempfile::TempDir,
    daemons: Vec<Child>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Ok(output) = self.command("scancel").args(["--full", "--user", &user()]).output() {
            drop(output);
        }
        for daemon in self.daemons.iter_mut().rev() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

fn user() -> String {
    String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap().trim().to_string()
}

fn on_path(program: &str) -> Option<PathBuf> {
    // Daemons lie where a user's own path may not lead.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

impl Cluster {
    /// None, said loudly, where it cannot be.
    fn start() -> Option<Self> {
        let lacks = PROGRAMS.iter().find(|program| on_path(program).is_none());
        // SAFETY: a question to the system.
        let root = unsafe { libc::geteuid() } == 0;
        if lacks.is_some() || !root {
            let why = lacks.map_or("starting SLURM's daemons needs root".into(), |program| {
                format!("there is no `{program}`: apt-get install slurm-wlm munge")
            });
            common::skipped(&why);
            return None;
        }
        let scratch = tempfile::Builder::new().prefix("ia2-slurm-").tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name).display().to_string();
        for folder in ["state", "spool", "log"] {
            std::fs::create_dir(at(folder)).unwrap();
        }
        std::fs::write(at("munge.key"), (0..128).map(|place| (random() >> (place % 8)) as u8).collect::<Vec<_>>()).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(at("munge.key"), private).unwrap();
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_string();
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (controller, node) = (free(), free());
        let mut conf = String::new();
        for (name, value) in [
            ("ClusterName", "one".to_string()),
            ("SlurmctldHost", format!("{host}(127.0.0.1)")),
            ("AuthType", "auth/munge".into()),
            ("AuthInfo", format!("socket={}", at("munge.socket"))),
            ("CredType", "cred/munge".into()),
            ("SlurmUser", "root".into()),
            ("SlurmdUser", "root".into()),
            ("StateSaveLocation", at("state")),
            ("SlurmdSpoolDir", at("spool")),
            ("SlurmctldPidFile", at("ctld.pid")),
            ("SlurmdPidFile", at("d.pid")),
            ("SlurmctldLogFile", at("log/ctld.log")),
            ("SlurmdLogFile", at("log/d.log")),
            ("SlurmctldPort", controller.to_string()),
            ("SlurmdPort", node.to_string()),
            ("ProctrackType", "proctrack/linuxproc".into()),
            ("TaskPlugin", "task/none".into()),
            ("SchedulerType", "sched/backfill".into()),
            ("SelectType", "select/cons_tres".into()),
            ("SelectTypeParameters", "CR_Core".into()),
            ("ReturnToService", "2".into()),
            ("MpiDefault", "none".into()),
            ("AccountingStorageType", "accounting_storage/none".into()),
            ("JobAcctGatherType", "jobacct_gather/none".into()),
            ("SchedulerParameters", "requeue_delay=1,bf_interval=2,sched_interval=2".into()),
            // A machine of two cores plays one of four.
            ("SlurmdParameters", "config_overrides".into()),
            ("RequeueExit", "75".into()),
            ("KillWait", "5".into()),
            ("PreemptType", "preempt/partition_prio".into()),
            ("PreemptMode", "REQUEUE".into()),
            ("MaxArraySize", "20000".into()),
            ("MaxJobCount", "30000".into()),
        ] {
            let _ = writeln!(conf, "{name}={value}");
        }
        let _ = writeln!(conf, "NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=4000 State=UNKNOWN");
        let _ = writeln!(conf, "PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=5");
        let _ = writeln!(conf, "PartitionName=urgent Nodes={host} MaxTime=INFINITE State=UP PriorityTier=10");
        std::fs::write(at("slurm.conf"), conf).unwrap();
        let mut cluster = Self { scratch, daemons: Vec::new() };
        let mut munged = cluster.command("munged");
        munged.args(["--foreground", "--force"]);
        for (option, name) in [
            ("socket", "munge.socket"),
            ("key-file", "munge.key"),
            ("pid-file", "munge.pid"),
            ("log-file", "munge.log"),
            ("seed-file", "munge.seed"),
        ] {
            munged.arg(format!("--{option}={}", cluster.at(name)));
        }
        cluster.daemon(munged);
        cluster.wait_for("munge", || cluster.scratch.path().join("munge.socket").exists());
        for (program, options) in [("slurmctld", &["-D"][..]), ("slurmd", &["-D", "-N", &host])] {
            let mut command = cluster.command(program);
            command.args(options).arg("-f").arg(cluster.at("slurm.conf"));
            cluster.daemon(command);
        }
        cluster.wait_for("an idle node", || cluster.says("sinfo", &["--noheader", "--format=%T"]).contains("idle"));
        Some(cluster)
    }

    fn at(&self, name: &str) -> String {
        self.scratch.path().join(name).display().to_string()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(if program.contains('/') { program.into() } else { on_path(program).unwrap_or(program.into()) });
        command.env("SLURM_CONF", self.at("slurm.conf")).stdin(Stdio::null());
        command
    }

    fn daemon(&mut self, mut command: Command) {
        let log = std::fs::File::create(self.at(&format!("log/{}.out", self.daemons.len()))).unwrap();
        self.daemons.push(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    }

    fn wait_for(&self, what: &str, there: impl Fn() -> bool) {
        let began = Instant::now();
        while !there() {
            if began.elapsed() > Duration::from_secs(60) {
                let logs = std::fs::read_dir(self.at("log")).unwrap().map(|entry| entry.unwrap().path());
                let logs = logs
                    .map(|path| format!("{}\n{}", path.display(), std::fs::read_to_string(&path).unwrap_or_default()))
                    .collect::<String>();
                panic!("there is no {what}:\n{logs}");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn output(&self, program: &str, arguments: &[&str]) -> Output {
        self.command(program).args(arguments).output().unwrap()
    }

    fn says(&self, program: &str, arguments: &[&str]) -> String {
        String::from_utf8_lossy(&self.output(program, arguments).stdout).into_owned()
    }

    /// Jobs of workers, one line each for which `states` holds.
    fn tasks(&self, states: &str) -> Vec<String> {
        let said = self.says("squeue", &["--noheader", "--array", "--name=ia2", &format!("--states={states}"), "--format=%A"]);
        said.split_whitespace().map(String::from).collect()
    }
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// The grid of this test, and what SLURM is asked for.
fn asked(model: &Model) -> (Experiment, Slurm) {
    // Long enough that things happen in the middle of a training.
    let grid = small(model, number("IA2_TEST_SLURM_RUNS", 48)).epochs(120).patience(1000);
    let slurm = Slurm::new().workers(4).patience(PATIENCE).program(WORKER).memory("500M").partition("main");
    let slurm = slurm.time(&number("IA2_TEST_SLURM_MINUTES", 30).to_string()).notice(Duration::from_secs(30));
    // What a job sees of the secrets of whoever has submitted it.
    let slurm = slurm.line("echo \"secret: ${IA2_TEST_TOKEN:-none}\"");
    (grid, if std::env::var_os("IA2_TEST_SLURM_BY_ITSELF").is_some() { slurm.requeue_by_itself() } else { slurm })
}

/// SLURM's configuration is told by the environment, which a test must not change for others.
#[test]
#[ignore = "the child of `a_grid_on_slurm_is_that_of_a_notebook_whatever_happens_to_its_workers`"]
fn child() -> Result<()> {
    let Some(folder) = std::env::var_os(FOLDER) else { return Ok(()) };
    ia2::libtorch::set_threads(1)?;
    let (grid, slurm) = asked(&Model::open("tiny-icl")?);
    let job = grid.prepare(folder, &slurm)?;
    assert!(job.script().contains("#SBATCH --array=0-3\n") && job.script().contains("--signal=B:USR1@30"), "{}", job.script());
    let jobs = job.submit()?;
    assert!(jobs.id().parse::<u32>().is_ok() && jobs.so_far()?.missing() > 0, "{jobs:?}");
    Ok(())
}

#[test]
fn a_grid_on_slurm_is_that_of_a_notebook_whatever_happens_to_its_workers() -> Result<()> {
    let Some(cluster) = Cluster::start() else { return Ok(()) };
    let (runs, harms) = (number("IA2_TEST_SLURM_RUNS", 48), number("IA2_TEST_SLURM_HARM", 6));
    ia2::libtorch::set_threads(1)?;
    let (folder, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let began = Instant::now();
    let local = asked(&Model::open("tiny-icl")?).0.folder(whole.path()).run()?.frame()?;
    let alone = began.elapsed();
    let submit = || {
        let mut child = cluster.command(std::env::current_exe().unwrap().to_str().unwrap());
        child.args(["--exact", "child", "--ignored"]).env(FOLDER, folder.path()).env("IA2_TEST_TOKEN", "a secret of whoever submits");
        let output = child.output().unwrap();
        assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    };
    submit();
    let began = Instant::now();
    let mut harm = BTreeMap::<&str, usize>::new();
    let mut submitted = 1;
    loop {
        assert!(began.elapsed() < LONG, "{harm:?}\n{}", cluster.says("squeue", &[]));
        std::thread::sleep(Duration::from_millis(100 + random() % 700));
        let study = Experiment::open(folder.path())?;
        if study.missing() == 0 {
            break;
        }
        // SLURM lets two minutes pass before a requeued job may start; nobody wants to wait here.
        for task in cluster.tasks("PENDING") {
            cluster.output("scontrol", &["update", &format!("JobId={task}"), "StartTime=now"]);
        }
        let running = cluster.tasks("RUNNING");
        let all = running.len() + cluster.tasks("PENDING,SUSPENDED,CONFIGURING,COMPLETING,PREEMPTED").len();
        if all == 0 {
            // As whoever sees that nobody is at it any more.
            submit();
            submitted += 1;
            continue;
        }
        let done: usize = harm.values().sum();
        if done >= harms || running.is_empty() {
            continue;
        }
        let any = random() as usize;
        let name = ["killed", "requeued", "preempted", "told to stop"][done % 4];
        let did = match name {
            "killed" => {
                let workers = study.workers()?;
                let (pids, lives) = (workers.column("pid")?.u32()?, workers.column("lives")?.bool()?);
                let alive: Vec<u32> =
                    pids.iter().zip(lives.iter()).filter(|(_, lives)| *lives == Some(true)).filter_map(|(pid, _)| pid).collect();
                // SAFETY: a signal to a worker of ours.
                !alive.is_empty() && unsafe { libc::kill(alive[any % alive.len()] as i32, libc::SIGKILL) } == 0
            }
            "requeued" => cluster.output("scontrol", &["requeue", &running[any % running.len()]]).status.success(),
            "told to stop" => cluster.output("scancel", &["--signal=USR1", "--batch", &running[any % running.len()]]).status.success(),
            _ => cluster
                .output("sbatch", &["--parsable", "--partition=urgent", "--cpus-per-task=3", "--output=/dev/null", "--wrap=sleep 2"])
                .status
                .success(),
        };
        if did {
            *harm.entry(name).or_default() += 1;
        }
    }
    let together = began.elapsed();
    let study = Experiment::open(folder.path())?;
    assert!(timeless(&study.frame()?).equals_missing(&timeless(&local)), "{harm:?}");
    same_results(folder.path(), whole.path());
    let busy = worked_once(folder.path(), runs);
    // How much there is time for depends on the machine.
    assert!(harm.values().sum::<usize>() >= harms / 2, "too little happened: {harm:?}");
    let workers = study.workers()?;
    let sum = |column: &str| Ok::<_, Error>(workers.column(column)?.f64()?.iter().flatten().sum::<f64>());
    let (seconds, claiming) = (sum("seconds")?, sum("claiming")?);
    let jobs = workers.column("job")?.str()?;
    assert!(jobs.iter().all(|job| job.is_some_and(|job| job.contains('_'))), "{jobs:?}");
    // For whoever reads the log; a test has no limits of time.
    println!(
        "{runs} runs: alone {:.0} s, on SLURM {:.0} s by {} workers of {submitted} submissions, {busy} of which did something; {harm:?}; claims took {:.2} % of the runs' time",
        alone.as_secs_f64(),
        together.as_secs_f64(),
        workers.height(),
        claiming / seconds * 100.0
    );
    let logs = std::fs::read_dir(folder.path().join("cluster/logs")).unwrap().map(|entry| entry.unwrap().path());
    let logs: Vec<String> = logs.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert!(logs.len() >= 4 && logs.iter().all(|log| !log.contains("a secret") && log.contains("secret: none")), "{logs:?}");
    if std::env::var_os("IA2_TEST_SLURM_SHOW").is_some() {
        println!("{}", logs.concat());
    }
    Ok(())
}
