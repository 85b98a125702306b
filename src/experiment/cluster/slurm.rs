//! What SLURM is asked for.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::folder::GridFolder;
use super::secret;
use super::written::WorkerSettings;
use crate::error::{Error, Result};

/// Workers as an array of SLURM jobs: a builder.
///
/// | setting | default |
/// |---|---|
/// | [`workers`](Self::workers), [`at_once`](Self::at_once) | 4, all of them |
/// | [`time`](Self::time) | the partition's own |
/// | [`notice`](Self::notice) | 120 s |
/// | [`memory`](Self::memory) | the partition's own |
/// | [`cpus`](Self::cpus), [`threads`](Self::threads) | 1, one for each CPU |
/// | [`gpus`](Self::gpus) | 0: workers keep to the CPU |
/// | [`account`](Self::account), [`partition`](Self::partition) | the user's own |
/// | [`option`](Self::option), [`line`](Self::line) | none |
/// | [`patience`](Self::patience) | 180 s |
/// | [`program`](Self::program) | `ia2-worker` as `cargo build --release --bin ia2-worker` leaves it |
#[derive(Clone, Debug)]
pub struct Slurm {
    name: String,
    pub(super) workers: usize,
    at_once: Option<usize>,
    time: Option<String>,
    notice: u64,
    memory: Option<String>,
    cpus: usize,
    gpus: usize,
    threads: Option<usize>,
    account: Option<String>,
    partition: Option<String>,
    options: Vec<String>,
    lines: Vec<String>,
    patience: f64,
    requeues_itself: bool,
    pub(super) program: Option<PathBuf>,
}

impl Default for Slurm {
    fn default() -> Self {
        Self::new()
    }
}

impl Slurm {
    /// With the defaults of the table above.
    pub fn new() -> Self {
        Self {
            name: "ia2".into(),
            workers: 4,
            at_once: None,
            time: None,
            notice: 120,
            memory: None,
            cpus: 1,
            gpus: 0,
            threads: None,
            account: None,
            partition: None,
            options: Vec::new(),
            lines: Vec::new(),
            patience: 180.0,
            requeues_itself: false,
            program: None,
        }
    }

    /// The jobs' name.
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// The number of workers: tasks of the array.
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// No more of them than this at the same time.
    pub fn at_once(mut self, count: usize) -> Self {
        self.at_once = Some(count);
        self
    }

    /// The time limit of each, as `sbatch --time` reads it: `30` (minutes), `4:00:00`, `1-12`. Before it is over the worker stops, and what it was at
    /// goes on in the next one: a cell may be longer than this.
    pub fn time(mut self, limit: &str) -> Self {
        self.time = Some(limit.into());
        self
    }

    /// How long before the time limit a worker is told: long enough for a step of training and for what is not stopped half way, collecting targets and
    /// evaluating.
    pub fn notice(mut self, time: Duration) -> Self {
        self.notice = time.as_secs().max(1);
        self
    }

    /// Memory of each, as `sbatch --mem` reads it: `8G`.
    pub fn memory(mut self, size: &str) -> Self {
        self.memory = Some(size.into());
        self
    }

    /// CPUs of each.
    pub fn cpus(mut self, count: usize) -> Self {
        self.cpus = count;
        self
    }

    /// GPUs of each; with none of them workers keep to the CPU.
    pub fn gpus(mut self, count: usize) -> Self {
        self.gpus = count;
        self
    }

    /// Threads of each, in place of one for each CPU. The last bits of results depend on it.
    pub fn threads(mut self, count: usize) -> Self {
        self.threads = Some(count);
        self
    }

    /// Whose budget it is.
    pub fn account(mut self, name: &str) -> Self {
        self.account = Some(name.into());
        self
    }

    /// Which nodes.
    pub fn partition(mut self, name: &str) -> Self {
        self.partition = Some(name.into());
        self
    }

    /// One more option of `sbatch`: `--constraint=avx512`, `--qos=low`.
    pub fn option(mut self, option: &str) -> Self {
        self.options.push(option.into());
        self
    }

    /// One more line of shell before the worker is started: `module load cuda`.
    pub fn line(mut self, line: &str) -> Self {
        self.lines.push(line.into());
        self
    }

    /// After how long without a heartbeat a worker is taken for dead, and its cell given to another. Network disks may show changes a minute late.
    pub fn patience(mut self, time: Duration) -> Self {
        self.patience = time.as_secs_f64();
        self
    }

