//! What a chart shows, in words: for screen readers, for plain text, and where pictures are not shown.

use super::chart::{Chart, Marks, spaced};
use super::data::{Along, Cell, Data};
use super::scale;
use crate::display;

/// Groups described one by one; a longer list helps nobody who listens.
const DESCRIBED: usize = 12;

/// The chart's kind, axes, groups with their ranges, and what was left out.
pub(super) fn text(chart: &Chart, data: &Data) -> String {
    let (kind, one) = match chart.marks() {
        Marks::Lines => ("Line chart", "one line"),
        Marks::Bars => ("Bar chart", "one bar"),
    };
    let columns = chart.columns();
    let mut out = chart.title_text().map_or_else(String::new, |title| format!("{title}. "));
    out.push_str(&format!("{kind} of {} over {} ({})", chart.y_name(), chart.x_name(), along(&data.along)));
    if let Some(colour) = columns.colour.as_deref().filter(|_| chart.has_legend(data)) {
        out.push_str(&format!(", {one} per {}", spaced(colour)));
    }
    if let Some(facet) = &columns.facet {
        out.push_str(&format!(", one panel per {}", spaced(facet)));
    }
    out.push('.');
    let all: Vec<(usize, usize)> =
        (0..data.panels.len()).flat_map(|panel| (0..data.groups.len()).map(move |group| (panel, group))).collect();
    let there: Vec<(String, Vec<&Cell>)> = all
        .into_iter()
        .map(|(panel, group)| (name(&data.panels[panel], &data.groups[group]), data.series(panel, group)))
        .filter(|(_, cells)| !cells.is_empty())
        .collect();
    let phrases: Vec<String> = there.iter().take(DESCRIBED).map(|(name, cells)| phrase(name, cells)).collect();
    out.push_str(&format!(" {}", phrases.join("; ")));
    out.push_str(&display::more(there.len(), DESCRIBED, "group").map_or_else(|| ".".to_owned(), |more| format!("; {more}.")));
    let note = chart.spread_note(data, if chart.marks() == Marks::Lines { "bands" } else { "whiskers" });
    if !note.is_empty() {
        out.push_str(&format!(" ({note})"));
    }
    out
}

fn along(along: &Along) -> String {
    match along {
        Along::Numbers(values) => match (values.first(), values.last()) {
            (Some(first), Some(last)) if first < last => format!("{} to {}", number(*first), number(*last)),
            (Some(only), _) => number(*only),
            _ => "nothing".to_owned(),
        },
        Along::Names(names) if names.len() <= DESCRIBED => names.join(", "),
        Along::Names(names) => format!("{} values", names.len()),
    }
}

fn name(panel: &str, group: &str) -> String {
    [panel, group].into_iter().filter(|name| !name.is_empty()).collect::<Vec<_>>().join(", ")
}

fn phrase(name: &str, cells: &[&Cell]) -> String {
    let least = cells.iter().map(|cell| cell.mean).fold(f64::INFINITY, f64::min);
    let greatest = cells.iter().map(|cell| cell.mean).fold(f64::NEG_INFINITY, f64::max);
    let values = match cells {
        [only] => number(only.mean),
        _ => format!(
            "{} to {}, mean {}",
            number(least),
            number(greatest),
            number(cells.iter().map(|cell| cell.mean).sum::<f64>() / cells.len() as f64)
        ),
    };
    if name.is_empty() { values } else { format!("{name}: {values}") }
}

fn number(value: f64) -> String {
    scale::signed(&display::number(value))
}
