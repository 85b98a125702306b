//! Texts that follow other texts: an answer after its query.

use super::{SAID, Tokenizer};
use crate::display::shortened;
use crate::error::{Error, Result};

impl Tokenizer {
    /// The ids that `text` has where it follows `before`: those of the two together, less those of `before`, no special tokens added.
    /// `None` where the two merge over their border, so that no token begins where `text` does (`Label:` and `true`, in whose
    /// vocabulary `:true` is a token).
    ///
    /// A text alone may have others. SentencePiece vocabularies put a space before every text: `happy` alone is `▁happy`, and after
    /// `Label:` it is `happy`.
    ///
    /// ```
    /// use ia2::model::Model;
    ///
    /// let tokenizer = Model::open("tiny-icl")?.tokenizer()?.clone();
    /// assert_eq!(tokenizer.encode_after("Text:fine\nLabel:", "1")?, Some(vec![tokenizer.id("1").unwrap()]));
    /// # Ok::<(), ia2::Error>(())
    /// ```
    ///
    /// # Errors
    /// An input error when `text` is empty or gives no token.
    pub fn encode_after(&self, before: &str, text: &str) -> Result<Option<Vec<u32>>> {
        if text.is_empty() {
            return Err(Error::input("there is no text to tokenise: it is empty"));
        }
        let (alone, together) = (self.plain(before)?, self.plain(&format!("{before}{text}"))?);
        let Some(own) = together.strip_prefix(alone.as_slice()) else { return Ok(None) };
        if own.is_empty() {
            return Err(Error::input(format!("the text {:?} gives no token", shortened(text, SAID))));
        }
        Ok(Some(own.to_vec()))
    }

    /// The ids of an answer after its query, and whether the two merge over their border. Then these are the ids that the answer has at the
    /// start of a line.
    pub(crate) fn encode_answer(&self, query: &str, answer: &str) -> Result<(Vec<u32>, bool)> {
        match self.encode_after(query, answer)? {
            Some(ids) => Ok((ids, false)),
            None => Ok((self.encode_apart(answer)?, true)),
        }
    }

    /// The ids of a text at the start of a line: its own, without the space that some vocabularies put before a text that comes first.
    pub(crate) fn encode_apart(&self, text: &str) -> Result<Vec<u32>> {
        match self.encode_after("\n", text)? {
            Some(ids) => Ok(ids),
            // It begins with a break itself.
            None => self.encode_plain(text),
        }
    }

    /// [`encode_plain`](Self::encode_plain) of what may have no tokens.
    fn plain(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.ask(|parts| parts.encode_fast(text, false))?;
        let encoding = encoding.map_err(|error| Error::input(format!("cannot tokenise {:?}", shortened(text, SAID))).because(error))?;
        Ok(encoding.get_ids().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{of_bytes, of_merges, of_pieces, shared};
    use super::*;

    #[test]
    fn no_space_is_put_before_an_answer() {
        let tokenizer = of_pieces("Labels:hapyd01\n", &["h a", "ha p", "▁ s", "▁s a", "▁sa d"]);
        assert_eq!(tokenizer.spellings(&tokenizer.encode_plain("0").unwrap()), ["·", "0"], "alone it has one");
        let after =
            |query: &str, answer: &str| tokenizer.encode_after(query, answer).unwrap().map(|ids| tokenizer.spellings(&ids).join("|"));
        assert_eq!(after("Label:", "0").as_deref(), Some("0"));
        assert_eq!(after("Label:", "hap").as_deref(), Some("hap"));
        assert_eq!(after("Label:", " sad").as_deref(), Some("·sad"));
        assert_eq!(after("Label: ", "sad"), None, "the query's space and the answer are one token");
        assert!(tokenizer.encode_answer("Label: ", "sad").unwrap().1);
        assert_eq!(tokenizer.spellings(&tokenizer.encode_apart("0").unwrap()), ["0"]);
        assert_eq!(tokenizer.spellings(&tokenizer.encode_apart("\n0").unwrap()), ["\\n", "0"]);
    }

    #[test]
    fn what_merges_over_the_border_is_told_and_tokenised_apart() {
        let tokenizer = of_bytes(&[": t"]);
        assert_eq!(tokenizer.encode_after("Label:", "true").unwrap(), None);
        let (ids, merged) = tokenizer.encode_answer("Label:", "true").unwrap();
        assert_eq!((tokenizer.spellings(&ids).join("|").as_str(), merged), ("t|r|u|e", true));
        assert!(!tokenizer.encode_answer("Label:", "false").unwrap().1);
    }

    #[test]
    fn texts_without_tokens_are_errors_and_queries_without_are_not() {
        let tokenizer = of_merges("ab", &[]);
        for text in ["", "?"] {
            assert!(tokenizer.encode_after("a", text).unwrap_err().is_input());
        }
        assert_eq!(tokenizer.encode_after("", "ab").unwrap(), Some(vec![0, 1]));
        assert_eq!(tokenizer.encode_after("?", "ab").unwrap(), Some(vec![0, 1]));
    }

    #[test]
    fn a_real_sentencepiece_vocabulary() {
        let Some(folder) = shared("models/stories260K") else { return };
        let tokenizer = Tokenizer::open(folder).unwrap();
        let after = |answer: &str| tokenizer.spellings(&tokenizer.encode_after("Text: a day\nLabel:", answer).unwrap().unwrap()).join("|");
        assert_eq!((after("0").as_str(), after(" happy").as_str()), ("0", "·happy"));
    }
}
