//! Where things go: title, legend, panels with their axes, and the note below.

use super::chart::Chart;
use super::data::{Along, Data};
use super::palette::{self, AXIS, GRID, MUTED, TEXT};
use super::scale::{self, Scale};
use super::scene::{Anchor, Label, Point, Scene};
use super::text;

const MARGIN: f64 = 14.0;
const TITLE: f64 = 15.0;
const AXIS_NAME: f64 = 12.5;
const PLAIN: f64 = 11.5;
const NOTE: f64 = 10.5;
/// Height of one legend row.
const ROW: f64 = 20.0;
/// Space between panels.
const GAP: f64 = 18.0;

/// One panel's inner rectangle with its scales.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panel {
    pub x: Scale,
    pub y: Scale,
}

/// How a kind of chart appears in the legend.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    pub width: f64,
    /// Draws the sample of a group, from a left end and centred at its height.
    pub draw: fn(&mut Scene, Point, usize),
}

/// What a kind of chart asks of the layout.
pub(super) struct Wishes {
    /// Values of y to include.
    pub y: (f64, f64),
    /// Each place along x gets a slot of its own instead of a point.
    pub slots: bool,
    pub sample: Sample,
    pub note: String,
}

/// Draws everything around the data and gives the panels to draw the data into.
pub(super) fn prepare(scene: &mut Scene, chart: &Chart, data: &Data, wishes: &Wishes) -> Vec<Panel> {
    let (y_from, y_to) = chart.y_limits().unwrap_or(wishes.y);
    let columns = grid_columns(data.panels.len());
    let rows = data.panels.len().div_ceil(columns);
    let y_ticks = scale::ticks(y_from, y_to, if rows > 1 { 4 } else { 5 }, false);
    let y_decimals = scale::decimals(&y_ticks);
    let y_labels: Vec<String> = y_ticks.iter().map(|&tick| scale::label(tick, y_decimals)).collect();
    let widest = y_labels.iter().map(|label| text::width(label, PLAIN, false)).fold(0.0, f64::max);

    let top = header(scene, chart, data, wishes.sample);
    let bottom = footer(scene, chart, &wishes.note);
    let left = MARGIN + AXIS_NAME + 10.0 + widest + 6.0;
    let right = scene.width - MARGIN - 6.0;
    let label =
        |at, text: &str, size, colour, anchor| Label { at, text: text.to_owned(), size, bold: false, colour, anchor, turned: false };
    scene.text(label(((left + right) / 2.0, bottom - 2.0), &chart.x_name(), AXIS_NAME, TEXT, Anchor::Middle));

    let name_height = if data.panels.len() > 1 { 20.0 } else { 4.0 };
    let inside = bottom - AXIS_NAME - 6.0 - top;
    let width = (right - left - GAP * (columns - 1) as f64) / columns as f64;
    let slots = SlotLabels::of(data, wishes.slots, width);
    let x_labels_height = slots.height();
    let height = inside / rows as f64 - name_height - x_labels_height - 6.0 - if rows > 1 { 4.0 } else { 0.0 };

    let panels: Vec<Panel> = (0..data.panels.len())
        .map(|index| {
            let (column, row) = (index % columns, index / columns);
            let from = left + column as f64 * (width + GAP);
            let above = top + row as f64 * (inside / rows as f64) + name_height;
            let (x_from, x_to) = x_range(&data.along, wishes.slots);
            // Points keep off the edges so that markers are whole.
            let inset = if wishes.slots { 0.0 } else { 8.0 };
            let panel = Panel {
                x: Scale { from: x_from, to: x_to, start: from + inset, end: from + width - inset },
                y: Scale { from: y_from, to: y_to, start: above + height, end: above },
            };
            if data.panels.len() > 1 {
                let name = text::fitted(&data.panels[index], 12.0, width);
                scene.text(Label { bold: true, ..label((from, above - 7.0), &name, 12.0, TEXT, Anchor::Start) });
            }
            for (&tick, name) in y_ticks.iter().zip(&y_labels) {
                let y = panel.y.at(tick);
                let zero = tick == 0.0 && y_from < 0.0;
                scene.line(vec![(from, y), (from + width, y)], 1.0, if zero { AXIS } else { GRID });
                if column == 0 {
                    scene.text(label((from - 7.0, y + 4.0), name, PLAIN, MUTED, Anchor::End));
                }
            }
            let base = above + height;
            scene.line(vec![(from, base), (from + width, base)], 1.2, AXIS);
            x_axis(scene, &data.along, &panel, &slots, base);
            panel
        })
        .collect();
    let middle = panels.first().zip(panels.last()).map_or(0.0, |(first, last)| (first.y.end + last.y.start) / 2.0);
    scene.text(Label { turned: true, ..label((MARGIN + AXIS_NAME * 0.8, middle), &chart.y_name(), AXIS_NAME, TEXT, Anchor::Middle) });
    panels
}

