//! What a chart cannot draw: settings that its marks do not have, values that its axes cannot show.

use super::chart::{Chart, Marks};
use super::data::Data;
use super::spread::Spread;
use crate::error::{Error, Result};
use crate::plot::along::Along;
use crate::plot::scale::Steps;

/// # Errors
/// A setting that these marks do not have, or is out of bounds.
pub(super) fn settings(chart: &Chart) -> Result<()> {
    if let Some((from, to)) = chart.y_range
        && (!from.is_finite() || !to.is_finite() || from >= to || chart.y_steps != Steps::Linear && from <= 0.0)
    {
        let positive = if chart.y_steps == Steps::Linear { "" } else { "positive " };
        return Err(Error::input(format!("figure: the range of y must be two ascending {positive}numbers, not {from} and {to}")));
    }
    chart.columns.spread.check()?;
    if let Some((from, to)) = chart.x_range
        && (!from.is_finite() || !to.is_finite() || from >= to || chart.x_steps != Steps::Linear && from <= 0.0)
    {
        let positive = if chart.x_steps == Steps::Linear { "" } else { "positive " };
        return Err(Error::input(format!("figure: the range of x must be two ascending {positive}numbers, not {from} and {to}")));
    }
    if let Some(opacity) = chart.opacity.filter(|opacity| !(*opacity > 0.0 && *opacity <= 1.0)) {
        return Err(Error::input(format!("figure: an opacity lies above 0 and is at most 1, not {opacity}")));
    }
    if let Some(line) = chart.references.iter().find(|line| !line.from.is_finite() || !line.to.is_finite() || line.from > line.to) {
        let (from, to) = (line.from, line.to);
        return Err(Error::input(format!(
            "figure: the reference `{}` needs a number or two ascending ones, not {from} and {to}",
            line.name
        )));
    }
    let slots = matches!(chart.marks, Marks::Bars | Marks::Violins);
    let (marks, (logs, spread)) = match chart.marks {
        Marks::Lines => ("lines", (true, true)),
        Marks::Bars => ("bars", (false, true)),
        Marks::Points => ("points", (true, false)),
        Marks::Violins => ("violins", (false, false)),
    };
    let refused = [
        (!logs && (chart.x_steps, chart.y_steps) != (Steps::Linear, Steps::Linear), "no axis of logarithms"),
        (!spread && chart.columns.error.is_some(), "no error column: they show every row"),
        (chart.fit && chart.marks != Marks::Points, "no fitted line"),
        (chart.fit && (chart.x_steps, chart.y_steps) != (Steps::Linear, Steps::Linear), "no fitted line on axes of logarithms"),
        (slots && chart.x_range.is_some(), "no range of x: they stand side by side"),
        (slots && chart.free.0, "no free x axis: they stand side by side"),
        (slots && chart.references.iter().any(|line| line.upright), "no reference at an x: they stand side by side"),
        (!slots && chart.dots, "no points over them: that is for bars and violins"),
        (chart.jitter && chart.marks != Marks::Points, "no jitter: their points have it (`dots`)"),
        (chart.opacity.is_some() && chart.marks != Marks::Points, "no opacity"),
        (chart.columns.each.is_some() && chart.marks != Marks::Lines, "no line for each run"),
        (chart.columns.spread != Spread::Sd && chart.columns.error.is_some(), "either an error column or a choice of spread"),
        (chart.columns.spread != Spread::Sd && !spread, "no choice of spread: they show every row"),
        (chart.whiskers && chart.marks != Marks::Lines, "no choice of whiskers"),
        (chart.columns.marked.is_some() && chart.marks != Marks::Lines, "no marked column"),
    ];
    match refused.into_iter().find(|(refused, _)| *refused) {
        Some((_, what)) => Err(Error::input(format!("figure: {marks} have {what}"))),
        None => Ok(()),
    }
}

/// # Errors
/// A value that the axes cannot show.
pub(super) fn values(chart: &Chart, data: &Data) -> Result<()> {
    if chart.fit && matches!(data.along, Along::Names(_)) {
        return Err(Error::input(format!("figure: a fitted line needs numbers along x, column `{}` holds names", chart.columns.x)));
    }
    let wrong = |column: &str, value: f64| {
        Err(Error::input(format!("figure: column `{column}` has {value}, which an axis of logarithms cannot show: filter the frame first")))
    };
    let xs = data.cells.iter().map(|cell| data.x(cell)).find(|x| *x <= 0.0);
    let ys = data.cells.iter().flat_map(|cell| &cell.values).find(|y| **y <= 0.0);
    match (xs, ys) {
        (Some(x), _) if chart.x_steps != Steps::Linear => wrong(&chart.columns.x, x),
        (_, Some(&y)) if chart.y_steps != Steps::Linear => wrong(&chart.columns.y, y),
        _ => Ok(()),
    }
}
