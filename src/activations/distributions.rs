//! Distributions over the vocabulary at the response positions: all probabilities, or the largest ones.

use std::cell::RefCell;

use polars::prelude::*;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::bytes;
use super::rows::Rows;
use super::stored::Stored;
use crate::axes;
use crate::display::{Bundle, Show, headed};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::kind::wide;
use crate::libtorch::guarded;
use crate::model::{Model, Responses};
use crate::nn::HookPoint;

/// How much of each distribution is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// Every id's probability.
    All,
    /// This number of largest probabilities with their ids; the rest of the mass counts as spread evenly over the other ids.
    Top(usize),
}

impl Keep {
    /// Refuses a count that keeps nothing or leaves nothing out.
    pub(super) fn check(self, vocab: i64) -> Result<()> {
        match self {
            Self::Top(count) if count == 0 || count as u64 >= vocab as u64 => Err(Error::input(format!(
                "the {count} largest of {vocab} probabilities cannot be kept: ask for 1 to {}, or for `Keep::All`",
                vocab - 1
            ))),
            _ => Ok(()),
        }
    }

    fn width(self, vocab: i64) -> i64 {
        match self {
            Self::All => vocab,
            Self::Top(count) => count as i64,
        }
    }

    /// Bytes of the distributions of this number of examples and tokens.
    pub(super) fn bytes(self, model: &Model, examples: usize, tokens: usize) -> u64 {
        let shape = [examples as i64, tokens as i64, self.width(model.config().vocab_size)];
        bytes(&shape, wide(model.kind())) + if self == Self::All { 0 } else { bytes(&shape, Kind::Int64) }
    }
}

/// What a model expects at each response position: probabilities `[example, token, id]` over all ids, or of the likeliest ones.
#[derive(Debug)]
pub struct Distributions {
    probabilities: Rows,
    /// `[example, token, k]` where only some probabilities are kept.
    ids: Option<Rows>,
    vocab: i64,
    responses: Responses,
}

/// Which axis is *token*.
const TOKEN: i64 = 1;

impl Distributions {
    /// Distributions from elsewhere over all ids, `probabilities [example, token, vocab]`, at the response positions of `responses`.
    ///
    /// # Errors
    /// The axes do not agree with the responses; a value is not finite or negative; a response position's probabilities do not sum to 1.
    pub fn new(probabilities: Tensor, responses: Responses) -> Result<Self> {
        guarded("taking distributions", || {
            let vocab = probabilities.size().last().copied().unwrap_or(0);
            Self::check(&probabilities, &responses, vocab, true)?;
            Ok(Self { probabilities: Rows::whole(probabilities, TOKEN), ids: None, vocab, responses })
        })
    }

    /// The `k` largest probabilities at each response position.
    ///
    /// # Errors
    /// `k` is 0 or not under the size of the vocabulary; some have been left out already.
    pub fn top(&self, k: usize) -> Result<Self> {
        guarded("keeping the largest probabilities", || {
            Keep::Top(k).check(self.vocab)?;
            if self.ids.is_some() {
                return Err(Error::input("these distributions hold the largest probabilities already: keep fewer when they are collected"));
            }
            let (probabilities, ids) = self.probabilities.gather()?.topk(k as i64, -1, true, true);
            Ok(Self {
                probabilities: Rows::whole(probabilities, TOKEN),
                ids: Some(Rows::whole(ids, TOKEN)),
                vocab: self.vocab,
                responses: self.responses.clone(),
            })
        })
    }

    pub(super) fn of_pieces(probabilities: Vec<Stored>, ids: Vec<Stored>, vocab: i64, responses: Responses, identity: &str) -> Self {
        let ids = (!ids.is_empty()).then(|| Rows::pieces(ids, TOKEN, identity.into()));
        Self { probabilities: Rows::pieces(probabilities, TOKEN, identity.into()), ids, vocab, responses }
    }

