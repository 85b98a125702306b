#[cfg(test)]
mod families;

use std::io::Write;

use sha2::{Digest, Sha256};
use tch::{Device, Tensor};

use super::blocks::BLOCKS;
use super::*;
use crate::model::{Config, Model, OpenOptions, weights::Weights};
use crate::nn::rope::Scaling;
use crate::tokenizer::Tokenizer;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf").join(name)
}

/// A value of metadata that a test writes.
enum Put<'p> {
    Number(u32),
    Float(f32),
    Flag(bool),
    Text(&'p str),
    Texts(&'p [&'p str]),
    Numbers(&'p [i32]),
    Floats(&'p [f32]),
    Flags(&'p [bool]),
}

/// A file made here: metadata, and tensors by name, shape (as the file has it), type and bytes.
#[derive(Default)]
struct Made {
    metadata: Vec<u8>,
    values: u64,
    table: Vec<u8>,
    tensors: u64,
    data: Vec<u8>,
}

impl Made {
    fn text(out: &mut Vec<u8>, text: &str) {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    }

    fn put(mut self, key: &str, value: Put<'_>) -> Self {
        let out = &mut self.metadata;
        Self::text(out, key);
        let kind = |out: &mut Vec<u8>, kind: u32| out.extend(kind.to_le_bytes());
        match value {
            Put::Number(number) => {
                kind(out, 4);
                out.extend(number.to_le_bytes());
            }
            Put::Float(number) => {
                kind(out, 6);
                out.extend(number.to_le_bytes());
            }
            Put::Flag(flag) => {
                kind(out, 7);
                out.push(flag.into());
            }
            Put::Text(text) => {
                kind(out, 8);
                Self::text(out, text);
            }
            Put::Texts(texts) => {
                kind(out, 9);
                kind(out, 8);
                out.extend((texts.len() as u64).to_le_bytes());
                texts.iter().for_each(|text| Self::text(out, text));
            }
            Put::Numbers(numbers) => {
                kind(out, 9);
                kind(out, 5);
                out.extend((numbers.len() as u64).to_le_bytes());
                numbers.iter().for_each(|number| out.extend(number.to_le_bytes()));
            }
            Put::Floats(numbers) => {
                kind(out, 9);
                kind(out, 6);
                out.extend((numbers.len() as u64).to_le_bytes());
                numbers.iter().for_each(|number| out.extend(number.to_le_bytes()));
            }
            Put::Flags(flags) => {
                kind(out, 9);
                kind(out, 7);
                out.extend((flags.len() as u64).to_le_bytes());
                out.extend(flags.iter().map(|flag| u8::from(*flag)));
            }
        }
        self.values += 1;
        self
    }

    fn tensor(mut self, name: &str, shape: &[u64], kind: u32, bytes: &[u8]) -> Self {
        Self::text(&mut self.table, name);
        self.table.extend((shape.len() as u32).to_le_bytes());
        shape.iter().for_each(|size| self.table.extend(size.to_le_bytes()));
        self.table.extend(kind.to_le_bytes());
        self.table.extend((self.data.len() as u64).to_le_bytes());
        self.data.extend(bytes);
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        self.tensors += 1;
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF\x03\0\0\0".to_vec();
        out.extend(self.tensors.to_le_bytes());
        out.extend(self.values.to_le_bytes());
        out.extend(&self.metadata);
        out.extend(&self.table);
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(&self.data);
        out
    }

    fn open(&self) -> Result<(tempfile::NamedTempFile, Gguf)> {
        let mut file = tempfile::Builder::new().suffix(".gguf").tempfile().unwrap();
        file.write_all(&self.bytes()).unwrap();
        let opened = Gguf::open(file.path())?;
        Ok((file, opened))
    }

    fn config(&self) -> Result<Config> {
        Config::of_gguf(&self.open()?.1)
    }
}

/// The metadata of a small model, and its embedding.
fn small(architecture: &str) -> Made {
    let key = |name: &str| format!("{architecture}.{name}");
    let mut made = Made::default().put("general.architecture", Put::Text(architecture));
    for (name, number) in [
        ("block_count", 1),
        ("embedding_length", 32),
        ("feed_forward_length", 64),
        ("context_length", 128),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
    ] {
        made = made.put(&key(name), Put::Number(number));
    }
    made.put(&key("attention.layer_norm_rms_epsilon"), Put::Float(1e-5)).tensor("token_embd.weight", &[32, 4], 0, &[0; 512])
}

fn refused<T>(result: Result<T>, words: &[&str]) {
    let error = result.err().expect("this must fail");
    let text = error.to_string();
    assert!(error.is_file(), "{text}");
    words.iter().for_each(|word| assert!(text.contains(word), "`{word}` is not in: {text}"));
}

#[test]
fn every_type_gives_the_numbers_of_the_reference_bit_for_bit() {
    let golden: std::collections::HashMap<String, Tensor> =
        Tensor::read_safetensors(golden("blocks.safetensors")).unwrap().into_iter().collect();
    assert_eq!(golden.len(), 2 * BLOCKS.len());
    for block in &BLOCKS {
        let bytes: Vec<u8> = (&golden[&format!("{}.bytes", block.name)].reshape([-1])).try_into().unwrap();
        let expected: Vec<f32> = (&golden[&format!("{}.values", block.name)].reshape([-1])).try_into().unwrap();
        assert!(expected.len() > 50 && bytes.len() / block.bytes * block.count == expected.len(), "{}", block.name);
        let mut numbers = vec![7.0; expected.len()];
        block.decode(&bytes, &mut numbers);
        for (place, (number, expected)) in numbers.iter().zip(&expected).enumerate() {
            assert_eq!(number.to_bits(), expected.to_bits(), "{} at {place}: {number} and {expected}", block.name);
        }
    }
}

#[test]
fn every_family_has_a_golden_file() {
    let shown: Vec<Family> = file::gguf_files(&golden("")).iter().map(|path| Gguf::open(path).unwrap().family).collect();
    for family in Family::all().into_iter().filter(Family::is_in_gguf) {
        assert!(shown.contains(&family), "{family} has no file in tests/golden/gguf: add it to tests/python/golden_gguf.py");
    }
}

#[test]
fn metadata_become_the_same_configuration_as_json() -> Result<()> {
    let config = small("llama").config()?;
    assert_eq!((config.family.model_type(), config.layers, config.hidden_size, config.vocab_size), ("llama", 1, 32, 4));
    assert_eq!((config.heads, config.kv_heads, config.head_dim, config.max_positions), (2, 1, 16, 128));
    assert_eq!((config.rms_norm_eps, config.rope.theta, config.kind), (f64::from(1e-5f32), 1e4, Kind::Float));
    assert!(config.tie_embeddings && !config.qkv_bias && !config.mlp_bias && config.bos.is_none() && config.eos.is_empty());
    // A family's own default for the width of a head is not the file's.
    assert_eq!(small("qwen3").config()?.head_dim, 16);
    let more = small("qwen2")
        .put("qwen2.attention.key_length", Put::Number(8))
        .put("qwen2.attention.value_length", Put::Number(8))
        .put("qwen2.rope.freq_base", Put::Float(1e6))
        .put("qwen2.attention.sliding_window", Put::Number(128))
        .put("qwen2.vocab_size", Put::Number(9))
        .put("tokenizer.ggml.bos_token_id", Put::Number(1))
        .put("tokenizer.ggml.eos_token_id", Put::Number(2))
        .put("tokenizer.ggml.eot_token_id", Put::Number(3))
        .tensor("output.weight", &[32, 4], 1, &[0; 256])
        .config()?;
    assert_eq!((more.head_dim, more.rope.theta, more.kind, more.vocab_size), (8, 1e6, Kind::BFloat16, 4));
    assert_eq!((more.bos, &more.eos[..], more.tie_embeddings), (Some(1), &[2, 3][..], false));
    Ok(())
}

#[test]
fn scalings_of_the_rotary_embedding() -> Result<()> {
    let linear = |made: Made| Ok::<_, Error>(made.config()?.rope.scaling);
    let factor = |key: &str| small("llama").put(key, Put::Float(4.0));
    let scaling = |kind: &str| factor("llama.rope.scaling.factor").put("llama.rope.scaling.type", Put::Text(kind));
    assert_eq!(linear(scaling("linear"))?, Scaling::Linear { factor: 4.0 });
    assert_eq!(linear(scaling("none"))?, Scaling::None);
    assert_eq!(linear(factor("llama.rope.scaling.factor"))?, Scaling::Linear { factor: 4.0 });
    assert_eq!(linear(factor("llama.rope.scale_linear"))?, Scaling::Linear { factor: 4.0 });
    refused(scaling("of-tomorrow").config(), &["the rotary type \"of-tomorrow\" is not supported"]);
    let yarn =
        |beta_fast, growth| Scaling::Yarn { factor: 4.0, beta_fast, beta_slow: 1.0, original_max_positions: 32, truncate: true, growth };
    let stretched = || scaling("yarn").put("llama.rope.scaling.original_context_length", Put::Number(32));
    assert_eq!(linear(stretched())?, yarn(32.0, 0.1 * 4f64.ln() + 1.0));
    let said =
        stretched().put("llama.rope.scaling.yarn_beta_fast", Put::Float(16.0)).put("llama.rope.scaling.yarn_ext_factor", Put::Float(1.0));
    assert_eq!(linear(said.put("llama.rope.scaling.yarn_attn_factor", Put::Float(1.5)))?, yarn(16.0, 1.5));
    for key in ["yarn_ext_factor", "yarn_log_multiplier"] {
        refused(stretched().put(&format!("llama.rope.scaling.{key}"), Put::Float(0.5)).config(), &[key, "is not supported"]);
    }

    let factors = |factors: &[f32]| {
        let bytes: Vec<u8> = factors.iter().flat_map(|factor| factor.to_le_bytes()).collect();
        small("llama").tensor("rope_freqs.weight", &[factors.len() as u64], 0, &bytes)
    };
    assert_eq!(linear(factors(&[1.0; 8]))?, Scaling::None);
    refused(factors(&[1.0; 7]).config(), &["rope_freqs.weight", "Llama 3.1's formula does not give"]);
    refused(factors(&[1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 8.0]).config(), &["rope_freqs.weight"]);
    let both = factors(&[1.0; 8]).put("llama.rope.scaling.factor", Put::Float(2.0));
    refused(both.config(), &["twice"]);
    let published = Config::open(golden("llama3.gguf"))?.rope.scaling;
    assert_eq!(published, Scaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_positions: 8192 });
    Ok(())
}

#[test]
fn what_would_change_the_model_is_refused_by_name() {
    let with = |key: &str, value: Put<'_>| small("llama").put(key, value).config();
    refused(with("llama.attention.clamp_kqv", Put::Float(8.0)), &["`clip_qkv` is 8.0", "a bound on scores"]);
    refused(with("llama.attention.causal", Put::Flag(false)), &["attention to what follows"]);
    refused(with("llama.expert_count", Put::Number(8)), &["mixture of experts"]);
    assert!(with("llama.expert_count", Put::Number(0)).is_ok());
    refused(with("llama.attention.sliding_window", Put::Number(64)), &["sliding window"]);
    refused(with("llama.rope.dimension_count", Put::Number(8)), &["rope.dimension_count` 8 where a head is 16 wide"]);
    refused(with("llama.attention.value_length", Put::Number(8)), &["attention.value_length"]);
    refused(with("llama.attention.key_length_swa", Put::Number(8)), &["attention.key_length_swa` 8 where a head is 16 wide"]);
    refused(with("general.type", Put::Text("adapter")), &["of the kind `adapter`"]);
    refused(with("split.count", Put::Number(3)), &["one of 3 parts", "llama-gguf-split --merge"]);
    refused(with("general.alignment", Put::Number(48)), &["general.alignment", "a power of two"]);
    refused(with("tokenizer.ggml.eos_token_id", Put::Number(4)), &["`eos_token_id` must be a token id below"]);
    refused(
        small("mamba").config(),
        &["the architecture \"mamba\"", "llama, qwen2, qwen3, gemma2, gemma3, gpt2, gptneox, phi3, olmo2, smollm3, granite, qwen3moe"],
    );
    let by_layer = Made::default().put("general.architecture", Put::Text("llama")).put("llama.block_count", Put::Numbers(&[1, 2]));
    refused(by_layer.config(), &["`llama.embedding_length`"]);
    refused(Made::default().put("general.name", Put::Text("x")).config(), &["lack `general.architecture`"]);
    // Read as a number, and a list is none.
    let mut listed = small("llama");
    listed.metadata.clear();
    listed.values = 0;
    let listed = listed.put("general.architecture", Put::Text("llama")).put("llama.block_count", Put::Numbers(&[1, 2]));
    let rest = ["embedding_length", "feed_forward_length", "context_length", "attention.head_count"];
    let listed = rest.iter().fold(listed, |made, key| made.put(&format!("llama.{key}"), Put::Number(32)));
    refused(listed.put("llama.attention.layer_norm_rms_epsilon", Put::Float(1e-5)).config(), &["`num_hidden_layers`", "a list of 2"]);
}

#[test]
fn types_that_are_not_read_are_named() {
    let of = |kind: u32| small("llama").tensor("output.weight", &[256, 4], kind, &[0; 1024]).open().map(drop);
    refused(of(20), &["`output.weight`", "IQ4_NL", "Q4_K, Q5_K, Q6_K"]);
    refused(of(39), &["MXFP4"]);
    refused(of(77), &["the unknown type 77"]);
    refused(of(4), &["the unknown type 4"]);
    let narrow = small("llama").tensor("output.weight", &[48, 4], 2, &[0; 108]).open().map(drop);
    refused(narrow, &["[48, 4]", "no multiple of the 32 numbers of a block of Q4_0"]);
    let empty = small("llama").tensor("output.weight", &[0, 4], 0, &[]).open().map(drop);
    refused(empty, &["[0, 4]", "no tensor can have"]);
}

#[test]
fn weights_that_do_not_fit_are_named_as_of_a_folder() {
    let made = small("llama").put("tokenizer.ggml.model", Put::Text("none"));
    let (file, _) = made.open().unwrap();
    refused(OpenOptions::new().open(file.path()), &["of the weights are missing", "`model.layers.0.", "metadata"]);
    let (file, opened) = small("llama").tensor("blk.0.attn_rot.weight", &[4], 0, &[0; 16]).open().unwrap();
    assert!(opened.names().iter().any(|(name, _)| name == "blk.0.attn_rot.weight"));
    let mut weights = Weights::open(file.path(), Device::Cpu, None).unwrap();
    let _taken = weights.take("model.embed_tokens.weight", &[4, 32]).unwrap();
    refused(weights.finish(), &["no place for 1 of the stored weights: `blk.0.attn_rot.weight`"]);
    // Neither a name outside of the layers passes for one inside, nor the other way round.
    let (_file, opened) =
        small("llama").tensor("attn_q.weight", &[4], 0, &[0; 16]).tensor("blk.0.output.weight", &[4], 0, &[0; 16]).open().unwrap();
    let names: Vec<String> = opened.names().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["attn_q.weight", "blk.0.output.weight", "model.embed_tokens.weight"]);
}

