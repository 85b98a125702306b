//! From a number to a colour: scales that keep their order for colour-blind readers and in grey.

use super::palette::WHITE;
use super::scale::{self, shown};
use super::scene::Colour;

/// Steps of a scale: finer ones look the same, and coarser ones show as bands; few of them keep bitmaps small.
const STEPS: f64 = 48.0;

/// Light to dark: `YlGnBu` of Brewer (2003), colorbrewer2.org.
const SEQUENTIAL: [u32; 9] = [0xFFFFD9, 0xEDF8B1, 0xC7E9B4, 0x7FCDBB, 0x41B6C4, 0x1D91C0, 0x225EA8, 0x253494, 0x081D58];
/// Blue over white to red: `RdBu` of Brewer (2003), colorbrewer2.org, which red-green blindness does not confuse.
const DIVERGING: [u32; 11] = [0x053061, 0x2166AC, 0x4393C3, 0x92C5DE, 0xD1E5F0, 0xF7F7F7, 0xFDDBC7, 0xF4A582, 0xD6604D, 0xB2182B, 0x67001F];

/// A scale of colours over a range of values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ramp {
    pub from: f64,
    pub to: f64,
    pub diverging: bool,
}

impl Ramp {
    /// The colour of a value; values outside have the colour of the nearer end.
    pub(crate) fn colour(&self, value: f64) -> Colour {
        let share = ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0);
        let share = (share * STEPS).round() / STEPS;
        mixed(if self.diverging { &DIVERGING } else { &SEQUENTIAL }, share)
    }

    /// What the note says of values that the colours do not reach.
    pub(crate) fn outside(&self, values: impl Iterator<Item = f64>) -> Option<String> {
        // A hair beyond is rounding: as a whole answer that is 1.0000002 of it.
        let hair = (self.to - self.from) * 1e-5;
        let outside: Vec<f64> = values.filter(|value| *value < self.from - hair || *value > self.to + hair).collect();
        let (least, greatest) = scale::extent(outside.iter().copied());
        let to = if outside.len() == 1 { shown(least) } else { format!("{} to {}", shown(least), shown(greatest)) };
        match outside.len() {
            0 => None,
            1 => Some(format!("1 value outside the colours' range ({to})")),
            outside => Some(format!("{outside} values outside the colours' range ({to})")),
        }
    }
}

/// The colour at a share of the way along these.
pub(crate) fn mixed(anchors: &[u32], share: f64) -> Colour {
    let at = share * anchors.len().saturating_sub(1) as f64;
    let anchor = |at: f64| Colour::hex(anchors.get(at as usize).copied().unwrap_or_default());
    let (low, high) = (anchor(at.floor()), anchor(at.ceil()));
    let mix = |low: u8, high: u8| (f64::from(low) + (f64::from(high) - f64::from(low)) * at.fract()).round() as u8;
    Colour(mix(low.0, high.0), mix(low.1, high.1), mix(low.2, high.2), 1.0)
}

/// Black is darker than the text elsewhere: on the middle of a scale nothing lighter can be read.
const BLACK: Colour = Colour::hex(0);

/// What can be read on a colour: black or white.
pub(crate) fn ink(ground: Colour) -> Colour {
    if contrast(ground, BLACK) >= contrast(ground, WHITE) { BLACK } else { WHITE }
}

/// WCAG's contrast ratio.
fn contrast(a: Colour, b: Colour) -> f64 {
    let (a, b) = (light(a), light(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

fn light(colour: Colour) -> f64 {
    let linear = |byte: u8| {
        let share = f64::from(byte) / 255.0;
        if share <= 0.04045 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * linear(colour.0) + 0.7152 * linear(colour.1) + 0.0722 * linear(colour.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequential_colours_only_darken_and_all_can_be_written_on() {
        let ramp = |diverging| Ramp { from: -1.0, to: 1.0, diverging };
        let mut last = f64::INFINITY;
        for at in 0..=100 {
            let value = f64::from(at) / 50.0 - 1.0;
            let colour = ramp(false).colour(value);
            assert!(light(colour) <= last, "{value}");
            last = light(colour);
            for ground in [colour, ramp(true).colour(value)] {
                assert!(contrast(ground, ink(ground)) >= 4.5, "{value}: {}", contrast(ground, ink(ground)));
            }
        }
        assert_eq!((ramp(true).colour(0.0), ramp(false).colour(9.0)), (Colour::hex(0xF7F7F7), Colour::hex(0x081D58)));
    }

    #[test]
    fn diverging_colours_are_as_dark_on_both_sides() {
        let ramp = Ramp { from: -1.0, to: 1.0, diverging: true };
        for value in [0.2, 0.5, 0.8, 1.0] {
            assert!((light(ramp.colour(value)) - light(ramp.colour(-value))).abs() < 0.12, "{value}");
        }
    }
}
