//! What a study shows, as a reviewer asks for it.

mod effects;
mod gather;
mod paired;
mod parts;
mod tables;
mod words;

use std::fmt;
use std::path::Path;

use polars::prelude::*;

use super::study::Row;
use super::{Method, Study};
use crate::display::{Bundle, Show};
use crate::error::{Error, Result};
use crate::figure::{Figure, Forest};
use crate::file;
use crate::interrupt;
use crate::table::Table;
use effects::Effect;
use gather::Outcome;

/// Share of intervals that hold the truth.
const LEVEL: f64 = 0.95;

/// The evidence of a [`Study`]: effects of each method against a baseline with intervals over runs and test rows together, calibration without bins, the power of this
/// study and of a further one, what each number pools, and answers to the experiments' part of NeurIPS' checklist.
///
/// It shows itself as sentences and tables; [`save`](Self::save) writes all of it.
#[derive(Clone, PartialEq)]
pub struct Evidence {
    baseline: Method,
    effects: DataFrame,
    by_evaluation: DataFrame,
    methods: DataFrame,
    power: DataFrame,
    pooled: DataFrame,
    missing: DataFrame,
    sentences: Vec<String>,
    checklist: Vec<(&'static str, String)>,
}

impl Study {
    /// The evidence against SFT; against ICL where SFT was not run, else against the first method there is.
    ///
    /// # Errors
    /// As [`evidence_against`](Self::evidence_against).
    pub fn evidence(&self) -> Result<Evidence> {
        let rows = self.chosen()?;
        let ran = |method: &Method| rows.iter().any(|row| row.run().method == *method);
        let baseline = [Method::Sft, Method::Icl].into_iter().chain(Method::ALL).find(ran);
        self.evidence_against(baseline.ok_or_else(|| Error::input("the study has no results yet: run its experiment first"))?)
    }

    /// What the chosen runs show against `baseline`: see [`Evidence`]. Any method that was run can be the baseline.
    ///
    /// It needs what came of each test row. Runs that were made before this was kept have numbers alone; they are left out, and named in
    /// [`Evidence::missing`]. `experiment.fill_outcomes().run()` evaluates them again, and trains nothing.
    ///
    /// # Errors
    /// No results of the baseline, or of any other method in 2 runs of the same task, with outcomes row by row.
    pub fn evidence_against(&self, baseline: Method) -> Result<Evidence> {
        interrupt::during("gathering evidence", || self.gather(baseline))
    }

    /// One row per chosen run, test and test row: `key`, `model`, `task`, `evaluated_on`, `ood`, `n`, `run`, `method`, `adapter`, `row` (12 digits of the SHA-256 of query
    /// and gold, a zero byte between), `correct`, `confidence` (null where answers have none), `brier` (over the labels; of the answer where there are none).
    ///
    /// Two methods on the same rows: [`differences`](Self::differences). Runs without outcomes are left out.
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn outcomes(&self) -> Result<DataFrame> {
        let (mut rows, mut keys, mut digests, mut correct) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut confidence, mut brier): (Vec<Option<f64>>, Vec<Option<f64>>) = (Vec::new(), Vec::new());
        for row in self.chosen()? {
            let Some(outcomes) = row.evaluated().and_then(|evaluated| evaluated.outcomes.as_ref()) else { continue };
            let (own, score) = (outcomes.confidence(), outcomes.brier());
            for (at, (digest, right)) in outcomes.rows().zip(outcomes.correct()).enumerate() {
                rows.push(row);
                keys.push(row.entry.key.as_str());
                digests.push(digest);
                correct.push(right);
                confidence.push(own.as_ref().and_then(|own| own.get(at).copied()));
                brier.push(score.as_ref().and_then(|score| score.get(at).copied()));
            }
        }
        let mut frame = self.names(&rows)?;
        frame.insert_column(0, Column::new("key".into(), keys))?;
        Ok(frame.hstack(&[
            Column::new("row".into(), digests),
            Column::new("correct".into(), correct),
            Column::new("confidence".into(), confidence),
            Column::new("brier".into(), brier),
        ])?)
    }

