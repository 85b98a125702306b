//! A point per row, with the least-squares line and the correlation where they are asked for.

use super::chart::Chart;
use super::data::Data;
use super::layout::Panel;
use super::palette::{self, TEXT, WHITE};
use super::scale;
use super::scene::Scene;

/// Points that a panel shows at full size.
const FEW: usize = 150;

pub(super) fn draw(scene: &mut Scene, chart: &Chart, data: &Data, panels: &[Panel]) {
    for (index, panel) in panels.iter().enumerate() {
        let there: Vec<(f64, f64, usize)> = (0..data.groups.len())
            .flat_map(|group| data.series(index, group))
            .flat_map(|cell| cell.values.iter().map(|&y| (data.x(cell), y, data.looks[cell.group])))
            .collect();
        let radius = if there.len() > FEW { 2.6 } else { 4.0 };
        for (x, y, look) in there {
            palette::marker(scene, (panel.x.within(x), panel.y.within(y)), look, radius);
        }
        // Above the points, on a light ground that keeps it visible among them.
        if let Some(line) = chart.fit.then(|| fit(&points(data, index))).flatten() {
            let inside = clipped(&line, panel);
            scene.line(inside.clone(), 3.6, WHITE.faint(0.7));
            scene.dashed(&inside, 1.6, TEXT, &[6.0, 4.0]);
        }
    }
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
