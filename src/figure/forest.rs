//! Forest plots: paired differences with their intervals, one row each, in groups.

use polars::prelude::*;

use super::settings::setters;
use super::styles::styles;
use super::{Figure, alt, bounds, read};
use crate::error::{Error, Result};
use crate::metric::Direction;
use crate::plot::along::Along;
use crate::plot::axis::{Places, YAxis};
use crate::plot::layout::{self, LayoutOptions, Panel};
use crate::plot::legend::{Legend, Sample};
use crate::plot::palette::{self, AXIS, GRID, MUTED, MarkStyle, TEXT, WHITE};
use crate::plot::scale::{self, Steps};
use crate::plot::scene::{Anchor, Label, Point, Scene};
use crate::plot::settings::Settings;
use crate::plot::text;
use crate::table;

/// Height of a row.
const ROW: f64 = 22.0;
/// The most rows of one figure.
const MOST_ROWS: usize = 90;
/// Size of the values at the side.
const SIDE: f64 = 11.0;
/// Size of a group's name.
const GROUP: f64 = 11.5;

/// A forest plot: a row for each comparison with its difference, the interval around it, and both as numbers at the side.
///
/// A row is a method, against a baseline where there is a column of them; rows stand in groups (tasks), and in panels of their own scale (metrics).
/// The dashed line is at 0, no difference; a mark is full where the interval leaves 0 out, and hollow where it holds it. Above each panel an arrow
/// says which side is better, as the metric of that name has it ([`METRICS`](crate::metric::METRICS)).
///
/// Columns: the ones that are named, of which the differences and their ends hold numbers. A row without a difference is left out, and counted in
/// the note; one without an interval (a test that is not defined) is a point alone.
///
/// ```no_run
/// # fn show(study: &ia2::experiment::Study) -> ia2::Result<ia2::figure::Figure> {
/// use ia2::figure::Forest;
///
/// Forest::new("second", "difference", "lower", "upper")
///     .against("first")
///     .facet("value")
///     .interval("95 % t interval")
///     .draw(&study.significance()?)
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Forest {
    method: String,
    /// Of the difference, its lower and its upper end.
    values: [String; 3],
    baseline: Option<String>,
    group: Option<String>,
    interval: String,
    settings: Settings,
}

impl Forest {
    /// Rows named by the column `method`; `difference` from `low` to `high`.
    pub fn new(method: &str, difference: &str, low: &str, high: &str) -> Self {
        Self {
            method: method.to_owned(),
            values: [difference, low, high].map(str::to_owned),
            baseline: None,
            group: None,
            interval: "interval".to_owned(),
            settings: Settings::default(),
        }
    }

    /// The column of what each row's method is compared with: its difference is the method's value less this one's.
    pub fn against(mut self, column: &str) -> Self {
        self.baseline = Some(column.to_owned());
        self
    }

    /// Rows of one value of this column (the task) stand together below its name.
    pub fn group(mut self, column: &str) -> Self {
        self.group = Some(column.to_owned());
        self
    }

    setters! {
        /// One panel per value of this column (the metric), each with its own scale.
        facet
    }

    /// What the intervals are, in words: `95 % t interval`. By default `interval`.
    pub fn interval(mut self, text: &str) -> Self {
        self.interval = text.to_owned();
        self
    }

    setters! {
        /// Names, of methods, groups or panels, that come first and in this order.
        order
    }

    setters!();

    /// Draws the frame.
    ///
    /// # Errors
    /// A column is missing (the message lists those there are) or holds no numbers; an interval's lower end lies above its upper one; no rows, or none
    /// with a difference; no such page; a size that is out of bounds or too small.
    pub fn draw(&self, frame: &DataFrame) -> Result<Figure> {
        Figure::drawn(frame, || self.scene(frame))
    }

