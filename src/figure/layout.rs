//! Where things go: title, legend, the grid of panels, and the notes below.

use super::axis::{Places, XAxis, YAxis};
use super::palette::{self, AXIS, MUTED, TEXT};
use super::read::Along;
use super::scale::Scale;
use super::scene::{Anchor, Label, Point, Scene};
use super::settings::Settings;
use super::text;
use crate::error::{Error, Result};

const MARGIN: f64 = 14.0;
const TITLE: f64 = 15.0;
const AXIS_NAME: f64 = 12.5;
const NOTE: f64 = 10.5;
/// Height of one legend row.
const ROW: f64 = 20.0;
/// Space between legend entries.
const SPACE: f64 = 20.0;
/// Space between panels.
const GAP: f64 = 18.0;

/// One panel's inner rectangle with its scales.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panel {
    pub x: Scale,
    pub y: Scale,
    /// The left and right edge.
    pub sides: (f64, f64),
    /// The x axis' line: lower than y's start where there is a strip between them.
    pub base: f64,
}

/// How a kind of chart appears in the legend.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    pub width: f64,
    /// Draws the sample of a look, from a left end and centred at its height.
    pub draw: fn(&mut Scene, Point, usize),
}

/// What the legend says.
pub(super) struct Legend {
    /// What the names are values of; empty where they speak for themselves.
    pub title: String,
    pub names: Vec<String>,
    pub looks: Vec<usize>,
    pub sample: Sample,
}

/// What a kind of figure asks of the layout.
pub(super) struct Wishes {
    pub legend: Option<Legend>,
    /// The panels' names; one empty name for a figure without.
    pub panels: Vec<String>,
    /// Panels in one row of the grid.
    pub abreast: usize,
    /// What stands above each panel on the right; may be empty.
    pub remarks: Vec<String>,
    pub along: Along,
    pub places: Places,
    pub x_name: String,
    /// May be empty: where panels have different y axes, their names say which.
    pub y_name: String,
    /// One for all panels, or one for each equal share of them.
    pub y: Vec<YAxis>,
    /// Room to the right of the panels.
    pub right: f64,
    /// Room between each panel and its x axis.
    pub strip: f64,
    pub note: String,
}

/// The least height and width of a panel that can be read.
const LEAST_PANEL: f64 = 40.0;

/// Draws everything around the data and gives the panels to draw the data into.
///
/// # Errors
/// The figure is too small for its legend, labels and panels, or has too many names along x.
pub(super) fn prepare(scene: &mut Scene, settings: &Settings, wishes: &Wishes) -> Result<Vec<Panel>> {
    let count = wishes.panels.len();
    let columns = wishes.abreast.clamp(1, count.max(1));
    let rows = count.div_ceil(columns);
    let axis = |panel: usize| panel * wishes.y.len() / count;
    // A panel labels its y axis where the one on its left has another.
    let labelled = |panel: usize| panel.is_multiple_of(columns) || axis(panel) != axis(panel - 1);

    let top = header(scene, settings, wishes.legend.as_ref());
    let bottom = footer(scene, settings, &wishes.note);
    let width_of = |column: usize| {
        (0..count)
            .filter(|&panel| panel % columns == column && labelled(panel))
            .map(|panel| wishes.y[axis(panel)].width() + 8.0)
            .fold(0.0, f64::max)
    };
    let left = MARGIN + if wishes.y_name.is_empty() { 0.0 } else { AXIS_NAME + 8.0 };
    let right = scene.width - MARGIN - 6.0 - wishes.right;
    let labels: Vec<f64> = (0..columns).map(width_of).collect();
    let width = (right - left - labels.iter().sum::<f64>() - GAP * (columns - 1) as f64) / columns as f64;
    let too_small = || {
        let size = format!("{} x {}", scene.width, scene.height);
        let panels = if count == 1 { "the panel".to_owned() } else { format!("{count} panels") };
        Error::input(format!("figure: {size} is too small for {panels}, the labels and the legend: set a larger size"))
    };
    if width < LEAST_PANEL {
        return Err(too_small());
    }
    let x = XAxis::of(&wishes.along, wishes.places, width)?;
    let named = count > 1 || wishes.panels.iter().chain(&wishes.remarks).any(|name| !name.is_empty());
    let name_height = if named { 22.0 } else { 4.0 };
    // Only the lowest panels label their x axis: the others share it.
    let inside = bottom - AXIS_NAME - 6.0 - x.height() - 6.0 - top;
    let height = inside / rows as f64 - name_height - wishes.strip - if rows > 1 { 8.0 } else { 0.0 };
    if height < LEAST_PANEL {
        return Err(too_small());
    }

    let panels: Vec<Panel> = (0..count)
        .map(|index| {
            let (column, row) = (index % columns, index / columns);
            let from = left + labels[..=column].iter().sum::<f64>() + column as f64 * (width + GAP);
            let above = top + row as f64 * (inside / rows as f64) + name_height;
            let (end, to) = (above + height, from + width);
            let y = &wishes.y[axis(index)];
            let panel = Panel { x: x.scale(from, to), y: y.scale(end, above), sides: (from, to), base: end + wishes.strip };
            heading(scene, &wishes.panels[index], wishes.remarks.get(index).map_or("", String::as_str), (from, to), above - 8.0);
            y.draw(scene, &panel.y, (from, to), labelled(index));
            scene.line(vec![(from, panel.base), (to, panel.base)], 1.2, AXIS);
            x.draw(scene, &panel.x, panel.base, index + columns >= count);
            panel
        })
        .collect();
    let middle = panels.first().zip(panels.last()).map_or(0.0, |(first, last)| (first.y.end + last.y.start) / 2.0);
    let x_name = text::fitted(&wishes.x_name, AXIS_NAME, right - left);
    let y_name = text::fitted(&wishes.y_name, AXIS_NAME, 2.0 * (middle - top).min(bottom - middle));
    let centre = panels.first().map_or(left, |panel| panel.sides.0).midpoint(right);
    scene.text(Label::new((centre, bottom - 2.0), &x_name, AXIS_NAME, TEXT, Anchor::Middle));
    scene.text(Label { turned: true, ..Label::new((MARGIN + AXIS_NAME * 0.8, middle), &y_name, AXIS_NAME, TEXT, Anchor::Middle) });
    Ok(panels)
}

