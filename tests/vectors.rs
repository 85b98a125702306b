//! Vectors in the residual stream and calibration of ICL: against references in PyTorch, and every way in which a steered model is used.

mod common;

use common::{difference, golden_folder, numbers, refused, texts, with_words};
use ia2::Result;
use ia2::calibrate::contextual;
use ia2::dataset::Card;
use ia2::metric::{Metric, batch_calibrated};
use ia2::model::Sample;
use ia2::prelude::*;
use ia2::prompt::AnswerForm;
use ia2::vector::{Edit, FunctionVector, Vector, VectorKind as Way};
use serde_json::{Value, json};

const FAMILIES: [&str; 3] = ["gpt2", "gpt_neox", "gemma3_text"];

fn model(family: &str) -> Model {
    let folder = with_words(&format!("families/{family}"));
    OpenOptions::new().device(Device::Cpu).kind(Kind::Float).open(folder.path()).unwrap()
}

/// Labels of one token, or free answers of two, after queries of different lengths.
fn split(labels: bool) -> Split {
    let gold = |row: usize| ["t3", "t4"][row * 5 % 7 % 2];
    let row = |row: usize| {
        let words = (0..2 + row % 3).map(|word| format!(" t{}", 10 + (row * 7 + word * 11) % 50)).collect::<String>();
        let query = format!("Text:{words}\nt9 ");
        Example::new(query, if labels { gold(row).to_string() } else { format!("{} t{}", gold(row), 6 + row % 2) })
    };
    let form = if labels { AnswerForm::labels(["t3", "t4"]).unwrap() } else { AnswerForm::free() };
    let examples = Examples::new("words", form, (0..12).map(row).collect()).unwrap();
    ia2::dataset::Task::of(examples, Card::default()).few_shot(5, 0).unwrap()
}

/// The tokens of all prompts that the references read.
fn prompts(model: &Model, split: &Split) -> Result<Value> {
    let tokenizer = model.tokenizer()?;
    let ids = |prompts: &Prompts| model.encode(prompts);
    let golds = |examples: &Examples, tokens: usize| {
        let all =
            |row: &Example| Ok(tokenizer.encode_after(&row.query, &row.gold)?.unwrap().into_iter().take(tokens).collect::<Vec<u32>>());
        examples.rows().iter().map(all).collect::<Result<Vec<_>>>()
    };
    let labels = split.train.labels();
    let icl = split.test.with_demonstrations(&split.train, split.run)?;
    let free = if labels.is_empty() { Vec::new() } else { ids(&icl.content_free(&ia2::calibrate::CONTENT_FREE)?)? };
    Ok(json!({
        "shown": ids(&split.target_prompts(256)?.take(split.train.len()))?,
        "shuffled": ids(&FunctionVector::shuffled(split)?)?,
        "train": ids(&split.train.zero_shot()?)?,
        "dev": ids(&split.dev.zero_shot()?)?,
        "test": ids(&split.test.zero_shot()?)?,
        "dev_golds": golds(&split.dev, usize::MAX)?,
        "telling": golds(&split.train, 1)?,
        "labels": labels.iter().map(|label| tokenizer.id(label)).collect::<Vec<_>>(),
        "icl_test": ids(&icl)?,
        "content_free": free,
    }))
}

fn all_prompts() -> Result<Value> {
    let model = model("gpt2");
    Ok(json!({"labels": prompts(&model, &split(true))?, "free": prompts(&model, &split(false))?}))
}

/// For `tests/python/golden_vectors.py`.
#[test]
#[ignore = "writes what the references read"]
fn write_the_prompts() -> Result<()> {
    let folder = golden_folder("vectors");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("prompts.json"), all_prompts()?.to_string() + "\n").unwrap();
    Ok(())
}

fn golden(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden_folder("vectors").join(name)).unwrap()).unwrap()
}

