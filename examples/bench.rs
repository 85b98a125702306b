//! The library's side of `cargo xtask bench`: one case per process, one JSON line on stdout.
//!
//! ```sh
//! cargo run --release --example bench -- CHECKPOINT WORK.json CASE [--threads 2] [--repeats 5] [--warmup 1] [--kind bf16]
//! cargo run --release --example bench -- prepare MODEL FOLDER WORK.json
//! ```
//!
//! The second writes the work for a model: prompts of seeded random words of its vocabulary; and into the folder, unless it is the model's own,
//! a copy that Python opens.
//!
//! `tests/python/bench_hf.py` describes WORK.json and the line; cases here are `collect-<T>`, `ia2-<T>`, `sft-<T>` (T is 1 or 32 response
//! tokens), `evaluate`, and `similarity` (of two captures made by a formula; the model is not asked). All through the public API, with the defaults a notebook gets; tokenising and the frame are inside the timing.

use std::fs;
use std::time::Instant;

use ia2::activations::{Activations, Capture, Tokens};
use ia2::dataset::Card;
use ia2::model::{Ending, Response, Sample};
use ia2::prelude::*;
use ia2::prompt::{AnswerForm, Example, Examples, Prompt, Prompts};
use ia2::similarity::MEASURES;
use ia2::tch;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const SITES: &str = "model.layers.*.self_attn";
const TRAIN_BATCH: usize = 4;

type Ids = Vec<u32>;
type Failure = Box<dyn std::error::Error>;

#[derive(Serialize, Deserialize)]
struct Work {
    collect: Vec<Ids>,
    train: Train,
    evaluate: Queries,
}

#[derive(Serialize, Deserialize)]
struct Train {
    prompts: Vec<Ids>,
    responses: Vec<Ids>,
}

#[derive(Serialize, Deserialize)]
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
    if let [command, model, folder, work] = &arguments[..]
        && command == "prepare"
    {
        return write_work(model, folder, work);
    }
    let [checkpoint, work, case, options @ ..] = &arguments[..] else {
        return Err("usage: bench CHECKPOINT WORK.json CASE [--threads N] [--repeats N] [--warmup N] [--kind f32|bf16]".into());
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

    let kind = match options.iter().position(|option| option == "--kind").and_then(|place| options.get(place + 1)).map(String::as_str) {
        None | Some("f32") => Kind::Float,
        Some("bf16") => Kind::BFloat16,
        Some(other) => return Err(format!("--kind is f32 or bf16, not `{other}`").into()),
    };
    let model = OpenOptions::new().device(Device::Cpu).kind(kind).open(checkpoint)?;
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
        ["collect", tokens] => collect(model, work, tokens.parse()?)?,
        [objective @ ("ia2" | "sft"), tokens] => training(model, work, objective == "ia2", tokens.parse()?)?,
        ["evaluate"] => evaluating(model, work)?,
        ["similarity"] => similarity()?,
        _ => return Err(format!("there is no case `{case}`").into()),
    })
}

fn collect<'m>(model: &'m Model, work: &Work, tokens: usize) -> Result<Case<'m>> {
    let prompts = prompts(model, work.collect.iter().map(Vec::as_slice), "")?;
    let settings = Generation::greedy(tokens).ignore_eos();
    let once = move || {
        let (responses, activations) = Capture::at(SITES).while_generating(model, &prompts, &settings)?;
        let generated: Vec<&Ids> = responses.rows().iter().map(|row| &row.tokens.response).collect();
        Ok(json!({ "tokens": generated, "norm": activations.values()?.norm().double_value(&[]) }))
    };
    let samples = work.collect.len();
    Ok(Case { samples, batch: samples.min(32), once: Box::new(once), check: Box::new(|| Ok(Value::Null)) })
}

