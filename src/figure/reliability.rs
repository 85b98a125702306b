//! Reliability diagrams: how often answers are right for how sure the model was, and how many there are.

use polars::prelude::*;

use super::calibration_curve::{curve, wilson};
use super::settings::setters;
use super::{Figure, read};
use crate::error::{Error, Result};
use crate::plot::along::Along;
use crate::plot::axis::{Places, YAxis};
use crate::plot::layout::{self, LayoutOptions, Panel};
use crate::plot::legend::{self, Legend, Sample};
use crate::plot::palette::{self, AXIS, GRID, MUTED};
use crate::plot::scale::{self, Steps, shown};
use crate::plot::scene::{Anchor, Label, Scene};
use crate::plot::settings::{MOST_PANELS, Settings};
use crate::plot::text;

/// Height of the counts below each panel.
const STRIP: f64 = 58.0;
/// The level of the binomial intervals unless another is asked for.
const LEVEL: f64 = 0.95;
/// The look of the gap between accuracy and confidence.
const GAP_STYLE: usize = 1;

/// A reliability diagram of bins, as [`calibration`](crate::metric::calibration) gives them.
///
/// Columns: `lower` and `upper` (the bin's edges, in [0, 1]), `count` (its answers, at least 0), `confidence` and `accuracy` (their means
/// over the bin, in [0, 1]; null where it is empty).
///
/// A bar per bin is as high as its accuracy; the gap to its mean confidence is set off, and where accuracy equals confidence bars end at the
/// dashed diagonal. Whiskers are Wilson's binomial intervals of the accuracies. Where no answer has a low confidence (of k labels the surest has 1/k at
/// least), the axis begins at the first bin with answers. Above stands ECE = Σ_b (n_b / n) |accuracy_b − confidence_b| of these bins, below the counts.
#[derive(Clone, Debug, Default)]
pub struct Reliability {
    binning: Option<String>,
    settings: Settings,
    intervals: Option<f64>,
    from: Option<f64>,
    predictions: Option<DataFrame>,
}

