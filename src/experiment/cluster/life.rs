//! Which process a worker is, and whether it still lives.
//!
//! Clocks of several machines are never compared. A worker changes its file every few seconds, and who waits for it watches, by its own
//! clock, whether the file changes. A process of the same machine that is no more is known at once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::folder::GridFolder;
use crate::error::Result;
use crate::file::{self, Holds};

/// A process among those of all machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pub host: String,
    /// The running system, and the process numbers' own space in it: in a container the same number is another process.
    system: String,
    space: String,
    pub pid: u32,
    /// In ticks since the system started: numbers come again.
    started: u64,
}

/// What a worker tells of itself, in its file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct About {
    pub id: String,
    pub process: Process,
    /// SLURM's name of the job, where there is one.
    pub job: Option<String>,
    /// Where it prints to, if that is a file.
    pub log: Option<PathBuf>,
    pub code: String,
    /// The cell that it works on.
    pub cell: Option<String>,
    /// Runs done, the seconds they took, and those spent on claims.
    pub runs: u64,
    pub seconds: f64,
    pub claiming: f64,
    /// Why it has ended.
    pub ended: Option<String>,
    /// What it could not do, and why.
    pub troubles: Vec<String>,
}

/// The name of this machine.
pub(in crate::experiment) fn host() -> String {
    of_kernel("/proc/sys/kernel/hostname").unwrap_or_else(|| "unknown".into())
}

fn of_kernel(path: &str) -> Option<String> {
    file::text(Path::new(path), Holds::Settings).ok().map(|text| text.trim().to_string())
}

/// When a process of this machine was started; `None` where that cannot be told.
fn started(pid: u32) -> Option<u64> {
    fields(pid)?.get(19)?.parse().ok()
}

/// What the kernel says of a process, from its state on.
fn fields(pid: u32) -> Option<Vec<String>> {
    let stat = of_kernel(&format!("/proc/{pid}/stat"))?;
    // The name before may hold spaces and brackets.
    Some(stat.rsplit_once(')')?.1.split_whitespace().map(String::from).collect())
}

impl Process {
    pub(super) fn this() -> Self {
        let pid = std::process::id();
        let space = std::fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string()).unwrap_or_default();
        let system = of_kernel("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self { host: host(), system, space, pid, started: started(pid).unwrap_or_default() }
    }

    /// Whether it certainly lives no more.
    pub(super) fn is_gone(&self) -> bool {
        let here = Self::this();
        let same = (&self.host, &self.system, &self.space) == (&here.host, &here.system, &here.space);
        if !same || self.system.is_empty() {
            return false;
        }
        match fields(self.pid) {
            // What cannot be told is no death.
            None => matches!(std::fs::exists(format!("/proc/{}", self.pid)), Ok(false)),
            // Of a zombie there is nothing left but its number; or the number came again.
            Some(fields) => {
                matches!(fields.first().map(String::as_str), Some("Z" | "X"))
                    || fields.get(19).and_then(|started| started.parse().ok()).is_some_and(|started: u64| started != self.started)
            }
        }
    }
}

/// What is known of a worker's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Lives,
    Dead,
    /// It has not been watched for long enough.
    Unsure,
}

/// Watches the heartbeats of others.
pub(super) struct Watch {
    workers: PathBuf,
    patience: Duration,
    seen: HashMap<String, Seen>,
}

struct Seen {
    about: Option<About>,
    beat: Option<SystemTime>,
    /// When this beat was seen for the first time, and when it was looked for last.
    since: Instant,
    looked: Instant,
    /// Whether a beat has been seen to come.
    beats: bool,
}

impl Watch {
    pub(super) fn new(place: &GridFolder, patience: Duration) -> Self {
        Self { workers: place.workers(), patience, seen: HashMap::new() }
    }

