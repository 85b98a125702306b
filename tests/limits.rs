//! Numbers that nothing can take: each an error that says the limit; none ends the process, is a bug of the library's, or goes on for ever.

mod common;

use common::{copied, golden_folder, refused, speaking};
use ia2::activations::Activations;
use ia2::adapter::{AdapterConfig, Start};
use ia2::dataset::Card;
use ia2::metric::{METRICS, calibration, classwise_ece};
use ia2::model::Config;
use ia2::prelude::*;
use ia2::progress::Progress;
use ia2::prompt::AnswerForm;
use ia2::similarity::{self, MEASURES, Representation};

const NAME: &str = "llama_grouped_tied";
/// As many as memory never holds, in several sizes: some overflow, some only ask for too much.
const MANY: [usize; 4] = [1 << 33, 1 << 40, i64::MAX as usize, usize::MAX];

fn task() -> Task {
    let rows = (0..12).map(|row| Example::new(format!("t{} t{} ", row + 10, row + 20), ["t3", "t4"][row % 2])).collect();
    Task::of(Examples::new("words", AnswerForm::labels(["t3", "t4"]).unwrap(), rows).unwrap(), Card::default())
}

fn captured(model: &Model, split: &Split) -> Result<Activations> {
    capture(model, &model.respond(&split.train.zero_shot()?)?, "model.layers.*.mlp")
}

#[test]
fn numbers_of_virtual_tokens_and_ranks() -> Result<()> {
    let model = speaking(NAME);
    for many in MANY {
        for start in [Start::Random, Start::Vocabulary, Start::Text("t5 t6".into())] {
            let (prompt, prefix) = (PromptTuning::tokens(many).start(start.clone()), PrefixTuning::tokens(many).start(start));
            refused(Adapter::new(&model, prompt, 0), &["virtual tokens", "context is 128"]);
            refused(Adapter::new(&model, prefix, 0), &["virtual tokens", "context is 128"]);
        }
        refused(Adapter::new(&model, Lora::rank(many as i64), 0), &["LoRA rank"]);
        refused(Adapter::new(&model, Lora::rank(2).rank_at("q_proj", many as i64), 0), &["LoRA rank"]);
        refused(Adapter::new(&model, Lora::rank(2).layers([many]), 0), &["layer"]);
        refused(Adapter::new(&model, Ia3::new().layers([many]), 0), &["layer"]);
    }
    assert!(Adapter::new(&model, PromptTuning::tokens(128).start(Start::Random), 0).is_ok());
    let lora = Adapter::new(&model, Lora::rank(2).alpha(1e300), 0)?;
    for factor in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        refused(lora.scaled(factor), &["finite"]);
    }
    refused(lora.scaled(1e300), &["LoRA alpha inf"]);
    for wrong in [f64::NAN, -0.1, 1.0, f64::INFINITY] {
        refused(Adapter::new(&model, Lora::rank(2).dropout(wrong), 0), &["LoRA dropout"]);
    }
    refused(Adapter::new(&model, Lora::rank(2).alpha(f64::NAN), 0), &["LoRA alpha NaN"]);
    Ok(())
}

