//! Capture: what is stored, how much, and that it is the same however it came.

mod common;

use common::{golden_folder, refused, speaking};
use ia2::Result;
use ia2::activations::Activations;
use ia2::prelude::*;
use ia2::prompt::{AnswerForm, Example, Examples, Prompts};

const NAMES: [&str; 2] = ["llama_grouped_tied", "qwen3_grouped_tied"];
const PATTERNS: [&str; 5] = [
    "model.layers.*.self_attn",
    "model.layers.*.mlp",
    "model.layers.*",
    "model.layers.*.self_attn.q_proj",
    "model.layers.*.self_attn.v_proj",
];
const POSITIONS: [Positions; 4] = [Positions::Response, Positions::Prompt, Positions::Last, Positions::All];

fn examples(count: usize) -> Examples {
    // One to five words: ragged prompts.
    let query = |row: usize| (0..=row % 5).map(|word| format!("t{} ", 5 + (row * 13 + word * 7) % 58)).collect::<String>();
    let rows = (0..count).map(|row| Example::new(format!("t{} {}", 5 + row, query(row)), format!("t{}", 3 + row % 2))).collect();
    Examples::new("words", AnswerForm::free(), rows).unwrap()
}

/// Responses of several lengths to ragged prompts.
fn settings() -> Generation {
    Generation::greedy(9).stop("t1").sample(1.5, 1.0, 3).batch(3)
}

fn responses(model: &Model) -> Result<Responses> {
    let responses = model.respond_as(&examples(7).zero_shot()?, &settings())?;
    let lengths: Vec<usize> = responses.rows().iter().map(|row| row.tokens.response.len()).collect();
    assert!(lengths.iter().any(|length| *length != lengths[0]), "the test wants responses of different lengths: {lengths:?}");
    Ok(responses)
}

/// `max |a - b| / max |b|` of two captures of the same examples.
fn apart(ours: &Activations, other: &Activations) -> f64 {
    assert_eq!((ours.hook_points(), ours.lengths()), (other.hook_points(), other.lengths()));
    let (ours, other) = (ours.values().unwrap().to_kind(Kind::Double), other.values().unwrap().to_kind(Kind::Double));
    assert_eq!(ours.size(), other.size());
    (ours - &other).abs().max().double_value(&[]) / other.abs().max().double_value(&[])
}

/// The tensor's memory holds its elements and not one more: it is no view of something larger.
fn owns_only_itself(values: &Tensor) -> bool {
    let count = values.numel() as i64;
    // libtorch refuses a view that ends behind the storage.
    values.is_contiguous() && values.f_as_strided([count], [1], 0).is_ok() && values.f_as_strided([count + 1], [1], 0).is_err()
}

#[test]
fn the_probe_for_views_works() {
    let whole = Tensor::zeros([4, 6], (Kind::Float, Device::Cpu));
    assert!(owns_only_itself(&whole) && owns_only_itself(&whole.narrow(0, 1, 2).copy()));
    assert!(
        !owns_only_itself(&whole.narrow(0, 0, 2)) && !owns_only_itself(&whole.narrow(0, 2, 2)) && !owns_only_itself(&whole.select(1, 0))
    );
}

#[test]
fn the_stored_bytes_are_the_predicted_bytes() -> Result<()> {
    for (name, kinds) in [
        (NAMES[0], [None, Some(Kind::BFloat16)]),
        (NAMES[1], [Some(Kind::Double), Some(Kind::Half)]),
        ("llama_bf16", [None, Some(Kind::Float)]),
    ] {
        let model = speaking(name);
        let responses = responses(&model)?;
        for kind in kinds {
            for positions in POSITIONS {
                for (pattern, batch) in
                    [("model.layers.*.self_attn", 16), ("model.layers.0, model.norm", 2), ("model.layers.*.mlp.gate_proj", 3)]
                {
                    let mut capture = Capture::at(pattern).positions(positions).batch(batch);
                    capture = kind.into_iter().fold(capture, Capture::kind);
                    let plan = capture.plan(&model, &responses)?;
                    let stored = capture.of(&model, &responses)?;
                    let what = format!("{name} {kind:?} {positions:?} {pattern}");
                    assert_eq!(stored.values()?.size(), plan.shape, "{what}");
                    assert_eq!(stored.hook_points(), plan.hook_points, "{what}");
                    assert_eq!(stored.values()?.kind(), kind.unwrap_or(model.kind()), "{what}");
                    let bytes = (stored.values()?.numel() * stored.values()?.kind().elt_size_in_bytes()) as u64;
                    assert_eq!((bytes, stored.bytes()), (plan.bytes, plan.bytes), "{what}");
                    assert!(owns_only_itself(&stored.values()?), "{what}");
                    assert!(!stored.values()?.requires_grad());
                }
            }
        }
    }
    Ok(())
}

