//! Experiments: grids of runs (model, task, N, run, method, adapter, learning rate, beta) whose results are one frame.
//!
//! ```
//! use ia2::experiment::{Experiment, Method};
//! use ia2::prelude::*;
//!
//! # fn main() -> Result<()> {
//! let model = Model::open("tiny-icl")?;
//! let study = Experiment::new(&model)
//!     .tasks(&["sentiment"])
//!     .tested_on("sentiment", &[]) // and on no other task
//!     .test_at_most(20)
//!     .sizes(&[4])
//!     .runs(2)
//!     .methods(&[Method::Icl, Method::Sft])
//!     .learning_rates(&[3e-3])
//!     .epochs(2)
//!     .run()?;
//! println!("{}", study.summary()?);
//! # assert_eq!(study.frame()?.height(), 4);
//! # Ok(())
//! # }
//! ```
//!
//! # What is done once
//! The model is opened by the caller. For each task, N and run there is one split, one collection of targets for all methods, rates and betas,
//! one evaluation with demonstrations and one without. Each run is one file, `<folder>/<key>.json`, next to its adapter in PEFT's files,
//! `<folder>/<key>/`. The key is a digest of everything that decides the run: the model as a training's manifest knows it (all bytes of its weights), the rows of
//! train and dev, N, run, method, adapter, learning rate, beta and the training's settings. A run whose file is there, and its adapter, is not done again, so
//! an experiment that was killed, or is asked for more, does what is missing. The file also says which machine did it: processor, threads, memory.
//!
//! # On a cluster
//! [`Experiment::prepare`] puts the same grid into a folder on a disk that all nodes share: a plan, the program `ia2-worker` and a script for SLURM's
//! `sbatch`, which it shows. [`Job::submit`] hands the script over. Each [`Worker`] takes a cell (one model, task, N and run) that nobody has, does its runs, and
//! takes the next, until none is left or its time is nearly over; then the next worker goes on from where it was, to the same bits. [`Experiment::open`] shows what
//! is done so far, at any moment and from any machine ([`Study::cells`], [`Study::workers`], [`Study::failures`], [`Study::hours_left`]), and
//! [`Study::finish`] does the rest here. The files of the runs are those of a local grid: with [`folder`](Experiment::folder), [`run`](Experiment::run)
//! and [`so_far`](Experiment::so_far) work on them as on any other.
//!
//! - A claim is a file that only one can make. A worker that dies is taken over when its heartbeat has stopped for the
//!   [patience](Slurm::patience); no clocks are compared. Nothing is done twice, nothing is lost, and any number of workers may be started at any time.
//! - A run that fails is a row, whatever the reason. A node that lacks the model or has another one, a disk that is full or gone, another
//!   version of the code are said in the worker's log and in [`Study::workers`].
//! - The nodes need the folder, the models' folders, and libtorch where it was when the worker was built; no Jupyter, no compiler, no network.
//! - Exit codes of a worker: 0, nothing left to take; 75, stopped with work left (SLURM's `RequeueExit=75` brings it back, as does
//!   [`Slurm::requeue_by_itself`]); 1, some cells could not be done there.
//! - Results agree to the bit with a local grid on the same kind of processor with as many threads ([`Slurm::threads`]).
//! - No environment is written down, and a script that would hold a secret of it is refused.
//!
//! # What is compared
//! Of the learning rates (and betas) of one method in one run, one is `chosen`: by the least dev loss. IA2 + SFT is chosen by the
//! cross-entropy on dev alone, because losses of different betas are different losses. [`Choice::TestAccuracy`] chooses as the authors' code
//! does, one for all runs. Only chosen rows enter [`Study::runs`], the tables and figures of it,
//! [`Study::summary`], [`Study::asim`], [`Study::overlap`], [`Study::significance`] and [`Study::evidence`]; [`Study::frame`] has all.
//!
//! Of each test row it is kept whether it was answered right, and how likely each label was ([`Study::outcomes`]): [`Study::evidence`] resamples rows and runs
//! together.
//!
//! [All methods](crate::guide::methods), each with a call of its own. Some train nothing. ICL's calibrated variants have the answers of ICL with other probabilities; batch calibration uses all test queries together.
//! A vector is found on train and dev ([`vector`](crate::vector)) and lies next to the record, `<folder>/<key>.safetensors`. SFT + temperature is SFT at each
//! rate with one temperature fitted on dev; where the best would be 0 (every dev gold is the likeliest label) or infinite, none is fitted and the row is SFT's. The frame's column `found` says
//! what was found. Dev losses choose within a method; those of different methods are different losses.
//!
//! asim compares, on up to 100 test queries, the attention outputs of the untouched model under ICL with those of the model at hand
//! without demonstrations, both at the responses given under ICL ([`Rollouts`] says otherwise).
//!
//! # What else a method does
//! [`Study::side_effects`] is one table of methods and columns: drift from the untouched model, distance to it under ICL, what became of another task
//! ([`Experiment::forgetting_on`]), and what it took. [`Study::frame`] defines each. Drift and distance are read from the states before the output head, on the queries
//! that asim is on: distance in asim's own forward, drift in one more, and where answers have one token in the same. Whatever a run was
//! evaluated without stays null until [`Experiment::columns`] asks for it; nothing is trained again.

