//! A study in the paper's forms: Table 1, Figures 1 to 4 and 6, and the table of tests, from one call each.

use polars::prelude::*;

use super::{Method, Study, effects};
use crate::error::{Error, Result};
use crate::figure::{Chart, CriticalDifference, Figure, Forest, paper};
use crate::table::words::words;
use crate::table::{self, Best, Summary, Table};

/// Corrected p below this are bold.
const LEVEL: f64 = 0.05;

impl Study {
    /// The chosen rows of [`Study::frame`] that have an accuracy, one per run, method and test, with what tables and figures are drawn from
    /// besides: `evaluation` (`task → evaluated_on`), `demonstrations` (the column `n`) and, where answers have a confidence, `ece` (the column
    /// `ece_equal_width_15`).
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn runs(&self) -> Result<DataFrame> {
        let frame = self.frame()?;
        let rows = self.rows()?;
        let mask: BooleanChunked = rows.iter().map(|row| row.chosen.is && row.number("accuracy").is_some()).collect();
        let evaluation: Vec<String> = rows.iter().map(|row| format!("{} → {}", row.run().task, row.evaluated_on())).collect();
        let mut columns = vec![Column::new("evaluation".into(), evaluation), frame.column("n")?.clone().with_name("demonstrations".into())];
        if let Ok(ece) = frame.column("ece_equal_width_15") {
            columns.push(ece.clone().with_name("ece".into()));
        }
        Ok(frame.hstack(&columns)?.filter(&mask)?)
    }

    /// Table 1: accuracy and, where answers have a confidence, ECE (15 bins of equal width) for each evaluation and N, a column per method; mean
    /// (standard deviation) over the runs, the best in bold, evaluations out of distribution starred.
    ///
    /// # Errors
    /// No run has an accuracy.
    pub fn table(&self) -> Result<Table> {
        let frame = self.runs()?;
        let table = Summary::new(&["evaluation", "n"], &["method"]).value("accuracy", Best::Highest).percent("accuracy");
        let table = if frame.column("ece").is_ok() { table.value("ece", Best::Lowest).name("ece", "ECE") } else { table };
        let caption = "Accuracy and calibration of each method, by what it learned and was tested on and the number of demonstrations (N)";
        let table = table.caption(caption).label("tab:results");
        table.star("evaluation", "ood").name("n", "N").order(&names()).build(&frame)
    }

    /// Methods by columns: accuracy and ECE, likeness and distance to ICL, drift, what became of another task, and what each took, for each evaluation and
    /// N; mean (standard deviation) over the runs. Columns that no run has are left out; [`Study::frame`] says what each is,
    /// [`Experiment::columns`](super::Experiment::columns) and [`Experiment::forgetting_on`](super::Experiment::forgetting_on) how to have them all. Bold is the best
    /// accuracy and ECE alone: what leaves the model as it is drifts least and costs least in any case.
    /// Calibration of ICL and a temperature change probabilities of labels alone: their likeness, distance and drift are those of the model underneath.
    ///
    /// # Errors
    /// No run has an accuracy.
    pub fn side_effects(&self) -> Result<Table> {
        let frame = self.runs()?;
        let there = |name: &str| frame.column(name).is_ok_and(|column| column.null_count() < column.len());
        let mut table = Summary::new(&["evaluation", "n", "method"], &[]).value("accuracy", Best::Highest).percent("accuracy");
        if there("ece") {
            table = table.value("ece", Best::Lowest).name("ece", "ECE");
        }
        for name in ["asim"].into_iter().chain(effects::all()).filter(|name| there(name)) {
            table = table.value(name, Best::Neither);
            if effects::is_count(name) {
                table = table.decimals(name, 0);
            }
        }
        let called = ["distance_to_icl", "drift", "drift_elsewhere", "icl_before", "icl_after"];
        let table = called.iter().fold(table, |table, name| table.name(name, &words(name)));
        let table = table.decimals("query_tokens", 1).decimals("total_seconds", 1);
        table.star("evaluation", "ood").name("ood", "out of distribution").name("n", "N").order(&names()).build(&frame)
    }

    /// [`Study::significance`] as a table, corrected p below 0.05 in bold.
    ///
    /// # Errors
    /// As [`Study::significance`].
    pub fn significance_table(&self) -> Result<Table> {
        let caption = "Paired tests over runs; intervals are 95 % t intervals of the mean difference, second less first";
        Ok(table::significance(&self.significance()?, LEVEL)?.caption(caption).label("tab:significance"))
    }

