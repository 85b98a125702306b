//! Grids of runs: what is shared, chosen, resumed, failed and averaged.
#![cfg(unix)]

mod by_hand;
#[path = "../common/mod.rs"]
mod common;
mod evidence;
mod interrupted;
mod left_out;
mod tables;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use ia2::Result;
use ia2::prelude::*;
use ia2::similarity::{Factors, Side, subspace_overlap};

/// A grid that takes seconds.
fn small(model: &Model) -> Experiment {
    small_of(model, "sentiment")
}

fn small_of(model: &Model, task: &str) -> Experiment {
    let experiment = Experiment::new(model).tasks(&[task]).tested_on(task, &[]).sizes(&[4]).runs(1);
    experiment.learning_rates(&[3e-3]).betas(&[0.5]).epochs(2).test_at_most(24).compared_at_most(8)
}

fn model() -> Model {
    Model::open("tiny-icl").unwrap()
}

fn texts(frame: &DataFrame, column: &str) -> Vec<String> {
    let column = frame.column(column).unwrap().str().unwrap();
    column.iter().map(|text| text.unwrap_or("null").to_string()).collect()
}

fn numbers(frame: &DataFrame, column: &str) -> Vec<Option<f64>> {
    frame.column(column).unwrap().cast(&DataType::Float64).unwrap().f64().unwrap().iter().collect()
}

fn flags(frame: &DataFrame, column: &str) -> Vec<bool> {
    frame.column(column).unwrap().bool().unwrap().iter().map(|flag| flag.unwrap()).collect()
}

/// Everything but how long it took.
fn timeless(frame: &DataFrame) -> DataFrame {
    frame.drop_many(["seconds", "total_seconds"])
}

/// Files below a folder with the time they were written.
fn written(folder: &Path) -> Vec<(std::path::PathBuf, SystemTime)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(written(&path)),
            false => found.push((path.clone(), path.metadata().unwrap().modified().unwrap())),
        }
    }
    found.sort();
    found
}

/// All columns of text of a frame that is shown, or of a plan, hold these words.
fn told(shown: &str, words: &[&str]) {
    for word in words {
        assert!(shown.contains(word), "{word}: {shown}");
    }
}

