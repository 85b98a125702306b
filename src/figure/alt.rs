//! What a chart shows, in words: for screen readers, for plain text, and where pictures are not shown.

use super::chart::{Chart, Marks};
use super::data::{Cell, Data};
use super::{note, points, violins};
use crate::display;
use crate::plot::reference::Reference;
use crate::plot::scale::{self, shown};
use crate::sample::mean;

/// Groups described one by one; a longer list helps nobody who listens.
const DESCRIBED: usize = 12;

/// The chart's kind, axes, groups with their ranges, and what was left out.
pub(super) fn text(chart: &Chart, data: &Data) -> String {
    let (kind, one) = match chart.marks {
        Marks::Lines => ("Line chart", "one line"),
        Marks::Bars => ("Bar chart", "one bar"),
        Marks::Points => ("Scatter plot", "one colour"),
        Marks::Violins => ("Violin plot", "one violin"),
    };
    let (columns, settings) = (&chart.columns, &chart.settings);
    let ys: Vec<String> = match (&columns.also[..], &columns.own_panels[..]) {
        ([], []) => vec![settings.y_name(&columns.y)],
        (also, beside) => [&columns.y].into_iter().chain(also).chain(beside).map(|name| settings.name(name)).collect(),
    };
    let mut out = settings.sentence();
    out.push_str(&format!("{kind} of {} over {} ({})", ys.join(" and "), settings.x_name(&columns.x), data.along.described()));
    if let Some(colour) = columns.colour.as_deref().filter(|_| data.groups.len() > 1 && !chart.colour_is_x()) {
        out.push_str(&format!(", {one} per {}", settings.name(colour)));
    }
    out.push_str(&format!("{}. ", settings.panels()));
    let there = described(chart, data);
    out.push_str(&listed(there));
    if chart.fit {
        let remarks: Vec<String> = data.panels.iter().zip(points::remarks(data)).map(|(panel, remark)| joined(&[panel, &remark])).collect();
        out.push_str(&format!(" {}.", remarks.join("; ")));
    }
    if !chart.references.is_empty() {
        let lines: Vec<String> = chart.references.iter().map(Reference::words).collect();
        out.push_str(&format!(" Grey: {}.", lines.join("; ")));
    }
    let note = note::text(chart, data);
    if !note.is_empty() {
        out.push_str(&format!(" ({note})"));
    }
    out
}

/// Phrases as one sentence, a long list cut.
pub(super) fn listed(phrases: Vec<String>) -> String {
    let all = phrases.len();
    let shown: Vec<String> = phrases.into_iter().take(DESCRIBED).collect();
    let more = display::more(all, DESCRIBED, "group").map_or_else(|| ".".to_owned(), |more| format!("; {more}."));
    format!("{}{more}", shown.join("; "))
}

fn joined(names: &[&str]) -> String {
    names.iter().copied().filter(|name| !name.is_empty()).collect::<Vec<_>>().join(", ")
}

/// Each group's values; a violin's by place, because that is what violins compare.
fn described(chart: &Chart, data: &Data) -> Vec<String> {
    let mut out = Vec::new();
    for (panel, panel_name) in data.panels.iter().enumerate() {
        for (group, group_name) in data.groups.iter().enumerate() {
            let cells = data.series(panel, group);
            match chart.marks {
                _ if cells.is_empty() => {}
                // Bars in one colour are told apart by their places.
                Marks::Bars if group_name.is_empty() && cells.len() <= DESCRIBED => {
                    let labels = data.along.labels();
                    out.extend(cells.iter().map(|cell| phrase(&joined(&[panel_name, &labels[cell.at]]), &[cell.mean])));
                }
                Marks::Lines | Marks::Bars => {
                    let means: Vec<f64> = cells.iter().map(|cell| cell.mean).collect();
                    out.push(phrase(&joined(&[panel_name, group_name]), &means));
                }
                Marks::Points => out.push(phrase(&joined(&[panel_name, group_name]), &pooled(&cells))),
                Marks::Violins => {
                    let labels = data.along.labels();
                    let group_name = if chart.colour_is_x() { "" } else { group_name };
                    out.extend(cells.iter().map(|cell| {
                        let mut values = cell.values.clone();
                        values.sort_by(f64::total_cmp);
                        let name = joined(&[panel_name, &labels[cell.at], group_name]);
                        format!("{}, median {}", phrase(&name, &values), shown(violins::median(&values)))
                    }));
                }
            }
        }
    }
    out
}

fn pooled(cells: &[&Cell]) -> Vec<f64> {
    cells.iter().flat_map(|cell| cell.values.iter().copied()).collect()
}

/// The range and the mean of values.
pub(super) fn phrase(name: &str, values: &[f64]) -> String {
    let (least, greatest) = scale::extent(values.iter().copied());
    let text = match values {
        [only] => shown(*only),
        _ => format!("{} to {}, mean {}", shown(least), shown(greatest), shown(mean(values))),
    };
    if name.is_empty() { text } else { format!("{name}: {text}") }
}
