//! Cells coloured by value: heat maps, matrices, token tables, attention patterns.

use polars::prelude::DataFrame;

use super::axis::{Places, YAxis};
use super::cells::{Cell, Cells, Columns, visible};
use super::layout::{self, Panel, Wishes};
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
}

impl HeatMap {
    /// The column `value` as colour over the columns `x` and `y`. Numbers ascend to the right and upward; names go to the right and
    /// downward, in order of appearance.
    pub fn new(x: &str, y: &str, value: &str) -> Self {
        let [x, y, value] = [x, y, value].map(str::to_owned);
        let columns = Columns { x, y, value, facet: None, text: None, x_names: None, y_names: None, order: Vec::new() };
        Self { columns, settings: Settings::default(), range: None, diverging: false, downward: false, written: true, abreast: None }
    }

    /// One panel per value of this column, at most 36, all with the same axes and colours.
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

    /// The values of the two ends of the colours; by default the least and the greatest there are. Values outside have the end's colour,
    /// and the note counts them.
    pub fn range(mut self, from: f64, to: f64) -> Self {
        self.range = Some((from, to));
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
        let data = Cells::read(frame, &self.columns, &self.settings)?;
        let ramp = self.ramp(&data)?;
        let abreast = self.abreast.unwrap_or_else(|| abreast(data.panels.len())).clamp(1, data.panels.len());
        let (width, height) = self.settings.size(self.usual(&data, abreast))?;
        let mut scene = Scene::new(width, height);
        let legend = colour_bar::labels(&ramp);
        let name = self.settings.name(&self.columns.value);
        let note = self.remark(&data, &ramp);
        let wishes = Wishes {
            legend: None,
            panels: data.panels.clone(),
            abreast,
            remarks: Vec::new(),
            along: data.x.clone(),
            places: if data.x_named { Places::Slots } else { Places::Cells },
            x_name: self.settings.x_name(&self.columns.x),
            y_name: self.settings.y_name(&self.columns.y),
            y: vec![YAxis::rows(&data.y.labels(), data.upward && !self.downward)],
            right: colour_bar::room(&legend),
            strip: 0.0,
            note: note.clone(),
        };
        let panels = layout::prepare(&mut scene, &self.settings, &wishes)?;
        self.cells(&mut scene, &data, &ramp, &panels)?;
        colour_bar::draw(&mut scene, &panels, &ramp, &legend, &name);
        Ok((scene, self.alt(&data, &note)))
    }

    /// Cells that hold text need room for it; others only need to be seen.
    fn usual(&self, data: &Cells, abreast: usize) -> (u32, u32) {
        let (columns, rows) = (data.x.len(), data.y.len());
        let down = data.panels.len().div_ceil(abreast);
        let (wide, high) = if self.columns.text.is_some() { (56, 24) } else { (if data.x_named { 14 } else { 1 }, 14) };
        let labels = if data.x_named { 210 } else { 110 };
        let width = ((columns * wide + 24) * abreast + 180).clamp(720, 1600) as u32;
        // Matrices are about as high as they are wide.
        let square = (width as usize).saturating_sub(150) / abreast - 20;
        let panel = match down {
            1 if self.downward => square.clamp(150, 420),
            1 => (rows * high).clamp(230, 700),
            _ => if self.downward { square } else { rows * high }.clamp(110, 200),
        };
        (width, (panel * down + 30 * down + labels) as u32)
    }

    fn ramp(&self, data: &Cells) -> Result<Ramp> {
        let (least, greatest) = data.extent();
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
            None => scale::label(cell.value, decimals),
        };
        let fits = |label: &str| height >= VALUE + 2.0 && text::width(label, VALUE, false) + 4.0 <= width;
        let own = self.columns.text.is_some();
        if own && self.written && !(height >= VALUE + 2.0 && width >= 3.0 * VALUE) {
            let (x, y) = (data.x.len(), data.y.len());
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
        let all = data.panels.len() * data.x.len() * data.y.len();
        if data.rows > 1 {
            parts.push(format!("means of up to {} rows", data.rows));
        }
        if all > data.cells.len() {
            parts.push(format!("grey: no value ({} of {all} cells)", all - data.cells.len()));
        }
        match data.cells.iter().filter(|cell| cell.value < ramp.from || cell.value > ramp.to).count() {
            0 => {}
            1 => parts.push("1 value outside the colours' range".to_owned()),
            outside => parts.push(format!("{outside} values outside the colours' range")),
        }
        match data.skipped {
            0 => {}
            1 => parts.push("1 row without numbers left out".to_owned()),
            rows => parts.push(format!("{rows} rows without numbers left out")),
        }
        parts.join("; ")
    }

    fn alt(&self, data: &Cells, note: &str) -> String {
        let title = self.settings.title.as_ref().map_or_else(String::new, |title| format!("{title}. "));
        let axes = [(self.settings.x_name(&self.columns.x), &data.x), (self.settings.y_name(&self.columns.y), &data.y)]
            .map(|(name, along)| format!("{name} ({})", along.described()));
        let facet = self.columns.facet.as_ref().map_or_else(String::new, |facet| format!(", one panel per {}", self.settings.name(facet)));
        let values = |panel: usize| data.cells.iter().filter(move |cell| cell.panel == panel).map(|cell| cell.value).collect::<Vec<_>>();
        let phrases = data.panels.iter().enumerate().map(|(at, name)| (name, values(at))).filter(|(_, values)| !values.is_empty());
        let mut listed = alt::listed(phrases.map(|(name, values)| alt::phrase(name, &values)).collect());
        if let Some(most) = data.cells.iter().max_by(|a, b| a.value.total_cmp(&b.value)) {
            let (x, y) = (&data.x.labels()[most.x], &data.y.labels()[most.y]);
            listed.push_str(&format!(" Greatest at {x}, {y}: {}.", shown(most.value)));
        }
        let note = if note.is_empty() { String::new() } else { format!(" ({note})") };
        format!("{title}Heat map of {} over {} and {}{facet}. {listed}{note}", self.settings.name(&self.columns.value), axes[0], axes[1])
    }
}

/// Neighbours of a row can be one rectangle where they look the same: fine maps have very many cells.
fn beside(a: &Cell, b: &Cell) -> bool {
    (a.panel, a.y, a.x + 1) == (b.panel, b.y, b.x)
}

/// Small panels read best in a grid about as wide as it is high.
fn abreast(panels: usize) -> usize {
    match panels {
        0..=4 => panels.max(1),
        5..=6 => 3,
        7..=16 => 4,
        _ => 6,
    }
}