mod cell;
mod choose;
mod cluster;
mod described;
mod effects;
mod evidence;
mod find;
mod grid;
mod lazy_model;
mod machine;
mod outcomes;
mod overlap;
mod paper;
mod plan;
mod protocol;
mod record;
mod run;
mod settings;
mod show;
mod study;
mod summary;
mod tasks;

use std::path::{Path, PathBuf};
use std::rc::Rc;

pub use choose::Choice;
pub use cluster::{Job, Slurm, Submitted, Worker, WorkerOutcome};
pub use evidence::Evidence;
pub use plan::Plan;
pub use protocol::{Demonstrations, Rollouts};
pub use study::Study;

use lazy_model::LazyModel;
use settings::Settings;

use crate::activations::Keep;
use crate::adapter::AdapterConfig;
use crate::compat::Compat;
use crate::dataset::Task;
pub use crate::method::Method;
use crate::model::Model;
use crate::objective::{Distilled, Divergence, Teacher};

crate::display::show_as_text!(Choice, Demonstrations, Experiment, Rollouts, Slurm, Worker);

/// A grid of runs: a builder.
///
/// | setting | default |
/// |---|---|
/// | [`tasks`](Self::tasks), [`task`](Self::task) | none: say which |
/// | [`tested_on`](Self::tested_on) | the task itself, and the tasks its card names for out of distribution, if they are installed |
/// | [`words`](Self::words) | the tasks' own labels |
/// | [`sizes`](Self::sizes) | 2, 4, 8, 16 |
/// | [`runs`](Self::runs) | 5 |
/// | [`balanced`](Self::balanced), [`dev_rows`](Self::dev_rows) | as drawn, min(48, N / 2) |
/// | [`methods`](Self::methods) | ICL, SFT, IA2, IA2 → SFT |
/// | [`adapters`](Self::adapters) | LoRA of rank 8 on q, k, o (a method that brings its own adapter, [`Method::Cartridge`], has that alone) |
/// | [`learning_rates`](Self::learning_rates) | 1e-4, 3e-4, 1e-3 (the paper's) |
/// | [`betas`](Self::betas) | 0.1, 0.5, 0.9 |
/// | [`epochs`](Self::epochs), [`patience`](Self::patience) | 50, 5 |
/// | [`test_at_most`](Self::test_at_most), [`compared_at_most`](Self::compared_at_most) | 500, 100 |
/// | [`self_distillation`](Self::self_distillation) | reverse KL, the untouched model, all tokens |
/// | [`choice`](Self::choice) | [`Choice::DevLoss`] |
/// | [`demonstrations`](Self::demonstrations), [`rollouts`](Self::rollouts) | [`Demonstrations::Same`], [`Rollouts::Icl`] |
/// | [`columns`](Self::columns) | all that are known, of runs that are evaluated now |
/// | [`forgetting_on`](Self::forgetting_on) | no other task |
/// | [`confidence`](Self::confidence) | [`Confidence::Answer`](crate::metric::Confidence): the answer's probability |
/// | [`folder`](Self::folder) | a temporary one, gone with the last [`Study`] of it |
#[derive(Clone, Debug)]
pub struct Experiment {
    models: Vec<LazyModel>,
    tasks: Vec<Wanted>,
    tested_on: Vec<(String, Vec<String>)>,
    /// Words for the labels of tasks.
    words: Vec<(String, Vec<String>)>,
    settings: Settings,
    /// Of a plan: what was found when its tasks were opened, in words.
    said: Vec<String>,
    /// Of a plan: what stands for the names in `tested_on`.
    others: Vec<cluster::Rows>,
    folder: Option<PathBuf>,
    /// Made by the first run without a folder, so that a second one goes on from it.
    temporary: std::cell::OnceCell<Rc<tempfile::TempDir>>,
}

