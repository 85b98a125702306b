//! Activations as points: which lie near each other, and the plane in which they are widest.

use polars::prelude::*;
use tch::{Kind, Tensor};

use super::{Activations, Tokens};
use crate::error::{Error, Result};
use crate::frame::below;
use crate::interrupt;
use crate::libtorch::guarded;
use crate::similarity::{self, principal_components};

impl Activations {
    /// The nearest neighbours of one example at one layer, by the cosine of their vectors, nearest first (itself with 1): `index`, `query`,
    /// `gold`, `cosine`. `layer` is the place in [`Activations::hook_points`], `example` the place among the examples.
    ///
    /// # Errors
    /// There is no such layer or example; [`Tokens::Each`], which has no one vector for an example; a vector is zero.
    pub fn neighbours(&self, layer: usize, tokens: Tokens, example: usize) -> Result<DataFrame> {
        if tokens == Tokens::Each {
            return Err(Error::input("neighbours need one vector for each example: choose first, last or mean tokens"));
        }
        if example >= self.examples() {
            return Err(Error::input(format!("example {example} does not exist: there are {}", self.examples())));
        }
        let cosines = guarded("neighbours", || {
            let values = self.representation(layer, tokens)?.values().to_kind(Kind::Double);
            let own = values.get(example as i64).expand_as(&values);
            Ok(Vec::<f64>::try_from(similarity::asim(&values, &own)?)?)
        })?;
        let mut frame = self.responses.frame()?.select(["index", "query", "gold"])?;
        frame.with_column(Column::new("cosine".into(), cosines))?;
        Ok(frame.sort(["cosine"], SortMultipleOptions::default().with_order_descending(true).with_maintain_order(true))?)
    }

    /// The first `count` principal components of each layer's vectors, one row per hook point and vector: `hook_point`, `layer`, `index` (of the
    /// example), `label` (its gold), `pc1`, `pc2`, ... (coordinates) and `pc1_share`, ... (in [0, 1], how much of the layer's variance lies
    /// along each; the same in all rows of a layer). See [`principal_components`].
    ///
    /// [`figure::components`](crate::figure::components) draws it: `.facet("layer")` for all layers.
    ///
    /// # Errors
    /// As [`Activations::representation`] and [`principal_components`]; the layer is named.
    pub fn principal_components(&self, tokens: Tokens, count: usize) -> Result<DataFrame> {
        let found = || {
            let owners: Vec<usize> = match tokens {
                Tokens::Each => {
                    self.lengths.iter().enumerate().flat_map(|(example, &length)| std::iter::repeat_n(example, length)).collect()
                }
                _ => (0..self.examples()).collect(),
            };
            let prompt = |&owner: &usize| self.responses.rows().get(owner).map(|row| &row.prompt);
            let (layers, mut whole) = (self.layers(), None);
            for (layer, path) in self.hook_points.iter().enumerate() {
                interrupt::at(layer as u64, self.hook_points.len() as u64, "hook points")?;
                let found = self.representation(layer, tokens).and_then(|own| principal_components(&own, count));
                let found = found.map_err(|error| error.context(format_args!("`{path}`")))?;
                let rows = owners.len();
                let mut columns = vec![
                    Column::new("hook_point".into(), vec![path.as_str(); rows]),
                    Column::new("layer".into(), vec![layers[layer]; rows]),
                    Column::new("index".into(), owners.iter().map(|owner| prompt(owner).map(|own| own.index as u32)).collect::<Vec<_>>()),
                    Column::new(
                        "label".into(),
                        owners.iter().map(|owner| prompt(owner).map(|own| own.example.gold.as_str())).collect::<Vec<_>>(),
                    ),
                ];
                for component in 0..count {
                    let scores = Vec::<f64>::try_from(found.scores.select(1, component as i64))?;
                    columns.push(Column::new(format!("pc{}", component + 1).into(), scores));
                }
                for (component, share) in found.shares.iter().enumerate() {
                    columns.push(Column::new(format!("pc{}_share", component + 1).into(), vec![*share; rows]));
                }
                let frame = DataFrame::new(rows, columns)?;
                whole = below(whole, frame)?;
            }
            whole.ok_or_else(|| Error::input("there are no hook points to look at"))
        };
        interrupt::during("principal components", found)
    }

    /// The examples in another order, or some of them: `order` gives their places here. As donors for [`lens::patch`](crate::lens::patch).
    ///
    /// # Errors
    /// No places, or one that does not exist; no memory for a copy of the values.
    pub fn select(&self, order: &[usize]) -> Result<Self> {
        if order.is_empty() {
            return Err(Error::input("no examples are selected"));
        }
        if let Some(place) = order.iter().find(|place| **place >= self.examples()) {
            return Err(Error::input(format!("example {place} does not exist: there are {}", self.examples())));
        }
        guarded("selecting examples", || {
            let places: Vec<i64> = order.iter().map(|&place| place as i64).collect();
            let values = self.values()?;
            let lengths: Vec<usize> = order.iter().map(|&place| self.lengths[place]).collect();
            let longest = lengths.iter().copied().max().unwrap_or(0) as i64;
            let values =
                values.f_index_select(0, &Tensor::from_slice(&places).to_device(values.device()))?.narrow(super::TOKEN, 0, longest);
            let rows = order.iter().filter_map(|&place| self.responses.rows().get(place).cloned()).collect();
            Ok(Self {
                rows: super::Rows::whole(values.contiguous(), super::TOKEN),
                hook_points: self.hook_points.clone(),
                lengths,
                positions: self.positions,
                responses: crate::model::Responses::from_rows(self.responses.form().clone(), rows),
            })
        })
    }

    /// The examples moved on by `by` places, the last ones to the front: with 1, each place holds the example before it.
    ///
    /// # Errors
    /// There is no memory for a copy of the values.
    pub fn roll(&self, by: i64) -> Result<Self> {
        let count = (self.examples() as i64).max(1);
        // Reduced first: the least `i64` cannot be taken away from a place.
        let by = by.rem_euclid(count);
        self.select(&(0..count).map(|place| (place - by).rem_euclid(count) as usize).collect::<Vec<_>>())
    }

    /// The values at the prompts' token that is this number of places from the end (0 the last), `[example, layer, hidden]`.
    ///
    /// # Errors
    /// An example's was not captured.
    pub(crate) fn at_end(&self, from_end: usize) -> Result<Tensor> {
        let mut values = Vec::with_capacity(self.examples());
        for (example, row) in self.responses.rows().iter().enumerate() {
            let prompt = row.tokens.prompt.len();
            let (start, count) = self.positions.span(prompt, row.tokens.response.len());
            let place = (prompt.checked_sub(from_end + 1)).and_then(|position| position.checked_sub(start)).filter(|place| *place < count);
            let place = place.ok_or_else(|| {
                Error::input(format!(
                    "example {example} holds no activation of the token {} from the prompt's last: it has {prompt} tokens, captured at \
                     {:?} positions; capture at `Positions::Prompt`, or ask for fewer tokens",
                    from_end, self.positions
                ))
            })?;
            values.push(self.example(example)?.select(1, place as i64));
        }
        Ok(Tensor::stack(&values, 0))
    }
}