    /// Chosen results with their outcomes, and those that lack them.
    fn results(&self) -> Result<(Vec<Outcome<'_>>, Vec<Row<'_>>)> {
        let (mut results, mut lacking) = (Vec::new(), Vec::new());
        for row in self.chosen()?.into_iter().filter(|row| row.number("accuracy").is_some()) {
            match row.evaluated().and_then(|evaluated| evaluated.outcomes.as_ref()) {
                Some(outcomes) => results.push(Outcome { row, outcomes }),
                None => lacking.push(row),
            }
        }
        Ok((results, lacking))
    }

    fn gather(&self, baseline: Method) -> Result<Evidence> {
        let (results, lacking) = self.results()?;
        let methods: Vec<Method> =
            Method::ALL.into_iter().filter(|method| results.iter().any(|result| result.row.run().method == *method)).collect();
        let fill =
            "`experiment.fill_outcomes().run()` evaluates again what was made before outcomes were kept row by row, and trains nothing";
        let of = |method: Method| lacking.iter().filter(move |row| row.run().method == method).count();
        if !methods.contains(&baseline) && of(baseline) == 0 {
            let ran: Vec<Method> = Method::ALL.into_iter().filter(|&method| methods.contains(&method) || of(method) > 0).collect();
            let there = ran.iter().map(|method| method.name()).collect::<Vec<_>>().join(", ");
            return Err(Error::input(format!("{} has no results in this study; there are results of {there}", baseline.name())));
        }
        if !methods.contains(&baseline) {
            let there = methods.iter().map(|method| method.name()).collect::<Vec<_>>().join(", ");
            let there = if there.is_empty() { "no method has".to_string() } else { format!("there are {there}") };
            return Err(Error::input(format!(
                "no result of {} has outcomes row by row, {there}; {} of {} results lack them ({fill})",
                baseline.name(),
                lacking.len(),
                lacking.len() + results.len()
            )));
        }
        let (mut pooled, mut apart): (Vec<Effect>, Vec<Effect>) = (Vec::new(), Vec::new());
        for &method in methods.iter().filter(|method| **method != baseline) {
            let named = |error: Error| error.context(format_args!("{} against {}", method.name(), baseline.name()));
            pooled.extend(effects::pooled(&results, baseline, method, LEVEL).map_err(named)?);
            apart.extend(effects::apart(&results, baseline, method, LEVEL).map_err(named)?);
        }
        if pooled.is_empty() {
            return Err(Error::input(format!(
                "no other method has results on the same rows as {} in 2 runs of a task or more: run at least one more, add runs, or fill outcomes ({fill})",
                baseline.name()
            )));
        }
        let missing = self.names(&lacking)?;
        let keys: Vec<&str> = lacking.iter().map(|row| row.entry.key.as_str()).collect();
        let told = words::Report { study: self, results: &results, baseline, effects: &pooled, lacking: lacking.len(), fill };
        Ok(Evidence {
            baseline,
            effects: effects::frame(&pooled, baseline)?,
            by_evaluation: effects::frame(&apart, baseline)?,
            methods: effects::of_methods(&results, &methods, LEVEL)?,
            power: effects::power(&pooled)?,
            pooled: told.pooled()?,
            missing: missing.hstack(&[Column::new("key".into(), keys)])?,
            sentences: told.sentences()?,
            checklist: told.checklist()?,
        })
    }
}

impl Evidence {
    /// The method that others are compared with.
    pub fn baseline(&self) -> Method {
        self.baseline
    }

