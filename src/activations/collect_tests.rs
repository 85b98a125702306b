//! A collection on disk goes on where it was interrupted: forwards are counted.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use super::{Activations, Capture, Collected, Collection, Keep, StorageLocation, shards};
use crate::dataset::Task;
use crate::error::Result;
use crate::model::{Ending, Generation, Model, OpenOptions, Response, Responses, Sample};
use crate::nn::{Adapt, DropoutDraws, Frozen};
use crate::prompt::{AnswerForm, Example, Prompt};

/// Counts the forwards that pass by the first layer, and can break off one.
#[derive(Debug)]
struct Counting {
    forwards: Rc<Cell<usize>>,
    at_most: usize,
}

impl Adapt for Counting {
    fn linear(&self, module: &Frozen<'_>, input: &Tensor, _draws: Option<DropoutDraws>) -> Result<Tensor> {
        if module.path() == "model.layers.0.mlp.down_proj" {
            self.forwards.set(self.forwards.get() + 1);
            assert!(self.forwards.get() <= self.at_most, "interrupted");
        }
        module.forward(input)
    }
}

fn collection(model: &Model, folder: &Path) -> Collection {
    let task = Task::open("sentiment").unwrap().test_at_most(8).unwrap();
    Collection {
        model: model.clone(),
        prompts: task.few_shot(8, 0).unwrap().target_prompts(256).unwrap(),
        settings: Generation::greedy(2).ignore_eos(),
        capture: Some(Capture::at("model.layers.*.self_attn")),
        keep: Some(Keep::Top(4)),
        device: None,
        folder: Some(folder.to_path_buf()),
        budget: Some(1),
        // Three of the twelve prompts.
        shard_bytes: Some(3 * (2 * 4 * (8 + 4)) + 3 * 2 * model.config().layers as u64 * model.config().hidden_size as u64 * 4),
    }
}

fn run(model: &Model, folder: &Path, at_most: usize) -> (Result<Collected>, usize) {
    let forwards = Rc::new(Cell::new(0));
    let adapted = model.adapted(Rc::new(Counting { forwards: forwards.clone(), at_most }));
    let collected = crate::libtorch::guarded("collecting", || collection(&adapted, folder).collect());
    (collected, forwards.get())
}

