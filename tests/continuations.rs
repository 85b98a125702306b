//! What follows a query: its tokens, where it ends, and how likely it is.

mod common;

use std::path::Path;

use common::{copied, golden_folder, numbers as column, refused, shared, speaking, with_words};
use ia2::Result;
use ia2::dataset::{Card, Task};
use ia2::model::{Ending, Sample};
use ia2::objective::Objective;
use ia2::prelude::*;
use ia2::prompt::{AnswerForm, Example, Examples, Prompt, Prompts};
use serde_json::{Value, json};

const NAME: &str = "qwen3_grouped_tied";

fn scores() -> Value {
    serde_json::from_str(include_str!("data/scores.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn close(ours: &[f64], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.iter().zip(theirs).all(|(ours, theirs)| (ours - theirs).abs() < 2e-5), "{ours:?} and {theirs:?}");
}

fn prompt(before: &str, query: &str, gold: &str, index: usize) -> Prompt {
    let solved = |text: &str| {
        let (query, gold) = text.split_at(text.rfind(':').unwrap() + 1);
        Example::new(query, gold)
    };
    let demonstrations = before.split_terminator("\n\n").map(solved).collect();
    Prompt { demonstrations, example: Example::new(query, gold), index }
}

/// A golden checkpoint with a tokenizer as Llama-2's: SentencePiece pieces, of which half begin with a space, and a space put before every text.
fn with_pieces() -> tempfile::TempDir {
    let folder = copied(NAME);
    let mut pieces: Vec<String> = ["<unk>", "▁", ":", "\n", "0", "1"].map(String::from).to_vec();
    pieces.extend(('a'..='z').map(String::from));
    pieces.extend(('a'..='z').map(|letter| format!("▁{letter}")));
    pieces.extend(["th", "an", "in", "er", "▁0", "▁1"].map(String::from));
    assert_eq!(pieces.len(), 64);
    let vocabulary: serde_json::Map<_, _> = pieces.iter().enumerate().map(|(id, piece)| (piece.clone(), id.into())).collect();
    let pairs = pieces.iter().map(|piece| piece.chars().collect::<Vec<_>>());
    let merges: Vec<Value> = pairs.filter(|pair| pair.len() == 2).map(|pair| json!([pair[0], pair[1]])).collect();
    let replace = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "pre_tokenizer": null, "post_processor": null,
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")]},
        "decoder": {"type": "Sequence", "decoders": [replace("▁", " "), {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": false, "vocab": vocabulary, "merges": merges}
    });
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    folder
}

#[test]
fn log_likelihoods_are_those_of_transformers() -> Result<()> {
    for (name, cases) in scores()["ids"].as_object().unwrap() {
        let model = Model::open(golden_folder(name))?;
        let cases = cases.as_array().unwrap();
        let sample = |case: &Value| Sample { prompt: ids(&case["prompt"]), response: ids(&case["response"]) };
        let samples: Vec<Sample> = cases.iter().map(sample).collect();
        for (ours, case) in model.log_likelihoods(&samples)?.iter().zip(cases) {
            close(ours, &numbers(&case["log_likelihoods"]));
        }
        // One by one, in another order, and the ones that share 20 tokens with a prompt in common.
        for (ours, sample) in model.log_likelihoods(&samples)?.iter().zip(&samples).rev() {
            close(&model.log_likelihoods(std::slice::from_ref(sample))?[0], ours);
        }
        let alike = &samples[..24];
        for (ours, theirs) in model.log_likelihoods(alike)?.iter().zip(cases) {
            close(ours, &numbers(&theirs["log_likelihoods"]));
        }
        // Virtual tokens stand before all.
        let adapted = model.with(&Adapter::new(&model, PrefixTuning::tokens(3), 0)?)?;
        let together = adapted.log_likelihoods(alike)?;
        for (ours, sample) in together.iter().zip(alike) {
            close(&adapted.log_likelihoods(std::slice::from_ref(sample))?[0], ours);
        }
    }
    Ok(())
}

#[test]
fn scores_of_texts_and_their_frames() -> Result<()> {
    let model = speaking(NAME);
    let prompts = Prompts::new((0..40).map(|row| prompt("", &format!("t{} t{} ", 5 + row, 60 - row), "t3", row)).collect());
    let scores = model.score(&prompts, &["t3", "t4 t5 t6", "t40 t3"])?;
    let frame = scores.frame()?;
    assert_eq!(frame.get_column_names(), ["index", "continuation", "token", "log_likelihood", "mean_log_likelihood", "merged"]);
    assert_eq!((frame.height(), scores.tokens()?.height()), (120, 240));
    for (row, prompt) in prompts.iter().enumerate() {
        let tokens = model.tokenizer()?.encode(&prompt.text())?;
        let logits = model.forward(&[[&tokens[..], &[4, 5, 6]].concat()])?.values.get(0).log_softmax(-1, Kind::Double);
        let by_hand: Vec<f64> = [4, 5, 6].iter().enumerate().map(|(place, &id)| logits.double_value(&[1 + place as i64, id])).collect();
        let score = &scores.rows()[3 * row + 1];
        assert_eq!((score.index, score.continuation.as_str(), score.ids.as_slice()), (row, "t4 t5 t6", [4, 5, 6].as_slice()));
        close(&score.log_likelihoods, &by_hand);
        close(&[column(&frame, "log_likelihood")[3 * row + 1]], &[by_hand.iter().sum()]);
        close(&[column(&frame, "mean_log_likelihood")[3 * row + 1]], &[by_hand.iter().sum::<f64>() / 3.0]);
    }
    // Among labels of one token they are what `evaluate` reads.
    let read = evaluate(&model, &prompts.clone().with_form(AnswerForm::labels(["t3", "t4"])?))?;
    let pair = model.score(&prompts, &["t3", "t4"])?;
    for (row, among) in column(&read, "p_t3").into_iter().enumerate() {
        let [first, second] = [0, 1].map(|label| pair.rows()[2 * row + label].log_likelihood().exp());
        close(&[first / (first + second)], &[among]);
    }
    let own: Vec<Vec<String>> = (0..40).map(|row| (0..row % 3).map(|id| format!("t{id}")).collect()).collect();
    assert_eq!(model.score_each(&prompts, &own)?.rows().len(), 39);
    refused(model.score_each(&prompts, &own[1..]), &["40 prompts and 39 lists"]);
    refused(model.score(&prompts, &[""]), &["a continuation of prompt 0", "empty"]);
    refused(model.score::<&str>(&prompts, &[]), &["empty"]);
    refused(model.log_likelihoods(&[Sample { prompt: vec![1], response: vec![64] }]), &["token id 64"]);
    refused(model.log_likelihoods(&[Sample { prompt: vec![1], response: vec![] }]), &["sample 0 has no tokens"]);
    Ok(())
}

#[test]
fn a_real_sentencepiece_model_reads_and_teaches_what_query_and_label_have_together() -> Result<()> {
    let Some(folder) = shared("models/stories260K") else { return Ok(()) };
    let model = OpenOptions::new().kind(Kind::Double).open(folder)?;
    let (mut moved, golden) = (0, scores());
    for case in golden["text"].as_array().unwrap() {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let labels: Vec<String> = case["labels"].as_array().unwrap().iter().map(text).collect();
        let one = prompt(&text(&case["before"]), &text(&case["query"]), &labels[0], 0);
        assert_eq!(one.prefix(), text(&case["before"]));
        let prompts = Prompts::new(vec![one]).with_form(AnswerForm::labels(labels.clone())?);
        let frame = evaluate(&model, &prompts)?;
        let ours: Vec<f64> = labels.iter().map(|label| column(&frame, &format!("p_{label}"))[0]).collect();
        close(&ours, &numbers(&case["p"]));
        let (mass, theirs) = (column(&frame, "label_mass")[0], case["mass"].as_f64().unwrap());
        assert!((mass - theirs).abs() < 1e-5 * theirs, "{mass} and {theirs}");
        assert_eq!(frame.column("merged_label")?.str()?.get(0), Some(""));
        for (place, answer) in case["answers"].as_array().unwrap().iter().enumerate() {
            let score = model.score(&prompts, &[text(&answer["text"])])?.rows()[0].clone();
            assert_eq!((&score.ids, score.merged), (&ids(&answer["ids"]), false));
            close(&score.log_likelihoods, &numbers(&answer["log_likelihoods"]));
            if place < 2 {
                let alone = model.tokenizer()?.encode_plain(&text(&answer["text"]))?;
                moved += usize::from(alone != score.ids);
            }
        }
    }
    assert!(moved > 0, "every label alone has the tokens it has after its query: nothing is shown");

    let rows: Vec<Example> = (0..12).map(|row| Example::new(format!("Text: day {row}\nLabel:"), (row % 2).to_string())).collect();
    for form in [AnswerForm::labels(["0", "1"])?, AnswerForm::free()] {
        let free = form.ends_with_eos();
        let split = Task::of(Examples::new("digits", form, rows.clone())?, Card::default()).few_shot(4, 0)?;
        let samples = Sft::gold().samples(&model, &split)?;
        for (sample, example) in samples.rows.iter().zip(split.train.rows()) {
            let spelled = model.tokenizer()?.spellings(&sample.response);
            assert_eq!(spelled, if free { vec![example.gold.as_str(), "</s>"] } else { vec![example.gold.as_str()] });
        }
    }
    Ok(())
}

#[test]
fn labels_after_their_query_in_pieces() -> Result<()> {
    let folder = with_pieces();
    let model = Model::open(folder.path())?;
    let tokenizer = model.tokenizer()?;
    let query = |row: u8| format!("a day {}:", char::from(b'a' + row));
    let piece = |text: &str| i64::from(tokenizer.id(text).unwrap());
    for (labels, read) in [(["0", "1"], ["0", "1"]), ([" 0", " 1"], ["▁0", "▁1"]), (["at", "in a"], ["a", "in"])] {
        let rows = (0..24).map(|row| prompt("", &query(row), labels[0], usize::from(row)));
        let prompts = Prompts::new(rows.collect()).with_form(AnswerForm::labels(labels)?);
        let frame = evaluate(&model, &prompts)?;
        let lens = logit_lens(&model, &prompts, 1)?;
        for (row, tokens) in model.encode(&prompts)?.into_iter().enumerate() {
            let logits = model.forward(std::slice::from_ref(&tokens))?.values.get(0).get(tokens.len() as i64 - 1).softmax(-1, Kind::Double);
            let [first, second] = read.map(|label| logits.double_value(&[piece(label)]));
            close(&[column(&frame, &format!("p_{}", labels[0]))[row]], &[first / (first + second)]);
            close(&[column(&frame, "label_mass")[row]], &[first + second]);
            let last = row * model.config().layers as usize + model.config().layers as usize - 1;
            close(&[column(&lens, &format!("p_{}", labels[0]))[last]], &[first / (first + second)]);
        }
    }
    Ok(())
}

#[test]
fn labels_that_merge_with_their_query_are_named() -> Result<()> {
    // Words are cut at spaces: after a query without one at its end, query and label are one word. Each prompt reads its own tokens.
    let model = speaking(NAME);
    let queries = ["t9 t8 ", "t9 t8", "t7 "];
    let prompts = Prompts::new(queries.iter().enumerate().map(|(row, query)| prompt("", query, "t3", row)).collect());
    let frame = evaluate(&model, &prompts.with_form(AnswerForm::labels(["t3", "t4"])?))?;
    let merged: Vec<_> = frame.column("merged_label")?.str()?.iter().map(Option::unwrap).collect();
    assert_eq!(merged, ["", "t3, t4", ""]);
    Ok(())
}

/// Prompts, and the first three tokens that the model says to each of them.
fn said(model: &Model) -> Result<(Vec<Prompt>, Vec<Vec<u32>>)> {
    let prompts: Vec<Prompt> = (0..10).map(|row| prompt("", &format!("t{} t{} ", 9 + row, 50 - row), "t3", row)).collect();
    let rows = model.encode(&Prompts::new(prompts.clone()))?;
    let said = model.generate(&rows, &Generation::greedy(3).ignore_eos())?;
    Ok((prompts, said.into_iter().map(|row| row.tokens.response).collect()))
}

#[test]
fn a_response_to_a_label_task_goes_on_to_the_end_of_its_label() -> Result<()> {
    let model = speaking(NAME);
    let eos = model.config().eos.clone();
    let words = |ids: &[u32]| ids.iter().map(|id| format!("t{id}")).collect::<Vec<_>>().join(" ");
    let (prompts, said) = said(&model)?;
    let mut seen = 0;
    for (one, said) in prompts.into_iter().zip(said).filter(|(_, said)| !said.iter().any(|id| eos.contains(id))) {
        let ask = |labels: [String; 2]| -> Result<(Vec<u32>, Ending)> {
            let gold = Example::new(one.example.query.clone(), labels[0].clone());
            let prompts = Prompts::new(vec![Prompt { example: gold, ..one.clone() }]).with_form(AnswerForm::labels(labels)?);
            let responses = model.respond(&prompts)?;
            let (caught, _) = Capture::at("model.layers.0").while_responding(&model, &prompts)?;
            assert_eq!(caught.rows()[0].tokens, responses.rows()[0].tokens, "targets hold what is answered");
            Ok((responses.rows()[0].tokens.response.clone(), responses.rows()[0].ending))
        };
        let other = |id: u32| 3 + (id + 7) % 50;
        // A common prefix, then the label; the whole label; and no further.
        assert_eq!(ask([words(&said[..2]), words(&[said[0], other(said[1])])])?, (said[..2].to_vec(), Ending::Length));
        assert_eq!(ask([words(&said), words(&[said[0], other(said[1]), 9])])?.0, said);
        assert_eq!(ask([words(&said[..1]), words(&[other(said[0]), 9, 9])])?.0, said[..1]);
        // What is no label ends where it is none.
        assert_eq!(ask([words(&[other(said[0]), said[1]]), words(&[other(said[0]), other(said[1])])])?.0, said[..1]);
        assert_eq!(ask([words(&[said[0], other(said[1]), 4]), words(&[said[0], other(said[1]), 5])])?.0, said[..2]);
        // Labels of one token are answered with one, whatever it is.
        assert_eq!(ask(["t3".into(), "t4".into()])?.0, said[..1]);
        seen += 1;
    }
    assert!(seen >= 3, "{seen}");
    Ok(())
}

#[test]
fn responses_that_end_before_the_labels_differ_are_refused() -> Result<()> {
    let model = speaking(NAME);
    let labels = ["t9 t3", "t9 t4"];
    let rows = (0..20).map(|row| Example::new(format!("t{} t{} ", 10 + row, 40 - row), labels[row % 2])).collect();
    let split = Task::of(Examples::new("words", AnswerForm::labels(labels)?, rows)?, Card::default()).few_shot(4, 0)?;
    let targets = Targets::of(&model, &split);
    assert_eq!(targets.plan()?.tokens, 2);
    refused(targets.clone().max_new_tokens(1).collect(), &["at most 1 tokens", "t9 t3, t9 t4", "at least 2"]);
    targets.clone().max_new_tokens(2).collect()?;
    // From elsewhere.
    let responses = targets.collect()?.responses().clone();
    let cut = |to: &[u32]| {
        let mut rows = responses.rows().to_vec();
        rows[0].tokens.response = to.to_vec();
        Responses::from_rows(responses.form().clone(), rows)
    };
    refused(Sft::on(&cut(&[9])).samples(&model, &split), &["ends before the labels t9 t3, t9 t4 differ", "Model::respond"]);
    for whole in [[9, 3].as_slice(), &[3]] {
        Sft::on(&cut(whole)).samples(&model, &split)?;
    }
    Ok(())
}

/// A golden checkpoint of words that has these files, too.
fn words_with(files: &[(&str, Value)]) -> Result<Model> {
    let folder = with_words(NAME);
    files.iter().for_each(|(name, value)| std::fs::write(folder.path().join(name), value.to_string()).unwrap());
    Model::open(folder.path())
}

#[test]
fn free_answers_are_taught_with_the_tokenizers_end_and_labels_without() -> Result<()> {
    let generation = ("generation_config.json", json!({"eos_token_id": [40, 41]}));
    let config = ("tokenizer_config.json", json!({"eos_token": {"content": "t41"}}));
    let taught = |model: &Model, form: AnswerForm, golds: [&str; 2]| -> Result<Vec<Vec<u32>>> {
        let rows = (0..20).map(|row| Example::new(format!("t{} t{} ", 10 + row, 40 - row), golds[row % 2])).collect();
        let split = Task::of(Examples::new("words", form, rows)?, Card::default()).few_shot(4, 0)?;
        let mut taught: Vec<_> = Sft::gold().samples(model, &split)?.rows.into_iter().map(|row| row.response).collect();
        taught.sort();
        taught.dedup();
        Ok(taught)
    };
    let model = words_with(&[generation.clone(), config.clone()])?;
    assert_eq!((model.eos(), model.tokenizer()?.eos()), (Some(41), Some(41)));
    assert_eq!(taught(&model, AnswerForm::free(), ["t7", "t3"])?, [vec![3, 41], vec![7, 41]]);
    assert_eq!(taught(&model, AnswerForm::free(), ["t7 t8", "t3"])?, [vec![3, 41], vec![7, 8, 41]]);
    assert_eq!(taught(&model, AnswerForm::free().at_most(1)?, ["t7", "t3"])?, [vec![3], vec![7]]);
    assert_eq!(taught(&model, AnswerForm::labels(["t7", "t3"])?, ["t7", "t3"])?, [vec![3], vec![7]]);
    assert_eq!(taught(&model, AnswerForm::labels(["t9 t7", "t9 t3"])?, ["t9 t7", "t9 t3"])?, [vec![9, 3], vec![9, 7]]);
    let model = words_with(&[generation])?;
    assert_eq!((model.eos(), model.tokenizer()?.eos()), (Some(40), None));
    assert_eq!(taught(&model, AnswerForm::free(), ["t7", "t3"])?, [vec![3, 40], vec![7, 40]]);

    // Generation ends at each of the list, and at what is trained on.
    let (prompts, said) = said(&speaking(NAME))?;
    let first = said[0][0];
    let answer = |model: Model| -> Result<(Vec<u32>, Ending)> {
        let generated = model.generate(&model.encode(&Prompts::new(prompts[..1].to_vec()))?, &Generation::greedy(3))?.remove(0);
        Ok((generated.tokens.response, generated.ending))
    };
    let other = if first == 63 { 62 } else { 63 };
    let listed = |list: Value| ("generation_config.json", json!({"eos_token_id": list}));
    let named = |id: u32| ("tokenizer_config.json", json!({"eos_token": format!("t{id}")}));
    let ended = (vec![first], Ending::Eos);
    assert_eq!(answer(words_with(&[listed(json!([other, first])), named(other)])?)?, ended);
    assert_eq!(answer(words_with(&[listed(json!([other])), named(first)])?)?, ended);
    assert_ne!(answer(words_with(&[listed(json!([other])), named(other)])?)?, ended);
    Ok(())
}

#[test]
fn a_free_answer_of_one_token_learns_to_end() -> Result<()> {
    let model = Model::open("tiny-icl")?;
    let query = |row: usize| format!("Question:{} {row}\nAnswer:", ["good", "bad"][row % 2]);
    let rows = (0..24).map(|row| Example::new(query(row), ["7", "3"][row % 2])).collect();
    let split = Task::of(Examples::new("digits", AnswerForm::free().at_most(12)?, rows)?, Card::default()).few_shot(8, 0)?;
    let tuned = Training::new(Lora::rank(8), Sft::gold()).learning_rate(1e-2).epochs(60).patience(1000).run(&model, &split)?;
    let frame = evaluate(tuned.model(), &split.train.zero_shot()?)?;
    let said: Vec<_> = frame.column("response")?.str()?.iter().map(|text| text.unwrap().to_owned()).collect();
    assert!(said.iter().all(|text| ["7", "3"].contains(&text.as_str())), "{said:?}");
    assert!(frame.column("ending")?.str()?.iter().all(|ending| ending == Some("eos")));
    Ok(())
}

#[test]
fn a_stop_string_that_begins_with_a_space_is_found_at_the_start_of_an_answer() -> Result<()> {
    let folder = with_pieces();
    let model = Model::open(folder.path())?;
    let tokenizer = model.tokenizer()?;
    let texts: Vec<String> = ('a'..='z').map(|letter| format!("a day {letter}:")).collect();
    let rows: Vec<Vec<u32>> = texts.iter().map(|text| tokenizer.encode(text)).collect::<Result<_>>()?;
    let mut found = 0;
    for (row, whole) in rows.iter().zip(model.generate(&rows, &Generation::greedy(12).ignore_eos())?) {
        let first = tokenizer.token(whole.tokens.response[0]).unwrap();
        let Some(letter) = first.strip_prefix('▁').filter(|letter| !letter.is_empty()) else { continue };
        assert!(whole.text.starts_with(&format!(" {letter}")), "{:?}", whole.text);
        let stopped = model.generate(std::slice::from_ref(row), &Generation::greedy(12).ignore_eos().stop(format!(" {letter}")))?.remove(0);
        assert_eq!((stopped.tokens.response.len(), stopped.ending, stopped.text.as_str()), (1, Ending::Stop, ""), "{first}");
        found += 1;
    }
    assert!(found >= 3, "{found} answers begin with a space");
    // Later, and long after the start, too: where the tail that is decoded begins with a space of its own.
    for (row, whole) in rows.iter().zip(model.generate(&rows, &Generation::greedy(40).ignore_eos())?) {
        for (place, _) in whole.text.match_indices(' ') {
            let Some(stop) = whole.text.get(place..place + 2) else { continue };
            let stopped = model.generate(std::slice::from_ref(row), &Generation::greedy(40).ignore_eos().stop(stop))?.remove(0);
            let end = whole.text.find(stop).unwrap();
            assert_eq!((stopped.text.as_str(), stopped.ending), (&whole.text[..end], Ending::Stop), "{stop:?} in {:?}", whole.text);
            break;
        }
    }
    Ok(())
}

#[test]
fn text_in_text_out() -> Result<()> {
    let model = Model::open("tiny-icl")?;
    let texts = ["Text:fine\nLabel:1\n\nText:bad\nLabel:", "Question:1\nAnswer:"];
    let settings = Generation::greedy(4);
    let rows = texts.map(|text| model.tokenizer().unwrap().encode(text).unwrap());
    assert_eq!(model.generate_text(&texts, &settings)?, model.generate(&rows, &settings)?);
    refused(model.generate_text(&[""], &settings), &["empty"]);
    refused(model.chat(&Chat::of([("user", "hello")]), &settings), &["no chat template"]);
    // A template with the tokens of this vocabulary.
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(Path::new(model.folder()).join(file), folder.path().join(file)).unwrap();
    }
    let template = "{{ bos_token }}{% for message in messages %}{{ message.role | capitalize }}:{{ message.content.strip() }}\n{% endfor %}\
                    {% if add_generation_prompt %}Label:{% endif %}";
    std::fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    let model = Model::open(folder.path())?;
    let reply = model.chat(&Chat::of([("text", " fine ")]), &settings)?;
    assert_eq!(reply.tokens.prompt, model.tokenizer()?.encode("Text:fine\nLabel:")?, "one beginning-of-text token");
    Ok(())
}

#[test]
fn labels_that_differ_in_spaces_alone_are_not_one() -> Result<()> {
    refused(AnswerForm::labels(["1", " 1"]), &["\"1\"", "\" 1\"", "spaces"]);
    // A form in a file may have them.
    let form = json!({"labels": ["a", " a"], "stop": null, "max_new_tokens": 1, "answer_after": null});
    let form: AnswerForm = serde_json::from_value(form).unwrap();
    let folder = with_pieces();
    let model = Model::open(folder.path())?;
    let prompts = Prompts::new(vec![prompt("", "day:", "a", 0), prompt("", "day:", " a", 1)]).with_form(form);
    let frame = evaluate(&model, &prompts)?;
    let golds: Vec<_> = frame.column("gold")?.str()?.iter().map(Option::unwrap).collect();
    assert_eq!(golds, ["a", " a"]);
    Ok(())
}
