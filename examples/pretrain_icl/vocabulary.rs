//! The vocabulary: every word of the world is one token; any other text falls back to bytes.

use std::collections::HashMap;

use crate::lexicon::{ASPECTS, GLUE, LABELS, MARKS, groups};

pub const PAD: u16 = 0;
pub const BOS: u16 = 1;
pub const EOS: u16 = 2;
pub const SPECIALS: [&str; 3] = ["<|pad|>", "<|bos|>", "<|eos|>"];

/// How a text is cut before it is looked up: a heading with its line break, letters, one digit, marks, line breaks, blanks.
pub const PATTERN: &str = r"\n?\p{Lu}\p{Ll}+:| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|[\r\n]+|\s+";

pub struct Vocabulary {
    /// Token texts by id (specials and byte symbols included), plain text, not byte-level spelling.
    pub tokens: Vec<String>,
    ids: HashMap<String, u16>,
}

impl Vocabulary {
    /// The vocabulary of the world, padded to a multiple of 8 by nothing: what is not here is bytes.
    pub fn of_the_world() -> Self {
        let mut texts: Vec<String> = MARKS.iter().map(|s| s.to_string()).collect();
        for word in GLUE.split(' ') {
            texts.extend([word.to_string(), format!(" {word}")]);
        }
        for label in LABELS.split_whitespace().chain(["yes", "no"]) {
            texts.push(label.to_string());
        }
        texts.extend((0..10).map(|d| format!(" {d}")));
        for aspect in ASPECTS {
            for group in groups(aspect) {
                texts.extend([group.name.to_string(), format!(" {}", group.name)]);
                for wording in group.wordings {
                    texts.extend(wording.split(' ').map(|w| format!(" {w}")));
                }
            }
        }
        let mut tokens: Vec<String> = SPECIALS.iter().map(|s| s.to_string()).collect();
        let mut ids = HashMap::new();
        let first = tokens.len() + 256;
        tokens.extend((0..256).map(|b| format!("<byte {b}>")));
        for text in texts {
            // single ASCII characters are byte symbols already
            let id = if text.len() == 1 { 3 + text.as_bytes()[0] as u16 } else { tokens.len() as u16 };
            let old = ids.insert(text.clone(), id);
            assert!(old.is_none(), "{text:?} is in the lexicon twice");
            if id as usize >= first {
                tokens.push(text);
            }
        }
        Vocabulary { tokens, ids }
    }

    /// The id of a text that is one token.
    pub fn id(&self, text: &str) -> u16 {
        *self.ids.get(text).unwrap_or_else(|| panic!("{text:?} is not in the lexicon"))
    }

    /// The ids of a text made of lexicon words, without specials.
    pub fn encode(&self, text: &str) -> Vec<u16> {
        pieces(text).into_iter().map(|p| self.id(p)).collect()
    }

    pub fn decode(&self, ids: &[u16]) -> String {
        ids.iter()
            .map(|&i| match i {
                3..=258 => ((i - 3) as u8 as char).to_string(),
                _ => self.tokens[i as usize].clone(),
            })
            .collect()
    }
}

/// Cuts a text as `PATTERN` does (ASCII only, which is all the generator writes).
pub fn pieces(text: &str) -> Vec<&str> {
    let b = text.as_bytes();
    let run = |from: usize, f: &dyn Fn(u8) -> bool| b[from..].iter().take_while(|&&c| f(c)).count();
    let mark = |c: u8| !c.is_ascii_alphanumeric() && !c.is_ascii_whitespace();
    let (mut at, mut out) = (0, Vec::new());
    while at < b.len() {
        let line = usize::from(b[at] == b'\n');
        let blank = usize::from(b[at] == b' ');
        let capital = b.get(at + line).is_some_and(u8::is_ascii_uppercase);
        let low = if capital { run(at + line + 1, &|c| c.is_ascii_lowercase()) } else { 0 };
        let end = at + line + 1 + low;
        let len = if low > 0 && b.get(end) == Some(&b':') {
            end + 1 - at
        } else if run(at + blank, &|c| c.is_ascii_alphabetic()) > 0 {
            blank + run(at + blank, &|c| c.is_ascii_alphabetic())
        } else if b.get(at + blank).is_some_and(u8::is_ascii_digit) {
            blank + 1
        } else if run(at + blank, &mark) > 0 {
            blank + run(at + blank, &mark)
        } else if line == 1 {
            run(at, &|c| c == b'\n')
        } else {
            run(at, &|c| c == b' ')
        };
        out.push(&text[at..at + len]);
        at += len;
    }
    out
}
