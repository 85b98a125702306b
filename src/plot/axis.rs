//! The two axes of a panel: their ranges, grid lines and labels.

use super::along::Along;
use super::palette::{AXIS, GRID, MUTED};
use super::scale::{self, Scale, Steps, shown};
use super::scene::{Anchor, Label, Scene};
use super::text;
use crate::error::{Error, Result};

/// Size of the labels.
const PLAIN: f64 = 11.5;
/// The most room that upright labels take.
const UPRIGHT: f64 = 120.0;
/// The least distance of upright labels.
const UPRIGHT_ROW: f64 = 13.0;

/// A y axis: of numbers, or of rows with names.
#[derive(Clone)]
pub(crate) struct YAxis {
    from: f64,
    to: f64,
    steps: Steps,
    ticks: Vec<f64>,
    labels: Vec<String>,
    /// What is added to each label, in words; empty for most.
    added: String,
    grid: bool,
}

/// Size of what is added to labels.
const ADDED: f64 = 10.0;

impl YAxis {
    pub(crate) fn of((from, to): (f64, f64), wanted: usize, steps: Steps) -> Self {
        let (ticks, labels, base) = round((from, to), wanted, false, steps);
        Self { from, to, steps, ticks, labels, added: base.map_or_else(String::new, scale::added), grid: true }
    }

    /// Without the ticks where no value can be: what is left above them is room for markers and numbers.
    pub(crate) fn within(mut self, (least, greatest): (f64, f64)) -> Self {
        let inside = |tick: f64| (least - 1e-9..=greatest + 1e-9).contains(&tick);
        (self.ticks, self.labels) = self.ticks.into_iter().zip(self.labels).filter(|(tick, _)| inside(*tick)).unzip();
        self
    }

    /// Rows one below the other, or one above the other where they go `upward`.
    pub(crate) fn rows(names: &[String], upward: bool) -> Self {
        let (low, high) = (-0.5, names.len() as f64 - 0.5);
        Self {
            from: if upward { low } else { high },
            to: if upward { high } else { low },
            steps: Steps::Linear,
            ticks: (0..names.len()).map(|row| row as f64).collect(),
            labels: names.iter().map(|name| text::fitted(name, PLAIN, UPRIGHT)).collect(),
            added: String::new(),
            grid: false,
        }
    }

    /// `of` rows one below the other, those that have a name labelled in at most `room` pixels.
    pub(crate) fn list(names: &[(usize, String)], of: usize, room: f64) -> Self {
        let ticks = names.iter().map(|(row, _)| *row as f64).collect();
        let labels = names.iter().map(|(_, name)| text::fitted(name, PLAIN, room)).collect();
        Self { from: of as f64 - 0.5, to: -0.5, steps: Steps::Linear, ticks, labels, added: String::new(), grid: false }
    }

    /// The width of the widest label.
    pub(crate) fn width(&self) -> f64 {
        let added = text::width(&self.added, ADDED, false) - 4.0;
        self.labels.iter().map(|label| text::width(label, PLAIN, false)).fold(added.max(0.0), f64::max)
    }

    /// From the pixel `base` up to the pixel `top`.
    pub(crate) fn scale(&self, base: f64, top: f64) -> Scale {
        Scale { from: self.from, to: self.to, start: base, end: top, steps: self.steps }
    }

    /// Grid lines between two pixels, labelled or not.
    pub(crate) fn draw(&self, scene: &mut Scene, scale: &Scale, (from, to): (f64, f64), labelled: bool) {
        // Rows may be too low for a label each.
        let room = (scale.start - scale.end) / self.ticks.len().max(1) as f64;
        let each = if self.grid { 1 } else { scale::every(room, UPRIGHT_ROW) };
        if labelled && !self.added.is_empty() {
            scene.text(Label::new((from - 3.0, scale.end - 9.0), &self.added, ADDED, MUTED, Anchor::End));
        }
        for (&tick, label) in self.ticks.iter().zip(&self.labels).step_by(each) {
            let y = scale.at(tick);
            let zero = tick == 0.0 && self.from < 0.0;
            if self.grid {
                scene.line(vec![(from, y), (to, y)], 1.0, if zero { AXIS } else { GRID });
            }
            if labelled {
                scene.text(Label::new((from - 7.0, y + 4.0), label, PLAIN, MUTED, Anchor::End));
            }
        }
    }
}

