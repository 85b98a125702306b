//! What a study's evidence is made of, against lme4, statsmodels, scipy and relplot (`tests/python/golden_study.py`).

mod common;

use common::{numbers, refused};
use ia2::Result;
use ia2::metric::{Binning, augrc, aurc, brier_parts, debiased_ce, debiased_ce_interval, risk_coverage, smooth_calibration, smooth_ece};
use ia2::prelude::*;
use ia2::statistics::{compare, crossed_bootstrap, crossed_mean, mixed_mean, mixed_model};
use serde_json::Value;

fn golden(part: &str) -> Vec<Value> {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/study.json");
    let all: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    all[part].as_array().unwrap().clone()
}

fn list<T: serde::de::DeserializeOwned>(value: &Value) -> Vec<T> {
    serde_json::from_value(value.clone()).unwrap()
}

/// The difference as a share of their value.
fn close(ours: f64, theirs: &Value, within: f64, what: &str) -> f64 {
    let theirs = theirs.as_f64().unwrap();
    let apart = (ours - theirs).abs() / theirs.abs().max(1e-3);
    assert!(apart <= within, "{what}: {ours} here, {theirs} there");
    apart
}

#[test]
fn mixed_models_are_those_of_lme4_and_statsmodels() -> Result<()> {
    let mut worst = [0f64; 2];
    for case in golden("mixed") {
        let name = |what: &str| format!("{what}, {}", case["name"]);
        let frame = df!(
            "value" => list::<f64>(&case["value"]), "method" => list::<String>(&case["method"]), "run" => list::<i64>(&case["run"]), "row" => list::<i64>(&case["row"])
        )?;
        let several = list::<String>(&case["method"]).iter().any(|method| method != "m0");
        let fixed: &[&str] = if several { &["method"] } else { &[] };
        let model = mixed_model(&frame, "value", fixed, &["run"], &["row"], 0.95)?;
        for (place, (theirs, within)) in [(&case["lme4"], 1e-4_f64), (&case["statsmodels"], 2e-3)].into_iter().enumerate() {
            close(model.deviance, &theirs["deviance"], 1e-6, &name("criterion"));
            let mut close =
                |ours: f64, theirs: &Value, what: &str| worst[place] = worst[place].max(close(ours, theirs, within, &name(what)));
            let none = theirs["run"].as_f64() < Some(1e-3) && model.run_deviation < 1e-3;
            assert!(none || (model.run_deviation / theirs["run"].as_f64().unwrap() - 1.0).abs() < within, "{}", name("run"));
            close(model.row_deviation, &theirs["row"], "row");
            close(model.rest_deviation, &theirs["rest"], "rest");
            for (term, (value, error)) in list::<f64>(&theirs["estimate"]).into_iter().zip(list::<f64>(&theirs["error"])).enumerate() {
                close(numbers(model.frame(), "estimate")[term], &value.into(), "estimate");
                close(numbers(model.frame(), "error")[term], &error.into(), "error");
            }
        }
        for (ours, theirs) in numbers(model.frame(), "degrees").into_iter().zip(list::<f64>(&case["lme4"]["degrees"])) {
            // Where the runs' variance is 0, lmerTest's derivatives at the edge and ours without it differ.
            let edge = case["lme4"]["run"].as_f64() < Some(1e-3);
            close(ours, &theirs.into(), if edge { 0.2 } else { 0.001 }, &name("degrees"));
        }
        // Neither the order of the values nor names matter.
        let (shuffled, ours) = (frame.sort(["value"], SortMultipleOptions::default())?, model.frame().clone());
        let again = mixed_model(&shuffled, "value", &[], &["run"], &["row"], 0.95)?;
        if !several {
            assert!((numbers(again.frame(), "error")[0] - numbers(&ours, "error")[0]).abs() < 1e-6);
        }
    }
    common::agrees("mixed models: estimates, errors and deviations, lme4", worst[0]);
    common::agrees("mixed models: estimates, errors and deviations, statsmodels", worst[1]);
    Ok(())
}

