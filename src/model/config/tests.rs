use super::*;
use crate::nn::rope::Scaling;
use serde_json::{Value, json};

/// A folder with `config.json` and, when given, `generation_config.json`.
fn folder(config: &Value, generation: Option<&Value>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    if let Some(generation) = generation {
        std::fs::write(folder.path().join("generation_config.json"), generation.to_string()).unwrap();
    }
    folder
}

fn open(config: &Value) -> Result<Config> {
    Config::open(folder(config, None).path())
}

/// `base` with the keys of `changes` put over it.
fn with(base: Value, changes: Value) -> Value {
    let mut base = base;
    for (key, value) in changes.as_object().unwrap() {
        base[key] = value.clone();
    }
    base
}

/// As on the hub, in transformers 4's spelling.
fn llama() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 128000,
        "eos_token_id": 128001, "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
        "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama", "num_attention_heads": 32,
        "num_hidden_layers": 16, "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
            "rope_type": "llama3"},
        "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.45.0.dev0",
        "use_cache": true, "vocab_size": 128256
    })
}

fn qwen2() -> Value {
    json!({
        "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151643,
        "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02, "intermediate_size": 4864, "max_position_embeddings": 32768,
        "max_window_layers": 24, "model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
        "transformers_version": "4.40.1", "use_cache": true, "use_mrope": false, "use_sliding_window": false, "vocab_size": 151936
    })
}

fn qwen3() -> Value {
    json!({
        "architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 151643,
        "eos_token_id": 151643, "head_dim": 128, "hidden_act": "silu", "hidden_size": 2560, "initializer_range": 0.02,
        "intermediate_size": 9728, "max_position_embeddings": 32768, "max_window_layers": 36, "model_type": "qwen3",
        "num_attention_heads": 32, "num_hidden_layers": 36, "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": null,
        "rope_theta": 1000000, "sliding_window": null, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
        "transformers_version": "4.51.0", "use_cache": true, "use_sliding_window": false, "vocab_size": 151936
    })
}

/// A small configuration of a family with all that `to_dict()` of transformers 5.23 writes, nulls and bookkeeping included.
fn newer(model_type: &str) -> Value {
    let base = json!({
        "transformers_version": "5.23.0", "architectures": null, "output_hidden_states": false, "return_dict": true, "dtype": "float16",
        "chunk_size_feed_forward": 0, "is_encoder_decoder": false, "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
        "label2id": {"LABEL_0": 0, "LABEL_1": 1}, "problem_type": null, "vocab_size": 10, "hidden_size": 8, "intermediate_size": 12,
        "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu", "max_position_embeddings": 2048,
        "initializer_range": 0.02, "rms_norm_eps": 1e-06, "use_cache": true, "pad_token_id": null, "bos_token_id": null,
        "eos_token_id": null, "tie_word_embeddings": false, "rope_parameters": {"rope_theta": 20000.0, "rope_type": "default"},
        "attention_dropout": 0.0, "_name_or_path": "", "model_type": model_type, "output_attentions": false
    });
    let window = json!({"use_sliding_window": false, "sliding_window": null, "max_window_layers": 28, "layer_types": ["full_attention"]});
    match model_type {
        "llama" => with(base, json!({"pretraining_tp": 1, "attention_bias": true, "mlp_bias": true, "head_dim": 2})),
        "qwen2" => with(base, window),
        _ => with(with(base, window), json!({"attention_bias": false, "head_dim": 6})),
    }
}