    /// One row per method and value, over all evaluations (model, task, test, N and adapter, each of equal weight):
    ///
    /// | column | |
    /// |---|---|
    /// | `method`, `baseline`, `value` | of `accuracy`, `brier` (summed over labels), `smooth_ece`, `debiased_ce_15_squared`, `augrc` |
    /// | `difference`, `lower`, `upper` | method less baseline on the same rows of the same runs; 95 % interval by t |
    /// | `error`, `degrees`, `p` | standard error clustered by runs and rows, Satterthwaite's degrees, two-sided p ([`crossed_mean`](crate::statistics::crossed_mean)) |
    /// | `p_holm` | corrected by Holm over all rows of this frame |
    /// | `drawn_lower`, `drawn_upper` | 95 % interval by 1,999 draws of runs and rows together ([`crossed_bootstrap`](crate::statistics::crossed_bootstrap)) |
    /// | `mixed_difference`, `mixed_lower`, `mixed_upper`, `mixed_p`, `mixed_p_holm` | of `difference ~ task + (1 \| run) + (1 \| row)` by REML ([`mixed_mean`](crate::statistics::mixed_mean)); null for what is no mean over rows |
    /// | `run_deviation`, `row_deviation`, `rest_deviation` | standard deviations of the difference between runs, between rows, and of the rest, by the same model |
    /// | `strata`, `runs`, `rows` | evaluations, runs (those of each task on their own), different test rows (0 for what is no mean over rows) |
    /// | `unpaired` | results of either method that the other lacks, or whose task has one run so far: they are left out |
    ///
    /// What is no mean over rows (calibration errors, AUGRC) is taken of each result and averaged; its error comes from the pseudo-values of ten parts of the rows, one left
    /// out at a time (Tukey's jackknife), which go through the same clustering. A run is a draw of data for one task: all N, models, adapters and tests of it are one
    /// cluster.
    pub fn effects(&self) -> &DataFrame {
        &self.effects
    }

    /// Effects on accuracy and smooth ECE of each `evaluation` (`task → evaluated_on`) and `n`, with the columns of [`effects`](Self::effects) that have no draws and no
    /// mixed model; `p_holm` over all of its rows. Evaluations of one run are left out.
    pub fn by_evaluation(&self) -> &DataFrame {
        &self.by_evaluation
    }

    /// One row per method: `method`, `results`, `evaluations` (those of several runs, over which the means are), `accuracy`, `brier`, `smooth_ece`, `debiased_ce_15` and `augrc`, each with `_lower` and `_upper` (95 %, over runs and
    /// rows), and `brier_of_answer` with its parts `reliability`, `resolution`, `uncertainty`, `within` ([`brier_parts`](crate::metric::brier_parts), 15 bins of equal
    /// count), and `aurc`: means over evaluations, and of the last six over results. Null where answers have no confidence.
    pub fn methods(&self) -> &DataFrame {
        &self.methods
    }

    /// What it takes to find an effect on accuracy four times out of five, at 5 %: `method`, `effect` (0.01, 0.02, 0.05, and the one found, where `found`), `power` (the chance
    /// that this study had), `runs_needed` (per task, the rows as they are), `rows_needed` (per run, the runs as they are; null where no number is enough), `detectable`
    /// (the least effect that this study finds four times out of five). Before the correction for many tests.
    pub fn power(&self) -> &DataFrame {
        &self.power
    }

    /// What each number pools, and what it assumes: `statistic`, `unit`, `pools`, `assumes`.
    pub fn pooled(&self) -> &DataFrame {
        &self.pooled
    }

    /// Results that were left out, because they were made before outcomes were kept row by row: their names as in [`Study::frame`], and `key`.
    pub fn missing(&self) -> &DataFrame {
        &self.missing
    }

    /// What is shown, in sentences.
    pub fn sentences(&self) -> &[String] {
        &self.sentences
    }

