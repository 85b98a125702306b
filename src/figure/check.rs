//! What a chart cannot draw: settings that its marks do not have, values that its axes cannot show.

use super::chart::{Chart, Marks};
use super::data::Data;
use super::read::Along;
use super::scale::Steps;
use crate::error::{Error, Result};

/// # Errors
/// A setting that these marks do not have, or is out of bounds.
pub(super) fn settings(chart: &Chart) -> Result<()> {
    if let Some((from, to)) = chart.y_range
        && (!from.is_finite() || !to.is_finite() || from >= to || chart.y_steps != Steps::Linear && from <= 0.0)
    {
        let positive = if chart.y_steps == Steps::Linear { "" } else { "positive " };
        return Err(Error::input(format!("figure: the range of y must be two ascending {positive}numbers, not {from} and {to}")));
    }
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
