//! Language models: files to a decoder, forwards, responses.

mod batch;
pub mod config;
mod decoder;
pub mod family;
mod forward;
mod generate;
mod gguf;
mod keys;
mod resolve;
mod respond;
mod save;
#[cfg(test)]
mod virtual_tests;
pub mod weights;

use std::path::{Path, PathBuf};
use std::rc::Rc;

use tch::{Device, Kind, Tensor};

pub use config::Config;
pub use decoder::{Decoder, Depth};
pub(crate) use forward::Teaching;
pub use forward::{Gradients, Logits, Sample};
pub use generate::{Ending, Generated, Generation};
pub(crate) use keys::Keys;
pub use respond::{Response, Responses};

use crate::display::{Bundle, Show};
use crate::error::{Error, Result};
use crate::libtorch::{self, door};
use crate::memory;
use crate::nn::{self, Adapt, Hooks, KvCache, Pass, Prefix, Virtual};
use crate::tokenizer::Tokenizer;
use gguf::Gguf;
use weights::Weights;

/// A decoder with its tokenizer, perhaps with an adapter on it.
///
/// A clone shares the weights. What is done to a model (hooks, adapters) is done to the value at hand; the weights never change.
#[derive(Clone)]
pub struct Model {
    base: Rc<Base>,
    adapter: Option<Rc<dyn Adapt>>,
}

struct Base {
    /// The folder, or the GGUF file.
    folder: PathBuf,
    /// Whether the weights are those of the files there.
    opened: bool,
    config: Config,
    decoder: Decoder,
    tokenizer: Option<Tokenizer>,
    device: Device,
}

/// Where and in which kind a model is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    device: Option<Device>,
    kind: Option<Kind>,
}

impl OpenOptions {
    /// The best device (CUDA where there is one), the kind of the checkpoint (bf16 for one that is quantised).
    pub fn new() -> Self {
        Self::default()
    }

    /// Holds the weights on `device`.
    pub fn device(mut self, device: Device) -> Self {
        self.device = Some(device);
        self
    }

    /// Holds the weights in `kind`: `Float`, `BFloat16`, `Half`, or `Double` for verification.
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Opens a model as [`Model::open`] does.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn open(self, name: impl AsRef<Path>) -> Result<Model> {
        let place = resolve::place(name.as_ref())?;
        door(&format!("opening {}", place.display()), || self.open_place(place))
    }

    fn open_place(self, folder: PathBuf) -> Result<Model> {
        let file = if folder.is_file() { Some(Gguf::open(&folder)?) } else { None };
        let config = match &file {
            Some(file) => Config::of_gguf(file)?,
            None => Config::open(&folder)?,
        };
        let device = match self.device {
            Some(device) => device,
            None => libtorch::best_device()?,
        };
        let tokenizer = match &file {
            Some(file) => file.tokenizer()?.map(|json| Tokenizer::of_json(json.to_string().as_bytes(), folder.clone())).transpose()?,
            None if folder.join("tokenizer.json").exists() => Some(Tokenizer::open(&folder)?),
            None => None,
        };
        if let Some(size) = tokenizer.as_ref().map(Tokenizer::vocab_size).filter(|&size| size as i64 > config.vocab_size) {
            return Err(Error::input(format!(
                "{}: the tokenizer knows {size} tokens, but the embedding has only {} rows: they do not belong together; use the model's own tokenizer.json",
                folder.display(),
                config.vocab_size
            )));
        }
        if file.is_some() {
            // What the vocabulary was on its way from the file to the tokenizer: a tenth of a small model's weights.
            memory::give_back();
        }
        let mut weights = match file {
            Some(file) => Weights::of_gguf(file, device, self.kind)?,
            None => Weights::open(&folder, device, self.kind)?,
        };
        let decoder = Decoder::new(&config, &mut |name, shape| weights.take(name, shape))?;
        weights.finish()?;
        Ok(Model { base: Rc::new(Base { folder, opened: true, config, decoder, tokenizer, device }), adapter: None })
    }
}

