//! What an answer looks like, where a response ends, and how the answer is read out of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The form of a task's answers: one of a few labels, or free text.
///
/// | field | labels | free text |
/// |---|---|---|
/// | [`label_set`](Self::label_set) | at least two | none |
/// | [`stop`](Self::stop) | blank line | blank line |
/// | [`max_new_tokens`](Self::max_new_tokens) | 1 | 200 (the paper's limit for GSM8K) |
/// | [`answer_after`](Self::answer_after) | none | none, or a marker such as `####` |
///
/// ```
/// use ia2::prompt::AnswerForm;
///
/// let form = AnswerForm::free().after("####")?.at_most(24)?;
/// assert_eq!(form.answer("two and two #### 4\n").as_deref(), Some("4"));
/// assert_eq!(form.answer("no idea"), None);
/// # Ok::<(), ia2::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerForm {
    labels: Vec<String>,
    stop: Option<String>,
    max_new_tokens: usize,
    answer_after: Option<String>,
}

impl AnswerForm {
    /// Free text: no labels, stop at a blank line, at most 200 tokens, the whole response is the answer.
    pub fn free() -> Self {
        Self { labels: Vec::new(), stop: Some(super::SEPARATOR.into()), max_new_tokens: 200, answer_after: None }
    }

    /// One of `labels`, each one token: stop at a blank line, at most 1 token.
    ///
    /// # Errors
    /// An input error when there are fewer than two labels, or one is empty or there twice.
    pub fn labels<L: Into<String>>(labels: impl IntoIterator<Item = L>) -> Result<Self> {
        let labels: Vec<String> = labels.into_iter().map(Into::into).collect();
        check(&labels)?;
        Ok(Self { labels, max_new_tokens: 1, ..Self::free() })
    }

    /// The same form, where generation stops at `stop`, or only at the end of text or the length limit with `None`.
    ///
    /// # Errors
    /// An input error when `stop` is the empty string, which would stop everything at once.
    pub fn stopping_at(mut self, stop: Option<&str>) -> Result<Self> {
        if stop == Some("") {
            return Err(Error::input("the stop string is empty: it would stop every response at once; say `None` for no stop string"));
        }
        self.stop = stop.map(Into::into);
        Ok(self)
    }

    /// The same form with at most `tokens` generated tokens.
    ///
    /// # Errors
    /// An input error when `tokens` is 0.
    pub fn at_most(mut self, tokens: usize) -> Result<Self> {
        if tokens == 0 {
            return Err(Error::input("a response needs at least one token, at most 0 asked for"));
        }
        self.max_new_tokens = tokens;
        Ok(self)
    }

    /// The same form, where the answer is what follows the last `marker` on its line.
    ///
    /// # Errors
    /// An input error when `marker` is empty.
    pub fn after(mut self, marker: &str) -> Result<Self> {
        if marker.is_empty() {
            return Err(Error::input("the marker before the answer is empty; leave it out where the whole response is the answer"));
        }
        self.answer_after = Some(marker.into());
        Ok(self)
    }

    /// The labels, in the task's order; empty for free text.
    pub fn label_set(&self) -> &[String] {
        &self.labels
    }

    /// The string at which generation stops, if any.
    pub fn stop(&self) -> Option<&str> {
        self.stop.as_deref()
    }

    /// The most tokens a response may have.
    pub fn max_new_tokens(&self) -> usize {
        self.max_new_tokens
    }

    /// The marker before the answer, if any.
    pub fn answer_after(&self) -> Option<&str> {
        self.answer_after.as_deref()
    }

    /// The answer in a response (or in a gold): its text up to the stop string, after the last marker and up to that line's
    /// end if the form has a marker, without white space around. `None` when the marker is missing or nothing is left.
    pub fn answer(&self, response: &str) -> Option<String> {
        let text = self.stop().and_then(|stop| response.split(stop).next()).unwrap_or(response);
        let text = match self.answer_after() {
            Some(marker) => text.rsplit_once(marker)?.1.trim_start().lines().next().unwrap_or_default(),
            None => text,
        };
        Some(text.trim().to_owned()).filter(|answer| !answer.is_empty())
    }
}

impl Default for AnswerForm {
    /// [`AnswerForm::free`].
    fn default() -> Self {
        Self::free()
    }
}

impl fmt::Display for AnswerForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.labels.is_empty(), &self.answer_after) {
            (false, _) => write!(f, "labels {}", self.labels.join(", ")),
            (true, Some(marker)) => write!(f, "free answers after {marker:?}, at most {} tokens", self.max_new_tokens),
            (true, None) => write!(f, "free answers, at most {} tokens", self.max_new_tokens),
        }
    }
}

fn check(labels: &[String]) -> Result<()> {
    if labels.len() < 2 {
        return Err(Error::input(format!("a label task needs at least two labels, {} given", labels.len())));
    }
    for (place, label) in labels.iter().enumerate() {
        if label.is_empty() {
            return Err(Error::input(format!("label {place} is empty")));
        }
        if labels[..place].contains(label) {
            return Err(Error::input(format!("the label {label:?} is given twice")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_checked() {
        for (labels, word) in [(vec!["0"], "at least two"), (vec!["0", ""], "empty"), (vec!["a", "b", "a"], "twice")] {
            let error = AnswerForm::labels(labels).unwrap_err();
            assert!(error.is_input() && error.to_string().contains(word), "{error}");
        }
        let form = AnswerForm::labels(["0", "1"]).unwrap();
        assert_eq!((form.max_new_tokens(), form.stop(), form.to_string().as_str()), (1, Some("\n\n"), "labels 0, 1"));
    }

    #[test]
    fn an_answer_is_read_out_of_a_response() {
        let label = AnswerForm::labels(["0", "1"]).unwrap();
        assert_eq!(label.answer(" 1\n").as_deref(), Some("1"));
        assert_eq!(label.answer(""), None);
        let marked = AnswerForm::free().after("####").unwrap();
        assert_eq!(marked.answer("1 #### 2 so #### red fox\nmore").as_deref(), Some("red fox"));
        assert_eq!(marked.answer("#### 3\n\nText: #### 9").as_deref(), Some("3"), "what follows the stop string does not count");
        assert_eq!(marked.answer("####"), None);
        assert_eq!(marked.answer("3"), None);
        assert_eq!(AnswerForm::free().stopping_at(None).unwrap().answer("a\n\nb").as_deref(), Some("a\n\nb"));
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let free = AnswerForm::free;
        for (result, word) in
            [(free().at_most(0), "at least one token"), (free().stopping_at(Some("")), "stop string"), (free().after(""), "marker")]
        {
            let error = result.unwrap_err();
            assert!(error.is_input() && error.to_string().contains(word), "{error}");
        }
    }
}
