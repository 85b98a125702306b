//! What every entry of the table declares, on random data.

use tch::{Device::Cpu, Kind, Tensor};

use super::*;
use crate::random::Random;

thread_local! {
    /// libtorch's seed is one for all threads, and tests run side by side: with it, what a test draws would differ from run to run.
    static DRAWS: std::cell::RefCell<Random> = std::cell::RefCell::new(Random::new(7, "test", 0));
}

/// Standard normal (Box and Muller); the same in every run of a test.
fn random(shape: &[i64]) -> Tensor {
    let count = shape.iter().product::<i64>();
    let normal = || DRAWS.with_borrow_mut(|draws| (-2.0 * (1.0 - draws.unit()).ln()).sqrt() * (std::f64::consts::TAU * draws.unit()).cos());
    Tensor::from_slice(&(0..count).map(|_| normal()).collect::<Vec<_>>()).reshape(shape)
}

fn of(values: &Tensor) -> Representation {
    Representation::new(values).unwrap()
}

fn rotation(width: i64) -> Tensor {
    Tensor::linalg_qr(&random(&[width, width]), "reduced").0
}

/// Two views of shared causes, `[example, width]`.
fn related(examples: i64, width: i64) -> (Tensor, Tensor) {
    let cause = random(&[examples, 3]);
    let view = |noise: f64| cause.matmul(&random(&[3, width])) + random(&[examples, width]) * noise;
    (view(0.5), view(0.8))
}

/// Shapes on which a measure is defined: CCA needs more examples than directions.
fn shapes(measure: &Measure) -> &'static [(i64, i64)] {
    if measure.name == "cca" { &[(40, 1), (40, 5), (60, 12)] } else { &[(32, 1), (32, 5), (12, 40), (32, 64)] }
}

fn change(invariance: Invariance, a: &Tensor, b: &Tensor) -> (Tensor, Tensor) {
    let width = a.size()[1];
    let invertible = || rotation(width).matmul(&Tensor::linspace(0.5, 2.0, width, (Kind::Double, Cpu)).diag(0)).matmul(&rotation(width));
    match invariance {
        Invariance::Scaling => (a * 37.5, b * 1e-3),
        Invariance::Translation => (a + random(&[width]) * 10.0, b + random(&[width])),
        Invariance::Rotation => (a.matmul(&rotation(width)), b.matmul(&rotation(width))),
        Invariance::Linear => (a.matmul(&invertible()), b.matmul(&invertible())),
        Invariance::Exchange => (b.shallow_clone(), a.shallow_clone()),
        Invariance::SharedRotation => {
            let rotation = rotation(width);
            (a.matmul(&rotation), b.matmul(&rotation))
        }
        Invariance::Order => {
            let order = Tensor::randperm(a.size()[0], (Kind::Int64, Cpu));
            (a.index_select(0, &order), b.index_select(0, &order))
        }
    }
}

#[test]
fn every_measure_keeps_its_range_identity_and_declared_invariances() {
    for measure in MEASURES.iter().chain([&recipe::ENTRY]) {
        let mut broken = vec![false; ALL.len()];
        for &(examples, width) in shapes(measure) {
            for (a, b) in [related(examples, width), (random(&[examples, width]), random(&[examples, width]))] {
                let name = format!("{} [{examples}, {width}]", measure.name);
                let value = measure.compute(&of(&a), &of(&b)).unwrap();
                let (least, greatest) = measure.range;
                assert!((least..=greatest).contains(&value), "{name}: {value} is out of range");
                assert!(value < greatest, "{name}: {value} for different data");
                let own = measure.compute(&of(&a), &of(&a)).unwrap();
                assert!((own - greatest).abs() < 1e-7, "{name}: {own} with itself");
                for (place, &invariance) in ALL.iter().enumerate() {
                    let (a, b) = change(invariance, &a, &b);
                    let changed = measure.compute(&of(&a), &of(&b)).unwrap();
                    let gap = (changed - value).abs();
                    broken[place] |= gap > 1e-4;
                    if measure.invariances.contains(&invariance) {
                        assert!(gap < 1e-7, "{name} under {invariance:?}: {value} became {changed}");
                    }
                }
            }
        }
        for (invariance, broken) in ALL.iter().zip(broken) {
            // A measure that never moves would pass every invariance.
            assert!(broken != measure.invariances.contains(invariance), "{}: is {invariance:?} declared rightly?", measure.name);
        }
    }
}

