//! Targets: what is collected, in memory and on disk, and what is trained toward it.

mod common;

use std::path::Path;

use common::{apart, golden_folder, refused, with_words};
use ia2::Result;
use ia2::activations::{CollectionPlan, StorageLocation};
use ia2::objective::{OBJECTIVES, Objective, ObjectiveEntry};
use ia2::prelude::*;
use ia2::prompt::AnswerForm;

const NAME: &str = "qwen3_grouped_tied";

/// A golden checkpoint that reads words, in f64: batches of another make-up give the same numbers to rounding.
fn model() -> Model {
    OpenOptions::new().kind(Kind::Double).open(with_words(NAME).path()).unwrap()
}

fn examples(name: &str, from: usize, count: usize) -> Examples {
    let query = |row: usize| (0..=row % 4).map(|word| format!("t{} ", 5 + (row * 13 + word * 7) % 58)).collect::<String>();
    let rows = (from..from + count).map(|row| Example::new(format!("t{} {}", 5 + row % 59, query(row)), format!("t{}", 3 + row % 2)));
    Examples::new(name, AnswerForm::free().at_most(5).unwrap(), rows.collect()).unwrap()
}

/// 6 to learn from, 3 for development, 3 to test on.
fn split() -> Split {
    ia2::dataset::Task::of(examples("words", 0, 12), Default::default()).few_shot(6, 0).unwrap()
}

fn same(a: &Targets, b: &Targets) -> Result<()> {
    assert!(a.responses() == b.responses());
    for example in 0..a.responses().len() {
        assert!(apart(&a.activations()?.example(example)?, &b.activations()?.example(example)?) < 1e-12);
        let (ours, theirs) = (a.distributions()?.example(example)?, b.distributions()?.example(example)?);
        assert!(apart(&ours.0, &theirs.0) < 1e-12);
        assert_eq!(ours.1, theirs.1);
    }
    Ok(())
}

#[test]
fn one_pass_gives_what_separate_forwards_give() -> Result<()> {
    let (model, split) = (model(), split());
    let adapter = Adapter::open(golden_folder(&format!("training/{NAME}/adapter")), &model)?;
    // Of the base model, whatever is on it.
    let targets = Targets::of(&model.with(&adapter)?, &split).distributions(Keep::All).batch(4).collect()?;
    let prompts = split.target_prompts(256)?;
    let responses = model.respond_as(&prompts, &Generation::greedy(5))?;
    assert!(*targets.responses() == responses);
    let lengths: Vec<usize> = responses.rows().iter().map(|row| row.tokens.response.len()).collect();
    let taught = capture(&model, &responses, "model.layers.*.self_attn")?;
    assert!(apart(&targets.activations()?.values()?, &taught.values()?) < 1e-10);
    for (example, row) in responses.rows().iter().enumerate() {
        let (prompt, response) = (&row.tokens.prompt, &row.tokens.response);
        let logits = model.forward(&[[prompt.as_slice(), &response[..response.len() - 1]].concat()])?.values.get(0);
        let expected = logits.narrow(0, prompt.len() as i64 - 1, response.len() as i64).softmax(-1, Kind::Double);
        let (ours, ids) = targets.distributions()?.example(example)?;
        assert!(ids.is_none() && apart(&ours, &expected) < 1e-10, "example {example}");
        assert_eq!(ours.size(), [lengths[example] as i64, model.config().vocab_size]);
    }
    // The largest alone, and at another hook point.
    let top = Targets::of(&model, &split).at("model.layers.*.mlp").distributions(Keep::Top(5)).collect()?;
    for example in 0..responses.len() {
        let (values, ids) = targets.distributions()?.example(example)?.0.topk(5, -1, true, true);
        let (ours, places) = top.distributions()?.example(example)?;
        assert!(apart(&ours, &values) < 1e-10);
        assert_eq!(places, Some(ids));
    }
    assert_eq!(top.activations()?.hook_points()[2], "model.layers.2.mlp");
    let frame = top.distributions()?.frame()?;
    assert_eq!(frame.get_column_names(), ["index", "query", "tokens", "kept", "largest"]);
    assert!(frame.column("kept")?.f64()?.into_no_null_iter().zip(frame.column("largest")?.f64()?.into_no_null_iter()).all(|(a, b)| a > b));
    // The adapted model's on request.
    let adapted = Targets::of(&model.with(&adapter)?, &split).of_adapted().collect()?;
    assert!(*adapted.responses() == model.with(&adapter)?.respond_as(&prompts, &Generation::greedy(5))?);
    refused(adapted.soft_sft(), &["no distributions", "Keep::All"]);
    refused(Targets::of(&model, &split).without_activations().collect()?.ia2(), &["no activations"]);
    refused(Targets::of(&model, &split).distributions(Keep::Top(64)).plan(), &["64 largest of 64"]);
    refused(Targets::of(&model, &split).at("model.layers.*.self_atn").plan(), &["selects none"]);
    Ok(())
}

