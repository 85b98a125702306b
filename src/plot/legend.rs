//! The legend: a row of samples with names, or a row of colours in order.

use super::layout::MARGIN;
use super::palette::{self, AXIS, MUTED, MarkStyle, TEXT};
use super::scene::{Anchor, Label, Point, Scene};
use super::{scale, text};

/// Height of one row.
const ROW: f64 = 20.0;
/// Space between entries.
const SPACE: f64 = 20.0;
const SIZE: f64 = 12.0;

/// How a kind of chart appears in the legend.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub width: f64,
    /// Draws the sample of a style, from a left end and centred at its height.
    pub draw: fn(&mut Scene, Point, MarkStyle),
}

/// What the legend says.
pub(crate) struct Legend {
    /// What the names are values of; empty where they speak for themselves.
    pub title: String,
    pub names: Vec<(String, MarkStyle, Sample)>,
    /// Many groups in order: a colour each, with some of their names.
    pub row: Vec<(String, MarkStyle)>,
}

/// Draws it from the height `y` on; returns where the panels may begin.
pub(crate) fn draw(scene: &mut Scene, legend: &Legend, mut y: f64) -> f64 {
    let start = MARGIN + 2.0;
    let mut x = start;
    if !legend.title.is_empty() {
        let title = text::fitted(&legend.title, SIZE, scene.width / 3.0);
        scene.text(Label::new((x, y + ROW / 2.0 + 4.2), &title, SIZE, MUTED, Anchor::Start));
        x += text::width(&title, SIZE, false) + SPACE * 0.7;
    }
    if !legend.row.is_empty() {
        row(scene, &legend.row, (x, y));
        y += ROW + 12.0;
        x = start;
        if legend.names.is_empty() {
            return y;
        }
    }
    let from = x;
    let right = scene.width - MARGIN;
    let rows = (scene.height * 0.25 / ROW).clamp(2.0, 5.0) as usize;
    // Names are cut where the legend would take more rows.
    let widest = legend.names.iter().map(|(_, _, sample)| sample.width).fold(0.0, f64::max);
    let names = |most: f64| legend.names.iter().map(|(name, ..)| text::fitted(name, SIZE, most.max(24.0))).collect::<Vec<_>>();
    let wide = |name: &str| widest + 7.0 + text::width(name, SIZE, false) + SPACE;
    let rows_of = |names: &[String]| {
        let step = |(rows, x): (usize, f64), name: &String| match x + wide(name) - SPACE > right && x > start {
            true => (rows + 1, start + wide(name)),
            false => (rows, x + wide(name)),
        };
        names.iter().fold((1, from), step).0
    };
    let full = right - from - widest - 7.0;
    let across = |panels_per_row: usize| (right - from + SPACE) / panels_per_row as f64 - widest - 7.0 - SPACE;
    let choices = std::iter::once(full).chain((2..=legend.names.len().max(2)).map(across));
    let cut = choices.map(names).find(|names| rows_of(names) <= rows).unwrap_or_else(|| names(24.0));
    for (name, (whole, style, sample)) in cut.iter().zip(&legend.names) {
        if x > start && x + wide(name) - SPACE > right {
            x = start;
            y += ROW;
        }
        (sample.draw)(scene, (x, y + ROW / 2.0), *style);
        let at = (x + widest + 7.0, y + ROW / 2.0 + 4.2);
        scene.text(Label::new(at, name, SIZE, TEXT, Anchor::Start));
        if name != whole {
            scene.hover((x, y), (x + wide(name) - SPACE, y + ROW), whole.clone());
        }
        x += wide(name);
    }
    y + ROW + 10.0
}

/// Colours side by side, some with their names below.
fn row(scene: &mut Scene, row: &[(String, MarkStyle)], (x, y): Point) {
    let room = (scene.width - MARGIN - x - 8.0).min(360.0);
    let each = (room / row.len() as f64).min(26.0);
    let widest = row.iter().map(|(name, _)| text::width(&text::fitted(name, 10.5, 90.0), 10.5, false)).fold(0.0, f64::max);
    let every = scale::every(each, widest + 8.0);
    let (top, base) = (y + 4.0, y + 14.0);
    for (at, (name, style)) in row.iter().enumerate() {
        let left = x + at as f64 * each;
        // Under the next: pieces that only touch show seams in browsers.
        let right = if at + 1 < row.len() { left + each + 0.3 } else { left + each };
        scene.rectangle((left, top), (right, base), style.colour);
        if at % every == 0 {
            let middle = left + each / 2.0;
            scene.line(vec![(middle, base), (middle, base + 3.0)], 1.0, AXIS);
            let anchor = if at == 0 && widest > each { Anchor::Start } else { Anchor::Middle };
            let from = if anchor == Anchor::Start { left } else { middle };
            scene.text(Label::new((from, base + 13.0), &text::fitted(name, 10.5, 90.0), 10.5, MUTED, anchor));
        }
        scene.hover((left, top), (right, base), name.clone());
    }
}

/// A legend sample for areas: a filled square.
pub(crate) const SQUARE: Sample =
    Sample { width: 14.0, draw: |scene, (x, y), style| scene.rectangle((x, y - 7.0), (x + 14.0, y + 7.0), style.colour) };

/// A legend sample for points: the marker.
pub(crate) const MARKER: Sample = Sample { width: 12.0, draw: |scene, (x, y), style| palette::marker(scene, (x + 6.0, y), style, 4.6) };

/// A legend sample for lines: a stretch of the line with its marker, drawn from the marker outwards so that both sides match.
pub(crate) const LINE: Sample = Sample {
    width: 34.0,
    draw: |scene, (x, y), style| {
        for end in [x, x + 34.0] {
            scene.dashed(&[(x + 17.0, y), (end, y)], 2.2, style.colour, style.pattern());
        }
        palette::marker(scene, (x + 17.0, y), style, 4.0);
    },
};
