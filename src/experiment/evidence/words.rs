//! Evidence in words: what is shown, what was pooled, and the checklist's answers.

use std::collections::BTreeSet;

use polars::prelude::*;

use super::effects::{DRAWS, Effect};
use super::gather::{Outcome, Value};
use super::{LEVEL, Method, Study};
use crate::dataset::{Benchmark, Task};
use crate::display::{listed, number};
use crate::error::Result;
use crate::experiment::plan::words_of;
use crate::experiment::protocol::DEV_ROWS;
use crate::experiment::record::TrainingId;
use crate::statistics;
use crate::table::signed;
use crate::train::{BATCH, CHECK_EVERY};

/// Statistic, unit, what it pools, what it assumes.
type Line = (&'static str, &'static str, String, &'static str);

/// What there is to tell of.
pub(super) struct Report<'a> {
    pub study: &'a Study,
    pub results: &'a [Outcome<'a>],
    pub baseline: Method,
    pub effects: &'a [Effect],
    pub lacking: usize,
    pub fill: &'a str,
}

/// `1 run`, `2 runs`.
fn counted(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// With its sign.
fn shown(number: f64) -> String {
    signed(format!("{number:+.3}"))
}

fn p(value: f64) -> String {
    if value < 0.001 { "< 0.001".into() } else { format!("= {value:.3}") }
}

/// p after the correction, and p before it where only the correction makes a difference not shown: its interval then excludes 0.
fn both(corrected: f64, before: f64) -> String {
    match before < 1.0 - LEVEL && corrected >= 1.0 - LEVEL {
        true => format!("p {} after correction, {} before", p(corrected), p(before).trim_start_matches("= ")),
        false => format!("p {}", p(corrected)),
    }
}

impl Report<'_> {
    fn tasks(&self) -> BTreeSet<&str> {
        self.results.iter().map(|result| result.row.run().task.as_str()).collect()
    }

    fn sizes(&self) -> BTreeSet<usize> {
        self.results.iter().map(|result| result.row.run().n).collect()
    }

    fn tests(&self) -> BTreeSet<&str> {
        self.results.iter().map(|result| result.row.evaluated_on()).collect()
    }

    fn runs(&self) -> usize {
        self.results.iter().map(|result| result.row.run().run).collect::<BTreeSet<_>>().len()
    }

    fn trainings(&self) -> Vec<&TrainingId> {
        self.study.entries().iter().filter_map(|entry| entry.record.run.training.as_ref()).collect()
    }

    pub(super) fn sentences(&self) -> Result<Vec<String>> {
        let corrected = statistics::holm(&self.effects.iter().map(|effect| effect.mean.p).collect::<Vec<_>>())?;
        let strata = self.effects.iter().map(|effect| effect.mean.strata).max().unwrap_or(0);
        let mut sentences = vec![format!(
            "Each difference is from {} on the same test rows in the same run, averaged over {} of equal weight (model, task, test, N and adapter); \
             {} of {}, N = {}. In brackets: its {:.0} % interval over runs and rows, and p after Holm's correction over {} tests.",
            self.baseline.name(),
            counted(strata, "evaluation", "evaluations"),
            counted(self.runs(), "run", "runs"),
            if self.tasks().len() == 1 { "one task".into() } else { format!("each of {} tasks", self.tasks().len()) },
            listed(self.sizes()),
            LEVEL * 100.0,
            self.effects.len(),
        )];
        for (effect, corrected) in self.effects.iter().zip(&corrected) {
            let (what, less, more) = match effect.value {
                Value::Accuracy => ("the share of rows answered right", "lower", "higher"),
                Value::SmoothEce => ("smooth ECE", "lower", "higher"),
                _ => continue,
            };
            let (mean, method, baseline) = (&effect.mean, effect.method.name(), self.baseline.name());
            if mean.mean == 0.0 && mean.error == 0.0 {
                sentences.push(format!("{method}: {what} is {baseline}'s wherever both were tested."));
                continue;
            }
            // A mean over other evaluations is of another thing.
            let of = match mean.strata < strata {
                true => format!(" in {} of the {strata} evaluations", mean.strata),
                false => String::new(),
            };
            let numbers = format!("{}{of}; {} to {}; {}", shown(mean.mean), shown(mean.lower), shown(mean.upper), both(*corrected, mean.p));
            sentences.push(match *corrected < 1.0 - LEVEL {
                true => format!("{method}: {what} is {} than with {baseline} ({numbers}).", if mean.mean < 0.0 { less } else { more }),
                false => format!("{method}: no difference from {baseline} in {what} is shown ({numbers})."),
            });
        }
        let compared = |method: Method| method == self.baseline || self.effects.iter().any(|effect| effect.method == method);
        let methods: BTreeSet<Method> = self.results.iter().map(|result| result.row.run().method).collect();
        for method in methods.into_iter().filter(|method| !compared(*method)) {
            sentences.push(format!(
                "{}: not compared; it has no results on the same rows as {} in 2 runs of a task.",
                method.name(),
                self.baseline.name()
            ));
        }
        let found = self.effects.iter().filter(|effect| effect.value == Value::Accuracy);
        let least = found.map(|effect| effect.mean.detectable(super::effects::POWER)).collect::<Result<Vec<_>>>()?;
        if let Some(least) = least.into_iter().reduce(f64::max) {
            sentences.push(format!(
                "With these runs and rows a true difference in accuracy of {least:.3} is found at least four times out of five, whatever the method (before the correction). \
                 A smaller one may be missed: that none is shown does not say that there is none."
            ));
        }
        if self.runs() < 5 {
            sentences.push(format!("With {}, intervals rest on few clusters and are wide; those of the mixed model, which takes all tasks to vary alike, can be too narrow.", counted(self.runs(), "run", "runs")));
        }
        if self.lacking > 0 {
            sentences.push(format!(
                "{} left out, without outcomes row by row: {}.",
                counted(self.lacking, "result is", "results are"),
                self.fill
            ));
        }
        Ok(sentences)
    }

    pub(super) fn pooled(&self) -> Result<DataFrame> {
        let most = |of: fn(&Effect) -> usize| self.effects.iter().filter(|effect| effect.value.is_mean()).map(of).max().unwrap_or(0);
        let (strata, clusters, rows) =
            (most(|effect| effect.mean.strata), most(|effect| effect.mean.runs), most(|effect| effect.mean.rows));
        let tests = self.effects.len();
        let all = format!(
            "{} with equal weight, {}, {}",
            counted(strata, "evaluation", "evaluations"),
            counted(clusters, "run of a task", "runs of tasks"),
            counted(rows, "test row", "test rows")
        );
        let kept = "models, N, adapters and tests of one run are one cluster";
        let lines: [Line; 6] = [
            (
                "difference, interval, p",
                "a run's values of a row, in two clusters: run and row",
                format!("{all}; {kept}"),
                "runs of a task are alike and independent, as are rows of a test; the mean is nearly normal",
            ),
            (
                "interval by draws",
                "the same",
                format!("{DRAWS} draws of runs within tasks and rows within tests, together; scaled to the same error"),
                "the same, but no shape of the mean",
            ),
            (
                "mixed model",
                "a difference of a row in a run",
                format!("{all}; difference ~ task + (1 | run) + (1 | row)"),
                "effects of runs and rows are normal, with one variance over tasks; REML, Satterthwaite",
            ),
            (
                "calibration errors and AUGRC",
                "a result (all rows of a test)",
                "means over results; errors from ten parts of the rows, one left out at a time, clustered as above".into(),
                "as the first; smooth ECE is biased upwards by few rows, on both sides of a difference alike",
            ),
            ("p (Holm)", "a test", format!("{} of this table", counted(tests, "test", "tests")), "nothing further"),
            (
                "Study::significance",
                "a run number",
                format!(
                    "{} at most: the mean of each run's differences over models, tasks, N and tests",
                    counted(self.runs(), "pair", "pairs")
                ),
                "runs are independent and differences normal (t) or symmetric (Wilcoxon); test rows are not resampled, though runs share some",
            ),
        ];
        let column = |of: &dyn Fn(&Line) -> String| lines.iter().map(of).collect::<Vec<String>>();
        Ok(df!(
            "statistic" => column(&|line| line.0.into()),
            "unit" => column(&|line| line.1.into()),
            "pools" => column(&|line| line.2.clone()),
            "assumes" => column(&|line| line.3.into()),
        )?)
    }

    /// Who did the runs, as far as their records say.
    fn machines(&self) -> String {
        let entries = self.study.entries();
        let known: BTreeSet<&str> = entries.iter().filter_map(|entry| entry.record.machine.as_deref()).collect();
        let unknown = entries.iter().filter(|entry| entry.record.machine.is_none()).count();
        let known =
            if known.is_empty() { String::new() } else { format!("Done on: {}.", known.into_iter().collect::<Vec<_>>().join("; ")) };
        match unknown {
            0 => known,
            _ => format!(
                "{known}{}[Name the machine of {}, which were made before it was put down: processor or accelerator, memory, threads.]",
                if known.is_empty() { "" } else { " " },
                counted(unknown, "run", "runs")
            ),
        }
    }

    /// Where the rows come from, and under which licence, as the cards of the library's own tasks and benchmarks say.
    fn data(&self) -> Result<String> {
        let names: BTreeSet<&str> = self.tasks().union(&self.tests()).copied().collect();
        let card =
            |name: &str| Benchmark::named(name).map(|known| known.card()).or_else(|_| Task::open(name).map(|task| task.card().clone()));
        let said = |name: &str| match card(name) {
            Err(error) if error.is_interrupted() => Err(error),
            Ok(card) if !card.source.is_empty() => {
                let paper = card.paper.map_or(String::new(), |paper| format!(", {paper}"));
                Ok(format!("{} (licence: {}{paper})", card.source.trim_end_matches('.'), card.license))
            }
            _ => Ok("[say where the rows come from, and under which licence]".to_string()),
        };
        // Tasks of one source are told of together.
        let mut told: Vec<(Vec<&str>, String)> = Vec::new();
        for name in names {
            let said = said(name)?;
            match told.iter_mut().find(|(_, other)| *other == said) {
                Some((names, _)) => names.push(name),
                None => told.push((vec![name], said)),
            }
        }
        Ok(told.into_iter().map(|(names, said)| format!("{}: {said}", names.join(", "))).collect::<Vec<_>>().join("; "))
    }

    pub(super) fn checklist(&self) -> Result<Vec<(&'static str, String)>> {
        let trainings = self.trainings();
        let rates: BTreeSet<String> = trainings.iter().map(|training| number(training.learning_rate)).collect();
        let adapters: BTreeSet<String> = trainings.iter().map(|training| training.adapter.name()).collect();
        let betas: BTreeSet<String> = trainings.iter().filter_map(|training| training.beta).map(number).collect();
        let limits: BTreeSet<String> =
            trainings.iter().map(|training| format!("{} epochs and a patience of {} checks", training.epochs, training.patience)).collect();
        let models: BTreeSet<&str> = self.results.iter().map(|result| result.row.entry.record.model.as_str()).collect();
        let methods: BTreeSet<Method> = self.results.iter().map(|result| result.row.run().method).collect();
        let chosen: BTreeSet<&str> = self.results.iter().map(|result| result.row.chosen.by).filter(|by| *by != "no choice").collect();
        let seconds: Vec<f64> = self.study.entries().iter().filter_map(|entry| Some(entry.record.trained.as_ref()?.seconds)).collect();
        let examples: BTreeSet<usize> = self.results.iter().filter_map(|result| Some(result.row.evaluated()?.examples)).collect();
        let rows = match (examples.first(), examples.last()) {
            (Some(least), Some(most)) if least != most => format!("{least} to {most}"),
            (Some(least), _) => least.to_string(),
            _ => "no".into(),
        };
        let settings = match trainings.is_empty() {
            true => "nothing is trained".to_string(),
            false => format!(
                "adapters {}; Adam with PyTorch's defaults, batches of {BATCH}, a constant rate; learning rates {}{}; at most {}, a check of the dev loss every {CHECK_EVERY} steps; chosen by {}, separately for each method",
                listed(&adapters),
                listed(&rates),
                if betas.is_empty() { String::new() } else { format!("; betas {}", listed(&betas)) },
                listed(&limits),
                listed(&chosen)
            ),
        };
        let notes = self.study.notes();
        let dev = notes.iter().find_map(|note| note.strip_suffix(DEV_ROWS)).unwrap_or("min(48, N / 2)");
        let otherwise = if notes.is_empty() { String::new() } else { format!(" Not as by default: {}.", notes.join("; ")) };
        let setting = format!(
            "[Yes] Models: {}. Methods: {}. Tasks learned: {}; tested on: {}. N = {} training examples and {dev} for development, {} test rows per evaluation, all drawn \
             anew for each of {} by its seed. Training: {settings}.{otherwise}",
            listed(&models),
            listed(methods.iter().map(|method| method.name())),
            listed(self.tasks()),
            listed(self.tests()),
            listed(self.sizes()),
            rows,
            counted(self.runs(), "run", "runs"),
        );
        let significance = format!(
            "[Yes] We report {:.0} % intervals of paired differences over training runs and test rows together: standard errors are clustered by run (draw of training, development and \
             test data, with the seed of the training) and by test row, with the small-sample factor G/(G-1) and Satterthwaite's degrees of freedom for t. Intervals by {DRAWS} draws of runs and rows and \
             a linear mixed model of the differences (random intercepts of run and row, REML) are given as well. Error bars are intervals, not standard deviations. p-values are two-sided and \
             corrected by Holm's method over all {} of the table.",
            LEVEL * 100.0,
            counted(self.effects.len(), "test", "tests"),
        );
        let resources = match seconds.is_empty() {
            true => format!("[NA] Nothing was trained. {}", self.machines()),
            false => {
                let all: f64 = seconds.iter().sum();
                format!(
                    "[Yes] {} took {} of wall-clock time in all, {} s each on average, evaluation not counted; runs that are not reported here are not counted. {}",
                    counted(seconds.len(), "training", "trainings"),
                    words_of(all),
                    number(all / seconds.len() as f64),
                    self.machines(),
                )
            }
        };
        let repeat = format!(
            "[Yes] Every run is named by a digest of all that decides it: the model's weights, the rows of its training and development sets, N, seed, method, adapter, learning rate and \
             training settings ({} results). The same code, model and rows give the same runs; outcomes of each test row are kept next to them.",
            self.results.len()
        );
        let data = self.data()?;
        let access = format!(
            "[Yes] The code is the library ia2 {} [and your notebook or script, with its address]; `Experiment::protocol` lists models, tasks, rows and settings. Data: {}. Models: {} \
             [with their addresses].",
            env!("CARGO_PKG_VERSION"),
            data,
            listed(&models),
        );
        let assets = format!("[Yes] Data: {}. Models: {} [name the licence of each]. Code: ia2, MIT or Apache-2.0.", data, listed(&models));
        Ok(vec![
            (
                "Experimental result reproducibility: Does the paper fully disclose all the information needed to reproduce the main experimental results of the paper to the extent that it affects the main \
                 claims and/or conclusions of the paper?",
                repeat,
            ),
            (
                "Open access to data and code: Does the paper provide open access to the data and code, with sufficient instructions to faithfully reproduce the main experimental results, as described in \
                 supplemental material?",
                access,
            ),
            (
                "Experimental setting/details: Does the paper specify all the training and test details (e.g., data splits, hyperparameters, how they were chosen, type of optimizer) necessary to understand \
                 the results?",
                setting,
            ),
            (
                "Experiment statistical significance: Does the paper report error bars suitably and correctly defined or other appropriate information about the statistical significance of the experiments?",
                significance,
            ),
            (
                "Experiments compute resources: For each experiment, does the paper provide sufficient information on the computer resources (type of compute workers, memory, time of execution) needed to \
                 reproduce the experiments?",
                resources,
            ),
            (
                "Licenses for existing assets: Are the creators or original owners of assets (e.g., code, data, models), used in the paper, properly credited and are the license and terms of use explicitly \
                 mentioned and properly respected?",
                assets,
            ),
        ])
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_difference_that_the_correction_takes_away_says_so() {
        assert_eq!(super::both(0.22, 0.007), "p = 0.220 after correction, 0.007 before");
        assert_eq!([super::both(0.03, 0.0004), super::both(1.0, 0.2)], ["p = 0.030", "p = 1.000"]);
    }
}
