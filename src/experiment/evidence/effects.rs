//! Frames of effects, levels and power.

use std::collections::HashMap;

use polars::prelude::*;

use super::gather::{Outcome, Pair, Value, differences, levels, pairs};
use crate::error::Result;
use crate::experiment::Method;
use crate::interrupt;
use crate::random::Random;
use crate::statistics::mixed::mean_of;
use crate::statistics::{self, CrossedMean, MixedModel};

/// Draws of runs and rows of each interval.
pub(super) const DRAWS: usize = 1999;
/// Effects that power is given for, besides the one that was found.
const EFFECTS: [f64; 3] = [0.01, 0.02, 0.05];
pub(super) const POWER: f64 = 0.8;

/// One effect.
pub(super) struct Effect {
    pub method: Method,
    pub value: Value,
    /// What was tested, and N; none over all.
    pub of: Option<(String, usize)>,
    pub mean: CrossedMean,
    pub drawn: Option<(f64, f64)>,
    /// Of the differences: `difference ~ task + (1 | run) + (1 | row)`; none where they are all the same.
    pub mixed: Option<MixedModel>,
    pub unpaired: usize,
}

/// The effects of a method over all evaluations.
pub(super) fn pooled(results: &[Outcome<'_>], baseline: Method, method: Method, level: f64) -> Result<Vec<Effect>> {
    let (pairs, unpaired) = pairs(results, baseline, method);
    let mut effects = Vec::new();
    for value in Value::ALL {
        interrupt::check()?;
        let Some(gathered) = differences(&pairs, value)? else { continue };
        let mean = CrossedMean::of(&gathered.crossing, &gathered.influences, level)?;
        let mut random = Random::new(0, "evidence", value as u64);
        let drawn = gathered.influences.drawn_interval(gathered.influences.deviations(DRAWS, &mut random)?, level)?;
        let mixed = if value.is_mean() { mean_of(&gathered.crossing, &gathered.influences, level)? } else { None };
        effects.push(Effect { method, value, of: None, mean, drawn: Some(drawn), mixed, unpaired });
    }
    Ok(effects)
}

/// The effects of a method on accuracy and smooth ECE, each test and N on its own, where it has two runs.
pub(super) fn apart(results: &[Outcome<'_>], baseline: Method, method: Method, level: f64) -> Result<Vec<Effect>> {
    let (pairs, _) = pairs(results, baseline, method);
    let mut order: Vec<(String, usize)> = Vec::new();
    let mut groups: HashMap<(String, usize), Vec<Pair<'_>>> = HashMap::new();
    for pair in pairs {
        let row = pair.1.row;
        let name = (format!("{} → {}", row.run().task, row.evaluated_on()), row.run().n);
        if !groups.contains_key(&name) {
            order.push(name.clone());
        }
        groups.entry(name).or_default().push(pair);
    }
    let mut effects = Vec::new();
    for name in order {
        let group = groups.remove(&name).unwrap_or_default();
        let several = group.iter().any(|pair| pair.1.row.run().run != group[0].1.row.run().run);
        for value in [Value::Accuracy, Value::SmoothEce].into_iter().filter(|_| several) {
            interrupt::check()?;
            let Some(gathered) = differences(&group, value)? else { continue };
            let mean = CrossedMean::of(&gathered.crossing, &gathered.influences, level)?;
            effects.push(Effect { method, value, of: Some(name.clone()), mean, drawn: None, mixed: None, unpaired: 0 });
        }
    }
    Ok(effects)
}

/// Effects as a frame, corrected over all of its rows.
pub(super) fn frame(effects: &[Effect], baseline: Method) -> Result<DataFrame> {
    let number = |of: &dyn Fn(&Effect) -> f64| effects.iter().map(of).collect::<Vec<f64>>();
    let maybe = |of: &dyn Fn(&Effect) -> Option<f64>| effects.iter().map(of).collect::<Vec<Option<f64>>>();
    let count = |of: &dyn Fn(&Effect) -> usize| effects.iter().map(|effect| of(effect) as u32).collect::<Vec<u32>>();
    let p = number(&|effect| effect.mean.p);
    let mixed = |column: &str| maybe(&|effect| effect.mixed.as_ref()?.first(column));
    let deviation = |of: fn(&MixedModel) -> f64| maybe(&|effect| effect.mixed.as_ref().map(of));
    let mixed_p = mixed("p");
    let mixed_holm = statistics::holm_of_defined(&mixed_p)?;
    let mut columns = vec![
        Column::new("method".into(), effects.iter().map(|effect| effect.method.name()).collect::<Vec<_>>()),
        Column::new("baseline".into(), vec![baseline.name(); effects.len()]),
        Column::new("value".into(), effects.iter().map(|effect| effect.value.name()).collect::<Vec<_>>()),
    ];
    if effects.iter().any(|effect| effect.of.is_some()) {
        let of = |effect: &Effect| effect.of.clone().unwrap_or_default();
        columns.push(Column::new("evaluation".into(), effects.iter().map(|effect| of(effect).0).collect::<Vec<_>>()));
        columns.push(Column::new("n".into(), effects.iter().map(|effect| of(effect).1 as u32).collect::<Vec<_>>()));
    }
    columns.extend([
        Column::new("difference".into(), number(&|effect| effect.mean.mean)),
        Column::new("lower".into(), number(&|effect| effect.mean.lower)),
        Column::new("upper".into(), number(&|effect| effect.mean.upper)),
        Column::new("error".into(), number(&|effect| effect.mean.error)),
        Column::new("degrees".into(), number(&|effect| effect.mean.degrees)),
        Column::new("p".into(), p.clone()),
        Column::new("p_holm".into(), statistics::holm(&p)?),
    ]);
    if effects.iter().any(|effect| effect.drawn.is_some()) {
        columns.extend([
            Column::new("drawn_lower".into(), maybe(&|effect| effect.drawn.map(|drawn| drawn.0))),
            Column::new("drawn_upper".into(), maybe(&|effect| effect.drawn.map(|drawn| drawn.1))),
            Column::new("mixed_difference".into(), mixed("estimate")),
            Column::new("mixed_lower".into(), mixed("lower")),
            Column::new("mixed_upper".into(), mixed("upper")),
            Column::new("mixed_p".into(), mixed_p),
            Column::new("mixed_p_holm".into(), mixed_holm),
            Column::new("run_deviation".into(), deviation(|mixed| mixed.run_deviation)),
            Column::new("row_deviation".into(), deviation(|mixed| mixed.row_deviation)),
            Column::new("rest_deviation".into(), deviation(|mixed| mixed.rest_deviation)),
        ]);
    }
    columns.extend([
        Column::new("strata".into(), count(&|effect| effect.mean.strata)),
        Column::new("runs".into(), count(&|effect| effect.mean.runs)),
        Column::new("rows".into(), count(&|effect| if effect.value.is_mean() { effect.mean.rows } else { 0 })),
        Column::new("unpaired".into(), count(&|effect| effect.unpaired)),
    ]);
    Ok(DataFrame::new(effects.len(), columns)?)
}

/// What each method reaches, one row each.
pub(super) fn of_methods(results: &[Outcome<'_>], methods: &[Method], level: f64) -> Result<DataFrame> {
    let mut columns: Vec<(String, Vec<Option<f64>>)> = Vec::new();
    let mut put = |name: String, at: usize, value: Option<f64>| match columns.iter_mut().find(|(own, _)| *own == name) {
        Some((_, values)) => values[at] = value,
        None => {
            let mut values = vec![None; methods.len()];
            values[at] = value;
            columns.push((name, values));
        }
    };
    let (mut counts, mut evaluations) = (Vec::new(), Vec::new());
    for (at, &method) in methods.iter().enumerate() {
        interrupt::check()?;
        let own: Vec<Outcome<'_>> = results.iter().filter(|result| result.row.run().method == method).copied().collect();
        counts.push(own.len() as u32);
        evaluations.push(0);
        for value in Value::ALL {
            let found = levels(&own, value)?.map(|found| CrossedMean::of(&found.crossing, &found.influences, level)).transpose()?;
            if let (Value::Accuracy, Some(found)) = (value, &found) {
                evaluations[at] = found.strata as u32;
            }
            // No mean lies outside its range, whatever t says.
            let most = match value {
                Value::Brier => 2.0,
                Value::Augrc => 0.5,
                _ => 1.0,
            };
            let root = value == Value::DebiasedSquare;
            let shown = |number: f64| if root { number.clamp(0.0, 1.0).sqrt() } else { number.clamp(0.0, most) };
            let name = if root { "debiased_ce_15" } else { value.name() };
            put(name.into(), at, found.as_ref().map(|found| shown(found.mean)));
            put(format!("{name}_lower"), at, found.as_ref().map(|found| shown(found.lower)));
            put(format!("{name}_upper"), at, found.as_ref().map(|found| shown(found.upper)));
        }
        for (name, value) in super::parts::of(&own)? {
            put(name.into(), at, value);
        }
    }
    let mut frame =
        df!("method" => methods.iter().map(|method| method.name()).collect::<Vec<_>>(), "results" => counts, "evaluations" => evaluations)?;
    for (name, values) in columns {
        frame.with_column(Column::new(name.into(), values))?;
    }
    Ok(frame)
}

/// What further studies would need, for each effect on accuracy.
pub(super) fn power(effects: &[Effect]) -> Result<DataFrame> {
    let (mut methods, mut sizes, mut found, mut chances) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut runs, mut rows, mut least) = (Vec::new(), Vec::new(), Vec::new());
    for effect in effects.iter().filter(|effect| effect.value == Value::Accuracy) {
        interrupt::check()?;
        let mean = &effect.mean;
        let own = mean.mean.abs();
        let detectable = mean.detectable(POWER)?;
        for (size, is_own) in EFFECTS.into_iter().map(|size| (size, false)).chain((own > 1e-9).then_some((own, true))) {
            methods.push(effect.method.name());
            sizes.push(size);
            found.push(is_own);
            chances.push(mean.power(size, mean.runs_each.round().max(2.0) as usize, mean.rows_each.round().max(1.0) as usize)?);
            runs.push(mean.runs_needed(size, POWER)?.map(|runs| runs as u32));
            rows.push(mean.rows_needed(size, POWER)?.map(|rows| rows as u32));
            least.push(detectable);
        }
    }
    Ok(df!(
        "method" => methods, "effect" => sizes, "found" => found, "power" => chances, "runs_needed" => runs, "rows_needed" => rows, "detectable" => least,
    )?)
}
