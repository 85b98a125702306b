//! Statistics against scipy (`tests/python/golden_evidence.py`), and what they refuse.

mod common;

use common::refused;
use ia2::Result;
use ia2::prelude::*;
use ia2::statistics::{averaged, cohen_dz, compare, holm, intervals, mean_interval, paired_t, rank_biserial, wilcoxon};
use serde_json::Value;

fn golden(file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(common::golden_folder("statistics").join(file)).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

/// To 9 digits, small p-values included.
fn close(ours: f64, theirs: &Value, what: &str) {
    let theirs = theirs.as_f64().unwrap();
    assert!((ours - theirs).abs() <= 1e-9 * theirs.abs() + 1e-300, "{what}: {ours} and {theirs}");
}

#[test]
fn paired_tests_are_those_of_scipy() -> Result<()> {
    let cases = golden("paired.json");
    let (mut exact, mut approximate) = (0, 0);
    for case in cases.as_array().unwrap() {
        let (first, second) = (numbers(&case["first"]), numbers(&case["second"]));
        let (t, ranks) = (paired_t(&first, &second, 0.9)?, wilcoxon(&first, &second)?);
        let name = |what: &str| format!("{what} of {}", case["name"]);
        close(t.t, &case["t"], &name("t"));
        close(t.p, &case["p_t"], &name("p of t"));
        close(t.lower, &case["lower"], &name("lower"));
        close(t.upper, &case["upper"], &name("upper"));
        assert_eq!(t.degrees, first.len() - 1);
        close(ranks.positive.min(ranks.negative), &case["w"], &name("w"));
        close(ranks.p, &case["p_wilcoxon"], &name("p of w"));
        assert_eq!(ranks.exact, case["exact"].as_bool().unwrap(), "{}", case["name"]);
        *(if ranks.exact { &mut exact } else { &mut approximate }) += 1;
        close(cohen_dz(&first, &second)?, &case["d_z"], &name("d_z"));
        close(rank_biserial(&first, &second)?, &case["rank_biserial"], &name("rank-biserial"));
        let own = mean_interval(&first, 0.9)?;
        close(own.lower, &case["mean_lower"], &name("lower of the mean"));
        close(own.upper, &case["mean_upper"], &name("upper of the mean"));
        // Exchanged, everything but the sign stays.
        let back = paired_t(&second, &first, 0.9)?;
        assert_eq!((back.t, back.p, back.lower), (-t.t, t.p, -t.upper));
        assert_eq!(wilcoxon(&second, &first)?.p, ranks.p);
    }
    assert!(exact >= 4 && approximate >= 2);
    let case = golden("holm.json");
    for (ours, theirs) in holm(&numbers(&case["p"]))?.iter().zip(case["corrected"].as_array().unwrap()) {
        close(*ours, theirs, "holm");
    }
    Ok(())
}

#[test]
fn by_hand() -> Result<()> {
    // Differences 1, 2, 3: t = 2 / (1 / sqrt 3); all signs positive has chance 1/8, twice 1/4.
    let t = paired_t(&[0.0, 0.0, 0.0], &[1.0, 2.0, 3.0], 0.95)?;
    assert!((t.t - 2.0 * 3f64.sqrt()).abs() < 1e-12 && t.difference == 2.0);
    let ranks = wilcoxon(&[0.0, 0.0, 0.0, 5.0], &[1.0, 2.0, 3.0, 5.0])?;
    assert_eq!((ranks.positive, ranks.negative, ranks.count, ranks.p, ranks.exact), (6.0, 0.0, 3, 0.25, true));
    // 0.3 - 0.1 and 0.5 - 0.3 are one size, though not in f64, and 0.1 + 0.2 is 0.3.
    assert_ne!(0.3 - 0.1, 0.5 - 0.3);
    let ranks = wilcoxon(&[0.1, 0.3, 0.9, 0.3], &[0.3, 0.5, 0.8, 0.1 + 0.2])?;
    assert_eq!((ranks.positive, ranks.negative, ranks.count), (5.0, 1.0, 3));
    assert_eq!(wilcoxon(&[0.1, 0.5, 0.9], &[0.3, 0.3, 0.8])?.positive, 2.5);
    assert_eq!(cohen_dz(&[0.0, 0.0, 0.0], &[1.0, 2.0, 3.0])?, 2.0);
    assert_eq!(rank_biserial(&[0.0, 0.0, 0.0], &[1.0, 2.0, -3.0])?, 0.0);
    assert_eq!(holm(&[0.01, 0.04, 0.03, 0.5])?, [0.04, 0.09, 0.09, 0.5]);
    assert_eq!(holm(&[0.9, 0.8])?, [1.0, 1.0]);
    Ok(())
}

fn runs() -> DataFrame {
    df!(
        "method" => ["SFT", "IA2", "IA2 → SFT"].repeat(6),
        "dataset" => (0..18).map(|row| if row < 9 { "SST2" } else { "AGN" }).collect::<Vec<_>>(),
        "run" => (0..18).map(|row| row / 3 % 3).collect::<Vec<i32>>(),
        "accuracy" => (0..18).map(|row| 0.5 + 0.1 * f64::from(row % 3) + 0.01 * f64::from(row * row % 7)).collect::<Vec<_>>(),
        "ece" => (0..18).map(|row| 0.3 - 0.05 * f64::from(row % 3) + 0.01 * f64::from(row * 5 % 11)).collect::<Vec<_>>(),
        "same" => [0.25; 18],
    )
    .unwrap()
}

#[test]
fn methods_are_paired_by_their_runs() -> Result<()> {
    let runs = runs();
    let number = |frame: &DataFrame, name: &str, row: usize| frame.column(name).unwrap().f64().unwrap().get(row);
    let pairs = [("SFT", "IA2"), ("SFT", "IA2 → SFT")];
    let frame = compare(&runs, "method", &pairs, &["dataset", "run"], &["accuracy", "ece"], 0.95)?;
    assert_eq!(frame.height(), 4);
    let of = |method: usize, name: &str| -> Vec<f64> {
        (0..6).map(|run| runs.column(name).unwrap().f64().unwrap().get(run * 3 + method).unwrap()).collect()
    };
    let mut p_t = Vec::new();
    for (row, (second, value)) in [(1, "accuracy"), (1, "ece"), (2, "accuracy"), (2, "ece")].into_iter().enumerate() {
        let (a, b) = (of(0, value), of(second, value));
        let (t, ranks) = (paired_t(&a, &b, 0.95)?, wilcoxon(&a, &b)?);
        let near =
            |name: &str, expected: f64| assert!((number(&frame, name, row).unwrap() - expected).abs() < 1e-12, "{name} of row {row}");
        near("t", t.t);
        near("p_t", t.p);
        near("lower", t.lower);
        near("difference", t.difference);
        near("p_wilcoxon", ranks.p);
        near("d_z", cohen_dz(&a, &b)?);
        near("rank_biserial", rank_biserial(&a, &b)?);
        near("mean_second", b.iter().sum::<f64>() / 6.0);
        assert_eq!(frame.column("value")?.str()?.get(row), Some(value));
        assert_eq!(frame.column("pairs")?.u32()?.get(row), Some(6));
        p_t.push(number(&frame, "p_t", row).unwrap());
    }
    assert_eq!((0..4).map(|row| number(&frame, "p_t_holm", row).unwrap()).collect::<Vec<_>>(), holm(&p_t)?);
    // Neither the order of rows nor the one of keys matters.
    let shuffled = runs.sort(["accuracy"], SortMultipleOptions::default())?;
    let again = compare(&shuffled, "method", &pairs, &["run", "dataset"], &["accuracy", "ece"], 0.95)?;
    assert!((0..4).all(|row| (number(&again, "p_t", row).unwrap() - p_t[row]).abs() < 1e-12));
    // What is not defined is null with its reason, and no test for the correction.
    let frame = compare(&runs, "method", &pairs[..1], &["dataset", "run"], &["same", "accuracy"], 0.95)?;
    assert_eq!((number(&frame, "t", 0), number(&frame, "p_wilcoxon_holm", 0), number(&frame, "difference", 0)), (None, None, Some(0.0)));
    assert!(frame.column("note")?.str()?.get(0).unwrap().contains("all differences are zero"));
    assert_eq!(number(&frame, "p_t_holm", 1), number(&frame, "p_t", 1));

    let means = intervals(&runs, &["dataset", "method"], &["accuracy"], 0.95)?;
    let names: Vec<&str> = means.get_column_names().into_iter().map(|name| name.as_str()).collect();
    assert_eq!((names, means.height()), (vec!["dataset", "method", "value", "count", "mean", "std", "lower", "upper"], 6));
    let first = mean_interval(&of(0, "accuracy")[..3], 0.95)?;
    assert_eq!((number(&means, "mean", 0), number(&means, "upper", 0)), (Some(first.mean), Some(first.upper)));
    Ok(())
}

#[test]
fn what_cannot_be_paired_is_refused() {
    let runs = runs();
    let ask = |frame: &DataFrame, pair, keys: &[&str], value| compare(frame, "method", &[pair], keys, &[value], 0.95);
    let (pair, keys) = (("SFT", "IA2"), ["dataset", "run"]);
    refused(ask(&runs, pair, &["run"], "ece"), &["`SFT` has the run (0) twice", "more columns as keys"]);
    refused(ask(&runs, ("SFT", "IA3"), &keys, "ece"), &["`method` has no `IA3`"]);
    refused(ask(&runs, pair, &["seed"], "ece"), &["no column `seed`; it has `method`"]);
    refused(ask(&runs, pair, &keys, "dataset"), &["must hold numbers"]);
    refused(ask(&runs.head(Some(16)), pair, &keys, "ece"), &["1 runs of `SFT`", "(AGN, 2)", "not there for `IA2`"]);
    refused(ask(&runs.head(Some(3)), pair, &keys, "ece"), &["at least 2 values", "`ece` of `SFT` and `IA2`"]);
    refused(compare(&runs, "method", &[], &keys, &["ece"], 0.95), &["at least one pair"]);
    refused(compare(&runs, "method", &[pair], &keys, &["ece"], 95.0), &["level", "95"]);
    let mut bad = runs.clone();
    bad.with_column(Column::new("ece".into(), [vec![0.1; 17], vec![f64::NAN]].concat())).unwrap();
    assert!(refused(ask(&bad, pair, &keys, "ece"), &["NaN in row 17"]).is_numeric());
    refused(intervals(&runs.head(Some(1)), &["method"], &["ece"], 0.95), &["at least 2 values", "`ece` of SFT"]);
    refused(intervals(&runs, &[], &["ece"], 0.95), &["group by"]);
    refused(paired_t(&[1.0], &[1.0, 2.0], 0.9), &["1 values against 2"]);
    refused(paired_t(&[0.1, 0.2], &[0.2, 0.3], 0.9), &["differences are the same"]);
    refused(paired_t(&[0.1, f64::NAN], &[0.2, 0.3], 0.9), &["the one at 1 is NaN"]);
    refused(wilcoxon(&[0.1], &[0.1]), &["all differences are zero"]);
    refused(wilcoxon(&[], &[]), &["0 pairs"]);
    refused(holm(&[0.5, f64::NAN]), &["the one at 1 is NaN"]);
}

#[test]
fn rows_of_one_run_are_averaged_before_they_are_tested() -> Result<()> {
    // Two runs; the first was done at two N, tested twice each.
    let frame = df!(
        "method" => ["SFT", "IA2", "SFT", "IA2", "SFT", "IA2", "SFT", "IA2", "SFT", "IA2"],
        "run" => [0, 0, 0, 0, 0, 0, 0, 0, 1, 1],
        "n" => [4, 4, 4, 4, 8, 8, 8, 8, 4, 4],
        "accuracy" => [0.5, 0.6, 0.5, 0.8, 0.6, 0.9, 0.8, 0.9, 0.4, 0.9],
    )?;
    let means = averaged(&frame, "method", &["run"], &["accuracy"])?;
    assert_eq!(means.get_column_names(), ["method", "run", "rows", "accuracy"]);
    let column = |name: &str| means.column(name).unwrap().cast(&DataType::Float64).unwrap().f64().unwrap().to_vec();
    assert_eq!(column("rows"), [4.0, 4.0, 1.0, 1.0].map(Some));
    for (mean, expected) in column("accuracy").into_iter().zip([0.6, 0.8, 0.4, 0.9]) {
        assert!((mean.unwrap() - expected).abs() < 1e-12);
    }
    let tested = compare(&means, "method", &[("SFT", "IA2")], &["run"], &["accuracy"], 0.95)?;
    assert_eq!(tested.column("pairs")?.u32()?.get(0), Some(2));
    let by_hand = paired_t(&[0.6, 0.4], &[0.8, 0.9], 0.95)?;
    assert!((tested.column("p_t")?.f64()?.get(0).unwrap() - by_hand.p).abs() < 1e-9);
    refused(averaged(&frame, "method", &[], &["accuracy"]), &["names the run"]);
    refused(averaged(&frame, "method", &["seed"], &["accuracy"]), &["no column `seed`"]);
    refused(averaged(&frame.head(Some(0)), "method", &["run"], &["accuracy"]), &["one row"]);
    Ok(())
}
