//! Numbers in text, one after the other, in the ways people and models write them.

use super::spelling::{canonical, divided, vulgar};

/// A number and where it stands, in letters.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Number {
    pub start: usize,
    pub end: usize,
    /// In its one spelling: see [`canonical`].
    pub value: String,
}

/// What may stand between groups of three digits; all of a number are the same.
const SEPARATORS: [&str; 21] = [
    "{,}\\!",
    "{,}",
    "\\text{,}",
    ",\\!",
    "\\!,",
    ",\\,",
    "{\\,}",
    "\\thinspace ",
    "\\,",
    "\\!",
    "\\;",
    "\\:",
    "\\ ",
    "~",
    ",",
    "'",
    "’",
    "_",
    "\u{a0}",
    "\u{2009}",
    "\u{202f}",
];
pub(super) const FRACTIONS: [&str; 6] = ["frac", "dfrac", "tfrac", "cfrac", "nicefrac", "sfrac"];

/// All numbers of a [`plain`](super::spelling::plain) text in order. Digits that follow a letter (`x2`) or stand in an exponent of one (`x^2`) are no number, and what
/// a root or π multiplies is none that digits could spell. A minus is a sign unless something stands before it that it could be taken
/// from (`10-5`). In the place of an answer spaces part thousands (`spaced`); elsewhere only where nothing else can be meant.
pub(super) fn numbers(text: &str, spaced: bool) -> Vec<Number> {
    let chars: Vec<char> = text.chars().collect();
    let closing = closings(&chars);
    let scan = Scan { chars: &chars, closing: &closing, spaced };
    let mut found: Vec<Number> = Vec::new();
    // After a command such as `\times` a digit follows no letter of a word.
    let (mut place, mut after_command) = (0, usize::MAX);
    while let Some(&letter) = chars.get(place) {
        let wordy = place > 0 && place != after_command && is_word(chars[place - 1]);
        place = match letter {
            '\\' => {
                let next = scan.command(place, &mut found);
                after_command = next;
                next
            }
            '^' => scan.raised(place + 1),
            'π' | '√' => {
                drop_coefficient(&chars, &mut found, place);
                if letter == '√' { scan.argument(place + 1).map_or(place + 1, |(_, _, next)| next) } else { place + 1 }
            }
            _ if vulgar(letter).is_some() || scan.begins(place) => match scan.number(place) {
                (end, Some(value)) if !wordy || vulgar(letter).is_some() => {
                    found.push(signed(&chars, place, end, value));
                    end
                }
                (end, _) => end,
            },
            _ => place + 1,
        };
    }
    found
}

/// The place of the bracket that closes the one at each place, or `usize::MAX`; escaped ones do not count.
pub(super) fn closings<T: Copy>(letters: &[T]) -> Vec<usize>
where
    u32: From<T>,
{
    let mut closing = vec![usize::MAX; letters.len()];
    let (mut open, mut escaped) = (Vec::new(), false);
    for (place, letter) in letters.iter().map(|letter| char::from_u32(u32::from(*letter))).enumerate() {
        match letter {
            Some('{') if !escaped => open.push(place),
            Some('}') if !escaped => {
                if let Some(opened) = open.pop() {
                    closing[opened] = place;
                }
            }
            _ => {}
        }
        escaped = letter == Some('\\') && !escaped;
    }
    closing
}

/// Scripts that set no space between words (Chinese, Japanese) put numbers right behind letters.
pub(super) fn is_word(letter: char) -> bool {
    letter == '_' || letter.is_alphanumeric() && letter < '\u{2e80}' && vulgar(letter).is_none()
}

fn signed(chars: &[char], place: usize, end: usize, mut value: String) -> Number {
    if value != "0" && negative(&chars[..place]) {
        value.insert(0, '-');
    }
    Number { start: place, end, value }
}

/// True if a minus belongs to the number after `before`: `-5`, `-$5`, `$-5`, `(-5)`, `=-5`, `= - 5`, `negative 5`, but not `10-5` or `a-5`.
fn negative(before: &[char]) -> bool {
    let money = |letter: &char| matches!(letter, '$' | '€' | '£' | '¥' | '\\');
    let trimmed = |chars: &[char], gone: &dyn Fn(&char) -> bool| chars.len() - chars.iter().rev().take_while(|letter| gone(letter)).count();
    let close = &before[..trimmed(before, &money)];
    let apart = &close[..trimmed(close, &|letter| *letter == ' ')];
    let spaced = apart.len() < close.len();
    if let Some(('-', rest)) = apart.split_last().map(|(last, rest)| (*last, rest)) {
        let rest = &rest[..trimmed(rest, &money)];
        // `- 5` at the beginning of a line is a bullet.
        let rest = if spaced { &rest[..trimmed(rest, &|letter| *letter == ' ')] } else { rest };
        return match rest.last() {
            None => !spaced,
            Some(last) if spaced => matches!(last, '(' | '{' | '='),
            Some(last) => !last.is_alphanumeric() && *last != ')' && *last != '}',
        };
    }
    let word: String = apart[apart.len().saturating_sub("negative".len() + 1)..].iter().collect::<String>().to_ascii_lowercase();
    spaced
        && ["negative", "minus"].iter().any(|sign| word.strip_suffix(sign).is_some_and(|rest| !rest.ends_with(char::is_alphanumeric)))
        && !apart[..apart.len() - 5].iter().rev().find(|letter| **letter != ' ').is_some_and(char::is_ascii_digit)
}

