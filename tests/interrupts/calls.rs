//! Every long call, interrupted at its questions: it says so and how far it was, leaves nothing broken, and comes to the same when it is asked again.

mod signals;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ia2::activations::{Activations, Distributions};
use ia2::adapter::Adapter;
use ia2::dataset::Columns;
use ia2::interrupt;
use ia2::metric::{METRICS, fit_temperature};
use ia2::model::Sample;
use ia2::objective::Targets;
use ia2::prelude::*;
use ia2::similarity::{self, Measure, Probe, Representation};
use ia2::vector::{FunctionVector, Steering, TaskVector, Vector};
use ia2::{Result, statistics};

use sha2::{Digest, Sha256};

use super::{OFF, after, asks, common, grid, model, split};

/// Calls that ask nothing, because they are short whatever they are given, or one operation of libtorch; and who asks for them within a longer one.
const SHORT: &[&str] = &[
    "going on from a training",
    "starting an adapter",
    "copying an adapter",
    "scaling an adapter",
    "summarising an adapter",
    "preparing a representation",
    "principal angles",
    "subspace overlap",
    "cosine of updates",
    "neighbours",
    "keeping the largest probabilities",
    "making a vector",
    "scaling a vector",
    "putting a vector on a model",
];
/// Interrupted elsewhere: trainings and grids give what they have.
const ELSEWHERE: &[&str] = &[
    "training",
    "running an experiment",
    "reading an experiment",
    "a run of an experiment",
    // Workers, in `tests/cluster`.
    "working on a grid",
    "finishing a grid",
];
/// Always within another call of this table, whose name comes first.
const WITHIN: &[&str] = &["reading parquet"];

type Call<'f> = (&'static str, Box<dyn Fn() -> Result<String> + 'f>);

/// What the calls work on.
struct Fixture {
    model: Model,
    split: Split,
    prompts: Prompts,
    rows: Vec<Vec<u32>>,
    responses: Responses,
    activations: Activations,
    other: Activations,
    on_disk: Activations,
    distributions: Distributions,
    predictions: DataFrame,
    runs: DataFrame,
    adapter: Adapter,
    vector: Vector,
    trained: Trained,
    study: Study,
    /// Of two runs.
    paired: Study,
    representations: [Representation; 2],
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let (model, split) = (model(), split());
        let prompts = split.test.zero_shot()?;
        let shown = split.test.with_demonstrations(&split.train, 0)?;
        let responses = model.respond(&prompts)?;
        let targets = Targets::of(&model, &split).distributions(Keep::Top(4)).collect()?;
        let sharded = Targets::of(&model, &split).shards(place("shards")).free_bytes(1).shard_bytes(1).collect()?;
        let (activations, other) = (capture(&model, &responses, SITES)?, capture(&model, &model.respond(&shown)?, SITES)?);
        activations.save(place("activations.safetensors"))?;
        let trained = Training::new(Lora::rank(2), Sft::gold()).epochs(1).run(&model, &split)?;
        trained.save(place("adapter"))?;
        let vector = TaskVector::find(&model, &split)?;
        vector.save(place("vector.safetensors"))?;
        model.save(place("model"))?;
        std::fs::create_dir_all(place(SNAPSHOT)).unwrap();
        std::fs::create_dir_all(place("hub/models--org--name/blobs")).unwrap();
        for entry in std::fs::read_dir(place("model")).unwrap() {
            let content = std::fs::read(entry.as_ref().unwrap().path()).unwrap();
            let blob = Path::new("../../blobs").join(format!("{:x}", Sha256::digest(&content)));
            std::fs::write(place(SNAPSHOT).join(&blob), content).unwrap();
            std::os::unix::fs::symlink(blob, place(SNAPSHOT).join(entry.unwrap().file_name())).unwrap();
        }
        let study = grid(&model, &place("grid")).run()?;
        let paired = grid(&model, &place("paired")).sizes(&[2]).runs(2).methods(&[Method::Icl, Method::Sft]).run()?;
        let (method, run): (Vec<&str>, Vec<u32>) = (0..40).map(|row| (["a", "b"][row % 2], row as u32 / 2)).unzip();
        let value = (0..40).map(|row| f64::from(row * 7 % 11)).collect::<Vec<_>>();
        let representation = |seed: i64| {
            let place = Tensor::arange(60 * 8, (Kind::Double, Device::Cpu)) + seed;
            Representation::new(&(place * 12.9898).sin().view([60, 8])).unwrap()
        };
        let rows = split.train.rows().iter().cycle().take(300).enumerate();
        let lines: String = rows
            .map(|(row, own)| serde_json::json!({"query": format!("{row} {}", own.query), "gold": own.gold}).to_string() + "\n")
            .collect();
        std::fs::write(place("rows.jsonl"), lines).unwrap();
        Ok(Self {
            predictions: evaluate(&model, &prompts)?,
            runs: df!("method" => method, "run" => run, "accuracy" => value)?,
            adapter: Adapter::open(place("adapter"), &model)?,
            vector,
            representations: [representation(1), representation(2)],
            distributions: targets.distributions()?.clone(),
            on_disk: sharded.activations()?.clone(),
            rows: model.encode(&prompts)?,
            model,
            split,
            prompts,
            responses,
            activations,
            other,
            trained,
            study,
            paired,
            folder,
        })
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn samples(&self) -> Vec<Sample> {
        self.responses.rows().iter().map(|row| row.tokens.clone()).collect()
    }
}