#[test]
fn debiased_measures_read_nothing_in_independent_data_and_the_others_do() {
    const DRAWS: usize = 60;
    for measure in MEASURES.iter().filter(|measure| !["asim", "cca"].contains(&measure.name)) {
        let values: Vec<f64> = (0..DRAWS).map(|_| measure.compute(&of(&random(&[32, 96])), &of(&random(&[32, 96]))).unwrap()).collect();
        let mean = values.iter().sum::<f64>() / DRAWS as f64;
        let std = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (DRAWS - 1) as f64).sqrt();
        let error = std / (DRAWS as f64).sqrt();
        // 3.5 standard errors: another seed would pass with a chance of 0.9995.
        assert_eq!(mean.abs() < 3.5 * error, measure.debiased, "{}: {mean} +- {error}", measure.name);
        if measure.debiased {
            assert!(mean.abs() < 0.03, "{}: {mean}", measure.name);
        }
    }
    let biased = Measure::named("linear_cka").unwrap().compute(&of(&random(&[32, 96])), &of(&random(&[32, 96]))).unwrap();
    assert!(biased > 0.5, "{biased}");
}

#[test]
fn every_measure_says_where_it_is_undefined() {
    for measure in MEASURES {
        let (name, fine) = (measure.name, random(&[20, 4]));
        assert!(!measure.about.is_empty() && !measure.undefined.is_empty() && Measure::named(name).unwrap().name == name);
        assert_eq!(MEASURES.iter().filter(|other| other.name == name).count(), 1, "{name} is there twice");
        let error = measure.compute(&of(&fine), &of(&random(&[19, 4]))).unwrap_err();
        assert!(error.is_input() && error.to_string().contains("20") && error.to_string().contains("19"), "{name}: {error}");
        if name == "asim" {
            let error = measure.compute(&of(&fine), &of(&fine.zeros_like())).unwrap_err();
            assert!(error.is_numeric() && error.to_string().contains("norm zero"), "{error}");
            continue;
        }
        // A third that rounds: centring leaves its rounding.
        let constant = Tensor::full([20, 4], 1.0 / 3.0, (Kind::Double, Cpu));
        for (a, b) in [(&fine, &constant), (&constant, &fine)] {
            let error = measure.compute(&of(a), &of(b)).unwrap_err();
            assert!(error.is_numeric() && error.to_string().contains("same for every example"), "{name}: {error}");
        }
        let error = measure.compute(&of(&random(&[2, 4])), &of(&random(&[2, 4]))).unwrap_err();
        assert!(error.is_input() && error.to_string().contains("give at least"), "{name}: {error}");
    }
    assert!(Measure::named("cka").unwrap_err().to_string().contains("there are asim, "));
    let nan = Tensor::full([4, 4], f64::NAN, (Kind::Double, Cpu));
    assert!(Representation::new(&nan).unwrap_err().is_numeric());
    for shape in [&[4i64][..], &[1, 4], &[4, 0], &[2, 2, 2]] {
        assert!(Representation::new(&random(shape)).unwrap_err().is_input(), "{shape:?}");
    }
    let error = cca(&of(&random(&[20, 10])), &of(&random(&[20, 10]))).unwrap_err();
    assert!(error.is_input() && error.to_string().contains("use svcca"), "{error}");
    // The corners of a simplex are equally far from each other.
    let simplex = of(&Tensor::eye(6, (Kind::Double, Cpu)));
    for name in ["debiased_cka", "debiased_rbf_cka", "rsa_pearson", "rsa_spearman", "debiased_distance_correlation"] {
        let error = Measure::named(name).unwrap().compute(&simplex, &of(&random(&[6, 3]))).unwrap_err();
        assert!(error.is_numeric() && error.to_string().contains("first representation: its examples"), "{name}: {error}");
    }
}

