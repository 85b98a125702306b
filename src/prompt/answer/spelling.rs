//! One spelling for equal numbers, and for letters that mean the same.

/// Signs that mean a digit, a sign or a separator, as the ASCII ones: full-width forms, digits of other scripts, kinds of minus and of the
/// fraction bar. One for one, so that places stay the same.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(simple).collect()
}

/// The zeros of scripts with digits of their own, as far as models write them; bold and other mathematical digits stand in one block.
const ZEROS: [u32; 14] = [0x660, 0x6f0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xe50, 0xed0, 0x1040];

fn simple(letter: char) -> char {
    let code = letter as u32;
    let ascii = |code: u32| char::from_u32(code).unwrap_or(letter);
    match letter {
        _ if letter.is_ascii() => letter,
        '\u{ff01}'..='\u{ff5e}' => ascii(code - 0xfee0),
        '\u{1d7ce}'..='\u{1d7ff}' => ascii(0x30 + (code - 0x1d7ce) % 10),
        '\u{2212}' | '\u{2010}' | '\u{2011}' | '\u{2013}' | '\u{fe63}' => '-',
        '\u{2044}' | '\u{2215}' => '/',
        '\u{66c}' => ',',
        '\u{66b}' => '.',
        '\u{3000}' => ' ',
        _ => ZEROS.iter().find(|zero| (**zero..**zero + 10).contains(&code)).map_or(letter, |zero| ascii(0x30 + code - zero)),
    }
}

/// Powers of ten up to which zeros are written out.
const WRITTEN_OUT: i32 = 100;

/// The fraction that one letter stands for.
pub(super) fn vulgar(letter: char) -> Option<(u128, u128)> {
    let found = match letter {
        '½' => (1, 2),
        '⅓' => (1, 3),
        '⅔' => (2, 3),
        '¼' => (1, 4),
        '¾' => (3, 4),
        '⅕' => (1, 5),
        '⅖' => (2, 5),
        '⅗' => (3, 5),
        '⅘' => (4, 5),
        '⅙' => (1, 6),
        '⅚' => (5, 6),
        '⅐' => (1, 7),
        '⅛' => (1, 8),
        '⅜' => (3, 8),
        '⅝' => (5, 8),
        '⅞' => (7, 8),
        '⅑' => (1, 9),
        '⅒' => (1, 10),
        _ => return None,
    };
    Some(found)
}

/// One spelling for equal numbers: no thousands separators, no leading zeros, no trailing zeros of decimals (`072`, `72.0` and `72`;
/// `1,080` and `1080`; `.5` and `0.50`). As text, so that no digit is lost.
pub(super) fn canonical(digits: &str) -> String {
    let plain = digits.replace(',', "");
    let (whole, decimals) = plain.split_once('.').unwrap_or((&plain, ""));
    let (whole, decimals) = (whole.trim_start_matches('0'), decimals.trim_end_matches('0'));
    let whole = if whole.is_empty() { "0" } else { whole };
    if decimals.is_empty() { whole.into() } else { format!("{whole}.{decimals}") }
}

/// A quotient keeps its bar: 3/4 is not its numerator. Integers are in lowest terms, and none below the bar if that is 1.
pub(super) fn divided(above: &str, below: &str) -> String {
    match (above.parse::<u128>(), below.parse::<u128>()) {
        (Ok(above), Ok(below)) if below > 0 => reduced(above, below),
        _ => format!("{above}/{below}"),
    }
}

pub(super) fn reduced(above: u128, below: u128) -> String {
    let (mut a, mut b) = (above, below);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    let common = a.max(1);
    if below == common { (above / common).to_string() } else { format!("{}/{}", above / common, below / common) }
}

/// A decimal number times a power of ten, written out up to powers of 100.
pub(super) fn shifted(mantissa: &str, power: i32) -> String {
    if power.abs() > WRITTEN_OUT {
        return format!("{mantissa}e{power}");
    }
    let (whole, decimals) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let zeros = "0".repeat(power.unsigned_abs() as usize);
    let digits = if power < 0 { format!("{zeros}{whole}{decimals}") } else { format!("{whole}{decimals}{zeros}") };
    let point = if power < 0 { whole.len() } else { whole.len() + zeros.len() };
    canonical(&format!("{}.{}", &digits[..point], &digits[point..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values that Unicode's character database gives.
    #[test]
    fn vulgar_fractions_are_those_of_unicode() {
        let all = "½1/2 ⅓1/3 ⅔2/3 ¼1/4 ¾3/4 ⅕1/5 ⅖2/5 ⅗3/5 ⅘4/5 ⅙1/6 ⅚5/6 ⅐1/7 ⅛1/8 ⅜3/8 ⅝5/8 ⅞7/8 ⅑1/9 ⅒1/10";
        for one in all.split(' ') {
            let mut letters = one.chars();
            let (above, below) = letters.next().and_then(vulgar).unwrap();
            assert_eq!(format!("{above}/{below}"), letters.as_str());
        }
        assert_eq!(vulgar('1'), None);
    }

    #[test]
    fn signs_and_digits_of_other_scripts_are_read_as_ascii() {
        for (there, here) in [
            ("３．５", "3.5"),
            ("٣٤", "34"),
            ("०९", "09"),
            ("𝟎𝟗𝟘𝟡", "0909"),
            ("−‐‑–﹣", "-----"),
            ("1⁄2 1∕2", "1/2 1/2"),
            ("１٬０٫５\u{3000}é", "1,0.5 é"),
        ] {
            assert_eq!(plain(there), here);
        }
    }
}
