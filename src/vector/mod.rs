//! Vectors that carry a task: found by forwards alone, put into the residual stream at the last token of each prompt.
//!
//! ```
//! use ia2::prelude::*;
//! use ia2::vector::{TaskVector, Vector};
//!
//! # fn main() -> Result<()> {
//! let model = Model::open("tiny-icl")?;
//! let split = Task::open("sentiment")?.test_at_most(40)?.few_shot(8, 0)?;
//! let vector = TaskVector::find(&model, &split)?; // shows itself with the dev loss of each layer
//! let frame = evaluate(&model.with(&vector)?, &split.test.zero_shot()?)?; // without demonstrations
//! # let folder = tempfile::tempdir().unwrap();
//! # let file = folder.path().join("sentiment.safetensors");
//! vector.save(&file)?;
//! let again = Vector::open(&file, &model)?;
//! # assert_eq!((frame.height(), again.values()), (40, vector.values()));
//! # Ok(()) }
//! ```
//!
//! `h_l(p)` is the residual stream `[hidden]` after layer *l* at the last token of prompt *p*; `x_i` are the N training queries, `c_i` the other N - 1
//! training examples as demonstrations ([`Examples::leave_one_out`](crate::prompt::Examples::leave_one_out), at most 256, in the orders of the run).
//!
//! | kind | vector | at the last token of the query | chosen on dev |
//! |---|---|---|---|
//! | [`TaskVector`] | `1/N Σ_i h_l(c_i, x_i)` | takes the stream's place after layer *l* | *l* |
//! | [`FunctionVector`] | `Σ_(heads) W_O ē`, the mean outputs under ICL of the heads with the largest average indirect effect | is added after layer *l* | *l*, number of heads |
//! | [`Steering`] | `1/N Σ_i h_l(c_i, x_i) - h_l(x_i)` | is added after layer *l*, times the strength | *l*, strength |
//!
//! Each candidate's dev loss is the mean over the dev examples of `-ln p(gold | query)`, without demonstrations and with the vector, summed over the
//! gold's tokens (no end-of-sequence token among them), nats; the least is chosen, of equal ones the first. Nothing is trained, and nothing is drawn but
//! the orders of demonstrations and of shuffled answers, by the split's run.
//!
//! A kind is one file and one entry of [`VectorKind`].

mod file;
mod function;
mod search;
mod steering;
mod task;

use std::rc::Rc;

use polars::prelude::*;
use serde::{Deserialize, Serialize};
use tch::{Kind as Number, Tensor};

pub use function::FunctionVector;
pub use steering::Steering;
pub use task::TaskVector;

use crate::dataset::{SHOWN_AT_MOST, Split};
use crate::display::{Bundle, Show, headed};
use crate::error::{Error, Result};
use crate::kind::wide;
use crate::libtorch::guarded;
use crate::model::{Change, Identity, Model};
pub use crate::nn::Edit;
use crate::nn::Steer;
use crate::prompt::{Orders, Prompts};
use search::Search;

crate::display::show_as_text!(FunctionVector, VectorKind, Steering, TaskVector);

/// How a vector was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VectorKind {
    /// [`TaskVector`].
    Task,
    /// [`FunctionVector`].
    Function,
    /// [`Steering`].
    Steering,
    /// [`Vector::new`].
    Own,
}

impl VectorKind {
    /// The kinds that are found.
    pub const ALL: [Self; 3] = [Self::Task, Self::Function, Self::Steering];

    /// Its name, as frames and messages have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Task => "task vector",
            Self::Function => "function vector",
            Self::Steering => "mean-difference steering",
            Self::Own => "vector",
        }
    }

    /// Finds a vector of this kind.
    ///
    /// # Errors
    /// As [`TaskVector::find`], [`FunctionVector::find`] and [`Steering::find`]; [`VectorKind::Own`] is not found but given.
    pub fn find(self, model: &Model, split: &Split) -> Result<Vector> {
        match self {
            Self::Task => TaskVector::find(model, split),
            Self::Function => FunctionVector::find(model, split),
            Self::Steering => Steering::find(model, split),
            Self::Own => Err(Error::input("a vector of one's own is made by `Vector::new`")),
        }
    }
}

/// A vector, the layer after which it enters the residual stream, and how.
///
/// [`Model::with`] puts it on a model. It acts at the last token of each prompt (before the labels' common first tokens, where a task's labels have
/// some), also in a padded batch and where an answer is generated with a cache.
#[derive(Debug)]
pub struct Vector {
    kind: VectorKind,
    edit: Edit,
    layer: usize,
    strength: f64,
    /// `[hidden]`, before its strength.
    values: Tensor,
    /// Layer and head of those that a function vector sums, the one with the largest effect first.
    heads: Vec<(usize, usize)>,
    /// What was tried.
    tried: Vec<Tried>,
    /// Average indirect effects, `[layer, head]`.
    effects: Option<Tensor>,
    /// Of the search; none where there was none, or it was elsewhere.
    reading: Option<Reading>,
    made_for: MadeFor,
}

