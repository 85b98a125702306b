//! What `config.json` says of a model: every key used, passed over, refused by name, or listed as unknown.

mod known;
mod parts;
mod rope;
#[cfg(test)]
mod tests;

use super::decoder::Decoder;
use super::family::Family;
use super::gguf::Gguf;
use super::keys::{Keys, listed};
use crate::error::{Error, Result};
use crate::kind;
use crate::nn::rope::{Rope, Scaling};
use polars::prelude::*;
use std::fmt;
use std::path::Path;
use tch::{Kind, Tensor};

#[cfg(test)]
pub(crate) use parts::LayerParts;
pub(crate) use parts::{NormPlacement, Parts};

/// More layers than any model has; a wrong number must not become a list of a billion weights.
const MOST_LAYERS: i64 = 4096;

/// The most of any other size.
const MOST: i64 = i32::MAX as i64;

/// What the reference takes where a file says nothing, which differs by family.
pub(super) struct Defaults {
    /// The width of a head; without it `hidden_size / heads`.
    pub head_dim: Option<i64>,
    /// The base of the rotary embedding.
    pub theta: f64,
    /// That of windowed layers, for families that have two.
    pub windowed_theta: Option<f64>,
    /// The share of each head that is turned.
    pub share: f64,
    /// Whether the output layer is the embedding's matrix.
    pub tied: bool,
}

impl Defaults {
    /// Llama's.
    pub(super) const PLAIN: Self = Self { head_dim: None, theta: 10_000.0, windowed_theta: None, share: 1.0, tied: false };
}

/// A model's architecture, as read from `config.json` and `generation_config.json`.
///
/// The same decoder runs every family: with hidden state `h`, each layer adds `self_attn(norm(h))` and then `mlp(norm(h))`,
/// where `mlp(x) = down_proj(silu(gate_proj(x)) * up_proj(x))`; a last norm and `lm_head` give the logits. What a family has in place of any of
/// this is in `parts`.
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
    /// The epsilon inside the root of every norm; above 0.
    pub rms_norm_eps: f64,
    /// The rotary position embedding, of all layers or of those with full attention; unused where positions are learned.
    pub(crate) rope: Rope,
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
    /// True if queries and keys pass a norm before the rotation.
    pub qk_norm: bool,
    /// What the decoder is made of besides these sizes.
    pub(crate) parts: Parts,
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
        config.check_rotation(&keys)?;
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

    /// Reads the keys that all families share, with the parts and biases that only some have left off.
    pub(super) fn shared(keys: &mut Keys, family: Family, defaults: Defaults) -> Result<Self> {
        let hidden_size = keys.needed_size("hidden_size")?;
        let layers = keys.needed_size("num_hidden_layers")?;
        if layers > MOST_LAYERS {
            return Err(keys.error(format!("`{}` is {layers}, but at most {MOST_LAYERS} are supported", keys.called("num_hidden_layers"))));
        }
        let heads = keys.needed_size("num_attention_heads")?;
        let kv_heads = keys.size("num_key_value_heads")?.unwrap_or(heads);
        if heads % kv_heads != 0 {
            return Err(keys.error(format!(
                "`num_attention_heads` ({heads}) must be a multiple of `num_key_value_heads` ({kv_heads}), because each of these serves an equal group"
            )));
        }
        let head_dim = match keys.size("head_dim")?.or(defaults.head_dim) {
            Some(head_dim) => head_dim,
            None if hidden_size % heads == 0 => hidden_size / heads,
            None => {
                return Err(keys.error(format!(
                    "`{}` ({hidden_size}) must be a multiple of `{}` ({heads}) when `head_dim` is absent",
                    keys.called("hidden_size"),
                    keys.called("num_attention_heads")
                )));
            }
        };
        let rms_norm_eps = keys.needed_number("rms_norm_eps")?;
        if rms_norm_eps <= 0.0 {
            return Err(keys.error(format!("`{}` must be above 0, but is {rms_norm_eps}", keys.called("rms_norm_eps"))));
        }
        let vocab_size = keys.needed_size("vocab_size")?;
        let bos = keys.ids("bos_token_id", vocab_size)?.first().copied();
        let eos = keys.ids("eos_token_id", vocab_size)?;
        let max_positions = keys.needed_size("max_position_embeddings")?;
        let ropes = rope::read(keys, &defaults, max_positions)?;
        // A dynamic scaling stretches what the file calls the context.
        let context = match ropes.rope.scaling {
            Scaling::Dynamic { factor, max_positions } => ((max_positions as f64 * factor) as i64).min(MOST),
            _ => max_positions,
        };
        let mut parts = Parts::plain(layers, (head_dim as f64 * ropes.share) as i64);
        parts.windowed_rope = ropes.windowed;
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
            rope: ropes.rope,
            max_positions: context,
            tie_embeddings: keys.flag("tie_word_embeddings", defaults.tied)?,
            qkv_bias: false,
            o_bias: false,
            mlp_bias: false,
            qk_norm: false,
            parts,
            kind: read_kind(keys)?,
            bos,
            eos,
            unknown_keys: Vec::new(),
        };
        config.check_sizes(keys)?;
        Ok(config)
    }

    /// Refuses a rotation that cannot be.
    fn check_rotation(&self, keys: &Keys) -> Result<()> {
        let Self { head_dim, rope, parts, .. } = self;
        if !parts.layers.iter().any(|layer| layer.rotary) {
            return Ok(());
        }
        let width = parts.rotary_width;
        if width != *head_dim && !self.family.turns_a_part() {
            let share = width as f64 / *head_dim as f64;
            return Err(keys.error(format!(
                "`partial_rotary_factor` is {share}, which is not supported (a rotation of only a part of each head); only 1 is"
            )));
        }
        if width % 2 != 0 || width == 0 {
            return Err(keys.error(match width == *head_dim {
                true => format!("the width of a head (`head_dim`) is {head_dim}, but the rotary embedding needs an even one"),
                false => format!("{width} of {head_dim} dimensions of each head are turned, but the rotary embedding needs an even number"),
            }));
        }
        for rope in [Some(rope), parts.windowed_rope.as_ref()].into_iter().flatten() {
            let Scaling::LongRope { short, long, .. } = &rope.scaling else { continue };
            if short.len() as i64 != width / 2 || long.len() as i64 != width / 2 {
                return Err(keys.error(format!(
                    "`short_factor` and `long_factor` hold {} and {} numbers, but the rotary embedding has {} pairs",
                    short.len(),
                    long.len(),
                    width / 2
                )));
            }
        }
        Ok(())
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

    /// The name and shape of every weight, in the order the decoder takes them; matrices as `[out, in]`.
    ///
    /// Names are those that most families' files have, whatever this family's own are: `model.layers.0.self_attn.q_proj.weight`.
    pub fn weights(&self) -> Vec<(String, Vec<i64>)> {
        let mut list = Vec::new();
        // Building looks at no number of a weight, so that one stands for each, and nothing is there to be refused.
        let _ = Decoder::new(self, &mut |name, shape| {
            list.push((name.to_string(), shape.to_vec()));
            Ok(Tensor::f_from_slice(&[0f32])?)
        });
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
        None => Ok(Kind::Float),
        Some(name) => kind::of_config(name)
            .ok_or_else(|| keys.error(format!("`{name}` in `dtype` or `torch_dtype` is not supported; float32, bfloat16 and float16 are"))),
    }
}