#[test]
fn numbers_that_are_none_are_found() {
    let nan = f32::NAN.to_le_bytes().repeat(128);
    let mut made = small("llama");
    made.data[..512].copy_from_slice(&nan);
    let (file, _) = made.open().unwrap();
    let take = |kind| Weights::open(file.path(), Device::Cpu, kind).unwrap().take("model.embed_tokens.weight", &[4, 32]);
    let error = take(None).unwrap_err();
    assert!(error.is_numeric() && error.to_string().contains("`model.embed_tokens.weight`"), "{error}");
    made.data[..512].copy_from_slice(&1e6f32.to_le_bytes().repeat(128));
    let (file, _) = made.open().unwrap();
    let take = |kind| Weights::open(file.path(), Device::Cpu, kind).unwrap().take("model.embed_tokens.weight", &[4, 32]);
    assert!(take(Some(Kind::Half)).unwrap_err().to_string().contains("Half"));
    assert_eq!(take(Some(Kind::BFloat16)).unwrap().kind(), Kind::BFloat16);
}

/// Metadata of a byte-level tokenizer.
fn bytes(made: Made, tokens: &[&str], merges: &[&str], pre: Option<&str>) -> Made {
    let made = made.put("tokenizer.ggml.model", Put::Text("gpt2")).put("tokenizer.ggml.tokens", Put::Texts(tokens));
    let made = made.put("tokenizer.ggml.merges", Put::Texts(merges));
    match pre {
        Some(pre) => made.put("tokenizer.ggml.pre", Put::Text(pre)),
        None => made,
    }
}

