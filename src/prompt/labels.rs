//! Where in a model's output the labels of a task are told apart.

use std::fmt;

use polars::prelude::*;

use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// The one position and the tokens at which a task's labels are told apart.
///
/// Each label is tokenised on its own, without special tokens, and its tokens follow the query's: the gold answer stands in
/// training and in evaluation exactly as it is tokenised here (as in the authors' code). A label's probability is then read
/// after the query *and* the labels' common first tokens ([`prefix`](Self::prefix)), at the first position where they differ:
///
/// p(label k) = softmax(logits after query ++ prefix)\[ids\[k\]\]
///
/// | labels | tokens (Qwen) | prefix | ids |
/// |---|---|---|---|
/// | `0`, `1` | `0` · `1` | none | `0`, `1` |
/// | ` 0`, ` 1` | space, `0` · space, `1` | space | `0`, `1` |
///
/// In the *text* of a demonstration, query and gold are tokenised together and may merge over their border (`Label:true` gives
/// Qwen a token `:true`); [`merged`](Self::merged) tells for which labels that happens, since a model then sees
/// demonstrations whose tokens differ from the answers it is asked for.
///
/// ```no_run
/// use ia2::{prompt::LabelTokens, tokenizer::Tokenizer};
///
/// let tokenizer = Tokenizer::open("data/models/tiny-icl")?;
/// let labels = LabelTokens::new(&tokenizer, &["0".to_string(), "1".to_string()])?;
/// println!("{:?}", labels.frame()?);
/// # Ok::<(), ia2::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct LabelTokens {
    labels: Vec<String>,
    tokens: Vec<Vec<u32>>,
    prefix: Vec<u32>,
    ids: Vec<u32>,
}

impl LabelTokens {
    /// Tokenises `labels` and finds where they differ.
    ///
    /// # Errors
    /// An input error when there are fewer than two labels, one is empty, or two of them cannot be told apart at that one
    /// position: their tokens are equal, one's are the beginning of the other's (`1` and `10` cut into digits), or they go on
    /// alike where a third label already differs.
    pub fn new(tokenizer: &Tokenizer, labels: &[String]) -> Result<Self> {
        if labels.len() < 2 {
            return Err(Error::input(format!("reading label probabilities needs at least two labels, {} given", labels.len())));
        }
        let tokens = labels
            .iter()
            .map(|label| tokenizer.encode_plain(label).map_err(|error| error.context(format_args!("label {label:?}"))))
            .collect::<Result<Vec<_>>>()?;
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
        Ok(Self { labels: labels.to_vec(), prefix: tokens[0][..shared].to_vec(), tokens, ids })
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

    /// The labels whose tokens change when they are tokenised together with the query before them.
    ///
    /// # Errors
    /// An input error when `query` is empty.
    pub fn merged(&self, tokenizer: &Tokenizer, query: &str) -> Result<Vec<String>> {
        let alone = tokenizer.encode_plain(query)?;
        let mut merged = Vec::new();
        for (label, own) in self.labels.iter().zip(&self.tokens) {
            let together = tokenizer.encode_plain(&format!("{query}{label}"))?;
            if together.strip_prefix(alone.as_slice()) != Some(own) {
                merged.push(label.clone());
            }
        }
        Ok(merged)
    }

    /// One row per label: `label`, `id` (the distinguishing token's), `prefix` (number of tokens before it), `token` (number
    /// of tokens of the whole label).
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn frame(&self) -> Result<DataFrame> {
        Ok(df!(
            "label" => self.labels.as_slice(),
            "id" => self.ids.as_slice(),
            "prefix" => vec![self.prefix.len() as u32; self.ids.len()],
            "token" => self.tokens.iter().map(|tokens| tokens.len() as u32).collect::<Vec<_>>(),
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
    use crate::tokenizer::tests::{of_bytes, of_merges, shared};

    fn new(tokenizer: &Tokenizer, labels: &[&str]) -> Result<LabelTokens> {
        LabelTokens::new(tokenizer, &labels.iter().map(|label| label.to_string()).collect::<Vec<_>>())
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
        assert_eq!(labels.frame().unwrap().shape(), (2, 4));
    }

    #[test]
    fn as_qwen_cuts_them() {
        let tokenizer = of_bytes(&[": t"]);
        let spelled = |ids: &[u32]| ids.iter().map(|&id| tokenizer.token(id).unwrap()).collect::<Vec<_>>();
        let labels = new(&tokenizer, &[" 0", " 1"]).unwrap();
        assert_eq!((spelled(labels.prefix()), spelled(labels.ids())), (vec!["Ġ".to_string()], vec!["0".into(), "1".into()]));
        assert!(labels.merged(&tokenizer, "Text:x\nLabel:").unwrap().is_empty());
        let labels = new(&tokenizer, &["true", "false"]).unwrap();
        assert_eq!(labels.merged(&tokenizer, "Text:x\nLabel:").unwrap(), ["true"]);
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
    fn merging_with_the_query_is_seen() {
        let tokenizer = of_merges("q:tf", &[": t"]);
        let labels = new(&tokenizer, &["t", "f"]).unwrap();
        assert_eq!(labels.merged(&tokenizer, "q:").unwrap(), ["t"]);
        assert_eq!(labels.merged(&tokenizer, "q").unwrap(), Vec::<String>::new());
        assert_eq!(labels.ids(), [2, 3], "the labels' own tokens count, as in training");
    }

    #[test]
    fn a_real_tokenizer_that_puts_a_space_before_every_text() {
        let Some(folder) = shared("models/stories260K") else { return };
        let tokenizer = Tokenizer::open(folder).unwrap();
        let labels = new(&tokenizer, &["0", "1"]).unwrap();
        let tokens: Vec<_> = labels.prefix().iter().chain(labels.ids()).map(|&id| tokenizer.token(id).unwrap()).collect();
        assert_eq!((labels.prefix().len(), labels.ids().len()), (1, 2), "{tokens:?}");
        assert!(labels.ids()[0] != labels.ids()[1]);
    }
}
