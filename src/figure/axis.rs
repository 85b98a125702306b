//! The two axes of a panel: their ranges, grid lines and labels.

use super::data::Along;
use super::palette::{AXIS, GRID, MUTED};
use super::scale::{self, Scale};
use super::scene::{Anchor, Label, Scene};
use super::text;

/// Size of the labels.
const PLAIN: f64 = 11.5;
/// The most room that upright labels take.
const UPRIGHT: f64 = 120.0;

/// The y axis that all panels share.
pub(super) struct YAxis {
    pub from: f64,
    pub to: f64,
    ticks: Vec<f64>,
    labels: Vec<String>,
}

impl YAxis {
    pub(super) fn of((from, to): (f64, f64), wanted: usize) -> Self {
        let ticks = scale::ticks(from, to, wanted, false);
        let decimals = scale::decimals(&ticks);
        let labels = ticks.iter().map(|&tick| scale::label(tick, decimals)).collect();
        Self { from, to, ticks, labels }
    }

    /// The width of the widest label.
    pub(super) fn width(&self) -> f64 {
        self.labels.iter().map(|label| text::width(label, PLAIN, false)).fold(0.0, f64::max)
    }

    /// Grid lines between two pixels, labelled or not.
    pub(super) fn draw(&self, scene: &mut Scene, scale: &Scale, (from, to): (f64, f64), labelled: bool) {
        for (&tick, label) in self.ticks.iter().zip(&self.labels) {
            let y = scale.at(tick);
            let zero = tick == 0.0 && self.from < 0.0;
            scene.line(vec![(from, y), (to, y)], 1.0, if zero { AXIS } else { GRID });
            if labelled {
                scene.text(Label::new((from - 7.0, y + 4.0), label, PLAIN, MUTED, Anchor::End));
            }
        }
    }
}

/// The x axis that all panels share.
pub(super) struct XAxis {
    from: f64,
    to: f64,
    /// Pixels kept free at both ends, so that markers there are whole.
    inset: f64,
    labels: Labels,
}

enum Labels {
    /// At round numbers or at the values themselves.
    Ticks(Vec<f64>),
    /// Names side by side, broken into lines.
    Level(Vec<Vec<String>>),
    /// Names that are too long for that.
    Upright(Vec<String>),
}

impl XAxis {
    /// The axis of a panel `width` wide; with `slots`, numbers stand side by side as names do.
    pub(super) fn of(along: &Along, slots: bool, width: f64) -> Self {
        let (from, to) = range(along, slots);
        let labels = match along {
            Along::Numbers(values) if !slots => Labels::Ticks(values.clone()),
            along => names(along.labels(), width / (to - from).max(1.0) - 6.0),
        };
        Self { from, to, inset: if slots { 0.0 } else { 8.0 }, labels }
    }

    pub(super) fn scale(&self, from: f64, to: f64) -> Scale {
        Scale { from: self.from, to: self.to, start: from + self.inset, end: to - self.inset }
    }

    /// The height that the labels need below the panel.
    pub(super) fn height(&self) -> f64 {
        match &self.labels {
            Labels::Ticks(_) => 14.0,
            Labels::Level(names) => names.iter().map(Vec::len).max().unwrap_or(1) as f64 * 14.0,
            Labels::Upright(names) => names.iter().map(|name| text::width(name, PLAIN, false)).fold(14.0, f64::max) + 4.0,
        }
    }

    /// Ticks and labels below the line at `base`.
    pub(super) fn draw(&self, scene: &mut Scene, scale: &Scale, base: f64, labelled: bool) {
        let mut write = |x: f64, y: f64, name: &str| scene.text(Label::new((x, base + y), name, PLAIN, MUTED, Anchor::Middle));
        match &self.labels {
            Labels::Ticks(values) => {
                let (ticks, labels) = ticks(values, scale);
                for (&tick, label) in ticks.iter().zip(&labels).filter(|_| labelled) {
                    write(scale.at(tick), 16.0, label);
                }
                for x in ticks.into_iter().map(|tick| scale.at(tick)) {
                    scene.line(vec![(x, base), (x, base + 4.0)], 1.0, AXIS);
                }
            }
            _ if !labelled => {}
            Labels::Level(names) => {
                for (place, lines) in names.iter().enumerate() {
                    for (line, name) in lines.iter().enumerate() {
                        write(scale.at(place as f64), 16.0 + 14.0 * line as f64, name);
                    }
                }
            }
            Labels::Upright(names) => {
                for (place, name) in names.iter().enumerate() {
                    let at = (scale.at(place as f64) + PLAIN * 0.35, base + 7.0);
                    scene.text(Label { turned: true, ..Label::new(at, name, PLAIN, MUTED, Anchor::End) });
                }
            }
        }
    }
}

/// Names level where each fits into a slot in at most three lines, else upright.
fn names(names: Vec<String>, slot: f64) -> Labels {
    let level: Vec<Vec<String>> = names.iter().map(|name| text::wrapped(name, PLAIN, slot, 3)).collect();
    let whole = |(name, lines): (&String, &Vec<String>)| lines.join(" ") == name.split_whitespace().collect::<Vec<_>>().join(" ");
    if names.iter().zip(&level).all(whole) {
        Labels::Level(level)
    } else {
        Labels::Upright(names.iter().map(|name| text::fitted(name, PLAIN, UPRIGHT)).collect())
    }
}

fn range(along: &Along, slots: bool) -> (f64, f64) {
    match along {
        _ if slots => (-0.5, along.len() as f64 - 0.5),
        Along::Names(names) => (-0.3, names.len() as f64 - 0.7),
        Along::Numbers(values) => match (values.first(), values.last()) {
            (Some(&first), Some(&last)) if first < last => (first, last),
            (Some(&only), _) => (only - 0.5, only + 0.5),
            _ => (0.0, 1.0),
        },
    }
}

/// The values themselves where they are few and far enough apart (2, 4, 8, 16), else round numbers.
fn ticks(values: &[f64], x: &Scale) -> (Vec<f64>, Vec<String>) {
    let own: Vec<String> = values.iter().map(|&value| scale::signed(&crate::display::number(value))).collect();
    let apart = values.windows(2).zip(own.windows(2)).all(|(pair, labels)| {
        let room = labels.iter().map(|label| text::width(label, PLAIN, false)).sum::<f64>() / 2.0 + 8.0;
        x.at(pair[1]) - x.at(pair[0]) >= room
    });
    if values.len() <= 16 && apart {
        return (values.to_vec(), own);
    }
    let whole = values.iter().all(|value| value.fract() == 0.0);
    let wanted = ((x.end - x.start) / 45.0).clamp(2.0, 12.0) as usize;
    let ticks = scale::ticks(x.from, x.to, wanted, whole);
    let decimals = scale::decimals(&ticks);
    let labels = ticks.iter().map(|&tick| scale::label(tick, decimals)).collect();
    (ticks, labels)
}
