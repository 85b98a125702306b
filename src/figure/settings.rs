//! What every figure can be told besides its columns: title, labels, names of columns, size, note.

use std::collections::HashMap;

use crate::error::{Error, Result};

/// Width of one of two text columns on paper: 3.25 inches of 96 logical pixels, at which labels are 8.6 points high.
pub const COLUMN: u32 = 312;
/// Width of a page's text on paper (5.5 inches, as ICLR and NeurIPS have it).
pub const PAPER: u32 = 528;
/// Width of a notebook's output, and of figures that are told nothing else.
pub const NOTEBOOK: u32 = 720;

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
}

impl Default for Settings {
    fn default() -> Self {
        Self { title: None, x_label: None, y_label: None, names: HashMap::new(), width: None, height: None, note: true }
    }
}

impl Settings {
    pub(super) fn resize(&mut self, width: u32, height: Option<u32>) {
        (self.width, self.height) = (Some(width), height);
    }

    /// A column's name as a person writes it.
    pub(super) fn name(&self, column: &str) -> String {
        self.names.get(column).cloned().unwrap_or_else(|| column.replace('_', " "))
    }

    pub(super) fn x_name(&self, column: &str) -> String {
        self.x_label.clone().unwrap_or_else(|| self.name(column))
    }

    pub(super) fn y_name(&self, column: &str) -> String {
        self.y_label.clone().unwrap_or_else(|| self.name(column))
    }

    /// Width and height: what was set, else `usual`; a width alone keeps the usual shape, but stays high enough for labels.
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
        if !(240..=4000).contains(&width) || !(160..=4000).contains(&height) {
            return Err(Error::input(format!("figure: a size of {width} x {height} is outside 240 x 160 to 4000 x 4000")));
        }
        Ok((f64::from(width), f64::from(height)))
    }
}

/// The methods of a builder that has `settings`.
macro_rules! setters {
    () => {
        /// A line above the figure.
        pub fn title(mut self, text: &str) -> Self {
            self.settings.title = Some(text.to_owned());
            self
        }

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

        /// What the figure calls this column, wherever it does; by default the column's name with spaces for underscores.
        pub fn name(mut self, column: &str, text: &str) -> Self {
            self.settings.names.insert(column.to_owned(), text.to_owned());
            self
        }

        /// Width and height in logical pixels, 240 x 160 to 4000 x 4000; by default [`NOTEBOOK`](crate::figure::NOTEBOOK) wide and as
        /// high as the panels need.
        pub fn size(mut self, width: u32, height: u32) -> Self {
            self.settings.resize(width, Some(height));
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
