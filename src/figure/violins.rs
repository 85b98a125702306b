//! Distributions as violins: kernel density mirrored, with mean and median.

use super::bars::Slots;
use super::chart::Chart;
use super::data::Data;
use super::points;
use crate::plot::layout::Panel;
use crate::plot::palette::{self, TEXT, WHITE};
use crate::plot::scale::{self, shown};
use crate::plot::scene::{Point, Scene};
use crate::sample::{deviation, mean, quantile};

/// Fewer rows than this say nothing about a density.
const LEAST: usize = 5;
/// Bandwidths beyond the last value, where a Gaussian has come to a hundredth of its height.
const TAIL: f64 = 3.0;
/// Heights at which the density is drawn.
const HEIGHTS: usize = 96;

pub(super) fn draw(scene: &mut Scene, chart: &Chart, data: &Data, panels: &[Panel]) {
    let slots = Slots::of(data);
    for (at, cell) in data.cells.iter().enumerate() {
        let panel = &panels[cell.panel];
        let (left, right, _) = slots.of_cell(panel, cell);
        let (centre, half) = (left.midpoint(right), ((right - left) / 2.0).min(42.0));
        let style = data.styles[cell.group];
        let colour = style.colour;
        let mut sorted = cell.values.clone();
        sorted.sort_by(f64::total_cmp);
        let y = |value: f64| panel.y.within(value);
        match density(&sorted, cell.bounds) {
            Some(density) => {
                let side = |sign: f64| density.iter().map(move |&(value, share)| (centre + sign * half * share, y(value)));
                let outline: Vec<Point> = side(-1.0).chain(side(1.0).rev()).collect();
                scene.polygon(outline.clone(), colour.faint(0.55));
                scene.line(outline.iter().chain(outline.first()).copied().collect(), 1.2, colour);
            }
            None if chart.dots => {}
            None => sorted.iter().for_each(|&value| palette::marker(scene, (centre, y(value)), style, 3.2)),
        }
        if chart.dots {
            points::dots(scene, panel, &cell.values, (centre - half * 0.5, centre + half * 0.5), at);
        }
        let wide = (half * 0.55).min(14.0);
        for (rim, ink) in [(1.6, WHITE), (0.0, TEXT)] {
            scene.line(vec![(centre - wide, y(median(&sorted))), (centre + wide, y(median(&sorted)))], 2.0 + rim, ink);
        }
        let at = y(cell.mean);
        for (radius, ink) in [(5.4, TEXT), (4.0, WHITE)] {
            scene.polygon(vec![(centre, at - radius), (centre + radius, at), (centre, at + radius), (centre - radius, at)], ink);
        }
        let group = if data.groups.len() > 1 && !chart.colour_is_x() { format!(", {}", data.groups[cell.group]) } else { String::new() };
        let (low, high) = (shown(quantile(&sorted, 0.25)), shown(quantile(&sorted, 0.75)));
        let words =
            format!("median {}, quartiles {low} and {high}, mean {}, {} rows", shown(median(&sorted)), shown(cell.mean), sorted.len());
        let (least, greatest) = reach(&cell.values, cell.bounds);
        scene.hover((centre - half, y(least)), (centre + half, y(greatest)), format!("{}{group}: {words}", data.label(cell.at)));
    }
}

/// The heights between which values have a density: three bandwidths beyond the least and the greatest, but not where no value can be.
pub(super) fn reach(values: &[f64], bounds: (f64, f64)) -> (f64, f64) {
    let (least, greatest) = scale::extent(values.iter().copied());
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match bandwidth(&sorted).filter(|_| sorted.len() >= LEAST) {
        Some(width) => ((least - TAIL * width).max(bounds.0), (greatest + TAIL * width).min(bounds.1)),
        None => (least, greatest),
    }
}

/// The middle of sorted values.
pub(super) fn median(sorted: &[f64]) -> f64 {
    quantile(sorted, 0.5)
}

/// Silverman's rule (1986, equation 3.31); None where the values have no spread.
pub(super) fn bandwidth(sorted: &[f64]) -> Option<f64> {
    let deviation = deviation(sorted);
    let quartiles = (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / 1.34;
    let spread = if quartiles > 0.0 { deviation.min(quartiles) } else { deviation };
    (spread > mean(sorted).abs() * 1e-12).then(|| 0.9 * spread * (sorted.len() as f64).powf(-0.2))
}

/// Are there enough different values for a violin?
pub(super) fn has_density(values: &[f64]) -> bool {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.len() >= LEAST && bandwidth(&sorted).is_some()
}

/// Heights from below the least to above the greatest value, with the density there as a share of its greatest.
fn density(sorted: &[f64], bounds: (f64, f64)) -> Option<Vec<(f64, f64)>> {
    if sorted.len() < LEAST {
        return None;
    }
    let width = bandwidth(sorted)?;
    let (least, greatest) = reach(sorted, bounds);
    let heights = (0..HEIGHTS).map(|at| least + (greatest - least) * at as f64 / (HEIGHTS - 1) as f64);
    let sums: Vec<(f64, f64)> =
        heights.map(|height| (height, sorted.iter().map(|value| (-((height - value) / width).powi(2) / 2.0).exp()).sum())).collect();
    let most = sums.iter().map(|sum| sum.1).fold(0.0, f64::max);
    Some(sums.into_iter().map(|(height, sum)| (height, sum / most)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scipy 1.17.1: `s = gaussian_kde(x, bw_method=h / x.std(ddof=1))` with numpy's percentiles in h, `s(heights) / max(s(heights))`.
    #[test]
    fn the_density_is_that_of_scipy() {
        let x = [0.05, 0.1, 0.11, 0.2, 0.22, 0.3, 0.7, 0.9];
        assert!((bandwidth(&x).unwrap() - 0.129_612_111_011_553_87).abs() < 1e-12, "{:?}", bandwidth(&x));
        // Cut at the values, where the reference was taken.
        let density = density(&x, (0.05, 0.9)).unwrap();
        for (at, expected) in
            [(0, 0.793_818_688_929_342_2), (20, 0.909_131_306_932_590_5), (50, 0.164_695_466_860_308_3), (95, 0.264_265_102_688_875_04)]
        {
            assert!((density[at].1 - expected).abs() < 1e-9, "{at}: {:?}", density[at]);
        }
    }

    #[test]
    fn a_violin_ends_in_points_but_not_where_no_value_can_be() {
        let x: Vec<f64> = (0..20).map(|at| 0.5 + 0.01 * f64::from(at)).collect();
        let shares = density(&x, (0.0, 1.0)).unwrap();
        assert!(shares[0].1 < 0.02 && shares[HEIGHTS - 1].1 < 0.02 && shares[0].0 < 0.5, "{shares:?}");
        let cut = density(&x, (0.5, 1.0)).unwrap();
        assert!(cut[0].0 == 0.5 && cut[0].1 > 0.3, "{cut:?}");
    }

    #[test]
    fn no_density_of_few_or_equal_values() {
        for values in [&[0.1, 0.2, 0.3, 0.4][..], &[0.3; 9]] {
            assert!(density(values, super::super::bounds::NONE).is_none() && !has_density(values));
        }
        assert!(
            density(&[0.3, 0.3, 0.3, 0.3, 0.3, 0.9], super::super::bounds::NONE).is_some(),
            "quartiles of no distance leave the standard deviation"
        );
        assert_eq!((median(&[1.0, 2.0, 4.0]), median(&[1.0, 2.0])), (2.0, 1.5));
    }
}
