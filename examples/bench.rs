//! The library's side of `cargo xtask bench`: one case per process, one JSON line on stdout.
//!
//! ```sh
//! cargo run --release --example bench -- CHECKPOINT WORK.json CASE [--threads 2] [--repeats 5] [--warmup 1]
//! ```
//!
//! `tests/python/bench_hf.py` describes WORK.json and the line; cases here are `collect-<T>`, `ia2-<T>`, `sft-<T>` (T is 1 or 32 response
//! tokens), `evaluate`, and `similarity` (of two captures made by a formula; the model is not asked). All through the public doors, with the defaults a notebook gets; tokenising and the frame are inside the timing.

use std::fs;
use std::time::Instant;

use ia2::activations::{Activations, Capture, Tokens};
use ia2::dataset::Card;
use ia2::model::{Ending, Response, Sample};
use ia2::prelude::*;
use ia2::prompt::{AnswerForm, Example, Examples, Prompt, Prompts};
use ia2::similarity::MEASURES;
use ia2::tch;
use serde::Deserialize;
use serde_json::{Value, json};

const SITES: &str = "model.layers.*.self_attn";
const TRAIN_BATCH: usize = 4;

type Ids = Vec<u32>;
type Failure = Box<dyn std::error::Error>;

#[derive(Deserialize)]
struct Work {
    collect: Vec<Ids>,
    train: Train,
    evaluate: Queries,
}

#[derive(Deserialize)]
struct Train {
    prompts: Vec<Ids>,
    responses: Vec<Ids>,
}

#[derive(Deserialize)]
struct Queries {
    demonstrations: Ids,
    queries: Vec<Ids>,
}

/// One case: `once` is what is timed, `check` what it can be compared by, computed afterwards.
struct Case<'m> {
    samples: usize,
    batch: usize,
    once: Box<dyn Fn() -> Result<Value> + 'm>,
    check: Box<dyn Fn() -> Result<Value> + 'm>,
}

fn main() -> std::process::ExitCode {
    let listening = ia2::interrupt::listen().map_err(Box::<dyn std::error::Error>::from);
    ia2::interrupt::exit_code(listening.and_then(|()| run()))
}

fn run() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [checkpoint, work, case, options @ ..] = &arguments[..] else {
        return Err("usage: bench CHECKPOINT WORK.json CASE [--threads N] [--repeats N] [--warmup N]".into());
    };
    let option = |name: &str, default: usize| match options.iter().position(|option| option == name) {
        Some(place) => {
            options.get(place + 1).ok_or(format!("{name} needs a number"))?.parse().map_err(|_| format!("{name} needs a number"))
        }
        None => Ok(default),
    };
    let (threads, repeats, warmup) = (option("--threads", 2)?, option("--repeats", 5)?, option("--warmup", 1)?);
    tch::set_num_threads(threads as i32);
    let work: Work = serde_json::from_slice(&fs::read(work)?)?;
    let baseline = memory_mb("VmRSS")?;
    fs::write("/proc/self/clear_refs", "5")?; // VmHWM counts from here

    let model = OpenOptions::new().device(Device::Cpu).open(checkpoint)?;
    let case_of = prepare(&model, &work, case)?;
    let (mut seconds, mut first, mut before) = (Vec::new(), None, cpu_seconds()?);
    for repeat in 0..warmup + repeats {
        if repeat == warmup {
            before = cpu_seconds()?;
        }
        let start = Instant::now();
        let result = (case_of.once)()?;
        if repeat >= warmup {
            seconds.push(start.elapsed().as_secs_f64());
        }
        first.get_or_insert(result);
    }
    let cpu = (cpu_seconds()? - before) / repeats as f64;
    let peak = memory_mb("VmHWM")?;
    let check = match first {
        Some(Value::Null) | None => (case_of.check)()?,
        Some(result) => result,
    };
    let mut sorted = seconds.clone();
    sorted.sort_by(f64::total_cmp);
    let median = (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0;
    let line = json!({
        "case": case, "samples_per_s": case_of.samples as f64 / median, "samples": case_of.samples, "seconds": seconds,
        "cpu_seconds": cpu, "peak_mb": peak, "baseline_mb": baseline, "threads": threads, "batch": case_of.batch,
        "versions": { "ia2": env!("CARGO_PKG_VERSION") }, "check": check,
    });
    println!("{line}");
    Ok(())
}

