//! A run compared with the untouched model: similarity, drift, distance to ICL, and what became of another task.

use std::time::Instant;

use polars::prelude::DataFrame;

use super::{Cell, Once, SELF_ATTENTION, Test, excused};
use crate::activations::{Activations, Capture, HEAD_READS, capture, divergences};
use crate::dataset::Split;
use crate::error::{Error, Result};
use crate::evaluate::evaluate;
use crate::experiment::effects::{DISTANCE, DRIFT};
use crate::experiment::protocol::{self, Rollouts};
use crate::experiment::record::{Evaluated, ForgettingRecord, digest};
use crate::method::{Method, Way};
use crate::metric::accuracy;
use crate::model::{Model, Responses};
use crate::objective::Targets;
use crate::prompt::Prompts;
use crate::sample;

/// A test under ICL.
pub(super) struct Shown {
    pub prompts: Prompts,
    /// The first answers, after the queries alone.
    after_queries: Responses,
    /// The attention outputs on the way to these answers, and what the output head reads.
    inside: Activations,
}

/// The first queries of a test alone: the untouched model's answers, and what its output head reads there.
pub(super) struct Plain {
    said: Responses,
    inside: Activations,
}

/// What a test is like for the untouched model.
#[derive(Default)]
pub(super) struct BaseModelResults {
    pub shown: Once<Shown>,
    /// What it answers after the demonstrations, with how sure it is.
    pub answers: Once<DataFrame>,
    plain: Once<Plain>,
}

/// Targets, and what they took.
pub(super) struct Collected {
    pub targets: Targets,
    pub tokens: u64,
    pub seconds: f64,
}

/// Another task, of which nothing is learned.
pub(in crate::experiment) struct Other {
    pub task: String,
    /// Or why there is none.
    split: Result<Split, String>,
    pub digest: String,
}

impl Other {
    pub(crate) fn new(task: &str, split: Result<Split, String>, compared: usize) -> Result<Self> {
        let asked = split.as_ref().map(|split| (&split.train, &split.test)).map_err(Clone::clone);
        Ok(Self { digest: digest(&("elsewhere", task, asked, compared))?, task: task.into(), split })
    }
}

/// The untouched model on another task.
pub(super) struct Before {
    prompts: Prompts,
    accuracy: f64,
    plain: Plain,
}

/// What is yet to be compared.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub asim: bool,
    pub drift: bool,
    pub distance: bool,
}