#[test]
fn every_position_holds_what_a_forward_shows_there() -> Result<()> {
    let model = speaking(NAMES[1]);
    let responses = responses(&model)?;
    let pattern = "model.layers.*.self_attn, model.layers.2, model.norm";
    for positions in POSITIONS {
        let stored = Capture::at(pattern).positions(positions).batch(3).of(&model, &responses)?;
        for (example, row) in responses.rows().iter().enumerate() {
            let (prompt, response) = (&row.tokens.prompt, &row.tokens.response);
            let (start, count) = match positions {
                Positions::Response => (prompt.len() - 1, response.len()),
                Positions::Prompt => (0, prompt.len()),
                Positions::Last => (prompt.len() - 1, 1),
                Positions::All => (0, prompt.len() + response.len() - 1),
            };
            assert_eq!(stored.lengths()[example], count, "{positions:?}");
            let mut values = Vec::new();
            let mut hooks = Hooks::new();
            hooks.observe(pattern, |_, value| {
                values.push(value.get(0).narrow(0, start as i64, count as i64));
                Ok(())
            });
            model.forward_with(&[[prompt.as_slice(), &response[..response.len() - 1]].concat()], &mut hooks)?;
            drop(hooks);
            let (ours, expected) = (stored.example(example)?, Tensor::stack(&values, 0));
            assert_eq!(ours.size(), expected.size());
            let distance = (ours - &expected).abs().max().double_value(&[]) / expected.abs().max().double_value(&[]);
            assert!(distance < 1e-5, "{positions:?} of example {example}: {distance:.1e}");
            // From its length on an example is zero.
            let rest = stored.values()?.get(example as i64).narrow(1, count as i64, stored.values()?.size()[2] - count as i64);
            assert!(rest.numel() == 0 || rest.abs().max().double_value(&[]) == 0.0, "{positions:?} of example {example} keeps padding");
        }
    }
    Ok(())
}

/// Prompts that share enough of their prefix to be computed from one cache, and others.
fn prompt_sets() -> Result<Vec<Prompts>> {
    let examples = examples(13);
    let task = ia2::dataset::Task::of(examples, Default::default());
    let split = task.few_shot(6, 0)?;
    let shared = split.test.with_demonstrations(&split.train, 0)?;
    assert!(shared.texts()[0].split_whitespace().count() > 20, "too short for the library to share its beginning");
    Ok(vec![shared, split.target_prompts(2)?, split.train.zero_shot()?])
}

