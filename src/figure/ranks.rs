//! Critical-difference diagrams: methods by their mean rank, with bars that join those that are not told apart.

use std::collections::BTreeMap;

use polars::prelude::*;

use super::settings::setters;
use super::styles::styles;
use super::{Figure, alt, bounds, read};
use crate::error::{Error, Result};
use crate::metric::Direction;
use crate::plot::palette::{self, AXIS, MUTED, MarkStyle, TEXT};
use crate::plot::scale::shown;
use crate::plot::scene::{Anchor, Label, Scene};
use crate::plot::settings::{Settings, TITLE};
use crate::plot::{layout, text};
use crate::sample::mean;
use crate::statistics::{Friedman, friedman, holm, nemenyi, wilcoxon};

/// Size of the methods' names.
const NAME: f64 = 12.0;
/// Height of a row of names.
const ROW: f64 = 22.0;
/// Distance of the bars.
const BAR: f64 = 9.0;
/// The most methods of one diagram.
const MOST: usize = 40;

/// A critical-difference diagram (Demšar 2006): each method's rank within a block, averaged over blocks, from 1 (the best) on; bars join methods that
/// the test does not tell apart.
///
/// First Friedman's test asks whether any differ; where it does not reject at the level, one bar joins all. Then, by default, Nemenyi's test: methods
/// are told apart where their mean ranks differ by the critical difference or more, which is drawn above the axis. With
/// [`CriticalDifference::wilcoxon_holm`] instead pairs are compared by Wilcoxon's signed-rank test, corrected by Holm's method over all pairs (Benavoli
/// and others 2016), whose verdict on two methods does not depend on the ranks of a third; a bar then joins neighbours of which no two are told apart.
///
/// A block must be independent of the others: a run (seed) or a data set, not one run's tests. Rows of one method and block are averaged, those that
/// agree in the columns of [`CriticalDifference::matched`] only where every method has them. Both tests are weak for few blocks: with five, no
/// signed-rank test goes below 0.0625.
///
/// Columns: the ones that are named; `value` holds numbers. Greater is better, but for the metrics of which less is
/// ([`METRICS`](crate::metric::METRICS)).
#[derive(Clone, Debug)]
pub struct CriticalDifference {
    method: String,
    block: String,
    value: String,
    matched: Vec<String>,
    level: f64,
    holm: bool,
    better: Option<Direction>,
    settings: Settings,
}

impl CriticalDifference {
    /// Methods by the column `method`, ranked in each `block` (the run) by `value`.
    pub fn new(method: &str, block: &str, value: &str) -> Self {
        let [method, block, value] = [method, block, value].map(str::to_owned);
        Self { method, block, value, matched: Vec::new(), level: 0.05, holm: false, better: None, settings: Settings::default() }
    }

    /// Columns that say which rows of a block belong together (the task, the number of demonstrations): means are of those that every method has.
    pub fn matched(mut self, columns: &[&str]) -> Self {
        self.matched = columns.iter().map(|column| (*column).to_owned()).collect();
        self
    }

    /// The level of significance in (0, 1), by default 0.05.
    pub fn level(mut self, level: f64) -> Self {
        self.level = level;
        self
    }

    /// Pairs by Wilcoxon's signed-rank test with Holm's correction, instead of Nemenyi's test.
    pub fn wilcoxon_holm(mut self) -> Self {
        self.holm = true;
        self
    }

    /// Less is better, or more, whatever the value is called.
    pub fn better(mut self, direction: Direction) -> Self {
        self.better = Some(direction);
        self
    }

    setters! {
        /// Methods that have the colours of this order.
        order
    }

    setters!();

    /// Draws the frame.
    ///
    /// # Errors
    /// A column is missing (the message lists those there are) or holds no numbers; fewer than 3 methods, more than 40, or fewer than 2 blocks that every
    /// method has; all methods equal in every block; a level outside (0, 1); a size that is out of bounds or too small.
    pub fn draw(&self, frame: &DataFrame) -> Result<Figure> {
        Figure::drawn(frame, || self.scene(frame))
    }