/// One pass over the examples: one step per 4. As in the Python side IA2's targets are zeros, and the check is the first batch's loss.
fn training<'m>(model: &'m Model, work: &Work, toward_activations: bool, tokens: usize) -> Result<Case<'m>> {
    let Train { prompts, responses } = &work.train;
    let samples: Vec<Sample> =
        prompts.iter().zip(responses).map(|(p, r)| Sample { prompt: p.clone(), response: r[..tokens].to_vec() }).collect();
    let train = move |samples: &[Sample], steps: u64, check_every: u64| {
        let example = |sample: &Sample| Ok(Example::new(text(model, &sample.prompt)?, text(model, &sample.response)?));
        let examples = samples.iter().map(example).collect::<Result<Vec<_>>>()?;
        let examples = Examples::new("bench", AnswerForm::free(), examples)?;
        let mut split = Task::of(examples.clone(), Card::default()).few_shot(1, 0)?;
        // A dev set has to be there; nobody looks at it while time is taken.
        (split.dev, split.train) = (examples.take(1), examples);
        if !toward_activations {
            let responses = fixed_responses(model, samples)?;
            return passes(Training::new(Lora::rank(8), Sft::on(&responses)), model, &split, steps, check_every);
        }
        let hook_points: Vec<String> = (0..model.config().layers).map(|layer| SITES.replace('*', &layer.to_string())).collect();
        let size = [samples.len() as i64 + 1, hook_points.len() as i64, samples[0].response.len() as i64, model.config().hidden_size];
        let target = Activations::new(Tensor::zeros(size, (Kind::Float, Device::Cpu)), hook_points, fixed_responses(model, samples)?)?;
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
fn fixed_responses(model: &Model, samples: &[Sample]) -> Result<Responses> {
    let row = |(index, sample): (usize, &Sample)| {
        let (prompt, response) = (text(model, &sample.prompt)?, text(model, &sample.response)?);
        Ok(responded(index, sample, Example::new(prompt, response.clone()), response))
    };
    let rows = samples.iter().chain(&samples[..1]).enumerate().map(row).collect::<Result<Vec<_>>>()?;
    Ok(Responses::from_rows(AnswerForm::free(), rows))
}

fn responded(index: usize, sample: &Sample, example: Example, text: String) -> Response {
    Response {
        prompt: Prompt { demonstrations: Vec::new(), example, index },
        tokens: sample.clone(),
        text,
        ending: Ending::Length,
        close_calls: 0,
    }
}

/// A label task of two labels. The frame does not tell the likeliest of all tokens, which the check asks for.
fn evaluating<'m>(model: &'m Model, work: &Work) -> Result<Case<'m>> {
    let Queries { demonstrations, queries } = &work.evaluate;
    let rows: Vec<Ids> = queries.iter().map(|query| [&demonstrations[..], query].concat()).collect();
    // Any two words that a label task may have.
    let labels = [text(model, &queries[0][..1])?, text(model, &queries[0][1..2])?].map(|label| label.trim().to_string());
    let prompts = prompts(model, rows.iter().map(Vec::as_slice), &labels[0])?.with_form(AnswerForm::labels(labels)?);
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
        // One token each.
        let row = |(index, sample)| responded(index, sample, Example::new(format!("query {index}"), "answer"), "answer".into());
        let rows = samples.iter().enumerate().map(row).collect();
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

fn prompts<'i>(model: &Model, rows: impl Iterator<Item = &'i [u32]>, gold: &str) -> Result<Prompts> {
    let prompt =
        |(index, ids): (usize, &[u32])| Ok(Prompt { demonstrations: Vec::new(), example: Example::new(text(model, ids)?, gold), index });
    Ok(Prompts::new(rows.enumerate().map(prompt).collect::<Result<_>>()?))
}

/// What these tokens say, a begin-of-sequence token aside, which the tokenizer sets again; the work is of such tokens that it is read as the same ones again.
fn text(model: &Model, ids: &[u32]) -> Result<String> {
    model.tokenizer()?.decode(ids)
}

