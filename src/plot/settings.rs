//! What every figure can be told besides its columns: title, labels, names of columns, size, note.

use std::collections::HashMap;

use super::text;
use crate::error::{Error, Result};
use crate::table::words::words;

/// Width of one of two text columns on paper: 3.25 inches of 96 logical pixels, at which labels are 8.6 points high.
pub const COLUMN: u32 = 312;
/// Width of a page's text on paper (5.5 inches, as ICLR and NeurIPS have it).
pub const PAPER: u32 = 528;
/// Width of a notebook's output, and of figures that are told nothing else.
pub const NOTEBOOK: u32 = 720;

/// Size of the title.
pub(super) const TITLE: f64 = 15.0;
/// The most panels of one figure.
pub(super) const MOST_PANELS: usize = 64;

/// The settings that all builders share; [`setters`] gives them their methods.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub title: Option<String>,
    pub x_label: Option<String>,
    pub y_label: Option<String>,
    pub names: HashMap<String, String>,
    width: Option<u32>,
    height: Option<u32>,
    pub note: bool,
    /// From 1.
    pub page: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { title: None, x_label: None, y_label: None, names: HashMap::new(), width: None, height: None, note: true, page: 1 }
    }
}

impl Settings {
    pub(super) fn resize(&mut self, width: u32, height: Option<u32>) {
        (self.width, self.height) = (Some(width), height);
    }

    /// A column's name as a person writes it.
    pub(super) fn name(&self, column: &str) -> String {
        self.names.get(column).cloned().unwrap_or_else(|| words(column))
    }

    pub(super) fn x_name(&self, column: &str) -> String {
        self.x_label.clone().unwrap_or_else(|| self.name(column))
    }

    pub(super) fn y_name(&self, column: &str) -> String {
        self.y_label.clone().unwrap_or_else(|| self.name(column))
    }

    /// Was a height asked for? Otherwise a figure is as high as what it shows.
    pub(super) fn has_height(&self) -> bool {
        self.height.is_some()
    }

    /// The title in lines of a figure so wide.
    pub(super) fn title_lines(&self, width: f64) -> Vec<String> {
        self.title.as_deref().map_or_else(Vec::new, |title| text::wrapped(title, TITLE * 1.15, width - 32.0, 4))
    }

    /// The panels of the page among `all`, as many as whole rows of `unit` panels allow, and what the note says of it.
    ///
    /// # Errors
    /// There is no such page.
    pub(super) fn paged(&self, all: usize, unit: usize, most: usize) -> Result<(std::ops::Range<usize>, Option<String>)> {
        self.paged_of("panels", all, unit, most)
    }

    /// The same of other things than panels.
    ///
    /// # Errors
    /// There is no such page.
    pub(super) fn paged_of(&self, what: &str, all: usize, unit: usize, most: usize) -> Result<(std::ops::Range<usize>, Option<String>)> {
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
    pub(super) fn size(&self, usual: (u32, u32)) -> Result<(f64, f64)> {
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

/// The methods of a builder that has `settings`; `plain`: without those of axes and panels.
macro_rules! setters {
    () => {
        crate::figure::settings::setters! { plain }

        /// The name of the x axis; by default the column's, with spaces for underscores.
        pub fn x_label(mut self, text: &str) -> Self {
            self.settings.x_label = Some(text.to_owned());
            self
        }

        /// The name of the y axis; by default the column's, with spaces for underscores.
        pub fn y_label(mut self, text: &str) -> Self {
            self.settings.y_label = Some(text.to_owned());
            self
        }

        /// Width and height in logical pixels, 240 x 160 to 4000 x 4000; by default [`NOTEBOOK`](crate::figure::NOTEBOOK) wide and as
        /// high as the panels need.
        pub fn size(mut self, width: u32, height: u32) -> Self {
            self.settings.resize(width, Some(height));
            self
        }

        /// Which of the pages, from 1, where there are more panels than one figure holds (64); the note says how many there are. All pages have
        /// the axes and colours of the whole.
        pub fn page(mut self, page: usize) -> Self {
            self.settings.page = page;
            self
        }
    };
    (plain) => {
        /// What stands above the figure, in up to four lines.
        pub fn title(mut self, text: &str) -> Self {
            self.settings.title = Some(text.to_owned());
            self
        }

        /// What the figure calls this column, wherever it does; by default the column's name with spaces for underscores.
        pub fn name(mut self, column: &str, text: &str) -> Self {
            self.settings.names.insert(column.to_owned(), text.to_owned());
            self
        }

        /// Width in logical pixels, 240 to 4000, with the default's shape: [`COLUMN`](crate::figure::COLUMN),
        /// [`PAPER`](crate::figure::PAPER), [`NOTEBOOK`](crate::figure::NOTEBOOK) or any other.
        pub fn width(mut self, width: u32) -> Self {
            self.settings.resize(width, None);
            self
        }

        /// Whether lines below the figure say what its marks mean and what was left out; by default they do where there is something to say.
        pub fn note(mut self, shown: bool) -> Self {
            self.settings.note = shown;
            self
        }
    };
}
pub(super) use setters;

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
