//! What one benchmark says of itself.

use std::fmt;

use super::super::Card;
use super::super::read::{Format, Reason, Record};
use crate::error::Result;
use crate::prompt::{AnswerForm, SEPARATOR};
use crate::random::Random;

/// A part of a data set as its makers published it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Subset {
    /// To learn from; or all, where the makers made no parts.
    Train,
    /// To develop with (`dev`, `valid`, `validation`).
    Dev,
    /// To test on; often published without answers.
    Test,
}

impl Subset {
    /// `train`, `dev` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Dev => "dev",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Subset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A benchmark: one of these in a file of its own, and its line in [`ALL`](super::ALL).
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) paper: &'static str,
    pub(super) license: &'static str,
    /// Where to get the original files, and the name on Hugging Face.
    pub(super) source: &'static str,
    /// True if the original files have been read for real; parquet files have not, for any.
    pub(super) checked: bool,
    pub(super) note: &'static str,
    /// Its folders' names in the data folder, first the usual one.
    pub(super) folders: &'static [&'static str],
    pub(super) template: Template,
    pub(super) answers: Answers,
    /// Names of the benchmarks it is also tested on.
    pub(super) ood: &'static [&'static str],
    /// The parts that few-shot sets are drawn from, and those tested on; without the latter, tests are drawn from the rest of the former.
    pub(super) learn: &'static [Subset],
    pub(super) test: &'static [Subset],
    /// Where the authors' code reads other rows or texts than the paper says, apart from their answers' parsers.
    pub(super) authors: Option<Authors>,
    pub(super) layouts: &'static [Layout],
}

/// What the authors' code makes of a benchmark, for [`Compat::Paper`](crate::compat::Compat::Paper).
pub(super) struct Authors {
    pub(super) learn: &'static [Subset],
    pub(super) test: &'static [Subset],
    /// What is left of a text.
    pub(super) text: fn(&str) -> &str,
}

/// The forms of a query. Markers: `<X>`, `<choices>`.
pub(super) struct Template {
    /// The authors' code's, the default.
    pub(super) code: &'static str,
    /// As the paper prints it.
    pub(super) printed: &'static str,
}

pub(super) const TEXT: Template = Template { code: "Text:<X>\nLabel:", printed: "Text: <X>\nLabel:" };
pub(super) const QUESTION: Template = Template { code: "Question:<X>\nAnswer:", printed: "Question: <X>\nAnswer:" };
/// In the authors' code every choice ends its line, so that a blank line stands before `Answer:`.
pub(super) const CHOICES: Template =
    Template { code: "Question:<X>\nChoices:\n<choices>\nAnswer:", printed: "Question: <X>\nChoices: <choices> Answer:" };

/// What answers look like.
#[derive(Clone, Copy)]
pub(super) enum Answers {
    Labels(&'static [&'static str]),
    /// `reasoning #### number`.
    Number {
        at_most: usize,
    },
    /// `solution with \boxed{answer}`.
    Boxed {
        at_most: usize,
    },
    /// `reasoning #### text`.
    Marked {
        at_most: usize,
    },
}

impl Answers {
    /// The form; `before` stands before each label (a space in the printed form).
    pub(super) fn form(self, before: &str) -> Result<AnswerForm> {
        let (form, at_most) = match self {
            Self::Labels(labels) => return AnswerForm::labels(labels.iter().map(|label| format!("{before}{label}"))),
            Self::Number { at_most } => (AnswerForm::number(), at_most),
            Self::Boxed { at_most } => (AnswerForm::boxed(), at_most),
            Self::Marked { at_most } => (AnswerForm::free().after("####")?, at_most),
        };
        // As the authors evaluate.
        form.stopping_at(Some(SEPARATOR))?.at_most(at_most)
    }
}

/// A way its files are laid out.
pub(super) struct Layout {
    /// What these files are, in messages.
    pub(super) what: &'static str,
    pub(super) format: Format,
    /// Paths below the benchmark's folder, `*` for any part of a name; the first of a part that is there counts.
    pub(super) files: &'static [(Subset, &'static [&'static str])],
    pub(super) row: fn(&Record, &mut Random) -> std::result::Result<Made, Reason>,
}

/// What a record becomes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Made {
    Kept { question: String, choices: String, gold: String },
    Dropped(&'static str),
}

impl Made {
    pub(super) fn example(question: impl Into<String>, gold: impl Into<String>) -> Self {
        Self::Kept { question: question.into(), choices: String::new(), gold: gold.into() }
    }
}

/// What a class of the data set means for us.
pub(super) enum Class {
    Label(&'static str),
    Left(&'static str),
}

/// A text with its label.
pub(super) fn classified(
    text: impl Into<String>,
    record: &Record,
    column: &str,
    classes: &[(&str, Class)],
) -> std::result::Result<Made, Reason> {
    let class = record.class(column)?;
    match classes.iter().find(|(name, _)| *name == class.trim()) {
        Some((_, Class::Label(label))) => Ok(Made::example(text, *label)),
        Some((_, Class::Left(reason))) => Ok(Made::Dropped(reason)),
        None => {
            let known = classes.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            Err(format!("the class {class:?} of `{column}` is none of {known}"))
        }
    }
}

/// A question whose choices are given in order and called by `names`; `right` is the place of the right one.
pub(super) fn chosen(question: &str, choices: &[&str], right: usize, names: &[&str]) -> std::result::Result<Made, Reason> {
    let Some(gold) = names.get(right).filter(|_| right < choices.len()) else {
        return Err(format!("the right choice is number {}, of {}", right + 1, choices.len().min(names.len())));
    };
    if choices.len() != names.len() {
        return Err(format!("{} choices, {} expected", choices.len(), names.len()));
    }
    let choices = names.iter().zip(choices).map(|(name, choice)| format!("[{name}]{choice}\n")).collect();
    Ok(Made::Kept { question: question.to_owned(), choices, gold: (*gold).to_owned() })
}

impl Entry {
    pub(super) fn card(&self, printed: bool) -> Card {
        let original = if self.checked { "read and counted" } else { "not yet checked on a real file" };
        let parquet = self.layouts.iter().any(|layout| layout.format == Format::Parquet);
        let parquet = if parquet { "; parquet files: not yet checked on a real file" } else { "" };
        let checked = format!("original files: {original}{parquet}");
        let note = if self.note.is_empty() { checked } else { format!("{}; {checked}", self.note) };
        Card {
            title: self.title.into(),
            template: self.filled(printed).into(),
            ood: self.ood.iter().map(ToString::to_string).collect(),
            source: self.source.into(),
            license: self.license.into(),
            paper: Some(self.paper.into()),
            note,
        }
    }

    fn filled(&self, printed: bool) -> &'static str {
        if printed { self.template.printed } else { self.template.code }
    }

    /// The query of an example.
    pub(super) fn query(&self, question: &str, choices: &str, printed: bool) -> String {
        let template = self.filled(printed);
        let (before, after) = template.split_once("<X>").unwrap_or((template, ""));
        // Not by replacing: a question may hold a marker itself.
        let after = match after.split_once("<choices>") {
            Some((between, end)) if printed => format!("{between}{}{end}", choices.trim_end().replace('\n', " ")),
            Some((between, end)) => format!("{between}{choices}{end}"),
            None => after.to_owned(),
        };
        format!("{before}{question}{after}")
    }
}