    pub(super) fn scene(&self, frame: &DataFrame) -> Result<(Scene, String)> {
        if !(self.level > 0.0 && self.level < 1.0) {
            return Err(Error::input(format!("figure: a level of significance lies in (0, 1), {} does not", self.level)));
        }
        self.settings.paged(1, 1, 1)?;
        let found = self.read(frame)?;
        let note = self.remarks(&found);
        let rows = found.methods.len().div_ceil(2);
        let bars = found.bars.len();
        let height =
            80.0 + 30.0 + BAR * bars as f64 + ROW * rows as f64 + 48.0 + if self.settings.title.is_some() { TITLE + 10.0 } else { 0.0 };
        let (width, height) = self.settings.size((720, (height as u32).max(170)))?;
        let mut scene = Scene::new(width, height);
        let top = layout::header(&mut scene, &self.settings, None);
        let widest = found.methods.iter().map(|method| text::width(&method.name, NAME, false)).fold(0.0, f64::max);
        let rank = |method: &RankedMethod| format!(" {:.2}", method.rank);
        let number = text::width(" 10.00", NAME, false);
        let names = widest.min((width - 2.0 * layout::MARGIN) * 0.3 - number) + number;
        let (left, right) = (layout::MARGIN + names + 14.0, width - layout::MARGIN - names - 14.0);
        let count = found.methods.len() as f64;
        let x = |rank: f64| left + (rank - 1.0) / (count - 1.0) * (right - left);
        let line = top + 58.0;
        let note_lines = layout::note_lines(&self.settings, &note, width);
        let end = line + 20.0 + BAR * bars as f64 + ROW * rows as f64 + 10.0;
        let below = layout::note_height(&note_lines) + layout::MARGIN;
        if right - left < 60.0 || end + below > height && self.settings.has_height() || names <= number + 12.0 {
            let size = format!("{width} x {height}");
            return Err(Error::input(format!("figure: {size} is too small for {} methods: set a larger size", found.methods.len())));
        }
        axis(&mut scene, (left, right), line, found.methods.len(), &self.settings.x_name("mean rank (1 is the best)"));
        if let Some(critical) = found.critical.filter(|critical| *critical <= count - 1.0) {
            let (from, to) = (x(1.0), x(1.0 + critical));
            for end in [from, to] {
                scene.line(vec![(end, line - 30.0), (end, line - 22.0)], 1.4, TEXT);
            }
            scene.line(vec![(from, line - 26.0), (to, line - 26.0)], 1.4, TEXT);
            scene.text(Label::new((to + 6.0, line - 22.0), &format!("CD {critical:.2}"), 11.0, TEXT, Anchor::Start));
        }
        for (at, &(from, to)) in found.bars.iter().enumerate() {
            let y = line + 14.0 + BAR * at as f64;
            let ends = [found.methods[from].rank, found.methods[to].rank].map(x);
            scene.line(vec![(ends[0] - 4.0, y), (ends[1] + 4.0, y)], 4.0, TEXT.faint(0.75));
            let joined: Vec<&str> = found.methods[from..=to].iter().map(|method| method.name.as_str()).collect();
            scene.hover((ends[0] - 4.0, y - 4.0), (ends[1] + 4.0, y + 4.0), format!("not told apart: {}", joined.join(", ")));
        }
        let first = line + 20.0 + BAR * bars as f64 + ROW / 2.0;
        for (at, method) in found.methods.iter().enumerate() {
            let (is_left, row) = if at < rows { (true, at) } else { (false, found.methods.len() - 1 - at) };
            let (at_x, y) = (x(method.rank), first + ROW * row as f64);
            let (side, anchor) = if is_left { (left - 8.0, Anchor::End) } else { (right + 8.0, Anchor::Start) };
            scene.line(vec![(at_x, line), (at_x, y), (side + if is_left { 4.0 } else { -4.0 }, y)], 1.2, method.style.colour);
            palette::marker(&mut scene, (at_x, line), method.style, 4.6);
            let name = text::fitted(&method.name, NAME, names - number);
            scene.text(Label::new((side, y + 4.2), &format!("{name}{}", rank(method)), NAME, TEXT, anchor));
            scene.hover((at_x - 6.0, line - 6.0), (at_x + 6.0, line + 6.0), format!("{}: mean rank {:.2}", method.name, method.rank));
        }
        if !self.settings.has_height() {
            layout::shorten(&mut scene, end + below);
        }
        layout::footer(&mut scene, &note_lines);
        let title = self.settings.sentence();
        let ranks = found.methods.iter().map(|method| format!("{} {:.2}", method.name, method.rank)).collect();
        let value = self.settings.name(&self.value);
        Ok((scene, format!("{title}Critical-difference diagram of {value}, mean ranks from the best on: {} ({note})", alt::listed(ranks))))
    }

