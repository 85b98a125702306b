//! How the authors' code reads answers (aamixsh/ia2 at 8fee5ab, `utils.py`), for [`Compat::Paper`](crate::compat::Compat::Paper).

/// Words after which they take a number for an answer (with or without what follows: `miles`, `GB/minute`), in lower case.
const UNITS: [&str; 15] = [
    "mile",
    "meter",
    "hour",
    "minute",
    "bolt",
    "glasse",
    "vacuum cleaner",
    "sheep",
    "egg",
    "cup",
    "download",
    "year",
    "week",
    "dollar",
    "gb",
];

/// What must stand between a pattern's word and the answer, which is the rest of that line.
#[derive(Clone, Copy, PartialEq)]
enum Gap {
    Any,
    Some,
}

/// Their patterns of a word and the rest of its line, in their order, in lower case: any case matches.
const WORDS: [(&str, Gap); 6] = [
    ("####", Gap::Any),
    ("answer:", Gap::Any),
    ("the answer is", Gap::Any),
    ("answer is", Gap::Any),
    ("answer", Gap::Some),
    ("the best answer is:", Gap::Any),
];

/// `parse_answer_gsm8k`: the last match of the first pattern that matches, then the first number in it without its sign; without a match
/// the last number of the text that is no year (1900 to 2100) and not between 0 and 1; without that the text itself.
pub(super) fn number(text: &str) -> String {
    let text = text.replace("<|eot_id|>", "");
    let text = text.trim();
    match matched(text) {
        Some(found) => cleaned(&found),
        None => plausible(text).unwrap_or_else(|| text.to_owned()),
    }
}

/// `parse_answer_boxed`: from the first box that is closed on its line to that line's last `}`; spaces removed, `\dfrac` as `\frac`.
pub(super) fn boxed(text: &str) -> Option<String> {
    // If nothing closes a line's first box, nothing closes its later ones.
    let inside = text.split('\n').find_map(|line| {
        let (_, rest) = line.split_once("\\boxed{")?;
        rest.rfind('}').map(|end| &rest[..end])
    });
    inside.map(|inside| inside.replace(' ', "").replace("\\dfrac{", "\\frac{"))
}

/// `parse_answer_sciqa`: what follows the last marker to the very end, or everything.
pub(super) fn after(text: &str, marker: &str) -> String {
    text.split(marker).last().unwrap_or_default().trim().to_owned()
}

fn matched(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    in_box(text, &lower)
        .or_else(|| WORDS.iter().find_map(|(word, gap)| rest_of_line(text, &lower, word, *gap)))
        .or_else(|| after_dollar(text))
        .or_else(|| before_unit(text, &lower))
}

/// The last match of `\\boxed\{([^}]+)\}`; matches do not overlap.
fn in_box(text: &str, lower: &str) -> Option<String> {
    let (mut from, mut last) = (0, None);
    while let Some(place) = lower[from..].find("\\boxed{").map(|place| from + place + "\\boxed{".len()) {
        match text[place..].find('}') {
            None => break,
            Some(0) => from = place,
            Some(length) => {
                last = Some(text[place..place + length].to_owned());
                from = place + length;
            }
        }
    }
    last
}

/// The last match of a word, white space, and the rest of the line; matches do not overlap.
fn rest_of_line(text: &str, lower: &str, word: &str, gap: Gap) -> Option<String> {
    let (mut from, mut last) = (0, None);
    while let Some(place) = lower[from..].find(word).map(|place| from + place + word.len()) {
        let rest = text[place..].trim_start();
        let start = text.len() - rest.len();
        // Without its gap before the line is read: a line may hold the word thousands of times.
        let line = if gap == Gap::Some && start == place { "" } else { rest.split('\n').next().unwrap_or_default() };
        if line.is_empty() {
            from = place;
            continue;
        }
        last = Some(line.to_owned());
        from = start + line.len();
    }
    last
}

fn after_dollar(text: &str) -> Option<String> {
    text.match_indices('$').filter_map(|(place, _)| leading(text[place + 1..].trim_start())).next_back()
}

