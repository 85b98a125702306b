//! What `config.json` says of a model: every key used, passed over, refused by name, or listed as unknown.

mod known;
mod rope;
#[cfg(test)]
mod tests;

use super::family::Family;
use super::gguf::Gguf;
use super::keys::{Keys, listed};
use crate::error::{Error, Result};
use crate::nn::rope::Rope;
use polars::prelude::*;
use std::fmt;
use std::path::Path;
use tch::Kind;

/// More layers than any model has; a wrong number must not become a list of a billion weights.
const MOST_LAYERS: i64 = 4096;

/// The most of any other size.
const MOST: i64 = i32::MAX as i64;

/// A model's architecture, as read from `config.json` and `generation_config.json`.
///
/// The same decoder runs every family: with hidden state `h`, each layer adds `self_attn(norm(h))` and then `mlp(norm(h))`,
/// where `mlp(x) = down_proj(silu(gate_proj(x)) * up_proj(x))`; a last norm and `lm_head` give the logits.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Which family's file this is.
    pub family: Family,
    /// Rows of the embedding; token ids are below it.
    pub vocab_size: i64,
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Width inside the MLP.
    pub intermediate_size: i64,
    /// Number of decoder layers.
    pub layers: i64,
    /// Query heads; a multiple of `kv_heads`.
    pub heads: i64,
    /// Key and value heads: `heads` for full attention, 1 for multi-query, between them for grouped-query attention.
    pub kv_heads: i64,
    /// Width of one head; even. `heads * head_dim` need not be `hidden_size`.
    pub head_dim: i64,
    /// The epsilon inside the root of every RMS norm; above 0.
    pub rms_norm_eps: f64,
    /// The rotary position embedding.
    pub rope: Rope,
    /// The longest sequence, prompt and response together, in tokens.
    pub max_positions: i64,
    /// True if the output layer is the embedding's matrix; then there is no `lm_head.weight`.
    pub tie_embeddings: bool,
    /// True if `q_proj`, `k_proj` and `v_proj` have biases.
    pub qkv_bias: bool,
    /// True if `o_proj` has a bias.
    pub o_bias: bool,
    /// True if `gate_proj`, `up_proj` and `down_proj` have biases.
    pub mlp_bias: bool,
    /// True if queries and keys pass an RMS norm over `head_dim` before the rotation.
    pub qk_norm: bool,
    /// The kind the file declares (`dtype`, `torch_dtype`); f32 when it declares none. The weights themselves decide what is loaded.
    pub kind: Kind,
    /// The token that begins a text, if any: `generation_config.json`'s, else `config.json`'s.
    pub bos: Option<u32>,
    /// The tokens that end a response: `generation_config.json`'s, else `config.json`'s.
    pub eos: Vec<u32>,
    /// The keys of the files that nobody here knows, and so nothing is done about, with their values in JSON: bookkeeping of the one who
    /// wrote them, as a rule. Null, false and what is empty ask for nothing and are left out; [`Config::unknown`] is the frame of them.
    pub unknown_keys: Vec<(String, String)>,
}

