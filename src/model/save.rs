//! A model's weights by name, replaced or written as a folder that Hugging Face transformers opens.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use serde_json::Value;
use tch::Tensor;

use super::gguf::Gguf;
use super::storage::Files;
use super::{Base, Decoder, Model};
use crate::error::{Error, Result};
use crate::file::{self, Holds};
use crate::interrupt;
use crate::kind;
use crate::libtorch::guarded;
use crate::nn::LinearWeights;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
/// Shards of an older save: next to a whole file they would leave it open which of the two is the model.
const INDEX: &str = "model.safetensors.index.json";

/// What goes with a model unchanged.
const BESIDE: &[&str] = &[
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
];

/// Name and content of a file that goes with a model.
type Beside = (&'static str, Vec<u8>);

impl Model {
    /// A weight by its Hugging Face name.
    pub(crate) fn weight(&self, name: &str) -> Result<Tensor> {
        let found = self.decoder().weights().iter().find(|(weight, _)| weight == name);
        found.map(|(_, tensor)| tensor.shallow_clone()).ok_or_else(|| Error::internal(format!("no weight `{name}`")))
    }

    /// Weight `[out, in]` and bias of a linear module, or of a whole of several.
    pub(crate) fn frozen(&self, site: &str) -> Result<LinearWeights> {
        if let Some(fused) = self.decoder().fused().into_iter().find(|fused| fused.path() == site) {
            let parts = fused.parts().iter().map(|part| self.frozen(part)).collect::<Result<Vec<_>>>()?;
            let (weights, biases): (Vec<Tensor>, Vec<Option<Tensor>>) = parts.into_iter().unzip();
            let biases: Vec<Tensor> = biases.into_iter().flatten().collect();
            let bias = (!biases.is_empty()).then(|| fused.join(&biases, 0)).transpose()?;
            return Ok((fused.join(&weights, 0)?, bias));
        }
        let bias = format!("{site}.bias");
        let has_bias = self.decoder().weights().iter().any(|(name, _)| *name == bias);
        Ok((self.weight(&format!("{site}.weight"))?, has_bias.then(|| self.weight(&bias)).transpose()?))
    }

    /// This model without adapter and with some weights replaced by others of the same shapes; the rest is shared.
    pub(crate) fn with_weights(&self, mut replaced: HashMap<String, Tensor>) -> Result<Model> {
        let mut others: HashMap<&str, &Tensor> = self.decoder().weights().iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let decoder = Decoder::new(self.config(), &mut |name, shape| {
            let kept = others.remove(name).map(Tensor::shallow_clone);
            let weight = replaced.remove(name).or(kept).filter(|weight| weight.size() == shape);
            weight.ok_or_else(|| Error::internal(format!("no weight `{name}` of shape {shape:?}")))
        })?;
        let Base { folder, config, tokenizer, device, .. } = self.base.as_ref();
        let (folder, config, tokenizer) = (folder.clone(), config.clone(), tokenizer.clone());
        let base = Base { folder, sources: Vec::new(), identity: OnceCell::new(), config, decoder, tokenizer, device: *device };
        Ok(Model { base: Rc::new(base), adapter: None, steer: None })
    }

    /// Writes the model into `folder`, which [`Model::open`] and Hugging Face transformers open: `config.json`, `model.safetensors`, and the
    /// tokenizer's and generation's files of the folder that this model came from, or what its GGUF file says as such files. What was there is replaced only when all is written, and in such
    /// an order that nobody ever finds the weights of one model next to the configuration of another; see [`Adapter::save`](crate::adapter::Adapter::save).
    /// The weights hold a checksum over their file and digests of the others, which [`Model::open`] compares.
    ///
    /// # Errors
    /// A model with an adapter on it (merge it, or save the adapter), one that was not opened from a folder, one held in f64, the model's own
    /// folder or one that holds shards of another, a folder that cannot be written or that another process keeps locked.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<()> {
        guarded("saving a model", || interrupt::saving(|| self.write(folder.as_ref())))
    }

    fn write(&self, folder: &Path) -> Result<()> {
        if self.is_adapted() {
            return Err(Error::input(
                "this model has an adapter or a vector on it: save what `adapter.merge(&model)` gives, or the adapter or vector by itself (`.save`)",
            ));
        }
        let unsaved = || Error::input(format!("weights of kind {:?} cannot be saved: open the model in Float", self.kind()));
        let dtype = kind::in_config(self.kind()).ok_or_else(unsaved)?;
        let own = self.folder();
        let (mut config, beside) = self.files()?;
        if folder.join(INDEX).exists() {
            return Err(Error::file(format!("`{}` holds the shards of another model: choose another folder", folder.display())));
        }
        file::folder(folder)?;
        let same = |path: &Path| std::fs::canonicalize(path).ok();
        if same(folder) == same(own) {
            return Err(Error::input(format!("`{}` is where this model was opened from: choose another folder", folder.display())));
        }
        set_kind(&mut config, dtype);
        let config = self.config().family.alone(config);
        let stored = Files::of(self.config(), self.config().family.storage(), |_| false).write(self.decoder().weights())?;
        let config = serde_json::to_vec_pretty(&config).map_err(|error| Error::internal("writing JSON").because(error))?;
        let mut others: Vec<(&str, &[u8])> = beside.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        // Last: every reader asks for it first.
        others.push((CONFIG, &config));
        let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
        file::replace(folder, (WEIGHTS, &stored, metadata), &others, BESIDE)
    }

    /// `config.json`, and the names and contents of the files that go with a model unchanged.
    fn files(&self) -> Result<(Value, Vec<Beside>)> {
        let own = self.folder();
        if own.is_file() {
            let mut files = Gguf::open(own)?.files()?;
            let config = files.swap_remove(0).1;
            return Ok((config, files.into_iter().map(|(name, json)| (name, json.to_string().into_bytes())).collect()));
        }
        let path = own.join(CONFIG);
        if !path.is_file() {
            return Err(Error::input("this model was not opened from a folder: there is no config.json that could go with its weights"));
        }
        let config = serde_json::from_str(&file::read_text(&path)?)
            .map_err(|error| Error::file(format!("{} is not JSON", path.display())).because(error))?;
        let there = BESIDE.iter().filter(|name| own.join(name).is_file());
        let read = |name: &&'static str| {
            let bytes = file::bytes(&own.join(name), Holds::Vocabulary)
                .map_err(|error| Error::file(format!("cannot read {name}")).because(error))?;
            Ok((*name, bytes))
        };
        Ok((config, there.map(read).collect::<Result<_>>()?))
    }
}

