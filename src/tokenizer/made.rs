//! Tokenizers for tests, of this room and of others.

use std::path::PathBuf;

use super::Tokenizer;
use crate::error::Result;

/// A tokenizer for tests of other rooms: one token for each given word, words cut at spaces, newlines and around colons.
pub(crate) fn of_json(json: &str) -> Result<Tokenizer> {
    of_files(&[("tokenizer.json", json)])
}

/// One of a folder with these files.
pub(crate) fn of_files(files: &[(&str, &str)]) -> Result<Tokenizer> {
    let folder = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).unwrap());
    Tokenizer::open(folder.path())
}

/// A tokenizer as Llama-2's: byte pairs of a SentencePiece vocabulary, with a space put before every text.
pub(crate) fn of_pieces(characters: &str, merges: &[&str]) -> Tokenizer {
    let mut pieces: Vec<String> = ["<unk>", "▁"].map(String::from).into_iter().chain(characters.chars().map(String::from)).collect();
    pieces.extend(merges.iter().map(|merge| merge.replacen(' ', "", 1)));
    pieces.dedup();
    let vocab: serde_json::Map<_, _> = pieces.into_iter().enumerate().map(|(id, piece)| (piece, id.into())).collect();
    let replace = |from: &str, to: &str| serde_json::json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")]},
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [replace("▁", " "), {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": true, "byte_fallback": false, "vocab": vocab,
            "merges": merges.iter().map(|merge| merge.split_once(' ').unwrap()).collect::<Vec<_>>()}
    });
    of_json(&json.to_string()).unwrap()
}

/// A byte-pair tokenizer of single characters with the given merges, each "left right".
pub(crate) fn of_merges(characters: &str, merges: &[&str]) -> Tokenizer {
    let mut pieces: Vec<String> = characters.chars().map(String::from).collect();
    pieces.extend(merges.iter().map(|merge| merge.replacen(' ', "", 1)));
    let vocab: serde_json::Map<_, _> = pieces.into_iter().enumerate().map(|(id, piece)| (piece, id.into())).collect();
    let json = serde_json::json!({
        "version": "1.0", "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}, "padding": null,
        "added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Fuse"},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "vocab": vocab,
            "merges": merges.iter().map(|merge| merge.split_once(' ').unwrap()).collect::<Vec<_>>()}
    });
    of_json(&json.to_string()).unwrap()
}

/// A byte-level tokenizer with the split pattern of Qwen and no merges but the given ones.
pub(crate) fn of_bytes(merges: &[&str]) -> Tokenizer {
    let mut pieces: Vec<String> = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().map(String::from).collect();
    pieces.sort();
    pieces.extend(merges.iter().map(|merge| merge.replacen(' ', "", 1)));
    let vocab: serde_json::Map<_, _> = pieces.into_iter().enumerate().map(|(id, piece)| (piece, id.into())).collect();
    let pattern =
        concat!(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|", r"\s*[\r\n]+|\s+(?!\S)|\s+");
    let bytes =
        |regex: bool| serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": regex});
    let split = serde_json::json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytes(false)]},
        "post_processor": bytes(false), "decoder": bytes(false),
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "",
            "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": merges}
    });
    of_json(&json.to_string()).unwrap()
}

/// `../shared` with its real model and data, or where `IA2_SHARED` says it is.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("IA2_SHARED").map_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").into(), PathBuf::from);
    let path = root.join(path);
    if !path.exists() {
        crate::skipped(&format!("`{}` is not here", path.display()));
        return None;
    }
    Some(path)
}
