//! What came of each row of a test, kept in a few strings next to a run's numbers.

use std::fmt::Write;
use std::str::FromStr;

use polars::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Digits of a row's digest: 48 bits, so that even a million rows share none but by a chance of one in 500.
const DIGITS: usize = 12;

/// Per row, in the order of the test's queries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Outcomes {
    /// The first 12 hexadecimal digits of the SHA-256 of query and gold, with a zero byte between, of each row.
    pub rows: String,
    /// A 1 for each row that was answered right, a 0 for each other.
    pub correct: String,
    /// The answers' confidences, spaces between; none where answers have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<String>,
    /// Of tasks with labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Labels {
    pub names: Vec<String>,
    /// Each row's gold, as the place of its name, spaces between.
    pub golds: String,
    /// Of each label its probability in each row, spaces between.
    pub probabilities: Vec<String>,
}

impl Outcomes {
    /// Of a frame of predictions; none where its columns do not say who was right.
    pub(super) fn of(frame: &DataFrame) -> Result<Option<Self>> {
        let Some(correct) = frame.column("correct").ok().filter(|column| column.null_count() == 0) else { return Ok(None) };
        let (queries, golds) = (frame.column("query")?.str()?, frame.column("gold")?.str()?);
        let mut rows = String::with_capacity(frame.height() * DIGITS);
        for (query, gold) in queries.iter().zip(golds.iter()) {
            rows.push_str(&digest(query.unwrap_or_default(), gold.unwrap_or_default()));
        }
        let correct = correct.bool()?.iter().map(|correct| if correct == Some(true) { '1' } else { '0' }).collect();
        let names: Vec<String> =
            frame.get_column_names().iter().filter_map(|name| name.strip_prefix("p_")).map(ToString::to_string).collect();
        let places: Option<Vec<usize>> = golds.iter().map(|gold| names.iter().position(|name| Some(name.as_str()) == gold)).collect();
        let labels = match places.filter(|_| names.len() > 1) {
            Some(places) => {
                let probabilities = names.iter().map(|name| spelled(frame, &format!("p_{name}"))).collect::<Result<Option<Vec<_>>>>()?;
                let golds = places.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
                probabilities.map(|probabilities| Labels { names, golds, probabilities })
            }
            None => None,
        };
        Ok(Some(Self { rows, correct, confidence: spelled(frame, "confidence")?, labels }))
    }

    /// What could not be so of a test of that number of rows.
    pub(super) fn check(&self, rows: usize) -> std::result::Result<(), String> {
        let digests = self.rows.len() == rows * DIGITS && self.rows.bytes().all(|byte| byte.is_ascii_hexdigit());
        let correct = self.correct.len() == rows && self.correct.bytes().all(|byte| matches!(byte, b'0' | b'1'));
        let shares = |text: &String| {
            numbers::<f64>(text).is_some_and(|numbers| numbers.len() == rows && numbers.iter().all(|number| (0.0..=1.0).contains(number)))
        };
        let labels = self.labels.as_ref().is_none_or(|labels| {
            let golds = numbers::<usize>(&labels.golds);
            labels.names.len() == labels.probabilities.len()
                && labels.probabilities.iter().all(shares)
                && golds.is_some_and(|golds| golds.len() == rows && golds.iter().all(|gold| *gold < labels.names.len()))
        });
        match digests && correct && self.confidence.as_ref().is_none_or(shares) && labels {
            true => Ok(()),
            false => Err(format!("outcomes that {rows} rows cannot have")),
        }
    }

    /// The digests.
    pub(super) fn rows(&self) -> impl Iterator<Item = &str> {
        (0..self.rows.len() / DIGITS).filter_map(|row| self.rows.get(row * DIGITS..(row + 1) * DIGITS))
    }

    pub(super) fn correct(&self) -> impl Iterator<Item = bool> {
        self.correct.bytes().map(|byte| byte == b'1')
    }

    pub(super) fn confidence(&self) -> Option<Vec<f64>> {
        numbers(self.confidence.as_ref()?)
    }

    /// Brier's score of each row over the labels; of the answer alone where there are none.
    pub(super) fn brier(&self) -> Option<Vec<f64>> {
        let Some(labels) = &self.labels else {
            let confidence = self.confidence()?;
            return Some(confidence.iter().zip(self.correct()).map(|(p, right)| (p - f64::from(u8::from(right))).powi(2)).collect());
        };
        let golds = numbers::<usize>(&labels.golds)?;
        let mut scores = vec![0.0; golds.len()];
        for (label, text) in labels.probabilities.iter().enumerate() {
            for ((score, p), gold) in scores.iter_mut().zip(numbers::<f64>(text)?).zip(&golds) {
                *score += (p - f64::from(u8::from(label == *gold))).powi(2);
            }
        }
        Some(scores)
    }

