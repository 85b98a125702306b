//! Prompts, rows, activations and trainings that make no sense.

use super::*;

#[test]
fn prompts_without_text_labels_alike_and_strange_golds() -> Result<()> {
    let model = speaking(NAME);
    let prompts = |query: &str, gold: &str, form: AnswerForm| {
        Prompts::new(vec![Prompt { demonstrations: Vec::new(), example: Example::new(query, gold), index: 0 }]).with_form(form)
    };
    refused(model.respond(&prompts("", "t3", labels())), &["no text to tokenise", "empty"]);
    refused(model.respond(&prompts("  ", "t3", labels())), &["gives no token"]);
    refused(model.respond(&Prompts::new(Vec::new())), &["the batch is empty"]);
    refused(evaluate(&model, &Prompts::new(Vec::new())), &["no prompts"]);
    refused(evaluate(&model, &prompts("t5", "t9", labels())), &["example 0", "t9", "none of the labels"]);
    refused(evaluate(&model, &prompts(&"t5 ".repeat(129), "t3", labels())), &["129 tokens", "context is 128"]);
    // Both are unknown words to this tokenizer, so they are the same token.
    let alike = AnswerForm::labels(["yes", "no"])?;
    refused(evaluate(&model, &prompts("t5", "yes", alike)), &["yes", "no", "t0"]);
    let prefix = AnswerForm::labels(["t3", "t3 t4"])?;
    refused(evaluate(&model, &prompts("t5", "t3", prefix)), &["t3"]);
    let bare = Model::open(golden_folder(NAME))?;
    refused(evaluate(&bare, &prompts("t5", "t3", labels())), &["tokenizer.json"]);
    refused(bare.respond(&prompts("t5", "t3", labels())), &["tokenizer.json"]);
    Ok(())
}

#[test]
fn malformed_rows() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("words.jsonl");
    let name = file.to_str().unwrap();
    for (line, reason) in
        [("{\"query\": ", "not JSON"), ("{\"query\": \"t5\"}", "no `gold`"), ("{\"query\": 3, \"gold\": \"t3\"}", "must be a string")]
    {
        std::fs::write(&file, format!("{{\"query\": \"t1\", \"gold\": \"t3\"}}\n{line}\n")).unwrap();
        refused(Task::open(name), &["words.jsonl", "line 2", reason]);
    }
    std::fs::write(&file, "").unwrap();
    refused(Task::open(name), &["words.jsonl", "no rows"]);
    refused(Examples::new("words", labels(), vec![Example::new("t1", "t3"), Example::new("t2", "t9")]), &["row 1 of `words`", "t9"]);
    refused(task(labels()).few_shot(0, 0), &["0"]);
    refused(task(labels()).few_shot(12, 0), &["12"]);
    Ok(())
}

#[test]
fn activations_from_files_and_hands() -> Result<()> {
    let model = speaking(NAME);
    let responses = model.respond(&task(labels()).examples().take(2).zero_shot()?)?;
    let activations = capture(&model, &responses, "model.layers.*.mlp")?;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.safetensors");
    refused(Activations::open(&file), &["cannot read", "values.safetensors"]);
    activations.save(&file)?;
    let whole = std::fs::read(&file).unwrap();
    for part in [0, 5, whole.len() / 3, whole.len() - 1] {
        std::fs::write(&file, &whole[..part]).unwrap();
        refused(Activations::open(&file), &["values.safetensors", "truncated"]);
    }
    refused(Activations::open(golden_folder(NAME).join("model.safetensors")), &["model.safetensors", "no activations"]);
    // A manifest at odds with its values, a value that is another: found when the file is opened, not as a panic in the first `example`.
    let (from, to) = (b"\\\"lengths\\\":[1,1]", b"\\\"lengths\\\":[1,7]");
    let place = whole.windows(from.len()).position(|window| window == from).unwrap();
    let mut bytes = whole.clone();
    bytes[place..place + to.len()].copy_from_slice(to);
    std::fs::write(&file, bytes).unwrap();
    refused(Activations::open(&file), &["values.safetensors", "changed or damaged", "capture"]);
    let mut bytes = whole.clone();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    refused(Activations::open(&file), &["values.safetensors", "changed or damaged", "capture"]);

    let size = activations.values()?.size();
    let points = activations.hook_points().to_vec();
    let short = activations.values()?.narrow(0, 0, 1);
    refused(Activations::new(short, points.clone(), responses.clone()), &["activations", "example"]);
    let broken = activations.values()? * f64::NAN;
    assert!(refused(Activations::new(broken, points, responses.clone()), &["activations"]).is_numeric());
    refused(activations.example(2), &["example 2 does not exist", "there are 2"]);
    refused(Capture::at("model.layers.*.mlp").kind(Kind::Int64).of(&model, &responses), &["Int64", "choose"]);
    for (prompt, response) in [(vec![], vec![1]), (vec![1], vec![])] {
        let prompt_text = Prompt { demonstrations: Vec::new(), example: Example::new("t5", "t3"), index: 0 };
        let row = Response {
            prompt: prompt_text,
            tokens: Sample { prompt, response },
            text: String::new(),
            ending: Ending::Length,
            close_calls: 0,
        };
        let rows = Responses::from_rows(labels(), vec![row]);
        refused(Capture::at("model.layers.*.mlp").plan(&model, &rows), &["response 0", "tokens"]);
        refused(capture(&model, &rows, "model.layers.*.mlp"), &["response 0", "tokens"]);
    }
    refused(capture(&model, &Responses::from_rows(labels(), Vec::new()), "model.norm"), &["no responses"]);
    assert_eq!(size, [2, 3, 1, 24]);
    Ok(())
}

