//! Measures of similarity against scipy, scikit-learn and dcor (`tests/python/golden_evidence.py`), and what they take.

mod common;

use ia2::Result;
use ia2::activations::{Tokens, compare_methods};
use ia2::prelude::*;
use ia2::prompt::AnswerForm;
use ia2::similarity::{
    Factors, Interval, MEASURES, Measure, Representation, Side, interval, permutation, principal_angles, subspace_overlap, update_cosine,
};
use serde_json::Value;

fn golden(file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(common::golden_folder("similarity").join(file)).unwrap()).unwrap()
}

/// `[[...], ...]`.
fn matrix(value: &Value) -> Tensor {
    let rows: Vec<Vec<f64>> = serde_json::from_value(value.clone()).unwrap();
    Tensor::from_slice2(&rows)
}

thread_local! {
    /// libtorch's seed is one for all threads, and tests run side by side: with it, what a test draws would differ from run to run.
    static STATE: std::cell::Cell<u64> = const { std::cell::Cell::new(7) };
}

/// Uniform in (0, 1]: the upper bits of a linear congruence (Knuth's MMIX).
fn unit() -> f64 {
    STATE.set(STATE.get().wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407));
    ((STATE.get() >> 11) + 1) as f64 / (1u64 << 53) as f64
}

/// Standard normal (Box and Muller); the same in every run of a test.
fn random(shape: &[i64]) -> Tensor {
    let normal = || (-2.0 * unit().ln()).sqrt() * (std::f64::consts::TAU * unit()).cos();
    let count = shape.iter().product::<i64>();
    Tensor::from_slice(&(0..count).map(|_| normal()).collect::<Vec<_>>()).reshape(shape)
}

#[test]
fn every_measure_gives_the_value_of_another_implementation() -> Result<()> {
    let cases = golden("measures.json");
    let mut seen: Vec<&str> = Vec::new();
    for case in cases.as_array().unwrap() {
        let (a, b) = (Representation::new(&matrix(&case["a"]))?, Representation::new(&matrix(&case["b"]))?);
        for (name, value) in case["values"].as_object().unwrap() {
            let (ours, theirs) = (Measure::named(name)?.compute(&a, &b)?, value.as_f64().unwrap());
            assert!((ours - theirs).abs() < 1e-9, "{name} of {}: {ours} and {theirs}", case["name"]);
            seen.push(name);
        }
    }
    for measure in MEASURES {
        assert!(seen.contains(&measure.name), "{} has no golden value", measure.name);
    }
    Ok(())
}

#[test]
fn subspaces_are_those_of_scipy() -> Result<()> {
    let golden = golden("subspaces.json");
    let [a1, b1, a2, b2] = ["a1", "b1", "a2", "b2"].map(|name| matrix(&golden[name]));
    let (first, second) = (Factors { a: &a1, b: &b1 }, Factors { a: &a2, b: &b2 });
    for case in golden["cases"].as_array().unwrap() {
        let side = [Side::A, Side::B, Side::Update].into_iter().find(|side| format!("{side:?}") == case["side"].as_str().unwrap()).unwrap();
        let count = case["count"].as_u64().unwrap() as usize;
        let (overlap, angles) = (subspace_overlap(&first, &second, side, count)?, principal_angles(&first, &second, side, count)?);
        assert!((overlap - case["overlap"].as_f64().unwrap()).abs() < 1e-9, "{case}");
        let theirs: Vec<f64> = serde_json::from_value(case["angles"].clone()).unwrap();
        // Rounded: of the direction they share scipy finds an angle of 1.5e-8.
        assert!(angles.len() == theirs.len() && angles.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 1e-7), "{case}: {angles:?}");
        let cosines = angles.iter().map(|angle| angle.cos().powi(2)).sum::<f64>() / count as f64;
        assert!((cosines - overlap).abs() < 1e-9);
        // Scaling, sign and, with every direction, the rank axis do not matter.
        let mix = Tensor::linalg_qr(&random(&[4, 4]), "reduced").0 * 2.5;
        let (mixed_a, mixed_b) = (mix.tr().matmul(&a1), b1.matmul(&mix));
        if count == 4 || side == Side::Update {
            let mixed = subspace_overlap(&Factors { a: &mixed_a, b: &mixed_b }, &second, side, count)?;
            assert!((mixed - overlap).abs() < 1e-9, "{case}: {mixed}");
        }
        assert!((subspace_overlap(&first, &first, side, count)? - 1.0).abs() < 1e-12);
        assert!(principal_angles(&first, &first, side, count)?.iter().all(|angle| angle.abs() < 1e-7));
    }
    assert!((update_cosine(&first, &second)? - golden["update_cosine"].as_f64().unwrap()).abs() < 1e-9);
    assert!((update_cosine(&first, &Factors { a: &a1, b: &(&b1 * -3.0) })? + 1.0).abs() < 1e-12);
    Ok(())
}