/// How places stand along x.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Places {
    /// Side by side, each in a slot of its own.
    Slots,
    /// As [`Places::Slots`], but where there is no room for all labels, some go without.
    Cells,
    /// Numbers keep their distances; those that there are get the labels where they are few.
    Apart(Steps),
    /// Numbers keep their distances; round numbers get the labels.
    Round(Steps),
}

/// The x axis that all panels share.
pub(crate) struct XAxis {
    from: f64,
    to: f64,
    steps: Steps,
    own: bool,
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
    /// The axis of a panel `width` wide, over `asked` where that is given.
    ///
    /// # Errors
    /// More names than have room.
    pub(crate) fn of(along: &Along, places: Places, asked: Option<(f64, f64)>, width: f64) -> Result<Self> {
        let (slots, steps, own) = match places {
            Places::Slots | Places::Cells => (true, Steps::Linear, true),
            Places::Apart(steps) => (false, steps, true),
            Places::Round(steps) => (false, steps, false),
        };
        let (from, to) = asked.filter(|_| !slots).unwrap_or_else(|| range(along, slots, steps));
        let slot = width / (to - from).max(1.0);
        let labels = match along {
            Along::Numbers(values) if !slots => Labels::Ticks(values.clone()),
            // Numbers in order can be counted on where some are not labelled.
            along => names(along.labels(), slot, places == Places::Cells || matches!(along, Along::Numbers(_)))?,
        };
        Ok(Self { from, to, steps, own, inset: if slots { 0.0 } else { 8.0 }, labels })
    }

    pub(crate) fn scale(&self, from: f64, to: f64) -> Scale {
        Scale { from: self.from, to: self.to, start: from + self.inset, end: to - self.inset, steps: self.steps }
    }

    /// The height that the labels need below the panel.
    pub(crate) fn height(&self) -> f64 {
        match &self.labels {
            Labels::Ticks(_) => 14.0,
            Labels::Level(names) => names.iter().map(Vec::len).max().unwrap_or(1) as f64 * 14.0,
            Labels::Upright(names) => names.iter().map(|name| text::width(name, PLAIN, false)).fold(14.0, f64::max) + 4.0,
        }
    }

    /// Ticks and labels below the line at `base`; returns what is to be added to every label.
    pub(crate) fn draw(&self, scene: &mut Scene, scale: &Scale, base: f64, labelled: bool) -> Option<f64> {
        let mut write = |x: f64, y: f64, name: &str| scene.text(Label::new((x, base + y), name, PLAIN, MUTED, Anchor::Middle));
        match &self.labels {
            Labels::Ticks(values) => {
                let (ticks, labels, added) = ticks(values, scale, self.own);
                for (&tick, label) in ticks.iter().zip(&labels).filter(|_| labelled) {
                    write(scale.at(tick), 16.0, label);
                }
                for x in ticks.into_iter().map(|tick| scale.at(tick)) {
                    scene.line(vec![(x, base), (x, base + 4.0)], 1.0, AXIS);
                }
                return added;
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
                for (place, name) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
                    let at = (scale.at(place as f64) + PLAIN * 0.35, base + 7.0);
                    scene.text(Label { turned: true, ..Label::new(at, name, PLAIN, MUTED, Anchor::End) });
                }
            }
        }
        None
    }
}

