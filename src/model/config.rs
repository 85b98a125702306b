//! What `config.json` says of a model: every key used, ignored or refused by name.

mod rope;
#[cfg(test)]
mod tests;

use super::family::Family;
use super::gguf::Gguf;
use super::keys::Keys;
use crate::error::{Error, Result};
use crate::nn::rope::Rope;
use std::fmt;
use std::path::Path;
use tch::Kind;

/// More layers than any model has; a wrong number must not become a list of a billion weights.
const MOST_LAYERS: i64 = 4096;

/// Bookkeeping of the one who wrote the file.
const BOOKKEEPING: &[&str] = &["transformers_version", "_name_or_path", "_commit_hash", "torchscript"];

/// What only training from scratch or dropout in training reads; adapters here bring their own settings.
const TRAINING_ONLY: &[&str] = &["initializer_range", "attention_dropout"];

/// How the Python library runs the model or shapes what it returns, not what is computed.
#[rustfmt::skip]
const EXECUTION: &[&str] = &[
    "use_cache", "_attn_implementation", "_attn_implementation_autoset", "_flash_attn_2_enabled", "output_hidden_states", "output_attentions",
    "return_dict", "use_return_dict", "chunk_size_feed_forward", "use_bfloat16", "tf_legacy_loss", "base_model_tp_plan", "tokenizer_class",
    // Padding is masked out here, whichever token fills it.
    "pad_token_id",
];

/// Settings of other heads (classification and the like) that older versions wrote into every file.
const OTHER_HEADS: &[&str] = &["id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "task_specific_params", "prefix"];

/// Generation defaults that older versions wrote into `config.json`. Here each call of a generation says what it wants.
#[rustfmt::skip]
const GENERATION: &[&str] = &[
    "bad_words_ids", "begin_suppress_tokens", "decoder_start_token_id", "diversity_penalty", "do_sample", "early_stopping",
    "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id", "length_penalty",
    "max_length", "max_new_tokens", "min_length", "min_p", "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences",
    "output_scores", "remove_invalid_values", "repetition_penalty", "return_dict_in_generate", "sep_token_id", "suppress_tokens",
    "temperature", "top_k", "top_p", "typical_p",
];

/// What more `generation_config.json` may hold, ignored for the same reason as [`GENERATION`].
#[rustfmt::skip]
const GENERATION_FILE: &[&str] = &[
    "_from_model_config", "assistant_confidence_threshold", "assistant_early_exit", "assistant_ensemble_weight", "assistant_lookbehind",
    "cache_config", "cache_implementation", "compile_config", "constraints", "continuous_batching_config", "disable_compile", "dola_layers",
    "encoder_repetition_penalty", "epsilon_cutoff", "eta_cutoff", "force_words_ids", "guidance_scale", "is_assistant", "low_memory",
    "max_cache_len", "max_matching_ngram_size", "max_time", "min_new_tokens", "num_assistant_tokens", "num_assistant_tokens_schedule",
    "output_logits", "penalty_alpha", "prefill_chunk_size", "prompt_lookup_num_tokens", "renormalize_logits", "sequence_bias",
    "speculation_type", "stop_strings", "target_lookbehind", "token_healing", "top_h", "use_mtp", "watermarking_config",
];

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
}

impl Config {
    /// Reads `config.json` and, when there, `generation_config.json` in a model's folder; or the metadata of a GGUF file.
    ///
    /// A file error names the file and the key: missing, of the wrong kind, out of range, refused or unknown; an unknown family is an
    /// error that lists the known ones.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        if folder.is_file() {
            return Self::of_gguf(&Gguf::open(folder)?);
        }
        let path = folder.join("config.json");
        if !path.is_file() {
            let what = if folder.is_dir() { "holds no `config.json`" } else { "is not a folder" };
            return Err(Error::file(format!(
                "`{}` {what}: a model is a folder with config.json, model.safetensors (or its shards and index) and tokenizer.json",
                folder.display()
            )));
        }
        let mut config = Self::of_keys(Keys::open(&path)?)?;
        let path = folder.join("generation_config.json");
        if path.is_file() {
            config.read_generation(Keys::open(&path)?)?;
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
        let config = (family.read)(&mut keys, family)?;
        keys.finish()?;
        Ok(config)
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
        };
        keys.only("hidden_act", "silu", "another activation in the MLP")?;
        refuse_what_changes_the_model(keys)?;
        for ignored in [BOOKKEEPING, TRAINING_ONLY, EXECUTION, OTHER_HEADS, GENERATION] {
            keys.ignore(ignored);
        }
        Ok(config)
    }

    fn read_generation(&mut self, mut keys: Keys) -> Result<()> {
        let eos = keys.ids("eos_token_id", self.vocab_size)?;
        if !eos.is_empty() {
            self.eos = eos;
        }
        self.bos = keys.ids("bos_token_id", self.vocab_size)?.first().copied().or(self.bos);
        for ignored in [BOOKKEEPING, EXECUTION, GENERATION, GENERATION_FILE] {
            keys.ignore(ignored);
        }
        keys.finish()
    }

    /// The name and shape of every weight, in the order the decoder walks them; names as Hugging Face's, matrices as `[out, in]`.
    pub fn weights(&self) -> Vec<(String, Vec<i64>)> {
        let (hidden, head_dim, inner) = (self.hidden_size, self.head_dim, self.intermediate_size);
        let (query, key) = (self.heads * head_dim, self.kv_heads * head_dim);
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

    /// The number of parameters: the elements of all [`Config::weights`].
    pub fn parameters(&self) -> i64 {
        self.weights().iter().map(|(_, shape)| shape.iter().product::<i64>()).sum()
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

fn refuse_what_changes_the_model(keys: &mut Keys) -> Result<()> {
    keys.refuse("quantization_config", "quantised weights; take the model in float32, bfloat16 or float16")?;
    keys.refuse("compression_config", "compressed weights; take the model in float32, bfloat16 or float16")?;
    keys.refuse("auto_map", "code of the model's own, which is never run; take a checkpoint in the family's plain layout")?;
    keys.refuse("pruned_heads", "heads cut out of the model")?;
    keys.refuse("cross_attention_hidden_size", "attention to an encoder")?;
    keys.only("is_encoder_decoder", false, "an encoder beside the decoder")?;
    keys.only("add_cross_attention", false, "attention to an encoder")?;
    keys.only("tie_encoder_decoder", false, "an encoder beside the decoder")?;
    // Written as false for decoder-only models too: it marks the decoder half of an encoder-decoder pair.
    keys.only("is_decoder", false, "the decoder half of an encoder-decoder pair")
}