#[test]
fn a_grid_is_run_once_and_one_of_its_rates_and_betas_is_chosen() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let model = model();
    let grid = || small(&model).methods(&Method::ALL).learning_rates(&[1e-3, 1e-2]).betas(&[0.2, 0.8]).folder(folder.path());
    let study = grid().run()?;
    let frame = study.frame()?;
    let rows = |method: Method| match method.is_trained() || method == Method::SftTemperature {
        true if method.has_beta() => 4,
        true => 2,
        false => 1,
    };
    let all: usize = Method::ALL.map(rows).iter().sum();
    assert_eq!(frame.height(), all, "two rates, and two betas where a method has one");
    assert!(texts(&frame, "failed").iter().all(|message| message == "null"), "{:?}", texts(&frame, "failed"));
    let mut keys = texts(&frame, "key");
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), frame.height());
    let (methods, chosen, by) = (texts(&frame, "method"), flags(&frame, "chosen"), texts(&frame, "chosen_by"));
    for method in Method::ALL {
        let own: Vec<usize> = (0..methods.len()).filter(|&row| methods[row] == method.name()).collect();
        let picked: Vec<usize> = own.iter().copied().filter(|&row| chosen[row]).collect();
        assert_eq!(picked.len(), 1, "{method:?}");
        if method.is_trained() || method == Method::SftTemperature {
            let column = if method.has_beta() { "dev_cross_entropy" } else { "dev_loss" };
            let losses = numbers(&frame, column);
            assert!(own.iter().all(|&row| losses[picked[0]].unwrap() <= losses[row].unwrap()), "{method:?}");
            assert_eq!(by[picked[0]], if method.has_beta() { "cross-entropy on dev" } else { "dev loss" });
        }
    }
    let icl = methods.iter().position(|method| method == "ICL").unwrap();
    assert!((numbers(&frame, "asim")[icl].unwrap() - 1.0).abs() < 1e-6, "ICL is like itself");

    let before = written(folder.path());
    assert!(timeless(&grid().run()?.frame()?).equals_missing(&timeless(&frame)));
    assert_eq!(written(folder.path()), before, "nothing was done again");

    let by_test = grid().choice(Choice::TestAccuracy).run()?.frame()?;
    let (accuracy, chosen) = (numbers(&by_test, "top_1_accuracy"), flags(&by_test, "chosen"));
    for row in (0..by_test.height()).filter(|&row| chosen[row]) {
        assert!((0..by_test.height()).filter(|&other| methods[other] == methods[row]).all(|other| accuracy[other] <= accuracy[row]));
    }
    assert_eq!(written(folder.path()), before);

    // Layers' asim and the frame's mean of them.
    let (layers, means) = (study.asim()?, numbers(&frame, "asim"));
    let chosen = flags(&frame, "chosen");
    for row in (0..frame.height()).filter(|&row| chosen[row]) {
        let own: Vec<f64> = texts(&layers, "method")
            .iter()
            .zip(numbers(&layers, "asim"))
            .filter(|(method, _)| **method == methods[row])
            .map(|(_, asim)| asim.unwrap())
            .collect();
        assert_eq!(own.len(), 6);
        assert!((own.iter().sum::<f64>() / 6.0 - means[row].unwrap()).abs() < 1e-12);
    }

    // The overlap of two chosen adapters, from their files; a cartridge is no update of a weight.
    let overlap = study.overlap()?;
    let updates = Method::ALL.into_iter().filter(|method| method.is_trained()).count() - 1;
    assert_eq!(overlap.height(), updates * (updates - 1) / 2);
    let adapter = |method: &str| {
        let row = (0..frame.height()).find(|&row| methods[row] == method && chosen[row]).unwrap();
        Adapter::open(folder.path().join(texts(&frame, "key")[row].as_str()), &model).unwrap()
    };
    let (sft, both) = (adapter("SFT"), adapter("IA2 → SFT"));
    let mut mean = 0.0;
    for site in sft.sites() {
        let (one, two) = (sft.update(site)?.unwrap(), both.update(site)?.unwrap());
        mean += subspace_overlap(&Factors { a: &one.a, b: &one.b }, &Factors { a: &two.a, b: &two.b }, Side::B, 8)? / 18.0;
    }
    let pair = texts(&overlap, "first").iter().zip(texts(&overlap, "second")).position(|(a, b)| a == "SFT" && b == "IA2 → SFT").unwrap();
    assert!((numbers(&overlap, "overlap")[pair].unwrap() - mean).abs() < 1e-12);

    let plan = grid().sizes(&[4, 8]).plan()?;
    assert_eq!(plan.missing(), all, "those of N = 8");
    assert!(plan.hours() > 0.0 && plan.bytes() > 0);
    assert!(plan.bundle().plain.starts_with(&format!("Plan: {all} of {} runs to do, about ", 2 * all)), "{}", plan.bundle().plain);
    let done = grid().plan()?;
    assert_eq!((done.missing(), done.hours(), done.bytes()), (0, 0.0, 0));
    assert!(done.bundle().plain.starts_with(&format!("Plan: nothing to run, all {all} runs are done\n")), "{}", done.bundle().plain);
    Ok(())
}

#[test]
fn each_model_and_adapter_has_rates_of_its_own() -> Result<()> {
    let first = model();
    let folder = tempfile::tempdir().unwrap();
    first.save(folder.path())?;
    let other = OpenOptions::new().kind(Kind::Double).open(folder.path())?;
    let adapters = [Lora::rank(2).into(), Ia3::new().into()];
    let grid =
        small(&first).and_model(&other).adapters(&adapters).methods(&[Method::Icl, Method::Sft, Method::Ia2]).learning_rates(&[1e-3, 1e-2]);
    let study = grid.run()?;
    let frame = study.frame()?;
    assert_eq!(frame.height(), 2 * (1 + 2 * 2 * 2));
    assert!(texts(&frame, "failed").iter().all(|message| message == "null"), "{:?}", texts(&frame, "failed"));
    assert_eq!(flags(&frame, "chosen").iter().filter(|chosen| **chosen).count(), 2 * (1 + 2 * 2));
    let overlap = study.overlap()?;
    assert_eq!(overlap.height(), 2, "LoRA alone has subspaces: SFT against IA2 for each model");
    assert_eq!(study.summary()?.height(), 2 * (1 + 2 * 2));
    let error = study.significance_of(&[(Method::Icl, Method::Sft)], &["asim"]).unwrap_err().to_string();
    assert!(error.contains("there are 1: add runs"), "two models with two adapters are one run: {error}");
    Ok(())
}

