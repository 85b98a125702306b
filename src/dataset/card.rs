//! What a task is, where its examples come from, and under which license.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::file::{self, Holds};
use crate::prompt::AnswerForm;

/// The card of a task. Fields that are not known are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Card {
    /// One line.
    pub title: String,
    /// How a query is made of an example's texts, `<X>` standing for them; the queries already follow it.
    pub template: String,
    /// Names of tasks that test the same skill out of distribution.
    pub ood: Vec<String>,
    /// Where the examples come from.
    pub source: String,
    /// Their license.
    pub license: String,
    /// The paper, if there is one: its address, or authors, year and title.
    pub paper: Option<String>,
    /// Anything else worth knowing.
    pub note: String,
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)?;
        let paper = self.paper.as_deref().unwrap_or_default();
        let template = self.template.replace('\n', "\\n");
        let ood = self.ood.join(", ");
        for (what, text) in [
            ("template", template.as_str()),
            ("out of distribution", &ood),
            ("source", &self.source),
            ("license", &self.license),
            ("paper", paper),
            ("note", &self.note),
        ] {
            if !text.is_empty() {
                write!(f, "\n{what}: {text}")?;
            }
        }
        Ok(())
    }
}

/// An entry of `tasks.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    title: String,
    r#type: Type,
    #[serde(default)]
    template: String,
    #[serde(default)]
    labels: Vec<Label>,
    #[serde(default)]
    stop: Option<String>,
    max_new_tokens: usize,
    #[serde(default)]
    answer_after: Option<String>,
    #[serde(default)]
    ood: Vec<String>,
    license: String,
    source: String,
    #[serde(default)]
    paper: Option<String>,
    #[serde(default)]
    note: String,
}

/// A label as files have it; golds are read the same way.
#[derive(Deserialize)]
#[serde(untagged)]
enum Label {
    Text(String),
    Whole(i64),
    Truth(bool),
}

impl Label {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Whole(number) => number.to_string(),
            Self::Truth(value) => value.to_string(),
        }
    }
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Type {
    Label,
    Answer,
}

/// Reads `tasks.json` in `folder`: the card and the answers' form of each task; nothing when there is no such file.
pub(super) fn read(folder: &Path) -> Result<BTreeMap<String, (Card, AnswerForm)>> {
    let file = folder.join("tasks.json");
    let text = match file::bytes(&file, Holds::Settings) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(Error::file(format!("cannot read `{}`", file.display())).because(error)),
    };
    let bad = |reason: String| Error::file(format!("`{}`: {reason}", file.display()));
    let entries: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&text).map_err(|error| bad(format!("not an object of tasks ({error})")))?;
    let known: Vec<String> = entries.keys().cloned().collect();
    let mut cards = BTreeMap::new();
    for (name, entry) in entries {
        let (card, form) = parse(entry).map_err(|reason| bad(format!("task `{name}`: {reason}")))?;
        if let Some(stranger) = card.ood.iter().find(|ood| !known.contains(ood)) {
            return Err(bad(format!("task `{name}`: `ood` names `{stranger}`, which has no entry")));
        }
        cards.insert(name, (card, form));
    }
    Ok(cards)
}

fn parse(entry: serde_json::Value) -> std::result::Result<(Card, AnswerForm), String> {
    let entry: Entry = serde_json::from_value(entry).map_err(|error| error.to_string())?;
    let form = form(&entry).map_err(|error| error.to_string())?;
    let Entry { title, template, ood, source, license, paper, note, .. } = entry;
    Ok((Card { title, template, ood, source, license, paper, note }, form))
}

fn form(entry: &Entry) -> Result<AnswerForm> {
    let form = match entry.r#type {
        Type::Label => AnswerForm::labels(entry.labels.iter().map(Label::text))?,
        Type::Answer if !entry.labels.is_empty() => return Err(Error::input("type \"answer\" has no labels; is it \"label\"?")),
        Type::Answer => AnswerForm::free(),
    };
    let form = entry.stop.iter().try_fold(form, |form, stop| form.stopping_at(Some(stop)))?.at_most(entry.max_new_tokens)?;
    entry.answer_after.iter().try_fold(form, |form, marker| form.after(marker))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<BTreeMap<String, (Card, AnswerForm)>> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tasks.json"), text).unwrap();
        read(folder.path())
    }

    #[test]
    fn an_entry_becomes_a_card_and_a_form() {
        let text = r##"{
            "mood": {"title": "Mood", "type": "label", "template": "Text:<X>\nLabel:", "labels": ["0", "1"], "stop": "\n\n",
                "max_new_tokens": 1, "ood": ["sum"], "license": "MIT", "source": "made up", "paper": null, "note": ""},
            "sum": {"type": "answer", "max_new_tokens": 24, "answer_after": "=>", "license": "MIT", "source": "made up"}
        }"##;
        let cards = read_text(text).unwrap();
        let (card, form) = &cards["mood"];
        assert_eq!((form.label_set(), form.stop(), form.max_new_tokens()), (["0".into(), "1".into()].as_slice(), Some("\n\n"), 1));
        assert_eq!(card.to_string(), "Mood\ntemplate: Text:<X>\\nLabel:\nout of distribution: sum\nsource: made up\nlicense: MIT");
        let form = &cards["sum"].1;
        assert_eq!((form.answer("=> 3").as_deref(), form.stop(), form.max_new_tokens()), (Some("3"), None, 24));
    }

    #[test]
    fn a_bad_entry_is_named_with_its_reason() {
        let rest = r#""license": "MIT", "source": "s""#;
        for (entry, reason) in [
            (format!(r#"{{"type": "label", "labels": ["0"], "max_new_tokens": 1, {rest}}}"#), "at least two labels"),
            (format!(r#"{{"type": "answer", "labels": ["0", "1"], "max_new_tokens": 1, {rest}}}"#), "has no labels"),
            (format!(r#"{{"type": "answer", "max_new_tokens": 0, {rest}}}"#), "at least one token"),
            (format!(r#"{{"type": "answer", "max_new_tokens": 1, "stop": "", {rest}}}"#), "stop string is empty"),
            (format!(r#"{{"type": "answer", "max_new_tokens": 1, "colour": 1, {rest}}}"#), "unknown field `colour`"),
            (format!(r#"{{"type": "answer", "max_new_tokens": 1, "ood": ["x"], {rest}}}"#), "`ood` names `x`"),
            (r#"{"type": "answer", "max_new_tokens": 1, "license": "MIT"}"#.into(), "missing field `source`"),
            (format!(r#"{{"type": "riddle", "max_new_tokens": 1, {rest}}}"#), "unknown variant `riddle`"),
        ] {
            let error = read_text(&format!(r#"{{"mood": {entry}}}"#)).unwrap_err();
            let text = error.to_string();
            assert!(error.is_file() && text.contains("tasks.json`: task `mood`: ") && text.contains(reason), "{text}");
        }
        assert!(read_text("[1]").unwrap_err().to_string().contains("not an object of tasks"));
        assert!(read(Path::new("/nowhere")).unwrap().is_empty());
    }
}
