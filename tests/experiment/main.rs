//! Grids of runs: what is shared, chosen, resumed, failed and averaged.
#![cfg(unix)]

#[path = "../common/mod.rs"]
mod common;

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

#[test]
fn a_grid_is_run_once_and_one_of_its_rates_and_betas_is_chosen() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let model = model();
    let grid = || small(&model).methods(&Method::ALL).learning_rates(&[1e-3, 1e-2]).betas(&[0.2, 0.8]).folder(folder.path());
    let study = grid().run()?;
    let frame = study.frame()?;
    // Seven methods without rates, nine with two, one with two betas besides.
    assert_eq!(frame.height(), 7 + 9 * 2 + 4);
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
    assert_eq!(overlap.height(), 8 * 7 / 2);
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
    assert_eq!(plan.missing(), 29, "those of N = 8");
    assert!(plan.hours() > 0.0 && plan.bytes() > 0);
    assert!(plan.bundle().plain.starts_with("Plan: 29 of 58 runs to do, about "), "{}", plan.bundle().plain);
    let done = grid().plan()?;
    assert_eq!((done.missing(), done.hours(), done.bytes()), (0, 0.0, 0));
    assert!(done.bundle().plain.starts_with("Plan: nothing to run, all 29 runs are done\n"), "{}", done.bundle().plain);
    Ok(())
}

#[test]
fn a_run_is_what_its_parts_give_by_hand() -> Result<()> {
    let model = model();
    let folder = tempfile::tempdir().unwrap();
    let rates = [1e-3, 3e-3];
    let study = small(&model).methods(&[Method::Ia2ThenSft]).learning_rates(&rates).folder(folder.path()).run()?;
    let frame = study.frame()?;
    assert_eq!(texts(&frame, "method"), ["IA2", "IA2", "IA2 → SFT", "IA2 → SFT"], "what it goes on from is run and shown");
    let split = Task::open("sentiment")?.test_at_most(24)?.few_shot(4, 0)?;
    let targets = Targets::of(&model, &split).collect()?;
    for (place, rate) in rates.into_iter().enumerate() {
        let primed = Training::new(Lora::rank(8), targets.ia2()?).seed(0).learning_rate(rate).epochs(2).run(&model, &split)?;
        let tuned = Training::resume(&primed, Sft::gold())?.run(&model, &split)?;
        let predictions = evaluate(tuned.model(), &split.test.zero_shot()?)?;
        let row = 2 + place;
        assert!((numbers(&frame, "accuracy")[row].unwrap() - accuracy(&predictions)?).abs() < 1e-12);
        assert!((numbers(&frame, "ece_equal_width_15")[row].unwrap() - ece(&predictions, Binning::EqualWidth(15))?).abs() < 1e-6);
        assert!((numbers(&frame, "dev_loss")[row].unwrap() - tuned.dev_loss().unwrap()).abs() < 1e-6);
        assert_eq!(numbers(&frame, "learning_rate")[row], Some(rate));
        let (said, inside) =
            Capture::at("model.layers.*.self_attn").while_responding(&model, &split.test.with_demonstrations(&split.train, 0)?.take(8))?;
        let own = capture(tuned.model(), &said.without_demonstrations(&model)?, "model.layers.*.self_attn")?;
        let asim = inside.asim(&own)?.column("asim")?.f64()?.mean().unwrap();
        assert!((numbers(&frame, "asim")[row].unwrap() - asim).abs() < 1e-6);
    }
    Ok(())
}