impl Reliability {
    /// One panel for the whole frame.
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        /// One panel per value of this column (the method); more than 64 are on pages ([`Reliability::page`]).
        facet
    }

    /// How the bins were cut, in words (`Binning` displays them): ECE is always named with its bins. By default their count, with
    /// `equal-width` where all are equally wide and reach from 0 to 1.
    pub fn binning(mut self, text: impl ToString) -> Self {
        self.binning = Some(text.to_string());
        self
    }

    setters! {
        /// Panels that come first, in this order.
        order
    }

    /// The level in (0, 1) of the binomial intervals (Wilson 1927) around the accuracies, by default 0.95; 0 for none.
    pub fn intervals(mut self, level: f64) -> Self {
        self.intervals = Some(level);
        self
    }

    /// The confidence in [0, 1) at which the axis begins: 1/k for k labels. By default the lower edge of the first bin with answers, and 0 where that is
    /// below 0.2.
    pub fn from(mut self, confidence: f64) -> Self {
        self.from = Some(confidence);
        self
    }

    /// A smooth curve of accuracy over confidence, without bins, of the predictions that the bins were made of: the frame of
    /// [`evaluate`](crate::evaluate::evaluate), with the columns `correct` and `confidence`, and that of the panels.
    ///
    /// It is the mean of `correct` weighted by a Gaussian of the distance in confidence (Nadaraya and Watson 1964), of Silverman's bandwidth; drawn from
    /// the least to the greatest confidence.
    pub fn curve(mut self, predictions: &DataFrame) -> Self {
        self.predictions = Some(predictions.clone());
        self
    }

    setters!();

    /// Draws the frame.
    ///
    /// # Errors
    /// A column is missing (the message lists those there are) or holds no numbers; a value lies outside [0, 1], a count below 0; a bin has
    /// answers but no confidence or accuracy; no answers at all; a level or a beginning outside its range; no such page; a size that is out of bounds or too small.
    pub fn draw(&self, frame: &DataFrame) -> Result<Figure> {
        Figure::drawn(frame, || self.scene(frame))
    }

    pub(super) fn scene(&self, frame: &DataFrame) -> Result<(Scene, String)> {
        let level = self.intervals.unwrap_or(LEVEL);
        if !(0.0..1.0).contains(&level) || self.from.is_some_and(|from| !(0.0..1.0).contains(&from)) {
            let from = self.from.unwrap_or_default();
            return Err(Error::input(format!(
                "figure: the level {level} and the beginning {from} of a reliability diagram must lie in [0, 1)"
            )));
        }
        let panels = self.read(frame)?;
        let first = panels.iter().flat_map(|panel| &panel.bins).map(|bin| bin.lower).fold(1.0, f64::min);
        let from = self.from.unwrap_or(if first < 0.2 { 0.0 } else { first.min(0.9) });
        let (range, page) = self.settings.paged(panels.len(), 1, MOST_PANELS)?;
        let panels = &panels[range];
        let panels_per_row = layout::panels_per_row(panels.len());
        let rows = panels.len().div_ceil(panels_per_row) as u32;
        let usual =
            if panels.len() == 1 { (480, 460) } else { (if panels_per_row > 4 { 1100 } else { 720 }, (130 + 250 * rows).min(4000)) };
        let (width, height) = self.settings.size(usual)?;
        let mut scene = Scene::new(width, height);
        let binning = self.named(panels);
        let mut note = format!("ECE with {binning}; strips below: answers per bin, up to the number at the left");
        if level > 0.0 {
            note.push_str(&format!("; whiskers: {} % binomial intervals (Wilson)", (level * 1e4).round() / 100.0));
        }
        if self.predictions.is_some() {
            note.push_str("; curve: accuracy smoothed over confidence, without bins (Gaussian kernel, Silverman's bandwidth)");
        }
        if from > 0.0 {
            note.push_str(&format!("; confidence begins at {}", shown(from)));
        }
        note.extend(page.map(|page| format!("; {page}")));
        let mut names = vec![
            ("accuracy".to_owned(), palette::style(0), legend::SQUARE),
            ("gap to mean confidence".to_owned(), palette::style(GAP_STYLE), GAP_SAMPLE),
        ];
        if self.predictions.is_some() {
            names.push(("smoothed accuracy".to_owned(), palette::style(0), CURVE_SAMPLE));
        }
        let names_of = panels.iter().map(|panel| panel.name.clone()).collect();
        // Not the ends alone: between whole numbers, labels would be whole too.
        let along = vec![Along::Numbers(vec![from, from.midpoint(1.0), 1.0])];
        let options = LayoutOptions {
            legend: Some(Legend { title: String::new(), names, row: Vec::new() }),
            remarks: panels.iter().map(Bins::remark).collect(),
            x_range: Some((from, 1.0)),
            x_name: self.settings.x_name("confidence"),
            y_name: self.settings.y_name("accuracy"),
            strip: STRIP,
            note,
            ..LayoutOptions::new(
                names_of,
                panels_per_row,
                (along, Places::Round(Steps::Linear)),
                vec![YAxis::of((0.0, 1.0), 5, Steps::Linear)],
            )
        };
        let places = layout::prepare(&mut scene, &self.settings, &options)?;
        let curves = self.curves(panels)?;
        for ((panel, bins), curve) in places.iter().zip(panels).zip(&curves) {
            bins.draw(&mut scene, panel, level, &self.settings);
            let inside = |(x, y): &(f64, f64)| (*x >= from).then(|| (panel.x.at(*x), panel.y.at(*y)));
            let points: Vec<(f64, f64)> = curve.iter().filter_map(inside).collect();
            if points.len() > 1 {
                scene.line(points.clone(), 4.2, palette::WHITE);
                scene.line(points, 2.2, palette::TEXT);
            }
        }
        Ok((scene, self.alt(panels, &binning)))
    }

    /// Each panel's smooth curve, where there are predictions.
    fn curves(&self, panels: &[Bins]) -> Result<Vec<Vec<(f64, f64)>>> {
        let Some(frame) = &self.predictions else { return Ok(vec![Vec::new(); panels.len()]) };
        let (confidence, correct) = (read::numbers(frame, "confidence", "the curve")?, read::numbers(frame, "correct", "the curve")?);
        let (names, panel_of) = read::panels(frame, self.settings.facet.as_deref(), &self.settings)?;
        let of = |panel: &Bins| {
            let rows = (0..frame.height()).filter(|&row| names[panel_of[row]] == panel.name);
            let points: Vec<(f64, f64)> =
                rows.map(|row| (confidence[row], correct[row])).filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
            curve(&points)
        };
        Ok(panels.iter().map(of).collect())
    }

    fn read(&self, frame: &DataFrame) -> Result<Vec<Bins>> {
        let [lower, upper, count, confidence, accuracy] =
            ["lower", "upper", "count", "confidence", "accuracy"].map(|name| read::numbers(frame, name, "a reliability diagram"));
        let (lower, upper, count, confidence, accuracy) = (lower?, upper?, count?, confidence?, accuracy?);
        let (names, panel_of) = read::panels(frame, self.settings.facet.as_deref(), &self.settings)?;
        read::some_rows(frame)?;
        let mut panels: Vec<Bins> = names.into_iter().map(|name| Bins { name, bins: Vec::new(), empty: Vec::new() }).collect();
        for row in 0..frame.height() {
            let wrong = |what: String| Err(Error::input(format!("figure: row {row} of the bins {what}")));
            if !(count[row] >= 0.0 && count[row].is_finite()) {
                return wrong(format!("has a count of {}", count[row]));
            }
            if count[row] == 0.0 {
                panels[panel_of[row]].empty.push((lower[row], upper[row]));
                continue;
            }
            for (name, value) in
                [("lower", lower[row]), ("upper", upper[row]), ("confidence", confidence[row]), ("accuracy", accuracy[row])]
            {
                if !(0.0..=1.0).contains(&value) {
                    return wrong(format!("has {} answers, but `{name}` is {value}: it must lie in [0, 1]", count[row]));
                }
            }
            let (lower, upper, confidence, accuracy) = (lower[row], upper[row], confidence[row], accuracy[row]);
            panels[panel_of[row]].bins.push(Bin { lower, upper, count: count[row], confidence, accuracy });
        }
        match panels.iter().find(|panel| panel.bins.is_empty()) {
            Some(panel) if panel.name.is_empty() => Err(Error::input("figure: all bins are empty")),
            Some(panel) => Err(Error::input(format!("figure: all bins of `{}` are empty", panel.name))),
            None => Ok(panels),
        }
    }

    /// How the bins are cut, in words.
    fn named(&self, panels: &[Bins]) -> String {
        if let Some(binning) = &self.binning {
            return binning.clone();
        }
        let counts: Vec<usize> = panels.iter().map(|panel| panel.bins.len() + panel.empty.len()).collect();
        let (fewest, most) = (counts.iter().min().copied().unwrap_or(0), counts.iter().max().copied().unwrap_or(0));
        let of = if fewest == most { most.to_string() } else { format!("{fewest} to {most}") };
        let kind = if panels.iter().all(Bins::equally_wide) { "equal-width " } else { "" };
        format!("{of} {kind}bin{}", if most == 1 { "" } else { "s" })
    }

    fn alt(&self, panels: &[Bins], binning: &str) -> String {
        let title = self.settings.sentence();
        let facet = self.settings.panels();
        let phrases = panels.iter().map(|panel| {
            let name = if panel.name.is_empty() { String::new() } else { format!("{}: ", panel.name) };
            let total = panel.count();
            let mean = |of: fn(&Bin) -> f64| panel.bins.iter().map(|bin| bin.count * of(bin)).sum::<f64>() / total;
            let (accuracy, confidence) = (mean(|bin| bin.accuracy), mean(|bin| bin.confidence));
            format!("{name}{}, accuracy {accuracy:.3}, mean confidence {confidence:.3}", panel.remark())
        });
        format!("{title}Reliability diagram of accuracy over confidence with {binning}{facet}. {}.", phrases.collect::<Vec<_>>().join("; "))
    }
}

