//! Lines over x, one per group, with a band of one standard deviation where places repeat.

use super::chart::Chart;
use super::data::{Along, Cell, Data};
use super::layout::{self, Panel, Wishes};
use super::palette;
use super::scale;
use super::scene::{Point, Scene};
use crate::error::Result;

/// Markers closer than this many pixels would hide the line; further points go without.
const APART: f64 = 18.0;

pub(super) fn draw(scene: &mut Scene, chart: &Chart, data: &Data) -> Result<()> {
    let (least, greatest) = data.extent();
    let wishes =
        Wishes { y: scale::range(least, greatest, false), slots: false, sample: layout::LINE, note: chart.spread_note(data, "bands") };
    let panels = layout::prepare(scene, chart, data, &wishes)?;
    for (index, panel) in panels.iter().enumerate() {
        let series: Vec<Vec<&Cell>> = (0..data.groups.len()).map(|group| data.series(index, group)).collect();
        // All bands lie below all lines: a band over another group's line would change its colour.
        for (group, cells) in series.iter().enumerate() {
            band(scene, panel, data, cells, group);
        }
        for (group, cells) in series.iter().enumerate() {
            let points: Vec<Point> = cells.iter().map(|cell| (panel.x.at(place(data, cell)), at(panel, cell.mean))).collect();
            scene.dashed(&points, 2.2, palette::colour(group), palette::dash(group));
            let length = points.last().zip(points.first()).map_or(0.0, |(last, first)| last.0 - first.0);
            let each = (APART * points.len().saturating_sub(1) as f64 / length.max(1.0)).ceil().max(1.0) as usize;
            // Groups start at different points, so that markers of close lines do not cover each other.
            let start = group * each / data.groups.len();
            points.iter().skip(start).step_by(each).for_each(|&point| palette::marker(scene, point, group, 3.6));
        }
    }
    Ok(())
}

fn band(scene: &mut Scene, panel: &Panel, data: &Data, cells: &[&Cell], group: usize) {
    if cells.iter().all(|cell| cell.spread.unwrap_or(0.0) == 0.0) {
        return;
    }
    let edge = |cell: &&Cell, side: f64| (panel.x.at(place(data, cell)), at(panel, cell.mean + side * cell.spread.unwrap_or(0.0)));
    if let [only] = cells {
        // A single place has no width to fill: a whisker says the same.
        return scene.line(vec![edge(only, 1.0), edge(only, -1.0)], 1.4, palette::colour(group));
    }
    let outline = cells.iter().map(|cell| edge(cell, 1.0)).chain(cells.iter().rev().map(|cell| edge(cell, -1.0))).collect();
    scene.polygon(outline, palette::colour(group).faint(0.16));
}

fn place(data: &Data, cell: &Cell) -> f64 {
    match &data.along {
        Along::Numbers(values) => values[cell.at],
        Along::Names(_) => cell.at as f64,
    }
}

/// A fixed range of y may cut values off: they end at its edge.
fn at(panel: &Panel, value: f64) -> f64 {
    panel.y.at(value.clamp(panel.y.from, panel.y.to))
}
