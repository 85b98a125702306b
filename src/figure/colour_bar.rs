//! What the colours of a heat map mean.

use super::layout::Panel;
use super::palette::{AXIS, MUTED, TEXT};
use super::ramp::Ramp;
use super::scale;
use super::scene::{Anchor, Label, Scene};
use super::text;

const VALUE: f64 = 10.5;
/// The bar's width.
const BAR: f64 = 14.0;

/// The values that the colour bar labels.
pub(super) fn labels(ramp: &Ramp) -> Vec<(f64, String)> {
    let ticks = scale::ticks(ramp.from, ramp.to, 5, false);
    let decimals = scale::decimals(&ticks);
    ticks.into_iter().map(|tick| (tick, scale::label(tick, decimals))).collect()
}

/// The room that the bar takes, with its labels and its name.
pub(super) fn room(labels: &[(f64, String)]) -> f64 {
    labels.iter().map(|(_, label)| text::width(label, VALUE, false)).fold(0.0, f64::max) + BAR + VALUE + 30.0
}

/// The colours with their values, to the right of the panels.
pub(super) fn draw(scene: &mut Scene, panels: &[Panel], ramp: &Ramp, labels: &[(f64, String)], name: &str) {
    let Some((top, base, right)) =
        panels.iter().map(|panel| (panel.y.end, panel.base, panel.sides.1)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1), a.2.max(b.2)))
    else {
        return;
    };
    // A bar as high as a page is no better than one as high as a hand.
    let (base, left) = (base.min(top + 320.0), right + 16.0);
    const PIECES: usize = 49;
    for piece in 0..PIECES {
        let value = ramp.from + (ramp.to - ramp.from) * (piece as f64 + 0.5) / PIECES as f64;
        // Each up to the top, under the next: pieces that only touch show seams in browsers.
        let low = base - (base - top) * piece as f64 / PIECES as f64;
        scene.rectangle((left, low), (left + BAR, top), ramp.colour(value));
    }
    for (value, label) in labels {
        let y = base - (base - top) * (value - ramp.from) / (ramp.to - ramp.from);
        scene.line(vec![(left + BAR, y), (left + BAR + 3.0, y)], 1.0, AXIS);
        scene.text(Label::new((left + BAR + 6.0, y + 3.8), label, VALUE, MUTED, Anchor::Start));
    }
    scene.line(vec![(left, top), (left + BAR, top), (left + BAR, base), (left, base), (left, top)], 0.8, AXIS);
    let widest = labels.iter().map(|(_, label)| text::width(label, VALUE, false)).fold(0.0, f64::max);
    let name = text::fitted(name, VALUE + 1.0, base - top);
    let at = (left + BAR + 6.0 + widest + VALUE + 4.0, (top + base) / 2.0);
    scene.text(Label { turned: true, ..Label::new(at, &name, VALUE + 1.0, TEXT, Anchor::Middle) });
}