    fn read(&self, frame: &DataFrame) -> Result<Found> {
        let values = read::numbers(frame, &self.value, "the value")?;
        let (names, method_of) = read::names(read::column(frame, &self.method, "the method")?, &self.settings.order)?;
        let blocks = read::texts(frame, &self.block, "the block")?;
        let matched: Vec<Vec<String>> =
            self.matched.iter().map(|name| read::texts(frame, name, "what is matched")).collect::<Result<_>>()?;
        read::some_rows(frame)?;
        if !(3..=MOST).contains(&names.len()) {
            return Err(Error::input(format!(
                "figure: a critical-difference diagram ranks 3 to {MOST} methods, column `{}` has {}: filter the frame, or compare two by `statistics::compare`",
                self.method,
                names.len()
            )));
        }
        // By block and what is matched within it: each method's values.
        let mut cells: BTreeMap<(&str, Vec<&str>), Vec<Vec<f64>>> = BTreeMap::new();
        for row in (0..frame.height()).filter(|&row| values[row].is_finite()) {
            let key = (blocks[row].as_str(), matched.iter().map(|texts| texts[row].as_str()).collect());
            cells.entry(key).or_insert_with(|| vec![Vec::new(); names.len()])[method_of[row]].push(values[row]);
        }
        let all = cells.len();
        cells.retain(|_, methods| methods.iter().all(|values| !values.is_empty()));
        let left_out = all - cells.len();
        let mut by_block: BTreeMap<&str, Vec<Vec<f64>>> = BTreeMap::new();
        for ((block, _), methods) in &cells {
            let own = by_block.entry(block).or_insert_with(|| vec![Vec::new(); names.len()]);
            own.iter_mut().zip(methods).for_each(|(own, values)| own.push(mean(values)));
        }
        if by_block.len() < 2 {
            return Err(Error::input(format!(
                "figure: {} blocks (`{}`) have a value of all {} methods, a critical-difference diagram needs 2 at least: add runs, or filter the methods",
                by_block.len(),
                self.block,
                names.len()
            )));
        }
        let better = self.better.unwrap_or_else(|| bounds::better(&self.value));
        let sign = if better == Direction::Lower { 1.0 } else { -1.0 };
        let of: Vec<Vec<f64>> =
            (0..names.len()).map(|method| by_block.values().map(|methods| sign * mean(&methods[method])).collect()).collect();
        let test = friedman(&of).map_err(|error| error.context(format_args!("figure: the ranks of `{}`", self.value)))?;
        let styles = styles(&names, &self.settings.order);
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_by(|&a, &b| test.ranks[a].total_cmp(&test.ranks[b]));
        let methods: Vec<RankedMethod> =
            order.iter().map(|&at| RankedMethod { name: names[at].clone(), rank: test.ranks[at], style: styles[at] }).collect();
        let critical = if self.holm { None } else { Some(nemenyi(names.len(), test.blocks, self.level)?) };
        let bars = match (test.p < self.level, critical) {
            (false, _) => vec![(0, methods.len() - 1)],
            (true, Some(critical)) => bars(methods.len(), &|a, b| methods[b].rank - methods[a].rank < critical),
            (true, None) => {
                let pairs: Vec<(usize, usize)> = (0..order.len()).flat_map(|a| (a + 1..order.len()).map(move |b| (a, b))).collect();
                // Equal in every block: certainly not told apart.
                let p: Vec<f64> = pairs.iter().map(|&(a, b)| wilcoxon(&of[order[a]], &of[order[b]]).map_or(1.0, |test| test.p)).collect();
                let p: BTreeMap<(usize, usize), f64> = pairs.into_iter().zip(holm(&p)?).collect();
                bars(methods.len(), &|a, b| p.get(&(a, b)).is_some_and(|p| *p >= self.level))
            }
        };
        Ok(Found { methods, test, critical, bars, left_out })
    }

