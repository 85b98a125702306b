//! Every reader of the crate: a valid input, how it is opened, and what is in it.

mod data;
mod texts;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use ia2::activations::Activations;
use ia2::adapter::AdapterConfig;
use ia2::dataset::{Card, Split};
use ia2::model::Config;
use ia2::model::weights::Weights;
use ia2::nn::Selection;
use ia2::objective::Targets;
use ia2::prelude::*;
use ia2::prompt::AnswerForm;
use ia2::tokenizer::{Chat, Tokenizer};
use ia2::train::Manifest;
use safetensors::SafeTensors;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::common::{copied, golden_folder, with_words, words_tokenizer};
use crate::mutate::Shape;

pub type Outcome = ia2::Result<String>;

/// One way into the crate.
pub struct Reader {
    pub name: String,
    pub shape: Shape,
    /// Valid inputs.
    pub inputs: Vec<Vec<u8>>,
    /// Inputs that are valid elsewhere.
    pub others: Vec<Vec<u8>>,
    /// Where the input lies as a file, for those that read one.
    pub file: Option<PathBuf>,
    /// What this library wrote: a changed value must be refused.
    pub ours: bool,
    /// What is in every such file of ours: one that lacks it is taken for a file of others, who write none.
    pub mark: Option<&'static str>,
    /// Opens what lies there, or the text, and tells its value: equal texts for equal values.
    pub open: Box<dyn Fn(&str) -> Outcome>,
    /// Time it is given, relative to the others.
    pub weight: f64,
}

impl Reader {
    /// Puts an input where it is read and opens it.
    pub fn try_input(&self, input: &[u8]) -> Outcome {
        let Some(file) = &self.file else { return (self.open)(&String::from_utf8_lossy(input)) };
        // A fresh file, never one that is cut in place: an earlier one may be mapped still, and is known by its time of change.
        let _ = std::fs::remove_file(file).or_else(|_| std::fs::remove_dir(file));
        std::fs::write(file, input).unwrap();
        (self.open)("")
    }

    /// Puts the valid input back, for readers of the same folder.
    pub fn restore(&self) {
        if let Some(file) = &self.file {
            let _ = std::fs::remove_file(file).or_else(|_| std::fs::remove_dir(file));
            std::fs::write(file, &self.inputs[0]).unwrap();
        }
    }

    fn ours(mut self) -> Self {
        self.ours = true;
        self
    }

    fn marked(mut self, mark: &'static str) -> Self {
        self.mark = Some(mark);
        self
    }

    fn weight(mut self, weight: f64) -> Self {
        self.weight = weight;
        self
    }

    fn other(mut self, input: Vec<u8>) -> Self {
        self.others.push(input);
        self
    }

    fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.inputs.push(input.into());
        self
    }
}

fn of_file(name: impl Into<String>, shape: Shape, file: impl Into<PathBuf>, open: impl Fn() -> Outcome + 'static) -> Reader {
    let file = file.into();
    let inputs = vec![std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))];
    Reader {
        name: name.into(),
        shape,
        inputs,
        others: Vec::new(),
        file: Some(file),
        ours: false,
        mark: None,
        open: Box::new(move |_| open()),
        weight: 1.0,
    }
}

fn of_text(name: &str, pieces: &'static [&'static str], inputs: &[&str], open: impl Fn(&str) -> Outcome + 'static) -> Reader {
    let inputs = inputs.iter().map(|input| input.as_bytes().to_vec()).collect();
    Reader {
        name: name.into(),
        shape: Shape::Text(pieces),
        inputs,
        others: Vec::new(),
        file: None,
        ours: false,
        mark: None,
        open: Box::new(open),
        weight: 1.0,
    }
}

/// What the readers' files stand in.
pub struct Workshop {
    folder: PathBuf,
    model: Model,
}

const NAME: &str = "llama_grouped_tied";