#[test]
fn a_capture_during_cached_generation_equals_a_teacher_forced_one() -> Result<()> {
    for name in NAMES {
        let base = speaking(name);
        let adapter = Adapter::open(golden_folder(&format!("training/{name}/adapter")), &base)?;
        for model in [&base, &base.with(&adapter)?] {
            for prompts in prompt_sets()?.into_iter().take(if model.is_adapted() { 1 } else { 3 }) {
                for (place, pattern) in PATTERNS.into_iter().enumerate() {
                    // Narrow and whole forwards for every pattern, the rest once.
                    let positions = if place == 0 { POSITIONS.as_slice() } else { &[Positions::Response, Positions::All] };
                    for &positions in positions {
                        let capture = Capture::at(pattern).positions(positions).batch(4);
                        let (responses, caught) = capture.while_generating(model, &prompts, &settings())?;
                        let taught = capture.of(model, &responses)?;
                        let what = format!("{name} {} {pattern} {positions:?}", model.is_adapted());
                        let distance = apart(&caught, &taught);
                        assert!(distance < 1e-5, "{what}: {distance:.1e}");
                        assert!(owns_only_itself(&caught.values()?), "{what}");
                        assert_eq!(caught.bytes(), capture.plan(model, &responses)?.bytes, "{what}");
                    }
                }
                // Catching values changes no token.
                let (caught, _) = Capture::at("model.layers.*").while_generating(model, &prompts, &settings())?;
                assert!(caught == model.respond_as(&prompts, &settings())?);
            }
        }
        let responses = responses(&base)?;
        let (without, with) =
            (capture(&base, &responses, "model.layers.*")?, capture(&base.with(&adapter)?, &responses, "model.layers.*")?);
        assert!(apart(&with, &without) > 1e-3, "the adapter does nothing");
    }
    Ok(())
}

#[test]
fn one_token_needs_no_cache() -> Result<()> {
    let model = speaking(NAMES[0]);
    for prompts in prompt_sets()? {
        let capture = Capture::at("model.layers.*");
        let (responses, caught) = capture.while_generating(&model, &prompts, &Generation::greedy(1))?;
        assert!(caught.lengths().iter().all(|&length| length == 1));
        assert!(apart(&caught, &capture.of(&model, &responses)?) < 1e-5);
    }
    Ok(())
}

#[test]
fn activations_survive_a_file() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    for (name, positions, kind) in [
        (NAMES[0], Positions::All, Kind::Float),
        ("llama_bf16", Positions::Response, Kind::BFloat16),
        (NAMES[1], Positions::Last, Kind::Double),
    ] {
        let model = speaking(name);
        let stored = Capture::at("model.layers.*.mlp").positions(positions).kind(kind).of(&model, &responses(&model)?)?;
        let file = folder.path().join(format!("{name}.safetensors"));
        stored.save(&file)?;
        let again = Activations::open(&file)?;
        assert_eq!((again.values()?.kind(), again.positions()), (kind, positions));
        assert_eq!(again.values()?, stored.values()?);
        assert_eq!((again.hook_points(), again.lengths()), (stored.hook_points(), stored.lengths()));
        assert!(again.responses() == stored.responses());
        // A file has the values and a manifest, no copies.
        let size = std::fs::metadata(&file).unwrap().len();
        assert!(size > stored.bytes() && size < stored.bytes() + 10_000, "{size} for {}", stored.bytes());
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3, "a temporary file stayed");
    Ok(())
}

#[test]
fn selections_that_cannot_be_captured() -> Result<()> {
    let model = speaking(NAMES[1]);
    let responses = responses(&model)?;
    let prompts = examples(3).zero_shot()?;
    for (pattern, words) in [
        ("model.layers.*.attention", ["model.layers.*.attention", "selects none"]),
        ("model.layers.7", ["model.layers.7", "selects none"]),
        ("", ["empty pattern", "self_attn"]),
        ("lm_head", ["lm_head", "Hooks::observe"]),
        ("model.layers.*.self_attn.pattern", ["pattern", "Hooks::observe"]),
        ("model.layers.0.self_attn.q_norm", ["q_norm", "Hooks::observe"]),
        ("model.layers.0.mlp, model.layers.0.mlp.up_proj", ["different widths", "one kind at a time"]),
    ] {
        let capture = Capture::at(pattern);
        refused(capture.plan(&model, &responses), &words);
        refused(capture.of(&model, &responses), &words);
        refused(capture.while_generating(&model, &prompts, &settings()), &words);
    }
    Ok(())
}

