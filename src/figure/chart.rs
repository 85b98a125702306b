//! The builder behind the charts.

use polars::prelude::DataFrame;

use super::data::{Columns, Data};
use super::settings::setters;
use super::spread::Spread;
use super::{Figure, alt, bars, check, lines, note, points, violins};
use crate::error::Result;
use crate::plot::along::Along;
use crate::plot::axis::Places;
use crate::plot::layout::{self, LayoutOptions, Panel};
use crate::plot::legend::{self, Legend};
use crate::plot::reference::{self, Reference};
use crate::plot::scale::Steps;
use crate::plot::scene::Scene;
use crate::plot::settings::Settings;

/// The marks that stand for the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marks {
    Lines,
    Bars,
    Points,
    Violins,
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
/// In lines and bars, rows with the same x, colour and facet (several runs) are averaged, and their sample standard deviation is shown.
/// Points and violins show every row.
///
/// Where y has the name of a metric ([`METRICS`](crate::metric::METRICS)), of a measure ([`MEASURES`](crate::similarity::MEASURES)), `ece`,
/// `overlap`, `confidence` or `probability`, and all its values lie in that one's range, nothing is drawn beyond the range: the axis has no
/// labels there, and a spread is cut, its whisker without a cap, as the note below says.
#[derive(Clone, Debug)]
pub struct Chart {
    pub(super) marks: Marks,
    pub(super) columns: Columns,
    pub(super) settings: Settings,
    pub(super) y_range: Option<(f64, f64)>,
    pub(super) x_steps: Steps,
    pub(super) y_steps: Steps,
    pub(super) x_range: Option<(f64, f64)>,
    /// Does each panel have its own x axis, its own y axis?
    pub(super) free: (bool, bool),
    pub(super) whiskers: bool,
    pub(super) fit: bool,
    pub(super) dots: bool,
    pub(super) jitter: bool,
    pub(super) opacity: Option<f64>,
    pub(super) references: Vec<Reference>,
}

impl Chart {
    fn new(marks: Marks, x: &str, y: &str) -> Self {
        let columns = Columns { x: x.to_owned(), y: y.to_owned(), ..Columns::default() };
        Self {
            marks,
            columns,
            settings: Settings::default(),
            y_range: None,
            x_steps: Steps::Linear,
            y_steps: Steps::Linear,
            x_range: None,
            free: (false, false),
            whiskers: false,
            fit: false,
            dots: false,
            jitter: false,
            opacity: None,
            references: Vec::new(),
        }
    }

    /// Lines of the column `y` over the column `x` (numbers keep their distances; names stand in order of appearance).
    pub fn lines(x: &str, y: &str) -> Self {
        Self::new(Marks::Lines, x, y)
    }

    /// Bars of the column `y`, from zero, for each value of the column `x`.
    pub fn bars(x: &str, y: &str) -> Self {
        Self::new(Marks::Bars, x, y)
    }

    /// A point per row: the column `y` over the column `x`.
    pub fn points(x: &str, y: &str) -> Self {
        Self::new(Marks::Points, x, y)
    }

    /// The distribution of the column `y` for each value of the column `x`, as violins: Gaussian kernel density, mirrored, with the mean
    /// and the median marked.
    ///
    /// The bandwidth is Silverman's: h = 0.9 min(s, IQR / 1.34) n^(−1/5), with s the sample standard deviation and IQR the distance of the
    /// quartiles (s alone where that is 0), and n the number of rows. Violins go on three bandwidths beyond the least and the greatest value, or to
    /// where no value can be, and all are equally wide at their widest. Fewer than 5 rows, or rows without spread, are shown as points.
    pub fn violins(x: &str, y: &str) -> Self {
        Self::new(Marks::Violins, x, y)
    }

    /// One line, bar, or colour of points or violins per value of this column. Numbers, and names that are more than 16, go from dark to light
    /// in their order. The paper's methods have the same name, place and style in every figure.
    pub fn colour(mut self, column: &str) -> Self {
        self.columns.colour = Some(column.to_owned());
        self
    }

    setters! {
        /// One panel per value of this column, all with the same axes; more than 64 are on pages ([`Chart::page`]).
        facet
    }

    setters!(rows);

    /// Lines: a faint one for each value of this column (the run) behind the mean of all.
    pub fn each(mut self, column: &str) -> Self {
        self.columns.each = Some(column.to_owned());
        self
    }

    /// Each panel has a y axis of its own, for values that lie far apart.
    pub fn free_y(mut self) -> Self {
        self.free.1 = true;
        self
    }

    /// Each panel has an x axis of its own. For lines and points over numbers.
    pub fn free_x(mut self) -> Self {
        self.free.0 = true;
        self
    }

    /// One more y column, in the same panel: a line, bar or colour of its own (train loss and dev loss).
    pub fn also(mut self, column: &str) -> Self {
        self.columns.also.push(column.to_owned());
        self
    }