/// Tokens that a search for a vector reads; beginnings that several texts share count once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Of prompts, for means.
    pub prompts: u64,
    /// Of texts under edits, for effects of heads and dev losses.
    pub candidates: u64,
}

/// The model that a vector was made on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct MadeFor {
    family: String,
    hidden: i64,
    layers: usize,
    #[serde(flatten)]
    identity: Identity,
}

impl MadeFor {
    fn of(model: &Model) -> Result<Self> {
        let config = model.config();
        let (family, identity) = (config.family.model_type().into(), model.identity()?.clone());
        Ok(Self { family, hidden: config.hidden_size, layers: config.layers as usize, identity })
    }
}

/// A candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tried {
    layer: usize,
    strength: f64,
    /// How many heads; 0 where there are none.
    heads: usize,
    dev_loss: f64,
}

impl Vector {
    /// A vector of one's own, `[hidden]`, which enters the residual stream after `layer` (from 0): added, or in the stream's place.
    ///
    /// # Errors
    /// A layer that the model has not, values that are not `[hidden]` or not finite.
    pub fn new(model: &Model, edit: Edit, layer: usize, values: &Tensor) -> Result<Self> {
        guarded("making a vector", || {
            let (layers, hidden) = (model.config().layers, model.config().hidden_size);
            if layer as i64 >= layers {
                return Err(Error::input(format!("there is no layer {layer}: the model has {layers}, counted from 0")));
            }
            if values.size() != [hidden] {
                return Err(Error::input(format!(
                    "the values are {:?}, the residual stream is [{hidden}]: give one vector",
                    values.size()
                )));
            }
            let values = values.detach().to_device(tch::Device::Cpu).to_kind(wide(model.kind())).copy();
            if values.isfinite().all().int64_value(&[]) == 0 {
                return Err(Error::numeric("the values of a vector are not finite"));
            }
            Ok(Self {
                kind: VectorKind::Own,
                edit,
                layer,
                strength: 1.0,
                values,
                heads: Vec::new(),
                tried: Vec::new(),
                effects: None,
                reading: None,
                made_for: MadeFor::of(model)?,
            })
        })
    }

    /// A copy that is added at `factor` of its strength.
    ///
    /// # Errors
    /// A vector that takes the stream's place, which has no strength; a factor that is not finite.
    pub fn scaled(&self, factor: f64) -> Result<Self> {
        if self.edit == Edit::Replace {
            return Err(Error::input(format!("a {} takes the stream's place and has no strength", self.kind.name())));
        }
        if !factor.is_finite() {
            return Err(Error::input(format!("a vector cannot be scaled by {factor}: use a finite number")));
        }
        guarded("scaling a vector", || {
            let effects = self.effects.as_ref().map(Tensor::shallow_clone);
            Ok(Self {
                strength: self.strength * factor,
                values: self.values.shallow_clone(),
                heads: self.heads.clone(),
                tried: self.tried.clone(),
                effects,
                made_for: self.made_for.clone(),
                ..*self
            })
        })
    }

    /// How it was made.
    pub fn kind(&self) -> VectorKind {
        self.kind
    }

    /// Whether it is added or takes the stream's place.
    pub fn edit(&self) -> Edit {
        self.edit
    }

    /// The layer after which it enters the residual stream, from 0.
    pub fn layer(&self) -> usize {
        self.layer
    }

    /// What its values are multiplied with when it is added.
    pub fn strength(&self) -> f64 {
        self.strength
    }

    /// Its values `[hidden]` before the strength, f32 (f64 of an f64 model), on the CPU.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// Layer and head of those that a function vector sums, the one with the largest effect first; none for other kinds.
    pub fn heads(&self) -> &[(usize, usize)] {
        &self.heads
    }

    /// Tokens that the search for it read, what several texts begin with once; none for a vector of one's own or from a file.
    pub fn tokens(&self) -> Option<u64> {
        self.reading.map(|reading| reading.prompts + reading.candidates)
    }

    pub(crate) fn reading(&self) -> Option<Reading> {
        self.reading
    }

    /// The least dev loss, nats; none for a vector of one's own.
    pub fn dev_loss(&self) -> Option<f64> {
        self.tried.iter().map(|tried| tried.dev_loss).reduce(f64::min)
    }

    /// What was tried on dev, one row per candidate: `layer`, `strength` (null where the stream is replaced), `heads` (how many; null where there
    /// are none), `dev_loss` (nats), `chosen`.
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn tried(&self) -> Result<DataFrame> {
        let rows = &self.tried;
        let best = best(rows);
        Ok(df!(
            "layer" => rows.iter().map(|row| row.layer as u32).collect::<Vec<_>>(),
            "strength" => rows.iter().map(|row| (self.edit == Edit::Add).then_some(row.strength)).collect::<Vec<_>>(),
            "heads" => rows.iter().map(|row| (row.heads > 0).then_some(row.heads as u32)).collect::<Vec<_>>(),
            "dev_loss" => rows.iter().map(|row| row.dev_loss).collect::<Vec<_>>(),
            "chosen" => (0..rows.len()).map(|row| best == Some(row)).collect::<Vec<_>>(),
        )?)
    }

