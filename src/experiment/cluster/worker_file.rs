//! What a worker writes of itself while it works: who it is, its heartbeat, and the runs that it has done.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::folder::GridFolder;
use super::life::{About, Process};
use super::written::CODE;
use crate::error::{Error, Result};
use crate::experiment::record;
use crate::file;

/// Heartbeats within the time after which a worker is taken for dead.
const BEATS: u32 = 8;
/// By how much a machine's clock may be off before it is reported.
const SKEW: Duration = Duration::from_secs(120);

pub(super) struct WorkerFile {
    about: About,
    path: PathBuf,
    runs: PathBuf,
    file: File,
    beat: Duration,
    told: Instant,
    /// Set by the heart when its file is gone.
    lost: Arc<AtomicBool>,
    /// Dropped, it stops the heart.
    heart: Option<(Sender<()>, std::thread::JoinHandle<()>)>,
}

impl WorkerFile {
    pub(super) fn begin(place: &GridFolder, patience: Duration) -> Result<Self> {
        let process = Process::this();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let id = format!("{}-{}-{}", plain(&process.host), process.pid, &record::digest(&(&process, now.as_nanos()))?[..8]);
        let (path, runs) = (place.workers().join(format!("{id}.json")), place.workers().join(format!("{id}.csv")));
        file::folder(&place.workers())?;
        file::folder(&place.claims())?;
        file::folder(&place.checkpoints())?;
        let mut file = File::create_new(&runs).map_err(|error| Error::unwritten(&runs, error))?;
        file.write_all(b"key,seconds,failed\n").map_err(|error| Error::unwritten(&runs, error))?;
        let about = About {
            id,
            process,
            job: job(),
            log: log(),
            code: CODE.into(),
            cell: None,
            runs: 0,
            seconds: 0.0,
            claiming: 0.0,
            ended: None,
            troubles: Vec::new(),
        };
        let beat = patience / BEATS;
        let mut duty = Self { about, path, runs, file, beat, told: Instant::now(), lost: Arc::default(), heart: None };
        duty.tell()?;
        let there = super::life::beat(&duty.path);
        if let Some(words) = there.and_then(|there| skew(&duty.about.process.host, SystemTime::now(), there)) {
            println!("{words}");
            duty.about.troubles.push(words);
            duty.tell()?;
        }
        duty.heart = Some(heart(&duty.path, beat, duty.lost.clone())?);
        Ok(duty)
    }

    pub(super) fn id(&self) -> &str {
        &self.about.id
    }

    fn tell(&mut self) -> Result<()> {
        self.told = Instant::now();
        file::write(&self.path, file::json(&self.about)?.as_bytes())
    }

    pub(super) fn takes(&mut self, cell: Option<&str>) -> Result<()> {
        let began = Instant::now();
        self.about.cell = cell.map(Into::into);
        self.tell()?;
        self.claimed(began.elapsed());
        Ok(())
    }

    /// Time that went into claims.
    pub(super) fn claimed(&mut self, time: Duration) {
        self.about.claiming += time.as_secs_f64();
    }

    pub(super) fn trouble(&mut self, words: &str) -> Result<()> {
        self.about.troubles.push(words.into());
        self.tell()
    }

    pub(super) fn ran(&mut self, key: &str, seconds: f64, failed: bool) -> Result<()> {
        (self.about.runs, self.about.seconds) = (self.about.runs + 1, self.about.seconds + seconds);
        let line = format!("{key},{seconds},{failed}\n");
        self.file.write_all(line.as_bytes()).map_err(|error| Error::unwritten(&self.runs, error))?;
        if self.told.elapsed() >= self.beat { self.tell() } else { Ok(()) }
    }

    /// Whether the folder was taken away from under it.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    pub(super) fn demand_home(&self) -> Result<()> {
        match self.is_lost() {
            false => Ok(()),
            true => Err(Error::file(format!(
                "{} is gone: the grid's folder was removed, or its disk is not there any more; a worker without it cannot go on",
                self.path.display()
            ))),
        }
    }

    pub(super) fn end(mut self, why: &str) {
        self.about.ended = Some(why.into());
        self.about.cell = None;
        self.stop();
        // Whoever cannot say that it has ended is found out by its heart.
        let _ = self.tell();
    }

    fn stop(&mut self) {
        if let Some((stop, heart)) = self.heart.take() {
            drop(stop);
            let _ = heart.join();
        }
    }
}