/// 8 prompts of 7 demonstrations and a query, as few-shot classification has them; their queries alone, with responses of 32 tokens; and 200
/// queries behind 8 shared demonstrations.
fn write_work(name: &str, folder: &str, work: &str) -> Result<(), Failure> {
    let model = OpenOptions::new().device(Device::Cpu).open(name)?;
    if name != folder {
        let _ = fs::remove_dir_all(folder);
        model.save(folder)?;
    }
    let words = words(&model)?;
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    // xorshift64* (Vigna 2016).
    let mut below = move |bound: usize| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    };
    let mut draw = |least: usize, most: usize| -> Ids {
        let count = least + below(most - least + 1);
        (0..count).map(|_| words[below(words.len())]).collect()
    };
    let tokenizer = model.tokenizer()?;
    let begun = tokenizer.encode(&text(&model, &words[..1])?)?;
    // A begin-of-sequence token where the tokenizer sets one, and a word of its place where not.
    let first = if begun.len() > 1 { begun[..1].to_vec() } else { draw(1, 1) };
    let behind_first = |ids: &Ids| [&first[..], ids].concat();
    let queries: Vec<Ids> = (0..8).map(|_| draw(32, 48)).collect();
    let leave_one_out = |asked: usize| -> Ids {
        // Another order for each, as the library draws one: the prompts share no prefix.
        let others = (0..8).map(|step| (asked * 3 + step * (1 + 2 * (asked % 4))) % 8).filter(|&other| other != asked);
        behind_first(&others.chain([asked]).flat_map(|place| queries[place].clone()).collect())
    };
    let work_of = Work {
        collect: (0..8).map(leave_one_out).collect(),
        train: Train { prompts: queries.iter().map(behind_first).collect(), responses: (0..8).map(|_| draw(32, 32)).collect() },
        evaluate: Queries { demonstrations: behind_first(&draw(312, 312)), queries: (0..200).map(|_| draw(30, 50)).collect() },
    };
    for ids in work_of.collect.iter().chain(&work_of.train.prompts) {
        if tokenizer.encode(&text(&model, ids)?)? != *ids {
            return Err(format!("`{name}` does not read its own words as it wrote them").into());
        }
    }
    Ok(fs::write(work, serde_json::to_string(&work_of)?)?)
}

/// Tokens that stay what they are wherever they stand.
fn words(model: &Model) -> Result<Ids, Failure> {
    let tokenizer = model.tokenizer()?;
    let stays = |id: u32, beside: u32| -> Result<bool> {
        let ids = [beside, id, id, beside];
        Ok(tokenizer.encode_plain(&tokenizer.decode(&ids)?)? == ids)
    };
    let most = tokenizer.vocab_size().min(model.config().vocab_size as usize) as u32;
    // Where spaces belong to tokens, a word is one that begins with its space; some mark it by a letter of their own.
    let spaced = |word: &str| ['Ġ', ' ', '\u{2581}'].iter().find_map(|space| word.strip_prefix(*space).map(str::to_string));
    let any_spaced = (2..most).filter_map(|id| tokenizer.token(id)).any(|token| spaced(&token).is_some_and(|word| word.len() > 2));
    let plain = |id: &u32| {
        let token = tokenizer.token(*id).unwrap_or_default();
        let word = if any_spaced { spaced(&token).unwrap_or_default() } else { token };
        word.len() > 1 && word.chars().all(|letter| letter.is_ascii_alphanumeric())
    };
    let candidates: Ids = (2..most).filter(plain).collect();
    let mut anchor = None;
    for &id in &candidates {
        if stays(id, id)? {
            anchor = Some(id);
            break;
        }
    }
    let anchor = anchor.ok_or("no word of this tokenizer stays what it is")?;
    let mut words = Vec::new();
    for id in candidates.into_iter().take(12_000) {
        if stays(id, anchor)? {
            words.push(id);
        }
    }
    Ok(words)
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
