//! What a value shows as the last expression of a notebook cell.
//!
//! evcxr calls `evcxr_display` on that expression and shows one result per cell. [`Show`], which the prelude brings into scope,
//! supplies that method for this crate's values and for the foreign ones a notebook holds: polars frames and series, tensors,
//! numbers and text, and vectors, tuples, options and results of them. Each value describes itself as a [`Bundle`]: one plain text for
//! any reader, HTML where layout helps (tables, pictures; numbers and lines of text are plain only), a picture where there is one. The
//! frontend picks the richest it knows. Rows, columns, elements and bytes are bounded, and what was left out is counted.
//!
//! A cell shows one result, when it ends; what a cell shows while it runs, and replaces, is a [`Live`].
//!
//! The HTML is bare (no scripts, and no styles but those that place the titles over a figure), because the places that show notebooks strip both;
//! it shows the same without.

/// Lets settings and parts show themselves as text: as Rust writes them (`{:?}`), or in words of their own (`"{}": Type`). Values that a notebook is
/// about have a [`Show`] of their own; a test demands one or the other of every public type.
macro_rules! show_as_text {
    ($format:literal: $($kind:ty),+) => {
        $(impl $crate::display::Show for $kind {
            fn bundle(&self) -> $crate::display::Bundle {
                $crate::display::Bundle::text(format!($format, self))
            }
        })+
    };
    ($($kind:ty),+) => {
        $crate::display::show_as_text!("{:?}": $($kind),+);
    };
}
pub(crate) use show_as_text;

mod base64;
mod curve;
mod foreign;
mod frame;
mod live;
mod number;
pub(crate) mod picture;
mod tensor;

pub(crate) use base64::encode as base64;
pub(crate) use curve::{Curve, curves};
pub(crate) use frame::{Grid, headed, table_cell};
pub use live::Live;
pub(crate) use number::{plain as number, shortened};

use std::fmt;
use std::io::Write;

show_as_text!(crate::compat::Compat, Live);

/// The most bytes of plain text that one value puts into a notebook.
const TEXT_BYTES: usize = 200_000;
/// The same of HTML, pictures apart.
const HTML_BYTES: usize = 400_000;
/// The most bytes of several values as one, in all forms together.
const VALUE_BYTES: usize = 4_000_000;
/// How a picture inside HTML begins.
const PICTURE: &str = "data:image/png;base64,";

/// One value in every form a notebook can show.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bundle {
    /// `text/plain`: always there; the terminal's form, and the one that notebook tests read.
    pub plain: String,
    /// `text/html`, without styles or scripts.
    pub html: Option<String>,
    /// `image/png`: the bytes of the file.
    pub png: Option<Vec<u8>>,
    /// What a picture shows, for those who cannot see it. Empty where there is no picture.
    pub alt: String,
}

impl Bundle {
    /// A value of text only.
    pub fn text(plain: impl Into<String>) -> Self {
        Self { plain: plain.into(), ..Self::default() }
    }

    /// Several values as one: their texts and HTML below each other. The picture remains if every part is one.
    ///
    /// After about 4 MB the rest is only counted.
    pub fn stack(parts: Vec<Bundle>) -> Self {
        let all = parts.len();
        Self::gather(Self::within(parts.into_iter()), all)
    }

    /// The first values that are no more than a notebook should hold; later ones are not made.
    fn within(parts: impl Iterator<Item = Bundle>) -> Vec<Bundle> {
        let mut room = VALUE_BYTES;
        let mut kept = Vec::new();
        for part in parts {
            if !kept.is_empty() && part.bytes() > room {
                break;
            }
            room = room.saturating_sub(part.bytes());
            kept.push(part);
        }
        kept
    }

    /// The first parts of `all` as one value.
    fn gather(parts: Vec<Bundle>, all: usize) -> Self {
        let pictures: Vec<&[u8]> = parts.iter().filter_map(|part| part.png.as_deref()).collect();
        // Half a picture would be worse than none: a frontend that prefers pictures would hide the tables.
        let png = if !parts.is_empty() && pictures.len() == parts.len() { picture::stack(&pictures) } else { None };
        let alt = parts.iter().map(|part| part.alt.as_str()).filter(|alt| !alt.is_empty()).collect::<Vec<_>>().join(" ");
        let more = more(all, parts.len(), "value").map(Self::text);
        let parts: Vec<Bundle> = parts.into_iter().chain(more).collect();
        let plain = parts.iter().map(|part| part.plain.trim_end()).collect::<Vec<_>>().join("\n\n");
        let html =
            parts.iter().any(|part| part.html.is_some()).then(|| parts.iter().map(Self::as_html).collect::<Vec<_>>().join("\n<br>\n"));
        Self { plain, html, png, alt }
    }