    /// Answers to the questions of NeurIPS' paper checklist that concern experiments, to be copied, and checked: question and answer.
    pub fn checklist(&self) -> &[(&'static str, String)] {
        &self.checklist
    }

    /// [`effects`](Self::effects) as a table; a corrected p below 0.05 in bold.
    ///
    /// # Errors
    /// None that is known.
    pub fn table(&self) -> Result<Table> {
        tables::effects(&self.effects, self.baseline)
    }

    /// [`effects`](Self::effects) as a forest plot: a panel per value, whiskers of 95 % over runs and rows together.
    ///
    /// # Errors
    /// No method has an effect.
    pub fn figure(&self) -> Result<Figure> {
        Forest::new("method", "difference", "lower", "upper")
            .against("baseline")
            .facet("value")
            .interval("95 % interval over runs and rows together")
            .draw(&self.effects)
    }

    /// [`methods`](Self::methods) as a table.
    ///
    /// # Errors
    /// None that is known.
    pub fn methods_table(&self) -> Result<Table> {
        tables::methods(&self.methods)
    }

    /// [`power`](Self::power) as a table.
    ///
    /// # Errors
    /// None that is known.
    pub fn power_table(&self) -> Result<Table> {
        tables::power(&self.power, self.baseline)
    }

    /// [`pooled`](Self::pooled) as a table.
    ///
    /// # Errors
    /// None that is known.
    pub fn pooled_table(&self) -> Result<Table> {
        tables::pooled(&self.pooled)
    }

    /// All in Markdown: sentences, tables, checklist.
    ///
    /// # Errors
    /// None that is known.
    pub fn markdown(&self) -> Result<String> {
        let mut text = format!("## Evidence against {}\n\n", self.baseline.name());
        self.sentences.iter().for_each(|sentence| text.push_str(&format!("- {sentence}\n")));
        for table in self.tables()? {
            text.push_str(&format!("\n{}", table.markdown()));
        }
        text.push_str("\n## NeurIPS paper checklist: experiments\n");
        self.checklist.iter().for_each(|(question, answer)| text.push_str(&format!("\n**{question}**\n{answer}\n")));
        Ok(text)
    }

    /// All in LaTeX: sentences, tables (for the package `booktabs`), checklist.
    ///
    /// # Errors
    /// None that is known.
    pub fn latex(&self) -> Result<String> {
        let escape = crate::table::latex;
        let mut text = "% needs \\usepackage{booktabs}\n".to_string();
        self.sentences.iter().for_each(|sentence| text.push_str(&format!("{}\n", escape(sentence))));
        for table in self.tables()? {
            text.push_str(&format!("\n{}", table.latex()));
        }
        text.push_str("\n% NeurIPS paper checklist: experiments\n\\begin{enumerate}\n");
        for (question, answer) in &self.checklist {
            text.push_str(&format!("\\item \\textbf{{{}}}\\\\\n{}\n", escape(question), escape(answer)));
        }
        Ok(text + "\\end{enumerate}\n")
    }

    /// All frames, sentences and answers as one JSON object, at full precision.
    ///
    /// # Errors
    /// None that is known.
    pub fn json(&self) -> Result<String> {
        tables::json(self)
    }

    /// Writes it to a file, by the path's extension: Markdown (`.md`), LaTeX (`.tex`), JSON (`.json`), or the frame of [`effects`](Self::effects) in CSV (`.csv`).
    /// A file that was there is replaced whole or not at all.
    ///
    /// # Errors
    /// The extension is none of these, or the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
        let text = match extension.as_deref() {
            Some("md") => self.markdown()?,
            Some("tex") => self.latex()?,
            Some("json") => self.json()?,
            Some("csv") => self.table()?.csv()?,
            _ => return Err(Error::input(format!("evidence: `{}` ends in none of .md, .tex, .json and .csv", path.display()))),
        };
        file::write(path, text.as_bytes())
    }

    fn tables(&self) -> Result<[Table; 4]> {
        Ok([self.table()?, self.methods_table()?, self.power_table()?, self.pooled_table()?])
    }
}

impl fmt::Debug for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Evidence(against {}, {} effects)", self.baseline.name(), self.effects.height())
    }
}

impl Show for Evidence {
    fn bundle(&self) -> Bundle {
        let heading = Bundle::text(format!("Evidence against {}\n\n{}", self.baseline.name(), self.sentences.join("\n")));
        match self.tables() {
            Ok(tables) => Bundle::stack(std::iter::once(heading).chain(tables.iter().map(Show::bundle)).collect()),
            Err(error) => Bundle::text(error.to_string()),
        }
    }
}