/// Up to three panels stand in a row, more in a grid.
fn grid_columns(panels: usize) -> usize {
    match panels {
        0..=3 => panels.max(1),
        4 => 2,
        5..=9 => 3,
        _ => 4,
    }
}

/// Title and legend; returns where the panels may begin.
fn header(scene: &mut Scene, chart: &Chart, data: &Data, sample: Sample) -> f64 {
    let mut y = MARGIN;
    let start = MARGIN + 2.0;
    if let Some(title) = chart.title_text() {
        let text = text::fitted(title, TITLE * 1.08, scene.width - 2.0 * start);
        scene.text(Label {
            at: (start, y + TITLE * 0.85),
            text,
            size: TITLE,
            bold: true,
            colour: TEXT,
            anchor: Anchor::Start,
            turned: false,
        });
        y += TITLE + 10.0;
    }
    // Where the colour only repeats what stands along x, a legend would say it twice.
    if chart.has_legend(data) {
        let mut x = start;
        for (group, name) in data.groups.iter().enumerate() {
            let name = text::fitted(name, 12.0, scene.width / 2.0);
            let wide = sample.width + 7.0 + text::width(&name, 12.0, false) + 20.0;
            if x > start && x + wide - 20.0 > scene.width - MARGIN {
                x = start;
                y += ROW;
            }
            (sample.draw)(scene, (x, y + ROW / 2.0), group);
            let at = (x + sample.width + 7.0, y + ROW / 2.0 + 4.2);
            scene.text(Label { at, text: name, size: 12.0, bold: false, colour: TEXT, anchor: Anchor::Start, turned: false });
            x += wide;
        }
        y += ROW + 6.0;
    }
    y + 4.0
}

/// The note at the very bottom; returns where the name of the x axis has its baseline.
fn footer(scene: &mut Scene, chart: &Chart, note: &str) -> f64 {
    let mut bottom = scene.height - MARGIN;
    if !note.is_empty() && chart.shows_note() {
        let text = text::fitted(note, NOTE, scene.width - 2.0 * MARGIN);
        let at = (scene.width - MARGIN, bottom + 3.0);
        scene.text(Label { at, text, size: NOTE, bold: false, colour: MUTED, anchor: Anchor::End, turned: false });
        bottom -= NOTE + 8.0;
    }
    bottom
}

fn x_range(along: &Along, slots: bool) -> (f64, f64) {
    match along {
        _ if slots => (-0.5, along.len() as f64 - 0.5),
        Along::Names(names) => (-0.3, names.len() as f64 - 0.7),
        Along::Numbers(values) => match (values.first(), values.last()) {
            (Some(&first), Some(&last)) if first < last => (first, last),
            (Some(&only), _) => (only - 0.5, only + 0.5),
            _ => (0.0, 1.0),
        },
    }
}

/// The labels of places that are names: level and broken into lines where they fit, upright where they do not.
enum SlotLabels {
    /// The axis is labelled by ticks.
    None,
    Level(Vec<Vec<String>>),
    Upright(Vec<String>),
}

