//! What the colours of a heat map mean.

use super::layout::{MARGIN, Panel};
use super::palette::{AXIS, MUTED, TEXT};
use super::ramp::{self, Ramp};
use super::scene::{Anchor, Colour, Label, Scene};
use super::{scale, text};
use crate::display::escape;

const VALUE: f64 = 10.5;
/// The bar's width.
const BAR: f64 = 14.0;
/// Pieces of one colour: as many as there are colours.
const PIECES: usize = 49;
/// Size of the name of a level bar.
const NAME: f64 = 12.0;

/// Colours with their values and their name.
pub(crate) struct Bar {
    ramp: Ramp,
    labels: Vec<(f64, String)>,
    name: String,
}

impl Bar {
    pub(crate) fn new(ramp: Ramp, name: String) -> Self {
        let ticks = scale::ticks(ramp.from, ramp.to, 5, false);
        let decimals = scale::decimals(&ticks);
        Self { ramp, labels: ticks.into_iter().map(|tick| (tick, scale::label(tick, decimals))).collect(), name }
    }

    fn widest(&self) -> f64 {
        self.labels.iter().map(|(_, label)| text::width(label, VALUE, false)).fold(0.0, f64::max)
    }

    /// The room that the bar takes, with its labels and its name.
    pub(crate) fn room(&self) -> f64 {
        self.widest() + BAR + VALUE + 30.0
    }

    /// The same as HTML: the name, and each value on its colour. The space in each shows only where styles are taken away (GitHub) and all would be one number.
    pub(crate) fn html(&self) -> String {
        let one = |(value, label): &(f64, String)| {
            let colour = self.ramp.colour(*value);
            format!("<span style=\"{};display:inline-block;padding:0 6px\">{} </span>", on(colour), escape(label))
        };
        format!("<div>{} {}</div>\n", escape(&self.name), self.labels.iter().map(one).collect::<String>())
    }

    /// Level, above a figure without axes, from the height `y` on; returns where it ends.
    pub(crate) fn across(&self, scene: &mut Scene, y: f64) -> f64 {
        let start = MARGIN + 2.0;
        let name = text::fitted(&self.name, NAME, scene.width / 3.0);
        scene.text(Label::new((start, y + 13.0), &name, NAME, MUTED, Anchor::Start));
        let left = start + text::width(&name, NAME, false) + 14.0;
        let right = (left + 320.0).min(scene.width - MARGIN - 12.0);
        let (top, base) = (y + 4.0, y + 14.0);
        for piece in 0..PIECES {
            // Each up to the right end, under the next: pieces that only touch show seams in browsers.
            let from = left + (right - left) * piece as f64 / PIECES as f64;
            scene.rectangle((from, top), (right, base), self.colour_of(piece));
        }
        let every = scale::every((right - left) / self.labels.len().max(1) as f64, self.widest() + 8.0);
        for (value, label) in self.labels.iter().step_by(every) {
            let x = left + (right - left) * (value - self.ramp.from) / (self.ramp.to - self.ramp.from);
            scene.line(vec![(x, base), (x, base + 3.0)], 1.0, AXIS);
            scene.text(Label::new((x, base + 13.0), label, VALUE, MUTED, Anchor::Middle));
        }
        y + 36.0
    }

    fn colour_of(&self, piece: usize) -> Colour {
        self.ramp.colour(self.ramp.from + (self.ramp.to - self.ramp.from) * (piece as f64 + 0.5) / PIECES as f64)
    }

    /// Downward from `top` to `base`.
    fn draw(&self, scene: &mut Scene, left: f64, (top, base): (f64, f64)) {
        let ramp = &self.ramp;
        for piece in 0..PIECES {
            // Each up to the top, under the next: pieces that only touch show seams in browsers.
            let low = base - (base - top) * piece as f64 / PIECES as f64;
            scene.rectangle((left, low), (left + BAR, top), self.colour_of(piece));
        }
        // A bar as low as a row of few cells has room for its ends alone.
        let every = scale::every((base - top) / self.labels.len().max(1) as f64, VALUE + 2.0);
        for (value, label) in self.labels.iter().step_by(every) {
            let y = base - (base - top) * (value - ramp.from) / (ramp.to - ramp.from);
            scene.line(vec![(left + BAR, y), (left + BAR + 3.0, y)], 1.0, AXIS);
            scene.text(Label::new((left + BAR + 6.0, y + 3.8), label, VALUE, MUTED, Anchor::Start));
        }
        scene.line(vec![(left, top), (left + BAR, top), (left + BAR, base), (left, base), (left, top)], 0.8, AXIS);
        let name = text::fitted(&self.name, VALUE + 1.0, base - top);
        let at = (left + BAR + 6.0 + self.widest() + VALUE + 4.0, (top + base) / 2.0);
        scene.text(Label { turned: true, ..Label::new(at, &name, VALUE + 1.0, TEXT, Anchor::Middle) });
    }
}

/// The styles of text on a colour: legible on light pages and dark ones.
pub(crate) fn on(ground: Colour) -> String {
    format!("background-color:{};color:{}", ground.css(), ramp::ink(ground).css())
}

/// The bars side by side, to the right of the panels and what is written `aside` of them.
pub(crate) fn draw(scene: &mut Scene, panels: &[Panel], bars: &[Bar], aside: f64) {
    let Some((top, base, right)) =
        panels.iter().map(|panel| (panel.y.end, panel.base, panel.sides.1)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1), a.2.max(b.2)))
    else {
        return;
    };
    // A bar as high as a page is no better than one as high as a hand.
    let base = base.min(top + 320.0);
    let mut left = right + aside + 16.0;
    for bar in bars {
        bar.draw(scene, left, (top, base));
        left += bar.room();
    }
}