fn tokenizer(made: &Made) -> Result<Tokenizer> {
    Ok(made.open()?.1.tokenizer()?.expect("there is one"))
}

#[test]
fn tokenizers_that_cannot_be_read_say_why() {
    let plain = |pre| bytes(small("llama"), &["a", "b", "ab", "<e>"], &["a b"], pre);
    assert_eq!(tokenizer(&plain(Some("gpt-2"))).unwrap().encode("abb").unwrap(), [2, 1]);
    refused(tokenizer(&plain(None)), &["does not name its pre-tokeniser", "tokenizer.ggml.pre"]);
    refused(tokenizer(&plain(Some("default"))), &["does not name its pre-tokeniser"]);
    refused(tokenizer(&plain(Some("of-tomorrow"))), &["the pre-tokeniser `of-tomorrow`", "llama-bpe", "smollm"]);
    // A family with one tokenizer needs no name.
    assert!(tokenizer(&bytes(small("qwen2"), &["a", "b", "ab"], &["a b"], None)).is_ok());
    refused(tokenizer(&bytes(small("qwen2"), &["a", "b", "a"], &[], None)), &["tokens 0 and 2 are the same", "\"a\""]);
    refused(tokenizer(&bytes(small("qwen2"), &["a", "b"], &["ab"], None)), &["\"ab\"", "not two tokens"]);
    refused(tokenizer(&bytes(small("qwen2"), &["a", "b"], &["a b"], None)), &["not a readable tokenizer"]);
    let typed = |types: &[i32]| tokenizer(&plain(Some("gpt-2")).put("tokenizer.ggml.token_type", Put::Numbers(types)));
    refused(typed(&[1, 1]), &["2 values for 4 tokens"]);
    assert_eq!(typed(&[1, 1, 1, 3]).unwrap().encode("a<e>").unwrap(), [0, 3]);
    assert_eq!(typed(&[1, 1, 1, 3]).unwrap().decode(&[0, 3]).unwrap(), "a");
    assert_eq!(typed(&[1, 1, 1, 4]).unwrap().decode(&[0, 3]).unwrap(), "a<e>");
    let around = |key: &str| plain(Some("gpt-2")).put(key, Put::Flag(true));
    refused(tokenizer(&around("tokenizer.ggml.add_bos_token")), &["`tokenizer.ggml.bos_token_id` is missing"]);
    let both = around("tokenizer.ggml.add_bos_token").put("tokenizer.ggml.bos_token_id", Put::Number(1));
    let both = both.put("tokenizer.ggml.add_eos_token", Put::Flag(true)).put("tokenizer.ggml.eos_token_id", Put::Number(3));
    assert_eq!(tokenizer(&both).unwrap().encode("a").unwrap(), [1, 0, 3]);
    refused(tokenizer(&plain(Some("gpt-2")).put("tokenizer.ggml.unknown_token_id", Put::Number(9))), &["is 9, but there are 4 tokens"]);
    let other = small("llama").put("tokenizer.ggml.model", Put::Text("bert"));
    refused(tokenizer(&other), &["of the model `bert`", "`gpt2` and `llama` are read"]);
    let pieces = small("llama").put("tokenizer.ggml.model", Put::Text("llama"));
    refused(tokenizer(&pieces), &["has no tokens"]);
    let pieces = pieces.put("tokenizer.ggml.tokens", Put::Texts(&["▁", "a"]));
    refused(tokenizer(&pieces), &["neither merges nor `tokenizer.ggml.scores`"]);
}

