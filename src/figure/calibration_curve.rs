//! What a reliability diagram shows besides its bins: how sure their accuracies are, and a curve without bins.

use statrs::distribution::{ContinuousCDF, Normal};

/// Heights of the curve.
const POINTS: usize = 64;

/// Wilson's interval (1927) of a share of `count` answers.
pub(super) fn wilson(share: f64, count: f64, level: f64) -> (f64, f64) {
    let z = Normal::standard().inverse_cdf(0.5 + level / 2.0);
    let below = 1.0 + z * z / count;
    let centre = (share + z * z / (2.0 * count)) / below;
    let half = z / below * (share * (1.0 - share) / count + z * z / (4.0 * count * count)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

/// The mean of y weighted by a Gaussian of the distance in x (Nadaraya and Watson 1964), from the least x to the greatest; empty where x does not vary.
pub(super) fn curve(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut sorted: Vec<f64> = points.iter().map(|point| point.0).collect();
    sorted.sort_by(f64::total_cmp);
    let (Some(&least), Some(&greatest), Some(width)) = (sorted.first(), sorted.last(), super::violins::bandwidth(&sorted)) else {
        return Vec::new();
    };
    let at = |place: usize| least + (greatest - least) * place as f64 / (POINTS - 1) as f64;
    let of = |x: f64| {
        let weight = |point: &(f64, f64)| (-((x - point.0) / width).powi(2) / 2.0).exp();
        let all: f64 = points.iter().map(weight).sum();
        // Between two heaps of confidences there may be nothing near.
        (all > 1e-12).then(|| (x, points.iter().map(|point| weight(point) * point.1).sum::<f64>() / all))
    };
    (0..POINTS).filter_map(|place| of(at(place))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// statsmodels 0.14: `proportion_confint(8, 10, method="wilson")`, `proportion_confint(0, 5, method="wilson")`.
    #[test]
    fn intervals_are_those_of_statsmodels() {
        let near = |(a, b): (f64, f64), (c, d): (f64, f64)| assert!((a - c).abs() < 1e-9 && (b - d).abs() < 1e-9, "{a} {b}");
        near(wilson(0.8, 10.0, 0.95), (0.490_162_471_536_642, 0.943_317_848_545_625));
        near(wilson(0.0, 5.0, 0.95), (0.0, 0.434_482_464_783_175));
    }

    #[test]
    fn a_curve_follows_the_points() {
        let points: Vec<(f64, f64)> = (0..200).map(|at| (f64::from(at) / 199.0, f64::from(u8::from(at >= 100)))).collect();
        let curve = curve(&points);
        assert_eq!(curve.len(), POINTS);
        assert!(curve[0].1 < 0.02 && curve[POINTS - 1].1 > 0.98 && (curve[POINTS / 2].1 - 0.5).abs() < 0.1, "{curve:?}");
        assert!(super::curve(&[(0.5, 1.0); 9]).is_empty() && super::curve(&[]).is_empty());
    }
}
