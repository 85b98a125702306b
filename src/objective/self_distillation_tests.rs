//! On-policy self-distillation: its losses and gradients against PyTorch (`tests/golden/families/*/steps/self_distillation.safetensors`), its
//! samples against the distribution that they are drawn from, and runs with it.

use tch::{Device, Kind, Tensor};

use super::parity_tests::{GRADIENT_IN_F32, Golden, TOLERANCE, apart, folder, open, responses_to, samples};
use super::*;
use crate::adapter::{Adapter, Lora};
use crate::dataset::Task;
use crate::file;
use crate::model::Responses;
use crate::nn::{DropoutDraws, Hooks};
use crate::train::{Stopped, Trained, Training};

const FAMILIES: [&str; 3] = ["gemma3_text", "gpt2", "gpt_neox"];
const CASES: [&str; 7] = ["reverse", "forward", "js", "reverse_top", "forward_top", "js_top", "live"];

fn golden(family: &str) -> Golden {
    Tensor::read_safetensors(folder(&format!("families/{family}/steps/self_distillation.safetensors"))).unwrap().into_iter().collect()
}

/// The samples after their contexts, as the teacher reads them.
fn in_context(golden: &Golden, samples: &[Sample]) -> Responses {
    let contexts: Vec<Vec<i64>> = (&golden["contexts"]).try_into().unwrap();
    let lengths = Vec::<i64>::try_from(&golden["context_lengths"]).unwrap();
    let seen = |((sample, context), length): ((&Sample, Vec<i64>), i64)| {
        let context = context[..length as usize].iter().map(|&id| id as u32);
        Sample { prompt: context.chain(sample.prompt.iter().copied()).collect(), response: sample.response.clone() }
    };
    responses_to(&samples.iter().zip(contexts).zip(lengths).map(seen).collect::<Vec<_>>())
}

fn objective(case: &str, golden: &Golden, responses: &Responses) -> SelfDistillation {
    let objective = SelfDistillation::on(responses);
    let objective = match case.split('_').next().unwrap() {
        "forward" => objective.divergence(Divergence::ForwardKl),
        "js" => objective.divergence(Divergence::JensenShannon),
        "live" => objective.teacher(Teacher::Live),
        _ => objective,
    };
    if case.ends_with("_top") { objective.top(golden["top"].int64_value(&[]) as usize) } else { objective }
}

/// `[example]` on given samples.
fn losses(objective: &SelfDistillation, student: &Model, average: Option<&Model>, samples: &[Sample]) -> Result<Tensor> {
    let (rows, examples): (Vec<&Sample>, Vec<usize>) = (samples.iter().collect(), (0..samples.len()).collect());
    let mut outputs = Outputs::of(student, &rows, objective, (false, Some(DropoutDraws::new(0))), &mut Hooks::new())?;
    outputs.teacher = {
        let _constant = tch::no_grad_guard();
        objective.teach(&examples, &rows, student, average)?
    };
    Ok(objective.losses(&examples, &outputs)?.remove(0))
}

#[test]
fn losses_and_gradients_are_pytorchs_on_three_families() -> Result<()> {
    let mut worst = [0f64; 2];
    for family in FAMILIES {
        let golden = golden(family);
        let samples = samples(&golden);
        let responses = in_context(&golden, &samples);
        let cases: std::collections::HashSet<&str> = golden.keys().filter_map(|key| key.strip_suffix(".example_losses")).collect();
        assert_eq!(cases, CASES.into_iter().collect(), "a case of the golden file is not tested");
        for (kind, tolerance) in [(Kind::Double, TOLERANCE), (Kind::Float, 2.5 * GRADIENT_IN_F32)] {
            let model = open(&format!("families/{family}"), kind, Device::Cpu);
            let adapter = Adapter::open(folder(&format!("families/{family}/steps/adapter")), &model)?;
            let student = model.with(&adapter)?;
            for case in CASES {
                let losses = losses(&objective(case, &golden, &responses), &student, None, &samples)?;
                let distance = apart(&losses, &golden[&format!("{case}.example_losses")]);
                assert!(distance < TOLERANCE, "{family} {case} losses in {kind:?}: {distance:.1e}");
                worst[0] = worst[0].max(distance);
                let flat = adapter.parameters().gradient(&losses.mean(None))?;
                let mut start = 0;
                for (name, parameter) in adapter.parameters().entries() {
                    let count = parameter.numel() as i64;
                    let ours = flat.narrow(0, start, count).view(parameter.size().as_slice());
                    start += count;
                    let distance = apart(&ours, &golden[&format!("{case}.gradient.{}", adapter.key(name))]);
                    assert!(distance < tolerance, "{family} {case} gradient of {name} in {kind:?}: {distance:.1e}");
                    if kind == Kind::Double {
                        worst[1] = worst[1].max(distance);
                    }
                }
            }
        }
    }
    crate::agrees("losses of self-distillation, f32 and f64", worst[0]);
    crate::agrees("its gradients, f64", worst[1]);
    Ok(())
}

