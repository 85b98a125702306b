//! The training loop: its steps, phases, ends, and what it tells of itself.

#[path = "../common/mod.rs"]
mod common;
mod resumed;

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
use ia2::objective::{LossTerm, Objective, Outputs, Samples};
use ia2::prelude::*;
use ia2::prompt::{AnswerForm, Example, Examples};
use ia2::train::{Manifest, Optimizer, Schedule, Stopped};

const CHECKPOINTS: [&str; 2] = ["llama_grouped_tied", "qwen3_grouped_tied"];

/// Cross-entropy on token ids of the test's choosing, the dev set being the train set again; it notes which examples it is asked for.
#[derive(Clone, Debug)]
struct Noted {
    inner: Sft,
    samples: Vec<Sample>,
    parts: Vec<LossTerm>,
    asked: Rc<RefCell<Vec<usize>>>,
    /// A file to write once twelve have been asked for.
    stop: Option<PathBuf>,
}

impl Noted {
    fn new(samples: Vec<Sample>) -> Self {
        let whole = LossTerm { name: "CE on these".into(), weight: 1.0 };
        Self { inner: Sft::gold(), samples, parts: vec![whole], asked: Rc::default(), stop: None }
    }
}

impl Objective for Noted {
    fn name(&self) -> String {
        "noted".into()
    }
    fn parts(&self) -> Vec<LossTerm> {
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

/// libtorch has one generator, which a run with hooks seeds: such tests wait for each other.
static GENERATOR: Mutex<()> = Mutex::new(());

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

#[test]
fn parts_of_an_objective_have_columns() -> Result<()> {
    let model = model(CHECKPOINTS[0], Kind::Float)?;
    let part = |name: &str, weight| LossTerm { name: name.into(), weight };
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
        // Somebody else who draws from the process's generator; not while a test runs that draws from it, too.
        let _alone = GENERATOR.lock();
        for _ in 0..2000 {
            let _ = Tensor::rand([16], (Kind::Float, Device::Cpu));
        }
        let both = both.map(|thread| thread.join().unwrap());
        assert!(both == alone, "next to another training other numbers are dropped");
    }
}