fn refused(config: &Value, parts: &[&str]) {
    let error = open(config).unwrap_err();
    let text = error.to_string();
    assert!(error.is_file() && text.contains("config.json`"), "{text}");
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

#[test]
fn older_configurations_of_real_models_are_read() {
    let config = open(&llama()).unwrap();
    assert_eq!(config.family.model_type(), "llama");
    assert_eq!((config.heads, config.kv_heads, config.head_dim, config.layers), (32, 8, 64, 16));
    let scaling = Scaling::Llama3 { factor: 32.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_positions: 8192 };
    assert_eq!(config.rope, Rope { theta: 5e5, scaling });
    assert_eq!((config.kind, config.bos, &config.eos[..]), (Kind::BFloat16, Some(128000), &[128001][..]));
    assert!(config.tie_embeddings && !config.qkv_bias && !config.o_bias && !config.mlp_bias && !config.qk_norm);

    let config = open(&qwen2()).unwrap();
    assert_eq!((config.head_dim, config.max_positions, config.rope), (64, 32768, Rope::new(1e6)));
    assert!(config.qkv_bias && !config.o_bias && !config.qk_norm);

    let config = open(&qwen3()).unwrap();
    assert_eq!((config.head_dim, config.hidden_size), (128, 2560));
    assert!(config.qk_norm && !config.qkv_bias);
}

#[test]
fn parameters_are_counted_as_the_reference_does() {
    // `sum(p.numel() for p in model.parameters())` of transformers 5.23 for the three configurations.
    let counts = [llama(), qwen2(), qwen3()].map(|config| open(&config).unwrap().parameters());
    assert_eq!(counts, [1_235_814_400, 494_032_768, 4_022_468_096]);
}

#[test]
fn newer_configurations_are_read() {
    for name in ["llama", "qwen2", "qwen3"] {
        let config = open(&newer(name)).unwrap();
        assert_eq!((config.family.model_type(), config.kind, config.rope), (name, Kind::Half, Rope::new(2e4)));
        assert_eq!((config.bos, config.eos.len(), config.tie_embeddings), (None, 0, false));
    }
    let scaling = json!({"rope_type": "linear", "factor": 4.0, "rope_theta": 20000.0});
    let config = open(&with(newer("qwen3"), json!({"rope_parameters": scaling}))).unwrap();
    assert_eq!(config.rope, Rope { theta: 2e4, scaling: Scaling::Linear { factor: 4.0 } });
}

/// Expected lists: `named_parameters()` of transformers 5.23 for the same configurations.
#[test]
fn weights_bear_the_names_and_shapes_of_the_reference() {
    let names = |model_type: &str| {
        let mut list = open(&newer(model_type)).unwrap().weights();
        list.sort();
        list.into_iter().map(|(name, shape)| format!("{} {shape:?}", name.trim_start_matches("model.layers.0."))).collect::<Vec<_>>()
    };
    let mut llama = vec!["lm_head.weight [10, 8]", "model.embed_tokens.weight [10, 8]", "model.norm.weight [8]"];
    llama.extend(["input_layernorm.weight [8]", "post_attention_layernorm.weight [8]"]);
    llama.extend(["mlp.gate_proj.weight [12, 8]", "mlp.up_proj.weight [12, 8]", "mlp.down_proj.weight [8, 12]"]);
    llama.extend(["self_attn.q_proj.weight [8, 8]", "self_attn.k_proj.weight [4, 8]", "self_attn.v_proj.weight [4, 8]"]);
    llama.extend(["self_attn.o_proj.weight [8, 8]"]);
    let qkv_bias = ["self_attn.q_proj.bias [8]", "self_attn.k_proj.bias [4]", "self_attn.v_proj.bias [4]"];
    let other_bias = ["self_attn.o_proj.bias [8]", "mlp.gate_proj.bias [12]", "mlp.up_proj.bias [12]", "mlp.down_proj.bias [8]"];

    let sorted = |mut list: Vec<&'static str>| {
        list.sort_unstable();
        list
    };
    let found = |model_type| {
        let mut found = names(model_type);
        found.sort_unstable();
        found
    };
    assert_eq!(found("llama"), sorted([&llama[..], &qkv_bias, &other_bias].concat()));
    assert_eq!(found("qwen2"), sorted([&llama[..], &qkv_bias].concat()));
    let qwen3 = found("qwen3");
    for line in
        ["self_attn.q_norm.weight [6]", "self_attn.k_norm.weight [6]", "self_attn.q_proj.weight [24, 8]", "self_attn.o_proj.weight [8, 24]"]
    {
        assert!(qwen3.contains(&line.to_owned()), "{line} is not in {qwen3:?}");
    }
    assert_eq!(qwen3.len(), llama.len() + 2);
    let tied = open(&with(newer("llama"), json!({"tie_word_embeddings": true}))).unwrap();
    assert!(tied.weights().iter().all(|(name, _)| name != "lm_head.weight"));
}

