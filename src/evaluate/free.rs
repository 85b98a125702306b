//! Free answers, and how sure the model was of them.

use std::ops::Range;

use polars::prelude::*;

use super::Watched;
use crate::error::{Error, Result};
use crate::model::{Generation, Model, Response, Step};
use crate::prompt::{AnswerForm, Prompts};

pub(super) fn free(model: &Model, prompts: &Prompts, batch: usize, hooks: Watched<'_, '_>) -> Result<DataFrame> {
    let form = prompts.form();
    let settings = Generation::for_prompts(prompts).batch(batch);
    let (responses, steps) = model.respond_in_steps(prompts, &settings, hooks.map(|(hooks, _)| hooks))?;
    let responses = responses.without_begun_stop();
    let rows = responses.rows();
    let mut frame = responses.frame()?;
    let answers: Vec<Option<String>> = rows.iter().map(|row| form.answer(&row.text)).collect();
    frame.insert_column(5, Column::new("answer".into(), answers))?;
    let places = rows.iter().map(|row| answer_tokens(model, form, row)).collect::<Result<Vec<_>>>()?;
    let sums: Vec<Option<f64>> = places.iter().zip(&steps).map(|(place, steps)| place.clone().map(|place| sum(&steps[place]))).collect();
    // Rounded logs of a sure answer may sum to just above 0.
    let confidence: Vec<f64> = sums.iter().map(|sum| sum.map_or(0.0, |sum| sum.exp().min(1.0))).collect();
    let tokens = places.iter().map(|place| place.as_ref().map_or(0, |place| place.len()) as u32);
    let entropy = |steps: &Vec<Step>| steps.iter().map(|step| step.entropy).sum::<f64>() / steps.len().max(1) as f64;
    Ok(frame.hstack(&[
        Column::new("confidence".into(), confidence),
        Column::new("answer_tokens".into(), tokens.collect::<Vec<_>>()),
        Column::new("answer_log_likelihood".into(), sums),
        Column::new("response_log_likelihood".into(), steps.iter().map(|steps| sum(steps)).collect::<Vec<_>>()),
        Column::new("entropy".into(), steps.iter().map(entropy).collect::<Vec<_>>()),
        Column::new("prompt_tokens".into(), rows.iter().map(|row| row.tokens.prompt.len() as u32).collect::<Vec<_>>()),
    ])?)
}

/// The tokens that hold the answer.
fn answer_tokens(model: &Model, form: &AnswerForm, row: &Response) -> Result<Option<Range<usize>>> {
    let Some(place) = form.answer_place(&row.text) else { return Ok(None) };
    let tokenizer = model.tokenizer()?;
    let (first, last) = (row.token_at(place.start, tokenizer)?, row.token_at(place.end - 1, tokenizer)?);
    match last < row.tokens.response.len() {
        true => Ok(Some(first..last + 1)),
        false => Err(Error::internal("an answer without tokens")),
    }
}

fn sum(steps: &[Step]) -> f64 {
    steps.iter().map(|step| step.log_likelihood).sum()
}
