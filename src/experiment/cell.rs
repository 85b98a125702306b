//! One model, task, N and run: everything that its methods share.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use polars::prelude::DataFrame;

use super::protocol::{self, Rollouts};
use super::record::{self, Evaluated, Record, Run, TrainedRecord, TrainingId};
use super::{Experiment, Method};
use crate::activations::{Activations, Capture, capture};
use crate::adapter::Adapter;
use crate::calibrate;
use crate::dataset::{Split, Task};
use crate::error::{Error, Result};
use crate::evaluate::evaluate;
use crate::file;
use crate::interrupt;
use crate::libtorch::door;
use crate::metric::{METRICS, batch_calibrated, with_temperature};
use crate::model::{Model, Responses};
use crate::objective::{Ia2Sft, Sft, Targets};
use crate::prompt::{Examples, Prompts};
use crate::train::{Stopped, Trained, Training};

const SELF_ATTENTION: &str = "model.layers.*.self_attn";

pub(super) struct Cell<'e> {
    experiment: &'e Experiment,
    pub model: &'e Model,
    pub split: Split,
    /// Whose rows demonstrations are drawn from, where these are not the train set's.
    pool: Option<Rc<Task>>,
    /// The task's own, then those out of distribution.
    pub tests: Vec<Test>,
    pub runs: Vec<Run>,
}

/// Queries that every run of a cell is asked.
pub(super) struct Test {
    pub task: String,
    queries: Examples,
    compared: usize,
    /// Of queries, golds, form, and how many are compared.
    pub digest: String,
}

impl Test {
    /// `ways`: what decides the numbers besides, where it is not as it is by default.
    pub fn new(task: &str, queries: Examples, compared: usize, ways: &impl serde::Serialize) -> Result<Self> {
        Ok(Self { task: task.into(), digest: record::digest(&(task, &queries, compared, ways))?, queries, compared })
    }

    pub fn len(&self) -> usize {
        self.queries.len()
    }
}

/// What the base model does under ICL, found when it is first needed and gone with the cell's last run.
struct Shared {
    targets: Once<Targets>,
    /// One for each test.
    shown: Vec<Once<Shown>>,
}

/// A test under ICL.
struct Shown {
    prompts: Prompts,
    /// The first answers, after the queries alone.
    taught: Responses,
    /// What the model answers to the prompts, with how sure it is.
    answers: Once<DataFrame>,
    /// The attention outputs on the way to these answers.
    inside: Activations,
}

/// Who has a cell done, and wants to know of each run.
pub(super) trait Overseer {
    /// Whether the next run may begin.
    fn goes_on(&mut self) -> Result<bool>;

    /// Whether what is done may still be written.
    fn holds(&self) -> Result<bool> {
        Ok(true)
    }

    /// Where the training of a run is kept when it is stopped.
    fn checkpoint(&self, _key: &str) -> Option<PathBuf> {
        None
    }

    /// The message of a run that failed for a reason that is not its own, such as a lack of memory; or the error, which ends the work.
    fn excused(&self, error: Error) -> Result<String> {
        Err(error)
    }

    fn done(&mut self, run: &Run, record: &Record, seconds: f64) -> Result<()>;
}

impl<'e> Cell<'e> {
    pub fn new(
        experiment: &'e Experiment,
        model: &'e Model,
        (split, pool): (Split, Option<Rc<Task>>),
        tests: Vec<Test>,
        runs: Vec<Run>,
    ) -> Self {
        Self { experiment, model, split, pool, tests, runs }
    }

    /// Whether a run has been done, with all tests of this cell.
    fn is_done(&self, folder: &Path, run: &Run) -> Result<bool> {
        let retry = self.experiment.settings.retry_failed;
        Ok(Record::open(folder, run)?.is_some_and(|record| record.is_whole(self.tests.iter().map(|test| test.digest.as_str()), retry)))
    }

