//! Where in a model's output the labels of a task are told apart.

use std::fmt;

use polars::prelude::*;

use super::{Prompt, Prompts};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::tokenizer::Tokenizer;

/// The one position and the tokens at which a task's labels are told apart.
///
/// A label has the tokens that it has *after its query* ([`after`](Self::after)), as it stands in a demonstration: those of query and label
/// together, less the query's. These are trained on and read after the query *and* the labels' common first tokens
/// ([`prefix`](Self::prefix)), at the first position where they differ:
///
/// p(label k) = softmax(logits after query ++ prefix)\[ids\[k\]\]
///
/// | labels | tokens (Qwen) | prefix | ids |
/// |---|---|---|---|
/// | `0`, `1` | `0` · `1` | none | `0`, `1` |
/// | ` 0`, ` 1` | space, `0` · space, `1` | space | `0`, `1` |
///
/// Query and label may merge over their border: `Label:true` gives Qwen a token `:true`, and then no token begins where the label does. Such a
/// label has the tokens of a line that begins with it, and [`merged`](Self::merged) names it, as the column `merged_label` of
/// [`evaluate`](crate::evaluate::evaluate) does: the model has seen other tokens in its demonstrations than those it is asked for.
///
/// The authors tokenise every label alone. With the tokenizers of Llama-3 and Qwen and the labels of their tasks that gives the same tokens;
/// SentencePiece vocabularies put a space before a text that stands alone, and the two differ.
///
/// ```
/// use ia2::{model::Model, prompt::LabelTokens};
///
/// let tokenizer = Model::open("tiny-icl")?.tokenizer()?.clone();
/// let labels = LabelTokens::after(&tokenizer, &["0".to_string(), "1".to_string()], "Text:fine\nLabel:")?;
/// println!("{:?}", labels.frame()?);
/// # assert!(labels.prefix().is_empty() && labels.merged().is_empty());
/// # Ok::<(), ia2::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct LabelTokens {
    labels: Vec<String>,
    tokens: Vec<Vec<u32>>,
    prefix: Vec<u32>,
    ids: Vec<u32>,
    merged: Vec<String>,
}

impl LabelTokens {
    /// The labels after `query`.
    ///
    /// # Errors
    /// An input error when there are fewer than two labels, one is empty, or two of them cannot be told apart at that one
    /// position: their tokens are equal, one's are the beginning of the other's (`1` and `10` cut into digits), or they go on
    /// alike where a third label already differs.
    pub fn after(tokenizer: &Tokenizer, labels: &[String], query: &str) -> Result<Self> {
        if labels.len() < 2 {
            return Err(Error::input(format!("reading label probabilities needs at least two labels, {} given", labels.len())));
        }
        let (mut tokens, mut merged) = (Vec::with_capacity(labels.len()), Vec::new());
        for label in labels {
            let (own, is_merged) = tokenizer.encode_answer(query, label).map_err(|error| error.context(format_args!("label {label:?}")))?;
            tokens.push(own);
            merged.extend(is_merged.then(|| label.clone()));
        }
        let shared = common(&tokens);
        let mut ids: Vec<u32> = Vec::with_capacity(labels.len());
        for (place, own) in tokens.iter().enumerate() {
            let other = match own.get(shared) {
                // Nothing left: the label is the beginning of every other one.
                None => Some(usize::from(place == 0)),
                Some(id) => ids.iter().position(|earlier| earlier == id),
            };
            if let Some(other) = other {
                return Err(alike(tokenizer, (&labels[other], &tokens[other]), (&labels[place], own), shared));
            }
            ids.extend(own.get(shared));
        }
        Ok(Self { labels: labels.to_vec(), prefix: tokens[0][..shared].to_vec(), tokens, ids, merged })
    }

    /// The labels of the prompts after each prompt's query.
    ///
    /// # Errors
    /// As [`after`](Self::after), naming the prompt.
    pub fn of(tokenizer: &Tokenizer, prompts: &Prompts) -> Result<Vec<Self>> {
        let labels = prompts.form().label_set();
        let of = |prompt: &Prompt| {
            interrupt::check()?;
            let own = Self::after(tokenizer, labels, &prompt.example.query);
            own.map_err(|error| error.context(format_args!("prompt {}", prompt.index)))
        };
        interrupt::during("tokenising labels", || prompts.iter().map(of).collect())
    }

    /// The labels, in the order given.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Tokens that all labels begin with, to be appended to the prompt; often none.
    pub fn prefix(&self) -> &[u32] {
        &self.prefix
    }