    /// A worker that was stopped with work left asks SLURM for another turn by `scontrol requeue`. Not needed where the centre has set
    /// `RequeueExit=75` (`scontrol show config` tells), or where you submit again.
    pub fn requeue_by_itself(mut self) -> Self {
        self.requeues_itself = true;
        self
    }

    /// The built worker program.
    pub fn program(mut self, path: impl AsRef<Path>) -> Self {
        self.program = Some(path.as_ref().to_path_buf());
        self
    }

    pub(super) fn manner(&self) -> WorkerSettings {
        WorkerSettings { threads: self.threads.unwrap_or(self.cpus).max(1), cpu: self.gpus == 0, patience: self.patience }
    }

    /// Refuses what makes no sense, and what would end up in files that it must not be in.
    pub(super) fn check(&self) -> Result<()> {
        let counts = [
            ("workers", self.workers),
            ("cpus", self.cpus),
            ("threads", self.threads.unwrap_or(1)),
            ("at_once", self.at_once.unwrap_or(1)),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(Error::input(format!("0 {name} do no work: give at least 1 by `.{name}()`")));
        }
        if !(self.patience.is_finite() && self.patience >= 1.0) {
            return Err(Error::input(format!("a patience of {} s is too short for a heartbeat: give at least 1 s", self.patience)));
        }
        let time = |text: &str| {
            let (days, rest) = text.split_once('-').map_or((None, text), |(days, rest)| (Some(days), rest));
            let number = |text: &str| !text.is_empty() && text.bytes().all(|letter| letter.is_ascii_digit());
            days.is_none_or(number) && rest.split(':').all(number) && rest.split(':').count() <= 3
        };
        if let Some(text) = self.time.as_deref().filter(|text| !time(text)) {
            return Err(Error::input(format!("{text:?} is no time limit of SLURM's: use minutes (`30`), `4:00:00` or `1-12:00:00`")));
        }
        let words = [
            ("name", Some(&self.name)),
            ("memory", self.memory.as_ref()),
            ("account", self.account.as_ref()),
            ("partition", self.partition.as_ref()),
        ];
        for (what, text) in words.iter().filter_map(|(what, text)| Some((what, (*text)?))) {
            if text.is_empty() || !text.chars().all(|letter| letter.is_alphanumeric() || "._-+,@:/%".contains(letter)) {
                return Err(Error::input(format!("the {what} {text:?} holds signs that SLURM's scripts cannot take, or nothing")));
            }
        }
        for (what, text) in self.options.iter().map(|text| ("option", text)).chain(self.lines.iter().map(|text| ("line", text))) {
            if text.contains(['\n', '\r', '\0']) {
                return Err(Error::input(format!("the {what} {text:?} has more than one line: give each by itself")));
            }
            if what == "option" && !text.starts_with('-') {
                return Err(Error::input(format!("the option {text:?} does not begin with `-`: write it as for `sbatch`, `--qos=low`")));
            }
        }
        Ok(())
    }

    /// The command of one worker.
    pub(super) fn command(&self, home: &Path) -> Result<String> {
        let mut command = format!("{} {}", quoted(&GridFolder::new(home).starter())?, quoted(home)?);
        if self.requeues_itself {
            command.push_str(" --requeue");
        }
        Ok(command)
    }

    /// The script for `sbatch`.
    pub(super) fn script(&self, home: &Path) -> Result<String> {
        let threads = self.manner().threads;
        let last = self.workers - 1;
        // In a file's pattern SLURM reads % as its own.
        let logs = GridFolder::new(home).logs().join("LOG");
        let log = text(&logs)?.replace('%', "%%").replace("LOG", "%A_%a.log");
        if log.contains(['"', '\\']) {
            return Err(Error::input(format!("SLURM cannot print into {}: choose a folder without quotes in its name", logs.display())));
        }
        let mut options = vec![format!("--job-name={}", self.name)];
        options.push(format!("--array=0-{last}{}", self.at_once.map_or(String::new(), |count| format!("%{count}"))));
        options.push(format!("--cpus-per-task={}", self.cpus));
        let texts = [("time", &self.time), ("mem", &self.memory), ("account", &self.account), ("partition", &self.partition)];
        options.extend(texts.iter().filter_map(|(name, text)| Some(format!("--{name}={}", text.as_ref()?))));
        if self.gpus > 0 {
            options.push(format!("--gres=gpu:{}", self.gpus));
        }
        options.push(format!("--signal=B:USR1@{}", self.notice));
        // What comes back after a stop writes on where it was.
        options.extend(["--requeue".into(), "--open-mode=append".into(), format!("--output=\"{log}\"")]);
        options.extend(self.options.iter().cloned());
        let mut script = "#!/bin/bash\n".to_string();
        for option in options {
            let _ = writeln!(script, "#SBATCH {option}");
        }
        let _ = writeln!(script, "export OMP_NUM_THREADS={threads} MKL_NUM_THREADS={threads} OMP_WAIT_POLICY=passive");
        for line in &self.lines {
            let _ = writeln!(script, "{line}");
        }
        // In the shell's place: signals reach the worker, and its exit code is the job's.
        let _ = writeln!(script, "exec {}", self.command(home)?);
        secret::refuse(&script, "the job's script")?;
        Ok(script)
    }
}