    /// Tests that a record lacks.
    fn missing<'a>(&'a self, record: &'a Record) -> impl Iterator<Item = (usize, &'a Test)> {
        let retry = self.experiment.settings.retry_failed;
        self.tests.iter().enumerate().filter(move |(_, test)| record.lacks(&test.digest, retry))
    }

    /// Does the runs that are missing; false where the overseer wants it to be left before its end.
    pub fn run(&self, folder: &Path, overseer: &mut dyn Overseer) -> Result<bool> {
        let shared = Shared { targets: Once::default(), shown: self.tests.iter().map(|_| Once::default()).collect() };
        for run in &self.runs {
            if self.is_done(folder, run)? {
                continue;
            }
            if !overseer.goes_on()? {
                return Ok(false);
            }
            let began = Instant::now();
            let record = door("a run of an experiment", || self.make(folder, run, &shared, overseer));
            let record = match record {
                Ok(record) => record,
                // It was told to stop; a training goes on from its checkpoint.
                Err(error) if error.is_interrupted() => return Ok(false),
                Err(error) => Record::new(record::name(self.model), run, Some(overseer.excused(error)?)),
            };
            if !overseer.holds()? {
                return Ok(false);
            }
            record.save(folder)?;
            if let Some(checkpoint) = overseer.checkpoint(&run.key()?) {
                file::remove(&checkpoint)?;
            }
            overseer.done(run, &record, began.elapsed().as_secs_f64())?;
        }
        Ok(true)
    }

    fn make(&self, folder: &Path, run: &Run, shared: &Shared, overseer: &dyn Overseer) -> Result<Record> {
        let earlier = Record::open(folder, run)?.filter(|record| record.failed.is_none());
        let mut record = earlier.clone().unwrap_or_else(|| Record::new(record::name(self.model), run, None));
        let training = run.training.as_ref().filter(|_| run.method.is_trained());
        let model = match (training, earlier) {
            (None, _) => match self.find(folder, run, &mut record, overseer).or_else(excused)? {
                Ok(model) => model,
                Err(message) => {
                    record.failed = Some(message);
                    return Ok(record);
                }
            },
            (Some(_), Some(earlier)) => self.model.with(&earlier.open_adapter(folder, self.model)?)?,
            (Some(training), None) => match self.train(folder, run, training, shared, overseer).or_else(excused)? {
                Ok((trained, seconds)) => {
                    // Whoever lost the cell meanwhile leaves the files to its new holder.
                    if !overseer.holds()? {
                        return Err(Error::interrupted("another worker has this run now"));
                    }
                    // Before the record: a record says that its adapter is there.
                    interrupt::undisturbed(|| trained.save(record::adapter(folder, &run.key()?)))?;
                    record.trained = Some(TrainedRecord {
                        dev_loss: trained.dev_loss(),
                        dev_cross_entropy: if run.method.has_beta() { dev_part(&trained.history()?, "dev_sft")? } else { None },
                        steps: trained.steps(),
                        seconds,
                        parameters: trained.adapter().digest(),
                    });
                    trained.model().clone()
                }
                Err(message) => {
                    record.failed = Some(message);
                    return Ok(record);
                }
            },
        };
        for (place, test) in self.missing(&record.clone()) {
            let temperature = record.found.as_ref().and_then(|found| found.temperature);
            let evaluated = match self.evaluate(&model, run.method, temperature, test, &shared.shown[place]).map(Ok).or_else(excused) {
                // What was trained is not trained again.
                Err(error) if error.is_interrupted() && (record.trained.is_some() || record.found.is_some()) && overseer.holds()? => {
                    interrupt::undisturbed(|| record.save(folder))?;
                    return Err(error);
                }
                evaluated => evaluated?,
            };
            let failed = |message| Evaluated {
                task: test.task.clone(),
                examples: test.queries.len(),
                failed: Some(message),
                ..Evaluated::default()
            };
            record.evaluated.insert(test.digest.clone(), evaluated.unwrap_or_else(failed));
        }
        Ok(record)
    }

    /// The training and its seconds, or why it failed.
    fn train(
        &self,
        folder: &Path,
        run: &Run,
        training: &TrainingId,
        shared: &Shared,
        overseer: &dyn Overseer,
    ) -> Result<Result<(Trained, f64), String>> {
        let start = match run.method.after() {
            None => None,
            Some(method) => match earlier(folder, run, method)? {
                Ok(record) => Some(record.open_adapter(folder, self.model)?),
                Err(message) => return Ok(Err(message)),
            },
        };
        let targets = || shared.targets.get(|| self.targets());
        // Shared work is nobody's training time.
        if run.method.needs_targets() {
            targets()?;
        }
        let began = Instant::now();
        // Settings that came back from PEFT's files name the same sites in another order.
        let adapter = start.as_ref().map_or(&training.adapter, Adapter::config).clone();
        let compat = training.compat;
        let begun = match run.method {
            Method::Sft | Method::Ia2ThenSft => Training::new(adapter, Sft::gold()),
            Method::SftOnIcl => Training::new(adapter, targets()?.sft()),
            Method::Soft => Training::new(adapter, targets()?.soft_sft()?.compatible(compat)),
            Method::Ia2 | Method::SftThenIa2 => Training::new(adapter, targets()?.ia2()?.compatible(compat)),
            Method::Ia2PlusSft => {
                let ia2 = targets()?.ia2()?.compatible(compat);
                Training::new(adapter, Ia2Sft::new(&ia2, training.beta.unwrap_or_default())?)
            }
            _ => return Err(Error::internal(format!("{} does not train", run.method.name()))),
        };
        let begun = match &start {
            Some(adapter) => begun.start_from(adapter)?,
            None => begun,
        };
        let begun = begun.seed(run.run).learning_rate(training.learning_rate).epochs(training.epochs).patience(training.patience);
        let begun = match overseer.checkpoint(&run.key()?) {
            Some(file) => begun.checkpoint_when_stopped(file),
            None => begun,
        };
        let trained = begun.compat(compat).run(self.model, &self.split)?;
        if trained.stopped() == Stopped::Interrupted {
            interrupt::check()?;
        }
        Ok(Ok((trained, began.elapsed().as_secs_f64())))
    }

    fn evaluate(&self, model: &Model, method: Method, temperature: Option<f64>, test: &Test, shown: &Once<Shown>) -> Result<Evaluated> {
        let icl = method.is_under_icl();
        let shown = || shown.get(|| self.show(test));
        let frame = match icl {
            true => {
                let shown = shown()?;
                let answers = shown.answers.get(|| evaluate(model, &shown.prompts))?;
                match method {
                    Method::IclContextual => calibrate::calibrated(model, &shown.prompts, answers, &calibrate::CONTENT_FREE)?,
                    Method::IclBatch => batch_calibrated(answers)?,
                    _ => answers.clone(),
                }
            }
            false => evaluate(model, &test.queries.zero_shot()?)?,
        };
        let frame = match temperature {
            Some(value) => with_temperature(&frame, value)?,
            None => frame,
        };
        // A metric that is not defined for these answers, or for so few, is left out: the frame has a null there.
        let value = |metric: &crate::metric::Metric| metric.compute(&frame).ok().map(|value| (metric.name.to_string(), value));
        let metrics = METRICS.iter().filter_map(value).collect();
        interrupt::check()?;
        // Not defined where an activation is zero or the demonstrations leave no room: accuracy is all the same.
        let (asim, failed) = match shown().and_then(|shown| self.asim(model, icl, test, shown)).map(Ok).or_else(excused)? {
            Ok(asim) => (asim, None),
            Err(message) => (Vec::new(), Some(format!("no asim: {message}"))),
        };
        Ok(Evaluated { task: test.task.clone(), examples: frame.height(), metrics, asim, failed })
    }

    /// By layer.
    fn asim(&self, model: &Model, icl: bool, test: &Test, shown: &Shown) -> Result<Vec<(Option<u32>, f64)>> {
        let own = match self.experiment.settings.rollouts {
            _ if icl => None,
            Rollouts::Icl => Some(capture(model, &shown.taught, SELF_ATTENTION)?),
            Rollouts::Own => {
                let prompts = test.queries.take(test.compared).zero_shot()?;
                Some(Capture::at(SELF_ATTENTION).while_responding(model, &prompts)?.1)
            }
        };
        let frame = shown.inside.asim(own.as_ref().unwrap_or(&shown.inside))?;
        let layers = frame.column("layer")?.u32()?.iter().zip(frame.column("asim")?.f64()?.iter());
        layers.map(|(layer, asim)| Ok((layer, asim.ok_or_else(|| Error::internal("asim is null"))?))).collect()
    }

    fn targets(&self) -> Result<Targets> {
        let settings = &self.experiment.settings;
        let collect = Targets::of(self.model, &self.split).compat(settings.compat);
        let soft = settings.methods.contains(&Method::Soft);
        if soft { collect.distributions(settings.distributions).collect() } else { collect.collect() }
    }

    fn show(&self, test: &Test) -> Result<Shown> {
        let prompts = protocol::shown(&test.queries, &self.split, self.pool.as_deref())?;
        let (responses, inside) = Capture::at(SELF_ATTENTION).while_responding(self.model, &prompts.take(test.compared))?;
        Ok(Shown { prompts, taught: responses.without_demonstrations(self.model)?, inside, answers: Once::default() })
    }
}

