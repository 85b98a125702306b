//! What a training will train on, token by token.

use polars::prelude::*;

use super::Training;
use crate::dataset::Split;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::libtorch::{guarded, user_code};
use crate::model::{Model, Sample};
use crate::objective::{Objective, Samples};

impl Training {
    /// The tokens that the objective will be trained and checked on, one row each: `split` (train or dev), `sample` (0-based in that set),
    /// `position` (0-based in the sample), `id`, `token` (as [`Tokenizer::spelling`](crate::tokenizer::Tokenizer::spelling) spells it; null
    /// without a tokenizer), `role` (prompt or response), `taught`: whether the loss counts this token's prediction (which reads, and for IA2
    /// aligns, the position before it). Of an objective that draws its samples again in each step ([`Objective::draw`]) these are the responses that
    /// stand for them.
    ///
    /// # Errors
    /// As [`Training::run`] before its first step: the objective does not fit the split, a sample has no response tokens.
    pub fn preview(&self, model: &Model, split: &Split) -> Result<DataFrame> {
        guarded("previewing a training", || frame(&samples(self.objective.as_ref(), model, split)?, model))
    }
}

/// The objective's samples, checked.
pub(super) fn samples(objective: &dyn Objective, model: &Model, split: &Split) -> Result<Samples> {
    let samples = user_code(|| format!("the objective {}", objective.name()), || objective.samples(model, split))?;
    for path in objective.hook_points() {
        // Values of other axes would be read at the wrong places, and in silence.
        model.width_at(path)?;
    }
    if samples.train == 0 || samples.rows.len() <= samples.train {
        return Err(Error::input("training needs at least one train and one dev example"));
    }
    for (place, row) in samples.rows.iter().enumerate() {
        let missing = match (row.prompt.is_empty(), row.response.is_empty()) {
            (true, _) => "prompt",
            (_, true) => "response",
            _ => continue,
        };
        let (set, place) = name(&samples, place);
        let text = model.tokenizer().and_then(|tokenizer| tokenizer.decode(&row.prompt)).unwrap_or_else(|_| format!("{:?}", row.prompt));
        return Err(Error::input(format!("{set} sample {place} ({text:?}) has no {missing} tokens: there is nothing to learn from it")));
    }
    Ok(samples)
}

/// Refuses samples that no forward of the adapted model takes, before the first step and not at the first that meets one.
pub(super) fn fit(samples: &Samples, model: &Model) -> Result<()> {
    for (place, row) in samples.rows.iter().enumerate() {
        interrupt::check()?;
        let (set, place) = name(samples, place);
        let fits = model.check(&[row.read()], 0).and_then(|()| model.check_ids(&row.response));
        fits.map_err(|error| error.context(format!("{set} sample {place}")))?;
    }
    Ok(())
}

/// The set a row belongs to, and its place there.
fn name(samples: &Samples, place: usize) -> (&'static str, usize) {
    if place < samples.train { ("train", place) } else { ("dev", place - samples.train) }
}

fn frame(samples: &Samples, model: &Model) -> Result<DataFrame> {
    let tokenizer = model.tokenizer().ok();
    let (mut sets, mut places, mut positions, mut ids) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut tokens, mut roles, mut taught) = (Vec::new(), Vec::new(), Vec::new());
    for (place, Sample { prompt, response }) in samples.rows.iter().enumerate() {
        let (set, place) = name(samples, place);
        for (position, &id) in prompt.iter().chain(response).enumerate() {
            let is_response = position >= prompt.len();
            sets.push(set);
            places.push(place as u32);
            positions.push(position as u32);
            ids.push(id);
            tokens.push(tokenizer.map(|tokenizer| tokenizer.spelling(id)));
            roles.push(if is_response { "response" } else { "prompt" });
            taught.push(is_response);
        }
    }
    Ok(df!(
        "split" => sets, "sample" => places, "position" => positions, "id" => ids, "token" => tokens, "role" => roles, "taught" => taught,
    )?)
}