impl Cell<'_> {
    pub(super) fn targets(&self) -> Result<Collected> {
        let began = Instant::now();
        let settings = &self.experiment.settings;
        let collect = Targets::of(self.model, &self.split).compat(settings.compat);
        let soft = settings.methods.iter().any(|method| method.needs_distributions());
        let targets = if soft { collect.distributions(settings.distributions).collect()? } else { collect.collect()? };
        let seconds = began.elapsed().as_secs_f64();
        let responses = targets.responses();
        // A prefix that several prompts share is read once, and the last token of a response never.
        let read = self.model.lengths(&responses.prompts())?.column("read")?.u32()?.iter().flatten().map(u64::from).sum::<u64>();
        let said = responses.rows().iter().map(|row| row.tokens.response.len() as u64 - 1).sum::<u64>();
        Ok(Collected { targets, tokens: read + said, seconds })
    }

    pub(super) fn show(&self, test: &Test) -> Result<Shown> {
        let prompts = protocol::shown(&test.queries, &self.split, self.pool.as_deref())?;
        let pattern = pattern(true, self.experiment.settings.measures(DISTANCE));
        let (responses, inside) = Capture::at(&pattern).while_responding(self.model, &prompts.take(test.compared))?;
        Ok(Shown { prompts, after_queries: responses.without_demonstrations(self.model)?, inside })
    }

    /// Adds what is wanted to what is there of a run on a test; where something is not defined it says why.
    pub(super) fn compare(
        &self,
        model: &Model,
        method: Method,
        test: &Test,
        untouched: &BaseModelResults,
        wanted: Wanted,
        evaluated: &mut Evaluated,
    ) -> Result<()> {
        let icl = method.is_under_icl();
        let rollouts = self.experiment.settings.rollouts;
        let shown = match wanted.asim || wanted.distance {
            true => Some(untouched.shown.get(|| self.show(test)).map(Ok).or_else(excused)?),
            false => None,
        };
        // One forward over the answers under ICL shows both.
        let asim_there = wanted.asim && rollouts == Rollouts::Icl;
        let at_icl = match &shown {
            Some(Ok(shown)) if !icl && (asim_there || wanted.distance) => {
                Some(capture(model, &shown.after_queries, &pattern(asim_there, wanted.distance)).map(Ok).or_else(excused)?)
            }
            _ => None,
        };
        let there = |at_icl: &Option<Result<Activations, String>>| match at_icl {
            Some(Err(message)) => Err(Error::input(message.clone())),
            Some(Ok(inside)) => Ok(Some(inside.clone())),
            None => Ok(None),
        };
        let mut failed: Vec<String> = evaluated.failed.take().into_iter().collect();
        let mut note = |what: &str, message: String| failed.push(format!("no {what}: {message}"));
        if wanted.asim {
            let asim = match &shown {
                Some(Err(message)) => Err(message.clone()),
                Some(Ok(shown)) => there(&at_icl).and_then(|own| self.asim(model, icl, test, shown, own)).map(Ok).or_else(excused)?,
                None => Ok(Vec::new()),
            };
            match asim {
                Ok(asim) => evaluated.asim = asim,
                Err(message) => note("asim", message),
            }
        }
        if wanted.distance {
            let distance = match &shown {
                Some(Ok(_)) if icl => Ok(0.0),
                Some(Ok(shown)) => there(&at_icl).and_then(|own| self.apart(&shown.inside, model, own)).map(Ok).or_else(excused)?,
                Some(Err(message)) => Err(message.clone()),
                None => Err("nothing was asked".into()),
            };
            // That of asim says why ICL cannot be asked.
            let told = wanted.asim && matches!(shown, Some(Err(_)));
            keep(evaluated, DISTANCE, distance, &mut |message| {
                if !told {
                    note(DISTANCE, message)
                }
            });
        }
        if wanted.drift {
            let drift = match method.way() {
                Way::Alone => Ok(0.0),
                _ => self.drift(model, icl, test, untouched, at_icl.as_ref()).map(Ok).or_else(excused)?,
            };
            keep(evaluated, DRIFT, drift, &mut |message| note(DRIFT, message));
        }
        evaluated.failed = (!failed.is_empty()).then(|| failed.join("; "));
        Ok(())
    }

    /// By layer.
    fn asim(&self, model: &Model, icl: bool, test: &Test, shown: &Shown, own: Option<Activations>) -> Result<Vec<(Option<u32>, f64)>> {
        let own = match self.experiment.settings.rollouts {
            _ if icl => shown.inside.clone(),
            Rollouts::Icl => own.ok_or_else(|| Error::internal("an asim without activations"))?,
            Rollouts::Own => {
                let prompts = test.queries.take(test.compared).zero_shot()?;
                let pattern = pattern(true, shown.inside.hook_points().iter().any(|path| path == HEAD_READS));
                Capture::at(&pattern).while_responding(model, &prompts)?.1
            }
        };
        let frame = shown.inside.asim(&own)?;
        let points = frame.column("hook_point")?.str()?.iter();
        let layers = frame.column("layer")?.u32()?.iter().zip(frame.column("asim")?.f64()?.iter());
        let attention = points.zip(layers).filter(|(point, _)| *point != Some(HEAD_READS));
        attention.map(|(_, (layer, asim))| Ok((layer, asim.ok_or_else(|| Error::internal("asim is null"))?))).collect()
    }

    /// The mean over examples.
    fn apart(&self, base: &Activations, model: &Model, own: Option<Activations>) -> Result<f64> {
        let own = own.ok_or_else(|| Error::internal("a distance without activations"))?;
        mean(&divergences((self.model, base), (model, &own))?)
    }

    fn plain(&self, queries: &crate::prompt::Examples, compared: usize) -> Result<Plain> {
        let prompts = queries.take(compared).zero_shot()?;
        let (said, inside) = Capture::at(HEAD_READS).while_responding(self.model, &prompts)?;
        Ok(Plain { said, inside })
    }

    /// On the queries of the test; of ICL after its demonstrations.
    fn drift(
        &self,
        model: &Model,
        icl: bool,
        test: &Test,
        untouched: &BaseModelResults,
        at_icl: Option<&Result<Activations, String>>,
    ) -> Result<f64> {
        let plain = untouched.plain.get(|| self.plain(&test.queries, test.compared))?;
        if icl {
            let shown = untouched.shown.get(|| self.show(test))?;
            let mut rows = plain.said.rows().to_vec();
            for (row, prompt) in rows.iter_mut().zip(self.model.encode(&shown.prompts.take(test.compared))?) {
                row.tokens.prompt = prompt;
            }
            let said = Responses::from_rows(plain.said.form().clone(), rows);
            return self.apart(&plain.inside, model, Some(capture(model, &said, HEAD_READS)?));
        }
        self.drift_at(plain, model, at_icl.and_then(|inside| inside.as_ref().ok()))
    }

    /// `seen`: what the run shows at other answers. Answers of one token are read alike, whatever they are, so that it may be all that is needed.
    fn drift_at(&self, plain: &Plain, model: &Model, seen: Option<&Activations>) -> Result<f64> {
        let read = |responses: &Responses| responses.rows().iter().map(|row| row.tokens.read()).collect::<Vec<_>>();
        let seen = seen.filter(|seen| seen.hook_points().iter().any(|path| path == HEAD_READS));
        let own = match seen.filter(|seen| read(seen.responses()) == read(&plain.said)) {
            Some(seen) => seen.said_otherwise(plain.said.clone())?,
            None => capture(model, &plain.said, HEAD_READS)?,
        };
        self.apart(&plain.inside, model, Some(own))
    }

    /// What became of another task.
    pub(super) fn elsewhere(&self, model: &Model, method: Method, other: &Other, before: &Once<Before>) -> Result<ForgettingRecord> {
        let there = ForgettingRecord { task: other.task.clone(), ..ForgettingRecord::default() };
        let measured = before.get(|| self.before(other)).and_then(|before| {
            let there = ForgettingRecord { examples: before.prompts.len(), before: Some(before.accuracy), ..there.clone() };
            if method.is_untouched() {
                return Ok(ForgettingRecord { drift: Some(0.0), after: there.before, ..there });
            }
            let drift = self.drift_at(&before.plain, model, None)?;
            Ok(ForgettingRecord { drift: Some(drift), after: Some(accuracy(&evaluate(model, &before.prompts)?)?), ..there })
        });
        Ok(match measured.map(Ok).or_else(excused)? {
            Ok(there) => there,
            Err(message) => ForgettingRecord { failed: Some(format!("nothing of `{}`: {message}", other.task)), ..there },
        })
    }

    fn before(&self, other: &Other) -> Result<Before> {
        let split = other.split.as_ref().map_err(|message| Error::input(message.clone()))?;
        let prompts = split.test.with_demonstrations(&split.train, split.run)?;
        let accuracy = accuracy(&evaluate(self.model, &prompts)?)?;
        Ok(Before { accuracy, prompts, plain: self.plain(&split.test, self.experiment.settings.compared_at_most)? })
    }
}

fn pattern(attention: bool, head: bool) -> String {
    let patterns = [(attention, SELF_ATTENTION), (head, HEAD_READS)];
    patterns.into_iter().filter(|(is, _)| *is).map(|(_, pattern)| pattern).collect::<Vec<_>>().join(",")
}

fn mean(values: &[f64]) -> Result<f64> {
    let mean = sample::mean(values);
    if mean.is_finite() { Ok(mean) } else { Err(Error::numeric("the divergence is not finite")) }
}

fn keep(evaluated: &mut Evaluated, column: &str, value: Result<f64, String>, failed: &mut dyn FnMut(String)) {
    match value {
        Ok(value) => {
            evaluated.metrics.insert(column.into(), value);
        }
        Err(message) => {
            evaluated.undefined.insert(column.into());
            failed(message);
        }
    }
}
