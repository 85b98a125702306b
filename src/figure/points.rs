//! A point per row, with the least-squares line and the correlation where they are asked for.

use std::collections::BTreeMap;

use polars::prelude::DataFrame;

use super::chart::Chart;
use super::data::{Columns, Data};
use super::read;
use crate::error::Result;
use crate::plot::layout::Panel;
use crate::plot::palette::{self, MarkStyle, TEXT, WHITE};
use crate::plot::scale::{self, shown};
use crate::plot::scene::{Point, Scene};
use crate::plot::settings::Settings;

/// Where a point is, how it looks and what it says.
type Dot = (Point, MarkStyle, String);

/// Points that a panel shows at full size.
const FEW: usize = 150;
/// Points that are opaque unless something else is asked for.
const OPAQUE: usize = 30;
/// How far jitter goes to each side, in pixels.
const ASIDE: f64 = 9.0;
/// The least distance of points that the pointer tells apart, in pixels.
const APART: f64 = 7.0;
/// The most points that are one by one said under the pointer.
const MOST_SAID: usize = 4;

pub(super) fn draw(scene: &mut Scene, chart: &Chart, data: &Data, panels: &[Panel]) {
    for (index, panel) in panels.iter().enumerate() {
        let mut there: Vec<Dot> = Vec::new();
        for cell in (0..data.groups.len()).flat_map(|group| data.series(index, group)) {
            let group = if data.groups.len() > 1 { format!("{}: ", data.groups[cell.group]) } else { String::new() };
            for &y in &cell.values {
                let aside = if chart.jitter { ASIDE * spread(there.len()) } else { 0.0 };
                let at = (panel.x.within(data.x(cell)) + aside, panel.y.within(y));
                there.push((at, data.styles[cell.group], format!("{group}{}, {}", data.label(cell.at), shown(y))));
            }
        }
        let radius = if there.len() > FEW { 2.6 } else { 4.0 };
        // Groups take turns, so that the last does not lie on all others.
        let mut turns: Vec<usize> = (0..there.len()).collect();
        turns.sort_by(|a, b| spread(*a).total_cmp(&spread(*b)));
        let opacity = chart.opacity.unwrap_or(match there.len() {
            count if count <= OPAQUE => 1.0,
            count if count <= FEW => 0.75,
            count => (0.6 * (FEW as f64 / count as f64).sqrt()).max(0.2),
        });
        for (at, style, _) in turns.iter().map(|&turn| &there[turn]) {
            match opacity {
                1.0 => palette::marker(scene, *at, *style, radius),
                // A rim would hide what lies below.
                _ => palette::shape(scene, *at, style.marker, radius, style.colour.faint(opacity)),
            }
        }
        hover(scene, &there);
        // Above the points, on a light ground that keeps it visible among them.
        if let Some(line) = chart.fit.then(|| fit(&points(data, index))).flatten() {
            let inside = clipped(&line, panel);
            scene.line(inside.clone(), 3.6, WHITE.faint(0.7));
            scene.dashed(&inside, 1.6, TEXT, &[6.0, 4.0]);
        }
    }
}

/// Numbers in [-1, 1] that leave no two neighbours close: multiples of the golden ratio.
fn spread(at: usize) -> f64 {
    2.0 * (at as f64 * 0.618_033_988_749_895).fract() - 1.0
}

/// Rows as small points between two edges.
pub(super) fn dots(scene: &mut Scene, panel: &Panel, values: &[f64], (left, right): (f64, f64), seed: usize) {
    let half = (right - left) * 0.3;
    for (at, &value) in values.iter().enumerate() {
        let x = left.midpoint(right) + half * spread(at + 7 * seed + 1);
        for (radius, colour) in [(2.6, WHITE.faint(0.8)), (1.8, TEXT.faint(0.75))] {
            scene.circle((x, panel.y.within(value)), radius, colour);
        }
    }
}

/// What stands at each place: points closer than a pointer can tell apart are one.
fn hover(scene: &mut Scene, points: &[Dot]) {
    let mut places: BTreeMap<(i64, i64), Vec<&Dot>> = BTreeMap::new();
    for point in points {
        places.entry(((point.0.0 / APART) as i64, (point.0.1 / APART) as i64)).or_default().push(point);
    }
    for there in places.into_values() {
        let Some(((x, y), ..)) = there.first() else { continue };
        let mut lines: Vec<&str> = there.iter().take(MOST_SAID).map(|point| point.2.as_str()).collect();
        let more = format!("… {} more", there.len().saturating_sub(MOST_SAID));
        if there.len() > MOST_SAID {
            lines.push(&more);
        }
        scene.hover((x - APART / 2.0, y - APART / 2.0), (x + APART / 2.0, y + APART / 2.0), lines.join("\n"));
    }
}