#[test]
fn means_by_mixed_models_are_contrasts_of_lme4() -> Result<()> {
    let mut worst = 0f64;
    for case in golden("mixed_means") {
        let name = |what: &str| format!("{what}, {}", case["name"]);
        let text = |column: &str| list::<String>(&case[column]);
        let frame = df!("value" => list::<f64>(&case["value"]), "stratum" => text("stratum"), "run" => text("run"), "row" => text("row"))?;
        let model = mixed_mean(&frame, "value", &["stratum"], &["run"], &["row"], 0.95)?;
        assert_eq!((model.frame().height(), common::texts(model.frame(), "term")), (1, vec!["mean".to_string()]));
        for (column, within) in [("estimate", 1e-5), ("error", 1e-4), ("degrees", 0.01), ("p", 1e-3)] {
            worst = worst.max(close(numbers(model.frame(), column)[0], &case["lme4"][column], within, &name(column)));
        }
        close(model.run_deviation, &case["lme4"]["run"], 1e-3, &name("run"));
        close(model.row_deviation, &case["lme4"]["row_deviation"], 1e-3, &name("row"));
        close(model.rest_deviation, &case["lme4"]["rest"], 1e-4, &name("rest"));
    }
    common::agrees("means over tasks by a mixed model: estimates, errors, degrees of freedom and p", worst);
    // One task with one stratum is the model without fixed effects.
    let (frame, names) = (small(), (["run"], ["row"]));
    let (mean, whole) =
        (mixed_mean(&frame, "value", &[], &names.0, &names.1, 0.95)?, mixed_model(&frame, "value", &[], &names.0, &names.1, 0.95)?);
    for column in ["estimate", "error", "lower", "p"] {
        assert!((numbers(mean.frame(), column)[0] - numbers(whole.frame(), column)[0]).abs() < 1e-9, "{column}");
    }
    Ok(())
}

#[test]
fn clustered_errors_are_those_of_statsmodels_and_of_pairs_one_by_one() -> Result<()> {
    let mut worst = 0f64;
    for case in golden("crossed") {
        let name = |what: &str| format!("{what}, {}", case["name"]);
        let text = |column: &str| list::<String>(&case[column]);
        let frame = df!("value" => list::<f64>(&case["value"]), "stratum" => text("stratum"), "run" => text("run"), "row" => text("row"))?;
        let found = crossed_mean(&frame, "value", &["stratum"], &["run"], &["row"], 0.95)?;
        for (what, ours) in [
            ("mean", found.mean),
            ("error", found.error),
            ("degrees", found.degrees),
            ("run_variance", found.run_variance),
            ("row_variance", found.row_variance),
            ("p", found.p),
            ("lower", found.lower),
            ("upper", found.upper),
        ] {
            close(ours, &case[what], 1e-6, &name(what));
        }
        if case["statsmodels"].is_object() {
            worst = worst.max(close(found.run_variance, &case["statsmodels"]["run_variance"], 1e-6, &name("run variance")));
            worst = worst.max(close(found.rest_variance, &case["statsmodels"]["rest_variance"], 1e-6, &name("rest variance")));
        }
        // Draws: a like interval, the same for a seed.
        let drawn = |seed| crossed_bootstrap(&frame, "value", &["stratum"], &["run"], &["row"], 0.95, 2000, seed).unwrap();
        let ((lower, upper), width) = (drawn(0), found.upper - found.lower);
        assert!(((upper - lower) / width - 1.0).abs() < 0.15 && lower < found.mean && upper > found.mean, "{}", name("draws"));
        assert_eq!(drawn(0), (lower, upper));
        assert_ne!(drawn(1), (lower, upper));
    }
    common::agrees("clustered variances of a mean over runs and rows", worst);
    Ok(())
}

/// Two values each of six runs, all different.
fn small() -> DataFrame {
    df!(
        "value" => [0.1, 0.3, 0.2, 0.5, -0.1, 0.4, 0.3, 0.2, 0.6, 0.1, 0.0, 0.2],
        "run" => [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5], "row" => [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1], "task" => ["a"; 12]
    )
    .unwrap()
}

