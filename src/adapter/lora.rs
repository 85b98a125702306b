//! LoRA: low-rank updates.

use std::collections::HashMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::Parameters;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::nn::{Adapt, Selection};
use crate::random::Random;

/// `y = W x + (alpha / rank) B A x` at each site, `A [rank, in]`, `B [out, rank]` (Hu et al. 2021, eq. 3).
///
/// A starts uniform in `±1 / sqrt(in)` (PEFT's Kaiming start), B at zero. Defaults are the paper's: alpha 8, sites `q_proj, k_proj, o_proj`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lora {
    pub(super) rank: i64,
    pub(super) alpha: f64,
    pub(super) sites: String,
}

impl Lora {
    /// Updates of this rank.
    pub fn rank(rank: i64) -> Self {
        Self { rank, alpha: 8.0, sites: "q_proj, k_proj, o_proj".into() }
    }

    /// Scales the update by `alpha / rank`.
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// Where the updates sit: patterns of module paths separated by commas, or a module's bare name for every layer
    /// (`q_proj, v_proj`, `model.layers.0.self_attn.*`).
    pub fn sites(mut self, patterns: &str) -> Self {
        self.sites = patterns.to_string();
        self
    }

    pub(super) fn name(&self) -> String {
        format!("LoRA r={} alpha={} on {}", self.rank, self.alpha, self.sites)
    }

    pub(super) fn start(&self, model: &Model, seed: u64) -> Result<Vec<(String, Tensor)>> {
        if self.rank < 1 || !self.alpha.is_finite() {
            return Err(Error::input(format!(
                "LoRA rank {} and alpha {}: the rank must be at least 1, alpha finite",
                self.rank, self.alpha
            )));
        }
        let sites = model.sites();
        let paths: Vec<String> = sites.iter().map(|(path, _)| path.clone()).collect();
        let patterns: Vec<String> = self.sites.split(',').map(|pattern| full_pattern(pattern.trim())).collect();
        let chosen = Selection::new(&patterns.join(","))?;
        chosen.of(&paths)?;
        let wide = if model.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        let mut tensors = Vec::new();
        for (index, (path, (inputs, outputs))) in sites.into_iter().enumerate().filter(|(_, (path, _))| chosen.matches(path)) {
            if self.rank > inputs.min(outputs) {
                return Err(Error::input(format!("LoRA rank {} exceeds the widths {inputs} and {outputs} of `{path}`", self.rank)));
            }
            let mut draws = Random::new(seed, "LoRA A", index as u64);
            let bound = 1.0 / (inputs as f64).sqrt();
            let a: Vec<f32> = (0..self.rank * inputs).map(|_| ((draws.unit() * 2.0 - 1.0) * bound) as f32).collect();
            tensors.push((format!("{path}.lora_A.weight"), Tensor::from_slice(&a).view([self.rank, inputs]).to_kind(wide)));
            tensors.push((format!("{path}.lora_B.weight"), Tensor::zeros([outputs, self.rank], (wide, tch::Device::Cpu))));
        }
        Ok(tensors)
    }

    pub(super) fn attach(&self, parameters: &Parameters) -> Result<Rc<dyn Adapt>> {
        let mut updates = HashMap::new();
        for (name, a) in parameters.entries() {
            if let Some(path) = name.strip_suffix(".lora_A.weight") {
                let b = parameters.get(&format!("{path}.lora_B.weight"))?;
                updates.insert(path.to_string(), (a.shallow_clone(), b));
            }
        }
        Ok(Rc::new(Updates { updates, scale: self.alpha / self.rank as f64 }))
    }
}

/// `q_proj` means that module in every layer.
fn full_pattern(pattern: &str) -> String {
    if pattern.contains('.') || pattern.is_empty() { pattern.to_string() } else { format!("model.layers.*.*.{pattern}") }
}

#[derive(Debug)]
struct Updates {
    updates: HashMap<String, (Tensor, Tensor)>,
    scale: f64,
}

impl Adapt for Updates {
    fn linear(&self, site: &str, input: &Tensor, _training: bool, base: &dyn Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let output = base(input)?;
        let Some((a, b)) = self.updates.get(site) else { return Ok(output) };
        // Half-precision models keep their adapters in f32: the small product is computed there and added in the model's kind.
        let kind = output.kind();
        let update = (input.to_kind(a.kind()).linear::<Tensor>(a, None) * self.scale).linear::<Tensor>(b, None);
        Ok(output + update.to_kind(kind))
    }
}