/// Every spelling that the file has, so that none contradicts another: transformers 4 wrote `torch_dtype`, 5 writes `dtype`, and a file that
/// both have written has both.
fn set_kind(config: &mut Value, dtype: &str) {
    let mut there: Vec<&str> = ["dtype", "torch_dtype"].into_iter().filter(|key| config.get(key).is_some()).collect();
    if there.is_empty() {
        there.push("dtype");
    }
    for key in there {
        config[key] = dtype.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_the_kind_is_set() {
        let set = |mut config: Value| {
            set_kind(&mut config, "float16");
            config
        };
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(set(json("{}")), json(r#"{"dtype": "float16"}"#));
        assert_eq!(set(json(r#"{"torch_dtype": "float32"}"#)), json(r#"{"torch_dtype": "float16"}"#));
        assert_eq!(set(json(r#"{"dtype": null, "torch_dtype": "float32"}"#)), json(r#"{"dtype": "float16", "torch_dtype": "float16"}"#));
    }

    #[test]
    fn what_is_not_replaced_is_shared() -> Result<()> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/llama_biases");
        let model = Model::open(folder)?;
        let name = "model.layers.1.self_attn.q_proj.bias";
        let doubled = model.with_weights(HashMap::from([(name.to_string(), model.weight(name)? * 2.0)]))?;
        for ((weight, ours), (_, theirs)) in doubled.decoder().weights().iter().zip(model.decoder().weights()) {
            assert_eq!(ours.data_ptr() == theirs.data_ptr(), weight != name, "{weight}");
        }
        assert_ne!(doubled.forward(&[vec![1, 2]])?.values, model.forward(&[vec![1, 2]])?.values);
        let misshaped = HashMap::from([(name.to_string(), Tensor::from_slice(&[1f32]))]);
        assert!(model.with_weights(misshaped).unwrap_err().to_string().contains(name));
        Ok(())
    }

    #[test]
    fn joined_weights_are_saved_one_by_one_and_replaced_ones_joined_anew() -> Result<()> {
        let model = Model::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/qwen3_grouped_tied"))?;
        let name = |module: &str| format!("model.layers.0.{module}.weight");
        let next = |model: &Model, first: &str, second: &str| -> Result<bool> {
            let (first, second) = (model.weight(&name(first))?, model.weight(&name(second))?);
            Ok(first.data_ptr() as usize + first.numel() * 4 == second.data_ptr() as usize)
        };
        let merged = model.with_weights(HashMap::from([(name("self_attn.k_proj"), model.weight(&name("self_attn.k_proj"))? * 2.0)]))?;
        for model in [&model, &merged] {
            assert!(next(model, "self_attn.q_proj", "self_attn.k_proj")? && next(model, "mlp.gate_proj", "mlp.up_proj")?);
            let folder = tempfile::tempdir().unwrap();
            model.write(folder.path())?;
            let file = std::fs::read(folder.path().join(WEIGHTS)).unwrap();
            let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
            let bytes: usize = model.decoder().weights().iter().map(|(_, weight)| weight.numel() * 4).sum();
            assert_eq!(file.len(), 8 + header + bytes);
            let again = Model::open(folder.path())?;
            for ((name, ours), (_, theirs)) in model.decoder().weights().iter().zip(again.decoder().weights()) {
                assert_eq!(ours, theirs, "{name}");
            }
            assert_eq!(model.forward(&[vec![1, 2]])?.values, again.forward(&[vec![1, 2]])?.values);
        }
        assert_ne!(model.forward(&[vec![1, 2]])?.values, merged.forward(&[vec![1, 2]])?.values);
        Ok(())
    }
}