const SNAPSHOT: &str = "hub/models--org--name/snapshots/0123abcd";
const SITES: &str = "model.layers.*.self_attn";

fn shown(value: impl std::fmt::Debug) -> Result<String> {
    Ok(format!("{value:?}"))
}

/// All rows of a frame.
fn written(mut frame: DataFrame) -> Result<String> {
    let mut csv = Vec::new();
    CsvWriter::new(&mut csv).finish(&mut frame)?;
    Ok(String::from_utf8(csv).unwrap())
}

fn sum(activations: &Activations) -> Result<String> {
    shown(activations.values()?.to_kind(Kind::Double).square().sum(None).double_value(&[]).to_bits())
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// Each with the name that its error begins with.
fn calls(all: &Fixture) -> Vec<Call<'_>> {
    let Fixture { model, split, prompts, responses, rows, .. } = all;
    let greedy = || Generation::greedy(3).ignore_eos().batch(8);
    let snapshot = Model::open(all.place(SNAPSHOT)).unwrap();
    let measure = || Measure::named("linear_cka");
    let [left, right] = &all.representations;
    let mut calls: Vec<Call<'_>> = Vec::new();
    macro_rules! call {
        ($name:literal, $call:expr) => {
            calls.push(($name, Box::new(move || $call)));
        };
    }
    // Files.
    call!("opening", shown(Model::open(all.place("model"))?));
    call!("opening", shown(Model::open(data("golden/gguf/qwen3.gguf"))?));
    call!("saving a model", {
        // In whichever state it is left, what opens is whole.
        let saved = model.save(all.place("model again"));
        let left = interrupt::fuse(OFF);
        let there = all.place("model again/config.json").exists();
        if let Some(error) = there.then(|| Model::open(all.place("model again"))).and_then(Result::err) {
            assert!(error.is_interrupted(), "{error}");
        }
        interrupt::fuse(left);
        saved.map(|()| String::new())
    });
    call!("opening activations", sum(&Activations::open(all.place("activations.safetensors"))?));
    call!("opening activations", shown(Activations::open(all.place("shards"))?.examples()));
    call!("reading a collection", sum(&all.on_disk));
    call!("saving activations", all.activations.save(all.place("again.safetensors")).map(|()| String::new()));
    call!("saving an adapter", all.adapter.save(all.place("adapter again")).map(|()| String::new()));
    call!("saving a training", all.trained.save(all.place("training again")).map(|()| String::new()));
    call!("opening the task", shown(Task::open(all.place("rows.jsonl").to_str().unwrap())?.examples().len()));
    for name in ["rows.jsonl", "rows.csv", "rows.tsv", "array.json", "plain.parquet"] {
        let columns = Columns::named("text", "label");
        let path = data("data/own").join(name);
        if Task::open_with(&path, &columns).is_ok() {
            call!("opening", shown(Task::open_with(&path, &columns)?.examples()));
        }
    }
    call!("reading the benchmark", shown(Task::benchmark("SST2", data("data/benchmarks/SST2/original"))?.examples()));
    call!("verifying", {
        // What was compared is remembered.
        let _ = std::fs::remove_file(all.place("hub/.locks/models--org--name/ia2-verified.json"));
        written(snapshot.verify()?)
    });
    // Prompts and tokens.
    call!("making prompts", shown(split.test.with_demonstrations(&split.train, 1)?.len()));
    call!("tokenising prompts", shown(model.encode(prompts)?));
    call!("tokenising prompts", written(model.lengths(prompts)?));
    call!("tokenising labels", shown(ia2::prompt::LabelTokens::of(model.tokenizer()?, prompts)?));
    call!("tokenising queries", shown(responses.without_demonstrations(model)?.rows().len()));
    call!("looking for near duplicates", written(split.near_duplicates()?));
    // Forwards.
    call!("forward", shown(model.forward(rows)?.values.sum(Kind::Double).double_value(&[]).to_bits()));
    call!("gradients", {
        let gradients = model.gradients(&rows[..2], "model.layers.1.mlp", |logits| logits.select(1, -1).sum(None))?;
        shown(gradients.scalar.to_bits())
    });
    call!("generate", shown(model.generate(rows, &greedy())?));
    call!("generate", shown(model.generate_with(rows, &greedy(), &mut Hooks::new())?));
    call!("responding", shown(model.respond_as(prompts, &greedy())?.rows()));
    call!("responding", shown(model.generate_text(&["Text:a\nLabel:", "Text:b\nLabel:"], &greedy())?));
    call!("scoring", written(model.score(prompts, &["0", "1"])?.frame()?));
    call!("scoring", shown(model.log_likelihoods(&all.samples())?));
    call!("evaluate", written(evaluate(model, prompts)?));
    call!("evaluate", written(evaluate_with(model, prompts, &mut Hooks::new())?));
    // Vectors, and what labels have beforehand.
    call!("finding a task vector", written(TaskVector::find(model, split)?.tried()?));
    call!("finding a function vector", written(FunctionVector::find(model, split)?.effects()?));
    call!("finding a steering vector", written(Steering::find(model, split)?.tried()?));
    call!("saving a vector", all.vector.save(all.place("vector again.safetensors")).map(|()| String::new()));
    call!("opening a vector", written(Vector::open(all.place("vector.safetensors"), model)?.tried()?));
    call!("contextual calibration", written(ia2::calibrate::contextual(model, prompts)?));
    // Activations.
    call!("capture", sum(&Capture::at(SITES).batch(4).of(model, responses)?));
    call!("capture while generating", sum(&Capture::at(SITES).while_generating(model, prompts, &greedy())?.1));
    call!("collecting targets", sum(Targets::of(model, split).collect()?.activations()?));
    call!("previewing a training", written(Training::new(Lora::rank(2), Sft::gold()).preview(model, split)?));
    call!("merging an adapter", shown(all.adapter.merge(model)?.modules));
    call!("opening an adapter", shown(Adapter::open(all.place("adapter"), model)?.count()));
    call!("summarising activations", written(all.activations.frame()?));
    call!("summarising distributions", written(all.distributions.frame()?));
    call!("taking distributions", {
        let uniform = Tensor::full([responses.len() as i64, 1, 4], 0.25, (Kind::Float, Device::Cpu));
        shown(Distributions::new(uniform, responses.clone())?.examples())
    });
    call!("asim", written(all.activations.asim(&all.activations)?));
    call!("reading a representation", shown(all.on_disk.representation(0, Tokens::Last)?.examples()));
    call!("selecting examples", sum(&all.on_disk.select(&[1, 0])?));
    call!("comparing activations", written(all.activations.compare(&all.other, "linear_cka", Tokens::Last)?));
    call!("comparing activations", written(all.activations.compare_layers(&all.other, "linear_cka", Tokens::Last)?));
    call!("comparing activations", {
        written(compare_methods(&[("a", &all.activations), ("b", &all.other)], "linear_cka", Tokens::Last)?)
    });
    call!("principal components", written(all.activations.principal_components(Tokens::Last, 2)?));
    // Measures and metrics.
    call!("a permutation null", shown(similarity::permutation(measure()?, left, right, 40, 0)?));
    call!("an interval of half samples", shown(similarity::interval(measure()?, left, right, 40, 0.9, 0)?));
    call!("linear-probe transfer", {
        let classes: Vec<usize> = (0..60).map(|row| row % 2).collect();
        shown(similarity::probe_transfer(left, right, similarity::ProbeTargets::Classes(&classes), Probe::default())?)
    });
    call!("a bootstrap", shown(METRICS[0].bootstrap(&all.predictions, 50, 0.9, 0)?));
    call!("fitting a temperature", {
        let gold: Vec<&str> = (0..40).map(|row| ["0", "1"][row % 2]).collect();
        let chance: Vec<f64> = (0..40).map(|row| if row % 5 == 0 { 0.4 } else { 0.8 } * (1.0 - row as f64 / 400.0)).collect();
        let (right, wrong) = (chance.clone(), chance.iter().map(|p| 1.0 - p).collect::<Vec<_>>());
        let of = |label: usize| (0..40).map(|row| if row % 2 == label { right[row] } else { wrong[row] }).collect::<Vec<_>>();
        shown(fit_temperature(&df!("gold" => gold, "p_0" => of(0), "p_1" => of(1))?)?)
    });
    call!("comparing methods", written(statistics::compare(&all.runs, "method", &[("a", "b"); 2], &["run"], &["accuracy"], 0.95)?));
    call!("intervals", written(statistics::intervals(&all.runs, &["method"], &["accuracy"], 0.95)?));
    let crossed = || {
        let of = |n: i64| (0..60).map(|at| at / n % 6).collect::<Vec<i64>>();
        df!("value" => (0..60).map(|at| f64::from(at * at % 17) / 17.0).collect::<Vec<_>>(), "run" => of(10), "row" => (0..60).map(|at| at % 10).collect::<Vec<i64>>())
    };
    call!("a bootstrap of runs and rows", {
        shown(statistics::crossed_bootstrap(&crossed()?, "value", &[], &["run"], &["row"], 0.95, 50, 0)?.0)
    });
    call!(
        "a mixed model",
        written(Ok::<_, ia2::Error>(statistics::mixed_model(&crossed()?, "value", &[], &["run"], &["row"], 0.95)?.frame().clone())?)
    );
    // Inside.
    call!("the logit lens", written(logit_lens(model, &prompts.take(4), 2)?));
    call!("attention patterns", written(attention_patterns(model, &prompts.take(4), [0, 1], 2)?));
    call!("ablation", written(ablate(model, &prompts.take(4), "model.layers.*.mlp", Ablation::Mean)?));
    call!("activation patching", written(patch(model, prompts, &all.activations, 1)?));
    call!("the patching map", written(ia2::lens::patch_map(model, prompts, &all.activations.roll(1)?, 1)?));
    call!("divergence of two models", written(divergence((model, responses), (all.trained.model(), responses))?));
    call!("drawing", shown(lines(&all.runs, "run", "accuracy", "method")?.svg().len()));
    // Every builder is that call.
    call!("drawing", {
        let effects = df!("method" => ["a", "b"], "difference" => [0.1, 0.2], "low" => [0.0, 0.1], "high" => [0.2, 0.3])?;
        shown(Forest::new("method", "difference", "low", "high").draw(&effects)?.svg().len())
    });
    call!("drawing", shown(reliability(&all.predictions, Binning::EqualWidth(5))?.svg().len()));
    // Grids.
    call!("planning an experiment", {
        // Its hours are measured.
        grid(model, &all.place("grid")).plan().map(|_| String::new())
    });
    call!(
        "preparing a grid for workers",
        Ok(grid(model, &all.place("grid")).prepare(all.place("prepared"), &slurm())?.script().to_string())
    );
    grid(model, &all.place("grid")).prepare(all.place("opened"), &slurm()).unwrap();
    call!("opening a grid", written(Experiment::open(all.place("opened"))?.cells()?));
    call!("summarising a study", written(all.study.summary()?));
    call!("gathering evidence", written(all.paired.evidence()?.effects().clone()));
    call!("subspace overlap of adapters", written(all.study.overlap()?));
    calls
}

