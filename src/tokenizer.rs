//! Text to token ids and back.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use polars::prelude::*;

use crate::error::{Error, Result};

/// A model's tokenizer, read from its `tokenizer.json`. Cloning it is free.
///
/// Truncation and padding that some `tokenizer.json` files switch on are switched off: a prompt is never cut without a word.
///
/// ```no_run
/// use ia2::tokenizer::Tokenizer;
///
/// let tokenizer = Tokenizer::open("data/models/tiny-icl")?;
/// let ids = tokenizer.encode("Text:a fine day\nLabel:")?;
/// assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
/// println!("{}", tokenizer.decode(&ids)?);
/// # Ok::<(), ia2::Error>(())
/// ```
#[derive(Clone)]
pub struct Tokenizer(Arc<Inner>);

struct Inner {
    parts: tokenizers::Tokenizer,
    vocab_size: usize,
    file: PathBuf,
    /// The byte that each letter of a byte-level vocabulary stands for; `None` for other vocabularies.
    bytes: Option<HashMap<char, u8>>,
}

impl Tokenizer {
    /// Reads `tokenizer.json` in `folder`.
    ///
    /// # Errors
    /// A file error when there is no `tokenizer.json`, or when it is not a tokenizer of the `tokenizers` library.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let file = folder.as_ref().join("tokenizer.json");
        let text = match std::fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(missing(folder.as_ref())),
            Err(error) => return Err(Error::file(format!("cannot read `{}`", file.display())).because(error)),
        };
        Self::of_json(&text, file)
    }

    /// Reads the content of a `tokenizer.json`; `file` is where messages say it is.
    pub(crate) fn of_json(text: &[u8], file: PathBuf) -> Result<Self> {
        let mut parts = tokenizers::Tokenizer::from_bytes(text).map_err(|error| {
            let remedy = "it is cut short, or of a format the `tokenizers` library does not know: fetch it again";
            Error::file(format!("`{}` is not a readable tokenizer ({} bytes): {remedy}", file.display(), text.len())).because(error)
        })?;
        parts.with_truncation(None).map_err(|error| Error::file(format!("`{}` cannot be used", file.display())).because(error))?;
        parts.with_padding(None);
        // The largest id counts, not the number of tokens: ids may have gaps, and an embedding is indexed by id.
        let vocab_size = parts.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        if vocab_size == 0 {
            return Err(Error::file(format!("`{}` has an empty vocabulary: fetch it again", file.display())));
        }
        let decoder = serde_json::to_string(&parts.get_decoder()).map_err(|error| Error::internal("reading a decoder").because(error))?;
        let bytes = decoder.contains("\"ByteLevel\"").then(byte_letters);
        Ok(Self(Arc::new(Inner { parts, vocab_size, file, bytes })))
    }

    /// The ids of `text` with the special tokens that the tokenizer puts around a text (such as a leading BOS).
    ///
    /// # Errors
    /// An input error when `text` is empty or gives no token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.ids(text, true)
    }

    /// The ids of `text` alone, no special tokens added. (The name of a special token written out in `text` still becomes it.)
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>> {
        self.ids(text, false)
    }

    fn ids(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        if text.is_empty() {
            return Err(Error::input("there is no text to tokenise: it is empty"));
        }
        let encoding = self.0.parts.encode_fast(text, special);
        let encoding = encoding.map_err(|error| Error::input(format!("cannot tokenise {:?}", brief(text))).because(error))?;
        if encoding.is_empty() {
            return Err(Error::input(format!("the text {:?} gives no token", brief(text))));
        }
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `ids`, special tokens left out.
    ///
    /// An id without a token (a model's output is often a little wider than its vocabulary) reads as U+FFFD, the replacement
    /// character, so that it is seen. No ids give an empty text.
    ///
    /// # Errors
    /// An input error when the tokenizer's decoder refuses the ids.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let known = |id: &u32| self.0.parts.id_to_token(*id).is_some();
        let mut text = String::new();
        // The library drops unknown ids silently: decode the runs between them.
        for (place, run) in ids.split(|id| !known(id)).enumerate() {
            if place > 0 {
                text.push(char::REPLACEMENT_CHARACTER);
            }
            if !run.is_empty() {
                let part = self.0.parts.decode(run, true);
                text += &part.map_err(|error| Error::input(format!("cannot decode {} ids", run.len())).because(error))?;
            }
        }
        Ok(text)
    }

    /// The token of an id as the vocabulary spells it (a space may be `▁` or `Ġ`), or `None`.
    pub fn token(&self, id: u32) -> Option<String> {
        self.0.parts.id_to_token(id)
    }

    /// The token of an id as it reads on one line: `·` for a space, `\n`, `\t` and `\r` for breaks, `<0xE6>` for each byte of a token that is
    /// no whole text, the name of a special token. An id without a token is U+FFFD, as in [`decode`](Self::decode).
    ///
    /// Where [`token`](Self::token) says `Ġthe` (byte-level vocabularies) or `▁the` (SentencePiece), this says `·the`.
    pub fn spelling(&self, id: u32) -> String {
        let Some(token) = self.token(id) else { return char::REPLACEMENT_CHARACTER.into() };
        if self.0.parts.get_added_vocabulary().get_added_tokens_decoder().contains_key(&id) {
            return visible(&token);
        }
        let bytes = match &self.0.bytes {
            Some(letters) => token.chars().map(|letter| letters.get(&letter).copied()).collect(),
            None => single_byte(&token).map(|byte| vec![byte]),
        };
        let Some(bytes) = bytes else { return visible(&token.replace('▁', " ")) };
        match std::str::from_utf8(&bytes) {
            Ok(text) => visible(text),
            Err(_) => bytes.iter().map(|byte| format!("<0x{byte:02X}>")).collect(),
        }
    }

    /// [`spelling`](Self::spelling) of each id, ready to be a column.
    pub fn spellings(&self, ids: &[u32]) -> Vec<String> {
        ids.iter().map(|&id| self.spelling(id)).collect()
    }

    /// The id of a token as the vocabulary spells it, special tokens included, or `None`.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.0.parts.token_to_id(token)
    }

    /// One more than the largest id, added tokens included: the least number of rows an embedding must have.
    pub fn vocab_size(&self) -> usize {
        self.0.vocab_size
    }

    /// How `text` is cut, special tokens included: a frame with columns `position` (0-based), `id`, `token` (its
    /// [`spelling`](Self::spelling)).
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn tokens(&self, text: &str) -> Result<DataFrame> {
        let ids = self.encode(text)?;
        let tokens = self.spellings(&ids);
        Ok(df!("position" => (0..ids.len() as u32).collect::<Vec<_>>(), "id" => ids, "token" => tokens)?)
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokenizer({} ids, `{}`)", self.vocab_size(), self.0.file.display())
    }
}

