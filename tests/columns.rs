//! Columns other than accuracy: confidence of free answers, drift, distance to ICL, forgetting, cost; against transformers and by hand.

mod common;

use common::texts;

use ia2::Result;
use ia2::metric::{Confidence, answer_brier, answer_nll, with_confidence};
use ia2::model::{Ending, Response, Sample};
use ia2::prelude::*;
use ia2::prompt::{AnswerForm, Prompt};
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/confidence.json"))).unwrap()
}

fn floats(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

fn numbers(frame: &DataFrame, column: &str) -> Vec<Option<f64>> {
    frame.column(column).unwrap().cast(&DataType::Float64).unwrap().f64().unwrap().iter().collect()
}

fn close(ours: Option<f64>, theirs: f64, what: &str) {
    let ours = ours.unwrap();
    assert!((ours - theirs).abs() < 1e-5, "{what}: {ours} here, {theirs} there");
}

fn model() -> Model {
    Model::open("tiny-icl").unwrap()
}

/// The prompts of the golden answers.
fn asked() -> Result<Prompts> {
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let golden = golden();
    let rows = golden["answers"].as_array().unwrap().iter().enumerate().map(|(index, case)| Prompt {
        demonstrations: case["shown"].as_array().unwrap().iter().map(|row| Example::new(text(&row[0]), text(&row[1]))).collect(),
        example: Example::new(text(&case["query"]), text(&case["gold"])),
        index,
    });
    Ok(Prompts::new(rows.collect()).with_form(Task::open("answer")?.form().clone()))
}

#[test]
fn free_answers_are_as_sure_as_transformers_is() -> Result<()> {
    let (model, prompts, golden) = (model(), asked()?, golden());
    let frame = evaluate(&model, &prompts)?;
    for (row, case) in golden["answers"].as_array().unwrap().iter().enumerate() {
        let (logs, entropies) = (floats(&case["log_likelihoods"]), floats(&case["entropies"]));
        let answer = case["answer_tokens"].as_u64().unwrap() as usize;
        let first = case["answer_first"].as_u64().unwrap() as usize;
        assert!(
            answer > 0 && first > 0 && first + answer < logs.len(),
            "an answer between its reasoning and the stop, or the case shows nothing"
        );
        assert_eq!(texts(&frame, "response")[row], case["text"].as_str().unwrap());
        let sum: f64 = logs[first..first + answer].iter().sum();
        close(numbers(&frame, "answer_tokens")[row], answer as f64, "answer_tokens");
        close(numbers(&frame, "answer_log_likelihood")[row], sum, "answer_log_likelihood");
        close(numbers(&frame, "confidence")[row], sum.exp(), "confidence");
        close(numbers(&frame, "response_log_likelihood")[row], logs.iter().sum(), "response_log_likelihood");
        close(numbers(&frame, "entropy")[row], entropies.iter().sum::<f64>() / entropies.len() as f64, "entropy");
    }
    // Alone, in other batches, and under hooks that change nothing.
    let mut hooks = Hooks::new();
    hooks.edit("model.layers.0.mlp", |_, value| Ok(Some(value.shallow_clone())));
    for other in [ia2::evaluate::evaluate_in_batches(&model, &prompts, 1)?, evaluate_with(&model, &prompts, &mut hooks)?] {
        for column in ["confidence", "answer_log_likelihood", "response_log_likelihood", "entropy"] {
            for (one, other) in numbers(&frame, column).into_iter().zip(numbers(&other, column)) {
                close(one, other.unwrap(), column);
            }
        }
    }
    Ok(())
}

#[test]
fn divergences_are_those_of_torch() -> Result<()> {
    let (model, golden) = (model(), golden());
    let icl = model.respond(&asked()?)?;
    let apart = divergence((&model, &icl), (&model, &icl.without_demonstrations(&model)?))?;
    for (row, case) in golden["answers"].as_array().unwrap().iter().enumerate() {
        let values = floats(&case["distance"]);
        close(numbers(&apart, "divergence")[row], values.iter().sum::<f64>() / values.len() as f64, "distance");
    }
    assert!(numbers(&divergence((&model, &icl), (&model, &icl))?, "divergence").iter().all(|value| *value == Some(0.0)));

    let open = |name: &str| OpenOptions::new().kind(Kind::Double).open(common::golden_folder(name));
    let (p, q) = (open("llama_full")?, open("llama_grouped_tied")?);
    let ids = |value: &Value| serde_json::from_value::<Vec<u32>>(value.clone()).unwrap();
    let cases = golden["drift"].as_array().unwrap();
    let row = |(index, case): (usize, &Value)| Response {
        prompt: Prompt { demonstrations: vec![], example: Example::new("", ""), index },
        tokens: Sample { prompt: ids(&case["prompt"]), response: ids(&case["response"]) },
        text: String::new(),
        ending: Ending::Length,
        close_calls: 0,
    };
    let responses = Responses::from_rows(AnswerForm::free(), cases.iter().enumerate().map(row).collect());
    let frame = divergence((&p, &responses), (&q, &responses))?;
    for (row, case) in cases.iter().enumerate() {
        let values = floats(&case["divergence"]);
        close(numbers(&frame, "divergence")[row], values.iter().sum::<f64>() / values.len() as f64, "drift");
    }
    let other = Responses::from_rows(AnswerForm::free(), responses.rows()[1..].to_vec());
    let error = divergence((&p, &responses), (&q, &other)).unwrap_err().to_string();
    assert!(error.contains("different responses"), "{error}");
    let error = divergence((&p, &responses), (&model, &responses)).unwrap_err().to_string();
    assert!(error.contains("64 token ids"), "{error}");
    Ok(())
}

#[test]
fn free_answers_have_calibration() -> Result<()> {
    let model = model();
    let split = Task::open("answer")?.test_at_most(40)?.few_shot(4, 0)?;
    let frame = evaluate(&model, &split.test.with_demonstrations(&split.train, 0)?)?;
    assert!(ece(&frame, Binning::EqualWidth(15))? < 0.5);
    assert!(reliability(&frame, Binning::EqualWidth(15))?.svg().contains("<svg"));
    // By hand from the frame's own columns.
    let (sure, right) =
        (numbers(&frame, "confidence"), frame.column("correct")?.bool()?.iter().map(|is| is == Some(true)).collect::<Vec<_>>());
    let mean = |of: &dyn Fn(f64, bool) -> f64| sure.iter().zip(&right).map(|(sure, &right)| of(sure.unwrap(), right)).sum::<f64>() / 40.0;
    assert!((answer_brier(&frame)? - mean(&|sure, right| (sure - f64::from(u8::from(right))).powi(2))).abs() < 1e-12);
    assert!((answer_nll(&frame)? - mean(&|sure, right| -(if right { sure } else { 1.0 - sure }).ln())).abs() < 1e-9);
    let summary = ia2::metric::summary(&frame)?;
    for name in ["ece_equal_width_15", "answer_brier", "answer_nll", "mean_confidence", "entropy"] {
        assert!(texts(&summary, "metric").contains(&name.to_string()), "{name}");
    }
    // The mean per token is never below the product.
    let of = |which: Confidence| Ok::<_, ia2::Error>(numbers(&with_confidence(&frame, which)?, "confidence"));
    let never_below = |mean: &[Option<f64>], sum: &[Option<f64>]| mean.iter().zip(sum).all(|(mean, sum)| mean >= sum);
    assert!(never_below(&of(Confidence::AnswerPerToken)?, &sure));
    let (per_token, whole) = (of(Confidence::ResponsePerToken)?, of(Confidence::Response)?);
    assert!(never_below(&per_token, &whole) && per_token != whole && never_below(&sure, &whole) && whole != sure);
    assert_eq!(numbers(&with_confidence(&frame, Confidence::Answer)?, "confidence"), sure);

    // Cut before it comes to its answer, a response has none, and no confidence in it.
    let cut = split.test.with_demonstrations(&split.train, 0)?.take(5);
    let form = cut.form().clone().at_most(2)?;
    let cut = evaluate(&model, &cut.with_form(form))?;
    assert!(cut.column("answer")?.null_count() == 5 && cut.column("answer_log_likelihood")?.null_count() == 5);
    assert!(numbers(&cut, "confidence").iter().chain(&numbers(&cut, "answer_tokens")).all(|value| *value == Some(0.0)));
    Ok(())
}

fn small(model: &Model, task: &str) -> Experiment {
    let experiment = Experiment::new(model).tasks(&[task]).tested_on(task, &[]).sizes(&[4]).runs(1).methods(&METHODS);
    experiment.learning_rates(&[3e-3]).epochs(2).test_at_most(24).compared_at_most(8)
}

const METHODS: [Method; 4] = [Method::ZeroShot, Method::Icl, Method::Sft, Method::Ia2ThenSft];

/// The number of a method.
fn of(frame: &DataFrame, method: &str, column: &str) -> Option<f64> {
    let row = texts(frame, "method").iter().position(|name| name == method).unwrap();
    numbers(frame, column)[row]
}

fn mean(frame: &DataFrame) -> f64 {
    frame.column("divergence").unwrap().f64().unwrap().mean().unwrap()
}

#[test]
fn drift_distance_forgetting_and_cost_are_what_their_parts_give_by_hand() -> Result<()> {
    let model = model();
    for (task, other) in [("answer", "topic"), ("sentiment", "answer")] {
        let folder = tempfile::tempdir().unwrap();
        let study = small(&model, task).forgetting_on(&[task, other]).folder(folder.path()).run()?;
        let frame = study.frame()?;
        assert!(texts(&frame, "failed").iter().all(|failed| failed == "null"), "{:?}", texts(&frame, "failed"));
        assert!(texts(&frame, "elsewhere").iter().all(|name| name == other), "the first that is another");
        let split = Task::open(task)?.test_at_most(24)?.few_shot(4, 0)?;
        let elsewhere = Task::open(other)?.test_at_most(24)?.few_shot(4, 0)?;
        let adapter = |method: &str| {
            let row = texts(&frame, "method").iter().position(|name| name == method).unwrap();
            Adapter::open(folder.path().join(&texts(&frame, "key")[row]), &model)
        };

        // Identities.
        assert_eq!((of(&frame, "zero-shot", "drift"), of(&frame, "ICL", "distance_to_icl")), (Some(0.0), Some(0.0)));
        for method in ["zero-shot", "ICL"] {
            for column in ["drift_elsewhere", "forgetting", "parameters", "training_tokens", "target_tokens", "total_seconds"] {
                assert_eq!(of(&frame, method, column), Some(0.0), "{method} {column}");
            }
        }
        let queries = split.test.take(8).zero_shot()?;
        let shown = split.test.take(8).with_demonstrations(&split.train, 0)?;
        let (plain, icl) = (model.respond(&queries)?, model.respond(&shown)?);
        let mut after: Vec<Response> = plain.rows().to_vec();
        for (row, prompt) in after.iter_mut().zip(model.encode(&shown)?) {
            row.tokens.prompt = prompt;
        }
        let after = Responses::from_rows(plain.form().clone(), after);
        close(of(&frame, "ICL", "drift"), mean(&divergence((&model, &plain), (&model, &after))?), "drift of ICL");
        let after_queries = icl.without_demonstrations(&model)?;
        close(of(&frame, "zero-shot", "distance_to_icl"), mean(&divergence((&model, &icl), (&model, &after_queries))?), "distance");

        let asked = elsewhere.test.with_demonstrations(&elsewhere.train, 0)?;
        let before = accuracy(&evaluate(&model, &asked)?)?;
        let there = model.respond(&elsewhere.test.take(8).zero_shot()?)?;
        for method in ["SFT", "IA2", "IA2 → SFT"] {
            let adapter = adapter(method)?;
            let tuned = model.with(&adapter)?;
            close(of(&frame, method, "drift"), mean(&divergence((&model, &plain), (&tuned, &plain))?), "drift");
            assert!(of(&frame, method, "drift").unwrap() > 1e-4);
            close(of(&frame, method, "distance_to_icl"), mean(&divergence((&model, &icl), (&tuned, &after_queries))?), "distance");
            close(of(&frame, method, "drift_elsewhere"), mean(&divergence((&model, &there), (&tuned, &there))?), "drift elsewhere");
            let left = accuracy(&evaluate(&tuned, &asked)?)?;
            assert_eq!((of(&frame, method, "icl_before"), of(&frame, method, "icl_after")), (Some(before), Some(left)));
            assert_eq!(of(&frame, method, "forgetting"), Some(before - left));
            assert_eq!(of(&frame, method, "parameters"), Some(adapter.count() as f64));
        }

        // Cost: what each phase reads, its targets once each.
        let targets = Targets::of(&model, &split).collect()?;
        let ia2 = Training::new(Lora::rank(8), targets.ia2()?).learning_rate(3e-3).epochs(2).run(&model, &split)?;
        let sft = Training::new(Lora::rank(8), Sft::gold()).learning_rate(3e-3).epochs(2).run(&model, &split)?;
        let read = model.lengths(&targets.responses().prompts())?.column("read")?.u32()?.iter().flatten().map(u64::from).sum::<u64>();
        let collected = read + targets.responses().rows().iter().map(|row| row.tokens.response.len() as u64 - 1).sum::<u64>();
        assert_eq!(of(&frame, "SFT", "training_tokens"), Some(sft.tokens() as f64));
        assert_eq!((of(&frame, "SFT", "target_tokens"), of(&frame, "IA2", "target_tokens")), (Some(0.0), Some(collected as f64)));
        assert_eq!(of(&frame, "IA2", "training_tokens"), Some(ia2.tokens() as f64));
        assert_eq!(of(&frame, "IA2 → SFT", "target_tokens"), Some(collected as f64));
        let both = Training::resume(&ia2, Sft::gold())?.run(&model, &split)?;
        assert_eq!(of(&frame, "IA2 → SFT", "training_tokens"), Some((ia2.tokens() + both.tokens()) as f64));
        assert!(of(&frame, "IA2 → SFT", "total_seconds") > of(&frame, "IA2", "total_seconds"));
        let alone = evaluate(&model, &split.test.zero_shot()?)?;
        let said =
            if task == "answer" { alone.column("tokens")?.u32()?.iter().flatten().map(f64::from).sum::<f64>() / 24.0 - 1.0 } else { 0.0 };
        let prompts = alone.column("prompt_tokens")?.u32()?.iter().flatten().map(f64::from).sum::<f64>() / 24.0;
        close(of(&frame, "zero-shot", "query_tokens"), prompts + said, "query_tokens");
        assert!(of(&frame, "ICL", "query_tokens") > of(&frame, "SFT", "query_tokens"));

        let table = study.side_effects()?.markdown();
        for word in [
            "distance to ICL (nats)",
            "drift from the base (nats)",
            "forgetting",
            "ICL elsewhere, before",
            "parameters",
            "query tokens",
            "IA2 → SFT",
        ] {
            assert!(table.contains(word), "{word}: {table}");
        }
        assert_eq!(study.summary()?.column("drift")?.null_count(), 0);
    }
    Ok(())
}

#[test]
fn what_has_learned_nothing_drifts_nowhere() -> Result<()> {
    let model = model();
    for task in ["answer", "choice"] {
        let study = small(&model, task)
            .methods(&[Method::ZeroShot, Method::Sft])
            .learning_rates(&[1e-12])
            .epochs(1)
            .forgetting_on(&["topic"])
            .run()?;
        let frame = study.frame()?;
        for column in ["drift", "drift_elsewhere", "forgetting"] {
            assert!(of(&frame, "SFT", column).unwrap().abs() < 1e-6, "{column} {frame}");
        }
        let [still, base] = ["SFT", "zero-shot"].map(|method| of(&frame, method, "distance_to_icl"));
        assert!(base.unwrap() > 0.01);
        close(still, base.unwrap(), "distance_to_icl");
    }
    Ok(())
}

#[test]
fn tokens_of_a_training_by_hand() -> Result<()> {
    let model = model();
    let split = Task::open("answer")?.few_shot(4, 0)?;
    let trained = Training::new(Lora::rank(2), Sft::gold()).epochs(3).check_every(2).run(&model, &split)?;
    let tokens = |examples: &Examples| -> Result<u64> {
        let tokenizer = model.tokenizer()?;
        // The last token is only a target, never an input: the end of the answer.
        examples.rows().iter().map(|row| Ok(tokenizer.encode(&row.solved())?.len() as u64)).sum()
    };
    let checks = trained.history()?.height() as u64;
    assert_eq!((trained.steps(), checks), (3, 3), "each epoch ends in a check");
    assert_eq!(trained.tokens(), 3 * tokens(&split.train)? + checks * tokens(&split.dev)?);
    Ok(())
}

#[test]
fn a_record_without_a_column_stays_until_the_column_is_asked_for() -> Result<()> {
    let model = model();
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files = |ending: &str| {
        let mut found = Vec::new();
        let mut folders = vec![folder.path().to_path_buf()];
        while let Some(place) = folders.pop() {
            for entry in std::fs::read_dir(place).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false if path.extension().is_some_and(|own| own == ending) => {
                        found.push((path.clone(), std::fs::metadata(&path).unwrap().modified().unwrap()));
                    }
                    false => {}
                }
            }
        }
        found.sort();
        found
    };
    let grid = |place: &std::path::Path| small(&model, "answer").folder(place);
    let without = grid(folder.path()).columns(&[]).run()?.frame()?;
    assert_eq!((without.column("drift")?.null_count(), without.column("accuracy")?.null_count()), (5, 0));
    let keys = texts(&without, "key");
    let (records, adapters) = (files("json"), files("safetensors"));
    let same = grid(folder.path()).run()?;
    assert_eq!(same.missing(), 0);
    assert_eq!((files("json"), texts(&same.frame()?, "key")), (records.clone(), keys.clone()), "nobody asked");
    let plan = grid(folder.path()).columns(&["drift"]).plan()?;
    assert_eq!(plan.missing(), 5);

    // `brier` is defined for labels alone: tried once.
    let asked = || grid(folder.path()).columns(&["drift", "distance_to_icl", "brier", "ece_equal_width_15"]).forgetting_on(&["topic"]);
    let frame = asked().run()?.frame()?;
    assert_eq!((files("safetensors"), texts(&frame, "key")), (adapters, keys), "nothing is trained again");
    assert_ne!(files("json"), records);
    let whole = grid(other.path()).forgetting_on(&["topic"]).run()?.frame()?;
    let timeless = |frame: &DataFrame| frame.drop_many(["seconds", "total_seconds"]);
    assert!(timeless(&frame).equals_missing(&timeless(&whole)), "{frame}{whole}");
    let records = files("json");
    asked().run()?;
    assert_eq!(files("json"), records, "what is not defined is not tried again");

    // Another confidence is another test.
    let mean = grid(folder.path()).confidence(Confidence::ResponsePerToken).run()?.frame()?;
    assert!(of(&mean, "ICL", "mean_confidence") < of(&frame, "ICL", "mean_confidence"));
    assert_eq!(of(&mean, "ICL", "accuracy"), of(&frame, "ICL", "accuracy"));

    let error = grid(folder.path()).columns(&["drfit"]).run().unwrap_err().to_string();
    assert!(error.contains("no column `drfit`") && error.contains("distance_to_icl"), "{error}");
    let error = grid(folder.path()).forgetting_on(&["nowhere"]).run().unwrap_err().to_string();
    assert!(error.contains("nowhere") && error.contains("forgetting_on"), "{error}");
    Ok(())
}

