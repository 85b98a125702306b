//! How often tests of studies reject where there is nothing to find.

use super::paired_t;
use crate::random::Random;

const RUNS: usize = 5;
const SIZES: usize = 4;
const TESTS: usize = 2;

/// A standard normal draw (Box and Muller).
fn normal(random: &mut Random) -> f64 {
    (-2.0 * (1.0 - random.unit()).ln()).sqrt() * (std::f64::consts::TAU * random.unit()).cos()
}

/// The differences of two equally good methods `[run][size and test]`: what a draw of data favours it favours at every N, for its training sets
/// are nested, and what a training favours it favours on both tasks it is tested on.
fn differences(random: &mut Random) -> Vec<Vec<f64>> {
    let run = |random: &mut Random| {
        let draw = normal(random);
        let size = |random: &mut Random| {
            let training = normal(random);
            (0..TESTS).map(|_| 0.7 * draw + 0.7 * training + 0.4 * normal(random)).collect::<Vec<_>>()
        };
        (0..SIZES).flat_map(|_| size(random)).collect()
    };
    (0..RUNS).map(|_| run(random)).collect()
}

/// Shares of studies with p below 0.05: all differences as if independent, and one mean of each run.
fn rejected(studies: usize) -> (f64, f64) {
    let mut random = Random::new(0, "null", 0);
    let (mut pooled, mut by_run) = (0, 0);
    let rejects = |differences: &[f64]| paired_t(&vec![0.0; differences.len()], differences, 0.95).unwrap().p < 0.05;
    for _ in 0..studies {
        let runs = differences(&mut random);
        pooled += usize::from(rejects(&runs.concat()));
        let means: Vec<f64> = runs.iter().map(|run| run.iter().sum::<f64>() / run.len() as f64).collect();
        by_run += usize::from(rejects(&means));
    }
    (pooled as f64 / studies as f64, by_run as f64 / studies as f64)
}

#[test]
fn a_test_of_runs_rejects_as_often_as_it_says_and_one_of_nested_trainings_does_not() {
    let (pooled, by_run) = rejected(2_000);
    // Two and a half standard errors of a share of 0.05.
    assert!((by_run - 0.05).abs() < 0.0125, "{by_run}");
    assert!(pooled > 0.2, "{pooled}: the simulation shows nothing");
}

#[test]
#[ignore = "the number in the documentation: 100,000 studies"]
fn the_rates_that_the_documentation_names() {
    let (pooled, by_run) = rejected(100_000);
    println!("rejected at 0.05: {pooled:.3} of studies with all differences pooled, {by_run:.3} with one mean of each run");
    assert!((by_run - 0.05).abs() < 0.002, "{by_run}");
}
