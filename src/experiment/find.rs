//! What methods need that train nothing: a vector, a temperature.

use std::path::Path;
use std::time::Instant;

use super::cell::{Cell, RunControl, earlier, excused};
use super::record::{self, Cost, Found, Record, Run};
use crate::error::{Error, Result};
use crate::evaluate::evaluate;
use crate::interrupt;
use crate::method::Way;
use crate::metric::fit_temperature;
use crate::model::Model;
use crate::vector::{Vector, VectorKind};

impl Cell<'_> {
    /// The model of a run that trains nothing, or why there is none. What is found is put down in the record.
    pub(super) fn find(&self, folder: &Path, run: &Run, record: &mut Record, control: &dyn RunControl) -> Result<Result<Model, String>> {
        let method = run.method;
        if method.needs_labels() && self.split.train.labels().is_empty() {
            return Ok(Err(format!(
                "{} changes the probabilities of labels, and the answers of `{}` are free: leave it out, or take a task with labels",
                method.name(),
                self.split.task
            )));
        }
        match (method.way(), method.after()) {
            (Way::Vector(kind), _) => self.vector(folder, run, *kind, record, control),
            (_, Some(before)) => match earlier(folder, run, before)? {
                Err(message) => Ok(Err(message)),
                Ok(earlier) => {
                    let model = self.model.with(&earlier.open_adapter(folder, self.model)?)?;
                    if record.found.is_none() {
                        record.found = Some(self.temperature(&model, &earlier)?);
                    }
                    Ok(Ok(model))
                }
            },
            (_, None) => Ok(Ok(self.model.clone())),
        }
    }

    fn vector(
        &self,
        folder: &Path,
        run: &Run,
        kind: VectorKind,
        record: &mut Record,
        control: &dyn RunControl,
    ) -> Result<Result<Model, String>> {
        let place = record::vector(folder, &run.key()?);
        if let Some(found) = &record.found {
            let vector = Vector::open(&place, self.model)?;
            if found.vector.as_ref() != Some(&vector.digest()?) {
                return Err(Error::file(format!(
                    "the vector in {} is not the one that the record next to it tells of: remove both, and the run is done again",
                    place.display()
                )));
            }
            return self.model.with(&vector).map(Ok);
        }
        let began = Instant::now();
        let vector = match kind.find(self.model, &self.split).map(Ok).or_else(excused)? {
            Ok(vector) => vector,
            Err(message) => return Ok(Err(message)),
        };
        let seconds = began.elapsed().as_secs_f64();
        if !control.holds()? {
            return Err(Error::interrupted("another worker has this run now"));
        }
        // Before the record: a record says that its vector is there.
        interrupt::undisturbed(|| vector.save(&place))?;
        record.found = Some(Found {
            words: vector.words(),
            dev_loss: vector.dev_loss(),
            seconds,
            vector: Some(vector.digest()?),
            temperature: None,
            cost: vector.reading().map(|reading| Cost {
                parameters: vector.values().numel() as u64,
                tokens: reading.candidates,
                target_tokens: reading.prompts,
                seconds,
            }),
        });
        self.model.with(&vector).map(Ok)
    }

    /// Fitted on dev; where none is best there, the probabilities stay as they are.
    fn temperature(&self, model: &Model, trained: &Record) -> Result<Found> {
        let began = Instant::now();
        let answers = evaluate(model, &self.split.dev.zero_shot()?)?;
        let read = answers.column("prompt_tokens")?.u32()?.iter().flatten().map(u64::from).sum::<u64>();
        let (temperature, words) = match fit_temperature(&answers) {
            Ok(fitted) => (Some(fitted.value), format!("T = {:.4}", fitted.value)),
            Err(error) if error.is_numeric() => (None, format!("T = 1, none fitted: {error}")),
            Err(error) => return Err(error),
        };
        let seconds = began.elapsed().as_secs_f64();
        let cost = trained.trained.as_ref().and_then(|trained| trained.cost);
        let cost =
            cost.map(|cost| Cost { parameters: cost.parameters + 1, tokens: cost.tokens + read, seconds: cost.seconds + seconds, ..cost });
        Ok(Found { words, dev_loss: trained.dev_loss(), seconds, vector: None, temperature, cost })
    }
}
