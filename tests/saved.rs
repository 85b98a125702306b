//! Everything that is saved as one thing is found as one thing: after a save that was killed, and while another one is under way.
//!
//! Longer, by hand: `IA2_TEST_KILLS=300 IA2_TEST_OPENINGS=1000 cargo test --test saved -- --nocapture`.
//! (Trainings and experiments that are killed go on: `killed.rs`, `experiment.rs`.)
#![cfg(unix)]

mod common;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{copied, disturbed, words_split, words_tokenizer};
use ia2::Result;
use ia2::objective::Targets;
use ia2::prelude::*;
use ia2::train::Manifest;

const NAME: &str = "llama_grouped_tied";
const FOLDER: &str = "IA2_TEST_SAVED_IN";
const THING: &str = "IA2_TEST_SAVED";
const PATIENCE: Duration = Duration::from_secs(120);

/// Two of a kind, which differ in every file; what is there is told from the other by a text.
trait Thing {
    fn save(&self, folder: &Path, which: usize) -> Result<()>;
    fn open(&self, folder: &Path) -> Result<String>;
}

fn numbers(tensor: &Tensor) -> String {
    format!("{:?} {:.9}", tensor.size(), tensor.to_kind(Kind::Double).square().sum(None).double_value(&[]))
}

struct Adapters {
    model: Model,
    both: [Adapter; 2],
}

impl Adapters {
    fn new(configs: [ia2::adapter::AdapterConfig; 2]) -> Result<Self> {
        let model = common::speaking(NAME);
        let [one, two] = configs;
        let both = [disturbed(&Adapter::new(&model, one, 0)?, &model, 0.3)?, disturbed(&Adapter::new(&model, two, 1)?, &model, 0.5)?];
        Ok(Self { model, both })
    }
}

/// An adapter by its settings and all that it does to the model.
fn of_adapter(adapter: &Adapter, model: &Model) -> Result<String> {
    let logits = model.with(adapter)?.forward(&[vec![5, 6, 7, 8]])?.values;
    Ok(format!("{} {}", adapter.config().name(), numbers(&logits)))
}

impl Thing for Adapters {
    fn save(&self, folder: &Path, which: usize) -> Result<()> {
        self.both[which].save(folder)
    }
    fn open(&self, folder: &Path) -> Result<String> {
        of_adapter(&Adapter::open(folder, &self.model)?, &self.model)
    }
}

struct Trainings {
    model: Model,
    both: [Trained; 2],
}

impl Trainings {
    fn new() -> Result<Self> {
        let model = common::speaking(NAME);
        let train =
            |rank: i64, rate: f64| Training::new(Lora::rank(rank), Sft::gold()).learning_rate(rate).epochs(1).run(&model, &words_split()?);
        let both = [train(2, 1e-2)?, train(3, 2e-2)?];
        Ok(Self { model, both })
    }
}

impl Thing for Trainings {
    fn save(&self, folder: &Path, which: usize) -> Result<()> {
        self.both[which].save(folder)
    }
    /// That the manifest is this adapter's is seen to by opening.
    fn open(&self, folder: &Path) -> Result<String> {
        of_adapter(&Adapter::open(folder, &self.model)?, &self.model)
    }
}

struct Models {
    _homes: [tempfile::TempDir; 2],
    both: [Model; 2],
}

impl Models {
    fn new() -> Result<Self> {
        let homes = [copied(NAME), copied(NAME)];
        for (home, words) in homes.iter().zip([64, 60]) {
            std::fs::write(home.path().join("tokenizer.json"), words_tokenizer(words)).unwrap();
        }
        let config = homes[1].path().join("config.json");
        let mut json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&config).unwrap()).unwrap();
        json["rms_norm_eps"] = 0.1.into();
        std::fs::write(config, json.to_string()).unwrap();
        let second = Model::open(homes[1].path())?;
        let merged = disturbed(&Adapter::new(&second, Lora::rank(2), 0)?, &second, 0.3)?.merge(&second)?.model;
        let both = [Model::open(homes[0].path())?, merged];
        Ok(Self { _homes: homes, both })
    }
}

impl Thing for Models {
    fn save(&self, folder: &Path, which: usize) -> Result<()> {
        self.both[which].save(folder)
    }
    fn open(&self, folder: &Path) -> Result<String> {
        let model = Model::open(folder)?;
        Ok(format!("{} {}", model.tokenizer()?.vocab_size(), numbers(&model.forward(&[vec![5, 6, 7, 8]])?.values)))
    }
}

struct Captures([ia2::activations::Activations; 2]);

impl Captures {
    fn new() -> Result<Self> {
        let model = common::speaking(NAME);
        let responses = model.respond(&words_split()?.test.zero_shot()?)?;
        Ok(Self([capture(&model, &responses, "model.layers.*.mlp")?, capture(&model, &responses, "model.layers.*.self_attn")?]))
    }
}