    fn remarks(&self, found: &Found) -> String {
        let (k, test) = (found.methods.len(), &found.test);
        let p = if test.p < 0.001 { "p < 0.001".to_owned() } else { format!("p = {:.3}", test.p) };
        let block = self.settings.name(&self.block);
        let mut parts = vec![format!(
            "ranks of {} over {} blocks ({block}); Friedman's test: χ²({}) = {:.2}, {p}",
            self.settings.name(&self.value),
            test.blocks,
            k - 1,
            test.statistic
        )];
        let level = shown(self.level);
        parts.push(match (test.p < self.level, found.critical) {
            (false, _) => format!("it does not reject at {level}, so no two methods are told apart"),
            (true, Some(critical)) => format!("bars: not told apart by Nemenyi's test at {level} (critical difference {critical:.2})"),
            (true, None) => format!("bars: not told apart by Wilcoxon's signed-rank test with Holm's correction at {level}"),
        });
        match found.left_out {
            0 => {}
            1 => parts.push("1 cell that not every method has left out".to_owned()),
            more => parts.push(format!("{more} cells that not every method has left out")),
        }
        parts.join("; ")
    }
}

struct RankedMethod {
    name: String,
    rank: f64,
    style: MarkStyle,
}

struct Found {
    /// From the best on.
    methods: Vec<RankedMethod>,
    test: Friedman,
    critical: Option<f64>,
    /// First and last of methods that are not told apart.
    bars: Vec<(usize, usize)>,
    left_out: usize,
}

/// The longest stretches of at least two of which no two are told apart.
fn bars(methods: usize, alike: &dyn Fn(usize, usize) -> bool) -> Vec<(usize, usize)> {
    let mut out: Vec<(usize, usize)> = Vec::new();
    for from in 0..methods {
        let to = (from + 1..methods).take_while(|&to| (from..to).all(|other| alike(other, to))).last();
        if let Some(to) = to.filter(|to| out.last().is_none_or(|last| last.1 < *to)) {
            out.push((from, to));
        }
    }
    out
}