#[test]
fn self_distillation_and_cartridges_are_what_their_parts_give_by_hand() -> Result<()> {
    let model = model();
    let folder = tempfile::tempdir().unwrap();
    let methods = [Method::Icl, Method::SelfDistillation, Method::Cartridge];
    // A cartridge is a cartridge whatever the grid's adapters are, and one for both.
    let adapters = [Lora::rank(8).into(), Ia3::new().into()];
    let grid = || small_of(&model, "answer").methods(&methods).adapters(&adapters).folder(folder.path());
    let plan = grid().plan()?;
    assert_eq!(plan.missing(), 4);
    let frame = grid().run()?.frame()?;
    assert_eq!(texts(&frame, "method"), ["ICL", "self-distillation", "self-distillation", "cartridge"]);
    assert_eq!(texts(&frame, "adapter")[3], "cartridge of at most 1024 tokens");
    assert!(texts(&frame, "failed").iter().all(|message| message == "null"), "{:?}", texts(&frame, "failed"));
    let split = Task::open("answer")?.test_at_most(24)?.few_shot(4, 0)?;
    let targets = Targets::of(&model, &split).distributions(Keep::All).collect()?;
    let by_hand = |training: Training| training.learning_rate(3e-3).epochs(2).run(&model, &split);
    for (row, trained) in [
        (1, by_hand(Training::new(Lora::rank(8), targets.self_distillation()?))?),
        (2, by_hand(Training::new(Ia3::new(), targets.self_distillation()?))?),
        (3, by_hand(Training::new(Cartridge::new(), targets.soft_sft()?))?),
    ] {
        let predictions = evaluate(trained.model(), &split.test.zero_shot()?)?;
        assert!((numbers(&frame, "accuracy")[row].unwrap() - accuracy(&predictions)?).abs() < 1e-12, "row {row}");
        assert!((numbers(&frame, "dev_loss")[row].unwrap() - trained.dev_loss().unwrap()).abs() < 1e-6, "row {row}");
    }
    // Nothing is left to do, and its files are opened again.
    assert_eq!(grid().plan()?.missing(), 0);
    assert!(timeless(&grid().run()?.frame()?).equals_missing(&timeless(&frame)));
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
fn tables_and_figures_come_from_one_call_each() -> Result<()> {
    let model = model();
    let methods = [Method::Icl, Method::Sft, Method::Ia2ThenSft];
    let study = small(&model).methods(&methods).sizes(&[2, 4]).runs(2).tested_on("sentiment", &["sentiment_film"]).run()?;
    let runs = study.runs()?;
    assert_eq!(runs.height(), 2 * 2 * 2 * 4);
    assert_eq!(numbers(&runs, "demonstrations"), numbers(&runs, "n"));
    let (table, frame) = (study.table()?.frame().clone(), study.summary()?);
    let of = |value: &str| {
        let own = |row: &usize| texts(&table, "value")[*row] == value;
        (0..table.height()).filter(own).map(|row| numbers(&table, "mean")[row].unwrap()).collect::<Vec<_>>()
    };
    let sorted = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values
    };
    let means = numbers(&frame, "accuracy").into_iter().flatten().collect::<Vec<_>>();
    assert_eq!(means.len(), 2 * 2 * 4);
    let apart = |(a, b): (f64, f64)| (a - b).abs();
    assert!(sorted(of("accuracy")).into_iter().zip(sorted(means)).map(apart).all(|apart| apart < 1e-12));
    assert!(study.table()?.markdown().contains("| sentiment → sentiment_film\\* | 2 |"));
    assert!(study.significance_table()?.markdown().contains("IA2 → SFT"));
    assert!(
        study.significance_table()?.latex().contains("\\label{tab:significance}")
            && study.table()?.latex().contains("\\label{tab:results}")
    );
    let (forest, ranks) = (study.significance_figure()?, study.ranks_figure("accuracy")?);
    assert!(forest.alt().contains("with 95 % t interval. accuracy, IA2 − SFT: "), "{}", forest.alt());
    // One model: each panel in its method's colour.
    assert!(study.figure_2()?.alt().contains("one line per method"), "{}", study.figure_2()?.alt());
    assert!(ranks.alt().contains("over 2 blocks (run); Friedman's test: χ²("), "{}", ranks.alt());
    for figure in [
        study.figure_1()?,
        study.figure_2()?,
        study.figure_3()?,
        study.figure_4()?,
        study.figure_6("sentiment", "sentiment_film")?,
        forest,
        ranks,
    ] {
        assert!(figure.svg().contains("<svg") && figure.alt().len() > 40);
    }
    let error = study.figure_6("sentiment", "topic").unwrap_err().to_string();
    assert!(error.contains("sentiment → sentiment, sentiment → sentiment_film"), "{error}");
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
fn the_papers_figures_stand_beside_ours() -> Result<()> {
    let model = model();
    let study = small(&model).methods(&[Method::Icl]).run()?;
    let frame = study.beside_paper()?;
    assert_eq!(frame.height(), 10 * 4);
    assert!(numbers(&frame, "accuracy").iter().all(Option::is_none), "sentiment is none of the paper's");
    let row = (0..40).find(|&row| texts(&frame, "task")[row] == "SST2" && texts(&frame, "method")[row] == "IA2 → SFT").unwrap();
    assert_eq!((numbers(&frame, "paper_accuracy")[row], numbers(&frame, "paper_ece")[row]), (Some(0.904), Some(0.06)));
    // Rows of one's own that bear a benchmark's name.
    let rows = Task::open("sentiment")?.examples().rows().to_vec();
    let form = ia2::prompt::AnswerForm::labels(["0", "1"])?;
    let task = Task::of(Examples::new("SST2", form, rows)?, ia2::dataset::Card::default());
    let paper =
        Experiment::paper(&model).task(&task).sizes(&[4]).runs(1).methods(&[Method::Icl]).test_at_most(24).compared_at_most(8).run()?;
    let frame = paper.beside_paper()?;
    let ours = paper.frame()?;
    let there = |frame: &DataFrame, name: &str| numbers(frame, name).into_iter().flatten().collect::<Vec<f64>>();
    for name in ["accuracy", "top_1_accuracy", "top_1_ece_paper_15"] {
        assert_eq!(there(&frame, name), there(&ours, name), "{name}");
    }
    let predictions = evaluate(
        &model,
        &task.clone().test_at_most(24)?.few_shot(4, 0).and_then(|split| split.test.with_demonstrations(&split.train, 0))?,
    )?;
    assert_eq!(there(&frame, "top_1_accuracy"), [ia2::metric::top_1_accuracy(&predictions)?]);
    assert!(
        (there(&frame, "top_1_ece_paper_15")[0] - ece(&ia2::metric::top_1_as_reported(&predictions)?, Binning::Paper(15))?).abs() < 1e-9
    );
    assert!((there(&frame, "difference")[0] - (there(&frame, "top_1_accuracy")[0] - 0.854)).abs() < 1e-12, "like with like");
    assert!((there(&frame, "ece_difference")[0] - (there(&frame, "top_1_ece_paper_15")[0] - 0.13)).abs() < 1e-12);

    // Free answers have no likeliest label: what is read of them stands beside the paper's.
    let free = Task::open("answer")?;
    let task = Task::of(Examples::new("GSM8K", free.form().clone(), free.examples().rows().to_vec())?, ia2::dataset::Card::default());
    let grid = Experiment::new(&model).task(&task).sizes(&[4]).runs(1).methods(&[Method::Icl]).test_at_most(8).compared_at_most(2);
    let frame = grid.run()?.beside_paper()?;
    let row = (0..40).find(|&row| texts(&frame, "task")[row] == "GSM8K" && texts(&frame, "method")[row] == "ICL").unwrap();
    assert_eq!(numbers(&frame, "top_1_accuracy")[row], None);
    assert!((numbers(&frame, "difference")[row].unwrap() - (numbers(&frame, "accuracy")[row].unwrap() - 0.764)).abs() < 1e-12);
    assert_eq!(numbers(&frame, "ece_difference")[row], None);
    Ok(())
}

#[test]
fn the_authors_protocol_is_what_its_parts_give_by_hand() -> Result<()> {
    let model = model();
    let folder = tempfile::tempdir().unwrap();
    // Answers of several tokens: each side's own may differ from the other's.
    let grid = || small_of(&model, "answer").methods(&[Method::Icl, Method::Sft]).folder(folder.path());
    let plain = grid().run()?.frame()?;
    let adapters = || written(folder.path()).into_iter().filter(|(path, _)| path.extension().unwrap() == "safetensors").collect::<Vec<_>>();
    let trained = adapters();
    let study = grid().demonstrations(Demonstrations::PerQuery).rollouts(Rollouts::Own).run()?;
    assert_eq!(adapters(), trained, "only what is asked is asked anew");
    let frame = study.frame()?;
    assert!(texts(&frame, "failed").iter().all(|message| message == "null"), "{:?}", texts(&frame, "failed"));
    let shown = study.bundle().plain;
    assert!(shown.contains("ICL with demonstrations of its own for each query; asim of each side's own answers"), "{shown}");

    let task = Task::open("answer")?.test_at_most(24)?;
    let split = task.few_shot(4, 0)?;
    let used: Vec<&Example> = [&split.train, &split.dev, &split.test].into_iter().flat_map(|set| set.rows()).collect();
    let rest: Vec<Example> = task.examples().rows().iter().filter(|row| !used.contains(row)).cloned().collect();
    let prompts = split.test.with_demonstrations_per_query(&Examples::new("rest", task.form().clone(), rest)?, 3, 0)?;
    assert!(prompts.iter().all(|prompt| prompt.demonstrations.len() == 3));
    let icl = evaluate(&model, &prompts)?;
    assert_eq!(numbers(&frame, "accuracy")[0], Some(accuracy(&icl)?));
    let adapter = Adapter::open(folder.path().join(texts(&frame, "key")[1].as_str()), &model)?;
    let at = || Capture::at("model.layers.*.self_attn");
    let (said, inside) = at().while_responding(&model, &prompts.take(8))?;
    let (own, outside) = at().while_responding(&model.with(&adapter)?, &split.test.take(8).zero_shot()?)?;
    let tokens = |responses: &Responses| responses.rows().iter().map(|row| row.tokens.response.clone()).collect::<Vec<_>>();
    assert_ne!(tokens(&said), tokens(&own), "the two sides say different things, or the test shows nothing");
    let by_hand = inside.asim(&outside)?.column("asim")?.f64()?.mean().unwrap();
    assert!((numbers(&frame, "asim")[1].unwrap() - by_hand).abs() < 1e-6);
    assert_ne!(numbers(&frame, "asim")[1], numbers(&plain, "asim")[1]);
    assert_eq!(numbers(&frame, "accuracy")[1], numbers(&plain, "accuracy")[1], "SFT is shown nothing");

    // One training example leaves none to show.
    let one = grid().sizes(&[1]).methods(&[Method::Icl]).demonstrations(Demonstrations::PerQuery).run()?.frame()?;
    assert!(texts(&one, "failed")[0].contains("N - 1) = 0"), "{}", texts(&one, "failed")[0]);

    let all = format!("{:?}", Experiment::new(&model).compat(Compat::Paper));
    assert!(["TestAccuracy", "PerQuery", "Own"].iter().all(|way| all.contains(way)), "{all}");
    Ok(())
}

#[test]
fn what_is_not_what_was_recorded_is_refused_or_done_again() -> Result<()> {
    let model = model();
    let folder = tempfile::tempdir().unwrap();
    let grid = || small(&model).methods(&[Method::Sft, Method::Ia2ThenSft]).learning_rates(&[1e-3]).runs(1).folder(folder.path());
    let expected = grid().run()?.frame()?;
    let keys = texts(&expected, "key");
    // Without its adapter a training is not done.
    std::fs::remove_dir_all(folder.path().join(&keys[0])).unwrap();
    assert_eq!(grid().so_far()?.frame()?.height(), expected.height() - 1);
    assert_eq!(grid().plan()?.missing(), 1);
    assert!(timeless(&grid().run()?.frame()?).equals_missing(&timeless(&expected)));
    assert!(folder.path().join(&keys[0]).join("adapter_config.json").exists());
    // A record of another run, or with another number; an adapter of another.
    let record = |place: usize| folder.path().join(format!("{}.json", keys[place]));
    let text = std::fs::read_to_string(record(0)).unwrap();
    std::fs::copy(record(1), record(0)).unwrap();
    common::refused(grid().run(), &[&keys[0], "another run", "remove it"]);
    let accuracy = &text[text.find("\"accuracy\": ").unwrap()..];
    let accuracy = &accuracy[..accuracy.find(',').unwrap()];
    std::fs::write(record(0), text.replacen(accuracy, "\"accuracy\": 17.5", 1)).unwrap();
    common::refused(grid().run(), &[&keys[0], "changed or damaged", "remove it"]);
    std::fs::write(record(0), &text).unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors", "ia2_manifest.json"] {
        std::fs::copy(folder.path().join(&keys[2]).join(name), folder.path().join(&keys[1]).join(name)).unwrap();
    }
    common::refused(grid().tested_on("sentiment", &["sentiment_film"]).run(), &[&keys[1], "not the one that the record", "remove both"]);
    Ok(())
}

