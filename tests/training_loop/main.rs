//! The training loop: its steps, phases, ends, and what it tells of itself.

#[path = "../common/mod.rs"]
mod common;

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;

use common::{golden, golden_folder, listing, refused, rows, speaking, with_words};
use ia2::Result;
use ia2::adapter::{AdapterConfig, Start};
use ia2::dataset::{Card, Split};
use ia2::model::Sample;
use ia2::objective::{Objective, Outputs, Part, Samples};
use ia2::prelude::*;
use ia2::prompt::{AnswerForm, Example, Examples};
use ia2::train::{Manifest, Optimizer, Schedule, Stopped};

const CHECKPOINTS: [&str; 2] = ["llama_grouped_tied", "qwen3_grouped_tied"];

/// Cross-entropy on token ids of the test's choosing, the dev set being the train set again; it notes which examples it is asked for.
#[derive(Clone, Debug)]
struct Noted {
    inner: Sft,
    samples: Vec<Sample>,
    parts: Vec<Part>,
    asked: Rc<RefCell<Vec<usize>>>,
    /// A file to write once twelve have been asked for.
    stop: Option<PathBuf>,
}

impl Noted {
    fn new(samples: Vec<Sample>) -> Self {
        let whole = Part { name: "CE on these".into(), weight: 1.0 };
        Self { inner: Sft::gold(), samples, parts: vec![whole], asked: Rc::default(), stop: None }
    }
}

impl Objective for Noted {
    fn name(&self) -> String {
        "noted".into()
    }
    fn parts(&self) -> Vec<Part> {
        self.parts.clone()
    }
    fn samples(&self, _model: &Model, _split: &Split) -> Result<Samples> {
        Ok(Samples { rows: [self.samples.clone(), self.samples.clone()].concat(), train: self.samples.len() })
    }
    fn needs_logits(&self) -> bool {
        true
    }
    fn losses(&self, examples: &[usize], outputs: &Outputs) -> Result<Vec<Tensor>> {
        self.asked.borrow_mut().extend(examples.iter().filter(|&&example| example < self.samples.len()));
        if let Some(stop) = self.stop.as_ref().filter(|_| self.asked.borrow().len() >= 12) {
            std::fs::write(stop, "").unwrap();
        }
        let loss = self.inner.losses(examples, outputs)?.remove(0);
        // Every part is the same loss, times its place.
        Ok((1..=self.parts.len()).map(|place| &loss * place as f64).collect())
    }
}

fn golden_samples(golden: &HashMap<String, Tensor>) -> Vec<Sample> {
    let prompts: Vec<i64> = (&golden["prompt_lengths"]).try_into().unwrap();
    let cut = |(row, cut): (Vec<u32>, i64)| Sample { prompt: row[..cut as usize].to_vec(), response: row[cut as usize..].to_vec() };
    rows(&golden["input_ids"], &golden["lengths"]).into_iter().zip(prompts).map(cut).collect()
}

/// Ten samples of different lengths.
fn ten() -> Vec<Sample> {
    let ids = |from: usize, count: usize| (0..count).map(|place| ((from * 7 + place * 5) % 60 + 4) as u32).collect::<Vec<_>>();
    (0..10).map(|row| Sample { prompt: ids(row, 3 + row * 7 % 11), response: ids(row + 20, 1 + row % 3) }).collect()
}

fn some_split() -> Result<Split> {
    let rows = (0..20).map(|row| Example::new(format!("t{} t{} ", row + 10, row + 30), ["t3", "t4"][row * 5 % 7 % 2])).collect();
    Task::of(Examples::new("words", AnswerForm::labels(["t3", "t4"])?, rows)?, Card::default()).few_shot(6, 0)
}

fn model(name: &str, kind: Kind) -> Result<Model> {
    OpenOptions::new().kind(kind).device(Device::Cpu).open(golden_folder(name))
}

fn weights(trained: &Trained) -> Result<HashMap<String, Tensor>> {
    let folder = tempfile::tempdir().unwrap();
    trained.adapter().save(folder.path())?;
    Ok(Tensor::read_safetensors(folder.path().join("adapter_model.safetensors"))?.into_iter().collect())
}

fn floats(trained: &Trained, column: &str) -> Result<Vec<f64>> {
    Ok(trained.history()?.column(column)?.f64()?.into_no_null_iter().collect())
}

