//! Text: the embedded font, the width of a line, and its outlines for bitmaps.
//!
//! plotters' own `ab_glyph` text ignores the side bearings of letters, which spaces them unevenly; so the crate sets the text of
//! its own figures itself, through the style that plotters' backends accept. In SVG the viewer's font is used. DejaVu Sans is among
//! the widest, so text that fits by its measure fits in others too.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, GlyphId, PxScale, ScaleFont, point};
use plotters::style::FontStyle as PlottersStyle;
use plotters_backend::text_anchor::{HPos, Pos, VPos};
use plotters_backend::{BackendColor, BackendCoord, BackendTextStyle, FontFamily, FontStyle, FontTransform};

use super::scene::{Anchor, Label};
use crate::error::{Error, Result};

/// What an SVG viewer should look for, in this order.
const FAMILY: &str = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif";
/// plotters divides the size of text by this before it writes it into SVG.
const PLOTTERS_SIZE: f64 = 1.24;
/// Half the height of an `x` in ems: plotters' SVG puts a centred text's baseline that far below its position.
const HALF_X: f64 = 0.2735;

// Both files are subsets (Latin, Greek, Cyrillic, arrows, mathematics, signs for spaces and breaks) of DejaVu Sans 2.37; see font/LICENSE-DejaVu.txt.
const REGULAR_BYTES: &[u8] = include_bytes!("font/DejaVuSans.ttf");
const BOLD_BYTES: &[u8] = include_bytes!("font/DejaVuSans-Bold.ttf");
static REGULAR: LazyLock<Option<FontRef<'static>>> = LazyLock::new(|| FontRef::try_from_slice(REGULAR_BYTES).ok());
static BOLD: LazyLock<Option<FontRef<'static>>> = LazyLock::new(|| FontRef::try_from_slice(BOLD_BYTES).ok());

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

fn font(bold: bool) -> Option<&'static FontRef<'static>> {
    if bold { BOLD.as_ref() } else { REGULAR.as_ref() }
}

/// ab_glyph counts the height from the lowest descender to the highest ascender, CSS the em.
fn scale(font: &FontRef<'static>, size: f64) -> PxScale {
    let em = font.units_per_em().unwrap_or(2048.0);
    PxScale::from(size as f32 * font.height_unscaled() / em)
}

/// The glyphs of a text. A letter that the font lacks is spelled as in Rust (`\u{4e2d}`): all empty boxes look the same.
fn glyphs(font: &FontRef<'static>, text: &str) -> Vec<GlyphId> {
    let glyph = |letter: char| Some(font.glyph_id(letter)).filter(|id| id.0 != 0);
    let spelled = |letter: char| letter.escape_unicode().filter_map(glyph).collect();
    text.chars().flat_map(|letter| glyph(letter).map_or_else(|| spelled(letter), |id| vec![id])).collect()
}

/// Text without what no picture can show and XML forbids: control characters are spelled as in Rust (`\u{1b}`).
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    let hidden = |letter: char| letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}');
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let spelled = |letter: char| if hidden(letter) { letter.escape_default().to_string() } else { letter.to_string() };
    Cow::Owned(text.chars().map(spelled).collect())
}

/// The width of a line of text in the unit of `size`.
pub(crate) fn width(text: &str, size: f64, bold: bool) -> f64 {
    let Some(font) = font(bold) else { return 0.6 * size * text.chars().count() as f64 };
    let scaled = font.as_scaled(scale(font, size));
    glyphs(font, &printable(text)).into_iter().map(|id| f64::from(scaled.h_advance(id))).sum()
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

/// The text, or as much of it as fits with `…`.
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
            return match kept {
                0 => text.chars().take(1).collect(),
                kept => format!("{}…", &text[..kept]),
            };
        }
    }
    text.to_owned()
}

/// A label at `scale` device pixels per logical one, as plotters' backends want it.
pub(super) struct Style<'a> {
    pub label: &'a Label,
    pub scale: f64,
}

