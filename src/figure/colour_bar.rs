//! What the colours of a heat map mean.

use super::layout::Panel;
use super::legend::Legend;
use super::palette::{AXIS, Look, MUTED, TEXT};
use super::ramp::{self, Ramp};
use super::scale;
use super::scene::{Anchor, Colour, Label, Scene};
use super::text;
use crate::display::escape;

const VALUE: f64 = 10.5;
/// The bar's width.
const BAR: f64 = 14.0;

/// Colours with their values and their name.
pub(super) struct Bar {
    ramp: Ramp,
    labels: Vec<(f64, String)>,
    name: String,
}

impl Bar {
    pub(super) fn new(ramp: Ramp, name: String) -> Self {
        let ticks = scale::ticks(ramp.from, ramp.to, 5, false);
        let decimals = scale::decimals(&ticks);
        Self { ramp, labels: ticks.into_iter().map(|tick| (tick, scale::label(tick, decimals))).collect(), name }
    }

    fn widest(&self) -> f64 {
        self.labels.iter().map(|(_, label)| text::width(label, VALUE, false)).fold(0.0, f64::max)
    }

    /// The room that the bar takes, with its labels and its name.
    pub(super) fn room(&self) -> f64 {
        self.widest() + BAR + VALUE + 30.0
    }

    /// The same as HTML: the name, and each value on its colour.
    pub(super) fn html(&self) -> String {
        let one = |(value, label): &(f64, String)| {
            let colour = self.ramp.colour(*value);
            format!("<span style=\"{};display:inline-block;padding:0 6px\">{}</span>", on(colour), escape(label))
        };
        format!("<div>{} {}</div>\n", escape(&self.name), self.labels.iter().map(one).collect::<String>())
    }

    /// The same as a row of colours above the figure.
    pub(super) fn legend(&self) -> Legend {
        const PIECES: usize = 13;
        let values = (0..PIECES).map(|piece| self.ramp.from + (self.ramp.to - self.ramp.from) * piece as f64 / (PIECES - 1) as f64);
        let look = |colour| Look { colour, marker: 0, dash: 0 };
        let decimals = scale::finer_decimals(&scale::ticks(self.ramp.from, self.ramp.to, 5, false));
        let row = values.map(|value| (scale::value(value, decimals), look(self.ramp.colour(value)))).collect();
        Legend { title: self.name.clone(), names: Vec::new(), row }
    }

    /// Downward from `top` to `base`.
    fn draw(&self, scene: &mut Scene, left: f64, (top, base): (f64, f64)) {
        const PIECES: usize = 49;
        let ramp = &self.ramp;
        for piece in 0..PIECES {
            let value = ramp.from + (ramp.to - ramp.from) * (piece as f64 + 0.5) / PIECES as f64;
            // Each up to the top, under the next: pieces that only touch show seams in browsers.
            let low = base - (base - top) * piece as f64 / PIECES as f64;
            scene.rectangle((left, low), (left + BAR, top), ramp.colour(value));
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
pub(super) fn on(ground: Colour) -> String {
    format!("background-color:{};color:{}", ground.css(), ramp::ink(ground).css())
}

/// The bars side by side, to the right of the panels.
pub(super) fn draw(scene: &mut Scene, panels: &[Panel], bars: &[Bar]) {
    let Some((top, base, right)) =
        panels.iter().map(|panel| (panel.y.end, panel.base, panel.sides.1)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1), a.2.max(b.2)))
    else {
        return;
    };
    // A bar as high as a page is no better than one as high as a hand.
    let base = base.min(top + 320.0);
    let mut left = right + 16.0;
    for bar in bars {
        bar.draw(scene, left, (top, base));
        left += bar.room();
    }
}
