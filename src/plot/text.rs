//! Text: how wide a line is, where it is broken or cut, and how plotters' SVG is told to write it.
//!
//! In SVG the viewer's font is used. DejaVu Sans is among the widest, so text that fits by its measure fits in others too.

use std::borrow::Cow;
use std::convert::Infallible;

use ab_glyph::Font;
use plotters::style::FontStyle as PlottersStyle;
use plotters_backend::text_anchor::{HPos, Pos, VPos};
use plotters_backend::{BackendColor, BackendCoord, BackendTextStyle, FontFamily, FontStyle, FontTransform};

use super::fonts::{self, BOLD_BYTES, REGULAR_BYTES};
use super::scene::{Anchor, Label};
use crate::error::{Error, Result};

/// What an SVG viewer should look for, in this order; a letter that none of these has comes from wherever the viewer finds it.
const FAMILY: &str = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif";
/// plotters divides the size of text by this before it writes it into SVG.
const PLOTTERS_SIZE: f64 = 1.24;

/// Gives plotters the crate's fonts under the name `sans-serif`, for pictures that a notebook draws with plotters itself.
///
/// plotters is built without access to the system's fonts, and refuses to write text until a font is registered.
///
/// # Errors
/// None that is known: the fonts are part of the library.
pub fn register_fonts() -> Result<()> {
    for (style, bytes) in [(PlottersStyle::Normal, REGULAR_BYTES), (PlottersStyle::Bold, BOLD_BYTES)] {
        plotters::style::register_font("sans-serif", style, bytes)
            .map_err(|_| Error::internal("plotters does not take the crate's font"))?;
    }
    Ok(())
}

/// Are there letters that the embedded font lacks?
pub(crate) fn is_foreign(text: &str) -> bool {
    text.chars().any(|letter| !fonts::is_own(letter))
}

/// Text with every letter that no font here has spelled as in Rust (`\u{4e2d}`): all empty boxes look the same.
pub(crate) fn spelled(text: &str) -> Cow<'_, str> {
    let missing = |letter: char| !fonts::is_own(letter) && fonts::width(letter).is_none();
    if !text.contains(missing) {
        return Cow::Borrowed(text);
    }
    let one = |letter: char| if missing(letter) { letter.escape_unicode().to_string() } else { letter.to_string() };
    Cow::Owned(text.chars().map(one).collect())
}

/// Text without what no picture can show and XML forbids: control characters are spelled as in Rust (`\u{1b}`).
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    // Spaces of no width and turns of the writing direction are in no picture either; joiners are part of their words.
    let unseen = |letter: char| matches!(letter, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    let hidden = |letter: char| letter.is_control() || unseen(letter) || matches!(letter, '\u{fffe}' | '\u{ffff}');
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let spelled = |letter: char| if hidden(letter) { letter.escape_default().to_string() } else { letter.to_string() };
    Cow::Owned(text.chars().map(spelled).collect())
}

/// The width of a line of text in the unit of `size`.
pub(crate) fn width(text: &str, size: f64, bold: bool) -> f64 {
    let Some(font) = fonts::own(bold) else { return 0.6 * size * text.chars().count() as f64 };
    let em = f64::from(font.units_per_em().unwrap_or(2048.0));
    let own = |letter: char| f64::from(font.h_advance_unscaled(font.glyph_id(letter))) / em;
    let one = |letter: char| match fonts::is_own(letter) {
        true => own(letter),
        false => fonts::width(letter).unwrap_or_else(|| letter.escape_unicode().map(own).sum()),
    };
    size * printable(text).chars().map(one).sum::<f64>()
}

/// Breaks text at spaces into at most `lines` lines no wider than `most`; what still does not fit ends in `…`.
pub(crate) fn wrapped(text: &str, size: f64, most: f64, lines: usize) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let full = out.len() == lines;
        match out.last_mut() {
            Some(line) if full || width(&format!("{line} {word}"), size, false) <= most => {
                line.push(' ');
                line.push_str(word);
            }
            _ => out.push(word.to_owned()),
        }
    }
    out.into_iter().map(|line| fitted(&line, size, most)).collect()
}

/// The text, or as much of it as fits with `…`; where not even one letter does, the `…` alone.
pub(crate) fn fitted(text: &str, size: f64, most: f64) -> String {
    // Letter by letter, and no further than there is room: a text may be long.
    let (room, mut used, mut kept) = (most - width("…", size, false), 0.0, 0);
    for (place, letter) in text.char_indices() {
        let end = place + letter.len_utf8();
        used += width(&text[place..end], size, false);
        if used <= room {
            kept = end;
        }
        if used > most {
            return format!("{}…", &text[..kept]);
        }
    }
    text.to_owned()
}

/// A label at `scale` device pixels per logical one, as plotters' SVG backend wants it.
pub(crate) struct Style<'a> {
    pub label: &'a Label,
    pub scale: f64,
}