#[test]
fn what_is_asked_later_is_added_to_what_is_there() -> Result<()> {
    let model = model();
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let grid = |folder: &Path| small(&model).methods(&[Method::Icl, Method::Sft]).runs(2).folder(folder);
    grid(folder.path()).runs(1).run()?;
    let adapters =
        |folder: &Path| written(folder).into_iter().filter(|(path, _)| path.extension().unwrap() == "safetensors").collect::<Vec<_>>();
    let before = adapters(folder.path());
    let with_others = |folder: &Path| grid(folder).tested_on("sentiment", &["sentiment_film"]).run();
    let added = with_others(folder.path())?;
    assert!(before.iter().all(|file| adapters(folder.path()).contains(file)), "the adapter that was there is asked, not trained again");
    let (added, whole) = (added.frame()?, with_others(other.path())?.frame()?);
    assert!(timeless(&added).equals_missing(&timeless(&whole)), "{added}{whole}");
    assert_eq!(flags(&added, "ood"), [false, true].repeat(4));

    // Out of distribution: the demonstrations of the one, the queries of the other.
    let split = Task::open("sentiment")?.test_at_most(24)?.few_shot(4, 1)?;
    let queries = Task::open("sentiment_film")?.test(24, 1)?;
    let icl = accuracy(&evaluate(&model, &queries.with_demonstrations(&split.train, 1)?)?)?;
    let row = (0..added.height())
        .find(|&row| texts(&added, "method")[row] == "ICL" && numbers(&added, "run")[row] == Some(1.0) && flags(&added, "ood")[row]);
    assert_eq!(numbers(&added, "accuracy")[row.unwrap()], Some(icl));

    let summary = with_others(folder.path())?.summary()?;
    assert_eq!((summary.height(), texts(&summary, "method")), (4, ["ICL", "ICL", "SFT", "SFT"].map(String::from).to_vec()));
    let (accuracy, of) = (numbers(&added, "accuracy"), |method: &str, ood: bool| {
        let own = |row: &usize| texts(&added, "method")[*row] == method && flags(&added, "ood")[*row] == ood;
        (0..added.height()).filter(own).collect::<Vec<_>>()
    });
    for (row, (method, ood)) in [("ICL", false), ("ICL", true), ("SFT", false), ("SFT", true)].into_iter().enumerate() {
        let [a, b] = of(method, ood)[..] else { panic!("two runs") };
        let (a, b) = (accuracy[a].unwrap(), accuracy[b].unwrap());
        assert!((numbers(&summary, "accuracy")[row].unwrap() - (a + b) / 2.0).abs() < 1e-12);
        assert!((numbers(&summary, "accuracy_std")[row].unwrap() - (a - b).abs() / 2f64.sqrt()).abs() < 1e-12);
        assert_eq!(numbers(&summary, "runs")[row], Some(2.0));
    }
    let tests = with_others(folder.path())?.significance_of(&[(Method::Sft, Method::Icl)], &["accuracy", "asim"])?;
    assert_eq!((tests.height(), numbers(&tests, "pairs")), (2, vec![Some(2.0); 2]), "two runs");
    assert_eq!(numbers(&tests, "averaged"), [Some(4.0); 2], "each in and out of distribution");
    assert_eq!(numbers(&tests, "unpaired"), [Some(0.0); 2]);
    let of_run = |method: &str, run: f64| {
        let own = |row: &usize| texts(&added, "method")[*row] == method && numbers(&added, "run")[*row] == Some(run);
        let asims: Vec<f64> = (0..added.height()).filter(own).map(|row| numbers(&added, "asim")[row].unwrap()).collect();
        asims.iter().sum::<f64>() / asims.len() as f64
    };
    let [sft, icl] = ["SFT", "ICL"].map(|method| [of_run(method, 0.0), of_run(method, 1.0)]);
    let by_hand = ia2::statistics::paired_t(&sft, &icl, 0.95)?;
    assert!(
        (numbers(&tests, "p_t")[1].unwrap() - by_hand.p).abs() < 1e-9
            && (numbers(&tests, "difference")[1].unwrap() - by_hand.difference).abs() < 1e-12
    );
    let (p, holm) = (numbers(&tests, "p_t"), numbers(&tests, "p_t_holm"));
    let least = p[0].unwrap().min(p[1].unwrap());
    assert!((holm.iter().flatten().copied().fold(1.0, f64::min) - (2.0 * least).min(1.0)).abs() < 1e-12);
    Ok(())
}

