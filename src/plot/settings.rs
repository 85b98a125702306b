//! What every figure can be told besides its data: title, labels, names, size, note, page.

use std::collections::HashMap;

use super::text;
use crate::error::{Error, Result};

/// Width of one of two text columns on paper: 3.25 inches of 96 logical pixels, at which labels are 8.6 points high.
pub const COLUMN: u32 = 312;
/// Width of a page's text on paper (5.5 inches, as ICLR and NeurIPS have it).
pub const PAPER: u32 = 528;
/// Width of a notebook's output, and of figures that are told nothing else.
pub const NOTEBOOK: u32 = 720;

/// Size of the title.
pub(crate) const TITLE: f64 = 15.0;
/// The most panels of one figure.
pub(crate) const MOST_PANELS: usize = 64;

/// The settings that all builders share.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub title: Option<String>,
    pub x_label: Option<String>,
    pub y_label: Option<String>,
    pub names: HashMap<String, String>,
    /// What each panel has one value of, and each row of panels, one below the other.
    pub facet: Option<String>,
    pub rows: Option<String>,
    /// Names that stand before others, wherever they occur.
    pub order: Vec<String>,
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub note: bool,
    /// From 1.
    pub page: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            title: None,
            x_label: None,
            y_label: None,
            names: HashMap::new(),
            facet: None,
            rows: None,
            order: Vec::new(),
            width: None,
            height: None,
            note: true,
            page: 1,
        }
    }
}

impl Settings {
    pub(crate) fn resize(&mut self, width: u32, height: Option<u32>) {
        (self.width, self.height) = (Some(width), height);
    }

    /// Was a height asked for? Otherwise a figure is as high as what it shows.
    pub(crate) fn has_height(&self) -> bool {
        self.height.is_some()
    }

    /// The title in lines of a figure so wide.
    pub(crate) fn title_lines(&self, width: f64) -> Vec<String> {
        self.title.as_deref().map_or_else(Vec::new, |title| text::wrapped(title, TITLE * 1.15, width - 32.0, 4))
    }

    /// The panels of the page among `all`, as many as whole rows of `unit` panels allow, and what the note says of it.
    ///
    /// # Errors
    /// There is no such page.
    pub(crate) fn paged(&self, all: usize, unit: usize, most: usize) -> Result<(std::ops::Range<usize>, Option<String>)> {
        self.paged_of("panels", all, unit, most)
    }

    /// The same of other things than panels.
    ///
    /// # Errors
    /// There is no such page.
    pub(crate) fn paged_of(&self, what: &str, all: usize, unit: usize, most: usize) -> Result<(std::ops::Range<usize>, Option<String>)> {
        let each = (most / unit).max(1) * unit;
        let pages = all.div_ceil(each).max(1);
        if !(1..=pages).contains(&self.page) {
            return Err(Error::input(format!(
                "figure: there is no page {}: {all} {what} are on {pages} page{}",
                self.page,
                if pages == 1 { "" } else { "s" }
            )));
        }
        let from = (self.page - 1) * each;
        let range = from..(from + each).min(all);
        let note = (pages > 1)
            .then(|| format!("page {} of {pages}: {what} {} to {} of {all}, others by .page(n)", self.page, from + 1, range.end));
        Ok((range, note))
    }

    /// Width and height: what was set, else `usual` with room for a long title; a width alone keeps the usual shape, but stays high enough
    /// for labels.
    ///
    /// # Errors
    /// The size is out of bounds.
    pub(crate) fn size(&self, usual: (u32, u32)) -> Result<(f64, f64)> {
        let (width, height) = match (self.width, self.height) {
            (Some(width), Some(height)) => (width, height),
            (Some(width), None) => {
                // In the wider number: any width can be asked for.
                let height = u64::from(usual.1) * u64::from(width) / u64::from(usual.0.max(1));
                (width, u32::try_from(height).unwrap_or(u32::MAX).max(usual.1.min(300)))
            }
            _ => usual,
        };
        let more = if self.height.is_some() { 0 } else { self.title_lines(f64::from(width)).len().saturating_sub(1) as u32 * 19 };
        let height = if height <= 4000 { (height + more).min(4000) } else { height };
        if !(240..=4000).contains(&width) || !(160..=4000).contains(&height) {
            return Err(Error::input(format!("figure: a size of {width} x {height} is outside 240 x 160 to 4000 x 4000")));
        }
        Ok((f64::from(width), f64::from(height)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_width_alone_keeps_the_shape() {
        let mut settings = Settings::default();
        assert_eq!(settings.size((720, 400)).unwrap(), (720.0, 400.0));
        settings.resize(1440, None);
        assert_eq!(settings.size((720, 400)).unwrap(), (1440.0, 800.0));
        settings.resize(COLUMN, None);
        assert_eq!(settings.size((720, 400)).unwrap(), (312.0, 300.0));
        settings.resize(u32::MAX, None);
        assert!(settings.size((720, 400)).unwrap_err().to_string().contains("is outside 240 x 160 to 4000 x 4000"));
        settings.resize(100, Some(100));
        assert!(settings.size((720, 400)).unwrap_err().to_string().contains("100 x 100 is outside"));
    }
}