fn missing(folder: &Path) -> Error {
    if !folder.is_dir() {
        return Error::file(format!("there is no folder `{}` to read a tokenizer from", folder.display()));
    }
    // The one older layout that is still met, and how to leave it.
    let remedy = if folder.join("tokenizer.model").is_file() {
        "it has a SentencePiece `tokenizer.model`: convert it once in Python with `AutoTokenizer.from_pretrained(folder).save_pretrained(folder)`"
    } else {
        "copy it from where the model came from, beside `config.json`"
    };
    Error::file(format!("no `tokenizer.json` in `{}`: {remedy}", folder.display()))
}

/// The letters in which byte-level vocabularies write bytes (GPT-2's `bytes_to_unicode`): those that print stand for themselves, the others
/// follow from U+0100 on.
fn byte_letters() -> HashMap<char, u8> {
    let prints = |byte: u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let own = (0..=u8::MAX).filter(|byte| prints(*byte)).map(|byte| (char::from(byte), byte));
    let others = (0..=u8::MAX).filter(|byte| !prints(*byte)).zip('\u{100}'..).map(|(byte, letter)| (letter, byte));
    own.chain(others).collect()
}

/// The byte that a SentencePiece token such as `<0x0A>` stands for.
fn single_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// Spaces and breaks made visible.
fn visible(text: &str) -> String {
    let letter = |letter: char| match letter {
        ' ' => "·".to_owned(),
        letter if letter.is_control() => letter.escape_default().to_string(),
        letter => letter.to_string(),
    };
    text.chars().map(letter).collect()
}