#[test]
fn a_run_that_fails_is_shown_and_the_others_go_on() -> Result<()> {
    let model = model();
    let folder = tempfile::tempdir().unwrap();
    let methods = [Method::Icl, Method::Sft, Method::Ia2, Method::Ia2ThenSft];
    let grid = || small(&model).methods(&methods).learning_rates(&[1e300, 3e-3]).folder(folder.path());
    let frame = grid().run()?.frame()?;
    let (failed, rates, chosen) = (texts(&frame, "failed"), numbers(&frame, "learning_rate"), flags(&frame, "chosen"));
    assert_eq!(frame.height(), 1 + 3 * 2);
    for row in 0..frame.height() {
        let broken = rates[row] == Some(1e300);
        assert_eq!(failed[row] != "null", broken, "{}: {}", texts(&frame, "method")[row], failed[row]);
        assert_eq!(chosen[row], !broken, "what failed is never chosen");
        assert_eq!(numbers(&frame, "accuracy")[row].is_none(), broken);
    }
    let both = texts(&frame, "method").iter().position(|method| method == "IA2 → SFT").unwrap();
    assert!(failed[both].starts_with("IA2, which it goes on from, failed: "), "{}", failed[both]);
    let before = written(folder.path());
    grid().run()?;
    assert_eq!(written(folder.path()), before, "a failure is a result");
    grid().retry_failed().run()?;
    let changed = written(folder.path()).iter().zip(&before).filter(|(now, then)| now != then).count();
    assert_eq!(changed, 3, "the three that failed");
    let summary = grid().run()?.summary()?;
    assert!(numbers(&summary, "runs").iter().all(|runs| *runs == Some(1.0)));
    let none = small(&model).methods(&[Method::Sft]).learning_rates(&[1e300]).run()?.summary()?;
    assert_eq!((numbers(&none, "runs"), numbers(&none, "failed")), (vec![Some(0.0)], vec![Some(1.0)]));

    // Rows that do not suffice for every N: what they do not suffice for is shown.
    let large = small(&model).methods(&[Method::Icl]).sizes(&[4, 100_000]);
    let frame = large.run()?.frame()?;
    assert_eq!((frame.height(), large.plan()?.refused()), (2, 1));
    assert!(texts(&frame, "failed")[1].contains("too few") && !flags(&frame, "chosen")[1]);

    // Demonstrations that leave no room take ICL and asim, not the accuracy of what needs none.
    let queries: Vec<Example> =
        (0..60).map(|row| Example::new(format!("Text:{}{row}\nLabel:", "a ".repeat(50)), (row % 2).to_string())).collect();
    let task = Task::of(Examples::new("long", ia2::prompt::AnswerForm::labels(["0", "1"])?, queries)?, ia2::dataset::Card::default());
    let long =
        Experiment::new(&model).task(&task).sizes(&[16]).runs(1).learning_rates(&[1e-3]).epochs(1).methods(&[Method::Icl, Method::Sft]);
    let frame = long.run()?.frame()?;
    assert_eq!(numbers(&frame, "accuracy").iter().map(Option::is_some).collect::<Vec<_>>(), [false, true]);
    assert!(
        texts(&frame, "failed")[0].contains("context") && texts(&frame, "failed")[1].starts_with("no asim: "),
        "{:?}",
        texts(&frame, "failed")
    );

    // One example cannot be left out of one: methods with targets fail, the others do not.
    let one = small(&model).methods(&[Method::Sft, Method::Ia2]).sizes(&[1]).run()?.frame()?;
    assert_eq!(texts(&one, "failed")[0], "null");
    assert!(texts(&one, "failed")[1].contains("at least two examples"));
    Ok(())
}