#[derive(Clone, Debug)]
struct Bin {
    lower: f64,
    upper: f64,
    count: f64,
    confidence: f64,
    accuracy: f64,
}

/// The bins of one panel.
#[derive(Clone, Debug)]
struct Bins {
    name: String,
    bins: Vec<Bin>,
    /// The edges of those without answers.
    empty: Vec<(f64, f64)>,
}

impl Bins {
    fn count(&self) -> f64 {
        self.bins.iter().map(|bin| bin.count).sum()
    }

    fn ece(&self) -> f64 {
        self.bins.iter().map(|bin| bin.count * (bin.accuracy - bin.confidence).abs()).sum::<f64>() / self.count()
    }

    fn remark(&self) -> String {
        format!("ECE {:.3} (n = {})", self.ece(), self.count())
    }

    fn equally_wide(&self) -> bool {
        let edges: Vec<(f64, f64)> = self.bins.iter().map(|bin| (bin.lower, bin.upper)).chain(self.empty.iter().copied()).collect();
        let width = 1.0 / edges.len() as f64;
        edges.iter().all(|(lower, upper)| (upper - lower - width).abs() < 1e-9)
    }

    fn draw(&self, scene: &mut Scene, panel: &Panel, level: f64, settings: &Settings) {
        let (least, base) = (panel.y.start + 12.0, panel.base);
        let most = self.bins.iter().map(|bin| bin.count).fold(0.0, f64::max);
        scene.line(vec![(panel.sides.0, panel.y.start), (panel.sides.1, panel.y.start)], 1.0, AXIS);
        for bin in &self.bins {
            // A bin of equal confidences has no width, but there are answers in it.
            let (mut left, mut right) = (panel.x.within(bin.lower), panel.x.within(bin.upper));
            if bin.upper < panel.x.from {
                continue;
            }
            let missing = (3.0 - (right - left)).max(0.0) / 2.0;
            (left, right) = (left - missing + 0.5, right + missing - 0.5);
            let (accuracy, confidence) = (panel.y.at(bin.accuracy), panel.y.at(bin.confidence));
            scene.rectangle((left, panel.y.start), (right, accuracy), palette::colour(0));
            gap(scene, (left, accuracy), (right, confidence));
            scene.line(vec![(left, accuracy), (right, accuracy)], 2.4, palette::colour(0));
            let (low, high) = wilson(bin.accuracy, bin.count, level);
            if level > 0.0 {
                let middle = left.midpoint(right);
                for (wider, ink) in [(1.4, palette::WHITE), (0.0, palette::TEXT)] {
                    scene.line(vec![(middle, panel.y.at(low)), (middle, panel.y.at(high))], 1.3 + wider, ink);
                }
            }
            let to = |value: f64| shown((value * 1e4).round() / 1e4);
            let interval = if level > 0.0 { format!(" ({} to {})", to(low), to(high)) } else { String::new() };
            let (x_name, y_name) = (settings.x_name("confidence"), settings.y_name("accuracy"));
            let title = format!(
                "{x_name} {} to {}: mean {}\n{y_name} {}{interval}, {} answers",
                to(bin.lower),
                to(bin.upper),
                to(bin.confidence),
                to(bin.accuracy),
                bin.count
            );
            scene.hover((left, panel.y.end), (right, base), title);
            // One answer among thousands is still to be seen.
            let high = (bin.count / most * (base - least)).max(1.0);
            scene.rectangle((left, base), (right, base - high), palette::MUTED.faint(0.75));
        }
        let from = panel.x.from;
        scene.dashed(&[(panel.x.at(from), panel.y.at(from)), (panel.x.at(1.0), panel.y.at(1.0))], 1.3, MUTED, &[5.0, 4.0]);
        scene.line(vec![(panel.sides.0, least), (panel.sides.1, least)], 1.0, GRID);
        let label = scale::label(most, 0);
        let wide = text::width(&label, 10.0, false);
        // In the margin on the side of y's labels, where the counts' axis would be.
        scene.text(Label::new((panel.sides.0 + wide.min(4.0) - 7.0, least + 4.0), &label, 10.0, MUTED, Anchor::End));
    }
}

