//! Files of records: one reader per format, one kind of record for all.
//!
//! A reader calls a function for each record. What that function finds wrong becomes an error naming the file and the place in it.

mod json;
mod parquet;
mod text;

use std::path::Path;

use serde_json::{Map, Value};

use crate::display::{quoted, shortened};
use crate::error::{Error, Result};
use crate::file::{self, Holds};

/// The formats of the public files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Lines of fields between tabs; nothing is quoted. Columns as named here, or by the first line when none are.
    Tsv(&'static [&'static str]),
    /// Comma-separated, quoted with `"` (doubled inside), columns as for `Tsv`.
    Csv(&'static [&'static str]),
    /// `sentence@class` a line, in ISO-8859-1: columns `sentence`, `class`.
    At,
    /// A JSON object a line.
    Lines,
    /// One JSON array of objects.
    Array,
    /// A JSON array of objects, or an object a line: what programs write into files that end in `.json`.
    ArrayOrLines,
    /// One JSON object a file.
    Object,
    /// One text a file, its class the folder's name: columns `class`, `text`.
    Text,
    /// Parquet.
    Parquet,
}

/// What is wrong with a record; the reader adds where it stands.
pub(super) type Reason = String;

/// What a reader hands its records to.
pub(super) type Each<'a> = dyn FnMut(Record) -> std::result::Result<(), Reason> + 'a;

/// The endings of files of one's own.
pub(super) const ENDINGS: &str = "`.jsonl`, `.json`, `.csv`, `.tsv` or `.parquet`";

impl Format {
    /// The format that a file of one's own is in, by its ending.
    pub(super) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "jsonl" | "ndjson" => Some(Self::Lines),
            "json" => Some(Self::ArrayOrLines),
            "csv" => Some(Self::Csv(&[])),
            "tsv" => Some(Self::Tsv(&[])),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }

    /// How names of such files end.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Tsv(_) => "tsv",
            Self::Csv(_) => "csv",
            Self::At | Self::Text => "txt",
            Self::Lines => "jsonl",
            Self::Array | Self::ArrayOrLines | Self::Object => "json",
            Self::Parquet => "parquet",
        }
    }

    /// Reads a file, in order.
    ///
    /// # Errors
    /// A file error naming file, place and reason.
    pub(super) fn read(self, path: &Path, each: &mut Each) -> Result<()> {
        match self {
            Self::Tsv(columns) => text::tsv(path, columns, each),
            Self::Csv(columns) => text::csv(path, columns, each),
            Self::At => text::at(path, each),
            Self::Text => text::whole(path, each),
            Self::Lines => json::lines(path, each),
            Self::Array => json::array(path, each),
            Self::ArrayOrLines => json::array_or_lines(path, each),
            Self::Object => json::object(path, each),
            Self::Parquet => parquet::rows(path, each),
        }
    }
}

/// Fields by name.
pub(super) struct Record(Map<String, Value>);

impl Record {
    pub(super) fn of_values(fields: impl IntoIterator<Item = (String, Value)>) -> Self {
        Self(fields.into_iter().collect())
    }

    pub(super) fn new<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect())
    }

    /// The object in a JSON value.
    pub(super) fn of(value: Value) -> std::result::Result<Self, Reason> {
        match value {
            Value::Object(fields) => Ok(Self(fields)),
            other => Err(format!("not an object: {}", brief(&other))),
        }
    }

    /// A field, whatever it holds. Where no field has this very name, case does not count.
    pub(super) fn get(&self, name: &str) -> std::result::Result<&Value, Reason> {
        let alike = || self.0.iter().find(|(own, _)| own.to_lowercase() == name.to_lowercase()).map(|(_, value)| value);
        self.0.get(name).or_else(alike).ok_or_else(|| format!("there is no `{name}`; there are {}", quoted(self.0.keys())))
    }

    /// A field that a writer of comma-separated values has quoted: quotes around it, and every one inside doubled.
    pub(super) fn quoted(&self) -> Option<&str> {
        let quoted = |text: &&str| {
            let inside = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            inside.is_some_and(|inside| inside.contains("\"\"") && !inside.replace("\"\"", "").contains('"'))
        };
        self.0.values().filter_map(Value::as_str).find(quoted)
    }

    /// A field of text.
    pub(super) fn text(&self, name: &str) -> std::result::Result<&str, Reason> {
        let value = self.get(name)?;
        value.as_str().ok_or_else(|| format!("`{name}` must be a string, it is {}", brief(value)))
    }

    /// The object in a field.
    pub(super) fn inner(&self, name: &str) -> std::result::Result<Self, Reason> {
        Self::of(self.get(name)?.clone()).map_err(|reason| format!("`{name}`: {reason}"))
    }

    /// A field of text, a number or true/false, as text.
    pub(super) fn spelled(&self, name: &str) -> std::result::Result<String, Reason> {
        match self.get(name)? {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(value) => Ok(value.to_string()),
            other => Err(format!("`{name}` must be text, a number or true/false, it is {}", brief(other))),
        }
    }

    /// A field of text, a whole number or true/false, as text: how classes are given.
    pub(super) fn class(&self, name: &str) -> std::result::Result<String, Reason> {
        match self.get(name)? {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) if !number.is_f64() => Ok(number.to_string()),
            Value::Bool(value) => Ok(value.to_string()),
            other => Err(format!("`{name}` must be text, a whole number or true/false, it is {}", brief(other))),
        }
    }

    /// A field that is a list of texts.
    pub(super) fn texts(&self, name: &str) -> std::result::Result<Vec<&str>, Reason> {
        let list = self.get(name)?.as_array().ok_or_else(|| format!("`{name}` must be a list"))?;
        list.iter().map(|item| item.as_str().ok_or_else(|| format!("`{name}` must hold texts, one is {}", brief(item)))).collect()
    }
}

/// The beginning of a value, for messages.
fn brief(value: &Value) -> String {
    shortened(&value.to_string(), 40)
}

/// A file of Unicode, without the mark that some programs put before it.
fn unmarked(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = bytes(path)?;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(malformed(path, "line 1", "this is UTF-16: save the file as UTF-8"));
    }
    if bytes.starts_with(MARK) {
        bytes.drain(..MARK.len());
    }
    Ok(bytes)
}

/// The byte-order mark in UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

fn bytes(path: &Path) -> Result<Vec<u8>> {
    file::bytes(path, Holds::Rows).map_err(|error| Error::file(format!("cannot read `{}`", path.display())).because(error))
}

/// The error for a record.
fn malformed(path: &Path, place: impl std::fmt::Display, reason: impl std::fmt::Display) -> Error {
    Error::file(format!("`{}`, {place}: {reason}", path.display()))
}