#[test]
fn a_grid_whose_folder_goes_while_it_runs_says_so() {
    let model = model();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("grid");
    let running = small(&model).methods(&[Method::Icl, Method::Sft]).sizes(&[2, 4]).runs(2).folder(&place);
    let remover = std::thread::spawn({
        let place = place.clone();
        move || {
            let records = || std::fs::read_dir(&place).is_ok_and(|entries| entries.flatten().any(|entry| entry.path().is_file()));
            while !records() {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::fs::remove_dir_all(&place).unwrap_or_default();
        }
    });
    let error = running.run().unwrap_err();
    remover.join().unwrap();
    assert!(error.is_file(), "{error}");
    // It is done again as if nothing had been.
    assert_eq!(running.run().unwrap().frame().unwrap().height(), 2 * 2 * 2);
}

/// Set in a child: the folder it works in. Without it the child's test does nothing.
const FOLDER: &str = "IA2_TEST_EXPERIMENT_IN";

fn long() -> Result<DataFrame> {
    let Some(folder) = std::env::var_os(FOLDER) else { return Ok(DataFrame::empty()) };
    grid_in(Path::new(&folder)).run()?.frame()
}

fn grid_in(folder: &Path) -> Experiment {
    let methods = [Method::Icl, Method::Sft, Method::Ia2ThenSft];
    small(&model()).methods(&methods).sizes(&[2, 4]).runs(2).tested_on("sentiment", &["sentiment_film"]).folder(folder)
}

#[test]
#[ignore = "the child of `an_experiment_that_is_killed_goes_on`"]
fn child() -> Result<()> {
    long().map(|_| ())
}

#[test]
fn an_experiment_that_is_killed_goes_on() -> Result<()> {
    let (whole, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = grid_in(whole.path()).run()?.frame()?;
    let records = || {
        let entries = std::fs::read_dir(broken.path()).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "json")).count()
    };
    let began = Instant::now();
    for kill in 0..3 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child", "--ignored"]).env(FOLDER, broken.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let before = records();
        while records() <= before + kill {
            assert!(began.elapsed() < Duration::from_secs(240) && child.try_wait().unwrap().is_none(), "kill {kill} found nothing to kill");
            std::thread::sleep(Duration::from_millis(1));
        }
        // Then a moment that no clock of ours decides.
        let nanoseconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos();
        std::thread::sleep(Duration::from_micros(u64::from(nanoseconds / 7 % 100_000)));
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9), "the experiment ended before kill {kill}: make it longer");
    }
    let there = records();
    assert!((3..16).contains(&there), "{there} of 16 runs");
    assert_eq!(grid_in(broken.path()).so_far()?.frame()?.height(), 2 * there);
    let resumed = grid_in(broken.path()).run()?.frame()?;
    assert!(timeless(&resumed).equals_missing(&timeless(&expected)));
    Ok(())
}