/// How much of its panel's variance lies along each axis, where the frame says so: the columns `pc1_share` and `pc2_share` next to `pc1` and `pc2`.
pub(super) fn shares(frame: &DataFrame, columns: &Columns, settings: &Settings, data: &Data) -> Result<Vec<String>> {
    let names = [format!("{}_share", columns.x), format!("{}_share", columns.y)];
    if names.iter().any(|name| frame.column(name).is_err()) || !columns.own_panels.is_empty() || settings.rows.is_some() {
        return Ok(Vec::new());
    }
    let [x, y] = [&names[0], &names[1]].map(|name| read::numbers(frame, name, "the share of variance"));
    let (x, y) = (x?, y?);
    let (all, panel_of) = read::panels(frame, settings.facet.as_deref(), settings)?;
    // Two digits at most: a longer remark would not stand next to the panel's name.
    let percent = |share: f64| format!("{} %", scale::value(100.0 * share, usize::from(share < 0.095)));
    let of = |panel: &String| {
        let row = panel_of.iter().position(|place| all[*place] == *panel)?;
        (x[row].is_finite() && y[row].is_finite()).then(|| format!("variance {}, {}", percent(x[row]), percent(y[row])))
    };
    Ok(data.panels.iter().map(|panel| of(panel).unwrap_or_default()).collect())
}

/// All points of a panel.
fn points(data: &Data, panel: usize) -> Vec<(f64, f64)> {
    data.cells.iter().filter(|cell| cell.panel == panel).flat_map(|cell| cell.values.iter().map(|&y| (data.x(cell), y))).collect()
}

/// Each panel's correlation in words.
pub(super) fn remarks(data: &Data) -> Vec<String> {
    (0..data.panels.len())
        .map(|panel| {
            let points = points(data, panel);
            match fit(&points) {
                Some(line) => format!("r = {} (n = {})", scale::label(line.r, 2), points.len()),
                None => format!("r undefined (n = {})", points.len()),
            }
        })
        .collect()
}

/// A least-squares line with Pearson's correlation.
#[derive(Clone, Copy, Debug)]
struct Line {
    slope: f64,
    intercept: f64,
    r: f64,
}

/// None for fewer than three points and where x or y does not vary.
fn fit(points: &[(f64, f64)]) -> Option<Line> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let sum = |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|point| of(point.0 - x, point.1 - y)).sum::<f64>();
    let (xx, xy, yy) = (sum(&|x, _| x * x), sum(&|x, y| x * y), sum(&|_, y| y * y));
    // Rounding leaves a little variance in values that are all the same.
    let varies = |squares: f64, at: f64| squares > count * (at.abs() * 1e-14).powi(2);
    (points.len() > 2 && varies(xx, x) && varies(yy, y)).then(|| Line {
        slope: xy / xx,
        intercept: y - xy / xx * x,
        r: (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0),
    })
}

/// The ends of the line inside the panel.
fn clipped(line: &Line, panel: &Panel) -> Vec<(f64, f64)> {
    let (mut from, mut to) = (panel.x.from, panel.x.to);
    if line.slope != 0.0 {
        let (a, b) = ((panel.y.from - line.intercept) / line.slope, (panel.y.to - line.intercept) / line.slope);
        (from, to) = (from.max(a.min(b)), to.min(a.max(b)));
    }
    if from >= to {
        return Vec::new();
    }
    [from, to].map(|x| (panel.x.at(x), panel.y.within(line.intercept + line.slope * x))).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_that_of_anscombe() {
        // Anscombe (1973), first set: y = 3.00 + 0.500 x, r² = 0.67.
        let x = [10.0, 8.0, 13.0, 9.0, 11.0, 14.0, 6.0, 4.0, 12.0, 7.0, 5.0];
        let y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68];
        let line = fit(&x.into_iter().zip(y).collect::<Vec<_>>()).unwrap();
        assert!((line.slope - 0.500).abs() < 5e-4 && (line.intercept - 3.00).abs() < 5e-3, "{line:?}");
        assert!((line.r - 0.8164).abs() < 5e-5, "{line:?}");
    }

    #[test]
    fn no_line_without_variation() {
        assert!(fit(&[(0.0, 1.0), (1.0, 2.0)]).is_none());
        assert!(fit(&[(0.1, 1.0), (0.1, 2.0), (0.1, 3.0)]).is_none());
        assert!(fit(&[(0.0, 0.3), (1.0, 0.3), (2.0, 0.3)]).is_none());
    }
}