#[test]
fn defaults_are_the_reference_s() {
    let mut config = newer("qwen3");
    for key in ["head_dim", "num_key_value_heads", "rope_parameters", "dtype", "attention_bias", "tie_word_embeddings"] {
        config.as_object_mut().unwrap().remove(key);
    }
    let read = open(&config).unwrap();
    assert_eq!((read.head_dim, read.kv_heads, read.rope, read.kind), (128, 4, Rope::new(1e4), Kind::Float));
    assert!(!read.tie_embeddings);
    config["model_type"] = json!("llama");
    config.as_object_mut().unwrap().retain(|key, _| !key.contains("window") && key != "layer_types");
    assert_eq!(open(&config).unwrap().head_dim, 2);
}

#[test]
fn generation_config_has_the_last_word_on_the_ends() {
    let generation = json!({"bos_token_id": 1, "eos_token_id": [2, 3], "do_sample": true, "temperature": 0.6, "top_p": 0.9,
        "transformers_version": "4.45.0", "pad_token_id": null});
    let read = |generation: Value| Config::open(folder(&llama(), Some(&generation)).path());
    let config = read(generation).unwrap();
    assert_eq!((config.bos, config.eos), (Some(1), vec![2, 3]));
    let config = read(json!({"do_sample": false})).unwrap();
    assert_eq!((config.bos, config.eos), (Some(128000), vec![128001]));
}

#[test]
fn generation_config_refuses_nothing() {
    let read = |generation: Value| Config::open(folder(&llama(), Some(&generation)).path()).unwrap();
    // Vendors' keys, and what only other libraries read.
    let config = read(json!({"magic": 1, "thinking": {"budget": 4}, "eos_token_id": [5]}));
    assert_eq!((config.eos, config.unknown_keys), (vec![5], vec![]));
    // An id that the model cannot give ends nothing; it is listed, and the others hold.
    let config = read(json!({"eos_token_id": [2, 128256], "bos_token_id": -1}));
    assert_eq!((config.bos, &config.eos[..]), (Some(128000), &[2][..]));
    let listed = [("generation_config.json: bos_token_id", "-1"), ("generation_config.json: eos_token_id", "[2,128256]")];
    assert_eq!(config.unknown_keys, listed.map(|(key, value)| (key.to_owned(), value.to_owned())));
    assert_eq!(read(json!({"eos_token_id": "</s>"})).eos, [128001]);
    // A file that is cut short is damaged.
    let folder = folder(&llama(), None);
    std::fs::write(folder.path().join("generation_config.json"), "{\"eos_token_id\": [2").unwrap();
    assert!(Config::open(folder.path()).unwrap_err().to_string().contains("generation_config.json` is not valid JSON"));
}

