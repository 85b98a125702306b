//! What every kind of adapter says of itself.

use std::rc::Rc;

use serde_json::Value;
use tch::Tensor;

use super::fused::Named;
use super::peft::Settings;
use super::{AdapterConfig, Base, Parameters};
use crate::dataset::Split;
use crate::error::{Error, Result};
use crate::model::{Config, Model};
use crate::nn::Adapt;

/// A weight and its bias, if it has one.
pub(super) type Merged = (Tensor, Option<Tensor>);

/// A kind of adapter: its settings, and what follows from them.
pub(super) trait Tuning: std::fmt::Debug {
    /// The kind and its settings in one line.
    fn name(&self) -> String;

    /// Names and shapes of the parameters on `model`, in their order.
    fn layout(&self, model: &Model) -> Result<Vec<(String, Vec<i64>)>>;

    /// The same with starting values.
    fn start(&self, model: &Model, seed: u64) -> Result<Vec<(String, Tensor)>>;

    /// What changes a forward of a model with this `config`, reading the parameters where they lie.
    fn attach(&self, parameters: &Parameters, config: &Config) -> Result<Rc<dyn Adapt>>;

    /// The settings that it has in a training on `split`, where they depend on it.
    fn on(&self, _model: &Model, _split: &Split) -> Result<Option<AdapterConfig>> {
        Ok(None)
    }

    /// Whether training with it draws random numbers.
    fn draws(&self) -> bool {
        false
    }

    /// How many of the first numbers of the parameters training leaves as they are.
    fn frozen(&self, _config: &Config) -> i64 {
        0
    }

    /// PEFT's settings of this kind, an object.
    fn write(&self, parameters: &Parameters, base: &Base) -> Result<Value>;

    /// The settings that PEFT wrote, for `model`.
    fn read(settings: &mut Settings, model: &Model) -> Result<Self>
    where
        Self: Sized;

    /// Settings and parameters at `factor` of the strength.
    fn scaled(&self, _parameters: &Parameters, _factor: f64) -> Result<(AdapterConfig, Vec<(String, Tensor)>)> {
        Err(Error::input(format!("{}: virtual tokens have no strength that could be scaled; only LoRA and (IA)³ can be", self.name())))
    }

    /// Settings and parameters of the adapter with the same effect that sits only on what PEFT knows: on the whole of each [`Group`](super::fused)
    /// of parts. Kinds that sit on no module have none.
    fn at_wholes(&self, _parameters: &Parameters, _base: &Base) -> Result<(AdapterConfig, Named)> {
        Err(Error::internal(format!("{} sits on no module", self.name())))
    }

    /// The module's weight and bias with the adapter folded in, computed in f32 at least; `None` where the adapter does not sit.
    fn merged(&self, _parameters: &Parameters, _site: &str, _weight: &Tensor, _bias: Option<&Tensor>) -> Result<Option<Merged>> {
        Err(Error::input(format!(
            "{}: virtual tokens cannot be merged into weights; keep the adapter next to the model (`model.with(&adapter)`)",
            self.name()
        )))
    }
}
