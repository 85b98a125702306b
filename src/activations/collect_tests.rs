//! A collection on disk goes on where it was interrupted: forwards are counted.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use super::{Activations, Capture, Collected, Collection, Keep, Place, shards};
use crate::dataset::Task;
use crate::error::Result;
use crate::model::{Ending, Generation, Model, OpenOptions, Response, Responses, Sample};
use crate::nn::Adapt;
use crate::prompt::{AnswerForm, Example, Prompt};

/// Counts the forwards that pass by the first layer, and can break off one.
#[derive(Debug)]
struct Counting {
    forwards: Rc<Cell<usize>>,
    at_most: usize,
}

impl Adapt for Counting {
    fn linear(&self, site: &str, input: &Tensor, _training: bool, base: &dyn Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        if site == "model.layers.0.mlp.down_proj" {
            self.forwards.set(self.forwards.get() + 1);
            assert!(self.forwards.get() <= self.at_most, "interrupted");
        }
        base(input)
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
    let collected = crate::libtorch::door("collecting", || collection(&adapted, folder).collect());
    (collected, forwards.get())
}

#[test]
fn an_interrupted_collection_goes_on_and_computes_nothing_twice() -> Result<()> {
    let model = OpenOptions::new().kind(Kind::Float).device(Device::Cpu).open("tiny-icl")?;
    let (whole, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert_eq!(collection(&model, whole.path()).plan()?.place, Place::Shards(whole.path().to_path_buf(), 4));
    let (expected, all) = run(&model, whole.path(), usize::MAX);
    // Two tokens a shard: the prompts at once (perhaps what they share before), then one token more.
    assert!(all >= 8 && all.is_multiple_of(4), "{all}");
    // The third shard breaks off at its last forward.
    let (failed, _) = run(&model, broken.path(), 3 * all / 4 - 1);
    assert!(failed.unwrap_err().to_string().contains("interrupted"));
    assert_eq!(std::fs::read_dir(broken.path()).unwrap().count(), 2, "two whole files, no part of the third");
    let (rest, computed) = run(&model, broken.path(), usize::MAX);
    assert_eq!(computed, all / 2, "of four shards two were left");
    let (expected, rest) = (expected?, rest?);
    assert!(rest.responses == expected.responses);
    let values = |collected: &Collected| collected.activations.as_ref().unwrap().values().unwrap();
    assert_eq!(values(&rest), values(&expected));
    let (again, computed) = run(&model, broken.path(), 0);
    assert_eq!((values(&again?), computed), (values(&expected), 0), "a finished collection is read");
    Ok(())
}

/// Bytes of the files in `folder` that this process holds in memory.
fn resident(folder: &Path) -> u64 {
    let (maps, folder) = (std::fs::read_to_string("/proc/self/smaps").unwrap(), folder.to_str().unwrap());
    let (mut ours, mut sum, mut mapped) = (false, 0, 0);
    for line in maps.lines() {
        // The line that opens a mapping begins with its addresses and ends with its file.
        let opens = line.split(' ').next().is_some_and(|word| word.contains('-') && !word.ends_with(':'));
        if opens {
            ours = line.contains(folder);
            mapped += usize::from(ours);
        } else if let Some(size) = line.strip_prefix("Rss:").filter(|_| ours) {
            sum += size.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10;
        }
    }
    assert!(mapped > 0, "{folder} is not mapped");
    sum
}

#[test]
fn memory_holds_of_a_mapped_file_what_is_read() -> Result<()> {
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
    let mapped = Activations::open(folder.path())?;
    assert_eq!(mapped.bytes(), 32 << 20);
    assert!(resident(folder.path()) < 1 << 20, "opening reads the values");
    assert_eq!(mapped.example(9)?.mean(Kind::Double).double_value(&[]), 9.0);
    let read = resident(folder.path());
    assert!((512 << 10..4 << 20).contains(&read), "reading one example holds {read} bytes");
    assert_eq!(mapped.values()?.mean(Kind::Double).double_value(&[]), 31.5);
    Ok(())
}
