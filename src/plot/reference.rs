//! Lines and bands that values are read against: chance, a mean, what a null hypothesis would give.

use super::layout::Panel;
use super::legend::Sample;
use super::palette::{MUTED, MarkStyle};
use super::scale::shown;
use super::scene::Scene;

/// A value, or a range of values, with its name.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    pub from: f64,
    pub to: f64,
    pub name: String,
    /// Across x, as an upright line, instead of across y.
    pub upright: bool,
}

impl Reference {
    /// Its name, with its value where the name does not say one.
    pub(crate) fn words(&self) -> String {
        let value = if self.from == self.to { shown(self.from) } else { format!("{} to {}", shown(self.from), shown(self.to)) };
        if self.name.is_empty() { value } else { format!("{} ({value})", self.name) }
    }
}

/// The style of the `at`-th reference: grey, told apart by its dashes.
pub(crate) fn style(at: usize) -> MarkStyle {
    MarkStyle { colour: MUTED, marker: 0, dash: at + 1 }
}

/// A legend sample for lines.
pub(crate) const LINE: Sample =
    Sample { width: 26.0, draw: |scene, (x, y), style| scene.dashed(&[(x, y), (x + 26.0, y)], 1.5, style.colour, style.pattern()) };
/// A legend sample for bands.
pub(crate) const BAND: Sample =
    Sample { width: 26.0, draw: |scene, (x, y), style| scene.rectangle((x, y - 6.0), (x + 26.0, y + 6.0), style.colour.faint(BAND_INK)) };
const BAND_INK: f64 = 0.18;

/// Draws those that lie inside a panel.
pub(crate) fn draw<'a>(scene: &mut Scene, references: impl Iterator<Item = (usize, &'a Reference)>, panel: &Panel) {
    for (at, reference) in references {
        let (style, scale) = (style(at), if reference.upright { &panel.x } else { &panel.y });
        if reference.to < scale.from.min(scale.to) || reference.from > scale.from.max(scale.to) {
            continue;
        }
        let [a, b] = [reference.from, reference.to].map(|value| scale.within(value));
        let (from, to) = match reference.upright {
            true => ((a, panel.y.end), (b, panel.y.start)),
            false => ((panel.sides.0, b), (panel.sides.1, a)),
        };
        match reference.from == reference.to {
            true => scene.dashed(&[from, to], 1.5, style.colour, style.pattern()),
            false => scene.rectangle(from, to, style.colour.faint(BAND_INK)),
        }
        scene.hover(from, to, reference.words());
    }
}