#[test]
fn vectors_are_those_of_the_formulas_in_pytorch() -> Result<()> {
    assert_eq!(all_prompts()?, golden("prompts.json"), "the references have read other prompts: write them again");
    let mut worst = 0f64;
    for family in FAMILIES {
        let (model, golden) = (model(family), golden(&format!("{family}.json")));
        for (kind, split) in [("labels", split(true)), ("free", split(false))] {
            for (way, name) in [(Way::Task, "task"), (Way::Steering, "steering"), (Way::Function, "function")] {
                let (what, golden) = (format!("{family}, {kind}, {name}"), &golden[kind][name]);
                let vector = way.find(&model, &split)?;
                worst = worst.max(common::near(&numbers(&vector.tried()?, "dev_loss"), &golden["losses"], &what));
                assert_eq!((vector.kind(), vector.layer()), (way, golden["layer"].as_u64().unwrap() as usize), "{what}");
                assert_eq!(vector.strength(), golden["strength"].as_f64().unwrap_or(1.0), "{what}");
                let heads: Vec<(usize, usize)> = serde_json::from_value(golden["heads"].clone()).unwrap_or_default();
                assert_eq!(vector.heads(), heads, "{what}");
                if way == Way::Function {
                    worst = worst.max(common::near(&numbers(&vector.effects()?, "effect"), &golden["effects"], &what));
                }
                let test = model.encode(&split.test.zero_shot()?.take(1))?;
                let logits = model.with(&vector)?.forward(&test)?.values.get(0).get(test[0].len() as i64 - 1);
                worst = worst.max(common::near(&Vec::<f64>::try_from(logits.to_kind(Kind::Double)).unwrap(), &golden["logits"], &what));
            }
        }
    }
    common::agrees("task vectors, function vectors and steering: effects, dev losses and logits, f32", worst);
    Ok(())
}

#[test]
fn calibrated_icl_is_that_of_the_formulas_in_pytorch() -> Result<()> {
    let (split, mut worst) = (split(true), 0f64);
    for family in FAMILIES {
        let (model, golden) = (model(family), &golden(&format!("{family}.json"))["labels"]);
        let prompts = split.test.with_demonstrations(&split.train, split.run)?;
        let icl = evaluate(&model, &prompts)?;
        for (name, frame) in [("contextual", contextual(&model, &prompts)?), ("batch", batch_calibrated(&icl)?)] {
            let ours: Vec<f64> = numbers(&frame, "p_t3").into_iter().zip(numbers(&frame, "p_t4")).flat_map(|(a, b)| [a, b]).collect();
            worst = worst.max(common::near(&ours, &golden[name], &format!("{family}, {name}")));
            let confidence = numbers(&frame, "confidence");
            assert!(ours.chunks(2).zip(confidence).all(|(pair, confidence)| pair[0].max(pair[1]) == confidence));
        }
        assert!(numbers(&icl, "p_t3") != numbers(&batch_calibrated(&icl)?, "p_t3"));
    }
    common::agrees("contextual and batch calibration, f32", worst);
    let free = self::split(false);
    let model = model("gpt2");
    refused(contextual(&model, &free.test.with_demonstrations(&free.train, 0)?), &["free answers"]);
    Ok(())
}

#[test]
fn a_search_counts_the_tokens_that_it_reads() -> Result<()> {
    let (model, split) = (model("gpt2"), split(true));
    let read = |prompts: &Prompts| Ok::<_, ia2::Error>(numbers(&model.lengths(prompts)?, "read").iter().sum::<f64>() as u64);
    let shown = read(&split.train.leave_one_out_in(Orders::Tree, split.run, 256)?)?;
    let (plain, dev) = (read(&split.train.zero_shot()?)?, read(&split.dev.zero_shot()?)?);
    let (layers, heads) = (model.config().layers as u64, model.config().heads as u64);
    // So few candidates of so short a text share nothing: each reads it whole, and labels have one token. Of more, the last token at least.
    assert_eq!(Way::Task.find(&model, &split)?.tokens(), Some(shown + layers * dev));
    let steering = Way::Steering.find(&model, &split)?.tokens().unwrap() - shown - plain;
    assert!(steering <= 5 * layers * dev && steering >= 5 * layers * split.dev.len() as u64, "{steering}");
    // A function vector reads its shuffled prompts for each head.
    let function = Way::Function.find(&model, &split)?.tokens().unwrap() - shown;
    assert!(function > layers * heads * split.train.len() as u64 + layers * dev, "{function}");
    Ok(())
}

/// Logits after the last token of one row, with the vector put in by a hook.
fn by_hand(model: &Model, row: &[u32], (edit, layer, vector): (Edit, usize, &Tensor)) -> Result<Tensor> {
    let mut hooks = Hooks::new();
    hooks.edit(&format!("model.layers.{layer}"), |_, value| {
        let changed = value.copy();
        let mut last = changed.get(0).get(row.len() as i64 - 1);
        match edit {
            Edit::Replace => last.copy_(vector),
            Edit::Add => drop(last.g_add_(vector)),
        }
        Ok(Some(changed))
    });
    Ok(model.forward_with(&[row.to_vec()], &mut hooks)?.values.get(0))
}

