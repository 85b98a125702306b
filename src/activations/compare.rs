//! Activations against activations: any measure over layers and methods, as frames.

use polars::prelude::*;
use tch::{Kind, Tensor};

use super::Activations;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::libtorch::guarded;
use crate::similarity::{Measure, Representation};

/// Which vector of each example a measure compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// The first captured token's; at response positions the decode position, whose input two models share.
    First,
    /// The last captured token's.
    Last,
    /// The mean over an example's captured tokens.
    Mean,
    /// Every captured token as an example of its own; both sides must have the same lengths.
    Each,
}

impl Activations {
    /// The vectors of one layer, `[example, hidden]` (for [`Tokens::Each`] `[token, hidden]`), ready for any measure; `layer` is the
    /// place in [`Activations::hook_points`].
    ///
    /// # Errors
    /// There is no such layer, an example has no tokens, or there are too few examples.
    pub fn representation(&self, layer: usize, tokens: Tokens) -> Result<Representation> {
        guarded("reading a representation", || {
            if layer >= self.hook_points.len() {
                return Err(Error::input(format!("layer {layer} does not exist: there are {}", self.hook_points.len())));
            }
            if let Some(example) = self.lengths.iter().position(|length| *length == 0) {
                return Err(Error::input(format!(
                    "example {example} has no captured tokens, so that there is nothing to compare: drop it"
                )));
            }
            let values = self.rows.at(layer as i64)?.gather()?;
            let vectors = match tokens {
                Tokens::First => values.select(1, 0),
                Tokens::Last => self.last(&values),
                Tokens::Mean => {
                    let lengths: Vec<f64> = self.lengths.iter().map(|&length| length as f64).collect();
                    // Zero from an example's length on, so the sum is over its own tokens.
                    let sum = values.sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
                    sum / Tensor::from_slice(&lengths).to_device(values.device()).unsqueeze(1)
                }
                Tokens::Each => {
                    let rows = self.lengths.iter().enumerate();
                    let rows: Vec<Tensor> = rows.map(|(row, &length)| values.get(row as i64).narrow(0, 0, length as i64)).collect();
                    Tensor::cat(&rows, 0)
                }
            };
            Representation::new(&vectors)
        })
    }

    fn last(&self, values: &Tensor) -> Tensor {
        let rows = self.lengths.iter().enumerate();
        let rows: Vec<Tensor> = rows.map(|(row, &length)| values.get(row as i64).get(length as i64 - 1)).collect();
        Tensor::stack(&rows, 0)
    }

    /// `measure` (a name of [`MEASURES`](crate::similarity::MEASURES)) at each layer of both, one row per hook point: `hook_point`, `layer`,
    /// `measure`, `value`.
    ///
    /// # Errors
    /// There is no such measure; the two do not hold the same examples in the same order, positions or hook points; the measure is undefined
    /// at a layer, which is named.
    pub fn compare(&self, other: &Self, measure: &str, tokens: Tokens) -> Result<DataFrame> {
        let measure = Measure::named(measure)?;
        same_points(self, other)?;
        let pairs = (0..self.hook_points.len()).map(|layer| (layer, layer)).collect::<Vec<_>>();
        let values = compared(self, other, tokens, &pairs, measure)?;
        Ok(df!(
            "hook_point" => self.hook_points.clone(),
            "layer" => self.layers(),
            "measure" => vec![measure.name; values.len()],
            "value" => values,
        )?)
    }

    /// `measure` between all layers of this and all layers of the other: `hook_point`, `layer`, `other_hook_point`, `other_layer`, `measure`,
    /// `value`. The two may hold different hook points.
    ///
    /// # Errors
    /// As [`Activations::compare`].
    pub fn compare_layers(&self, other: &Self, measure: &str, tokens: Tokens) -> Result<DataFrame> {
        let measure = Measure::named(measure)?;
        let (rows, columns) = (self.hook_points.len(), other.hook_points.len());
        let pairs = (0..rows * columns).map(|place| (place / columns, place % columns)).collect::<Vec<_>>();
        let values = compared(self, other, tokens, &pairs, measure)?;
        let (layers, others) = (self.layers(), other.layers());
        Ok(df!(
            "hook_point" => pairs.iter().map(|pair| self.hook_points[pair.0].as_str()).collect::<Vec<_>>(),
            "layer" => pairs.iter().map(|pair| layers[pair.0]).collect::<Vec<_>>(),
            "other_hook_point" => pairs.iter().map(|pair| other.hook_points[pair.1].as_str()).collect::<Vec<_>>(),
            "other_layer" => pairs.iter().map(|pair| others[pair.1]).collect::<Vec<_>>(),
            "measure" => vec![measure.name; pairs.len()],
            "value" => values,
        )?)
    }
}

