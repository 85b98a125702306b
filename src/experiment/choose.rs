//! Which learning rate, and which beta, stands for a method.

use std::collections::HashMap;

use super::record::{Run, TrainingId};
use super::study::Entry;
use crate::error::Result;

/// How the learning rate (and beta) of each method is chosen in each run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The least dev loss; for IA2 + SFT the least cross-entropy on dev, since the losses of different betas cannot be compared.
    #[default]
    DevLoss,
    /// The greatest accuracy on the very queries it is judged by, for each task that is tested on, as the authors' code does.
    TestAccuracy,
}

/// Whether an entry is chosen on a test, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub is: bool,
    pub by: &'static str,
}

/// `[entry][test]`.
pub(super) fn choose(entries: &[Entry], choice: Choice) -> Result<Vec<Vec<Chosen>>> {
    let mut best: HashMap<(String, usize), (usize, f64)> = HashMap::new();
    for (place, entry) in entries.iter().enumerate() {
        for test in 0..entry.tests.len() {
            let Some(score) = score(entry, test, choice) else { continue };
            let key = (rivals(&entry.record.run)?, test);
            // Of equals the first: the grid's order is the caller's.
            if best.get(&key).is_none_or(|(_, other)| score < *other) {
                best.insert(key, (place, score));
            }
        }
    }
    let mut chosen = Vec::with_capacity(entries.len());
    for (place, entry) in entries.iter().enumerate() {
        let key = rivals(&entry.record.run)?;
        let is = |test| best.get(&(key.clone(), test)).is_some_and(|(first, _)| *first == place);
        chosen.push((0..entry.tests.len()).map(|test| Chosen { is: is(test), by: by(entry, choice) }).collect());
    }
    Ok(chosen)
}

/// The less the better; none for what has no such number.
fn score(entry: &Entry, test: usize, choice: Choice) -> Option<f64> {
    let evaluated = entry.evaluated(test);
    let run = &entry.record.run;
    if !run.method.is_trained() {
        return evaluated.map(|_| 0.0);
    }
    let trained = entry.record.trained.as_ref()?;
    match choice {
        Choice::DevLoss if run.method.has_beta() => trained.dev_cross_entropy,
        Choice::DevLoss => trained.dev_loss,
        Choice::TestAccuracy => evaluated?.metrics.get("accuracy").map(|accuracy| -accuracy),
    }
}

fn by(entry: &Entry, choice: Choice) -> &'static str {
    match choice {
        _ if !entry.record.run.method.is_trained() => "no choice",
        Choice::DevLoss if entry.record.run.method.has_beta() => "cross-entropy on dev",
        Choice::DevLoss => "dev loss",
        Choice::TestAccuracy => "accuracy on test",
    }
}

/// What is the same for all between which is chosen.
fn rivals(run: &Run) -> Result<String> {
    let alike = |training: &TrainingId| TrainingId { learning_rate: 0.0, beta: None, ..training.clone() };
    super::record::digest(&Run { training: run.training.as_ref().map(alike), ..run.clone() })
}
