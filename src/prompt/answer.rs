//! What an answer looks like, where a response ends, and how the answer is read out of it.

mod boxed;
mod forms;
mod number;
mod paper;
mod place;
mod scan;
mod spelling;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::compat::Compat;
use crate::error::{Error, Result};

/// What is looked for in a response with free answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reading {
    #[default]
    Text,
    Number,
    Boxed,
}

/// The form of a task's answers: one of a few labels, or free text.
///
/// | field | labels | free text |
/// |---|---|---|
/// | [`label_set`](Self::label_set) | at least two | none |
/// | [`stop`](Self::stop) | blank line | none: a response ends where the next query would begin ([`Prompts::stop`](super::Prompts::stop)) |
/// | [`max_new_tokens`](Self::max_new_tokens) | 1, or those of the longest label | 200 (the paper's limit for GSM8K) |
/// | [`ends_with_eos`](Self::ends_with_eos) | no | yes, unless at most 1 token |
/// | [`answer_after`](Self::answer_after) | none | none, or a marker such as `####` |
///
/// Free text is read in one of four ways. Golds are read as responses are, and answers are compared as text, so each way gives equal
/// answers one spelling:
///
/// | | the answer is | with [`Compat::Paper`] |
/// |---|---|---|
/// | [`free`](Self::free) | the whole response | the same |
/// | [`after`](Self::after) a marker | the rest of the line after the last marker | everything after the last marker; without one the whole response |
/// | [`number`](Self::number) | the number after the last `####` (or under a heading `#### Answer`), else in the last `\boxed{}`, else after the last `answer is` or `answer:`, else the last number: the first there, or what a calculation comes to (`8 - 3 = 5`). With its sign, without thousands separators and superfluous zeros; fractions as `3/4` in lowest terms, powers of ten written out, times as `7:30` | the authors' ten patterns in their order, their last match, its first number; a minus is lost; without any the text |
/// | [`boxed`](Self::boxed) | the last whole `\boxed{}`, with nested braces, normalised as MATH publishes it in part (spaces, `\dfrac`, `\left`, units, plain numbers) | from the first `\boxed{` to its line's last `}`, without spaces, `\dfrac` as `\frac` |
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
    /// Whether no stop string was given or ruled out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    open: bool,
    #[serde(default)]
    reading: Reading,
    #[serde(default)]
    compat: Compat,
}

impl AnswerForm {
    /// Free text: no labels, at most 200 tokens, the whole response is the answer. Answers may have several paragraphs, so no stop string cuts
    /// them: a response ends with the end-of-sequence token, or where the next query would begin ([`Prompts::stop`](super::Prompts::stop)). The
    /// authors evaluate with `.stopping_at(Some("\n\n"))`, as the paper's [benchmarks](crate::dataset::Benchmark) here do.
    pub fn free() -> Self {
        Self {
            labels: Vec::new(),
            stop: None,
            max_new_tokens: 200,
            answer_after: None,
            open: true,
            reading: Reading::Text,
            compat: Compat::Corrected,
        }
    }