#[test]
fn trainings_that_cannot_begin() -> Result<()> {
    let model = speaking(NAME);
    let split = task(labels()).few_shot(4, 0)?;
    let new = || Training::new(Lora::rank(2), Sft::gold());
    refused(new().learning_rate(0.0).run(&model, &split), &["learning rate 0", "1e-3"]);
    refused(new().learning_rate(f64::NAN).run(&model, &split), &["learning rate NaN"]);
    refused(new().epochs(0).run(&model, &split), &["epochs is 0"]);
    refused(new().batch(0).run(&model, &split), &["batch is 0"]);
    refused(new().check_every(0).run(&model, &split), &["check_every is 0"]);
    refused(new().run(&Model::open(golden_folder(NAME))?, &split), &["tokenizer.json"]);
    let strangers = model.respond(&split.test.zero_shot()?)?;
    refused(Training::new(Lora::rank(2), Sft::on(&strangers)).run(&model, &split), &["not those to this split", "target_prompts"]);
    let target = capture(&model, &strangers, "model.layers.*.mlp")?;
    refused(Training::new(Lora::rank(2), Ia2::toward(&target)).run(&model, &split), &["not those to this split"]);
    let last = Capture::at("model.layers.*.mlp").positions(Positions::Last);
    let responses = model.respond(&split.target_prompts(256)?)?;
    refused(Training::new(Lora::rank(2), Ia2::toward(&last.of(&model, &responses)?)).run(&model, &split), &["response positions", "Last"]);
    // A loss that no parameter of the adapter moves: libtorch would end the process.
    let all = Capture::at("model.layers.*.self_attn").of(&model, &responses)?;
    let first = Ia2::toward(&all).layers([0])?;
    refused(Training::new(Lora::rank(2).layers([1]), first).run(&model, &split), &["none of the adapter's parameters", "nothing to train"]);
    let embedded = Ia2::toward(&capture(&model, &responses, "model.embed_tokens")?);
    refused(Training::new(Ia3::new(), embedded).run(&model, &split), &["nothing to train"]);
    for none in [AdapterConfig::from(PromptTuning::tokens(0)), PrefixTuning::tokens(0).into()] {
        refused(Training::new(none, Sft::gold()).run(&model, &split), &["no virtual tokens", "nothing to train"]);
    }
    // What no forward takes is found before the first step, whichever step would have met it.
    let long = PrefixTuning::tokens(model.config().max_positions as usize).start(Start::Random);
    refused(Training::new(long, Sft::gold()).run(&model, &split), &["train sample 0", "virtual ones", "context"]);
    // A file that is no checkpoint is refused and left alone.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.safetensors");
    for content in [std::fs::read(golden_folder(NAME).join("model.safetensors")).unwrap(), b"text".to_vec()] {
        std::fs::write(&file, &content).unwrap();
        refused(new().checkpoint(&file).run(&model, &split), &["run.safetensors"]);
        assert_eq!(listing(folder.path()), [(file.clone(), Some(content))]);
    }
    Ok(())
}