fn prepare<'m>(model: &'m Model, work: &Work, case: &str) -> Result<Case<'m>, Failure> {
    let parts: Vec<&str> = case.split('-').collect();
    Ok(match parts[..] {
        ["collect", tokens] => collect(model, work, tokens.parse()?),
        [objective @ ("ia2" | "sft"), tokens] => training(model, work, objective == "ia2", tokens.parse()?)?,
        ["evaluate"] => evaluating(model, work)?,
        ["similarity"] => similarity()?,
        _ => return Err(format!("there is no case `{case}`").into()),
    })
}

fn collect<'m>(model: &'m Model, work: &Work, tokens: usize) -> Case<'m> {
    let prompts = prompts(work.collect.iter().map(|ids| text(ids)));
    let settings = Generation::greedy(tokens).ignore_eos();
    let once = move || {
        let (responses, activations) = Capture::at(SITES).while_generating(model, &prompts, &settings)?;
        let generated: Vec<&Ids> = responses.rows().iter().map(|row| &row.tokens.response).collect();
        Ok(json!({ "tokens": generated, "norm": activations.values()?.norm().double_value(&[]) }))
    };
    Case { samples: work.collect.len(), batch: work.collect.len().min(32), once: Box::new(once), check: Box::new(|| Ok(Value::Null)) }
}

/// One pass over the examples: one step per 4. As in the Python side IA2's targets are zeros, and the check is the first batch's loss.
fn training<'m>(model: &'m Model, work: &Work, toward_activations: bool, tokens: usize) -> Result<Case<'m>> {
    let Train { prompts, responses } = &work.train;
    let samples: Vec<Sample> =
        prompts.iter().zip(responses).map(|(p, r)| Sample { prompt: p.clone(), response: r[..tokens].to_vec() }).collect();
    let train = move |samples: &[Sample], steps: u64, check_every: u64| {
        let example = |sample: &Sample| Example::new(text(&sample.prompt), text(&sample.response));
        let examples = Examples::new("bench", AnswerForm::free(), samples.iter().map(example).collect())?;
        let mut split = Task::of(examples.clone(), Card::default()).few_shot(1, 0)?;
        // A dev set has to be there; nobody looks at it while time is taken.
        (split.dev, split.train) = (examples.take(1), examples);
        if !toward_activations {
            let responses = taught(samples);
            return passes(Training::new(Lora::rank(8), Sft::on(&responses)), model, &split, steps, check_every);
        }
        let hook_points: Vec<String> = (0..model.config().layers).map(|layer| SITES.replace('*', &layer.to_string())).collect();
        let size = [samples.len() as i64 + 1, hook_points.len() as i64, samples[0].response.len() as i64, model.config().hidden_size];
        let target = Activations::new(Tensor::zeros(size, (Kind::Float, Device::Cpu)), hook_points, taught(samples))?;
        passes(Training::new(Lora::rank(8), Ia2::toward(&target)), model, &split, steps, check_every)
    };
    let first = samples[..TRAIN_BATCH].to_vec();
    let count = samples.len();
    let steps = count.div_ceil(TRAIN_BATCH) as u64;
    // Half an epoch, because at an epoch's end the dev set is looked at.
    let twice = [samples.clone(), samples].concat();
    let once = move || train(&twice, steps, u64::MAX).map(|_| Value::Null);
    let check = move || {
        let history = train(&first, 1, 1)?.history()?;
        Ok(json!({ "loss": history.column("train_loss")?.f64()?.get(0) }))
    };
    Ok(Case { samples: count, batch: TRAIN_BATCH, once: Box::new(once), check: Box::new(check) })
}

fn passes(training: Training, model: &Model, split: &Split, steps: u64, check_every: u64) -> Result<Trained> {
    training.batch(TRAIN_BATCH).learning_rate(1e-4).epochs(2).check_every(check_every).at_most_steps(steps).run(model, split)
}

/// The samples as responses to the train set, and the first again as the dev set's.
fn taught(samples: &[Sample]) -> Responses {
    let row = |(index, sample): (usize, &Sample)| Response {
        prompt: Prompt { demonstrations: Vec::new(), example: Example::new(text(&sample.prompt), text(&sample.response)), index },
        tokens: sample.clone(),
        text: text(&sample.response),
        ending: Ending::Length,
        close_calls: 0,
    };
    Responses::from_rows(AnswerForm::free(), samples.iter().chain(&samples[..1]).enumerate().map(row).collect())
}