#[test]
fn single_precision_and_prepared_parts_change_nothing() {
    let (a, b) = related(40, 12);
    let (left, right) = (of(&a), of(&b));
    let (left_f32, right_f32) = (of(&a.to_kind(Kind::Float)), of(&b.to_kind(Kind::Float)));
    for measure in MEASURES {
        let alone = measure.compute(&of(&a), &of(&b)).unwrap();
        assert_eq!(measure.compute(&left, &right).unwrap(), alone, "{}", measure.name);
        let single = measure.compute(&left_f32, &right_f32).unwrap();
        assert!((single - alone).abs() < 1e-5, "{}: {single} and {alone}", measure.name);
        let (left_half, right_half) = (of(&a.to_kind(Kind::BFloat16)), of(&b.to_kind(Kind::BFloat16)));
        let half = measure.compute(&left_half, &right_half).unwrap();
        assert!((half - alone).abs() < 0.02, "{}: {half} and {alone}", measure.name);
        let whole = |values: &Tensor| of(&(values * 1000.0).round().to_kind(Kind::Int64));
        let half = measure.compute(&whole(&a), &whole(&b)).unwrap();
        assert!((half - alone).abs() < 0.01, "{}: {half} and {alone}", measure.name);
    }
}

#[test]
fn narrow_and_repeated_data_have_a_procrustes_value() {
    // Of rank 3 in 40 dimensions: Cholesky's factorisation fails and eigenvectors are taken.
    let (causes, there, back) = (random(&[20, 3]), random(&[3, 40]), random(&[3, 40]));
    let (a, b) = (causes.matmul(&there), (&causes + random(&[20, 3])).matmul(&back));
    let direct = |a: &Tensor, b: &Tensor| {
        let centred = |values: &Tensor| values - values.mean_dim([0i64].as_slice(), true, Kind::Double);
        let (a, b) = (centred(a), centred(b));
        let nuclear = a.tr().matmul(&b).svd(true, false).1.sum(Kind::Double).double_value(&[]);
        nuclear / (a.norm().double_value(&[]) * b.norm().double_value(&[]))
    };
    let value = procrustes(&of(&a), &of(&b)).unwrap();
    assert!((value - direct(&a, &b)).abs() < 1e-6, "{value} and {}", direct(&a, &b));
    let (a, b) = related(20, 40);
    let value = procrustes(&of(&a), &of(&b)).unwrap();
    assert!((value - direct(&a, &b)).abs() < 1e-12, "{value} and {}", direct(&a, &b));
}

/// `[[...], ...]` of a golden file.
fn matrix(value: &serde_json::Value) -> Tensor {
    let rows: Vec<Vec<f64>> = serde_json::from_value(value.clone()).unwrap();
    Tensor::from_slice2(&rows)
}

#[test]
fn a_probe_reads_what_scikit_learns_ridge_reads() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/similarity/probe.json");
    let Ok(text) = std::fs::read(file) else { return crate::skipped(&format!("`{file}` is not here")) };
    let golden: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let (a, b) = (matrix(&golden["a"]), matrix(&golden["b"]));
    let held: Vec<i64> = serde_json::from_value(golden["held"].clone()).unwrap();
    let rest: Vec<i64> = (0..a.size()[0]).filter(|row| !held.contains(row)).collect();
    let (held, rest) = (Tensor::from_slice(&held), Tensor::from_slice(&rest));
    let classes: Vec<i64> = serde_json::from_value(golden["classes"].clone()).unwrap();
    let values: Vec<f64> = serde_json::from_value(golden["values"].clone()).unwrap();
    let wanted =
        [("classes", Tensor::from_slice(&classes).one_hot(3).to_kind(Kind::Double)), ("values", Tensor::from_slice(&values).unsqueeze(1))];
    for (kind, wanted) in wanted {
        let reader = probe::Reader::train(&a.index_select(0, &rest), &wanted.index_select(0, &rest), golden["ridge"].as_f64().unwrap());
        for (values, name) in [(&a, "own"), (&b, "transferred")] {
            let gap = (reader.outputs(&values.index_select(0, &held)) - matrix(&golden[format!("{kind}_{name}")])).abs().max();
            assert!(gap.double_value(&[]) < 1e-9, "{kind} {name}: {gap:?}");
        }
    }
}