#[test]
fn evidence_is_what_the_outcomes_of_each_row_give() -> Result<()> {
    let (model, folder) = (model(), tempfile::tempdir().unwrap());
    let methods = [Method::Icl, Method::Sft, Method::Ia2];
    let grid = || {
        small(&model)
            .methods(&methods)
            .sizes(&[2, 4])
            .runs(3)
            .tested_on("sentiment", &["sentiment_film"])
            .test_at_most(40)
            .folder(folder.path())
    };
    let study = grid().run()?;
    let (frame, outcomes) = (study.frame()?, study.outcomes()?);
    assert_eq!(outcomes.height(), 3 * 2 * 3 * 2 * 40);
    // Outcomes are those that the metrics were computed of.
    let (keys, tested) = (texts(&outcomes, "key"), texts(&outcomes, "evaluated_on"));
    for row in 0..frame.height() {
        let (key, on) = (&texts(&frame, "key")[row], &texts(&frame, "evaluated_on")[row]);
        let own: BooleanChunked = keys.iter().zip(&tested).map(|(other, test)| other == key && test == on).collect();
        let own = outcomes.filter(&own)?;
        for (metric, ours) in [
            ("accuracy", accuracy(&own)?),
            ("ece_equal_width_15", ece(&own, Binning::EqualWidth(15))?),
            ("augrc", ia2::metric::augrc(&own)?),
        ] {
            assert!((numbers(&frame, metric)[row].unwrap() - ours).abs() < 1e-6, "{metric} of row {row}");
        }
        let brier = own.column("brier")?.f64()?.mean().unwrap();
        assert!((numbers(&frame, "brier")[row].unwrap() - brier).abs() < 1e-6);
    }
    // A row that two runs share has one name.
    let mut names = texts(&outcomes, "row");
    names.sort();
    names.dedup();
    assert!(names.len() <= 3 * 2 * 40 && names.iter().all(|name| name.len() == 12), "{}", names.len());

    let evidence = study.evidence()?;
    assert_eq!(evidence.baseline(), Method::Sft);
    let effects = evidence.effects();
    assert_eq!((effects.height(), evidence.missing().height()), (2 * 5, 0));
    // By hand, from the frame of outcomes.
    let of = |method: &str, column: &str| -> DataFrame {
        let mask: BooleanChunked = texts(&outcomes, "method").iter().map(|other| other == method).collect();
        let own = outcomes.filter(&mask).unwrap();
        let values = own.column(column).unwrap().cast(&DataType::Float64).unwrap().with_name("value".into());
        own.select(["task", "evaluated_on", "n", "run", "row"]).unwrap().hstack(&[values]).unwrap()
    };
    for column in ["correct", "brier"] {
        let (mut first, second) = (of("SFT", column), of("IA2", column));
        let difference = (second.column("value")? - first.column("value")?)?;
        first.with_column(difference.with_name("value".into()))?;
        let by_hand =
            ia2::statistics::crossed_mean(&first, "value", &["evaluated_on", "n"], &["task", "run"], &["evaluated_on", "row"], 0.95)?;
        let value = if column == "correct" { "accuracy" } else { column };
        let at =
            (0..effects.height()).find(|&row| texts(effects, "method")[row] == "IA2" && texts(effects, "value")[row] == value).unwrap();
        for (name, ours) in [
            ("difference", by_hand.mean),
            ("error", by_hand.error),
            ("lower", by_hand.lower),
            ("p", by_hand.p),
            ("degrees", by_hand.degrees),
        ] {
            let theirs = numbers(effects, name)[at].unwrap();
            assert!((theirs - ours).abs() < 1e-6 * ours.abs().max(1.0), "{name} of {value}: {theirs} and {ours}");
        }
        assert_eq!(
            (numbers(effects, "strata")[at], numbers(effects, "runs")[at], numbers(effects, "unpaired")[at]),
            (Some(4.0), Some(3.0), Some(0.0))
        );
        assert_eq!(numbers(effects, "rows")[at], Some(by_hand.rows as f64));
    }
    // What is no mean over rows: the mean of its differences, and an interval around it.
    let smooth =
        (0..effects.height()).find(|&row| texts(effects, "method")[row] == "IA2" && texts(effects, "value")[row] == "smooth_ece").unwrap();
    let mean_of = |method: &str| {
        let own: Vec<f64> = (0..frame.height())
            .filter(|&row| texts(&frame, "method")[row] == method)
            .map(|row| numbers(&frame, "smooth_ece")[row].unwrap())
            .collect();
        own.iter().sum::<f64>() / own.len() as f64
    };
    let difference = numbers(effects, "difference")[smooth].unwrap();
    assert!((difference - (mean_of("IA2") - mean_of("SFT"))).abs() < 1e-6);
    assert!(numbers(effects, "lower")[smooth].unwrap() <= difference && numbers(effects, "mixed_p")[smooth].is_none());
    let p: Vec<f64> = numbers(effects, "p").into_iter().flatten().collect();
    let holm: Vec<f64> = numbers(effects, "p_holm").into_iter().flatten().collect();
    assert_eq!(ia2::statistics::holm(&p)?, holm);
    let levels = evidence.methods();
    assert_eq!(texts(levels, "method"), ["ICL", "SFT", "IA2"]);
    for row in 0..3 {
        let of = |name: &str| numbers(levels, name)[row].unwrap();
        assert!((of("brier_of_answer") - (of("reliability") - of("resolution") + of("uncertainty") + of("within"))).abs() < 1e-12);
        assert!(of("accuracy_lower") <= of("accuracy") && of("accuracy") <= of("accuracy_upper") && of("debiased_ce_15_lower") >= 0.0);
    }
    assert_eq!(evidence.by_evaluation().height(), 2 * 2 * 2 * 2);
    assert!(texts(evidence.by_evaluation(), "evaluation").contains(&"sentiment → sentiment_film".to_string()));

    // It shows, saves and explains.
    let shown = evidence.bundle();
    for words in ["Evidence against SFT", "over 10 tests", "is found four times out of five", "With 3 runs", "What is pooled"] {
        assert!(shown.plain.contains(words), "{words}: {}", shown.plain);
    }
    for (name, words) in [
        ("e.md", "| method | value |"),
        ("e.tex", "\\toprule"),
        ("e.csv", "method,baseline,value,difference"),
        ("e.json", "\"by_evaluation\""),
    ] {
        let path = folder.path().join(name);
        evidence.save(&path)?;
        assert!(std::fs::read_to_string(&path).unwrap().contains(words), "{name}");
        std::fs::remove_file(path).unwrap();
    }
    let json: serde_json::Value = serde_json::from_str(&evidence.json()?).unwrap();
    assert_eq!(json["effects"].as_array().unwrap().len(), 10);
    assert!(evidence.save("e.png").unwrap_err().to_string().contains(".md, .tex, .json and .csv"));
    let answers = evidence.checklist();
    assert!(answers.len() == 4 && answers[1].1.contains("0.003") && answers[1].1.contains("N = 2, 4"), "{answers:?}");
    assert!(answers[2].1.contains("clustered by run") && answers[3].1.contains("12 trainings"), "{answers:?}");
    assert!(study.significance_table()?.markdown().contains("test rows are not resampled"));
    // Any method is a baseline; exchanged, an effect has the other sign.
    let other = study.evidence_against(Method::Ia2)?;
    let at = (0..other.effects().height())
        .find(|&row| texts(other.effects(), "method")[row] == "SFT" && texts(other.effects(), "value")[row] == "smooth_ece")
        .unwrap();
    assert!((numbers(other.effects(), "difference")[at].unwrap() + difference).abs() < 1e-12);
    assert!(study.evidence_against(Method::Soft).unwrap_err().to_string().contains("there are ICL, SFT, IA2"));
    Ok(())
}

