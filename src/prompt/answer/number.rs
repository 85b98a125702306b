//! Where a response's number stands.

use super::boxed;
use super::scan::{Number, numbers};
use super::spelling::plain;

/// What announces an answer in a sentence, after `answer` (`**Answer:**` and `**Answer**:` alike).
const ANNOUNCED: [&str; 5] = ["is", ":", "=", "would be", "equals"];
/// What the form the tasks teach puts before the answer.
const MARKER: &str = "####";
/// Words of a heading under which an answer stands.
const HEADINGS: [&str; 5] = ["answer", "result", "conclusion", "solution", "final"];
/// Words that, with a number, make a heading of one of several parts.
const PARTS: [&str; 10] = ["step", "part", "case", "phase", "stage", "method", "approach", "option", "problem", "question"];
/// Words that end a calculation: what follows them is another thought.
const THOUGHTS: [&str; 14] = ["because", "since", "so", "and", "or", "but", "which", "that", "if", "when", "where", "thus", "for", "with"];
/// Words that a calculation has between its numbers: units, `times`.
const WORDS: usize = 3;

/// The number a response answers, in its one spelling, or `None`. The first of these that is there decides:
///
/// 1. the line after the last `####` (the form the tasks teach), or what stands under it where that line is a heading;
/// 2. the last `\boxed{...}`;
/// 3. the rest of the line after the last `answer is` or `answer:`, or the line below a heading `Answer`;
/// 4. the last number of all.
///
/// Where the number is a part of a calculation (`8 - 3 = 5`), what the calculation comes to counts; of other numbers the first.
pub(super) fn read(text: &str) -> Option<String> {
    let text = plain(text);
    // From the last marker to the first; a section ends where the next begins.
    let mut end = text.len();
    for (place, marker) in text.rmatch_indices(MARKER) {
        let section = text[place + marker.len()..end].trim_start();
        end = place;
        let (line, below) = section.split_once('\n').unwrap_or((section, ""));
        if is_part(line) {
            continue;
        }
        if let Some(value) = answered(line, true) {
            return Some(value);
        }
        if names_an_answer(line) {
            return in_box(below).or_else(|| announced(below)).or_else(|| below.lines().find_map(|line| answered(line, false)));
        }
        // A line that says there is no answer, or the heading of what is none.
        if below.trim().is_empty() {
            return None;
        }
    }
    if boxed::last(&text).is_some() {
        return in_box(&text);
    }
    announced(&text).or_else(|| last(&text))
}

fn in_box(text: &str) -> Option<String> {
    boxed::last(text).and_then(|inside| answered(inside, true))
}

/// `Step 2: multiply`, but not `2 steps`.
fn is_part(line: &str) -> bool {
    let line = line.trim_start_matches(['#', '*', '_', ' ']).to_ascii_lowercase();
    PARTS.iter().any(|word| line.strip_prefix(word).is_some_and(|rest| rest.starts_with([' ', ':', '#'])))
}

fn names_an_answer(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    HEADINGS.iter().any(|word| line.contains(word))
}

/// A line with no word but those of a heading: `## Final answer`, `**Answer:**`.
fn is_heading(line: &str) -> bool {
    let words = line.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    let (mut answer, mut other) = (false, false);
    for word in words.map(str::to_ascii_lowercase) {
        answer |= word == "answer";
        other |= !["answer", "final", "the"].contains(&word.as_str());
    }
    answer && !other
}