impl Thing for Captures {
    fn save(&self, folder: &Path, which: usize) -> Result<()> {
        self.0[which].save(folder.join("values.safetensors"))
    }
    fn open(&self, folder: &Path) -> Result<String> {
        let activations = ia2::activations::Activations::open(folder.join("values.safetensors"))?;
        Ok(format!("{:?} {}", activations.hook_points(), numbers(&activations.values()?)))
    }
}

struct Manifests([Manifest; 2]);

impl Thing for Manifests {
    fn save(&self, folder: &Path, which: usize) -> Result<()> {
        self.0[which].save(folder.join("run.json"))
    }
    fn open(&self, folder: &Path) -> Result<String> {
        let manifest: serde_json::Value = serde_json::from_str(&Manifest::open(folder.join("run.json"))?.json()?).unwrap();
        // Without what a clock says.
        Ok(format!("{} {}", manifest["settings"], manifest["outcome"]["parameters"]))
    }
}

struct Figures([ia2::figure::Figure; 2]);

impl Figures {
    fn new() -> Result<Self> {
        let frame = |height: f64| df!("x" => [0.0, 1.0], "y" => [0.0, height], "kind" => ["a", "a"]).unwrap();
        Ok(Self([lines(&frame(1.0), "x", "y", "kind")?, lines(&frame(2.0), "x", "y", "kind")?]))
    }
}

impl Thing for Figures {
    fn save(&self, folder: &Path, which: usize) -> Result<()> {
        self.0[which].save(folder.join("picture.svg"))
    }
    fn open(&self, folder: &Path) -> Result<String> {
        Ok(std::fs::read_to_string(folder.join("picture.svg")).unwrap())
    }
}

/// Shards: a collection that is killed is gone on with.
struct Collections(Model);

impl Collections {
    fn collect(&self, folder: &Path, which: usize) -> Result<Targets> {
        let split = words_split()?;
        let targets = Targets::of(&self.0, &split).shards(folder.join(which.to_string())).shard_bytes(6000).free_bytes(1);
        if which == 0 { targets.collect() } else { targets.stopping().distributions(Keep::Top(5)).collect() }
    }
}

impl Thing for Collections {
    fn save(&self, folder: &Path, which: usize) -> Result<()> {
        self.collect(folder, which)?;
        // So that the next time collects again.
        if which == 1 {
            [0, 1].iter().for_each(|which| drop(std::fs::remove_dir_all(folder.join(which.to_string()))));
        }
        Ok(())
    }
    fn open(&self, folder: &Path) -> Result<String> {
        let [one, two] = [self.collect(folder, 0)?, self.collect(folder, 1)?];
        Ok(format!(
            "{} {} {:?}",
            numbers(&one.activations()?.values()?),
            numbers(&two.activations()?.values()?),
            two.distributions()?.frame()?.column("kept")?
        ))
    }
}

/// Every kind of thing that takes a place on disk.
const THINGS: [&str; 8] = ["lora", "virtual tokens", "training", "model", "capture", "manifest", "figure", "shards"];

fn thing(name: &str) -> Result<Box<dyn Thing>> {
    Ok(match name {
        "lora" => Box::new(Adapters::new([Lora::rank(2).alpha(8.0).into(), Lora::rank(2).alpha(32.0).into()])?),
        "virtual tokens" => Box::new(Adapters::new([PromptTuning::tokens(2).into(), PrefixTuning::tokens(3).into()])?),
        "training" => Box::new(Trainings::new()?),
        "model" => Box::new(Models::new()?),
        "capture" => Box::new(Captures::new()?),
        "manifest" => Box::new(Manifests(Trainings::new()?.both.map(|trained| trained.manifest().clone()))),
        "figure" => Box::new(Figures::new()?),
        _ => Box::new(Collections(common::speaking(NAME))),
    })
}

#[test]
#[ignore = "the child of the tests below"]
fn child() -> Result<()> {
    let (Some(folder), Ok(name)) = (std::env::var_os(FOLDER), std::env::var(THING)) else { return Ok(()) };
    let thing = thing(&name)?;
    std::fs::write(Path::new(&folder).join("begun"), "").unwrap();
    loop {
        for which in [0, 1] {
            thing.save(&Path::new(&folder).join("place"), which)?;
        }
    }
}

/// A process that saves the one and the other in turns, until it is killed.
struct Writer(Child);

impl Writer {
    fn start(folder: &Path, name: &str) -> Self {
        std::fs::create_dir_all(folder.join("place")).unwrap();
        let _ = std::fs::remove_file(folder.join("begun"));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child", "--ignored"]).env(FOLDER, folder).env(THING, name).stdout(Stdio::null()).stderr(Stdio::null());
        let mut writer = Self(command.spawn().unwrap());
        let began = Instant::now();
        while !folder.join("begun").exists() {
            assert!(began.elapsed() < PATIENCE && writer.0.try_wait().unwrap().is_none(), "{name}: the writer did not begin");
            std::thread::sleep(Duration::from_micros(300));
        }
        writer
    }