fn apart(ours: &Tensor, theirs: &Tensor) -> f64 {
    (ours - theirs).abs().max().double_value(&[]) / theirs.abs().max().double_value(&[])
}

/// The golden file is the authors' loop in PyTorch, over the orders that the library's seed gives.
#[test]
fn compat_paper_takes_the_authors_steps() -> Result<()> {
    for name in CHECKPOINTS {
        let theirs = golden(&format!("training/{name}/authors.safetensors"))?;
        let objective = Noted::new(golden_samples(&golden(&format!("training/{name}/golden.safetensors"))?));
        let model = model(name, Kind::Double)?;
        let adapter = Adapter::open(golden_folder(&format!("training/{name}/adapter")), &model)?;
        let training = Training::from_adapter(&adapter, objective.clone())?.learning_rate(1e-2).batch(2).epochs(4).check_every(1).seed(3);
        let trained = training.tokens_per_forward(1).compat(Compat::Paper).run(&model, &some_split()?)?;

        let orders: Vec<Vec<i64>> = (&theirs["orders"]).try_into().unwrap();
        let taken: Vec<i64> = (&theirs["taken"]).try_into().unwrap();
        assert_eq!(taken, [2, 3, 3, 3]);
        // In a step, examples come in the order of their lengths: 0, 1, 2.
        let mut left: Vec<usize> = orders.concat().into_iter().map(|example| example as usize).collect();
        let mut expected = Vec::new();
        for count in taken {
            let mut step: Vec<usize> = left.drain(..count as usize).collect();
            step.sort_unstable();
            expected.extend(step);
        }
        assert_eq!(*objective.asked.borrow(), expected);

        let norms: Vec<f64> = (&theirs["gradient_norms"]).try_into().unwrap();
        for (step, (ours, theirs)) in floats(&trained, "gradient_norm")?.into_iter().zip(norms).enumerate() {
            assert!((ours - theirs).abs() < 1e-5 * theirs, "{name} step {step}: {ours} and {theirs}");
        }
        let ours = weights(&trained)?;
        for (key, ours) in &ours {
            let distance = apart(ours, &theirs[&format!("after.{key}")]);
            assert!(distance < 1e-5, "{name} {key}: {distance:.1e}");
        }
        // And not those of the default.
        let default = Training::from_adapter(&adapter, objective)?.learning_rate(1e-2).batch(2).epochs(4).check_every(1).seed(3);
        let default = weights(&default.run(&model, &some_split()?)?)?;
        assert!(ours.iter().any(|(key, ours)| apart(&default[key], ours) > 1e-3));
    }
    Ok(())
}

#[test]
fn compat_paper_keeps_the_last_weights_and_the_default_the_best() -> Result<()> {
    // In f64: with steps this large, what processors round differently in f32 decides which check is the best.
    let model = model(CHECKPOINTS[0], Kind::Double)?;
    // A rate so high that the loss grows again: the last weights are not the best.
    let training = || Training::new(Lora::rank(4), Noted::new(ten())).learning_rate(0.3).batch(10).epochs(12).check_every(1);
    let best = training().run(&model, &some_split()?)?;
    let last = training().compat(Compat::Paper).run(&model, &some_split()?)?;
    // One batch holds all examples: both take the same steps, and the norm tells whose weights they are.
    assert_eq!(floats(&best, "adapter_norm")?, floats(&last, "adapter_norm")?);
    let norms = floats(&best, "adapter_norm")?;
    let dev = floats(&best, "dev_loss")?;
    let place = dev.iter().position(|&loss| Some(loss) == best.dev_loss()).unwrap();
    assert!(place + 1 < dev.len(), "{dev:?}");
    let norm = |trained: &Trained| -> Result<f64> {
        Ok(weights(trained)?.values().map(|tensor| tensor.square().sum(Kind::Double).double_value(&[])).sum::<f64>().sqrt())
    };
    assert!((norm(&best)? - norms[place]).abs() < 1e-5 * norms[place]);
    assert!((norm(&last)? - norms[dev.len() - 1]).abs() < 1e-5 * norms[place]);
    for training in [training().accumulate(2), training().by_length(true)] {
        refused(training.compat(Compat::Paper).run(&model, &some_split()?), &["accumulate", "by_length", "Compat::Paper"]);
    }
    Ok(())
}

