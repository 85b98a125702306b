//! (IA)³: factors on activations.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Device, Tensor};

use super::fused::{self, Group, Named};
use super::method::{Merged, Tuning};
use super::peft::{self, IA3, Settings};
use super::sites::{self, Site, Sites, selection};
use super::{AdapterConfig, Base, Parameters};
use crate::compat::Compat;
use crate::error::{Error, Result};
use crate::kind::{wide, widened};
use crate::model::{Config, Model};
use crate::nn::{Adapt, DropoutDraws, Frozen};

/// `y = l * (W x + b)` with `l [out]` at each site, or `y = W (l * x) + b` with `l [in]` at those whose inputs are scaled
/// (Liu et al. 2022, arXiv:2205.05638, section 3.3). `*` is by component; `l` starts at one.
///
/// The default scales the outputs of `q_proj, k_proj, o_proj`, the sites of the IA2 paper, as PEFT does with modules of attention. The authors'
/// code names each of these as feed-forward, which scales their *inputs* instead: `Ia3::new().compat(Compat::Paper)`. The original of
/// (IA)³ is `Ia3::new().sites("k_proj, v_proj, down_proj").scale_inputs("down_proj")`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ia3 {
    sites: Sites,
    /// Patterns of the sites whose inputs are scaled; may be empty.
    inputs: String,
    compat: Compat,
}

impl Default for Ia3 {
    fn default() -> Self {
        Self { sites: Sites::new("q_proj, k_proj, o_proj"), inputs: String::new(), compat: Compat::default() }
    }
}

impl Ia3 {
    /// Factors on the outputs of `q_proj, k_proj, o_proj` of every layer.
    pub fn new() -> Self {
        Self::default()
    }

    sites::setters!();

    /// Which of the sites have their inputs scaled and not their outputs, as the feed-forward module of each layer should.
    pub fn scale_inputs(mut self, patterns: &str) -> Self {
        self.inputs = patterns.to_string();
        self
    }

    /// Under [`Compat::Paper`] the inputs of all sites are scaled, as the authors' code does.
    pub fn compat(mut self, compat: Compat) -> Self {
        self.compat = compat;
        self
    }

    /// Sites, each with whether its input is scaled.
    fn placed(&self, model: &Model) -> Result<Vec<(Site, bool)>> {
        let sites = self.sites.of(model)?;
        let paper = self.compat == Compat::Paper;
        if paper || self.inputs.is_empty() {
            return Ok(sites.into_iter().map(|site| (site, paper)).collect());
        }
        let inputs = selection(&self.inputs)?;
        inputs.of(&sites.iter().map(|site| site.path.clone()).collect::<Vec<_>>())?;
        Ok(sites.into_iter().map(|site| (inputs.matches(&site.path), site)).map(|(input, site)| (site, input)).collect())
    }
}

/// An input's factors are a row, an output's a column.
fn scales_input(factors: &Tensor) -> bool {
    factors.size()[0] == 1
}

impl Tuning for Ia3 {
    fn name(&self) -> String {
        let inputs = match (self.compat, self.inputs.as_str()) {
            (Compat::Paper, _) => ", inputs at all".to_string(),
            (_, "") => String::new(),
            (_, patterns) => format!(", inputs at {patterns}"),
        };
        format!("(IA)³ on {}{inputs}", self.sites)
    }

    fn layout(&self, model: &Model) -> Result<Vec<(String, Vec<i64>)>> {
        let one = |(site, input): (Site, bool)| {
            (format!("{}.{IA3}", site.path), if input { vec![1, site.inputs] } else { vec![site.outputs, 1] })
        };
        Ok(self.placed(model)?.into_iter().map(one).collect())
    }

    fn start(&self, model: &Model, _seed: u64) -> Result<Vec<(String, Tensor)>> {
        let ones = |shape: Vec<i64>| Tensor::ones(shape, (wide(model.kind()), Device::Cpu));
        Ok(self.layout(model)?.into_iter().map(|(name, shape)| (name, ones(shape))).collect())
    }

    fn attach(&self, parameters: &Parameters, _config: &Config) -> Result<Rc<dyn Adapt>> {
        let sites = parameters.sites().into_iter();
        let factors = sites.map(|site| Ok((site.to_string(), parameters.get(&format!("{site}.{IA3}"))?)));
        Ok(Rc::new(Factors(factors.collect::<Result<_>>()?)))
    }

