//! Cartridges: prefixes that begin as demonstrations.

use super::*;

#[test]
fn a_cartridge_begins_as_pefts_and_its_first_tokens_stay() -> Result<()> {
    let mut worst = 0f64;
    for checkpoint in CHECKPOINTS {
        let golden = golden(&format!("adapters/{checkpoint}/cartridge.safetensors"))?;
        let text: Vec<u32> = Vec::<i64>::try_from(&golden["text"])?.into_iter().map(|id| id as u32).collect();
        let place = golden_folder(&format!("adapters/{checkpoint}/cartridge"));
        let theirs = read(place.join("adapter_model.safetensors"))?.remove(0).1;
        for kind in [Kind::Float, Kind::Double] {
            let model = open(checkpoint, kind)?;
            let opened = Adapter::open(&place, &model)?;
            assert_eq!(opened.config().name(), "cartridge V=6, 2 frozen");
            let ours = Adapter::new(&model, Cartridge::of(&text).at_most(6).frozen(2), 0)?;
            let distance = apart(&parameters(&ours)?.remove(0).1, &theirs);
            assert!(distance < 1e-5, "{checkpoint} in {kind:?}: {distance:.1e}");
            worst = worst.max(distance);
        }
        // Weight decay moves what has no gradient, and must not move what is frozen.
        let model = common::speaking(checkpoint);
        for (frozen, rate) in [(0, 1e-2), (2, 1e-2), (2, 1e-30)] {
            let config = Cartridge::of(&text).frozen(frozen);
            let start = parameters(&Adapter::new(&model, config.clone(), 0)?)?.remove(0).1;
            let training = Training::new(config, Sft::gold()).optimizer(Optimizer::adamw(0.5)).learning_rate(rate).epochs(3);
            let trained = training.run(&model, &split_of_words()?)?;
            let end = parameters(trained.adapter())?.remove(0).1;
            for token in 0..text.len() {
                let stays = token < frozen || rate < 1e-20;
                assert_eq!(start.get(token as i64) == end.get(token as i64), stays, "{checkpoint}: token {token}, {frozen} frozen");
            }
        }
        refused(Adapter::new(&model, Cartridge::of(&text).frozen(10), 0), &["10 of 9", "freeze fewer"]);
        refused(Adapter::new(&model, Cartridge::new(), 0), &["no text", "shown(&model, &split)"]);
        refused(Adapter::new(&model, opened_config(&place, &model)?, 0), &["no text"]);
        let all = Training::new(Cartridge::of(&text[..1]), Sft::gold()).run(&model, &split_of_words()?);
        refused(all, &["nothing to train"]);
    }
    common::agrees("a cartridge before training, f32 and f64", worst);
    Ok(())
}

fn opened_config(place: &Path, model: &Model) -> Result<AdapterConfig> {
    Ok(Adapter::open(place, model)?.config().clone())
}

#[test]
fn an_untrained_cartridge_of_all_demonstrations_is_icl() -> Result<()> {
    let model = Model::open("tiny-icl")?;
    for task in ["sentiment", "answer"] {
        let split = Task::open(task)?.test_at_most(12)?.few_shot(8, 1)?;
        let config = Cartridge::new().shown(&model, &split)?;
        let prompts = split.test.with_demonstrations(&split.train, split.run)?;
        let prefix = model.tokenizer()?.encode(&prompts.get(0).unwrap().prefix())?;
        let adapted = model.with(&Adapter::new(&model, config.clone(), 0)?)?;
        let (icl, alone) = (model.encode(&prompts)?, model.encode(&split.test.zero_shot()?)?);
        let bos = model.tokenizer()?.bos().unwrap();
        for (whole, query) in icl.into_iter().zip(alone) {
            // In ICL the text begins once.
            let query = query.strip_prefix(&[bos]).unwrap().to_vec();
            assert_eq!(whole, [&prefix[..], &query[..]].concat());
            let theirs = model.forward(std::slice::from_ref(&whole))?.values.narrow(1, prefix.len() as i64, query.len() as i64);
            let distance = apart(&adapted.forward(&[query])?.values, &theirs);
            assert!(distance < 1e-5, "{task}: {distance:.1e}");
        }
        // The most that the context leaves room for is less, here.
        let all = Cartridge::new().at_most(usize::MAX).shown(&model, &split)?;
        assert_eq!(all, config);
        assert_eq!(AdapterConfig::from(config.at_most(20)).name(), "cartridge V=20");
    }
    Ok(())
}

#[test]
fn a_cartridge_trained_toward_icl_comes_nearer() -> Result<()> {
    let model = Model::open("tiny-icl")?;
    let split = Task::open("sentiment")?.test_at_most(4)?.few_shot(8, 0)?;
    let targets = Targets::of(&model, &split).without_activations().distributions(Keep::All).collect()?;
    let training = |config: Cartridge| Training::new(config, targets.soft_sft().unwrap()).learning_rate(3e-2).epochs(8).check_every(1);
    let trained = training(Cartridge::new().at_most(24)).run(&model, &split)?;
    assert_eq!(trained.adapter().config().name(), "cartridge V=24");
    let history = trained.history()?;
    let dev = history.column("dev_loss")?.f64()?.get(0).unwrap();
    assert!(dev > 0.5 && trained.dev_loss().unwrap() < 0.5 * dev, "{:?} of {dev}", trained.dev_loss());
    // All demonstrations are as good as ICL before training, though a second special token stands before the query.
    let whole = training(Cartridge::new()).learning_rate(1e-30).epochs(1).run(&model, &split)?;
    assert!(whole.dev_loss().unwrap() < 2e-3, "{:?}", whole.dev_loss());
    // The next phase, and a repetition, take the cartridge as it is.
    let next = Training::resume(&trained, Sft::gold())?.epochs(1).run(&model, &split)?;
    assert_eq!(next.adapter().config(), trained.adapter().config());
    let again = Training::repeat(trained.manifest(), targets.soft_sft()?).run(&model, &split)?;
    assert_eq!(parameters(again.adapter())?, parameters(trained.adapter())?);
    // After a round trip through PEFT's files it is no longer known of which text.
    let folder = tempfile::tempdir().unwrap();
    trained.save(folder.path())?;
    let opened = Adapter::open(folder.path(), &model)?;
    Training::from_adapter(&opened, targets.soft_sft()?)?.epochs(1).run(&model, &split)?;
    Training::new(Cartridge::new().at_most(24), Sft::gold()).start_from(&opened)?.epochs(1).run(&model, &split)?;
    refused(Training::new(Cartridge::new().at_most(23), Sft::gold()).start_from(&opened)?.run(&model, &split), &["cannot go on from"]);
    Ok(())
}
