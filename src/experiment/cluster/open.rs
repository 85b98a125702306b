//! A grid that workers are at: what is done so far, and doing the rest here.

use std::path::Path;

use polars::prelude::*;

use super::progress::Progress;
use super::written::PlanFile;
use crate::error::{Error, Result};
use crate::experiment::study::{Home, Row};
use crate::experiment::{Experiment, Study};
use crate::libtorch::{self, guarded};

impl Experiment {
    /// What is done so far of a grid that was [prepared](Self::prepare) in this folder, at any moment and on any machine that sees it. No model is
    /// opened: only [`Study::overlap`] and [`Study::finish`] need one.
    ///
    /// # Errors
    /// No plan there, or one of another format; files that cannot be read or were changed since they were written.
    pub fn open(folder: impl AsRef<Path>) -> Result<Study> {
        let folder = folder.as_ref();
        guarded("opening a grid", || {
            let home = std::path::absolute(folder).map_err(|error| Error::unread(folder, error))?;
            let plan = PlanFile::open(&home)?;
            let experiment = plan.experiment(&home);
            let grid = plan.grid(&experiment)?;
            let mut study = experiment.study(Home::Kept(home.clone()), &grid, false)?;
            study.progress = Some(Progress::read(&home, &grid, &plan, study.counts())?);
            Ok(study)
        })
    }
}

impl Study {
    /// The number of runs that are not done yet.
    pub fn missing(&self) -> usize {
        self.counts().iter().map(|(runs, done)| runs - done).sum()
    }

    /// Hours that workers will still take: the missing runs by the mean time of those that are done, over the workers that live. Nothing where no
    /// worker lives, or none has done a run.
    pub fn hours_left(&self) -> Option<f64> {
        self.progress.as_ref()?.seconds_left().map(|seconds| seconds / 3600.0)
    }

    /// Does what is missing here, in this process, together with the workers that live, and waits for them: of a grid that was opened by
    /// [`Experiment::open`]. With the plan's number of threads.
    ///
    /// # Errors
    /// As [`Experiment::run`]; a study that was not opened from a folder with a plan; a plan of other code.
    pub fn finish(&self) -> Result<Study> {
        guarded("finishing a grid", || {
            let (Home::Kept(home), true) = (self.home(), self.progress.is_some()) else {
                return Err(Error::input("this study is of no plan in a folder: run its experiment again, and what is missing is done"));
            };
            let plan = PlanFile::open(home)?;
            plan.demand_code()?;
            let before = libtorch::threads();
            libtorch::set_threads(plan.manner.threads)?;
            let experiment = plan.experiment(home);
            let done = plan.grid(&experiment).and_then(|grid| experiment.finish(Home::Kept(home.clone()), &grid));
            libtorch::set_threads(before)?;
            done?;
            Experiment::open(home)
        })
    }

    /// The cells of a grid that workers are at: `model`, `task`, `n`, `run`, `runs`, `done`, `state`, `host`, `job`, `worker`, `log`.
    ///
    /// `state` is `done`; `held` by a worker that lives; `silent`, held by one that lives no more, until another takes it over; or `waiting`. The last four columns
    /// are of the worker that holds it, and null where there is none.
    ///
    /// # Errors
    /// A study that was not opened by [`Experiment::open`]; when polars cannot build the frame.
    pub fn cells(&self) -> Result<DataFrame> {
        let progress = self.at_work()?;
        let cells = &progress.cells;
        let workers = cells.iter().map(|cell| cell.worker.and_then(|worker| progress.workers.get(worker))).collect::<Vec<_>>();
        Ok(df!(
            "model" => cells.iter().map(|cell| cell.model.as_str()).collect::<Vec<_>>(),
            "task" => cells.iter().map(|cell| cell.task.as_str()).collect::<Vec<_>>(),
            "n" => cells.iter().map(|cell| cell.n as u32).collect::<Vec<_>>(),
            "run" => cells.iter().map(|cell| cell.run as u32).collect::<Vec<_>>(),
            "runs" => cells.iter().map(|cell| cell.runs as u32).collect::<Vec<_>>(),
            "done" => cells.iter().map(|cell| cell.done as u32).collect::<Vec<_>>(),
            "state" => cells.iter().map(|cell| cell.state).collect::<Vec<_>>(),
            "host" => workers.iter().map(|worker| worker.map(|worker| worker.about.process.host.as_str())).collect::<Vec<_>>(),
            "job" => workers.iter().map(|worker| worker.and_then(|worker| worker.about.job.as_deref())).collect::<Vec<_>>(),
            "worker" => workers.iter().map(|worker| worker.map(|worker| worker.about.id.as_str())).collect::<Vec<_>>(),
            "log" => workers.iter().map(|worker| worker.and_then(|worker| log(&worker.about))).collect::<Vec<_>>(),
        )?)
    }

