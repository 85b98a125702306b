//! What every entry of the table declares.

use super::read::Labels;
use super::*;
use crate::compat::Compat;
use crate::display::Show;

/// All columns of [`evaluate`](crate::evaluate::evaluate) that metrics read, from the probabilities of three labels and the gold one's place.
fn frame(rows: &[([f64; 3], usize)]) -> DataFrame {
    let best = |row: &[f64; 3]| (0..3).fold(0, |best, place| if row[place] > row[best] { place } else { best });
    let of = |name: usize| rows.iter().map(|(row, _)| row[name]).collect::<Vec<_>>();
    df!(
        "gold" => rows.iter().map(|(_, gold)| ["a", "b", "c"][*gold]).collect::<Vec<_>>(),
        "correct" => rows.iter().map(|(row, gold)| best(row) == *gold).collect::<Vec<_>>(),
        "confidence" => rows.iter().map(|(row, _)| row[best(row)]).collect::<Vec<_>>(),
        "nll" => rows.iter().map(|(row, gold)| -row[*gold].ln()).collect::<Vec<_>>(),
        "entropy" => rows.iter().map(|(row, _)| -row.iter().map(|p| if *p > 0.0 { p * p.ln() } else { 0.0 }).sum::<f64>()).collect::<Vec<_>>(),
        "label_mass" => vec![0.8; rows.len()],
        "top_1_correct" => rows.iter().map(|(row, gold)| best(row) == *gold).collect::<Vec<_>>(),
        "top_1_confidence" => rows.iter().map(|(row, _)| row[best(row)]).collect::<Vec<_>>(),
        "top_10_mass" => rows.iter().map(|(row, _)| 0.9 + 0.1 * row[best(row)]).collect::<Vec<_>>(),
        "p_a" => of(0),
        "p_b" => of(1),
        "p_c" => of(2),
    )
    .unwrap()
}

/// 30 rows: confidences spread over [0.5, 1), every third wrong.
fn sample() -> DataFrame {
    let row = |i: usize| {
        ([0.5 + i as f64 / 60.0, 0.3 - i as f64 / 100.0, 0.2 - i as f64 / 150.0], if i.is_multiple_of(3) { 1 + i % 2 } else { 0 })
    };
    frame(&(0..30).map(row).collect::<Vec<_>>())
}

#[test]
fn every_metric_keeps_what_its_entry_says() {
    let best = frame(&[([1.0, 0.0, 0.0], 0); 15]);
    // Sure of another label, undecided between two others, sure of the other of two.
    let wrong = frame(&[([1.0, 0.0, 0.0], 1); 15]);
    let worst = [wrong.drop("p_c").unwrap(), frame(&[([0.5, 0.5, 0.0], 2); 15]), wrong];
    for metric in METRICS.iter().chain([&recipe::ENTRY]) {
        let name = metric.name;
        assert!(METRICS.iter().filter(|other| other.name == name).count() < 2, "{name} is there twice");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{name}");
        assert!(!metric.unit.is_empty() && !metric.what.is_empty() && metric.range.0 < metric.range.1, "{name}");
        let (low, high) = metric.range;
        let value = metric.compute(&sample()).unwrap();
        assert!((low..=high).contains(&value), "{name}: {value}");
        let (good, bad) = (metric.compute(&best).unwrap(), worst.each_ref().map(|worst| metric.compute(worst).unwrap()));
        match metric.direction {
            Direction::Higher => assert_eq!((good, bad.into_iter().fold(1.0, f64::min)), (high, low), "{name}"),
            Direction::Lower => assert_eq!((good, bad.into_iter().fold(0.0, f64::max)), (low, high), "{name}"),
            Direction::Neutral => {}
        }
        for &column in metric.columns {
            let lacking = sample().drop_many(read::named(&sample(), &[column]));
            let error = metric.compute(&lacking).unwrap_err().to_string();
            assert!(error.contains(&format!("no column `{column}`; it has")), "{name}: {error}");
            let error = metric.compute(&sample().head(Some(0))).unwrap_err();
            assert!(error.is_input() && error.to_string().contains("no rows"), "{name}: {error}");
        }
        // It reads no column that it does not name.
        let named = sample().select(read::named(&sample(), metric.columns)).unwrap();
        assert_eq!(metric.compute(&named).unwrap(), value, "{name}");
        let interval = metric.bootstrap(&sample(), 50, 0.9, 0).unwrap();
        assert!(interval.value == value && interval.lower < interval.upper && interval.std > 0.0, "{name}: {interval:?}");
        assert!((low..=high).contains(&interval.lower) && (low..=high).contains(&interval.upper), "{name}: {interval:?}");
    }
    assert!(Metric::named("acc").unwrap_err().to_string().contains("there are accuracy, "));
}

