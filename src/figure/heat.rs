//! Cells coloured by value: heat maps, matrices, token tables, attention patterns.

use polars::prelude::DataFrame;

use super::cells::{Cell, Cells, Columns, visible};
use super::colours::{Colours, colour_setters};
use super::select::{Select, select_setters};
use super::settings::setters;
use super::{Figure, scrolled};
use crate::error::{Error, Result};
use crate::plot::axis::{Places, YAxis};
use crate::plot::colour_bar::{self, Bar};
use crate::plot::layout::{self, Grid, LayoutOptions, Panel};
use crate::plot::palette::GRID;
use crate::plot::ramp::{self, Ramp};
use crate::plot::scene::{Anchor, Label, Scene};
use crate::plot::settings::{MOST_PANELS, Settings};
use crate::plot::{scale, text};

const VALUE: f64 = 10.5;
/// The height of a row of text where there are many, of what stands around each piece of a long table, and of all pieces of one picture.
const TEXT_ROW: usize = 16;
const PIECE: usize = 154;
const HIGHEST: usize = 3700;

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
    pub(super) columns: Columns,
    pub(super) settings: Settings,
    select: Select,
    colours: Colours,
    /// Two values of the facet, whose difference is the third panel.
    pub(super) difference: Option<(String, String)>,
    /// Do the values of a row add up to one?
    shares: bool,
    downward: bool,
    written: bool,
    panels_per_row: Option<usize>,
    square: bool,
    pub(super) empty: String,
}

impl HeatMap {
    /// The column `value` as colour over the columns `x` and `y`. Numbers ascend to the right and upward; names go to the right and
    /// downward, in order of appearance.
    pub fn new(x: &str, y: &str, value: &str) -> Self {
        let [x, y, value] = [x, y, value].map(str::to_owned);
        let columns = Columns { x, y, value, ..Columns::default() };
        Self {
            columns,
            settings: Settings::default(),
            select: Select::default(),
            colours: Colours::default(),
            difference: None,
            shares: false,
            downward: false,
            written: true,
            panels_per_row: None,
            square: false,
            empty: "no value".to_owned(),
        }
    }

    setters! {
        /// One panel per value of this column, all with the same axes and colours; more than 64 are on pages ([`HeatMap::page`]).
        facet
    }

    setters!(rows);

    /// A column of text and one of numbers that are shown in addition where the pointer rests on a cell (the second likeliest token and its
    /// probability). Frames without them are drawn all the same.
    pub fn tooltip(mut self, text: &str, value: &str) -> Self {
        self.columns.besides.push((text.to_owned(), value.to_owned()));
        self
    }