/// A label task of two labels. The frame does not tell the likeliest of all tokens, which the check asks for.
fn evaluating<'m>(model: &'m Model, work: &Work) -> Result<Case<'m>> {
    let Queries { demonstrations, queries } = &work.evaluate;
    let rows: Vec<Ids> = queries.iter().map(|query| [&demonstrations[..], query].concat()).collect();
    let prompts = prompts(rows.iter().map(|ids| text(ids))).with_form(AnswerForm::labels(["t10", "t11"])?);
    let once = move || evaluate(model, &prompts).map(|_| Value::Null);
    let check = move || {
        let best = model.generate(&rows, &Generation::greedy(1).ignore_eos())?;
        Ok(json!({ "best": best.iter().map(|row| row.tokens.response[0]).collect::<Ids>() }))
    };
    Ok(Case { samples: queries.len(), batch: 16, once: Box::new(once), check: Box::new(check) })
}

/// Every measure that is defined there at every layer of two captures `[example 500, layer 36, token 1, hidden 2560]`, by
/// `bench_similarity.py`'s formula.
fn similarity<'m>() -> Result<Case<'m>> {
    const SIZE: [i64; 2] = [500, 2560];
    const LAYERS: i64 = 36;
    let noise = |seed: i64| {
        let place = Tensor::arange(SIZE[0] * SIZE[1], (Kind::Double, Device::Cpu)) + seed as f64 * 1e7;
        let wave = (place * 12.9898).sin() * 43758.5453;
        (&wave - wave.floor()).view(SIZE)
    };
    let size = [SIZE[0], LAYERS, 1, SIZE[1]];
    let (left, right) = (Tensor::zeros(size, (Kind::Float, Device::Cpu)), Tensor::zeros(size, (Kind::Float, Device::Cpu)));
    for layer in 0..LAYERS {
        let (a, b) = (noise(2 * layer), noise(2 * layer + 1));
        left.select(1, layer).select(1, 0).copy_(&a);
        right.select(1, layer).select(1, 0).copy_(&(a * 0.5 + b * 0.5));
    }
    let samples: Vec<Sample> = (0..SIZE[0] as u32).map(|row| Sample { prompt: vec![2 + row], response: vec![2] }).collect();
    let capture = |values: Tensor| {
        let points = (0..LAYERS).map(|layer| SITES.replace('*', &layer.to_string())).collect();
        // One token each, and no dev set behind them.
        let rows = taught(&samples).rows()[..samples.len()].to_vec();
        Activations::new(values, points, Responses::from_rows(AnswerForm::free(), rows))
    };
    let (a, b) = (capture(left)?, capture(right)?);
    let once = move || {
        let mut value = 0.0;
        // Undefined there: more directions than examples.
        for measure in MEASURES.iter().filter(|measure| measure.name != "cca") {
            let frame = a.compare(&b, measure.name, Tokens::First)?;
            if ["linear_cka", "svcca", "rsa_pearson", "mutual_neighbours_10"].contains(&measure.name) {
                value += frame.column("value")?.f64()?.get(0).unwrap_or(f64::NAN);
            }
        }
        Ok(json!({ "value": value }))
    };
    Ok(Case { samples: LAYERS as usize, batch: 1, once: Box::new(once), check: Box::new(|| Ok(Value::Null)) })
}

fn prompts(texts: impl Iterator<Item = String>) -> Prompts {
    let prompt = |(index, text): (usize, String)| Prompt { demonstrations: Vec::new(), example: Example::new(text, "t10"), index };
    Prompts::new(texts.enumerate().map(prompt).collect())
}

/// The bench model's tokenizer knows the words `t0`, `t1`, ...
fn text(ids: &[u32]) -> String {
    ids.iter().map(|id| format!("t{id}")).collect::<Vec<_>>().join(" ")
}

/// `VmRSS` (now) or `VmHWM` (peak) of this process.
fn memory_mb(field: &str) -> Result<f64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(field)).ok_or("no such line in /proc/self/status")?;
    let kilobytes: f64 = line.split_whitespace().nth(1).ok_or("a line without a number")?.parse()?;
    Ok((kilobytes / 102.4).round() / 10.0)
}

/// Processor time of all threads so far, in steps of 10 ms.
fn cpu_seconds() -> Result<f64, Failure> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name in parentheses may hold anything; user and system time are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: f64 = [11, 12].iter().filter_map(|&field| fields.get(field)?.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}