#[test]
fn results_without_outcomes_are_named_and_filled_without_training() -> Result<()> {
    let (model, folder) = (model(), tempfile::tempdir().unwrap());
    let grid = || small(&model).methods(&[Method::Icl, Method::Sft]).runs(2).folder(folder.path());
    let whole = grid().run()?.evidence()?;
    // As an earlier version wrote it.
    let records: Vec<_> =
        written(folder.path()).into_iter().map(|(path, _)| path).filter(|path| path.parent().unwrap() == folder.path()).collect();
    assert_eq!(records.len(), 4);
    let earlier = |path: &Path| {
        let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for evaluated in record["evaluated"].as_object_mut().unwrap().values_mut() {
            assert!(evaluated.as_object_mut().unwrap().remove("outcomes").is_some());
        }
        common::seal(path, record);
    };
    earlier(&records[0]);
    let adapters = || written(folder.path()).into_iter().filter(|(path, _)| path.extension().unwrap() == "safetensors").collect::<Vec<_>>();
    let before = adapters();
    let study = grid().run()?;
    assert_eq!(adapters(), before);
    let error = study.evidence().unwrap_err().to_string();
    assert!(error.contains("add runs"), "one run is left: {error}");
    records[1..].iter().for_each(|path| earlier(path));
    let error = grid().so_far()?.evidence().unwrap_err().to_string();
    assert!(error.contains("4 of 4 results lack them") && error.contains("fill_outcomes"), "{error}");
    let filled = grid().fill_outcomes().run()?;
    assert_eq!(adapters(), before, "nothing was trained again");
    assert_eq!(filled.evidence()?.effects(), whole.effects());
    let after = written(folder.path());
    grid().fill_outcomes().run()?;
    assert_eq!(written(folder.path()), after, "nothing was left to do");
    Ok(())
}

