//! Bars from zero, grouped by place along x, with whiskers and the values written above.

use super::chart::Chart;
use super::data::{Cell, Data, End};
use super::layout::Panel;
use super::palette::{self, MUTED, TEXT, WHITE};
use super::scale;
use super::scene::{Anchor, Label, Scene};
use super::text;

const VALUE: f64 = 10.5;

/// From zero to the values, with room for the numbers above the bars, and below those that hang.
pub(super) fn range(data: &Data, (least, greatest): (f64, f64)) -> (f64, f64) {
    let (from, to) = scale::range(least, greatest, true);
    let room = if data.panels.len() > 3 { 0.13 } else { 0.06 } * (to - from);
    (if least < 0.0 { from - room } else { from }, if greatest > 0.0 { to + room } else { to })
}

pub(super) fn draw(scene: &mut Scene, chart: &Chart, data: &Data, panels: &[Panel]) {
    let bars: Vec<(&Cell, Bar, String)> = data
        .cells
        .iter()
        .map(|cell| {
            let panel = &panels[cell.panel];
            let decimals = scale::finer_decimals(&scale::ticks(panel.y.from, panel.y.to, 5, false));
            (cell, bar(panel, chart, data, cell), scale::label(cell.mean, decimals))
        })
        .collect();
    // All values are written or none: some would look like a choice.
    let fits = bars.iter().all(|(_, bar, label)| text::width(label, VALUE, false) <= bar.right - bar.left + bar.gap - 2.0);
    for (cell, bar, label) in bars {
        scene.rectangle((bar.left, bar.zero), (bar.right, bar.end), palette::colour(data.looks[cell.group]));
        let centre = (bar.left + bar.right) / 2.0;
        let up = cell.mean >= 0.0;
        let mut tip = bar.end;
        if let Some(whisker) = bar.whisker {
            let [low, high] = whisker.map(|end| end.0);
            let half = ((bar.right - bar.left) * 0.25).min(5.0);
            // A white rim keeps the whisker visible on dark bars.
            for (wider, colour) in [(1.0, WHITE), (0.0, TEXT)] {
                scene.line(vec![(centre, low), (centre, high)], 1.4 + wider, colour);
                // An end that is cut has no cap: the spread goes on.
                for (y, _) in whisker.into_iter().filter(|(_, cut)| !cut) {
                    scene.line(vec![(centre - half - wider / 2.0, y), (centre + half + wider / 2.0, y)], 1.4 + wider, colour);
                }
            }
            tip = if up { tip.min(high) } else { tip.max(low) };
        }
        if fits {
            let at = (centre, if up { tip - 4.0 } else { tip + 4.0 + VALUE * 0.75 });
            // On white, so that grid lines do not strike it through.
            let half = text::width(&label, VALUE, false) / 2.0 + 1.5;
            scene.rectangle((centre - half, at.1 + 1.5), (centre + half, at.1 - VALUE * 0.85), WHITE);
            scene.text(Label::new(at, &label, VALUE, MUTED, Anchor::Middle));
        }
    }
}

/// Where a bar stands, in logical pixels.
struct Bar {
    left: f64,
    right: f64,
    /// Space to the next bar of the same place.
    gap: f64,
    zero: f64,
    end: f64,
    /// The lower and the upper end, and whether each is cut.
    whisker: Option<[(f64, bool); 2]>,
}

fn bar(panel: &Panel, chart: &Chart, data: &Data, cell: &Cell) -> Bar {
    let (left, right, gap) = slot(panel, chart, data, cell);
    let y = |value: f64| panel.y.within(value);
    Bar {
        left,
        right,
        gap,
        zero: y(0.0),
        end: y(cell.mean),
        whisker: cell.ends().map(|ends| ends.map(|end| placed(panel, end))).filter(|[low, high]| low.0 != high.0),
    }
}

/// Where the end of a spread is, and whether it is cut, by what values there are or by the axis.
pub(super) fn placed(panel: &Panel, end: End) -> (f64, bool) {
    let outside = !(panel.y.from..=panel.y.to).contains(&end.value);
    (panel.y.within(end.value), end.cut || outside)
}

/// The left and right edge of what stands for a cell beside those of the other groups, and the space between them.
pub(super) fn slot(panel: &Panel, chart: &Chart, data: &Data, cell: &Cell) -> (f64, f64, f64) {
    let slot = panel.x.at(1.0) - panel.x.at(0.0);
    // Where colour repeats x, each place has one group and needs no room for the others.
    let (groups, place) = if chart.colour_is_x() { (1, 0) } else { (data.groups.len(), cell.group) };
    let full = (slot * 0.8).min(90.0 * groups as f64);
    let each = full / groups as f64;
    let gap = (each * 0.08).min(4.0);
    let left = panel.x.at(cell.at as f64) - full / 2.0 + place as f64 * each;
    (left + gap / 2.0, left + each - gap / 2.0, gap)
}