#[test]
fn a_setting_that_makes_no_sense_is_an_error() {
    let model = model();
    let adapted = model.with(&Adapter::new(&model, Lora::rank(2), 0).unwrap()).unwrap();
    for (experiment, word) in [
        (Experiment::new(&model), "no tasks"),
        (small(&model).sizes(&[]), "no sizes"),
        (small(&model).tasks(&["sentiment"]), "named twice"),
        (small(&model).tasks(&["nowhere"]), "no task `nowhere`"),
        (small(&model).tested_on("sentiment", &["nowhere"]), "tested on `nowhere`"),
        (small(&model).sizes(&[100_000]), "too few"),
        (small(&model).learning_rates(&[f64::NAN]), "NaN"),
        (small(&model).learning_rates(&[1e-3, 3e-3, 1e-3]), "asked for twice"),
        (small(&adapted), "without an adapter"),
    ] {
        let error = experiment.run().unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let grid = || small(&model).methods(&[Method::Icl]).folder(folder.path());
    let key = texts(&grid().run().unwrap().frame().unwrap(), "key").remove(0);
    std::fs::write(folder.path().join(format!("{key}.json")), "{").unwrap();
    let error = grid().run().unwrap_err().to_string();
    assert!(error.contains(&key) && error.contains("remove it"), "{error}");
}

#[test]
fn a_plan_times_a_model_once_however_many_tasks_there_are() -> Result<()> {
    let model = model();
    let rows = Task::open("sentiment")?;
    let named = |name: &str| {
        Ok::<_, ia2::Error>(Task::of(Examples::new(name, rows.form().clone(), rows.examples().rows().to_vec())?, Default::default()))
    };
    let grid = Experiment::new(&model).task(&named("one")?).task(&named("other")?).sizes(&[4]).runs(1).test_at_most(8);
    let frame = grid.plan()?.frame()?;
    for column in ["training_hours", "other_hours"] {
        let hours = numbers(&frame, column);
        assert!(hours[0].unwrap() > 0.0 && hours[0] == hours[1], "the same rows at the same pace: {hours:?}");
    }
    // A task whose queries do not fit says so, and the others are timed.
    let long = Example::new(format!("Text:{}\nLabel:", "a ".repeat(600)), "0");
    let long: Vec<Example> = (0..20).map(|row| Example::new(format!("{row} {}", long.query), (row % 2).to_string())).collect();
    let long = Task::of(Examples::new("long", rows.form().clone(), long)?, Default::default());
    let frame = Experiment::new(&model).task(&long).task(&named("one")?).sizes(&[4]).runs(1).plan()?.frame()?;
    assert!(texts(&frame, "note")[0].contains("context") && texts(&frame, "note")[1] == "null", "{:?}", texts(&frame, "note"));
    assert_eq!(numbers(&frame, "training_hours")[0], None);
    assert!(numbers(&frame, "training_hours")[1].unwrap() > 0.0);
    Ok(())
}

/// A grid of hours goes on under later code only while these are what they are.
#[test]
fn keys_of_runs_are_what_they_were() -> Result<()> {
    let frame = small(&model()).methods(&[Method::Icl, Method::Sft]).run()?.frame()?;
    assert_eq!(texts(&frame, "key"), ["740a7fc36844430691fc", "0fba94ec173618324e0f"]);
    let frame = small(&model()).methods(&[Method::SelfDistillation]).epochs(1).run()?.frame()?;
    assert_eq!(texts(&frame, "key"), ["8199c018109efa1d3d50"]);
    Ok(())
}