/// The axis of ranks from 1 on, labels above it.
fn axis(scene: &mut Scene, (left, right): (f64, f64), y: f64, methods: usize, name: &str) {
    scene.line(vec![(left, y), (right, y)], 1.2, AXIS);
    let step = (right - left) / (methods - 1) as f64;
    let each = crate::plot::scale::every(step, 22.0);
    for at in (0..methods).step_by(each) {
        let x = left + step * at as f64;
        scene.line(vec![(x, y - 4.0), (x, y)], 1.0, AXIS);
        scene.text(Label::new((x, y - 8.0), &(at + 1).to_string(), 11.0, MUTED, Anchor::Middle));
    }
    scene.text(Label::new((left, y - 44.0), &text::fitted(name, 11.0, scene.width - layout::MARGIN - left), 11.0, MUTED, Anchor::Start));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The blocks of the test in `statistics`, whose ranks and p scipy gave.
    fn frame() -> DataFrame {
        let values =
            [[0.61, 0.70, 0.66, 0.58, 0.70], [0.71, 0.74, 0.75, 0.69, 0.70], [0.9, 0.72, 0.95, 0.91, 0.93], [0.5, 0.5, 0.52, 0.58, 0.7]];
        let names = ["SFT", "IA2", "IA2 → SFT", "soft labels"];
        df!(
            "method" => names.iter().flat_map(|name| [*name; 5]).collect::<Vec<_>>(), "run" => (0..20).map(|at| at % 5).collect::<Vec<i64>>(),
            "accuracy" => values.concat(), "task" => vec!["a"; 20]
        )
        .unwrap()
    }

    fn alt_of(figure: &CriticalDifference, frame: &DataFrame) -> String {
        figure.scene(frame).unwrap().1
    }

    #[test]
    fn ranks_are_those_of_scipy_from_the_best_on() {
        let alt = alt_of(&CriticalDifference::new("method", "run", "accuracy"), &frame());
        assert!(alt.contains("from the best on: IA2 → SFT 1.20; IA2 2.00; SFT 3.10; soft labels 3.70."), "{alt}");
        assert!(alt.contains("χ²(3) = 12.47, p = 0.006") && alt.contains("Nemenyi's test at 0.05 (critical difference 2.10)"), "{alt}");
        // Less is better of an ECE: the order turns around.
        let mut worse = frame();
        worse.rename("accuracy", "ece".into()).unwrap();
        let alt = alt_of(&CriticalDifference::new("method", "run", "ece"), &worse);
        assert!(alt.contains("from the best on: soft labels 1.30; SFT 1.90"), "{alt}");
        let alt = alt_of(&CriticalDifference::new("method", "run", "ece").better(Direction::Higher), &worse);
        assert!(alt.contains("from the best on: IA2 → SFT 1.20"), "{alt}");
    }

    #[test]
    fn bars_join_what_is_not_told_apart_and_no_more() {
        let found = CriticalDifference::new("method", "run", "accuracy").read(&frame()).unwrap();
        // 1.2, 2.0, 3.1 and 3.7, and a critical difference of 2.10.
        assert_eq!(found.bars, [(0, 2), (1, 3)]);
        // Five blocks: no signed-rank test rejects, so all are joined.
        assert_eq!(CriticalDifference::new("method", "run", "accuracy").wilcoxon_holm().read(&frame()).unwrap().bars, [(0, 3)]);
        // Friedman's test does not reject at a level below its p.
        let strict = CriticalDifference::new("method", "run", "accuracy").level(0.001);
        assert_eq!(strict.read(&frame()).unwrap().bars, [(0, 3)]);
        assert!(alt_of(&strict, &frame()).contains("does not reject at 0.001"));
        let alike = |a: usize, b: usize| !matches!((a, b), (0, 3) | (1, 3) | (2, 4));
        assert_eq!(bars(5, &alike), [(0, 2), (2, 3), (3, 4)]);
    }

    #[test]
    fn what_not_every_method_has_is_left_out_and_said() {
        let more = df!("method" => ["SFT", "SFT"], "run" => [0i64, 0], "accuracy" => [1.0, 1.0], "task" => ["b", "c"]).unwrap();
        let frame = frame().vstack(&more).unwrap();
        let figure = CriticalDifference::new("method", "run", "accuracy").matched(&["task"]);
        let alt = alt_of(&figure, &frame);
        assert!(alt.contains("SFT 3.10") && alt.contains("2 cells that not every method has left out"), "{alt}");
        let error = figure.clone().draw(&frame.head(Some(11))).unwrap_err().to_string();
        assert!(error.contains("2 blocks") || error.contains("blocks (`run`)"), "{error}");
        let two = frame.head(Some(10));
        assert!(figure.draw(&two).unwrap_err().to_string().contains("ranks 3 to 40 methods, column `method` has 2"));
        assert!(CriticalDifference::new("method", "run", "accuracy").level(2.0).draw(&frame).is_err());
    }
}