impl Workshop {
    pub fn new(folder: &Path) -> Self {
        let model = folder.join("model");
        std::fs::create_dir_all(&model).unwrap();
        for entry in std::fs::read_dir(with_words(NAME).path()).unwrap().flatten() {
            std::fs::copy(entry.path(), model.join(entry.file_name())).unwrap();
        }
        Self { folder: folder.to_owned(), model: OpenOptions::new().device(Device::Cpu).open(model).unwrap() }
    }

    fn place(&self, name: &str) -> PathBuf {
        let place = self.folder.join(name);
        std::fs::create_dir_all(&place).unwrap();
        place
    }

    fn copy(&self, from: &Path, name: &str) -> PathBuf {
        let place = self.place(name);
        for entry in std::fs::read_dir(from).unwrap().flatten() {
            match entry.path().is_dir() {
                true => drop(self.copy(&entry.path(), &format!("{name}/{}", entry.file_name().to_string_lossy()))),
                false => drop(std::fs::copy(entry.path(), place.join(entry.file_name())).unwrap()),
            }
        }
        place
    }

    pub fn readers(&self) -> Vec<Reader> {
        let mut readers = self.models();
        readers.extend(self.tokenizers());
        readers.extend(self.adapters());
        readers.extend(self.trainings());
        readers.extend(self.collections());
        readers.extend(self.tasks());
        readers.extend(self.benchmarks());
        readers.extend(self.texts());
        let names: Vec<&str> = readers.iter().map(|reader| reader.name.as_str()).collect();
        std::fs::write(self.folder.join("../names"), serde_json::to_string(&names).unwrap()).unwrap();
        readers
    }

    fn models(&self) -> Vec<Reader> {
        let mut readers = Vec::new();
        for name in [NAME, "qwen2_grouped", "qwen3_grouped_tied", "llama_multi_query_llama3"] {
            let folder = self.copy(copied(name).path(), &format!("config-{name}"));
            let reader = of_file(format!("config.json, {name}"), Shape::Json, folder.join("config.json"), move || config(&folder));
            readers.push(reader.input(std::fs::read(golden_folder(name).join("config.other_spelling.json")).unwrap()));
        }
        let folder = self.copy(copied(NAME).path(), "generation");
        let file = folder.join("generation_config.json");
        readers.push(of_file("generation_config.json", Shape::Json, file, move || config(&folder)));
        let folder = self.copy(with_words(NAME).path(), "opened");
        let opened = move |folder: &Path| {
            let model = OpenOptions::new().device(Device::Cpu).open(folder)?;
            let logits = model.forward(&[vec![1, 2, 3]])?.values;
            Ok(format!("{:?} {}", model.config(), hex(&bytes(&logits))))
        };
        let (place, open) = (folder.clone(), opened);
        for name in ["llama", "llama3", "qwen2", "qwen3", "gemma3", "gpt2", "phi3", "qwen3moe"] {
            let golden = golden_folder("gguf").join(format!("{name}.gguf"));
            if golden.exists() {
                let file = self.place("gguf").join(format!("{name}.gguf"));
                std::fs::copy(golden, &file).unwrap();
                let place = file.clone();
                readers.push(of_file(format!("{name}.gguf"), Shape::Bytes, file, move || opened(&place)));
            }
        }
        readers.push(of_file("config.json of an opened model", Shape::Json, folder.join("config.json"), move || open(&place)));
        // What Python's cache says a branch means.
        let hub = std::env::var_os("HF_HUB_CACHE").map(PathBuf::from);
        if let Some(hub) = hub {
            let root = hub.join("models--org--name");
            std::fs::create_dir_all(root.join("refs")).unwrap();
            std::fs::create_dir_all(root.join("snapshots")).unwrap();
            let snapshot = root.join("snapshots/abc");
            if !snapshot.exists() {
                std::fs::create_dir(&snapshot).unwrap();
                for entry in std::fs::read_dir(&folder).unwrap().flatten() {
                    std::fs::copy(entry.path(), snapshot.join(entry.file_name())).unwrap();
                }
            }
            let file = with_text(&root.join("refs"), "main", "abc\n");
            readers.push(of_file("refs/main of a cached model", Shape::Bytes, file, move || opened(Path::new("org/name"))).weight(0.5));
        }
        for name in [NAME, "llama_bf16", "qwen3_f16"] {
            let folder = self.copy(copied(name).path(), &format!("weights-{name}"));
            let file = folder.join("model.safetensors");
            readers.push(of_file(format!("model.safetensors, {name}"), Shape::Safetensors, file, move || weights(&folder)));
        }
        for file in ["model.safetensors.index.json", "model-00001-of-00002.safetensors"] {
            let folder = self.copy(copied("qwen3_sharded").path(), &format!("sharded-{file}"));
            let shape = if file.ends_with("json") { Shape::Json } else { Shape::Safetensors };
            readers.push(of_file(format!("{file} of two shards"), shape, folder.join(file), move || weights(&folder)));
        }
        readers
    }