#[test]
fn accumulated_batches_step_as_one_large_batch() -> Result<()> {
    let model = model(CHECKPOINTS[1], Kind::Double)?;
    let training = |batch, accumulate| {
        let training = Training::new(Lora::rank(4), Noted::new(ten())).batch(batch).accumulate(accumulate).epochs(4).patience(99);
        training.run(&model, &some_split()?)
    };
    let (one, three) = (training(6, 1)?, training(2, 3)?);
    assert_eq!((one.steps(), three.steps()), (8, 8));
    let three = weights(&three)?;
    for (key, one) in weights(&one)? {
        assert!(apart(&three[&key], &one) < 1e-9, "{key}");
    }
    Ok(())
}

#[test]
fn schedules_clipping_and_weight_decay_show_in_the_history() -> Result<()> {
    let model = model(CHECKPOINTS[0], Kind::Float)?;
    let training = || Training::new(Lora::rank(4), Noted::new(ten())).learning_rate(1e-2).batch(5).epochs(5).check_every(1).patience(99);
    let linear = training().schedule(Schedule::Linear).warm_up(2).run(&model, &some_split()?)?;
    let rates: Vec<f64> = [0.0, 0.5, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125].iter().map(|factor| factor * 1e-2).collect();
    assert_eq!(floats(&linear, "learning_rate")?, rates);

    // Clipping leaves the norm that is told, and Adam's first step whatever the gradient's size; only later ones differ.
    let (free, clipped) = (training().run(&model, &some_split()?)?, training().clip(0.05).run(&model, &some_split()?)?);
    assert_eq!(floats(&free, "gradient_norm")?[0], floats(&clipped, "gradient_norm")?[0]);
    assert!(floats(&clipped, "gradient_norm")?[0] > 0.05);
    assert_ne!(floats(&free, "dev_loss")?[3], floats(&clipped, "dev_loss")?[3]);

    let decayed = training().optimizer(Optimizer::adamw(30.0)).run(&model, &some_split()?)?;
    assert!(floats(&decayed, "adapter_norm")?[9] < 0.5 * floats(&free, "adapter_norm")?[9]);
    for (wrong, words) in [
        (training().clip(0.0), &["clipped to 0"][..]),
        (training().optimizer(Optimizer::adamw(-1.0)), &["weight decay is -1"]),
        (training().accumulate(0), &["accumulate is 0"]),
        (training().keep_optimizer(), &["keep_optimizer", "resume"]),
    ] {
        refused(wrong.run(&model, &some_split()?), words);
    }
    Ok(())
}

/// libtorch has one generator, which a run with hooks seeds: such tests wait for each other.
static GENERATOR: Mutex<()> = Mutex::new(());

/// Halves values at random, as dropout does; drawn from libtorch's generator.
fn noise(hooks: &mut Hooks<'_>) {
    hooks.edit("model.layers.0.self_attn", |_, value| Ok(Some(value.dropout(0.5, true))));
}

#[test]
fn every_kind_of_run_goes_on_to_the_same_bits() -> Result<()> {
    let _alone = GENERATOR.lock();
    let model = model(CHECKPOINTS[1], Kind::Float)?;
    let new = || Training::new(Lora::rank(4), Noted::new(ten())).batch(3).epochs(5).seed(3).check_every(3).patience(99);
    let runs: [(&str, &dyn Fn() -> Training); 5] = [
        ("accumulate", &|| new().batch(2).accumulate(2)),
        ("by length", &|| new().by_length(true)),
        ("schedule", &|| new().schedule(Schedule::Cosine).warm_up(4).optimizer(Optimizer::adamw(0.1)).clip(0.3)),
        ("paper", &|| new().compat(Compat::Paper)),
        ("forwards", &|| new().tokens_per_forward(20)),
    ];
    for (name, run) in runs {
        for noisy in [false, true] {
            let go = |training: Training| -> Result<Trained> {
                let mut hooks = Hooks::new();
                if noisy {
                    noise(&mut hooks);
                }
                training.run_with(&model, &some_split()?, &mut hooks)
            };
            let whole = go(run())?;
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("run.safetensors");
            for steps in [0, 1, 4, 7, 8] {
                // What a notebook draws in between must not matter.
                let _ = Tensor::randn([steps as i64 + 1], (Kind::Float, Device::Cpu));
                let part = go(run().checkpoint(&file).at_most_steps(steps))?;
                assert_eq!((part.steps(), part.stopped()), (steps, Stopped::Budget), "{name}");
            }
            let rest = go(run().checkpoint(&file))?;
            assert_eq!((rest.steps(), rest.stopped()), (whole.steps(), whole.stopped()), "{name}");
            assert_eq!(weights(&rest)?, weights(&whole)?, "{name}, noise {noisy}");
            for column in ["train_loss", "dev_loss", "gradient_norm", "adapter_norm", "learning_rate"] {
                assert_eq!(floats(&rest, column)?, floats(&whole, column)?, "{name}, noise {noisy}, {column}");
            }
            // A finished run that is opened again takes no step; its hooks, if there are any, have nothing to answer for.
            assert_eq!(weights(&go(run().checkpoint(&file))?)?, weights(&whole)?);
        }
    }
    Ok(())
}

