//! Examples, and the prompts made of them: demonstrations, then a query.
//!
//! A demonstration is query and gold with nothing between; demonstrations and the query are joined by a blank line:
//!
//! ```
//! use ia2::prompt::{AnswerForm, Example, Examples};
//!
//! let form = AnswerForm::labels(["0", "1"])?;
//! let train = Examples::new("mood", form, vec![Example::new("Text:fine\nLabel:", "1"), Example::new("Text:bad\nLabel:", "0")])?;
//! let prompts = train.leave_one_out(0, 256)?;
//! assert_eq!(prompts.texts()[0], "Text:bad\nLabel:0\n\nText:fine\nLabel:");
//! # Ok::<(), ia2::Error>(())
//! ```
//!
//! [`Examples`] is a set of solved examples, [`Prompts`] what a model is given, [`AnswerForm`] what an answer looks like, and
//! [`LabelTokens`] where in the model's output the labels' probabilities are read.

mod answer;
mod content_free;
mod examples;
mod labels;
mod orders;

use std::fmt;

use polars::prelude::*;
use serde::{Deserialize, Serialize};

pub use answer::AnswerForm;
pub use examples::Examples;
pub(crate) use examples::check;
pub use labels::LabelTokens;
pub use orders::Orders;

use crate::display::{Bundle, Show, headed};
use crate::error::{Error, Result};

crate::display::show_as_text!("{}": AnswerForm);
crate::display::show_as_text!(LabelTokens, Orders);

/// What stands between two demonstrations, and between the last one and the query.
pub const SEPARATOR: &str = "\n\n";

/// A query and its gold answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// The question in its template, up to where the answer begins: `Text:...\nLabel:`.
    pub query: String,
    /// The data set's answer, which follows the query directly: a space between, if wanted, is part of it.
    pub gold: String,
}

impl Example {
    /// An example of its two texts.
    pub fn new(query: impl Into<String>, gold: impl Into<String>) -> Self {
        Self { query: query.into(), gold: gold.into() }
    }

    /// The example as a demonstration: query and gold with nothing between.
    pub fn solved(&self) -> String {
        format!("{}{}", self.query, self.gold)
    }
}

/// One query with the demonstrations before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// Solved examples, in the order they are shown; none for a zero-shot prompt.
    pub demonstrations: Vec<Example>,
    /// The example whose query is asked. Its gold is not part of the prompt.
    pub example: Example,
    /// The example's place in its set, from 0.
    pub index: usize,
}

impl Prompt {
    /// The text a model reads: demonstrations and query, joined by blank lines.
    pub fn text(&self) -> String {
        self.prefix() + &self.example.query
    }

    /// Everything before the query, the last blank line included; empty for a zero-shot prompt.
    pub fn prefix(&self) -> String {
        self.demonstrations.iter().map(|demonstration| demonstration.solved() + SEPARATOR).collect()
    }
}

/// Prompts in order, with the form their answers take.
///
/// ```
/// use ia2::prompt::{Example, Prompt, Prompts};
///
/// let prompt = Prompt { demonstrations: vec![], example: Example::new("Question:1 + 1\nAnswer:", "2"), index: 0 };
/// let prompts = Prompts::new(vec![prompt]);
/// assert_eq!(prompts.texts(), ["Question:1 + 1\nAnswer:"]);
/// assert_eq!(prompts.frame()?.shape(), (1, 4));
/// # Ok::<(), ia2::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompts {
    form: AnswerForm,
    rows: Vec<Prompt>,
}

impl Prompts {
    /// Prompts whose answers are free text ([`AnswerForm::free`]).
    pub fn new(rows: Vec<Prompt>) -> Self {
        Self { form: AnswerForm::default(), rows }
    }

    /// The same prompts with another form of answer.
    pub fn with_form(mut self, form: AnswerForm) -> Self {
        self.form = form;
        self
    }

    /// The form of the answers: labels, stop string, length, and how an answer is read.
    pub fn form(&self) -> &AnswerForm {
        &self.form
    }

