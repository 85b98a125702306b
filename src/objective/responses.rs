//! Responses as samples: which of them are learned from, and that they belong to the split.

use std::collections::HashSet;

use super::Samples;
use crate::dataset::Split;
use crate::error::{Error, Result};
use crate::model::{Generation, Model, Responses};
use crate::prompt::{LabelTokens, Prompts};

/// How responses to learn from are generated: with at most `at_most` tokens if that is given, and ending also at the text `stop`.
pub(super) fn settings(prompts: &Prompts, at_most: Option<usize>, stop: Option<String>) -> Generation {
    let settings = at_most.map_or_else(|| Generation::for_targets(prompts.form()), Generation::greedy);
    stop.into_iter().fold(settings, Generation::stop)
}

/// Given responses after the queries alone, checked to be of the split: the last are those to its dev queries in their order; those before are to
/// its train queries in their order, once or several times over (several demonstration orders), or to other queries, each after
/// demonstrations from the train set (unlabelled queries), none of which is a dev or test query.
pub(super) fn as_samples(responses: &Responses, model: &Model, split: &Split) -> Result<Samples> {
    check(responses, split)?;
    if let Some(row) = responses.rows().iter().find(|row| row.tokens.response.is_empty()) {
        return Err(Error::input(format!("the response to {:?} is empty: there is nothing to learn from it", row.prompt.example.query)));
    }
    reach_labels(responses, model)?;
    let rows = responses.without_demonstrations(model)?.rows().iter().map(|row| row.tokens.clone()).collect();
    Ok(Samples { rows, train: responses.len() - split.dev.len() })
}

/// Refuses a response that is no more than what all labels begin with: it says nothing of its label.
fn reach_labels(responses: &Responses, model: &Model) -> Result<()> {
    let prompts = responses.prompts();
    if prompts.form().label_set().is_empty() {
        return Ok(());
    }
    let labels = LabelTokens::of(model.tokenizer()?, &prompts)?;
    match responses.rows().iter().zip(&labels).find(|(row, labels)| labels.prefix().starts_with(&row.tokens.response)) {
        None => Ok(()),
        Some((row, labels)) => Err(Error::input(format!(
            "the response to {:?} ends before the labels {} differ, after {} of {} tokens that all begin with: generate it with `Model::respond` or \
             `Targets::of`, which go on to the label",
            row.prompt.example.query,
            labels.labels().join(", "),
            row.tokens.response.len(),
            labels.prefix().len()
        ))),
    }
}

fn check(responses: &Responses, split: &Split) -> Result<()> {
    let wrong = |why: String| {
        Err(Error::input(format!(
            "the {} responses are not those to this split's {} train and {} dev queries ({why}): collect them from \
             `split.target_prompts(..)` or with `Targets::of(&model, &split)`",
            responses.len(),
            split.train.len(),
            split.dev.len()
        )))
    };
    let queries: Vec<&str> = responses.rows().iter().map(|row| row.prompt.example.query.as_str()).collect();
    let of = |set: &crate::prompt::Examples| set.rows().iter().map(|row| row.query.clone()).collect::<Vec<_>>();
    let (train, dev, test) = (of(&split.train), of(&split.dev), of(&split.test));
    let Some(count) = queries.len().checked_sub(dev.len()).filter(|&count| count > 0) else {
        return wrong("there are too few".into());
    };
    let (learned, checked) = queries.split_at(count);
    if checked != dev {
        return wrong("the last are not to the dev queries in their order".into());
    }
    if learned.chunks(train.len().max(1)).all(|round| round == train) {
        return Ok(());
    }
    let kept: HashSet<&str> = dev.iter().chain(&test).map(String::as_str).collect();
    if let Some(query) = learned.iter().find(|query| kept.contains(*query)) {
        return wrong(format!("one before the dev set is to {query:?}, which is a dev or test query"));
    }
    let known: HashSet<&str> = train.iter().map(String::as_str).collect();
    if let Some(query) = learned.iter().find(|query| known.contains(*query)) {
        return wrong(format!("the one to the train query {query:?} is not at its place"));
    }
    for row in &responses.rows()[..count] {
        let shown = &row.prompt.demonstrations;
        if shown.is_empty() || shown.iter().any(|example| !split.train.rows().contains(example)) {
            let query = &row.prompt.example.query;
            return wrong(format!("{query:?} is no train query, and its demonstrations are not the train examples"));
        }
    }
    Ok(())
}