/// What lies between accuracy and confidence: light with a rim, the same over bars and on white.
fn gap(scene: &mut Scene, from: (f64, f64), to: (f64, f64)) {
    let colour = palette::colour(GAP_STYLE);
    scene.rectangle(from, to, palette::WHITE);
    scene.rectangle(from, to, colour.faint(0.45));
    scene.line(vec![from, (to.0, from.1), to, (from.0, to.1), from], 1.0, colour);
}

const GAP_SAMPLE: Sample = Sample { width: 14.0, draw: |scene, (x, y), _| gap(scene, (x, y - 7.0), (x + 14.0, y + 7.0)) };
const CURVE_SAMPLE: Sample = Sample { width: 14.0, draw: |scene, (x, y), _| scene.line(vec![(x, y), (x + 14.0, y)], 2.2, palette::TEXT) };

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{Binning, calibration, ece};

    #[test]
    fn ece_is_that_of_the_metric_and_bins_are_named() {
        let confidence: Vec<f64> = (1..=60).map(|at| f64::from(at) / 61.0).collect();
        let correct: Vec<bool> = (0..60).map(|at| at % 3 > 0 || at > 45).collect();
        let frame = df!("correct" => correct, "confidence" => confidence).unwrap();
        for binning in [Binning::EqualWidth(10), Binning::EqualMass(6)] {
            let figure = Reliability::new().binning(binning).draw(&calibration(&frame, binning).unwrap()).unwrap();
            let expected = format!("with {binning}. ECE {:.3} (n = 60)", ece(&frame, binning).unwrap());
            assert!(figure.alt().contains(&expected), "{} lacks {expected}", figure.alt());
        }
        let unnamed = Reliability::new().draw(&calibration(&frame, Binning::EqualWidth(10)).unwrap()).unwrap();
        assert!(unnamed.alt().contains("with 10 equal-width bins"), "{}", unnamed.alt());
    }

    #[test]
    fn bad_bins_are_named() {
        let message = |frame: DataFrame| Reliability::new().draw(&frame).unwrap_err().to_string();
        let bins = |count: f64, accuracy: f64| {
            df!("lower" => [0.0], "upper" => [1.0], "count" => [count], "confidence" => [0.5], "accuracy" => [accuracy]).unwrap()
        };
        assert!(message(bins(3.0, 1.5)).contains("row 0 of the bins has 3 answers, but `accuracy` is 1.5"));
        assert!(message(bins(f64::NAN, 0.5)).contains("count of NaN"));
        assert!(message(bins(0.0, 0.5)).contains("all bins are empty"));
    }
}
