//! A JSON object whose every key must be accounted for.
//!
//! A reader takes the keys it uses one by one, names those it ignores and the values it refuses. What is left nobody here knows:
//! [`Keys::rest`] gives it back to be shown, and [`Keys::finish`] refuses it.

use crate::display::few;
use crate::error::{Error, Result};
use crate::file::{self, Holds};
use serde_json::{Map, Value};
use std::path::Path;

/// No honest size in a configuration is above this, and products of four such sizes still fit where they must.
const LARGEST: i64 = 1 << 24;

/// The keys of one JSON object that nobody has taken yet.
pub(crate) struct Keys {
    /// Names the file and, for an inner object, the key it stands under; messages begin with it.
    place: String,
    left: Map<String, Value>,
    /// How the file calls keys that are read by another name.
    called: &'static [(&'static str, &'static str)],
}

impl Keys {
    /// Reads a file that must hold one JSON object.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let place = format!("`{}`", path.display());
        let text = file::text(path, Holds::Settings)
            .map_err(|error| Error::file(format!("{place} cannot be read: check that it exists and is UTF-8 text")).because(error))?;
        let value = serde_json::from_str(&text).map_err(|error| {
            let what = file::misidentified(text.as_bytes(), "settings")
                .unwrap_or_else(|| "is not valid JSON: correct it or download it again".into());
            Error::file(format!("{place} {what}")).because(error)
        })?;
        Self::of(place, value)
    }

    /// The keys of a value, which must be an object; `place` is where messages say it is.
    pub(crate) fn of(place: String, value: Value) -> Result<Self> {
        match value {
            Value::Object(left) => Ok(Self { place, left, called: &[] }),
            other => Err(Error::file(format!("{place} must hold a JSON object, but holds {}", kind(&other)))),
        }
    }

    /// An error about this object: where it is, then `message`.
    pub(crate) fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::file(format!("{}: {message}", self.place))
    }

    /// Reads the file's own names (the second of each pair) as those of most files.
    pub(crate) fn call(&mut self, names: &'static [(&'static str, &'static str)]) {
        for (name, own) in names {
            if let Some(value) = self.left.remove(*own) {
                self.left.entry(*name).or_insert(value);
            }
        }
        self.called = names;
    }

    /// How the file calls a key.
    pub(crate) fn called<'k>(&self, key: &'k str) -> &'k str {
        self.called.iter().find(|(name, _)| *name == key).map_or(key, |(_, own)| own)
    }

    /// What the reference takes where the file says nothing; null says something.
    pub(crate) fn default(&mut self, values: Value) {
        let Value::Object(values) = values else { return };
        for (key, value) in values {
            self.left.entry(key).or_insert(value);
        }
    }

    /// The keys of the inner object `key` in place of those of the same name here.
    pub(crate) fn unwrap_object(&mut self, key: &str) -> Result<()> {
        if let Some(inner) = self.object(key)? {
            self.place = inner.place;
            // Null in the inner one says nothing that the outer one could not say.
            self.left.extend(inner.left.into_iter().filter(|(_, value)| !value.is_null()));
        }
        Ok(())
    }

    /// Whether the key is there and not null.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.left.get(key).is_some_and(|value| !value.is_null())
    }

    /// Takes a key; JSON's null counts as absent, as it does in transformers.
    fn take(&mut self, key: &str) -> Option<Value> {
        self.left.remove(key).filter(|value| !value.is_null())
    }

    /// Takes a key that false switches off, whatever else it may hold.
    fn take_set(&mut self, key: &str) -> Option<Value> {
        self.take(key).filter(|value| *value != Value::Bool(false))
    }

    fn wrong(&self, key: &str, value: &Value, expected: &str) -> Error {
        self.error(format!("`{}` must be {expected}, but is {}", self.called(key), shorten(value)))
    }

    /// A size: a whole number from 1 to 2^24.
    pub(crate) fn size(&mut self, key: &str) -> Result<Option<i64>> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match value.as_i64().filter(|size| (1..=LARGEST).contains(size)) {
            Some(size) => Ok(Some(size)),
            None => Err(self.wrong(key, &value, &format!("a whole number from 1 to {LARGEST}"))),
        }
    }

    /// A [`Keys::size`] that must be there.
    pub(crate) fn needed_size(&mut self, key: &str) -> Result<i64> {
        self.size(key)?.ok_or_else(|| self.missing(key))
    }

    /// A finite number.
    pub(crate) fn number(&mut self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match value.as_f64().filter(|number| number.is_finite()) {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(key, &value, "a finite number")),
        }
    }

    /// A [`Keys::number`] that must be there.
    pub(crate) fn needed_number(&mut self, key: &str) -> Result<f64> {
        self.number(key)?.ok_or_else(|| self.missing(key))
    }

    /// A list of finite numbers.
    pub(crate) fn numbers(&mut self, key: &str) -> Result<Option<Vec<f64>>> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let number = |value: &Value| value.as_f64().filter(|number| number.is_finite());
        match value.as_array().and_then(|list| list.iter().map(number).collect()) {
            Some(numbers) => Ok(Some(numbers)),
            None => Err(self.wrong(key, &value, "a list of numbers")),
        }
    }

    /// True or false; `default` when absent.
    pub(crate) fn flag(&mut self, key: &str, default: bool) -> Result<bool> {
        match self.take(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(value) => Err(self.wrong(key, &value, "true or false")),
        }
    }

    /// Whatever the key holds.
    pub(crate) fn value(&mut self, key: &str) -> Option<Value> {
        self.take(key)
    }

    /// A string.
    pub(crate) fn word(&mut self, key: &str) -> Result<Option<String>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(word)) => Ok(Some(word)),
            Some(value) => Err(self.wrong(key, &value, "a string")),
        }
    }

    /// A list of strings.
    pub(crate) fn words(&mut self, key: &str) -> Result<Option<Vec<String>>> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let words = value.as_array().map(|list| list.iter().map(|word| word.as_str().map(str::to_owned)).collect());
        match words.flatten() {
            Some(words) => Ok(Some(words)),
            None => Err(self.wrong(key, &value, "a list of strings")),
        }
    }

    /// Token ids below `vocab_size`: one number or a list; empty when absent.
    pub(crate) fn ids(&mut self, key: &str, vocab_size: i64) -> Result<Vec<u32>> {
        let Some(value) = self.take(key) else { return Ok(Vec::new()) };
        let one = std::slice::from_ref(&value);
        let list = value.as_array().map_or(one, Vec::as_slice);
        let id = |value: &Value| value.as_u64().filter(|&id| id < vocab_size as u64).and_then(|id| u32::try_from(id).ok());
        match list.iter().map(id).collect() {
            Some(ids) => Ok(ids),
            None => Err(self.wrong(key, &value, &format!("a token id below the vocabulary's size {vocab_size}, or a list of such ids"))),
        }
    }

    /// An inner object, to be finished on its own.
    pub(crate) fn object(&mut self, key: &str) -> Result<Option<Keys>> {
        match self.take_set(key) {
            None => Ok(None),
            Some(Value::Object(left)) => Ok(Some(Self { place: format!("{}, `{key}`", self.place), left, called: &[] })),
            Some(value) => Err(self.wrong(key, &value, "an object")),
        }
    }

    /// Refuses every value of `key` but `allowed`, false and absence; `why` says what the other values would ask for.
    pub(crate) fn only(&mut self, key: &str, allowed: impl Into<Value>, why: &str) -> Result<()> {
        let allowed = allowed.into();
        match self.take_set(key) {
            None => Ok(()),
            // 1 and 1.0 are one number to a configuration, but not to serde_json.
            Some(value) if value == allowed || (value.is_number() && value.as_f64() == allowed.as_f64()) => Ok(()),
            Some(value) => Err(self.error(format!("`{key}` is {}, which is not supported ({why}); only {allowed} is", shorten(&value)))),
        }
    }

    /// Refuses a key in whatever value, false and an empty object or list excepted.
    pub(crate) fn refuse(&mut self, key: &str, why: &str) -> Result<()> {
        match self.take_set(key) {
            None => Ok(()),
            Some(Value::Object(map)) if map.is_empty() => Ok(()),
            Some(Value::Array(list)) if list.is_empty() => Ok(()),
            Some(value) => Err(self.error(format!("`{key}` is {}, which is not supported: {why}", shorten(&value)))),
        }
    }

    /// Passes over keys that change nothing this library computes.
    pub(crate) fn ignore(&mut self, keys: &[&str]) {
        for key in keys {
            self.left.remove(*key);
        }
    }

    /// Passes over keys that ask for nothing: null, false, or empty.
    pub(crate) fn ignore_unset(&mut self) {
        let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty);
        self.left.retain(|_, value| !(value.is_null() || *value == Value::Bool(false) || empty(value)));
    }

    /// The error for a key that must be there.
    pub(crate) fn missing(&self, key: &str) -> Error {
        let key = self.called(key);
        self.error(format!("`{key}` is missing: take the file from the model's publisher again"))
    }

    /// Puts the keys that nobody took from an inner object back, as `outer.inner`.
    pub(crate) fn put_back(&mut self, outer: &str, inner: Keys) {
        self.left.extend(inner.left.into_iter().map(|(key, value)| (format!("{outer}.{key}"), value)));
    }

    /// The keys that nobody took, with their values in JSON, cut to what one line holds; null, false and what is empty ask for nothing.
    pub(crate) fn rest(mut self) -> Vec<(String, String)> {
        self.ignore_unset();
        self.left.iter().map(|(key, value)| (key.clone(), shorten(value))).collect()
    }

    /// Refuses the keys that nobody took.
    pub(crate) fn finish(self) -> Result<()> {
        if self.left.is_empty() {
            return Ok(());
        }
        let rest: Vec<(String, String)> = self.left.iter().map(|(key, value)| (key.clone(), shorten(value))).collect();
        Err(self.error(format!("{}: nothing here knows it, and it may change what is computed", listed(&rest))))
    }
}

/// `unknown key ..` or `unknown keys .., ..`: the first ones with their values, and how many more there are.
pub(crate) fn listed(rest: &[(String, String)]) -> String {
    let names: Vec<String> = rest.iter().map(|(key, value)| format!("`{key}` ({value})")).collect();
    let plural = if rest.len() == 1 { "unknown key" } else { "unknown keys" };
    format!("{plural} {}", few(&names))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The value as JSON, cut to what fits in a message. What no one knows of a configuration is kept so, and a model's identity is a digest of it: these
/// words are not to change.
fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text,
    }
}
