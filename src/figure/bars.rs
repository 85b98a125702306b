//! Bars from zero, grouped by place along x, with whiskers and the values written inside at their foot, or above.

use super::chart::Chart;
use super::data::{Cell, Data, End};
use super::points;
use crate::plot::layout::Panel;
use crate::plot::palette::{MUTED, TEXT, WHITE};
use crate::plot::scene::{Anchor, Label, Scene};
use crate::plot::{ramp, scale, text};

const VALUE: f64 = 10.5;
/// A bar lower than this has no room for its value.
const LEAST: f64 = VALUE + 5.0;

/// From zero to the values, with room for the numbers above the bars, and below those that hang.
pub(super) fn range(data: &Data, (least, greatest): (f64, f64)) -> (f64, f64) {
    let (from, to) = scale::range(least, greatest, true);
    let room = if data.panels.len() > 3 { 0.13 } else { 0.06 } * (to - from);
    (if least < 0.0 { from - room } else { from }, if greatest > 0.0 { to + room } else { to })
}

pub(super) fn draw(scene: &mut Scene, chart: &Chart, data: &Data, panels: &[Panel]) {
    let slots = Slots::of(data);
    let bars: Vec<(&Cell, Bar, String)> = data
        .cells
        .iter()
        .map(|cell| {
            let panel = &panels[cell.panel];
            let decimals = scale::finer_decimals(&scale::ticks(panel.y.from, panel.y.to, 5, false));
            (cell, bar(panel, &slots, cell), scale::value(cell.mean, decimals))
        })
        .collect();
    // All values are written or none: some would look like a choice.
    let fits = bars.iter().all(|(_, bar, label)| text::width(label, VALUE, false) <= bar.right - bar.left + bar.gap - 2.0);
    // A number at the tip of a whisker would be read as the tip's.
    let inside = bars.iter().any(|(_, bar, _)| bar.whisker.is_some()) || chart.dots;
    for (at, (cell, bar, label)) in bars.iter().enumerate() {
        let colour = data.styles[cell.group].colour;
        scene.rectangle((bar.left, bar.zero), (bar.right, bar.end), colour);
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
        if chart.dots {
            points::dots(scene, &panels[cell.panel], &cell.values, (bar.left, bar.right), at);
        }
        // A whisker that reaches down to the foot would cross the number.
        let free = bar.whisker.is_none_or(|[low, high]| (bar.zero - if up { low.0 } else { high.0 }).abs() > LEAST);
        if fits && inside && free && (bar.zero - bar.end).abs() > LEAST {
            let y = if up { bar.zero - 4.0 } else { bar.zero + 3.0 + VALUE * 0.75 };
            scene.text(Label::new((centre, y), label, VALUE, ramp::ink(colour), Anchor::Middle));
        } else if fits {
            let at = (centre, if up { tip - 4.0 } else { tip + 4.0 + VALUE * 0.75 });
            // On white, so that grid lines do not strike it through.
            let half = text::width(label, VALUE, false) / 2.0 + 1.5;
            scene.rectangle((centre - half, at.1 + 1.5), (centre + half, at.1 - VALUE * 0.85), WHITE);
            scene.text(Label::new(at, label, VALUE, MUTED, Anchor::Middle));
        }
        let group = if data.groups.len() > 1 && !chart.colour_is_x() { format!(", {}", data.groups[cell.group]) } else { String::new() };
        let name = chart.settings.x_name(&chart.columns.x);
        scene.hover((bar.left, bar.zero), (bar.right, tip), format!("{name} {}{group}: {}", data.label(cell.at), Data::words(cell)));
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

fn bar(panel: &Panel, slots: &Slots, cell: &Cell) -> Bar {
    let (left, right, gap) = slots.of_cell(panel, cell);
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

/// Which groups stand at each place along x, next to each other and centred over it.
pub(super) struct Slots {
    /// By place: the groups there, in any panel.
    groups: Vec<Vec<usize>>,
    most: usize,
}

impl Slots {
    pub(super) fn of(data: &Data) -> Self {
        let mut groups = vec![Vec::new(); data.along.len()];
        for cell in &data.cells {
            groups[cell.at].push(cell.group);
        }
        groups.iter_mut().for_each(|there: &mut Vec<usize>| {
            there.sort_unstable();
            there.dedup();
        });
        let most = groups.iter().map(Vec::len).max().unwrap_or(1).max(1);
        Self { groups, most }
    }

    /// The left and right edge of what stands for a cell, and the space to the next.
    pub(super) fn of_cell(&self, panel: &Panel, cell: &Cell) -> (f64, f64, f64) {
        let slot = panel.x.at(1.0) - panel.x.at(0.0);
        let there = &self.groups[cell.at];
        let place = there.iter().position(|group| *group == cell.group).unwrap_or(0);
        let each = (slot * 0.8).min(90.0 * self.most as f64) / self.most as f64;
        let gap = (each * 0.08).min(4.0);
        let left = panel.x.at(cell.at as f64) + (place as f64 - there.len() as f64 / 2.0) * each;
        (left + gap / 2.0, left + each - gap / 2.0, gap)
    }
}