#[test]
fn the_frame_summarises_each_hook_point() -> Result<()> {
    let model = speaking(NAMES[0]);
    let stored = capture(&model, &responses(&model)?, "model.layers.*.self_attn, model.norm")?;
    let frame = stored.frame()?;
    let columns = ["hook_point", "layer", "examples", "tokens", "hidden", "kind", "mean", "std", "norm", "bytes"];
    assert_eq!(frame.get_column_names(), columns);
    assert_eq!(frame.height(), 4);
    assert_eq!(frame.column("layer")?.u32()?.to_vec(), [Some(0), Some(1), Some(2), None]);
    let tokens: usize = stored.lengths().iter().sum();
    assert_eq!(frame.column("tokens")?.u32()?.get(0), Some(tokens as u32));
    assert_eq!(frame.column("bytes")?.u64()?.iter().flatten().sum::<u64>(), stored.bytes());
    // Over real tokens alone: padding must not dilute the mean.
    let real: Vec<Tensor> =
        (0..stored.examples()).map(|example| stored.example(example).map(|values| values.get(1))).collect::<Result<_>>()?;
    let real = Tensor::cat(&real, 0).to_kind(Kind::Double);
    let norm = real.square().sum_dim_intlist([-1i64].as_slice(), false, None).sqrt().mean(None).double_value(&[]);
    let at = |column: &str| frame.column(column).unwrap().f64().unwrap().get(1).unwrap();
    assert!((at("norm") - norm).abs() < 1e-5 * norm);
    assert!((at("mean") - real.mean(None).double_value(&[])).abs() < 1e-6);
    Ok(())
}

#[test]
fn asim_is_one_with_itself_and_compares_like_with_like_only() -> Result<()> {
    let model = speaking(NAMES[0]);
    let all = responses(&model)?;
    let pattern = "model.layers.*.self_attn";
    let stored = capture(&model, &all, pattern)?;
    let frame = stored.asim(&stored)?;
    assert_eq!(frame.get_column_names(), ["hook_point", "layer", "asim"]);
    assert_eq!(frame.height(), 3);
    assert!(frame.column("asim")?.f64()?.into_no_null_iter().all(|asim| (asim - 1.0).abs() < 1e-6));
    let opposite = Activations::new(stored.values()? * -2.0, stored.hook_points().to_vec(), all.clone())?;
    assert!(stored.asim(&opposite)?.column("asim")?.f64()?.into_no_null_iter().all(|asim| (asim + 1.0).abs() < 1e-6));

    let others = model.respond_as(&examples(8).zero_shot()?, &settings())?;
    refused(stored.asim(&capture(&model, &others, pattern)?), &["different examples"]);
    let mut rows = all.rows().to_vec();
    rows.swap(0, 1);
    let swapped = Responses::from_rows(all.form().clone(), rows);
    refused(stored.asim(&capture(&model, &swapped, pattern)?), &["another order"]);
    refused(stored.asim(&capture(&model, &all, "model.layers.*.mlp")?), &["different hook points", "self_attn", "mlp"]);
    refused(stored.asim(&Capture::at(pattern).positions(Positions::Last).of(&model, &all)?), &["Response", "Last"]);
    Ok(())
}

#[test]
fn responses_without_demonstrations_keep_their_tokens() -> Result<()> {
    let model = speaking(NAMES[1]);
    let prompts = prompt_sets()?.remove(1);
    let with = model.respond_as(&prompts, &settings())?;
    let without = with.without_demonstrations(&model)?;
    assert_eq!(without.len(), with.len());
    for (with, without) in with.rows().iter().zip(without.rows()) {
        assert!(!with.prompt.demonstrations.is_empty() && without.prompt.demonstrations.is_empty());
        assert_eq!(without.prompt.example, with.prompt.example);
        assert_eq!((without.prompt.index, &without.tokens.response), (with.prompt.index, &with.tokens.response));
        assert_eq!(without.tokens.prompt, model.tokenizer()?.encode(&with.prompt.example.query)?);
        assert!(with.tokens.prompt.len() > without.tokens.prompt.len());
    }
    // The same tokens at the same response positions: the two can be compared, and differ.
    let pattern = "model.layers.*";
    let frame = capture(&model, &with, pattern)?.asim(&capture(&model, &without, pattern)?)?;
    assert!(frame.column("asim")?.f64()?.into_no_null_iter().all(|asim| asim < 0.999));
    Ok(())
}