#[test]
fn settings_of_trainings() -> Result<()> {
    let model = speaking(NAME);
    let split = task().few_shot(4, 0)?;
    let new = || Training::new(Lora::rank(2), Sft::gold()).epochs(1);
    for rate in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -1e-3] {
        refused(new().learning_rate(rate).run(&model, &split), &["learning rate", "positive number"]);
        refused(new().clip(rate).run(&model, &split), &["clipped", "positive number"]);
        refused(new().optimizer(Optimizer::adam().epsilon(rate)).run(&model, &split), &["epsilon"]);
    }
    for beta in [f64::NAN, 1.0, -0.1, f64::INFINITY] {
        refused(new().optimizer(Optimizer::adam().betas(beta, 0.9)).run(&model, &split), &["first beta"]);
        refused(new().optimizer(Optimizer::adam().betas(0.9, beta)).run(&model, &split), &["second beta"]);
    }
    for decay in [f64::NAN, -0.1, f64::INFINITY] {
        refused(new().optimizer(Optimizer::adamw(decay)).run(&model, &split), &["weight decay"]);
    }
    // A rate that can be computed with, but not trained with: the loss says so.
    assert!(refused(new().learning_rate(1e300).epochs(9).run(&model, &split), &["learning rate"]).is_numeric());
    // Large numbers that only mean "all of them" are no errors.
    for many in MANY {
        let most = u64::try_from(many).unwrap();
        let trained =
            new().epochs(most).batch(many).accumulate(many).tokens_per_forward(many).check_every(most).patience(most).warm_up(most);
        for schedule in [Schedule::Constant, Schedule::Linear, Schedule::Cosine] {
            let trained = Training::new(Lora::rank(2), Sft::gold()).epochs(most).schedule(schedule).warm_up(most).at_most_steps(2);
            assert_eq!(trained.seed(most).run(&model, &split)?.steps(), 2);
        }
        assert_eq!(
            trained.by_length(true).seed(u64::MAX).at_most_steps(3).at_most(std::time::Duration::MAX).run(&model, &split)?.steps(),
            3
        );
    }
    Ok(())
}

#[test]
fn counts_of_prompts_orders_and_responses() -> Result<()> {
    let model = speaking(NAME);
    let split = task().few_shot(4, 0)?;
    let prompts = split.test.zero_shot()?;
    for many in MANY {
        refused(split.target_prompts_in_orders(3, many), &["demonstration orders", "1000 at most"]);
        refused(split.unlabelled_prompts(&split.test.take(0), 3, many), &["demonstration orders", "1000 at most"]);
        refused(Targets::of(&model, &split).orders(many).collect(), &["1000 at most"]);
        refused(Targets::of(&model, &split).max_new_tokens(many).collect(), &["context is 128"]);
        refused(model.generate(&[vec![1]], &Generation::greedy(many)), &["context"]);
        for positions in [ia2::activations::Positions::All, ia2::activations::Positions::Response] {
            let capture = Capture::at("model.layers.*.mlp").positions(positions);
            refused(capture.while_generating(&model, &prompts, &Generation::greedy(many)), &["context is 128"]);
        }
        refused(task().few_shot(many, 0), &["too few"]);
        refused(Targets::of(&model, &split).distributions(Keep::Top(many)).collect(), &["largest"]);
        assert_eq!(split.target_prompts(many)?.len(), 4 + 2);
        assert_eq!(task().test(many, 0)?.len(), 12);
        assert_eq!(model.generate(&[vec![1]], &Generation::greedy(1).batch(many).sample(1.0, 1.0, u64::MAX))?.len(), 1);
        assert_eq!(ia2::evaluate::evaluate_in_batches(&model, &prompts, many)?.height(), prompts.len());
        let targets = Targets::of(&model, &split).demonstrations(many).batch(many).free_bytes(u64::MAX).shard_bytes(u64::MAX);
        assert_eq!(targets.collect()?.responses().len(), 6);
        let donors = capture(&model, &model.respond(&prompts)?, "model.layers.*.mlp")?;
        refused(patch(&model, &prompts, &donors, many), &["tokens"]);
        assert!(logit_lens(&model, &prompts, many).is_ok());
        refused(attention_patterns(&model, &prompts, [many], 1), &["does not exist"]);
    }
    let folder = tempfile::tempdir().unwrap();
    let shards = Targets::of(&model, &split).free_bytes(0).shard_bytes(0).shards(folder.path());
    assert_eq!(shards.collect()?.responses().len(), 6);
    for temperature in [f64::NAN, f64::INFINITY, -1.0] {
        refused(model.generate(&[vec![1]], &Generation::greedy(1).sample(temperature, 1.0, 0)), &["temperature"]);
    }
    // The coldest and the hottest that can be asked for.
    for temperature in [f64::MIN_POSITIVE, 1e-300, 1e300] {
        let sampled = model.generate(&[vec![1]], &Generation::greedy(1).sample(temperature, 1.0, 0));
        assert!(sampled.as_ref().map_or_else(ia2::Error::is_numeric, |sampled| sampled.len() == 1), "{temperature}: {:?}", sampled.err());
    }
    Ok(())
}

