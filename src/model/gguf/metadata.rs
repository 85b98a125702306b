//! The metadata as the `config.json` of Hugging Face transformers that says the same.

use serde_json::{Map, Value as Json, json};

use super::container::Value;
use super::{Gguf, as_json};
use crate::error::{Error, Result};
use crate::kind;
use crate::nn::rope::{Rope, Scaling};

/// Keys under the architecture's name that a model must have, and `config.json`'s for them.
const NEEDED: &[(&str, &str)] = &[
    ("block_count", "num_hidden_layers"),
    ("embedding_length", "hidden_size"),
    ("feed_forward_length", "intermediate_size"),
    ("context_length", "max_position_embeddings"),
    ("attention.head_count", "num_attention_heads"),
];

/// Keys that it may have.
const OPTIONAL: &[(&str, &str)] =
    &[("attention.head_count_kv", "num_key_value_heads"), ("attention.key_length", "head_dim"), ("rope.freq_base", "rope_theta")];

/// Keys that ask for what the configuration refuses by name; 0 is llama.cpp's word for not asking.
const CHANGING: &[(&str, &str)] = &[
    ("logit_scale", "logit_scale"),
    ("embedding_scale", "embedding_multiplier"),
    ("residual_scale", "residual_multiplier"),
    ("attention.scale", "attention_multiplier"),
    ("attention.clamp_kqv", "clip_qkv"),
    ("attention.max_alibi_bias", "alibi"),
    ("attention.temperature_length", "attn_temperature_tuning"),
    ("attention.q_lora_rank", "q_lora_rank"),
    ("attention.kv_lora_rank", "kv_lora_rank"),
    ("attention.shared_kv_layers", "num_kv_shared_layers"),
    ("attn_logit_softcapping", "attn_logit_softcapping"),
    ("final_logit_softcapping", "final_logit_softcapping"),
    ("use_parallel_residual", "use_parallel_residual"),
    ("rope.dimension_sections", "use_mrope"),
    ("rope.freq_base_swa", "rope_local_base_freq"),
    ("attention.sliding_window_pattern", "sliding_window_pattern"),
    ("expert_count", "num_experts"),
    ("expert_used_count", "num_experts_per_tok"),
    ("expert_feed_forward_length", "moe_intermediate_size"),
];

/// Keys of widths that must be that of a head.
const OTHER_WIDTHS: &[(&str, &str)] = &[
    ("attention.value_length", "values as wide as keys"),
    ("attention.key_length_swa", "heads of one width in layers with a window"),
    ("attention.value_length_swa", "heads of one width in layers with a window"),
];

/// Keys that change nothing: the embedding has the rows it has, and how a layout came about does not matter.
const IGNORED: &[&str] = &["vocab_size", "tensor_data_layout", "rope.scaling.finetuned"];

/// The factors by which Llama 3.1 and its successors divide their frequencies, as a tensor instead of numbers.
pub(super) const FACTORS: &str = "rope_freqs.weight";

/// Those of a context that was lengthened: of sequences within the context of the pre-training, and of longer ones.
pub(super) const LONG: [&str; 2] = ["rope_factors_short.weight", "rope_factors_long.weight"];

/// The most layers that are written down one by one; a configuration with more is refused.
const MOST_LAYERS: u64 = 1 << 12;

/// What llama.cpp's converter takes for all of them; only the largest factor differs, and it is the tensor's largest number.
const LOW: f64 = 1.0;
const HIGH: f64 = 4.0;
const CONTEXT: i64 = 8192;

