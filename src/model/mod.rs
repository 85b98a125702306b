//! Language models: files to a decoder, forwards, responses.

mod batch;
mod changed;
pub(crate) mod config;
mod decoder;
pub mod family;
mod forward;
mod generate;
mod gguf;
mod identity;
mod keys;
#[cfg(test)]
pub(crate) mod parts_tests;
pub(crate) mod reading;
mod resolve;
mod respond;
#[cfg(test)]
mod sampling_tests;
mod save;
mod score;
mod show;
mod storage;
#[cfg(test)]
mod virtual_tests;
pub mod weights;

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use polars::prelude::*;
use tch::{Device, Kind, Tensor};

pub use changed::Change;
pub(crate) use changed::TokenRow;
pub use config::Config;
pub use decoder::Decoder;
pub(crate) use decoder::Depth;
pub(crate) use forward::TeacherForcing;
pub use forward::{Gradients, Logits, Sample};
pub use generate::{Ending, Generated, Generation};
pub(crate) use identity::Identity;
pub(crate) use keys::Keys;
pub use respond::{Response, Responses};
pub(crate) use score::{NEVER, Step};
pub use score::{Score, Scores};

use crate::error::{Error, Result};
use crate::file;
use crate::hub;
use crate::interrupt;
use crate::libtorch::{self, guarded};
use crate::memory;
use crate::nn::{self, Adapt, Hooks, KvCache, Pass, Precision, Prefix, Steer, VirtualTokens};
use crate::tokenizer::Tokenizer;
use gguf::Gguf;
use storage::Files;
use weights::Weights;

crate::display::show_as_text!("{}": Config, family::Family);
crate::display::show_as_text!(Decoder, Depth, Ending, Generation, OpenOptions, Sample, config::Parts, weights::Weights);

/// A decoder with its tokenizer, perhaps with an adapter on it.
///
/// A clone shares the weights. What is done to a model (hooks, adapters) is done to the value at hand; the weights never change.
#[derive(Clone)]
pub struct Model {
    base: Rc<Base>,
    adapter: Option<Rc<dyn Adapt>>,
    /// A vector that acts at the last token of each query.
    steer: Option<Rc<Steer>>,
}

struct Base {
    /// The folder, or the GGUF file.
    folder: PathBuf,
    /// The files that the weights are those of; none for a model made in memory.
    sources: Vec<file::Source>,
    /// Once it was asked for.
    identity: OnceCell<Identity>,
    config: Config,
    decoder: Decoder,
    tokenizer: Option<Tokenizer>,
    device: Device,
}