    /// Of a function vector the average indirect effect of every head, one row each: `layer`, `head`, `effect` (a difference of probabilities, in
    /// [-1, 1]), `summed` (whether the vector has it).
    ///
    /// # Errors
    /// A vector of another kind.
    pub fn effects(&self) -> Result<DataFrame> {
        let Some(effects) = &self.effects else {
            return Err(Error::input(format!("a {} was not made by effects of heads: only a function vector has them", self.kind.name())));
        };
        let values: Vec<Vec<f64>> = Vec::try_from(effects)?;
        let places = || values.iter().enumerate().flat_map(|(layer, row)| (0..row.len()).map(move |head| (layer, head)));
        Ok(df!(
            "layer" => places().map(|(layer, _)| layer as u32).collect::<Vec<_>>(),
            "head" => places().map(|(_, head)| head as u32).collect::<Vec<_>>(),
            "effect" => values.concat(),
            "summed" => places().map(|place| self.heads.contains(&place)).collect::<Vec<_>>(),
        )?)
    }

    /// What it is, in a few words: `layer 3, strength 2`.
    pub(crate) fn words(&self) -> String {
        let heads = match self.heads.len() {
            0 => String::new(),
            1 => ", 1 head".into(),
            heads => format!(", {heads} heads"),
        };
        let strength = if self.strength == 1.0 { String::new() } else { format!(", strength {}", self.strength) };
        format!("layer {}{heads}{strength}", self.layer)
    }
}

impl Change for Vector {
    /// # Errors
    /// The vector was made on another model.
    fn on(&self, model: &Model) -> Result<Model> {
        self.check_fit(model)?;
        guarded("putting a vector on a model", || {
            let vector = match self.edit {
                Edit::Replace => self.values.shallow_clone(),
                Edit::Add => &self.values * self.strength,
            };
            let vector = vector.to_device(model.device());
            Ok(model.steered(Rc::new(Steer { layer: self.layer, edit: self.edit, vector })))
        })
    }
}

impl Vector {
    fn check_fit(&self, model: &Model) -> Result<()> {
        if self.made_for == MadeFor::of(model)? {
            return Ok(());
        }
        let MadeFor { family, hidden, layers, .. } = &self.made_for;
        Err(Error::input(format!(
            "this {} was made on another model (a {family} of {layers} layers, {hidden} wide) than {model:?}: find one on this model",
            self.kind.name()
        )))
    }

    /// The one that was chosen.
    fn found(
        kind: VectorKind,
        edit: Edit,
        search: &Search<'_>,
        tried: Vec<Tried>,
        values: impl FnOnce(&Tried) -> Result<Tensor>,
    ) -> Result<Self> {
        let best = best(&tried).map(|row| tried[row]).ok_or_else(|| Error::internal("no vector was tried"))?;
        let mut vector = Self::new(search.model, edit, best.layer, &values(&best)?)?;
        (vector.kind, vector.strength, vector.tried, vector.reading) = (kind, best.strength, tried, Some(search.reading()));
        Ok(vector)
    }
}

/// Which has the least loss, of equal ones the first.
fn best(tried: &[Tried]) -> Option<usize> {
    (0..tried.len()).reduce(|best, next| if tried[next].dev_loss < tried[best].dev_loss { next } else { best })
}

/// The training queries, each after the other training examples.
fn shown(split: &Split) -> Result<Prompts> {
    split.train.leave_one_out_in(Orders::Tree, split.run, SHOWN_AT_MOST)
}

/// The mean dev loss of each candidate; `edit` is given a layer, a candidate's number and the residual stream `[hidden]` after that layer.
fn dev_losses(
    search: &Search<'_>,
    split: &Split,
    candidates: usize,
    edit: impl Fn(usize, usize, &Tensor) -> Option<Tensor>,
) -> Result<Vec<f64>> {
    let samples = search::golds(search.model, &split.dev.zero_shot()?, search::GoldSpan::Whole)?;
    let mut losses = vec![0.0; candidates];
    for (place, sample) in samples.iter().enumerate() {
        crate::interrupt::at(place as u64, samples.len() as u64, "dev examples")?;
        for (loss, sum) in losses.iter_mut().zip(search.under(sample, candidates, "model.layers.*", &edit)?) {
            *loss -= sum / samples.len() as f64;
        }
    }
    Ok(losses)
}

/// The mean over axis 0, summed in f64.
fn mean(values: &Tensor) -> Tensor {
    values.mean_dim([0i64].as_slice(), false, Number::Double).to_kind(values.kind())
}

impl Show for Vector {
    fn bundle(&self) -> Bundle {
        let norm = self.values.to_kind(Number::Double).norm().double_value(&[]);
        let edit = if self.edit == Edit::Add { "added" } else { "in place of the stream" };
        let heading = format!("Vector({}: {edit}, {}, norm {norm:.4})", self.kind.name(), self.words());
        if self.tried.is_empty() { Bundle::text(heading) } else { headed(&heading, self.tried()) }
    }
}