    /// The values along x add up to one: the note says how much of it is left out.
    pub(super) fn shares(mut self) -> Self {
        self.shares = true;
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

    setters! {
        /// Names that come first, in this order, along x and y and among panels.
        order
    }

    /// Only the last `places` along x and along y, which must hold numbers; `usize::MAX` for all. The note says of how many.
    pub fn last(mut self, places: usize) -> Self {
        self.select.last = Some(places);
        self
    }

    /// Three panels: the rows in which `column` is `first`, those in which it is `second`, both in the same colours, and the second less the first
    /// in colours that part at zero, with a bar of their own. For frames of two methods below each other ([`stack`](crate::table::stack)).
    pub fn difference(mut self, column: &str, first: &str, second: &str) -> Self {
        self.settings.facet = Some(column.to_owned());
        self.difference = Some((first.to_owned(), second.to_owned()));
        self
    }

    colour_setters!();
    select_setters!();

    /// Cells as high as they are wide.
    pub fn square(mut self) -> Self {
        self.square = true;
        self
    }

    /// What the note says of cells without a row, which are grey; by default `no value`. With empty words they stay blank, and the note says nothing.
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
    pub fn annotated(mut self, written: bool) -> Self {
        self.written = written;
        self
    }

    /// Panels in one row; by default about as many as there are rows of them, at most six.
    pub fn panels_per_row(mut self, panels: usize) -> Self {
        self.panels_per_row = Some(panels);
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
        Figure::drawn(frame, || self.scene(frame))
    }

    pub(super) fn scene(&self, frame: &DataFrame) -> Result<(Scene, String)> {
        let axes = (self.columns.x.as_str(), self.columns.y.as_str());
        let share = self.shares.then_some(self.columns.value.as_str());
        let selected = self.select.last(self.select.rows(frame, &self.settings)?, axes, share, &self.settings)?;
        let mut data = Cells::read(&selected.0, &self.columns, &self.settings)?;
        if let Some((first, second)) = &self.difference {
            data.differ(&self.columns, &self.settings, first, second)?;
        }
        // Colours are those of all pages.
        let ramps = self.ramps(&data)?;
        let name = self.value_name(frame);
        // A table that scrolls has no pages.
        let table = self
            .columns
            .text
            .as_ref()
            .and_then(|_| scrolled::table(self, &data, &ramps[0], &name, &self.remark(&data, &ramps, selected.1.clone())));
        let most = if data.pieces.is_empty() { MOST_PANELS } else { (HIGHEST / (data.y.len() * TEXT_ROW + PIECE)).clamp(1, MOST_PANELS) };
        data.turn(&self.settings, most)?;
        let usual = match (data.row_names.len(), data.pieces.is_empty()) {
            (0, true) => panels_per_row(data.panels.len()),
            (0, false) => 1,
            (rows, _) => data.panels.len() / rows,
        };
        let panels_per_row = self.panels_per_row.filter(|_| data.row_names.is_empty()).unwrap_or(usual).clamp(1, data.panels.len());
        let (width, height) = self.settings.size(self.usual(&data, panels_per_row))?;
        let mut scene = Scene::new(width, height);
        scene.html = table;
        let bars: Vec<Bar> =
            ramps.iter().zip([name.clone(), format!("difference in {name}")]).map(|(ramp, name)| Bar::new(*ramp, name)).collect();
        let note = self.remark(&data, &ramps, selected.1);
        let along = if data.pieces.is_empty() { vec![data.x.clone()] } else { data.pieces.clone() };
        let options = LayoutOptions {
            row_names: data.row_names.clone(),
            x_name: self.settings.x_name(&self.columns.x),
            y_name: self.settings.y_name(&self.columns.y),
            right: bars.iter().map(Bar::room).sum(),
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
            ..LayoutOptions::new(
                data.panels.clone(),
                panels_per_row,
                (along, Places::Cells),
                vec![YAxis::rows(&data.y.labels(), self.upwards(&data))],
            )
        };
        let panels = layout::prepare(&mut scene, &self.settings, &options)?;
        self.cells(&mut scene, &data, &ramps, &panels)?;
        colour_bar::draw(&mut scene, &panels, &bars, layout::row_room(&data.row_names));
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
    fn usual(&self, data: &Cells, panels_per_row: usize) -> (u32, u32) {
        let (columns, rows) = (data.across(0).len(), data.y.len());
        let down = data.panels.len().div_ceil(panels_per_row);
        let text = self.columns.text.is_some();
        let wide = if text {
            if columns > 14 { 33 } else { 44 }
        } else if data.x_named {
            14
        } else {
            1
        };
        let width = ((columns * wide + 24) * panels_per_row + 140).clamp(if panels_per_row > 4 { 960 } else { 720 }, 1100);
        let across = (width - 150) / panels_per_row - 28;
        let square = across * rows / columns.max(1);
        let panel = match down {
            _ if text => rows * if rows > 12 { TEXT_ROW } else { 24 },
            _ if self.square => square.clamp(48, 520),
            1 if self.downward => across.clamp(150, 420),
            1 => (rows * 14).clamp(230, 560),
            _ if self.downward => square.clamp(90, 260),
            _ => (rows * 10).clamp(110, 260),
        };
        let labels = if data.x_named { 120 } else { 20 };
        let each = if data.pieces.is_empty() { 34 } else { PIECE };
        (width as u32, (((panel + each) * down + labels + 100) as u32).min(4000))
    }

    /// Do places along y ascend upward?
    pub(super) fn upwards(&self, data: &Cells) -> bool {
        data.upward && !self.downward
    }

    /// The scale of all panels, and that of the difference where there is one.
    fn ramps(&self, data: &Cells) -> Result<Vec<Ramp>> {
        let Some(last) = self.difference.as_ref().map(|_| data.panels.len() - 1) else {
            return Ok(vec![self.colours.ramp(&self.columns.value, &data.values(|_| true))?]);
        };
        let apart = Colours { range: None, diverging: true, ..self.colours };
        let difference = apart.ramp("difference", &data.values(|panel| panel == last))?;
        Ok(vec![self.colours.ramp(&self.columns.value, &data.values(|panel| panel < last))?, difference])
    }

    /// The scale of a panel.
    pub(super) fn ramp_of<'a>(&self, ramps: &'a [Ramp], panel: usize) -> &'a Ramp {
        &ramps[usize::from(panel == 2).min(ramps.len() - 1)]
    }