#[test]
fn a_stop_file_and_a_time_budget_end_a_run_with_what_it_has() -> Result<()> {
    let model = model(CHECKPOINTS[0], Kind::Float)?;
    let folder = tempfile::tempdir().unwrap();
    let (file, stop) = (folder.path().join("run.safetensors"), folder.path().join("stop"));
    let training = || Training::new(Lora::rank(4), Noted::new(ten())).batch(3).epochs(5).check_every(3).patience(99);
    let whole = training().run(&model, &some_split()?)?;

    let objective = Noted { stop: Some(stop.clone()), ..Noted::new(ten()) };
    let stopping = Training::repeat(whole.manifest(), objective).checkpoint(&file).stop_file(&stop);
    let stopped = stopping.run(&model, &some_split()?)?;
    assert_eq!(stopped.stopped(), Stopped::StopFile);
    assert!(stopped.steps() > 0 && stopped.steps() < whole.steps() && stop.exists());
    let steps = stopped.steps();
    // It is still there: no step is taken.
    assert_eq!(training().checkpoint(&file).stop_file(&stop).run(&model, &some_split()?)?.steps(), steps);
    std::fs::remove_file(&stop).unwrap();

    let timed = training().checkpoint(&file).at_most(Duration::ZERO).run(&model, &some_split()?)?;
    assert_eq!((timed.steps(), timed.stopped()), (steps, Stopped::Budget));
    let mut calls = 0;
    while !training().checkpoint(&file).at_most(Duration::from_micros(1)).run(&model, &some_split()?)?.stopped().eq(&Stopped::Epochs) {
        calls += 1;
        assert!(calls < 100, "a budget of time takes one step at least, or the run would never end");
        training().checkpoint(&file).at_most_steps(steps + calls).run(&model, &some_split()?)?;
    }
    assert_eq!(weights(&training().checkpoint(&file).run(&model, &some_split()?)?)?, weights(&whole)?);
    Ok(())
}

#[test]
fn phases_are_one_history() -> Result<()> {
    let (model, split) = (speaking(CHECKPOINTS[1]), some_split()?);
    let responses = model.respond(&split.target_prompts(256)?)?;
    let target = capture(&model, &responses, "model.layers.*.self_attn")?;
    let first = Training::new(Lora::rank(4), Ia2::toward(&target)).epochs(4).run(&model, &split)?;
    let second = Training::resume(&first, Sft::gold())?.epochs(3).run(&model, &split)?;
    let third = Training::resume(&second, Ia2::toward(&target))?.epochs(2).run(&model, &split)?;
    let history = third.history()?;
    let phases: Vec<u64> = history.column("phase")?.u64()?.into_no_null_iter().collect();
    assert!(phases.is_sorted() && phases[0] == 1 && phases[phases.len() - 1] == 3);
    assert_eq!(phases.len(), history.height());
    let names: Vec<&str> = history.column("objective")?.str()?.iter().flatten().collect();
    let name = |phase: u64| names[phases.iter().position(|&p| p == phase).unwrap()];
    assert_eq!([name(1), name(2), name(3)], ["IA2", "SFT", "IA2"]);
    // The first loss of a phase is that of the best weights of the one before; its own best is its own.
    assert_eq!(
        third.dev_loss(),
        floats(&third, "dev_loss")?[phases.iter().position(|&p| p == 3).unwrap()..].iter().copied().reduce(f64::min)
    );
    let shown = third.bundle().plain;
    assert!(shown.starts_with("Trained(IA2 → SFT → IA2: LoRA r=4"), "{shown}");
    assert!(shown.contains("phase"), "{shown}");
    assert_eq!(third.manifest().earlier().len(), 2);

    // Phases go on after an interruption, too.
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("1"), folder.path().join("2"));
    let mut last = None;
    for steps in [1, 2, 99] {
        let primed = Training::new(Lora::rank(4), Ia2::toward(&target)).epochs(4).checkpoint(&one).run(&model, &split)?;
        last = Some(Training::resume(&primed, Sft::gold())?.epochs(3).checkpoint(&two).at_most_steps(steps).run(&model, &split)?);
    }
    let last = last.unwrap();
    assert_eq!(weights(&last)?, weights(&second)?);
    assert_eq!(floats(&last, "dev_loss")?, floats(&second, "dev_loss")?);
    Ok(())
}