impl SlotLabels {
    fn of(data: &Data, slots: bool, width: f64) -> Self {
        if !slots && matches!(data.along, Along::Numbers(_)) {
            return Self::None;
        }
        let labels = data.along.labels();
        let slot = width / data.along.len().max(1) as f64 - 6.0;
        let level: Vec<Vec<String>> = labels.iter().map(|label| text::wrapped(label, PLAIN, slot, 3)).collect();
        let whole = |(label, lines): (&String, &Vec<String>)| lines.join(" ") == label.split_whitespace().collect::<Vec<_>>().join(" ");
        if labels.iter().zip(&level).all(whole) {
            Self::Level(level)
        } else {
            Self::Upright(labels.iter().map(|label| text::fitted(label, PLAIN, 110.0)).collect())
        }
    }

    fn height(&self) -> f64 {
        match self {
            Self::None => 14.0,
            Self::Level(labels) => labels.iter().map(Vec::len).max().unwrap_or(1) as f64 * 14.0,
            Self::Upright(labels) => labels.iter().map(|label| text::width(label, PLAIN, false)).fold(14.0, f64::max) + 4.0,
        }
    }
}

fn x_axis(scene: &mut Scene, along: &Along, panel: &Panel, slots: &SlotLabels, base: f64) {
    let label =
        |at: Point, text: String| Label { at, text, size: PLAIN, bold: false, colour: MUTED, anchor: Anchor::Middle, turned: false };
    match slots {
        SlotLabels::None => {
            let Along::Numbers(values) = along else { return };
            let (ticks, labels) = x_ticks(values, &panel.x);
            for (tick, text) in ticks.into_iter().zip(labels) {
                let x = panel.x.at(tick);
                scene.line(vec![(x, base), (x, base + 4.0)], 1.0, AXIS);
                scene.text(label((x, base + 16.0), text));
            }
        }
        SlotLabels::Level(labels) => {
            for (place, lines) in labels.iter().enumerate() {
                for (line, text) in lines.iter().enumerate() {
                    scene.text(label((panel.x.at(place as f64), base + 16.0 + 14.0 * line as f64), text.clone()));
                }
            }
        }
        SlotLabels::Upright(labels) => {
            for (place, text) in labels.iter().enumerate() {
                let at = (panel.x.at(place as f64) + PLAIN * 0.35, base + 7.0);
                scene.text(Label { anchor: Anchor::End, turned: true, ..label(at, text.clone()) });
            }
        }
    }
}

/// The values themselves where they are few and far enough apart (2, 4, 8, 16), else round numbers.
fn x_ticks(values: &[f64], x: &Scale) -> (Vec<f64>, Vec<String>) {
    let own: Vec<String> = values.iter().map(|&value| scale::signed(&crate::display::number(value))).collect();
    let apart = values.windows(2).zip(own.windows(2)).all(|(pair, labels)| {
        let room = labels.iter().map(|label| text::width(label, PLAIN, false)).sum::<f64>() / 2.0 + 8.0;
        x.at(pair[1]) - x.at(pair[0]) >= room
    });
    if values.len() <= 16 && apart {
        return (values.to_vec(), own);
    }
    let whole = values.iter().all(|value| value.fract() == 0.0);
    let wanted = ((x.end - x.start) / 45.0).clamp(2.0, 12.0) as usize;
    let ticks = scale::ticks(x.from, x.to, wanted, whole);
    let decimals = scale::decimals(&ticks);
    let labels = ticks.iter().map(|&tick| scale::label(tick, decimals)).collect();
    (ticks, labels)
}

/// A legend sample for areas: a filled square.
pub(super) const SQUARE: Sample =
    Sample { width: 14.0, draw: |scene, (x, y), group| scene.rectangle((x, y - 7.0), (x + 14.0, y + 7.0), palette::colour(group)) };

/// A legend sample for lines: a stretch of the line with its marker, drawn from the marker outwards so that both sides match.
pub(super) const LINE: Sample = Sample {
    width: 34.0,
    draw: |scene, (x, y), group| {
        for end in [x, x + 34.0] {
            scene.dashed(&[(x + 17.0, y), (end, y)], 2.2, palette::colour(group), palette::dash(group));
        }
        palette::marker(scene, (x + 17.0, y), group, 4.0);
    },
};