    fn check(probabilities: &Tensor, responses: &Responses, vocab: i64, whole: bool) -> Result<()> {
        let lengths: Vec<usize> = responses.rows().iter().map(|row| row.tokens.response.len()).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0) as i64;
        let sizes = [Some(lengths.len() as i64), Some(longest), whole.then_some(vocab)];
        axes::expect(probabilities, "probabilities", &["example", "token", "id"], &sizes)?;
        axes::finite(probabilities, "probabilities")?;
        for (example, &length) in lengths.iter().enumerate() {
            interrupt::at(example as u64, lengths.len() as u64, "examples")?;
            let row = probabilities.get(example as i64).narrow(0, 0, length as i64).to_kind(Kind::Double);
            let sums = row.sum_dim_intlist([-1i64].as_slice(), false, None);
            let off = (sums - 1.0).abs().max().double_value(&[]);
            if row.min().double_value(&[]) < 0.0 || off > 1e-3 {
                return Err(Error::input(format!(
                    "the probabilities of example {example} are no distributions: they must be at least 0 and sum to 1, and are off by {off:.1e}; give softmax(logits)"
                )));
            }
        }
        Ok(())
    }

    /// Size of the vocabulary.
    pub fn vocab(&self) -> i64 {
        self.vocab
    }

    /// All probabilities, or how many of the largest.
    pub fn keep(&self) -> Keep {
        match &self.ids {
            None => Keep::All,
            Some(ids) => Keep::Top(ids.size()[2] as usize),
        }
    }

    /// The prompts and responses these are distributions at.
    pub fn responses(&self) -> &Responses {
        &self.responses
    }

    /// Number of examples.
    pub fn examples(&self) -> usize {
        self.probabilities.examples()
    }

    /// Bytes they occupy.
    pub fn bytes(&self) -> u64 {
        self.probabilities.bytes() + self.ids.as_ref().map_or(0, Rows::bytes)
    }

    /// True if they lie in files, of which memory holds what is read.
    pub fn on_disk(&self) -> bool {
        self.probabilities.on_disk()
    }

    /// One example: probabilities `[token, id]` with its own number of tokens and, where only the largest are kept, their ids of the same shape.
    ///
    /// # Errors
    /// There is no such example.
    pub fn example(&self, index: usize) -> Result<(Tensor, Option<Tensor>)> {
        let row = self.responses.rows().get(index);
        let row = row.ok_or_else(|| Error::input(format!("example {index} does not exist: there are {}", self.examples())))?;
        let length = row.tokens.response.len();
        let ids = self.ids.as_ref().map(|ids| ids.get(index, length)).transpose()?;
        Ok((self.probabilities.get(index, length)?, ids))
    }

    pub(crate) fn digest(&self) -> String {
        format!("{} {} {}", self.vocab, self.probabilities.digest(), self.ids.as_ref().map(Rows::digest).unwrap_or_default())
    }

    /// Probabilities and ids for a file; one piece.
    pub(super) fn tensors(&self) -> Result<(Tensor, Option<Tensor>)> {
        Ok((self.probabilities.gather()?, self.ids.as_ref().map(Rows::gather).transpose()?))
    }

    /// One row per example: `index`, `query`, `tokens`, `kept` (mass of the probabilities held, mean over tokens, in [0, 1]), `largest`
    /// (the likeliest token's probability, mean over tokens, in [0, 1]).
    ///
    /// # Errors
    /// When libtorch or polars refuse.
    pub fn frame(&self) -> Result<DataFrame> {
        guarded("summarising distributions", || {
            let (mut kept, mut largest) = (Vec::new(), Vec::new());
            for example in 0..self.examples() {
                interrupt::at(example as u64, self.examples() as u64, "examples")?;
                let probabilities = self.example(example)?.0.to_kind(Kind::Double);
                kept.push(probabilities.sum_dim_intlist([-1i64].as_slice(), false, None).mean(None).double_value(&[]));
                largest.push(probabilities.amax([-1i64].as_slice(), false).mean(None).double_value(&[]));
            }
            let rows = self.responses.rows();
            Ok(df!(
                "index" => rows.iter().map(|row| row.prompt.index as u32).collect::<Vec<_>>(),
                "query" => rows.iter().map(|row| row.prompt.example.query.as_str()).collect::<Vec<_>>(),
                "tokens" => rows.iter().map(|row| row.tokens.response.len() as u32).collect::<Vec<_>>(),
                "kept" => kept,
                "largest" => largest,
            )?)
        })
    }
}

