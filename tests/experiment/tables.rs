//! Tables and figures of a study, and the paper's.

use super::*;

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
fn the_papers_figures_stand_beside_ours() -> Result<()> {
    let model = model();
    let study = small(&model).methods(&[Method::Icl]).run()?;
    let frame = study.compared_with_paper()?;
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
    let frame = paper.compared_with_paper()?;
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

    // Free answers have no likeliest label: what is read of them stands next to the paper's.
    let free = Task::open("answer")?;
    let task = Task::of(Examples::new("GSM8K", free.form().clone(), free.examples().rows().to_vec())?, ia2::dataset::Card::default());
    let grid = Experiment::new(&model).task(&task).sizes(&[4]).runs(1).methods(&[Method::Icl]).test_at_most(8).compared_at_most(2);
    let frame = grid.run()?.compared_with_paper()?;
    let row = (0..40).find(|&row| texts(&frame, "task")[row] == "GSM8K" && texts(&frame, "method")[row] == "ICL").unwrap();
    assert_eq!(numbers(&frame, "top_1_accuracy")[row], None);
    assert!((numbers(&frame, "difference")[row].unwrap() - (numbers(&frame, "accuracy")[row].unwrap() - 0.764)).abs() < 1e-12);
    assert_eq!(numbers(&frame, "ece_difference")[row], None);
    Ok(())
}

/// The example that cargo builds next to the tests.
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