/// The start of a text, short enough for a message.
fn brief(text: &str) -> String {
    if text.chars().count() <= 40 { text.into() } else { text.chars().take(40).chain(['…']).collect() }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A tokenizer for tests of other rooms: one token for each given word, words cut at spaces, newlines and around colons.
    pub(crate) fn of_json(json: &str) -> Result<Tokenizer> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), json).unwrap();
        Tokenizer::open(folder.path())
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

    #[test]
    fn the_real_tokenizer_gives_its_golden_ids_and_text() {
        let Some(folder) = shared("models/stories260K") else { return };
        let tokenizer = Tokenizer::open(&folder).unwrap();
        assert_eq!(tokenizer.vocab_size(), 512);
        let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
        let ids = |value: &serde_json::Value| -> Vec<u32> { serde_json::from_value(value.clone()).unwrap() };
        let prompts = golden["prompts"].as_array().unwrap();
        assert_eq!(prompts.len(), 3);
        for case in prompts {
            let prompt = case["prompt"].as_str().unwrap();
            let encoded = tokenizer.encode(prompt).unwrap();
            assert_eq!(encoded, ids(&case["input_ids"]));
            assert_eq!(tokenizer.encode_plain(prompt).unwrap(), encoded[1..]);
            assert_eq!(tokenizer.decode(&encoded).unwrap(), prompt);
            let all = [encoded, ids(&case["continuation_ids"])].concat();
            assert_eq!(tokenizer.decode(&all).unwrap(), format!("{prompt}{}", case["continuation_text"].as_str().unwrap()));
        }
        assert_eq!(tokenizer.id("<s>"), Some(1));
        assert_eq!(tokenizer.token(432).as_deref(), Some(","));
        assert_eq!(tokenizer.token(512), None);
        let frame = tokenizer.tokens("Once upon a time").unwrap();
        assert_eq!(frame.shape(), (5, 3));
    }

    #[test]
    fn the_pattern_of_qwen_works_and_gives_every_text_back() {
        let tokenizer = of_bytes(&[": t"]);
        assert_eq!(tokenizer.vocab_size(), 257);
        for text in ["Text:It's 12 cafés…\n\n  over\tthere 🦀\nLabel:", " ", "\r\n", "日本"] {
            assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text);
        }
        let spelled = |text: &str| tokenizer.encode(text).unwrap().into_iter().map(|id| tokenizer.token(id).unwrap()).collect::<Vec<_>>();
        assert_eq!(spelled(" 0"), ["Ġ", "0"]);
        assert_eq!(spelled("l:true"), ["l", ":t", "r", "u", "e"]);
    }

    #[test]
    fn tokens_are_spelled_as_they_read() {
        let tokenizer = of_bytes(&["Ġ t", "æ Ĺ", "æĹ ¥", "Ċ Ċ"]);
        let spelled = |text: &str| tokenizer.spellings(&tokenizer.encode(text).unwrap());
        assert_eq!(spelled(" t\n\n"), ["·t", "\\n\\n"]);
        assert_eq!(spelled("日a\t\r"), ["日", "a", "\\t", "\\r"]);
        // Half a letter is no text.
        assert_eq!(tokenizer.spelling(tokenizer.id("æĹ").unwrap()), "<0xE6><0x97>");
        assert_eq!(tokenizer.spelling(9999), "\u{fffd}");
        // Every byte, against the library's own decoder.
        for (letter, byte) in byte_letters() {
            let decoded = tokenizer.decode(&[tokenizer.id(&letter.to_string()).unwrap()]).unwrap();
            assert_eq!(decoded, String::from_utf8_lossy(&[byte]), "{letter}");
        }
        assert_eq!(byte_letters().len(), 256);

        let Some(folder) = shared("models/stories260K") else { return };
        let tokenizer = Tokenizer::open(folder).unwrap();
        let spelled = tokenizer.spellings(&tokenizer.encode("Once upon\n a 日").unwrap());
        assert_eq!(spelled, ["<s>", "·Once", "·upon", "\\n", "·a", "·", "<0xE6>", "<0x97>", "<0xA5>"]);
        let frame = tokenizer.tokens("Once upon").unwrap();
        assert_eq!(frame.column("token").unwrap().str().unwrap().get(1), Some("·Once"));
    }

    #[test]
    fn a_truncation_in_the_file_does_not_cut_texts() {
        let tokenizer = of_merges("ab ", &[]);
        assert_eq!(tokenizer.encode("ab ab ab").unwrap().len(), 8);
    }

    #[test]
    fn unknown_ids_are_seen_in_the_text() {
        let tokenizer = of_merges("ab", &["a b"]);
        assert_eq!(tokenizer.decode(&[2, 9, 0]).unwrap(), "ab\u{fffd}a");
        assert_eq!(tokenizer.decode(&[]).unwrap(), "");
    }

    #[test]
    fn empty_text_and_text_without_tokens_are_errors() {
        let tokenizer = of_merges("ab", &[]);
        let error = tokenizer.encode("").unwrap_err();
        assert!(error.is_input() && error.to_string().contains("empty"), "{error}");
        let error = tokenizer.encode_plain("?").unwrap_err();
        assert!(error.is_input() && error.to_string().contains("gives no token"), "{error}");
    }

    #[test]
    fn a_missing_or_broken_file_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = Tokenizer::open(folder.path()).unwrap_err();
        assert!(error.is_file() && error.to_string().contains("no `tokenizer.json`"), "{error}");
        std::fs::write(folder.path().join("tokenizer.model"), "").unwrap();
        assert!(Tokenizer::open(folder.path()).unwrap_err().to_string().contains("save_pretrained"));
        let error = Tokenizer::open(folder.path().join("nowhere")).unwrap_err();
        assert!(error.is_file() && error.to_string().contains("no folder"), "{error}");
        for broken in ["", "{", "{}", "[1, 2]", "{\"version\": \"1.0\"}"] {
            let error = of_json(broken).unwrap_err();
            assert!(error.is_file() && error.to_string().contains("fetch it again"), "{error}");
        }
    }
}