/// The published tokenizer.json of a real model lists its merges; a GGUF file has a score for each token instead.
#[test]
fn a_real_tokenizer_of_sentence_pieces_is_rebuilt_from_scores() {
    let Some(folder) = crate::tokenizer::tests::shared("models/stories260K") else { return };
    let json = |path: PathBuf| serde_json::from_slice::<Json>(&std::fs::read(path).unwrap()).unwrap();
    let published = json(folder.join("tokenizer.json"));
    let vocab = published["model"]["vocab"].as_object().unwrap();
    let mut tokens: Vec<&str> = vocab.keys().map(String::as_str).collect();
    tokens.sort_unstable_by_key(|token| vocab[*token].as_u64().unwrap());
    let merges = published["model"]["merges"].as_array().unwrap();
    let merged: Vec<String> = merges.iter().map(|pair| [0, 1].map(|half| pair[half].as_str().unwrap()).concat()).collect();
    let score = |token: &&str| -(merged.iter().position(|merged| merged == token).unwrap_or(merged.len()) as f32);
    let scores: Vec<f32> = tokens.iter().map(score).collect();
    let made = small("llama").put("tokenizer.ggml.model", Put::Text("llama")).put("tokenizer.ggml.tokens", Put::Texts(&tokens));
    let made = made.put("tokenizer.ggml.scores", Put::Floats(&scores)).put("tokenizer.ggml.bos_token_id", Put::Number(1));
    let made = made.put("tokenizer.ggml.eos_token_id", Put::Number(2)).put("tokenizer.ggml.unknown_token_id", Put::Number(0));
    let (ours, theirs) = (tokenizer(&made).unwrap(), Tokenizer::open(&folder).unwrap());
    let texts = json(golden("llama.json"));
    for row in texts["texts"].as_array().unwrap() {
        let text = row["text"].as_str().unwrap();
        let ids = ours.encode(text).unwrap();
        assert_eq!(ids, theirs.encode(text).unwrap(), "{text:?}");
        assert_eq!(ours.decode(&ids).unwrap(), theirs.decode(&ids).unwrap());
    }
    // Without the space that SentencePiece puts before a text.
    let bare = tokenizer(&made.put("tokenizer.ggml.add_space_prefix", Put::Flag(false))).unwrap();
    assert_eq!(bare.encode("Once").unwrap()[1..], *bare.encode_plain("Once").unwrap());
    assert_ne!(bare.encode("Once").unwrap(), theirs.encode("Once").unwrap());
    assert_eq!(bare.encode(" Once").unwrap(), theirs.encode("Once").unwrap());
    assert_eq!(bare.decode(&bare.encode(" Once").unwrap()).unwrap(), " Once");
}