fn slurm() -> Slurm {
    Slurm::new().program(env!("CARGO_BIN_EXE_ia2-worker"))
}

/// The names that calls have in the sources.
fn named_in_sources(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            named_in_sources(&path, found);
            continue;
        }
        let Some(text) = std::fs::read_to_string(&path).ok().filter(|_| path.extension().is_some_and(|end| end == "rs")) else { continue };
        // Below it are tests.
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        if path.to_string_lossy().ends_with("tests.rs") {
            continue;
        }
        for opening in ["guarded(\"", "during(\"", "guarded(&format!(\"", "during(&format!(\""] {
            for (place, _) in text.match_indices(opening).filter(|(place, _)| !text[..*place].ends_with("fn ")) {
                let line = &text[text[..place].rfind('\n').map_or(0, |end| end + 1)..];
                let rest = &text[place + opening.len()..];
                if !line.trim_start().starts_with("//") {
                    found.insert(rest[..rest.find(['"', '{']).unwrap()].trim_end_matches([' ', '`']).to_string());
                }
            }
        }
    }
}

#[test]
fn every_long_call_can_be_interrupted_and_asked_again() -> Result<()> {
    let fixture = Fixture::new()?;
    let mut covered: BTreeSet<String> = [SHORT, ELSEWHERE, WITHIN].concat().into_iter().map(String::from).collect();
    let mut wrong = Vec::new();
    for (name, call) in calls(&fixture) {
        let (all, expected) = asks(&call);
        let expected = expected.map_err(|error| error.context(name))?;
        // Before its second block at the latest; a small file is one.
        if all < if name.starts_with("opening") || name.starts_with("saving") { 1 } else { 2 } {
            wrong.push(format!("{name} asks {all} times"));
        }
        // Not the last: how much of a file is compared depends on what was before.
        let moments: BTreeSet<u64> = [0, 1, all / 3, all / 2, all * 9 / 10].into();
        for moment in moments.into_iter().filter(|moment| *moment < all) {
            let at = format!("{name}, interrupted at question {moment} of {all}");
            match after(moment, &call) {
                Ok(_) => wrong.push(format!("{at}, gives a value")),
                Err(error) if !error.is_interrupted() => wrong.push(format!("{at}: {error}")),
                Err(error) => {
                    let text = error.to_string();
                    let tells = text.contains("the same call") || text.contains("as they were");
                    if !tells || !text.contains(&format!("interrupted: {name}")) {
                        wrong.push(format!("{at}, says only: {text}"));
                    }
                }
            }
        }
        if call()? != expected {
            wrong.push(format!("{name} is not the same after interrupts"));
        }
        covered.insert(name.to_string());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Nothing is left behind of what was being written.
    let left = common::listing(fixture.folder.path()).into_iter().filter(|(path, _)| path.to_string_lossy().contains(".partial"));
    assert_eq!(left.count(), 0);
    let mut named = BTreeSet::new();
    named_in_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut named);
    assert!(named.len() > 40, "{named:?}");
    let missing: Vec<&String> = named.difference(&covered).collect();
    assert!(missing.is_empty(), "calls that no test interrupts: {missing:?}");
    Ok(())
}