    /// One of `labels`: stop at a blank line, at most 1 token. Where labels have several tokens, a model is let answer to the end of the longest
    /// ([`Model::respond`](crate::model::Model::respond)).
    ///
    /// # Errors
    /// An input error when there are fewer than two labels, one is empty, or two are the same but for spaces around them: answers are compared
    /// without these.
    pub fn labels<L: Into<String>>(labels: impl IntoIterator<Item = L>) -> Result<Self> {
        let labels: Vec<String> = labels.into_iter().map(Into::into).collect();
        check(&labels)?;
        Ok(Self { labels, max_new_tokens: 1, stop: Some(super::SEPARATOR.into()), open: false, ..Self::free() })
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
        self.open = false;
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

    /// Free text whose answer is a number, as in GSM8K: see the table above.
    pub fn number() -> Self {
        Self { reading: Reading::Number, ..Self::free() }
    }

    /// Free text whose answer stands in `\boxed{}`, as in MATH: see the table above.
    pub fn boxed() -> Self {
        Self { reading: Reading::Boxed, ..Self::free() }
    }

    /// The same form, where answers are read as they should be (the default) or as the authors' code reads them.
    pub fn compat(mut self, compat: Compat) -> Self {
        self.compat = compat;
        self
    }

    /// The same with these labels.
    pub(crate) fn relabelled(&self, labels: Vec<String>) -> Result<Self> {
        Ok(Self::labels(labels)?.stopping_at(self.stop())?.at_most(self.max_new_tokens())?.compat(self.compat))
    }

    /// The labels, in the task's order; empty for free text.
    pub fn label_set(&self) -> &[String] {
        &self.labels
    }

    /// The place of the label that a gold is: as it is written, or else but for spaces around it.
    pub(crate) fn label_of(&self, gold: &str) -> Option<usize> {
        let exact = self.labels.iter().position(|label| label == gold);
        exact.or_else(|| self.labels.iter().position(|label| label.trim() == gold.trim()))
    }

    /// The string at which generation stops, if one was given; [`Prompts::stop`](super::Prompts::stop) says where responses end without one.
    pub fn stop(&self) -> Option<&str> {
        self.stop.as_deref()
    }

    /// Whether a stop string was neither given nor ruled out.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// The most tokens a response may have.
    pub fn max_new_tokens(&self) -> usize {
        self.max_new_tokens
    }

    /// Whether golds are trained on with an end-of-sequence token after them: where an answer may have more than one token, so that the model learns
    /// where it ends. Never after a label, where nothing further is read.
    pub fn ends_with_eos(&self) -> bool {
        self.labels.is_empty() && self.max_new_tokens > 1
    }

    /// The marker before the answer, if any.
    pub fn answer_after(&self) -> Option<&str> {
        self.answer_after.as_deref()
    }

    /// The answer in a response, of which nothing from the stop string on counts; `None` when there is none: an empty response, no
    /// marker, no number, no whole box.
    pub fn answer(&self, response: &str) -> Option<String> {
        self.gold(self.stop().and_then(|stop| response.split(stop).next()).unwrap_or(response))
    }

    /// The answer in a gold: as in a response, but a gold may hold the stop string (solutions of MATH have blank lines).
    pub fn gold(&self, gold: &str) -> Option<String> {
        let paper = self.compat == Compat::Paper;
        let answer = match (self.reading, &self.answer_after) {
            (Reading::Number, _) if paper => Some(paper::number(gold)),
            (Reading::Number, _) => number::read(gold),
            (Reading::Boxed, _) if paper => paper::boxed(gold),
            (Reading::Boxed, _) => boxed::last(gold).map(boxed::normal),
            (Reading::Text, Some(marker)) if paper => Some(paper::after(gold, marker)),
            (Reading::Text, Some(marker)) => {
                gold.rsplit_once(marker.as_str()).map(|(_, rest)| rest.trim_start().lines().next().unwrap_or_default().to_owned())
            }
            (Reading::Text, None) => Some(gold.to_owned()),
        };
        answer.map(|answer| answer.trim().to_owned()).filter(|answer| !answer.is_empty())
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
        if !self.labels.is_empty() {
            return write!(f, "labels {}", self.labels.join(", "));
        }
        match (self.reading, &self.answer_after) {
            (Reading::Number, _) => f.write_str("numbers")?,
            (Reading::Boxed, _) => f.write_str("boxed answers")?,
            (Reading::Text, Some(marker)) => write!(f, "free answers after {marker:?}")?,
            (Reading::Text, None) => f.write_str("free answers")?,
        }
        write!(f, ", at most {} tokens", self.max_new_tokens)
    }
}

fn check(labels: &[String]) -> Result<()> {
    if labels.len() < 2 {
        return Err(Error::input(format!("a label task needs at least two labels, {} given", labels.len())));
    }
    for (place, label) in labels.iter().enumerate() {
        if label.trim().is_empty() {
            return Err(Error::input(format!("label {place} is empty")));
        }
        if let Some(other) = labels[..place].iter().find(|other| other.trim() == label.trim()) {
            return Err(Error::input(match other == label {
                true => format!("the label {label:?} is given twice"),
                false => {
                    format!("the labels {other:?} and {label:?} differ in nothing but spaces, without which answers are compared: keep one")
                }
            }));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_checked() {
        for (labels, word) in [
            (vec!["0"], "at least two"),
            (vec!["0", ""], "empty"),
            (vec!["0", " "], "empty"),
            (vec!["a", "b", "a"], "twice"),
            (vec!["1", "0", " 1"], "nothing but spaces"),
        ] {
            let error = AnswerForm::labels(labels).unwrap_err();
            assert!(error.is_input() && error.to_string().contains(word), "{error}");
        }
        let form = AnswerForm::labels(["0", "1"]).unwrap();
        assert_eq!((form.max_new_tokens(), form.stop(), form.to_string().as_str()), (1, Some("\n\n"), "labels 0, 1"));
    }

    #[test]
    fn free_answers_end_and_labels_do_not() {
        assert!(AnswerForm::free().ends_with_eos() && AnswerForm::number().ends_with_eos());
        assert!(!AnswerForm::free().at_most(1).unwrap().ends_with_eos());
        assert!(!AnswerForm::labels([" 0", " 1"]).unwrap().at_most(5).unwrap().ends_with_eos());
    }

    #[test]
    fn an_answer_is_read_out_of_a_response() {
        let label = AnswerForm::labels(["0", "1"]).unwrap();
        assert_eq!(label.answer(" 1\n").as_deref(), Some("1"));
        assert_eq!(label.answer(""), None);
        let marked = AnswerForm::free().stopping_at(Some("\n\n")).unwrap().after("####").unwrap();
        assert_eq!(marked.answer("1 #### 2 so #### red fox\nmore").as_deref(), Some("red fox"));
        assert_eq!(marked.answer("#### 3\n\nText: #### 9").as_deref(), Some("3"), "what follows the stop string does not count");
        assert_eq!(marked.answer("####"), None);
        assert_eq!(marked.answer("3"), None);
        assert_eq!(AnswerForm::free().stopping_at(None).unwrap().answer("a\n\nb").as_deref(), Some("a\n\nb"));
        // Answers of several paragraphs are whole unless asked otherwise.
        let chat = "Let me think.\n\nShe has 8 and gives 3 away.\n\nThe answer is 5.";
        assert_eq!(AnswerForm::free().answer(chat).as_deref(), Some(chat));
        assert_eq!(AnswerForm::number().answer(chat).as_deref(), Some("5"));
        assert_eq!(AnswerForm::boxed().answer("So\n\n\\boxed{5}").as_deref(), Some("5"));
        assert_eq!(AnswerForm::number().stopping_at(Some("\n\n")).unwrap().answer(chat), None);
    }

    #[test]
    fn a_gold_is_read_past_the_stop_string_and_a_response_is_not() {
        let boxed = AnswerForm::boxed().stopping_at(Some("\n\n")).unwrap();
        let solution = "First.\n\nThen $\\boxed{\\frac12}$.";
        assert_eq!((boxed.gold(solution).as_deref(), boxed.answer(solution)), (Some("\\frac{1}{2}"), None));
        let number = AnswerForm::number();
        assert_eq!(number.answer("#### -1,080\n\nQuestion: 3").as_deref(), Some("-1080"));
        assert_eq!(number.compat(Compat::Paper).answer("#### -1,080").as_deref(), Some("1080"), "the authors lose the minus");
        assert_eq!(AnswerForm::number().to_string(), "numbers, at most 200 tokens");
    }

    #[test]
    fn the_authors_way_differs_where_it_is_said_to() {
        let boxed = AnswerForm::boxed().compat(Compat::Paper);
        assert_eq!(boxed.gold("$\\boxed{1}$ or $\\boxed{ \\dfrac{1}{2}}$, {so}").as_deref(), Some("1}$or$\\boxed{\\frac{1}{2}}$,{so"));
        let text = AnswerForm::free().after("####").unwrap();
        assert_eq!(text.gold("a #### red fox\nb").as_deref(), Some("red fox"));
        let text = text.compat(Compat::Paper);
        assert_eq!(text.gold("a #### red fox\nb").as_deref(), Some("red fox\nb"));
        assert_eq!(text.gold("red fox").as_deref(), Some("red fox"));
    }

    #[test]
    fn the_authors_numbers_are_their_functions() {
        let golden = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/answers.json"));
        let cases: Vec<(String, String, Option<String>, String)> = serde_json::from_str(golden).unwrap();
        assert!(cases.len() > 100);
        for (text, number, boxed, after) in cases {
            assert_eq!(paper::number(&text), number, "number of {text:?}");
            assert_eq!(paper::boxed(&text), boxed, "box of {text:?}");
            assert_eq!(paper::after(&text, "####"), after, "{text:?}");
        }
        // As Python's `str` spells floats.
        for (text, value) in
            [("0.00005", "5e-05"), ("0.0001", "0.0001"), ("0.000123", "0.000123"), ("0.0000001", "1e-07"), ("0.00000000015", "1.5e-10")]
        {
            assert_eq!(paper::number(&format!("#### {text}")), value);
        }
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