    /// Where responses to these prompts end besides at the end-of-sequence token: the form's [stop string](AnswerForm::stop). Of a form that
    /// was given none, a blank line and the words with which each query begins (`\n\nQuestion:`), so that an answer may have paragraphs and
    /// a model that goes on to the next question is stopped there; without such words a blank line after demonstrations, which show that answers
    /// end so, and nothing for queries alone.
    pub fn stop(&self) -> Option<String> {
        if !self.form.is_open() {
            return self.form.stop().map(Into::into);
        }
        match self.opening() {
            Some(opening) => Some(format!("{SEPARATOR}{opening}")),
            None => self.rows.iter().any(|prompt| !prompt.demonstrations.is_empty()).then(|| SEPARATOR.into()),
        }
    }

    /// How all queries begin: up to the first sign or line break that ends a template's heading.
    fn opening(&self) -> Option<&str> {
        let mut queries =
            self.rows.iter().flat_map(|prompt| prompt.demonstrations.iter().chain([&prompt.example])).map(|row| row.query.as_str());
        let first = queries.next()?;
        let end = first.find([':', '：', ']', '>', '|', '\n'])?;
        let sign = first[end..].chars().next().filter(|sign| *sign != '\n').map_or(0, char::len_utf8);
        let opening = first[..end + sign].trim_end();
        (opening.contains(char::is_alphabetic) && queries.all(|query| query.starts_with(opening))).then_some(opening)
    }

    /// Number of prompts.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The prompts one by one.
    pub fn iter(&self) -> std::slice::Iter<'_, Prompt> {
        self.rows.iter()
    }

    /// The prompt at `place` (0-based), or `None`.
    pub fn get(&self, place: usize) -> Option<&Prompt> {
        self.rows.get(place)
    }

    /// The first `count` prompts, or all when there are fewer.
    pub fn take(&self, count: usize) -> Self {
        Self { form: self.form.clone(), rows: self.rows.iter().take(count).cloned().collect() }
    }

    /// The text of each prompt.
    pub fn texts(&self) -> Vec<String> {
        self.rows.iter().map(Prompt::text).collect()
    }

    /// These prompts, then `others`, whose indices go on after the largest here: an index stays the name of one example.
    ///
    /// # Errors
    /// An input error when the answers of the two have different forms.
    pub fn followed_by(&self, others: &Self) -> Result<Self> {
        if self.form != others.form {
            return Err(Error::input(format!("prompts with different answers cannot be joined: {} and {}", self.form, others.form)));
        }
        let after = self.rows.iter().map(|prompt| prompt.index + 1).max().unwrap_or(0);
        let mut rows = self.rows.clone();
        rows.extend(others.rows.iter().map(|prompt| Prompt { index: after + prompt.index, ..prompt.clone() }));
        Ok(Self { form: self.form.clone(), rows })
    }

    /// One row per prompt: `index`, `demonstrations` (their number), `prompt` (the text), `gold`.
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn frame(&self) -> Result<DataFrame> {
        let rows = &self.rows;
        Ok(df!(
            "index" => rows.iter().map(|prompt| prompt.index as u32).collect::<Vec<_>>(),
            "demonstrations" => rows.iter().map(|prompt| prompt.demonstrations.len() as u32).collect::<Vec<_>>(),
            "prompt" => self.texts(),
            "gold" => rows.iter().map(|prompt| prompt.example.gold.as_str()).collect::<Vec<_>>(),
        )?)
    }
}

impl<'a> IntoIterator for &'a Prompts {
    type Item = &'a Prompt;
    type IntoIter = std::slice::Iter<'a, Prompt>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Prompts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.rows.iter().map(|prompt| prompt.demonstrations.len());
        let (least, most) = (counts.clone().min().unwrap_or(0), counts.max().unwrap_or(0));
        let range = if least == most { least.to_string() } else { format!("{least} to {most}") };
        write!(f, "Prompts({} prompts, {range} demonstrations each, {})", self.len(), self.form)
    }
}

impl Show for Prompts {
    fn bundle(&self) -> Bundle {
        headed(&format!("{self:?}"), self.frame())
    }
}

impl Show for Prompt {
    fn bundle(&self) -> Bundle {
        Bundle::text(self.text())
    }
}