/// All columns of text of a frame that is shown, or of a plan, hold these words.
fn told(shown: &str, words: &[&str]) {
    for word in words {
        assert!(shown.contains(word), "{word}: {shown}");
    }
}

#[test]
fn what_a_card_names_and_is_not_installed_is_left_out_and_said() -> Result<()> {
    let model = model();
    let task = |ood: &[&str]| {
        let mut card = ia2::dataset::Card::default();
        card.ood = ood.iter().map(|name| name.to_string()).collect();
        Task::of(Task::open("sentiment").unwrap().examples().clone(), card)
    };
    let grid =
        |task: &Task| Experiment::new(&model).task(task).sizes(&[2]).runs(1).methods(&[Method::Icl]).test_at_most(8).compared_at_most(2);
    let partly = grid(&task(&["sentiment_film", "nowhere", "elsewhere"]));
    let said = "; sentiment not tested on nowhere, elsewhere: not installed";
    told(&partly.plan()?.bundle().plain, &["Plan: 1 of 1 runs", said]);
    let study = partly.run()?;
    assert_eq!(texts(&study.frame()?, "evaluated_on"), ["sentiment", "sentiment_film"]);
    told(&study.bundle().plain, &[said]);
    let whole = grid(&task(&["sentiment_film"])).run()?.bundle().plain;
    assert!(!whole.contains("not installed"), "{whole}");
    // On a cluster, too.
    let folder = tempfile::tempdir().unwrap();
    common::grid::prepared(&partly, folder.path(), env!("CARGO_BIN_EXE_ia2-worker"))?;
    told(&Experiment::open(folder.path())?.bundle().plain, &[said]);
    // What is asked for is not left out.
    common::refused(partly.tested_on("sentiment", &["nowhere"]).run(), &["tested on `nowhere`"]);
    Ok(())
}

