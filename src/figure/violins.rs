//! Distributions as violins: kernel density mirrored, with mean and median.

use super::bars;
use super::chart::Chart;
use super::data::Data;
use super::layout::Panel;
use super::palette::{self, TEXT, WHITE};
use super::scale;
use super::scene::{Point, Scene};

/// Fewer rows than this say nothing about a density.
const LEAST: usize = 5;
/// Heights at which the density is drawn.
const HEIGHTS: usize = 96;

pub(super) fn draw(scene: &mut Scene, chart: &Chart, data: &Data, panels: &[Panel]) {
    for cell in &data.cells {
        let panel = &panels[cell.panel];
        let (left, right, _) = bars::slot(panel, chart, data, cell);
        let (centre, half) = (left.midpoint(right), ((right - left) / 2.0).min(42.0));
        let colour = palette::colour(data.looks[cell.group]);
        let mut sorted = cell.values.clone();
        sorted.sort_by(f64::total_cmp);
        let y = |value: f64| panel.y.within(value);
        match density(&sorted) {
            Some(density) => {
                let side = |sign: f64| density.iter().map(move |&(value, share)| (centre + sign * half * share, y(value)));
                let outline: Vec<Point> = side(-1.0).chain(side(1.0).rev()).collect();
                scene.polygon(outline.clone(), colour.faint(0.55));
                scene.line(outline.iter().chain(outline.first()).copied().collect(), 1.2, colour);
            }
            None => sorted.iter().for_each(|&value| palette::marker(scene, (centre, y(value)), data.looks[cell.group], 3.2)),
        }
        let wide = (half * 0.55).min(14.0);
        for (rim, ink) in [(1.6, WHITE), (0.0, TEXT)] {
            scene.line(vec![(centre - wide, y(median(&sorted))), (centre + wide, y(median(&sorted)))], 2.0 + rim, ink);
        }
        let at = y(cell.mean);
        for (radius, ink) in [(5.4, TEXT), (4.0, WHITE)] {
            scene.polygon(vec![(centre, at - radius), (centre + radius, at), (centre, at + radius), (centre - radius, at)], ink);
        }
    }
}

/// The middle of sorted values.
pub(super) fn median(sorted: &[f64]) -> f64 {
    quantile(sorted, 0.5)
}

/// Linear between the ranks, as R's type 7 and numpy have it.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * sorted.len().saturating_sub(1) as f64;
    let (low, high) = (sorted.get(at.floor() as usize), sorted.get(at.ceil() as usize));
    low.zip(high).map_or(f64::NAN, |(low, high)| low + (high - low) * at.fract())
}

/// Silverman's rule (1986, equation 3.31); None where the values have no spread.
fn bandwidth(sorted: &[f64]) -> Option<f64> {
    let count = sorted.len() as f64;
    let mean = sorted.iter().sum::<f64>() / count;
    let deviation = (sorted.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt();
    let quartiles = (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / 1.34;
    let spread = if quartiles > 0.0 { deviation.min(quartiles) } else { deviation };
    (spread > mean.abs() * 1e-12).then(|| 0.9 * spread * count.powf(-0.2))
}

/// Are there enough different values for a violin?
pub(super) fn has_density(values: &[f64]) -> bool {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.len() >= LEAST && bandwidth(&sorted).is_some()
}

/// Heights from the least to the greatest value, with the density there as a share of its greatest.
fn density(sorted: &[f64]) -> Option<Vec<(f64, f64)>> {
    if sorted.len() < LEAST {
        return None;
    }
    let width = bandwidth(sorted)?;
    let (least, greatest) = scale::extent(sorted.iter().copied());
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
        let density = density(&x).unwrap();
        for (at, expected) in
            [(0, 0.793_818_688_929_342_2), (20, 0.909_131_306_932_590_5), (50, 0.164_695_466_860_308_3), (95, 0.264_265_102_688_875_04)]
        {
            assert!((density[at].1 - expected).abs() < 1e-9, "{at}: {:?}", density[at]);
        }
    }

    #[test]
    fn no_density_of_few_or_equal_values() {
        for values in [&[0.1, 0.2, 0.3, 0.4][..], &[0.3; 9]] {
            assert!(density(values).is_none() && !has_density(values));
        }
        assert!(density(&[0.3, 0.3, 0.3, 0.3, 0.3, 0.9]).is_some(), "quartiles of no distance leave the standard deviation");
        assert_eq!((median(&[1.0, 2.0, 4.0]), median(&[1.0, 2.0])), (2.0, 1.5));
    }
}