impl Show for Example {
    fn bundle(&self) -> Bundle {
        Bundle::text(self.solved())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(demonstrations: usize, index: usize) -> Prompt {
        let demonstrations = (0..demonstrations).map(|i| Example::new(format!("Text:{i}\nLabel:"), i.to_string())).collect();
        Prompt { demonstrations, example: Example::new("Text:x\nLabel:", "0"), index }
    }

    #[test]
    fn texts_have_one_blank_line_between_and_none_before() {
        assert_eq!(prompt(0, 0).text(), "Text:x\nLabel:");
        assert_eq!(prompt(0, 0).prefix(), "");
        assert_eq!(prompt(2, 0).text(), "Text:0\nLabel:0\n\nText:1\nLabel:1\n\nText:x\nLabel:");
        assert_eq!(prompt(2, 0).prefix() + "Text:x\nLabel:", prompt(2, 0).text());
    }

    #[test]
    fn the_frame_is_long_and_holds_what_the_model_reads() {
        let prompts = Prompts::new(vec![prompt(0, 0), prompt(2, 1)]);
        let frame = prompts.frame().unwrap();
        assert_eq!(frame.get_column_names(), ["index", "demonstrations", "prompt", "gold"]);
        assert_eq!(frame.column("demonstrations").unwrap().u32().unwrap().to_vec(), [Some(0), Some(2)]);
        assert_eq!(frame.column("prompt").unwrap().str().unwrap().get(1), Some(prompts.texts()[1].as_str()));
        assert!(format!("{prompts:?}").contains("0 to 2 demonstrations"));
        assert_eq!(Prompts::new(vec![]).frame().unwrap().shape(), (0, 4));
    }

    #[test]
    fn joined_prompts_keep_every_index_unique_and_one_form() {
        let first = Prompts::new(vec![prompt(1, 0), prompt(1, 1)]);
        let joined = first.followed_by(&Prompts::new(vec![prompt(1, 0)])).unwrap();
        assert_eq!(joined.iter().map(|prompt| prompt.index).collect::<Vec<_>>(), [0, 1, 2]);
        let other = first.clone().with_form(AnswerForm::labels(["0", "1"]).unwrap());
        assert!(first.followed_by(&other).unwrap_err().to_string().contains("different answers"));
        assert_eq!(first.take(1).len(), 1);
    }

    #[test]
    fn responses_end_where_the_next_query_would_begin() {
        let asked = |queries: &[&str], shown: usize| {
            let row = |(index, query): (usize, &&str)| Prompt { example: Example::new(*query, "0"), ..prompt(shown, index) };
            let row = |pair| {
                let mut prompt: Prompt = row(pair);
                prompt.demonstrations = vec![prompt.example.clone(); shown];
                prompt
            };
            Prompts::new(queries.iter().enumerate().map(row).collect())
        };
        for (queries, shown, stop) in [
            (["Question:a\nAnswer:", "Question:b\nAnswer:"], 0, Some("\n\nQuestion:")),
            (["Question:a\nAnswer:", "Question:b\nAnswer:"], 2, Some("\n\nQuestion:")),
            (["Translate.\nText:a", "Translate.\nText:b"], 1, Some("\n\nTranslate.")),
            (["What is 2:3?", "Add 2 and 3"], 1, Some("\n\n")),
            (["What is 2:3?", "Add 2 and 3"], 0, None),
            (["> 1", "> 2"], 0, None),
        ] {
            assert_eq!(asked(&queries, shown).stop().as_deref(), stop, "{queries:?}, {shown}");
        }
        let form = |stop| AnswerForm::free().stopping_at(stop).unwrap();
        let prompts = asked(&["Question:a", "Question:b"], 2);
        assert_eq!(prompts.clone().with_form(form(Some("\n"))).stop().as_deref(), Some("\n"));
        assert_eq!(prompts.with_form(form(None)).stop(), None);
    }

    #[test]
    fn prompts_survive_json() {
        let prompts = Prompts::new(vec![prompt(2, 0)]).with_form(AnswerForm::labels(["0", "1"]).unwrap());
        let text = serde_json::to_string(&prompts).unwrap();
        assert_eq!(serde_json::from_str::<Prompts>(&text).unwrap(), prompts);
    }
}
