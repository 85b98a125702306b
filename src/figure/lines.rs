//! Lines over x, one per group, with a band or whiskers of one standard deviation where places repeat.

use std::collections::BTreeMap;

use super::bars;
use super::chart::Chart;
use super::data::{Cell, Data};
use crate::plot::layout::Panel;
use crate::plot::palette::{self, AXIS};
use crate::plot::scale::{self, shown};
use crate::plot::scene::{Point, Scene};

/// Markers closer than this many pixels would hide the line; further points go without.
const APART: f64 = 18.0;
/// How opaque the line of a single run is.
const EACH: f64 = 0.35;
/// The most lines whose values the pointer shows.
const MOST_SAID: usize = 12;
/// The most places that are marked from bottom to top.
pub(super) const FEW_MARKED: usize = 4;
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
            let edges: Vec<Edges> = cells.iter().map(|cell| edges(panel, cell, x(cell))).collect();
            spread(scene, &edges, data.styles[group].colour, chart.has_whiskers());
        }
        for (_, group, points) in data.each.iter().filter(|line| line.0 == index) {
            let points = points.iter().map(|&(x, y)| (panel.x.at(x), panel.y.within(y))).collect();
            scene.line(points, 1.0, data.styles[*group].colour.faint(EACH));
        }
        for (group, cells) in series.iter().enumerate() {
            let style = data.styles[group];
            let points: Vec<Point> = cells.iter().map(|cell| (x(cell), panel.y.within(cell.mean))).collect();
            scene.dashed(&points, if data.groups.len() > 8 && data.ordered { 1.6 } else { 2.2 }, style.colour, style.pattern());
            let length = points.last().zip(points.first()).map_or(0.0, |(last, first)| last.0 - first.0);
            let each = (APART * points.len().saturating_sub(1) as f64 / length.max(1.0)).ceil().max(1.0) as usize;
            // Groups start at different points, so that markers of close lines do not cover each other.
            let start = group * each / data.groups.len();
            // Colours in order have no markers to be told apart by.
            let few = !(data.ordered && data.groups.len() > 8) || points.len() == 1;
            points.iter().skip(start).step_by(each).filter(|_| few).for_each(|&point| palette::marker(scene, point, style, 3.6));
        }
        hover(scene, chart, data, panel, index);
    }
}

/// What all lines of a panel are at each place: the pointer need not meet a line.
fn hover(scene: &mut Scene, chart: &Chart, data: &Data, panel: &Panel, index: usize) {
    let mut places: BTreeMap<usize, Vec<&Cell>> = BTreeMap::new();
    data.cells.iter().filter(|cell| cell.panel == index).for_each(|cell| places.entry(cell.at).or_default().push(cell));
    let xs: Vec<f64> = places.values().filter_map(|cells| cells.first()).map(|cell| panel.x.within(data.x(cell))).collect();
    let name = chart.settings.x_name(&chart.columns.x);
    for (at, cells) in places.into_values().enumerate() {
        let left = if at > 0 { xs[at - 1].midpoint(xs[at]) } else { panel.sides.0 };
        let right = xs.get(at + 1).map_or(panel.sides.1, |next| next.midpoint(xs[at]));
        let all = cells.len();
        let one = |cell: &&Cell| match data.groups[cell.group].as_str() {
            "" => Data::words(cell),
            group => format!("{group}: {}", Data::words(cell)),
        };
        let mut lines: Vec<String> = cells.iter().take(MOST_SAID).map(one).collect();
        if all > MOST_SAID {
            let (least, greatest) = scale::extent(cells.iter().map(|cell| cell.mean));
            lines.push(format!("… {} more; all {} to {}", all - MOST_SAID, shown(least), shown(greatest)));
        }
        let place = cells.first().map_or_else(String::new, |cell| data.label(cell.at));
        scene.hover((left, panel.y.end), (right, panel.base), format!("{name} {place}\n{}", lines.join("\n")));
    }
}

/// The lower and the upper end of a cell's spread, and whether each is cut.
type Edges = [(Point, bool); 2];

fn edges(panel: &Panel, cell: &Cell, x: f64) -> Edges {
    let ends = cell.ends().map(|ends| ends.map(|end| bars::placed(panel, end)));
    ends.unwrap_or([(panel.y.within(cell.mean), true); 2]).map(|(y, cut)| ((x, y), cut))
}

fn spread(scene: &mut Scene, edges: &[Edges], colour: crate::plot::scene::Colour, whiskers: bool) {
    let has_some = |[low, high]: &&Edges| low.0.1 != high.0.1;
    if !edges.iter().any(|edges| has_some(&edges)) {
        return;
    }
    // A single place has no width to fill: a whisker says the same.
    if whiskers || edges.len() == 1 {
        for [low, high] in edges.iter().filter(has_some) {
            scene.line(vec![high.0, low.0], 1.4, colour);
            // An end that is cut has no cap: the spread goes on.
            for &((x, y), _) in [high, low].into_iter().filter(|(_, cut)| !cut) {
                scene.line(vec![(x - 3.0, y), (x + 3.0, y)], 1.4, colour);
            }
        }
        return;
    }
    let outline = edges.iter().map(|[_, high]| high.0).chain(edges.iter().rev().map(|[low, _]| low.0)).collect();
    scene.polygon(outline, colour.faint(0.16));
}

/// Dashed lines across the places that are marked, each once.
fn marked(scene: &mut Scene, panel: &Panel, data: &Data, series: &[Vec<&Cell>]) {
    let mut places: Vec<f64> = series.iter().flatten().filter(|cell| cell.marked).map(|cell| panel.x.at(data.x(cell))).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    // Of many runs, each with its own, short ones: they would be a fence before the lines.
    let top = if places.len() > FEW_MARKED { panel.base - 10.0 } else { panel.y.end };
    for x in places {
        scene.dashed(&[(x, panel.base), (x, top)], 1.4, AXIS, &[4.0, 3.0]);
    }
}