impl Drop for WorkerFile {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Tells of a clock that is not the disk's. Nothing here compares clocks, but people compare times of files and of logs.
fn skew(host: &str, here: SystemTime, there: SystemTime) -> Option<String> {
    let (ahead, by) = match here.duration_since(there) {
        Ok(by) => ("ahead of", by),
        Err(error) => ("behind", error.duration()),
    };
    let words = "claims and results do not depend on clocks, but the times in logs do";
    (by > SKEW).then(|| format!("the clock of {host} is {} s {ahead} that of the disk: {words}", by.as_secs()))
}

/// A thread that changes the file's time now and then.
fn heart(path: &Path, beat: Duration, lost: Arc<AtomicBool>) -> Result<(Sender<()>, std::thread::JoinHandle<()>)> {
    let name =
        CString::new(path.as_os_str().as_bytes()).map_err(|error| Error::input(format!("{} is no path", path.display())).because(error))?;
    let (stop, stopped) = channel::<()>();
    let beats = move || {
        while stopped.recv_timeout(beat) == Err(RecvTimeoutError::Timeout) {
            // SAFETY: the name is a C string that outlives the call; without times the disk's own clock is asked.
            let changed = unsafe { libc::utimensat(libc::AT_FDCWD, name.as_ptr(), std::ptr::null(), 0) };
            let gone = changed != 0 && matches!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ENOENT | libc::ESTALE));
            lost.store(gone, Ordering::Relaxed);
        }
    };
    let thread = std::thread::Builder::new().name("ia2-heart".into()).spawn(beats);
    thread.map(|thread| (stop, thread)).map_err(|error| Error::internal("a thread for the heartbeat").because(error))
}

/// Letters that any disk takes in a name.
fn plain(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect()
}

/// SLURM's name of this job: `12345_3` in an array.
fn job() -> Option<String> {
    let of = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (of("SLURM_ARRAY_JOB_ID"), of("SLURM_ARRAY_TASK_ID")) {
        (Some(job), Some(task)) => Some(format!("{job}_{task}")),
        _ => of("SLURM_JOB_ID"),
    }
}

/// The file that this process prints to.
fn log() -> Option<PathBuf> {
    std::fs::read_link("/proc/self/fd/1").ok().filter(|path| path.is_absolute() && path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_not_the_disks_is_told_of() {
        let now = SystemTime::now();
        assert_eq!(skew("n1", now, now - SKEW / 2), None);
        assert!(skew("n1", now, now - 2 * SKEW).unwrap().starts_with("the clock of n1 is 240 s ahead of that of the disk: "));
        assert!(skew("n1", now, now + 2 * SKEW).unwrap().starts_with("the clock of n1 is 240 s behind that of the disk: "));
    }

    #[test]
    fn a_worker_whose_folder_is_taken_away_knows_it() {
        let folder = tempfile::tempdir().unwrap();
        let place = GridFolder::new(&folder.path().join("grid"));
        let duty = WorkerFile::begin(&place, Duration::from_millis(80)).unwrap();
        duty.demand_home().unwrap();
        let before = super::super::life::beat(&duty.path).unwrap();
        let began = Instant::now();
        while super::super::life::beat(&duty.path).unwrap() == before {
            assert!(began.elapsed() < Duration::from_secs(60), "it has no heartbeat");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::fs::remove_dir_all(folder.path().join("grid")).unwrap();
        while !duty.is_lost() {
            assert!(began.elapsed() < Duration::from_secs(60), "it does not see that its file is gone");
            std::thread::sleep(Duration::from_millis(5));
        }
        let error = duty.demand_home().unwrap_err();
        assert!(error.is_file() && error.to_string().contains("the grid's folder was removed"), "{error}");
    }
}