    /// Bytes in a notebook, which holds pictures as base64.
    fn bytes(&self) -> usize {
        self.plain.len() + self.html.as_ref().map_or(0, String::len) + self.png.as_ref().map_or(0, Vec::len) * 4 / 3
    }

    /// True if it is one line of text and nothing else.
    fn is_line(&self) -> bool {
        self.html.is_none() && self.png.is_none() && !self.plain.contains('\n')
    }

    pub(crate) fn as_html(&self) -> String {
        self.html.clone().unwrap_or_else(|| format!("<pre>{}</pre>", escape(&self.plain)))
    }

    /// The value in each form that a page may choose from, by its MIME type, and no larger than a page should hold.
    fn forms(&self) -> Vec<(&'static str, String)> {
        let plain = cut(&self.plain);
        let html = self.html.as_ref().map(|html| match without_pictures(html) > HTML_BYTES {
            // Half an element would spoil the page around it.
            true => format!("<pre>{}</pre>", escape(&plain)),
            false => html.clone(),
        });
        let png = self.png.as_ref().map(|png| base64(png));
        let others = [("text/html", html), ("image/png", png)].into_iter().filter_map(|(mime, content)| Some((mime, content?)));
        std::iter::once(("text/plain", plain)).chain(others).collect()
    }

    /// The control blocks that evcxr reads from a cell's standard output, in one string.
    pub fn blocks(&self) -> String {
        let block =
            |(mime, content): (&str, String)| format!("EVCXR_BEGIN_CONTENT {mime}\n{}\nEVCXR_END_CONTENT\n", unmistakable(&content));
        self.forms().into_iter().map(block).collect()
    }

    /// Shows the value: as control blocks inside evcxr, as plain text anywhere else.
    pub fn print(&self) {
        // evcxr sets this in the process that runs the cells.
        let text = if std::env::var_os("EVCXR_IS_RUNTIME").is_some() { self.blocks() } else { format!("{}\n", self.plain.trim_end()) };
        // One write under the lock: another thread's line inside a block would end up in the picture.
        // A closed stdout leaves nobody to show anything to.
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        // What the cell dropped, before the next one asks for as much again.
        crate::memory::give_back();
    }
}

/// A value that a notebook can show.
pub trait Show {
    /// The value in every form it has.
    fn bundle(&self) -> Bundle;

    /// What evcxr calls on a cell's last expression.
    fn evcxr_display(&self) {
        self.bundle().print();
    }
}

impl Show for Bundle {
    fn bundle(&self) -> Bundle {
        self.clone()
    }
}

/// What was found, in one line: `paired t-test: t 2.342, p 0.079`.
pub(crate) fn facts(what: &str, facts: &[(&str, f64)]) -> Bundle {
    let facts: Vec<String> = facts.iter().map(|(name, value)| format!("{name} {}", number(*value))).collect();
    Bundle::text(format!("{what}: {}", facts.join(", ")))
}

/// Names that a message shows of a list without a natural end.
const NAMED: usize = 8;

/// The first of many names, and how many more there are.
pub(crate) fn few(names: &[String]) -> String {
    match names.get(..NAMED).filter(|_| names.len() > NAMED) {
        Some(first) => format!("{} and {} more", first.join(", "), names.len() - NAMED),
        None => names.join(", "),
    }
}

/// With commas between.
pub(crate) fn listed<T: fmt::Display>(things: impl IntoIterator<Item = T>) -> String {
    things.into_iter().map(|thing| thing.to_string()).collect::<Vec<_>>().join(", ")
}

/// Names in backticks.
pub(crate) fn quoted<T: fmt::Display>(names: impl IntoIterator<Item = T>) -> String {
    listed(names.into_iter().map(|name| format!("`{name}`")))
}

/// `… 12 more rows`, where there are more than `shown`.
pub(crate) fn more(all: usize, shown: usize, unit: &str) -> Option<String> {
    match all.saturating_sub(shown) {
        0 => None,
        1 => Some(format!("… 1 more {unit}")),
        left => Some(format!("… {left} more {unit}s")),
    }
}

/// Text as HTML content or as a quoted attribute.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

