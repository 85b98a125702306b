//! Attention of all heads as thumbnails, layers by heads.

use polars::prelude::DataFrame;

use super::cells::{Cell, Cells, Columns};
use super::colours::{Colours, colour_setters};
use super::select::{Select, select_setters};
use super::settings::setters;
use super::{Figure, read};
use crate::error::{Error, Result};
use crate::plot::colour_bar::Bar;
use crate::plot::layout::{self, MARGIN};
use crate::plot::palette::{GRID, MUTED, TEXT};
use crate::plot::ramp::Ramp;
use crate::plot::scale::{self, shown};
use crate::plot::scene::{Anchor, Label, Scene};
use crate::plot::settings::{NOTEBOOK, Settings};
use crate::plot::text;

/// The last tokens that are shown unless more are asked for.
pub(super) const LAST: usize = 24;
/// The most thumbnails of one figure, and how wide one is at least and at most.
const MOST: usize = 640;
const LEAST: f64 = 14.0;
const WIDEST: f64 = 96.0;
/// Space between thumbnails.
const GAP: f64 = 3.0;
/// Sizes of labels and of the axes' names.
const LABEL: f64 = 10.0;
const NAME: f64 = 12.5;

/// Where every head of every layer looks, as thumbnails.
///
/// ```no_run
/// # use ia2::figure::attention_heads;
/// # fn show(frame: &polars::prelude::DataFrame) -> ia2::Result<ia2::figure::Figure> {
/// attention_heads().draw(frame)
/// # }
/// ```
///
/// Each thumbnail has queries downward and keys to the right, of the last 24 tokens ([`AttentionHeads::last`]); what lies later than the query is blank.
/// All have the same colours. Layers go down and heads to the right, or the other way round where there are more layers than heads. Under the pointer
/// each says how much of its weight lies on the token itself, on the one before it, and on the first, on average over all queries of the frame.
/// [`attention_head`](crate::figure::attention_head) draws one head large.
#[derive(Clone, Debug)]
pub struct AttentionHeads {
    settings: Settings,
    colours: Colours,
    select: Select,
}

/// Where a head's weight lies, as sums over its queries.
#[derive(Clone, Copy, Default)]
struct HeadSummary {
    itself: f64,
    before: f64,
    first: f64,
    all: f64,
}

impl Default for AttentionHeads {
    fn default() -> Self {
        let [facet, rows] = ["head", "layer"].map(|column| Some(column.to_owned()));
        let settings = Settings { facet, rows, ..Settings::default() };
        Self { settings, colours: Colours::default(), select: Select { only: Vec::new(), last: Some(LAST) } }
    }
}

impl AttentionHeads {
    /// Only the last `tokens` as queries and as keys, 24 unless said; `usize::MAX` for all. The note says how much of the weight lies before them.
    pub fn last(mut self, tokens: usize) -> Self {
        self.select.last = Some(tokens);
        self
    }

    /// Which of the pages, from 1, where there are more than 640 heads; the note says how many there are.
    pub fn page(mut self, page: usize) -> Self {
        self.settings.page = page;
        self
    }

    colour_setters!();
    select_setters!();
    setters!(plain);

    /// Draws the frame of [`attention_patterns`](crate::lens::attention_patterns): columns `layer`, `head`, `query`, `key` (positions), `weight`. Rows
    /// of the same head, query and key (several prompts) are averaged.
    ///
    /// # Errors
    /// A column is missing (the message lists those there are) or holds no numbers, the frame has no rows, none with what `only` asks for, or none with
    /// finite numbers, the range is not ascending, or the width is out of bounds or too small.
    pub fn draw(&self, frame: &DataFrame) -> Result<Figure> {
        Figure::drawn(frame, || self.scene(frame))
    }

