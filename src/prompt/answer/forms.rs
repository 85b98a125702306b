//! The forms a number may have besides its digits: powers, times, mixed numbers, quotients.

use super::scan::{FRACTIONS, Scan, is_word};
use super::spelling::{divided, reduced, shifted, vulgar};

const SUPERSCRIPTS: &str = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/// Words for powers of ten.
const SCALES: [(&str, i32); 4] = [("thousand", 3), ("million", 6), ("billion", 9), ("trillion", 12)];

impl Scan<'_> {
    /// The number that begins at `place` and where it ends; no value where it is a part of what digits alone do not spell.
    pub(super) fn number(&self, place: usize) -> (usize, Option<String>) {
        if let Some((above, below)) = self.at(place).and_then(vulgar) {
            return (place + 1, Some(reduced(above, below)));
        }
        let Some((end, value)) = self.digits(place) else { return (place + 1, None) };
        let integer = value.bytes().all(|byte| byte.is_ascii_digit());
        if let Some((end, value)) = self.scientific(end, &value) {
            return (end, Some(value));
        }
        if let Some((end, value)) = self.scaled(end, &value) {
            return (end, Some(value));
        }
        if let Some(power) = self.power(end, &value) {
            return power;
        }
        if integer && end == self.run(place) && self.at(end) == Some(':') && self.digit(end + 1) {
            return self.time(end, value);
        }
        if integer && let Some((end, value)) = self.mixed(end, &value) {
            return (end, Some(value));
        }
        let bar = self.spaces(end);
        if self.at(bar) == Some('/')
            && let Some((last, below)) = self.digits(self.spaces(bar + 1))
        {
            // A date is no quotient.
            if self.at(last) == Some('/') && self.digit(last + 1) {
                let end = self.run(last + 1);
                return (end, Some(self.text(place, end)));
            }
            return (last, Some(divided(&value, &below)));
        }
        (end, Some(value))
    }

    /// `1.5e3`, `1.5 x 10^3`, `1.5 \times 10^{3}`.
    fn scientific(&self, end: usize, mantissa: &str) -> Option<(usize, String)> {
        let exponent = |from: usize| {
            let minus = self.at(from) == Some('-');
            let digits = from + usize::from(minus || self.at(from) == Some('+'));
            let last = self.run(digits);
            let value = self.text(digits, last).parse::<i32>().ok().map(|value| if minus { -value } else { value });
            value.map(|value| (last, value))
        };
        if matches!(self.at(end), Some('e' | 'E')) {
            let (last, power) = exponent(end + 1)?;
            return (!self.at(last).is_some_and(is_word)).then(|| (last, shifted(mantissa, power)));
        }
        let at = self.spaces(end);
        let times = ["x", "×", "\\times", "\\cdot", "·", "*"].iter().find_map(|times| self.follows(at, times))?;
        let ten = self.follows(self.spaces(times), "10")?;
        if let Some((last, power)) = self.superscript(ten) {
            return Some((last, shifted(mantissa, power)));
        }
        let from = self.follows(ten, "^")?;
        let (inside, braced) = if self.at(from) == Some('{') { (from + 1, true) } else { (from, false) };
        let (last, power) = exponent(inside)?;
        match braced {
            true => (self.at(last) == Some('}')).then(|| (last + 1, shifted(mantissa, power))),
            false => Some((last, shifted(mantissa, power))),
        }
    }

    /// `1.5 million`.
    fn scaled(&self, end: usize, value: &str) -> Option<(usize, String)> {
        let word: String = self.chars[self.spaces(end)..].iter().take(10).collect::<String>().to_lowercase();
        let ends = |rest: &str| !rest.strip_prefix('s').unwrap_or(rest).starts_with(is_word);
        let (name, power) = SCALES.iter().find(|(name, _)| word.strip_prefix(name).is_some_and(ends))?;
        Some((self.spaces(end) + name.len(), shifted(value, *power)))
    }

    fn superscript(&self, place: usize) -> Option<(usize, i32)> {
        let minus = self.at(place) == Some('⁻');
        let (mut at, mut digits) = (place + usize::from(minus), String::new());
        while let Some(digit) = SUPERSCRIPTS.chars().position(|power| self.at(at) == Some(power)) {
            digits += &digit.to_string();
            at += 1;
        }
        let value: i32 = digits.parse().ok()?;
        Some((at, if minus { -value } else { value }))
    }

    /// `10^3` of integers, computed where it can be: a power is never its base. No value where the exponent is none; an ordinal (`5^{th}`) and
    /// a degree sign raise nothing.
    fn power(&self, end: usize, base: &str) -> Option<(usize, Option<String>)> {
        let computed = |exponent: i32| match (base.parse::<u128>(), u32::try_from(exponent)) {
            (Ok(base), Ok(power)) if base.checked_pow(power).is_some() => base.pow(power).to_string(),
            _ if base == "10" => shifted("1", exponent),
            _ => format!("{base}^{exponent}"),
        };
        if let Some((last, exponent)) = self.superscript(end) {
            return Some((last, Some(computed(exponent))));
        }
        if self.at(end) != Some('^') || self.follows(end, "^\\circ").or(self.follows(end, "^{\\circ}")).is_some() {
            return None;
        }
        let last = self.raised(end + 1);
        let exponent = self.text(end + 1, last);
        let exponent = exponent.trim_matches(['{', '}', ' ']);
        let ordinal = ["th", "st", "nd", "rd"].iter().any(|ordinal| exponent.trim_start_matches("\\text{") == *ordinal);
        (!ordinal).then(|| (last, exponent.parse().ok().map(computed)))
    }

    /// `7:30`, and what says which half of the day.
    fn time(&self, end: usize, hours: String) -> (usize, Option<String>) {
        let (mut at, mut value) = (end, hours);
        while self.at(at) == Some(':') && self.digit(at + 1) {
            let last = self.run(at + 1);
            value += &self.text(at, last);
            at = last;
        }
        let half = self.spaces(at);
        let letters: String = self.chars[half..].iter().take(5).map(char::to_ascii_lowercase).collect();
        for said in ["am", "pm", "a.m.", "p.m."] {
            if letters.strip_prefix(said).is_some_and(|rest| !rest.starts_with(is_word)) {
                return (half + said.len(), Some(value + &said.replace('.', "")));
            }
        }
        (at, Some(value))
    }

    /// `2½`, `2 1/2`, `2\frac{1}{2}` as one fraction. The fraction of a mixed number is below one: nobody writes three as `2 3/3`, so these are two
    /// numbers, 2 and the quotient.
    fn mixed(&self, end: usize, whole: &str) -> Option<(usize, String)> {
        let at = self.spaces(end);
        let whole: u128 = whole.parse().ok()?;
        let joined = |above: u128, below: u128| {
            (below > above).then(|| whole.checked_mul(below)?.checked_add(above).map(|above| reduced(above, below))).flatten()
        };
        if let Some((above, below)) = self.at(at).and_then(vulgar) {
            return Some((at + 1, joined(above, below)?));
        }
        let integers = |above: (usize, usize), below: (usize, usize)| -> Option<(u128, u128)> {
            Some((self.filled(above.0, above.1)?.parse().ok()?, self.filled(below.0, below.1)?.parse().ok()?))
        };
        if let Some(name) = FRACTIONS.iter().find_map(|name| self.follows(at, &format!("\\{name}"))) {
            let (from, to, after) = self.argument(name)?;
            let (below, last, next) = self.argument(after)?;
            let (above, below) = integers((from, to), (below, last))?;
            return Some((next, joined(above, below)?));
        }
        let bar = self.run(at);
        if at == end || bar == at || self.at(bar) != Some('/') || !self.digit(bar + 1) {
            return None;
        }
        let last = self.run(bar + 1);
        let (above, below) = integers((at, bar), (bar + 1, last))?;
        Some((last, joined(above, below)?))
    }
}
