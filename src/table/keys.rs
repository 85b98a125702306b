//! Columns that name things (methods, tasks, runs) and in which order tables and figures show them.

use std::collections::HashMap;

use polars::prelude::*;

use crate::display;
use crate::error::Result;
use crate::method::Method;

/// A number, NaN where there is none; true counts as 1.
pub(crate) fn number(value: &AnyValue<'_>) -> f64 {
    match value {
        AnyValue::Boolean(value) => f64::from(u8::from(*value)),
        value => value.extract::<f64>().unwrap_or(f64::NAN),
    }
}

/// A value as a person writes it.
pub(crate) fn text(value: &AnyValue<'_>) -> String {
    match value {
        AnyValue::String(text) => (*text).to_owned(),
        AnyValue::StringOwned(text) => text.to_string(),
        value if value.is_primitive_numeric() => display::number(number(value)),
        value => value.to_string(),
    }
}

/// The distinct values of a column as names, and each row's index among them. The names in `order` stand first, then the paper's methods in
/// their order, then the others: numbers ascend, others come as they appear. However a method is spelled, it has one name.
pub(crate) fn names(column: &Column, order: &[String]) -> Result<(Vec<String>, Vec<usize>)> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut distinct: Vec<(String, f64)> = Vec::new();
    let mut rows = Vec::with_capacity(column.len());
    for row in 0..column.len() {
        let value = column.get(row)?;
        let text = Method::canonical(&text(&value)).into_owned();
        let index = *seen.entry(text.clone()).or_insert_with(|| {
            distinct.push((text, number(&value)));
            distinct.len() - 1
        });
        rows.push(index);
    }
    let mut sorted: Vec<usize> = (0..distinct.len()).collect();
    if column.dtype().is_primitive_numeric() {
        sorted.sort_by(|&a, &b| distinct[a].1.total_cmp(&distinct[b].1));
    }
    let listed = |name: &str| order.iter().position(|other| Method::canonical(other) == name).unwrap_or(order.len());
    sorted.sort_by_key(|&index| (listed(&distinct[index].0), Method::place(&distinct[index].0).unwrap_or(usize::MAX)));
    let mut rank = vec![0; sorted.len()];
    sorted.iter().enumerate().for_each(|(place, &index)| rank[index] = place);
    let rows = rows.into_iter().map(|index| rank[index]).collect();
    Ok((sorted.into_iter().map(|index| std::mem::take(&mut distinct[index].0)).collect(), rows))
}
