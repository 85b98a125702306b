//! Every method of the paper on the bundled tasks, run by run: accuracy, calibration, and likeness to what the model does under ICL.
//!
//! `cargo run --release --example compare -- [--tasks sentiment] [--n 4,8] [--runs 5] [--rates 1e-3,3e-3,1e-2] [--betas 0.1,0.5,0.9] [--test 500]
//! [--model data/models/tiny-icl] [--out target/compare.csv]`
//!
//! The learning rate (and beta of IA2 + SFT) of each run is that of the lowest dev loss; IA2 -> SFT starts from the IA2 adapter of the rate
//! that its own dev loss chose. asim is the mean over layers of the cosine with the untouched model under ICL, for the model at hand without
//! demonstrations on the same responses to test queries. The file has one row per task, N, run and method; the table their means and
//! standard deviations over the runs.

use std::time::Instant;

use ia2::prelude::*;

const SELF_ATTENTION: &str = "model.layers.*.self_attn";
const METHODS: [&str; 8] = ["zero-shot", "ICL", "SFT", "IA2", "IA2 -> SFT", "IA2 + SFT", "soft labels", "SFT on ICL"];
/// Test queries whose activations are compared, as in the paper.
const COMPARED: usize = 100;

type Failure = Box<dyn std::error::Error>;

/// What a method comes to in one run.
#[derive(Clone, Copy)]
struct Measured {
    accuracy: f64,
    ece: f64,
    asim: f64,
    seconds: f64,
}

fn main() -> std::result::Result<(), Failure> {
    let model = Model::open(option("--model").unwrap_or("data/models/tiny-icl".into()))?;
    let list = |name: &str, default: &str| option(name).unwrap_or(default.into()).split(',').map(str::to_string).collect::<Vec<_>>();
    let numbers = |name: &str, default: &str| list(name, default).iter().map(|number| number.parse()).collect::<Result<Vec<f64>, _>>();
    let (rates, betas) = (numbers("--rates", "1e-3,3e-3,1e-2")?, numbers("--betas", "0.1,0.5,0.9")?);
    let sizes = list("--n", "4,8").iter().map(|size| size.parse()).collect::<std::result::Result<Vec<usize>, _>>()?;
    let runs: u64 = option("--runs").unwrap_or("5".into()).parse()?;
    let test: usize = option("--test").unwrap_or("500".into()).parse()?;
    let out = option("--out").unwrap_or("target/compare.csv".into());
    let mut frames = Vec::new();
    println!("{:<16} {:>3} {:<12} {:>14} {:>14} {:>14}  seconds", "task", "N", "method", "accuracy", "ECE", "asim");
    for task in list("--tasks", "sentiment") {
        for &n in &sizes {
            let mut measured = Vec::new();
            for run in 0..runs {
                measured.push(measure(&model, &task, n, run, &rates, &betas, test)?);
            }
            for (place, method) in METHODS.iter().enumerate() {
                let column = |value: fn(&Measured) -> f64| measured.iter().map(|run| value(&run[place])).collect::<Vec<_>>();
                let (accuracy, ece) = (column(|row| row.accuracy), column(|row| row.ece));
                let (asim, seconds) = (column(|row| row.asim), column(|row| row.seconds));
                let mean = seconds.iter().sum::<f64>() / seconds.len() as f64;
                let [a, b, c] = [&accuracy, &ece, &asim].map(|values| spread(values));
                println!("{task:<16} {n:>3} {method:<12} {a:>14} {b:>14} {c:>14}  {mean:.1}");
                frames.push(df!(
                    "task" => vec![task.as_str(); measured.len()], "n" => vec![n as u32; measured.len()],
                    "run" => (0..runs as u32).collect::<Vec<_>>(), "method" => vec![*method; measured.len()],
                    "accuracy" => accuracy, "ece_equal_width_15" => ece, "asim" => asim, "seconds" => seconds,
                )?);
            }
        }
    }
    let mut whole = frames.remove(0);
    for frame in &frames {
        whole.vstack_mut(frame)?;
    }
    CsvWriter::new(std::fs::File::create(&out)?).finish(&mut whole)?;
    println!("\n{} rows in {out}", whole.height());
    Ok(())
}

