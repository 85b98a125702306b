//! Numbers in text: where a response's number stands, and one spelling for equal numbers.

use super::boxed;

/// What announces an answer in a sentence.
const ANNOUNCED: [&str; 2] = ["answer is", "answer:"];

/// The number a response answers, in its one spelling, or `None`. The first of these that is there decides:
///
/// 1. the line after the last `####` (the form the tasks teach): its first number;
/// 2. the last `\boxed{...}`: its first number;
/// 3. the rest of the line after the last `answer is` or `answer:`, in any case: its first number;
/// 4. the last number of all.
pub(super) fn read(text: &str) -> Option<String> {
    if let Some((_, rest)) = text.rsplit_once("####") {
        return numbers(line(rest.trim_start())).into_iter().next();
    }
    if let Some(inside) = boxed::last(text) {
        return numbers(inside).into_iter().next();
    }
    // ASCII only, so that byte offsets stay those of `text`.
    let lower = text.to_ascii_lowercase();
    let announced = ANNOUNCED.iter().filter_map(|words| lower.rfind(words).map(|place| place + words.len())).max();
    let announced = announced.and_then(|place| numbers(line(text[place..].trim_start())).into_iter().next());
    announced.or_else(|| numbers(text).pop())
}

fn line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// All numbers in order, each in its one spelling: see [`canonical`]. Digits that follow a letter (`x2`) are no number, and a minus
/// is a sign unless something stands before it that it could be taken from (`10-5`).
fn numbers(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut place = 0;
    while place < chars.len() {
        let begins = chars[place].is_ascii_digit() || chars[place] == '.' && digit(&chars, place + 1);
        if !begins {
            place += 1;
            continue;
        }
        let end = end(&chars, place);
        let wordy = place > 0 && (chars[place - 1].is_alphanumeric() || chars[place - 1] == '_');
        if !wordy {
            let digits: String = chars[place..end].iter().collect();
            let mut value = canonical(&digits);
            if negative(&chars[..place]) && value != "0" {
                value.insert(0, '-');
            }
            found.push(value);
        }
        place = end;
    }
    found
}

fn digit(chars: &[char], place: usize) -> bool {
    chars.get(place).is_some_and(char::is_ascii_digit)
}

/// Where the number that begins at `place` ends: digits, thousands in groups of three, decimals, and `/` with a second number.
fn end(chars: &[char], place: usize) -> usize {
    let run = |mut at: usize| {
        while digit(chars, at) {
            at += 1;
        }
        at
    };
    let mut at = run(place);
    if at - place <= 3 {
        while chars.get(at) == Some(&',') && run(at + 1) == at + 4 {
            at += 4;
        }
    }
    if chars.get(at) == Some(&'.') && digit(chars, at + 1) {
        at = run(at + 1);
    }
    if chars.get(at) == Some(&'/') && digit(chars, at + 1) {
        at = run(at + 1);
    }
    at
}

/// True if a minus belongs to the number after `before`: `-5`, `-$5`, `$-5`, `(-5)`, `=-5`, but not `10-5` or `a-5`.
fn negative(before: &[char]) -> bool {
    let money = |letter: &&char| matches!(letter, '$' | '€' | '£');
    let mut back = before.iter().rev().skip_while(money);
    matches!(back.next(), Some('-' | '−'))
        && back.find(|letter| !money(letter)).is_none_or(|letter| !letter.is_alphanumeric() && *letter != ')')
}

/// One spelling for equal numbers: no thousands separators, no leading zeros, no trailing zeros of decimals (`072`, `72.0` and `72`;
/// `1,080` and `1080`; `.5` and `0.50`). As text, so that no digit is lost. A fraction keeps its bar (`3/4`): it is not its numerator.
pub(super) fn canonical(digits: &str) -> String {
    if let Some((above, below)) = digits.split_once('/') {
        return format!("{}/{}", canonical(above), canonical(below));
    }
    let plain = digits.replace(',', "");
    let (whole, decimals) = plain.split_once('.').unwrap_or((&plain, ""));
    let (whole, decimals) = (whole.trim_start_matches('0'), decimals.trim_end_matches('0'));
    let whole = if whole.is_empty() { "0" } else { whole };
    if decimals.is_empty() { whole.into() } else { format!("{whole}.{decimals}") }
}

/// The one spelling of a text that is a number from end to end, or `None`.
pub(super) fn whole(text: &str) -> Option<String> {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let chars: Vec<char> = digits.chars().collect();
    let begins = digit(&chars, 0) || chars.first() == Some(&'.') && digit(&chars, 1);
    (begins && !digits.contains('/') && end(&chars, 0) == chars.len())
        .then(|| canonical(digits))
        .map(|value| if value == "0" { value } else { format!("{sign}{value}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_have_one_spelling() {
        for (text, value) in [
            ("72", "72"),
            ("72.0", "72"),
            ("072", "72"),
            ("72,000", "72000"),
            ("1,080.50", "1080.5"),
            (".5", "0.5"),
            ("0.50", "0.5"),
            ("-0", "0"),
            ("-72", "-72"),
            ("-$5", "-5"),
            ("$-5", "-5"),
            ("−5", "-5"),
            ("(-5)", "-5"),
            ("x=-5", "-5"),
            ("3/4", "3/4"),
            ("50%", "50"),
            ("5kg", "5"),
            ("18.", "18"),
            ("12345678901234567890", "12345678901234567890"),
        ] {
            assert_eq!(numbers(text), [value], "{text}");
        }
        assert_eq!(numbers("10-5 = 5, 1, 2"), ["10", "5", "5", "1", "2"]);
        assert_eq!(numbers("1,00 and 1,0000"), ["1", "0", "1", "0"], "no groups of three");
        assert_eq!(numbers("12,345,67"), ["12345", "67"]);
        assert!(numbers("H2O x_2").is_empty());
    }

    #[test]
    fn the_first_place_that_is_there_decides() {
        for (text, value) in [
            ("48/2 = <<48/2=24>>24 clips.\n#### 72", Some("72")),
            ("#### 1\nno, #### -1,080 dollars", Some("-1080")),
            ("####\n72 apples", Some("72")),
            ("\\boxed{5} and then #### 7", Some("7")),
            ("so \\boxed{\\frac{1}{2}} or \\boxed{-12} of 30", Some("-12")),
            ("The answer is $1,250. That is 3 more", Some("1250")),
            ("ANSWER: 3 of 4", Some("3")),
            ("3 apples and 4 pears make 7.", Some("7")),
            ("#### none of the 3", Some("3")),
            ("#### none", None),
            ("no number", None),
            ("", None),
        ] {
            assert_eq!(read(text).as_deref(), value, "{text}");
        }
    }

    #[test]
    fn a_whole_number_is_nothing_else() {
        assert_eq!(whole("1,000").as_deref(), Some("1000"));
        assert_eq!(whole("-0.50").as_deref(), Some("-0.5"));
        for text in ["", "-", "1,2", "(1,000)", "3/4", "x", "1.", "1e5"] {
            assert_eq!(whole(text), None, "{text}");
        }
    }
}
