//! What is kept of every dev check, and the frame made of it.

use polars::prelude::*;
use serde::{Deserialize, Serialize};

use super::exact;
use crate::error::Result;

/// One dev check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    pub phase: u64,
    pub objective: String,
    pub step: u64,
    pub epoch: u64,
    #[serde(with = "exact")]
    pub train_loss: f64,
    #[serde(with = "exact")]
    pub dev_loss: f64,
    pub parts: Vec<TermLoss>,
    #[serde(with = "exact")]
    pub learning_rate: f64,
    #[serde(with = "exact")]
    pub gradient_norm: f64,
    #[serde(with = "exact")]
    pub adapter_norm: f64,
    #[serde(with = "exact")]
    pub seconds: f64,
    #[serde(with = "exact")]
    pub tokens_per_second: f64,
    pub best: bool,
}

/// One part of an objective at a dev check, without its weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct TermLoss {
    pub name: String,
    #[serde(with = "exact")]
    pub train: f64,
    #[serde(with = "exact")]
    pub dev: f64,
}

/// See [`Trained::history`](super::Trained::history).
pub(super) fn frame(rows: &[Row]) -> Result<DataFrame> {
    let floats = |value: fn(&Row) -> f64| rows.iter().map(value).collect::<Vec<_>>();
    let counts = |value: fn(&Row) -> u64| rows.iter().map(value).collect::<Vec<_>>();
    let mut columns = vec![
        Column::new("phase".into(), counts(|row| row.phase)),
        Column::new("objective".into(), rows.iter().map(|row| row.objective.as_str()).collect::<Vec<_>>()),
        Column::new("step".into(), counts(|row| row.step)),
        Column::new("epoch".into(), counts(|row| row.epoch)),
        Column::new("train_loss".into(), floats(|row| row.train_loss)),
        Column::new("dev_loss".into(), floats(|row| row.dev_loss)),
    ];
    for name in parts(rows) {
        let losses = |value: fn(&TermLoss) -> f64| {
            let of = |row: &Row| row.parts.iter().find(|part| snake(&part.name) == name).map(value);
            rows.iter().map(of).collect::<Vec<Option<f64>>>()
        };
        columns.push(Column::new(format!("train_{name}").into(), losses(|part| part.train)));
        columns.push(Column::new(format!("dev_{name}").into(), losses(|part| part.dev)));
    }
    columns.extend([
        Column::new("learning_rate".into(), floats(|row| row.learning_rate)),
        Column::new("gradient_norm".into(), floats(|row| row.gradient_norm)),
        Column::new("adapter_norm".into(), floats(|row| row.adapter_norm)),
        Column::new("seconds".into(), floats(|row| row.seconds)),
        Column::new("tokens_per_second".into(), floats(|row| row.tokens_per_second)),
        Column::new("best".into(), best(rows)),
    ]);
    Ok(DataFrame::new(rows.len(), columns)?)
}

/// The check of each phase whose dev loss no later one undercut.
fn best(rows: &[Row]) -> Vec<bool> {
    let last = |row: &Row| rows.iter().rposition(|other| other.best && other.phase == row.phase);
    rows.iter().enumerate().map(|(place, row)| last(row) == Some(place)).collect()
}

/// Names of parts for columns, where any objective has several.
fn parts(rows: &[Row]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    if rows.iter().any(|row| row.parts.len() > 1) {
        for name in rows.iter().flat_map(|row| &row.parts).map(|part| snake(&part.name)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// `SFT on ICL responses` to `sft_on_icl_responses`.
fn snake(name: &str) -> String {
    let words = name.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(phase: u64, parts: &[&str]) -> Row {
        let part = |name: &&str| TermLoss { name: name.to_string(), train: 1.0, dev: 2.0 };
        let zero = 0.0;
        Row {
            phase,
            objective: "any".into(),
            step: 1,
            epoch: 1,
            train_loss: zero,
            dev_loss: zero,
            parts: parts.iter().map(part).collect(),
            learning_rate: zero,
            gradient_norm: zero,
            adapter_norm: zero,
            seconds: zero,
            tokens_per_second: zero,
            best: true,
        }
    }

    #[test]
    fn parts_have_columns_where_an_objective_has_several() {
        let names = |rows: &[Row]| frame(rows).unwrap().get_column_names().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(!names(&[row(1, &["IA2"]), row(2, &["SFT"])]).contains(&"train_ia2".to_string()));
        let rows = [row(1, &["IA2"]), row(2, &["IA2", "CE on ICL"])];
        assert_eq!(names(&rows)[6..10], ["train_ia2", "dev_ia2", "train_ce_on_icl", "dev_ce_on_icl"]);
        let frame = frame(&rows).unwrap();
        assert_eq!(frame.column("dev_ia2").unwrap().null_count(), 0);
        assert_eq!(frame.column("dev_ce_on_icl").unwrap().f64().unwrap().to_vec(), [None, Some(2.0)]);
    }
}