    pub(super) fn scene(&self, frame: &DataFrame) -> Result<(Scene, String)> {
        let (mut panels, skipped) = self.read(frame)?;
        let all: usize = panels.iter().map(|panel| panel.rows.len()).sum();
        let (range, page) = self.settings.paged_of("rows", all, 1, MOST_ROWS)?;
        let mut at = 0..;
        panels.iter_mut().for_each(|panel| panel.rows.retain(|_| at.next().is_some_and(|at| range.contains(&at))));
        panels.retain(|panel| !panel.rows.is_empty());
        let lines = panels.iter().map(|panel| panel.lines().len()).max().unwrap_or(1);
        let height = 90.0 + panels.len() as f64 * (ROW * lines as f64 + 62.0);
        let (width, height) = self.settings.size((720, height.min(4000.0) as u32))?;
        let mut scene = Scene::new(width, height);
        let widest =
            |short| panels.iter().flat_map(|panel| panel.side(short)).map(|text| text::width(&text, SIDE, false)).fold(60.0, f64::max);
        // In a narrow figure the interval is seen, and its numbers are not worth half of the width.
        let short = widest(false) > width * 0.32;
        let head = self.settings.name(&self.values[0]);
        let head = if short { head } else { format!("{head} ({})", self.interval) };
        let side = widest(short).max(text::width(&head, SIDE, false).min(widest(short) * 1.4));
        let names = panels.iter().map(|panel| panel.name.clone()).collect();
        let along = panels.iter().map(|panel| panel.along()).collect();
        let rows = panels.iter().map(|panel| YAxis::list(&panel.labels(), lines, width * 0.3)).collect();
        let options = LayoutOptions {
            legend: Some(self.legend()),
            remarks: panels.iter().map(|panel| panel.better().to_owned()).collect(),
            x_name: self.x_name(),
            right: side + 12.0,
            note: self.remarks(skipped, page),
            ..LayoutOptions::new(names, 1, (along, Places::Round(Steps::Linear)), rows)
        };
        let places = layout::prepare(&mut scene, &self.settings, &options)?;
        let head = text::fitted(&head, SIDE, side);
        for (place, panel) in places.iter().zip(&panels) {
            scene.text(Label::new((place.sides.1 + 12.0 + side, place.y.end - 8.0), &head, SIDE, MUTED, Anchor::End));
            panel.draw(&mut scene, place, side, short);
        }
        Ok((scene, self.alt(&panels, skipped)))
    }

    fn read(&self, frame: &DataFrame) -> Result<(Vec<Rows>, usize)> {
        let number = |name: &String, role: &str| read::numbers(frame, name, role);
        let [difference, low, high] =
            [(0, "the difference"), (1, "the interval"), (2, "the interval")].map(|(at, role)| number(&self.values[at], role));
        let (difference, low, high) = (difference?, low?, high?);
        let names = |column: &Option<String>, role: &str| match column {
            Some(name) => read::names(read::column(frame, name, role)?, &self.settings.order),
            None => Ok((vec![String::new()], vec![0; frame.height()])),
        };
        let (methods, method_of) = names(&Some(self.method.clone()), "the method")?;
        let (baselines, baseline_of) = names(&self.baseline, "the baseline")?;
        let (groups, group_of) = names(&self.group, "the group")?;
        let (facets, facet_of) = names(&self.settings.facet, "the panels")?;
        read::some_rows(frame)?;
        let styles = styles(&methods, &self.settings.order);
        let mut order: Vec<usize> = (0..frame.height()).filter(|&row| difference[row].is_finite()).collect();
        order.sort_by_key(|&row| (facet_of[row], group_of[row], baseline_of[row], method_of[row]));
        let skipped = frame.height() - order.len();
        if order.is_empty() {
            return Err(Error::numeric(format!("figure: none of the {skipped} rows has a number in `{}`", self.values[0])));
        }
        let mut panels: Vec<Rows> = Vec::new();
        let mut last = None;
        for row in order {
            let interval = (low[row].is_finite() && high[row].is_finite()).then_some((low[row], high[row]));
            if let Some((low, high)) = interval.filter(|(low, high)| low > high) {
                let (low_name, high_name) = (&self.values[1], &self.values[2]);
                return Err(Error::input(format!(
                    "figure: in row {row}, `{low_name}` is {low} and `{high_name}` is {high}: an interval goes from the lesser end to the greater"
                )));
            }
            let (method, baseline) = (&methods[method_of[row]], &baselines[baseline_of[row]]);
            let name = if baseline.is_empty() { method.clone() } else { format!("{method} − {baseline}") };
            if last.replace(facet_of[row]) != Some(facet_of[row]) {
                let column = &facets[facet_of[row]];
                let better = bounds::better(column);
                panels.push(Rows { name: self.settings.name(column), better, rows: Vec::new() });
            }
            let row =
                Row { group: groups[group_of[row]].clone(), name, style: styles[method_of[row]], difference: difference[row], interval };
            panels.iter_mut().last().into_iter().for_each(|panel| panel.rows.push(row.clone()));
        }
        Ok((panels, skipped))
    }