impl Style<'_> {
    /// The label's position on its baseline.
    pub(crate) fn position(&self) -> BackendCoord {
        ((self.label.at.0 * self.scale).round() as i32, (self.label.at.1 * self.scale).round() as i32)
    }
}

impl BackendTextStyle for Style<'_> {
    type FontError = Infallible;

    fn color(&self) -> BackendColor {
        let colour = self.label.colour;
        BackendColor { alpha: colour.3, rgb: (colour.0, colour.1, colour.2) }
    }

    fn size(&self) -> f64 {
        self.label.size * self.scale * PLOTTERS_SIZE
    }

    fn transform(&self) -> FontTransform {
        if self.label.turned { FontTransform::Rotate270 } else { FontTransform::None }
    }

    fn style(&self) -> FontStyle {
        if self.label.bold { FontStyle::Bold } else { FontStyle::Normal }
    }

    fn anchor(&self) -> Pos {
        let across = match self.label.anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        Pos::new(across, VPos::Center)
    }

    fn family(&self) -> FontFamily<'_> {
        FontFamily::Name(FAMILY)
    }

    fn layout_box(&self, text: &str) -> Result<((i32, i32), (i32, i32)), Infallible> {
        Ok(((0, 0), (width(text, self.label.size * self.scale, self.label.bold).round() as i32, 0)))
    }

    /// Only bitmaps draw text, and ours are made of the SVG.
    fn draw<E, Draw: FnMut(i32, i32, BackendColor) -> Result<(), E>>(
        &self,
        _: &str,
        _: BackendCoord,
        _: Draw,
    ) -> Result<Result<(), E>, Infallible> {
        Ok(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_fonts_are_there_and_know_the_signs_that_figures_use() {
        for bold in [false, true] {
            let font = fonts::own(bold).unwrap();
            for letter in "AZaz09äéßΑωЖ→±×−…“”≤≥σβ·⏎␣⇥▁ĠĊ�".chars() {
                assert_ne!(font.glyph_id(letter).0, 0, "no glyph for {letter}, bold {bold}");
            }
        }
    }

    #[test]
    fn what_no_font_has_is_spelled_and_measured_as_it_is_written() {
        // A letter for private use, which no font should have.
        assert_eq!(spelled("a\u{10fffd}"), "a\\u{10fffd}");
        assert_eq!(width("a\u{10fffd}", 12.0, false), width("a\\u{10fffd}", 12.0, false));
        assert_eq!([printable("中\u{1b}\u{0}"), printable("a b")], ["中\\u{1b}\\u{0}", "a b"]);
        assert_eq!(width("\u{1b}", 12.0, false), width("\\u{1b}", 12.0, false));
        assert_eq!(printable("a\u{200b}b\u{202e}"), "a\\u{200b}b\\u{202e}");
        assert!(is_foreign("今") && !is_foreign("→é"));
    }

    #[test]
    fn a_cut_is_always_seen() {
        for text in ["今天", "word", "\u{10fffd}\u{10fffd}"] {
            assert!(fitted(text, 10.0, width(text, 10.0, false) - 0.1).ends_with('…'), "{text}");
            assert_eq!(fitted(text, 10.0, 1.0), "…");
            assert_eq!(fitted(text, 10.0, width(text, 10.0, false)), text);
        }
    }

    #[test]
    fn plotters_takes_the_fonts() {
        use plotters::style::{IntoFont, TextStyle};
        register_fonts().unwrap();
        assert!(TextStyle::from(("sans-serif", 20).into_font()).layout_box("text").is_ok());
    }

    #[test]
    fn widths_grow_with_text_size_and_weight() {
        // The advance of `0` in DejaVu Sans is 1303/2048 em.
        assert!((width("0", 2048.0, false) - 1303.0).abs() < 1.0);
        assert!(width("accuracy", 12.0, true) > width("accuracy", 12.0, false));
    }

    #[test]
    fn text_wraps_at_spaces_and_is_cut_at_the_last_line() {
        let most = width("four words", 10.0, false);
        assert_eq!(wrapped("four words in two", 10.0, most, 3), ["four words", "in two"]);
        let cut = wrapped("one two three four five six", 10.0, most, 2);
        assert_eq!(cut.len(), 2);
        assert!(cut[1].ends_with('…') && cut.iter().all(|line| width(line, 10.0, false) <= most), "{cut:?}");
        assert_eq!(wrapped("", 10.0, most, 2), Vec::<String>::new());
        assert_eq!(fitted("four words", 10.0, most), "four words");
        // The square of this length would take an hour.
        let long = "x".repeat(1_000_000);
        assert!(fitted(&long, 10.0, most).ends_with("x…"));
        assert!(wrapped(&format!("{long} {long}"), 10.0, most, 2).iter().all(|line| width(line, 10.0, false) <= most));
    }
}
