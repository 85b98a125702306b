//! Cells coloured by value: heat maps, matrices, token tables, attention patterns.

use std::collections::BTreeMap;

use polars::prelude::DataFrame;

use super::axis::{Places, YAxis};
use super::cells::{Cell, Cells, Columns, visible};
use super::layout::{self, Grid, Panel, Wishes};
use super::palette::GRID;
use super::ramp::{self, Ramp};
use super::read::shown;
use super::scale;
use super::scene::{Anchor, Label, Scene};
use super::settings::{Settings, setters};
use super::{Figure, alt, colour_bar, text};
use crate::error::{Error, Result};
use crate::interrupt;

const VALUE: f64 = 10.5;
/// The most cells, or blocks of cells, that say what they are.
const MOST_SAID: usize = 600;

/// A heat map of a long frame: one row per cell.
///
/// ```no_run
/// # use ia2::figure::HeatMap;
/// # fn show(frame: &polars::prelude::DataFrame) -> ia2::Result<ia2::figure::Figure> {
/// HeatMap::new("position", "layer", "asim").diverging().title("Likeness to ICL").draw(frame)
/// # }
/// ```
///
/// Rows of the same cell are averaged. Cells without a row stay grey. Values are written into the cells where all of them fit.
#[derive(Clone, Debug)]
pub struct HeatMap {
    columns: Columns,
    settings: Settings,
    range: Option<(f64, f64)>,
    diverging: bool,
    downward: bool,
    written: bool,
    abreast: Option<usize>,
    square: bool,
    robust: bool,
    empty: String,
}

impl HeatMap {
    /// The column `value` as colour over the columns `x` and `y`. Numbers ascend to the right and upward; names go to the right and
    /// downward, in order of appearance.
    pub fn new(x: &str, y: &str, value: &str) -> Self {
        let [x, y, value] = [x, y, value].map(str::to_owned);
        let columns = Columns { x, y, value, facet: None, text: None, x_names: None, y_names: None, order: Vec::new() };
        Self {
            columns,
            settings: Settings::default(),
            range: None,
            diverging: false,
            downward: false,
            written: true,
            abreast: None,
            square: false,
            robust: true,
            empty: "no value".to_owned(),
        }
    }

    /// One panel per value of this column, all with the same axes and colours; more than 64 are on pages ([`HeatMap::page`]).
    pub fn facet(mut self, column: &str) -> Self {
        self.columns.facet = Some(column.to_owned());
        self
    }

    /// The column whose text stands in the cells, instead of the values.
    pub fn text(mut self, column: &str) -> Self {
        self.columns.text = Some(column.to_owned());
        self
    }

    /// The column that names the places along x (the token at a position); the same for all rows of a place.
    pub fn x_names(mut self, column: &str) -> Self {
        self.columns.x_names = Some(column.to_owned());
        self
    }

    /// The column that names the places along y; the same for all rows of a place.
    pub fn y_names(mut self, column: &str) -> Self {
        self.columns.y_names = Some(column.to_owned());
        self
    }

