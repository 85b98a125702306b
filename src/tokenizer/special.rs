//! What stands next to `tokenizer.json`: the names of the special tokens and the chat template.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::Tokenizer;
use crate::error::{Error, Result};
use crate::file;

const CONFIG: &str = "tokenizer_config.json";
const MAP: &str = "special_tokens_map.json";
const TEMPLATE: &str = "chat_template.jinja";

/// As far as the files are there and say it.
#[derive(Default)]
pub(super) struct Special {
    /// Token by role, such as `eos_token`.
    pub names: BTreeMap<String, String>,
    pub template: Option<String>,
}

impl Special {
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let mut special = Self::of(&object(&folder.join(MAP))?, &object(&folder.join(CONFIG))?);
        let own = folder.join(TEMPLATE);
        if own.exists() {
            special.template = Some(file::read_text(&own)?);
        }
        Ok(special)
    }

    /// What the content of `tokenizer_config.json` says.
    pub(super) fn of_config(config: &Value) -> Self {
        config.as_object().map(|config| Self::of(&Map::new(), config)).unwrap_or_default()
    }

    fn of(map: &Map<String, Value>, config: &Map<String, Value>) -> Self {
        let mut names = BTreeMap::new();
        // The config comes last, so that it has the last word.
        for (role, value) in map.iter().chain(config).filter(|(role, _)| role.ends_with("_token")) {
            names.extend(token(value).map(|token| (role.clone(), token)));
        }
        Self { names, template: config.get("chat_template").and_then(template) }
    }
}

impl Tokenizer {
    /// The id of the token that ends a text: `eos_token` of `tokenizer_config.json`, or else of `special_tokens_map.json`. `None` where neither
    /// names one that the vocabulary has.
    ///
    /// It need not be the one that a model's `generation_config.json` names first: Llama-3's instruct models end an answer with `<|eot_id|>`.
    pub fn eos(&self) -> Option<u32> {
        self.special("eos_token")
    }

    /// The id of the token that begins a text, found as that which [ends](Self::eos) it.
    pub fn bos(&self) -> Option<u32> {
        self.special("bos_token")
    }

    fn special(&self, role: &str) -> Option<u32> {
        self.id(self.0.special.names.get(role)?)
    }
}

/// The object in a JSON file; an empty one where there is no file.
fn object(path: &Path) -> Result<Map<String, Value>> {
    if !path.exists() {
        return Ok(Map::new());
    }
    let damaged = |why: &str| Error::file(format!("`{}` {why}: fetch it again, or remove it", path.display()));
    match serde_json::from_str(&file::read_text(path)?) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(damaged("must hold a JSON object")),
        Err(error) => Err(damaged("is not valid JSON").because(error)),
    }
}

/// A token's name as such, or with what else is said of it.
fn token(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}

/// The chat template; of several, the one that is called `default`.
fn template(value: &Value) -> Option<String> {
    let named = |value: &Value, name: &str| value.get("name").and_then(Value::as_str) == Some(name);
    let default = || value.as_array()?.iter().find(|value| named(value, "default"))?.get("template")?.as_str();
    value.as_str().or_else(default).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::tests::of_files;
    use super::*;

    const WORDS: &str = r#"{"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "unk_token": "a",
        "vocab": {"a": 0, "</s>": 1, "<|end|>": 2, "<s>": 3}}}"#;

    fn eos(files: &[(&str, &str)]) -> Option<u32> {
        of_files(&[&[("tokenizer.json", WORDS)], files].concat()).unwrap().eos()
    }

    #[test]
    fn the_end_is_named_by_the_config_then_by_the_map() {
        assert_eq!(eos(&[]), None);
        assert_eq!(eos(&[(CONFIG, r#"{"eos_token": "<|end|>", "bos_token": null}"#)]), Some(2));
        assert_eq!(eos(&[(CONFIG, r#"{"eos_token": {"content": "<|end|>", "lstrip": false}}"#)]), Some(2));
        assert_eq!(eos(&[(MAP, r#"{"eos_token": {"content": "</s>"}}"#)]), Some(1));
        assert_eq!(eos(&[(MAP, r#"{"eos_token": "</s>"}"#), (CONFIG, r#"{"eos_token": "<|end|>"}"#)]), Some(2));
        assert_eq!(eos(&[(MAP, r#"{"eos_token": "</s>"}"#), (CONFIG, r#"{"eos_token": null, "model_max_length": 1e30}"#)]), Some(1));
        assert_eq!(eos(&[(CONFIG, r#"{"eos_token": "<unheard of>"}"#)]), None);
        let tokenizer = of_files(&[("tokenizer.json", WORDS), (CONFIG, r#"{"bos_token": "<s>"}"#)]).unwrap();
        assert_eq!(tokenizer.bos(), Some(3));
    }

    #[test]
    fn damaged_files_are_named() {
        for (file, text) in [(CONFIG, "{"), (MAP, "[]"), (CONFIG, "")] {
            let error = of_files(&[("tokenizer.json", WORDS), (file, text)]).unwrap_err();
            assert!(error.is_file() && error.to_string().contains(file) && error.to_string().contains("fetch it again"), "{error}");
        }
    }

    #[test]
    fn the_template_is_a_file_or_in_the_config() {
        let read = |files: &[(&str, &str)]| {
            let folder = tempfile::tempdir().unwrap();
            files.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).unwrap());
            Special::read(folder.path()).unwrap().template
        };
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[(CONFIG, r#"{"chat_template": "x"}"#)]).as_deref(), Some("x"));
        let several = r#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#;
        assert_eq!(read(&[(CONFIG, several)]).as_deref(), Some("d"));
        assert_eq!(read(&[(CONFIG, r#"{"chat_template": "x"}"#), (TEMPLATE, "y")]).as_deref(), Some("y"));
    }
}