fn text(path: &Path) -> Result<&str> {
    let bad =
        || Error::input(format!("the path {path:?} cannot be written into a script: choose one without line breaks and of UTF-8 text"));
    path.to_str().filter(|text| !text.contains(['\n', '\r'])).ok_or_else(bad)
}

/// A path as a word of the shell.
pub(super) fn quoted(path: &Path) -> Result<String> {
    let text = text(path)?;
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+=@:,".contains(letter);
    Ok(if text.chars().all(plain) && !text.is_empty() { text.into() } else { format!("'{}'", text.replace('\'', "'\\''")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_has_what_was_asked_for() {
        let slurm = Slurm::new().workers(8).at_once(2).time("4:00:00").memory("8G").cpus(4).gpus(1).account("me").partition("main");
        let slurm = slurm.option("--qos=low").line("module load cuda").notice(Duration::from_secs(90));
        slurm.check().unwrap();
        let expected = "\
#!/bin/bash
#SBATCH --job-name=ia2
#SBATCH --array=0-7%2
#SBATCH --cpus-per-task=4
#SBATCH --time=4:00:00
#SBATCH --mem=8G
#SBATCH --account=me
#SBATCH --partition=main
#SBATCH --gres=gpu:1
#SBATCH --signal=B:USR1@90
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=\"/scratch/a study/cluster/logs/%A_%a.log\"
#SBATCH --qos=low
export OMP_NUM_THREADS=4 MKL_NUM_THREADS=4 OMP_WAIT_POLICY=passive
module load cuda
exec '/scratch/a study/cluster/ia2-worker' '/scratch/a study'
";
        assert_eq!(slurm.script(Path::new("/scratch/a study")).unwrap(), expected);
        let command = Slurm::new().requeue_by_itself().command(Path::new("/it's/100%")).unwrap();
        assert_eq!(command, "'/it'\\''s/100%/cluster/ia2-worker' '/it'\\''s/100%' --requeue");
        assert!(Slurm::new().script(Path::new("/100%")).unwrap().contains("--output=\"/100%%/cluster/logs/%A_%a.log\""));
    }

    #[test]
    fn what_makes_no_sense_or_is_secret_is_refused() {
        for (slurm, words) in [
            (Slurm::new().workers(0), "0 workers"),
            (Slurm::new().cpus(0), "0 cpus"),
            (Slurm::new().at_once(0), "0 at_once"),
            (Slurm::new().time("four hours"), "no time limit"),
            (Slurm::new().time("1-"), "no time limit"),
            (Slurm::new().account("me\n#SBATCH --uid=0"), "the account"),
            (Slurm::new().partition(""), "the partition"),
            (Slurm::new().option("qos=low"), "does not begin with `-`"),
            (Slurm::new().line("a\nb"), "more than one line"),
            (Slurm::new().patience(Duration::from_millis(10)), "patience"),
        ] {
            let error = slurm.check().unwrap_err();
            assert!(error.is_input() && error.to_string().contains(words), "{words}: {error}");
        }
        for time in ["30", "4:00:00", "1-12", "1-12:00:00", "90:00"] {
            Slurm::new().time(time).check().unwrap();
        }
        let token = Slurm::new().line("export HF_TOKEN=hf_abcdefghijklmnopqrstuvwx");
        let error = token.script(Path::new("/a")).unwrap_err().to_string();
        assert!(error.contains("holds a token") && !error.contains("abcdef"), "{error}");
        let error = Slurm::new().script(Path::new("/a\nb")).unwrap_err().to_string();
        assert!(error.contains("line breaks"), "{error}");
    }
}