#[test]
fn an_interrupted_collection_goes_on_and_computes_nothing_twice() -> Result<()> {
    let model = OpenOptions::new().kind(Kind::Float).device(Device::Cpu).open("tiny-icl")?;
    let (whole, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert_eq!(collection(&model, whole.path()).plan()?.place, StorageLocation::Shards(whole.path().to_path_buf(), 4));
    let (expected, all) = run(&model, whole.path(), usize::MAX);
    // Two tokens a shard: the prompts at once (perhaps what they share before), then one token more.
    assert!(all >= 8, "{all}");
    let last = shards::path(whole.path(), 3, 4);
    std::fs::remove_file(&last).unwrap();
    let (again, of_last) = run(&model, whole.path(), usize::MAX);
    assert!(again.is_ok() && last.exists() && (2..=all - 6).contains(&of_last), "{of_last} of {all}");
    // The last shard breaks off at its last forward.
    let (failed, _) = run(&model, broken.path(), all - 1);
    assert!(failed.unwrap_err().to_string().contains("interrupted"));
    assert_eq!(std::fs::read_dir(broken.path()).unwrap().count(), 3, "three whole files, no part of the last");
    let (rest, computed) = run(&model, broken.path(), usize::MAX);
    assert_eq!(computed, of_last, "of four shards one was left");
    let (expected, rest) = (expected?, rest?);
    assert!(rest.responses == expected.responses);
    let values = |collected: &Collected| collected.activations.as_ref().unwrap().values().unwrap();
    assert_eq!(values(&rest), values(&expected));
    let (again, computed) = run(&model, broken.path(), 0);
    assert_eq!((values(&again?), computed), (values(&expected), 0), "a finished collection is read");
    Ok(())
}

/// Bytes that this thread has read from files.
fn read() -> u64 {
    let counters = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    counters.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

#[test]
fn of_a_file_is_read_what_is_asked_for_and_nothing_that_was_changed() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    // 64 examples of 512 KiB.
    let response = |index| Response {
        prompt: Prompt { demonstrations: Vec::new(), example: Example::new(format!("q{index}"), "g"), index },
        tokens: Sample { prompt: vec![1], response: vec![2; 16] },
        text: String::new(),
        ending: Ending::Length,
        close_calls: 0,
    };
    let responses = Responses::from_rows(AnswerForm::free(), (0..64).map(response).collect());
    let points: Vec<String> = (0..64).map(|layer| format!("model.layers.{layer}")).collect();
    {
        let values = Tensor::arange(64, (Kind::Float, Device::Cpu)).view([64, 1, 1, 1]).expand([64, 64, 16, 128], false).contiguous();
        let activations = Some(Activations::new(values, points, responses.clone())?);
        shards::write(folder.path(), (0, 1), "any", &Collected { responses, activations, distributions: None })?;
    }
    let before = read();
    let stored = Activations::open(folder.path())?;
    assert_eq!((stored.bytes(), stored.on_disk()), (32 << 20, true));
    assert!(read() - before < 1 << 18, "opening reads the values: {}", read() - before);
    let before = read();
    assert_eq!(stored.example(9)?.mean(Kind::Double).double_value(&[]), 9.0);
    let one = read() - before;
    assert!((512 << 10..600 << 10).contains(&one), "one example takes {one} bytes");
    // Compared once, a layer of it is read by itself.
    let before = read();
    assert_eq!(stored.rows.at(3)?.get(9, 16)?.mean(Kind::Double).double_value(&[]), 9.0);
    let layer = read() - before;
    assert!((8 << 10..64 << 10).contains(&layer), "one layer takes {layer} bytes");
    assert_eq!(stored.values()?.mean(Kind::Double).double_value(&[]), 31.5);
    // In the example that is asked for one bit is another; or the file is cut short while it is open.
    let path = shards::path(folder.path(), 0, 1);
    let bytes = std::fs::read(&path).unwrap();
    let mut changed = bytes.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    std::fs::write(&path, &changed).unwrap();
    let spoilt = Activations::open(folder.path())?;
    assert_eq!(spoilt.example(62)?.mean(Kind::Double).double_value(&[]), 62.0);
    assert_eq!(stored.example(5)?.mean(Kind::Double).double_value(&[]), 5.0);
    for (which, result) in [spoilt.example(63), spoilt.values(), stored.example(63)].into_iter().enumerate() {
        let text = result.expect_err(&format!("result {which}")).to_string();
        assert!(text.contains("shard-00001") && text.contains("changed, cut short or damaged") && text.contains("delete it"), "{text}");
    }
    std::fs::write(&path, &bytes).unwrap();
    let open = Activations::open(folder.path())?;
    std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
    // What is left is what was saved; the rest is an error, and no signal.
    assert_eq!(open.example(0)?.mean(Kind::Double).double_value(&[]), 0.0);
    for example in [5, 63] {
        let error = open.example(example).unwrap_err();
        assert!(error.is_file() && error.to_string().contains("cut short"), "{error}");
    }
    Ok(())
}

/// The manifest of a shard after `change`, with a checksum that is right; the file as it was.
fn rewritten(path: &Path, change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let before = std::fs::read(path).unwrap();
    let file = crate::file::read_tensors(path, "").unwrap();
    let mut texts = file.texts;
    let mut manifest: serde_json::Value = serde_json::from_str(&texts["ia2_shard"]).unwrap();
    change(&mut manifest);
    manifest.as_object_mut().unwrap().remove("ia2_checksum");
    texts.insert("ia2_shard".into(), crate::file::json(&manifest).unwrap());
    crate::file::write_safetensors(path, &file.tensors.into_iter().collect::<Vec<_>>(), texts).unwrap();
    before
}

#[test]
fn parts_of_one_collection_hold_the_same() -> Result<()> {
    let model = OpenOptions::new().kind(Kind::Float).device(Device::Cpu).open("tiny-icl")?;
    let folder = tempfile::tempdir().unwrap();
    run(&model, folder.path(), usize::MAX).0?;
    let path = shards::path(folder.path(), 1, 4);
    type Change = fn(&mut serde_json::Value);
    let changes: [(Change, &str); 5] = [
        (|manifest| manifest["hook_points"][0] = "model.layers.0.mlp".into(), "the same hook points"),
        (|manifest| manifest["vocab"] = 7.into(), "the same hook points"),
        (|manifest| manifest["positions"] = "Prompt".into(), "where its manifest says"),
        (|manifest| drop(manifest["digests"].as_object_mut().unwrap().remove("ids")), "of `ids`"),
        (|manifest| drop(manifest["responses"]["rows"].as_array_mut().unwrap().pop()), "where its manifest says"),
    ];
    for (change, words) in changes {
        let before = rewritten(&path, change);
        for result in [run(&model, folder.path(), 0).0.map(drop), Activations::open(folder.path()).map(drop)] {
            let text = result.unwrap_err().to_string();
            assert!(text.contains(words), "{words}: {text}");
        }
        std::fs::write(&path, before).unwrap();
    }
    run(&model, folder.path(), 0).0.map(drop)
}