impl Style<'_> {
    fn size(&self) -> f64 {
        self.label.size * self.scale
    }

    /// Where the backend must be told to draw for the baseline to be at the label's position.
    pub(super) fn position(&self) -> BackendCoord {
        let (x, y) = (self.label.at.0 * self.scale, self.label.at.1 * self.scale);
        let up = HALF_X * self.size();
        let (x, y) = if self.label.turned { (x - up, y) } else { (x, y - up) };
        (x.round() as i32, y.round() as i32)
    }
}

impl BackendTextStyle for Style<'_> {
    type FontError = Infallible;

    fn color(&self) -> BackendColor {
        let colour = self.label.colour;
        BackendColor { alpha: colour.3, rgb: (colour.0, colour.1, colour.2) }
    }

    fn size(&self) -> f64 {
        Style::size(self) * PLOTTERS_SIZE
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

    /// No height: `draw` places the baseline itself.
    fn layout_box(&self, text: &str) -> Result<((i32, i32), (i32, i32)), Infallible> {
        Ok(((0, 0), (width(text, Style::size(self), self.label.bold).round() as i32, 0)))
    }

    fn draw<E, Draw: FnMut(i32, i32, BackendColor) -> Result<(), E>>(
        &self,
        text: &str,
        (x, y): BackendCoord,
        mut draw: Draw,
    ) -> Result<Result<(), E>, Infallible> {
        let Some(font) = font(self.label.bold) else { return Ok(Ok(())) };
        let scale = scale(font, Style::size(self));
        let scaled = font.as_scaled(scale);
        let colour = self.color();
        let mut pen = point(x as f32, (f64::from(y) + HALF_X * Style::size(self)) as f32);
        let mut drawn = Ok(());
        for id in glyphs(font, text) {
            if let Some(outline) = font.outline_glyph(id.with_scale_and_position(scale, pen)) {
                let corner = outline.px_bounds().min;
                outline.draw(|right, down, cover| {
                    // Outside the outline there is nothing to draw; after a failure neither.
                    if cover > 0.0 && drawn.is_ok() {
                        let colour = BackendColor { alpha: colour.alpha * f64::from(cover.min(1.0)), ..colour };
                        drawn = draw(corner.x as i32 + right as i32, corner.y as i32 + down as i32, colour);
                    }
                });
            }
            pen.x += scaled.h_advance(id);
        }
        Ok(drawn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_fonts_are_there_and_know_the_signs_that_figures_use() {
        for bold in [false, true] {
            let font = font(bold).unwrap();
            for letter in "AZaz09äéßΑωЖ→±×−…“”≤≥σβ·⏎␣⇥▁ĠĊ�".chars() {
                assert_ne!(font.glyph_id(letter).0, 0, "no glyph for {letter}, bold {bold}");
            }
        }
    }

    #[test]
    fn what_the_font_lacks_is_spelled() {
        let font = font(false).unwrap();
        assert_eq!(glyphs(font, "a中"), glyphs(font, "a\\u{4e2d}"));
        assert!(glyphs(font, "中\u{1f600}\u{301}\u{200d}").iter().all(|id| id.0 != 0));
        assert_eq!(width("a中", 12.0, false), width("a\\u{4e2d}", 12.0, false));
        assert_eq!([printable("中\u{1b}\u{0}"), printable("a b")], ["中\\u{1b}\\u{0}", "a b"]);
        assert_eq!(width("\u{1b}", 12.0, false), width("\\u{1b}", 12.0, false));
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
        assert_eq!(fitted("word", 10.0, 1.0), "w");
        // The square of this length would take an hour.
        let long = "x".repeat(1_000_000);
        assert!(fitted(&long, 10.0, most).ends_with("x…"));
        assert!(wrapped(&format!("{long} {long}"), 10.0, most, 2).iter().all(|line| width(line, 10.0, false) <= most));
    }
}
