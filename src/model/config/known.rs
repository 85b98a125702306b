//! The keys of `config.json` that are known beyond those that are used: passed over, or refused because they change what is computed.

use super::super::keys::Keys;
use crate::error::Result;

/// Bookkeeping of the one who wrote the file.
#[rustfmt::skip]
const BOOKKEEPING: &[&str] = &[
    "transformers_version", "_name_or_path", "_commit_hash", "torchscript", "model_name", "unsloth_fixed", "unsloth_version",
    "is_llama_config", "transformers.js_config",
];

/// What only training from scratch or dropout in training reads; adapters here bring their own settings.
const TRAINING_ONLY: &[&str] = &["initializer_range", "attention_dropout", "neftune_noise_alpha"];

/// How the Python library runs the model or shapes what it returns, not what is computed.
#[rustfmt::skip]
const EXECUTION: &[&str] = &[
    "use_cache", "_attn_implementation", "_attn_implementation_autoset", "_flash_attn_2_enabled", "output_hidden_states", "output_attentions",
    "return_dict", "use_return_dict", "chunk_size_feed_forward", "use_bfloat16", "tf_legacy_loss", "base_model_tp_plan", "tokenizer_class",
    // Padding is masked out here, whichever token fills it; which token stands for the unknown the tokenizer says.
    "pad_token_id", "unk_token_id",
    // What a trainer cut texts to; the longest that can be computed is `max_position_embeddings`.
    "max_sequence_length",
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

const SCALED: &str = "a factor on activations or logits";
const CAPPED: &str = "a bound on scores or logits";
const NORMED: &str = "another place or kind of norms";
const PLACED: &str = "other positions than rotary ones over the whole head";
const WINDOW: &str = "attention over a window";
const ROUTED: &str = "a mixture of experts";
const LATENT: &str = "keys and values from a latent vector";
const SHAPED: &str = "layers that are not all alike";
const SENSES: &str = "a model of images or sound around the text model";
const QUANTISED: &str = "quantised weights; take the model in float32, bfloat16 or float16";

/// What in some family changes the computation, and so must not be passed over in another's file: the key, the number that changes nothing
/// (any value does where there is none), and what it asks for. Null, false and what is empty ask for nothing.
#[rustfmt::skip]
const CHANGING: &[(&str, Option<f64>, &str)] = &[
    ("quantization_config", None, QUANTISED), ("quantization", None, QUANTISED), ("quant_config", None, QUANTISED),
    ("compression_config", None, "compressed weights; take the model in float32, bfloat16 or float16"),
    ("auto_map", None, "code of the model's own, which is never run; take a checkpoint in the family's plain layout"),
    ("pruned_heads", None, "heads cut out of the model"),
    ("cross_attention_hidden_size", None, "attention to an encoder"), ("add_cross_attention", None, "attention to an encoder"),
    ("is_encoder_decoder", None, "an encoder next to the decoder"), ("tie_encoder_decoder", None, "an encoder next to the decoder"),
    // Written as false for decoder-only models too: it marks the decoder half of an encoder-decoder pair.
    ("is_decoder", None, "the decoder half of an encoder-decoder pair"),
    // Gemma, Granite, Cohere, MiniCPM, Falcon-H1.
    ("embedding_multiplier", Some(1.0), SCALED), ("residual_multiplier", Some(1.0), SCALED), ("attention_multiplier", None, SCALED),
    ("logits_scaling", Some(1.0), SCALED), ("logit_scale", Some(1.0), SCALED), ("lm_head_multiplier", Some(1.0), SCALED),
    ("query_pre_attn_scalar", None, SCALED), ("scale_emb", Some(1.0), SCALED), ("scale_depth", None, SCALED),
    ("dim_model_base", None, SCALED), ("key_multiplier", Some(1.0), SCALED), ("scale_embeddings", None, SCALED),
    ("attn_logit_softcapping", None, CAPPED), ("final_logit_softcapping", None, CAPPED), ("logits_soft_cap", None, CAPPED),
    ("clip_qkv", None, CAPPED),
    ("use_qk_norm", None, NORMED), ("qk_layernorm", None, NORMED), ("apply_residual_connection_post_layernorm", None, NORMED),
    ("use_parallel_residual", None, "attention and MLP that read the same value"),
    ("parallel_attn", None, "attention and MLP that read the same value"),
    ("alibi", None, PLACED), ("use_alibi", None, PLACED), ("rotary_pct", Some(1.0), PLACED), ("rotary_dim", None, PLACED),
    ("learned_pos_emb", None, PLACED), ("no_rope_layers", None, PLACED), ("no_rope_layer_interval", Some(0.0), PLACED),
    ("rope_local_base_freq", None, PLACED), ("rotary_emb_base", None, "a rotary base under another name; here it is `rope_theta`"),
    ("rope_interleaved", None, "a rotation of neighbouring dimensions"), ("use_mrope", None, "rotary positions in several dimensions"),
    ("use_dynamic_ntk", None, PLACED), ("use_logn_attn", None, SCALED), ("attn_temperature_tuning", None, SCALED),
    ("sliding_window", None, WINDOW), ("use_sliding_window", None, WINDOW), ("sliding_window_pattern", None, WINDOW),
    ("attention_window_size", None, WINDOW), ("attention_chunk_size", None, WINDOW), ("window_size", None, WINDOW),
    ("num_experts", Some(0.0), ROUTED), ("num_local_experts", Some(0.0), ROUTED), ("n_routed_experts", Some(0.0), ROUTED),
    ("num_experts_per_tok", Some(0.0), ROUTED), ("moe_intermediate_size", Some(0.0), ROUTED), ("moe_num_experts", Some(0.0), ROUTED),
    ("kv_lora_rank", None, LATENT), ("q_lora_rank", None, LATENT), ("v_head_dim", None, LATENT), ("qk_rope_head_dim", None, LATENT),
    ("block_configs", None, SHAPED), ("layers_block_type", None, SHAPED), ("num_kv_shared_layers", Some(0.0), SHAPED),
    ("text_config", None, SENSES), ("vision_config", None, SENSES), ("audio_config", None, SENSES),
];

/// Refuses what changes the computation, and passes over what does not; to be called when the family has taken its own keys.
pub(super) fn settle(keys: &mut Keys) -> Result<()> {
    for activation in ["hidden_act", "hidden_activation", "activation_function"] {
        keys.only(activation, "silu", "another activation in the MLP")?;
    }
    if let Some(types) = keys.words("layer_types")?
        && let Some(other) = types.iter().find(|&kind| kind != "full_attention")
    {
        return Err(keys.error(format!("`layer_types` holds `{other}`, which is not supported; only `full_attention` is")));
    }
    for (key, harmless, why) in CHANGING {
        match harmless {
            Some(number) => keys.only(key, *number, why)?,
            None => keys.refuse(key, why)?,
        }
    }
    for ignored in [BOOKKEEPING, TRAINING_ONLY, EXECUTION, OTHER_HEADS, GENERATION] {
        keys.ignore(ignored);
    }
    Ok(())
}