/// A panel's name on the left and its remark on the right, above it.
fn heading(scene: &mut Scene, name: &str, remark: &str, (from, to): (f64, f64), y: f64) {
    let remark = text::fitted(remark, 11.0, (to - from) * 0.7);
    let room = to - from - if remark.is_empty() { 0.0 } else { text::width(&remark, 11.0, false) + 10.0 };
    // Bold letters are wider than the plain ones that `fitted` measures.
    let name = if room > 12.0 { text::fitted(name, 12.0, room * 0.88) } else { String::new() };
    scene.text(Label { bold: true, ..Label::new((from, y), &name, 12.0, TEXT, Anchor::Start) });
    scene.text(Label::new((to, y), &remark, 11.0, MUTED, Anchor::End));
}

/// Up to three panels stand in a row, more in a grid.
pub(super) fn abreast(panels: usize) -> usize {
    match panels {
        0..=3 => panels.max(1),
        4 => 2,
        5..=9 => 3,
        _ => 4,
    }
}

/// Title and legend; returns where the panels may begin.
fn header(scene: &mut Scene, settings: &Settings, legend: Option<&Legend>) -> f64 {
    let mut y = MARGIN;
    let start = MARGIN + 2.0;
    if let Some(title) = &settings.title {
        let text = text::fitted(title, TITLE * 1.15, scene.width - 2.0 * start);
        scene.text(Label { bold: true, ..Label::new((start, y + TITLE * 0.85), &text, TITLE, TEXT, Anchor::Start) });
        y += TITLE + 10.0;
    }
    let Some(legend) = legend else { return y + 4.0 };
    let mut x = start;
    if !legend.title.is_empty() {
        let title = text::fitted(&legend.title, 12.0, scene.width / 3.0);
        scene.text(Label::new((x, y + ROW / 2.0 + 4.2), &title, 12.0, MUTED, Anchor::Start));
        x += text::width(&title, 12.0, false) + SPACE * 0.7;
    }
    let (sample, from) = (legend.sample, x);
    let right = scene.width - MARGIN;
    let rows = (scene.height * 0.25 / ROW).clamp(2.0, 5.0) as usize;
    // Names are cut where the legend would take more rows.
    let names = |most: f64| legend.names.iter().map(|name| text::fitted(name, 12.0, most.max(24.0))).collect::<Vec<_>>();
    let wide = |name: &str| sample.width + 7.0 + text::width(name, 12.0, false) + SPACE;
    let rows_of = |names: &[String]| {
        let step = |(rows, x): (usize, f64), name: &String| match x + wide(name) - SPACE > right && x > start {
            true => (rows + 1, start + wide(name)),
            false => (rows, x + wide(name)),
        };
        names.iter().fold((1, from), step).0
    };
    let full = right - from - sample.width - 7.0;
    let across = |abreast: usize| (right - from + SPACE) / abreast as f64 - sample.width - 7.0 - SPACE;
    let choices = std::iter::once(full).chain((2..=legend.names.len().max(2)).map(across));
    let names = choices.map(names).find(|names| rows_of(names) <= rows).unwrap_or_else(|| names(24.0));
    for (name, &look) in names.iter().zip(&legend.looks) {
        if x > start && x + wide(name) - SPACE > right {
            x = start;
            y += ROW;
        }
        (sample.draw)(scene, (x, y + ROW / 2.0), look);
        let at = (x + sample.width + 7.0, y + ROW / 2.0 + 4.2);
        scene.text(Label::new(at, name, 12.0, TEXT, Anchor::Start));
        x += wide(name);
    }
    y + ROW + 10.0
}

/// The notes at the very bottom, in at most three lines; returns where the name of the x axis has its baseline.
fn footer(scene: &mut Scene, settings: &Settings, note: &str) -> f64 {
    let mut bottom = scene.height - MARGIN;
    if settings.note && !note.is_empty() {
        for line in text::wrapped(note, NOTE, scene.width - 2.0 * MARGIN, 3).iter().rev() {
            scene.text(Label::new((scene.width - MARGIN, bottom + 3.0), line, NOTE, MUTED, Anchor::End));
            bottom -= NOTE + 3.0;
        }
        bottom -= 5.0;
    }
    bottom
}

/// A legend sample for areas: a filled square.
pub(super) const SQUARE: Sample =
    Sample { width: 14.0, draw: |scene, (x, y), look| scene.rectangle((x, y - 7.0), (x + 14.0, y + 7.0), palette::colour(look)) };

/// A legend sample for points: the marker.
pub(super) const MARKER: Sample = Sample { width: 12.0, draw: |scene, (x, y), look| palette::marker(scene, (x + 6.0, y), look, 4.6) };

/// A legend sample for lines: a stretch of the line with its marker, drawn from the marker outwards so that both sides match.
pub(super) const LINE: Sample = Sample {
    width: 34.0,
    draw: |scene, (x, y), look| {
        for end in [x, x + 34.0] {
            scene.dashed(&[(x + 17.0, y), (end, y)], 2.2, palette::colour(look), palette::dash(look));
        }
        palette::marker(scene, (x + 17.0, y), look, 4.0);
    },
};