    fn cells(&self, scene: &mut Scene, data: &Cells, ramps: &[Ramp], panels: &[Panel]) -> Result<()> {
        let Some(first) = panels.first() else { return Ok(()) };
        let (width, height) = (first.x.at(1.0) - first.x.at(0.0), (first.y.at(1.0) - first.y.at(0.0)).abs());
        // A hair between the cells where they are large.
        let gap = if width.min(height) > 8.0 { 0.5 } else { 0.0 };
        for panel in panels.iter().filter(|_| !self.empty.is_empty()) {
            scene.rectangle((panel.sides.0, panel.y.end), (panel.sides.1, panel.base), GRID);
        }
        let decimals: Vec<usize> = (0..panels.len())
            .map(|panel| self.ramp_of(ramps, panel))
            .map(|ramp| scale::finer_decimals(&scale::ticks(ramp.from, ramp.to, 5, false)))
            .collect();
        let words = |cell: &Cell| match &self.columns.text {
            Some(_) => visible(&cell.text),
            None => scale::value(cell.value, decimals[cell.panel]),
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
        let colour = |cell: &Cell| self.ramp_of(ramps, cell.panel).colour(cell.value);
        for run in data.cells.chunk_by(|a, b| gap == 0.0 && !written && beside(a, b) && colour(a) == colour(b)) {
            let (Some(cell), Some(last)) = (run.first(), run.last()) else { continue };
            let panel = &panels[cell.panel];
            let (x, y) = (panel.x.at(cell.x as f64), panel.y.at(cell.y as f64));
            let colour = colour(cell);
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
}

/// Neighbours of a row can be one rectangle where they look the same: fine maps have very many cells.
fn beside(a: &Cell, b: &Cell) -> bool {
    (a.panel, a.y, a.x + 1) == (b.panel, b.y, b.x)
}

/// Small panels read best in a grid about as wide as it is high, without a lone one in its last row.
fn panels_per_row(panels: usize) -> usize {
    let choices: &[usize] = match panels {
        0..=4 => return panels.max(1),
        5..=6 => return 3,
        7..=16 => &[4, 5, 3],
        17..=36 => &[6, 5, 8],
        _ => &[8, 7, 6, 10],
    };
    layout::least_empty(panels, choices)
}

#[cfg(test)]
mod tests {
    use super::panels_per_row;

    #[test]
    fn no_panel_stands_alone() {
        assert_eq!([9, 10, 12, 14, 16, 32, 64, 13].map(panels_per_row), [3, 5, 4, 5, 4, 8, 8, 5]);
        for panels in 1..=64 {
            let columns = panels_per_row(panels);
            assert!(columns == 1 || panels % columns != 1, "{panels} in rows of {columns}");
        }
    }
}
