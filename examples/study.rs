//! The study in the paper's shape: methods x N x runs, in and out of distribution, as frames in a folder.
//!
//! `cargo run --example study -- [--tasks sentiment,topic] [--n 2,4,8,16] [--runs 5] [--rates 1e-3,3e-3,1e-2] [--betas 0.1,0.5,0.9] [--methods ICL,SFT]
//! [--test 500] [--compared 100] [--forgetting topic] [--columns drift,nll] [--epochs 50] [--patience 5] [--balanced] [--dev 16]
//! [--divergence reverse|forward|js] [--teacher base|live|0.05] [--top 20] [--words "SST2: negative, positive"] [--model tiny-icl,other] [--out target/study] [--fill] [--plan] [--paper] [--authors]`
//!
//! A task is one of `data/tasks`, a benchmark in the data folder (`IA2_DATA`), or a file; a model a name, a folder or a file. Names of either kind are given with
//! commas. `--words` gives a task other labels, in the order of its own, each after a space; several tasks are separated by `;`. `--balanced` draws as many examples
//! of each label, `--divergence`, `--teacher` (a number is the rate of an average) and `--top` are of self-distillation, `--dev` sets the number of dev rows, whatever N. Sets to test on out of distribution that are not installed are left out, and of a
//! benchmark of which a part is missing the rest is used; plan and study say so.
//!
//! Killed or stopped (Ctrl-C, SIGTERM), it goes on where it was. In the folder: a file and an adapter of each run in `runs/`; what is needed to repeat it in
//! `command.sh` (the command) and `protocol.csv` (models, tasks, settings); `frame.csv`, `summary.csv`, `asim.csv`, `overlap.csv`, `significance.csv`, `table.md`,
//! `side_effects.md` (drift, forgetting, costs), `evidence.md` (`.json`, `.tex`, `.png`: effects over runs and rows) and the paper's figures of it. With `--fill` what earlier versions made without outcomes of each row
//! is evaluated again, for the evidence. With `--plan` it says what is left to do, and does nothing. With `--paper` the grid is the paper's, of the benchmarks whose files
//! are in the data folder, and `beside_paper.csv` sets ours next to the paper's figures. With `--authors` everything is done as the
//! authors' code does it (`Compat::Paper`).

use std::path::{Path, PathBuf};
use std::str::FromStr;

use ia2::interrupt;
use ia2::prelude::*;

type Failure = Box<dyn std::error::Error>;

/// Options with a value, and those without.
const VALUED: [&str; 19] = [
    "--forgetting",
    "--columns",
    "--tasks",
    "--n",
    "--runs",
    "--rates",
    "--betas",
    "--methods",
    "--test",
    "--compared",
    "--epochs",
    "--patience",
    "--dev",
    "--words",
    "--model",
    "--divergence",
    "--teacher",
    "--top",
    "--out",
];
const FLAGS: [&str; 5] = ["--balanced", "--fill", "--plan", "--paper", "--authors"];

fn main() -> std::process::ExitCode {
    interrupt::exit_code(interrupt::listen().map_err(Failure::from).and_then(|()| run()))
}