impl Clone for Distributions {
    /// Shares the probabilities.
    fn clone(&self) -> Self {
        Self {
            probabilities: self.probabilities.shared(),
            ids: self.ids.as_ref().map(Rows::shared),
            vocab: self.vocab,
            responses: self.responses.clone(),
        }
    }
}

impl Show for Distributions {
    fn bundle(&self) -> Bundle {
        let place = if self.on_disk() { " on disk" } else { "" };
        headed(
            &format!("Distributions [example, token, id], {:?} of {} ids, {} bytes{place}", self.keep(), self.vocab, self.bytes()),
            self.frame(),
        )
    }
}

/// Distributions being filled in while responses are generated.
pub(super) struct Filling {
    probabilities: Tensor,
    ids: Option<Tensor>,
    vocab: i64,
    /// How many tokens of each example have come.
    seen: RefCell<Vec<usize>>,
}

impl Filling {
    pub(super) fn new(keep: Keep, model: &Model, examples: usize, tokens: usize, device: Device) -> Result<Self> {
        let vocab = model.config().vocab_size;
        keep.check(vocab)?;
        let shape = [examples as i64, tokens as i64, keep.width(vocab)];
        let ids = if keep == Keep::All { None } else { Some(Tensor::f_zeros(shape, (Kind::Int64, device))?) };
        // In half precision the tail would be lost.
        let probabilities = Tensor::f_zeros(shape, (wide(model.kind()), device))?;
        Ok(Self { probabilities, ids, vocab, seen: RefCell::new(vec![0; examples]) })
    }

    /// The logits `[example, 1, vocab]` that the next token of each example is chosen by.
    pub(super) fn put(&self, point: &HookPoint<'_>, logits: &Tensor) -> Result<()> {
        let logits = if logits.dim() == 3 { logits.select(1, 0) } else { logits.shallow_clone() };
        let probabilities = logits.softmax(-1, self.probabilities.kind());
        let (values, ids) = match &self.ids {
            None => (probabilities, None),
            Some(store) => {
                let (values, ids) = probabilities.topk(store.size()[2], -1, true, true);
                (values, Some(ids))
            }
        };
        let device = self.probabilities.device();
        let mut seen = self.seen.borrow_mut();
        let examples: Vec<i64> = point.examples.iter().map(|&example| example as i64).collect();
        let tokens: Vec<i64> = point.examples.iter().map(|&example| seen[example] as i64).collect();
        let places = [&examples, &tokens].map(|places| Some(Tensor::from_slice(places).to_device(device)));
        let _ = self.probabilities.shallow_clone().f_index_put_(&places, &values.to_device(device), false)?;
        if let (Some(store), Some(ids)) = (&self.ids, ids) {
            let _ = store.shallow_clone().f_index_put_(&places, &ids.to_device(device), false)?;
        }
        point.examples.iter().for_each(|&example| seen[example] += 1);
        Ok(())
    }

    pub(super) fn finish(self, responses: Responses) -> Result<Distributions> {
        let seen = self.seen.into_inner();
        for (example, row) in responses.rows().iter().enumerate() {
            if seen[example] != row.tokens.response.len() {
                let tokens = row.tokens.response.len();
                return Err(Error::internal(format!("example {example} showed {} distributions for {tokens} tokens", seen[example])));
            }
        }
        let longest = seen.iter().copied().max().unwrap_or(0) as i64;
        let cut = |values: Tensor| match longest < values.size()[1] {
            true => Rows::whole(values.narrow(1, 0, longest).contiguous(), TOKEN),
            false => Rows::whole(values, TOKEN),
        };
        Ok(Distributions { probabilities: cut(self.probabilities), ids: self.ids.map(cut), vocab: self.vocab, responses })
    }
}