    /// One more y column, in a panel of its own with a y axis of its own (accuracy and ECE).
    pub fn panel(mut self, column: &str) -> Self {
        self.columns.own_panels.push(column.to_owned());
        self
    }

    setters! {
        /// Names, of x, colours or panels, that come first and in this order, and have the same colours in every figure that gives the same
        /// order; names that are not in the list follow as they appear.
        order
    }

    /// The column that holds the spread to show around each value, instead of the standard deviation of repeated rows.
    pub fn error(mut self, column: &str) -> Self {
        self.columns.error = Some(column.to_owned());
        self
    }

    /// What whiskers and bands show around the mean of several rows; by default one standard deviation. The note says which.
    pub fn spread(mut self, spread: Spread) -> Self {
        self.columns.spread = spread;
        self
    }

    /// Every row as a small point over its bar or violin.
    pub fn dots(mut self) -> Self {
        self.dots = true;
        self
    }

    /// Points are set a little aside, each by another distance, so that those of the same x do not hide each other.
    pub fn jitter(mut self) -> Self {
        self.jitter = true;
        self
    }

    /// How opaque points are, in (0, 1]; by default the less, the more there are.
    pub fn opacity(mut self, opacity: f64) -> Self {
        self.opacity = Some(opacity);
        self
    }

    /// A dashed grey line across all panels at this y (chance, a mean), named in the legend.
    pub fn reference(self, y: f64, name: &str) -> Self {
        self.reference_range(y, y, name)
    }

    /// A grey band across all panels between two y (what 95 % of a null hypothesis' draws give), named in the legend.
    pub fn reference_range(mut self, from: f64, to: f64, name: &str) -> Self {
        self.references.push(Reference { from, to, name: name.to_owned(), upright: false });
        self
    }

    /// A dashed grey line at this x, from the bottom of each panel to its top, named in the legend. For lines and points.
    pub fn reference_x(mut self, x: f64, name: &str) -> Self {
        self.references.push(Reference { from: x, to: x, name: name.to_owned(), upright: true });
        self
    }

    /// A dashed line across each x where this column of booleans is true (the best step of a training).
    pub fn marked(mut self, column: &str) -> Self {
        self.columns.marked = Some(column.to_owned());
        self
    }

    /// Lines show their spread as whiskers instead of bands; groups are set a little apart, so that whiskers do not hide each other.
    pub fn whiskers(mut self) -> Self {
        self.whiskers = true;
        self
    }

    /// Points get their least-squares line over all rows of the panel, and above it Pearson's correlation r with the number of rows.
    pub fn fit(mut self) -> Self {
        self.fit = true;
        self
    }

    /// x by its logarithm, labelled at powers of two (numbers of demonstrations). For lines and points of positive x.
    pub fn x_log2(mut self) -> Self {
        self.x_steps = Steps::Log(2);
        self
    }

    /// x by its logarithm, labelled at powers of ten (learning rates). For lines and points of positive x.
    pub fn x_log10(mut self) -> Self {
        self.x_steps = Steps::Log(10);
        self
    }

    /// y by its logarithm, labelled at powers of ten (losses). For lines and points of positive y.
    pub fn y_log10(mut self) -> Self {
        self.y_steps = Steps::Log(10);
        self
    }

    /// The range of the y axes; by default what the values need. Values outside end at its edge.
    pub fn y_range(mut self, from: f64, to: f64) -> Self {
        self.y_range = Some((from, to));
        self
    }

    /// The range of the x axes of lines and points; by default that of the values. What lies outside is not drawn, and the note counts it.
    pub fn x_range(mut self, from: f64, to: f64) -> Self {
        self.x_range = Some((from, to));
        self
    }

    setters!();

    /// Draws the frame.
    ///
    /// # Errors
    /// A column is missing (the message lists those there are), y or the error column holds no numbers, the frame has no rows or no
    /// row with finite numbers, there are too many groups, panels or names along x, a value that a logarithmic axis cannot show, a setting
    /// that these marks do not have, or the size (too small for the labels, for instance) or the range of y is out of bounds.
    pub fn draw(&self, frame: &DataFrame) -> Result<Figure> {
        Figure::drawn(frame, || self.scene(frame))
    }