    fn tokenizers(&self) -> Vec<Reader> {
        let folder = self.place("tokenizer");
        let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/models/tiny-icl/tokenizer.json");
        let file = with_text(&folder, "tokenizer.json", &words_tokenizer(40));
        let small = of_file("tokenizer.json, small ones", Shape::Json, file, {
            let folder = folder.clone();
            move || tokenizer(&folder)
        });
        let small = tokenizers_of_all_kinds().into_iter().fold(small, |reader, text| reader.input(text));
        let folder = self.place("tokenizer-tiny");
        std::fs::copy(tiny, folder.join("tokenizer.json")).unwrap();
        let file = folder.join("tokenizer.json");
        let mut readers = self.chats();
        readers.extend([small.weight(2.0), of_file("tokenizer.json, tiny-icl", Shape::Json, file, move || tokenizer(&folder)).weight(2.0)]);
        readers
    }

    fn adapters(&self) -> Vec<Reader> {
        let mut readers = Vec::new();
        let lora = Lora::rank(2).layers([0, 2]).rank_at("q_proj", 3).alpha_at("model.layers.2.*.k_proj", 4.0);
        let kinds: [(&str, AdapterConfig); 5] = [
            ("lora", lora.into()),
            ("ia3", Ia3::new().into()),
            ("prompt", PromptTuning::tokens(3).into()),
            ("prefix", PrefixTuning::tokens(2).into()),
            ("cartridge", Cartridge::of(&[1, 9, 30]).into()),
        ];
        for (kind, config) in kinds {
            for (file, shape) in [("adapter_config.json", Shape::Json), ("adapter_model.safetensors", Shape::Safetensors)] {
                let (folder, again) = (self.place(&format!("{kind}-{file}")), self.place(&format!("{kind}-{file}-again")));
                Adapter::new(&self.model, config.clone(), 5).unwrap().save(&folder).unwrap();
                let model = self.model.clone();
                let (place, open) = (folder.join(file), move || {
                    Adapter::open(&folder, &model)?.save(&again)?;
                    Ok(format!("{} {}", text(&again.join("adapter_config.json")), tensors(&again.join("adapter_model.safetensors"))))
                });
                let reader = of_file(format!("{file}, {kind}"), shape, place, open).ours();
                // PEFT's own files have no checksum.
                readers.push(if shape == Shape::Safetensors { reader.marked("ia2_checksum") } else { reader });
            }
        }
        // On parts of a matrix: the weights' file tells which.
        let model = OpenOptions::new().device(Device::Cpu).open(golden_folder("families/phi3")).unwrap();
        for (kind, config) in
            [("lora", AdapterConfig::from(Lora::rank(2).sites("q_proj, v_proj"))), ("ia3", Ia3::new().sites("k_proj").into())]
        {
            let (folder, again) = (self.place(&format!("parts-{kind}")), self.place(&format!("parts-{kind}-again")));
            Adapter::new(&model, config, 5).unwrap().save(&folder).unwrap();
            let (file, model) = (folder.join("adapter_model.safetensors"), model.clone());
            assert!(String::from_utf8_lossy(&std::fs::read(&file).unwrap()).contains("ia2_parts"));
            let open = move || {
                let adapter = Adapter::open(&folder, &model)?;
                adapter.save(&again)?;
                Ok(format!("{} {}", adapter.config().name(), tensors(&again.join("adapter_model.safetensors"))))
            };
            let name = format!("adapter_model.safetensors, {kind} on parts");
            readers.push(of_file(name, Shape::Safetensors, file, open).ours().marked("ia2_checksum"));
        }
        // As Python's PEFT may write them, by patterns; others' files may say anything that can be read.
        let folder = self.place("peft");
        Adapter::new(&self.model, Lora::rank(2).sites("q_proj, v_proj"), 5).unwrap().save(&folder).unwrap();
        // Written by others, they have no checksum.
        let weights = folder.join("adapter_model.safetensors");
        Tensor::write_safetensors(&Tensor::read_safetensors(&weights).unwrap(), &weights).unwrap();
        let config = json!({
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 8, "target_modules": ".*\\.(q|v)_proj", "bias": "none",
            "rank_pattern": {"layers.1.*q_proj": 2}, "alpha_pattern": {".*v_proj": 3.5}, "exclude_modules": "lm_head", "layers_to_transform": null,
            "inference_mode": true, "base_model_name_or_path": "somewhere/else", "fan_in_fan_out": false, "use_rslora": false
        });
        let file = with_text(&folder, "adapter_config.json", &config.to_string());
        let model = self.model.clone();
        readers.push(of_file("adapter_config.json by patterns", Shape::Json, file, move || {
            Ok(format!("{:?}", Adapter::open(&folder, &model)?))
        }));
        readers
    }

