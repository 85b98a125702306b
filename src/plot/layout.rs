//! Where things go: title, legend, the grid of panels, and the notes below.

use super::along::Along;
use super::axis::{Places, XAxis, YAxis};
use super::legend::{self, Legend};
use super::palette::{AXIS, MUTED, TEXT};
use super::scale::{self, Scale};
use super::scene::{Anchor, Label, Scene, Shape};
use super::settings::{Settings, TITLE};
use super::text;
use crate::error::{Error, Result};

pub(crate) const MARGIN: f64 = 14.0;
const AXIS_NAME: f64 = 12.5;
const NOTE: f64 = 10.5;
const HEADING: f64 = 12.0;
const REMARK: f64 = 11.0;
/// Height of a line of a panel's heading.
const HEADING_ROW: f64 = 15.0;
/// Height of a line of an axis' name.
const NAME_ROW: f64 = 15.0;
/// Space between panels.
const GAP: f64 = 18.0;

/// One panel's inner rectangle with its scales.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panel {
    pub x: Scale,
    pub y: Scale,
    /// The left and right edge.
    pub sides: (f64, f64),
    /// The x axis' line: lower than y's start where there is a strip between them.
    pub base: f64,
}

/// How large cells may be that fill a panel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    pub across: usize,
    pub down: usize,
    /// As high as wide.
    pub square: bool,
    /// No higher than this.
    pub highest: f64,
}

/// What a kind of figure asks of the layout.
pub(crate) struct LayoutOptions {
    pub legend: Option<Legend>,
    /// The panels' names; one empty name for a figure without.
    pub panels: Vec<String>,
    /// Panels in one row of the grid.
    pub panels_per_row: usize,
    /// What stands to the right of each row of panels; may be empty.
    pub row_names: Vec<String>,
    /// What stands above each panel on the right; may be empty.
    pub remarks: Vec<String>,
    /// What stands along x: one for all panels, or one for each.
    pub along: Vec<Along>,
    pub places: Places,
    /// The range of x that is asked for.
    pub x_range: Option<(f64, f64)>,
    pub x_name: String,
    /// May be empty: where panels have different y axes, their names say which.
    pub y_name: String,
    /// One for all panels, or one for each equal share of them.
    pub y: Vec<YAxis>,
    /// Room to the right of the panels.
    pub right: f64,
    /// Room between each panel and its x axis.
    pub strip: f64,
    pub grid: Option<Grid>,
    pub note: String,
}

impl LayoutOptions {
    /// Of panels and what stands along their axes, with nothing around them.
    pub(crate) fn new(panels: Vec<String>, panels_per_row: usize, (along, places): (Vec<Along>, Places), y: Vec<YAxis>) -> Self {
        Self {
            legend: None,
            panels,
            panels_per_row,
            row_names: Vec::new(),
            remarks: Vec::new(),
            along,
            places,
            x_range: None,
            x_name: String::new(),
            y_name: String::new(),
            y,
            right: 0.0,
            strip: 0.0,
            grid: None,
            note: String::new(),
        }
    }
}

/// The least height of a row of cells in a panel of few.
const LEAST_ROW: f64 = 16.0;
/// The least height and width of a panel that can be read.
const LEAST_PANEL: f64 = 40.0;