    /// The shapes, and the description in words.
    pub(super) fn scene(&self, frame: &DataFrame) -> Result<(Scene, String)> {
        check::settings(self)?;
        let mut data = Data::read(frame, &self.columns, &self.settings)?;
        check::values(self, &data)?;
        // Axes are those of all pages.
        let shared = data.panels.len() == data.panels_per_row;
        let axes = self.y_axes(&data, data.panels.len() > layout::panels_per_row(data.panels.len()));
        data.turn(&self.settings)?;
        if let Some((from, to)) = self.x_range {
            let (inside, before) = (|x: f64| (from..=to).contains(&x), data.cells.len());
            let xs: Vec<bool> = data.cells.iter().map(|cell| inside(data.x(cell))).collect();
            let mut xs = xs.into_iter();
            data.cells.retain(|_| xs.next().unwrap_or(false));
            data.each.iter_mut().for_each(|line| line.2.retain(|point| inside(point.0)));
            data.outside = before - data.cells.len();
        }
        let count = data.panels.len();
        let panels_per_row = match data.row_names.len() {
            0 if shared || data.panels_per_row == 1 => layout::panels_per_row(count),
            0 => data.panels_per_row,
            rows => count / rows,
        };
        let rows = count.div_ceil(panels_per_row);
        let names = if matches!(data.along, Along::Names(_)) && self.has_slots() { data.along.len() as u32 * 14 + 90 } else { 0 };
        let (width, height) = self.settings.size(match rows {
            1 => (720.max(names.min(1600)), 400),
            2 => (720.max(names.min(1600)), 560),
            3 => (720, 760),
            _ => (if panels_per_row > 4 { 1100 } else { 900 }, 130 + if panels_per_row > 4 { 120 } else { 190 } * rows.min(17) as u32),
        })?;
        let mut scene = Scene::new(width, height);
        let along = if self.free.0 { (0..count).map(|panel| data.along_of(panel)).collect() } else { vec![data.along.clone()] };
        let places = match self.marks {
            Marks::Bars | Marks::Violins => Places::Slots,
            Marks::Lines => Places::Apart(self.x_steps),
            Marks::Points => Places::Round(self.x_steps),
        };
        let options = LayoutOptions {
            legend: self.legend(&data),
            row_names: data.row_names.clone(),
            remarks: self.remarks(frame, &data)?,
            x_range: self.x_range,
            x_name: self.settings.x_name(&self.columns.x),
            y_name: if shared { self.y_name() } else { String::new() },
            note: note::text(self, &data),
            ..LayoutOptions::new(data.panels.clone(), panels_per_row, (along, places), data.kept(axes))
        };
        let panels: Vec<Panel> = layout::prepare(&mut scene, &self.settings, &options)?;
        let bands = |band: bool| self.references.iter().enumerate().filter(move |(_, line)| (line.from < line.to) == band);
        panels.iter().for_each(|panel| reference::draw(&mut scene, bands(true), panel));
        // Behind lines and points, but bars and violins would hide it.
        if !self.has_slots() {
            panels.iter().for_each(|panel| reference::draw(&mut scene, bands(false), panel));
        }
        match self.marks {
            Marks::Lines => lines::draw(&mut scene, self, &data, &panels),
            Marks::Bars => bars::draw(&mut scene, self, &data, &panels),
            Marks::Points => points::draw(&mut scene, self, &data, &panels),
            Marks::Violins => violins::draw(&mut scene, self, &data, &panels),
        }
        if self.has_slots() {
            panels.iter().for_each(|panel| reference::draw(&mut scene, bands(false), panel));
        }
        Ok((scene, alt::text(self, &data)))
    }

    fn has_slots(&self) -> bool {
        matches!(self.marks, Marks::Bars | Marks::Violins)
    }

    /// What stands above the panels on the right.
    fn remarks(&self, frame: &DataFrame, data: &Data) -> Result<Vec<String>> {
        match self.fit {
            true => Ok(points::remarks(data)),
            false => points::shares(frame, &self.columns, &self.settings, data),
        }
    }

    fn legend(&self, data: &Data) -> Option<Legend> {
        // Where the colour only repeats what stands along x, a legend would say it twice.
        let there = data.groups.len() > 1 && !self.colour_is_x();
        let sample = match self.marks {
            Marks::Lines => legend::LINE,
            Marks::Points => legend::MARKER,
            Marks::Bars | Marks::Violins => legend::SQUARE,
        };
        let title =
            self.columns.colour.as_deref().filter(|_| there && !data.plain).map_or_else(String::new, |colour| self.settings.name(colour));
        let groups = || data.groups.iter().cloned().zip(data.styles.iter().copied());
        // More than a reader looks up one by one.
        let row = there && data.ordered && data.groups.len() > 8;
        let mut names: Vec<_> = groups().filter(|_| there && !row).map(|(name, style)| (name, style, sample)).collect();
        names.extend(self.references.iter().enumerate().map(|(at, line)| {
            let sample = if line.from == line.to { reference::LINE } else { reference::BAND };
            (line.words(), reference::style(at), sample)
        }));
        (row || !names.is_empty()).then(|| Legend { title, names, row: groups().filter(|_| row).collect() })
    }

    pub(super) fn has_whiskers(&self) -> bool {
        self.whiskers || self.marks == Marks::Bars
    }

    pub(super) fn colour_is_x(&self) -> bool {
        self.columns.colour.as_deref() == Some(&self.columns.x) && self.columns.also.is_empty()
    }

    pub(super) fn y_name(&self) -> String {
        match &self.columns.also[..] {
            [] => self.settings.y_name(&self.columns.y),
            _ => self.settings.y_label.clone().unwrap_or_default(),
        }
    }
}
