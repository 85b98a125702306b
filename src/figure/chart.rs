//! The builder behind the charts.

use polars::prelude::DataFrame;

use super::alt;
use super::data::{Columns, Data};
use super::scene::Scene;
use super::{Figure, bars, lines};
use crate::error::{Error, Result};

/// The marks that stand for the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marks {
    Lines,
    Bars,
}

/// A chart of a long frame: which columns go where, and how it is labelled.
///
/// ```no_run
/// # use ia2::figure::Chart;
/// # fn show(frame: &polars::prelude::DataFrame) -> ia2::Result<ia2::figure::Figure> {
/// Chart::lines("layer", "asim").colour("method").facet("task").title("Likeness to the target").draw(frame)
/// # }
/// ```
///
/// Rows with the same x, colour and facet (several runs) are averaged, and their sample standard deviation is shown.
#[derive(Clone, Debug)]
pub struct Chart {
    marks: Marks,
    columns: Columns,
    title: Option<String>,
    x_label: Option<String>,
    y_label: Option<String>,
    y_range: Option<(f64, f64)>,
    size: Option<(u32, u32)>,
    note: bool,
}

impl Chart {
    fn new(marks: Marks, x: &str, y: &str) -> Self {
        let columns = Columns { x: x.to_owned(), y: y.to_owned(), colour: None, facet: None, error: None };
        Self { marks, columns, title: None, x_label: None, y_label: None, y_range: None, size: None, note: true }
    }

    /// Lines of the column `y` over the column `x` (numbers keep their distances; names stand in order of appearance).
    pub fn lines(x: &str, y: &str) -> Self {
        Self::new(Marks::Lines, x, y)
    }

    /// Bars of the column `y`, from zero, for each value of the column `x`.
    pub fn bars(x: &str, y: &str) -> Self {
        Self::new(Marks::Bars, x, y)
    }

    /// One line or bar per value of this column, at most 16.
    pub fn colour(mut self, column: &str) -> Self {
        self.columns.colour = Some(column.to_owned());
        self
    }

    /// One panel per value of this column, at most 16, all with the same axes.
    pub fn facet(mut self, column: &str) -> Self {
        self.columns.facet = Some(column.to_owned());
        self
    }

    /// The column that holds the spread to show around each value, instead of the standard deviation of repeated rows.
    pub fn error(mut self, column: &str) -> Self {
        self.columns.error = Some(column.to_owned());
        self
    }

    /// A line above the chart.
    pub fn title(mut self, text: &str) -> Self {
        self.title = Some(text.to_owned());
        self
    }

    /// The name of the x axis; by default the column's, with spaces for underscores.
    pub fn x_label(mut self, text: &str) -> Self {
        self.x_label = Some(text.to_owned());
        self
    }

    /// The name of the y axis; by default the column's, with spaces for underscores.
    pub fn y_label(mut self, text: &str) -> Self {
        self.y_label = Some(text.to_owned());
        self
    }

    /// The range of the y axis; by default what the values need. Values outside end at its edge.
    pub fn y_range(mut self, from: f64, to: f64) -> Self {
        self.y_range = Some((from, to));
        self
    }

    /// Width and height in logical pixels, 240 x 160 to 4000 x 4000; by default 720 x 400, and higher for several rows of panels.
    pub fn size(mut self, width: u32, height: u32) -> Self {
        self.size = Some((width, height));
        self
    }

    /// Whether a line below the chart says what bands and whiskers mean; by default it does where there are any.
    pub fn note(mut self, shown: bool) -> Self {
        self.note = shown;
        self
    }

    /// Draws the frame.
    ///
    /// # Errors
    /// A column is missing (the message lists those there are), y or the error column holds no numbers, the frame has no rows or no
    /// row with finite numbers, there are too many groups or panels, or the size
    /// (too small for the labels, for instance) or the range of y is out of bounds.
    pub fn draw(&self, frame: &DataFrame) -> Result<Figure> {
        let (scene, alt) = self.scene(frame)?;
        Figure::of(&scene, alt, frame)
    }

    /// The shapes, and the description in words.
    pub(super) fn scene(&self, frame: &DataFrame) -> Result<(Scene, String)> {
        if let Some((from, to)) = self.y_range
            && (!from.is_finite() || !to.is_finite() || from >= to)
        {
            return Err(Error::input(format!("figure: the range of y must be two ascending numbers, not {from} and {to}")));
        }
        let data = Data::read(frame, &self.columns)?;
        let (width, height) = match self.size {
            Some((width, height)) if (240..=4000).contains(&width) && (160..=4000).contains(&height) => (width, height),
            Some((width, height)) => {
                return Err(Error::input(format!("figure: a size of {width} x {height} is outside 240 x 160 to 4000 x 4000")));
            }
            None => match data.panels.len() {
                0..=3 => (720, 400),
                4..=6 => (720, 560),
                7..=9 => (720, 760),
                _ => (900, 960),
            },
        };
        let mut scene = Scene::new(f64::from(width), f64::from(height));
        match self.marks {
            Marks::Lines => lines::draw(&mut scene, self, &data),
            Marks::Bars => bars::draw(&mut scene, self, &data),
        }?;
        Ok((scene, alt::text(self, &data)))
    }

    pub(super) fn marks(&self) -> Marks {
        self.marks
    }

    pub(super) fn columns(&self) -> &Columns {
        &self.columns
    }

    pub(super) fn title_text(&self) -> Option<&str> {
        self.title.as_deref()
    }

    pub(super) fn x_name(&self) -> String {
        self.x_label.clone().unwrap_or_else(|| spaced(&self.columns.x))
    }

    pub(super) fn y_name(&self) -> String {
        self.y_label.clone().unwrap_or_else(|| spaced(&self.columns.y))
    }

    pub(super) fn y_limits(&self) -> Option<(f64, f64)> {
        self.y_range
    }

    pub(super) fn shows_note(&self) -> bool {
        self.note
    }

    pub(super) fn colour_is_x(&self) -> bool {
        self.columns.colour.as_deref() == Some(&self.columns.x)
    }

    pub(super) fn has_legend(&self, data: &Data) -> bool {
        self.columns.colour.is_some() && data.groups.len() > 1 && !self.colour_is_x()
    }

    /// What the bands or whiskers of this chart mean, and what was left out; empty where neither is there.
    pub(super) fn spread_note(&self, data: &Data, marks: &str) -> String {
        let mut parts = Vec::new();
        let counts = || data.cells.iter().map(|cell| cell.count);
        let (fewest, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
        if let Some(error) = &self.columns.error {
            parts.push(format!("{marks}: ± {}", spaced(error)));
        } else if most > 1 {
            let of = if fewest == most { most.to_string() } else { format!("{fewest} to {most}") };
            parts.push(format!("means of {of} rows, {marks}: ± 1 standard deviation"));
        }
        match data.skipped {
            0 => {}
            1 => parts.push("1 row without numbers left out".to_owned()),
            rows => parts.push(format!("{rows} rows without numbers left out")),
        }
        parts.join("; ")
    }
}

/// A column's name as a person writes it.
pub(super) fn spaced(column: &str) -> String {
    column.replace('_', " ")
}