#[test]
fn label_metrics_by_hand() {
    let frame = frame(&[([0.5, 0.5, 0.0], 1), ([0.2, 0.3, 0.5], 0), ([0.6, 0.3, 0.1], 0), ([0.4, 0.4, 0.2], 2)]);
    // The first is a tie: the answer given is the other label.
    assert_eq!((accuracy(&frame).unwrap(), label_set_accuracy(&frame).unwrap()), (0.25, 0.5));
    assert_eq!([1, 2, 3].map(|k| top_k(&frame, k).unwrap()), [0.5, 0.5, 1.0]);
    let expected = (0.5 + (0.64 + 0.09 + 0.25) + (0.16 + 0.09 + 0.01) + (0.16 + 0.16 + 0.64)) / 4.0;
    assert!((brier(&frame).unwrap() - expected).abs() < 1e-12);
    // One bin for each label: |1/2 - .425|, |1/4 - .375|, |1/4 - .2|.
    let expected = (0.075 + 0.125 + 0.05) / 3.0;
    assert!((classwise_ece(&frame, Binning::EqualMass(1)).unwrap() - expected).abs() < 1e-12);
    for k in [0, 4] {
        assert!(top_k(&frame, k).unwrap_err().to_string().contains("ask for 1 to 3"));
    }
    let changed = |name: &str, column: Column| {
        let mut changed = frame.clone();
        changed.with_column(column.with_name(name.into())).unwrap();
        brier(&changed).unwrap_err().to_string()
    };
    assert!(changed("gold", Column::new("".into(), ["a", "b", "d", "a"])).contains("\"d\" in row 2, which is none of"));
    assert!(changed("gold", Column::new("".into(), [0, 1, 2, 0])).contains("must hold text"));
    assert!(changed("p_a", Column::new("".into(), [0.5, 0.2, 0.6, 0.5])).contains("in row 3, not to 1"));
    assert!(changed("p_a", Column::new("".into(), [0.5, f64::NAN, 0.6, 0.4])).contains("NaN in row 1"));
}

#[test]
fn the_authors_confidences_by_hand() {
    let frame = frame(&[([0.75, 0.25, 0.0], 0), ([0.5, 0.5, 0.0], 1)]);
    assert!(as_reported(&frame, Compat::Corrected).unwrap().equals(&frame));
    let paper = as_reported(&frame, Compat::Paper).unwrap();
    let numbers = |name: &str| paper.column(name).unwrap().f64().unwrap().to_vec();
    // Softmax of (0.6, 0.2, 0) and of (0.4, 0.4, 0).
    let [first, second] = [0.6f64.exp() / (0.6f64.exp() + 0.2f64.exp() + 1.0), 0.4f64.exp() / (2.0 * 0.4f64.exp() + 1.0)];
    assert!((numbers("confidence")[0].unwrap() - first).abs() < 1e-12 && (numbers("confidence")[1].unwrap() - second).abs() < 1e-12);
    assert_eq!(accuracy(&paper).unwrap(), 1.0);
    assert!((ece(&paper, Binning::standard(Compat::Paper)).unwrap() - (1.0 - (first + second) / 2.0)).abs() < 1e-12);
    let error = as_reported(&frame.drop("label_mass").unwrap(), Compat::Paper).unwrap_err().to_string();
    assert!(error.contains("no column `label_mass`"), "{error}");
}