    /// A grid of a model in files.
    fn planned(&self) -> Experiment {
        let model = Model::open("tiny-icl").unwrap();
        Experiment::new(&model).tasks(&["sentiment"]).tested_on("sentiment", &[]).sizes(&[4]).runs(2).test_at_most(4)
    }
}

const TOKENIZER_CONFIG: &str = r#"{"bos_token": "t1", "eos_token": "t2", "model_max_length": 128, "tokenizer_class": "PreTrainedTokenizerFast",
    "chat_template": "{% for message in messages %}{{ message.content }}{% endfor %}", "add_bos_token": false}"#;

fn with_text(folder: &Path, name: &str, text: &str) -> PathBuf {
    std::fs::write(folder.join(name), text).unwrap();
    folder.join(name)
}

fn examples(count: usize) -> ia2::prompt::Examples {
    let rows = (0..count).map(|row| Example::new(format!("t{} t{} ", row + 10, row + 30), ["t3", "t4"][row * 5 % 7 % 2])).collect();
    ia2::prompt::Examples::new("words", AnswerForm::labels(["t3", "t4"]).unwrap(), rows).unwrap()
}

fn split() -> Split {
    ia2::dataset::Task::of(examples(12), Card::default()).few_shot(4, 0).unwrap()
}

fn config(folder: &Path) -> Outcome {
    let config = Config::open(folder)?;
    Ok(format!("{config:?} {config} {} {}", config.weights().len(), config.parameters()))
}

/// Every tensor, taken in its shape.
fn weights(folder: &Path) -> Outcome {
    let mut weights = Weights::open(folder, Device::Cpu, None)?;
    let mut told = format!("{} ", weights.bytes());
    for name in weights.names() {
        let shape = weights.shape(&name).unwrap_or_default();
        let tensor = weights.take(&name, &shape)?;
        told.push_str(&format!("{name} {:?} {shape:?} {} ", tensor.kind(), hex(&bytes(&tensor))));
    }
    weights.finish()?;
    Ok(told)
}

