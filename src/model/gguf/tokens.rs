//! The vocabulary as the `tokenizer.json` of the `tokenizers` library that cuts texts the same way.
//!
//! What a file leaves to the name of its pre-tokeniser is taken from the published tokenizers that the name stands for, as llama.cpp does.
//! (transformers 5.23 knows fewer names, and cuts texts of the others as GPT-2 does.)

use std::collections::HashMap;

use serde_json::{Map, Value as Json, json};

use super::{Gguf, object};
use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// Longer words would take for ever to be taken apart, and no vocabulary has one.
const LONGEST: usize = 1 << 12;

/// `tokenizer.ggml.token_type`.
const UNKNOWN: f64 = 2.0;
const CONTROL: f64 = 3.0;
const USER_DEFINED: f64 = 4.0;

/// How texts are cut before bytes are merged.
struct Pre {
    /// Names in `tokenizer.ggml.pre`.
    names: &'static [&'static str],
    /// The pattern whose matches are the pieces; none for GPT-2's.
    pattern: Option<&'static str>,
    /// True if every digit is a piece of its own before that.
    digits: bool,
    /// True if texts are brought to Unicode's composed form first.
    composed: bool,
    /// True if a piece that is a token is not taken apart, whatever the merges say.
    whole: bool,
    /// True if a text begins with a token of its own where the file does not say.
    bos: bool,
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

#[rustfmt::skip]
const PRE: &[Pre] = &[
    Pre { names: &["gpt-2", "phi-2", "mpt", "exaone4", "trillion"], pattern: None, digits: false, composed: false, whole: false, bos: false },
    Pre { names: &["olmo"], pattern: None, digits: false, composed: true, whole: false, bos: false },
    Pre { names: &["smollm", "starcoder", "refact", "codeshell", "exaone", "minerva-7b"], pattern: None, digits: true, composed: false, whole: false, bos: false },
    Pre { names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "midm-2.0"], pattern: Some(LLAMA3), digits: false, composed: false, whole: true, bos: true },
    Pre { names: &["dbrx", "smaug-bpe"], pattern: Some(LLAMA3), digits: false, composed: false, whole: false, bos: false },
    Pre { names: &["qwen2"], pattern: Some(QWEN2), digits: false, composed: true, whole: false, bos: false },
    Pre { names: &["deepseek-r1-qwen", "megrez", "stablelm2"], pattern: Some(QWEN2), digits: false, composed: false, whole: false, bos: false },
    Pre { names: &["gpt-4o", "llama4"], pattern: Some(GPT4O), digits: false, composed: false, whole: false, bos: false },
    Pre { names: &["tekken"], pattern: Some(TEKKEN), digits: false, composed: false, whole: true, bos: true },
];

/// Where special tokens stand in the metadata, and in `tokenizer_config.json`.
const SPECIAL: &[(&str, &str)] = &[
    ("tokenizer.ggml.bos_token_id", "bos_token"),
    ("tokenizer.ggml.eos_token_id", "eos_token"),
    ("tokenizer.ggml.unknown_token_id", "unk_token"),
    ("tokenizer.ggml.padding_token_id", "pad_token"),
];

/// The tokens of a file.
struct Vocabulary {
    tokens: Vec<String>,
    ids: HashMap<String, usize>,
    /// Runs of spaces, which SentencePiece spells as other pieces, and llama.cpp's converter as a text has them.
    spaces: Vec<usize>,
}

fn is_space(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte == b' ')
}

impl Gguf {
    /// The tokenizer with its special tokens and its chat template; `None` if the file has none.
    pub(in crate::model) fn tokenizer(&self) -> Result<Option<Tokenizer>> {
        let Some(json) = self.tokenizer_json()? else { return Ok(None) };
        Tokenizer::of_contents(json.to_string().as_bytes(), &self.tokenizer_config()?, self.path().to_owned()).map(Some)
    }

    /// `tokenizer.json`; `None` if the file has no tokenizer.
    pub(super) fn tokenizer_json(&self) -> Result<Option<Json>> {
        let build = match self.text("tokenizer.ggml.model")? {
            None | Some("none" | "no_vocab") => return Ok(None),
            Some("gpt2") => Self::byte_level,
            Some("llama") => Self::sentence_pieces,
            Some(other) => {
                return Err(
                    self.error(format!("has a tokenizer of the model `{other}` (`tokenizer.ggml.model`), and `gpt2` and `llama` are read"))
                );
            }
        };
        let vocabulary = self.vocabulary()?;
        let mut parts = build(self, &vocabulary)?;
        let map = vocabulary.ids.iter().map(|(token, id)| (token.clone(), json!(id))).collect::<Map<_, _>>();
        parts["model"]["vocab"] = Json::Object(map);
        parts["added_tokens"] = self.added(&vocabulary)?;
        parts["version"] = "1.0".into();
        Ok(Some(parts))
    }