#[test]
fn overlap_by_chance_is_rank_over_width() -> Result<()> {
    let draw = || (random(&[8, 64]), random(&[96, 8]));
    let (mut reads, mut writes) = (0.0, 0.0);
    for _ in 0..40 {
        let ((a1, b1), (a2, b2)) = (draw(), draw());
        let (first, second) = (Factors { a: &a1, b: &b1 }, Factors { a: &a2, b: &b2 });
        reads += subspace_overlap(&first, &second, Side::A, 8)? / 40.0;
        writes += subspace_overlap(&first, &second, Side::B, 8)? / 40.0;
        assert!((subspace_overlap(&first, &second, Side::Update, 8)? - subspace_overlap(&first, &second, Side::B, 8)?).abs() < 1e-9);
    }
    assert!((reads - 8.0 / 64.0).abs() < 0.01 && (writes - 8.0 / 96.0).abs() < 0.01, "{reads} {writes}");
    Ok(())
}

#[test]
fn subspaces_that_are_not_there_are_errors() {
    let (a, b) = (random(&[4, 16]), random(&[20, 4]));
    let good = Factors { a: &a, b: &b };
    let zero = b.zeros_like();
    let overlap = |second: Factors, count| subspace_overlap(&good, &second, Side::B, count);
    common::refused(overlap(Factors { a: &a, b: &zero }, 4), &["second update has 0 independent", "train it first"]);
    common::refused(update_cosine(&good, &Factors { a: &a, b: &zero }), &["zero"]);
    common::refused(overlap(Factors { a: &a, b: &b }, 0), &["ask for 1 to 4"]);
    common::refused(overlap(Factors { a: &a, b: &b }, 5), &["5 directions", "1 to 4"]);
    common::refused(overlap(Factors { a: &a, b: &a }, 4), &["B of the second update", "rank"]);
    let narrow = random(&[19, 4]);
    common::refused(overlap(Factors { a: &a, b: &narrow }, 4), &["`width` has 20", "19"]);
    common::refused(update_cosine(&good, &Factors { a: &a, b: &narrow }), &["different sites", "[20, 16]", "[19, 16]"]);
    let nan = &b * f64::NAN;
    common::refused(principal_angles(&good, &Factors { a: &a, b: &nan }, Side::A, 2), &["B of the second update", "NaN"]);
}

#[test]
fn a_permutation_null_tells_chance_from_likeness() -> Result<()> {
    let a = random(&[32, 64]);
    let (own, near, other) =
        (Representation::new(&a)?, Representation::new(&(&a + random(&[32, 64])))?, Representation::new(&random(&[32, 64]))?);
    for measure in MEASURES.iter().filter(|measure| measure.name != "cca") {
        let null = permutation(measure, &own, &near, 99, 0)?;
        assert_eq!((null.p, null.draws.len()), (0.01, 99), "{}", measure.name);
        assert_eq!(null, permutation(measure, &own, &near, 99, 0)?);
        assert_ne!(null.draws, permutation(measure, &own, &near, 99, 1)?.draws);
        if measure.debiased {
            assert!(null.mean.abs() < 0.05, "{}: {}", measure.name, null.mean);
        }
        // What is drawn is the measure of examples in another order, prepared parts or not.
        let fresh = permutation(measure, &Representation::new(&a)?, &Representation::new(near.values())?, 1, 0)?;
        assert!((fresh.draws[0] - null.draws[0]).abs() < 1e-9, "{}", measure.name);
        let ps = (0..2).map(|seed| permutation(measure, &own, &other, 99, seed).map(|null| null.p)).collect::<Result<Vec<_>>>()?;
        assert!(ps.iter().all(|&p| p > 0.02), "{}: {ps:?} for independent data", measure.name);
    }
    common::refused(permutation(&MEASURES[1], &own, &near, 0, 0), &["999"]);
    Ok(())
}

