//! Scales: from values to pixels, and round numbers to label them with.

use crate::display;

/// How values become distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Steps {
    Linear,
    /// By logarithm; labels at powers of this base.
    Log(u32),
}

/// A map from the values `from..to` to the pixels `start..end`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub from: f64,
    pub to: f64,
    pub start: f64,
    pub end: f64,
    pub steps: Steps,
}

impl Scale {
    pub(crate) fn at(&self, value: f64) -> f64 {
        let along = match self.steps {
            // Halved where the distance of two finite numbers is not.
            Steps::Linear if !(self.to - self.from).is_finite() => (value / 2.0 - self.from / 2.0) / (self.to / 2.0 - self.from / 2.0),
            Steps::Linear => (value - self.from) / (self.to - self.from),
            Steps::Log(_) => (value.ln() - self.from.ln()) / (self.to.ln() - self.from.ln()),
        };
        self.start + along * (self.end - self.start)
    }

    /// Values outside end at the edge.
    pub(crate) fn within(&self, value: f64) -> f64 {
        self.at(value.clamp(self.from, self.to))
    }
}

/// Values to label on an axis of logarithms inside `from..=to`, about `wanted` at most: powers of the base, every few of them where there are
/// many, and multiples between them where there are not two.
pub(crate) fn log_ticks(from: f64, to: f64, base: u32, wanted: usize) -> Vec<f64> {
    let base = f64::from(base);
    let power = |value: f64| value.ln() / base.ln();
    let (from, to) = (from.max(f64::MIN_POSITIVE), to.min(f64::MAX));
    let (first, last) = ((power(from) - 1e-9).ceil() as i32, (power(to) + 1e-9).floor() as i32);
    let inside = |value: &f64| (from * (1.0 - 1e-9)..=to * (1.0 + 1e-9)).contains(value);
    if last - first >= 2 {
        let each = ((last - first + 1) as usize).div_ceil(wanted.max(2)).max(1);
        return (first..=last).step_by(each).map(|power| base.powi(power)).collect();
    }
    let multiples = |factors: &[f64]| -> Vec<f64> {
        (first - 1..=last).flat_map(|power| factors.iter().map(move |factor| factor * base.powi(power))).filter(inside).collect()
    };
    let found = [&[1.0, 2.0, 5.0][..], &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0]].map(multiples).into_iter().find(|found| found.len() >= 3);
    found.filter(|_| base == 10.0).unwrap_or_else(|| ticks(from, to, wanted.min(4), false))
}

/// How many places one label stands for, so that those left are `least` apart at least and round: 1, 2, 5, 10, 20 ...
pub(crate) fn every(slot: f64, least: f64) -> usize {
    let mut power = 1;
    loop {
        if let Some(each) = [1, 2, 5].map(|factor| factor * power).into_iter().find(|&each| each as f64 * slot >= least || each >= 1 << 20)
        {
            return each;
        }
        power *= 10;
    }
}

/// Round values (1, 2, 2.5 or 5 times a power of ten apart) inside `from..=to`, about `wanted` of them and at most a quarter more.
pub(crate) fn ticks(from: f64, to: f64, wanted: usize, whole: bool) -> Vec<f64> {
    let wanted = wanted.max(1) as f64;
    let rough = if (to - from).is_finite() { (to - from) / wanted } else { to / wanted - from / wanted };
    if !rough.is_finite() || rough <= 0.0 {
        return vec![from];
    }
    let power = 10f64.powf(rough.log10().floor());
    let fits = |step: f64| step >= rough * 0.8 && (!whole || step.fract() == 0.0);
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * power);
    let step = steps.into_iter().find(|&step| fits(step)).unwrap_or_else(|| rough.ceil());
    let first = (from / step - 1e-9).ceil() as i64;
    let last = (to / step + 1e-9).floor() as i64;
    // Multiplying, not adding up, keeps 0.30000000000000004 away.
    (first..=last).map(|at| at as f64 * step).collect()
}