#[test]
fn a_kept_optimiser_goes_on_as_if_there_were_no_phases() -> Result<()> {
    let model = model(CHECKPOINTS[0], Kind::Float)?;
    // One batch of all: every epoch is the same step. The last weights, so that the phases join.
    let training = |epochs| Training::new(Lora::rank(4), Noted::new(ten())).batch(10).epochs(epochs).patience(99).compat(Compat::Paper);
    let whole = weights(&training(6).run(&model, &some_split()?)?)?;
    let half = training(3).run(&model, &some_split()?)?;
    let kept = Training::resume(&half, Noted::new(ten()))?.keep_optimizer().run(&model, &some_split()?)?;
    let fresh = Training::resume(&half, Noted::new(ten()))?.run(&model, &some_split()?)?;
    assert_eq!(weights(&kept)?, whole);
    assert_ne!(weights(&fresh)?, whole);
    Ok(())
}

#[test]
fn parts_of_an_objective_have_columns() -> Result<()> {
    let model = model(CHECKPOINTS[0], Kind::Float)?;
    let part = |name: &str, weight| Part { name: name.into(), weight };
    let mut two = Noted::new(ten());
    two.parts = vec![part("IA2", 0.75), part("CE on ICL", 0.125)];
    let first = Training::new(Lora::rank(4), Noted::new(ten())).epochs(1).run(&model, &some_split()?)?;
    let trained = Training::resume(&first, two.clone())?.run(&model, &some_split()?)?;
    for set in ["train", "dev"] {
        let history = trained.history()?;
        let column = |name: &str| history.column(name).unwrap().f64().unwrap().to_vec();
        let (ia2, ce, whole) = (column(&format!("{set}_ia2")), column(&format!("{set}_ce_on_icl")), column(&format!("{set}_loss")));
        // The second part is twice the first; phase 1 knows neither.
        assert!(ia2[0].is_none() && ce[0].is_none());
        let last = whole.len() - 1;
        let (ia2, ce, whole) = (ia2[last].unwrap(), ce[last].unwrap(), whole[last].unwrap());
        assert!((ce - 2.0 * ia2).abs() < 1e-5 * ce && (0.75 * ia2 + 0.125 * ce - whole).abs() < 1e-6 * whole);
    }
    // What is not finite is named by its part, and the last good state is told.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.safetensors");
    let _alone = GENERATOR.lock();
    let mut calls = 0;
    let mut hooks = Hooks::new();
    hooks.edit("model.layers.1.self_attn", |_, value| {
        calls += 1;
        Ok(Some(if calls > 10 { value * f64::NAN } else { value.shallow_clone() }))
    });
    let training = Training::new(Lora::rank(4), two).batch(10).tokens_per_forward(9999).check_every(1).checkpoint(&file);
    let error =
        refused(training.run_with(&model, &some_split()?, &mut hooks), &["`IA2`", "after 5 steps", "of step 5", "run.safetensors", "[0,"]);
    assert!(error.is_numeric() && error.to_string().contains("train loss"), "{error}");
    // Ended between two checks, the file is newer than the last of them.
    let file = folder.path().join("ended.safetensors");
    let training = || Training::new(Lora::rank(4), Noted::new(ten())).batch(2).check_every(2).checkpoint(&file);
    training().at_most_steps(3).run(&model, &some_split()?)?;
    let mut hooks = Hooks::new();
    hooks.edit("model.layers.1.self_attn", |_, value| Ok(Some(value * f64::NAN)));
    refused(training().run_with(&model, &some_split()?, &mut hooks), &["after 3 steps", "of step 3", "ended.safetensors"]);

    let mut wrong = Noted::new(ten());
    wrong.parts.clear();
    refused(Training::new(Lora::rank(4), wrong).run(&model, &some_split()?), &["parts"]);
    Ok(())
}

