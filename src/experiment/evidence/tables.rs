//! Evidence as tables and as JSON.

use polars::prelude::*;
use serde_json::{Map, Value, json};

use super::Evidence;
use crate::display;
use crate::error::{Error, Result};
use crate::experiment::Method;
use crate::frame::{maybe_numbers, text};
use crate::table::{Table, share, signed};

/// Corrected p below this are bold.
const BOLD: f64 = 0.05;

fn shown(number: Option<f64>) -> String {
    number.map_or_else(|| "–".into(), |number| signed(display::number(number)))
}

/// Three digits, as effects are read.
fn short(number: Option<f64>) -> String {
    number.map_or_else(|| "–".into(), |number| signed(format!("{number:.3}")))
}

fn interval(lower: Option<f64>, upper: Option<f64>) -> String {
    match (lower, upper) {
        (Some(_), Some(_)) => format!("{} to {}", short(lower), short(upper)),
        _ => "–".into(),
    }
}

fn count(number: Option<f64>) -> String {
    number.map_or_else(|| "–".into(), |number| format!("{number:.0}"))
}

pub(super) fn effects(frame: &DataFrame, baseline: Method) -> Result<Table> {
    let of = |name: &str| maybe_numbers(frame, name);
    let (difference, lower, upper) = (of("difference")?, of("lower")?, of("upper")?);
    let (p, p_holm, drawn_lower, drawn_upper) = (of("p")?, of("p_holm")?, of("drawn_lower")?, of("drawn_upper")?);
    let (mixed, mixed_lower, mixed_upper, mixed_p) = (of("mixed_difference")?, of("mixed_lower")?, of("mixed_upper")?, of("mixed_p_holm")?);
    let (methods, values, strata) = (text(frame, "method")?, text(frame, "value")?, of("strata")?);
    let rows = (0..frame.height()).map(|at| {
        let small = |p: Option<f64>| p.is_some_and(|p| p < BOLD);
        vec![
            (methods[at].to_string(), false),
            (values[at].replace('_', " "), false),
            (count(strata[at]), false),
            (short(difference[at]), false),
            (interval(lower[at], upper[at]), false),
            (share(p[at]), false),
            (share(p_holm[at]), small(p_holm[at])),
            (interval(drawn_lower[at], drawn_upper[at]), false),
            (short(mixed[at]), false),
            (interval(mixed_lower[at], mixed_upper[at]), false),
            (share(mixed_p[at]), small(mixed_p[at])),
        ]
    });
    let headings = [
        "method",
        "value",
        "evaluations",
        "difference",
        "95 % interval",
        "p",
        "p (Holm)",
        "interval by draws",
        "mixed model",
        "its interval",
        "its p (Holm)",
    ];
    let notes = [
        format!(
            "differences to {} on the same rows of the same runs, over all evaluations; intervals over runs and rows together",
            baseline.name()
        ),
        format!("bold: p corrected by Holm's method over the table below {BOLD}; –: not defined; other than accuracy, less is better"),
    ];
    Ok(Table::of(Some("Effects"), &headings, 2, rows.collect(), &notes, frame))
}

pub(super) fn methods(frame: &DataFrame) -> Result<Table> {
    let methods = text(frame, "method")?;
    let with: [&str; 5] = ["accuracy", "brier", "smooth_ece", "debiased_ce_15", "augrc"];
    let alone: [&str; 5] = ["brier_of_answer", "reliability", "resolution", "uncertainty", "aurc"];
    let evaluations = maybe_numbers(frame, "evaluations")?;
    let named = methods.iter().zip(&evaluations);
    let mut cells: Vec<Vec<(String, bool)>> =
        named.map(|(method, evaluations)| vec![(method.to_string(), false), (count(*evaluations), false)]).collect();
    for name in with {
        let (value, lower, upper) =
            (maybe_numbers(frame, name)?, maybe_numbers(frame, &format!("{name}_lower"))?, maybe_numbers(frame, &format!("{name}_upper"))?);
        for (at, row) in cells.iter_mut().enumerate() {
            row.push((
                if value[at].is_some() { format!("{} ({})", short(value[at]), interval(lower[at], upper[at])) } else { "–".into() },
                false,
            ));
        }
    }
    for name in alone {
        let value = maybe_numbers(frame, name)?;
        cells.iter_mut().zip(value).for_each(|(row, value)| row.push((short(value), false)));
    }
    let headings: Vec<String> = ["method", "evaluations"].iter().chain(&with).chain(&alone).map(|name| name.replace('_', " ")).collect();
    let notes = [
        "mean (95 % interval over runs and rows); debiased calibration error: in l2, less what chance adds, over 15 bins of equal count"
            .to_string(),
        "methods with different numbers of evaluations (some are not defined for free answers) are compared by their effects, not by these means".to_string(),
        "brier of answer = reliability - resolution + uncertainty, up to what confidences vary within bins".to_string(),
    ];
    Ok(Table::of(Some("Methods"), &headings.iter().map(String::as_str).collect::<Vec<_>>(), 1, cells, &notes, frame))
}