    /// Since `after`, if that is said, a beat must have come.
    pub(super) fn life(&mut self, worker: &str, after: Option<Instant>) -> Life {
        let path = self.workers.join(format!("{worker}.json"));
        let (beat, now) = (beat(&path), Instant::now());
        let seen = self.seen.entry(worker.into()).or_insert_with(|| Seen { about: None, beat, since: now, looked: now, beats: false });
        if seen.beat != beat {
            (seen.beat, seen.since, seen.beats, seen.about) = (beat, now, true, None);
        }
        // Whoever was stopped for a while may have been stopped together with the one that is watched.
        if now.duration_since(seen.looked) > self.patience / 2 {
            (seen.since, seen.beats) = (now, false);
        }
        seen.looked = now;
        if seen.about.is_none() {
            seen.about = about(&path).ok();
        }
        let over = seen.about.as_ref().is_some_and(|about| about.ended.is_some() || about.process.is_gone());
        match now.duration_since(seen.since) {
            _ if over => Life::Dead,
            silent if silent >= self.patience => Life::Dead,
            _ if seen.beats && after.is_none_or(|after| seen.since >= after) => Life::Lives,
            _ => Life::Unsure,
        }
    }
}

/// When a worker's file was last changed. Opened first: network disks ask the server then, and remember otherwise.
pub(super) fn beat(path: &Path) -> Option<SystemTime> {
    file::open(path).and_then(|file| file.metadata()).and_then(|meta| meta.modified()).ok()
}

pub(super) fn about(path: &Path) -> Result<About> {
    file::read_json(path, "what a worker tells of itself", "remove it, if that worker has ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, GridFolder) {
        let folder = tempfile::tempdir().unwrap();
        let place = GridFolder::new(folder.path());
        file::folder(&place.workers()).unwrap();
        (folder, place)
    }

    fn tell(place: &GridFolder, process: Process, ended: Option<&str>) -> PathBuf {
        let (id, ended) = ("w".to_string(), ended.map(String::from));
        let (code, troubles) = (String::new(), Vec::new());
        let about = About { id, process, job: None, log: None, code, cell: None, runs: 0, seconds: 0.0, claiming: 0.0, ended, troubles };
        let path = place.workers().join("w.json");
        file::write(&path, file::json(&about).unwrap().as_bytes()).unwrap();
        path
    }

    #[test]
    fn a_process_of_this_machine_that_is_gone_is_known_at_once_and_others_by_their_heartbeat() {
        let (_folder, place) = place();
        let patience = Duration::from_millis(1500);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mut process = Process { pid: child.id(), started: started(child.id()).unwrap(), ..Process::this() };
        tell(&place, process.clone(), None);
        assert_eq!(Watch::new(&place, patience).life("w", None), Life::Unsure);
        child.kill().unwrap();
        // Not waited for: a zombie is no worker.
        while !process.is_gone() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(Watch::new(&place, patience).life("w", None), Life::Dead);
        child.wait().unwrap();
        assert_eq!(Watch::new(&place, patience).life("w", None), Life::Dead);
        // The number came again.
        process.pid = std::process::id();
        tell(&place, process.clone(), None);
        assert_eq!(Watch::new(&place, patience).life("w", None), Life::Dead);
        // Elsewhere, whatever its clock says.
        for place_of in [|process: &mut Process| process.host = "other".into(), |process: &mut Process| process.space = "container".into()]
        {
            let mut elsewhere = process.clone();
            place_of(&mut elsewhere);
            let path = tell(&place, elsewhere, None);
            let mut watch = Watch::new(&place, patience);
            let strange = SystemTime::now() + Duration::from_secs(86_400);
            for beats in 1..5 {
                assert_eq!(watch.life("w", None), if beats == 1 { Life::Unsure } else { Life::Lives });
                std::fs::File::options().write(true).open(&path).unwrap().set_modified(strange + Duration::from_secs(beats)).unwrap();
            }
            let began = Instant::now();
            while watch.life("w", None) != Life::Dead {
                assert!(began.elapsed() < 40 * patience);
                std::thread::sleep(Duration::from_millis(20));
            }
            assert!(began.elapsed() >= patience / 2);
            // A watcher that was suspended itself starts watching again.
            std::thread::sleep(2 * patience);
            assert_eq!(watch.life("w", None), Life::Unsure);
        }
        // A beat of before is none of now.
        let path = tell(&place, Process { host: "other".into(), ..process }, None);
        let mut watch = Watch::new(&place, patience);
        watch.life("w", None);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now() + patience).unwrap();
        assert_eq!(watch.life("w", None), Life::Lives);
        assert_eq!(watch.life("w", Some(Instant::now())), Life::Unsure);
        tell(&place, Process::this(), Some("done"));
        assert_eq!(Watch::new(&place, patience).life("w", None), Life::Dead);
        assert_eq!(Watch::new(&place, patience).life("nobody", None), Life::Unsure);
    }
}