    pub(super) fn scene(&self, frame: &DataFrame) -> Result<(Scene, String)> {
        let columns = columns();
        let (frame, notes) = self.select.rows(frame, &self.settings)?;
        let summaries = summaries(&frame, &self.settings)?;
        let selected = self.select.last((frame, notes), ("key", "query"), Some("weight"), &self.settings)?;
        let mut data = Cells::read(&selected.0, &columns, &self.settings)?;
        let across = data.panels.len() / data.row_names.len().max(1);
        let range = Some((0.0, data.values(|_| true).into_iter().fold(f64::MIN_POSITIVE, f64::max)));
        let ramp = Colours { range: self.colours.range.or(range.filter(|_| !self.colours.diverging)), ..self.colours }
            .ramp("weight", &data.values(|_| true))?;
        // A page has no names of heads but its own.
        let short = |name: &String| name.rsplit(' ').next().unwrap_or_default().to_owned();
        let heads: Vec<String> = data.panels.iter().take(across).map(short).collect();
        let all = data.panels.len();
        let first = self.settings.paged(all, across, MOST)?.0.start;
        data.turn(&self.settings, MOST)?;
        let summaries = &summaries[first..];
        let layers: Vec<String> = data.row_names.iter().map(short).collect();
        let mut parts = selected.1;
        parts.push("in each: queries downward, keys to the right".to_owned());
        parts.extend(ramp.outside(data.values(|_| true).into_iter()));
        parts.extend((data.rows > 1).then(|| format!("means of up to {} rows", data.rows)));
        parts.extend((data.skipped > 0).then(|| format!("{} rows without numbers left out", data.skipped)));
        parts.extend(data.page.clone());
        let note = parts.join("; ");
        let scene = self.thumbnails(&data, &ramp, (&layers, &heads), summaries, &note)?;
        let alt = self.alt((&layers, &heads), summaries, &note);
        Ok((scene, alt))
    }

    fn thumbnails(
        &self,
        data: &Cells,
        ramp: &Ramp,
        (layers, heads): (&[String], &[String]),
        summaries: &[HeadSummary],
        note: &str,
    ) -> Result<Scene> {
        // The longer side goes along x: pages are wide.
        let turned = layers.len() > heads.len();
        let (columns, rows) = if turned { (layers, heads) } else { (heads, layers) };
        let [layer, head] = ["layer", "head"].map(|name| self.settings.name(name));
        let (x_name, y_name) = if turned { (&layer, &head) } else { (&head, &layer) };
        let widest = |names: &[String]| names.iter().map(|name| text::width(name, LABEL, false)).fold(0.0, f64::max);
        let left = MARGIN + NAME + 8.0 + widest(rows) + 6.0;
        let usual = (left + MARGIN + columns.len() as f64 * 26.0).clamp(f64::from(NOTEBOOK), 1100.0);
        let width = self.settings.size((usual as u32, 400))?.0;
        let side =
            ((width - left - MARGIN) / columns.len().max(1) as f64 - GAP).min((1400.0 / rows.len().max(1) as f64).max(30.0)).min(WIDEST);
        if side < LEAST {
            return Err(Error::input(format!(
                "figure: {} thumbnails do not fit side by side into a width of {width}: set a larger width, or filter the frame with `only` first",
                columns.len()
            )));
        }
        // A row or two of queries would be a hair.
        let (wide, down) = (data.x.len().max(1) as f64, data.y.len().max(1) as f64);
        let (cell, high) = (side / wide, (side * down / wide).clamp(8.0, side.max(8.0)));
        let mut scene = Scene::new(width, 4000.0);
        let top = layout::header(&mut scene, &self.settings, None);
        let top = Bar::new(*ramp, self.settings.name("weight")).across(&mut scene, top - 4.0);
        let label = |at: (f64, f64), name: &str, size: f64, colour, anchor| Label::new(at, name, size, colour, anchor);
        let step = (side + GAP, high + GAP);
        let middle = left + step.0 * columns.len() as f64 / 2.0;
        scene.text(label((middle, top + NAME), x_name, NAME, TEXT, Anchor::Middle));
        let top = top + NAME + 8.0;
        let every = scale::every(step.0, widest(columns) + 4.0);
        for (at, name) in columns.iter().enumerate().step_by(every) {
            scene.text(label((left + step.0 * at as f64 + side / 2.0, top + LABEL * 0.8), name, LABEL, MUTED, Anchor::Middle));
        }
        let top = top + LABEL + 5.0;
        let every = scale::every(step.1, LABEL + 2.0);
        for (at, name) in rows.iter().enumerate().step_by(every) {
            scene.text(label((left - 6.0, top + step.1 * at as f64 + high / 2.0 + LABEL * 0.35), name, LABEL, MUTED, Anchor::End));
        }
        let base = top + step.1 * rows.len() as f64;
        let at = (MARGIN + NAME * 0.8, top.midpoint(base));
        let y_name = text::fitted(y_name, NAME, base - top);
        scene.text(Label { turned: true, ..label(at, &y_name, NAME, TEXT, Anchor::Middle) });
        let corner = |panel: usize| {
            let (layer, head) = (panel / heads.len(), panel % heads.len());
            let (column, row) = if turned { (layer, head) } else { (head, layer) };
            (left + step.0 * column as f64, top + step.1 * row as f64)
        };
        for panel in (0..data.panels.len()).filter(|panel| summaries[*panel].all > 0.0) {
            let (x, y) = corner(panel);
            scene.line(vec![(x, y), (x + side, y), (x + side, y + high), (x, y + high), (x, y)], 0.6, GRID);
            let (layer_of, head_of) = (&layers[panel / heads.len()], &heads[panel % heads.len()]);
            scene.hover((x, y), (x + side, y + high), format!("{layer} {layer_of}, {head} {head_of}\n{}", summaries[panel].words()));
        }
        let next = |a: &Cell, b: &Cell| (a.panel, a.y, a.x + 1) == (b.panel, b.y, b.x) && ramp.colour(a.value) == ramp.colour(b.value);
        for run in data.cells.chunk_by(next) {
            let (Some(from), Some(to)) = (run.first(), run.last()) else { continue };
            let ((x, y), line) = (corner(from.panel), high / down);
            let (left, right) = (x + cell * from.x as f64, x + cell * (to.x + 1) as f64);
            scene.rectangle((left, y + line * from.y as f64), (right, y + line * (from.y + 1) as f64), ramp.colour(from.value));
        }
        let lines = layout::note_lines(&self.settings, note, width);
        layout::shorten(&mut scene, base + layout::note_height(&lines) + MARGIN);
        layout::footer(&mut scene, &lines);
        Ok(scene)
    }