/// `measure` between all pairs of methods at each layer: `method`, `other_method`, `hook_point`, `layer`, `measure`, `value`; every ordered
/// pair, a method with itself included.
///
/// # Errors
/// No methods, or as [`Activations::compare`].
pub fn compare_methods(methods: &[(&str, &Activations)], measure: &str, tokens: Tokens) -> Result<DataFrame> {
    interrupt::during(COMPARING, || all_pairs(methods, measure, tokens))
}

/// What a comparison is called.
const COMPARING: &str = "comparing activations";

fn compared(a: &Activations, b: &Activations, tokens: Tokens, pairs: &[(usize, usize)], measure: &Measure) -> Result<Vec<f64>> {
    interrupt::during(COMPARING, || values(&matched(a, b, tokens)?, pairs, measure))
}

fn all_pairs(methods: &[(&str, &Activations)], measure: &str, tokens: Tokens) -> Result<DataFrame> {
    let measure = Measure::named(measure)?;
    let Some((_, first)) = methods.first() else { return Err(Error::input("there are no methods to compare: give at least one")) };
    for (name, method) in methods {
        same_examples(first, method, tokens)
            .and_then(|()| same_points(first, method))
            .map_err(|error| error.context(format_args!("method `{name}`")))?;
    }
    let (mut rows, mut value) = (Vec::new(), Vec::new());
    let layers = first.layers();
    for layer in 0..first.hook_points.len() {
        interrupt::at(layer as u64, first.hook_points.len() as u64, "layers")?;
        let ready = methods.iter().map(|(_, method)| method.representation(layer, tokens)).collect::<Result<Vec<_>>>()?;
        for (left, (name, _)) in ready.iter().zip(methods) {
            for (right, (other, _)) in ready.iter().zip(methods) {
                let found = measure.compute(left, right);
                value.push(found.map_err(|error| error.context(format_args!("`{name}` and `{other}` at `{}`", first.hook_points[layer])))?);
                rows.push((*name, *other, layer));
            }
        }
    }
    Ok(df!(
        "method" => rows.iter().map(|row| row.0).collect::<Vec<_>>(),
        "other_method" => rows.iter().map(|row| row.1).collect::<Vec<_>>(),
        "hook_point" => rows.iter().map(|row| first.hook_points[row.2].as_str()).collect::<Vec<_>>(),
        "layer" => rows.iter().map(|row| layers[row.2]).collect::<Vec<_>>(),
        "measure" => vec![measure.name; rows.len()],
        "value" => value,
    )?)
}

type Sides<'a> = [(&'a Activations, Vec<Representation>); 2];

/// All layers of both, made ready once.
fn matched<'a>(a: &'a Activations, b: &'a Activations, tokens: Tokens) -> Result<Sides<'a>> {
    same_examples(a, b, tokens)?;
    let ready = |of: &Activations| (0..of.hook_points.len()).map(|layer| of.representation(layer, tokens)).collect::<Result<Vec<_>>>();
    Ok([(a, ready(a)?), (b, ready(b)?)])
}

fn values([(a, left), (b, right)]: &Sides<'_>, pairs: &[(usize, usize)], measure: &Measure) -> Result<Vec<f64>> {
    let at = |(place, &(one, other)): (usize, &(usize, usize))| {
        interrupt::at(place as u64, pairs.len() as u64, "pairs of layers")?;
        let value = measure.compute(&left[one], &right[other]);
        value.map_err(|error| error.context(format_args!("`{}` and `{}`", a.hook_points[one], b.hook_points[other])))
    };
    pairs.iter().enumerate().map(at).collect()
}

/// Checks that both hold the same queries in the same order, at the same positions.
pub(super) fn same_examples(a: &Activations, b: &Activations, tokens: Tokens) -> Result<()> {
    if a.positions != b.positions {
        let text = format!("one holds the positions {:?}, the other {:?}: capture both at the same", a.positions, b.positions);
        return Err(Error::input(text));
    }
    let query = |of: &Activations, row: usize| of.responses.rows().get(row).map(|row| row.prompt.example.query.clone());
    if a.examples() != b.examples() || (0..a.examples()).any(|row| query(a, row) != query(b, row)) {
        return Err(Error::input("the two hold activations of different examples, or in another order: capture both for the same queries"));
    }
    match (0..a.examples()).find(|&row| tokens == Tokens::Each && a.lengths[row] != b.lengths[row]) {
        Some(row) => Err(Error::input(format!(
            "example {row} has {} tokens in one and {} in the other, so that tokens cannot be matched: \
             capture both on the same responses, or compare first, last or mean tokens",
            a.lengths[row], b.lengths[row]
        ))),
        None => Ok(()),
    }
}

pub(super) fn same_points(a: &Activations, b: &Activations) -> Result<()> {
    if a.hook_points == b.hook_points {
        return Ok(());
    }
    let shown = |paths: &[String]| paths.first().map(|path| format!("{} paths from `{path}` on", paths.len())).unwrap_or_default();
    Err(Error::input(format!("the two hold different hook points: {} and {}", shown(&a.hook_points), shown(&b.hook_points))))
}