#[test]
fn the_averaged_student_teaches_where_it_is_asked() -> Result<()> {
    let golden = golden("gpt2");
    let samples = samples(&golden);
    let model = open("families/gpt2", Kind::Double, Device::Cpu);
    let student = model.with(&Adapter::open(folder("families/gpt2/steps/adapter"), &model)?)?;
    let responses = in_context(&golden, &samples);
    let by =
        |teacher: Teacher, average: Option<&Model>| losses(&SelfDistillation::on(&responses).teacher(teacher), &student, average, &samples);
    // An average that is the base or the student teaches as they do.
    assert!(apart(&by(Teacher::Average(0.5), Some(&model))?, &by(Teacher::Base, None)?) < 1e-12);
    assert_eq!(by(Teacher::Average(0.5), Some(&student))?, by(Teacher::Live, Some(&model))?);
    assert_ne!(by(Teacher::Base, None)?, by(Teacher::Live, None)?);
    assert!(by(Teacher::Average(0.5), None).is_err());
    // The contexts of a teacher that never changes are read once and kept; a copy begins with none.
    for (teacher, kept) in [(Teacher::Base, 3), (Teacher::Live, 0)] {
        let objective = SelfDistillation::on(&responses).teacher(teacher);
        let first = losses(&objective, &student, None, &samples)?;
        assert_eq!(losses(&objective, &student, None, &samples)?, first);
        assert!(format!("{objective:?}").contains(&format!("contexts: {kept} read")), "{objective:?}");
        assert!(format!("{:?}", objective.clone()).contains("contexts: 0 read"));
    }
    Ok(())
}

/// How far `draws` are from `probabilities`, as chi-square with cells of an expected count under 5 taken together, and the degrees of freedom.
fn chi_square(draws: &[u32], probabilities: &[f64]) -> (f64, f64) {
    let total = draws.len() as f64;
    let count = |id: usize| draws.iter().filter(|&&drawn| drawn as usize == id).count() as f64;
    let (mut cells, mut rest): (Vec<(f64, f64)>, (f64, f64)) = (Vec::new(), (0.0, 0.0));
    for (id, probability) in probabilities.iter().enumerate() {
        match probability * total {
            expected if expected >= 5.0 => cells.push((count(id), expected)),
            expected => rest = (rest.0 + count(id), rest.1 + expected),
        }
    }
    cells.push(rest);
    (cells.iter().map(|(seen, expected)| (seen - expected).powi(2) / expected).sum(), cells.len() as f64 - 1.0)
}

