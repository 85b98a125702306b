//! Runs that stop, go on, and are repeated.

use super::*;

/// Halves values at random, as dropout does; drawn from libtorch's generator.
fn noise(hooks: &mut Hooks<'_>) {
    hooks.edit("model.layers.0.self_attn", |_, value| Ok(Some(value.dropout(0.5, true))));
}

#[test]
fn every_kind_of_run_goes_on_to_the_same_bits() -> Result<()> {
    let _alone = GENERATOR.lock();
    let model = model(CHECKPOINTS[1], Kind::Float)?;
    let new = || Training::new(Lora::rank(4), Noted::new(ten())).batch(3).epochs(5).seed(3).check_every(3).patience(99);
    let runs: [(&str, &dyn Fn() -> Training); 5] = [
        ("accumulate", &|| new().batch(2).accumulate(2)),
        ("by length", &|| new().by_length(true)),
        ("schedule", &|| new().schedule(Schedule::Cosine).warm_up(4).optimizer(Optimizer::adamw(0.1)).clip(0.3)),
        ("paper", &|| new().compat(Compat::Paper)),
        ("forwards", &|| new().tokens_per_forward(20)),
    ];
    for (name, run) in runs {
        for noisy in [false, true] {
            let go = |training: Training| -> Result<Trained> {
                let mut hooks = Hooks::new();
                if noisy {
                    noise(&mut hooks);
                }
                training.run_with(&model, &some_split()?, &mut hooks)
            };
            let whole = go(run())?;
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("run.safetensors");
            for steps in [0, 1, 4, 7, 8] {
                // What a notebook draws in between must not matter.
                let _ = Tensor::randn([steps as i64 + 1], (Kind::Float, Device::Cpu));
                let part = go(run().checkpoint(&file).at_most_steps(steps))?;
                assert_eq!((part.steps(), part.stopped()), (steps, Stopped::Budget), "{name}");
            }
            let rest = go(run().checkpoint(&file))?;
            assert_eq!((rest.steps(), rest.stopped()), (whole.steps(), whole.stopped()), "{name}");
            assert_eq!(weights(&rest)?, weights(&whole)?, "{name}, noise {noisy}");
            for column in ["train_loss", "dev_loss", "gradient_norm", "adapter_norm", "learning_rate"] {
                assert_eq!(floats(&rest, column)?, floats(&whole, column)?, "{name}, noise {noisy}, {column}");
            }
            // A finished run that is opened again takes no step; its hooks, if there are any, have nothing to answer for.
            assert_eq!(weights(&go(run().checkpoint(&file))?)?, weights(&whole)?);
        }
    }
    Ok(())
}

#[test]
fn a_stop_file_and_a_time_budget_end_a_run_with_what_it_has() -> Result<()> {
    let model = model(CHECKPOINTS[0], Kind::Float)?;
    let folder = tempfile::tempdir().unwrap();
    let (file, stop) = (folder.path().join("run.safetensors"), folder.path().join("stop"));
    let training = || Training::new(Lora::rank(4), Noted::new(ten())).batch(3).epochs(5).check_every(3).patience(99);
    let whole = training().run(&model, &some_split()?)?;

    let objective = Noted { stop: Some(stop.clone()), ..Noted::new(ten()) };
    let stopping = Training::repeat(whole.manifest(), objective).checkpoint(&file).stop_file(&stop);
    let stopped = stopping.run(&model, &some_split()?)?;
    assert_eq!(stopped.stopped(), Stopped::StopFile);
    assert!(stopped.steps() > 0 && stopped.steps() < whole.steps() && stop.exists());
    let steps = stopped.steps();
    // It is still there: no step is taken.
    assert_eq!(training().checkpoint(&file).stop_file(&stop).run(&model, &some_split()?)?.steps(), steps);
    std::fs::remove_file(&stop).unwrap();

    let timed = training().checkpoint(&file).at_most(Duration::ZERO).run(&model, &some_split()?)?;
    assert_eq!((timed.steps(), timed.stopped()), (steps, Stopped::Budget));
    let mut calls = 0;
    while !training().checkpoint(&file).at_most(Duration::from_micros(1)).run(&model, &some_split()?)?.stopped().eq(&Stopped::Epochs) {
        calls += 1;
        assert!(calls < 100, "a budget of time takes one step at least, or the run would never end");
        training().checkpoint(&file).at_most_steps(steps + calls).run(&model, &some_split()?)?;
    }
    assert_eq!(weights(&training().checkpoint(&file).run(&model, &some_split()?)?)?, weights(&whole)?);
    Ok(())
}