    /// Names that come first, in this order, along x and y and among panels.
    pub fn order(mut self, names: &[&str]) -> Self {
        self.columns.order = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// Colours that part at zero: blue below, red above, and a range that reaches as far on both sides.
    pub fn diverging(mut self) -> Self {
        self.diverging = true;
        self
    }

    /// The values of the two ends of the colours; by default the least and the greatest there are, or those of the bulk ([`HeatMap::robust`]).
    /// Values outside have the end's colour, and the note counts them.
    pub fn range(mut self, from: f64, to: f64) -> Self {
        self.range = Some((from, to));
        self
    }

    /// Whether colours end before a few values that lie far off (a unit of a real model that is a hundred times as large as the others leaves no
    /// colours for them); by default they do. They end half a span beyond the middle 96 % of the cells, where all cells together take more than four
    /// times that span; the note says so. Never where the values are those of a metric, a measure or a probability.
    pub fn robust(mut self, robust: bool) -> Self {
        self.robust = robust;
        self
    }

    /// Cells as high as they are wide.
    pub fn square(mut self) -> Self {
        self.square = true;
        self
    }

    /// What the note says of cells without a row, which are grey; by default `no value`.
    pub fn empty(mut self, words: &str) -> Self {
        words.clone_into(&mut self.empty);
        self
    }

    /// Numbers along y ascend downward, as in matrices.
    pub fn downward(mut self) -> Self {
        self.downward = true;
        self
    }

    /// Whether values are written into the cells where all of them fit; by default they are.
    pub fn written(mut self, written: bool) -> Self {
        self.written = written;
        self
    }

    /// Panels in one row; by default about as many as there are rows of them, at most six.
    pub fn abreast(mut self, panels: usize) -> Self {
        self.abreast = Some(panels);
        self
    }

    setters!();

    /// Draws the frame.
    ///
    /// # Errors
    /// A column is missing (the message lists those there are) or holds no numbers, the frame has no rows or no row with finite numbers, a
    /// place has two names, there are too many panels or places, the range is not ascending or does not lie around zero where colours
    /// diverge, or the size is out of bounds or too small for the names.
    pub fn draw(&self, frame: &DataFrame) -> Result<Figure> {
        interrupt::during("drawing", || {
            let (scene, alt) = self.scene(frame)?;
            Figure::of(&scene, alt, frame)
        })
    }

    pub(super) fn scene(&self, frame: &DataFrame) -> Result<(Scene, String)> {
        let mut data = Cells::read(frame, &self.columns, &self.settings)?;
        // Colours are those of all pages.
        let ramp = self.ramp(&data)?;
        data.turn(&self.settings)?;
        let usual = if data.pieces.is_empty() { abreast(data.panels.len()) } else { 1 };
        let abreast = self.abreast.unwrap_or(usual).clamp(1, data.panels.len());
        let (width, height) = self.settings.size(self.usual(&data, abreast))?;
        let mut scene = Scene::new(width, height);
        let legend = colour_bar::labels(&ramp);
        let name = self.value_name(frame);
        let note = self.remark(&data, &ramp);
        let wishes = Wishes {
            legend: None,
            panels: data.panels.clone(),
            abreast,
            row_names: Vec::new(),
            remarks: Vec::new(),
            along: if data.pieces.is_empty() { vec![data.x.clone()] } else { data.pieces.clone() },
            places: Places::Cells,
            x_range: None,
            x_name: self.settings.x_name(&self.columns.x),
            y_name: self.settings.y_name(&self.columns.y),
            y: vec![YAxis::rows(&data.y.labels(), data.upward && !self.downward)],
            right: colour_bar::room(&legend),
            strip: 0.0,
            grid: Some(Grid {
                across: data.across(0).len(),
                down: data.y.len(),
                square: self.square,
                highest: match (self.columns.text.is_some(), data.y.len()) {
                    _ if self.settings.has_height() => 60.0,
                    (true, 13..) => 17.0,
                    (true, _) => 26.0,
                    (false, _) => 60.0,
                },
            }),
            note: note.clone(),
        };
        let panels = layout::prepare(&mut scene, &self.settings, &wishes)?;
        self.cells(&mut scene, &data, &ramp, &panels)?;
        colour_bar::draw(&mut scene, &panels, &ramp, &legend, &name);
        self.hover(&mut scene, &data, &panels);
        let alt = self.alt(&data, &name, &note);
        Ok((scene, alt))
    }

    /// What the colours stand for: where the column is only called `value`, the measure that the frame names.
    fn value_name(&self, frame: &DataFrame) -> String {
        let (value, name) = (&self.columns.value, self.settings.name(&self.columns.value));
        if value != "value" || name != "value" {
            return name;
        }
        let measures = frame.column("measure").ok().and_then(|column| crate::table::keys::names(column, &[]).ok());
        match measures.as_ref().map(|(names, _)| &names[..]) {
            Some([only]) => self.settings.name(only),
            _ => name,
        }
    }

    /// Cells that hold text need room for it; others only need to be seen. The layout takes back what square or low cells leave over.
    fn usual(&self, data: &Cells, abreast: usize) -> (u32, u32) {
        let (columns, rows) = (data.across(0).len(), data.y.len());
        let down = data.panels.len().div_ceil(abreast);
        let text = self.columns.text.is_some();
        let wide = if text {
            if columns > 14 { 33 } else { 44 }
        } else if data.x_named {
            14
        } else {
            1
        };
        let width = ((columns * wide + 24) * abreast + 140).clamp(if abreast > 4 { 960 } else { 720 }, 1100);
        let across = (width - 150) / abreast - 28;
        let square = across * rows / columns.max(1);
        let panel = match down {
            _ if text => rows * if rows > 12 { 16 } else { 24 },
            _ if self.square => square.clamp(48, 520),
            1 if self.downward => across.clamp(150, 420),
            1 => (rows * 14).clamp(230, 560),
            _ if self.downward => square.clamp(90, 260),
            _ => (rows * 10).clamp(110, 260),
        };
        let labels = if data.x_named { 120 } else { 20 };
        let each = if data.pieces.is_empty() { 34 } else { 34 + labels };
        (width as u32, (((panel + each) * down + labels + 100) as u32).min(4000))
    }

    fn ramp(&self, data: &Cells) -> Result<Ramp> {
        let (least, greatest) = data.extent();
        let values: Vec<f64> = data.cells.iter().map(|cell| cell.value).collect();
        let open = super::bounds::of(&self.columns.value, &values) == super::bounds::NONE;
        let (least, greatest) = data.robust().filter(|_| self.robust && open).unwrap_or((least, greatest));
        let (from, to) = self.range.unwrap_or_else(|| {
            let far = least.abs().max(greatest.abs());
            match self.diverging {
                true => (-far, far),
                false => (least, greatest),
            }
        });
        if self.range.is_some() && (!from.is_finite() || !to.is_finite() || from >= to) {
            return Err(Error::input(format!("figure: the range of colours must be two ascending numbers, not {from} and {to}")));
        }
        if self.diverging && self.range.is_some() && from != -to {
            return Err(Error::input(format!("figure: diverging colours need a range around zero, not {from} to {to}")));
        }
        // Values that are all the same still have a colour.
        let (from, to) = if from < to { (from, to) } else { scale::range(from, to, false) };
        Ok(Ramp { from, to, diverging: self.diverging })
    }

    fn cells(&self, scene: &mut Scene, data: &Cells, ramp: &Ramp, panels: &[Panel]) -> Result<()> {
        let Some(first) = panels.first() else { return Ok(()) };
        let (width, height) = (first.x.at(1.0) - first.x.at(0.0), (first.y.at(1.0) - first.y.at(0.0)).abs());
        // A hair between the cells where they are large.
        let gap = if width.min(height) > 8.0 { 0.5 } else { 0.0 };
        for panel in panels {
            scene.rectangle((panel.sides.0, panel.y.end), (panel.sides.1, panel.base), GRID);
        }
        let decimals = scale::finer_decimals(&scale::ticks(ramp.from, ramp.to, 5, false));
        let words = |cell: &Cell| match &self.columns.text {
            Some(_) => visible(&cell.text),
            None => scale::value(cell.value, decimals),
        };
        let fits = |label: &str| height >= VALUE + 2.0 && text::width(label, VALUE, false) + 4.0 <= width;
        let own = self.columns.text.is_some();
        if own && self.written && !(height >= VALUE + 2.0 && width >= 2.0 * VALUE) {
            let (x, y) = (data.across(0).len(), data.y.len());
            return Err(Error::input(format!(
                "figure: text does not fit into {x} x {y} cells of this size: set a larger size, or filter the frame first"
            )));
        }
        // Words are cut to their cell; of numbers, all are written or none.
        let written = self.written && (own || data.cells.iter().all(|cell| fits(&words(cell))));
        for run in data.cells.chunk_by(|a, b| gap == 0.0 && !written && beside(a, b) && ramp.colour(a.value) == ramp.colour(b.value)) {
            let (Some(cell), Some(last)) = (run.first(), run.last()) else { continue };
            let panel = &panels[cell.panel];
            let (x, y) = (panel.x.at(cell.x as f64), panel.y.at(cell.y as f64));
            let colour = ramp.colour(cell.value);
            // Cells without a gap overlap a little: those that only touch show seams in browsers.
            let (across, down) = if gap > 0.0 { (width / 2.0 - gap, height / 2.0 - gap) } else { (width / 2.0 + 0.3, height / 2.0 + 0.3) };
            let (from, to) = ((x - across).max(panel.sides.0), (panel.x.at(last.x as f64) + across).min(panel.sides.1));
            scene.rectangle((from, (y - down).max(panel.y.end)), (to, (y + down).min(panel.base)), colour);
            if written {
                let words = text::fitted(&words(cell), VALUE, width - 4.0);
                scene.text(Label::new((x, y + VALUE * 0.36), &words, VALUE, ramp::ink(colour), Anchor::Middle));
            }
        }
        Ok(())
    }

    fn remark(&self, data: &Cells, ramp: &Ramp) -> String {
        let mut parts = Vec::new();
        let all: usize = (0..data.panels.len()).map(|panel| data.across(panel).len() * data.y.len()).sum();
        let bins = [(data.binned.0, &self.columns.x), (data.binned.1, &self.columns.y)].into_iter().filter(|(each, _)| *each > 1);
        let bins: Vec<String> = bins.map(|(each, column)| format!("{each} of {}", self.settings.name(column))).collect();
        if !bins.is_empty() {
            parts.push(format!("each cell: the mean over {}, by its first", bins.join(" and ")));
        } else if data.rows > 1 {
            parts.push(format!("means of up to {} rows", data.rows));
        }
        if all > data.cells.len() {
            parts.push(format!("grey: {} ({} of {all} cells)", self.empty, all - data.cells.len()));
        }
        let outside: Vec<f64> = data.cells.iter().map(|cell| cell.value).filter(|value| *value < ramp.from || *value > ramp.to).collect();
        let (least, greatest) = scale::extent(outside.iter().copied());
        let to = if outside.len() == 1 { shown(least) } else { format!("{} to {}", shown(least), shown(greatest)) };
        match outside.len() {
            0 => {}
            1 => parts.push(format!("1 value outside the colours' range ({to})")),
            outside => parts.push(format!("{outside} values outside the colours' range ({to})")),
        }
        match data.skipped {
            0 => {}
            1 => parts.push("1 row without numbers left out".to_owned()),
            rows => parts.push(format!("{rows} rows without numbers left out")),
        }
        parts.extend(data.page.clone());
        parts.join("; ")
    }

    /// What each cell is, or of many the cells of each block.
    fn hover(&self, scene: &mut Scene, data: &Cells, panels: &[Panel]) {
        let Some(first) = panels.first() else { return };
        let (wide, high) = ((first.x.at(1.0) - first.x.at(0.0)).abs(), (first.y.at(1.0) - first.y.at(0.0)).abs());
        let (mut across, mut down) = (1, 1);
        let count = |across: usize, down: usize| panels.len() * data.across(0).len().div_ceil(across) * data.y.len().div_ceil(down);
        while count(across, down) > MOST_SAID && (across < data.across(0).len() || down < data.y.len()) {
            let wider = across < data.across(0).len() && (wide * across as f64 <= high * down as f64 || down >= data.y.len());
            *if wider { &mut across } else { &mut down } += 1;
        }
        let mut blocks: BTreeMap<(usize, usize, usize), Vec<&Cell>> = BTreeMap::new();
        data.cells.iter().for_each(|cell| blocks.entry((cell.panel, cell.y / down, cell.x / across)).or_default().push(cell));
        let (x_name, y_name) = (self.settings.x_name(&self.columns.x), self.settings.y_name(&self.columns.y));
        let ys = data.y.labels();
        let labels: Vec<Vec<String>> = (0..panels.len()).map(|panel| data.across(panel).labels()).collect();
        let range = |labels: &[String], from: usize, each: usize| {
            let to = (from + each).min(labels.len()) - 1;
            if from == to { labels[from].clone() } else { format!("{} to {}", labels[from], labels[to]) }
        };
        for ((panel, y, x), cells) in blocks {
            let (x, y, place) = (x * across, y * down, &panels[panel]);
            let (to_x, to_y) = ((x + across).min(labels[panel].len()) as f64, (y + down).min(ys.len()) as f64);
            let values: Vec<f64> = cells.iter().map(|cell| cell.value).collect();
            let text = cells.first().map_or("", |cell| &cell.text);
            let said = match &self.columns.text {
                Some(_) if cells.len() == 1 => format!("{}, {}", visible(text), shown(values[0])),
                _ => alt::phrase("", &values),
            };
            let title = format!("{x_name} {}, {y_name} {}: {said}", range(&labels[panel], x, across), range(&ys, y, down));
            let half = 0.5;
            scene.hover(
                (place.x.at(x as f64 - half), place.y.at(y as f64 - half)),
                (place.x.at(to_x - half), place.y.at(to_y - half)),
                title,
            );
        }
    }

    fn alt(&self, data: &Cells, name: &str, note: &str) -> String {
        let title = self.settings.title.as_ref().map_or_else(String::new, |title| format!("{title}. "));
        let axes = [(self.settings.x_name(&self.columns.x), &data.x), (self.settings.y_name(&self.columns.y), &data.y)]
            .map(|(name, along)| format!("{name} ({})", along.described()));
        let facet = self.columns.facet.as_ref().map_or_else(String::new, |facet| format!(", one panel per {}", self.settings.name(facet)));
        let values = |panel: usize| data.cells.iter().filter(move |cell| cell.panel == panel).map(|cell| cell.value).collect::<Vec<_>>();
        let phrases = data.panels.iter().enumerate().map(|(at, name)| (name, values(at))).filter(|(_, values)| !values.is_empty());
        let mut listed = alt::listed(phrases.map(|(name, values)| alt::phrase(name, &values)).collect());
        if let Some(most) = data.cells.iter().max_by(|a, b| a.value.total_cmp(&b.value)) {
            let (x, y) = (&data.across(most.panel).labels()[most.x], &data.y.labels()[most.y]);
            listed.push_str(&format!(" Greatest at {x}, {y}: {}.", shown(most.value)));
        }
        let note = if note.is_empty() { String::new() } else { format!(" ({note})") };
        format!("{title}Heat map of {name} over {} and {}{facet}. {listed}{note}", axes[0], axes[1])
    }
}

/// Neighbours of a row can be one rectangle where they look the same: fine maps have very many cells.
fn beside(a: &Cell, b: &Cell) -> bool {
    (a.panel, a.y, a.x + 1) == (b.panel, b.y, b.x)
}

/// Small panels read best in a grid about as wide as it is high, without a lone one in its last row.
fn abreast(panels: usize) -> usize {
    let choices: &[usize] = match panels {
        0..=4 => return panels.max(1),
        5..=6 => return 3,
        7..=16 => &[4, 5, 3],
        17..=36 => &[6, 5, 8],
        _ => &[8, 7, 6, 10],
    };
    let empty = |columns: usize| (columns - panels % columns) % columns;
    choices.iter().copied().min_by_key(|&columns| empty(columns)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::abreast;

    #[test]
    fn no_panel_stands_alone() {
        assert_eq!([9, 10, 12, 14, 16, 32, 64, 13].map(abreast), [3, 5, 4, 5, 4, 8, 8, 5]);
        for panels in 1..=64 {
            let columns = abreast(panels);
            assert!(columns == 1 || panels % columns != 1, "{panels} in rows of {columns}");
        }
    }
}