#[test]
fn sizes_of_experiments() -> Result<()> {
    let model = Model::open("tiny-icl")?;
    let new = || Experiment::new(&model).task(&task());
    for many in MANY {
        refused(new().runs(many as u64).run(), &["splits", "100000 at most"]);
        refused(new().runs(many as u64).plan(), &["splits", "100000 at most"]);
        refused(new().sizes(&[many]).run(), &["too few"]);
    }
    for rate in [f64::NAN, f64::INFINITY, -1e-3] {
        refused(new().sizes(&[2]).learning_rates(&[rate]).run(), &["learning rate"]);
        refused(new().sizes(&[2]).betas(&[rate]).run(), &["beta"]);
    }
    Ok(())
}

#[test]
fn places_in_activations() -> Result<()> {
    let model = speaking(NAME);
    let split = task().few_shot(4, 0)?;
    let activations = captured(&model, &split)?;
    let values = |of: &Activations| -> Result<Tensor> { Ok(of.values()?.shallow_clone()) };
    for by in [i64::MIN, i64::MIN + 1, i64::MAX, -5, -1, 0, 3] {
        // Each place holds the example that stood so many places before it.
        let rolled = values(&activations.roll(by)?)?;
        let places: Vec<i64> = (0..4i128).map(|place| (place - i128::from(by)).rem_euclid(4) as i64).collect();
        assert!(rolled.equal(&values(&activations)?.index_select(0, &Tensor::from_slice(&places))), "{by}");
    }
    for many in MANY {
        refused(activations.example(many), &["does not exist"]);
        refused(activations.select(&[many]), &["does not exist"]);
        refused(activations.representation(many, Tokens::Last), &["does not exist"]);
        refused(activations.neighbours(many, Tokens::Last, 0), &["does not exist"]);
        refused(activations.neighbours(0, Tokens::Last, many), &["does not exist"]);
        refused(activations.principal_components(Tokens::Last, many), &["principal components"]);
    }
    Ok(())
}

#[test]
fn counts_of_measures() -> Result<()> {
    let values = |seed: f64| Tensor::from_slice(&(0..24).map(|place| (f64::from(place) * seed).sin()).collect::<Vec<_>>()).view([8, 3]);
    let (a, b) = (Representation::new(&values(1.3))?, Representation::new(&values(0.7))?);
    let cka = &MEASURES[0];
    for many in MANY {
        refused(similarity::mutual_neighbours(&a, &b, many), &["neighbours"]);
        refused(similarity::permutation(cka, &a, &b, many, 0), &["1 to 1000000 permutations"]);
        refused(similarity::interval(cka, &a, &b, many, 0.9, 0), &["2 to 1000000 draws"]);
        refused(similarity::principal_components(&a, many), &["principal components"]);
        let factors = (values(1.1), values(0.3));
        let factors = similarity::Factors { a: &factors.0, b: &factors.1.tr() };
        refused(similarity::subspace_overlap(&factors, &factors, similarity::Side::B, many), &["directions"]);
    }
    Ok(())
}

