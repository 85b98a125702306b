//! Where a grid may go the authors' way, one choice at a time.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::{Choice, Experiment};
use crate::dataset::{SHOWN_AT_MOST, Split, Task};
use crate::error::{Error, Result};
use crate::prompt::{Examples, Prompts};

/// What ICL is shown before each test query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Demonstrations {
    /// The N training examples, in one order for every query: what the trained methods learn from, and their common prefix is computed once.
    #[default]
    Same,
    /// As the authors evaluate: min(256, N - 1) rows of the task's train part that the run neither learns from nor tests on, drawn again for
    /// each query. N = 1 leaves none, and the run fails.
    PerQuery,
}

/// At which answers asim compares a model with the untouched one under ICL. With answers of one token there is no difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rollouts {
    /// Both at the answers given under ICL: token for token the same text.
    #[default]
    Icl,
    /// As the authors compare: each at its own answers, over the shorter length of the two.
    Own,
}

impl Demonstrations {
    /// The task to draw demonstrations from, where they are not the training examples.
    pub(super) fn pool(self, task: &Rc<Task>) -> Option<Rc<Task>> {
        (self == Self::PerQuery).then(|| task.clone())
    }
}

/// The queries after their demonstrations.
pub(super) fn shown(queries: &Examples, split: &Split, pool: Option<&Task>) -> Result<Prompts> {
    let Some(task) = pool else { return queries.with_demonstrations(&split.train, split.run) };
    let pool = task.others(split);
    let count = SHOWN_AT_MOST.min(split.train.len().saturating_sub(1));
    if pool.len() < count || count == 0 {
        let remedy = "take another N, more rows, or `Demonstrations::Same`";
        return Err(Error::input(format!(
            "ICL with demonstrations of its own for each query draws min({SHOWN_AT_MOST}, N - 1) = {count}, from the {} rows of `{}` that are in \
             neither set: {remedy}",
            pool.len(),
            split.task
        )));
    }
    queries.with_demonstrations_per_query(&pool, count, split.run)
}

/// How the note on a fixed number of dev rows ends.
pub(super) const DEV_ROWS: &str = " dev rows whatever N";

/// What is not as it is by default, in words.
pub(super) fn notes(experiment: &Experiment, said: &[String]) -> Vec<String> {
    let settings = &experiment.settings;
    let notes = [
        (settings.demonstrations == Demonstrations::PerQuery, "ICL with demonstrations of its own for each query"),
        (settings.rollouts == Rollouts::Own, "asim of each side's own answers"),
        (settings.choice == Choice::TestAccuracy, "rates chosen by accuracy on test"),
        (settings.balanced, "labels balanced in train and dev"),
    ];
    let notes = notes.into_iter().filter(|(is, _)| *is).map(|(_, note)| note.to_string());
    let dev = settings.dev.map(|count| format!("{count}{DEV_ROWS}"));
    let how = (settings.methods.iter().any(|method| method.is_on_policy()) && settings.self_distillation != Default::default())
        .then(|| format!("self-distillation by {}", settings.self_distillation));
    notes.chain(dev).chain(how).chain(said.iter().cloned()).collect()
}
