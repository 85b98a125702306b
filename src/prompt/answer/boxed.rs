//! `\boxed{...}`: the last one of a solution, and one spelling for equal answers.

use super::scan::{closings, whole};
use super::spelling::{plain, vulgar};

/// What opens a box; both occur in MATH.
const OPENINGS: [&str; 2] = ["\\boxed", "\\fbox"];

/// The inside of the last whole box: braces may nest, escaped ones do not count, and a box without braces (`\boxed 2`) holds what follows
/// up to white space or `$`. A box that is cut off by the end of the text is passed over.
pub(super) fn last(text: &str) -> Option<&str> {
    let closing = closings(text.as_bytes());
    let mut places: Vec<usize> = OPENINGS.iter().flat_map(|word| text.match_indices(word).map(|(place, _)| place + word.len())).collect();
    places.sort_unstable();
    places.into_iter().rev().find_map(|place| inside(text, place, &closing))
}

fn inside<'a>(text: &'a str, place: usize, closing: &[usize]) -> Option<&'a str> {
    let rest = text[place..].trim_start();
    let start = text.len() - rest.len();
    if rest.starts_with('{') {
        return Some(closing[start]).filter(|end| *end != usize::MAX).map(|end| &text[start + 1..end]);
    }
    if start == place {
        return None;
    }
    let end = rest.find(|letter: char| letter.is_whitespace() || letter == '$').unwrap_or(rest.len());
    Some(&rest[..end]).filter(|inside| !inside.is_empty())
}

/// `{inside}rest` into its two parts, or `None` when the braces are not closed.
fn braced(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix('{')?;
    let (mut depth, mut escaped) = (1, false);
    for (place, letter) in rest.char_indices() {
        match letter {
            '{' if !escaped => depth += 1,
            '}' if !escaped => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((&rest[..place], &rest[place + 1..]));
        }
        escaped = letter == '\\' && !escaped;
    }
    None
}

/// One spelling for what is equal at sight, after the normalisation published with MATH (Hendrycks et al. 2021): no spaces (`\!`, `\,`,
/// `\ ` and `~` too), no `\left` and `\right`, no degree, dollar and percent signs, no unit in `\text{}` at the end, no final period;
/// `\dfrac`, `\tfrac`, `\frac12` and `1/2` as `\frac{1}{2}`, `\sqrt2` as `\sqrt{2}`, `x=5` as `5`; and a plain number as
/// [`whole`] has it (`1,000`, `1{,}000`, `1\,000` and `1000`; `0.50` and `.5`; full-width digits and `½` as others). Values are not computed: `0.5` is not `\frac{1}{2}`.
pub(super) fn normal(answer: &str) -> String {
    let answer = plain(answer.trim());
    let mut text = String::with_capacity(answer.len());
    for letter in without_unit(&answer).chars() {
        match vulgar(letter) {
            Some((above, below)) => text += &format!("\\frac{{{above}}}{{{below}}}"),
            None => text.push(letter),
        }
    }
    for gone in ["\\!", "\\,", "\\;", "\\:", "\\ ", "~", "^{\\circ}", "^\\circ", "\\$", "$", "\\%", "%"] {
        text = text.replace(gone, "");
    }
    text = text.replace("{,}", ",");
    for fraction in ["\\dfrac", "\\tfrac", "\\cfrac"] {
        text = text.replace(fraction, "\\frac");
    }
    text = without_word(&without_word(&text, "\\left"), "\\right");
    text.retain(|letter| !letter.is_whitespace());
    let text = text.strip_suffix('.').unwrap_or(&text);
    let text = match text.split_once('=') {
        Some((name, value)) if name.chars().count() <= 2 && !value.contains('=') => value,
        _ => text,
    };
    if let Some(value) = whole(text) {
        return value;
    }
    if let Some(fraction) = slashed(text) {
        return fraction;
    }
    bracketed(text)
}

/// `9\text{ values}` without its unit; a text alone (`\text{odd}`) without its wrapping.
fn without_unit(text: &str) -> &str {
    for word in ["\\text", "\\mbox", "\\textrm"] {
        let Some(place) = text.rfind(word) else { continue };
        if let Some((inside, "")) = braced(&text[place + word.len()..]) {
            return if place == 0 { inside.trim() } else { text[..place].trim_end() };
        }
    }
    text
}

/// Without a command of this name; longer names (`\leftarrow`) stay.
fn without_word(text: &str, word: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for (place, part) in text.split(word).enumerate() {
        if place > 0 && part.starts_with(|letter: char| letter.is_ascii_alphabetic()) {
            kept.push_str(word);
        }
        kept.push_str(part);
    }
    kept
}