fn first_losses(model: &Model, split: &Split, objective: impl Into<Box<dyn Objective>>) -> Result<Vec<f64>> {
    let trained = Training::new(Lora::rank(2), objective).epochs(2).check_every(1).run(model, split)?;
    let history = trained.history()?;
    let column = |name: &str| history.column(name).unwrap().f64().unwrap().into_no_null_iter().collect::<Vec<_>>();
    Ok([column("train_loss"), column("dev_loss")].concat())
}

#[test]
fn every_objective_learns_the_same_from_memory_and_from_disk() -> Result<()> {
    let (model, split) = (model(), split());
    let folder = tempfile::tempdir().unwrap();
    let collect = || Targets::of(&model, &split).distributions(Keep::Top(7)).shards(folder.path()).shard_bytes(9_000);
    let memory = collect().collect()?;
    assert!(!memory.activations()?.on_disk(), "it fits, so nothing is written");
    let CollectionPlan { place, activation_bytes, distribution_bytes, .. } = collect().free_bytes(10_000).plan()?;
    let StorageLocation::Shards(_, count) = place else { panic!("{place:?}") };
    assert!(count > 2, "{count} shards");
    let disk = collect().free_bytes(10_000).collect()?;
    assert!(disk.activations()?.on_disk() && disk.distributions()?.on_disk());
    assert_eq!(listing(folder.path()).len(), count);
    same(&memory, &disk)?;
    assert!(disk.activations()?.bytes() <= activation_bytes && disk.distributions()?.bytes() <= distribution_bytes);
    assert!(apart(&disk.activations()?.values()?, &memory.activations()?.values()?) < 1e-12, "gathered");
    for known in OBJECTIVES {
        let [ours, theirs] = [&memory, &disk].map(|targets| first_losses(&model, &split, known.of(targets).unwrap()).unwrap());
        assert!(ours.iter().all(|loss| loss.is_finite()));
        for (a, b) in ours.iter().zip(&theirs) {
            assert!((a - b).abs() <= 1e-10 * b.abs(), "{}: {a} from memory, {b} from disk", known.name);
        }
    }
    // A later session reads the folder alone.
    let opened = Activations::open(folder.path())?;
    assert!(opened.on_disk() && opened.responses() == memory.responses());
    assert!(apart(&opened.values()?, &memory.activations()?.values()?) < 1e-12);
    assert!(opened.asim(memory.activations()?)?.column("asim")?.f64()?.into_no_null_iter().all(|asim| (asim - 1.0).abs() < 1e-9));
    Ok(())
}

fn listing(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    common::listing(folder).into_iter().filter_map(|(path, bytes)| Some((path, bytes?))).collect()
}