/// The last number that one of the words for things follows.
fn before_unit(text: &str, lower: &str) -> Option<String> {
    let (mut from, mut last) = (0, None);
    while from < text.len() {
        let number = text.is_char_boundary(from).then(|| leading(&text[from..])).flatten();
        // What begins within the same digits ends where they end.
        let digits = text.as_bytes()[from..].iter().take_while(|byte| byte.is_ascii_digit() || **byte == b',').count();
        let number = number.filter(|number| UNITS.iter().any(|unit| lower[from + number.len()..].trim_start().starts_with(unit)));
        from += number.as_ref().map_or(digits.max(1), String::len);
        last = number.or(last);
    }
    last
}

/// `[0-9,]+(\.[0-9]+)?` at the beginning.
fn leading(text: &str) -> Option<String> {
    let whole = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b',').count();
    if whole == 0 {
        return None;
    }
    let decimals = text[whole..].strip_prefix('.').map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    Some(text[..whole + if decimals > 0 { decimals + 1 } else { 0 }].to_owned())
}

/// All matches of that pattern with their places.
fn numbers(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(place) = text[from..].find(|letter: char| letter.is_ascii_digit() || letter == ',').map(|place| from + place) {
        let Some(number) = leading(&text[place..]) else { break };
        from = place + number.len();
        found.push((place, number));
    }
    found
}

/// Their clean-up of a match, then its first number.
fn cleaned(found: &str) -> String {
    let mut answer = found.trim();
    answer = answer.strip_prefix('$').unwrap_or(answer);
    answer = answer.trim_start().strip_prefix(':').map_or(answer, str::trim_start);
    answer = answer.trim_start().strip_prefix("\\boxed{").unwrap_or(answer);
    answer = answer.trim_end().strip_suffix('}').unwrap_or(answer);
    answer = answer.trim_end().strip_suffix(['.', ',']).unwrap_or(answer);
    let number = numbers(answer).into_iter().next().and_then(|(_, number)| value(&number));
    number.map_or_else(|| answer.to_owned(), spelled)
}

fn value(number: &str) -> Option<f64> {
    number.replace(',', "").parse().ok()
}

/// As Python's `str` spells a float, integers without their point: `5e-05` below 0.0001.
fn spelled(value: f64) -> String {
    if value.fract() == 0.0 {
        return format!("{value:.0}");
    }
    let scientific = format!("{value:e}");
    match scientific.split_once("e-") {
        Some((digits, power)) if value.abs() < 1e-4 => format!("{digits}e-{power:0>2}"),
        _ => value.to_string(),
    }
}

fn is_answer(value: &f64) -> bool {
    let year = (1900.0..=2100.0).contains(value) && value.fract() == 0.0;
    !(year || *value > 0.0 && *value < 1.0)
}

/// Their fallbacks: the last plausible number between word borders; else the last number of a short line without a question mark.
fn plausible(text: &str) -> Option<String> {
    let bordered = bordered(text).iter().rev().filter_map(|number| value(number)).find(is_answer);
    let lines = || text.split('\n').map(str::trim).filter(|line| !line.is_empty() && line.chars().count() <= 200 && !line.contains('?'));
    let lines = || lines().rev().filter_map(|line| numbers(line).pop().and_then(|(_, number)| value(&number))).find(is_answer);
    bordered.or_else(lines).map(spelled)
}

/// All matches of `\b[0-9,]+(\.[0-9]+)?\b`, found as a backtracking matcher finds them.
fn bordered(text: &str) -> Vec<String> {
    let word = |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    let border = |place: usize| word(text[..place].chars().next_back()) != word(text[place..].chars().next());
    let mut found = Vec::new();
    let mut from = 0;
    while from < text.len() {
        // First the border: a long run of digits would be read again from each of them.
        let Some(longest) = (text.is_char_boundary(from) && border(from)).then(|| leading(&text[from..])).flatten() else {
            from += 1;
            continue;
        };
        // Shorter and shorter, but never with a bare point at the end.
        let end = (1..=longest.len()).rev().find(|&length| !longest[..length].ends_with('.') && border(from + length));
        match end {
            Some(length) => {
                found.push(longest[..length].to_owned());
                from += length;
            }
            None => from += 1,
        }
    }
    found
}