#[test]
fn intervals_are_as_wide_as_values_of_fresh_examples_vary() -> Result<()> {
    let (there, back) = (random(&[4, 12]), random(&[4, 12]));
    let draw = || -> Result<_> {
        let cause = random(&[60, 4]);
        let view = |map: &Tensor| Representation::new(&(cause.matmul(map) + random(&[60, 12]) * 2.0));
        Ok((view(&there)?, view(&back)?))
    };
    for name in ["debiased_cka", "rsa_spearman", "debiased_distance_correlation", "procrustes"] {
        let measure = Measure::named(name)?;
        let (mut values, mut intervals): (Vec<f64>, Vec<Interval>) = (Vec::new(), Vec::new());
        for seed in 0..30 {
            let (a, b) = draw()?;
            let one = interval(measure, &a, &b, 60, 0.9, seed)?;
            assert!(one.lower < one.value && one.value < one.upper, "{one:?}");
            values.push(one.value);
            intervals.push(one);
        }
        let mean = values.iter().sum::<f64>() / 30.0;
        let spread = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 29.0).sqrt();
        let claimed = intervals.iter().map(|interval| interval.std).sum::<f64>() / 30.0;
        assert!((0.6..1.6).contains(&(claimed / spread)), "{name}: {claimed} claimed, {spread} found");
        let hold = intervals.iter().filter(|interval| interval.lower <= mean && mean <= interval.upper).count();
        assert!(hold >= 21, "{name}: {hold} of 30 intervals of 0.9 hold the mean");
    }
    // Independent data: drawing with repetition would put the interval far above 0.
    let measure = Measure::named("debiased_cka")?;
    let (a, b) = (Representation::new(&random(&[32, 64]))?, Representation::new(&random(&[32, 64]))?);
    let half = interval(measure, &a, &b, 200, 0.95, 0)?;
    assert!(half.lower < 0.0 && 0.0 < half.upper && half.upper - half.lower < 0.5, "{half:?}");
    assert_eq!(half, interval(measure, &a, &b, 200, 0.95, 0)?);
    common::refused(interval(measure, &a, &b, 1, 0.95, 0), &["2 to 1000000 draws"]);
    common::refused(interval(measure, &a, &b, 9, 1.0, 0), &["level"]);
    let (a, b) = (Representation::new(&random(&[6, 4]))?, Representation::new(&random(&[6, 4]))?);
    common::refused(interval(measure, &a, &b, 9, 0.9, 0), &["half of the 6 examples", "at least 4"]);
    Ok(())
}

/// Seconds of each measure for the 36 same-layer pairs of two captures `[500, 36, 1, 2560]`, everything computed again, and milliseconds for one
/// pair more of layers that are ready: `cargo test --test similarity seconds -- --ignored --nocapture`.
#[test]
#[ignore = "prints timings"]
fn seconds() -> Result<()> {
    let normal = || Tensor::randn([500, 36, 2560], (Kind::Float, Device::Cpu));
    let base = normal();
    let (a, b) = (&base + normal(), &base + normal());
    drop(base);
    let layers = |values: &Tensor| (0..36).map(|layer| Representation::new(&values.select(1, layer))).collect::<Result<Vec<_>>>();
    let seconds = |pairs: &mut dyn Iterator<Item = (&Representation, &Representation)>, measure: &Measure| -> Result<f64> {
        let start = std::time::Instant::now();
        for (left, right) in pairs {
            measure.compute(left, right)?;
        }
        Ok(start.elapsed().as_secs_f64())
    };
    println!("{:32} {:>8} {:>18}", "measure", "seconds", "ms per pair more");
    let (kept_a, kept_b) = (layers(&a)?, layers(&b)?);
    let mut shared = 0.0;
    for measure in MEASURES.iter().filter(|measure| measure.name != "cca") {
        let start = std::time::Instant::now();
        let (left, right) = (layers(&a)?, layers(&b)?);
        seconds(&mut left.iter().zip(&right), measure)?;
        let anew = start.elapsed().as_secs_f64();
        let more = seconds(&mut left.iter().zip(right.iter().skip(1)), measure)? / 35.0;
        println!("{:32} {anew:8.2} {:18.2}", measure.name, more * 1e3);
        shared += seconds(&mut kept_a.iter().zip(&kept_b), measure)?;
    }
    println!("{:32} {shared:8.2}", "all of them, parts shared");
    Ok(())
}

const SELF_ATTN: &str = "model.layers.*.self_attn";

/// Six responses of several lengths to ragged prompts.
fn responses(model: &Model) -> Result<Responses> {
    let query = |row: usize| (0..=row % 5).map(|word| format!("t{} ", 5 + (row * 13 + word * 7) % 58)).collect::<String>();
    let rows = (0..14).map(|row| Example::new(format!("t{} {}", 5 + row, query(row)), format!("t{}", 3 + row % 2))).collect();
    let prompts = Examples::new("words", AnswerForm::free(), rows)?.zero_shot()?;
    model.respond_as(&prompts, &Generation::greedy(6).stop("t1").sample(1.5, 1.0, 3))
}

