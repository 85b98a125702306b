//! Every way to put examples into a model, on every family.

use ia2::dataset::Card;
use ia2::prompt::AnswerForm;
use ia2::vector::{Edit, VectorKind};

use super::common::with_words;
use super::*;

/// Labels of one token, after queries of different lengths.
fn split() -> Split {
    let row = |row: usize| {
        let words = (0..2 + row % 3).map(|word| format!(" t{}", 10 + (row * 7 + word * 11) % 50)).collect::<String>();
        Example::new(format!("Text:{words}\nt9 "), ["t3", "t4"][row * 5 % 7 % 2])
    };
    let examples = Examples::new("words", AnswerForm::labels(["t3", "t4"]).unwrap(), (0..12).map(row).collect()).unwrap();
    Task::of(examples, Card::default()).few_shot(4, 0).unwrap()
}

#[test]
fn every_method_works_on_every_family() {
    each(CASES.clone(), |case| {
        let folder = with_words(&format!("families/{}", case.0));
        let model = OpenOptions::new().device(Device::Cpu).kind(Kind::Float).open(folder.path())?;
        let split = split();
        let (plain, shown) = (split.test.zero_shot()?, split.test.with_demonstrations(&split.train, 0)?);
        let probabilities = |frame: &DataFrame| -> Result<Vec<f64>> {
            let of = |name: &str| Ok::<_, PolarsError>(frame.column(name)?.f64()?.into_no_null_iter().collect::<Vec<_>>());
            Ok(of("p_t3")?.into_iter().zip(of("p_t4")?).map(|(one, other)| one / (one + other)).collect())
        };
        // A vector is what a hook puts in by hand.
        let first = model.encode(&plain.take(1))?;
        let last = first[0].len() as i64 - 1;
        for kind in VectorKind::ALL {
            let vector = kind.find(&model, &split)?;
            let mut hooks = Hooks::new();
            hooks.edit(&format!("model.layers.{}", vector.layer()), |_, value| {
                let changed = value.copy();
                let mut stream = changed.get(0).get(last);
                match vector.edit() {
                    Edit::Replace => stream.copy_(vector.values()),
                    Edit::Add => drop(stream.g_add_(&(vector.values() * vector.strength()))),
                }
                Ok(Some(changed))
            });
            let by_hand = model.forward_with(&first, &mut hooks)?.values.get(0).get(last);
            drop(hooks);
            let ours = model.with(&vector)?.forward(&first)?.values.get(0).get(last);
            assert!(deviation(&ours, &by_hand) < TOLERANCE, "{}: {}", case.0, kind.name());
            assert!(deviation(&ours, &model.forward(&first)?.values.get(0).get(last)) > 1e-4, "{}: {} does nothing", case.0, kind.name());
        }
        // Calibration divides what ICL says.
        let icl = evaluate(&model, &shown)?;
        let batch = probabilities(&batch_calibrated(&icl)?)?;
        let mean = probabilities(&icl)?.iter().sum::<f64>() / batch.len() as f64;
        for (calibrated, said) in batch.iter().zip(probabilities(&icl)?) {
            let (one, other) = (said / mean, (1.0 - said) / (1.0 - mean));
            assert!((calibrated - one / (one + other)).abs() < 1e-6, "{}: batch calibration", case.0);
        }
        assert!(probabilities(&contextual(&model, &shown)?)? != probabilities(&icl)?, "{}: contextual calibration", case.0);
        // What trains comes nearer to what it is trained to.
        let targets = Targets::of(&model, &split).distributions(Keep::All).collect()?;
        let trainings = [
            ("SFT", Training::new(Lora::rank(4), Sft::gold())),
            ("soft labels", Training::new(Lora::rank(4), targets.soft_sft()?)),
            ("self-distillation", Training::new(Lora::rank(4), targets.self_distillation()?)),
            ("IA2", Training::new(Lora::rank(4), targets.ia2()?)),
            ("IA2 + SFT", Training::new(Lora::rank(4), targets.ia2_sft(0.5)?)),
        ];
        for (name, training) in trainings {
            let trained = training.learning_rate(3e-2).epochs(6).patience(50).run(&model, &split)?;
            let losses: Vec<f64> = trained.history()?.column("train_loss")?.f64()?.into_no_null_iter().collect();
            let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
            assert!(least < 0.97 * losses[0], "{}: {name}: {losses:?}", case.0);
        }
        // A cartridge has as many numbers as the demonstrations have keys and values; before texts that turn all positions anew there is none.
        let trained = Training::new(Cartridge::new(), targets.soft_sft()?).learning_rate(1e-2).epochs(2).run(&model, &split);
        if ["llama_dynamic", "phi3_longrope"].contains(&case.0.as_str()) {
            common::refused(trained, &["beyond the context of its pre-training"]);
            return Ok(());
        }
        let trained = trained?;
        assert_eq!(trained.adapter().count(), Adapter::new(&model, Cartridge::new().shown(&model, &split)?, 0)?.count(), "{}", case.0);
        assert!(trained.dev_loss().is_some_and(f64::is_finite), "{}: cartridge", case.0);
        Ok(())
    });
}