#[test]
fn a_probe_transfers_to_the_same_coordinates_only() {
    let a = random(&[90, 10]);
    let classes: Vec<usize> = Vec::<f64>::try_from(a.select(1, 0)).unwrap().iter().map(|&x| usize::from(x > 0.0)).collect();
    let values: Vec<f64> = Vec::try_from(a.select(1, 0) + random(&[90]) * 0.1).unwrap();
    let near = &a + random(&[90, 10]) * 0.1;
    let turned = a.matmul(&rotation(10));
    for targets in [ProbeTargets::Classes(&classes), ProbeTargets::Values(&values)] {
        let read = |b: &Tensor| probe_transfer(&of(&a), &of(b), targets, Probe::default()).unwrap();
        let same = read(&a);
        assert_eq!(same.own, same.transferred);
        assert!(same.own > 0.85 && same.own > same.chance + 0.3, "{same:?}");
        assert!(read(&near).transferred > 0.85, "{:?}", read(&near));
        assert!(read(&turned).transferred < same.own - 0.2, "{:?}", read(&turned));
        let shared = rotation(10);
        let moved = |x: &Tensor| of(&(x.matmul(&shared) * 7.0 + 3.0));
        let changed = probe_transfer(&moved(&a), &moved(&near), targets, Probe::default()).unwrap();
        assert!((changed.transferred - read(&near).transferred).abs() < 1e-9 && (changed.own - same.own).abs() < 1e-9);
        assert_ne!(read(&near), probe_transfer(&of(&a), &of(&near), targets, Probe { seed: 1, folds: 3, ridge: 10.0 }).unwrap());
    }
    let fails = |b: &Tensor, targets, probe, word: &str| {
        let error = probe_transfer(&of(&a), &of(b), targets, probe).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    let (own, fine) = (Probe::default(), ProbeTargets::Classes(&classes));
    fails(&random(&[90, 9]), fine, own, "width");
    fails(&random(&[80, 10]), fine, own, "80");
    fails(&a, ProbeTargets::Classes(&classes[1..]), own, "89 targets for 90");
    fails(&a, ProbeTargets::Classes(&[1; 90]), own, "of one class");
    let (gap, nan) = ([vec![0; 89], vec![90]].concat(), [vec![0.0; 89], vec![f64::NAN]].concat());
    fails(&a, ProbeTargets::Classes(&gap), own, "without gaps");
    fails(&a, ProbeTargets::Values(&[2.0; 90]), own, "the same");
    fails(&a, ProbeTargets::Values(&nan), own, "target 89");
    fails(&a, fine, Probe { ridge: 0.0, ..own }, "ridge above 0");
    fails(&a, fine, Probe { ridge: f64::INFINITY, ..own }, "ridge above 0");
    fails(&a, fine, Probe { folds: 91, ..own }, "91");
    fails(&a, fine, Probe { folds: 1, ..own }, "from 2 folds");
    for folds in [2, 90] {
        assert!(probe_transfer(&of(&a), &of(&near), fine, Probe { folds, ..own }).is_ok(), "{folds} folds");
    }
}

#[test]
fn what_is_the_same_goes_by_the_size_of_the_numbers() {
    let (a, b) = related(12, 5);
    let expected = linear_cka(&of(&a), &of(&b)).unwrap();
    for scale in [1e-12, 1e12] {
        assert!((linear_cka(&of(&(&a * scale)), &of(&b)).unwrap() - expected).abs() < 1e-9, "at {scale}");
        let same = Tensor::full([12, 5], 0.1 * scale, (Kind::Double, Cpu));
        assert!(linear_cka(&of(&same), &of(&b)).unwrap_err().to_string().contains("the same"), "at {scale}");
    }
}

#[test]
fn a_multiple_is_no_direction_of_its_own() {
    let (a, column) = (random(&[2, 30]), random(&[40, 1]));
    let b = Tensor::cat(&[&column, &(&column * 3.1)], 1);
    let update = Factors { a: &a, b: &b };
    let error = principal_angles(&update, &update, Side::B, 2).unwrap_err();
    assert!(error.to_string().contains("has 1 independent directions"), "{error}");
}

#[test]
fn settings_have_their_limits() {
    let (a, b) = related(30, 4);
    let (a, b) = (of(&a), of(&b));
    let of_pca = |variance, examples_per_direction| svcca(&a, &b, Pca { variance, examples_per_direction });
    assert!(of_pca(1.0, 3).is_ok() && of_pca(0.5, 10).is_ok());
    for (variance, examples) in [(0.0, 10), (1.01, 10), (0.99, 2)] {
        assert!(of_pca(variance, examples).unwrap_err().to_string().contains("share of the variance in (0, 1]"), "{variance}, {examples}");
    }
    let measure = Measure::named("debiased_cka").unwrap();
    assert_eq!(permutation(measure, &a, &b, 1, 0).unwrap().draws.len(), 1);
    assert!(permutation(measure, &a, &b, 0, 0).unwrap_err().to_string().contains("1 to 1000000"));
    assert!(interval(measure, &a, &b, 2, 0.5, 0).is_ok());
    for level in [0.0, 1.0] {
        assert!(interval(measure, &a, &b, 9, level, 0).unwrap_err().to_string().contains("a level in (0, 1)"));
    }
    assert!(mutual_neighbours(&a, &b, 28).is_ok() && mutual_neighbours(&a, &b, 29).is_err() && mutual_neighbours(&a, &b, 0).is_err());
    assert_eq!(principal_components(&a, 4).unwrap().shares.len(), 4);
}

#[test]
fn principal_components_are_those_of_the_covariance() {
    // By hand: along (3, 4) / 5 the points lie at -10, 0, 10, across it at 1, -2, 1; the mean is (7, -1).
    let (along, across) = ([3.0, 4.0].map(|part| part / 5.0), [-4.0, 3.0].map(|part| part / 5.0));
    let points: Vec<f64> = [(-10.0, 1.0), (0.0, -2.0), (10.0, 1.0)]
        .iter()
        .flat_map(|(one, other)| [0, 1].map(|axis| [7.0, -1.0][axis] + one * along[axis] + other * across[axis]))
        .collect();
    let found = principal_components(&of(&Tensor::from_slice(&points).view([3, 2])), 2).unwrap();
    let scores: Vec<Vec<f64>> = Vec::try_from(found.scores).unwrap();
    // Both ends of the first are equally far, so that either may be the positive one.
    let sign = scores[2][0].signum();
    for (row, expected) in scores.iter().zip([[-10.0 * sign, -1.0], [0.0, 2.0], [10.0 * sign, -1.0]]) {
        assert!(row.iter().zip(expected).all(|(ours, expected)| (ours - expected).abs() < 1e-9), "{row:?} and {expected:?}");
    }
    assert!((found.shares[0] - 200.0 / 206.0).abs() < 1e-12 && (found.shares[1] - 6.0 / 206.0).abs() < 1e-12);

    // Wide and narrow: the same under rotation and translation; shares are the eigenvalues of the covariance.
    for (examples, width) in [(40, 5), (12, 40)] {
        let (values, _) = related(examples, width);
        let plain = principal_components(&of(&values), 3).unwrap();
        let moved = values.matmul(&rotation(width)) + random(&[width]) * 5.0;
        let moved = principal_components(&of(&moved), 3).unwrap();
        assert!((&plain.scores - moved.scores).abs().max().double_value(&[]) < 1e-7);
        assert!(plain.shares.iter().zip(moved.shares).all(|(a, b)| (a - b).abs() < 1e-9));
        let variance = Vec::<f64>::try_from(values.tr().cov(1, None::<&Tensor>, None::<&Tensor>).linalg_eigvalsh("L").flip([0])).unwrap();
        let whole: f64 = variance.iter().sum();
        assert!(plain.shares.iter().zip(variance).all(|(ours, value)| (ours - value / whole).abs() < 1e-9));
        let doubled = principal_components(&of(&(values * -2.0)), 3).unwrap();
        let size = |scores: &Tensor| scores.abs();
        assert!((size(&doubled.scores) - size(&plain.scores) * 2.0).abs().max().double_value(&[]) < 1e-7);
        for scores in [plain.scores, doubled.scores] {
            let (least, greatest) = (scores.amin([0].as_slice(), false), scores.amax([0].as_slice(), false));
            assert!(bool::try_from(greatest.ge_tensor(&least.abs()).all()).unwrap(), "the greatest score is positive");
        }
    }
    let two = of(&random(&[3, 8]));
    assert!(principal_components(&two, 3).unwrap_err().to_string().contains("differ in 2 directions"));
    assert!(principal_components(&two, 0).unwrap_err().is_input());
    assert!(principal_components(&of(&Tensor::ones([4, 3], (Kind::Double, Cpu))), 1).unwrap_err().is_numeric());
}