    fn x_name(&self) -> String {
        let name = self.settings.x_name(&self.values[0]);
        match (&self.settings.x_label, &self.baseline) {
            (None, Some(baseline)) => format!("{name}: {} − {}", self.called(&self.method), self.called(baseline)),
            _ => name,
        }
    }

    /// `first` and `second` are the frame's words, not a reader's.
    fn called(&self, column: &str) -> String {
        match column {
            "first" if !self.settings.names.contains_key(column) => "baseline".to_owned(),
            "second" if !self.settings.names.contains_key(column) => "method".to_owned(),
            other => self.settings.name(other),
        }
    }

    fn legend(&self) -> Legend {
        let names = vec![(format!("{} excludes 0", self.interval), GREY, FULL), (format!("{} includes 0", self.interval), GREY, HOLLOW)];
        Legend { title: String::new(), names, row: Vec::new() }
    }

    fn remarks(&self, skipped: usize, page: Option<String>) -> String {
        let mut parts = vec![format!("whiskers: {}, not corrected for multiple comparisons; dashed line: no difference", self.interval)];
        parts.extend(page);
        match skipped {
            0 => {}
            1 => parts.push("1 row without a difference left out".to_owned()),
            rows => parts.push(format!("{rows} rows without a difference left out")),
        }
        parts.join("; ")
    }

    fn alt(&self, panels: &[Rows], skipped: usize) -> String {
        let title = self.settings.sentence();
        let phrases = panels.iter().flat_map(|panel| {
            panel.rows.iter().zip(panel.side(false)).map(move |(row, side)| {
                let names = [&panel.name, &row.group, &row.name].map(String::as_str);
                let names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
                format!("{}: {side}", names.join(", "))
            })
        });
        format!(
            "{title}Forest plot of {} with {}. {} ({})",
            self.x_name(),
            self.interval,
            alt::listed(phrases.collect()),
            self.remarks(skipped, None)
        )
    }
}

#[derive(Clone, Debug)]
struct Row {
    group: String,
    name: String,
    style: MarkStyle,
    difference: f64,
    interval: Option<(f64, f64)>,
}

impl Row {
    /// Does the interval leave out 0?
    fn is_apart(&self) -> bool {
        self.interval.is_some_and(|(low, high)| low > 0.0 || high < 0.0)
    }
}

/// The rows of one panel.
struct Rows {
    name: String,
    better: Direction,
    rows: Vec<Row>,
}

