//! Letters that a tokenizer cuts into bytes, put together again for readers.

/// What stands for a token that only begins a letter.
const BEGUN: &str = "‥";

/// Tokens in the order of their text, as [`Tokenizer::spelling`](crate::tokenizer::Tokenizer::spelling) spells them (`<0xE4>` for a byte), with each letter of
/// several tokens written in the one that completes it, and `‥` in those before. Bytes that make no letter stay as they are.
pub(super) fn joined(tokens: &[String]) -> Vec<String> {
    let mut out = tokens.to_vec();
    let mut from = 0;
    while from < tokens.len() {
        let run: Vec<Vec<u8>> = tokens[from..].iter().map_while(|token| bytes(token)).collect();
        // The longest beginning of the run that is whole letters.
        let whole = (1..=run.len()).rev().find(|&count| std::str::from_utf8(&run[..count].concat()).is_ok());
        let Some(count) = whole else {
            from += 1;
            continue;
        };
        let mut begun = Vec::new();
        for (place, bytes) in run[..count].iter().enumerate() {
            begun.extend(bytes);
            let end = std::str::from_utf8(&begun).map_or_else(|error| error.valid_up_to(), str::len);
            let text: Vec<u8> = begun.drain(..end).collect();
            out[from + place] = if text.is_empty() { BEGUN.to_owned() } else { String::from_utf8_lossy(&text).into_owned() };
        }
        from += count;
    }
    out
}

/// The bytes of a token that is spelled as such.
fn bytes(token: &str) -> Option<Vec<u8>> {
    let inner = token.strip_prefix("<0x")?.strip_suffix('>')?;
    inner.split("><0x").map(|byte| (byte.len() == 2).then(|| u8::from_str_radix(byte, 16).ok())?).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tokens: &[&str]) -> Vec<String> {
        joined(&tokens.iter().map(|token| (*token).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_letter_stands_where_it_is_complete() {
        // 今 in two tokens, 天 in three; an emoji after its space.
        assert_eq!(of(&["a", "<0xE4><0xBB>", "<0x8A>", "<0xE5>", "<0xA4>", "<0xA9>", "b"]), ["a", "‥", "今", "‥", "‥", "天", "b"]);
        assert_eq!(of(&["<0x20><0xF0><0x9F>", "<0x98><0x80>"]), [" ", "\u{1f600}"]);
        // Two letters in one token, and one that goes on into the next.
        assert_eq!(of(&["<0xE4><0xBB>", "<0x8A><0xE5><0xA4>", "<0xA9>"]), ["‥", "今", "天"]);
    }

    #[test]
    fn what_is_no_letter_stays() {
        for tokens in [["<0x8A>", "x"], ["<0xE4><0xBB>", "<0xE4>"], ["<0xE4><0xBB>", "x"], ["<0xZZ>", "<0x1>"], ["<0x>", "<|im_start|>"]] {
            assert_eq!(of(&tokens), tokens);
        }
        assert_eq!(of(&["<0x8A>", "<0xE4><0xBB>", "<0x8A>", "<0xE4>"]), ["<0x8A>", "‥", "今", "<0xE4>"]);
        // Its square would take minutes.
        assert_eq!(of(&vec!["<0x8A>"; 300]).len(), 300);
    }
}
