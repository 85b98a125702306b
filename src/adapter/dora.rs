//! DoRA: low-rank updates of weights that are split into magnitude and direction.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Tensor;

use super::fused::{self, Named};
use super::lora::{Lora, LowRank};
use super::method::{Merged, Tuning};
use super::peft::{LORA_A, MAGNITUDE, Settings};
use super::{AdapterConfig, Base, Parameters};
use crate::error::{Error, Result};
use crate::kind::{wide, widened};
use crate::model::{Config, Model};
use crate::nn::{Adapt, DropoutDraws, Frozen};

/// `y = m / |W + s B A| * (W x + s B A x) + b` at each site: LoRA's update turns the rows of the weight, and `m [out]` is how long they are
/// (Liu et al. 2024, arXiv:2402.09353, eq. 5). `|.|` is the Euclidean norm of each row, `*` is by component.
///
/// `m` starts at the rows' own norms, so that a fresh adapter is the base model. As the paper (section 4.3) and PEFT have it, no gradient flows
/// through the norm. Everything else, its sites and its dropout are those of the [`Lora`] that it is made of; PEFT calls it `LORA` with `use_dora`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dora {
    lora: Lora,
}

impl Dora {
    /// With this low-rank update: its rank, alpha, dropout and sites.
    pub fn of(lora: Lora) -> Self {
        Self { lora }
    }

    /// With updates of this rank, and LoRA's other defaults.
    pub fn rank(rank: i64) -> Self {
        Self::of(Lora::rank(rank))
    }
}

/// The norm of each row of `W + s B A`, `[out]`, in f32 at least; without an update, of `W`.
fn norms(weight: &Tensor, update: Option<&LowRank>) -> Result<Tensor> {
    let weight = widened(weight);
    let turned = match update {
        Some(update) => weight + update.delta(),
        None => weight,
    };
    Ok(turned.f_norm_scalaropt_dim(2.0, [1i64], false)?)
}

/// `m / |W + s B A|`, `[out]`. A row of zeros has no direction, whatever its magnitude.
fn scales(magnitude: &Tensor, norms: &Tensor) -> Tensor {
    magnitude / norms.clamp_min(1e-12)
}

impl Tuning for Dora {
    fn name(&self) -> String {
        self.lora.name().replacen("LoRA", "DoRA", 1)
    }

    fn layout(&self, model: &Model) -> Result<Vec<(String, Vec<i64>)>> {
        let mut layout = Vec::new();
        for pair in self.lora.layout(model)?.chunks(2) {
            let [(a, _), (_, b)] = pair else { return Err(Error::internal("an update of one factor")) };
            let (site, outputs) = (a.trim_end_matches(LORA_A), b[0]);
            layout.extend_from_slice(pair);
            layout.push((format!("{site}{MAGNITUDE}"), vec![outputs]));
        }
        Ok(layout)
    }

    fn start(&self, model: &Model, seed: u64) -> Result<Vec<(String, Tensor)>> {
        let _constant = tch::no_grad_guard();
        let mut started = self.lora.start(model, seed)?.into_iter();
        let mut tensors = Vec::new();
        while let (Some(a), Some(b)) = (started.next(), started.next()) {
            let site = a.0.trim_end_matches(LORA_A).to_string();
            let (weight, _) = model.frozen(site.trim_end_matches('.'))?;
            tensors.extend([a, b, (format!("{site}{MAGNITUDE}"), norms(&weight, None)?)]);
        }
        Ok(tensors)
    }

    fn draws(&self) -> bool {
        self.lora.draws()
    }

    fn attach(&self, parameters: &Parameters, _config: &Config) -> Result<Rc<dyn Adapt>> {
        let mut sites = BTreeMap::new();
        for path in parameters.sites() {
            if let Some(update) = self.lora.update(parameters, path)? {
                let magnitude = parameters.get(&format!("{path}.{MAGNITUDE}"))?;
                sites.insert(path.to_string(), Turned { update, magnitude, norms: RefCell::default() });
            }
        }
        Ok(Rc::new(Turns { sites, dropout: self.lora.dropout_probability() }))
    }