    /// The token that tells each label from the others, at the position after the [`prefix`](Self::prefix). All different.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// All tokens of the label at `place` (0-based), or `None`.
    pub fn tokens(&self, place: usize) -> Option<&[u32]> {
        self.tokens.get(place).map(Vec::as_slice)
    }

    /// The place of `label` among the labels, or `None`.
    pub fn position(&self, label: &str) -> Option<usize> {
        self.labels.iter().position(|own| own == label)
    }

    /// The labels that merge with the query over their border, so that their tokens here are not those of query and label together.
    pub fn merged(&self) -> &[String] {
        &self.merged
    }

    /// The most tokens of a label.
    pub(crate) fn longest(&self) -> usize {
        self.tokens.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// True if a label begins with `tokens` and goes on after them.
    pub(crate) fn goes_on(&self, tokens: &[u32]) -> bool {
        self.tokens.iter().any(|own| own.len() > tokens.len() && own.starts_with(tokens))
    }

    /// One row per label: `label`, `id` (the distinguishing token's), `prefix` (number of tokens before it), `token` (number
    /// of tokens of the whole label), `merged`.
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn frame(&self) -> Result<DataFrame> {
        Ok(df!(
            "label" => self.labels.as_slice(),
            "id" => self.ids.as_slice(),
            "prefix" => vec![self.prefix.len() as u32; self.ids.len()],
            "token" => self.tokens.iter().map(|tokens| tokens.len() as u32).collect::<Vec<_>>(),
            "merged" => self.labels.iter().map(|label| self.merged.contains(label)).collect::<Vec<_>>(),
        )?)
    }
}

impl fmt::Debug for LabelTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LabelTokens({} told apart by the ids {:?} after {} common tokens)", self.labels.join(", "), self.ids, self.prefix.len())
    }
}

/// How many first tokens all share.
fn common(tokens: &[Vec<u32>]) -> usize {
    let Some((first, others)) = tokens.split_first() else { return 0 };
    let shared = |other: &Vec<u32>| first.iter().zip(other).take_while(|(a, b)| a == b).count();
    others.iter().map(shared).min().unwrap_or(0)
}

