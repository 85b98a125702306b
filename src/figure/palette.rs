//! How groups are told apart: by colour, and again by marker and dash for those who do not see the colours.

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

/// Lengths drawn and left out in turn.
const DASHES: [&[f64]; 4] = [&[], &[7.0, 4.0], &[2.0, 3.5], &[9.0, 3.5, 2.0, 3.5]];

/// The most groups that colour, marker and dash keep apart for a reader.
pub(crate) const MOST_GROUPS: usize = 16;

pub(crate) const TEXT: Colour = Colour::hex(0x222222);
pub(crate) const MUTED: Colour = Colour::hex(0x5A5A5A);
pub(crate) const AXIS: Colour = Colour::hex(0x808080);
pub(crate) const GRID: Colour = Colour::hex(0xE4E4E4);
pub(crate) const WHITE: Colour = Colour::hex(0xFFFFFF);

/// The colour of the `group`-th group.
pub(crate) fn colour(group: usize) -> Colour {
    COLOURS[group % COLOURS.len()]
}

/// The dash of the `group`-th group; after all colours are used, the dashes come in another order.
pub(crate) fn dash(group: usize) -> &'static [f64] {
    DASHES[(group + group / COLOURS.len()) % DASHES.len()]
}

/// Draws the `group`-th group's marker with a white rim, which keeps crossing lines apart.
pub(crate) fn marker(scene: &mut Scene, at: Point, group: usize, radius: f64) {
    for (radius, colour) in [(radius + 1.2, WHITE), (radius, colour(group))] {
        let polygon = |corners: &[Point]| corners.iter().map(|corner| (at.0 + corner.0 * radius, at.1 + corner.1 * radius)).collect();
        match group % 5 {
            0 => scene.circle(at, radius, colour),
            1 => scene.polygon(polygon(&[(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)]), colour),
            2 => scene.polygon(polygon(&[(0.0, -1.2), (1.12, 0.8), (-1.12, 0.8)]), colour),
            3 => scene.polygon(polygon(&[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)]), colour),
            _ => scene.polygon(polygon(&[(0.0, 1.2), (1.12, -0.8), (-1.12, -0.8)]), colour),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_groups_look_alike() {
        let looks = |group: usize| (group % COLOURS.len(), dash(group), group % 5);
        for a in 0..MOST_GROUPS {
            for b in 0..a {
                assert_ne!(looks(a), looks(b), "groups {a} and {b}");
            }
        }
    }

    #[test]
    fn colours_stand_out_on_white() {
        for group in 0..COLOURS.len() {
            let Colour(r, g, b, _) = colour(group);
            let linear = |byte: u8| (f64::from(byte) / 255.0).powf(2.2);
            let light = 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
            // WCAG's contrast ratio; 3 is its demand for graphics, met by all but the two light ones, which their markers carry.
            let contrast = 1.05 / (light + 0.05);
            assert!(contrast > 2.1, "group {group}: {contrast}");
        }
    }
}