#[test]
fn samples_have_the_students_distribution_at_every_token() -> Result<()> {
    const DRAWS: usize = 4000;
    let model = open("families/gpt2", Kind::Double, Device::Cpu);
    let student = model.with(&Adapter::open(folder("families/gpt2/steps/adapter"), &model)?)?;
    let prompt = vec![1, 30, 7, 55];
    let given: Vec<Sample> = (0..DRAWS).map(|_| Sample { prompt: prompt.clone(), response: vec![9] }).collect();
    let responses = responses_to(&given);
    let (given, examples): (Vec<&Sample>, Vec<usize>) = (given.iter().collect(), (0..DRAWS).collect());
    // Three tokens of a vocabulary of 128, most of whose mass lies on few.
    let drawn = |temperature: f64, seed: u64| -> Result<Vec<Sample>> {
        let objective = SelfDistillation::on(&responses).temperature(temperature).max_new_tokens(3);
        Ok(objective.draw(&examples, &given, &student, seed)?.unwrap())
    };
    let after = |text: &[u32], temperature: f64| -> Result<Vec<f64>> {
        let logits = student.forward(&[text.to_vec()])?.values.select(1, text.len() as i64 - 1).squeeze_dim(0);
        Ok(Vec::try_from((logits / temperature).softmax(-1, Kind::Double))?)
    };
    for temperature in [1.0, 0.6] {
        let samples = drawn(temperature, 7)?;
        assert!(samples.iter().all(|sample| sample.prompt == prompt && (1..=3).contains(&sample.response.len())));
        let first: Vec<u32> = samples.iter().map(|sample| sample.response[0]).collect();
        let (statistic, freedom) = chi_square(&first, &after(&prompt, temperature)?);
        // Mean and standard deviation of chi-square are its degrees of freedom and the root of twice as many.
        let bound = |freedom: f64| freedom + 4.0 * (2.0 * freedom).sqrt();
        assert!(freedom > 10.0 && statistic < bound(freedom), "first token at {temperature}: {statistic:.1} of {freedom}");
        // Those of another temperature are told apart.
        let (statistic, freedom) = chi_square(&first, &after(&prompt, temperature * 1.25)?);
        assert!(statistic > bound(freedom), "{temperature} passes for {}: {statistic:.1} of {freedom}", temperature * 1.25);
        // After the likeliest first token the second is drawn as it follows there.
        let likeliest = (0..128).max_by_key(|id| first.iter().filter(|drawn| *drawn == id).count()).unwrap();
        let follow: Vec<u32> = samples.iter().filter(|s| s.response[0] == likeliest).filter_map(|s| s.response.get(1)).copied().collect();
        let (statistic, freedom) = chi_square(&follow, &after(&[&prompt[..], &[likeliest]].concat(), temperature)?);
        assert!(freedom > 3.0 && statistic < bound(freedom), "second token at {temperature}: {statistic:.1} of {freedom}");
    }
    // The seed decides.
    assert_eq!(drawn(1.0, 7)?, drawn(1.0, 7)?);
    assert_ne!(drawn(1.0, 7)?, drawn(1.0, 8)?);
    Ok(())
}

#[test]
fn all_tokens_that_a_run_reads_are_counted() -> Result<()> {
    let (model, split, targets) = task()?;
    let context: Vec<u64> = targets.responses().rows().iter().map(|row| row.tokens.prompt.len() as u64).collect();
    // One number of tokens of every sample, so that all can be counted by hand: 2 dev rows, 4 to learn from.
    let query = |place: usize| -> Result<u64> {
        let rows = [split.train.rows(), split.dev.rows()].concat();
        Ok(model.tokenizer()?.encode(&rows[place].query)?.len() as u64)
    };
    let read = (0..6).map(query).collect::<Result<Vec<_>>>()?;
    let one = |teacher: Teacher| -> Result<u64> {
        let objective = targets.self_distillation()?.teacher(teacher).max_new_tokens(1);
        let training = Training::new(Lora::rank(2), objective).batch(2).epochs(2).check_every(1).learning_rate(1e-2).patience(50);
        Ok(training.run(&model, &split)?.tokens())
    };
    // Two epochs of four examples, and four checks of two: each sample is read to draw it and to learn from it, and its teacher reads one token.
    let student = |place: usize| 2 * read[place] + 1;
    let all: u64 = (0..4).map(|place| 2 * student(place)).sum::<u64>() + (4..6).map(|place| 4 * student(place)).sum::<u64>();
    // Of a base the context but its last token once; of a live one each time, what two contexts of a forward begin with once where that is worth it.
    let once: u64 = context.iter().map(|tokens| tokens - 1).sum();
    assert_eq!(one(Teacher::Base)?, all + once);
    let each: u64 = (0..4).map(|place| 2 * (context[place] - 1)).sum::<u64>() + (4..6).map(|place| 4 * (context[place] - 1)).sum::<u64>();
    let live = one(Teacher::Live)?;
    assert!(live > all + once && live <= all + each, "{live} of {all} and {once} to {each}");
    Ok(())
}

/// Answers of several tokens: with one alone no loss depends on what is drawn.
fn task() -> Result<(Model, Split, Targets)> {
    let model = Model::open("tiny-icl")?;
    let split = Task::open("answer")?.test_at_most(4)?.few_shot(4, 0)?;
    let targets = Targets::of(&model, &split).without_activations().max_new_tokens(4).collect()?;
    Ok((model, split, targets))
}

fn training(targets: &Targets, teacher: Teacher) -> Result<Training> {
    let objective = targets.self_distillation()?.teacher(teacher).max_new_tokens(4);
    Ok(Training::new(Lora::rank(2), objective).batch(2).epochs(3).check_every(1).learning_rate(1e-2).patience(50))
}

fn flat(trained: &Trained) -> Vec<f64> {
    Vec::try_from(trained.adapter().parameters().flat().to_kind(Kind::Double)).unwrap()
}