#[test]
fn memory_is_predicted_and_too_little_is_an_error_that_says_so() -> Result<()> {
    let (model, split) = (model(), split());
    let collect = Targets::of(&model, &split).distributions(Keep::Top(7));
    let plan = collect.plan()?;
    assert_eq!((plan.examples, plan.tokens, plan.hook_points.len()), (9, 5, 3));
    assert_eq!(plan.activation_bytes, 9 * 3 * 5 * 24 * 8);
    assert_eq!(plan.distribution_bytes, 9 * 5 * 7 * (8 + 8));
    assert_eq!(plan.bytes(), plan.activation_bytes + plan.distribution_bytes);
    assert_eq!(plan.place, StorageLocation::Memory(Device::Cpu));
    let stored = collect.collect()?;
    let longest = stored.responses().rows().iter().map(|row| row.tokens.response.len()).max();
    assert_eq!(longest, Some(5), "no response is as long as it may be: the prediction is no equality");
    assert_eq!(stored.activations()?.bytes(), plan.activation_bytes);
    assert_eq!(stored.distributions()?.bytes(), plan.distribution_bytes);
    let all = Targets::of(&model, &split).distributions(Keep::All).kind(Kind::BFloat16).plan()?;
    assert_eq!((all.activation_bytes, all.distribution_bytes), (9 * 3 * 5 * 24 * 2, 9 * 5 * 64 * 8));
    // Half of what is free may be taken.
    assert!(collect.clone().free_bytes(2 * plan.bytes()).plan().is_ok());
    let words = ["9 prompts", "25.3 KiB of activations", "4.9 KiB of distributions", ".shards(folder)"];
    refused(collect.clone().free_bytes(2 * plan.bytes() - 1).plan(), &words);
    refused(collect.clone().free_bytes(2 * plan.bytes() - 1).collect(), &words);
    Ok(())
}

#[test]
fn shards_that_are_damaged_or_foreign_are_refused_by_name() -> Result<()> {
    let (model, split) = (model(), split());
    let folder = tempfile::tempdir().unwrap();
    let collect = || Targets::of(&model, &split).distributions(Keep::All).shards(folder.path()).shard_bytes(20_000).free_bytes(1_000);
    let whole = collect().collect()?;
    let files = listing(folder.path());
    let (path, bytes) = &files[1];
    let name = path.file_name().unwrap().to_str().unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text = String::from_utf8(bytes[8..8 + header].to_vec()).unwrap();
    let replaced = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        assert!(text.contains(from), "{from} is not in {text}");
        [&bytes[..8], text.replacen(from, to, 1).as_bytes(), &bytes[8 + header..]].concat()
    };
    for (damaged, word) in [
        (bytes[..bytes.len() - 1].to_vec(), "truncated"),
        (bytes[..100].to_vec(), "truncated"),
        (Vec::new(), "truncated"),
        ([bytes.as_slice(), b"more"].concat(), "truncated"),
        (replaced("\"F64\"", "\"F33\""), "truncated"),
        (replaced("ia2_shard", "ia2_shart"), "no part of a collection"),
        (replaced("hook_points", "hook_pointz"), "malformed manifest"),
        (replaced("model.layers.0.self_attn\\\",", "model.layers.0.self_attn\\\" "), "malformed manifest"),
    ] {
        std::fs::write(path, damaged).unwrap();
        refused(collect().collect(), &[name, word]);
        refused(Activations::open(folder.path()), &[name, word]);
    }
    std::fs::write(path, bytes).unwrap();
    same(&collect().collect()?, &whole)?;
    // Another collection in the same folder: by its settings, and by its number of files.
    refused(Targets::of(&model, &split).shards(folder.path()).shard_bytes(20_000).free_bytes(1_000).collect(), &["another collection"]);
    refused(collect().stopping().collect(), &["another collection"]);
    refused(collect().shard_bytes(9_000).collect(), &["another collection"]);
    // What is on disk goes on there, however much memory there is.
    assert!(collect().free_bytes(1 << 40).collect()?.activations()?.on_disk());
    // One is missing, or has another's name.
    std::fs::remove_file(path).unwrap();
    refused(Activations::open(folder.path()), &["is not shard", "missing"]);
    std::fs::copy(&files[0].0, path).unwrap();
    refused(collect().collect(), &[name, "another collection"]);
    refused(Activations::open(folder.path()), &[name, "is not shard 2"]);
    refused(Activations::open(tempfile::tempdir().unwrap().path()), &["no shards"]);
    Ok(())
}