#[test]
fn power_is_that_of_a_noncentral_t_and_grows_with_runs() -> Result<()> {
    // Each row in one run: the error is the runs' alone, and the test is the paired t of their means.
    let one = df!("value" => [0.1, 0.3, 0.2, 0.5, -0.1], "run" => [0, 1, 2, 3, 4], "row" => [0, 1, 2, 3, 4])?;
    let found = crossed_mean(&one, "value", &[], &["run"], &["row"], 0.95)?;
    let t = ia2::statistics::paired_t(&[0.0; 5], &[0.1, 0.3, 0.2, 0.5, -0.1], 0.95)?;
    assert!((found.p - t.p).abs() < 1e-9 && (found.lower - t.lower).abs() < 1e-9 && (found.degrees - 4.0).abs() < 1e-9);
    for case in golden("power") {
        let (shift, degrees) = (case["shift"].as_f64().unwrap(), case["degrees"].as_f64().unwrap());
        if degrees == 4.0 {
            close(found.power(shift * found.error, 5, 1)?, &case["power"], 1e-4, "power");
        }
    }
    assert!((found.power(0.0, 5, 1)? - 0.05).abs() < 1e-4, "without an effect the test rejects at its level");
    let detectable = found.detectable(0.8)?;
    assert!((found.power(detectable, 5, 1)? - 0.8).abs() < 1e-6);
    let found = crossed_mean(&small(), "value", &[], &["run"], &["row"], 0.95)?;
    let needed = found.runs_needed(0.2, 0.8)?.unwrap();
    assert!(found.power(0.2, needed, 2)? >= 0.8 && found.power(0.2, needed - 1, 2)? < 0.8, "{needed}");
    let rows = found.rows_needed(0.2, 0.8)?.unwrap();
    assert!(found.power(0.2, 6, rows)? >= 0.8 && (rows == 1 || found.power(0.2, 6, rows - 1)? < 0.8));
    // Runs that differ, and rows that do not: no number of rows is enough.
    let apart = df!("value" => [0.1, 0.1, 0.5, 0.5, 0.9, 0.90001], "run" => [0, 0, 1, 1, 2, 2], "row" => [0, 1, 0, 1, 0, 1])?;
    let apart = crossed_mean(&apart, "value", &[], &["run"], &["row"], 0.95)?;
    assert_eq!(apart.rows_needed(0.2, 0.8)?, None);
    assert!(apart.runs_needed(0.2, 0.8)?.unwrap() > 10);
    refused(found.power(f64::NAN, 5, 1), &["a finite effect"]);
    refused(found.runs_needed(0.0, 0.8), &["no study finds an effect of 0"]);
    refused(found.detectable(80.0), &["power must lie in (0, 1)"]);
    Ok(())
}

