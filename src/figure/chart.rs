//! The builder behind the charts.

use polars::prelude::DataFrame;

use super::axis::{Places, YAxis};
use super::data::{Columns, Data};
use super::layout::{self, Legend, Panel, Sample, Wishes};
use super::scale::{self, Steps};
use super::scene::Scene;
use super::settings::{Settings, setters};
use super::{Figure, alt, bars, check, lines, note, points, violins};
use crate::error::Result;
use crate::interrupt;

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
    pub(super) whiskers: bool,
    pub(super) fit: bool,
}

impl Chart {
    fn new(marks: Marks, x: &str, y: &str) -> Self {
        let columns = Columns { x: x.to_owned(), y: y.to_owned(), ..Columns::default() };
        let (x_steps, y_steps) = (Steps::Linear, Steps::Linear);
        Self { marks, columns, settings: Settings::default(), y_range: None, x_steps, y_steps, whiskers: false, fit: false }
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
    /// quartiles (s alone where that is 0), and n the number of rows. Violins end at the least and the greatest value, and all are equally
    /// wide at their widest. Fewer than 5 rows, or rows without spread, are shown as points.
    pub fn violins(x: &str, y: &str) -> Self {
        Self::new(Marks::Violins, x, y)
    }

    /// One line, bar, or colour of points or violins per value of this column, at most 16.
    pub fn colour(mut self, column: &str) -> Self {
        self.columns.colour = Some(column.to_owned());
        self
    }

    /// One panel per value of this column, at most 16, all with the same axes.
    pub fn facet(mut self, column: &str) -> Self {
        self.columns.facet = Some(column.to_owned());
        self
    }

    /// One more y column, in the same panel: a line, bar or colour of its own (train loss and dev loss).
    pub fn also(mut self, column: &str) -> Self {
        self.columns.also.push(column.to_owned());
        self
    }

    /// One more y column, in a panel of its own with a y axis of its own (accuracy and ECE).
    pub fn beside(mut self, column: &str) -> Self {
        self.columns.beside.push(column.to_owned());
        self
    }

    /// Names, of x, colours or panels, that come first and in this order, and have the same colours in every figure that gives the same
    /// order; names that are not in the list follow as they appear.
    pub fn order(mut self, names: &[&str]) -> Self {
        self.columns.order = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// The column that holds the spread to show around each value, instead of the standard deviation of repeated rows.
    pub fn error(mut self, column: &str) -> Self {
        self.columns.error = Some(column.to_owned());
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

    setters!();

    /// Draws the frame.
    ///
    /// # Errors
    /// A column is missing (the message lists those there are), y or the error column holds no numbers, the frame has no rows or no
    /// row with finite numbers, there are too many groups, panels or names along x, a value that a logarithmic axis cannot show, a setting
    /// that these marks do not have, or the size (too small for the labels, for instance) or the range of y is out of bounds.
    pub fn draw(&self, frame: &DataFrame) -> Result<Figure> {
        interrupt::during("drawing", || {
            let (scene, alt) = self.scene(frame)?;
            Figure::of(&scene, alt, frame)
        })
    }

    /// The shapes, and the description in words.
    pub(super) fn scene(&self, frame: &DataFrame) -> Result<(Scene, String)> {
        check::settings(self)?;
        let data = Data::read(frame, &self.columns, &self.settings)?;
        check::values(self, &data)?;
        let shared = data.panels.len() == data.abreast;
        let abreast = if shared || data.abreast == 1 { layout::abreast(data.panels.len()) } else { data.abreast };
        let (width, height) = self.settings.size(match data.panels.len().div_ceil(abreast) {
            1 => (720, 400),
            2 => (720, 560),
            3 => (720, 760),
            _ => (900, 960),
        })?;
        let mut scene = Scene::new(width, height);
        let rows = data.panels.len().div_ceil(abreast);
        let wishes = Wishes {
            legend: self.legend(&data),
            panels: data.panels.clone(),
            abreast,
            remarks: if self.fit { points::remarks(&data) } else { Vec::new() },
            along: data.along.clone(),
            places: match self.marks {
                Marks::Bars | Marks::Violins => Places::Slots,
                Marks::Lines => Places::Apart(self.x_steps),
                Marks::Points => Places::Round(self.x_steps),
            },
            x_name: self.settings.x_name(&self.columns.x),
            y_name: if shared { self.y_name() } else { String::new() },
            y: (0..data.ys.min(data.panels.len() / data.abreast)).map(|index| self.y_axis(&data, index, rows)).collect(),
            right: 0.0,
            strip: 0.0,
            note: note::text(self, &data),
        };
        let panels: Vec<Panel> = layout::prepare(&mut scene, &self.settings, &wishes)?;
        match self.marks {
            Marks::Lines => lines::draw(&mut scene, self, &data, &panels),
            Marks::Bars => bars::draw(&mut scene, self, &data, &panels),
            Marks::Points => points::draw(&mut scene, self, &data, &panels),
            Marks::Violins => violins::draw(&mut scene, self, &data, &panels),
        }
        Ok((scene, alt::text(self, &data)))
    }

    /// The y axis of the `index`-th y column that has one.
    fn y_axis(&self, data: &Data, index: usize, rows: usize) -> YAxis {
        let wanted = if rows > 1 { 4 } else { 5 };
        let cells: Vec<_> = data.sharing(index * data.abreast).collect();
        let (least, greatest) = match self.marks {
            Marks::Lines | Marks::Bars => scale::extent(cells.iter().flat_map(|cell| {
                let ends = cell.ends().map_or([cell.mean; 2], |ends| ends.map(|end| end.value));
                [ends[0], cell.mean, ends[1]]
            })),
            Marks::Points | Marks::Violins => scale::extent(cells.iter().flat_map(|cell| cell.values.iter().copied())),
        };
        if let Some(range) = self.y_range {
            return YAxis::of(range, wanted, self.y_steps);
        }
        let bounds = (scale::extent(cells.iter().map(|cell| cell.bounds.0)).0, scale::extent(cells.iter().map(|cell| cell.bounds.1)).1);
        let range = match (self.y_steps, self.marks) {
            // The lower end of a spread may lie below zero, where logarithms end: there the values decide.
            (Steps::Log(_), _) => {
                let values = scale::extent(cells.iter().flat_map(|cell| cell.values.iter().copied()));
                (values.0 / 1.15, (values.1 * 1.15).min(f64::MAX))
            }
            (Steps::Linear, Marks::Bars) => scale::rounded(bars::range(data, (least, greatest)), wanted, bounds),
            (Steps::Linear, _) => scale::rounded(scale::range(least, greatest, false), wanted, bounds),
        };
        YAxis::of(range, wanted, self.y_steps).within(bounds)
    }

    fn legend(&self, data: &Data) -> Option<Legend> {
        // Where the colour only repeats what stands along x, a legend would say it twice.
        let there = data.groups.len() > 1 && !self.colour_is_x();
        let sample: Sample = match self.marks {
            Marks::Lines => layout::LINE,
            Marks::Points => layout::MARKER,
            Marks::Bars | Marks::Violins => layout::SQUARE,
        };
        let title = self.columns.colour.as_deref().filter(|_| data.numbered).map_or_else(String::new, |colour| self.settings.name(colour));
        there.then(|| Legend { title, names: data.groups.clone(), looks: data.looks.clone(), sample })
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
