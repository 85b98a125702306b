//! Which learning rate, and which beta, stands for a method.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::record::{Run, TrainingId};
use super::study::Entry;
use crate::error::Result;

/// How the learning rate (and beta) of each method is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// In each run the least dev loss; for IA2 + SFT the least cross-entropy on dev, since the losses of different betas cannot be compared.
    #[default]
    DevLoss,
    /// As the authors' code does: one for all runs of a method and N, by the greatest mean over the runs of the accuracy on the very queries
    /// it is judged by, for each task that is tested on. The accuracy is that of the likeliest token of all where there are labels
    /// ([`top_1_accuracy`](crate::metric::top_1_accuracy)). What failed in more runs than another is passed over.
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
    // Between rivals, for each test, the settings that score best; of equals the first: the grid's order is the caller's.
    let mut groups: HashMap<(String, usize), Vec<Candidate>> = HashMap::new();
    let mut keys = Vec::with_capacity(entries.len());
    for entry in entries {
        keys.push(rivals(&entry.record.run, choice)?);
        let settings = settings(&entry.record.run);
        for test in 0..entry.tests.len() {
            let Some(score) = score(entry, test, choice) else { continue };
            let group = groups.entry((keys[keys.len() - 1].clone(), test)).or_default();
            match group.iter_mut().find(|candidate| candidate.settings == settings) {
                Some(candidate) => {
                    candidate.runs += 1;
                    candidate.score += score;
                }
                None => group.push(Candidate { settings, runs: 1, score }),
            }
        }
    }
    let mut best: HashMap<&(String, usize), Settings> = HashMap::new();
    for (key, group) in &groups {
        let most = group.iter().map(|candidate| candidate.runs).max().unwrap_or(0);
        let whole = group.iter().filter(|candidate| candidate.runs == most);
        if let Some(first) = whole.reduce(|first, other| if other.score < first.score { other } else { first }) {
            best.insert(key, first.settings);
        }
    }
    let mut chosen = Vec::with_capacity(entries.len());
    for (entry, key) in entries.iter().zip(keys) {
        let settings = settings(&entry.record.run);
        let is = |test| score(entry, test, choice).is_some() && best.get(&(key.clone(), test)).is_some_and(|best| *best == settings);
        chosen.push((0..entry.tests.len()).map(|test| Chosen { is: is(test), by: by(entry, test, choice) }).collect());
    }
    Ok(chosen)
}

/// Learning rate and beta, between which is chosen.
type Settings = (Option<u64>, Option<u64>);

fn settings(run: &Run) -> Settings {
    let of = |value: fn(&TrainingId) -> Option<f64>| run.training.as_ref().and_then(value).map(f64::to_bits);
    (of(|training| Some(training.learning_rate)), of(|training| training.beta))
}

/// One choice of settings, over the runs that it is made for.
struct Candidate {
    settings: Settings,
    runs: usize,
    /// The sum of its scores.
    score: f64,
}

/// The less the better; none for what has no such number.
fn score(entry: &Entry, test: usize, choice: Choice) -> Option<f64> {
    let evaluated = entry.evaluated(test);
    let run = &entry.record.run;
    if !run.method.has_rates() {
        return evaluated.map(|_| 0.0);
    }
    match choice {
        Choice::DevLoss if run.method.has_beta() => entry.record.trained.as_ref()?.dev_cross_entropy,
        Choice::DevLoss => entry.record.dev_loss(),
        Choice::TestAccuracy => {
            let metrics = &evaluated?.metrics;
            metrics.get(TOP_1).or_else(|| metrics.get("accuracy")).map(|accuracy| -accuracy)
        }
    }
}

/// What the paper reports where there are labels.
const TOP_1: &str = "top_1_accuracy";

fn by(entry: &Entry, test: usize, choice: Choice) -> &'static str {
    match choice {
        _ if !entry.record.run.method.has_rates() => "no choice",
        Choice::DevLoss if entry.record.run.method.has_beta() => "cross-entropy on dev",
        Choice::DevLoss => "dev loss",
        Choice::TestAccuracy if entry.evaluated(test).is_some_and(|evaluated| evaluated.metrics.contains_key(TOP_1)) => {
            "mean top-1 accuracy on test"
        }
        Choice::TestAccuracy => "mean accuracy on test",
    }
}

/// What is the same for all between which is chosen: the run as well, unless one choice is made for all.
fn rivals(run: &Run, choice: Choice) -> Result<String> {
    let alike = |training: &TrainingId| TrainingId { learning_rate: 0.0, beta: None, ..training.clone() };
    let alike = Run { training: run.training.as_ref().map(alike), ..run.clone() };
    match choice {
        Choice::DevLoss => super::record::digest(&alike),
        Choice::TestAccuracy => super::record::digest(&Run { run: 0, rows: String::new(), ..alike }),
    }
}

#[cfg(test)]
mod tests;
