//! Lines over x, one per group, with a band or whiskers of one standard deviation where places repeat.

use super::chart::Chart;
use super::data::{Cell, Data};
use super::layout::Panel;
use super::palette::{self, AXIS};
use super::scene::{Point, Scene};

/// Markers closer than this many pixels would hide the line; further points go without.
const APART: f64 = 18.0;
/// Distance of groups whose whiskers would lie on each other.
const DODGE: f64 = 3.0;

pub(super) fn draw(scene: &mut Scene, chart: &Chart, data: &Data, panels: &[Panel]) {
    for (index, panel) in panels.iter().enumerate() {
        let series: Vec<Vec<&Cell>> = (0..data.groups.len()).map(|group| data.series(index, group)).collect();
        marked(scene, panel, data, &series);
        let x = |cell: &Cell| {
            let aside = if chart.has_whiskers() { (cell.group as f64 - (data.groups.len() - 1) as f64 / 2.0) * DODGE } else { 0.0 };
            panel.x.at(data.x(cell)) + aside
        };
        // All bands lie below all lines: a band over another group's line would change its colour.
        for (group, cells) in series.iter().enumerate() {
            let edges: Vec<(Point, Point)> =
                cells.iter().map(|cell| ((x(cell), edge(panel, cell, 1.0)), (x(cell), edge(panel, cell, -1.0)))).collect();
            spread(scene, &edges, palette::colour(data.looks[group]), chart.has_whiskers());
        }
        for (group, cells) in series.iter().enumerate() {
            let look = data.looks[group];
            let points: Vec<Point> = cells.iter().map(|cell| (x(cell), panel.y.within(cell.mean))).collect();
            scene.dashed(&points, 2.2, palette::colour(look), palette::dash(look));
            let length = points.last().zip(points.first()).map_or(0.0, |(last, first)| last.0 - first.0);
            let each = (APART * points.len().saturating_sub(1) as f64 / length.max(1.0)).ceil().max(1.0) as usize;
            // Groups start at different points, so that markers of close lines do not cover each other.
            let start = group * each / data.groups.len();
            points.iter().skip(start).step_by(each).for_each(|&point| palette::marker(scene, point, look, 3.6));
        }
    }
}

fn edge(panel: &Panel, cell: &Cell, side: f64) -> f64 {
    panel.y.within(cell.mean + side * cell.spread.unwrap_or(0.0))
}

fn spread(scene: &mut Scene, edges: &[(Point, Point)], colour: super::scene::Colour, whiskers: bool) {
    if edges.iter().all(|(high, low)| high.1 == low.1) {
        return;
    }
    // A single place has no width to fill: a whisker says the same.
    if whiskers || edges.len() == 1 {
        for &(high, low) in edges.iter().filter(|(high, low)| high.1 != low.1) {
            scene.line(vec![high, low], 1.4, colour);
            for (x, y) in [high, low] {
                scene.line(vec![(x - 3.0, y), (x + 3.0, y)], 1.4, colour);
            }
        }
        return;
    }
    let outline = edges.iter().map(|edge| edge.0).chain(edges.iter().rev().map(|edge| edge.1)).collect();
    scene.polygon(outline, colour.faint(0.16));
}

/// Dashed lines across the places that are marked, each once.
fn marked(scene: &mut Scene, panel: &Panel, data: &Data, series: &[Vec<&Cell>]) {
    let mut places: Vec<f64> = series.iter().flatten().filter(|cell| cell.marked).map(|cell| panel.x.at(data.x(cell))).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    for x in places {
        scene.dashed(&[(x, panel.base), (x, panel.y.end)], 1.4, AXIS, &[4.0, 3.0]);
    }
}
