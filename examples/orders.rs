//! Targets in a tree's orders against independent ones, in turn in one process: `cargo xtask bench orders`.
//!
//! ```sh
//! cargo run --release --example orders -- CHECKPOINT [--n 8] [--tokens 1] [--kind float] [--threads 1] [--repeats 3]
//! ```
//!
//! One JSON line on stdout: seconds and processor seconds of the best repeat of each side, their ratios, and the tokens that each reads of those
//! that its prompts have. Examples are of 32 to 48 random words; N of them to learn from and N / 2 to check on, as a split has them.

use std::fs;
use std::time::Instant;

use ia2::dataset::Card;
use ia2::prelude::*;
use ia2::prompt::AnswerForm;
use ia2::tch;
use serde_json::json;

type Failure = Box<dyn std::error::Error>;

/// Words for a model that was trained on English; the bench model's tokenizer knows `t0`, `t1`, ... alone.
const WORDS: &str = "the film was long and slow but its music warm a good story told with care by people who know what they do nothing here is \
                     new yet much of it works in the end some scenes fall flat others shine we laughed twice then left early last night";

#[derive(Clone, Copy)]
struct Cost {
    seconds: f64,
    cpu: f64,
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [checkpoint, options @ ..] = &arguments[..] else {
        return Err("usage: orders CHECKPOINT [--n N] [--tokens T] [--kind float|bf16] [--threads N] [--repeats N]".into());
    };
    let option = |name: &str, default: &str| {
        let place = options.iter().position(|option| option == name);
        place.and_then(|place| options.get(place + 1)).cloned().unwrap_or(default.into())
    };
    let number = |name: &str, default: &str| option(name, default).parse::<usize>().map_err(|_| format!("{name} needs a number"));
    let (n, tokens, threads, repeats) =
        (number("--n", "8")?, number("--tokens", "1")?, number("--threads", "1")?, number("--repeats", "3")?);
    let kind = match option("--kind", "float").as_str() {
        "float" => Kind::Float,
        "bf16" => Kind::BFloat16,
        other => return Err(format!("--kind is float or bf16, not `{other}`").into()),
    };
    tch::set_num_threads(threads as i32);
    let model = OpenOptions::new().device(Device::Cpu).kind(kind).open(checkpoint)?;
    let split = split(&model, n)?;

    let kinds = [Orders::Tree, Orders::Independent];
    let mut best = [Cost { seconds: f64::INFINITY, cpu: f64::INFINITY }; 2];
    for repeat in 0..=repeats {
        for (best, orders) in best.iter_mut().zip(kinds) {
            let (start, before) = (Instant::now(), cpu_seconds()?);
            let targets = Targets::of(&model, &split).in_orders(orders).max_new_tokens(tokens).collect()?;
            // The first time warms up.
            if repeat > 0 {
                let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds()? - before);
                *best = Cost { seconds: best.seconds.min(seconds), cpu: best.cpu.min(cpu) };
            }
            if !targets.activations()?.values()?.norm().double_value(&[]).is_finite() {
                return Err("activations that are not finite".into());
            }
        }
    }
    let [tree, plain] = best;
    let [read, whole] = kinds.map(|orders| read(&model, &split, orders));
    let ((read, _), (plainly, prompts)) = (read?, whole?);
    println!(
        "{}",
        json!({
            "n": n, "tokens": tokens, "kind": format!("{kind:?}"), "threads": threads,
            "seconds": tree.seconds, "plain_seconds": plain.seconds, "ratio": plain.seconds / tree.seconds,
            "cpu_seconds": tree.cpu, "plain_cpu_seconds": plain.cpu, "ratio_cpu": plain.cpu / tree.cpu,
            "read": read, "plain_read": plainly, "prompt_tokens": prompts,
        })
    );
    Ok(())
}

/// Prompt tokens that are read, and how many there are.
fn read(model: &Model, split: &Split, orders: Orders) -> Result<(u32, u32)> {
    let lengths = model.lengths(&Targets::of(model, split).in_orders(orders).prompts()?)?;
    let sum = |column: &str| Ok::<_, ia2::Error>(lengths.column(column)?.u32()?.iter().flatten().sum());
    Ok((sum("read")?, sum("tokens")?))
}

fn split(model: &Model, n: usize) -> Result<Split> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    // xorshift64* (Vigna 2016).
    let mut below = move |bound: u64| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    };
    let english: Vec<&str> = WORDS.split_whitespace().collect();
    let is_bench_model = model.tokenizer()?.encode("t17 t5").is_ok_and(|ids| ids.ends_with(&[17, 5]));
    let mut word = || match is_bench_model {
        true => format!("t{} ", 2 + below(8190)),
        false => format!("{} ", english[below(english.len() as u64) as usize]),
    };
    let rows = (0..n + n / 2 + 2).map(|row| {
        let words: String = (0..32 + row * 7 % 17).map(|_| word()).collect();
        Example::new(words, if row % 2 == 0 { "t10" } else { "t11" })
    });
    Task::of(Examples::new("random words", AnswerForm::free(), rows.collect())?, Card::default()).few_shot(n, 0)
}

/// Processor time of all threads so far, in steps of 10 ms.
fn cpu_seconds() -> Result<f64, Failure> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name in parentheses may hold anything; user and system time are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: f64 = [11, 12].iter().filter_map(|&field| fields.get(field)?.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}