#[test]
fn a_folder_of_targets_belongs_to_one_model_with_its_adapter() -> Result<()> {
    let (model, split) = (model(), split());
    let trained =
        |adapter: ia2::adapter::AdapterConfig| Training::new(adapter, Sft::gold()).learning_rate(0.05).epochs(1).run(&model, &split);
    let lora = trained(Lora::rank(2).into())?;
    let others = [trained(Lora::rank(2).layers([1]).into())?, trained(Ia3::new().into())?, trained(PrefixTuning::tokens(2).into())?];
    let merged = lora.adapter().merge(&model)?.model;
    let twice = lora.adapter().scaled(2.0)?;
    let mut models: Vec<Model> = others.iter().map(|trained| trained.model().clone()).collect();
    models.extend([model.clone(), lora.model().clone(), model.with(&twice)?, merged.clone(), twice.merge(&model)?.model]);
    for (place, model) in models.iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let of = |model: &Model| Targets::of(model, &split).of_adapted().max_new_tokens(1).shards(folder.path()).free_bytes(1).collect();
        of(model)?;
        for (other, model) in models.iter().enumerate() {
            match other == place {
                true => drop(of(model)?),
                false => drop(refused(of(model), &["another collection"])),
            }
        }
    }
    // So does a manifest: a merged model is not the one whose files it still names.
    let run = |model: &Model| Training::new(Lora::rank(2), Sft::gold()).epochs(1).run(model, &split);
    refused(Training::repeat(run(&merged)?.manifest(), Sft::gold()).run(&model, &split), &["the model's weights"]);
    Training::repeat(run(&merged)?.manifest(), Sft::gold()).run(&merged, &split)?;
    refused(Targets::of(&model, &split).distributions(Keep::Top(usize::MAX)).plan(), &["largest of 64 probabilities"]);
    refused(Targets::of(&model, &split).max_new_tokens(usize::MAX).plan(), &["context", "max_new_tokens"]);
    Ok(())
}

#[test]
fn one_number_of_the_weights_makes_another_model() -> Result<()> {
    let (home, split) = (common::with_words("llama_grouped_tied"), split());
    let places = tempfile::tempdir().unwrap();
    let [shards, checkpoint] = ["shards", "run.safetensors"].map(|name| places.path().join(name));
    let targets = |model: &Model| Targets::of(model, &split).max_new_tokens(1).shards(&shards).free_bytes(1).collect();
    let train = |model: &Model| Training::new(Lora::rank(2), Sft::gold()).epochs(1).checkpoint(&checkpoint).run(model, &split);
    let before = Model::open(home.path())?;
    targets(&before)?;
    train(&before)?;
    // The same folder, configuration and length; one number of one layer is another.
    let file = home.path().join("model.safetensors");
    let mut tensors = common::read(&file)?;
    let changed = tensors.iter_mut().find(|(name, _)| name.ends_with("1.self_attn.v_proj.weight")).unwrap();
    let _ = changed.1.view([-1]).narrow(0, 7, 1).g_add_scalar_(1e-3);
    Tensor::write_safetensors(&tensors, &file)?;
    let after = Model::open(home.path())?;
    refused(targets(&after), &["another collection"]);
    refused(train(&after), &["run.safetensors", "another run"]);
    // The one that was opened before is what it was, and the same wherever it lies.
    targets(&before)?;
    train(&before)?;
    let copy = common::with_words("llama_grouped_tied");
    targets(&Model::open(copy.path())?)?;
    train(&Model::open(copy.path())?).map(drop)
}

#[test]
fn several_orders_are_several_examples_and_dev_comes_last() -> Result<()> {
    let (model, split) = (model(), split());
    let collect = Targets::of(&model, &split).orders(3);
    let (prompts, once) = (collect.prompts()?, split.target_prompts(256)?);
    assert_eq!(prompts.len(), 3 * 6 + 3);
    for place in 0..18 {
        let (prompt, first) = (prompts.get(place).unwrap(), once.get(place % 6).unwrap());
        assert_eq!((&prompt.example, prompt.index), (&first.example, place));
        assert!(!prompt.demonstrations.contains(&prompt.example) && prompt.demonstrations.len() == 5);
        assert_eq!(prompt.demonstrations == first.demonstrations, place < 6, "order {}", place / 6);
    }
    for place in 0..3 {
        let (dev, first) = (prompts.get(18 + place).unwrap(), once.get(6 + place).unwrap());
        assert_eq!((&dev.example, &dev.demonstrations), (&first.example, &first.demonstrations));
    }
    let targets = collect.distributions(Keep::All).collect()?;
    for known in OBJECTIVES {
        let samples = known.of(&targets)?.samples(&model, &split)?;
        let rows = if known.name == "sft_gold" { 6 } else { 18 };
        assert_eq!((samples.train, samples.rows.len()), (rows, rows + 3), "{}", known.name);
        first_losses(&model, &split, known.of(&targets)?)?;
    }
    refused(Targets::of(&model, &split).orders(0).plan(), &["0 demonstration orders"]);
    Ok(())
}

