//! A run of a grid is what its parts give by hand.

use super::*;

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
fn self_distillation_is_compared_as_the_grid_says() -> Result<()> {
    let (model, folder) = (model(), tempfile::tempdir().unwrap());
    let grid = || small_of(&model, "answer").methods(&[Method::SelfDistillation]).folder(folder.path());
    let usual = grid().run()?.frame()?;
    let other = || grid().self_distillation(Divergence::ForwardKl, Teacher::Average(0.25), Some(20));
    // Another way is another run; the default said in words is the default.
    assert_eq!((other().plan()?.missing(), grid().self_distillation(Divergence::ReverseKl, Teacher::Base, None).plan()?.missing()), (1, 0));
    let study = other().run()?;
    let frame = study.frame()?;
    assert_ne!(texts(&frame, "key"), texts(&usual, "key"));
    let split = Task::open("answer")?.test_at_most(24)?.few_shot(4, 0)?;
    let objective = Targets::of(&model, &split).collect()?.self_distillation()?;
    let objective = objective.divergence(Divergence::ForwardKl).teacher(Teacher::Average(0.25)).top(20);
    let trained = Training::new(Lora::rank(8), objective).learning_rate(3e-3).epochs(2).run(&model, &split)?;
    assert!((numbers(&frame, "dev_loss")[0].unwrap() - trained.dev_loss().unwrap()).abs() < 1e-6);
    assert!((numbers(&usual, "dev_loss")[0].unwrap() - trained.dev_loss().unwrap()).abs() > 1e-4);
    assert_eq!(numbers(&frame, "training_tokens")[0], Some(trained.tokens() as f64));
    let said = "self-distillation by forward KL, averaged teacher 0.25, top 20";
    told(&study.bundle().plain, &[said]);
    told(&texts(&other().protocol()?, "value").join("; "), &[said]);
    // What no teacher can be fails as a run, with its reason.
    let failed = grid().self_distillation(Divergence::ForwardKl, Teacher::Average(2.0), None).run()?.frame()?;
    assert!(texts(&failed, "failed")[0].contains("above 0 and at most 1"), "{:?}", texts(&failed, "failed"));
    // On a cluster, too.
    let prepared = tempfile::tempdir().unwrap();
    common::grid::prepared(&other(), prepared.path(), env!("CARGO_BIN_EXE_ia2-worker"))?;
    assert_eq!(texts(&Experiment::open(prepared.path())?.finish()?.frame()?, "key"), texts(&frame, "key"));
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
fn a_method_with_an_adapter_of_its_own_is_compared_with_those_of_the_grid() -> Result<()> {
    let study = small(&model()).methods(&[Method::Sft, Method::Cartridge]).sizes(&[4]).runs(2).run()?;
    let evidence = study.evidence()?;
    assert!(texts(evidence.effects(), "method").iter().all(|method| method == "cartridge"), "{}", evidence.effects());
    assert_eq!(numbers(evidence.effects(), "unpaired")[0], Some(0.0));
    let tests = study.significance_of(&[(Method::Sft, Method::Cartridge)], &["accuracy"])?;
    assert_eq!((numbers(&tests, "unpaired")[0], numbers(&tests, "pairs")[0]), (Some(0.0), Some(2.0)));
    Ok(())
}