impl Gguf {
    /// `config.json`.
    pub(in crate::model) fn config(&self) -> Result<Json> {
        let mut left = self.under_architecture();
        let mut config = Map::new();
        let layout = &self.layout;
        let prefix = layout.name;
        let called = |own: &str| layout.needed.iter().any(|(needed, _)| *needed == own);
        for (own, key) in NEEDED.iter().filter(|(own, _)| !called(own)).chain(layout.needed) {
            let Some(value) = left.remove(*own) else {
                return Err(self.error(format!("is damaged: its metadata lack `{prefix}.{own}`")));
            };
            config.insert((*key).into(), value);
        }
        for (own, key) in layout.keys {
            if let Some(value) = left.remove(*own) {
                let asks = value.as_f64() != Some(0.0);
                config.insert((*key).into(), if asks { value } else { Json::Null });
            }
        }
        for (own, key) in OPTIONAL {
            if let Some(value) = left.remove(*own) {
                config.insert((*key).into(), value);
            }
        }
        self.head_width(&mut left, &mut config)?;
        self.windows(&mut left, &mut config)?;
        if let Some(scaling) = self.scaling(&mut left, &mut config)? {
            config.insert("rope_scaling".into(), scaling);
        }
        for (own, key) in CHANGING {
            if let Some(value) = left.remove(*own).filter(|value| value.as_f64() != Some(0.0)) {
                config.insert((*key).into(), value);
            }
        }
        if left.remove("attention.causal").is_some_and(|causal| causal != json!(true)) {
            return Err(
                self.error(format!("asks for attention to what follows (`{prefix}.attention.causal` is false), which is not supported"))
            );
        }
        left.retain(|key, _| !IGNORED.contains(&key.as_str()));
        // What nobody here knows is listed, under its own name.
        config.extend(left.into_iter().map(|(key, value)| (format!("{prefix}.{key}"), value)));

        let has = |tensor: &str| self.header.tensors.contains_key(tensor);
        config.extend(layout.flags.iter().map(|(key, tensor)| ((*key).to_owned(), json!(has(tensor)))));
        config.insert("tie_word_embeddings".into(), json!(!has("output.weight")));
        if let Some(embedding) = self.header.tensors.get("token_embd.weight") {
            config.insert("vocab_size".into(), json!(embedding.shape[0]));
        }
        (layout.implied)(&mut config);
        config.insert("model_type".into(), self.family.model_type().into());
        config.insert("architectures".into(), json!([self.family.architecture()]));
        config.insert("dtype".into(), kind::in_config(self.kind()).into());
        if let Some(bos) = self.unsigned("tokenizer.ggml.bos_token_id")? {
            config.insert("bos_token_id".into(), json!(bos));
        }
        // Said always: a family's own default may be none of this file's tokens.
        config.insert("pad_token_id".into(), json!(self.unsigned("tokenizer.ggml.padding_token_id")?));
        let ends = self.ends()?;
        if !ends.is_empty() {
            config.insert("eos_token_id".into(), json!(ends));
        }
        Ok(Json::Object(config))
    }

