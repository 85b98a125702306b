//! The paper's grid, and its figures next to ours.

use polars::prelude::*;

use super::study::Row;
use super::{Experiment, Method, Study};
use crate::dataset::Benchmark;
use crate::error::Result;
use crate::model::Model;
use crate::sample::spread;

/// The benchmarks that the paper trains on; the others are tested on only.
const TRAINED: [&str; 8] = ["SST2", "FinS", "STF", "AGN", "SciQr", "GSM8K", "HMathA", "SciQ"];

/// Where the figures below stand.
const SOURCE: &str = "arXiv:2509.22621, Qwen3-4B-Base, N = 4";

/// Accuracy in percent, and ECE; none for answers of many tokens.
type Figures = (f64, Option<f64>);

/// Source, tested on, and the figures of ICL, SFT only, IA2 only, IA2 → SFT.
const HEADLINE: [(&str, &str, [Figures; 4]); 10] = [
    ("SST2", "SST2", [(85.4, Some(0.13)), (65.2, Some(0.22)), (82.7, Some(0.28)), (90.4, Some(0.06))]),
    ("SST2", "FinS", [(41.9, Some(0.19)), (68.4, Some(0.30)), (71.3, Some(0.21)), (82.4, Some(0.11))]),
    ("FinS", "FinS", [(63.6, Some(0.12)), (67.4, Some(0.31)), (63.1, Some(0.24)), (78.7, Some(0.16))]),
    ("SciQr", "SciQr", [(87.7, Some(0.07)), (88.3, Some(0.07)), (90.4, Some(0.09)), (91.7, Some(0.05))]),
    ("SciQr", "QASCr", [(56.5, Some(0.08)), (76.5, Some(0.09)), (71.2, Some(0.12)), (79.4, Some(0.09))]),
    ("STF", "STF", [(66.0, Some(0.07)), (52.4, Some(0.29)), (62.2, Some(0.16)), (62.4, Some(0.29))]),
    ("AGN", "AGN", [(30.0, Some(0.13)), (27.9, Some(0.52)), (24.0, Some(0.11)), (31.8, Some(0.35))]),
    ("GSM8K", "GSM8K", [(76.4, None), (70.9, None), (77.4, None), (73.6, None)]),
    ("HMathA", "HMathA", [(60.4, None), (50.4, None), (47.8, None), (55.3, None)]),
    ("SciQ", "SciQ", [(37.5, None), (35.0, None), (6.9, None), (40.8, None)]),
];
const METHODS: [Method; 4] = [Method::Icl, Method::Sft, Method::Ia2, Method::Ia2ThenSft];
const N: usize = 4;

impl Experiment {
    /// The paper's grid for any model: every benchmark it trains on whose files are installed, tested on those of its out-of-distribution
    /// sets that are; N of 2, 4, 8, ... 128; 5 runs; LoRA of rank 8 on q, k, o; learning rates 1e-4, 3e-4, 1e-3; all methods but SFT on ICL and
    /// SFT → IA2; beta of 0.001, 0.01, 0.05, 0.5 for models of the Llama family and 0.1, 0.5, 0.7, 0.9 for others.
    ///
    /// This is the paper's text. [`compat`](Self::compat) with [`Compat::Paper`](crate::compat::Compat::Paper) makes it the authors' code, rates chosen on the test set
    /// included. [`plan`](Self::plan) says what it takes, any setting can be changed, and [`tasks`](Self::tasks) adds further tasks.
    /// [`Study::compared_with_paper`] sets the results next to the paper's.
    pub fn paper(model: &Model) -> Self {
        let mut experiment = Self::new(model)
            .sizes(&[2, 4, 8, 16, 32, 64, 128])
            .methods(&[Method::ZeroShot, Method::Icl, Method::Sft, Method::Soft, Method::Ia2, Method::Ia2ThenSft, Method::Ia2PlusSft])
            .betas(model.config().family.betas());
        let all = Benchmark::all();
        let installed = |name: &str| all.iter().find(|benchmark| benchmark.name() == name && benchmark.is_installed());
        for benchmark in TRAINED.iter().filter_map(|name| installed(name)) {
            let card = benchmark.card();
            let others: Vec<&str> = card.ood.iter().map(String::as_str).filter(|name| installed(name).is_some()).collect();
            experiment = experiment.tasks(&[benchmark.name()]).tested_on(benchmark.name(), &others);
        }
        experiment
    }
}