/// Names level where each fits into a slot in at most five lines, else upright.
///
/// # Errors
/// They fit neither way, and are not `sparing`: those let some go unlabelled.
fn names(names: Vec<String>, slot: f64, sparing: bool) -> Result<Labels> {
    let level: Vec<Vec<String>> = names.iter().map(|name| text::wrapped(name, PLAIN, slot - 6.0, 5)).collect();
    let whole = |(name, lines): (&String, &Vec<String>)| lines.join(" ") == name.split_whitespace().collect::<Vec<_>>().join(" ");
    if names.iter().zip(&level).all(whole) {
        return Ok(Labels::Level(level));
    }
    let each = scale::every(slot, UPRIGHT_ROW);
    let widest = names.iter().map(|name| text::width(name, PLAIN, false)).fold(0.0, f64::max);
    if sparing && widest < 3.0 * UPRIGHT_ROW {
        // Short ones (numbers) are easier to read level, even if fewer.
        let each = scale::every(slot, widest + 8.0);
        let one = |(at, name): (usize, String)| if at % each == 0 { vec![name] } else { Vec::new() };
        return Ok(Labels::Level(names.into_iter().enumerate().map(one).collect()));
    }
    if each > 1 && !sparing {
        let room = (names.len() as f64 * slot / UPRIGHT_ROW).floor();
        return Err(Error::input(format!(
            "figure: {} names along x, but a panel of this size has room for {room}: set a larger width, or filter the frame first",
            names.len()
        )));
    }
    let one = |(at, name): (usize, &String)| if at % each == 0 { text::fitted(name, PLAIN, UPRIGHT) } else { String::new() };
    Ok(Labels::Upright(names.iter().enumerate().map(one).collect()))
}

fn range(along: &Along, slots: bool, steps: Steps) -> (f64, f64) {
    match along {
        _ if slots => (-0.5, along.len() as f64 - 0.5),
        Along::Names(names) => (-0.3, names.len() as f64 - 0.7),
        Along::Numbers(values) => match (values.first(), values.last()) {
            (Some(&first), Some(&last)) if first < last => (first, last),
            (Some(&only), _) if steps == Steps::Linear => (only - 0.5, only + 0.5),
            (Some(&only), _) => (only / 2.0, (only * 2.0).min(f64::MAX)),
            _ => (0.0, 1.0),
        },
    }
}

/// The values themselves where they are few, inside and far enough apart (2, 4, 8, 16), else round numbers; with what is to be added to each label.
fn ticks(values: &[f64], x: &Scale, own: bool) -> (Vec<f64>, Vec<String>, Option<f64>) {
    let values: Vec<f64> = values.iter().copied().filter(|value| (x.from..=x.to).contains(value)).collect();
    let labels: Vec<String> = values.iter().map(|&value| shown(value)).collect();
    let apart = values.windows(2).zip(labels.windows(2)).all(|(pair, labels)| {
        let room = labels.iter().map(|label| text::width(label, PLAIN, false)).sum::<f64>() / 2.0 + 8.0;
        labels[0] != labels[1] && x.at(pair[1]) - x.at(pair[0]) >= room
    });
    if own && !values.is_empty() && values.len() <= 16 && apart {
        return (values, labels, None);
    }
    let whole = values.iter().all(|value| value.fract() == 0.0);
    let mut wanted = ((x.end - x.start) / 45.0).clamp(2.0, 12.0) as usize;
    loop {
        let found = round((x.from, x.to), wanted, whole, x.steps);
        // Labels with powers of ten are wide.
        let widest = found.1.iter().map(|label| text::width(label, PLAIN, false)).fold(0.0, f64::max);
        if wanted <= 2 || found.0.windows(2).all(|pair| (x.at(pair[1]) - x.at(pair[0])).abs() >= widest + 4.0) {
            return found;
        }
        wanted -= 1;
    }
}

/// Round numbers in a range, with their labels and what is to be added to each.
fn round((from, to): (f64, f64), wanted: usize, whole: bool, steps: Steps) -> (Vec<f64>, Vec<String>, Option<f64>) {
    match steps {
        Steps::Linear => {
            let ticks = scale::ticks(from, to, wanted, whole);
            let (labels, added) = scale::labels(&ticks);
            (ticks, labels, added)
        }
        Steps::Log(base) => {
            let ticks = scale::log_ticks(from, to, base, wanted);
            let labels = ticks.iter().map(|&tick| shown(tick)).collect();
            (ticks, labels, None)
        }
    }
}