#[test]
fn calibration_is_that_of_relplot_and_scipy() -> Result<()> {
    let (bins, mut worst, mut relplot) = (Binning::EqualMass(15), 0f64, 0f64);
    for case in golden("calibration") {
        let name = |what: &str| format!("{what}, {}", case["name"]);
        let frame = df!("confidence" => list::<f64>(&case["confidence"]), "correct" => list::<bool>(&case["correct"]))?;
        let smooth = smooth_calibration(&frame)?;
        assert_eq!(smooth.error, smooth_ece(&frame)?);
        close(smooth.error, &case["smooth"], 2e-3, &name("smooth ECE"));
        close(smooth.bandwidth, &case["bandwidth"], 2e-3, &name("bandwidth"));
        // relplot looks for the bandwidth in steps of 1/1024, and cuts wide kernels off at a distance of 0.5.
        relplot = relplot.max(close(smooth.error, &case["relplot"], 0.02, &name("relplot")));
        assert!((smooth.bandwidth - case["relplot_width"].as_f64().unwrap()).abs() < 0.0025, "{}", name("relplot's width"));
        let mut close = |ours: f64, theirs: &Value, within: f64, what: &str| worst = worst.max(close(ours, theirs, within, what));
        let interval = debiased_ce_interval(&frame, bins, 0.95)?;
        assert_eq!(interval.value, debiased_ce(&frame, bins)?);
        close(interval.value, &case["debiased"], 1e-7, &name("debiased"));
        close(interval.squared, &case["squared"], 1e-7, &name("squared"));
        close(interval.lower, &case["lower"], 1e-5, &name("lower"));
        close(interval.upper, &case["upper"], 1e-5, &name("upper"));
        let parts = brier_parts(&frame, bins)?;
        close(parts.score, &case["brier"], 1e-7, &name("Brier"));
        close(parts.reliability, &case["reliability"], 1e-7, &name("reliability"));
        close(parts.resolution, &case["resolution"], 1e-7, &name("resolution"));
        close(parts.uncertainty, &case["uncertainty"], 1e-7, &name("uncertainty"));
        assert!((parts.score - (parts.reliability - parts.resolution + parts.uncertainty + parts.within)).abs() < 1e-12);
        close(aurc(&frame)?, &case["aurc"], 1e-7, &name("AURC"));
        close(augrc(&frame)?, &case["augrc"], 1e-7, &name("AUGRC"));
        let density = numbers(smooth.curve(), "density");
        assert!((density.iter().sum::<f64>() / 200.0 - 1.0).abs() < 0.02, "{}", name("density"));
        let accuracy = smooth.curve().column("accuracy")?.f64()?.clone();
        for (point, theirs) in [120, 150, 180].into_iter().zip(list::<f64>(&case["curve"])) {
            self::close(accuracy.get(point).unwrap(), &theirs.into(), 5e-3, &name("curve"));
        }
    }
    common::agrees("debiased calibration error with its interval, Brier's parts, AURC and AUGRC", worst);
    common::agrees("smooth ECE", relplot);
    Ok(())
}

#[test]
fn calibration_by_hand() -> Result<()> {
    let sure =
        |right: usize, all: usize| df!("confidence" => vec![0.75; all], "correct" => (0..all).map(|at| at < right).collect::<Vec<_>>());
    // One bin: (2/4 - 3/4)² less 1/4 / 3.
    let error = debiased_ce_interval(&sure(2, 4)?, Binning::EqualMass(1), 0.9)?;
    assert!((error.squared - (0.0625 - 0.25 / 3.0)).abs() < 1e-12 && error.value == 0.0 && error.lower == 0.0 && error.upper > 0.25);
    let certain = debiased_ce_interval(&sure(0, 400)?, Binning::EqualMass(15), 0.95)?;
    assert!(certain.lower > 0.7 && (certain.value - 0.75).abs() < 1e-9 && certain.upper < 0.8, "{certain:?}");
    // No error: smooth ECE is at its least bandwidth.
    let smooth = smooth_calibration(&sure(300, 400)?)?;
    assert!(smooth.error < 1e-9 && smooth.bandwidth == 1e-3);
    // 1/4 of a gap at one confidence, whatever the bandwidth.
    assert!((smooth_ece(&sure(200, 400)?)? - 0.25).abs() < 1e-3);
    let frame = df!("confidence" => [0.9, 0.8, 0.7, 0.6], "correct" => [true, true, false, true])?;
    let curve = risk_coverage(&frame)?;
    assert_eq!(numbers(&curve, "generalized_risk"), [0.0, 0.0, 0.0, 0.25, 0.25]);
    assert_eq!(numbers(&curve, "risk"), [0.0, 0.0, 0.0, 1.0 / 3.0, 0.25]);
    assert!((augrc(&frame)? - (0.125 + 0.25) / 4.0).abs() < 1e-12);
    // By pairs: one error, sure above one right answer and below two: (1 - AUROC) acc (1 - acc) + (1 - acc)²/2.
    assert!((augrc(&frame)? - (1.0 / 3.0 * 0.75 * 0.25 + 0.03125)).abs() < 1e-12);
    assert!((aurc(&frame)? - (1.0 / 6.0 + (1.0 / 3.0 + 0.25) / 2.0) / 4.0).abs() < 1e-12);
    refused(smooth_ece(&frame.drop("confidence")?), &["no column `confidence`"]);
    refused(augrc(&frame.head(Some(0))), &["no rows"]);
    refused(debiased_ce_interval(&frame, Binning::EqualMass(2), 95.0), &["level", "95"]);
    refused(debiased_ce(&frame, Binning::EqualMass(15)), &["15 equal-mass bins"]);
    refused(brier_parts(&frame, Binning::EqualMass(0)), &["at least one bin"]);
    Ok(())
}