#[test]
fn ids_levels_and_weights() -> Result<()> {
    let model = speaking(NAME);
    for id in [64, 1 << 31, u32::MAX] {
        refused(model.forward(&[vec![id]]), &["token id", "ends at 63"]);
        let tokenizer = model.tokenizer()?;
        assert!(tokenizer.token(id).is_none());
        // Said or shown, but no panic.
        let _ = (tokenizer.decode(&[id]), tokenizer.spelling(id), tokenizer.spellings(&[id]));
    }
    let (first, second) = ([0.5, 0.6, 0.9], [0.4, 0.8, 0.7]);
    for level in [f64::NAN, 0.0, 1.0, -1.0, f64::INFINITY] {
        refused(ia2::statistics::paired_t(&first, &second, level), &["level"]);
        refused(ia2::statistics::mean_interval(&first, level), &["level"]);
    }
    for strange in [f64::NAN, f64::INFINITY, 1.7e308] {
        let values = [strange, -strange, strange];
        for result in [
            ia2::statistics::paired_t(&values, &second, 0.9).map(drop),
            ia2::statistics::mean_interval(&values, 0.9).map(drop),
            ia2::statistics::wilcoxon(&values, &second).map(drop),
            ia2::statistics::holm(&values).map(drop),
        ] {
            assert!(result.as_ref().map_or_else(|error| error.is_input() || error.is_numeric(), |()| strange.is_finite()), "{result:?}");
        }
    }
    let split = task().few_shot(4, 0)?;
    let targets = Targets::of(&model, &split).collect()?;
    for many in MANY {
        refused(targets.ia2().and_then(|ia2| ia2.layers([many])), &["layer"]);
    }
    for weight in [f64::NAN, f64::INFINITY, -1.0] {
        refused(targets.ia2().and_then(|ia2| ia2.weights([weight, 1.0, 1.0])), &["weight"]);
        refused(targets.ia2_sft(weight), &["beta"]);
    }
    Ok(())
}

#[test]
fn counts_of_bins_and_draws() -> Result<()> {
    let frame = df!(
        "correct" => [true, false, true], "confidence" => [0.5, 0.25, 1.0], "gold" => ["a", "b", "a"],
        "p_a" => [0.5, 0.75, 1.0], "p_b" => [0.5, 0.25, 0.0]
    )?;
    for many in MANY {
        for binning in [Binning::EqualWidth(many), Binning::EqualMass(many), Binning::Paper(many)] {
            refused(ece(&frame, binning), &["10000 bins at most"]);
            refused(calibration(&frame, binning), &["10000 bins at most"]);
            refused(classwise_ece(&frame, binning), &["10000 bins at most"]);
            refused(reliability(&frame, binning), &["10000 bins at most"]);
        }
        refused(METRICS[0].bootstrap(&frame, many, 0.9, 0), &["2 to 1000000 draws"]);
        refused(ia2::metric::top_k(&frame, many), &["the top"]);
    }
    for level in [f64::NAN, 0.0, 1.0, -1.0, f64::INFINITY] {
        refused(METRICS[0].bootstrap(&frame, 9, level, 0), &["level"]);
    }
    assert_eq!(calibration(&frame, Binning::EqualWidth(10_000))?.height(), 10_000);
    assert!(reliability(&frame, Binning::EqualWidth(10_000)).is_ok());
    Ok(())
}

#[test]
fn sizes_and_ranges_of_figures() -> Result<()> {
    let frame = df!("layer" => [0, 1, 2], "norm" => [1.0, 2.0, 3.0])?;
    let chart = || Chart::lines("layer", "norm");
    for width in [0, 1, 239, 4001, 1 << 20, u32::MAX / 2, u32::MAX] {
        refused(chart().width(width).draw(&frame), &["is outside 240 x 160 to 4000 x 4000"]);
        refused(chart().size(width, width).draw(&frame), &["is outside 240 x 160 to 4000 x 4000"]);
        refused(HeatMap::new("layer", "layer", "norm").width(width).draw(&frame), &["is outside"]);
    }
    for (from, to) in [(f64::NAN, 1.0), (0.0, f64::INFINITY), (1.0, 1.0), (2.0, 1.0), (f64::NEG_INFINITY, f64::INFINITY)] {
        refused(chart().y_range(from, to).draw(&frame), &["range of y"]);
        refused(HeatMap::new("layer", "layer", "norm").range(from, to).draw(&frame), &["range of colours"]);
    }
    // Finite ends whose distance is not, or nearly nothing.
    for (from, to) in [(-1.7e308, 1.7e308), (0.0, 5e-324), (1e300, 1.0000000000000002e300), (1e-308, 1e308)] {
        assert!(chart().y_range(from, to).draw(&frame).is_ok(), "{from} {to}");
        assert!(HeatMap::new("layer", "layer", "norm").range(from, to).draw(&frame).is_ok(), "{from} {to}");
    }
    for ends in [[-1.7e308, 1.7e308], [0.0, 5e-324], [1e300, 1.0000000000000002e300], [f64::MIN_POSITIVE, f64::MAX]] {
        let far = df!("x" => ends, "y" => ends, "group" => ["a", "b"])?;
        for chart in [Chart::lines("x", "y"), Chart::points("x", "y"), Chart::bars("group", "y"), Chart::violins("group", "y")] {
            assert!(chart.draw(&far).is_ok(), "{ends:?}");
        }
        if ends[0] > 0.0 {
            assert!(Chart::lines("x", "y").y_log10().x_log2().draw(&far).is_ok(), "{ends:?}");
        }
    }
    for many in MANY {
        assert!(HeatMap::new("layer", "layer", "norm").panels_per_row(many).draw(&frame).is_ok());
    }
    Ok(())
}

