//! ICL, SFT, IA2 and IA2 -> SFT on the bundled tasks: the figures that the quickstart notebook quotes.
//!
//! `cargo run --release --example compare -- [--tasks sentiment,topic] [--n 4,8] [--runs 3] [--rates 1e-3,3e-3] [--test 200]`
//!
//! Each row is the mean over the runs; the learning rate is chosen per run and method by dev loss. asim is that of the zero-shot model on the
//! ICL responses to test queries, against the same model under ICL.

use ia2::prelude::*;

const SELF_ATTENTION: &str = "model.layers.*.self_attn";
const METHODS: [&str; 6] = ["zero-shot", "ICL", "SFT", "IA2", "IA2 -> SFT", "SFT on ICL"];

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let model = Model::open(option("--model").unwrap_or("data/models/tiny-icl".into()))?;
    let list = |name: &str, default: &str| option(name).unwrap_or(default.into()).split(',').map(str::to_string).collect::<Vec<_>>();
    let rates = list("--rates", "1e-3,3e-3").iter().map(|rate| rate.parse()).collect::<std::result::Result<Vec<f64>, _>>()?;
    let sizes = list("--n", "4,8").iter().map(|size| size.parse()).collect::<std::result::Result<Vec<usize>, _>>()?;
    let runs: u64 = option("--runs").unwrap_or("3".into()).parse()?;
    let test: usize = option("--test").unwrap_or("200".into()).parse()?;
    println!("{:<16} {:>3} {:<12} {:>8} {:>6} {:>6}  seconds", "task", "N", "method", "accuracy", "ECE", "asim");
    for task in list("--tasks", "sentiment,topic,truefalse,choice,answer") {
        for &n in &sizes {
            let mut sums = [[0.0; 4]; METHODS.len()];
            for run in 0..runs {
                for (sum, row) in sums.iter_mut().zip(measure(&model, &task, n, run, &rates, test)?) {
                    for (total, value) in sum.iter_mut().zip(row) {
                        *total += value / runs as f64;
                    }
                }
            }
            for (method, [accuracy, ece, asim, seconds]) in METHODS.iter().zip(sums) {
                println!("{task:<16} {n:>3} {method:<12} {accuracy:>8.3} {ece:>6.3} {asim:>6.3}  {seconds:.1}");
            }
        }
    }
    Ok(())
}

fn measure(model: &Model, task: &str, n: usize, run: u64, rates: &[f64], test: usize) -> Result<[[f64; 4]; METHODS.len()]> {
    let split = Task::open(task)?.few_shot(n, run)?;
    let queries = split.test.take(test);
    let shown = queries.with_demonstrations(&split.train, run)?;
    let icl = Capture::at(SELF_ATTENTION).while_responding(model, &shown.take(50))?;
    let taught = icl.0.without_demonstrations(model)?;
    let row = |model: &Model, prompts, began: std::time::Instant| -> Result<[f64; 4]> {
        let seconds = began.elapsed().as_secs_f64();
        let frame = evaluate(model, prompts)?;
        let ece = if frame.column("confidence").is_ok() { ece(&frame, Binning::EqualWidth(15))? } else { f64::NAN };
        let asim = icl.1.asim(&capture(model, &taught, SELF_ATTENTION)?)?;
        Ok([accuracy(&frame)?, ece, asim.column("asim")?.f64()?.mean().unwrap_or(f64::NAN), seconds])
    };
    let now = std::time::Instant::now;
    let plain = queries.zero_shot()?;
    let mut rows = [[f64::NAN; 4]; METHODS.len()];
    rows[0] = row(model, &plain, now())?;
    rows[1] = row(model, &shown, now())?;
    rows[1][2] = 1.0;

    let began = now();
    let (responses, target) = Capture::at(SELF_ATTENTION).while_responding(model, &split.target_prompts(256)?)?;
    let best = |make: &dyn Fn(f64) -> Result<Trained>| -> Result<Trained> {
        let mut all = rates.iter().map(|&rate| make(rate)).collect::<Result<Vec<_>>>()?;
        all.sort_by(|a, b| a.dev_loss().partial_cmp(&b.dev_loss()).unwrap_or(std::cmp::Ordering::Equal));
        Ok(all.swap_remove(0))
    };
    let fresh = |objective: &dyn Fn() -> Training| best(&|rate| objective().seed(run).learning_rate(rate).run(model, &split));
    let primed = fresh(&|| Training::new(Lora::rank(8), Ia2::toward(&target)))?;
    rows[3] = row(primed.model(), &plain, began)?;
    let both = best(&|rate| Training::resume(&primed, Sft::gold())?.learning_rate(rate).run(model, &split))?;
    rows[4] = row(both.model(), &plain, began)?;
    let began = now();
    rows[2] = row(fresh(&|| Training::new(Lora::rank(8), Sft::gold()))?.model(), &plain, began)?;
    let began = now();
    rows[5] = row(fresh(&|| Training::new(Lora::rank(8), Sft::on(&responses)))?.model(), &plain, began)?;
    Ok(rows)
}

fn option(name: &str) -> Option<String> {
    let arguments: Vec<String> = std::env::args().collect();
    arguments.iter().position(|argument| argument == name).and_then(|place| arguments.get(place + 1).cloned())
}
