//! Makes the embedded model and its few-shot data, from nothing but this folder: `cargo run --release --example pretrain_icl`.
//!
//! - `pretrain_icl [train]` writes `data/tasks`, trains the model into `data/models/tiny-icl` and prints its learning curve in context,
//! - `pretrain_icl tasks` writes only `data/tasks`,
//! - `pretrain_icl eval` prints the curve of a trained model,
//! - `pretrain_icl show` prints what a few episodes look like.
//!
//! Options: `--out FOLDER` (model), `--tasks-out FOLDER`, `--threads N` (1), `--steps N`, `--seed N`, `--count N` (queries a cell).
//! The same seed, steps and one thread give the same model on the same machine.

mod batch;
#[cfg(test)]
mod checks;
mod curriculum;
mod decoder;
mod evaluate;
mod export;
mod lexicon;
mod rng;
mod sentence;
mod task_files;
mod tasks;
mod tokenizer;
mod train;
mod vocabulary;
mod world;

use std::path::PathBuf;

use vocabulary::Vocabulary;

struct Options {
    command: String,
    out: PathBuf,
    tasks_out: PathBuf,
    threads: i32,
    steps: usize,
    seed: u64,
    count: usize,
}

fn options() -> Result<Options, String> {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data");
    let mut o = Options {
        command: "train".into(),
        out: data.join("models/tiny-icl"),
        tasks_out: data.join("tasks"),
        threads: 1,
        steps: train::STEPS,
        seed: 7,
        count: 500,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let Some(name) = word.strip_prefix("--") else {
            o.command = word;
            continue;
        };
        let value = words.next().ok_or(format!("--{name} needs a value"))?;
        let number = || value.parse::<usize>().map_err(|_| format!("--{name} {value}: not a number"));
        match name {
            "out" => o.out = value.into(),
            "tasks-out" => o.tasks_out = value.into(),
            "threads" => o.threads = number()? as i32,
            "steps" => o.steps = number()?.max(1),
            "seed" => o.seed = number()? as u64,
            "count" => o.count = number()?.max(1),
            _ => return Err(format!("unknown option --{name}; see the head of examples/pretrain_icl/main.rs")),
        }
    }
    Ok(o)
}

fn main() -> std::process::ExitCode {
    let listening = ia2::interrupt::listen().map_err(Box::<dyn std::error::Error>::from);
    ia2::interrupt::exit_code(listening.and_then(|()| run()))
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let o = options()?;
    let vocab = Vocabulary::of_the_world();
    tch::set_num_threads(o.threads);
    match o.command.as_str() {
        "train" => {
            task_files::write(&o.tasks_out)?;
            let recipe = train::Recipe::with(o.seed, o.steps, vocab.tokens.len() as i64);
            export::settings(&recipe.model, &vocab, &o.out)?;
            let seconds = train::train(&recipe, &vocab, &o.out)?;
            println!("trained in {:.1} minutes, threads: {}", seconds / 60.0, o.threads);
            report(&o, &vocab)
        }
        "eval" => report(&o, &vocab),
        "tasks" => task_files::write(&o.tasks_out),
        "show" => {
            show(&vocab);
            Ok(())
        }
        other => Err(format!("unknown command {other}: train, eval, tasks or show").into()),
    }
}

fn report(o: &Options, vocab: &Vocabulary) -> Result<(), Box<dyn std::error::Error>> {
    let model = ia2::model::Model::open(&o.out)?;
    println!("{}", evaluate::table(&model, vocab, &o.tasks_out, o.count)?);
    Ok(())
}

fn show(vocab: &Vocabulary) {
    for (i, progress) in [0.0, 0.2, 0.5, 1.0].into_iter().enumerate() {
        let (stage, lengths, _) = curriculum::at(progress);
        for k in 0..4 {
            let row = batch::lesson(&mut rng::Rng::new(k, i as u64), vocab, &stage, lengths[0]);
            println!("--- at {progress}: {:?}, {} examples, {} tokens\n{}", row.kind, row.examples, row.ids.len(), vocab.decode(&row.ids));
        }
    }
}