#[test]
fn what_has_no_mean_over_runs_and_rows_is_refused() {
    let frame = small();
    let mean = |frame: &DataFrame, strata: &[&str], run: &[&str], row: &[&str]| crossed_mean(frame, "value", strata, run, row, 0.95);
    refused(mean(&frame, &[], &[], &["row"]), &["names the run"]);
    refused(mean(&frame, &[], &["seed"], &["row"]), &["no column `seed`"]);
    refused(mean(&frame.head(Some(2)), &[], &["run"], &["row"]), &["one run alone", "add runs"]);
    refused(mean(&frame.head(Some(0)), &[], &["run"], &["row"]), &["one value"]);
    refused(mean(&frame, &["run"], &["run"], &["row"]), &["one run alone"]);
    refused(crossed_mean(&frame, "value", &[], &["run"], &["row"], 95.0), &["level"]);
    refused(crossed_bootstrap(&frame, "value", &[], &["run"], &["row"], 0.95, 1, 0), &["2 to 1000000 draws"]);
    let model = |frame: &DataFrame, fixed: &[&str]| mixed_model(frame, "value", fixed, &["run"], &["row"], 0.95);
    refused(model(&frame.head(Some(2)), &[]), &["too few"]);
    refused(model(&frame, &["run", "task", "row", "value"]), &["too few"]);
    // A column that says what the intercept does is no column at all; one that says what another does is one too many.
    assert_eq!(model(&frame, &["task"]).unwrap().frame().height(), 1);
    let mut twice = frame.clone();
    twice.with_column(frame.column("row").unwrap().clone().with_name("again".into())).unwrap();
    refused(model(&twice, &["row", "again"]), &["hang together"]);
    let mut same = frame.clone();
    same.with_column(Column::new("value".into(), [0.5; 12])).unwrap();
    assert!(refused(model(&same, &[]), &["all values"]).is_numeric());
    assert!(refused(mixed_mean(&same, "value", &[], &["run"], &["row"], 0.95), &["all values"]).is_numeric());
    refused(mixed_mean(&frame, "value", &["run"], &["run"], &["row"], 0.95), &["one run alone"]);
    // All values alike: no error, and no p below 1 where they are 0.
    let found = mean(&same, &[], &["run"], &["row"]).unwrap();
    assert_eq!((found.mean, found.error, found.p, found.lower), (0.5, 0.0, 0.0, 0.5));
    assert_eq!(mean(&same.clone(), &[], &["run"], &["row"]).unwrap().power(0.1, 5, 5).unwrap(), 1.0);
}

#[test]
fn tests_that_would_pool_nested_training_sets_are_refused() -> Result<()> {
    let runs = df!(
        "method" => ["SFT", "IA2"].repeat(8), "task" => ["a"; 16], "evaluated_on" => (0..16).map(|row| if row < 8 { "a" } else { "b" }).collect::<Vec<_>>(),
        "n" => [4, 4, 8, 8].repeat(4), "run" => [0, 0, 0, 0, 1, 1, 1, 1].repeat(2), "accuracy" => (0..16).map(|row| 0.5 + 0.01 * f64::from(row * row % 7)).collect::<Vec<_>>()
    )?;
    let ask = |frame: &DataFrame, keys: &[&str]| compare(frame, "method", &[("SFT", "IA2")], keys, &["accuracy"], 0.95);
    let error = refused(ask(&runs, &["evaluated_on", "n", "run"]), &["`n`", "not independent", "averaged", "evidence"]);
    assert!(error.is_input());
    // One N of it, but two tests of each training.
    let four = runs.filter(&runs.column("n")?.i32()?.equal(4))?;
    refused(ask(&four, &["evaluated_on", "run"]), &["`evaluated_on`"]);
    let own = four.head(Some(4));
    assert_eq!(ask(&own, &["n", "run", "evaluated_on"])?.height(), 1);
    Ok(())
}