    /// `tokenizer_config.json`.
    pub(super) fn tokenizer_config(&self) -> Result<Json> {
        let vocabulary = self.vocabulary()?;
        let mut config = vec![("tokenizer_class", json!("PreTrainedTokenizerFast")), ("clean_up_tokenization_spaces", json!(false))];
        for (key, name) in SPECIAL {
            config.extend(self.special(&vocabulary, key)?.map(|id| (*name, json!(vocabulary.tokens[id]))));
        }
        config.extend(self.text("tokenizer.chat_template")?.map(|template| ("chat_template", json!(template))));
        Ok(object(config))
    }

    fn vocabulary(&self) -> Result<Vocabulary> {
        let key = "tokenizer.ggml.tokens";
        let mut tokens = self.texts(key)?.ok_or_else(|| self.error(format!("is damaged: its tokenizer has no tokens (`{key}`)")))?;
        let mut ids = HashMap::with_capacity(tokens.len());
        for (id, token) in tokens.iter().enumerate() {
            if let Some(before) = ids.insert(token.clone(), id) {
                return Err(self.error(format!("is damaged: its tokens {before} and {id} are the same, {token:?}")));
            }
        }
        let mut spaces = Vec::new();
        for (id, token) in tokens.iter_mut().enumerate().filter(|(_, token)| self.layout.in_order && is_space(token)) {
            let spelled = "▁".repeat(token.len());
            if !ids.contains_key(&spelled) {
                ids.remove(token);
                ids.insert(spelled.clone(), id);
                *token = spelled;
                spaces.push(id);
            }
        }
        Ok(Vocabulary { tokens, ids, spaces })
    }

    /// The id of a special token that the metadata name.
    fn special(&self, vocabulary: &Vocabulary, key: &str) -> Result<Option<usize>> {
        match self.unsigned(key)? {
            None => Ok(None),
            Some(id) if id < vocabulary.tokens.len() as u64 => Ok(Some(id as usize)),
            Some(id) => Err(self.error(format!("is damaged: `{key}` is {id}, but there are {} tokens", vocabulary.tokens.len()))),
        }
    }

    /// Tokens that are found in a text before anything else: special ones, and those that users have defined.
    fn added(&self, vocabulary: &Vocabulary) -> Result<Json> {
        let key = "tokenizer.ggml.token_type";
        let types = self.numbers(key)?.unwrap_or_default();
        if !types.is_empty() && types.len() != vocabulary.tokens.len() {
            return Err(self.error(format!("is damaged: `{key}` has {} values for {} tokens", types.len(), vocabulary.tokens.len())));
        }
        let named = SPECIAL.iter().map(|(key, _)| self.special(vocabulary, key)).collect::<Result<Vec<_>>>()?;
        let added = vocabulary.tokens.iter().enumerate().filter_map(|(id, token)| {
            let own = types.get(id).copied();
            let special = named.contains(&Some(id)) || own == Some(CONTROL) || own == Some(UNKNOWN);
            let defined = own == Some(USER_DEFINED) && vocabulary.spaces.binary_search(&id).is_err();
            (!token.is_empty() && (special || defined)).then(|| {
                json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": special})
            })
        });
        Ok(Json::Array(added.collect()))
    }