fn run() -> std::result::Result<(), Failure> {
    check()?;
    let models = list::<String>("--model", "tiny-icl")?.iter().map(Model::open).collect::<Result<Vec<_>>>()?;
    let tasks: Vec<String> = list("--tasks", "sentiment")?;
    let methods = Method::list(&option("--methods").unwrap_or(Method::ALL.map(Method::name).join(",")))?;
    let out = PathBuf::from(option("--out").unwrap_or("target/study".into()));
    let experiment = match flag("--paper") {
        true => Experiment::paper(&models[0]),
        false => Experiment::new(&models[0])
            .tasks(&tasks.iter().map(String::as_str).collect::<Vec<_>>())
            .methods(&methods)
            .learning_rates(&list("--rates", "1e-3,3e-3,1e-2")?)
            .betas(&list("--betas", "0.1,0.5,0.9")?),
    };
    let experiment = models[1..].iter().fold(experiment, Experiment::and_model);
    let experiment = words()?
        .iter()
        .fold(experiment, |experiment, (task, words)| experiment.words(task, &words.iter().map(String::as_str).collect::<Vec<_>>()));
    let experiment = if option("--n").is_some() { experiment.sizes(&list("--n", "")?) } else { experiment };
    let experiment = if flag("--balanced") { experiment.balanced() } else { experiment };
    let experiment = number("--dev")?.map_or(experiment.clone(), |count| experiment.dev_rows(count as usize));
    let experiment = number("--epochs")?.map_or(experiment.clone(), |count| experiment.epochs(count));
    let experiment = number("--patience")?.map_or(experiment.clone(), |count| experiment.patience(count));
    let experiment = number("--compared")?.map_or(experiment.clone(), |count| experiment.compared_at_most(count as usize));
    let experiment = distillation(experiment)?;
    let experiment = match option("--forgetting") {
        Some(names) => experiment.forgetting_on(&names.split(',').collect::<Vec<_>>()),
        None => experiment,
    };
    let experiment = match option("--columns") {
        Some(names) => experiment.columns(&names.split(',').filter(|name| !name.is_empty()).collect::<Vec<_>>()),
        None => experiment,
    };
    let experiment = if flag("--fill") { experiment.fill_outcomes() } else { experiment };
    let experiment = if flag("--authors") { experiment.compat(Compat::Paper) } else { experiment };
    let experiment = experiment.runs(number("--runs")?.unwrap_or(5));
    let experiment = experiment.test_at_most(number("--test")?.unwrap_or(500) as usize).folder(out.join("runs"));
    if flag("--plan") {
        experiment.plan()?.evcxr_display();
        return Ok(());
    }
    std::fs::create_dir_all(&out)?;
    std::fs::write(out.join("command.sh"), command())?;
    write(&out, "protocol", experiment.protocol()?)?;
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
        write(&out, "beside_paper", study.compared_with_paper()?)?;
    }
    study.table()?.save(out.join("table.md"))?;
    study.side_effects()?.save(out.join("side_effects.md"))?;
    let (task, on) = match flag("--paper") {
        true => ("SST2".into(), "FinS".into()),
        false => pair(&study.frame()?)?,
    };
    let figures = [study.figure_1(), study.figure_2(), study.figure_3(), study.figure_4()];
    for (number, figure) in [1, 2, 3, 4].into_iter().zip(figures).chain([(6, study.figure_6(&task, &on))]) {
        match figure {
            Ok(figure) => figure.save(out.join(format!("figure_{number}.png")))?,
            Err(error) => println!("no figure {number}: {error}"),
        }
    }
    match study.evidence() {
        Ok(evidence) => {
            for extension in ["md", "json", "tex"] {
                evidence.save(out.join("evidence").with_extension(extension))?;
            }
            evidence.evcxr_display();
            evidence.figure()?.save(out.join("evidence.png"))?;
        }
        Err(error) => println!("no evidence: {error}"),
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

/// What figure 6 is of: the first task, and what it was tested on out of distribution if there is such a set.
fn pair(frame: &DataFrame) -> Result<(String, String)> {
    let column = |name: &str| Ok::<_, PolarsError>(frame.column(name)?.str()?.iter().map(Option::unwrap_or_default).collect::<Vec<_>>());
    let (tasks, on) = (column("task")?, column("evaluated_on")?);
    let task = tasks.first().copied().unwrap_or_default();
    let other = tasks.iter().zip(&on).find(|(own, on)| **own == task && **on != task);
    Ok((task.into(), other.map_or(task, |(_, on)| on).into()))
}

/// The command that was given, as a shell reads it.
fn command() -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let set = ["IA2_DATA", "OMP_NUM_THREADS"].iter().filter_map(|name| Some(format!("{name}={} ", quoted(&std::env::var(name).ok()?))));
    let arguments: Vec<String> = std::env::args().skip(1).map(|argument| quoted(&argument)).collect();
    format!("{}cargo run --release --example study -- {}\n", set.collect::<String>(), arguments.join(" "))
}

fn list<T: FromStr>(name: &str, default: &str) -> std::result::Result<Vec<T>, T::Err> {
    option(name).unwrap_or(default.into()).split(',').map(str::parse).collect()
}

/// What self-distillation is asked for.
fn distillation(experiment: Experiment) -> std::result::Result<Experiment, Failure> {
    let (divergence, teacher, top) = (option("--divergence"), option("--teacher"), number("--top")?);
    if divergence.is_none() && teacher.is_none() && top.is_none() {
        return Ok(experiment);
    }
    let divergence = match divergence.as_deref() {
        None | Some("reverse") => Divergence::ReverseKl,
        Some("forward") => Divergence::ForwardKl,
        Some("js") => Divergence::JensenShannon,
        Some(other) => return Err(format!("--divergence {other}: there are reverse, forward and js").into()),
    };
    let teacher = match teacher.as_deref() {
        None | Some("base") => Teacher::Base,
        Some("live") => Teacher::Live,
        Some(rate) => {
            Teacher::Average(rate.parse().map_err(|_| format!("--teacher {rate}: there are base, live and a rate such as 0.05"))?)
        }
    };
    Ok(experiment.self_distillation(divergence, teacher, top.map(|top| top as usize)))
}

/// `--words "SST2: negative, positive; AGN: World, Sports"`: each word with a space before it, as after a colon in a text.
fn words() -> std::result::Result<Vec<(String, Vec<String>)>, Failure> {
    let given = option("--words").unwrap_or_default();
    let tasks = given.split(';').filter(|task| !task.trim().is_empty());
    let of = |task: &str| {
        let (name, words) =
            task.split_once(':').ok_or_else(|| format!("--words {task:?}: write it as `task: word, word; task: word, word`"))?;
        Ok((name.trim().to_string(), words.split(',').map(|word| format!(" {}", word.trim())).collect()))
    };
    tasks.map(of).collect()
}

/// A misspelt option would be another study.
fn check() -> std::result::Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if VALUED.contains(&name.as_str()) {
            arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        } else if !FLAGS.contains(&name.as_str()) {
            return Err(format!("there is no option {name}; there are {} and {}", VALUED.join(", "), FLAGS.join(", ")).into());
        }
    }
    Ok(())
}

fn number(name: &str) -> std::result::Result<Option<u64>, Failure> {
    let parsed = option(name).map(|text| text.parse().map_err(|error| format!("{name} {text}: {error}")));
    Ok(parsed.transpose()?)
}

fn flag(name: &str) -> bool {
    std::env::args().any(|argument| argument == name)
}

fn option(name: &str) -> Option<String> {
    let arguments: Vec<String> = std::env::args().collect();
    arguments.iter().position(|argument| argument == name).and_then(|place| arguments.get(place + 1).cloned())
}