    /// The workers that a grid has had: `worker`, `host`, `job`, `pid`, `lives`, `heartbeat` (seconds ago, by the disk's clock), `runs` (done), `seconds` (in
    /// runs), `claiming` (seconds for claims and reports), `ended` (why), `troubles` (what could not be done there), `log`.
    ///
    /// # Errors
    /// As [`cells`](Self::cells).
    pub fn workers(&self) -> Result<DataFrame> {
        let workers = &self.at_work()?.workers;
        Ok(df!(
            "worker" => workers.iter().map(|worker| worker.about.id.as_str()).collect::<Vec<_>>(),
            "host" => workers.iter().map(|worker| worker.about.process.host.as_str()).collect::<Vec<_>>(),
            "job" => workers.iter().map(|worker| worker.about.job.as_deref()).collect::<Vec<_>>(),
            "pid" => workers.iter().map(|worker| worker.about.process.pid).collect::<Vec<_>>(),
            "lives" => workers.iter().map(|worker| worker.lives).collect::<Vec<_>>(),
            "heartbeat" => workers.iter().map(|worker| worker.beat).collect::<Vec<_>>(),
            "runs" => workers.iter().map(|worker| worker.about.runs as u32).collect::<Vec<_>>(),
            "seconds" => workers.iter().map(|worker| worker.about.seconds).collect::<Vec<_>>(),
            "claiming" => workers.iter().map(|worker| worker.about.claiming).collect::<Vec<_>>(),
            "ended" => workers.iter().map(|worker| worker.about.ended.as_deref()).collect::<Vec<_>>(),
            "troubles" => workers.iter().map(|worker| (!worker.about.troubles.is_empty()).then(|| worker.about.troubles.join("\n"))).collect::<Vec<_>>(),
            "log" => workers.iter().map(|worker| log(&worker.about)).collect::<Vec<_>>(),
        )?)
    }

    /// The rows that failed: `key`, `model`, `task`, `evaluated_on`, `ood`, `n`, `run`, `method`, `adapter`, `failed` (why), and of runs that a worker has done
    /// `host`, `job` and `log`, the path of what it printed.
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn failures(&self) -> Result<DataFrame> {
        let rows: Vec<Row<'_>> = self.rows()?.into_iter().filter(|row| row.failed().is_some()).collect();
        let about =
            |row: &Row<'_>| self.progress.as_ref().and_then(|progress| progress.worker_of(&row.entry.key)).map(|worker| &worker.about);
        let mut frame = self.names(&rows)?;
        frame.insert_column(0, Column::new("key".into(), rows.iter().map(|row| row.entry.key.as_str()).collect::<Vec<_>>()))?;
        Ok(frame.hstack(&[
            Column::new("failed".into(), rows.iter().map(Row::failed).collect::<Vec<_>>()),
            Column::new("host".into(), rows.iter().map(|row| about(row).map(|about| about.process.host.as_str())).collect::<Vec<_>>()),
            Column::new("job".into(), rows.iter().map(|row| about(row).and_then(|about| about.job.as_deref())).collect::<Vec<_>>()),
            Column::new("log".into(), rows.iter().map(|row| about(row).and_then(log)).collect::<Vec<_>>()),
        ])?)
    }

    fn at_work(&self) -> Result<&Progress> {
        let none = || Error::input("this study is of no plan: `Experiment::open(folder)` opens one with its cells and workers");
        self.progress.as_ref().ok_or_else(none)
    }
}

fn log(about: &super::life::About) -> Option<String> {
    about.log.as_ref().map(|path| path.display().to_string())
}