/// A task by name or in a plan's files, opened when it is needed, or one that is open.
#[derive(Clone, Debug)]
enum Wanted {
    Named(String),
    Open(Box<Task>),
    Stored(cluster::Rows),
}

impl Experiment {
    /// With this model, and the defaults of the table above.
    pub fn new(model: &Model) -> Self {
        Self {
            models: vec![LazyModel::open(model)],
            tasks: Vec::new(),
            tested_on: Vec::new(),
            words: Vec::new(),
            said: Vec::new(),
            settings: Settings::default(),
            others: Vec::new(),
            folder: None,
            temporary: std::cell::OnceCell::new(),
        }
    }

    /// With one more model; all else is done with each.
    pub fn and_model(mut self, model: &Model) -> Self {
        self.models.push(LazyModel::open(model));
        self
    }

    /// Learns these tasks ([`Task::open`]).
    pub fn tasks(mut self, names: &[&str]) -> Self {
        self.tasks.extend(names.iter().map(|name| Wanted::Named((*name).into())));
        self
    }

    /// Learns a task of one's own.
    pub fn task(mut self, task: &Task) -> Self {
        self.tasks.push(Wanted::Open(Box::new(task.clone())));
        self
    }

    /// Tests what learned `task` on these others, too, out of distribution; in place of those that its card names.
    pub fn tested_on(mut self, task: &str, others: &[&str]) -> Self {
        self.tested_on.retain(|(name, _)| name != task);
        self.tested_on.push((task.into(), others.iter().map(|name| (*name).into()).collect()));
        self
    }

    /// Words in place of a task's labels, in the order of these, whether the task is learned or only tested on:
    /// `.words("SST2", &[" negative", " positive"])`. See [`Task::relabelled`].
    pub fn words(mut self, task: &str, words: &[&str]) -> Self {
        self.words.retain(|(name, _)| name != task);
        self.words.push((task.into(), words.iter().map(|word| (*word).into()).collect()));
        self
    }

    /// Numbers of training examples.
    pub fn sizes(mut self, sizes: &[usize]) -> Self {
        self.settings.sizes = sizes.to_vec();
        self
    }

    /// The number of runs, seeded 0, 1, ...: each draws its own train, dev and test sets.
    pub fn runs(mut self, runs: u64) -> Self {
        self.settings.runs = runs;
        self
    }

    /// Draws as many train rows of each label as of any other, give or take one, and so for dev: [`Task::few_shot_balanced`].
    pub fn balanced(mut self) -> Self {
        self.settings.balanced = true;
        self
    }

    /// Dev rows, whatever N: see [`Task::dev_rows`].
    pub fn dev_rows(mut self, count: usize) -> Self {
        self.settings.dev = Some(count);
        self
    }

    /// What is compared. A method that another goes on from (IA2 for IA2 → SFT) is run, and in the frame, whether named or not.
    pub fn methods(mut self, methods: &[Method]) -> Self {
        self.settings.methods = methods.to_vec();
        self
    }

    /// What is trained; each is an experiment of its own with its own chosen rates.
    pub fn adapters(mut self, adapters: &[AdapterConfig]) -> Self {
        self.settings.adapters = adapters.to_vec();
        self
    }

    /// Every method is trained at each.
    pub fn learning_rates(mut self, rates: &[f64]) -> Self {
        self.settings.learning_rates = rates.to_vec();
        self
    }