    /// `row`, `correct`, and as far as they are there `confidence`, `gold` and `p_<label>`: what metrics read.
    pub(super) fn frame(&self) -> Result<DataFrame> {
        let broken = || Error::internal("outcomes that were checked cannot be read");
        let mut columns = vec![
            Column::new("row".into(), self.rows().collect::<Vec<_>>()),
            Column::new("correct".into(), self.correct().collect::<Vec<_>>()),
        ];
        if let Some(text) = &self.confidence {
            columns.push(Column::new("confidence".into(), numbers::<f64>(text).ok_or_else(broken)?));
        }
        if let Some(labels) = &self.labels {
            let golds = numbers::<usize>(&labels.golds).ok_or_else(broken)?;
            let names: Option<Vec<&str>> = golds.iter().map(|&gold| labels.names.get(gold).map(String::as_str)).collect();
            columns.push(Column::new("gold".into(), names.ok_or_else(broken)?));
            for (name, text) in labels.names.iter().zip(&labels.probabilities) {
                columns.push(Column::new(format!("p_{name}").into(), numbers::<f64>(text).ok_or_else(broken)?));
            }
        }
        Ok(DataFrame::new(self.correct.len(), columns)?)
    }
}

fn digest(query: &str, gold: &str) -> String {
    let digest = Sha256::new().chain_update(query).chain_update([0]).chain_update(gold).finalize();
    format!("{digest:x}")[..DIGITS].to_string()
}

/// A column of shares as text, in single precision; none where it is not there, or not everywhere.
fn spelled(frame: &DataFrame, name: &str) -> Result<Option<String>> {
    let Some(column) = frame.column(name).ok().filter(|column| column.null_count() == 0 && column.dtype().is_float()) else {
        return Ok(None);
    };
    let mut text = String::new();
    for value in column.cast(&DataType::Float64)?.f64()?.no_null_iter() {
        let space = if text.is_empty() { "" } else { " " };
        // Rounding may leave a share just outside.
        write!(text, "{space}{:?}", value.clamp(0.0, 1.0) as f32).map_err(|error| Error::internal("writing text").because(error))?;
    }
    Ok(Some(text))
}

fn numbers<T: FromStr>(text: &str) -> Option<Vec<T>> {
    text.split(' ').filter(|word| !word.is_empty()).map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_come_back_from_a_few_strings_and_others_are_refused() {
        let frame = df!(
            "query" => ["a", "b", "c"], "gold" => [" x", " y", " x"], "correct" => [true, false, true], "confidence" => [0.75, 0.6, 1.0 / 3.0],
            "p_ x" => [0.75, 0.6, 1.0 / 3.0], "p_ y" => [0.25, 0.4, 2.0 / 3.0]
        )
        .unwrap();
        let outcomes = Outcomes::of(&frame).unwrap().unwrap();
        outcomes.check(3).unwrap();
        assert_eq!((outcomes.correct.as_str(), outcomes.labels.as_ref().unwrap().golds.as_str()), ("101", "0 1 0"));
        assert_eq!(outcomes.rows().next().unwrap(), &format!("{:x}", Sha256::digest("a\0 x"))[..DIGITS]);
        let back = outcomes.frame().unwrap();
        assert_eq!(back.get_column_names(), ["row", "correct", "confidence", "gold", "p_ x", "p_ y"]);
        for name in ["confidence", "p_ x", "p_ y"] {
            for (ours, theirs) in back.column(name).unwrap().f64().unwrap().iter().zip(frame.column(name).unwrap().f64().unwrap().iter()) {
                assert!((ours.unwrap() - theirs.unwrap()).abs() < 1e-7);
            }
        }
        assert_eq!(crate::metric::brier(&back).unwrap(), outcomes.brier().unwrap().iter().sum::<f64>() / 3.0);
        // Of free answers without a confidence, and with one.
        let free = frame.select(["query", "gold", "correct"]).unwrap();
        let free = Outcomes::of(&free).unwrap().unwrap();
        assert_eq!((free.confidence.as_ref(), free.labels.as_ref(), free.brier()), (None, None, None));
        let sure = Outcomes::of(&frame.select(["query", "gold", "correct", "confidence"]).unwrap()).unwrap().unwrap();
        assert!((sure.brier().unwrap()[0] - 0.0625).abs() < 1e-9);
        assert_eq!(Outcomes::of(&frame.drop("correct").unwrap()).unwrap(), None);
        assert!(serde_json::to_string(&free).unwrap().len() < 100);

        assert!(outcomes.check(2).is_err());
        for broken in [
            Outcomes { correct: "10".into(), ..outcomes.clone() },
            Outcomes { correct: "1x1".into(), ..outcomes.clone() },
            Outcomes { rows: "é".repeat(18), ..outcomes.clone() },
            Outcomes { confidence: Some("0.5 1.5 0.5".into()), ..outcomes.clone() },
            Outcomes { confidence: Some("0.5 NaN 0.5".into()), ..outcomes.clone() },
            Outcomes { labels: Some(Labels { golds: "0 1 2".into(), ..outcomes.labels.clone().unwrap() }), ..outcomes.clone() },
            Outcomes {
                labels: Some(Labels { probabilities: vec!["1 1 1".into()], ..outcomes.labels.clone().unwrap() }),
                ..outcomes.clone()
            },
        ] {
            assert!(broken.check(3).unwrap_err().contains("3 rows"), "{broken:?}");
        }
    }
}
