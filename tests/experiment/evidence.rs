//! What the outcomes of each row say of a study.

use super::*;

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
    // The library's own pairs give the same, the mixed model's mean over tasks included.
    let pairs = study.differences(Method::Sft, Method::Ia2)?;
    assert_eq!(pairs.height(), 3 * 2 * 2 * 40);
    let at =
        |value: &str| (0..effects.height()).find(|&row| texts(effects, "method")[row] == "IA2" && texts(effects, "value")[row] == value);
    for value in ["accuracy", "brier"] {
        let (strata, run, row) = (["model", "task", "evaluated_on", "n", "adapter"], ["task", "run"], ["evaluated_on", "row"]);
        let mean = ia2::statistics::crossed_mean(&pairs, value, &strata, &run, &row, 0.95)?;
        let mixed = ia2::statistics::mixed_mean(&pairs, value, &strata, &run, &row, 0.95)?;
        let own = |column: &str| numbers(effects, column)[at(value).unwrap()].unwrap();
        assert!((own("lower") - mean.lower).abs() < 1e-12 && (own("p") - mean.p).abs() < 1e-12, "{value}");
        let of = |column: &str| numbers(mixed.frame(), column)[0].unwrap();
        for (ours, theirs) in [("mixed_difference", "estimate"), ("mixed_lower", "lower"), ("mixed_p", "p")] {
            assert!((own(ours) - of(theirs)).abs() < 1e-9, "{ours} of {value}: {} and {}", own(ours), of(theirs));
        }
        assert!((own("row_deviation") - mixed.row_deviation).abs() < 1e-9, "{value}");
    }
    common::refused(study.differences(Method::Sft, Method::Soft), &["soft labels and SFT have no test rows in common"]);
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
    assert_eq!(numbers(levels, "evaluations"), [Some(4.0); 3]);
    for row in 0..3 {
        let of = |name: &str| numbers(levels, name)[row].unwrap();
        assert!((of("brier_of_answer") - (of("reliability") - of("resolution") + of("uncertainty") + of("within"))).abs() < 1e-12);
        assert!(of("accuracy_lower") <= of("accuracy") && of("accuracy") <= of("accuracy_upper") && of("debiased_ce_15_lower") >= 0.0);
    }
    assert_eq!(evidence.by_evaluation().height(), 2 * 2 * 2 * 2);
    assert!(texts(evidence.by_evaluation(), "evaluation").contains(&"sentiment → sentiment_film".to_string()));

    // It shows, saves and explains.
    let shown = evidence.bundle();
    for words in ["Evidence against SFT", "over 10 tests", "is found at least four times out of five", "With 3 runs", "What is pooled"] {
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
    let asked: Vec<&str> = answers.iter().map(|(question, _)| question.split(':').next().unwrap()).collect();
    let questions = [
        "Experimental result reproducibility",
        "Open access to data and code",
        "Experimental setting/details",
        "Experiment statistical significance",
        "Experiments compute resources",
        "Licenses for existing assets",
    ];
    assert_eq!(asked, questions);
    let answer = |question: usize| answers[question].1.as_str();
    assert!(
        answer(2).contains("0.003")
            && answer(2).contains("Adam")
            && answer(2).contains("N = 2, 4 training examples and min(48, N / 2)")
            && answer(3).contains("clustered by run"),
        "{answers:?}"
    );
    // The machine and the tasks' cards are filled in.
    assert!(answer(4).contains("12 trainings") && answer(4).contains("processors") && !answer(4).contains("[Name"), "{answers:?}");
    for card in ["Data: sentiment, sentiment_film: made by ", "licence: MIT OR Apache-2.0"] {
        assert!(answer(1).contains(card) && answer(5).contains(card), "{card}: {answers:?}");
    }
    assert!(!answer(1).contains("[say where"), "{answers:?}");
    assert!(study.significance_table()?.markdown().contains("test rows are not resampled"));
    // A method that answers alike is not tested for it.
    let alike = grid().methods(&[Method::Sft, Method::SftTemperature]).dev_rows(6).run()?.evidence()?;
    let settings = &alike.checklist()[2].1;
    assert!(
        settings.contains("examples and 6 for development") && settings.contains("Not as by default: 6 dev rows whatever N"),
        "{settings}"
    );
    let said = alike.sentences().iter().find(|sentence| sentence.starts_with("SFT + temperature: the share")).unwrap();
    assert!(said.ends_with("is SFT's wherever both were tested."), "{said}");
    // Any method is a baseline; exchanged, an effect has the other sign.
    let other = study.evidence_against(Method::Ia2)?;
    let at = (0..other.effects().height())
        .find(|&row| texts(other.effects(), "method")[row] == "SFT" && texts(other.effects(), "value")[row] == "smooth_ece")
        .unwrap();
    assert!((numbers(other.effects(), "difference")[at].unwrap() + difference).abs() < 1e-12);
    assert!(
        study
            .evidence_against(Method::Soft)
            .unwrap_err()
            .to_string()
            .contains("soft labels has no results in this study; there are results of ICL, SFT, IA2")
    );
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