    /// Weights of cross-entropy in IA2 + SFT; each is trained at each learning rate.
    pub fn betas(mut self, betas: &[f64]) -> Self {
        self.settings.betas = betas.to_vec();
        self
    }

    /// At most this often over the training examples, in each phase.
    pub fn epochs(mut self, epochs: u64) -> Self {
        self.settings.epochs = epochs;
        self
    }

    /// Checks of the dev loss without improvement after which a phase ends.
    pub fn patience(mut self, checks: u64) -> Self {
        self.settings.patience = checks;
        self
    }

    /// Maximum number of test queries of each task.
    pub fn test_at_most(mut self, count: usize) -> Self {
        self.settings.test_at_most = count;
        self
    }

    /// Maximum number of test queries for asim.
    pub fn compared_at_most(mut self, count: usize) -> Self {
        self.settings.compared_at_most = count;
        self
    }

    /// What soft labels and cartridges keep of each distribution; with a large vocabulary and long answers `Keep::Top(k)` saves memory.
    pub fn distributions(mut self, keep: Keep) -> Self {
        self.settings.distributions = keep;
        self
    }

    /// How [`Method::SelfDistillation`] compares the student with its teacher, who the teacher is, and of how many tokens; reverse KL to the untouched model over
    /// the whole vocabulary unless set. Another way is another run: grids with several of them can share a folder.
    ///
    /// ```
    /// # use ia2::prelude::*;
    /// # fn main() -> Result<()> {
    /// # let model = Model::open("tiny-icl")?;
    /// let grid = Experiment::new(&model).tasks(&["answer"]).methods(&[Method::SelfDistillation]).sizes(&[4]);
    /// let forward = grid.clone().self_distillation(Divergence::ForwardKl, Teacher::Average(0.05), Some(20));
    /// # assert!(format!("{}", forward.protocol()?).len() > 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn self_distillation(mut self, divergence: Divergence, teacher: Teacher, top: Option<usize>) -> Self {
        self.settings.self_distillation = Distilled { divergence, teacher, top };
        self
    }

    /// How the learning rate (and beta) of each method is chosen.
    pub fn choice(mut self, choice: Choice) -> Self {
        self.settings.choice = choice;
        self
    }

    /// What ICL is shown before each test query.
    pub fn demonstrations(mut self, demonstrations: Demonstrations) -> Self {
        self.settings.demonstrations = demonstrations;
        self
    }

    /// At which answers asim compares.
    pub fn rollouts(mut self, rollouts: Rollouts) -> Self {
        self.settings.rollouts = rollouts;
        self
    }

    /// [`Compat::Paper`] does as the authors' code: trains as [`Training::compat`](crate::train::Training::compat) says, reads the benchmarks that
    /// are named as [`Benchmark::compat`](crate::dataset::Benchmark::compat) says, collects targets as
    /// [`Collect::compat`](crate::objective::Collect::compat) says, and sets [`Choice::TestAccuracy`],
    /// [`Demonstrations::PerQuery`] and [`Rollouts::Own`]. Each of these three can be set otherwise afterwards.
    pub fn compat(mut self, compat: Compat) -> Self {
        self.settings.compat = compat;
        let settings = &mut self.settings;
        (settings.choice, settings.demonstrations, settings.rollouts) = match compat {
            Compat::Paper => (Choice::TestAccuracy, Demonstrations::PerQuery, Rollouts::Own),
            Compat::Corrected => (Choice::DevLoss, Demonstrations::Same, Rollouts::Icl),
        };
        self
    }

    /// Runs that failed are done again; without it their failure stands, as any other result.
    pub fn retry_failed(mut self) -> Self {
        self.settings.retry_failed = true;
        self
    }

    /// Tests that were made before outcomes were kept row by row are made again, so that [`Study::evidence`] has them; nothing is trained again.
    pub fn fill_outcomes(mut self) -> Self {
        self.settings.fill_outcomes = true;
        self
    }

    /// Keeps results and adapters here, and takes from here what is done already.
    pub fn folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.folder = Some(folder.as_ref().to_path_buf());
        self
    }
}
