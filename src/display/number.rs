//! Numbers as people read them: four significant digits, aligned within a column.

/// Significant digits of a shown float.
const DIGITS: i32 = 4;

/// One float on its own: four significant digits, never fewer than its whole part, no trailing zeros.
pub(crate) fn plain(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return special(value);
    }
    let magnitude = value.abs().log10().floor() as i32;
    if !(-4..9).contains(&magnitude) {
        let text = scientific(value);
        return match text.split_once('e') {
            Some((digits, power)) => format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.')),
            None => text,
        };
    }
    let decimals = (DIGITS - 1 - magnitude).max(0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The floats of a column with the same number of decimals, so that they align by eye.
///
/// The largest value gets four significant digits; a value too small to keep two of its own under that is written as a power of ten.
pub(crate) fn column(values: &[Option<f64>]) -> Vec<String> {
    let finite = || values.iter().flatten().copied().filter(|value| value.is_finite());
    let largest = finite().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    let magnitude = if largest > 0.0 { largest.log10().floor() as i32 } else { 0 };
    let whole = finite().all(|value| value.fract() == 0.0);
    let decimals = match magnitude {
        _ if whole && magnitude < 9 => 1,
        // Fractions are read against 1: 0.9167 and 1.0000 belong to one scale.
        _ if (0.1..=1.0).contains(&largest) => 4,
        magnitude => (DIGITS - 1 - magnitude).max(1),
    };
    let one = |value: f64| {
        let lost = value != 0.0 && value.abs() < 10f64.powi(1 - decimals);
        if !value.is_finite() {
            special(value)
        } else if !(-4..9).contains(&magnitude) && value != 0.0 || lost {
            scientific(value)
        } else {
            format!("{value:.0$}", decimals as usize)
        }
    };
    values.iter().map(|value| value.map_or_else(|| "null".to_owned(), one)).collect()
}

fn special(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "inf".to_owned() } else { "-inf".to_owned() }
    } else {
        "0".to_owned()
    }
}

fn scientific(value: f64) -> String {
    format!("{value:.0$e}", DIGITS as usize - 1)
}

/// At most `most` characters on one line, with `…` where text was left out.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    let line: String = text
        .chars()
        .take(most + 1)
        .map(|letter| {
            if letter == '\n' {
                '⏎'
            } else if letter.is_control() {
                ' '
            } else {
                letter
            }
        })
        .collect();
    if line.chars().count() <= most { line } else { line.chars().take(most.saturating_sub(1)).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_float_keeps_four_digits() {
        let values = [0.0, 1.0, 0.916666, 12.3456, 123456.7, 1.5e-7, -0.5, f64::NAN, f64::NEG_INFINITY, 3e12, 0.001234];
        let shown = ["0", "1", "0.9167", "12.35", "123457", "1.5e-7", "-0.5", "NaN", "-inf", "3e12", "0.001234"];
        assert_eq!(values.map(plain), shown);
    }

    #[test]
    fn a_column_aligns() {
        let shown = |values: &[f64]| column(&values.iter().copied().map(Some).collect::<Vec<_>>());
        assert_eq!(shown(&[0.91666, 1.0, 0.05]), ["0.9167", "1.0000", "0.0500"]);
        assert_eq!(shown(&[0.9, 1e-5, 0.0]), ["0.9000", "1.000e-5", "0.0000"]);
        assert_eq!(shown(&[123.456, 2.0]), ["123.5", "2.0"]);
        assert_eq!(shown(&[1.0, 20.0]), ["1.0", "20.0"]);
        assert_eq!(shown(&[2e-6, 1e-6]), ["2.000e-6", "1.000e-6"]);
        assert_eq!(column(&[None, Some(f64::NAN), Some(0.5)]), ["null", "NaN", "0.5000"]);
    }

    #[test]
    fn text_is_shortened_to_one_line() {
        assert_eq!(shortened("Text:\nLabel:", 20), "Text:⏎Label:");
        assert_eq!(shortened("abcdef", 4), "abc…");
        assert_eq!(shortened("abcd", 4), "abcd");
    }
}
