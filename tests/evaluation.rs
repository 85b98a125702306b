//! Predictions and objectives against values worked out another way.

mod common;

use common::{numbers, speaking};
use ia2::Result;
use ia2::activations::Activations;
use ia2::dataset::{Card, Split, Task};
use ia2::evaluate::evaluate_in_batches;
use ia2::model::{Ending, Response, Sample};
use ia2::objective::{Objective, Outputs};
use ia2::prelude::*;
use ia2::prompt::{AnswerForm, Example, Examples, Prompt, Prompts};

const NAMES: [&str; 2] = ["llama_grouped_tied", "qwen3_grouped_tied"];

/// Queries of one to four words, answered by one of the labels.
fn split(labels: [&str; 3]) -> Result<Split> {
    let query = |row: usize| (0..=row % 4).map(|word| format!("t{} ", 5 + (row * 11 + word * 17) % 58)).collect::<String>();
    let rows = (0..40).map(|row| Example::new(format!("t{} {}", row + 10, query(row)), labels[row * 7 % 3])).collect();
    Task::of(Examples::new("words", AnswerForm::labels(labels)?, rows)?, Card::default()).few_shot(8, 1)
}

#[test]
fn shared_demonstrations_and_batches_give_what_plain_forwards_give() -> Result<()> {
    // With a common first token the labels are read one place further, after it.
    for (labels, prefix, ids) in [(["t3", "t4", "t5"], vec![], [3, 4, 5]), (["t9 t3", "t9 t4", "t9 t40"], vec![9u32], [3, 4, 40])] {
        for name in NAMES {
            let model = speaking(name);
            let split = split(labels)?;
            let shared = split.test.with_demonstrations(&split.train, 0)?;
            assert!(shared.len() > 16 + 8, "more than one batch, the last of another size");
            assert!(shared.get(0).unwrap().prefix().split_whitespace().count() >= 20, "too short for the library to share it");
            let drawn = split.test.with_demonstrations_per_query(&split.train, 4, 0)?;
            for prompts in [shared, split.test.zero_shot()?, split.train.leave_one_out(0, 5)?, drawn] {
                let frame = evaluate(&model, &prompts)?;
                assert_eq!(frame.height(), prompts.len());
                for (row, prompt) in prompts.iter().enumerate() {
                    let mut tokens = model.tokenizer()?.encode(&prompt.text())?;
                    tokens.extend(&prefix);
                    let logits = model.forward(&[tokens.clone()])?.values.get(0).get(tokens.len() as i64 - 1).to_kind(Kind::Double);
                    let all: Vec<f64> = Vec::try_from(&logits).unwrap();
                    let whole: f64 = all.iter().map(|logit| logit.exp()).sum();
                    let among: f64 = ids.iter().map(|&id| all[id].exp()).sum();
                    let close = |column: &str, expected: f64| {
                        let ours = numbers(&frame, column)[row];
                        assert!((ours - expected).abs() < 1e-4, "{name} {column} of prompt {row}: {ours} and {expected}");
                    };
                    let chances = ids.map(|id| all[id].exp() / among);
                    for (label, chance) in labels.iter().zip(chances) {
                        close(&format!("p_{label}"), chance);
                    }
                    close("label_mass", among / whole);
                    close("confidence", chances.into_iter().fold(0.0, f64::max));
                    close("entropy", -chances.iter().map(|chance| chance * chance.ln()).sum::<f64>());
                    let gold = labels.iter().position(|label| *label == prompt.example.gold).unwrap();
                    close("nll", -chances[gold].ln());
                    let best = (0..3).max_by(|&a, &b| chances[a].total_cmp(&chances[b])).unwrap();
                    assert_eq!(frame.column("answer")?.str()?.get(row), Some(labels[best]));

                    // The whole vocabulary, from the same logits sorted by hand.
                    let mut sorted: Vec<(f64, usize)> = all.iter().map(|logit| logit.exp() / whole).zip(0..).collect();
                    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
                    close("top_1_confidence", sorted[0].0);
                    close("top_10_mass", sorted[..10].iter().map(|(chance, _)| chance).sum());
                    close("vocabulary_entropy", -sorted.iter().map(|(chance, _)| chance * chance.ln()).sum::<f64>());
                    let rank = sorted.iter().position(|(_, id)| *id == ids[gold]).unwrap() as u32 + 1;
                    assert_eq!(frame.column("gold_rank")?.u32()?.get(row), Some(rank));
                    let said: Vec<String> = prefix.iter().copied().chain([sorted[0].1 as u32]).map(|id| format!("t{id}")).collect();
                    assert_eq!(frame.column("response")?.str()?.get(row), Some(said.join(" ").as_str()));
                    assert_eq!(frame.column("top_1_correct")?.bool()?.get(row), Some(sorted[0].1 == ids[gold]));
                    let length = (tokens.len() - prefix.len()) as u32;
                    assert_eq!(frame.column("prompt_tokens")?.u32()?.get(row), Some(length));
                    assert_eq!(frame.column("correct")?.bool()?.get(row), Some(best == gold));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn the_size_of_the_batch_does_not_matter() -> Result<()> {
    let split = split(["t3", "t4", "t5"])?;
    for name in NAMES {
        let model = speaking(name);
        let prompts = split.test.with_demonstrations(&split.train, 0)?;
        for prompts in [prompts, split.test.with_demonstrations_per_query(&split.train, 5, 0)?, split.test.zero_shot()?] {
            let whole = evaluate(&model, &prompts)?;
            for size in [1, 5, 100] {
                let frame = evaluate_in_batches(&model, &prompts, size)?;
                assert_eq!(frame.get_column_names(), whole.get_column_names());
                for column in frame.columns().iter().filter(|column| column.dtype().is_float()) {
                    for (row, (value, other)) in column.f64()?.iter().zip(numbers(&whole, column.name())).enumerate() {
                        let value = value.unwrap();
                        assert!(
                            (value - other).abs() < 1e-4,
                            "{name} {} of {row} in batches of {size}: {value} and {other}",
                            column.name()
                        );
                    }
                }
                for column in ["answer", "query", "prompt_digest"] {
                    assert!(frame.column(column)?.equals(whole.column(column)?), "{column}");
                }
            }
        }
        assert!(evaluate_in_batches(&model, &split.test.zero_shot()?, 0).unwrap_err().to_string().contains("batch size"));
    }
    Ok(())
}

#[test]
fn free_answers_do_not_depend_on_the_other_prompts() -> Result<()> {
    let split = split(["t3", "t4", "t5"])?;
    let model = speaking(NAMES[0]);
    let form = AnswerForm::free().at_most(6)?;
    let prompts = split.test.with_demonstrations(&split.train, 0)?.with_form(form);
    let whole = evaluate(&model, &prompts)?;
    // How sure the model was differs by rounding alone.
    let sure = ["confidence", "answer_log_likelihood", "response_log_likelihood", "entropy"];
    let other = evaluate_in_batches(&model, &prompts, 5)?;
    assert_eq!(other.drop_many(sure), whole.drop_many(sure));
    for column in sure {
        assert!(
            numbers(&other, column).into_iter().zip(numbers(&whole, column)).all(|(one, other)| (one - other).abs() < 1e-4),
            "{column}"
        );
    }
    let lengths: Vec<u32> = whole.column("prompt_tokens")?.u32()?.iter().flatten().collect();
    for (row, prompt) in prompts.iter().enumerate() {
        assert_eq!(lengths[row] as usize, model.tokenizer()?.encode(&prompt.text())?.len());
        let alone = evaluate(&model, &Prompts::new(vec![prompt.clone()]).with_form(prompts.form().clone()))?;
        for column in ["response", "answer", "ending"] {
            assert_eq!(alone.column(column)?.str()?.get(0), whole.column(column)?.str()?.get(row), "{column} of prompt {row}");
        }
    }
    Ok(())
}

fn responses(lengths: &[usize]) -> Responses {
    let row = |(index, &length): (usize, &usize)| Response {
        prompt: Prompt { demonstrations: Vec::new(), example: Example::new(format!("t{index}"), "t3"), index },
        tokens: Sample { prompt: vec![1], response: vec![3; length] },
        text: String::new(),
        ending: Ending::Length,
        close_calls: 0,
    };
    Responses::from_rows(AnswerForm::free(), lengths.iter().enumerate().map(row).collect())
}

fn close(ours: Result<Vec<Tensor>>, expected: &[f64]) {
    let [ours] = &ours.unwrap()[..] else { panic!("one part") };
    let ours: Vec<f64> = Vec::try_from(ours.to_kind(Kind::Double)).unwrap();
    assert_eq!(ours.len(), expected.len());
    assert!(ours.iter().zip(expected).all(|(ours, expected)| (ours - expected).abs() < 1e-6), "{ours:?} and {expected:?}");
}

#[test]
fn the_losses_by_hand() -> Result<()> {
    // Two examples of two tokens and one; two layers; hidden width 2. Targets are 0 but for the second layer of the second example: (1, 1).
    let values = Tensor::zeros([2, 2, 2, 2], (Kind::Float, Device::Cpu));
    let _ = values.get(1).get(1).get(0).fill_(1.0);
    let points = vec!["model.layers.0".to_string(), "model.layers.1".to_string()];
    let target = Activations::new(values, points, responses(&[2, 1]))?;
    let layers = [[[1f32, 1.], [2., 2.], [3., 3.]], [[0., 2.], [0., 0.], [1., 2.]]].concat().concat();
    let outputs = |counts: Vec<usize>, activations: Option<Tensor>, logits: Option<Tensor>, labels: &[i64]| {
        let by_layer = activations.map_or(Vec::new(), |values| values.unbind(0));
        Outputs::new(logits, by_layer, Tensor::from_slice(labels), counts)
    };
    // Mean over hidden: layer 0 gives 1, 4, 9; layer 1 gives (0 + 4) / 2 = 2, 0, (0 + 1) / 2 = 0.5. Sum over layers, mean over each example's tokens.
    let shown = outputs(vec![2, 1], Some(Tensor::from_slice(&layers).view([2, 3, 2])), None, &[3, 3, 3])?;
    close(Ia2::toward(&target).losses(&[0, 1], &shown), &[(3.0 + 4.0) / 2.0, 9.5]);
    // Examples are known by their index, not by their place in the batch.
    let second = outputs(vec![1], Some(Tensor::ones([2, 1, 2], (Kind::Float, Device::Cpu))), None, &[3])?;
    close(Ia2::toward(&target).losses(&[1], &second), &[1.0]);

    // Probabilities of the labels: 3/4, 1/2; 1/4.
    let three = 3f32.ln();
    let logits = Tensor::from_slice(&[three, 0., 0., 0., 0., three]).view([3, 2]);
    let shown = outputs(vec![2, 1], None, Some(logits), &[0, 1, 0])?;
    close(Sft::gold().losses(&[0, 1], &shown), &[(-(0.75f64.ln()) - 0.5f64.ln()) / 2.0, -(0.25f64.ln())]);
    Ok(())
}

#[test]
fn the_models_own_activations_are_the_minimum() -> Result<()> {
    let split = split(["t3", "t4", "t5"])?;
    for name in NAMES {
        let model = speaking(name);
        let own = split.train.zero_shot()?.followed_by(&split.dev.zero_shot()?)?;
        let settings = Generation::greedy(5).ignore_eos();
        let loss = |prompts: &Prompts| -> Result<f64> {
            let responses = model.respond_as(prompts, &settings)?;
            let target = capture(&model, &responses, "model.layers.*.self_attn")?;
            let training = Training::new(Lora::rank(2), Ia2::toward(&target)).learning_rate(1e-12).epochs(1).check_every(1);
            let trained = training.run(&model, &split)?;
            let history = trained.history()?;
            Ok(numbers(&history, "train_loss").into_iter().chain(numbers(&history, "dev_loss")).fold(0.0, f64::max))
        };
        let (at_minimum, elsewhere) = (loss(&own)?, loss(&split.target_prompts(256)?)?);
        assert!(at_minimum < 1e-9, "{name}: {at_minimum:e} toward the model's own activations");
        assert!(elsewhere > 1e4 * at_minimum.max(1e-9), "{name}: {elsewhere:e} toward those with demonstrations");
    }
    Ok(())
}

#[test]
fn half_precision_takes_half_the_memory() -> Result<()> {
    let open = |kind| OpenOptions::new().kind(kind).open("tiny-icl");
    let model = open(Kind::Float)?;
    let file = std::fs::metadata(model.folder().join("model.safetensors")).unwrap().len();
    // The file has a header of some kilobytes.
    assert!(model.bytes() < file && file < model.bytes() + 20_000, "{} of {file}", model.bytes());
    assert_eq!(open(Kind::BFloat16)?.bytes() * 2, model.bytes());
    Ok(())
}

#[test]
fn lengths_tell_which_prompts_are_refused() -> Result<()> {
    let model = Model::open("tiny-icl")?;
    let task = Task::open("sentiment")?.test_at_most(3)?;
    let split = task.few_shot(80, 0)?;
    let tokens = |frame: &DataFrame, name: &str| frame.column(name).unwrap().cast(&DataType::Int64).unwrap().i64().unwrap().to_vec();
    for count in [4, 80] {
        let prompts = split.test.with_demonstrations(&split.train.take(count), 0)?;
        let frame = model.lengths(&prompts)?;
        let left: Vec<i64> = tokens(&frame, "left").into_iter().flatten().collect();
        let counted = prompts.texts().iter().map(|text| Ok(model.tokenizer()?.encode(text)?.len() as i64)).collect::<Result<Vec<_>>>()?;
        assert_eq!(tokens(&frame, "tokens").into_iter().flatten().collect::<Vec<_>>(), counted);
        assert_eq!(tokens(&frame, "demonstrations"), vec![Some(count as i64); 3]);
        assert_eq!(left.iter().any(|&left| left < 0), evaluate(&model, &prompts).is_err(), "{count} demonstrations: {left:?}");
        // Virtual tokens take their part of the context.
        let adapted = model.with(&Adapter::new(&model, PrefixTuning::tokens(5), 0)?)?;
        let with_prefix: Vec<i64> = tokens(&adapted.lengths(&prompts)?, "left").into_iter().flatten().collect();
        assert_eq!(with_prefix, left.iter().map(|left| left - 5).collect::<Vec<_>>());
    }
    Ok(())
}

#[test]
fn the_benchmarks_cases_run() {
    let Some(bench) = common::example("bench") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (model, work) = (folder.path().join("model"), folder.path().join("work.json"));
    let run = |arguments: &[&std::ffi::OsStr]| {
        let done = std::process::Command::new(&bench).args(arguments).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    };
    run(&["prepare".as_ref(), "tiny-icl".as_ref(), model.as_ref(), work.as_ref()]);
    for (case, kind) in [("collect-1", "bf16"), ("sft-1", "f32"), ("ia2-32", "f32"), ("evaluate", "bf16")] {
        let options = [case, "--threads", "1", "--repeats", "1", "--warmup", "0", "--kind", kind];
        let arguments: Vec<&std::ffi::OsStr> =
            [model.as_os_str(), work.as_os_str()].into_iter().chain(options.map(AsRef::as_ref)).collect();
        let line: serde_json::Value = serde_json::from_slice(&run(&arguments)).unwrap();
        assert!(line["case"] == case && line["samples"].as_f64() > Some(0.0), "{line}");
    }
}
