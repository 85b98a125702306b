//! The ends of what is allowed, from both sides, and values where a formula is at its edge.

use polars::prelude::*;

use super::crossing::critical;
use super::*;
use crate::display::Show;

fn says<T>(result: Result<T>, words: &str) {
    let error = result.err().expect("this must be refused").to_string();
    assert!(error.contains(words), "`{words}` is not in: {error}");
}

/// Two tasks: one of two runs with three rows each, one of three runs with one row each.
fn uneven(values: [f64; 9]) -> DataFrame {
    df!(
        "value" => values, "task" => ["a", "a", "a", "a", "a", "a", "b", "b", "b"],
        "run" => [0, 0, 0, 1, 1, 1, 2, 3, 4], "row" => [0, 1, 2, 0, 1, 2, 3, 3, 3]
    )
    .unwrap()
}

fn mean_of(values: [f64; 9], level: f64) -> Result<CrossedMean> {
    crossed_mean(&uneven(values), "value", &["task"], &["run"], &["row"], level)
}

#[test]
fn friedman_of_the_least_data_by_hand() {
    // Ranks 1, 2, 3 in both blocks: 12 * 2 / (3 * 4) * (1 + 4 + 9) - 3 * 2 * 4 = 4, and the chi-square of two degrees has exp(-4 / 2) above it.
    let found = friedman(&[vec![1.0, 0.1], vec![2.0, 0.2], vec![3.0, 0.3]]).unwrap();
    assert_eq!((found.ranks.as_slice(), found.blocks), ([1.0, 2.0, 3.0].as_slice(), 2));
    assert!((found.statistic - 4.0).abs() < 1e-12 && (found.p - (-2.0f64).exp()).abs() < 1e-12, "{found:?}");
    says(friedman(&[vec![1.0], vec![2.0], vec![3.0]]), "3 methods and 2 blocks at least, not 3 and 1");
    says(friedman(&[]), "not 0 and 0");
}

#[test]
fn critical_differences_have_their_limits() {
    assert!(nemenyi(2, 2, 0.05).is_ok() && nemenyi(200, 2, 0.05).is_ok());
    for (methods, blocks, level) in [(1, 5, 0.05), (201, 5, 0.05), (3, 1, 0.05), (3, 5, 0.0), (3, 5, 1.0)] {
        says(nemenyi(methods, blocks, level), "2 to 200 methods");
    }
}

#[test]
fn tests_of_few_pairs_have_their_limits() {
    says(paired_t(&[0.0], &[1.0], 0.95), "1 pairs are too few, at least 2");
    says(mean_interval(&[1.0], 0.95), "at least 2 values");
    // Of 1 and 3: 2 ± t s / √2 with s = √2 and t = tan(π / 4) = 1, the quartile of Student's t of one degree.
    let two = mean_interval(&[1.0, 3.0], 0.5).unwrap();
    assert!((two.lower - 1.0).abs() < 1e-9 && (two.upper - 3.0).abs() < 1e-9 && two.count == 2, "{two:?}");
    // One difference has one sign or the other: the least p is 1.
    let one = wilcoxon(&[0.0], &[-2.0]).unwrap();
    assert_eq!((one.positive, one.negative, one.count, one.p, one.exact), (0.0, 1.0, 1, 1.0, true));
    for level in [0.0, 1.0] {
        says(mean_interval(&[1.0, 3.0], level), "(0, 1)");
        says(mean_of([0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.1, 0.2, 0.4], level), "(0, 1)");
    }
    assert_eq!(holm(&[]).unwrap(), [0.0; 0]);
    assert_eq!(holm(&[0.0, 1.0]).unwrap(), [0.0, 1.0]);
    says(holm(&[1.5]), "the one at 0 is 1.5");
    says(holm(&[0.5, -0.5]), "the one at 1 is -0.5");
}

#[test]
fn up_to_fifty_differences_are_counted_out() {
    let (zeros, ones): (Vec<f64>, Vec<f64>) = ((0..51).map(|_| 0.0).collect(), (1..=51).map(f64::from).collect());
    let counted = wilcoxon(&zeros[..50], &ones[..50]).unwrap();
    // All signs alike: two of the 2^50 choices.
    assert_eq!((counted.exact, counted.p), (true, 2f64.powi(-49)));
    assert!(!wilcoxon(&zeros, &ones).unwrap().exact);
}

#[test]
fn a_mean_counts_what_it_is_over() {
    let found = mean_of([0.0, 0.3, 0.6, 0.2, 0.5, 0.8, 1.0, 0.9, 0.5], 0.95).unwrap();
    // 0.4 and 0.8, each task with equal weight.
    assert!((found.mean - 0.6).abs() < 1e-12, "{found:?}");
    assert_eq!((found.values, found.strata, found.runs, found.rows), (9, 2, 5, 4));
    assert_eq!((found.runs_each, found.rows_each), (2.5, 1.8));
    assert!((found.error * found.error - (found.run_variance + found.row_variance)).abs() < 1e-15);
    assert!((found.t - found.mean / found.error).abs() < 1e-12 && (found.upper + found.lower - 2.0 * found.mean).abs() < 1e-12);
}

