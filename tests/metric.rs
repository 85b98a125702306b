//! Metrics against scikit-learn, torchmetrics and scipy (`tests/python/golden_evidence.py`).

mod common;

use ia2::Result;
use ia2::metric::{
    Binning, METRICS, Metric, accuracy, as_reported, classwise_ece, ece, fit_temperature, mce, mean_confidence, mean_entropy, mean_nll,
    rmsce, top_1_ece, with_temperature,
};
use ia2::prelude::*;
use serde_json::Value;

fn cases() -> Vec<Value> {
    serde_json::from_slice(&std::fs::read(common::golden_folder("metric/labels.json")).unwrap()).unwrap()
}

/// The columns that `evaluate` would give.
fn frame(case: &Value) -> DataFrame {
    let rows: Vec<Vec<f64>> = serde_json::from_value(case["p"].clone()).unwrap();
    let golds: Vec<usize> = serde_json::from_value(case["gold"].clone()).unwrap();
    let mass: Vec<f64> = serde_json::from_value(case["label_mass"].clone()).unwrap();
    let answers: Vec<usize> = rows.iter().map(|row| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap()).collect();
    let mut frame = df!(
        "gold" => golds.iter().map(|gold| format!("label {gold}")).collect::<Vec<_>>(),
        "answer" => answers.iter().map(|answer| format!("label {answer}")).collect::<Vec<_>>(),
        "correct" => answers.iter().zip(&golds).map(|(answer, gold)| answer == gold).collect::<Vec<_>>(),
        "confidence" => answers.iter().zip(&rows).map(|(&answer, row)| row[answer]).collect::<Vec<_>>(),
        "nll" => golds.iter().zip(&rows).map(|(&gold, row)| -row[gold].ln()).collect::<Vec<_>>(),
        "entropy" => rows.iter().map(|row| -row.iter().map(|p| p * p.ln()).sum::<f64>()).collect::<Vec<_>>(),
        "label_mass" => mass,
        "top_1_correct" => serde_json::from_value::<Vec<bool>>(case["top_1"]["correct"].clone()).unwrap(),
        "top_1_confidence" => serde_json::from_value::<Vec<f64>>(case["top_1"]["confidence"].clone()).unwrap(),
        "top_10_mass" => serde_json::from_value::<Vec<f64>>(case["top_1"]["mass"].clone()).unwrap(),
    )
    .unwrap();
    for label in 0..rows[0].len() {
        frame.with_column(Column::new(format!("p_label {label}").into(), rows.iter().map(|row| row[label]).collect::<Vec<_>>())).unwrap();
    }
    frame
}

fn close(ours: f64, theirs: &Value, within: f64, what: &str) {
    let theirs = theirs.as_f64().unwrap();
    assert!((ours - theirs).abs() <= within, "{what}: {ours} and {theirs}");
}

#[test]
fn every_metric_gives_the_value_of_another_implementation() -> Result<()> {
    let mut seen: Vec<String> = Vec::new();
    for case in cases() {
        let frame = frame(&case);
        for (name, value) in case["values"].as_object().unwrap() {
            close(Metric::named(name)?.compute(&frame)?, value, 1e-9, name);
            seen.push(name.clone());
        }
        for (name, value) in case["binned"].as_object().unwrap() {
            let (kind, bins) = name.rsplit_once('_').unwrap();
            let bins = bins.parse().unwrap();
            let ours = match kind {
                "ece_equal_width" => ece(&frame, Binning::EqualWidth(bins))?,
                "ece_equal_mass" => ece(&frame, Binning::EqualMass(bins))?,
                "mce_equal_width" => mce(&frame, Binning::EqualWidth(bins))?,
                "rmsce_equal_width" => rmsce(&frame, Binning::EqualWidth(bins))?,
                "classwise_ece_equal_width" => classwise_ece(&frame, Binning::EqualWidth(bins))?,
                "top_1_ece_equal_width" => top_1_ece(&frame, Binning::EqualWidth(bins), Compat::Corrected)?,
                "adaptive_ece" => classwise_ece(&frame, Binning::EqualMass(bins))?,
                other => panic!("{other}?"),
            };
            // torchmetrics sums in f32.
            close(ours, value, 1e-6, name);
            if bins == 15 {
                assert_eq!(Metric::named(name)?.compute(&frame)?, ours, "{name}");
            }
            seen.push(name.clone());
        }
    }
    // Without bins, by relplot's definition, scipy and by hand (`golden_study.py`).
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/study.json");
    let study: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    for case in study["calibration"].as_array().unwrap() {
        let of = |name: &str| case[name].as_array().unwrap().iter();
        let frame = df!(
            "confidence" => of("confidence").map(|value| value.as_f64().unwrap()).collect::<Vec<_>>(),
            "correct" => of("correct").map(|value| value.as_bool().unwrap()).collect::<Vec<_>>()
        )?;
        for (metric, name, within) in
            [("smooth_ece", "smooth", 1e-3), ("debiased_ce_15", "debiased", 1e-8), ("aurc", "aurc", 1e-8), ("augrc", "augrc", 1e-8)]
        {
            close(Metric::named(metric)?.compute(&frame)?, &case[name], within, metric);
            seen.push(metric.into());
        }
    }
    for metric in METRICS {
        assert!(seen.iter().any(|name| name == metric.name), "{} has no golden value", metric.name);
    }
    Ok(())
}

#[test]
fn temperatures_are_scipys_minima() -> Result<()> {
    for case in cases() {
        let frame = frame(&case);
        let fitted = fit_temperature(&frame)?;
        close(fitted.value, &case["temperature"], 1e-6, "temperature");
        close(fitted.nll_after, &case["nll_at_temperature"], 1e-10, "likelihood");
        assert!((mean_nll(&with_temperature(&frame, fitted.value)?)? - fitted.nll_after).abs() < 1e-12);
    }
    Ok(())
}

#[test]
fn the_authors_confidences_and_bins_are_theirs() -> Result<()> {
    for case in cases() {
        let paper = as_reported(&frame(&case), Compat::Paper)?;
        let theirs = &case["reported"];
        close(ece(&paper, Binning::standard(Compat::Paper))?, &theirs["ece"], 1e-10, "ECE");
        close(mean_confidence(&paper)?, &theirs["confidence"], 1e-10, "confidence");
        close(mean_entropy(&paper)?, &theirs["entropy"], 1e-10, "entropy");
        assert_eq!(accuracy(&paper)?, accuracy(&frame(&case))?);
    }
    Ok(())
}

#[test]
fn bootstrap_intervals_are_scipys_but_for_the_draws() -> Result<()> {
    for case in cases() {
        let ours = Metric::named("accuracy")?.bootstrap(&frame(&case), 4000, 0.9, 0)?;
        // The ends of 4000 draws vary by about a twentieth of the interval's standard deviation; one row is 1 / n.
        close(ours.lower, &case["bootstrap"]["lower"], 0.008, "lower");
        close(ours.upper, &case["bootstrap"]["upper"], 0.008, "upper");
        close(ours.std, &case["bootstrap"]["std"], 0.001, "std");
    }
    Ok(())
}
