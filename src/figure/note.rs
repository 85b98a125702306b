//! What a chart's marks mean and what was left out: the lines below it.

use std::collections::BTreeSet;

use super::chart::{Chart, Marks};
use super::data::Data;
use super::spread::Spread;
use super::{lines, violins};

/// Empty where there is nothing to say.
pub(super) fn text(chart: &Chart, data: &Data) -> String {
    let mut parts = Vec::new();
    let counts = || data.cells.iter().map(|cell| cell.values.len());
    let (fewest, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
    let of = if fewest == most { most.to_string() } else { format!("{fewest} to {most}") };
    let settings = &chart.settings;
    let spread = if chart.has_whiskers() { "whiskers" } else { "bands" };
    let outside = |value: f64| chart.y_range.is_some_and(|(from, to)| !(from..=to).contains(&value));
    let is_cut = data.cells.iter().filter_map(|cell| cell.ends()).flatten().any(|end| end.cut || outside(end.value));
    let cut = match (is_cut, chart.has_whiskers()) {
        (false, _) => "",
        (true, true) => " (without a cap: cut at the end of the scale)",
        (true, false) => " (cut at the end of the scale)",
    };
    match chart.marks {
        Marks::Lines | Marks::Bars => {
            if let Some(error) = &chart.columns.error {
                parts.push(format!("{spread}: ± {}{cut}", settings.name(error)));
            } else if most > 1 && chart.columns.spread == Spread::None {
                parts.push(format!("means of {of} rows"));
            } else if most > 1 {
                parts.push(format!("means of {of} rows, {spread}: {}{cut}", chart.columns.spread.words()));
            }
            if chart.dots && most > 1 {
                parts.push("points: rows".to_owned());
            }
            if let Some(each) = &chart.columns.each {
                parts.push(format!("faint lines: one for each {}", settings.name(each)));
            }
        }
        Marks::Points if chart.fit => parts.push("line: least squares; r: Pearson's correlation".to_owned()),
        Marks::Points if data.has_shares => parts.push("variance: shares explained by x and by y".to_owned()),
        Marks::Points => {}
        Marks::Violins => {
            parts.push(format!("diamond: mean, line: median; density of {of} rows by Gaussian kernels of Silverman's bandwidth"));
            if data.cells.iter().any(|cell| !violins::has_density(&cell.values)) {
                parts.push("points without a density: fewer than 5 rows, or rows without spread".to_owned());
            }
            if chart.dots {
                parts.push("points: rows".to_owned());
            }
        }
    }
    if let Some(marked) = chart.columns.marked.as_deref().filter(|_| data.cells.iter().any(|cell| cell.marked)) {
        let places =
            |panel: usize| data.cells.iter().filter(|cell| cell.marked && cell.panel == panel).map(|cell| cell.at).collect::<BTreeSet<_>>();
        let is_many = (0..data.panels.len()).any(|panel| places(panel).len() > lines::FEW_MARKED);
        let drawn = if is_many { "short dashes on the x axis" } else { "dashed vertical line" };
        parts.push(format!("{drawn}: {}", settings.name(marked)));
    }
    if chart.jitter {
        parts.push("points spread at random along x".to_owned());
    }
    match chart.free {
        _ if data.panels.len() < 2 => {}
        (true, true) => parts.push("each panel has its own axes".to_owned()),
        (true, false) => parts.push("each panel has its own x axis".to_owned()),
        (false, true) => parts.push("each panel has its own y axis".to_owned()),
        (false, false) => {}
    }
    match data.outside {
        0 => {}
        1 => parts.push("1 mean outside the x range left out".to_owned()),
        places => parts.push(format!("{places} means outside the x range left out")),
    }
    parts.extend(data.page.clone());
    let unit = if data.ys > 1 { "value" } else { "row" };
    match data.skipped {
        0 => {}
        1 => parts.push(format!("1 {unit} without numbers left out")),
        rows => parts.push(format!("{rows} {unit}s without numbers left out")),
    }
    parts.join("; ")
}