#[test]
fn captures_are_compared_layer_by_layer_and_method_by_method() -> Result<()> {
    let (model, other) = (common::speaking("llama_grouped_tied"), common::speaking("qwen3_grouped_tied"));
    let responses = responses(&model)?;
    let (a, b) = (capture(&model, &responses, SELF_ATTN)?, capture(&other, &responses, SELF_ATTN)?);
    let number = |frame: &DataFrame, row: usize| frame.column("value").unwrap().f64().unwrap().get(row).unwrap();
    assert!(a.lengths().iter().any(|length| *length != a.lengths()[0]), "responses of different lengths wanted");
    for tokens in [Tokens::First, Tokens::Last, Tokens::Mean, Tokens::Each] {
        let same = a.compare(&b, "debiased_cka", tokens)?;
        let names: Vec<&str> = same.get_column_names().into_iter().map(|name| name.as_str()).collect();
        assert_eq!((names, same.height()), (vec!["hook_point", "layer", "measure", "value"], 3));
        let all = a.compare_layers(&b, "debiased_cka", tokens)?;
        assert_eq!(all.shape(), (9, 6));
        let methods = compare_methods(&[("a", &a), ("b", &b)], "debiased_cka", tokens)?;
        assert_eq!(methods.shape(), (12, 6));
        for layer in 0..3 {
            // The vectors picked by hand.
            let picked = |of: &Activations| -> Result<Representation> {
                let rows = (0..of.examples()).map(|row| {
                    let values = of.example(row)?.get(layer as i64).to_kind(Kind::Double);
                    Ok(match tokens {
                        Tokens::First => values.narrow(0, 0, 1),
                        Tokens::Last => values.narrow(0, values.size()[0] - 1, 1),
                        Tokens::Mean => values.mean_dim([0i64].as_slice(), true, Kind::Double),
                        Tokens::Each => values,
                    })
                });
                Representation::new(&Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0))
            };
            let value = Measure::named("debiased_cka")?.compute(&picked(&a)?, &picked(&b)?)?;
            assert!((number(&same, layer) - value).abs() < 1e-6, "{tokens:?}");
            assert_eq!(number(&all, layer * 3 + layer), number(&same, layer));
            assert_eq!(number(&methods, layer * 4 + 1), number(&same, layer));
            assert!((number(&methods, layer * 4) - 1.0).abs() < 1e-9);
        }
    }
    let twelve = a.compare(&b, "mutual_neighbours_10", Tokens::First)?;
    assert!((0..3).all(|layer| number(&twelve, layer) > 0.0));
    Ok(())
}

#[test]
fn captures_that_do_not_belong_together_are_refused() -> Result<()> {
    let model = common::speaking("llama_grouped_tied");
    let responses = responses(&model)?;
    let a = capture(&model, &responses, SELF_ATTN)?;
    common::refused(a.compare(&a, "cka", Tokens::First), &["no measure `cka`"]);
    let error = common::refused(a.compare(&a, "cca", Tokens::First), &["`model.layers.0.self_attn`", "svcca"]);
    assert!(error.is_input());
    let mlp = capture(&model, &responses, "model.layers.*.mlp")?;
    common::refused(a.compare(&mlp, "linear_cka", Tokens::First), &["different hook points"]);
    assert_eq!(a.compare_layers(&mlp, "linear_cka", Tokens::First)?.height(), 9);
    let last = Capture::at(SELF_ATTN).positions(Positions::Last).of(&model, &responses)?;
    common::refused(a.compare(&last, "linear_cka", Tokens::First), &["Response", "Last"]);
    common::refused(a.representation(3, Tokens::First), &["layer 3", "there are 3"]);
    common::refused(compare_methods(&[], "linear_cka", Tokens::First), &["no methods"]);
    let lengths = a.lengths();
    let fewer = Activations::new(a.values()?.narrow(1, 0, 2), a.hook_points()[..2].to_vec(), responses.clone())?;
    common::refused(compare_methods(&[("a", &a), ("b", &fewer)], "linear_cka", Tokens::First), &["method `b`", "different hook points"]);
    assert_eq!(lengths, fewer.lengths());
    let rows = (0..14).map(|row| Example::new(format!("t{}", 7 + row), "t3")).collect();
    let other = model.respond_as(&Examples::new("other", AnswerForm::free(), rows)?.zero_shot()?, &Generation::greedy(2))?;
    let other = capture(&model, &other, SELF_ATTN)?;
    common::refused(a.compare(&other, "linear_cka", Tokens::First), &["different examples"]);
    // The same queries, answered at other lengths.
    let longer = model.respond_as(&responses.prompts(), &Generation::greedy(7))?;
    let longer = capture(&model, &longer, SELF_ATTN)?;
    common::refused(a.compare(&longer, "linear_cka", Tokens::Each), &["tokens cannot be matched"]);
    assert_eq!(a.compare(&longer, "linear_cka", Tokens::First)?.height(), 3);
    Ok(())
}