#[test]
fn half_precision_weights_train_an_adapter_in_f32() -> Result<()> {
    let model = model("llama_bf16", Kind::BFloat16)?;
    let trained = Training::new(Lora::rank(4), Noted::new(ten())).learning_rate(1e-2).epochs(6).run(&model, &some_split()?)?;
    assert!(weights(&trained)?.values().all(|tensor| tensor.kind() == Kind::Float));
    let dev = floats(&trained, "dev_loss")?;
    assert!(trained.dev_loss().unwrap() < 0.9 * dev[0], "{dev:?}");
    assert_eq!(trained.model().kind(), Kind::BFloat16);
    Ok(())
}

#[test]
fn a_preview_tells_what_is_taught_and_nothing_to_teach_is_refused() -> Result<()> {
    let (model, split) = (speaking(CHECKPOINTS[0]), some_split()?);
    let frame = Training::new(Lora::rank(2), Sft::gold()).preview(&model, &split)?;
    assert_eq!(frame.get_column_names(), ["split", "sample", "position", "id", "token", "role", "taught"]);
    // Six train and three dev samples of two words and a label.
    assert_eq!(frame.height(), 9 * 3);
    let texts = |column: &str| frame.column(column).unwrap().str().unwrap().iter().flatten().map(str::to_string).collect::<Vec<_>>();
    let query = &split.train.rows()[0];
    assert_eq!(texts("token")[..3], [query.query.split(' ').collect::<Vec<_>>()[..2].to_vec(), vec![&query.gold]].concat());
    assert_eq!(texts("role")[..3], ["prompt", "prompt", "response"]);
    assert_eq!(texts("split")[17..19], ["train", "dev"]);
    assert_eq!(frame.column("taught")?.bool()?.sum().unwrap(), 9);
    assert_eq!(frame.column("sample")?.u32()?.get(18), Some(0));

    let mut empty = ten();
    empty[4].response.clear();
    refused(
        Training::new(Lora::rank(2), Noted::new(empty.clone())).preview(&model, &split),
        &["train sample 4", "\"t", "no response tokens"],
    );
    refused(Training::new(Lora::rank(2), Noted::new(empty)).run(&model, &split), &["train sample 4"]);
    Ok(())
}

