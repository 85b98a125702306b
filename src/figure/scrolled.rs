//! A heat map of texts as an HTML table that scrolls below its heads, for notebooks: what no page is wide or high enough for.

use std::collections::HashMap;

use super::cells::{Cell, Cells, visible};
use super::heat::HeatMap;
use crate::display::{escape, shortened};
use crate::plot::colour_bar::{Bar, on};
use crate::plot::ramp::Ramp;
use crate::plot::scene::Colour;
use crate::plot::text::printable;

/// The height beyond which the table scrolls below its heads. JupyterLab drops what holds the heads (`sticky`) where it does not trust a notebook, and this height, which
/// is no plain length, with it: there the table is as high as it is, and its heads stand above it as in any other.
const HIGH: &str = "min(480px,90vh)";
/// The most bytes: a notebook cuts more than 400,000.
const BYTES: usize = 340_000;
/// The most letters of a cell, and of a line that is said of it.
const LETTERS: usize = 24;
const SAID: usize = 60;
/// The ground of heads, which text shines through otherwise.
const HEAD: Colour = Colour::hex(0xECECEC);

/// One panel, or all pieces of one, as rows of cells.
struct Sheet<'a> {
    name: &'a str,
    heads: Vec<String>,
    cells: HashMap<(usize, usize), &'a Cell>,
}

/// The table; `None` where even a few columns are too much for a notebook.
pub(super) fn table(map: &HeatMap, data: &Cells, ramp: &Ramp, name: &str, note: &str) -> Option<String> {
    let sheets = sheets(data);
    let title = map.settings.title.as_ref().map_or_else(String::new, |title| format!("<div><b>{}</b></div>\n", escape(title)));
    let columns = sheets.iter().map(|sheet| sheet.heads.len()).max().unwrap_or(0);
    // What is too long is said shorter, and then the first places are left out.
    let attempts = [(columns, true), (columns, false)].into_iter().chain([2, 4, 8, 16, 32].map(|part| (columns.div_ceil(part), false)));
    attempts.into_iter().find_map(|(most, besides)| {
        let tables: String = sheets.iter().map(|sheet| sheet.html(map, data, ramp, most, besides)).collect();
        let left = (most < columns)
            .then(|| format!("the last {most} of {columns} along {}; all are in `png()` and `svg()`", map.settings.x_name(&map.columns.x)));
        let note = [Some(note.to_owned()).filter(|note| !note.is_empty() && map.settings.note), left]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("; ");
        let note = if note.is_empty() { note } else { format!("<small>{}</small>\n", escape(&note)) };
        let whole = format!("{title}{}{tables}{note}", Bar::new(*ramp, name.to_owned()).html());
        (whole.len() <= BYTES).then_some(whole)
    })
}

fn sheets(data: &Cells) -> Vec<Sheet<'_>> {
    let mut sheets: Vec<Sheet<'_>> = Vec::new();
    let each = data.pieces.first().map_or(0, |piece| piece.len());
    for (panel, name) in data.panels.iter().enumerate() {
        let own = data.cells.iter().filter(|cell| cell.panel == panel);
        // Pieces stand below each other in a picture only.
        match sheets.first_mut().filter(|_| each > 0) {
            Some(sheet) => {
                sheet.heads.extend(data.across(panel).labels());
                sheet.cells.extend(own.map(|cell| ((cell.y, panel * each + cell.x), cell)));
            }
            None => {
                let name = if each > 0 { "" } else { name };
                sheets.push(Sheet { name, heads: data.across(panel).labels(), cells: own.map(|cell| ((cell.y, cell.x), cell)).collect() });
            }
        }
    }
    sheets
}

impl Sheet<'_> {
    /// The last `most` columns.
    fn html(&self, map: &HeatMap, data: &Cells, ramp: &Ramp, most: usize, besides: bool) -> String {
        let (x_name, y_name) = (map.settings.x_name(&map.columns.x), map.settings.y_name(&map.columns.y));
        let first = self.heads.len().saturating_sub(most);
        let head = |place: &str, title: &str, text: &str| {
            let title = if title.is_empty() { String::new() } else { format!(" title=\"{}\"", escape(title)) };
            format!("<th style=\"position:sticky;{place};{};white-space:pre\"{title}>{}</th>", on(HEAD), escape(&shortened(text, LETTERS)))
        };
        let mut out = if self.name.is_empty() { String::new() } else { format!("<div><b>{}</b></div>\n", escape(self.name)) };
        out.push_str(&format!("<div style=\"overflow:auto;max-height:{HIGH}\"><table style=\"border-spacing:1px\">\n<thead><tr>"));
        out.push_str(&head("top:0;left:0;z-index:2", "", &y_name));
        self.heads[first..].iter().for_each(|text| out.push_str(&head("top:0;z-index:1", text, text)));
        out.push_str("</tr></thead>\n<tbody>\n");
        let rows = data.y.labels();
        for place in 0..rows.len() {
            let y = if map.upwards(data) { rows.len() - 1 - place } else { place };
            out.push_str(&format!("<tr>{}", head("left:0;z-index:1", "", &rows[y])));
            for x in first..self.heads.len() {
                let Some(cell) = self.cells.get(&(y, x)) else {
                    out.push_str("<td></td>");
                    continue;
                };
                let said = if besides { map.said(cell) } else { map.said(&Cell { besides: String::new(), ..(*cell).clone() }) };
                let title = format!("{y_name} {}, {x_name} {}\n{said}", rows[y], self.heads[x]);
                let title: Vec<String> = title.split('\n').map(|line| shortened(&printable(line), SAID)).collect();
                out.push_str(&format!(
                    "<td style=\"{};white-space:pre\" title=\"{}\">{}</td>",
                    on(ramp.colour(cell.value)),
                    escape(&title.join("\n")).replace('\n', "&#10;"),
                    escape(&shortened(&printable(&visible(&cell.text)), LETTERS))
                ));
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody></table></div>\n");
        out
    }
}
