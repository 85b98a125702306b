//! One model, task, N and run: everything that its methods share.

mod compared;

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use polars::prelude::{ChunkAgg, DataFrame};

use super::effects::{self, DISTANCE, DRIFT, QUERY_TOKENS};
use super::outcomes::Outcomes;
use super::record::{self, Cost, Evaluated, Record, Run, TrainedRecord, TrainingId};
use super::{Experiment, Method, machine};
use crate::adapter::Adapter;
use crate::dataset::{Split, Task};
use crate::error::{Error, Result};
use crate::evaluate::evaluate;
use crate::file;
use crate::interrupt;
use crate::libtorch::guarded;
use crate::method::Way;
use crate::metric::{METRICS, with_confidence, with_temperature};
use crate::model::Model;
use crate::objective::Given;
use crate::prompt::Examples;
use crate::train::{Stopped, Trained, Training};
pub(super) use compared::Other;
use compared::{BaseModelResults, Before, Collected, Wanted};

const SELF_ATTENTION: &str = "model.layers.*.self_attn";

pub(super) struct Cell<'e> {
    experiment: &'e Experiment,
    pub model: &'e Model,
    pub split: Split,
    /// Whose rows demonstrations are drawn from, where these are not the train set's.
    pool: Option<Rc<Task>>,
    /// The task's own, then those out of distribution.
    pub tests: Vec<Test>,
    /// A task that is learned by none, and what becomes of it.
    other: Option<Other>,
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
    /// `ways`: what else decides the numbers, where it differs from the default.
    pub(super) fn new(task: &str, queries: Examples, compared: usize, ways: &impl serde::Serialize) -> Result<Self> {
        Ok(Self { task: task.into(), digest: record::digest(&(task, &queries, compared, ways))?, queries, compared })
    }

    pub(super) fn len(&self) -> usize {
        self.queries.len()
    }
}

/// What the base model does, found when it is first needed and gone with the cell's last run.
struct Shared {
    targets: Once<Collected>,
    /// One for each test.
    untouched: Vec<BaseModelResults>,
    before: Once<Before>,
}

/// A training, its seconds, and what it took with all that it needs.
type Fitted = (Trained, f64, Option<Cost>);

/// Who has a cell done, and wants to know of each run.
pub(super) trait RunControl {
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
    pub(super) fn new(
        experiment: &'e Experiment,
        model: &'e Model,
        (split, pool): (Split, Option<Rc<Task>>),
        (tests, other): (Vec<Test>, Option<Other>),
        runs: Vec<Run>,
    ) -> Self {
        Self { experiment, model, split, pool, tests, other, runs }
    }

    /// Whether a run has been done, with all tests of this cell.
    fn is_done(&self, folder: &Path, run: &Run) -> Result<bool> {
        let (tests, other) = (self.tests.iter().map(|test| test.digest.as_str()), self.other.as_ref().map(|other| other.digest.as_str()));
        Ok(Record::open(folder, run)?.is_some_and(|record| record.is_whole(tests, other, self.experiment.settings.demand())))
    }