    fn alt(&self, (layers, heads): (&[String], &[String]), summaries: &[HeadSummary], note: &str) -> String {
        let title = self.settings.sentence();
        let most = |of: fn(&HeadSummary) -> f64, name: &str| {
            let mut order: Vec<usize> = (0..layers.len() * heads.len()).filter(|at| summaries[*at].all > 0.0).collect();
            order.sort_by(|&a, &b| of(&summaries[b]).total_cmp(&of(&summaries[a])));
            let named: Vec<String> = order
                .iter()
                .take(3)
                .map(|&at| format!("layer {}, head {} ({})", layers[at / heads.len()], heads[at % heads.len()], shown(of(&summaries[at]))))
                .collect();
            format!("Most on {name}: {}.", named.join("; "))
        };
        let itself = most(|summary| summary.itself / summary.all, "the token itself");
        let before = most(|summary| summary.before / summary.all, "the token before");
        let first = most(|summary| summary.first / summary.all, "the first token");
        format!("{title}Attention of {} layers of {} heads, as thumbnails. {itself} {before} {first} ({note})", layers.len(), heads.len())
    }
}

impl HeadSummary {
    fn words(&self) -> String {
        let part = |sum: f64| shown((100.0 * sum / self.all).round() / 100.0);
        format!("on the token itself {}, on the one before {}, on the first {}", part(self.itself), part(self.before), part(self.first))
    }
}

fn columns() -> Columns {
    let [x, y, value] = ["key", "query", "weight"].map(str::to_owned);
    Columns { x, y, value, ..Columns::default() }
}

/// Where the weight of each head lies, over all its queries.
fn summaries(frame: &DataFrame, settings: &Settings) -> Result<Vec<HeadSummary>> {
    let [query, key, weight] = [("query", "y"), ("key", "x"), ("weight", "the value")].map(|(name, role)| read::numbers(frame, name, role));
    let (query, key, weight) = (query?, key?, weight?);
    let (panels, panel_of, _) = read::grid(frame, settings)?;
    let first = key.iter().copied().fold(f64::INFINITY, f64::min);
    let mut summaries = vec![HeadSummary::default(); panels.len()];
    for (row, &panel) in panel_of.iter().enumerate().filter(|(row, _)| weight[*row].is_finite()) {
        let summary = &mut summaries[panel];
        summary.all += weight[row];
        summary.itself += if key[row] == query[row] { weight[row] } else { 0.0 };
        summary.before += if key[row] + 1.0 == query[row] { weight[row] } else { 0.0 };
        summary.first += if key[row] == first { weight[row] } else { 0.0 };
    }
    Ok(summaries)
}