/// The data folder of the child of the test below.
fn partial_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("ag_news")).unwrap();
    let rows: String = (0..40).map(|row| format!("\"{}\",\"title {row}\",\"text\"\n", row % 4 + 1)).collect();
    std::fs::write(folder.path().join("ag_news/test.csv"), rows).unwrap();
    folder
}

#[test]
#[ignore = "the child of `of_a_benchmark_of_which_a_part_is_missing_the_rest_is_used`, with a data folder of its own"]
fn child_with_a_partial_benchmark() -> Result<()> {
    let model = model();
    let words = [" cold", " warm", " red", " blue"];
    let grid = Experiment::new(&model).tasks(&["AGN"]).words("AGN", &words).sizes(&[4]).runs(1).methods(&[Method::Icl]);
    let said = ["AGN learned from and tested on test: the rest of it is not installed", "AGN not tested on BBCN: not installed"];
    told(&grid.plan()?.bundle().plain, &said);
    let study = grid.run()?;
    told(&study.bundle().plain, &said);
    // 40 rows less 4 to learn from and 2 for dev.
    assert_eq!(numbers(&study.frame()?, "examples"), [Some(34.0)]);
    let protocol = texts(&grid.protocol()?, "value").join("\n");
    told(&protocol, &["AGN, 40 rows: 40 rows of ag_news/test.csv; labels  cold,  warm,  red,  blue", said[0], "weights sha256 ", "ICL"]);
    Ok(())
}

