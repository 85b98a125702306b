//! What a heat map says: the note below it, the titles of its cells, its description.

use std::collections::BTreeMap;

use super::alt;
use super::cells::{Cell, Cells, visible};
use super::heat::HeatMap;
use crate::plot::layout::Panel;
use crate::plot::ramp::Ramp;
use crate::plot::scale::shown;
use crate::plot::scene::Scene;

/// The most cells, or blocks of cells, that say what they are.
const MOST_SAID: usize = 600;

impl HeatMap {
    /// What the cells are and what was left out; `parts` come first.
    pub(super) fn remark(&self, data: &Cells, ramps: &[Ramp], mut parts: Vec<String>) -> String {
        let all: usize = (0..data.panels.len()).map(|panel| data.across(panel).len() * data.y.len()).sum();
        let bins = [(data.binned.0, &self.columns.x), (data.binned.1, &self.columns.y)].into_iter().filter(|(each, _)| *each > 1);
        let bins: Vec<String> = bins.map(|(each, column)| format!("{each} values of {}", self.settings.name(column))).collect();
        if !bins.is_empty() {
            parts.push(format!("each cell: the mean of {}, named by the first", bins.join(" and ")));
        } else if data.rows > 1 {
            parts.push(format!("means of up to {} rows", data.rows));
        }
        if all > data.cells.len() && !self.empty.is_empty() {
            parts.push(format!("grey: {} ({} of {all} cells)", self.empty, all - data.cells.len()));
        }
        for ramp in ramps {
            let own = data.cells.iter().filter(|cell| std::ptr::eq(self.ramp_of(ramps, cell.panel), ramp));
            parts.extend(ramp.outside(own.map(|cell| cell.value)));
        }
        match data.skipped {
            0 => {}
            1 => parts.push("1 row without numbers left out".to_owned()),
            rows => parts.push(format!("{rows} rows without numbers left out")),
        }
        parts.extend(data.page.clone());
        parts.join("; ")
    }

    /// A cell with text, in words.
    pub(super) fn said(&self, cell: &Cell) -> String {
        format!("{}, {}{}", visible(&cell.text), shown(cell.value), cell.besides)
    }

    /// What each cell is, or of many the cells of each block.
    pub(super) fn hover(&self, scene: &mut Scene, data: &Cells, panels: &[Panel]) {
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
            let said = match (&self.columns.text, &cells[..]) {
                (Some(_), [cell]) => self.said(cell),
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

    pub(super) fn alt(&self, data: &Cells, name: &str, note: &str) -> String {
        let title = self.settings.sentence();
        let axes = [(self.settings.x_name(&self.columns.x), &data.x), (self.settings.y_name(&self.columns.y), &data.y)]
            .map(|(name, along)| format!("{name} ({})", along.described()));
        let panels = self.settings.panels();
        let values = |panel: usize| data.cells.iter().filter(move |cell| cell.panel == panel).map(|cell| cell.value).collect::<Vec<_>>();
        let across = data.panels.len() / data.row_names.len().max(1);
        let called = |panel: usize| match data.row_names.get(panel / across) {
            Some(row) if data.panels[panel % across].is_empty() => row.clone(),
            Some(row) => format!("{row}, {}", data.panels[panel % across]),
            None => data.panels[panel].clone(),
        };
        let names: Vec<String> = (0..data.panels.len()).map(called).collect();
        let phrases = names.iter().enumerate().map(|(at, name)| (name, values(at))).filter(|(_, values)| !values.is_empty());
        let mut listed = alt::listed(phrases.map(|(name, values)| alt::phrase(name, &values)).collect());
        if let Some(most) = data.cells.iter().max_by(|a, b| a.value.total_cmp(&b.value)) {
            let (x, y) = (&data.across(most.panel).labels()[most.x], &data.y.labels()[most.y]);
            listed.push_str(&format!(" Greatest at {x}, {y}: {}.", shown(most.value)));
        }
        let note = if note.is_empty() { String::new() } else { format!(" ({note})") };
        format!("{title}Heat map of {name} over {} and {}{panels}. {listed}{note}", axes[0], axes[1])
    }
}