#[test]
fn a_temperature_is_found_and_undone() {
    let frame = sample();
    let fitted = fit_temperature(&frame).unwrap();
    assert!(fitted.nll_after <= fitted.nll_before && (fitted.nll_before - mean_nll(&frame).unwrap()).abs() < 1e-12);
    let scaled = with_temperature(&frame, fitted.value).unwrap();
    for value in [mean_nll(&scaled).unwrap(), Labels::of(&scaled).unwrap().mean(|row, gold| -row[gold].ln())] {
        assert!((value - fitted.nll_after).abs() < 1e-12);
    }
    assert!((fit_temperature(&scaled).unwrap().value - 1.0).abs() < 1e-6);
    // The probabilities of a doubled temperature have half the distance in logs, and their best temperature doubles as well.
    let doubled = fit_temperature(&with_temperature(&frame, 0.5).unwrap()).unwrap().value;
    assert!((doubled - 2.0 * fitted.value).abs() < 1e-6, "{doubled}");
    assert_eq!(accuracy(&scaled).unwrap(), accuracy(&frame).unwrap());
    assert_ne!(mean_entropy(&scaled).unwrap(), mean_entropy(&frame).unwrap());
    let fails = |rows: &[([f64; 3], usize)], word: &str| {
        let error = fit_temperature(&super::tests::frame(rows)).unwrap_err();
        assert!(error.is_numeric() && error.to_string().contains(word), "{error}");
    };
    fails(&[([0.6, 0.3, 0.1], 0), ([0.2, 0.7, 0.1], 1)], "the best temperature is 0");
    fails(&[([0.6, 0.3, 0.1], 2), ([0.2, 0.7, 0.1], 0)], "no better than an even guess");
    fails(&[([1.0, 0.0, 0.0], 2)], "probability 0 in row 0");
    assert!(with_temperature(&frame, 0.0).unwrap_err().to_string().contains("above 0"));
}

#[test]
fn bootstrap_draws_repeat_with_their_seed() {
    let metric = Metric::named("accuracy").unwrap();
    let one = metric.bootstrap(&sample(), 400, 0.95, 1).unwrap();
    assert_eq!(one, metric.bootstrap(&sample(), 400, 0.95, 1).unwrap());
    assert_ne!(one, metric.bootstrap(&sample(), 400, 0.95, 2).unwrap());
    // The standard error of a share: sqrt(2/3 * 1/3 / 30) = 0.086.
    assert!((one.std - (2.0f64 / 270.0).sqrt()).abs() < 0.01, "{one:?}");
    for (draws, level) in [(1, 0.95), (100, 1.0)] {
        assert!(metric.bootstrap(&sample(), draws, level, 0).unwrap_err().to_string().contains("2 to 1000000 draws"));
    }
}

#[test]
fn bad_columns_are_named() {
    let bad = |correct: Column, confidence: Column| {
        let frame = DataFrame::new_infer_height(vec![correct, confidence]).unwrap();
        ece(&frame, Binning::EqualWidth(2)).unwrap_err()
    };
    let right = || Column::new("correct".into(), [true, false]);
    let sure = || Column::new("confidence".into(), [0.5, 0.6]);
    let error = bad(right(), Column::new("confidence".into(), [0.5, f64::NAN]));
    assert!(error.is_numeric() && error.to_string().contains("NaN in row 1"), "{error}");
    for (error, word) in [
        (bad(right(), Column::new("confidence".into(), [1.5, 0.5])), "it is 1.5 in row 0"),
        (bad(right(), Column::new("confidence".into(), [-0.1, 0.5])), "in [0, 1]"),
        (bad(right(), Column::new("confidence".into(), [f64::INFINITY, 0.5])), "in [0, 1]"),
        (bad(right(), Column::new("confidence".into(), [None, Some(0.5)])), "no value in row 0"),
        (bad(right(), Column::new("confidence".into(), ["a", "b"])), "of type str"),
        (bad(Column::new("correct".into(), [1_i32, 0]), sure()), "of type i32"),
        (bad(Column::new("correct".into(), [Some(true), None]), sure()), "`correct` has no value in row 1"),
    ] {
        assert!(error.is_input() && error.to_string().contains(word), "{error}");
    }
    assert!(accuracy(&DataFrame::default()).unwrap_err().to_string().contains("it has no columns"));
}

#[test]
fn single_precision_confidences_are_read() {
    let frame = df!("correct" => [true], "confidence" => [0.25_f32]).unwrap();
    assert_eq!(ece(&frame, Binning::EqualWidth(15)).unwrap(), 0.75);
}