    /// [`Study::significance`] as a forest plot: the differences with their 95 % t intervals, a panel for each of accuracy and ECE.
    ///
    /// # Errors
    /// As [`Study::significance`].
    pub fn significance_figure(&self) -> Result<Figure> {
        let forest = Forest::new("second", "difference", "lower", "upper").against("first").facet("value");
        forest.interval("95 % t interval").order(&names()[1..]).draw(&self.significance()?)
    }

    /// The methods by their mean rank in `value` (`accuracy`, `ece`), and which of them Nemenyi's test does not tell apart: a block is a run, with the
    /// mean over the models, evaluations and N that every method has. Two runs are enough to draw it, and five are few to tell anything apart.
    ///
    /// # Errors
    /// Fewer than 3 methods or 2 runs; no such value.
    pub fn ranks_figure(&self, value: &str) -> Result<Figure> {
        CriticalDifference::new("method", "run", value).matched(&["model", "evaluation", "n"]).order(&names()[1..]).draw(&self.runs()?)
    }

    /// Figure 1: bars of accuracy and ECE per method (zero-shot left out, as in the paper) over N, over all evaluations and runs.
    ///
    /// # Errors
    /// No run has an accuracy, or none an ECE.
    pub fn figure_1(&self) -> Result<Figure> {
        draw(&paper::accuracy_and_ece(), &without_zero_shot(self.runs()?)?)
    }

    /// Figure 2: asim with ICL over layers, a panel per trained method and a line per model (of one model, in the method's colour), over all
    /// evaluations, N and runs.
    ///
    /// # Errors
    /// No trained run has an asim.
    pub fn figure_2(&self) -> Result<Figure> {
        let frame = trained(self.asim()?)?;
        let models = frame.column("model")?.str()?;
        let is_one = models.iter().all(|model| model == models.get(0));
        // Of one model, panels in their method's colour: the first colour of all would be read as ICL's.
        let chart = paper::asim_over_layers();
        draw(&if is_one { chart.colour("method") } else { chart }, &frame)
    }

    /// Figures 3 and 5: accuracy and ECE against asim (mean over layers), a point per run, test and trained method.
    ///
    /// # Errors
    /// No trained run has an accuracy and an asim, or none an ECE.
    pub fn figure_3(&self) -> Result<Figure> {
        draw(&paper::asim_against_performance(), &trained(self.runs()?)?)
    }

    /// Figure 4: the distribution over the runs of the subspace overlap of SFT, IA2 and IA2 → SFT, two by two. Other pairs:
    /// `figure::paper::overlap().draw(&frame)` with rows of [`Study::overlap`].
    ///
    /// # Errors
    /// Fewer than two of the three were run.
    pub fn figure_4(&self) -> Result<Figure> {
        let frame = self.overlap()?;
        let three = [Method::Sft, Method::Ia2, Method::Ia2ThenSft].map(Method::name);
        let frame = only(&only(&frame, "first", &three)?, "second", &three)?;
        paper::overlap().draw(&frame)
    }

    /// Figure 6: accuracy over N, a line per method (zero-shot left out) with whiskers over the runs, of what learned `task` and was tested on `on`.
    ///
    /// # Errors
    /// There is no such evaluation.
    pub fn figure_6(&self, task: &str, on: &str) -> Result<Figure> {
        let frame = self.runs()?;
        let own = only(&frame, "evaluation", &[&format!("{task} → {on}")])?;
        if own.height() == 0 {
            let mut there: Vec<&str> = frame.column("evaluation")?.str()?.iter().flatten().collect();
            there.dedup();
            there.sort_unstable();
            there.dedup();
            return Err(Error::input(format!("nothing learned `{task}` and was tested on `{on}`; there are {}", there.join(", "))));
        }
        draw(&paper::accuracy_over_n(), &without_zero_shot(own)?)
    }
}

/// Of the methods, in their order.
fn names() -> [&'static str; Method::ALL.len()] {
    Method::ALL.map(Method::name)
}

/// With the same colour for a method in every figure. There are eight colours, so zero-shot, which the paper's figures do not show, has none.
fn draw(chart: &Chart, frame: &DataFrame) -> Result<Figure> {
    chart.clone().order(&names()[1..]).draw(frame)
}

fn without_zero_shot(frame: DataFrame) -> Result<DataFrame> {
    only(&frame, "method", &names()[1..])
}

fn trained(frame: DataFrame) -> Result<DataFrame> {
    let trained: Vec<&str> = Method::ALL.into_iter().filter(|method| method.is_trained()).map(Method::name).collect();
    only(&frame, "method", &trained)
}

/// Rows whose column is one of the names.
fn only(frame: &DataFrame, column: &str, names: &[&str]) -> Result<DataFrame> {
    let mask: BooleanChunked = frame.column(column)?.str()?.iter().map(|name| name.is_some_and(|name| names.contains(&name))).collect();
    Ok(frame.filter(&mask)?)
}