    /// The tokens put around a text.
    fn around(&self, vocabulary: &Vocabulary, bos: bool) -> Result<Json> {
        let mut single = vec![json!({"Sequence": {"id": "A", "type_id": 0}})];
        let mut special = Map::new();
        for (flag, key, first, default) in [
            ("tokenizer.ggml.add_bos_token", "tokenizer.ggml.bos_token_id", true, bos),
            ("tokenizer.ggml.add_eos_token", "tokenizer.ggml.eos_token_id", false, false),
        ] {
            if !self.flag(flag)?.unwrap_or(default) {
                continue;
            }
            let Some(id) = self.special(vocabulary, key)? else {
                return Err(self.error(format!("is damaged: a token is to be put around each text (`{flag}`), but `{key}` is missing")));
            };
            let token = &vocabulary.tokens[id];
            single.insert(if first { 0 } else { single.len() }, json!({"SpecialToken": {"id": token, "type_id": 0}}));
            special.insert(token.clone(), json!({"id": token, "ids": [id], "tokens": [token]}));
        }
        if special.is_empty() {
            return Ok(Json::Null);
        }
        let second = json!({"Sequence": {"id": "B", "type_id": 1}});
        let pair: Vec<Json> = single.iter().cloned().chain([second]).collect();
        Ok(json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}))
    }

    /// Bytes, merged as far as the merges go: GPT-2's kind.
    fn byte_level(&self, vocabulary: &Vocabulary) -> Result<Json> {
        let pre = self.pre()?;
        let key = "tokenizer.ggml.merges";
        let merges = self.texts(key)?.ok_or_else(|| self.error(format!("is damaged: its tokenizer has no merges (`{key}`)")))?;
        let merges = merges.iter().map(|merge| self.pair(merge)).collect::<Result<Vec<_>>>()?;
        let bytes = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
        let mut steps = Vec::new();
        if pre.digits {
            steps.push(json!({"type": "Digits", "individual_digits": true}));
        }
        if let Some(pattern) = pre.pattern {
            steps.push(json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false}));
        }
        steps.push(bytes(pre.pattern.is_none()));
        Ok(object([
            ("normalizer", if pre.composed { json!({"type": "NFC"}) } else { Json::Null }),
            ("pre_tokenizer", json!({"type": "Sequence", "pretokenizers": steps})),
            ("post_processor", self.around(vocabulary, pre.bos)?),
            ("decoder", bytes(true)),
            (
                "model",
                json!({
                    "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "",
                    "fuse_unk": false, "byte_fallback": false, "ignore_merges": pre.whole, "merges": merges
                }),
            ),
        ]))
    }

    fn pre(&self) -> Result<&'static Pre> {
        let key = "tokenizer.ggml.pre";
        let name = self.text(key)?.filter(|name| *name != "default").or(self.layout.pre);
        let known = || PRE.iter().flat_map(|pre| pre.names).copied().collect::<Vec<_>>().join(", ");
        let Some(name) = name else {
            return Err(self.error(format!(
                "does not name its pre-tokeniser (`{key}`), as files of before May 2024, and models of this family have several: take a newer file"
            )));
        };
        PRE.iter()
            .find(|pre| pre.names.contains(&name))
            .ok_or_else(|| self.error(format!("has the pre-tokeniser `{name}` (`{key}`), which is not supported; these are: {}", known())))
    }

    /// The halves of a merge, which a space parts; the first half may begin with one.
    fn pair<'m>(&self, merge: &'m str) -> Result<[&'m str; 2]> {
        let from = merge.chars().next().map_or(0, char::len_utf8);
        match merge[from..].find(' ') {
            Some(space) => Ok([&merge[..from + space], &merge[from + space + 1..]]),
            None => Err(self.error(format!("is damaged: {merge:?} in `tokenizer.ggml.merges` is not two tokens"))),
        }
    }

    /// SentencePiece's byte pairs: spaces are letters, and what is not in the vocabulary becomes bytes.
    fn sentence_pieces(&self, vocabulary: &Vocabulary) -> Result<Json> {
        let merges = match self.texts("tokenizer.ggml.merges")? {
            Some(merges) => json!(merges.iter().map(|merge| self.pair(merge)).collect::<Result<Vec<_>>>()?),
            None => json!(self.merges(vocabulary)?),
        };
        let unknown = self.special(vocabulary, "tokenizer.ggml.unknown_token_id")?.map(|id| &vocabulary.tokens[id]);
        let space = self.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        let mut normalizers = vec![json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})];
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if space {
            normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        Ok(object([
            ("normalizer", json!({"type": "Sequence", "normalizers": normalizers})),
            ("pre_tokenizer", Json::Null),
            ("post_processor", self.around(vocabulary, true)?),
            ("decoder", json!({"type": "Sequence", "decoders": decoders})),
            (
                "model",
                json!({
                    "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null, "end_of_word_suffix": null,
                    "fuse_unk": true, "byte_fallback": true, "ignore_merges": false, "merges": merges
                }),
            ),
        ]))
    }

    /// The merges that the scores, or the tokens' places, imply: each token from every two that make it up, the better token first, in
    /// transformers' order.
    fn merges<'v>(&self, vocabulary: &'v Vocabulary) -> Result<Vec<[&'v str; 2]>> {
        let key = "tokenizer.ggml.scores";
        let lacking = || self.error(format!("is damaged: its tokenizer has neither merges nor `{key}`"));
        let scores = match self.layout.in_order {
            true => (0..vocabulary.tokens.len()).map(|place| -(place as f64)).collect(),
            false => self.numbers(key)?.ok_or_else(lacking)?,
        };
        if scores.len() != vocabulary.tokens.len() || scores.iter().any(|score| score.is_nan()) {
            return Err(self.error(format!("is damaged: `{key}` must have a number for each of {} tokens", vocabulary.tokens.len())));
        }
        let mut merges = Vec::new();
        for (token, score) in vocabulary.tokens.iter().zip(scores) {
            if token.len() > LONGEST {
                return Err(self.error(format!("is damaged: it has a token of {} bytes", token.len())));
            }
            let cuts = token.char_indices().skip(1).map(|(cut, _)| token.split_at(cut));
            let mut own: Vec<_> = cuts.filter_map(|(a, b)| Some((*vocabulary.ids.get(a)?, *vocabulary.ids.get(b)?, a, b))).collect();
            own.sort_unstable();
            // Minus zero is zero.
            merges.extend(own.into_iter().map(|(_, _, a, b)| (score + 0.0, a.chars().count(), b.chars().count(), [a, b])));
        }
        merges.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| (b.1, b.2).cmp(&(a.1, a.2))));
        Ok(merges.into_iter().map(|(_, _, _, pair)| pair).collect())
    }
}