/// `a/b` of two integers as a fraction.
fn slashed(text: &str) -> Option<String> {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (above, below) = digits.split_once('/')?;
    let integer = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (integer(above) && integer(below)).then(|| format!("{sign}\\frac{{{above}}}{{{below}}}"))
}

/// Every argument of `\frac` and `\sqrt` in braces. Arguments within arguments are kept on a stack of our own: a model may nest thousands.
fn bracketed(text: &str) -> String {
    let commands = [("\\frac", 2), ("\\sqrt", 1)];
    let closing = closings(text.as_bytes());
    let mut kept = String::with_capacity(text.len());
    // Where the arguments under way end, and how many more their commands take.
    let mut open: Vec<(usize, usize)> = Vec::new();
    let (mut place, mut wanted) = (0, 0);
    while let Some(first) = text[place..].chars().next() {
        if wanted > 0 {
            wanted -= 1;
            if first == '{' && closing[place] != usize::MAX {
                open.push((closing[place], wanted));
                (place, wanted) = (place + 1, 0);
                kept.push('{');
            } else if first.is_alphanumeric() {
                kept.extend(['{', first, '}']);
                place += first.len_utf8();
            } else {
                wanted = 0;
            }
        } else if let Some((_, more)) = open.pop_if(|(end, _)| *end == place) {
            kept.push('}');
            (place, wanted) = (place + 1, more);
        } else if let Some((word, arguments)) = commands.iter().find(|(word, _)| text[place..].starts_with(word)) {
            kept.push_str(word);
            (place, wanted) = (place + word.len(), *arguments);
        } else {
            kept.push(first);
            place += first.len_utf8();
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_box_counts() {
        for (text, inside) in [
            ("so $\\boxed{2}$.", Some("2")),
            ("\\boxed{1} or rather \\boxed{\\frac{1}{2}}.", Some("\\frac{1}{2}")),
            ("$\\boxed{\\left\\{1, 2\\right\\}}$", Some("\\left\\{1, 2\\right\\}")),
            ("\\boxed{x^{2^{n}}} holds", Some("x^{2^{n}}")),
            ("\\boxed {7}", Some("7")),
            ("\\boxed 7$ and", Some("7")),
            ("\\fbox{3}", Some("3")),
            ("\\boxed{3} and \\boxed{4", Some("3")),
            ("\\boxed{a\nb}", Some("a\nb")),
            ("\\boxedup", None),
            ("\\boxed", None),
            ("no box", None),
        ] {
            assert_eq!(last(text), inside, "{text}");
        }
    }

    #[test]
    fn braces_close_where_they_open() {
        for (text, parts) in [
            ("{a}b", Some(("a", "b"))),
            ("{a{b}c}d", Some(("a{b}c", "d"))),
            ("{a\\}b}c", Some(("a\\}b", "c"))),
            ("{a\\{b}c", Some(("a\\{b", "c"))),
            ("{a\\\\}b", Some(("a\\\\", "b"))),
            ("{a{b}c", None),
            ("a}", None),
        ] {
            assert_eq!(braced(text), parts, "{text}");
        }
    }

    #[test]
    fn equal_answers_have_one_spelling() {
        for (one, other) in [
            ("\\dfrac{1}{2}", "\\frac12"),
            ("1/2", "\\tfrac 1 2"),
            ("-3/4", "-\\frac{3}{4}"),
            ("\\frac1{72}", "\\frac{1}{72}"),
            ("\\frac{\\sqrt3}{2}", "\\dfrac{\\sqrt{3}}{2}"),
            ("(3, 4)", "\\left(3,4\\right)"),
            ("9\\text{ values}", "9"),
            ("\\text{odd}", "odd"),
            ("1{,}000", "1000"),
            ("1,\\!000", "1,000"),
            ("0.50", ".5"),
            ("72.0", "72"),
            ("x = 5", "5"),
            ("\\$5", "5"),
            ("90^\\circ", "90"),
            ("10\\%", "10"),
            ("16x^2 + 4x+5", "16x^2+4x+5"),
        ] {
            assert_eq!(normal(one), normal(other), "{one} and {other}");
        }
        for (one, other) in [("-5", "5"), ("(1,2)", "(2,1)"), ("1,2", "12"), ("0.5", "\\frac{1}{2}"), ("x \\leftarrow 1", "x1")] {
            assert_ne!(normal(one), normal(other), "{one} and {other}");
        }
    }
}