#[test]
fn unlabelled_queries_are_answered_after_the_labelled_examples() -> Result<()> {
    let (model, split) = (model(), split());
    let queries = examples("unlabelled", 20, 10);
    let collect = Targets::of(&model, &split).unlabelled(&queries).demonstrations(4).orders(2);
    let prompts = collect.prompts()?;
    assert_eq!(prompts.len(), 2 * 10 + 3);
    for (place, prompt) in prompts.iter().enumerate() {
        let expected = if place < 20 { &queries.rows()[place % 10] } else { &split.dev.rows()[place - 20] };
        assert_eq!(&prompt.example, expected);
        assert_eq!(prompt.demonstrations.len(), 4);
        assert!(prompt.demonstrations.iter().all(|shown| split.train.rows().contains(shown)));
    }
    assert_eq!(prompts.get(20).unwrap().demonstrations, prompts.get(0).unwrap().demonstrations);
    assert!((0..10).any(|place| prompts.get(place).unwrap().demonstrations != prompts.get(place + 10).unwrap().demonstrations));
    let targets = collect.collect()?;
    let samples = targets.ia2()?.samples(&model, &split)?;
    assert_eq!((samples.train, samples.rows.len()), (20, 23));
    first_losses(&model, &split, targets.ia2_sft(0.5)?)?;
    for (set, name) in [(&split.train, "a train query"), (&split.dev, "a dev query"), (&split.test, "a test query")] {
        refused(Targets::of(&model, &split).unlabelled(set).plan(), &[name]);
    }
    refused(Targets::of(&model, &split).unlabelled(&queries.take(0)).plan(), &["at least one query"]);
    Ok(())
}

#[test]
fn responses_of_other_queries_or_in_another_order_are_mixed_up() -> Result<()> {
    let (model, split) = (model(), split());
    let responses = Targets::of(&model, &split).orders(2).collect()?.responses().clone();
    let with = |change: &dyn Fn(&mut Vec<ia2::model::Response>)| {
        let mut rows = responses.rows().to_vec();
        change(&mut rows);
        Sft::on(&Responses::from_rows(responses.form().clone(), rows)).samples(&model, &split)
    };
    assert_eq!(with(&|_| ())?.train, 12);
    refused(with(&|rows| rows.swap(0, 1)), &["not at its place"]);
    refused(with(&|rows| rows.swap(0, 12)), &["not to the dev queries"]);
    refused(with(&|rows| rows.truncate(3)), &["too few"]);
    refused(with(&|rows| drop(rows.remove(0))), &["not at its place"]);
    refused(with(&|rows| rows[3].prompt.example = split.test.rows()[0].clone()), &["dev or test query"]);
    refused(with(&|rows| rows[3].prompt.example = split.dev.rows()[0].clone()), &["dev or test query"]);
    refused(with(&|rows| rows[3].tokens.response.clear()), &["is empty"]);
    // Those of another run's split.
    let other = ia2::dataset::Task::of(examples("words", 0, 12), Default::default()).few_shot(6, 1).unwrap();
    refused(Sft::on(&responses).samples(&model, &other), &["queries"]);
    // Unlabelled queries after demonstrations that are not this split's.
    let queries = examples("unlabelled", 20, 4);
    let unlabelled = Targets::of(&model, &split).unlabelled(&queries).collect()?;
    let mut rows = unlabelled.responses().rows().to_vec();
    rows[0].prompt.demonstrations[0] = split.test.rows()[0].clone();
    let mixed = Responses::from_rows(responses.form().clone(), rows);
    refused(Sft::on(&mixed).samples(&model, &split), &["demonstrations are not the train examples"]);
    Ok(())
}