#[test]
fn unknown_keys_are_listed_and_what_asks_for_nothing_is_not() {
    // As mirrors, fine-tunes and older libraries write them (each opens in transformers).
    let known = json!({"unk_token_id": 0, "unsloth_fixed": true, "unsloth_version": "2024.9", "model_name": "unsloth/llama-3",
        "neftune_noise_alpha": 5, "max_sequence_length": 4096, "_name_or_path": "x", "clip_qkv": null, "alibi": false, "num_experts": 0,
        "logit_scale": 1.0, "sliding_window": null, "quantization_config": {}, "layer_types": ["full_attention"], "vision_config": false});
    for base in [llama(), qwen2(), qwen3(), newer("llama")] {
        assert_eq!(open(&with(base, known.clone())).unwrap().unknown_keys, []);
    }
    let config = open(&with(qwen3(), json!({"tomorrow": 0.1, "b": [1], "off": false, "none": null, "empty": {}}))).unwrap();
    assert_eq!(config.unknown_keys, [("b".to_owned(), "[1]".to_owned()), ("tomorrow".to_owned(), "0.1".to_owned())]);
    assert_eq!(config, Config { unknown_keys: config.unknown_keys.clone(), ..open(&qwen3()).unwrap() });
    let frame = config.unknown().unwrap();
    assert_eq!((frame.shape(), frame.column("key").unwrap().str().unwrap().get(1)), ((2, 2), Some("tomorrow")));
    assert_eq!(frame.column("value").unwrap().str().unwrap().get(1), Some("0.1"));
    assert_eq!(open(&llama()).unwrap().unknown().unwrap().shape(), (0, 2));
    // Words that go into a model's identity, and with it into the keys of runs.
    let config = open(&with(qwen3(), json!({"later": "x".repeat(100)}))).unwrap();
    assert_eq!(config.unknown_keys, [("later".to_owned(), format!("\"{}...", "x".repeat(59)))]);
    // Of an inner object too; the rotation is what is known of it.
    let scaling = json!({"rope_scaling": {"type": "linear", "factor": 2, "note": "x", "finetuned": false}});
    let config = open(&with(llama(), scaling)).unwrap();
    assert_eq!(config.unknown_keys, [("rope_scaling.note".to_owned(), "\"x\"".to_owned())]);
    assert_eq!(config.rope.scaling, Scaling::Linear { factor: 2.0 });
    // Whoever wants none asks for it.
    let error = config.demand_known(Path::new("there")).unwrap_err().to_string();
    for word in ["there/config.json", "unknown key `rope_scaling.note` (\"x\")", "OpenOptions::strict"] {
        assert!(error.contains(word), "{word} is not in: {error}");
    }
    open(&llama()).unwrap().demand_known(Path::new("there")).unwrap();
}

#[test]
fn unknown_families_and_architectures_are_refused_by_name() {
    let families = ["llama (LlamaForCausalLM)", "qwen2 (Qwen2ForCausalLM)", "qwen3 (Qwen3ForCausalLM)"];
    refused(&with(llama(), json!({"model_type": "mamba"})), &[&["`mamba` is unknown", "src/model/family"][..], &families].concat());
    refused(&with(llama(), json!({"model_type": null})), &[&["`model_type` is missing"][..], &families].concat());
    refused(&with(llama(), json!({"architectures": ["LlamaModel"]})), &["`architectures` names LlamaModel", "LlamaForCausalLM"]);
}

#[test]
fn what_would_change_the_model_is_refused_by_name() {
    for (base, key, value, why) in [
        (qwen2(), "layer_types", json!(["sliding_attention"]), "names 1 layers, but the model has 24"),
        (qwen3(), "hidden_activation", json!("gelu_pytorch_tanh"), "activation"),
        (newer("qwen3"), "layer_types", json!(["sliding_attention"]), "`sliding_window` does not say"),
        (newer("qwen3"), "layer_types", json!(["chunked_attention"]), "`chunked_attention`"),
        (qwen2(), "use_mrope", json!(true), "several dimensions"),
        (llama(), "pretraining_tp", json!(2), "slices"),
        (llama(), "rope_interleaved", json!(true), "neighbouring"),
        (llama(), "hidden_act", json!("gelu"), "activation"),
        (llama(), "quantization_config", json!({"bits": 4}), "quantised"),
        (llama(), "auto_map", json!({"AutoModel": "x.py"}), "never run"),
        (llama(), "partial_rotary_factor", json!(0.5), "a part of each head"),
        (llama(), "torch_dtype", json!("float8_e4m3fn"), "`float8_e4m3fn` in `dtype` or `torch_dtype` is not supported"),
        (llama(), "rope_scaling", json!({"rope_type": "warp", "factor": 4.0}), "`warp` is not supported; default, linear, dynamic, yarn"),
        (llama(), "rope_scaling", json!({"type": "dynamic"}), "`factor` is missing"),
        (llama(), "rope_scaling", json!({"type": "linear"}), "`factor` is missing"),
        (llama(), "rope_scaling", json!({"type": "linear", "factor": 2, "mscale": 1}), "`mscale` is 1, which is not supported"),
        (llama(), "rope_scaling", json!({"type": "default", "mrope_section": [8]}), "`mrope_section`"),
        (llama(), "rope_scaling", json!({"factor": 4.0}), "`factor` is 4.0"),
        (llama(), "clip_qkv", json!(8), "a bound on scores"),
        (llama(), "logit_scale", json!(0.1), "a factor on"),
        (llama(), "num_experts", json!(8), "a mixture of experts"),
        (llama(), "sliding_window", json!(4096), "a window"),
        (llama(), "layer_types", json!(["sliding_attention"]), "`sliding_attention`"),
        (llama(), "vision_config", json!({"depth": 2}), "images"),
        (qwen2(), "rope_interleaved", json!(true), "neighbouring"),
        (qwen2(), "embedding_multiplier", json!(12), "only 1"),
        (llama(), "rope_parameters", json!({"rope_type": "default"}), "disagree"),
        (llama(), "dtype", json!("float32"), "keep the true one"),
    ] {
        refused(&with(base, json!({key: value})), &[key, why]);
    }
    let long = json!({"rope_scaling": {"type": "longrope", "short_factor": [1], "long_factor": [1]}});
    refused(&with(llama(), long), &["`short_factor` and `long_factor` hold 1 and 1 numbers, but the rotary embedding has 32 pairs"]);
    let theta = json!({"rope_scaling": {"type": "linear", "factor": 2, "rope_theta": 7.0}});
    refused(&with(llama(), theta), &["`rope_theta` is 500000, but 7"]);
}