    fn write(&self, parameters: &Parameters, base: &Base) -> Result<Value> {
        let mut settings = self.lora.write(parameters, base)?;
        settings["use_dora"] = true.into();
        Ok(settings)
    }

    fn read(settings: &mut Settings, model: &Model) -> Result<Self> {
        Lora::of_settings(settings, model).map(Self::of)
    }

    fn at_wholes(&self, parameters: &Parameters, base: &Base) -> Result<(AdapterConfig, Named)> {
        let (lora, factors) = self.lora.on_wholes(parameters, base)?;
        let mut factors = factors.into_iter();
        let mut tensors = Vec::new();
        for group in fused::groups(parameters, base) {
            let path = group.path();
            let absent = |_| {
                Err(Error::input(format!(
                    "{}: only {} of what this family's files hold as the one matrix `{path}`, but PEFT knows the magnitudes of all its rows: \
                     use the site `{path}`, or all of its parts",
                    self.name(),
                    group.sites().join(" and ")
                )))
            };
            tensors.extend(factors.by_ref().take(2));
            tensors.push((format!("{path}.{MAGNITUDE}"), group.rows(parameters, MAGNITUDE, &absent)?));
        }
        Ok((Self::of(lora).into(), tensors))
    }

    fn scaled(&self, _parameters: &Parameters, _factor: f64) -> Result<(AdapterConfig, Vec<(String, Tensor)>)> {
        Err(Error::input(format!("{}: magnitudes have no strength that could be scaled; only LoRA and (IA)³ can be", self.name())))
    }

    fn merged(&self, parameters: &Parameters, site: &str, weight: &Tensor, bias: Option<&Tensor>) -> Result<Option<Merged>> {
        let Some(update) = self.lora.update(parameters, site)? else { return Ok(None) };
        let kind = wide(weight.kind());
        let magnitude = parameters.get(&format!("{site}.{MAGNITUDE}"))?.detach().to_kind(kind);
        let scales = scales(&magnitude, &norms(weight, Some(&update))?).unsqueeze(1);
        let merged = (weight.to_kind(kind) + update.delta().to_kind(kind)) * scales;
        Ok(Some((merged.to_kind(weight.kind()), bias.map(Tensor::shallow_clone))))
    }
}

/// What is trained at a site, and the rows' norms as long as neither factor has changed: each with how often it had been written to.
#[derive(Debug)]
struct Turned {
    update: LowRank,
    magnitude: Tensor,
    norms: RefCell<Option<((i64, i64), Tensor)>>,
}

impl Turned {
    /// Without a gradient.
    fn norms(&self, module: &Frozen<'_>) -> Result<Tensor> {
        let written = (self.update.a.internal_version(), self.update.b.internal_version());
        if let Some((_, norms)) = self.norms.borrow().as_ref().filter(|(of, _)| *of == written) {
            return Ok(norms.shallow_clone());
        }
        let norms = tch::no_grad(|| norms(&module.weights()?.0, Some(&self.update)))?;
        *self.norms.borrow_mut() = Some((written, norms.shallow_clone()));
        Ok(norms)
    }
}

#[derive(Debug)]
struct Turns {
    sites: BTreeMap<String, Turned>,
    dropout: f64,
}

impl Adapt for Turns {
    fn applies_at(&self, site: &str) -> bool {
        self.sites.contains_key(site)
    }

    fn linear(&self, module: &Frozen<'_>, input: &Tensor, draws: Option<DropoutDraws>) -> Result<Tensor> {
        let Some(site) = self.sites.get(module.path()) else { return module.forward(input) };
        let output = module.forward(input)?;
        let kind = output.kind();
        let scales = scales(&site.magnitude, &site.norms(module)?);
        let (weight, bias) = module.weights()?;
        // As PEFT has it: under dropout both products are of what is left of the input.
        let (seen, product) = match draws.filter(|_| self.dropout > 0.0) {
            Some(draws) => {
                let seen = draws.dropout(module.path(), input, self.dropout)?;
                let product = seen.f_linear::<Tensor>(&weight, None)?;
                (seen, product)
            }
            None => (input.shallow_clone(), bias.map_or_else(|| output.shallow_clone(), |bias| &output - bias)),
        };
        let LowRank { a, b, scale } = &site.update;
        let update = seen.f_linear::<Tensor>(&a.to_kind(kind), None)?.f_linear::<Tensor>(&b.to_kind(kind), None)?;
        // Less one before the rounding: near one, bf16 could not tell a magnitude from its start.
        Ok(output + product * (&scales - 1.0).to_kind(kind) + update * (scales * *scale).to_kind(kind))
    }