/// Draws everything around the data and gives the panels to draw the data into. Where no height was asked for, the scene ends where the figure does.
///
/// # Errors
/// The figure is too small for its legend, labels and panels, or has too many names along x.
pub(crate) fn prepare(scene: &mut Scene, settings: &Settings, options: &LayoutOptions) -> Result<Vec<Panel>> {
    let count = options.panels.len();
    let columns = options.panels_per_row.clamp(1, count.max(1));
    let rows = count.div_ceil(columns);
    let (y_axis, x_axis) = (|panel: usize| panel * options.y.len() / count, |panel: usize| panel * options.along.len() / count);
    let own_x = options.along.len() > 1;
    // A panel labels its y axis where the one on its left has another.
    let labelled = |panel: usize| panel.is_multiple_of(columns) || y_axis(panel) != y_axis(panel - 1);

    let top = header(scene, settings, options.legend.as_ref());
    let note = note_lines(settings, &options.note, scene.width);
    let note_height = note_height(&note);
    let bottom = scene.height - MARGIN - note_height;
    let width_of = |column: usize| {
        (0..count)
            .filter(|&panel| panel % columns == column && labelled(panel))
            .map(|panel| options.y[y_axis(panel)].width() + 8.0)
            .fold(0.0, f64::max)
    };
    let row_room = row_room(&options.row_names);
    let right = scene.width - MARGIN - 6.0 - options.right - row_room;
    let labels: Vec<f64> = (0..columns).map(width_of).collect();
    // The name of y takes a second line where its panels are not high enough for one.
    let about = (bottom - top - 40.0).max(LEAST_PANEL);
    let y_name = text::wrapped(&options.y_name, AXIS_NAME, about, 2);
    let left = MARGIN + if y_name.is_empty() { 0.0 } else { NAME_ROW * (y_name.len() - 1) as f64 + AXIS_NAME + 8.0 };
    let mut width = (right - left - labels.iter().sum::<f64>() - GAP * (columns - 1) as f64) / columns as f64;
    let too_small = || {
        let size = format!("{} x {}", scene.width, scene.height);
        let panels = if count == 1 { "the panel".to_owned() } else { format!("{count} panels") };
        Error::input(format!("figure: {size} is too small for {panels}, the labels and the legend: set a larger size"))
    };
    if width < LEAST_PANEL {
        return Err(too_small());
    }
    let xs: Vec<XAxis> =
        options.along.iter().map(|along| XAxis::of(along, options.places, options.x_range, width)).collect::<Result<_>>()?;
    let label_height = xs.iter().map(XAxis::height).fold(0.0, f64::max) + 6.0;
    let x_name = text::wrapped(&options.x_name, AXIS_NAME, right - left, 2);
    let headings: Vec<Heading> =
        (0..count).map(|panel| Heading::of(&options.panels[panel], options.remarks.get(panel).map_or("", String::as_str), width)).collect();
    let heading_height = |row: usize| {
        let lines = headings.iter().skip(row * columns).take(columns).map(Heading::lines).max().unwrap_or(0);
        if lines == 0 { 4.0 } else { lines as f64 * HEADING_ROW + 7.0 }
    };
    // Only the lowest panels label their x axis where the others share it.
    let between = if own_x { label_height } else { 0.0 } + 8.0;
    let below = if own_x { 0.0 } else { label_height } + x_name.len() as f64 * NAME_ROW + 4.0;
    let fixed = (0..rows).map(heading_height).sum::<f64>() + rows as f64 * (options.strip + between) - if own_x { 0.0 } else { 8.0 };
    let mut height = (bottom - below - top - fixed) / rows as f64;
    if height < if options.grid.is_some_and(|grid| grid.down < 4) { 10.0 } else { LEAST_PANEL } {
        return Err(too_small());
    }
    if let Some(grid) = options.grid {
        (width, height) = grid.within(width, height);
    }

    let (mut panels, mut above, mut added) = (Vec::with_capacity(count), top, None);
    for row in 0..rows {
        above += heading_height(row);
        for (column, index) in (row * columns..count.min((row + 1) * columns)).enumerate() {
            let from = left + labels[..=column].iter().sum::<f64>() + column as f64 * (width + GAP);
            let (end, to) = (above + height, from + width);
            let (x, y) = (&xs[x_axis(index)], &options.y[y_axis(index)]);
            let panel = Panel { x: x.scale(from, to), y: y.scale(end, above), sides: (from, to), base: end + options.strip };
            headings[index].draw(scene, (from, to), above - 8.0);
            y.draw(scene, &panel.y, (from, to), labelled(index));
            scene.line(vec![(from, panel.base), (to, panel.base)], 1.2, AXIS);
            added = x.draw(scene, &panel.x, panel.base, own_x || index + columns >= count).or(added);
            panels.push(panel);
        }
        if let (Some(name), Some(panel)) = (options.row_names.get(row), panels.last()) {
            let name = text::fitted(name, HEADING, height / 0.88);
            let at = (panel.sides.1 + 8.0 + HEADING * 0.8, panel.y.start.midpoint(panel.y.end));
            scene.text(Label { turned: true, bold: true, ..Label::new(at, &name, HEADING, TEXT, Anchor::Middle) });
        }
        above += height + options.strip + between;
    }
    let base = panels.iter().map(|panel: &Panel| panel.base).fold(top, f64::max) + label_height;
    let (from, to) = panels.iter().fold((right, left), |(from, to): (f64, f64), panel| (from.min(panel.sides.0), to.max(panel.sides.1)));
    let middle = panels.first().zip(panels.last()).map_or(0.0, |(first, last)| first.y.end.midpoint(last.y.start));
    let last = x_name.len().saturating_sub(1);
    for (line, name) in x_name.iter().enumerate() {
        let name = added.filter(|_| line == last).map_or_else(|| name.clone(), |base| format!("{name} ({})", scale::added(base)));
        let at = (from.midpoint(to), base + NAME_ROW * (line as f64 + 1.0) - 2.0);
        scene.text(Label::new(at, &text::fitted(&name, AXIS_NAME, scene.width - 2.0 * MARGIN), AXIS_NAME, TEXT, Anchor::Middle));
    }
    for (line, name) in y_name.iter().enumerate() {
        // A picture may be lower than its name is long.
        let name = text::fitted(name, AXIS_NAME, 2.0 * (middle - top).min(base - middle));
        let at = (MARGIN + AXIS_NAME * 0.8 + NAME_ROW * line as f64, middle);
        scene.text(Label { turned: true, ..Label::new(at, &name, AXIS_NAME, TEXT, Anchor::Middle) });
    }
    let end = base + NAME_ROW * x_name.len() as f64 + 4.0;
    if !settings.has_height() {
        shorten(scene, end + note_height + MARGIN);
    }
    footer(scene, &note);
    Ok(panels)
}