#[test]
fn a_history_of_both_parts_and_a_named_objective() -> Result<()> {
    assert_eq!(ObjectiveEntry::named("ia2_sft")?.name, "ia2_sft");
    let names: Vec<&str> = OBJECTIVES.iter().map(|known| known.name).collect();
    assert_eq!(names.len(), names.iter().collect::<std::collections::HashSet<_>>().len(), "a name comes twice");
    let (model, split) = (model(), split());
    let targets = Targets::of(&model, &split).collect()?;
    // The loss of the sum is the sum of the losses.
    let alone = |beta: f64| first_losses(&model, &split, targets.ia2_sft(beta).unwrap()).map(|losses| losses[0]);
    let (ia2, sft, mixed) = (alone(0.0)?, alone(1.0)?, alone(0.25)?);
    assert!((mixed - (0.75 * ia2 + 0.25 * sft)).abs() < 1e-10 * mixed);
    assert!((ia2 - first_losses(&model, &split, targets.ia2()?)?[0]).abs() < 1e-10 * ia2);
    assert!((sft - first_losses(&model, &split, targets.sft())?[0]).abs() < 1e-10 * sft);
    Ok(())
}

#[test]
fn targets_of_another_model_are_refused() -> Result<()> {
    let split = split();
    let targets = Targets::of(&model(), &split).distributions(Keep::All).collect()?;
    let folder = with_words("qwen3_multi_query");
    let other = Model::open(folder.path())?;
    refused(targets.ia2()?.samples(&other, &split), &["24 wide", "16", "collect them from this model"]);
    let tiny = Model::open("tiny-icl")?;
    refused(targets.soft_sft()?.samples(&tiny, &split), &["64 ids", "collect them from this model"]);
    Ok(())
}

#[test]
fn orders_share_their_beginnings_unless_they_are_to_be_independent() -> Result<()> {
    let (model, split) = (model(), split());
    let collect = || Targets::of(&model, &split);
    let own = split.train.leave_one_out(split.run, 256)?;
    let (tree, paper) = (collect().prompts()?, collect().compat(Compat::Paper).prompts()?);
    assert_eq!(tree, split.target_prompts(256)?);
    assert_eq!(paper, collect().in_orders(Orders::Independent).prompts()?);
    assert_eq!(collect().compat(Compat::Corrected).prompts()?, tree);
    assert_ne!(tree, paper);
    for (place, prompt) in own.iter().enumerate() {
        assert_eq!(paper.get(place).unwrap().demonstrations, prompt.demonstrations, "the authors' way is what it was");
    }
    // Six examples in a tree: the halves of three, then one and two, then two: no more than 6 x 3 prefixes, where plain orders have 6 x 5.
    let beginnings = |prompts: &Prompts| {
        let shown = prompts.iter().take(6).flat_map(|prompt| (1..=5).map(|end| format!("{:?}", &prompt.demonstrations[..end])));
        shown.collect::<std::collections::HashSet<_>>().len()
    };
    assert!(beginnings(&tree) <= 18 && beginnings(&paper) > 18, "{} and {}", beginnings(&tree), beginnings(&paper));
    // Dev example j goes on from training example j's demonstrations.
    for (place, example) in split.dev.rows().iter().enumerate() {
        let dev = tree.get(6 + place).unwrap();
        assert_eq!((&dev.example, &dev.demonstrations), (example, &tree.get(place).unwrap().demonstrations));
    }
    // Of 32 examples a tree reads 32 x 5 demonstrations and not 32 x 31.
    let split = ia2::dataset::Task::of(examples("words", 0, 50), Default::default()).few_shot(32, 0)?;
    let [tree, paper] = [Orders::Tree, Orders::Independent].map(|kind| Targets::of(&model, &split).in_orders(kind).prompts());
    let (tree, paper) = (tree?, paper?);
    let sum =
        |prompts: &Prompts, column: &str| -> Result<u32> { Ok(model.lengths(prompts)?.column(column)?.u32()?.iter().flatten().sum()) };
    assert_eq!(sum(&tree, "tokens")?, sum(&paper, "tokens")?);
    assert!(4 * sum(&tree, "read")? < sum(&paper, "read")?, "{} of {}", sum(&tree, "read")?, sum(&paper, "read")?);
    Ok(())
}