/// The record of the run that this one goes on from, or why there is no result of it.
pub(super) fn earlier(folder: &Path, run: &Run, method: Method) -> Result<Result<Record, String>> {
    let training = run.training.clone().map(|training| TrainingId { distributions: None, beta: None, ..training });
    match Record::open(folder, &Run { method, training, ..run.clone() })? {
        None => Err(Error::internal(format!("{} is to go on from {}, which was not run", run.method.name(), method.name()))),
        Some(Record { failed: Some(message), .. }) => Ok(Err(format!("{}, which it goes on from, failed: {message}", method.name()))),
        Some(record) => Ok(Ok(record)),
    }
}

/// A failure that is a run's own (NaN, a prompt over the context) as its message; others end the experiment.
pub(super) fn excused<T>(error: Error) -> Result<Result<T, String>> {
    if error.is_numeric() || error.is_input() { Ok(Err(error.to_string())) } else { Err(error) }
}

/// A value that is made once; if that fails, it has failed for all who need it.
struct Once<T>(OnceCell<Result<T, String>>);

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(OnceCell::new())
    }
}

impl<T> Once<T> {
    fn get(&self, make: impl FnOnce() -> Result<T>) -> Result<&T> {
        if self.0.get().is_none() {
            let _ = self.0.set(make().map(Ok).or_else(excused)?);
        }
        match self.0.get() {
            Some(Ok(value)) => Ok(value),
            Some(Err(message)) => Err(Error::input(message.clone())),
            None => Err(Error::internal("a value that was made once got lost")),
        }
    }
}

/// The loss part at the best dev check.
fn dev_part(history: &DataFrame, column: &str) -> Result<Option<f64>> {
    let mut best = history.column("best")?.bool()?.iter().zip(history.column(column)?.f64()?.iter());
    Ok(best.rfind(|(best, _)| *best == Some(true)).and_then(|(_, loss)| loss))
}
