//! How groups are told apart: by colour, and again by marker and dash for those who do not see the colours.

use super::ramp;
use super::scene::{Colour, Point, Scene};

/// Okabe and Ito's colours (2008) without the yellow, which white swallows, and with two dark ones that stay apart from them.
const COLOURS: [Colour; 8] = [
    Colour::hex(0x0072B2),
    Colour::hex(0xD55E00),
    Colour::hex(0x009E73),
    Colour::hex(0xCC79A7),
    Colour::hex(0xE69F00),
    Colour::hex(0x56B4E9),
    Colour::hex(0x4D4D4D),
    Colour::hex(0x882255),
];

/// What is in order goes from dark to light: viridis (van der Walt and Smith 2015) without its light end, which white swallows.
const ORDERED: [u32; 8] = [0x440154, 0x482878, 0x3E4A89, 0x31688E, 0x26828E, 0x1F9E89, 0x35B779, 0x6DCD59];

/// Lengths drawn and left out in turn.
const DASHES: [&[f64]; 4] = [&[], &[7.0, 4.0], &[2.0, 3.5], &[9.0, 3.5, 2.0, 3.5]];

/// Shapes of markers.
const MARKERS: usize = 8;

/// The most groups that colour, marker and dash keep apart for a reader; more go by the colours of what is in order.
pub(crate) const MOST_GROUPS: usize = 16;
/// The most groups in order that markers also keep apart.
const MOST_MARKED: usize = 6;

pub(crate) const TEXT: Colour = Colour::hex(0x222222);
pub(crate) const MUTED: Colour = Colour::hex(0x5A5A5A);
pub(crate) const AXIS: Colour = Colour::hex(0x808080);
pub(crate) const GRID: Colour = Colour::hex(0xE4E4E4);
pub(crate) const WHITE: Colour = Colour::hex(0xFFFFFF);

/// How a group is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MarkStyle {
    pub colour: Colour,
    pub marker: usize,
    pub dash: usize,
}

impl MarkStyle {
    /// Lengths drawn and left out in turn.
    pub(crate) fn pattern(self) -> &'static [f64] {
        DASHES[self.dash % DASHES.len()]
    }
}

/// The colour of the `group`-th group.
pub(crate) const fn colour(group: usize) -> Colour {
    COLOURS[group % COLOURS.len()]
}

/// The style of the `group`-th group; after all colours are used, markers and dashes come in another order.
pub(crate) const fn style(group: usize) -> MarkStyle {
    let turn = group + group / COLOURS.len();
    MarkStyle { colour: colour(group), marker: turn % MARKERS, dash: turn % DASHES.len() }
}

/// The style of the `at`-th of groups in order.
pub(crate) fn ordered(at: usize, of: usize) -> MarkStyle {
    let colour = ramp::mixed(&ORDERED, at as f64 / of.saturating_sub(1).max(1) as f64);
    match of {
        ..=MOST_MARKED => MarkStyle { colour, marker: at % MARKERS, dash: at % DASHES.len() },
        _ => MarkStyle { colour, marker: 0, dash: 0 },
    }
}

/// Draws a style's marker with a white rim, which keeps crossing lines apart.
pub(crate) fn marker(scene: &mut Scene, at: Point, style: MarkStyle, radius: f64) {
    shape(scene, at, style.marker, radius + 1.2, WHITE);
    shape(scene, at, style.marker, radius, style.colour);
}

/// Draws a marker alone, in any colour.
pub(crate) fn shape(scene: &mut Scene, at: Point, marker: usize, radius: f64, colour: Colour) {
    let polygon = |corners: &[Point]| corners.iter().map(|corner| (at.0 + corner.0 * radius, at.1 + corner.1 * radius)).collect();
    // A plus, and the same lying on its side.
    let plus = [
        (-0.4, -1.2),
        (0.4, -1.2),
        (0.4, -0.4),
        (1.2, -0.4),
        (1.2, 0.4),
        (0.4, 0.4),
        (0.4, 1.2),
        (-0.4, 1.2),
        (-0.4, 0.4),
        (-1.2, 0.4),
        (-1.2, -0.4),
        (-0.4, -0.4),
    ];
    match marker % MARKERS {
        0 => scene.circle(at, radius, colour),
        1 => scene.polygon(polygon(&[(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)]), colour),
        2 => scene.polygon(polygon(&[(0.0, -1.2), (1.12, 0.8), (-1.12, 0.8)]), colour),
        3 => scene.polygon(polygon(&[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)]), colour),
        4 => scene.polygon(polygon(&[(0.0, 1.2), (1.12, -0.8), (-1.12, -0.8)]), colour),
        5 => scene.polygon(polygon(&plus), colour),
        6 => scene.polygon(polygon(&plus.map(|(x, y)| ((x - y) * 0.707, (x + y) * 0.707))), colour),
        _ => scene.polygon(polygon(&[(0.0, -1.15), (1.1, -0.36), (0.68, 0.93), (-0.68, 0.93), (-1.1, -0.36)]), colour),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_groups_look_alike() {
        for a in 0..MOST_GROUPS {
            for b in 0..a {
                assert_ne!(style(a), style(b), "groups {a} and {b}");
            }
        }
        for of in [2, MOST_MARKED, 40] {
            for a in 1..of {
                assert_ne!(ordered(a, of).colour, ordered(a - 1, of).colour, "{a} of {of}");
            }
        }
    }

    #[test]
    fn colours_stand_out_on_white() {
        let ordered = (0..9).map(|at| ordered(at, 9).colour);
        for (at, Colour(r, g, b, _)) in (0..COLOURS.len()).map(colour).chain(ordered).enumerate() {
            let linear = |byte: u8| (f64::from(byte) / 255.0).powf(2.2);
            let light = 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
            // WCAG's contrast ratio; 3 is its demand for graphics, met by all but the light ones, which their markers or their place carry.
            let contrast = 1.05 / (light + 0.05);
            assert!(contrast > 1.9, "{at}: {contrast}");
        }
    }
}