/// A line of a panel: a group's name, or a row.
enum Line<'a> {
    Group(&'a str),
    Row(&'a Row),
}

impl Rows {
    fn lines(&self) -> Vec<Line<'_>> {
        let mut out = Vec::new();
        let mut last = "";
        for row in &self.rows {
            if row.group != last {
                last = &row.group;
                out.push(Line::Group(last));
            }
            out.push(Line::Row(row));
        }
        out
    }

    /// The places and the names of its rows.
    fn labels(&self) -> Vec<(usize, String)> {
        let name = |(at, line): (usize, Line<'_>)| match line {
            Line::Row(row) => Some((at, row.name.clone())),
            Line::Group(_) => None,
        };
        self.lines().into_iter().enumerate().filter_map(name).collect()
    }

    fn better(&self) -> &'static str {
        match self.better {
            Direction::Higher => "better →",
            Direction::Lower => "← better",
            Direction::Neutral => "",
        }
    }

    fn values(&self) -> impl Iterator<Item = f64> + '_ {
        self.rows.iter().flat_map(|row| {
            let (low, high) = row.interval.unwrap_or((row.difference, row.difference));
            [low, row.difference, high]
        })
    }

    /// What the x axis reaches: all intervals and 0, with air.
    fn along(&self) -> Along {
        let (least, greatest) = scale::extent(self.values().chain([0.0]));
        let (least, greatest) = if least < greatest { (least, greatest) } else { (-0.5, 0.5) };
        let air = if (greatest - least).is_finite() { 0.06 * (greatest - least) } else { 0.0 };
        // Not the ends alone: between whole numbers, labels would be whole too.
        Along::Numbers(vec![least - air, least.midpoint(greatest) + air * 1e-3, greatest + air])
    }

    /// Each row's numbers, all with the same decimals.
    fn side(&self, short: bool) -> Vec<String> {
        let decimals = table::decimals(self.values()).unwrap_or(2);
        let shown = |value: f64| scale::label(value, decimals);
        let one = |row: &Row| match row.interval {
            _ if short => shown(row.difference),
            Some((low, high)) => format!("{} ({} to {})", shown(row.difference), shown(low), shown(high)),
            None => format!("{} (–)", shown(row.difference)),
        };
        self.rows.iter().map(one).collect()
    }

    fn draw(&self, scene: &mut Scene, panel: &Panel, side: f64, short: bool) {
        let (left, right) = panel.sides;
        let room = (panel.y.at(1.0) - panel.y.at(0.0)).abs();
        let zero = panel.x.at(0.0);
        let (mut numbers, full) = (self.side(short).into_iter(), self.side(false));
        let mut titles = full.into_iter();
        let lines = self.lines();
        scene.dashed(&[(zero, panel.y.end), (zero, panel.y.start)], 1.3, MUTED, &[5.0, 4.0]);
        for (at, line) in lines.iter().enumerate() {
            let y = panel.y.at(at as f64);
            match line {
                Line::Group(name) => {
                    scene.rectangle((left, y - room * 0.42), (right + 12.0 + side, y + room * 0.42), GRID);
                    let name = text::fitted(name, GROUP, (right - left) * 0.85);
                    scene.text(Label { bold: true, ..Label::new((left + 6.0, y + 4.0), &name, GROUP, TEXT, Anchor::Start) });
                }
                Line::Row(row) => {
                    let text = numbers.next().unwrap_or_default();
                    scene.text(Label::new((right + 12.0 + side, y + 3.8), &text, SIDE, TEXT, Anchor::End));
                    let (from, to) = row.interval.unwrap_or((row.difference, row.difference));
                    let title = format!("{}\n{}", row.name, titles.next().unwrap_or_default());
                    scene.hover((panel.x.at(from), y - room / 2.0), (panel.x.at(to), y + room / 2.0), title);
                }
            }
        }
        scene.line(vec![(left, panel.y.start), (left, panel.y.end)], 1.0, AXIS);
        for (at, line) in lines.iter().enumerate() {
            let Line::Row(row) = line else { continue };
            let y = panel.y.at(at as f64);
            if let Some((low, high)) = row.interval {
                let cap = (room * 0.2).min(4.0);
                for end in [low, high].map(|end| panel.x.at(end)) {
                    scene.line(vec![(end, y - cap), (end, y + cap)], 1.6, row.style.colour);
                }
                scene.line(vec![(panel.x.at(low), y), (panel.x.at(high), y)], 1.8, row.style.colour);
            }
            mark(scene, (panel.x.at(row.difference), y), row.style, row.is_apart(), (room * 0.26).min(5.0));
        }
    }
}

/// A marker that is full, or hollow.
fn mark(scene: &mut Scene, at: Point, style: MarkStyle, full: bool, radius: f64) {
    palette::marker(scene, at, style, radius);
    if !full {
        palette::shape(scene, at, style.marker, radius * 0.55, WHITE);
    }
}

const GREY: MarkStyle = MarkStyle { colour: MUTED, marker: 0, dash: 0 };
const FULL: Sample = Sample { width: 26.0, draw: |scene, at, style| sample(scene, at, style, true) };
const HOLLOW: Sample = Sample { width: 26.0, draw: |scene, at, style| sample(scene, at, style, false) };

fn sample(scene: &mut Scene, (x, y): Point, style: MarkStyle, full: bool) {
    scene.line(vec![(x, y), (x + 26.0, y)], 1.8, style.colour);
    mark(scene, (x + 13.0, y), style, full, 4.6);
}