/// Against the definition.
#[test]
fn rows_in_pairs_come_back_as_halves() {
    // Two heads of four rows: row 2 i + half of the file is row 2 half + i of the weight.
    let rows: Vec<f32> = (0..8).flat_map(|row| (0..16).map(move |column| (100 * row + column) as f32)).collect();
    let bytes: Vec<u8> = rows.iter().flat_map(|number| number.to_le_bytes()).collect();
    let bias: Vec<u8> = (0..8).flat_map(|row| (row as f32).to_le_bytes()).collect();
    let made = small("llama").tensor("blk.0.attn_q.weight", &[16, 8], 0, &bytes).tensor("blk.0.attn_q.bias", &[8], 0, &bias);
    let made = made.tensor("blk.0.attn_k.weight", &[16, 8], 0, &bytes).tensor("blk.0.attn_v.weight", &[16, 8], 0, &bytes);
    let (_file, opened) = made.open().unwrap();
    let load = |own: &str| opened.load(own, own, Kind::Float).unwrap();
    let firsts = |tensor: Tensor| Vec::<f32>::try_from(tensor).unwrap();
    assert_eq!(firsts(load("blk.0.attn_q.bias")), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    assert_eq!(firsts(load("blk.0.attn_q.weight").select(1, 3)), [3.0, 203.0, 103.0, 303.0, 403.0, 603.0, 503.0, 703.0]);
    // One head for keys.
    assert_eq!(firsts(load("blk.0.attn_k.weight").select(1, 0)), [0.0, 200.0, 400.0, 600.0, 100.0, 300.0, 500.0, 700.0]);
    assert_eq!(firsts(load("blk.0.attn_v.weight").select(1, 0)), [0.0, 100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0]);
}

#[test]
fn what_nobody_knows_is_listed_under_its_own_name() {
    let made = small("llama").put("llama.attention.novelty", Put::Number(7)).put("llama.logit_scale", Put::Float(0.0));
    assert_eq!(made.config().unwrap().unknown_keys, [("llama.attention.novelty".to_owned(), "7".to_owned())]);
    let (file, _) = made.open().unwrap();
    refused(OpenOptions::new().strict().open(file.path()), &[".gguf`: ", "`llama.attention.novelty` (7)"]);
}

#[test]
fn all_bytes_of_a_file_tell_which_model_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let bytes = std::fs::read(golden("llama3.gguf")).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let weights = |model: &Model| model.identity().unwrap().weights.clone();
    let model = Model::open(&path).unwrap();
    assert_eq!(weights(&model), format!("{:x}", Sha256::digest(&bytes)), "as sha256sum has it");
    let before = Model::open(&path).unwrap();
    // Overwritten in place: memory holds what the file does not any more.
    std::fs::write(&path, [bytes.as_slice(), b" "].concat()).unwrap();
    assert!(weights(&before).starts_with("numbers "));
}

#[test]
fn what_is_cut_short_while_it_is_loaded_is_an_error_and_no_signal() {
    let (file, opened) = small("llama").open().unwrap();
    let load = || opened.load("w", "token_embd.weight", Kind::Float).map(drop);
    load().unwrap();
    let length = file.as_file().metadata().unwrap().len();
    for length in [length - 1, 40, 0] {
        file.as_file().set_len(length).unwrap();
        refused(load(), &["was changed while it was being loaded"]);
    }
}
