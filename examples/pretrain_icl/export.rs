//! The model's folder, written so that a reader never sees half a file.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Value, json};
use tch::{Kind, nn};

use crate::decoder::{Config, EPS, THETA};
use crate::tokenizer::{tokenizer_config, tokenizer_json};
use crate::vocabulary::{BOS, EOS, PAD, Vocabulary};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Writes a file next to its place and moves it there.
pub fn write(path: &Path, bytes: &[u8]) -> Outcome {
    let part = path.with_extension("part");
    fs::write(&part, bytes)?;
    fs::rename(&part, path)?;
    Ok(())
}

fn write_json(path: &Path, value: &Value) -> Outcome {
    write(path, format!("{}\n", serde_json::to_string_pretty(value)?).as_bytes())
}

/// The weights in f32 under their Hugging Face names.
pub fn weights(vs: &nn::VarStore, folder: &Path) -> Outcome {
    let mut bytes: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, tensor) in vs.variables() {
        let flat: Vec<f32> = tensor.detach().to_kind(Kind::Float).flatten(0, -1).try_into()?;
        let shape = tensor.size().iter().map(|&n| n as usize).collect();
        bytes.push((name, shape, flat.iter().flat_map(|x| x.to_le_bytes()).collect()));
    }
    bytes.sort();
    let views: Vec<(&str, TensorView)> = bytes
        .iter()
        .map(|(name, shape, data)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), data)?)))
        .collect::<Result<_, safetensors::SafeTensorError>>()?;
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    write(&folder.join("model.safetensors"), &serialize(views, Some(metadata))?)
}

/// Everything but the weights: configuration, generation settings, tokenizer.
pub fn settings(config: &Config, vocab: &Vocabulary, folder: &Path) -> Outcome {
    fs::create_dir_all(folder)?;
    let blank_line = vocab.id("\n\n");
    write_json(
        &folder.join("config.json"),
        &json!({
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3",
            "vocab_size": config.vocab, "hidden_size": config.hidden, "intermediate_size": config.mlp,
            "num_hidden_layers": config.layers, "num_attention_heads": config.heads,
            "num_key_value_heads": config.kv_heads, "head_dim": config.head_dim,
            "max_position_embeddings": config.positions, "rope_theta": THETA, "rms_norm_eps": EPS,
            "hidden_act": "silu", "attention_bias": false, "attention_dropout": 0.0, "tie_word_embeddings": true,
            "use_sliding_window": false, "use_cache": true, "initializer_range": 0.05, "torch_dtype": "float32",
            "bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD,
        }),
    )?;
    write_json(
        &folder.join("generation_config.json"),
        &json!({"bos_token_id": BOS, "eos_token_id": [EOS, blank_line], "pad_token_id": PAD, "do_sample": false}),
    )?;
    write_json(&folder.join("tokenizer.json"), &tokenizer_json(vocab))?;
    write_json(&folder.join("tokenizer_config.json"), &tokenizer_config(config.positions))
}
