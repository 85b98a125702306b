//! A worker: takes one cell after the other until none is left, or its time is over.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::claim::{Claim, Claims};
use super::folder::GridFolder;
use super::life::{Life, Watch};
use super::secret;
use super::worker_file::WorkerFile;
use super::written::PlanFile;
use crate::error::{Error, Result};
use crate::experiment::cell::RunControl;
use crate::experiment::grid::{CellOutline, Grid};
use crate::experiment::record::{self, Record, Run};
use crate::interrupt;
use crate::libtorch::{self, guarded};
use crate::progress::Progress;

/// How a worker has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerOutcome {
    /// Every run of the grid is done.
    Finished,
    /// Other live workers have the rest: this number of cells.
    OthersHave(usize),
    /// It was told to stop, or its time was over; this number of cells is left.
    Stopped(usize),
    /// Some cells could not be done here, for these reasons; all others are done, or others have them.
    Troubled(Vec<String>),
}

impl std::fmt::Display for WorkerOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Finished => f.write_str("every run is done"),
            Self::OthersHave(cells) => write!(f, "nothing left to take: others that live have {cells} cells"),
            Self::Stopped(cells) => write!(f, "stopped; {cells} cells are left"),
            Self::Troubled(words) => write!(f, "some cells could not be done here:\n{}", words.join("\n")),
        }
    }
}

impl WorkerOutcome {
    /// For the shell, and for SLURM's `RequeueExit`: 0 where nothing is left to take, 75 where it was stopped, 1 where there was trouble.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Finished | Self::OthersHave(_) => 0,
            Self::Stopped(_) => 75,
            Self::Troubled(_) => 1,
        }
    }
}

/// Works on the grid of a folder that [`Experiment::prepare`](super::super::Experiment::prepare) has made: what the program `ia2-worker` does.
///
/// It takes a cell (one model, task, N and run: everything that shares targets) that nobody has, does its runs, and takes the next. A claim is a
/// file that only one can make. A worker whose heartbeat stops is taken over after the plan's patience; one that comes back from the dead
/// stops as soon as it sees that. Any number of workers may be started on one folder, at any time, on any machine.
///
/// At SIGTERM, SIGUSR1 or SIGINT, or when its time is over, it stops within a step of training: the training goes on from its checkpoint with the next
/// worker that takes the cell, to the same bits.
#[derive(Clone, Debug)]
pub struct Worker {
    home: PathBuf,
    threads: Option<usize>,
    cpu: bool,
    time: Option<Duration>,
}

impl Worker {
    /// On the grid in this folder.
    pub fn new(folder: impl AsRef<Path>) -> Self {
        Self { home: folder.as_ref().to_path_buf(), threads: None, cpu: false, time: None }
    }

    /// With this number of threads, in place of the plan's. The last bits of results depend on it.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// On the CPU, whatever else is there.
    pub fn cpu(mut self) -> Self {
        self.cpu = true;
        self
    }

    /// Stops after this time.
    pub fn at_most(mut self, time: Duration) -> Self {
        self.time = Some(time);
        self
    }

    /// Which code this library is of, as a plan tells it.
    pub fn code() -> &'static str {
        super::written::CODE
    }

    /// The files of this library and of Rust's own that are loaded: what a program needs besides itself and libtorch.
    pub fn parts() -> Vec<PathBuf> {
        let maps = crate::file::text(Path::new("/proc/self/maps"), crate::file::Holds::Settings).unwrap_or_default();
        let ours = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            ["libia2", "libstd-"].iter().any(|start| name.starts_with(start)) && name.contains(".so")
        };
        let mut found: Vec<PathBuf> = maps.lines().filter_map(|line| Some(PathBuf::from(&line[line.find('/')?..]))).filter(ours).collect();
        found.sort();
        found.dedup();
        found
    }

    /// Works until nothing is left to take.
    ///
    /// # Errors
    /// No plan, or one of other code; a disk that is full, can only be read, or is gone; a claim, heartbeat or record that cannot be written. A run that
    /// fails is a row of the frame and ends nothing; a cell that cannot be done here is passed over and named in [`WorkerOutcome::Troubled`].
    pub fn run(&self) -> Result<WorkerOutcome> {
        guarded("working on a grid", || {
            let home = std::path::absolute(&self.home).map_err(|error| Error::unread(&self.home, error))?;
            let mut plan = PlanFile::open(&home)?;
            plan.demand_code()?;
            plan.manner.cpu |= self.cpu;
            let threads = self.threads.unwrap_or(plan.manner.threads).max(1);
            libtorch::set_threads(threads)?;
            let experiment = plan.experiment(&home);
            let grid = plan.grid(&experiment)?;
            let mut shift = Shift::begin(&grid, &home, &plan, self.time)?;
            let ended = shift.work(false);
            shift.end(&ended);
            ended
        })
    }
}