    fn kill(mut self, name: &str) {
        self.0.kill().unwrap();
        assert_eq!(self.0.wait().unwrap().signal(), Some(9), "{name}: the writer ended by itself");
    }
}

impl Drop for Writer {
    /// A test that failed leaves nobody behind who saves for ever.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A moment that no clock of ours decides.
fn moment(at_most: Duration) -> Duration {
    let nanoseconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    at_most.mul_f64(f64::from(nanoseconds / 7 % 10_000) / 10_000.0)
}

/// In memory where that can be had: without a disk to wait for, more of the time goes into what must not be cut in two.
fn room() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn asked(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// What opening gives when the one, and when the other was saved and nothing went wrong.
fn expected(thing: &dyn Thing, name: &str) -> Result<Vec<String>> {
    if name == "shards" {
        return Ok(vec![thing.open(room().path())?]);
    }
    let both = [0, 1].map(|which| {
        let folder = room();
        thing.save(folder.path(), which).and_then(|()| thing.open(folder.path()))
    });
    both.into_iter().collect()
}

/// The alpha and the first number of the weights, as a program would that reads one file after the other and compares nothing; `None` where one of
/// them is not there.
fn naively(folder: &Path) -> Option<(String, Vec<u8>)> {
    let config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(folder.join("adapter_config.json")).ok()?).unwrap();
    let bytes = std::fs::read(folder.join("adapter_model.safetensors")).ok()?;
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    Some((config["lora_alpha"].to_string(), bytes[8 + header..].to_vec()))
}

#[test]
fn what_a_killed_save_leaves_is_the_one_thing_or_the_other() -> Result<()> {
    let kills = asked("IA2_TEST_KILLS", 24);
    let (mut whole, mut refused) = (0, 0);
    for (place, name) in THINGS.iter().enumerate() {
        let thing = thing(name)?;
        let expected = expected(thing.as_ref(), name)?;
        assert!(expected.len() == 1 || expected[0] != expected[1], "{name}: there is nothing to tell them apart by");
        let alone: Vec<_> = [0, 1]
            .iter()
            .filter(|_| *name == "lora")
            .map(|which| {
                let folder = room();
                thing.save(folder.path(), *which).unwrap();
                naively(folder.path()).unwrap()
            })
            .collect();
        let folder = room();
        for kill in 0..kills / THINGS.len() + usize::from(place < kills % THINGS.len()) {
            let writer = Writer::start(folder.path(), name);
            std::thread::sleep(moment(Duration::from_millis(if *name == "shards" { 300 } else { 40 })));
            writer.kill(name);
            let place = folder.path().join("place");
            match thing.open(&place) {
                Ok(found) => {
                    assert!(expected.contains(&found), "{name}, kill {kill}: a mixture: {found}");
                    whole += 1;
                }
                Err(error) => {
                    // Killed before the first save, or in the moment of replacing; never a bug, and the next save makes it whole.
                    assert!(error.is_file(), "{name}, kill {kill}: {error}");
                    refused += 1;
                }
            }
            if let (Some(found), "lora") = (naively(&place), *name) {
                assert!(alone.contains(&found), "kill {kill}: a program that compares nothing finds a mixture");
            }
        }
        if *name != "shards" {
            thing.save(&folder.path().join("place"), 1)?;
            assert_eq!(thing.open(&folder.path().join("place"))?, expected[1], "{name}");
            let left = common::listing(&folder.path().join("place"));
            assert!(left.iter().all(|(path, _)| !path.to_string_lossy().ends_with(".partial")), "{name}: {left:?}");
        }
    }
    println!("{kills} kills: {whole} times one thing or the other, {refused} times none, 0 mixtures");
    assert!(whole * 2 > kills, "{refused} of {kills} kills left nothing to open");
    Ok(())
}

#[test]
fn a_reader_beside_a_writer_finds_the_one_thing_or_the_other() -> Result<()> {
    let openings = asked("IA2_TEST_OPENINGS", 200);
    let names = ["lora", "virtual tokens", "training", "model", "capture", "manifest"];
    for name in names {
        let thing = thing(name)?;
        let expected = expected(thing.as_ref(), name)?;
        let folder = room();
        std::fs::create_dir(folder.path().join("place")).unwrap();
        thing.save(&folder.path().join("place"), 0)?;
        let writer = Writer::start(folder.path(), name);
        let mut found = [0, 0];
        for opening in 0..openings.div_ceil(names.len()) {
            let here = thing.open(&folder.path().join("place")).map_err(|error| error.to_string());
            let which = expected.iter().position(|one| here.as_ref() == Ok(one));
            found[which.unwrap_or_else(|| panic!("{name}, opening {opening}: a mixture: {here:?}"))] += 1;
            std::thread::sleep(moment(Duration::from_millis(3)));
        }
        writer.kill(name);
        println!("{name}: {} openings next to a writer: {found:?} of the one and the other, 0 mixtures", openings.div_ceil(names.len()));
    }
    Ok(())
}