#[test]
fn values_are_checked() {
    for (key, value, why) in [
        ("hidden_size", json!(0), "a whole number from 1"),
        ("hidden_size", json!("64"), "but is \"64\""),
        ("vocab_size", json!(1.5), "a whole number"),
        ("vocab_size", json!(null), "`vocab_size` is missing"),
        ("num_hidden_layers", json!(1_000_000), "at most 4096"),
        ("intermediate_size", json!(99_999_999_999_i64), "a whole number from 1 to 16777216"),
        ("num_key_value_heads", json!(5), "must be a multiple of `num_key_value_heads` (5)"),
        ("head_dim", json!(63), "an even one"),
        ("rms_norm_eps", json!(0), "above 0"),
        ("rms_norm_eps", json!(true), "a finite number"),
        ("rope_theta", json!(0.5), "`rope_theta` must be above 1"),
        ("bos_token_id", json!(-1), "a token id below"),
        ("eos_token_id", json!([1, 128256]), "a token id below the vocabulary's size 128256"),
        ("tie_word_embeddings", json!(1), "true or false"),
        ("architectures", json!("LlamaForCausalLM"), "a list of strings"),
        ("rope_scaling", json!("none"), "an object"),
    ] {
        refused(&with(llama(), json!({key: value})), &[key, why]);
    }
    refused(&with(newer("qwen2"), json!({"hidden_size": 10})), &["`hidden_size` (10) must be a multiple"]);
}

#[test]
fn broken_files_say_so() {
    let empty = tempfile::tempdir().unwrap();
    let error = Config::open(empty.path()).unwrap_err();
    assert!(error.is_file() && error.to_string().contains("holds no `config.json`"), "{error}");
    assert!(Config::open("/nowhere/at/all").unwrap_err().to_string().contains("is not a folder"));
    for (text, why) in [("{\"a\": ", "not valid JSON"), ("", "not valid JSON"), ("[1]", "holds a list"), ("\u{0}", "not valid JSON")] {
        std::fs::write(empty.path().join("config.json"), text).unwrap();
        let error = Config::open(empty.path()).unwrap_err();
        assert!(error.is_file() && error.to_string().contains(why), "{error}");
    }
    std::fs::write(empty.path().join("config.json"), [0xff, 0xfe]).unwrap();
    assert!(Config::open(empty.path()).unwrap_err().to_string().contains("UTF-8"));
}

#[test]
fn the_real_model_s_configuration_is_read() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/models/stories260K");
    if !Path::new(folder).is_dir() {
        crate::skipped(&format!("`{folder}` is not there"));
        return;
    }
    let config = Config::open(folder).unwrap();
    assert_eq!((config.head_dim, config.kv_heads, config.vocab_size, &config.eos[..]), (8, 4, 512, &[2][..]));
    let text = config.to_string();
    assert!(text.starts_with("llama: 5 layers of hidden size 64, 8 heads (4 for keys and values) of width 8"), "{text}");
}
