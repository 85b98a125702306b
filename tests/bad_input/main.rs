//! What cannot work is a clear error: what, where, remedy; no panic, and nothing half-written.

#[path = "../common/mod.rs"]
mod common;
mod data;
mod writing;

use std::path::{Path, PathBuf};

use common::{copied, golden_folder, listing, refused, speaking, with_words, words_tokenizer};
use ia2::Result;
use ia2::activations::Activations;
use ia2::adapter::{AdapterConfig, Start};
use ia2::dataset::{Card, Task};
use ia2::figure::lines;
use ia2::lens::logit_lens;
use ia2::model::{Ending, Response, Sample};
use ia2::objective::Objective;
use ia2::prelude::*;
use ia2::prompt::{AnswerForm, Example, Examples, Prompt, Prompts};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

const NAME: &str = "llama_grouped_tied";

/// Opens the folder, demands the refusal, and that opening changed nothing on the disk.
fn cannot_open(folder: &Path, words: &[&str]) -> ia2::Error {
    let before = listing(folder);
    let error = refused(Model::open(folder), words);
    assert!(listing(folder) == before, "opening changed the folder");
    error
}

/// A copy of the checkpoint whose one file is replaced.
fn spoilt(file: &str, content: impl AsRef<[u8]>) -> tempfile::TempDir {
    let folder = copied(NAME);
    std::fs::write(folder.path().join(file), content).unwrap();
    folder
}

/// `config.json` with one change.
fn config(from: &str, to: &str) -> String {
    let text = std::fs::read_to_string(golden_folder(NAME).join("config.json")).unwrap();
    assert!(text.contains(from), "{from} is not in the config");
    text.replace(from, to)
}

