//! The values that a column cannot leave, known by its name in the frames of other rooms.

use crate::metric::{Direction, METRICS};
use crate::similarity::MEASURES;

/// No bounds.
pub(super) const NONE: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);

/// The least and the greatest value that a metric, a measure or a probability of this name can have. A column whose values say otherwise
/// (accuracy in percent) has no bounds.
pub(super) fn of(column: &str, values: &[f64]) -> (f64, f64) {
    let metric = METRICS.iter().find(|metric| metric.name == column).map(|metric| metric.range);
    let measure = || MEASURES.iter().find(|measure| measure.name == column).map(|measure| measure.range);
    let share = || matches!(column, "ece" | "overlap" | "confidence" | "probability").then_some((0.0, 1.0));
    let (least, greatest) = metric.or_else(measure).or_else(share).unwrap_or(NONE);
    let inside = values.iter().all(|value| !value.is_finite() || (least..=greatest).contains(value));
    if inside { (least, greatest) } else { NONE }
}

/// Which values of a metric of this name are better; of what is no metric, calibration errors and losses are the ones of which less is.
pub(super) fn better(column: &str) -> Direction {
    match METRICS.iter().find(|metric| metric.name == column) {
        Some(metric) => metric.direction,
        None if ["ece", "loss", "nll", "brier"].iter().any(|word| column.split('_').any(|part| part == *word)) => Direction::Lower,
        None if column.split('_').any(|part| part == "accuracy" || part == "asim") => Direction::Higher,
        None => Direction::Neutral,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_say_which_side_is_better() {
        use Direction::{Higher, Lower, Neutral};
        assert_eq!(
            ["accuracy", "ece", "ece_paper_15", "dev_loss", "asim", "entropy", "x"].map(better),
            [Higher, Lower, Lower, Lower, Higher, Neutral, Neutral]
        );
    }

    #[test]
    fn bounds_are_those_of_the_registries_unless_the_values_say_otherwise() {
        assert_eq!(of("accuracy", &[0.3, 1.0, f64::NAN]), (0.0, 1.0));
        assert_eq!(of("accuracy", &[30.0, 100.0]), NONE);
        assert_eq!([of("ece_equal_width_15", &[]), of("ece", &[]), of("asim", &[])], [(0.0, 1.0), (0.0, 1.0), (-1.0, 1.0)]);
        assert_eq!([of("nll", &[2.0]), of("dev_loss", &[2.0])], [(0.0, f64::INFINITY), NONE]);
    }
}