/// The decimals that tell these values apart.
pub(crate) fn decimals(values: &[f64]) -> usize {
    let gap = gap(values);
    if !gap.is_finite() || gap <= 0.0 {
        return 2;
    }
    let whole = |decimals: &i32| {
        let scaled = gap * 10f64.powi(*decimals);
        (scaled - scaled.round()).abs() < 1e-4 * scaled.max(1e-3) && scaled.round() > 0.0
    };
    (0..300).find(whole).unwrap_or(8) as usize
}

/// The least distance of neighbours; infinite where there are none.
fn gap(values: &[f64]) -> f64 {
    values.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(f64::INFINITY, f64::min)
}

/// The labels of ticks, all written in the same way, and the number to add to each where they differ only far behind its first digits.
pub(crate) fn labels(ticks: &[f64]) -> (Vec<String>, Option<f64>) {
    let far = ticks.iter().fold(0.0, |far: f64, tick| far.max(tick.abs()));
    let gap = gap(ticks);
    if !(gap.is_finite() && gap > 0.0) {
        return (ticks.iter().map(|&tick| signed(&display::number(tick))).collect(), None);
    }
    let (least, greatest) = extent(ticks.iter().copied());
    let unit = 10f64.powf((greatest - least).log10().floor() + 1.0);
    let base = (least.midpoint(greatest) / unit).round() * unit;
    if far / gap >= 1e5 && base.is_finite() && base != 0.0 {
        let rest: Vec<f64> = ticks.iter().map(|tick| tick - base).collect();
        return (labels(&rest).0, Some(base));
    }
    let decimals = decimals(ticks);
    let powers = far >= 1e6 || decimals > 5;
    let one = |&tick: &f64| match powers {
        true => power(if tick.abs() < gap / 2.0 { 0.0 } else { tick }),
        false => label(tick, decimals),
    };
    (ticks.iter().map(one).collect(), None)
}

/// A number as digits and a power of ten.
fn power(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let text = format!("{value:.5e}");
    let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
    signed(&format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.')))
}

/// What is added to every label of an axis, as it is written.
pub(crate) fn added(base: f64) -> String {
    let text = if base.abs() < 1e15 && base.fract() == 0.0 { format!("{:.0}", base.abs()) } else { base.abs().to_string() };
    format!("{} {text}", if base < 0.0 { "−" } else { "+" })
}

/// A value with these decimals, and with more where they would say something else: −0.5 is not 0.
pub(crate) fn value(value: f64, decimals: usize) -> String {
    let text = label(value, decimals);
    let kept: f64 = format!("{value:.decimals$}").parse().unwrap_or(value);
    if (kept - value).abs() <= 0.05 * value.abs() {
        return text;
    }
    let needed = 1 - value.abs().log10().floor() as i32;
    match needed {
        ..=5 => signed(format!("{value:.0$}", needed.max(0) as usize).trim_end_matches('0').trim_end_matches('.')),
        _ => {
            let text = format!("{value:.1e}");
            signed(&text.replace(".0e", "e"))
        }
    }
}

/// The decimals that place a value between these ticks: one digit beyond their distance's first.
pub(crate) fn finer_decimals(ticks: &[f64]) -> usize {
    let gap = gap(ticks);
    if gap.is_finite() && gap > 0.0 { (1.0 - gap.log10().floor()).clamp(0.0, 8.0) as usize } else { 2 }
}

/// Extends a range to the next tick where that is near and `within` what values there can be: a scale that stops just short of 1.0 looks cut off.
pub(crate) fn rounded((from, to): (f64, f64), wanted: usize, within: (f64, f64)) -> (f64, f64) {
    let ticks = ticks(from, to, wanted, false);
    let (Some(first), Some(last), Some(step)) = (ticks.first(), ticks.last(), ticks.get(1).map(|second| second - ticks[0])) else {
        return (from, to);
    };
    if !(to - from).is_finite() {
        return (from, to);
    }
    let near = 0.08 * (to - from);
    let below = first - step;
    let above = last + step;
    let can_be = |tick: f64| (within.0 - 1e-9..=within.1 + 1e-9).contains(&tick);
    (if from - below <= near && can_be(below) { below } else { from }, if above - to <= near && can_be(above) { above } else { to })
}

/// A value with a fixed number of decimals and a true minus sign; very large and very small ones as powers of ten.
pub(crate) fn label(value: f64, decimals: usize) -> String {
    let text = if value != 0.0 && (value.abs() >= 1e6 || decimals > 5) { display::number(value) } else { format!("{value:.decimals$}") };
    let text = if text.trim_start_matches('-').chars().all(|letter| matches!(letter, '0' | '.')) {
        text.trim_start_matches('-').to_owned()
    } else {
        text
    };
    signed(&text)
}

/// A number as labels and descriptions write it.
pub(crate) fn shown(value: f64) -> String {
    signed(&display::number(value))
}

/// A number with a true minus sign; the one of an exponent stays as it is.
pub(crate) fn signed(text: &str) -> String {
    text.strip_prefix('-').map_or_else(|| text.to_owned(), |rest| format!("−{rest}"))
}

/// The least and the greatest of these values.
pub(crate) fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, greatest), value| (least.min(value), greatest.max(value)))
}