/// The weights with one tensor changed: its shape and bytes.
fn weights(name: &str, change: impl Fn(&[usize], &[u8]) -> (Vec<usize>, Vec<u8>)) -> Vec<u8> {
    let bytes = std::fs::read(golden_folder(NAME).join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut met = false;
    let rows: Vec<_> = file
        .tensors()
        .into_iter()
        .map(|(own, view)| {
            let (shape, data) = if own == name { change(view.shape(), view.data()) } else { (view.shape().to_vec(), view.data().to_vec()) };
            met |= own == name;
            (own, view.dtype(), shape, data)
        })
        .collect();
    assert!(met, "there is no weight {name}");
    let views = rows.iter().map(|(name, dtype, shape, data)| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

fn labels() -> AnswerForm {
    AnswerForm::labels(["t3", "t4"]).unwrap()
}

fn task(form: AnswerForm) -> Task {
    let rows = (0..12).map(|row| Example::new(format!("t{} t{} ", row + 10, row + 20), ["t3", "t4"][row % 2])).collect();
    Task::of(Examples::new("words", form, rows).unwrap(), Card::default())
}

#[test]
fn spoilt_weight_files() {
    let whole = std::fs::read(golden_folder(NAME).join("model.safetensors")).unwrap();
    let file = "model.safetensors";
    cannot_open(spoilt(file, &whole[..whole.len() / 2]).path(), &[file, "truncated", "download it again"]);
    cannot_open(spoilt(file, &whole[..100]).path(), &[file, "truncated"]);
    cannot_open(spoilt(file, b"").path(), &[file, "is empty"]);
    cannot_open(spoilt(file, b"<!DOCTYPE html><html>Not found</html>").path(), &[file, "web page", "download it again"]);
    cannot_open(spoilt(file, [200u8; 300]).path(), &[file, "not a valid safetensors file", "download it again"]);
    let norm = "model.layers.1.input_layernorm.weight";
    let wider = weights(norm, |shape, data| (vec![shape[0] + 1], [data, &[0; 4]].concat()));
    cannot_open(spoilt(file, wider).path(), &[norm, "needed [24], found [25]", "do not belong together"]);
    let gone = spoilt("config.json", config("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4"));
    cannot_open(gone.path(), &["model.layers.3.self_attn.q_proj", "model.layers.3.mlp.down_proj", "missing"]);
    let more = spoilt("config.json", config("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2"));
    cannot_open(more.path(), &["no place for", "model.layers.2"]);
    let folder = copied(NAME);
    std::fs::remove_file(folder.path().join(file)).unwrap();
    cannot_open(folder.path(), &["model.safetensors", "download the weights"]);
}

#[test]
fn weights_that_are_not_numbers() {
    for (value, place) in [(f32::NAN, 0), (f32::INFINITY, 7)] {
        let name = "model.layers.2.mlp.down_proj.weight";
        let bytes = weights(name, |shape, data| {
            let mut data = data.to_vec();
            data[4 * place..4 * place + 4].copy_from_slice(&value.to_le_bytes());
            (shape.to_vec(), data)
        });
        let error = cannot_open(spoilt("model.safetensors", bytes).path(), &[name]);
        assert!(error.is_numeric(), "{error}");
    }
}

#[test]
fn a_missing_shard() {
    let folder = copied("qwen3_sharded");
    std::fs::remove_file(folder.path().join("model-00002-of-00002.safetensors")).unwrap();
    cannot_open(folder.path(), &["1 of the 2 shards", "model-00002-of-00002.safetensors", "download"]);
    let folder = copied("qwen3_sharded");
    std::fs::write(folder.path().join("model.safetensors.index.json"), "{\"weight_map\": ").unwrap();
    cannot_open(folder.path(), &["model.safetensors.index.json", "not valid JSON"]);
}

#[test]
fn spoilt_configurations() {
    let open = |text: String, words: &[&str]| cannot_open(spoilt("config.json", text).path(), words);
    open("{\"model_type\": \"llama\",".into(), &["config.json", "not valid JSON", "download it again"]);
    open(String::new(), &["config.json", "not valid JSON"]);
    open("[1]".into(), &["config.json", "must hold a JSON object"]);
    open(config("\"model_type\": \"llama\"", "\"model_type\": \"mamba\""), &["mamba", "unknown", "llama", "qwen3"]);
    open(config("LlamaForCausalLM", "LlamaForSequenceClassification"), &["LlamaForSequenceClassification", "LlamaForCausalLM"]);
    open(
        config("\"mlp_bias\"", "\"clip_qkv\": 8, \"mlp_bias\""),
        &["config.json", "`clip_qkv` is 8, which is not supported", "a bound on scores"],
    );
    open(config("\"hidden_size\": 24", "\"hidden_size\": -24"), &["hidden_size", "-24"]);
    open(config("\"hidden_size\": 24", "\"hidden_size\": \"big\""), &["hidden_size", "big"]);
    let folder = copied(NAME);
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    cannot_open(folder.path(), &["config.json"]);
}

#[test]
fn broken_tokenizers() {
    cannot_open(spoilt("tokenizer.json", "{\"version\"").path(), &["tokenizer.json", "fetch it again"]);
}

/// As `git clone` without LFS leaves every large file.
const POINTER: &str =
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";

#[test]
fn pointers_of_git_lfs_say_what_they_are() -> Result<()> {
    for file in ["model.safetensors", "tokenizer.json", "config.json", "generation_config.json"] {
        cannot_open(spoilt(file, POINTER).path(), &[file, "a pointer of Git LFS", "git lfs pull"]);
    }
    let sharded = copied("qwen3_sharded");
    std::fs::write(sharded.path().join("model.safetensors.index.json"), POINTER).unwrap();
    cannot_open(sharded.path(), &["model.safetensors.index.json", "git lfs pull"]);
    let model = Model::open(golden_folder(NAME))?;
    for file in ["adapter_model.safetensors", "adapter_config.json"] {
        let folder = tempfile::tempdir().unwrap();
        Adapter::new(&model, Lora::rank(2), 0)?.save(folder.path())?;
        std::fs::write(folder.path().join(file), POINTER).unwrap();
        refused(Adapter::open(folder.path(), &model), &[file, "a pointer of Git LFS", "git lfs pull"]);
    }
    Ok(())
}

#[test]
fn a_tokenizer_with_more_tokens_than_rows_opens_and_such_a_token_is_an_error() -> Result<()> {
    // 64 rows, and two tokens more, as where a padding token was added.
    let folder = spoilt("tokenizer.json", words_tokenizer(66));
    let model = Model::open(folder.path())?;
    let fits = Model::open(with_words(NAME).path())?;
    let shown = format!("{:?}", model.bundle());
    assert!(shown.contains("the tokenizer knows 66 tokens, the embedding has 64 rows"), "{shown}");
    assert!(!format!("{:?}", fits.bundle()).contains("the tokenizer knows"));
    let error = |result: Result<()>| refused(result, &["\"t65\"", "id 65", "64 rows"]);
    let prompts = |query: &str, form: AnswerForm| {
        let example = Example::new(query, form.label_set().first().map_or("t3", String::as_str));
        Prompts::new(vec![Prompt { demonstrations: Vec::new(), example, index: 0 }]).with_form(form)
    };
    // What it knows is as before.
    assert_eq!(model.forward(&[model.tokenizer()?.encode("t1 t63")?])?.values, fits.forward(&[vec![1, 63]])?.values);
    error(model.forward(&[vec![1], vec![1, 65]]).map(drop));
    error(model.generate(&[vec![65]], &Generation::greedy(2)).map(drop));
    error(model.respond(&prompts("t5 t65", labels())).map(drop));
    error(evaluate(&model, &prompts("t5 t65", labels())).map(drop));
    let outside = AnswerForm::labels(["t65", "t4"])?;
    error(evaluate(&model, &prompts("t5", outside.clone())).map(drop));
    error(logit_lens(&model, &prompts("t5", outside.clone()), 1).map(drop));
    error(Adapter::new(&model, PromptTuning::tokens(2).start(Start::Text("t65".into())), 0).map(drop));
    // Drawn from the rows that there are.
    Adapter::new(&model, PromptTuning::tokens(64), 0)?;
    // The last token of an answer is never read, only predicted.
    let rows = (0..12).map(|row| Example::new(format!("t{} ", row + 10), ["t65", "t4"][row % 2])).collect();
    let split = Task::of(Examples::new("words", outside, rows)?, Card::default()).few_shot(4, 0)?;
    error(Training::new(Lora::rank(2), Sft::gold()).run(&model, &split).map(drop));
    Ok(())
}

#[test]
fn an_adapter_and_a_model_are_told_apart() -> Result<()> {
    let model = Model::open(golden_folder(NAME))?;
    let folder = tempfile::tempdir().unwrap();
    Adapter::new(&model, Lora::rank(2), 0)?.save(folder.path())?;
    cannot_open(folder.path(), &["holds an adapter", "Adapter::open(folder, &model)"]);
    refused(Adapter::open(golden_folder(NAME), &model), &["no adapter_config.json", "Model::open"]);
    refused(Adapter::open("./no/such/folder", &model), &["adapter_config.json", "`org/name`"]);
    Ok(())
}

#[test]
fn unknown_keys_are_shown_and_strictness_refuses_them() -> Result<()> {
    let folder = spoilt("config.json", config("\"mlp_bias\"", "\"tomorrow\": 8, \"mlp_bias\""));
    let model = Model::open(folder.path())?;
    let shown = format!("{:?}", model.bundle());
    assert!(shown.contains("unknown key `tomorrow` (8): passed over"), "{shown}");
    assert_eq!(model.config().unknown()?.height(), 1);
    assert_eq!(model.forward(&[vec![1, 2]])?.values, Model::open(golden_folder(NAME))?.forward(&[vec![1, 2]])?.values);
    refused(OpenOptions::new().strict().open(folder.path()), &["config.json", "`tomorrow` (8)", "strict"]);
    OpenOptions::new().strict().open(golden_folder(NAME))?;
    Ok(())
}

#[test]
fn a_model_saved_in_another_kind_opens_again_however_its_kind_is_spelled() -> Result<()> {
    let own = std::fs::read_to_string(golden_folder(NAME).join("config.json")).unwrap();
    for spellings in [&["dtype"][..], &["torch_dtype"], &["dtype", "torch_dtype"], &[]] {
        let mut config: serde_json::Value = serde_json::from_str(&own).unwrap();
        let all = config.as_object_mut().unwrap();
        all.retain(|key, _| !key.ends_with("dtype"));
        all.extend(spellings.iter().map(|key| ((*key).to_owned(), "float32".into())));
        let (folder, saved) = (spoilt("config.json", config.to_string()), tempfile::tempdir().unwrap());
        for kind in [Kind::Half, Kind::BFloat16] {
            OpenOptions::new().kind(kind).open(folder.path())?.save(saved.path())?;
            let model = Model::open(saved.path())?;
            assert_eq!((model.kind(), model.config().kind), (kind, kind), "{spellings:?}");
        }
    }
    Ok(())
}

#[test]
fn missing_weights_are_all_named() {
    let folder = spoilt("config.json", config("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 6"));
    cannot_open(
        folder.path(),
        &["27 of the weights are missing", "model.layers.{3-5}.self_attn.q_proj", "model.layers.{3-5}.post_attention_layernorm"],
    );
}

#[test]
fn a_model_that_is_nowhere() {
    refused(Model::open("./no/such/folder"), &["there is no folder", "./no/such/folder"]);
}

#[test]
fn batches_and_prompts_that_no_forward_can_take() -> Result<()> {
    let model = Model::open(golden_folder(NAME))?;
    let mut hooks = Hooks::new();
    refused(model.forward(&[]), &["the batch is empty", "at least one prompt"]);
    refused(model.forward_with(&[], &mut hooks), &["the batch is empty"]);
    refused(model.forward(&[vec![1], vec![]]), &["prompt 1 has no tokens"]);
    refused(model.forward(&[vec![1, 64]]), &["prompt 0", "token id 64", "ends at 63"]);
    refused(model.forward(&[vec![1; 129]]), &["129 tokens", "context is 128", "fewer demonstrations"]);
    assert!(model.forward(&[vec![1; 128]]).is_ok(), "the context itself is allowed");
    let settings = Generation::greedy(4);
    refused(model.generate(&[], &settings), &["the batch is empty"]);
    refused(model.generate(&[vec![]], &settings), &["prompt 0 has no tokens"]);
    refused(model.generate(&[vec![1; 126]], &settings), &["126 tokens", "3 more", "context is 128"]);
    assert_eq!(model.generate(&[vec![1; 125]], &settings.ignore_eos())?[0].tokens.response.len(), 4);
    refused(model.generate(&[vec![1]], &Generation::greedy(0)), &["max_new_tokens is 0"]);
    refused(model.generate(&[vec![1]], &Generation::greedy(2).batch(0)), &["batch size is 0"]);
    refused(model.generate(&[vec![1]], &Generation::greedy(2).sample(0.0, 1.0, 0)), &["temperature 0"]);
    refused(model.generate(&[vec![1]], &Generation::greedy(2).sample(1.0, f64::NAN, 0)), &["top_p NaN"]);
    // The real check for tokens of one's own text.
    refused(model.generate(&[vec![1]], &Generation::greedy(2).stop("t9")), &["tokenizer.json"]);
    let speaking = speaking(NAME);
    refused(speaking.generate(&[vec![1]], &Generation::greedy(2).stop("")), &["stop string is empty"]);
    assert!(speaking.generate(&[vec![1]], &Generation::greedy(2).stop("t9")).is_ok());
    refused(model.gradients(&[vec![1, 2]], "lm_heda", |logits| logits.sum(None)), &["lm_heda", "selects none"]);
    refused(model.gradients(&[vec![1, 2]], "model.norm", Tensor::shallow_clone), &["the scalar has shape"]);
    refused(model.gradients(&[vec![1, 2]], "model.norm", |logits| logits.sum(None) * f64::NAN), &["the scalar is NaN"]);
    refused(model.gradients(&[vec![1, 2]], "model.norm", |_| Tensor::from(1f32)), &["does not depend"]);
    let elsewhere = Tensor::from(1f32).set_requires_grad(true);
    refused(model.gradients(&[vec![1, 2]], "model.norm", |_| &elsewhere * 2.0), &["does not depend", "model.norm"]);
    refused(model.generate(&[vec![1]], &Generation::greedy(usize::MAX)), &["context"]);
    Ok(())
}

/// A panic in what the caller gave is the caller's: whose it is, its text and its place, and no talk of a bug of the library.
#[test]
fn panics_of_ones_own_hooks_and_objectives() -> Result<()> {
    let model = Model::open(golden_folder(NAME))?;
    let gone: Vec<f64> = Vec::new();
    let mut hooks = Hooks::new();
    hooks.observe("model.layers.1.mlp", |point, _| {
        println!("{}", gone[point.examples[0] + 3]);
        Ok(())
    });
    let own = |error: ia2::Error| assert!(error.is_input() && !error.is_internal() && !error.to_string().contains("bug in ia2"), "{error}");
    let words = ["the hook at `model.layers.1.mlp`", "code of your own", "tests/bad_input/main.rs:", "the len is 0 but the index is 3"];
    own(refused(model.forward_with(&[vec![1, 2]], &mut hooks), &words));
    own(refused(model.generate_with(&[vec![1, 2]], &Generation::greedy(2), &mut hooks), &words));
    let mut hooks = Hooks::new();
    hooks.edit("model.norm", |_, _| panic!("not yet written"));
    own(refused(model.forward_with(&[vec![1, 2]], &mut hooks), &["the editor at `model.norm`", "not yet written"]));
    own(refused(model.gradients(&[vec![1, 2]], "model.norm", |_| panic!("no scalar")), &["the scalar of the logits", "no scalar"]));
    // What libtorch refuses in a hook is said as anywhere else, in one line without its C++.
    let mut hooks = Hooks::new();
    hooks.edit("model.norm", |_, value| Ok(Some(value.matmul(value))));
    let error = model.forward_with(&[vec![1, 2]], &mut hooks).err().unwrap();
    assert!(
        error.is_torch() && error.to_string().starts_with("the editor at `model.norm`: libtorch refused an operation: Expected size"),
        "{error}"
    );
    assert_eq!(error.to_string().lines().count(), 1, "{error}");
    let mut hooks = Hooks::new();
    hooks.observe("model.norm", |_, value| {
        let _ = value.f_matmul(value)?;
        Ok(())
    });
    let error = model.forward_with(&[vec![1, 2]], &mut hooks).err().unwrap();
    assert!(error.is_torch() && error.to_string().lines().count() == 2 && !error.to_string().contains("Exception raised"), "{error}");
    // An objective of one's own.
    let speaking = speaking(NAME);
    let split = task(labels()).few_shot(4, 0)?;
    own(refused(Training::new(Lora::rank(2), Careless).epochs(1).run(&speaking, &split), &["the objective careless", "forgot this case"]));
    // After all that the library works as before, and gradients are recorded.
    assert!(model.gradients(&[vec![1, 2]], "model.norm", |logits| logits.sum(None)).is_ok());
    Ok(())
}

#[derive(Debug)]
struct Careless;

impl Objective for Careless {
    fn name(&self) -> String {
        "careless".into()
    }
    fn samples(&self, model: &Model, split: &Split) -> Result<ia2::objective::Samples> {
        Sft::gold().samples(model, split)
    }
    fn needs_logits(&self) -> bool {
        true
    }
    fn losses(&self, _examples: &[usize], _outputs: &ia2::objective::Outputs) -> Result<Vec<Tensor>> {
        todo!("forgot this case")
    }
}

#[test]
fn logits_that_are_not_numbers() -> Result<()> {
    let model = speaking(NAME);
    let mut hooks = Hooks::new();
    hooks.edit("model.layers.1.mlp", |_, value| Ok(Some(value * f64::NAN)));
    for settings in [Generation::greedy(2), Generation::greedy(2).sample(1.0, 0.9, 0)] {
        let error = refused(model.generate_with(&[vec![1, 5]], &settings, &mut hooks), &["prompt 0"]);
        assert!(error.is_numeric(), "{error}");
    }
    assert!(model.generate(&[vec![1, 5]], &Generation::greedy(2)).is_ok());
    Ok(())
}