    fn numbers(&self) -> Vec<(String, Tensor)> {
        let of = |(path, site): (&String, &Turned)| {
            let mut numbers = site.update.numbers(path);
            numbers.push((format!("{path}.{MAGNITUDE}"), site.magnitude.detach()));
            numbers
        };
        self.sites.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    const PATH: &str = "model.layers.0.self_attn.q_proj";

    fn random(shape: &[i64], phase: f64) -> Tensor {
        let places = Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu));
        (places * 1.7 + phase).sin().view(shape)
    }

    fn site() -> Turned {
        let leaf = |shape: &[i64], phase: f64| random(shape, phase).set_requires_grad(true);
        let update = LowRank { a: leaf(&[2, 5], 0.3), b: leaf(&[4, 2], 0.9), scale: 1.5 };
        Turned { update, magnitude: leaf(&[4], 2.1), norms: RefCell::default() }
    }

    #[test]
    fn values_and_gradients_are_the_formula_s_and_the_norm_has_none() -> Result<()> {
        let (weight, bias, input) = (random(&[4, 5], 0.1), random(&[4], 0.2), random(&[3, 2, 5], 0.5));
        let base = |input: &Tensor| Ok(input.linear(&weight, Some(&bias)));
        let weights = || Ok((weight.shallow_clone(), Some(bias.shallow_clone())));
        let module = Frozen::new(PATH, &base, &weights);
        for (dropout, draws) in [(0.0, None), (0.0, Some(DropoutDraws::new(3))), (0.5, None), (0.5, Some(DropoutDraws::new(3)))] {
            let turns = Turns { sites: BTreeMap::from([(PATH.to_string(), site())]), dropout };
            let Turned { update: LowRank { a, b, scale }, magnitude, .. } = &turns.sites[PATH];
            for step in 0..2 {
                let ours = turns.linear(&module, &input, draws)?;
                let turned = &weight + b.matmul(a) * *scale;
                let factor = magnitude / turned.detach().square().sum_dim_intlist([1i64].as_slice(), false, Kind::Double).sqrt();
                let seen = match draws.filter(|_| dropout > 0.0) {
                    Some(draws) => draws.dropout(PATH, &input, dropout)?,
                    None => input.shallow_clone(),
                };
                let plain = |input: &Tensor| input.linear::<Tensor>(&weight, None);
                let update = seen.matmul(&a.tr()).matmul(&b.tr()) * *scale;
                let theirs = plain(&input) + &bias + (&factor - 1.0) * plain(&seen) + &factor * update;
                let gradients = |value: &Tensor| {
                    let loss = (value * random(&[3, 2, 4], 0.7)).sum(None);
                    Tensor::run_backward(&[loss], &[a, b, magnitude], true, false)
                };
                let apart = |ours: &Tensor, theirs: &Tensor| (ours - theirs).abs().max().double_value(&[]);
                assert!(apart(&ours, &theirs) < 1e-12, "dropout {dropout} step {step}");
                for (ours, theirs) in gradients(&ours).iter().zip(gradients(&theirs)) {
                    assert!(apart(ours, &theirs) < 1e-12, "dropout {dropout} step {step}");
                }
                // As an optimiser writes: what is kept of the norms must not outlive it.
                let _ = tch::no_grad(|| a.shallow_clone().g_add_scalar_(0.25));
            }
        }
        Ok(())
    }

    #[test]
    fn a_row_of_zeros_stays_finite() -> Result<()> {
        let weight = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
        let scales = scales(&norms(&weight, None)?, &norms(&weight, None)?);
        assert_eq!(Vec::<f32>::try_from(&scales).unwrap(), [0.0, 0.0]);
        Ok(())
    }
}
