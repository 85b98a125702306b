//! The methods that set what every figure can be told, and what its columns are called.

use crate::plot::settings::Settings;
use crate::table::words::words;

impl Settings {
    /// A column's name as a person writes it.
    pub(crate) fn name(&self, column: &str) -> String {
        self.names.get(column).cloned().unwrap_or_else(|| words(column))
    }

    pub(crate) fn x_name(&self, column: &str) -> String {
        self.x_label.clone().unwrap_or_else(|| self.name(column))
    }

    pub(crate) fn y_name(&self, column: &str) -> String {
        self.y_label.clone().unwrap_or_else(|| self.name(column))
    }

    /// The title as the first sentence of a description.
    pub(super) fn sentence(&self) -> String {
        self.title.as_ref().map_or_else(String::new, |title| format!("{title}. "))
    }

    /// What the panels are, after the other parts of a description.
    pub(super) fn panels(&self) -> String {
        let of = |what: &str, column: &Option<String>| {
            column.as_ref().map_or_else(String::new, |name| format!(", {what} per {}", self.name(name)))
        };
        of("one row of panels", &self.rows) + &of("one panel", &self.facet)
    }
}

/// The methods of a builder that has `settings`; `plain`: without those of axes and pages. Those of panels and order say what they mean for it.
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
    ($(#[$doc:meta])+ facet) => {
        $(#[$doc])+
        pub fn facet(mut self, column: &str) -> Self {
            self.settings.facet = Some(column.to_owned());
            self
        }
    };
    (rows) => {
        /// One row of panels per value of this column, below each other; with [`Self::facet`] for the panels next to each other.
        pub fn rows(mut self, column: &str) -> Self {
            self.settings.rows = Some(column.to_owned());
            self
        }
    };
    ($(#[$doc:meta])+ order) => {
        $(#[$doc])+
        pub fn order(mut self, names: &[&str]) -> Self {
            self.settings.order = names.iter().map(|name| (*name).to_owned()).collect();
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