#[test]
fn a_task_elsewhere_with_too_few_rows_takes_nothing_else() -> Result<()> {
    let rows = (0..1400).map(|row| Example::new(format!("Text:{row}\nLabel:"), (row % 2).to_string())).collect();
    let task = Task::of(Examples::new("large", AnswerForm::labels(["0", "1"])?, rows)?, ia2::dataset::Card::default());
    let grid = Experiment::new(&model()).task(&task).sizes(&[810]).runs(1).methods(&[Method::ZeroShot]).test_at_most(4).columns(&["drift"]);
    let study = grid.forgetting_on(&["topic"]).run()?;
    let frame = study.frame()?;
    assert_eq!((of(&frame, "zero-shot", "drift"), of(&frame, "zero-shot", "forgetting")), (Some(0.0), None));
    assert!(of(&frame, "zero-shot", "accuracy").is_some());
    assert!(
        texts(&frame, "failed")[0].contains("nothing of `topic`: ") && texts(&frame, "failed")[0].contains("too few"),
        "{:?}",
        texts(&frame, "failed")
    );
    Ok(())
}

#[test]
#[ignore = "a measurement"]
fn how_much_longer_an_evaluation_takes() -> Result<()> {
    let time = |grid: Experiment| -> Result<f64> {
        let began = std::time::Instant::now();
        grid.run()?;
        Ok(began.elapsed().as_secs_f64())
    };
    for (name, tasks, most) in [("tiny-icl", vec!["sentiment", "answer"], 500), ("smollm2", vec!["sentiment", "answer"], 40)] {
        let Ok(model) = Model::open(name) else {
            common::skipped(&format!("{name} is absent"));
            continue;
        };
        for task in tasks {
            // Trained once; then only evaluated.
            let folder = tempfile::tempdir().unwrap();
            let grid = || {
                let grid =
                    Experiment::new(&model).tasks(&[task]).tested_on(task, &[]).sizes(&[4]).runs(1).learning_rates(&[1e-3]).epochs(1);
                grid.methods(&[Method::ZeroShot, Method::Icl, Method::Sft])
                    .test_at_most(most)
                    .compared_at_most(most / 5)
                    .folder(folder.path())
            };
            grid().epochs(1).columns(&[]).run()?;
            let again = |grid: Experiment| -> Result<f64> {
                for entry in std::fs::read_dir(folder.path()).unwrap() {
                    let path = entry.unwrap().path();
                    if path.extension().is_some_and(|ending| ending == "json") {
                        std::fs::remove_file(path).unwrap();
                    }
                }
                time(grid)
            };
            let [without, with, elsewhere] = [again(grid().columns(&[]))?, again(grid())?, again(grid().forgetting_on(&["topic"]))?];
            println!(
                "{name}, {task}: three methods with a training of one epoch {without:.2} s; drift and distance {:+.0} %; and another task {:+.0} %",
                (with / without - 1.0) * 100.0,
                (elsewhere / without - 1.0) * 100.0
            );
            let prompts = Task::open(task)?.test_at_most(most)?.few_shot(4, 0)?.test.zero_shot()?;
            let settings = Generation::for_prompts(&prompts).batch(16);
            let (mut respond, mut sure) = (Vec::new(), Vec::new());
            for _ in 0..5 {
                let began = std::time::Instant::now();
                model.respond_as(&prompts, &settings)?;
                respond.push(began.elapsed().as_secs_f64());
                let began = std::time::Instant::now();
                evaluate(&model, &prompts)?;
                sure.push(began.elapsed().as_secs_f64());
            }
            let least = |times: Vec<f64>| times.into_iter().fold(f64::INFINITY, f64::min);
            println!("  respond {:.2} s, evaluate {:.2} s (least of 5)", least(respond), least(sure));
            // What rounding makes of no drift at all.
            let still = grid().learning_rates(&[1e-12]).compared_at_most(12).run()?.frame()?;
            println!("  drift of an adapter that learned nothing {:.1e}", of(&still, "SFT", "drift").unwrap());
        }
    }
    Ok(())
}