/// Does what is missing of a grid in whose folder there is a plan, together with whoever else is at work there, and waits for them; false where it was
/// interrupted.
pub(in crate::experiment) fn run_all(grid: &Grid<'_>, home: &Path, done: &mut dyn FnMut(&str)) -> Result<bool> {
    // Wherever this process goes meanwhile.
    let home = &std::path::absolute(home).map_err(|error| Error::unread(home, error))?;
    let mut shift = Shift::begin(grid, home, &PlanFile::open(home)?, None)?;
    shift.told = Some(done);
    let ended = shift.work(true);
    shift.end(&ended);
    match ended? {
        WorkerOutcome::Finished | WorkerOutcome::OthersHave(_) => Ok(true),
        WorkerOutcome::Stopped(_) => Ok(false),
        WorkerOutcome::Troubled(words) => Err(Error::file(words.join("\n"))),
    }
}

/// A worker at work.
struct Shift<'g, 'e, 't> {
    grid: &'g Grid<'e>,
    home: &'g Path,
    place: GridFolder,
    claims: Claims,
    watch: Watch,
    file: WorkerFile,
    /// Of each cell: its name, and what it is to be marked with when it is done.
    names: Vec<(String, String)>,
    /// Cells that are marked as done and of which a record is gone.
    doubtful: HashSet<usize>,
    /// Cells that could not be done here, and why.
    troubles: HashMap<usize, String>,
    /// Dropped, it calls the alarm off.
    _alarm: Option<Sender<()>>,
    pause: Duration,
    progress: Option<Progress>,
    /// Who wants to hear of each run.
    told: Option<&'t mut dyn FnMut(&str)>,
    /// The cell in hand.
    claim: Option<Claim>,
}

impl<'g, 'e, 't> Shift<'g, 'e, 't> {
    fn begin(grid: &'g Grid<'e>, home: &'g Path, plan: &PlanFile, time: Option<Duration>) -> Result<Self> {
        let place = GridFolder::new(home);
        let patience = plan.manner.patience();
        let names = grid.cells.iter().map(|cell| names(grid, cell, plan.again.as_deref())).collect::<Result<Vec<_>>>()?;
        let claims = Claims::new(&place);
        let listed = claims.list()?;
        let mut doubtful = HashSet::new();
        let there: HashSet<String> = std::fs::read_dir(home)
            .map_err(|error| Error::unread(home, error))?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        for (cell, (name, mark)) in names.iter().enumerate() {
            if listed.get(name).is_some_and(|state| state.is_done(mark)) {
                for run in grid.runs(&grid.cells[cell])? {
                    if !there.contains(&format!("{}.json", run.key()?)) {
                        doubtful.insert(cell);
                    }
                }
            }
        }
        Ok(Self {
            grid,
            home,
            claims,
            watch: Watch::new(&place, patience),
            file: WorkerFile::begin(&place, patience)?,
            place,
            names,
            doubtful,
            troubles: HashMap::new(),
            _alarm: time.map(alarm).transpose()?,
            pause: (patience / 16).min(Duration::from_secs(5)),
            progress: None,
            told: None,
            claim: None,
        })
    }