#[test]
fn phases_are_one_history() -> Result<()> {
    let (model, split) = (speaking(CHECKPOINTS[1]), some_split()?);
    let responses = model.respond(&split.target_prompts(256)?)?;
    let target = capture(&model, &responses, "model.layers.*.self_attn")?;
    let first = Training::new(Lora::rank(4), Ia2::toward(&target)).epochs(4).run(&model, &split)?;
    let second = Training::resume(&first, Sft::gold())?.epochs(3).run(&model, &split)?;
    let third = Training::resume(&second, Ia2::toward(&target))?.epochs(2).run(&model, &split)?;
    let history = third.history()?;
    let phases: Vec<u64> = history.column("phase")?.u64()?.into_no_null_iter().collect();
    assert!(phases.is_sorted() && phases[0] == 1 && phases[phases.len() - 1] == 3);
    assert_eq!(phases.len(), history.height());
    let names: Vec<&str> = history.column("objective")?.str()?.iter().flatten().collect();
    let name = |phase: u64| names[phases.iter().position(|&p| p == phase).unwrap()];
    assert_eq!([name(1), name(2), name(3)], ["IA2", "SFT", "IA2"]);
    // The first loss of a phase is that of the best weights of the one before; its own best is its own.
    assert_eq!(
        third.dev_loss(),
        floats(&third, "dev_loss")?[phases.iter().position(|&p| p == 3).unwrap()..].iter().copied().reduce(f64::min)
    );
    let shown = third.bundle().plain;
    assert!(shown.starts_with("Trained(IA2 → SFT → IA2: LoRA r=4"), "{shown}");
    assert!(shown.contains("phase"), "{shown}");
    assert_eq!(third.manifest().earlier().len(), 2);

    // Phases go on after an interruption, too.
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("1"), folder.path().join("2"));
    let mut last = None;
    for steps in [1, 2, 99] {
        let primed = Training::new(Lora::rank(4), Ia2::toward(&target)).epochs(4).checkpoint(&one).run(&model, &split)?;
        last = Some(Training::resume(&primed, Sft::gold())?.epochs(3).checkpoint(&two).at_most_steps(steps).run(&model, &split)?);
    }
    let last = last.unwrap();
    assert_eq!(weights(&last)?, weights(&second)?);
    assert_eq!(floats(&last, "dev_loss")?, floats(&second, "dev_loss")?);
    Ok(())
}

#[test]
fn a_kept_optimiser_goes_on_as_if_there_were_no_phases() -> Result<()> {
    let model = model(CHECKPOINTS[0], Kind::Float)?;
    // One batch of all: every epoch is the same step. The last weights, so that the phases join.
    let training = |epochs| Training::new(Lora::rank(4), Noted::new(ten())).batch(10).epochs(epochs).patience(99).compat(Compat::Paper);
    let whole = weights(&training(6).run(&model, &some_split()?)?)?;
    let half = training(3).run(&model, &some_split()?)?;
    let kept = Training::resume(&half, Noted::new(ten()))?.keep_optimizer().run(&model, &some_split()?)?;
    let fresh = Training::resume(&half, Noted::new(ten()))?.run(&model, &some_split()?)?;
    assert_eq!(weights(&kept)?, whole);
    assert_ne!(weights(&fresh)?, whole);
    Ok(())
}