/// The room that the names of rows of panels take to the right of them.
pub(crate) fn row_room(row_names: &[String]) -> f64 {
    if row_names.is_empty() { 0.0 } else { HEADING + 8.0 }
}

/// The lines of a figure's note.
pub(crate) fn note_lines(settings: &Settings, note: &str, width: f64) -> Vec<String> {
    if settings.note { text::wrapped(note, NOTE, width - 2.0 * MARGIN, 4) } else { Vec::new() }
}

/// The height of a note.
pub(crate) fn note_height(note: &[String]) -> f64 {
    if note.is_empty() { 0.0 } else { note.len() as f64 * (NOTE + 3.0) + 5.0 }
}

/// The note at the bottom.
pub(crate) fn footer(scene: &mut Scene, note: &[String]) {
    let mut at = scene.height - MARGIN + 3.0;
    for line in note.iter().rev() {
        scene.text(Label::new((scene.width - MARGIN, at), line, NOTE, MUTED, Anchor::End));
        at -= NOTE + 3.0;
    }
}

/// Ends a scene above what it does not need.
pub(crate) fn shorten(scene: &mut Scene, height: f64) {
    scene.height = height.ceil().min(scene.height);
    let whole = (scene.width, scene.height);
    if let Some(Shape::Rectangle { to, .. }) = scene.shapes.first_mut() {
        *to = whole;
    }
}

impl Grid {
    fn within(self, width: f64, height: f64) -> (f64, f64) {
        let (across, down) = (self.across.max(1) as f64, self.down.max(1) as f64);
        let height = height.min(down * self.highest);
        match self.square {
            true => {
                let side = (width / across).min(height / down);
                // A row or two of many cells would be a hair: these need not be square.
                (side * across, (side * down).max((down * LEAST_ROW).min(LEAST_ROW * 3.0).min(height)))
            }
            false => (width, height),
        }
    }
}

/// A panel's name on the left and its remark on the right, or below where there is no room next to it.
struct Heading {
    name: Vec<String>,
    remark: String,
    together: bool,
}

impl Heading {
    fn of(name: &str, remark: &str, width: f64) -> Self {
        let remark = text::fitted(remark, REMARK, width);
        let room = width - text::width(&remark, REMARK, false) - 10.0;
        let together = name.is_empty() || remark.is_empty() || text::width(name, HEADING, true) <= room;
        // Bold letters are wider than the plain ones that `wrapped` measures.
        Self { name: text::wrapped(name, HEADING, width * 0.88, 3), remark, together }
    }

    fn lines(&self) -> usize {
        let remark = usize::from(!self.remark.is_empty());
        if self.together { self.name.len().max(remark) } else { self.name.len() + remark }
    }

    /// The last line on the baseline `y`.
    fn draw(&self, scene: &mut Scene, (from, to): (f64, f64), y: f64) {
        let name_end = if self.together { y } else { y - HEADING_ROW };
        for (up, line) in self.name.iter().rev().enumerate() {
            let at = (from, name_end - HEADING_ROW * up as f64);
            scene.text(Label { bold: true, ..Label::new(at, line, HEADING, TEXT, Anchor::Start) });
        }
        scene.text(Label::new((to, y), &self.remark, REMARK, MUTED, Anchor::End));
    }
}

/// Panels in a row: up to three stand in one, more in a grid that leaves few places empty.
pub(crate) fn panels_per_row(panels: usize) -> usize {
    let choices: &[usize] = match panels {
        0..=3 => return panels.max(1),
        4 => return 2,
        5..=9 => return 3,
        10..=20 => &[4, 5],
        21..=36 => &[6, 5],
        _ => &[8, 7, 6],
    };
    least_empty(panels, choices)
}

/// Of these numbers of columns, the first that leaves the fewest places empty.
pub(crate) fn least_empty(panels: usize, choices: &[usize]) -> usize {
    choices.iter().copied().min_by_key(|&columns| (columns - panels % columns) % columns).unwrap_or(1)
}

/// Title and legend; returns where the panels may begin.
pub(crate) fn header(scene: &mut Scene, settings: &Settings, legend: Option<&Legend>) -> f64 {
    let mut y = MARGIN;
    let lines = settings.title_lines(scene.width);
    for line in &lines {
        scene.text(Label { bold: true, ..Label::new((MARGIN + 2.0, y + TITLE * 0.85), line, TITLE, TEXT, Anchor::Start) });
        y += TITLE + 4.0;
    }
    if !lines.is_empty() {
        y += 6.0;
    }
    legend.map_or(y + 4.0, |legend| legend::draw(scene, legend, y))
}