#[test]
fn a_summary_says_what_is_not_defined() {
    let frame = summary(&sample().head(Some(4))).unwrap();
    assert_eq!(frame.get_column_names(), ["metric", "value", "unit", "direction", "note"]);
    let (value, note) = (frame.column("value").unwrap().f64().unwrap(), frame.column("note").unwrap().str().unwrap());
    assert_eq!(value.len(), METRICS.len());
    assert_eq!((value.get(0), note.get(0)), (Some(0.5), None));
    let mass = METRICS.iter().position(|metric| metric.name == "ece_equal_mass_15").unwrap();
    assert_eq!(value.get(mass), None);
    assert!(note.get(mass).unwrap().contains("4 rows"));
    assert_eq!(summary(&df!("correct" => [true]).unwrap()).unwrap().height(), 1);
    assert!(summary(&df!("right" => [true]).unwrap()).unwrap_err().to_string().contains("it has `right`"));
}

/// A study refuses a record whose value lies outside its metric's range.
#[test]
fn no_rounding_takes_a_value_out_of_its_range() {
    for rows in 2..300 {
        let confidence: Vec<f64> = (0..rows).map(|row| f64::from(row + 1) / f64::from(rows + 1)).collect();
        for right in [false, true] {
            let frame = df!("confidence" => &confidence, "correct" => vec![right; confidence.len()]).unwrap();
            for name in ["augrc", "aurc", "smooth_ece"] {
                let metric = Metric::named(name).unwrap();
                let value = metric.compute(&frame).unwrap();
                assert!((metric.range.0..=metric.range.1).contains(&value), "{name} of {rows} rows: {value}");
            }
        }
    }
}

#[test]
fn a_rounding_beyond_the_range_is_put_back_and_nothing_else() {
    let of = |compute: fn(&DataFrame) -> Result<f64>| Metric { compute, range: (0.0, 1.0), ..METRICS[0] }.compute(&sample()).unwrap();
    let found = [of(|_| Ok(1.0 + 1e-12)), of(|_| Ok(-1e-12)), of(|_| Ok(1.5)), of(|_| Ok(-0.5)), of(|_| Ok(0.25))];
    assert_eq!(found, [1.0, 0.0, 1.5, -0.5, 0.25]);
}

#[test]
fn a_smooth_curve_covers_all_confidences() {
    let frame = df!("confidence" => [0.2, 0.4, 0.6, 0.9], "correct" => [false, true, false, true]).unwrap();
    let smooth = smooth_calibration(&frame).unwrap();
    let curve = smooth.curve();
    let of = |name: &str| curve.column(name).unwrap().f64().unwrap().into_no_null_iter().collect::<Vec<f64>>();
    let (places, density) = (of("confidence"), of("density"));
    let last = places.len() - 1;
    assert!(places.iter().enumerate().all(|(at, place)| (place - at as f64 / last as f64).abs() < 1e-12), "{places:?}");
    // A density: its mean over [0, 1] is 1.
    assert!((density.iter().sum::<f64>() / density.len() as f64 - 1.0).abs() < 0.05, "{density:?}");
}

#[test]
fn settings_have_their_limits() {
    let rows = sample();
    assert!(ece(&rows, Binning::EqualWidth(10_000)).is_ok());
    assert!(ece(&rows, Binning::EqualWidth(10_001)).unwrap_err().to_string().contains("10000 bins at most"));
    let accuracy = Metric::named("accuracy").unwrap();
    assert!(accuracy.bootstrap(&rows, 2, 0.5, 0).is_ok());
    for (draws, level) in [(1_000_001, 0.95), (2, 0.0), (2, 1.0)] {
        assert!(accuracy.bootstrap(&rows, draws, level, 0).unwrap_err().to_string().contains("2 to 1000000 draws"), "{draws}, {level}");
    }
    for temperature in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(with_temperature(&rows, temperature).unwrap_err().to_string().contains("above 0"), "{temperature}");
    }
}

