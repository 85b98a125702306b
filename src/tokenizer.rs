//! Text to token ids and back.

mod border;
mod chat;
mod checks;
#[cfg(test)]
mod made;
mod special;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use polars::prelude::*;
use sha2::{Digest, Sha256};

pub use chat::Chat;

use crate::display::shortened;
use crate::error::{Error, Result};
use crate::file::{self, Holds};
use crate::libtorch::caught;
use special::Special;

crate::display::show_as_text!(Tokenizer);
/// Letters of a text in a message.
const SAID: usize = 40;

/// A model's tokenizer, read from its `tokenizer.json`. Cloning it is free.
///
/// The names of its special tokens and its chat template come from the files next to it: `tokenizer_config.json`,
/// `special_tokens_map.json`, `chat_template.jinja`.
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
    special: Special,
}

impl Tokenizer {
    /// Reads `tokenizer.json` in `folder`, and what stands next to it.
    ///
    /// # Errors
    /// A file error when there is no `tokenizer.json`, when it is not a tokenizer of the `tokenizers` library, or when a file next to it is damaged.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let file = folder.as_ref().join("tokenizer.json");
        let text = match file::bytes(&file, Holds::Vocabulary) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(missing(folder.as_ref())),
            Err(error) => return Err(Error::file(format!("cannot read `{}`", file.display())).because(error)),
        };
        Self::of_json(&text, file, Special::read(folder.as_ref())?)
    }

    /// A tokenizer out of a file that holds all in its own way: the contents of `tokenizer.json` and `tokenizer_config.json` that say the
    /// same. `file` is where messages say it is.
    pub(crate) fn of_contents(text: &[u8], config: &serde_json::Value, file: PathBuf) -> Result<Self> {
        Self::of_json(text, file, Special::of_config(config))
    }

    fn of_json(text: &[u8], file: PathBuf, special: Special) -> Result<Self> {
        let Read { parts, vocab_size, bytes } = read(text).map_err(|why| {
            let what = file::misidentified(text, "tokenizer").unwrap_or_else(|| {
                let remedy = "it is cut short, or of a format the `tokenizers` library does not know: fetch it again";
                format!("is not a readable tokenizer ({} bytes): {remedy}", text.len())
            });
            Error::file(format!("`{}` {what}", file.display())).because(why)
        })?;
        if vocab_size == 0 {
            return Err(Error::file(format!("`{}` has an empty vocabulary: fetch it again", file.display())));
        }
        Ok(Self(Arc::new(Inner { parts, vocab_size, file, bytes, special })))
    }

    /// Asks the library, which may panic on a file that it has read but that was damaged.
    fn ask<T>(&self, f: impl FnOnce(&tokenizers::Tokenizer) -> T) -> Result<T> {
        caught(|| f(&self.0.parts)).map_err(|why| {
            let remedy = "it is damaged, or asks for what the `tokenizers` library cannot do: fetch it again";
            Error::file(format!("the tokenizer of `{}` broke off: {remedy}", self.0.file.display())).because(why)
        })
    }

    /// SHA-256 of all its settings and its vocabulary.
    pub(crate) fn digest(&self) -> Result<String> {
        let text = self.0.parts.to_string(false).map_err(|error| Error::internal("writing a tokenizer").because(error))?;
        Ok(format!("{:x}", Sha256::digest(text)))
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
        let encoding = self.ask(|parts| parts.encode_fast(text, special))?;
        let encoding = encoding.map_err(|error| Error::input(format!("cannot tokenise {:?}", shortened(text, SAID))).because(error))?;
        if encoding.is_empty() {
            return Err(Error::input(format!("the text {:?} gives no token", shortened(text, SAID))));
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
                let part = self.ask(|parts| parts.decode(run, true))?;
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

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What the library makes of a `tokenizer.json`.
struct Read {
    parts: tokenizers::Tokenizer,
    vocab_size: usize,
    bytes: Option<HashMap<char, u8>>,
}

/// Reads a `tokenizer.json`, or says why nothing can be made of it.
fn read(text: &[u8]) -> std::result::Result<Read, Cause> {
    caught(|| {
        checks::lengths(text)?;
        let mut parts = tokenizers::Tokenizer::from_bytes(text)?;
        parts.with_truncation(None)?;
        parts.with_padding(None);
        // The largest id counts, not the number of tokens: ids may have gaps, and an embedding is indexed by id.
        let vocab_size = parts.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        checks::steps(&parts)?;
        let decoder = serde_json::to_string(&parts.get_decoder())?;
        Ok(Read { parts, vocab_size, bytes: decoder.contains("\"ByteLevel\"").then(byte_letters) })
    })?
}

fn missing(folder: &Path) -> Error {
    if !folder.is_dir() {
        return Error::file(format!("there is no folder `{}` to read a tokenizer from", folder.display()));
    }
    // The one older layout that is still met, and how to leave it.
    let remedy = if folder.join("tokenizer.model").is_file() {
        "it has a SentencePiece `tokenizer.model`: convert it once in Python with `AutoTokenizer.from_pretrained(folder).save_pretrained(folder)`"
    } else {
        "copy it from where the model came from, next to `config.json`"
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

#[cfg(test)]
pub(crate) mod tests {
    pub(crate) use super::made::*;
    use super::*;

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
    fn a_file_cut_short_anywhere_is_an_error_that_names_it() {
        let whole = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/data/models/tiny-icl/tokenizer.json")).unwrap();
        let end = whole.iter().rposition(|&byte| byte == b'}').unwrap();
        assert!((0..end).all(|length| read(&whole[..length]).is_err()));
        assert!(read(&whole[..=end]).is_ok());
        // What the user sees, also of those on which the library panics.
        let panics: Vec<usize> =
            (0..end).filter(|&length| caught(|| tokenizers::Tokenizer::from_bytes(&whole[..length]).is_err()).is_err()).collect();
        assert!(!panics.is_empty(), "the library no longer panics: the guard may go");
        let folder = tempfile::tempdir().unwrap();
        for length in (0..end).step_by(499).chain(panics.into_iter().step_by(9)) {
            std::fs::write(folder.path().join("tokenizer.json"), &whole[..length]).unwrap();
            let error = Tokenizer::open(folder.path()).unwrap_err();
            assert!(error.is_file() && error.to_string().contains("fetch it again"), "{length}: {error}");
        }
    }

    #[test]
    fn a_file_that_opens_and_then_makes_the_library_panic_is_an_error() {
        // A token without an id, which the library finds out when it is needed.
        let byte = serde_json::json!({"version": "1.0", "added_tokens": [],
            "model": {"type": "Unigram", "unk_id": null, "byte_fallback": false, "vocab": [["a", 0.0]]}});
        let tokenizer = of_json(&byte.to_string()).unwrap();
        let error = tokenizer.encode("ab").unwrap_err();
        assert!(!error.is_internal(), "{error}");
        let error = tokenizer.ask(|_| -> () { panic!("as the library does") }).unwrap_err();
        assert!(error.is_file() && error.to_string().contains("fetch it again") && error.to_string().contains("as the library"), "{error}");
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