/// A range that holds all values, with a little air; never empty, and not across zero when no value is.
pub(crate) fn range(least: f64, greatest: f64, zero: bool) -> (f64, f64) {
    let (least, greatest) = if zero { (least.min(0.0), greatest.max(0.0)) } else { (least, greatest) };
    let span = greatest - least;
    if !span.is_finite() {
        return (least, greatest);
    }
    let air = if span > 0.0 { 0.05 * span } else { (greatest.abs() * 0.1).max(0.5) };
    let from = if least >= 0.0 && least - air < 0.0 { 0.0 } else { least - air };
    let to = if greatest <= 0.0 && greatest + air > 0.0 { 0.0 } else { greatest + air };
    if from < to { (from, to) } else { (least - 0.5, greatest + 0.5) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(0.0, 1.0, 5, false), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(ticks(0.0, 11.0, 8, true), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(0.0, 3.0, 8, true), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(ticks(-0.25, 1.01, 5, false), [-0.25, 0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(ticks(5.0, 5.0, 5, false), [5.0]);
    }

    #[test]
    fn labels_have_the_decimals_they_need() {
        assert_eq!(decimals(&[0.0, 0.2, 0.4]), 1);
        assert_eq!(decimals(&[0.0, 0.25, 0.5]), 2);
        assert_eq!(decimals(&[0.0, 5.0]), 0);
        assert_eq!(decimals(&[0.3, 0.6000000000000001]), 1);
        assert_eq!([label(-0.25, 2), label(-0.0, 1), label(0.6000000000000001, 1), label(2e6, 0)], ["−0.25", "0.0", "0.6", "2000000"]);
    }

    #[test]
    fn ticks_are_written_in_one_way_and_tell_values_apart() {
        let of = |ticks: &[f64]| labels(ticks);
        assert_eq!(of(&[0.0, 0.25, 0.5]), (["0.00", "0.25", "0.50"].map(String::from).to_vec(), None));
        let near = [999_999.999_5, 1_000_000.0, 1_000_000.000_5];
        assert_eq!(of(&near), (["−0.0005", "0.0000", "0.0005"].map(String::from).to_vec(), Some(1e6)));
        assert_eq!((added(1e6), added(-2.5)), ("+ 1000000".to_owned(), "− 2.5".to_owned()));
        assert_eq!(of(&[0.0, 2e6, 4e6]).0, ["0", "2e6", "4e6"]);
        assert_eq!(of(&[-2e-9, 0.0, 2e-9]).0, ["−2e-9", "0", "2e-9"]);
        assert_eq!(of(&[0.0, 2e300]).0, ["0", "2e300"]);
        for ticks in [vec![1e15, 1e15 + 2.0], vec![1e-300, 2e-300], vec![-1e6 - 1e-4, -1e6 + 1e-4], vec![123456.0, 123457.0]] {
            let (labels, _) = of(&ticks);
            assert_ne!(labels[0], labels[1], "{ticks:?}");
        }
    }

    #[test]
    fn a_small_value_beside_large_ones_is_not_zero() {
        assert_eq!([value(-0.5, 0), value(300.0, 0), value(0.97, 1), value(0.0, 1)], ["−0.5", "300", "1.0", "0.0"]);
        assert_eq!([value(0.004, 2), value(3e-9, 2), value(-0.04, 0), value(1e-300, 0)], ["0.004", "3e-9", "−0.04", "1e-300"]);
    }

    #[test]
    fn values_are_finer_than_ticks_and_ranges_reach_a_near_tick() {
        assert_eq!([0.2, 0.25, 0.05, 1.0, 20.0].map(|step| finer_decimals(&[0.0, step])), [2, 2, 3, 1, 0]);
        let any = (f64::NEG_INFINITY, f64::INFINITY);
        let (from, to) = rounded((0.0, 0.97), 5, any);
        assert!(from == 0.0 && (to - 1.0).abs() < 1e-12, "{to}");
        assert_eq!(rounded((-0.09, 0.85), 5, any), (-0.09, 0.85));
        assert_eq!(rounded((0.0, 1.15), 5, (0.0, 1.0)), (0.0, 1.15));
    }

    #[test]
    fn ranges_hold_everything_and_are_never_empty() {
        assert_eq!(range(0.01, 1.0, false), (0.0, 1.0495));
        assert_eq!(range(0.5, 0.9, true).0, 0.0);
        assert_eq!(range(-3.0, -1.0, true).1, 0.0);
        for value in [0.0, 1.0, -7.0, 1e9] {
            let (from, to) = range(value, value, false);
            assert!(from < to && from <= value && value <= to, "{value}: {from}..{to}");
        }
    }

    #[test]
    fn a_scale_maps_its_ends() {
        let scale = Scale { from: 0.0, to: 2.0, start: 100.0, end: 0.0, steps: Steps::Linear };
        assert_eq!([scale.at(0.0), scale.at(1.0), scale.at(2.0), scale.within(9.0)], [100.0, 50.0, 0.0, 0.0]);
        let scale = Scale { from: 2.0, to: 32.0, start: 0.0, end: 100.0, steps: Steps::Log(2) };
        assert_eq!([scale.at(2.0), scale.at(8.0), scale.at(32.0)].map(f64::round), [0.0, 50.0, 100.0]);
    }

    #[test]
    fn logarithmic_ticks_are_powers_or_multiples_between() {
        assert_eq!(log_ticks(2.0, 16.0, 2, 8), [2.0, 4.0, 8.0, 16.0]);
        assert_eq!(log_ticks(1.0, 1024.0, 2, 6), [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0]);
        assert_eq!(log_ticks(0.03, 4.0, 10, 5), [0.05, 0.1, 0.2, 0.5, 1.0, 2.0]);
        assert_eq!(
            log_ticks(0.22, 1.6, 10, 5),
            [0.3, 0.5, 0.7, 1.0, 1.5].map(|tick: f64| if tick < 1.0 { tick * 10.0 * 0.1 } else { tick })
        );
        assert_eq!([every(20.0, 13.0), every(7.0, 13.0), every(3.0, 31.0)], [1, 2, 20]);
        assert_eq!(log_ticks(0.3, 0.45, 10, 4), [0.3, 0.35, 0.4, 0.45].map(|tick: f64| (tick / 0.05).round() * 0.05));
    }
}