    /// The tokens that end a response, as llama.cpp takes them: the end of the text first, then those of a turn and of a message.
    fn ends(&self) -> Result<Vec<u64>> {
        let mut ends = Vec::new();
        for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
            ends.extend(self.unsigned(key)?.filter(|id| !ends.contains(id)));
        }
        Ok(ends)
    }

    /// The values under the architecture's own name, without it. A list (a number for each layer) counts as its text, which no number is.
    fn under_architecture(&self) -> Map<String, Json> {
        let prefix = format!("{}.", self.layout.name);
        let own = self.header.metadata.iter().filter_map(|(key, value)| Some((key.strip_prefix(&prefix)?, value)));
        own.map(|(key, value)| (key.to_owned(), as_json(value).unwrap_or_else(|| super::shown(value).into()))).collect()
    }

    /// The width of a head: said always, because a family's own default may be another.
    fn head_width(&self, left: &mut Map<String, Json>, config: &mut Map<String, Json>) -> Result<()> {
        let number = |config: &Map<String, Json>, key: &str| config.get(key).and_then(Json::as_u64);
        if let (None, Some(hidden), Some(heads)) =
            (config.get("head_dim"), number(config, "hidden_size"), number(config, "num_attention_heads"))
            && heads > 0
            && hidden % heads == 0
        {
            config.insert("head_dim".into(), json!(hidden / heads));
        }
        let width = config.get("head_dim").cloned().unwrap_or_default();
        let turned = left.remove("rope.dimension_count");
        if self.family.turns_a_part() {
            let turned = turned.unwrap_or_else(|| width.clone());
            let (Some(turned), Some(width)) = (turned.as_u64(), width.as_u64().filter(|width| *width > 0)) else {
                return Err(
                    self.error(format!("is damaged: `{}.rope.dimension_count` is {turned} where a head is {width} wide", self.layout.name))
                );
            };
            let share = turned as f64 / width as f64;
            // The reader cuts the product down to a whole number.
            let share = if (share * width as f64) < turned as f64 { share.next_up() } else { share };
            config.insert("partial_rotary_factor".into(), json!(share));
        } else if let Some(other) = turned.filter(|turned| *turned != width) {
            return Err(self.differing("rope.dimension_count", &other, &width, "the rotation of a part of each head"));
        }
        for (key, what) in OTHER_WIDTHS {
            if let Some(other) = left.remove(*key).filter(|other| *other != width) {
                return Err(self.differing(key, &other, &width, what));
            }
        }
        Ok(())
    }

    fn differing(&self, key: &str, other: &Json, width: &Json, what: &str) -> Error {
        self.error(format!(
            "has `{}.{key}` {other} where a head is {width} wide: {what} is what differs, and it is not supported",
            self.layout.name
        ))
    }

    /// Which layers attend to a window. Where none can, one that is no shorter than the context changes nothing.
    fn windows(&self, left: &mut Map<String, Json>, config: &mut Map<String, Json>) -> Result<()> {
        let (window, name) = (left.remove("attention.sliding_window"), self.layout.name);
        let Some(every) = self.layout.windows else {
            let context = config.get("max_position_embeddings").and_then(Json::as_u64).unwrap_or(u64::MAX);
            return match window {
                Some(window) if window.as_u64().is_none_or(|window| window > 0 && window < context) => Err(self.error(format!(
                    "asks for attention over a sliding window (`{name}.attention.sliding_window` is {window}), which is not supported"
                ))),
                _ => Ok(()),
            };
        };
        let key = "attention.sliding_window_pattern";
        let Some(window) = window else {
            // Then the family's own is meant.
            return match every {
                0 => Err(self.error(format!(
                    "does not say over how many tokens its layers attend (`{name}.attention.sliding_window`), as files of before August 2024: take a newer file"
                ))),
                _ => Ok(()),
            };
        };
        if window.as_u64() == Some(0) {
            left.remove(key);
            config.insert("sliding_window".into(), Json::Null);
            return Ok(());
        }
        config.insert("sliding_window".into(), window);
        let layers = config.get("num_hidden_layers").and_then(Json::as_u64).unwrap_or(0);
        if every > 0 && layers <= MOST_LAYERS {
            let types = self.pattern(&format!("{name}.{key}"), every, layers)?.into_iter();
            let types = types.map(|windowed| if windowed { "sliding_attention" } else { "full_attention" });
            config.insert("layer_types".into(), json!(types.collect::<Vec<_>>()));
            left.remove(key);
        }
        Ok(())
    }

    /// Whether each layer attends to a window: as the list in the file says, or all but the last of every `every` layers.
    fn pattern(&self, key: &str, every: u64, layers: u64) -> Result<Vec<bool>> {
        if let Some(Value::List(list)) = self.get(key) {
            if list.len() != layers {
                return Err(self.error(format!("is damaged: `{key}` has {} values for {layers} layers", list.len())));
            }
            return Ok(self.numbers(key)?.unwrap_or_default().into_iter().map(|windowed| windowed != 0.0).collect());
        }
        let every = self.unsigned(key)?.unwrap_or(every);
        Ok((0..layers).map(|layer| every == 0 || layer % every + 1 < every).collect())
    }

    /// `rope_scaling`, if the frequencies are changed.
    fn scaling(&self, left: &mut Map<String, Json>, config: &mut Map<String, Json>) -> Result<Option<Json>> {
        const PREFIX: &str = "rope.scaling.";
        let mut scaling = Map::new();
        if let Some(factor) = left.remove("rope.scale_linear") {
            scaling.insert("factor".into(), factor);
        }
        let keys: Vec<String> = left.keys().filter(|key| key.starts_with(PREFIX) && !IGNORED.contains(&key.as_str())).cloned().collect();
        for key in keys {
            let name = match &key[PREFIX.len()..] {
                "type" => "rope_type",
                "original_context_length" => "original_max_position_embeddings",
                "attn_factor" | "yarn_attn_factor" => "attention_factor",
                "yarn_beta_fast" => "beta_fast",
                "yarn_beta_slow" => "beta_slow",
                other => other,
            };
            if let Some(value) = left.remove(&key) {
                scaling.insert(name.into(), value);
            }
        }
        let has = |tensor: &&str| self.header.tensors.contains_key(*tensor);
        let long = match LONG.iter().filter(|tensor| has(tensor)).count() {
            0 => None,
            2 => Some(self.lengthened(&scaling, config)?),
            _ => return Err(self.error(format!("is damaged: of `{}` and `{}` it holds one alone", LONG[0], LONG[1]))),
        };
        // llama.cpp's own default, and its word for none.
        let kind = scaling.entry("rope_type").or_insert_with(|| "linear".into()).clone();
        if kind == "none" || !scaling.contains_key("factor") {
            scaling.clear();
        } else if kind == "linear" {
            // What the linear one does not read.
            scaling.remove("original_max_position_embeddings");
        } else if kind == "yarn" {
            // The other numbers are transformers' own; what they mean with these it has no word for.
            for (key, plain) in [("yarn_ext_factor", 1.0), ("yarn_log_multiplier", 0.0)] {
                if let Some(other) = scaling.remove(key).filter(|value| value.as_f64() != Some(plain)) {
                    return Err(
                        self.error(format!("has `{}.{PREFIX}{key}` {other}, which is not supported; only {plain} is", self.layout.name))
                    );
                }
            }
        } else {
            return Err(
                self.error(format!("scales its rotary embedding: the rotary type {kind} is not supported in GGUF; linear and yarn are"))
            );
        }
        match (has(&FACTORS), long, scaling.is_empty()) {
            (false, None, true) => Ok(None),
            (false, None, false) => Ok(Some(Json::Object(scaling))),
            (true, None, true) => self.factors(config),
            (false, Some(long), true) => Ok(Some(long)),
            (by_tensor, long, by_key) => {
                let said = [(by_tensor, FACTORS.to_owned()), (long.is_some(), LONG[1].to_owned()), (!by_key, kind.to_string())];
                let said: Vec<String> = said.into_iter().filter_map(|(said, what)| said.then_some(what)).collect();
                Err(self.error(format!("scales its rotary embedding twice, by {}: that is not supported", said.join(" and "))))
            }
        }
    }

    /// The scaling of a context that was lengthened, whose factors are tensors.
    fn lengthened(&self, scaling: &Map<String, Json>, config: &mut Map<String, Json>) -> Result<Json> {
        let key = "original_max_position_embeddings";
        let Some(context) = scaling.get(key) else {
            return Err(self.error(format!("is damaged: its metadata lack `{}.rope.scaling.original_context_length`", self.layout.name)));
        };
        // It stands outside.
        config.insert(key.into(), context.clone());
        let [short, long] = LONG;
        let mut lengthened = json!({"rope_type": "longrope", "short_factor": self.plain(short)?, "long_factor": self.plain(long)?});
        if let Some(growth) = scaling.get("attention_factor") {
            lengthened["attention_factor"] = growth.clone();
        }
        Ok(lengthened)
    }

    /// The scaling that a tensor of factors stands for: Llama 3.1's, whose formula gives the factors, or none.
    fn factors(&self, config: &Map<String, Json>) -> Result<Option<Json>> {
        let factors = self.plain(FACTORS)?;
        let theta = config.get("rope_theta").and_then(Json::as_f64).unwrap_or(Rope::new(1e4).theta);
        let width = config.get("head_dim").and_then(Json::as_i64).unwrap_or(0);
        let factor = factors.iter().copied().map(f64::from).fold(1.0, f64::max);
        let scaling = Scaling::Llama3 { factor, low_freq_factor: LOW, high_freq_factor: HIGH, original_max_positions: CONTEXT };
        let expected = |scaling| Rope { theta, scaling }.inverse_frequencies(width);
        let (plain, scaled) = (expected(Scaling::None), expected(scaling));
        // The converter computes them in f32.
        let fits = |(factor, (plain, scaled)): (&f32, (f64, f64))| (plain / f64::from(*factor) / scaled - 1.0).abs() < 1e-4;
        if factors.len() != plain.len() || !factors.iter().zip(plain.into_iter().zip(scaled)).all(fits) {
            return Err(self.error(format!(
                "changes its rotary embedding by factors (`{FACTORS}`) that Llama 3.1's formula does not give: that is not supported"
            )));
        }
        Ok((factor > 1.0).then(|| {
            json!({
                "rope_type": "llama3", "factor": factor, "low_freq_factor": LOW, "high_freq_factor": HIGH,
                "original_max_position_embeddings": CONTEXT
            })
        }))
    }
}