/// Every layer and edit; rows of different lengths, one of them the beginning of another. Phi-3 rotates all positions differently from 17 tokens on; GPT-2 with
/// virtual tokens as well.
#[test]
fn a_vector_acts_at_the_last_token_of_each_query_however_the_model_is_used() -> Result<()> {
    let rows: Vec<Vec<u32>> = vec![vec![5, 9, 33, 12, 7, 2], vec![5, 9, 33], (40..55).collect(), vec![5, 9, 33, 12]];
    let plain = FAMILIES.into_iter().chain(["phi3_longrope"]).map(|family| (family, model(family)));
    let gpt2 = model("gpt2");
    let adapters = [Adapter::new(&gpt2, PromptTuning::tokens(3), 0)?, Adapter::new(&gpt2, PrefixTuning::tokens(2), 0)?];
    let adapted = adapters.iter().map(|adapter| ("gpt2 with virtual tokens", gpt2.with(adapter).unwrap()));
    for (family, model) in plain.chain(adapted) {
        let (hidden, layers) = (model.config().hidden_size, model.config().layers as usize);
        tch::manual_seed(3);
        let values = Tensor::randn([hidden], (Kind::Float, Device::Cpu)) * 3.0;
        for (layer, edit) in (0..layers).flat_map(|layer| [(layer, Edit::Add), (layer, Edit::Replace)]) {
            let what = format!("{family}, layer {layer}, {edit:?}");
            let steered = model.with(&Vector::new(&model, edit, layer, &values)?)?;
            let expected = rows.iter().map(|row| by_hand(&model, row, (edit, layer, &values))).collect::<Result<Vec<_>>>()?;
            // A plain padded forward: tokens before the last are those of the model itself.
            let plain = steered.forward(&rows)?;
            for (place, row) in rows.iter().enumerate() {
                let ours = plain.values.get(place as i64).narrow(0, 0, row.len() as i64).unsqueeze(0);
                assert!(difference(&ours, &expected[place].unsqueeze(0), &[row.len()]) < 1e-5, "{what}, row {place}");
            }
            // With a cache: what follows does not see the vector again. The same greedily, token by token, by whole forwards.
            let settings = Generation::greedy(4).ignore_eos().batch(3);
            for (row, generated) in rows.iter().zip(steered.generate(&rows, &settings)?) {
                let mut text = row.clone();
                for &token in &generated.tokens.response {
                    let logits = whole(&model, &text, row.len(), (edit, layer, &values))?.get(text.len() as i64 - 1);
                    let best = logits.argmax(-1, false).int64_value(&[]);
                    assert_eq!(best, i64::from(token), "{what}");
                    text.push(token);
                }
                // Scores are those of one forward over the text.
                let given = whole(&model, &text[..text.len() - 1], row.len(), (edit, layer, &values))?.log_softmax(-1, Kind::Double);
                let logs = steered.log_likelihoods(std::slice::from_ref(&generated.tokens))?.remove(0);
                for (place, log) in logs.iter().enumerate() {
                    let at = row.len() + place;
                    assert!((log - given.double_value(&[at as i64 - 1, i64::from(text[at])])).abs() < 1e-5, "{what}");
                }
            }
        }
    }
    Ok(())
}

/// Logits of a text, with the vector at the end of its query.
fn whole(model: &Model, text: &[u32], query: usize, (edit, layer, vector): (Edit, usize, &Tensor)) -> Result<Tensor> {
    let mut hooks = Hooks::new();
    hooks.edit(&format!("model.layers.{layer}"), |_, value| {
        let changed = value.copy();
        let mut last = changed.get(0).get(query as i64 - 1);
        match edit {
            Edit::Replace => last.copy_(vector),
            Edit::Add => drop(last.g_add_(vector)),
        }
        Ok(Some(changed))
    });
    Ok(model.forward_with(&[text.to_vec()], &mut hooks)?.values.get(0))
}