#[test]
fn values_that_are_all_alike_have_no_error() {
    for (value, t, p, power) in [(0.25, f64::INFINITY, 0.0, 1.0), (-0.25, f64::NEG_INFINITY, 0.0, 1.0), (0.0, 0.0, 1.0, 1.0)] {
        let found = mean_of([value; 9], 0.9).unwrap();
        assert_eq!((found.t, found.p, found.lower, found.upper), (t, p, value, value));
        assert_eq!(found.power(0.1, 5, 5).unwrap(), power);
        // Where there is nothing to find, the test rejects at its level.
        assert!((found.power(0.0, 5, 5).unwrap() - 0.1).abs() < 1e-12);
    }
    // A third of 10^9 has a rounding in its mean that is no error.
    assert_eq!(mean_of([1e9 / 3.0; 9], 0.9).unwrap().t, f64::INFINITY);
}

#[test]
fn what_power_cannot_be_asked_for_is_refused() {
    let found = mean_of([0.0, 0.3, 0.6, 0.2, 0.5, 0.8, 1.0, 0.9, 0.5], 0.95).unwrap();
    for (effect, runs, rows) in [(0.1, 1, 5), (0.1, 5, 0), (f64::INFINITY, 5, 5)] {
        says(found.power(effect, runs, rows), "at least 2 runs, 1 row and a finite effect");
    }
    assert!(found.power(0.1, 2, 1).unwrap() > 0.0);
    assert_eq!(found.power(0.1, 5, 5).unwrap(), found.power(-0.1, 5, 5).unwrap());
    for power in [0.0, 1.0] {
        says(found.detectable(power), "(0, 1)");
        says(found.runs_needed(0.1, power), "(0, 1)");
    }
    for effect in [0.0, f64::NAN] {
        says(found.rows_needed(effect, 0.8), "no study finds an effect");
    }
    // An effect far above the error needs the fewest there are, one far below it more than are looked at.
    assert_eq!((found.runs_needed(1e3, 0.8).unwrap(), found.rows_needed(1e3, 0.8).unwrap()), (Some(2), Some(1)));
    assert_eq!(found.runs_needed(1e-9, 0.8).unwrap(), None);
}

#[test]
fn ties_go_by_the_size_of_the_values() {
    for scale in [1e-9, 1.0, 1e9] {
        let of = |values: [f64; 2]| values.map(|value| value * scale).to_vec();
        // 0.1 + 0.2 is a rounding above 0.3, and 0.4 is more than that.
        let found = friedman(&[of([0.1 + 0.2, 1.0]), of([0.3, 2.0]), of([0.4, 3.0])]).unwrap();
        assert_eq!(found.ranks, [1.25, 1.75, 3.0], "at {scale}");
    }
}

#[test]
fn power_has_the_degrees_of_what_is_uncertain() {
    let mut found = mean_of([0.0, 0.3, 0.6, 0.2, 0.5, 0.8, 1.0, 0.9, 0.5], 0.95).unwrap();
    let expected = |variance: f64, degrees: f64| power::of_t(0.1 / variance.sqrt(), degrees, critical(0.95, degrees).unwrap()).unwrap();
    // Runs without an effect: all is of the 4 rows, of which 9 for each run in place of 1.8 make 20.
    (found.run_variance, found.row_variance, found.rest_variance) = (0.0, 0.04, 0.0);
    assert!((found.power(0.1, 5, 9).unwrap() - expected(0.04 / 5.0, 19.0)).abs() < 1e-12);
}

#[test]
fn rows_that_come_once_have_no_effect_of_their_own() {
    let frame = df!("value" => [0.0, 1.0, 3.0, 0.5, 1.5, 4.0], "run" => [0, 0, 0, 1, 1, 1], "row" => [0, 1, 2, 3, 4, 5]).unwrap();
    let found = mixed_model(&frame, "value", &[], &["run"], &["row"], 0.95).unwrap();
    assert!(found.row_deviation == 0.0 && found.rest_deviation > 1.0, "{found:?}");
    let of = |name: &str| found.frame().column(name).unwrap().f64().unwrap().get(0).unwrap();
    let half = critical(0.95, of("degrees")).unwrap() * of("error");
    assert!(
        (of("upper") - of("estimate") - half).abs() < 1e-12 && (of("estimate") - of("lower") - half).abs() < 1e-12,
        "{:?}",
        found.frame()
    );
}

#[test]
fn results_show_their_numbers() {
    let (first, second) = ([0.0, 0.0, 0.0], [1.0, 2.0, 3.0]);
    for (shown, words) in [
        (wilcoxon(&first, &second).unwrap().bundle(), "signed-rank test (exact): positive 6, negative 0, count 3, p 0.25"),
        (paired_t(&first, &second, 0.95).unwrap().bundle(), "paired t-test: difference 2"),
        (mean_interval(&second, 0.95).unwrap().bundle(), "mean: mean 2, std 1"),
        (friedman(&[vec![1.0, 0.1], vec![2.0, 0.2], vec![3.0, 0.3]]).unwrap().bundle(), "Friedman's test: statistic 4"),
        (mean_of([0.25; 9], 0.95).unwrap().bundle(), "mean over runs and rows: mean 0.25"),
    ] {
        assert!(shown.plain.contains(words), "{}", shown.plain);
    }
}