fn column(trained: &Trained, name: &str) -> Result<Vec<f64>> {
    Ok(trained.history()?.column(name)?.f64()?.into_no_null_iter().collect())
}

#[test]
fn a_run_goes_on_to_the_same_bits_with_every_teacher() -> Result<()> {
    let (model, split, targets) = task()?;
    let folder = tempfile::tempdir().unwrap();
    let mut ends = Vec::new();
    for (place, teacher) in [Teacher::Base, Teacher::Live, Teacher::Average(0.25)].into_iter().enumerate() {
        let whole = training(&targets, teacher)?.run(&model, &split)?;
        let file = folder.path().join(format!("{place}.safetensors"));
        for steps in [2, 3] {
            let part = training(&targets, teacher)?.checkpoint(&file).at_most_steps(steps).run(&model, &split)?;
            assert_eq!(part.stopped(), Stopped::Budget);
        }
        assert_eq!(file::read_tensors(&file, "")?.tensors.contains_key("average"), teacher == Teacher::Average(0.25));
        let rest = training(&targets, teacher)?.checkpoint(&file).run(&model, &split)?;
        assert_eq!((rest.steps(), rest.tokens(), flat(&rest)), (6, whole.tokens(), flat(&whole)), "{teacher:?}");
        for name in ["train_loss", "dev_loss", "gradient_norm"] {
            assert_eq!(column(&rest, name)?, column(&whole, name)?, "{teacher:?} {name}");
        }
        // The same again from the manifest.
        let objective = targets.self_distillation()?.teacher(teacher).max_new_tokens(4);
        assert_eq!(flat(&Training::repeat(whole.manifest(), objective).run(&model, &split)?), flat(&whole));
        ends.push(flat(&whole));
    }
    assert!(ends[0] != ends[1] && ends[0] != ends[2] && ends[1] != ends[2], "the teacher has no say");
    // A checkpoint of one teacher is none of another's.
    let other = training(&targets, Teacher::Live)?.checkpoint(folder.path().join("0.safetensors")).run(&model, &split).unwrap_err();
    assert!(other.to_string().contains("another run"), "{other}");
    Ok(())
}

#[test]
fn the_average_follows_the_student_after_each_step() -> Result<()> {
    let (model, split, targets) = task()?;
    let folder = tempfile::tempdir().unwrap();
    let (rate, file) = (0.25, folder.path().join("run.safetensors"));
    let start = Adapter::new(&model, Lora::rank(2), 0)?;
    let mut expected = start.parameters().flat().copy();
    for steps in 1..=3 {
        training(&targets, Teacher::Average(rate))?.checkpoint(&file).at_most_steps(steps).run(&model, &split)?;
        let stored = file::read_tensors(&file, "")?.tensors;
        expected = expected * (1.0 - rate) + &stored["parameters"] * rate;
        assert!(apart(&stored["average"], &expected) < 1e-6, "step {steps}");
        assert!(apart(&stored["average"], &stored["parameters"]) > 1e-4, "step {steps}");
    }
    Ok(())
}

#[test]
fn training_draws_anew_in_each_step_and_dev_checks_draw_alike() -> Result<()> {
    let (model, split, targets) = task()?;
    // A rate that moves nothing: what differs is the draw.
    let still = |seed: u64| training(&targets, Teacher::Base)?.batch(4).learning_rate(1e-30).seed(seed).run(&model, &split);
    let trained = still(0)?;
    let (train, dev) = (column(&trained, "train_loss")?, column(&trained, "dev_loss")?);
    assert_eq!((train.len(), dev.len()), (3, 3));
    assert!(train[0] != train[1] && train[1] != train[2], "{train:?}");
    assert!(dev.iter().all(|loss| *loss == dev[0] && *loss > 0.0), "{dev:?}");
    assert_ne!(column(&still(1)?, "dev_loss")?[0], dev[0]);
    Ok(())
}

#[test]
fn a_student_learns_from_its_own_answers() -> Result<()> {
    let (model, split, targets) = task()?;
    for divergence in [Divergence::ReverseKl, Divergence::ForwardKl, Divergence::JensenShannon] {
        let objective = targets.self_distillation()?.divergence(divergence).max_new_tokens(4);
        let trained = Training::new(Lora::rank(8), objective).epochs(12).learning_rate(3e-3).patience(50).run(&model, &split)?;
        let dev = column(&trained, "dev_loss")?;
        assert!(trained.dev_loss().unwrap() < 0.8 * dev[0], "{divergence:?}: {dev:?}");
    }
    Ok(())
}