#[test]
fn evaluation_capture_and_the_lens_see_the_vector() -> Result<()> {
    let model = Model::open("tiny-icl")?;
    let split = Task::open("sentiment")?.test_at_most(12)?.few_shot(4, 0)?;
    let vector = Way::Task.find(&model, &split)?;
    let steered = model.with(&vector)?;
    let prompts = split.test.zero_shot()?;
    let frame = evaluate(&steered, &prompts)?;
    let one = ia2::evaluate::evaluate_in_batches(&steered, &prompts, 1)?;
    let layer = vector.layer();
    let labels: Vec<String> = split.test.labels().iter().map(|label| format!("p_{label}")).collect();
    for (place, row) in model.encode(&prompts)?.iter().enumerate() {
        let logits = by_hand(&model, row, (Edit::Replace, layer, vector.values()))?.get(row.len() as i64 - 1);
        let ids: Vec<i64> = split.test.labels().iter().map(|label| i64::from(model.tokenizer().unwrap().id(label).unwrap())).collect();
        let among = logits.index_select(0, &Tensor::from_slice(&ids)).softmax(-1, Kind::Double);
        for (label, name) in labels.iter().enumerate() {
            let expected = among.double_value(&[label as i64]);
            assert!((numbers(&frame, name)[place] - expected).abs() < 1e-5 && (numbers(&one, name)[place] - expected).abs() < 1e-5);
        }
    }
    assert!(numbers(&frame, &labels[0]) != numbers(&evaluate(&model, &prompts)?, &labels[0]));
    // The stream after the layer is the vector, whoever looks.
    let responses = steered.respond(&prompts)?;
    let path = format!("model.layers.{layer}");
    for captured in [capture(&steered, &responses, &path)?, Capture::at(&path).while_responding(&steered, &prompts)?.1] {
        let streams = captured.values()?.select(1, 0).select(1, 0);
        assert!((streams - vector.values()).abs().max().double_value(&[]) < 1e-6);
    }
    let lens = logit_lens(&steered, &prompts, 1)?;
    let own: Vec<f64> =
        numbers(&lens, "layer").iter().zip(numbers(&lens, &labels[0])).filter(|(own, _)| **own == layer as f64).map(|(_, p)| p).collect();
    assert!(own.len() == prompts.len() && own.iter().all(|p| (p - own[0]).abs() < 1e-6), "one vector for all prompts");
    let patched = patch(&steered, &prompts, &capture(&model, &responses, "model.layers.0")?, 1)?;
    assert_eq!(patched.height(), prompts.len());
    Ok(())
}

/// Where labels begin with a common token, the vector acts before it.
#[test]
fn a_vector_acts_before_the_labels_common_beginning() -> Result<()> {
    let model = model("gpt_neox");
    let form = AnswerForm::labels(["t9 t3", "t9 t4"])?;
    let rows = (0..5).map(|row| Example::new(format!("t{} t{} ", 10 + row, 20 + row), "t9 t3")).collect();
    let prompts = Examples::new("words", form, rows)?.zero_shot()?;
    let values = Tensor::arange(model.config().hidden_size, (Kind::Float, Device::Cpu)) * 0.1;
    let steered = model.with(&Vector::new(&model, Edit::Add, 1, &values)?)?;
    let frame = evaluate(&steered, &prompts)?;
    for (place, row) in model.encode(&prompts)?.iter().enumerate() {
        let text = [row.as_slice(), &[9]].concat();
        let among =
            whole(&model, &text, row.len(), (Edit::Add, 1, &values))?.get(row.len() as i64).narrow(0, 3, 2).softmax(-1, Kind::Double);
        assert!((numbers(&frame, "p_t9 t3")[place] - among.double_value(&[0])).abs() < 1e-5);
    }
    let samples: Vec<Sample> = model.encode(&prompts)?.into_iter().map(|prompt| Sample { prompt, response: vec![9, 3] }).collect();
    for (sample, logs) in samples.iter().zip(steered.log_likelihoods(&samples)?) {
        let text = [sample.prompt.as_slice(), &[9]].concat();
        let given = whole(&model, &text, sample.prompt.len(), (Edit::Add, 1, &values))?.log_softmax(-1, Kind::Double);
        let log = given.double_value(&[sample.prompt.len() as i64, 3]);
        assert!((logs[1] - log).abs() < 1e-5);
    }
    Ok(())
}