impl Study {
    /// The paper's headline table with ours next to it, where there is any:
    ///
    /// | column | |
    /// |---|---|
    /// | `task`, `evaluated_on`, `n`, `method`, `model`, `runs` | what was learned and tested, by which model, in how many runs |
    /// | `paper_accuracy`, `paper_ece` | the paper's: the likeliest token of the whole vocabulary where there are labels; a fraction; no ECE for answers of many tokens |
    /// | `top_1_accuracy`, `top_1_accuracy_std`, `top_1_ece_paper_15` | ours of the same kind; null for free answers |
    /// | `accuracy`, `accuracy_std` | ours of the answer: among the labels, or read from free text |
    /// | `ece_paper_15`, `ece_equal_width_15` | of the probabilities among the labels |
    /// | `difference`, `ece_difference` | ours less the paper's, like with like: of top-1 where there are labels, of the answers read where there are none |
    /// | `source` | of the paper's figures: one model, N = 4 |
    ///
    /// The paper's learning rates are chosen by [`Choice::TestAccuracy`](super::Choice::TestAccuracy); [`Experiment::compat`] makes a grid that is like theirs in this, too.
    ///
    /// One row per figure of the paper and model of this study; a single one with nulls where this study has no such runs.
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn compared_with_paper(&self) -> Result<DataFrame> {
        let chosen = self.chosen()?;
        let mut models: Vec<&str> = chosen.iter().map(|row| row.entry.record.model.as_str()).collect();
        models.dedup();
        models.sort_unstable();
        models.dedup();
        let mut lines = Vec::new();
        for (task, on, figures) in HEADLINE {
            for (method, (accuracy, ece)) in METHODS.into_iter().zip(figures) {
                let same = |row: &&Row<'_>| {
                    row.run().task == task
                        && row.evaluated_on() == on
                        && row.run().n == N
                        && row.run().method == method
                        && row.number("accuracy").is_some()
                };
                let mut ours: Vec<(Option<&str>, Vec<Row<'_>>)> = models
                    .iter()
                    .map(|model| {
                        (Some(*model), chosen.iter().filter(same).filter(|row| row.entry.record.model == *model).copied().collect())
                    })
                    .collect::<Vec<(_, Vec<Row<'_>>)>>();
                ours.retain(|(_, rows)| !rows.is_empty());
                if ours.is_empty() {
                    ours.push((None, Vec::new()));
                }
                lines
                    .extend(ours.into_iter().map(|(model, rows)| (task, on, method, (accuracy * 10.0).round() / 1000.0, ece, model, rows)));
            }
        }
        let of = |name: &str, rows: &[Row<'_>]| spread(&rows.iter().filter_map(|row| row.number(name)).collect::<Vec<_>>());
        let mean = |name: &str| lines.iter().map(|line| of(name, &line.6).0).collect::<Vec<_>>();
        let std = |name: &str| lines.iter().map(|line| of(name, &line.6).1).collect::<Vec<_>>();
        let alike = mean("top_1_accuracy").into_iter().zip(mean("accuracy")).zip(&lines);
        // Where the paper has no ECE, answers are free.
        let alike = alike.map(|((top_1, read), line)| if line.4.is_some() { top_1 } else { read });
        let differences: Vec<Option<f64>> = alike.zip(&lines).map(|(ours, line)| ours.map(|ours| ours - line.3)).collect();
        let ece = mean("top_1_ece_paper_15").into_iter().zip(&lines).map(|(ours, line)| Some(ours? - line.4?)).collect::<Vec<_>>();
        Ok(df!(
            "task" => lines.iter().map(|line| line.0).collect::<Vec<_>>(),
            "evaluated_on" => lines.iter().map(|line| line.1).collect::<Vec<_>>(),
            "n" => vec![N as u32; lines.len()],
            "method" => lines.iter().map(|line| line.2.name()).collect::<Vec<_>>(),
            "paper_accuracy" => lines.iter().map(|line| line.3).collect::<Vec<_>>(),
            "paper_ece" => lines.iter().map(|line| line.4).collect::<Vec<_>>(),
            "model" => lines.iter().map(|line| line.5).collect::<Vec<_>>(),
            "runs" => lines.iter().map(|line| line.6.len() as u32).collect::<Vec<_>>(),
            "top_1_accuracy" => mean("top_1_accuracy"),
            "top_1_accuracy_std" => std("top_1_accuracy"),
            "top_1_ece_paper_15" => mean("top_1_ece_paper_15"),
            "accuracy" => mean("accuracy"),
            "accuracy_std" => std("accuracy"),
            "ece_paper_15" => mean("ece_paper_15"),
            "ece_equal_width_15" => mean("ece_equal_width_15"),
            "difference" => differences,
            "ece_difference" => ece,
            "source" => vec![SOURCE; lines.len()],
        )?)
    }
}
