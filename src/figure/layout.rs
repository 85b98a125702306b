//! Where things go: title, legend, the grid of panels, and the note below.

use super::axis::{XAxis, YAxis};
use super::chart::Chart;
use super::data::Data;
use super::palette::{self, AXIS, MUTED, TEXT};
use super::scale::{self, Scale};
use super::scene::{Anchor, Label, Point, Scene};
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
    /// The range of y that the values need; it may be extended to a near tick.
    pub y: (f64, f64),
    /// Each place along x gets a slot of its own instead of a point.
    pub slots: bool,
    pub sample: Sample,
    pub note: String,
}

/// The least height of a panel that can be read.
const LEAST_PANEL: f64 = 40.0;

/// Draws everything around the data and gives the panels to draw the data into.
///
/// # Errors
/// The figure is too small for its legend, labels and panels.
pub(super) fn prepare(scene: &mut Scene, chart: &Chart, data: &Data, wishes: &Wishes) -> Result<Vec<Panel>> {
    let count = data.panels.len();
    let columns = grid_columns(count);
    let rows = count.div_ceil(columns);
    let wanted = if rows > 1 { 4 } else { 5 };
    let y = YAxis::of(chart.y_limits().unwrap_or_else(|| scale::rounded(wishes.y, wanted)), wanted);

    let top = header(scene, chart, data, wishes.sample);
    let bottom = footer(scene, chart, &wishes.note);
    let left = MARGIN + AXIS_NAME + 10.0 + y.width() + 6.0;
    let right = scene.width - MARGIN - 6.0;
    let width = (right - left - GAP * (columns - 1) as f64) / columns as f64;
    let x = XAxis::of(&data.along, wishes.slots, width);
    let name_height = if count > 1 { 22.0 } else { 4.0 };
    // Only the lowest panels label their x axis: the others share it.
    let inside = bottom - AXIS_NAME - 6.0 - x.height() - 6.0 - top;
    let height = inside / rows as f64 - name_height - if rows > 1 { 8.0 } else { 0.0 };
    if height < LEAST_PANEL || width < LEAST_PANEL {
        let size = format!("{} x {}", scene.width, scene.height);
        return Err(Error::input(format!("figure: {size} is too small for {count} panels, the labels and the legend: set a larger size")));
    }

    let panels: Vec<Panel> = (0..count)
        .map(|index| {
            let (column, row) = (index % columns, index / columns);
            let from = left + column as f64 * (width + GAP);
            let above = top + row as f64 * (inside / rows as f64) + name_height;
            let (base, to) = (above + height, from + width);
            let panel = Panel { x: x.scale(from, to), y: Scale { from: y.from, to: y.to, start: base, end: above } };
            if count > 1 {
                let name = text::fitted(&data.panels[index], 12.0, width * 0.94);
                scene.text(Label { bold: true, ..Label::new((from, above - 8.0), &name, 12.0, TEXT, Anchor::Start) });
            }
            y.draw(scene, &panel.y, (from, to), column == 0);
            scene.line(vec![(from, base), (to, base)], 1.2, AXIS);
            x.draw(scene, &panel.x, base, index + columns >= count);
            panel
        })
        .collect();
    let middle = panels.first().zip(panels.last()).map_or(0.0, |(first, last)| (first.y.end + last.y.start) / 2.0);
    let x_name = text::fitted(&chart.x_name(), AXIS_NAME, right - left);
    let y_name = text::fitted(&chart.y_name(), AXIS_NAME, 2.0 * (middle - top).min(bottom - middle));
    scene.text(Label::new(((left + right) / 2.0, bottom - 2.0), &x_name, AXIS_NAME, TEXT, Anchor::Middle));
    scene.text(Label { turned: true, ..Label::new((MARGIN + AXIS_NAME * 0.8, middle), &y_name, AXIS_NAME, TEXT, Anchor::Middle) });
    Ok(panels)
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
        let text = text::fitted(title, TITLE * 1.15, scene.width - 2.0 * start);
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
        // Names are cut so that the legend takes five rows at most.
        let abreast = data.groups.len().div_ceil(5).max(2) as f64;
        let most = (scene.width - start - MARGIN + SPACE) / abreast - sample.width - 7.0 - SPACE;
        let mut x = start;
        for (group, name) in data.groups.iter().enumerate() {
            let name = text::fitted(name, 12.0, most.max(24.0));
            let wide = sample.width + 7.0 + text::width(&name, 12.0, false) + SPACE;
            if x > start && x + wide - SPACE > scene.width - MARGIN {
                x = start;
                y += ROW;
            }
            (sample.draw)(scene, (x, y + ROW / 2.0), group);
            let at = (x + sample.width + 7.0, y + ROW / 2.0 + 4.2);
            scene.text(Label::new(at, &name, 12.0, TEXT, Anchor::Start));
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
        scene.text(Label::new(at, &text, NOTE, MUTED, Anchor::End));
        bottom -= NOTE + 8.0;
    }
    bottom
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