    fn write(&self, parameters: &Parameters, base: &Base) -> Result<Value> {
        let sites = parameters.sites();
        let input = |site: &&str| parameters.find(&format!("{site}.{IA3}")).is_some_and(|factors| scales_input(&factors));
        let inputs: Vec<&str> = sites.iter().copied().filter(input).collect();
        Ok(json!({
            "target_modules": base.owns(&sites), "feedforward_modules": base.owns(&inputs), "fan_in_fan_out": base.is_transposed(),
            "init_ia3_weights": true, "modules_to_save": null,
        }))
    }

    fn read(settings: &mut Settings, model: &Model) -> Result<Self> {
        peft::transposed(&mut settings.keys, model)?;
        settings.keys.ignore(&["init_ia3_weights"]);
        let paths = settings.targets(model)?;
        let inputs = settings.feedforward(&paths, model)?;
        // Where the choice of inputs is one by names, so is its spelling.
        let short = if inputs.is_empty() { Sites::default() } else { Sites::spelled(&inputs, model) };
        let inputs = if short.layers.is_some() { inputs.join(", ") } else { short.patterns };
        Ok(Self { sites: Sites::spelled(&paths, model), inputs, compat: Compat::default() })
    }

    fn at_wholes(&self, parameters: &Parameters, base: &Base) -> Result<(AdapterConfig, Named)> {
        let (mut paths, mut inputs, mut tensors) = (Vec::new(), Vec::new(), Vec::new());
        for group in fused::groups(parameters, base) {
            let path = group.path().to_string();
            let scaled = |site: &&str| parameters.find(&format!("{site}.{IA3}")).is_some_and(|factors| scales_input(&factors));
            if let (Group::Parts(..), Some(site)) = (&group, group.sites().into_iter().find(scaled)) {
                return Err(Error::input(format!(
                    "{}: the inputs of `{site}` are scaled, but this family's files hold `{path}` as one matrix, of which PEFT scales the one input \
                     of all: use the site `{path}`, or scale outputs",
                    self.name()
                )));
            }
            if group.sites().iter().any(scaled) {
                inputs.push(path.clone());
            }
            let ones = |rows: i64| Ok(Tensor::f_ones([rows, 1], (parameters.flat().kind(), parameters.flat().device()))?);
            tensors.push((format!("{path}.{IA3}"), group.rows(parameters, IA3, &ones)?));
            paths.push(path);
        }
        let whole = Self { sites: Sites::new(&paths.join(", ")), inputs: inputs.join(", "), compat: Compat::default() };
        Ok((whole.into(), tensors))
    }

    fn scaled(&self, parameters: &Parameters, factor: f64) -> Result<(AdapterConfig, Vec<(String, Tensor)>)> {
        let toward_one = |tensor: &Tensor| (tensor.detach() - 1.0) * factor + 1.0;
        let tensors = parameters.entries().iter().map(|(name, tensor)| (name.clone(), toward_one(tensor))).collect();
        Ok((self.clone().into(), tensors))
    }

    fn merged(&self, parameters: &Parameters, site: &str, weight: &Tensor, bias: Option<&Tensor>) -> Result<Option<Merged>> {
        let Some(factors) = parameters.find(&format!("{site}.{IA3}")) else { return Ok(None) };
        let factors = factors.detach();
        let times = |values: &Tensor, factors: &Tensor| (widened(values) * factors.to_kind(wide(values.kind()))).to_kind(values.kind());
        // `[1, in]` scales columns, `[out, 1]` rows, and with them the bias.
        let bias = bias.map(|bias| if scales_input(&factors) { bias.shallow_clone() } else { times(bias, &factors.view([-1])) });
        Ok(Some((times(weight, &factors), bias)))
    }
}

#[derive(Debug)]
struct Factors(BTreeMap<String, Tensor>);

impl Adapt for Factors {
    fn applies_at(&self, site: &str) -> bool {
        self.0.contains_key(site)
    }

    fn linear(&self, module: &Frozen<'_>, input: &Tensor, _draws: Option<DropoutDraws>) -> Result<Tensor> {
        match self.0.get(module.path()) {
            None => module.forward(input),
            Some(factors) if scales_input(factors) => module.forward(&times(input, factors)),
            Some(factors) => Ok(times(&module.forward(input)?, factors)),
        }
    }

    fn numbers(&self) -> Vec<(String, Tensor)> {
        self.0.iter().map(|(site, factors)| (site.clone(), factors.detach())).collect()
    }
}

/// In the factors' kind: rounded to bf16, a factor near one would lose all that training moves it by.
fn times(values: &Tensor, factors: &Tensor) -> Tensor {
    (values * factors.view([-1])).to_kind(values.kind())
}