/// A content line that looks like a control line would end the block early: shift it by a space.
fn unmistakable(content: &str) -> String {
    let content = content.trim_end_matches('\n');
    if !content.contains("EVCXR_") {
        return content.to_owned();
    }
    content
        .lines()
        .map(|line| if line.trim_start().starts_with("EVCXR_") { format!(" {line}") } else { line.to_owned() })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Bytes of HTML, the data of its pictures left out.
fn without_pictures(html: &str) -> usize {
    let pictures = html.split(PICTURE).skip(1).map(|rest| rest.find('"').unwrap_or(rest.len())).sum::<usize>();
    html.len() - pictures
}

/// Writes an error to standard error, as one line or several whole ones.
fn complain(error: impl fmt::Display) {
    // One write: pieces could be torn apart by what libtorch writes. A closed stream leaves nobody to tell.
    let _ = std::io::stderr().lock().write_all(format!("{error}\n").as_bytes());
}

/// A megabyte of text in a notebook helps nobody, and some frontends hang on it.
fn cut(plain: &str) -> String {
    match plain.char_indices().find(|(at, _)| *at >= TEXT_BYTES) {
        None => plain.to_owned(),
        Some((at, _)) => format!("{}\n… {} more bytes", &plain[..at], plain.len() - at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_stand_alone_and_in_order() {
        let bundle = Bundle { plain: "a\n".into(), html: Some("<b>a</b>".into()), png: Some(b"xyz".to_vec()), alt: String::new() };
        assert_eq!(
            bundle.blocks(),
            "EVCXR_BEGIN_CONTENT text/plain\na\nEVCXR_END_CONTENT\n\
             EVCXR_BEGIN_CONTENT text/html\n<b>a</b>\nEVCXR_END_CONTENT\n\
             EVCXR_BEGIN_CONTENT image/png\neHl6\nEVCXR_END_CONTENT\n"
        );
    }

    #[test]
    fn many_names_are_counted() {
        let names: Vec<String> = (0..20).map(|number| format!("w{number}")).collect();
        assert!(few(&names).ends_with("w6, w7 and 12 more"));
        assert_eq!((few(&names[..2]), quoted(&names[..2])), ("w0, w1".into(), "`w0`, `w1`".into()));
    }

    #[test]
    fn content_cannot_end_its_block() {
        let blocks = Bundle::text("one\nEVCXR_END_CONTENT\nEVCXR_BEGIN_CONTENT text/html\ntwo").blocks();
        assert_eq!(blocks.lines().filter(|line| line.starts_with("EVCXR_END_CONTENT")).count(), 1);
        assert_eq!(blocks.lines().filter(|line| line.starts_with("EVCXR_BEGIN_CONTENT")).count(), 1);
        assert!(blocks.ends_with("two\nEVCXR_END_CONTENT\n"));
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        let blocks = Bundle::text("é".repeat(TEXT_BYTES)).blocks();
        assert!(blocks.len() < TEXT_BYTES + 200 && blocks.contains("more bytes"));
    }

    #[test]
    fn html_beyond_all_bounds_becomes_cut_text() {
        let long = Bundle { plain: "row\n".repeat(HTML_BYTES), html: Some("<tr></tr>".repeat(HTML_BYTES)), ..Bundle::default() };
        let blocks = long.blocks();
        assert!(blocks.len() < 3 * TEXT_BYTES && blocks.contains("<pre>row\n") && !blocks.contains("<tr>"), "{}", blocks.len());
        // Pictures have a bound of their own.
        let picture = format!("<img src=\"{PICTURE}{}\" alt=\"a\">", "A".repeat(2 * HTML_BYTES));
        assert_eq!(without_pictures(&picture), picture.len() - 2 * HTML_BYTES);
        assert!(Bundle { html: Some(picture), ..Bundle::text("a") }.blocks().contains("<img"));
    }

    #[test]
    fn several_values_together_are_bounded() {
        let one = Bundle { plain: "figure".into(), html: Some("A".repeat(VALUE_BYTES / 4)), ..Bundle::default() };
        let all = Bundle::stack(vec![one.clone(); 10]);
        assert!(all.bytes() < VALUE_BYTES + 1000 && all.plain.ends_with("figure\n\n… 7 more values"), "{}", all.plain);
        // The first is there, however large, and no more are made than are shown.
        let mut made = 0;
        let large = Bundle { html: Some("A".repeat(2 * VALUE_BYTES)), ..one };
        let parts = Bundle::within((0..1000).map(|_| {
            made += 1;
            large.clone()
        }));
        assert_eq!((parts.len(), made), (1, 2));
    }
}