    /// Takes cells; `waits`: until those of others are done, too.
    fn work(&mut self, waits: bool) -> Result<WorkerOutcome> {
        if self.told.is_none() {
            self.progress = Some(Progress::new("worker", 0));
        }
        // Since when there has been nothing to take: who is to be left with the rest must be seen to live from then on.
        let mut idle = None;
        loop {
            let began = Instant::now();
            if interrupt::is_requested() {
                let left = interrupt::undisturbed(|| self.left())?;
                return if left == 0 { self.finished() } else { Ok(WorkerOutcome::Stopped(left)) };
            }
            let look = self.look(idle)?;
            self.file.claimed(began.elapsed());
            let Some((cell, claim)) = look.taken else {
                idle.get_or_insert(began);
                match look {
                    Look { left: 0, .. } if self.troubles.is_empty() => return self.finished(),
                    Look { unsure: 0, held, .. } if held == 0 || !waits => {
                        let mut words: Vec<String> = self.troubles.values().cloned().collect();
                        words.sort();
                        words.dedup();
                        return Ok(if words.is_empty() { WorkerOutcome::OthersHave(held) } else { WorkerOutcome::Troubled(words) });
                    }
                    _ => self.rest(),
                }
                continue;
            };
            idle = None;
            self.file.takes(Some(&claim.cell))?;
            self.claim = Some(claim);
            let outcome = self.work_on(cell);
            let Some(claim) = self.claim.take() else { continue };
            match outcome {
                Ok(true) => {
                    let began = Instant::now();
                    claim.done(&self.names[cell].1)?;
                    claim.free()?;
                    self.doubtful.remove(&cell);
                    self.file.claimed(began.elapsed());
                }
                // Stopped, or taken over.
                Ok(false) => claim.free()?,
                Err(error) if error.is_interrupted() => claim.free()?,
                Err(error) => {
                    // What can be written at all is written: the next may take the cell at once.
                    let freed = claim.free();
                    if error.is_of_disk() || self.file.is_lost() {
                        return Err(error);
                    }
                    freed?;
                    let words = secret::hidden(&error.to_string());
                    println!("cell passed over: {words}");
                    self.file.trouble(&words)?;
                    self.troubles.insert(cell, words);
                }
            }
        }
    }

    /// Nobody goes on from a checkpoint any more: one that came back to life may have left some.
    fn finished(&self) -> Result<WorkerOutcome> {
        for entry in std::fs::read_dir(self.place.checkpoints()).into_iter().flatten().flatten() {
            crate::file::remove(&entry.path())?;
        }
        Ok(WorkerOutcome::Finished)
    }

    /// The number of cells that are not done.
    fn left(&self) -> Result<usize> {
        let states = self.claims.list()?;
        let done = |cell: usize, name: &str, mark: &str| {
            states.get(name).is_some_and(|state| state.is_done(mark)) && !self.doubtful.contains(&cell)
        };
        Ok(self.names.iter().enumerate().filter(|(cell, (name, mark))| !done(*cell, name, mark)).count())
    }

    fn rest(&self) {
        let began = Instant::now();
        while began.elapsed() < self.pause && !interrupt::is_requested() {
            std::thread::sleep(Duration::from_millis(50).min(self.pause));
        }
    }

    /// Looks for a cell, and takes the first that can be had. Holders must have been seen to live since `idle`.
    fn look(&mut self, idle: Option<Instant>) -> Result<Look> {
        let states = self.claims.list()?;
        let mut look = Look::default();
        for (cell, (name, mark)) in self.names.iter().enumerate() {
            let state = states.get(name);
            let done = state.is_some_and(|state| state.is_done(mark)) && !self.doubtful.contains(&cell);
            if done || self.troubles.contains_key(&cell) {
                continue;
            }
            look.left += 1;
            if look.taken.is_some() {
                continue;
            }
            let (number, before) = (state.map_or(0, |state| state.number), look.held + look.unsure);
            if !state.is_none_or(|state| state.is_free()) {
                // Whoever has not written its name yet is watched by that of the claim, and never beats.
                let holder = self.claims.holder(name, number).unwrap_or_else(|| format!("{name}.{number}"));
                match self.watch.life(&holder, idle) {
                    Life::Dead => println!("taking over a cell of {holder}, which lives no more"),
                    Life::Lives => look.held += 1,
                    Life::Unsure => look.unsure += 1,
                }
                if look.held + look.unsure > before {
                    continue;
                }
            }
            look.taken = self.claims.take(name, number + 1, self.file.id())?.map(|claim| (cell, claim));
            if look.taken.is_none() {
                // Somebody was quicker just now: it lives.
                look.unsure += 1;
            }
        }
        Ok(look)
    }