/// `3√2` and `3π` are no 3.
fn drop_coefficient(chars: &[char], found: &mut Vec<Number>, place: usize) {
    if found.last().is_some_and(|last| chars[last.end..place].iter().all(|letter| *letter == ' ')) {
        found.pop();
    }
}

pub(super) struct Scan<'a> {
    pub chars: &'a [char],
    closing: &'a [usize],
    /// Whether spaces part thousands.
    spaced: bool,
}

impl Scan<'_> {
    pub(super) fn at(&self, place: usize) -> Option<char> {
        self.chars.get(place).copied()
    }

    pub(super) fn digit(&self, place: usize) -> bool {
        self.at(place).is_some_and(|letter| letter.is_ascii_digit())
    }

    fn begins(&self, place: usize) -> bool {
        self.digit(place) || self.at(place) == Some('.') && self.digit(place + 1) && !(place > 0 && self.chars[place - 1].is_alphanumeric())
    }

    /// Where the digits from `place` on end.
    pub(super) fn run(&self, mut place: usize) -> usize {
        while self.digit(place) {
            place += 1;
        }
        place
    }

    pub(super) fn spaces(&self, mut place: usize) -> usize {
        while self.at(place) == Some(' ') {
            place += 1;
        }
        place
    }

    pub(super) fn text(&self, from: usize, to: usize) -> String {
        self.chars[from..to].iter().collect()
    }

    pub(super) fn follows(&self, place: usize, text: &str) -> Option<usize> {
        let mut end = place;
        for letter in text.chars() {
            if self.at(end) != Some(letter) {
                return None;
            }
            end += 1;
        }
        Some(end)
    }

    /// An argument of a command: its inside, and what comes after it.
    pub(super) fn argument(&self, place: usize) -> Option<(usize, usize, usize)> {
        let place = self.spaces(place);
        match self.at(place) {
            Some('{') => Some(self.closing[place]).filter(|end| *end != usize::MAX).map(|end| (place + 1, end, end + 1)),
            Some(letter) if letter.is_alphanumeric() => Some((place, place + 1, place + 1)),
            _ => None,
        }
    }

    /// A number that fills a span from end to end, without sign.
    pub(super) fn filled(&self, from: usize, to: usize) -> Option<String> {
        let from = self.spaces(from).min(to);
        if to == from + 1 {
            // `\frac12` has two arguments of one digit.
            return self.digit(from).then(|| canonical(&self.text(from, to)));
        }
        let (end, value) = self.digits(from)?;
        (self.spaces(end).min(to) == to && end <= to).then_some(value)
    }

    /// A command at its backslash: a fraction is a number, or none at all if one of its parts is none; of others the name is passed over.
    fn command(&self, place: usize, found: &mut Vec<Number>) -> usize {
        let mut end = place + 1;
        while self.at(end).is_some_and(|letter| letter.is_ascii_alphabetic()) {
            end += 1;
        }
        let name = self.text(place + 1, end);
        match name.as_str() {
            "" => (place + 2).min(self.chars.len()),
            "pi" => {
                drop_coefficient(self.chars, found, place);
                end
            }
            "sqrt" => {
                drop_coefficient(self.chars, found, place);
                let power = self.at(end) == Some('[');
                let end = if power {
                    self.chars[end..].iter().take(8).position(|letter| *letter == ']').map_or(end, |at| end + at + 1)
                } else {
                    end
                };
                self.argument(end).map_or(end, |(_, _, next)| next)
            }
            name if FRACTIONS.contains(&name) => {
                let Some((above, after)) = self.argument(end).map(|(from, to, next)| ((from, to), next)) else { return end };
                let Some((from, to, next)) = self.argument(after) else { return end };
                if let Some(value) = self.fraction(above, (from, to)) {
                    found.push(value.at(self.chars, place, next));
                }
                next
            }
            _ => end,
        }
    }

    fn fraction(&self, above: (usize, usize), below: (usize, usize)) -> Option<Fraction> {
        let sign = |(from, to): (usize, usize)| match self.at(from) {
            Some('-') => (true, (from + 1, to)),
            _ => (false, (from, to)),
        };
        let ((minus, above), (other, below)) = (sign(above), sign(below));
        let (above, below) = (self.filled(above.0, above.1)?, self.filled(below.0, below.1)?);
        Some(Fraction { minus: minus != other, value: divided(&above, &below) })
    }

    /// Behind a `^`: what is raised there is no number of its own.
    pub(super) fn raised(&self, place: usize) -> usize {
        match self.at(place) {
            Some('{') => Some(self.closing[place]).filter(|end| *end != usize::MAX).map_or(place + 1, |end| end + 1),
            Some('-') => self.run(place + 1),
            Some(letter) if letter.is_ascii_digit() => self.run(place),
            _ => place,
        }
    }

    /// Digits with their separators and decimals, in one spelling.
    pub(super) fn digits(&self, place: usize) -> Option<(usize, String)> {
        if !self.begins(place) {
            return None;
        }
        let mut end = self.run(place);
        let mut whole = self.text(place, end);
        let groups = self.groups(place, end);
        if let Some(groups) = &groups {
            end = groups.0;
            whole.clone_from(&groups.1);
        }
        if let Some((last, more)) = groups.is_none().then(|| self.pointed(place, end)).flatten() {
            return Some((last, canonical(&more)));
        }
        // Where something else than a comma parts thousands, a comma begins decimals (`12 500,75`).
        let comma = groups.is_some()
            && !self.chars[place..end].contains(&',')
            && matches!(self.run(end + 1), last if last > end + 1 && last < end + 4);
        if self.digit(end + 1) && (self.at(end) == Some('.') || comma && self.at(end) == Some(',')) {
            let last = self.run(end + 1);
            whole = format!("{whole}.{}", self.text(end + 1, last));
            end = last;
        }
        Some((end, canonical(&whole)))
    }

    /// Groups of three digits, or the Indian ones of two before the last three (`1,00,000`).
    fn groups(&self, place: usize, end: usize) -> Option<(usize, String)> {
        if end == place || end - place > 3 {
            return None;
        }
        let three = |at: usize| self.run(at) == at + 3;
        let fits = |separator: &&str| self.follows(end, separator).is_some_and(three);
        // Two numbers may stand side by side (`on day 3 120 apples`), but none begins with a zero.
        let spaced = [" "].into_iter().filter(|_| self.spaced || self.at(end + 1) == Some('0'));
        let separator = spaced.chain(SEPARATORS).filter(fits).max_by_key(|separator| separator.len());
        if let Some(separator) = separator {
            let (mut at, mut whole) = (end, self.text(place, end));
            while let Some(next) = self.follows(at, separator).filter(|next| three(*next)) {
                whole += &self.text(next, next + 3);
                at = next + 3;
            }
            return Some((at, whole));
        }
        let (mut at, mut whole) = (end, self.text(place, end));
        while end - place <= 2 && self.at(at) == Some(',') && self.run(at + 1) == at + 3 {
            whole += &self.text(at + 1, at + 3);
            at += 3;
        }
        (at > end && self.at(at) == Some(',') && three(at + 1)).then(|| (at + 4, whole + &self.text(at + 1, at + 4)))
    }

    /// Points between groups, where they can be nothing else: `1.234.567`, `1.234,56`.
    fn pointed(&self, place: usize, end: usize) -> Option<(usize, String)> {
        if end == place || end - place > 3 || self.at(place) == Some('0') {
            return None;
        }
        let (mut at, mut whole, mut groups) = (end, self.text(place, end), 0);
        while self.at(at) == Some('.') && self.run(at + 1) == at + 4 {
            whole += &self.text(at + 1, at + 4);
            (at, groups) = (at + 4, groups + 1);
        }
        let last = if self.at(at) == Some(',') { self.run(at + 1) } else { at };
        let ends = !(matches!(self.at(last), Some('.' | ',')) && self.digit(last + 1));
        match (groups, last.saturating_sub(at + 1)) {
            (1.., 1..=2) if ends => Some((last, format!("{whole}.{}", self.text(at + 1, last)))),
            (2.., _) => Some((at, whole)),
            _ => None,
        }
    }
}

/// A fraction that was set as one.
struct Fraction {
    minus: bool,
    value: String,
}

impl Fraction {
    fn at(self, chars: &[char], start: usize, end: usize) -> Number {
        let number = signed(chars, start, end, self.value);
        let flipped = match (self.minus, number.value.strip_prefix('-')) {
            (false, _) => None,
            (true, Some(positive)) => Some(positive.to_owned()),
            (true, None) if number.value == "0" => None,
            (true, None) => Some(format!("-{}", number.value)),
        };
        Number { value: flipped.unwrap_or(number.value), ..number }
    }
}

/// The one spelling of a text that is a decimal number from end to end, thousands separated by commas or not, or `None`.
pub(super) fn whole(text: &str) -> Option<String> {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let chars: Vec<char> = digits.chars().collect();
    let scan = Scan { chars: &chars, closing: &[], spaced: true };
    let (end, value) = scan.digits(0)?;
    (end == chars.len()).then(|| if value == "0" { value } else { format!("{sign}{value}") })
}