#[test]
fn a_temperature_by_hand() {
    // 0.8 and 0.2 at half the temperature: their squares, 0.64 and 0.04, by their sum.
    let frame = df!("gold" => ["a"], "p_a" => [0.8], "p_b" => [0.2], "nll" => [0.0], "entropy" => [0.0]).unwrap();
    let cold = with_temperature(&frame, 0.5).unwrap();
    let (first, second) = (16.0 / 17.0, 1.0 / 17.0);
    let entropy: f64 = -first * f64::ln(first) - second * f64::ln(second);
    for (name, expected) in [("p_a", first), ("p_b", second), ("confidence", first), ("nll", -first.ln()), ("entropy", entropy)] {
        let value = cold.column(name).unwrap().f64().unwrap().get(0).unwrap();
        assert!((value - expected).abs() < 1e-12, "{name}: {value} and {expected}");
    }
    // What the frame does not have is not made.
    let bare = with_temperature(&frame.drop("nll").unwrap().drop("entropy").unwrap(), 0.5).unwrap();
    assert!(bare.column("nll").is_err() && bare.column("entropy").is_err());
}

#[test]
fn a_summary_says_what_its_numbers_are() {
    let frame = summary(&sample()).unwrap();
    let of = |name: &str, metric: &str| {
        let row = METRICS.iter().position(|one| one.name == metric).unwrap();
        frame.column(name).unwrap().str().unwrap().get(row).unwrap().to_string()
    };
    for (metric, unit, direction) in [("accuracy", "fraction", "higher"), ("nll", "nat", "lower"), ("entropy", "nat", "neutral")] {
        assert_eq!((of("metric", metric), of("unit", metric), of("direction", metric)), (metric.into(), unit.into(), direction.into()));
    }
}

#[test]
fn an_under_confident_model_has_a_temperature_below_one() {
    // 0.6 sure and right in 9 of 10: the logit of 0.6 over T is that of 0.9.
    let rows: Vec<([f64; 3], usize)> = (0..10).map(|row| ([0.6, 0.4, 0.0], usize::from(row == 0))).collect();
    let fitted = fit_temperature(&frame(&rows).drop("p_c").unwrap()).unwrap();
    assert!((fitted.value - 1.5f64.ln() / 9.0f64.ln()).abs() < 1e-9, "{fitted:?}");
    assert!((fitted.nll_after + (0.9 * 0.9f64.ln() + 0.1 * 0.1f64.ln())).abs() < 1e-9, "{fitted:?}");
}

#[test]
fn a_prior_changes_the_entropy() {
    // 0.6 / 3 to 0.4 / 1 is 1 to 2.
    let two = frame(&[([0.6, 0.4, 0.0], 0)]).drop("p_c").unwrap();
    let changed = with_prior(&two, &[3.0, 1.0]).unwrap();
    let entropy = changed.column("entropy").unwrap().f64().unwrap().get(0).unwrap();
    assert!((entropy - (3f64.ln() - 2.0 / 3.0 * 2f64.ln())).abs() < 1e-12, "{entropy}");
    let sure = with_prior(&frame(&[([1.0, 0.0, 0.0], 0)]), &[1.0, 1.0, 1.0]).unwrap();
    assert_eq!(sure.column("entropy").unwrap().f64().unwrap().get(0), Some(0.0));
}

#[test]
fn values_show_their_numbers() {
    let temperature = Temperature { value: 1.5, nll_before: 0.7, nll_after: 0.6 };
    assert_eq!(temperature.bundle().plain, "temperature: value 1.5, nll before 0.7, nll after 0.6");
    let interval = Interval { value: 0.5, lower: 0.25, upper: 0.75, std: 0.125, level: 0.9 };
    assert_eq!(interval.bundle().plain, "interval: value 0.5, lower 0.25, upper 0.75, std 0.125, level 0.9");
    let rows = sample();
    for (shown, word) in [
        (smooth_calibration(&rows).unwrap().bundle(), "smooth ECE"),
        (debiased_ce_interval(&rows, Binning::EqualMass(5), 0.9).unwrap().bundle(), "debiased l2 calibration error: value"),
        (brier_parts(&rows, Binning::EqualMass(5)).unwrap().bundle(), "Brier score: score"),
    ] {
        assert!(shown.plain.contains(word), "{}", shown.plain);
    }
}