impl Config {
    /// Reads `config.json` and, when there, `generation_config.json` in a model's folder; or the metadata of a GGUF file.
    ///
    /// Keys that no family here knows are listed in [`Config::unknown`]; [`OpenOptions::strict`](super::OpenOptions::strict) refuses them. Of
    /// `generation_config.json` only `bos_token_id` and `eos_token_id` are used, and no value in it is refused.
    ///
    /// # Errors
    /// A file error names the file and the key: missing, of the wrong kind, out of range, or known to change what is computed; an unknown
    /// family is an error that lists the known ones.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        if folder.is_file() {
            return Self::of_gguf(&Gguf::open(folder)?);
        }
        let path = folder.join("config.json");
        if !path.is_file() {
            let what = match folder.is_dir() {
                true if folder.join("adapter_config.json").exists() => {
                    return Err(Error::file(format!(
                        "`{}` holds an adapter, not a model: open its base model, then `Adapter::open(folder, &model)`",
                        folder.display()
                    )));
                }
                true => "holds no `config.json`",
                false => "is not a folder",
            };
            return Err(Error::file(format!(
                "`{}` {what}: a model is a folder with config.json, model.safetensors (or its shards and index) and tokenizer.json",
                folder.display()
            )));
        }
        let mut config = Self::of_keys(Keys::open(&path)?)?;
        let path = folder.join("generation_config.json");
        if path.exists() {
            config.read_generation(Keys::open(&path)?);
        }
        Ok(config)
    }

    /// What the metadata of a GGUF file say.
    pub(super) fn of_gguf(file: &Gguf) -> Result<Self> {
        Self::of_keys(Keys::of(format!("`{}`, its metadata as config.json", file.path().display()), file.config()?)?)
    }

    /// What `config.json` says.
    fn of_keys(mut keys: Keys) -> Result<Self> {
        let family = Family::of(&mut keys)?;
        let mut config = (family.read)(&mut keys, family)?;
        known::settle(&mut keys)?;
        config.unknown_keys = keys.rest();
        Ok(config)
    }

    /// Refuses a file with keys that nobody here knows.
    pub(super) fn demand_known(&self, place: &Path) -> Result<()> {
        let file = if place.is_file() { place.to_path_buf() } else { place.join("config.json") };
        match self.unknown_keys.is_empty() {
            true => Ok(()),
            false => Err(Error::file(format!(
                "`{}`: {}; nothing here knows whether that changes what the model computes. Without `OpenOptions::strict` the model opens as if \
                 it were not there",
                file.display(),
                listed(&self.unknown_keys)
            ))),
        }
    }

    /// One row per unknown key of the files: `key` (`outer.inner` of an inner object, `generation_config.json: ..` of that file) and `value`
    /// (in JSON, cut to 60 letters). No rows where every key is known.
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn unknown(&self) -> Result<DataFrame> {
        let column = |of: fn(&(String, String)) -> &str| self.unknown_keys.iter().map(of).collect::<Vec<_>>();
        Ok(df!("key" => column(|(key, _)| key), "value" => column(|(_, value)| value))?)
    }

    /// [`Config::unknown`] in one line, or nothing.
    pub(super) fn unknown_line(&self) -> Option<String> {
        let line = || format!("{}: passed over, see `model.config().unknown()?`", listed(&self.unknown_keys));
        (!self.unknown_keys.is_empty()).then(line)
    }

    /// Reads the keys that all families share, with the biases and norms that only some have left off.
    /// `head_dim` is what the family takes when the file does not say; without it `hidden_size / heads`.
    pub(super) fn shared(keys: &mut Keys, family: Family, head_dim: Option<i64>) -> Result<Self> {
        let hidden_size = keys.needed_size("hidden_size")?;
        let layers = keys.needed_size("num_hidden_layers")?;
        if layers > MOST_LAYERS {
            return Err(keys.error(format!("`num_hidden_layers` is {layers}, but at most {MOST_LAYERS} are supported")));
        }
        let heads = keys.needed_size("num_attention_heads")?;
        let kv_heads = keys.size("num_key_value_heads")?.unwrap_or(heads);
        if heads % kv_heads != 0 {
            return Err(keys.error(format!(
                "`num_attention_heads` ({heads}) must be a multiple of `num_key_value_heads` ({kv_heads}), because each of these serves an equal group"
            )));
        }
        let head_dim = match keys.size("head_dim")?.or(head_dim) {
            Some(head_dim) => head_dim,
            None if hidden_size % heads == 0 => hidden_size / heads,
            None => {
                return Err(keys.error(format!(
                    "`hidden_size` ({hidden_size}) must be a multiple of `num_attention_heads` ({heads}) when `head_dim` is absent"
                )));
            }
        };
        if head_dim % 2 != 0 {
            return Err(keys.error(format!("the width of a head (`head_dim`) is {head_dim}, but the rotary embedding needs an even one")));
        }
        let rms_norm_eps = keys.needed_number("rms_norm_eps")?;
        if rms_norm_eps <= 0.0 {
            return Err(keys.error(format!("`rms_norm_eps` must be above 0, but is {rms_norm_eps}")));
        }
        let vocab_size = keys.needed_size("vocab_size")?;
        let bos = keys.ids("bos_token_id", vocab_size)?.first().copied();
        let eos = keys.ids("eos_token_id", vocab_size)?;
        let config = Self {
            family,
            vocab_size,
            hidden_size,
            intermediate_size: keys.needed_size("intermediate_size")?,
            layers,
            heads,
            kv_heads,
            head_dim,
            rms_norm_eps,
            rope: rope::read(keys)?,
            max_positions: keys.needed_size("max_position_embeddings")?,
            tie_embeddings: keys.flag("tie_word_embeddings", false)?,
            qkv_bias: false,
            o_bias: false,
            mlp_bias: false,
            qk_norm: false,
            kind: read_kind(keys)?,
            bos,
            eos,
            unknown_keys: Vec::new(),
        };
        config.check_sizes(keys)?;
        Ok(config)
    }

    /// Only the ends are read; an id that the model cannot give ends nothing, and is listed.
    fn read_generation(&mut self, mut keys: Keys) {
        let mut ids = |key: &str| {
            let value = keys.value(key);
            let given = value.as_ref().map_or(&[][..], |value| value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice));
            let id =
                |value: &serde_json::Value| value.as_u64().filter(|&id| id < self.vocab_size as u64).and_then(|id| u32::try_from(id).ok());
            let known: Vec<u32> = given.iter().filter_map(id).collect();
            if known.len() < given.len() {
                self.unknown_keys.push((format!("generation_config.json: {key}"), value.unwrap_or_default().to_string()));
            }
            known
        };
        let (bos, eos) = (ids("bos_token_id"), ids("eos_token_id"));
        if !eos.is_empty() {
            self.eos = eos;
        }
        self.bos = bos.first().copied().or(self.bos);
    }

    /// The name and shape of every weight, in the order the decoder walks them; names as Hugging Face's, matrices as `[out, in]`.
    pub fn weights(&self) -> Vec<(String, Vec<i64>)> {
        let (hidden, head_dim, inner) = (self.hidden_size, self.head_dim, self.intermediate_size);
        let (query, key) = (self.heads.saturating_mul(head_dim), self.kv_heads.saturating_mul(head_dim));
        let mut list = vec![("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, hidden])];
        for layer in 0..self.layers {
            let mut linear = |name: &str, output: i64, input: i64, bias: bool| {
                list.push((format!("model.layers.{layer}.{name}.weight"), vec![output, input]));
                if bias {
                    list.push((format!("model.layers.{layer}.{name}.bias"), vec![output]));
                }
            };
            linear("self_attn.q_proj", query, hidden, self.qkv_bias);
            linear("self_attn.k_proj", key, hidden, self.qkv_bias);
            linear("self_attn.v_proj", key, hidden, self.qkv_bias);
            linear("self_attn.o_proj", hidden, query, self.o_bias);
            linear("mlp.gate_proj", inner, hidden, self.mlp_bias);
            linear("mlp.up_proj", inner, hidden, self.mlp_bias);
            linear("mlp.down_proj", hidden, inner, self.mlp_bias);
            let mut norm = |name: &str, width: i64| list.push((format!("model.layers.{layer}.{name}.weight"), vec![width]));
            if self.qk_norm {
                norm("self_attn.q_norm", head_dim);
                norm("self_attn.k_norm", head_dim);
            }
            norm("input_layernorm", hidden);
            norm("post_attention_layernorm", hidden);
        }
        list.push(("model.norm.weight".to_owned(), vec![hidden]));
        if !self.tie_embeddings {
            list.push(("lm_head.weight".to_owned(), vec![self.vocab_size, hidden]));
        }
        list
    }

    /// The number of parameters: the elements of all [`Config::weights`]; `i64::MAX` if they are more.
    pub fn parameters(&self) -> i64 {
        let elements = |shape: &[i64]| shape.iter().fold(1i64, |product, &size| product.saturating_mul(size));
        self.weights().iter().fold(0, |sum, (_, shape)| sum.saturating_add(elements(shape)))
    }

    /// Refuses sizes that no model has, whose products would exceed what can be counted.
    fn check_sizes(&self, keys: &Keys) -> Result<()> {
        let Self { vocab_size, hidden_size, intermediate_size, heads, kv_heads, head_dim, max_positions, .. } = *self;
        let sizes = [
            ("vocab_size", vocab_size),
            ("hidden_size", hidden_size),
            ("intermediate_size", intermediate_size),
            ("num_attention_heads", heads),
            ("num_key_value_heads", kv_heads),
            ("head_dim", head_dim),
            ("max_position_embeddings", max_positions),
        ];
        match sizes.into_iter().find(|(_, size)| *size > MOST) {
            Some((name, size)) => Err(keys.error(format!("`{name}` is {size}, but at most {MOST} is supported"))),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} layers of hidden size {}, {} heads ({} for keys and values) of width {}, MLP {}, vocabulary {}, context {}, {:.1} M parameters",
            self.family,
            self.layers,
            self.hidden_size,
            self.heads,
            self.kv_heads,
            self.head_dim,
            self.intermediate_size,
            self.vocab_size,
            self.max_positions,
            self.parameters() as f64 / 1e6
        )
    }
}

fn read_kind(keys: &mut Keys) -> Result<Kind> {
    let newer = keys.word("dtype")?;
    let older = keys.word("torch_dtype")?;
    if let (Some(newer), Some(older)) = (&newer, &older)
        && newer != older
    {
        return Err(keys.error(format!("`dtype` is {newer} but `torch_dtype` is {older}: keep the true one")));
    }
    match newer.or(older).as_deref() {
        None | Some("float32") => Ok(Kind::Float),
        Some("bfloat16") => Ok(Kind::BFloat16),
        Some("float16") => Ok(Kind::Half),
        Some(other) => {
            Err(keys.error(format!("`{other}` in `dtype` or `torch_dtype` is not supported; float32, bfloat16 and float16 are")))
        }
    }
}