fn alike(tokenizer: &Tokenizer, first: (&String, &Vec<u32>), second: (&String, &Vec<u32>), position: usize) -> Error {
    let spell = |ids: &[u32]| ids.iter().map(|&id| tokenizer.spelling(id)).collect::<Vec<_>>().join(" | ");
    let remedy = "choose labels whose tokens differ there, such as digits or single words";
    Error::input(format!(
        "the labels {:?} ({}) and {:?} ({}) cannot be told apart at token {position}, where the labels are read: {remedy}",
        first.0,
        spell(first.1),
        second.0,
        spell(second.1)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::{AnswerForm, Example};
    use crate::tokenizer::tests::{of_bytes, of_merges, of_pieces, shared};

    fn after(tokenizer: &Tokenizer, labels: &[&str], query: &str) -> Result<LabelTokens> {
        LabelTokens::after(tokenizer, &labels.iter().map(|label| label.to_string()).collect::<Vec<_>>(), query)
    }

    fn new(tokenizer: &Tokenizer, labels: &[&str]) -> Result<LabelTokens> {
        after(tokenizer, labels, "")
    }

    #[test]
    fn labels_of_one_token_need_no_prefix() {
        let tokenizer = of_merges("01 ", &[]);
        let labels = new(&tokenizer, &["0", "1"]).unwrap();
        assert_eq!((labels.prefix(), labels.ids()), ([].as_slice(), [0, 1].as_slice()));
        assert_eq!((labels.position("1"), labels.position("2")), (Some(1), None));
    }

    #[test]
    fn a_common_beginning_becomes_the_prefix() {
        // As Qwen does: the space is a token of its own before a digit.
        let tokenizer = of_merges("01 ", &[]);
        let labels = new(&tokenizer, &[" 0", " 1"]).unwrap();
        assert_eq!((labels.prefix(), labels.ids(), labels.tokens(1)), ([2].as_slice(), [0, 1].as_slice(), Some([2, 1].as_slice())));
        assert_eq!((labels.longest(), labels.goes_on(&[2]), labels.goes_on(&[2, 0]), labels.goes_on(&[0])), (2, true, false, false));
        assert_eq!(labels.frame().unwrap().shape(), (2, 5));
    }

    #[test]
    fn as_qwen_cuts_them() {
        let tokenizer = of_bytes(&[": t"]);
        let spelled = |ids: &[u32]| ids.iter().map(|&id| tokenizer.token(id).unwrap()).collect::<Vec<_>>();
        let labels = after(&tokenizer, &[" 0", " 1"], "Text:x\nLabel:").unwrap();
        assert_eq!((spelled(labels.prefix()), spelled(labels.ids())), (vec!["Ġ".to_string()], vec!["0".into(), "1".into()]));
        assert!(labels.merged().is_empty());
        let labels = after(&tokenizer, &["true", "false"], "Text:x\nLabel:").unwrap();
        assert_eq!(labels.merged(), ["true"]);
        assert_eq!(spelled(labels.ids()), ["t", "f"], "what merges has its own tokens");
        let merged = labels.frame().unwrap().column("merged").unwrap().bool().unwrap().iter().collect::<Vec<_>>();
        assert_eq!(merged, [Some(true), Some(false)]);
    }

    #[test]
    fn as_sentencepiece_cuts_them() {
        let tokenizer = of_pieces("Label:01 sadhppy\n", &["▁ s", "▁ h"]);
        let spelled = |labels: &LabelTokens| (tokenizer.spellings(labels.prefix()).join("|"), tokenizer.spellings(labels.ids()).join("|"));
        let read = |labels: &[&str]| spelled(&after(&tokenizer, labels, "Label:").unwrap());
        assert_eq!(read(&["0", "1"]), (String::new(), "0|1".into()), "a label has no space but its own");
        assert_eq!(read(&[" happy", " sad"]), (String::new(), "·h|·s".into()));
        assert_eq!(read(&[" 0", " 1"]), ("·".into(), "0|1".into()));
        // After a query that ends with a space, the space is the query's where it can be.
        let labels = after(&tokenizer, &["0", "sad"], "Label: ").unwrap();
        assert_eq!((labels.merged(), spelled(&labels).1.as_str()), (["sad".to_string()].as_slice(), "0|s"));
    }

    #[test]
    fn each_prompt_has_the_tokens_of_its_query() {
        let tokenizer = of_bytes(&[": t", "t r"]);
        let prompt = |query: &str, index| Prompt { demonstrations: vec![], example: Example::new(query, "true"), index };
        let form = AnswerForm::labels(["true", "false"]).unwrap();
        let prompts = Prompts::new(vec![prompt("a:", 0), prompt("a\n", 1)]).with_form(form);
        let labels = LabelTokens::of(&tokenizer, &prompts).unwrap();
        assert_eq!(labels.iter().map(|labels| labels.merged().len()).collect::<Vec<_>>(), [1, 0]);
        let error = LabelTokens::of(&tokenizer, &prompts.with_form(AnswerForm::labels(["1", "10"]).unwrap())).unwrap_err();
        assert!(error.to_string().starts_with("prompt 0: the labels"), "{error}");
    }

    #[test]
    fn labels_may_differ_before_they_end() {
        let tokenizer = of_merges("abc", &["a b"]);
        let labels = new(&tokenizer, &["acc", "abc", "bc"]).unwrap();
        assert_eq!((labels.prefix(), labels.ids()), ([].as_slice(), [0, 3, 1].as_slice()));
    }

    #[test]
    fn labels_that_cannot_be_told_apart_are_refused() {
        let tokenizer = of_merges("01ab", &[]);
        for (labels, first, second) in [
            (["1", "10"].as_slice(), "\"10\"", "\"1\""),
            (&["10", "1"], "\"10\"", "\"1\""),
            (&["ab", "aa", "b"], "\"ab\"", "\"aa\""),
            (&["a", "a"], "\"a\"", "\"a\""),
            (&["0", "1", "ab", "a"], "\"ab\"", "\"a\""),
        ] {
            let error = new(&tokenizer, labels).unwrap_err();
            let text = error.to_string();
            assert!(error.is_input() && text.contains(first) && text.contains(second) && text.contains("cannot be told apart"), "{text}");
        }
        assert!(new(&tokenizer, &["0"]).unwrap_err().to_string().contains("at least two"));
        assert!(new(&tokenizer, &["0", ""]).unwrap_err().to_string().contains("label \"\""));
    }

    #[test]
    fn a_real_tokenizer_that_puts_a_space_before_every_text() {
        let Some(folder) = shared("models/stories260K") else { return };
        let tokenizer = Tokenizer::open(folder).unwrap();
        let labels = after(&tokenizer, &["0", "1"], "Text: a day\nLabel:").unwrap();
        assert_eq!((labels.prefix(), tokenizer.spellings(labels.ids()).join("|").as_str()), ([].as_slice(), "0|1"));
    }
}