#[test]
fn a_vector_comes_back_with_every_bit_and_only_for_its_model() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vector.safetensors");
    let (model, split) = (model("gemma3_text"), split(true));
    for way in Way::ALL {
        let vector = way.find(&model, &split)?;
        vector.save(&file)?;
        let again = Vector::open(&file, &model)?;
        assert_eq!(
            (again.values(), again.kind(), again.edit(), again.layer()),
            (vector.values(), vector.kind(), vector.edit(), vector.layer())
        );
        assert_eq!((again.strength(), again.heads(), again.dev_loss()), (vector.strength(), vector.heads(), vector.dev_loss()));
        assert!(again.tried()?.equals_missing(&vector.tried()?));
        assert_eq!(again.effects().ok(), vector.effects().ok());
        let rows = model.encode(&split.test.zero_shot()?)?;
        assert_eq!(model.with(&again)?.forward(&rows)?.values, model.with(&vector)?.forward(&rows)?.values);
    }
    let steering = Way::Steering.find(&model, &split)?;
    let half = steering.scaled(0.5)?;
    assert_eq!((half.strength(), half.values()), (steering.strength() * 0.5, steering.values()));
    let rows = model.encode(&split.test.zero_shot()?)?;
    assert_eq!(model.with(&steering.scaled(0.0)?)?.forward(&rows)?.values, model.forward(&rows)?.values);
    refused(steering.scaled(f64::NAN), &["finite"]);
    refused(Way::Task.find(&model, &split)?.scaled(2.0), &["no strength"]);
    let other = self::model("gpt2");
    refused(other.with(&steering), &["another model", "gemma3_text"]);
    refused(Vector::open(&file, &other), &["another model"]);
    refused(Vector::new(&model, Edit::Add, 99, steering.values()), &["no layer 99"]);
    refused(Vector::new(&model, Edit::Add, 0, &Tensor::zeros([3], (Kind::Float, Device::Cpu))), &["[3]"]);
    // A vector and an adapter can be on one model; a training's manifest tells of no vector.
    let steered = model.with(&steering)?;
    let adapter = Adapter::new(&model, Lora::rank(2), 0)?;
    assert!(steered.is_adapted() && steered.with(&adapter)?.is_steered() && !steered.base().is_adapted());
    refused(Training::new(Lora::rank(2), Sft::gold()).run(&steered, &split), &["model.base()"]);
    refused(steered.save(folder.path().join("model")), &["vector"]);
    let two = ia2::dataset::Task::of(split.train.clone(), Card::default()).few_shot(1, 0)?;
    refused(Way::Task.find(&model, &two), &["at least two examples"]);
    Ok(())
}

const NEW: [Method; 6] =
    [Method::IclContextual, Method::IclBatch, Method::TaskVector, Method::FunctionVector, Method::Steering, Method::SftTemperature];

fn grid(model: &Model, task: &str, folder: &std::path::Path) -> Experiment {
    let grid = Experiment::new(model).tasks(&[task]).tested_on(task, &[]).sizes(&[8]).runs(1).folder(folder);
    grid.learning_rates(&[1e-3, 3e-3]).epochs(2).test_at_most(24).compared_at_most(8)
}

fn row(frame: &DataFrame, method: Method) -> Result<DataFrame> {
    let mask: BooleanChunked = frame.column("method")?.str()?.iter().map(|name| Some(name == Some(method.name()))).collect();
    Ok(frame.filter(&mask)?)
}

/// Everything but how long it took.
fn timeless(frame: &DataFrame) -> DataFrame {
    frame.drop_many(["seconds", "total_seconds"])
}

