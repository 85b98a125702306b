//! The plan of a grid, as it is written for workers elsewhere.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::Device;

use super::folder::GridFolder;
use crate::dataset::Task;
use crate::error::{Error, Result};
use crate::experiment::grid::{CellOutline, Grid, Refused};
use crate::experiment::lazy_model::LazyModel;
use crate::experiment::record::{self, ModelId};
use crate::experiment::settings::Settings;
use crate::experiment::{Experiment, Wanted};
use crate::file::{self, Holds};
use crate::prompt::Examples;

/// Changes whenever older code would misread a plan.
const FORMAT: u32 = 1;
/// Of the library's sources: which code a program was built from.
pub(in crate::experiment) const CODE: &str = env!("IA2_CODE");

const REMEDY: &str = "prepare the grid again; what is done stays done";

/// How workers are to work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct WorkerSettings {
    /// Of each worker.
    pub threads: usize,
    /// Whether workers keep to the CPU, wherever they are.
    pub cpu: bool,
    /// After how many seconds without a heartbeat a worker is taken for dead.
    pub patience: f64,
}

impl WorkerSettings {
    pub(super) fn patience(&self) -> Duration {
        Duration::try_from_secs_f64(self.patience).unwrap_or(Duration::from_secs(180))
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PlanFile {
    format: u32,
    /// The code that made it, which is the code that may do it.
    pub code: String,
    version: String,
    models: Vec<ModelLine>,
    learned: Vec<Learned>,
    others: Vec<Rows>,
    settings: Settings,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    said: Vec<String>,
    pub manner: WorkerSettings,
    /// Of the keys of all runs.
    keys: String,
    /// What makes a grid whose failures are done again another than the last one.
    pub again: Option<String>,
    pub cells: Vec<CellOutline>,
    pub refused: Vec<Refused>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ModelLine {
    place: PathBuf,
    #[serde(flatten)]
    id: ModelId,
}

#[derive(Debug, Serialize, Deserialize)]
struct Learned {
    #[serde(flatten)]
    rows: Rows,
    tested_on: Vec<String>,
}

/// A task whose rows are in a file, called by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::experiment) struct Rows {
    pub name: String,
    digest: String,
    /// The folder that the file lies in, once it is known.
    #[serde(skip)]
    folder: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Content {
    examples: Examples,
    held_out: Examples,
}

impl Rows {
    fn write(task: &Task, folder: &Path) -> Result<Self> {
        let content = Content { examples: task.examples().clone(), held_out: task.held_out().clone() };
        let text = serde_json::to_vec(&content).map_err(|error| Error::internal("writing JSON").because(error))?;
        let rows = Self { name: task.name().into(), digest: format!("{:x}", Sha256::digest(&text)), folder: folder.into() };
        if !rows.path().exists() {
            file::write(&rows.path(), &text)?;
        }
        Ok(rows)
    }

    fn path(&self) -> PathBuf {
        self.folder.join(format!("{}.json", self.digest))
    }

    pub(crate) fn open(&self) -> Result<Task> {
        let path = self.path();
        let bytes = file::bytes(&path, Holds::Rows).map_err(|error| Error::unread(&path, error))?;
        if format!("{:x}", Sha256::digest(&bytes)) != self.digest {
            return Err(Error::file(format!("{} was changed or damaged after it was written: {REMEDY}", path.display())));
        }
        let content: Content = serde_json::from_slice(&bytes)
            .map_err(|error| Error::file(format!("{} does not hold the rows of a task: {REMEDY}", path.display())).because(error))?;
        Ok(Task::stored(content.examples, content.held_out))
    }
}

impl PlanFile {
    /// Writes the plan of a grid into its folder.
    pub(super) fn write(grid: &Grid<'_>, home: &Path, manner: WorkerSettings) -> Result<Self> {
        let (experiment, place) = (grid.experiment, GridFolder::new(home));
        let models = experiment.models.iter().map(model_line).collect::<Result<Vec<_>>>()?;
        for folder in [place.tasks(), place.claims(), place.workers(), place.checkpoints(), place.logs()] {
            file::folder(&folder)?;
        }
        let (mut learned, mut others) = (Vec::new(), Vec::new());
        for opened in grid.tasks()? {
            let tested_on = opened.others.iter().map(|task| task.name().to_string()).collect();
            learned.push(Learned { rows: Rows::write(&opened.task, &place.tasks())?, tested_on });
            for other in opened.others.iter().chain(&opened.elsewhere) {
                let rows = Rows::write(other, &place.tasks())?;
                if !others.contains(&rows) {
                    others.push(rows);
                }
            }
        }
        let settings = experiment.settings.clone();
        let again = (settings.retry_failed || settings.fill_outcomes)
            .then(|| format!("{:?}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()));
        let plan = Self {
            format: FORMAT,
            code: CODE.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            models,
            learned,
            others,
            settings,
            said: grid.said.clone(),
            manner,
            keys: keys(grid)?,
            again,
            cells: grid.cells.clone(),
            refused: grid.refused.clone(),
        };
        file::write(&place.plan(), file::json(&plan)?.as_bytes())?;
        Ok(plan)
    }

    /// The plan in a grid's folder.
    pub(super) fn open(home: &Path) -> Result<Self> {
        let path = GridFolder::new(home).plan();
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => {
                return Err(Error::file(format!(
                    "{} holds no plan of a grid ({} is not there): prepare one by `experiment.prepare(folder, &Slurm::new())`, or give the \
                     folder that it was prepared in",
                    home.display(),
                    path.display()
                )));
            }
            Err(error) => return Err(Error::unread(&path, error)),
        }
        /// What every format has.
        #[derive(Deserialize)]
        struct Any {
            format: u32,
        }
        let any: Any = file::read_json(&path, "the plan of a grid", REMEDY)?;
        if any.format != FORMAT {
            return Err(Error::file(format!("{} has format {}, and this library reads {FORMAT}: {REMEDY}", path.display(), any.format)));
        }
        file::read_json(&path, "the plan of a grid", REMEDY)
    }

    /// Refuses a plan that other code has made: it might come to other numbers.
    pub(super) fn demand_code(&self) -> Result<()> {
        if self.code == CODE {
            return Ok(());
        }
        Err(Error::file(format!(
            "the plan was made by other code than this program's (ia2 {} {}, and this is {} {CODE}): prepare the grid again with a program \
             built from these sources; what is done stays done",
            self.version,
            self.code,
            env!("CARGO_PKG_VERSION")
        )))
    }

    /// The experiment that it is of. Models and tasks are opened when they are needed.
    pub(super) fn experiment(&self, home: &Path) -> Experiment {
        let folder = GridFolder::new(home).tasks();
        let stored = |rows: &Rows| Rows { folder: folder.clone(), ..rows.clone() };
        let device = self.manner.cpu.then_some(Device::Cpu);
        Experiment {
            models: self.models.iter().map(|model| LazyModel::closed(model.place.clone(), model.id.clone(), device)).collect(),
            tasks: self.learned.iter().map(|learned| Wanted::Stored(stored(&learned.rows))).collect(),
            tested_on: self.learned.iter().map(|learned| (learned.rows.name.clone(), learned.tested_on.clone())).collect(),
            words: Vec::new(),
            said: self.said.clone(),
            settings: self.settings.clone(),
            others: self.others.iter().map(stored).collect(),
            folder: Some(home.into()),
            temporary: std::cell::OnceCell::new(),
        }
    }

    /// Its grid, which must have the runs that it had.
    pub(super) fn grid<'e>(&self, experiment: &'e Experiment) -> Result<Grid<'e>> {
        let grid = Grid::drawn(experiment, self.cells.clone(), self.refused.clone());
        if keys(&grid)? != self.keys {
            return Err(Error::file(format!("this code makes other runs of the plan than the code that wrote it: {REMEDY}")));
        }
        Ok(grid)
    }
}

fn model_line(held: &LazyModel) -> Result<ModelLine> {
    let (place, id) = (held.place(), held.id()?);
    if place.as_os_str().is_empty() || id.identity.weights.starts_with("numbers ") {
        return Err(Error::input(
            "a model of the grid is in memory alone, or its files were changed after it was opened, and workers open files: save it by \
             `model.save(folder)` on a disk that the nodes share, and open it from there",
        ));
    }
    let place = std::path::absolute(place).map_err(|error| Error::unread(place, error))?;
    Ok(ModelLine { place, id: id.clone() })
}

/// A digest of the keys of all runs.
fn keys(grid: &Grid<'_>) -> Result<String> {
    let mut keys = Vec::new();
    for cell in &grid.cells {
        for run in grid.runs(cell)? {
            keys.push(run.key()?);
        }
    }
    record::digest(&keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_is_learned_by_none_is_in_the_plan() {
        let folder = tempfile::tempdir().unwrap();
        let model = crate::model::Model::open("tiny-icl").unwrap();
        let experiment = Experiment::new(&model).tasks(&["sentiment"]).tested_on("sentiment", &[]).sizes(&[4]).runs(1);
        let experiment = experiment.test_at_most(8).columns(&["drift"]).forgetting_on(&["sentiment", "topic"]);
        let grid = experiment.grid().unwrap();
        PlanFile::write(&grid, folder.path(), WorkerSettings { threads: 1, cpu: true, patience: 1.0 }).unwrap();
        let plan = PlanFile::open(folder.path()).unwrap();
        let opened = plan.experiment(folder.path());
        assert_eq!(opened.settings, experiment.settings);
        let drawn = plan.grid(&opened).unwrap();
        // From the plan's own rows, of which the digests must be those of the grid.
        assert_eq!(drawn.tasks().unwrap()[0].elsewhere.as_ref().unwrap().name(), "topic");
        assert_eq!(drawn.cells[0].elsewhere, grid.cells[0].elsewhere);
        assert!(drawn.cells[0].elsewhere.is_some() && drawn.cell(&drawn.cells[0]).is_ok());
        // Settings of plans and grids that use none of it are written as before.
        let json = serde_json::to_string(&Settings::default()).unwrap();
        assert!(["columns", "forgetting", "confidence", "self_distillation"].iter().all(|name| !json.contains(name)), "{json}");
    }

    #[test]
    fn rows_are_those_that_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let task = Task::open("sentiment").unwrap();
        let rows = Rows::write(&task, folder.path()).unwrap();
        assert_eq!(Rows::write(&task, folder.path()).unwrap(), rows);
        let again = rows.open().unwrap();
        assert_eq!((again.name(), again.examples(), again.held_out()), (task.name(), task.examples(), task.held_out()));
        for run in 0..3 {
            assert_eq!(again.few_shot(4, run).unwrap(), task.few_shot(4, run).unwrap());
        }
        let whole = std::fs::read(rows.path()).unwrap();
        for place in (0..whole.len()).step_by(whole.len() / 7) {
            let mut bytes = whole.clone();
            bytes[place] ^= 1;
            std::fs::write(rows.path(), bytes).unwrap();
            let error = rows.open().unwrap_err();
            assert!(error.is_file() && error.to_string().contains("prepare the grid again"), "{error}");
        }
        std::fs::remove_file(rows.path()).unwrap();
        assert!(rows.open().unwrap_err().to_string().contains("cannot read"));
    }
}