#[test]
fn a_manifest_repeats_its_run_to_the_same_bits() -> Result<()> {
    let folders = CHECKPOINTS.map(with_words);
    let (model, split) = (Model::open(folders[1].path())?, some_split()?);
    let responses = model.respond(&split.target_prompts(256)?)?;
    let target = capture(&model, &responses, "model.layers.*.self_attn")?;
    // Numbers with all their digits.
    let training = Training::new(Lora::rank(4), Ia2::toward(&target)).learning_rate(1e-2 / 3.0).schedule(Schedule::Cosine).warm_up(1);
    let training = training.optimizer(Optimizer::adamw(0.1 / 7.0)).clip(1.0 / 3.0).batch(2).accumulate(2).by_length(true).seed(5).epochs(4);
    let primed = training.run(&model, &split)?;
    let tuned = Training::resume(&primed, Sft::gold())?.epochs(2).keep_optimizer().run(&model, &split)?;

    let folder = tempfile::tempdir().unwrap();
    tuned.save(folder.path().join("run"))?;
    let names: Vec<String> =
        listing(&folder.path().join("run")).iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap().into()).collect();
    assert_eq!(names, ["adapter_config.json", "adapter_model.safetensors", "ia2_history.csv", "ia2_manifest.json"]);
    assert!(Adapter::open(folder.path().join("run"), &model).is_ok());
    let csv = std::fs::read_to_string(folder.path().join("run/ia2_history.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + tuned.history()?.height());
    assert!(csv.starts_with("phase,objective,step,epoch,train_loss,dev_loss,learning_rate,"), "{csv}");

    let manifest = Manifest::open(folder.path().join("run/ia2_manifest.json"))?;
    assert_eq!(&manifest, tuned.manifest());
    let [first] = manifest.earlier() else { panic!("one phase before") };
    let again = Training::repeat(first, Ia2::toward(&target)).run(&model, &split)?;
    assert_eq!(weights(&again)?, weights(&primed)?);
    let both = Training::repeat(&manifest, Sft::gold()).after(&again)?.run(&model, &split)?;
    assert_eq!(weights(&both)?, weights(&tuned)?);
    assert_eq!(floats(&both, "dev_loss")?, floats(&tuned, "dev_loss")?);

    // A run that was ended early, too.
    let short = Training::new(Lora::rank(4), Sft::gold()).batch(2).at_most_steps(3).run(&model, &split)?;
    let again = Training::repeat(short.manifest(), Sft::gold()).run(&model, &split)?;
    assert_eq!((again.steps(), weights(&again)?), (3, weights(&short)?));

    // Refused, and said why: other data, other targets, another model, another start, other settings.
    let repeat = || Training::repeat(first, Ia2::toward(&target));
    let other = Activations::new(target.values()? * 1.5, target.hook_points().to_vec(), target.responses().clone())?;
    refused(Training::repeat(first, Ia2::toward(&other)).run(&model, &split), &["the objective's data"]);
    refused(Training::repeat(first, Sft::gold()).run(&model, &split), &["the objective (IA2 then, SFT now)"]);
    refused(repeat().learning_rate(0.5).run(&model, &split), &["the settings"]);
    refused(repeat().run(&Model::open(folders[0].path())?, &split), &["the model's configuration", "the model's weights"]);
    let double = OpenOptions::new().kind(Kind::Double).open(folders[1].path())?;
    refused(repeat().run(&double, &split), &["the model's kind (Float then, Double now)"]);
    refused(Training::repeat(&manifest, Sft::gold()).run(&model, &split), &["came after 1 others", "after"]);
    refused(Training::repeat(&manifest, Sft::gold()).after(&tuned)?.run(&model, &split), &["comes after 2"]);
    let stranger = Training::new(Lora::rank(4), Ia2::toward(&target)).epochs(1).run(&model, &split)?;
    refused(Training::repeat(&manifest, Sft::gold()).after(&stranger)?.run(&model, &split), &["the adapter it goes on from"]);
    let mut swapped = split.clone();
    (swapped.train, swapped.dev) = (split.test.take(6), split.dev.clone());
    let gold = Training::new(Lora::rank(4), Sft::gold()).epochs(1).run(&model, &split)?;
    refused(Training::repeat(gold.manifest(), Sft::gold()).run(&model, &swapped), &["the samples"]);
    refused(Training::new(Lora::rank(2), Sft::gold()).after(&gold)?.run(&model, &split), &["r=2", "r=4"]);

    let path = folder.path().join("broken.json");
    let text = manifest.json()?;
    let (one, other) = ("\"seed\": 5", "\"seed\": 6");
    assert!(text.contains(one));
    for (broken, word) in
        [("{}", "not a manifest"), (&text.replacen(one, other, 1), "changed or damaged"), (&text[..900], "not a manifest")]
    {
        std::fs::write(&path, broken).unwrap();
        refused(Manifest::open(&path), &["broken.json", word]);
    }
    std::fs::write(&path, text.replacen("\"format\": 2", "\"format\": 1", 1)).unwrap();
    refused(Manifest::open(&path), &["format 1", "reads 2"]);
    refused(Manifest::open(Path::new("/nowhere/at/all.json")), &["/nowhere/at/all.json"]);
    Ok(())
}

#[test]
fn a_run_goes_on_from_an_adapter_that_was_saved_and_opened() -> Result<()> {
    let (model, split) = (speaking(CHECKPOINTS[1]), some_split()?);
    let configs: [AdapterConfig; 5] = [
        Lora::rank(4).into(),
        Lora::rank(4).dropout(0.25).rank_stabilised().rank_at("o_proj", 2).alpha_at("model.layers.0.*.q_proj", 3.0).layers([0, 2]).into(),
        Ia3::new().compat(Compat::Paper).into(),
        PromptTuning::tokens(2).start(Start::Random).into(),
        PrefixTuning::tokens(2).start(Start::Random).into(),
    ];
    let folder = tempfile::tempdir().unwrap();
    for config in configs {
        let first = Training::new(config.clone(), Sft::gold()).epochs(1).run(&model, &split)?;
        let next = Training::from_adapter(first.adapter(), Sft::gold())?.epochs(1).run(&model, &split)?;
        first.save(folder.path())?;
        let opened = Adapter::open(folder.path(), &model)?;
        let again = Training::repeat(next.manifest(), Sft::gold()).start_from(&opened)?.run(&model, &split)?;
        assert_eq!(weights(&again)?, weights(&next)?, "{}", config.name());
        assert_eq!(again.adapter().config(), &config);
        let elsewhere = Model::open(with_words(CHECKPOINTS[0]).path())?;
        refused(Training::from_adapter(&opened, Sft::gold())?.run(&elsewhere, &split), &["does not fit"]);
    }
    let broken = Adapter::new(&model, Lora::rank(4), 0)?;
    let _ = broken.update("model.layers.0.self_attn.q_proj")?.unwrap().b.fill_(f64::NAN);
    refused(Training::from_adapter(&broken, Sft::gold())?.run(&model, &split), &["loss is NaN after 0 steps"]);
    // Fresh updates are zero at any scale.
    let fresh = Adapter::new(&model, Lora::rank(4), 0)?;
    for (other, word) in
        [(Lora::rank(4).alpha(16.0), "alpha=16"), (Lora::rank(4).sites("q_proj"), "on q_proj"), (Lora::rank(4).rank_stabilised(), "rs")]
    {
        refused(Training::new(other, Sft::gold()).start_from(&fresh)?.run(&model, &split), &["cannot go on from", word]);
    }
    Ok(())
}