/// Mean and standard deviation over the runs.
fn spread(values: &[f64]) -> String {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0).max(1.0);
    format!("{mean:.3} ({:.3})", variance.sqrt())
}

fn measure(model: &Model, task: &str, n: usize, run: u64, rates: &[f64], betas: &[f64], test: usize) -> Result<[Measured; METHODS.len()]> {
    let split = Task::open(task)?.few_shot(n, run)?;
    let queries = split.test.take(test);
    let shown = queries.with_demonstrations(&split.train, run)?;
    let plain = queries.zero_shot()?;
    let (said, inside) = Capture::at(SELF_ATTENTION).while_responding(model, &shown.take(COMPARED))?;
    let taught = said.without_demonstrations(model)?;
    let row = |model: &Model, prompts: &Prompts, began: Instant| -> Result<Measured> {
        let seconds = began.elapsed().as_secs_f64();
        let frame = evaluate(model, prompts)?;
        let ece = if frame.column("confidence").is_ok() { ece(&frame, Binning::EqualWidth(15))? } else { f64::NAN };
        let asim = inside.asim(&capture(model, &taught, SELF_ATTENTION)?)?;
        Ok(Measured { accuracy: accuracy(&frame)?, ece, asim: asim.column("asim")?.f64()?.mean().unwrap_or(f64::NAN), seconds })
    };
    let best = |mut all: Vec<Trained>| {
        all.sort_by(|a, b| a.dev_loss().unwrap_or(f64::INFINITY).total_cmp(&b.dev_loss().unwrap_or(f64::INFINITY)));
        all.swap_remove(0)
    };
    let fresh = |objective: &dyn Fn() -> Result<Training>| {
        let trained = rates.iter().map(|&rate| objective()?.seed(run).learning_rate(rate).run(model, &split)).collect::<Result<_>>();
        trained.map(best)
    };
    let lora = || Lora::rank(8);

    let zero_shot = row(model, &plain, Instant::now())?;
    let mut icl = row(model, &shown, Instant::now())?;
    icl.asim = 1.0;
    let began = Instant::now();
    let targets = Targets::of(model, &split).distributions(Keep::All).collect()?;
    let primed = fresh(&|| Ok(Training::new(lora(), targets.ia2()?)))?;
    let ia2 = row(primed.model(), &plain, began)?;
    let then = rates.iter().map(|&rate| Training::resume(&primed, Sft::gold())?.learning_rate(rate).run(model, &split));
    let both = row(best(then.collect::<Result<_>>()?).model(), &plain, began)?;
    let began = Instant::now();
    // Dev losses of different betas are different losses: each beta has its rate by its own, and the cross-entropy on dev chooses beta.
    let mut mixed: Option<(f64, Trained)> = None;
    for &beta in betas {
        let trained = fresh(&|| Ok(Training::new(lora(), targets.ia2_sft(beta)?)))?;
        let nll = evaluate(trained.model(), &split.dev.zero_shot()?)?;
        let nll = nll.column("nll").ok().and_then(|nll| nll.f64().ok()?.mean()).unwrap_or(f64::INFINITY);
        if mixed.as_ref().is_none_or(|(least, _)| nll < *least) {
            mixed = Some((nll, trained));
        }
    }
    let mixed = row(mixed.as_ref().map_or(model, |(_, trained)| trained.model()), &plain, began)?;
    let began = Instant::now();
    let soft = row(fresh(&|| Ok(Training::new(lora(), targets.soft_sft()?)))?.model(), &plain, began)?;
    let began = Instant::now();
    let sft = row(fresh(&|| Ok(Training::new(lora(), Sft::gold())))?.model(), &plain, began)?;
    let began = Instant::now();
    let on_icl = row(fresh(&|| Ok(Training::new(lora(), targets.sft())))?.model(), &plain, began)?;
    Ok([zero_shot, icl, sft, ia2, both, mixed, soft, on_icl])
}

fn option(name: &str) -> Option<String> {
    let arguments: Vec<String> = std::env::args().collect();
    arguments.iter().position(|argument| argument == name).and_then(|place| arguments.get(place + 1).cloned())
}