#[test]
fn a_manifest_repeats_its_run_to_the_same_bits() -> Result<()> {
    let folders = CHECKPOINTS.map(with_words);
    let (model, split) = (Model::open(folders[1].path())?, some_split()?);
    let responses = model.respond(&split.target_prompts(256)?)?;
    let target = capture(&model, &responses, "model.layers.*.self_attn")?;
    // Numbers with all their digits.
    let training = Training::new(Lora::rank(4), Ia2::toward(&target)).learning_rate(1e-2 / 3.0).schedule(Schedule::Cosine).warm_up(1);
    let training = training.optimizer(Optimizer::adamw(0.1 / 7.0)).clip(1.0 / 3.0).batch(2).accumulate(2).by_length(true).seed(5).epochs(4);
    let primed = training.run(&model, &split)?;
    let tuned = Training::resume(&primed, Sft::gold())?.epochs(2).keep_optimizer().run(&model, &split)?;

    let folder = tempfile::tempdir().unwrap();
    tuned.save(folder.path().join("run"))?;
    let names: Vec<String> =
        listing(&folder.path().join("run")).iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap().into()).collect();
    assert_eq!(names, ["adapter_config.json", "adapter_model.safetensors", "ia2_history.csv", "ia2_manifest.json"]);
    assert!(Adapter::open(folder.path().join("run"), &model).is_ok());
    let csv = std::fs::read_to_string(folder.path().join("run/ia2_history.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + tuned.history()?.height());
    assert!(csv.starts_with("phase,objective,step,epoch,train_loss,dev_loss,learning_rate,"), "{csv}");

    let manifest = Manifest::open(folder.path().join("run/ia2_manifest.json"))?;
    assert_eq!(&manifest, tuned.manifest());
    let [first] = manifest.earlier() else { panic!("one phase before") };
    let again = Training::repeat(first, Ia2::toward(&target)).run(&model, &split)?;
    assert_eq!(weights(&again)?, weights(&primed)?);
    let both = Training::repeat(&manifest, Sft::gold()).after(&again)?.run(&model, &split)?;
    assert_eq!(weights(&both)?, weights(&tuned)?);
    assert_eq!(floats(&both, "dev_loss")?, floats(&tuned, "dev_loss")?);

    // A run that was ended early, too.
    let short = Training::new(Lora::rank(4), Sft::gold()).batch(2).at_most_steps(3).run(&model, &split)?;
    let again = Training::repeat(short.manifest(), Sft::gold()).run(&model, &split)?;
    assert_eq!((again.steps(), weights(&again)?), (3, weights(&short)?));

    // Refused, and said why: other data, other targets, another model, another start, other settings.
    let repeat = || Training::repeat(first, Ia2::toward(&target));
    let other = Activations::new(target.values()? * 1.5, target.hook_points().to_vec(), target.responses().clone())?;
    refused(Training::repeat(first, Ia2::toward(&other)).run(&model, &split), &["the objective's data"]);
    refused(Training::repeat(first, Sft::gold()).run(&model, &split), &["the objective (IA2 then, SFT now)"]);
    refused(repeat().learning_rate(0.5).run(&model, &split), &["the settings"]);
    refused(repeat().run(&Model::open(folders[0].path())?, &split), &["the model's configuration", "the model's weights"]);
    let double = OpenOptions::new().kind(Kind::Double).open(folders[1].path())?;
    refused(repeat().run(&double, &split), &["the model's kind (Float then, Double now)"]);
    refused(Training::repeat(&manifest, Sft::gold()).run(&model, &split), &["came after 1 others", "after"]);
    refused(Training::repeat(&manifest, Sft::gold()).after(&tuned)?.run(&model, &split), &["comes after 2"]);
    let stranger = Training::new(Lora::rank(4), Ia2::toward(&target)).epochs(1).run(&model, &split)?;
    refused(Training::repeat(&manifest, Sft::gold()).after(&stranger)?.run(&model, &split), &["the adapter it goes on from"]);
    let mut swapped = split.clone();
    (swapped.train, swapped.dev) = (split.test.take(6), split.dev.clone());
    let gold = Training::new(Lora::rank(4), Sft::gold()).epochs(1).run(&model, &split)?;
    refused(Training::repeat(gold.manifest(), Sft::gold()).run(&model, &swapped), &["the samples"]);
    refused(Training::new(Lora::rank(2), Sft::gold()).after(&gold)?.run(&model, &split), &["r=2", "r=4"]);

    let path = folder.path().join("broken.json");
    let text = manifest.json()?;
    let (one, other) = ("\"seed\": 5", "\"seed\": 6");
    assert!(text.contains(one));
    for (broken, word) in
        [("{}", "not a manifest"), (&text.replacen(one, other, 1), "changed or damaged"), (&text[..900], "not a manifest")]
    {
        std::fs::write(&path, broken).unwrap();
        refused(Manifest::open(&path), &["broken.json", word]);
    }
    std::fs::write(&path, text.replacen("\"format\": 2", "\"format\": 1", 1)).unwrap();
    refused(Manifest::open(&path), &["format 1", "reads 2"]);
    refused(Manifest::open(Path::new("/nowhere/at/all.json")), &["/nowhere/at/all.json"]);
    Ok(())
}

#[test]
fn a_run_goes_on_from_an_adapter_that_was_saved_and_opened() -> Result<()> {
    let (model, split) = (speaking(CHECKPOINTS[1]), some_split()?);
    let configs: [AdapterConfig; 5] = [
        Lora::rank(4).into(),
        Lora::rank(4).dropout(0.25).rank_stabilised().rank_at("o_proj", 2).alpha_at("model.layers.0.*.q_proj", 3.0).layers([0, 2]).into(),
        Ia3::new().compat(Compat::Paper).into(),
        PromptTuning::tokens(2).start(Start::Random).into(),
        PrefixTuning::tokens(2).start(Start::Random).into(),
    ];
    let folder = tempfile::tempdir().unwrap();
    for config in configs {
        let first = Training::new(config.clone(), Sft::gold()).epochs(1).run(&model, &split)?;
        let next = Training::from_adapter(first.adapter(), Sft::gold())?.epochs(1).run(&model, &split)?;
        first.save(folder.path())?;
        let opened = Adapter::open(folder.path(), &model)?;
        let again = Training::repeat(next.manifest(), Sft::gold()).start_from(&opened)?.run(&model, &split)?;
        assert_eq!(weights(&again)?, weights(&next)?, "{}", config.name());
        assert_eq!(again.adapter().config(), &config);
        let elsewhere = Model::open(with_words(CHECKPOINTS[0]).path())?;
        refused(Training::from_adapter(&opened, Sft::gold())?.run(&elsewhere, &split), &["does not fit"]);
    }
    let broken = Adapter::new(&model, Lora::rank(4), 0)?;
    let _ = broken.update("model.layers.0.self_attn.q_proj")?.unwrap().b.fill_(f64::NAN);
    refused(Training::from_adapter(&broken, Sft::gold())?.run(&model, &split), &["loss is NaN after 0 steps"]);
    // Fresh updates are zero at any scale.
    let fresh = Adapter::new(&model, Lora::rank(4), 0)?;
    for (other, word) in
        [(Lora::rank(4).alpha(16.0), "alpha=16"), (Lora::rank(4).sites("q_proj"), "on q_proj"), (Lora::rank(4).rank_stabilised(), "rs")]
    {
        refused(Training::new(other, Sft::gold()).start_from(&fresh)?.run(&model, &split), &["cannot go on from", word]);
    }
    Ok(())
}

#[test]
fn dropout_is_seeded_and_every_adapter_trains() -> Result<()> {
    let _alone = GENERATOR.lock();
    let model = model(CHECKPOINTS[1], Kind::Float)?;
    let dropped = |p: f64| Training::new(Lora::rank(4).dropout(p), Noted::new(ten())).epochs(3).run(&model, &some_split()?);
    let one = dropped(0.3)?;
    let _ = Tensor::randn([9], (Kind::Float, Device::Cpu));
    assert_eq!(weights(&dropped(0.3)?)?, weights(&one)?);
    assert_ne!(weights(&dropped(0.0)?)?, weights(&one)?);
    for config in [AdapterConfig::from(Ia3::new()), PromptTuning::tokens(4).into(), PrefixTuning::tokens(4).into()] {
        let trained = Training::new(config.clone(), Noted::new(ten())).learning_rate(1e-2).epochs(6).run(&model, &some_split()?)?;
        let dev = floats(&trained, "dev_loss")?;
        assert!(trained.dev_loss().unwrap() < dev[0], "{dev:?}");
        let again = Training::repeat(trained.manifest(), Noted::new(ten())).run(&model, &some_split()?)?;
        assert_eq!(floats(&again, "dev_loss")?, dev);
    }
    Ok(())
}

/// A training with dropout on this thread, in a model of its own.
fn with_dropout(seed: u64) -> Vec<Vec<f64>> {
    let run = || -> Result<Vec<Vec<f64>>> {
        let model = model(CHECKPOINTS[0], Kind::Float)?;
        let training = Training::new(Lora::rank(4).dropout(0.3), Noted::new(ten())).batch(2).epochs(4).seed(seed);
        let trained = training.run(&model, &some_split()?)?;
        let mut weights: Vec<_> = weights(&trained)?.into_iter().collect();
        weights.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(weights.iter().map(|(_, values)| Vec::try_from(values.reshape([-1]).to_kind(Kind::Double)).unwrap()).collect())
    };
    run().unwrap()
}

#[test]
fn trainings_side_by_side_draw_what_each_draws_alone() {
    let alone = [1, 2].map(|seed| std::thread::spawn(move || with_dropout(seed)).join().unwrap());
    assert_ne!(alone[0], alone[1]);
    for _ in 0..3 {
        let both = [1, 2].map(|seed| std::thread::spawn(move || with_dropout(seed)));
        // Somebody else who draws from the process's generator; not beside a test that draws from it, too.
        let _alone = GENERATOR.lock();
        for _ in 0..2000 {
            let _ = Tensor::rand([16], (Kind::Float, Device::Cpu));
        }
        let both = both.map(|thread| thread.join().unwrap());
        assert!(both == alone, "beside another training other numbers are dropped");
    }
}
