//! Shifts of linear modules' outputs.

use std::collections::HashMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Device, Tensor};

use super::method::{Merged, Tuning};
use super::peft::Settings;
use super::sites::Sites;
use super::{Base, Parameters};
use crate::error::Result;
use crate::kind::wide;
use crate::model::{Config, Model};
use crate::nn::{Adapt, DropoutDraws, Frozen};

/// The parameter's name behind its module's.
const SHIFT: &str = "shift_b";

/// `y = W x + b` with `b [out]` at each site, which starts at zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    sites: Sites,
}

impl Shift {
    /// On the modules that these patterns of paths choose, as [`Lora::sites`](super::Lora::sites).
    pub fn on(patterns: &str) -> Self {
        Self { sites: Sites::new(patterns) }
    }
}

impl Tuning for Shift {
    fn name(&self) -> String {
        format!("shifts on {}", self.sites)
    }

    fn layout(&self, model: &Model) -> Result<Vec<(String, Vec<i64>)>> {
        Ok(self.sites.of(model)?.into_iter().map(|site| (format!("{}.{SHIFT}", site.path), vec![site.outputs])).collect())
    }

    fn start(&self, model: &Model, _seed: u64) -> Result<Vec<(String, Tensor)>> {
        let zeros = |size: Vec<i64>| Tensor::zeros(size, (wide(model.kind()), Device::Cpu));
        Ok(self.layout(model)?.into_iter().map(|(name, size)| (name, zeros(size))).collect())
    }

    fn attach(&self, parameters: &Parameters, _config: &Config) -> Result<Rc<dyn Adapt>> {
        let shifts = parameters.sites().into_iter().map(|site| Ok((site.to_string(), parameters.get(&format!("{site}.{SHIFT}"))?)));
        Ok(Rc::new(Shifts(shifts.collect::<Result<_>>()?)))
    }

    fn write(&self, parameters: &Parameters, base: &Base) -> Result<Value> {
        Ok(json!({"target_modules": base.owns(&parameters.sites())}))
    }

    fn read(settings: &mut Settings, model: &Model) -> Result<Self> {
        Ok(Self { sites: Sites::spelled(&settings.targets(model)?, model) })
    }

    fn merged(&self, parameters: &Parameters, site: &str, weight: &Tensor, bias: Option<&Tensor>) -> Result<Option<Merged>> {
        let Some(shift) = parameters.find(&format!("{site}.{SHIFT}")) else { return Ok(None) };
        let sum = bias.map_or_else(|| shift.detach(), |bias| bias + shift.detach());
        Ok(Some((weight.shallow_clone(), Some(sum.to_kind(weight.kind())))))
    }
}

#[derive(Debug)]
struct Shifts(HashMap<String, Tensor>);

impl Adapt for Shifts {
    fn applies_at(&self, site: &str) -> bool {
        self.0.contains_key(site)
    }

    fn linear(&self, module: &Frozen<'_>, input: &Tensor, _draws: Option<DropoutDraws>) -> Result<Tensor> {
        let values = module.forward(input)?;
        Ok(match self.0.get(module.path()) {
            Some(shift) => (&values + shift).to_kind(values.kind()),
            None => values,
        })
    }

    fn numbers(&self) -> Vec<(String, Tensor)> {
        let mut shifts: Vec<(String, Tensor)> = self.0.iter().map(|(site, shift)| (site.clone(), shift.detach())).collect();
        shifts.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        shifts
    }
}

crate::display::show_as_text!(Shift);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_is_nothing_at_first_and_moves_its_module_alone() -> Result<()> {
        let (model, shift) = (Model::open("tiny-icl")?, Shift::on("model.layers.2.mlp.down_proj"));
        let parameters = Parameters::new(shift.start(&model, 0)?, model.device())?;
        let base = model.forward(&[vec![1, 5, 9]])?.values;
        let with = || Ok::<_, crate::Error>(model.adapted(shift.attach(&parameters, model.config())?).forward(&[vec![1, 5, 9]])?.values);
        assert_eq!(with()?, base);
        assert_eq!(parameters.sites(), ["model.layers.2.mlp.down_proj"]);
        parameters.set(&(parameters.flat() + 0.5))?;
        assert_ne!(with()?, base);
        Ok(())
    }
}