pub(super) fn power(frame: &DataFrame, baseline: Method) -> Result<Table> {
    let methods = text(frame, "method")?;
    let found: Vec<bool> = frame.column("found")?.bool()?.iter().map(|found| found == Some(true)).collect();
    let (effect, power, detectable) =
        (maybe_numbers(frame, "effect")?, maybe_numbers(frame, "power")?, maybe_numbers(frame, "detectable")?);
    let (runs, rows) = (maybe_numbers(frame, "runs_needed")?, maybe_numbers(frame, "rows_needed")?);
    let cells = (0..frame.height()).map(|at| {
        let effect = short(effect[at]) + if found[at] { " (found)" } else { "" };
        let count = |number: Option<f64>| number.map_or_else(|| "none".into(), |number| format!("{number:.0}"));
        let power = power[at].map_or_else(|| "–".into(), |power| format!("{power:.2}"));
        [methods[at].to_string(), effect, power, count(runs[at]), count(rows[at]), shown(detectable[at])].map(|text| (text, false)).to_vec()
    });
    let headings = ["method", "effect on accuracy", "power here", "runs needed", "rows needed", "detectable here"];
    let notes = [
        format!(
            "against {}; runs per task with these rows, or rows per run with these runs, for a power of 0.8 at 5 %, one test",
            baseline.name()
        ),
        "none: no number is enough while the other stays as it is".to_string(),
    ];
    Ok(Table::of(Some("Power"), &headings, 1, cells.collect(), &notes, frame))
}

pub(super) fn pooled(frame: &DataFrame) -> Result<Table> {
    let columns = ["statistic", "unit", "pools", "assumes"].map(|name| text(frame, name));
    let [statistic, unit, pools, assumes] = columns;
    let (statistic, unit, pools, assumes) = (statistic?, unit?, pools?, assumes?);
    let cells =
        (0..frame.height()).map(|at| [statistic[at], unit[at], pools[at], assumes[at]].map(|text| (text.to_string(), false)).to_vec());
    Ok(Table::of(Some("What is pooled"), &["statistic", "unit", "pools", "assumes"], 4, cells.collect(), &[], frame))
}

/// The rows of a frame as objects.
fn objects(frame: &DataFrame) -> Result<Value> {
    let row = |at: usize| -> Result<Value> {
        let mut object = Map::new();
        for column in frame.columns() {
            let value = match column.get(at)? {
                AnyValue::Null => Value::Null,
                AnyValue::Boolean(flag) => flag.into(),
                AnyValue::String(text) => text.into(),
                AnyValue::StringOwned(text) => text.as_str().into(),
                number if column.dtype().is_integer() => number.extract::<i64>().into(),
                // JSON has no infinity and no NaN.
                number => number.extract::<f64>().and_then(serde_json::Number::from_f64).map_or(Value::Null, Value::Number),
            };
            object.insert(column.name().to_string(), value);
        }
        Ok(object.into())
    };
    (0..frame.height()).map(row).collect::<Result<Vec<_>>>().map(Value::from)
}

pub(super) fn json(evidence: &Evidence) -> Result<String> {
    let answers: Vec<Value> = evidence.checklist.iter().map(|(question, answer)| json!({"question": question, "answer": answer})).collect();
    let all = json!({
        "baseline": evidence.baseline.name(),
        "sentences": evidence.sentences,
        "effects": objects(&evidence.effects)?,
        "by_evaluation": objects(&evidence.by_evaluation)?,
        "methods": objects(&evidence.methods)?,
        "power": objects(&evidence.power)?,
        "pooled": objects(&evidence.pooled)?,
        "missing": objects(&evidence.missing)?,
        "checklist": answers,
    });
    serde_json::to_string_pretty(&all).map_err(|error| Error::internal("writing JSON").because(error))
}