#[test]
fn a_study_has_the_methods_that_train_nothing() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::open("tiny-icl")?;
    // What was run before stays as it is when other methods are asked for.
    let before = grid(&model, "topic", folder.path()).methods(&[Method::Icl, Method::Sft]).run()?.frame()?;
    let all = || grid(&model, "topic", folder.path()).methods(&[[Method::Icl, Method::Sft].as_slice(), &NEW].concat());
    let study = all().run()?;
    let frame = study.frame()?;
    for method in [Method::Icl, Method::Sft] {
        let own = row(&frame, method)?.drop("found")?;
        assert!(own.equals_missing(&row(&before, method)?), "{own} {before}");
    }
    assert!(texts(&frame, "failed").iter().all(|text| text == "null"), "{:?}", texts(&frame, "failed"));
    let split = Task::open("topic")?.test_at_most(24)?.few_shot(8, 0)?;
    let (icl, zero) = (split.test.with_demonstrations(&split.train, 0)?, split.test.zero_shot()?);
    let answers = evaluate(&model, &icl)?;
    let [contextual, batch] = [contextual(&model, &icl)?, batch_calibrated(&answers)?];
    let vectors = Way::ALL.map(|way| way.find(&model, &split).unwrap());
    let [task, function, steering] = [0, 1, 2].map(|place| evaluate(&model.with(&vectors[place]).unwrap(), &zero).unwrap());
    let expected = [contextual, batch, task, function, steering];
    for (method, expected) in NEW.into_iter().zip(&expected) {
        let own = row(&frame, method)?;
        assert_eq!((own.height(), numbers(&own, "examples")[0]), (1, 24.0), "{method:?}");
        for name in ["accuracy", "nll", "ece_equal_width_15"] {
            let value = Metric::named(name)?.compute(expected)?;
            assert!((numbers(&own, name)[0] - value).abs() < 1e-6, "{method:?}, {name}");
        }
    }
    let found = |method| Ok::<_, ia2::Error>(texts(&row(&frame, method)?, "found")[0].clone());
    assert!(
        found(Method::TaskVector)?.starts_with(&format!("layer {}", vectors[0].layer())) && found(Method::FunctionVector)?.contains("head")
    );
    assert_eq!((found(Method::Icl)?.as_str(), found(Method::IclBatch)?.as_str()), ("null", "null"));
    for (method, vector) in [Method::TaskVector, Method::FunctionVector, Method::Steering].into_iter().zip(&vectors) {
        let cost = |column: &str| numbers(&row(&frame, method).unwrap(), column)[0];
        assert_eq!(cost("parameters"), model.config().hidden_size as f64, "{method:?}");
        assert_eq!(cost("training_tokens") + cost("target_tokens"), vector.tokens().unwrap() as f64, "{method:?}");
        assert!(cost("total_seconds") > 0.0, "{method:?}");
    }
    assert_eq!(numbers(&row(&frame, Method::Steering)?, "dev_loss")[0], vectors[2].dev_loss().unwrap());

    // One number more, found by asking the dev queries once more.
    let dev: f64 = numbers(&evaluate(&model, &split.dev.zero_shot()?)?, "prompt_tokens").iter().sum();
    let (sft, scaled) = (row(&frame, Method::Sft)?, row(&frame, Method::SftTemperature)?);
    for (column, more) in [("parameters", 1.0), ("training_tokens", dev), ("target_tokens", 0.0)] {
        let expected: Vec<f64> = numbers(&sft, column).iter().map(|value| value + more).collect();
        assert_eq!(numbers(&scaled, column), expected, "{column}");
    }

    // SFT's answers at each rate, with other probabilities where a temperature was fitted.
    for column in ["learning_rate", "dev_loss", "accuracy", "label_set_accuracy", "top_1_accuracy", "asim"] {
        assert_eq!(numbers(&scaled, column), numbers(&sft, column), "{column}");
    }
    assert_eq!(scaled.column("chosen")?, sft.column("chosen")?);
    assert!(texts(&scaled, "found").iter().any(|words| words.parse::<f64>().is_err() && !words.contains("none")), "{scaled}");
    for (place, words) in texts(&scaled, "found").iter().enumerate() {
        let fitted = words.strip_prefix("T = ").and_then(|value| value.parse::<f64>().ok());
        assert_eq!(numbers(&scaled, "nll")[place] != numbers(&sft, "nll")[place], fitted.is_some(), "{words}");
        assert!(fitted.is_some() || words.starts_with("T = 1, none fitted"), "{words}");
    }

    // Nothing is done again; what is gone is, to the same numbers.
    let files = common::listing(folder.path());
    assert!(timeless(&all().run()?.frame()?).equals_missing(&timeless(&frame)));
    assert_eq!(common::listing(folder.path()), files);
    let vector = folder.path().join(format!("{}.safetensors", texts(&row(&frame, Method::TaskVector)?, "key")[0]));
    std::fs::remove_file(&vector).unwrap();
    assert!(timeless(&all().run()?.frame()?).equals_missing(&timeless(&frame)));
    // Another run's vector next to the record, when more is to be tested.
    let other = folder.path().join(format!("{}.safetensors", texts(&row(&frame, Method::Steering)?, "key")[0]));
    std::fs::copy(other, &vector).unwrap();
    let error = all().test_at_most(20).run().map(|study| study.missing());
    refused(error, &["not the one that the record", "remove both"]);
    Ok(())
}

#[test]
fn calibration_of_labels_is_refused_for_free_answers_and_vectors_are_not() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::open("tiny-icl")?;
    let frame = grid(&model, "answer", folder.path()).learning_rates(&[1e-3]).sizes(&[4]).methods(&NEW).run()?.frame()?;
    for method in NEW {
        let own = row(&frame, method)?;
        match method.needs_labels() {
            true => assert!(texts(&own, "failed")[0].contains("the answers of `answer` are free"), "{:?}", texts(&own, "failed")),
            false => assert!(texts(&own, "failed")[0] == "null" && numbers(&own, "accuracy")[0] >= 0.0),
        }
    }
    Ok(())
}