    /// Does the runs of a cell; false where it is left before its end.
    fn work_on(&mut self, cell: usize) -> Result<bool> {
        let sketch = &self.grid.cells[cell];
        if self.grid.missing(self.home, sketch)?.is_empty() {
            return Ok(true);
        }
        let cell = self.grid.cell(sketch)?;
        cell.run(self.home, self)
    }

    fn end(self, ended: &Result<WorkerOutcome>) {
        let words = match ended {
            Ok(ended) => ended.to_string(),
            Err(error) => error.to_string(),
        };
        interrupt::undisturbed(|| self.file.end(&secret::hidden(&words)));
    }
}

/// Asks the work to stop after this time, unless it is called off.
fn alarm(time: Duration) -> Result<Sender<()>> {
    let (off, called_off) = channel::<()>();
    let rings = move || {
        if called_off.recv_timeout(time) == Err(RecvTimeoutError::Timeout) {
            interrupt::request();
        }
    };
    let thread = std::thread::Builder::new().name("ia2-alarm".into()).spawn(rings);
    thread.map(|_| off).map_err(|error| Error::internal("a thread for the time limit").because(error))
}

/// What a look at all cells found.
#[derive(Default)]
struct Look {
    /// Cells that are not done; of these held by workers that live, and by some of whom nothing is known yet.
    left: usize,
    held: usize,
    unsure: usize,
    taken: Option<(usize, Claim)>,
}

impl RunControl for Shift<'_, '_, '_> {
    fn goes_on(&mut self) -> Result<bool> {
        let began = Instant::now();
        self.file.demand_home()?;
        let held = self.holds()?;
        self.file.claimed(began.elapsed());
        Ok(held && !interrupt::is_requested())
    }

    fn holds(&self) -> Result<bool> {
        self.claim.as_ref().map_or(Ok(false), Claim::is_held)
    }

    fn checkpoint(&self, key: &str) -> Option<PathBuf> {
        Some(self.place.checkpoints().join(format!("{key}.safetensors")))
    }

    fn excused(&self, error: Error) -> Result<String> {
        // The disk's faults are not the run's.
        if error.is_file() { Err(error) } else { Ok(secret::hidden(&error.to_string())) }
    }

    fn done(&mut self, run: &Run, record: &Record, seconds: f64) -> Result<()> {
        let began = Instant::now();
        let words = format!("{}, n {}, run {}, {}", run.task, run.n, run.run, run.method.name());
        if let Some(message) = &record.failed {
            println!("failed: {words}: {message}");
        }
        self.file.ran(&run.key()?, seconds, record.failed.is_some())?;
        self.file.claimed(began.elapsed());
        if let Some(progress) = &mut self.progress {
            progress.tick(1, &words);
        }
        if let Some(told) = &mut self.told {
            told(&words);
        }
        Ok(())
    }
}

/// The name of a cell among the claims, and what it is marked with when these runs with these tests are done.
pub(super) fn names(grid: &Grid<'_>, cell: &CellOutline, again: Option<&str>) -> Result<(String, String)> {
    let runs = grid.runs(cell)?;
    let keys = runs.iter().map(Run::key).collect::<Result<Vec<_>>>()?;
    let of = runs.first().map(|run| (&run.model, &run.task, &run.rows, run.n, run.run));
    let tests: Vec<&String> = cell.tests.iter().map(|(_, digest)| digest).collect();
    let (name, mark) = (record::digest(&of)?, record::digest(&(keys, tests, again))?);
    Ok((name[..16].to_string(), mark[..16].to_string()))
}