#[test]
fn of_a_benchmark_of_which_a_part_is_missing_the_rest_is_used() {
    let folder = partial_folder();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_with_a_partial_benchmark", "--ignored"]).env("IA2_DATA", folder.path());
    let ended = command.output().unwrap();
    assert!(ended.status.success(), "{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(String::from_utf8_lossy(&ended.stdout).contains("1 passed"), "the child's test is there");
}

#[test]
fn words_balanced_draws_and_dev_rows_are_those_made_by_hand() -> Result<()> {
    let model = model();
    let words = [" cold", " warm"];
    let grid = || small(&model).methods(&[Method::Icl, Method::Sft]).tested_on("sentiment", &["sentiment_film"]);
    let grid = || grid().words("sentiment", &words).words("sentiment_film", &words).balanced().dev_rows(6);
    let study = grid().run()?;
    let frame = study.frame()?;
    told(&study.bundle().plain, &["; labels balanced in train and dev", "; 6 dev rows whatever N"]);
    let split = Task::open("sentiment")?.relabelled(words)?.test_at_most(24)?.dev_rows(6)?.few_shot_balanced(4, 0)?;
    assert_eq!((split.train.len(), split.dev.len()), (4, 6));
    let of = |set: &Examples, word: &str| set.rows().iter().filter(|row| row.gold == word).count();
    assert_eq!((of(&split.train, words[0]), of(&split.dev, words[0]), of(&split.dev, words[1])), (2, 3, 3));
    let icl = evaluate(&model, &split.test.with_demonstrations(&split.train, 0)?)?;
    assert_eq!(numbers(&frame, "accuracy")[0], Some(accuracy(&icl)?));
    let trained = Training::new(Lora::rank(8), Sft::gold()).learning_rate(3e-3).epochs(2).seed(0).run(&model, &split)?;
    let sft = texts(&frame, "method").iter().position(|method| method == "SFT").unwrap();
    assert_eq!(numbers(&frame, "dev_loss")[sft], trained.dev_loss());
    // Out of distribution, in the same words.
    let film = Task::open("sentiment_film")?.relabelled(words)?.test(24, 0)?;
    let other = evaluate(trained.model(), &film.zero_shot()?)?;
    assert_eq!(numbers(&frame, "accuracy")[sft + 1], Some(accuracy(&other)?));
    // Each decides the run.
    let key = |grid: Experiment| texts(&grid.methods(&[Method::Icl]).run().unwrap().frame().unwrap(), "key").remove(0);
    let plain = || small(&model);
    let keys = [key(plain()), key(plain().words("sentiment", &words)), key(plain().balanced()), key(plain().dev_rows(6))];
    assert!((1..4).all(|one| !keys[..one].contains(&keys[one])), "{keys:?}");

    common::refused(plain().words("sentiment", &[" one"]).run(), &["the labels 0, 1, and 1 words"]);
    common::refused(plain().words("sentinent", &words).run(), &["`sentinent`, and there is no such task"]);
    common::refused(plain().dev_rows(0).run(), &["a dev set needs at least one example"]);
    common::refused(plain().dev_rows(usize::MAX).run(), &["too few"]);
    Ok(())
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
    Ok(())
}

/// The example that cargo builds beside the tests.
#[test]
fn the_example_writes_what_its_reader_needs_to_repeat_it() {
    let Some(example) = common::example("study") else { return };
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Another model: the same but for its name and one weight.
    let model = model();
    let second = other.path().join("second's");
    model.save(&second).unwrap();
    let weights: Vec<(String, Tensor)> = Tensor::read_safetensors(second.join("model.safetensors")).unwrap();
    let _ = weights[0].1.get(0).fill_(0.5);
    Tensor::write_safetensors(&weights, second.join("model.safetensors")).unwrap();
    let models = format!("tiny-icl,{}", second.display());
    let words = "shortcut: cold, warm; shortcut_contrary: cold, warm";
    let arguments = ["--tasks", "shortcut,topic", "--model", &models, "--words", words, "--n", "2", "--runs", "1", "--dev", "2"];
    let more = ["--methods", "ICL,SFT", "--rates", "3e-3", "--epochs", "1", "--test", "6", "--compared", "2", "--out"];
    let ended = Command::new(&example).args(arguments).args(more).arg(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let protocol = read("protocol.csv");
    told(
        &protocol,
        &[
            "second's",
            "shortcut_contrary, 800 rows",
            "topic, 800 rows",
            "labels  cold,  warm",
            "2 dev rows whatever N",
            "ICL, SFT",
            "0.003",
        ],
    );
    let frame = read("frame.csv");
    // Two models, two methods, two tasks and their sets out of distribution.
    assert_eq!(frame.lines().count(), 1 + 2 * 2 * 2 * 2, "{frame}");
    // The command, as a shell reads it, finds everything done.
    let records = written(&folder.path().join("runs"));
    let command = read("command.sh").replace("cargo run --release --example study --", &format!("'{}'", example.display()));
    let again = Command::new("sh").args(["-c", &command]).output().unwrap();
    assert!(again.status.success(), "{command}: {}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(written(&folder.path().join("runs")), records);
    let wrong = Command::new(&example).args(["--task", "topic", "--plan"]).output().unwrap();
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("no option --task"));
}

#[test]
fn a_method_with_an_adapter_of_its_own_is_compared_with_those_of_the_grid() -> Result<()> {
    let study = small(&model()).methods(&[Method::Sft, Method::Cartridge]).sizes(&[4]).runs(2).run()?;
    let evidence = study.evidence()?;
    assert!(texts(evidence.effects(), "method").iter().all(|method| method == "cartridge"), "{}", evidence.effects());
    assert_eq!(numbers(evidence.effects(), "unpaired")[0], Some(0.0));
    let tests = study.significance_of(&[(Method::Sft, Method::Cartridge)], &["accuracy"])?;
    assert_eq!((numbers(&tests, "unpaired")[0], numbers(&tests, "pairs")[0]), (Some(0.0), Some(2.0)));
    Ok(())
}