/// Where and in which kind a model is opened, and what is demanded of its files.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    device: Option<Device>,
    kind: Option<Kind>,
    strict: bool,
    verify: bool,
    as_it_is: bool,
    precision: Precision,
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

    /// How f32 weights are multiplied: [`Precision::Rounded`] gives up some of their exactness for speed, where the processor has it.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Refuses a `config.json` with keys that nobody here knows, instead of listing them in [`Config::unknown`].
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Compares the files with the checksums that the hub published before they are read, as [`Model::verify`] does.
    pub fn verify(mut self) -> Self {
        self.verify = true;
        self
    }

    /// Opens what [`Model::save`] wrote without asking whether it was changed since: a `config.json` that was edited, a damaged file.
    pub fn as_it_is(mut self) -> Self {
        self.as_it_is = true;
        self
    }

    /// Opens a model as [`Model::open`] does.
    ///
    /// # Errors
    /// As [`Model::open`]; with [`OpenOptions::strict`] an unknown key, with [`OpenOptions::verify`] what [`Model::verify`] refuses.
    pub fn open(self, name: impl AsRef<Path>) -> Result<Model> {
        let name = name.as_ref();
        guarded(&format!("opening {}", name.display()), || self.open_place(resolve::place(name)?))
    }

    fn open_place(self, folder: PathBuf) -> Result<Model> {
        if self.verify {
            hub::verify(&folder)?;
        }
        let _lock = file::Lock::shared(&folder)?;
        let gguf = if folder.is_file() { Some(Gguf::open(&folder)?) } else { None };
        let config = match &gguf {
            Some(file) => Config::of_gguf(file)?,
            None => Config::open(&folder)?,
        };
        if self.strict {
            config.demand_known(&folder)?;
        }
        let device = match self.device {
            Some(device) => device,
            None => libtorch::best_device()?,
        };
        let tokenizer = match &gguf {
            Some(file) => file.tokenizer()?,
            None if folder.join("tokenizer.json").exists() => Some(Tokenizer::open(&folder)?),
            None => None,
        };
        let layout = gguf.as_ref().map_or(config.family.storage(), Gguf::storage);
        let mut weights = match gguf {
            Some(file) => {
                // What the vocabulary was on its way from the file to the tokenizer: a tenth of a small model's weights.
                memory::give_back();
                Weights::of_gguf(file, device, self.kind)?
            }
            None => Weights::open(&folder, device, self.kind)?,
        };
        if !self.as_it_is {
            weights.check_saved()?;
        }
        let mut files = Files::of(&config, layout, |name| weights.shape(name).is_some());
        weights.check(&files.stored())?;
        let sources = weights.sources()?;
        let decoder = Decoder::new(&config, &mut |name, shape| files.take(&mut weights, name, shape))?;
        weights.finish_as(&files.ending())?;
        decoder.set_precision(self.precision);
        Ok(Model {
            base: Rc::new(Base { folder, sources, identity: OnceCell::new(), config, decoder, tokenizer, device }),
            adapter: None,
            steer: None,
        })
    }
}

impl Model {
    /// Opens a folder that holds `config.json`, `model.safetensors` (or shards with their index), `tokenizer.json` and perhaps
    /// `generation_config.json`, `tokenizer_config.json`, `special_tokens_map.json`, `chat_template.jinja`; or a GGUF file, or a folder that holds one; or `tiny-icl`, the
    /// model that comes with the library, or one that `cargo xtask model` has fetched, such as `smollm2`; or a name on the Hugging Face hub
    /// like `Qwen/Qwen3-0.6B`, with a branch, tag or commit as `org/name@revision`, and with a GGUF file as `org/name/file.gguf`.
    ///
    /// A GGUF file has all in one: architecture, tokenizer with its special tokens and chat template, and weights, which are de-quantised as
    /// they are read, to bf16 unless [`OpenOptions::kind`] says `Float`. (Weights stored as plain numbers keep their kind.) Read are the types
    /// F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 and Q2_K to Q6_K, of the architectures `llama` (so are Mistral's files), `qwen2`, `qwen3`,
    /// `qwen3moe`, `gemma2`, `gemma3`, `gpt2`, `gptneox` (Pythia), `phi3`, `olmo2` (OLMo 3, too), `smollm3` and `granite`: those of all families.
    /// The file is only read; [`Model::save`] writes a folder.
    ///
    /// A name on the hub is looked for in the cache of Python's `huggingface_hub` (`HF_HUB_CACHE`, `HF_HOME`) and taken from there as it is,
    /// without asking for anything newer. What is missing is downloaded with the cargo feature `hub`: only the files named above, each
    /// continued where a connection broke, checked against the hub's checksum (SHA-256, or git's for small files), and readable by Python
    /// afterwards. `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE` and the proxy variables are honoured; pickled weights are refused.
    ///
    /// What [`Model::save`] wrote is opened only as it was saved: its checksum is compared, for which a large file is read once more, the first
    /// time (see [`OpenOptions::as_it_is`]). On the best device and in the checkpoint's kind; [`OpenOptions`] chooses others. Without a
    /// `tokenizer.json` the model works on token ids. One with more tokens than the embedding has rows is taken as it is: such a token is an
    /// error where it is used. What the model shows of itself says so, and lists the keys of `config.json` that nobody here knows.
    ///
    /// # Errors
    /// A missing or malformed file, an unknown family, a config key that is known to change what is computed, weights that are missing, unused,
    /// mis-shaped, not finite, of different kinds or of another kind than their header says: each named. For a name on the hub also what the
    /// hub or the network refuses, and what to do about it.
    pub fn open(name: impl AsRef<Path>) -> Result<Self> {
        OpenOptions::new().open(name)
    }

