//! Values of a capture while they are being filled in.

use std::cell::RefCell;

use tch::Tensor;

use super::capture::{Capture, CapturePlan};
use super::rows::Rows;
use super::{Activations, Positions, TOKEN};
use crate::error::{Error, Result};
use crate::model::{Model, Responses};
use crate::nn::HookPoint;

/// Values being filled in.
pub(super) struct Store {
    values: Tensor,
    hook_points: Vec<String>,
    /// Whether nothing before the decode position is wanted.
    narrow: bool,
    /// First position and count per example.
    spans: Vec<(usize, usize)>,
    /// How many tokens of each example a forward over several tokens reads; what it shows behind them is padding.
    read: Vec<usize>,
    /// How many tokens of each example and hook point have come.
    seen: RefCell<Vec<usize>>,
    newest: RefCell<Option<Newest>>,
}

/// Example and token of the newest single tokens, and the same as tensors: every layer of a forward stores at the same places.
struct Newest {
    places: [Vec<i64>; 2],
    tensors: [Tensor; 2],
}

impl Store {
    /// Room for what `plan` says; `read` is how many tokens of each example a forward over several tokens reads.
    pub(super) fn new(capture: &Capture, model: &Model, plan: CapturePlan, spans: Vec<(usize, usize)>, read: Vec<usize>) -> Result<Self> {
        let values = Tensor::f_zeros(plan.shape, (capture.kind.unwrap_or(model.kind()), capture.device))?;
        let seen = RefCell::new(vec![0; spans.len() * plan.hook_points.len()]);
        let narrow = capture.positions.is_narrow();
        Ok(Self { values, hook_points: plan.hook_points, narrow, spans, read, seen, newest: RefCell::new(None) })
    }

    /// Copies the wanted tokens of `value [example, token, hidden]`; `examples` are the rows in the store.
    ///
    /// A value holds consecutive positions from `point.positions`' first on, be it a whole prompt, the kept tokens or one new token.
    pub(super) fn put(&self, point: &HookPoint<'_>, examples: &[usize], value: &Tensor) -> Result<()> {
        let layer = self.hook_points.iter().position(|path| path == point.path);
        let layer = layer.ok_or_else(|| Error::internal(format!("an unexpected hook point {}", point.path)))?;
        let value = value.to_device(self.values.device()).to_kind(self.values.kind());
        if self.narrow && value.size()[1] == 1 {
            return self.put_next(layer, examples, &value);
        }
        let firsts: Vec<i64> = Vec::try_from(point.positions.select(1, 0).contiguous())?;
        for (row, &example) in examples.iter().enumerate() {
            let first = firsts[row.min(firsts.len() - 1)] as usize;
            let (start, count) = self.spans[example];
            let from = start.max(first);
            let shown = value.size()[1] as usize;
            let to = (start + count).min(first + shown).min(if shown > 1 { self.read[example] } else { usize::MAX });
            if from >= to {
                continue;
            }
            let (taken, tokens) = ((from - first) as i64, (to - from) as i64);
            let target = self.values.get(example as i64).get(layer as i64).narrow(0, (from - start) as i64, tokens);
            target.shallow_clone().copy_(&value.get(row as i64).narrow(0, taken, tokens));
            self.seen.borrow_mut()[example * self.hook_points.len() + layer] += tokens as usize;
        }
        Ok(())
    }

    /// One token of each example, the next that is wanted: where nothing before the decode position is, a forward over single tokens
    /// shows no other. It asks the device for no position and is one operation for all examples.
    fn put_next(&self, layer: usize, examples: &[usize], value: &Tensor) -> Result<()> {
        let mut seen = self.seen.borrow_mut();
        let (mut rows, mut owners, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
        for (row, &example) in examples.iter().enumerate() {
            let so_far = &mut seen[example * self.hook_points.len() + layer];
            if *so_far < self.spans[example].1 {
                rows.push(row as i64);
                owners.push(example as i64);
                tokens.push(*so_far as i64);
                *so_far += 1;
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        let device = self.values.device();
        let mut value = value.select(1, 0);
        if rows.len() < examples.len() {
            value = value.index_select(0, &Tensor::from_slice(&rows).to_device(device));
        }
        let places = [owners, tokens];
        let mut newest = self.newest.borrow_mut();
        if newest.as_ref().is_none_or(|newest| newest.places != places) {
            let tensors = [0, 1].map(|axis: usize| Tensor::from_slice(&places[axis]).to_device(device));
            *newest = Some(Newest { places, tensors });
        }
        if let Some(newest) = newest.as_ref() {
            let places: Vec<Option<&Tensor>> = newest.tensors.iter().map(Some).collect();
            let _ = self.values.select(1, layer as i64).f_index_put_(&places, &value, false)?;
        }
        Ok(())
    }

    /// What came, cut to the responses that the tokens are of.
    pub(super) fn finish(mut self, positions: Positions, responses: Responses) -> Result<Activations> {
        self.spans = responses.rows().iter().map(|row| positions.span(row.tokens.prompt.len(), row.tokens.response.len())).collect();
        let longest = self.spans.iter().map(|span| span.1).max().unwrap_or(0) as i64;
        // Responses may have ended before the limit: keep what is there, in memory of its own.
        let values = if longest < self.values.size()[2] { self.values.narrow(2, 0, longest).contiguous() } else { self.values };
        let lengths: Vec<usize> = self.spans.iter().map(|span| span.1).collect();
        for (example, &length) in lengths.iter().enumerate() {
            let seen = &self.seen.borrow()[example * self.hook_points.len()..(example + 1) * self.hook_points.len()];
            if let Some(place) = seen.iter().position(|&tokens| tokens != length) {
                return Err(Error::internal(format!(
                    "{} gave {} of {length} tokens of example {example}",
                    self.hook_points[place], seen[place]
                )));
            }
        }
        Ok(Activations { rows: Rows::whole(values, TOKEN), hook_points: self.hook_points, lengths, positions, responses })
    }
}
