//! What a value shows as the last expression of a notebook cell.
//!
//! evcxr calls `evcxr_display` on that expression and shows one result per cell. [`Show`], which the prelude brings into scope,
//! supplies that method for this crate's values and for the foreign ones a notebook holds: polars frames and series, tensors,
//! numbers and text, and vectors, tuples, options and results of them. Each value describes itself as a [`Bundle`]: one plain text for
//! any reader, HTML where layout helps, a picture where there is one. The frontend picks the richest it knows.
//!
//! The HTML is bare (no styles, no scripts), because the places that show notebooks strip both.

mod base64;
mod frame;
mod number;
pub(crate) mod picture;
mod tensor;

pub(crate) use base64::encode as base64;
pub(crate) use frame::{Grid, headed};
pub(crate) use number::{plain as number, shortened};

use std::fmt;
use std::io::Write;

use crate::error::Error;

/// The most bytes of text or HTML (pictures apart) that one value puts into a notebook.
const TEXT_BYTES: usize = 200_000;

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
    pub fn stack(parts: Vec<Bundle>) -> Self {
        let plain = parts.iter().map(|part| part.plain.trim_end()).collect::<Vec<_>>().join("\n\n");
        let html =
            parts.iter().any(|part| part.html.is_some()).then(|| parts.iter().map(Self::as_html).collect::<Vec<_>>().join("\n<br>\n"));
        let pictures: Vec<&[u8]> = parts.iter().filter_map(|part| part.png.as_deref()).collect();
        // Half a picture would be worse than none: a frontend that prefers pictures would hide the tables.
        let png = if !parts.is_empty() && pictures.len() == parts.len() { picture::stack(&pictures) } else { None };
        let alt = parts.iter().map(|part| part.alt.as_str()).filter(|alt| !alt.is_empty()).collect::<Vec<_>>().join(" ");
        Self { plain, html, png, alt }
    }

    fn as_html(&self) -> String {
        self.html.clone().unwrap_or_else(|| format!("<pre>{}</pre>", escape(&self.plain)))
    }

    /// The control blocks that evcxr reads from a cell's standard output, in one string.
    pub fn blocks(&self) -> String {
        let mut out = String::new();
        let mut block = |mime: &str, content: &str| {
            out.push_str(&format!("EVCXR_BEGIN_CONTENT {mime}\n{}\nEVCXR_END_CONTENT\n", unmistakable(content)));
        };
        block("text/plain", &cut(&self.plain));
        if let Some(html) = &self.html {
            block("text/html", html);
        }
        if let Some(png) = &self.png {
            block("image/png", &base64(png));
        }
        out
    }

    /// Shows the value: as control blocks inside evcxr, as plain text anywhere else.
    pub fn print(&self) {
        // evcxr sets this in the process that runs the cells.
        let text = if std::env::var_os("EVCXR_IS_RUNTIME").is_some() { self.blocks() } else { format!("{}\n", self.plain.trim_end()) };
        // One write under the lock: another thread's line inside a block would end up in the picture.
        // A closed stdout leaves nobody to show anything to.
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
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

impl Show for Error {
    fn bundle(&self) -> Bundle {
        Bundle::text(format!("error: {self}"))
    }

    /// To standard error, as a `?` does: an error that looked like a result would be overlooked.
    fn evcxr_display(&self) {
        eprintln!("{self}");
    }
}

/// Any error type, so that what polars returns shows without a `?`.
impl<T: Show, E: fmt::Display> Show for Result<T, E> {
    fn bundle(&self) -> Bundle {
        match self {
            Ok(value) => value.bundle(),
            Err(error) => Bundle::text(format!("error: {error}")),
        }
    }

    fn evcxr_display(&self) {
        match self {
            Ok(value) => value.evcxr_display(),
            Err(error) => eprintln!("{error}"),
        }
    }
}

impl<T: Show> Show for Option<T> {
    fn bundle(&self) -> Bundle {
        self.as_ref().map_or_else(|| Bundle::text("none"), Show::bundle)
    }
}

impl<T: Show + ?Sized> Show for &T {
    fn bundle(&self) -> Bundle {
        (**self).bundle()
    }
}

impl<T: Show> Show for Vec<T> {
    fn bundle(&self) -> Bundle {
        const MOST: usize = 40;
        let mut parts: Vec<Bundle> = self.iter().take(MOST).map(Show::bundle).collect();
        let more = more(self.len(), MOST, "value");
        let all = |check: fn(&Bundle) -> bool| parts.iter().all(check);
        if all(|part| part.html.is_none() && !part.plain.contains('\n')) {
            // Numbers and words read well on one line, sentences below each other.
            let short = all(|part| part.plain.chars().count() <= 12);
            let texts: Vec<String> = parts.into_iter().map(|part| part.plain).chain(more).collect();
            return Bundle::text(if short { format!("[{}]", texts.join(", ")) } else { texts.join("\n") });
        }
        parts.extend(more.map(Bundle::text));
        Bundle::stack(parts)
    }
}

macro_rules! show_tuple {
    ($($name:ident)+) => {
        impl<$($name: Show),+> Show for ($($name,)+) {
            #[allow(non_snake_case)]
            fn bundle(&self) -> Bundle {
                let ($($name,)+) = self;
                Bundle::stack(vec![$($name.bundle()),+])
            }
        }
    };
}
show_tuple!(A B);
show_tuple!(A B C);
show_tuple!(A B C D);

macro_rules! show_as_text {
    ($($kind:ty)+) => {
        $(impl Show for $kind {
            fn bundle(&self) -> Bundle {
                Bundle::text(self.to_string())
            }
        })+
    };
}
show_as_text!(bool char str String i8 i16 i32 i64 isize u8 u16 u32 u64 usize f32 f64);

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
    use polars::prelude::*;

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
    fn several_values_are_one() {
        let frame = df!("a" => [1i64]).unwrap();
        let both = ("text <b>".to_owned(), frame.clone()).bundle();
        assert!(both.plain.starts_with("text <b>\n\n") && both.png.is_none());
        assert!(both.html.unwrap().contains("<pre>text &lt;b&gt;</pre>"));
        assert_eq!(vec![1.5, 2.0].bundle(), Bundle::text("[1.5, 2]"));
        assert_eq!(Vec::<f64>::new().bundle(), Bundle::text("[]"));
        assert_eq!(vec!["a sentence", "another sentence"].bundle(), Bundle::text("a sentence\nanother sentence"));
        assert!((0..50).collect::<Vec<i64>>().bundle().plain.ends_with("39, … 10 more values]"));
        assert_eq!(vec![frame.clone(), frame.clone()].bundle().html.unwrap().matches("<table>").count(), 2);
        assert!(frame.select(["b"]).bundle().plain.starts_with("error: "));
        assert_eq!(Some(true).bundle().plain, "true");
        assert_eq!(None::<bool>.bundle().plain, "none");
        assert_eq!(Ok::<_, Error>(frame.clone()).bundle(), frame.bundle());
        assert_eq!(Err::<bool, _>(Error::input("no such file")).bundle().plain, "error: no such file");
    }
}