    /// A model around a decoder of the caller's making, e.g. one with fresh weights to be trained.
    pub fn from_parts(config: Config, decoder: Decoder, tokenizer: Option<Tokenizer>, device: Device) -> Self {
        Self {
            base: Rc::new(Base {
                folder: PathBuf::new(),
                sources: Vec::new(),
                identity: OnceCell::new(),
                config,
                decoder,
                tokenizer,
                device,
            }),
            adapter: None,
            steer: None,
        }
    }

    /// What the model's `config.json` says.
    pub fn config(&self) -> &Config {
        &self.base.config
    }

    /// The folder, or the GGUF file, it was opened from.
    pub fn folder(&self) -> &Path {
        &self.base.folder
    }

    /// Compares the files of a model from the hub (or its one GGUF file) with the checksums that the hub published: SHA-256 of large files, git's SHA-1 of small ones.
    ///
    /// Opening looks at sizes only. This reads all bytes once and remembers what it has seen by size, time of change and inode, in the cache
    /// next to the locks: a file that has not changed since is not read again. (A disk that loses a bit changes no time. To read all
    /// again, remove `ia2-verified.json` there.)
    ///
    /// One row per file: `file`, `size` (bytes), `checksum` (as published; null for a file that is no link into the cache's `blobs`, of which
    /// nothing is known), `read` (whether its bytes were read this time).
    ///
    /// # Errors
    /// A file whose content is not what was published: it is named, with its place and what to do. A folder that is no snapshot in the hub's
    /// cache, because there is nothing to compare it with.
    pub fn verify(&self) -> Result<DataFrame> {
        let files = interrupt::during(&format!("verifying {}", self.folder().display()), || hub::verify(self.folder()))?;
        Ok(df!(
            "file" => files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(),
            "size" => files.iter().map(|file| file.size).collect::<Vec<_>>(),
            "checksum" => files.iter().map(|file| file.checksum.as_deref()).collect::<Vec<_>>(),
            "read" => files.iter().map(|file| file.read).collect::<Vec<_>>(),
        )?)
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

    /// The token that free answers are trained to end with: the tokenizer's own ([`Tokenizer::eos`]), or else the first of
    /// `generation_config.json` or `config.json`; `None` for a model that has none.
    ///
    /// Generation ends at every token that any of these files names.
    pub fn eos(&self) -> Option<u32> {
        let known = |id: &u32| i64::from(*id) < self.config().vocab_size;
        let own = self.base.tokenizer.as_ref().and_then(Tokenizer::eos).filter(known);
        own.or_else(|| self.config().eos.first().copied())
    }

    /// Every place where a hook can read or replace a value, in the order in which a forward reaches them.
    pub fn hook_points(&self) -> &[String] {
        self.base.decoder.hook_points()
    }

    /// The hook points in both spellings.
    pub(crate) fn points(&self) -> &nn::Paths {
        self.base.decoder.points()
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
        let Some(path) = self.points().find(path) else {
            return Err(Error::input(format!("`{path}` is no hook point of this model: see `hook_points()`")));
        };
        if path == "lm_head" || path.ends_with(".pattern") || path.ends_with("q_norm") || path.ends_with("k_norm") {
            return Err(Error::input(format!(
                "the value at `{path}` is not [example, token, hidden]: read it with `Hooks::observe` in a forward"
            )));
        }
        let fused = self.decoder().fused().into_iter().map(|fused| (fused.path().to_string(), fused.widths()));
        if path.ends_with(".heads") {
            return Ok(self.config().heads * self.config().head_dim);
        }
        let site = self.sites().into_iter().chain(fused).find(|(site, _)| site == path);
        Ok(site.map_or(self.config().hidden_size, |(_, (_, out))| out))
    }

    pub(crate) fn decoder(&self) -> &Decoder {
        &self.base.decoder
    }

    /// A forward over tokens at logical `positions`, with the adapter but without its virtual tokens: they come with [`Model::prefix`].
    pub(crate) fn pass<'a, 'h>(&'a self, positions: Tensor, examples: &'a [usize]) -> Pass<'a, 'h> {
        let shift = self.virtual_tokens().map_or(0, |prefix| prefix.shift);
        let mut pass = self.turning(positions, shift, &[], examples);
        pass.adapter = self.adapter.as_deref();
        pass
    }

    /// The same for whole texts of these numbers of tokens, one for each row: some rotations depend on them.
    pub(crate) fn pass_over<'a, 'h>(&'a self, positions: Tensor, examples: &'a [usize], lengths: &[usize]) -> Pass<'a, 'h> {
        let mut pass = self.pass(positions, examples);
        if lengths.iter().any(|&length| self.turns_anew(length)) {
            let lengths: Vec<i64> = lengths.iter().map(|&length| length as i64 + pass.shift).collect();
            let own = self.turning(pass.positions.shallow_clone(), pass.shift, &lengths, examples);
            pass.rotary = own.rotary;
        }
        pass
    }

    /// Whether a text of this many tokens is turned otherwise than shorter ones, so that no key of an earlier length may stay in a cache.
    pub(crate) fn turns_anew(&self, tokens: usize) -> bool {
        let shift = self.virtual_tokens().map_or(0, |prefix| prefix.shift);
        let ropes = std::iter::once(&self.config().rope).chain(&self.config().parts.windowed_rope);
        ropes.into_iter().any(|rope| rope.regime(tokens as i64 + shift) != 0)
    }

    fn turning<'a, 'h>(&self, positions: Tensor, shift: i64, lengths: &[i64], examples: &'a [usize]) -> Pass<'a, 'h> {
        let config = self.config();
        let ropes: Vec<_> = std::iter::once(&config.rope).chain(&config.parts.windowed_rope).collect();
        Pass::turning(positions, shift, &ropes, config.parts.rotary_width, self.kind(), lengths, examples)
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
            VirtualTokens::Embeddings(embeddings) => {
                let positions = nn::positions(-count, count, device);
                let mut pass = self.turning(positions, count, &[], &[]);
                // Keys and values are all that is wanted of the last layer; its one kept query is the least a forward can do.
                pass.keep = hooks.is_none().then(|| Tensor::zeros([1, 1], (Kind::Int64, device)));
                pass.hooks = hooks;
                pass.cache = Some(&mut cache);
                self.decoder().run(embeddings.to_kind(kind).unsqueeze(0), Depth::Full, &mut pass)?;
            }
            VirtualTokens::KeysValues(values) => {
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
        for (index, row) in rows.iter().enumerate() {
            self.check_ids(row.as_ref()).map_err(|error| error.context(format!("prompt {index}")))?;
        }
        let before = self.virtual_tokens().map_or(0, |prefix| prefix.shift);
        let longest = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0).saturating_add(extra);
        if before > 0 && longest <= self.config().max_positions as usize && self.turns_anew(longest) {
            return Err(Error::input(format!(
                "virtual tokens before a text of {longest} tokens: beyond the context of its pre-training this model turns all positions anew, \
                 and virtual tokens are computed once for texts of any length; use shorter ones"
            )));
        }
        batch::check(rows, extra, before as usize, self.config().max_positions as usize)
    }

    /// Refuses token ids that have no row in the embedding and no place among the logits.
    pub(crate) fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let rows = self.config().vocab_size;
        let Some(&id) = ids.iter().find(|&&id| i64::from(id) >= rows) else { return Ok(()) };
        let token = self.base.tokenizer.as_ref().and_then(|tokenizer| tokenizer.token(id));
        Err(Error::input(match token {
            Some(token) => format!(
                "the token {token:?} has the id {id}, but the model's embedding has {rows} rows: its tokenizer was given more tokens than the \
                 model has learned; leave this token out, or take the model's own tokenizer.json"
            ),
            None => format!("token id {id} is not in the model's vocabulary, which ends at {}", rows - 1),
        }))
    }
}