impl Model {
    /// Opens a folder that holds `config.json`, `model.safetensors` (or shards with their index), `tokenizer.json` and perhaps
    /// `generation_config.json`; or a GGUF file, or a folder that holds one; or `tiny-icl`, the model that comes with the library, or one that
    /// `cargo xtask model` has fetched, such as `smollm2`; or a name on the Hugging Face hub like `Qwen/Qwen3-0.6B`, with a branch, tag or
    /// commit as `org/name@revision`, and with a GGUF file as `org/name/file.gguf`.
    ///
    /// A GGUF file has all in one: architecture, tokenizer with its special tokens, and weights, which are de-quantised as they are read,
    /// to bf16 unless [`OpenOptions::kind`] says `Float`. (Weights stored as plain numbers keep their kind.) Read are the types F32, F16,
    /// BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 and Q2_K to Q6_K. The file is only read; [`Model::save`] writes a folder.
    ///
    /// A name on the hub is looked for in the cache of Python's `huggingface_hub` (`HF_HUB_CACHE`, `HF_HOME`) and taken from there as it is,
    /// without asking for anything newer. What is missing is downloaded with the cargo feature `hub`: only the files named above, each
    /// continued where a connection broke, checked against the hub's checksum (SHA-256, or git's for small files), and readable by Python
    /// afterwards. `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE` and the proxy variables are honoured; pickled weights are refused.
    ///
    /// On the best device and in the checkpoint's kind; [`OpenOptions`] chooses others. Without a `tokenizer.json` the model works on token ids.
    ///
    /// # Errors
    /// A missing or malformed file, an unknown family or config key, weights that are missing, unused, mis-shaped or not finite, a tokenizer
    /// that exceeds the embedding: each named. For a name on the hub also what the hub or the network refuses, and what to do about it.
    pub fn open(name: impl AsRef<Path>) -> Result<Self> {
        OpenOptions::new().open(name)
    }

    /// A model around a decoder of the caller's making, e.g. one with fresh weights to be trained.
    pub fn from_parts(config: Config, decoder: Decoder, tokenizer: Option<Tokenizer>, device: Device) -> Self {
        Self { base: Rc::new(Base { folder: PathBuf::new(), opened: false, config, decoder, tokenizer, device }), adapter: None }
    }

    /// The same weights with an adapter on them; an adapter already there is replaced.
    pub(crate) fn adapted(&self, adapter: Rc<dyn Adapt>) -> Self {
        Self { base: self.base.clone(), adapter: Some(adapter) }
    }

    /// The same weights without an adapter.
    pub fn base(&self) -> Self {
        Self { base: self.base.clone(), adapter: None }
    }

    /// True if an adapter is on the weights.
    pub fn is_adapted(&self) -> bool {
        self.adapter.is_some()
    }

    /// What the model's `config.json` says.
    pub fn config(&self) -> &Config {
        &self.base.config
    }

    /// The folder, or the GGUF file, it was opened from.
    pub fn folder(&self) -> &Path {
        &self.base.folder
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.base.device
    }

    /// The kind the weights are held in.
    pub fn kind(&self) -> Kind {
        self.base.decoder.kind()
    }

