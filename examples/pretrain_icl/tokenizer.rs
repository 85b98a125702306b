//! The vocabulary as a Hugging Face `tokenizer.json`.

use serde_json::{Map, Value, json};

use crate::vocabulary::{BOS, PATTERN, SPECIALS, Vocabulary};

/// The printable letter that stands for each byte in byte-level vocabularies.
pub fn byte_letter(byte: u8) -> char {
    let plain = |b: u32| (33..=126).contains(&b) || (161..=172).contains(&b) || (174..=255).contains(&b);
    if plain(byte as u32) {
        return byte as char;
    }
    let earlier = (0..byte as u32).filter(|&b| !plain(b)).count() as u32;
    char::from_u32(256 + earlier).expect("a letter")
}

fn spelled(text: &str) -> String {
    text.bytes().map(byte_letter).collect()
}

/// The whole tokenizer: whole words are tokens at once, other text is bytes, and a text starts with the BOS token.
pub fn tokenizer_json(vocab: &Vocabulary) -> Value {
    let mut ids = Map::new();
    for (id, text) in vocab.tokens.iter().enumerate() {
        let key = match id {
            0..=2 => text.clone(),
            3..=258 => byte_letter((id - 3) as u8).to_string(),
            _ => spelled(text),
        };
        ids.insert(key, json!(id));
    }
    let special: Vec<Value> = SPECIALS
        .iter()
        .enumerate()
        .map(|(id, s)| json!({"id": id, "content": s, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}))
        .collect();
    let bos = SPECIALS[BOS as usize];
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": special,
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        ]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                     {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {bos: {"id": bos, "ids": [BOS], "tokens": [bos]}},
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": true,
                  "vocab": ids, "merges": []},
    })
}

/// What transformers wants to know besides `tokenizer.json`.
pub fn tokenizer_config(positions: i64) -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIALS[1], "eos_token": SPECIALS[2], "pad_token": SPECIALS[0],
        "add_bos_token": true, "add_eos_token": false,
        "clean_up_tokenization_spaces": false, "model_max_length": positions,
    })
}