#[test]
fn tables_with_long_texts_and_many_decimals() -> Result<()> {
    let long = "x".repeat(100_000);
    let frame = df!("method" => [long.as_str(), "short"], "accuracy" => [0.5, 0.25])?;
    let table = Summary::new(&["method"], &[]).value("accuracy", Best::Highest).decimals("accuracy", usize::MAX).build(&frame)?;
    let plain = table.bundle().plain;
    assert!(plain.contains(&long) && plain.contains("short") && plain.contains("0.250000000"), "{}", plain.len());
    assert!(
        plain.lines().filter(|line| !line.contains(&long)).all(|line| line.chars().count() < 1_000),
        "short rows are not padded to the long one"
    );
    assert!(table.markdown().contains(&long) && table.latex().contains(&long));
    // Columns of a common width below the limit, as ever.
    let frame = df!("method" => ["a much longer name", "short"], "accuracy" => [0.5, 0.25])?;
    let plain = Summary::new(&["method"], &[]).value("accuracy", Best::Highest).build(&frame)?.bundle().plain;
    assert!(plain.contains("a much longer name  ") && plain.contains("short               "), "{plain}");
    Ok(())
}

#[test]
fn configurations_of_models_that_cannot_be() {
    let text = std::fs::read_to_string(golden_folder(NAME).join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&text).unwrap();
    for key in [
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "max_position_embeddings",
        "num_attention_heads",
        "head_dim",
    ] {
        for many in [1i64 << 33, 1 << 62, i64::MAX - 1] {
            let folder = copied(NAME);
            let mut changed = config.clone();
            changed[key] = many.into();
            std::fs::write(folder.path().join("config.json"), changed.to_string()).unwrap();
            refused(Model::open(folder.path()), &["config.json"]);
        }
    }
    // A config made by hand: a count that saturates, and no panic.
    let model = Model::open(golden_folder(NAME)).unwrap();
    let config = {
        let mut config: Config = model.config().clone();
        (config.vocab_size, config.hidden_size, config.heads) = (i64::MAX, i64::MAX, i64::MAX);
        config
    };
    assert_eq!(config.parameters(), i64::MAX);
    assert!(config.to_string().contains("parameters"));
}

#[test]
fn progress_of_any_size() {
    for total in [0, 1, u64::MAX] {
        let mut progress = Progress::new("work", total).resumed(u64::MAX);
        for more in [0, 1, u64::MAX, u64::MAX / 2] {
            progress.tick(more, "");
        }
        progress.finish();
    }
}

#[test]
fn adapter_settings_from_elsewhere_are_checked_like_ones_own() -> Result<()> {
    let model = speaking(NAME);
    // As a manifest, edited by hand, may hold it.
    for tokens in [i64::MAX, 1 << 33, -1, i64::MIN] {
        let config: AdapterConfig =
            serde_json::from_value(serde_json::json!({"prompt_tuning": {"tokens": tokens, "start": "random"}})).unwrap();
        refused(Adapter::new(&model, config, 0), &["virtual tokens"]);
    }
    Ok(())
}