#[test]
fn divergences_by_hand_and_what_top_leaves_out() -> Result<()> {
    let (q, p) = ([0.5f64, 0.25, 0.25], [0.25f64, 0.25, 0.5]);
    let row = |values: &[f64]| Tensor::from_slice(values).log().unsqueeze(0);
    let value = |divergence: Divergence, top: Option<usize>, q: &[f64], p: &[f64]| -> Result<f64> {
        // Logits are log-probabilities up to a constant.
        let mut outputs = Outputs::new(Some(row(q) + 3.0), Vec::new(), Tensor::from_slice(&[0i64]), vec![1])?;
        outputs.teacher = Some(row(p) - 1.0);
        let objective = SelfDistillation::on(&responses_to(&[])).divergence(divergence);
        let objective = top.into_iter().fold(objective, SelfDistillation::top);
        Ok(objective.losses(&[0], &outputs)?.remove(0).double_value(&[0]))
    };
    let kl = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * (a / b).ln()).sum::<f64>();
    let m: Vec<f64> = q.iter().zip(p).map(|(q, p)| (q + p) / 2.0).collect();
    let js = (kl(&q, &m) + kl(&p, &m)) / 2.0;
    // The student's likeliest token alone: 1/2 and the rest, 1/4 and the rest.
    let (tq, tp) = ([0.5, 0.5], [0.25, 0.75]);
    for (divergence, whole, top) in [
        (Divergence::ReverseKl, kl(&q, &p), kl(&tq, &tp)),
        (Divergence::ForwardKl, kl(&p, &q), kl(&tp, &tq)),
        (Divergence::JensenShannon, js, (kl(&tq, &[0.375, 0.625]) + kl(&tp, &[0.375, 0.625])) / 2.0),
    ] {
        assert!((value(divergence, None, &q, &p)? - whole).abs() < 1e-12, "{divergence:?}");
        assert!((value(divergence, Some(1), &q, &p)? - top).abs() < 1e-12 && top <= whole, "{divergence:?} of the largest");
        assert!(value(divergence, None, &q, &q)?.abs() < 1e-12 && value(divergence, Some(2), &q, &q)?.abs() < 1e-12);
        // Nearly all mass on one token leaves a logarithm for the rest.
        assert!(value(divergence, Some(1), &[1.0 - 2e-17, 1e-17, 1e-17], &p)?.is_finite(), "{divergence:?} of a certain student");
    }
    assert!(value(Divergence::JensenShannon, None, &[1.0 - 2e-9, 1e-9, 1e-9], &[1e-9, 1e-9, 1.0 - 2e-9])? < 2f64.ln());
    Ok(())
}

#[test]
fn ways_to_compare_come_back_from_their_words() {
    let divergences = [Divergence::ReverseKl, Divergence::ForwardKl, Divergence::JensenShannon];
    for divergence in divergences {
        for teacher in [Teacher::Base, Teacher::Live, Teacher::Average(0.1 + 0.2)] {
            for top in [None, Some(20)] {
                let how = Distilled { divergence, teacher, top };
                assert_eq!(Distilled::try_from(how.to_string()), Ok(how), "{how}");
            }
        }
    }
    let how = Distilled { divergence: Divergence::ForwardKl, teacher: Teacher::Average(0.05), top: Some(20) };
    assert_eq!(how.to_string(), "forward KL, averaged teacher 0.05, top 20");
    assert!(Distilled::default().to_string().is_empty());
    assert!(Distilled::try_from("forward".to_string()).unwrap_err().contains("`forward`"));
}

#[test]
fn settings_of_self_distillation_that_mean_nothing_are_refused() -> Result<()> {
    let (model, split, targets) = task()?;
    let text = |objective: SelfDistillation| Training::new(Lora::rank(2), objective).run(&model, &split).unwrap_err().to_string();
    let objective = || targets.self_distillation().unwrap();
    for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(text(objective().temperature(temperature)).contains("use a positive number"));
    }
    for rate in [0.0, -0.5, 1.5, f64::NAN] {
        assert!(text(objective().teacher(Teacher::Average(rate))).contains("above 0 and at most 1"));
    }
    for top in [0, model.config().vocab_size as usize] {
        assert!(text(objective().top(top)).contains("leave out `top`"));
    }
    assert!(text(objective().max_new_tokens(0)).contains("at most 0 tokens"));
    let long = text(objective().max_new_tokens(model.config().max_positions as usize));
    assert!(long.contains("the teacher's contexts") && long.contains("context is"), "{long}");
    Ok(())
}