/// What stands after the last announcement that a number follows.
fn announced(text: &str) -> Option<String> {
    // ASCII only, so that byte offsets stay those of `text`.
    let lower = text.to_ascii_lowercase();
    let announcement = |(place, word): (usize, &str)| {
        let rest = lower[place + word.len()..].trim_start_matches(['*', '_', '`', ' ']);
        // No beginning of a longer word.
        let whole = |said: &str| !said.ends_with(char::is_alphabetic) || !rest[said.len()..].starts_with(char::is_alphabetic);
        let said = ANNOUNCED.iter().find(|said| rest.starts_with(**said) && whole(said))?;
        Some(lower.len() - rest.len() + said.len())
    };
    let mut places: Vec<usize> = lower.match_indices("answer").filter_map(announcement).collect();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        start += line.len();
        if is_heading(line) {
            places.push(start);
        }
    }
    places.sort_unstable();
    places.dedup();
    let mut end = text.len();
    for place in places.into_iter().rev() {
        let rest = &text[place..end];
        end = place;
        let (line, below) = rest.split_once('\n').unwrap_or((rest, ""));
        let value = match line.contains(char::is_alphanumeric) {
            true => answered(line, true),
            // The number stands apart: `$$`, `\[` and the like may stand before it.
            false => below.lines().find(|line| line.contains(char::is_alphanumeric)).and_then(|line| answered(line, false)),
        };
        if value.is_some() {
            return value;
        }
    }
    None
}

/// The last number of all; what the calculation it is part of comes to.
fn last(text: &str) -> Option<String> {
    let letters: Vec<char> = text.chars().collect();
    let found = numbers(text, false);
    let mut begin = found.len().checked_sub(1)?;
    while begin > 0 && gap(&letters[found[begin - 1].end..found[begin].start]) != Gap::Apart {
        begin -= 1;
    }
    let calculation = &found[begin..];
    result(calculation, &letters).or(calculation.last()).map(|number| number.value.clone())
}

/// The number that a piece of text answers. `here`: nothing stands before it on its line, so that `- 5` is no item of a list.
fn answered(text: &str, here: bool) -> Option<String> {
    let text = if here { format!("({text}") } else { text.to_owned() };
    let letters: Vec<char> = text.chars().collect();
    let found = numbers(&text, true);
    let joined = found.windows(2).take_while(|pair| gap(&letters[pair[0].end..pair[1].start]) != Gap::Apart).count();
    let calculation = found.get(..=joined)?;
    result(calculation, &letters).or(calculation.first()).map(|number| number.value.clone())
}

/// The last side of an equation that is one number.
fn result<'a>(calculation: &'a [Number], letters: &[char]) -> Option<&'a Number> {
    let equals = |place: usize| gap(&letters[calculation[place - 1].end..calculation[place].start]) == Gap::Equals;
    let ends: Vec<usize> = (1..calculation.len()).filter(|place| equals(*place)).collect();
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let sides: Vec<(usize, usize)> = starts.zip(ends.iter().copied().chain([calculation.len()])).collect();
    if sides.len() < 2 {
        return None;
    }
    sides.iter().rev().find(|(from, to)| to - from == 1).map(|(from, _)| &calculation[*from])
}

/// What stands between two numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Gap {
    Equals,
    Operator,
    Apart,
}

fn gap(letters: &[char]) -> Gap {
    let (mut equals, mut operator, mut words, mut place) = (false, false, 0, 0);
    while let Some(&letter) = letters.get(place) {
        place += 1;
        match letter {
            '=' | '≈' | '≃' | '≅' => equals = true,
            '+' | '-' | '*' | '/' | '×' | '·' | '÷' => operator = true,
            '.' | ',' | ';' | ':' | '?' | '!' | '\n' => return Gap::Apart,
            _ if letter.is_alphabetic() => {
                let command = place > 1 && letters[place - 2] == '\\';
                let start = place - 1;
                while letters.get(place).is_some_and(|letter| letter.is_alphabetic()) {
                    place += 1;
                }
                let word: String = letters[start..place].iter().collect::<String>().to_lowercase();
                match word.as_str() {
                    "equals" | "equal" | "approx" => equals = true,
                    "times" | "plus" | "minus" | "divided" | "multiplied" | "cdot" | "div" | "x" => operator = true,
                    word if THOUGHTS.contains(&word) => return Gap::Apart,
                    _ if command => {}
                    _ => words += 1,
                }
                if words > WORDS {
                    return Gap::Apart;
                }
            }
            _ => {}
        }
    }
    match (equals, operator) {
        (true, _) => Gap::Equals,
        (false, true) => Gap::Operator,
        (false, false) => Gap::Apart,
    }
}

#[cfg(test)]
mod tests;
