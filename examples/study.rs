//! The study in the paper's shape: methods x N x runs, in and out of distribution, as frames in a folder.
//!
//! `cargo run --example study -- [--tasks sentiment] [--n 2,4,8,16] [--runs 5] [--rates 1e-3,3e-3,1e-2] [--betas 0.1,0.5,0.9] [--methods ICL,SFT]
//! [--test 500] [--model tiny-icl] [--out target/study] [--plan] [--paper] [--authors]`
//!
//! Killed or stopped (Ctrl-C, SIGTERM), it goes on where it was. In the folder: a file and an adapter of each run in `runs/`, and `frame.csv`, `summary.csv`,
//! `asim.csv`, `overlap.csv`, `significance.csv`, `table.md` and the paper's figures of it. With `--plan` it says what is left to do, and does nothing. With
//! `--paper` the grid is the paper's, of the benchmarks whose files are in the data folder (`IA2_DATA`), and `beside_paper.csv` sets ours beside
//! the paper's figures. With `--authors` everything is done as the authors' code does it (`Compat::Paper`).

use std::path::{Path, PathBuf};
use std::str::FromStr;

use ia2::interrupt;
use ia2::prelude::*;

type Failure = Box<dyn std::error::Error>;

fn main() -> std::process::ExitCode {
    interrupt::exit_code(interrupt::listen().map_err(Failure::from).and_then(|()| run()))
}

fn run() -> std::result::Result<(), Failure> {
    let model = Model::open(option("--model").unwrap_or("tiny-icl".into()))?;
    let tasks: Vec<String> = list("--tasks", "sentiment")?;
    let names: Vec<String> = list("--methods", &Method::ALL.map(Method::name).join(","))?;
    let methods = names.iter().map(|name| Method::named(name)).collect::<Result<Vec<_>>>()?;
    let out = PathBuf::from(option("--out").unwrap_or("target/study".into()));
    let experiment = match flag("--paper") {
        true => Experiment::paper(&model),
        false => Experiment::new(&model)
            .tasks(&tasks.iter().map(String::as_str).collect::<Vec<_>>())
            .methods(&methods)
            .learning_rates(&list("--rates", "1e-3,3e-3,1e-2")?)
            .betas(&list("--betas", "0.1,0.5,0.9")?),
    };
    let experiment = if option("--n").is_some() { experiment.sizes(&list("--n", "")?) } else { experiment };
    let experiment = if flag("--authors") { experiment.compat(Compat::Paper) } else { experiment };
    let experiment = experiment.runs(option("--runs").unwrap_or("5".into()).parse()?);
    let experiment = experiment.test_at_most(option("--test").unwrap_or("500".into()).parse()?).folder(out.join("runs"));
    if flag("--plan") {
        experiment.plan()?.evcxr_display();
        return Ok(());
    }
    let began = std::time::Instant::now();
    let study = experiment.run()?;
    println!("{:.1} s", began.elapsed().as_secs_f64());
    study.evcxr_display();
    write(&out, "frame", study.frame()?)?;
    if study.missing() > 0 {
        println!("interrupted: the same command does the rest");
        return Ok(());
    }
    write(&out, "summary", study.summary()?)?;
    write(&out, "asim", study.asim()?)?;
    write(&out, "overlap", study.overlap()?)?;
    if flag("--paper") {
        write(&out, "beside_paper", study.beside_paper()?)?;
    }
    study.table()?.save(out.join("table.md"))?;
    let (task, on) = match flag("--paper") {
        true => ("SST2".into(), "FinS".into()),
        false => (tasks[0].clone(), Task::open(&tasks[0])?.ood().first().unwrap_or(&tasks[0]).clone()),
    };
    let figures = [study.figure_1(), study.figure_2(), study.figure_3(), study.figure_4()];
    for (number, figure) in [1, 2, 3, 4].into_iter().zip(figures).chain([(6, study.figure_6(&task, &on))]) {
        match figure {
            Ok(figure) => figure.save(out.join(format!("figure_{number}.png")))?,
            Err(error) => println!("no figure {number}: {error}"),
        }
    }
    for (name, figure) in [("significance", study.significance_figure()), ("ranks", study.ranks_figure("accuracy"))] {
        match figure {
            Ok(figure) => figure.save(out.join(format!("{name}.png")))?,
            Err(error) => println!("no figure of {name}: {error}"),
        }
    }
    match study.significance() {
        Ok(frame) => write(&out, "significance", frame)?,
        Err(error) => println!("no tests: {error}"),
    }
    Ok(())
}

fn write(folder: &Path, name: &str, mut frame: DataFrame) -> std::result::Result<(), Failure> {
    let path = folder.join(format!("{name}.csv"));
    CsvWriter::new(std::fs::File::create(&path)?).finish(&mut frame)?;
    println!("{} rows in {}", frame.height(), path.display());
    Ok(())
}

fn list<T: FromStr>(name: &str, default: &str) -> std::result::Result<Vec<T>, T::Err> {
    option(name).unwrap_or(default.into()).split(',').map(str::parse).collect()
}

fn flag(name: &str) -> bool {
    std::env::args().any(|argument| argument == name)
}

fn option(name: &str) -> Option<String> {
    let arguments: Vec<String> = std::env::args().collect();
    arguments.iter().position(|argument| argument == name).and_then(|place| arguments.get(place + 1).cloned())
}