    /// The memory that the weights take, in bytes; an adapter's are not counted.
    pub fn bytes(&self) -> u64 {
        self.decoder().weights().iter().map(|(_, weight)| weight.numel() as u64 * weight.kind().elt_size_in_bytes() as u64).sum()
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// The model's folder has no `tokenizer.json`.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.base.tokenizer.as_ref().ok_or_else(|| {
            let place = self.base.folder.display();
            Error::file(match self.base.folder.is_file() {
                true => format!("{place} holds no tokenizer: take a file that does, or work on token ids"),
                false => format!("{place} has no tokenizer.json: put the model's own there, or work on token ids"),
            })
        })
    }

    /// Every place where a hook can read or replace a value, in the order in which a forward reaches them.
    pub fn hook_points(&self) -> &[String] {
        self.base.decoder.hook_points()
    }

    /// Every linear module that an adapter can sit on, with its `(in, out)` widths.
    pub fn sites(&self) -> Vec<(String, (i64, i64))> {
        self.base.decoder.sites()
    }

    /// Width of the last axis of the value `[example, token, width]` at a hook point.
    ///
    /// # Errors
    /// The path is no hook point, or its value has other axes or comes after the decoder: read it with an observer.
    pub fn width_at(&self, path: &str) -> Result<i64> {
        if !self.hook_points().iter().any(|point| point == path) {
            return Err(Error::input(format!("`{path}` is no hook point of this model: see `hook_points()`")));
        }
        if path == "lm_head" || path.ends_with(".pattern") || path.ends_with("q_norm") || path.ends_with("k_norm") {
            return Err(Error::input(format!(
                "the value at `{path}` is not [example, token, hidden]: read it with `Hooks::observe` in a forward"
            )));
        }
        let site = self.sites().into_iter().find(|(site, _)| site == path);
        Ok(site.map_or(self.config().hidden_size, |(_, (_, out))| out))
    }

    pub(crate) fn decoder(&self) -> &Decoder {
        &self.base.decoder
    }

    /// A forward over tokens at logical `positions`, with the adapter but without its virtual tokens: they come with [`Model::prefix`].
    pub(crate) fn pass<'a, 'h>(&'a self, positions: Tensor, examples: &'a [usize]) -> Pass<'a, 'h> {
        let config = self.config();
        let shift = self.virtual_tokens().map_or(0, |prefix| prefix.shift);
        let mut pass = Pass::new(positions, shift, &config.rope, config.head_dim, self.kind(), examples);
        pass.adapter = self.adapter.as_deref();
        pass
    }

    fn virtual_tokens(&self) -> Option<Prefix> {
        self.adapter.as_ref()?.prefix().filter(|prefix| !prefix.is_empty())
    }

    /// Keys and values of the adapter's virtual tokens, for one example, if it has any. Gradients flow into them if the caller lets them.
    ///
    /// Bound `hooks` see virtual tokens at negative positions: -1 is the one before the first real token.
    pub(crate) fn prefix(&self, hooks: Option<&mut Hooks<'_>>) -> Result<Option<KvCache>> {
        let Some(prefix) = self.virtual_tokens() else { return Ok(None) };
        let Config { layers, kv_heads, head_dim, .. } = *self.config();
        let (count, kind, device) = (prefix.len(), self.kind(), self.device());
        let mut cache = KvCache::of_virtual(layers as usize, count, kv_heads, head_dim, prefix.visible, kind, device);
        match prefix.tokens {
            Virtual::Embeddings(embeddings) => {
                let positions = nn::positions(-count, count, device);
                let mut pass = Pass::new(positions, count, &self.config().rope, head_dim, kind, &[]);
                // Keys and values are all that is wanted of the last layer; its one kept query is the least a forward can do.
                pass.keep = hooks.is_none().then(|| Tensor::zeros([1, 1], (Kind::Int64, device)));
                pass.hooks = hooks;
                pass.cache = Some(&mut cache);
                self.decoder().run(embeddings.to_kind(kind).unsqueeze(0), Depth::Full, &mut pass)?;
            }
            Virtual::KeysValues(values) => {
                // [virtual, 2 layer, kv_head, head_dim] to [2 layer, kv_head, virtual, head_dim]
                let values = values.to_kind(kind).permute([1, 2, 0, 3]);
                for layer in 0..layers {
                    let of = |place: i64| values.narrow(0, place, 1);
                    let _ = cache.put(layer as usize, &of(2 * layer), &of(2 * layer + 1));
                }
            }
        }
        Ok(Some(cache))
    }

    pub(crate) fn check<R: AsRef<[u32]>>(&self, rows: &[R], extra: usize) -> Result<()> {
        let config = self.config();
        let before = self.virtual_tokens().map_or(0, |prefix| prefix.shift);
        batch::check(rows, extra, before as usize, config.vocab_size as usize, config.max_positions as usize)
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let config = self.config();
        write!(
            f,
            "Model({}, {} layers, hidden {}, {} heads / {} kv_heads, vocab {}, {:.2} M parameters, {:?} on {:?}{})",
            config.family.model_type(),
            config.layers,
            config.hidden_size,
            config.heads,
            config.kv_heads,
            config.vocab_size,
            config.parameters() as f64 / 1e6,
            self.kind(),
            self.device(),
            if self.is_adapted() { ", adapted" } else { "" }
        )
    }
}

impl Show for Model {
    fn bundle(&self) -> Bundle {
        let mut points: Vec<String> = Vec::new();
        for path in self.hook_points() {
            let pattern = match crate::nn::layer_of(path) {
                Some(layer) => path.replacen(&format!(".{layer}"), ".*", 1),
                None => path.clone(),
            };
            if !points.contains(&pattern) {
                points.push(pattern);
            }
        }
        // Lines of a width that notebook pages do not wrap.
        let mut lines = vec![format!("{self:?}"), String::new(), "hook points:".into()];
        let mut line = String::new();
        for point in points {
            if line.len() + point.len() > 92 {
                lines.push(std::mem::take(&mut line));
            }
            line.push_str("  ");
            line.push_str(&point);
        }
        lines.push(line);
        Bundle::text(lines.join("\n"))
    }
}