fn tokenizer(folder: &Path) -> Outcome {
    let tokenizer = Tokenizer::open(folder)?;
    let mut told = format!("{:?} {}", tokenizer, tokenizer.vocab_size());
    for text in ["Text:t1 t2 a fine day, 12 cafés…\n\n  over\tthere 🦀\nLabel:", "t3", " ", "日本<s>\u{301}"] {
        // Some of these texts give no token by right.
        for ids in [tokenizer.encode(text), tokenizer.encode_plain(text)] {
            match ids {
                Ok(ids) => {
                    tokenizer.spellings(&ids);
                    told.push_str(&format!("{ids:?} {}", tokenizer.decode(&ids)?));
                }
                Err(error) if error.is_input() => {}
                Err(error) => return Err(error),
            }
        }
    }
    told.push_str(&tokenizer.decode(&[0, 1, 2, 3, u32::MAX])?);
    told.push_str(&frame(&tokenizer.tokens("t1 t2").or_else(|error| if error.is_input() { Ok(DataFrame::empty()) } else { Err(error) })?));
    Ok(told)
}

fn tokenizers_of_all_kinds() -> Vec<String> {
    let vocabulary = |pieces: &[&str]| pieces.iter().enumerate().map(|(id, piece)| (piece.to_string(), id)).collect::<BTreeMap<_, _>>();
    let added =
        json!([{"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}]);
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true});
    let pieces = ["<s>", "a", "b", "t", "ab", "Ġ", "Ġt", "1", "2", "<0x41>", "<0xE6>", "f", "i", "fi"];
    let bpe = json!({
        "version": "1.0", "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}, "padding": null,
        "added_tokens": added, "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "(?i:'s|'t)|\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"}, "behavior": "Isolated", "invert": false}, bytes]},
        "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
        "decoder": bytes,
        "model": {"type": "BPE", "dropout": null, "unk_token": "<s>", "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": false,
            "byte_fallback": true, "vocab": vocabulary(&pieces), "merges": [["a", "b"], ["Ġ", "t"], ["f", "i"]]}
    });
    let unigram = json!({
        "version": "1.0", "truncation": null, "padding": {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "<s>"},
        "added_tokens": added, "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}, {"type": "NFKC"}, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": false, "vocab": [["<s>", 0.0], ["▁", -1.0], ["a", -2.0], ["b", -2.5], ["▁ab", -1.5], ["t", -3.0], ["1", -4.0]]}
    });
    let piece = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": {"type": "BertProcessing", "sep": ["<s>", 0], "cls": ["<s>", 0]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "<s>", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocabulary(&["<s>", "a", "##b", "t", "##1", "fine"])}
    });
    [bpe, unigram, piece].iter().map(serde_json::Value::to_string).collect()
}

fn hex(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// A tensor's bytes.
fn bytes(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.detach().contiguous();
    let mut data = vec![0u8; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.copy_data_u8(&mut data, tensor.numel());
    data
}

fn text(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap()
}

/// What a safetensors file that was just written holds, in one order.
fn tensors(file: &Path) -> String {
    let content = std::fs::read(file).unwrap();
    let (_, header) = SafeTensors::read_metadata(&content).unwrap();
    let texts: BTreeMap<String, String> = header.metadata().clone().unwrap_or_else(HashMap::new).into_iter().collect();
    let mut all: Vec<_> = SafeTensors::deserialize(&content).unwrap().tensors();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let all: Vec<String> =
        all.iter().map(|(name, view)| format!("{name} {:?} {:?} {}", view.dtype(), view.shape(), hex(view.data()))).collect();
    format!("{} {texts:?}", all.join(" "))
}

fn frame(frame: &DataFrame) -> String {
    let mut told = format!("{:?}", frame.get_column_names());
    for column in frame.columns() {
        for row in 0..column.len() {
            told.push_str(&format!(" {:?}", column.get(row).unwrap()));
        }
    }
    told
}