    /// Tests that a record lacks, or lacks something of.
    fn missing<'a>(&'a self, record: &'a Record) -> impl Iterator<Item = (usize, &'a Test)> {
        let demand = self.experiment.settings.demand();
        self.tests.iter().enumerate().filter(move |(_, test)| record.lacks(&test.digest, demand))
    }

    /// Does the runs that are missing; false where the overseer wants it to be left before its end.
    pub(super) fn run(&self, folder: &Path, control: &mut dyn RunControl) -> Result<bool> {
        let untouched = self.tests.iter().map(|_| BaseModelResults::default()).collect();
        let shared = Shared { targets: Once::default(), untouched, before: Once::default() };
        for run in &self.runs {
            if self.is_done(folder, run)? {
                continue;
            }
            if !control.goes_on()? {
                return Ok(false);
            }
            let began = Instant::now();
            let record = guarded("a run of an experiment", || self.make(folder, run, &shared, control));
            let record = match record {
                Ok(record) => record,
                // It was told to stop; a training goes on from its checkpoint.
                Err(error) if error.is_interrupted() => return Ok(false),
                Err(error) => Record::new(record::name(self.model), run, Some(control.excused(error)?)),
            };
            if !control.holds()? {
                return Ok(false);
            }
            record.save(folder)?;
            if let Some(checkpoint) = control.checkpoint(&run.key()?) {
                file::remove(&checkpoint)?;
            }
            control.done(run, &record, began.elapsed().as_secs_f64())?;
        }
        Ok(true)
    }

    fn make(&self, folder: &Path, run: &Run, shared: &Shared, control: &dyn RunControl) -> Result<Record> {
        let earlier = Record::open(folder, run)?.filter(|record| record.failed.is_none());
        let made = || Record { machine: Some(machine::words(self.model.device())), ..Record::new(record::name(self.model), run, None) };
        let mut record = earlier.clone().unwrap_or_else(made);
        let training = run.training.as_ref().filter(|_| run.method.is_trained());
        let model = match (training, earlier) {
            (None, _) => match self.find(folder, run, &mut record, control).or_else(excused)? {
                Ok(model) => model,
                Err(message) => {
                    record.failed = Some(message);
                    return Ok(record);
                }
            },
            (Some(_), Some(earlier)) => self.model.with(&earlier.open_adapter(folder, self.model)?)?,
            (Some(training), None) => match self.train(folder, run, training, shared, control).or_else(excused)? {
                Ok((trained, seconds, cost)) => {
                    // Whoever lost the cell meanwhile leaves the files to its new holder.
                    if !control.holds()? {
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
                        cost,
                    });
                    trained.model().clone()
                }
                Err(message) => {
                    record.failed = Some(message);
                    return Ok(record);
                }
            },
        };
        // What was trained is not trained again.
        let unfinished = |error: Error, record: &Record| {
            if error.is_interrupted() && (record.trained.is_some() || record.found.is_some()) && control.holds()? {
                interrupt::undisturbed(|| record.save(folder))?;
            }
            Err(error)
        };
        for (place, test) in self.missing(&record.clone()) {
            let retry = self.experiment.settings.retry_failed;
            let there = record.evaluated.get(&test.digest).filter(|there| !retry || there.failed.is_none()).cloned();
            let temperature = record.found.as_ref().and_then(|found| found.temperature);
            let asked = self.evaluate(&model, run.method, temperature, test, &shared.untouched[place], there.clone());
            let evaluated = match asked.map(Ok).or_else(excused) {
                Err(error) => return unfinished(error, &record),
                Ok(evaluated) => evaluated,
            };
            // What was there before stays, and is not asked again for what it cannot have.
            let failed = |message| {
                let mut evaluated =
                    there.unwrap_or_else(|| Evaluated { task: test.task.clone(), examples: test.queries.len(), ..Evaluated::default() });
                let lacking: Vec<String> =
                    evaluated.lacks(self.experiment.settings.demand().columns).into_iter().map(String::from).collect();
                evaluated.undefined.extend(lacking);
                Evaluated { failed: Some(message), ..evaluated }
            };
            record.evaluated.insert(test.digest.clone(), evaluated.unwrap_or_else(failed));
        }
        if let Some(other) = self.other.as_ref().filter(|other| record.lacks_elsewhere(&other.digest, self.experiment.settings.demand())) {
            match self.elsewhere(&model, run.method, other, &shared.before) {
                Err(error) => return unfinished(error, &record),
                Ok(there) => record.elsewhere.insert(other.digest.clone(), there),
            };
        }
        Ok(record)
    }

    /// The training, its seconds and what all of it took, or why it failed.
    fn train(
        &self,
        folder: &Path,
        run: &Run,
        training: &TrainingId,
        shared: &Shared,
        control: &dyn RunControl,
    ) -> Result<Result<Fitted, String>> {
        // Of a phase that was recorded without its cost nobody knows what both took.
        let mut cost = Some(Cost::default());
        let start = match run.method.after() {
            None => None,
            Some(method) => match earlier(folder, run, method)? {
                Ok(record) => {
                    cost = record.trained.as_ref().and_then(|trained| trained.cost);
                    Some(record.open_adapter(folder, self.model)?)
                }
                Err(message) => return Ok(Err(message)),
            },
        };
        let objective = run.method.objective().ok_or_else(|| Error::internal(format!("{} does not train", run.method.name())))?;
        let collected = objective.targets.then(|| shared.targets.get(|| self.targets())).transpose()?;
        // Shared work is nobody's training time, but it is a cost of each method that needs it.
        if let Some(collected) = collected {
            cost = cost.map(|cost| Cost {
                target_tokens: cost.target_tokens + collected.tokens,
                seconds: cost.seconds + collected.seconds,
                ..cost
            });
        }
        let began = Instant::now();
        // Settings that came back from PEFT's files name the same sites in another order.
        let adapter = start.as_ref().map_or(&training.adapter, Adapter::config).clone();
        let compat = training.compat;
        let given = Given {
            targets: collected.map(|collected| &collected.targets),
            compat,
            beta: training.beta.unwrap_or_default(),
            self_distillation: training.self_distillation.unwrap_or_default(),
        };
        let begun = Training::new(adapter, objective.made(&given)?);
        let begun = match &start {
            Some(adapter) => begun.start_from(adapter)?,
            None => begun,
        };
        let begun = begun.seed(run.run).learning_rate(training.learning_rate).epochs(training.epochs).patience(training.patience);
        let begun = match control.checkpoint(&run.key()?) {
            Some(file) => begun.checkpoint_when_stopped(file),
            None => begun,
        };
        let trained = begun.compat(compat).run(self.model, &self.split)?;
        if trained.stopped() == Stopped::Interrupted {
            interrupt::check()?;
        }
        let seconds = began.elapsed().as_secs_f64();
        let cost = cost.map(|cost| Cost {
            parameters: trained.adapter().count() as u64,
            tokens: cost.tokens + trained.tokens(),
            seconds: cost.seconds + seconds,
            ..cost
        });
        Ok(Ok((trained, seconds, cost)))
    }

    /// What is answered to the queries of a test, with how sure the method is.
    fn answers(
        &self,
        model: &Model,
        method: Method,
        temperature: Option<f64>,
        test: &Test,
        untouched: &BaseModelResults,
    ) -> Result<DataFrame> {
        if let Way::Icl(made_of) = method.way() {
            let shown = untouched.shown.get(|| self.show(test))?;
            // Calibration changes what ICL answers, which is asked once.
            let answers = untouched.answers.get(|| evaluate(model, &shown.prompts))?;
            return made_of(model, &shown.prompts, answers);
        }
        let answers = evaluate(model, &test.queries.zero_shot()?)?;
        match temperature {
            Some(value) => with_temperature(&answers, value),
            None => Ok(answers),
        }
    }

    /// Asks a test, or adds what its earlier answer lacks.
    fn evaluate(
        &self,
        model: &Model,
        method: Method,
        temperature: Option<f64>,
        test: &Test,
        untouched: &BaseModelResults,
        there: Option<Evaluated>,
    ) -> Result<Evaluated> {
        let settings = &self.experiment.settings;
        let asked = settings.columns.as_deref().unwrap_or_default();
        let again = there.as_ref().map(|there| there.lacks(asked));
        let lacks = |column: &str| again.as_ref().map_or_else(|| settings.measures(column), |lacking| lacking.contains(&column));
        let wanted = Wanted { asim: again.is_none(), drift: lacks(DRIFT), distance: lacks(DISTANCE) };
        let unkept = settings.fill_outcomes && there.as_ref().is_some_and(|there| there.outcomes.is_none());
        let mut evaluated = match there {
            Some(there) if !unkept && again.iter().flatten().all(|column| effects::compares(column)) => there,
            there => {
                let mut evaluated = there.unwrap_or_default();
                let mut frame = self.answers(model, method, temperature, test, untouched)?;
                if frame.column("answer_log_likelihood").is_ok() {
                    frame = with_confidence(&frame, settings.confidence)?;
                }
                // A metric that is not defined for these answers, or for so few, is left out: the frame has a null there.
                for metric in METRICS {
                    if let Some(value) = metric.compute(&frame).ok().filter(|value| value.is_finite()) {
                        evaluated.metrics.insert(metric.name.into(), value);
                    } else if asked.iter().any(|name| name == metric.name) {
                        evaluated.undefined.insert(metric.name.into());
                    }
                }
                evaluated.metrics.insert(QUERY_TOKENS.into(), query_tokens(&frame)?);
                Evaluated { task: test.task.clone(), examples: frame.height(), outcomes: Outcomes::of(&frame)?, ..evaluated }
            }
        };
        interrupt::check()?;
        // Not defined where an activation is zero or the demonstrations leave no room: accuracy is all the same.
        self.compare(model, method, test, untouched, wanted, &mut evaluated)?;
        Ok(evaluated)
    }
}

/// Tokens that a query takes, demonstrations included; of what is generated the last is never read.
fn query_tokens(frame: &DataFrame) -> Result<f64> {
    let mean = |name: &str| Ok::<_, Error>(frame.column(name)?.u32()?.mean().unwrap_or(0.0));
    let said = if frame.column("tokens").is_ok() { mean("tokens")? - 1.0 } else { 0.0 };
    Ok(mean("prompt_tokens")? + said)
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
