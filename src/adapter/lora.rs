//! LoRA: low-rank updates.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tch::{Device, Tensor};

use super::fused::{self, Named};
use super::method::{Merged, Tuning};
use super::peft::{self, LORA_A, LORA_B, Settings};
use super::sites::{self, Site, Sites, selection};
use super::{Adapter, AdapterConfig, Base, Parameters};
use crate::display::{Bundle, Show};
use crate::error::{Error, Result};
use crate::kind::wide;
use crate::model::{Config, Model};
use crate::nn::{Adapt, LowRankUpdate};
use crate::random::Random;

/// `y = W x + s B A x` at each site, `A [rank, in]`, `B [out, rank]`, `s = alpha / rank` (Hu et al. 2021, arXiv:2106.09685, eq. 3) or,
/// [rank-stabilised](Lora::rank_stabilised), `alpha / sqrt(rank)`.
///
/// A starts uniform in `±1 / sqrt(in)` (PEFT's Kaiming start), B at zero. Defaults are the paper's: alpha 8, sites `q_proj, k_proj, o_proj`
/// of all layers, no dropout.
///
/// Under a half-precision model the parameters are f32. Up to rank 32 in bf16 the two thin products are computed in f32 from the unrounded
/// parameters, as PEFT does; beyond, and in f16, from their half-precision roundings, as torch's autocast does. Either way an update's rounding
/// error is at most what rounding the module's output costs anyway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lora {
    rank: i64,
    alpha: f64,
    rank_stabilised: bool,
    dropout: f64,
    sites: Sites,
    ranks: Vec<(String, i64)>,
    alphas: Vec<(String, f64)>,
}

/// A low-rank update of one module: `scale B A`, `[out, in]`.
#[derive(Debug)]
pub struct LowRank {
    /// `[rank, in]`.
    pub a: Tensor,
    /// `[out, rank]`.
    pub b: Tensor,
    /// What `B A` is multiplied with.
    pub scale: f64,
}

impl Lora {
    /// Updates of this rank.
    pub fn rank(rank: i64) -> Self {
        let sites = Sites::new("q_proj, k_proj, o_proj");
        Self { rank, alpha: 8.0, rank_stabilised: false, dropout: 0.0, sites, ranks: Vec::new(), alphas: Vec::new() }
    }

    /// Scales the update by `alpha / rank`.
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// Scales the update by `alpha / sqrt(rank)` (rsLoRA, Kalajdzievski 2023, arXiv:2312.03732).
    pub fn rank_stabilised(mut self) -> Self {
        self.rank_stabilised = true;
        self
    }

    /// In training each component of the update's input is zero with this probability, the others grow by `1 / (1 - p)`; in `[0, 1)`.
    pub fn dropout(mut self, probability: f64) -> Self {
        self.dropout = probability;
        self
    }

    sites::setters!();

    /// Another rank at some of the sites; of several patterns that match one, the first given holds.
    pub fn rank_at(mut self, patterns: &str, rank: i64) -> Self {
        self.ranks.push((patterns.to_string(), rank));
        self
    }

    /// Another alpha at some of the sites; of several patterns that match one, the first given holds.
    pub fn alpha_at(mut self, patterns: &str, alpha: f64) -> Self {
        self.alphas.push((patterns.to_string(), alpha));
        self
    }

    fn check(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::input(format!("LoRA dropout {}: use a probability from 0 to below 1", self.dropout)));
        }
        let ranks = std::iter::once(self.rank).chain(self.ranks.iter().map(|(_, rank)| *rank));
        let alphas = std::iter::once(self.alpha).chain(self.alphas.iter().map(|(_, alpha)| *alpha));
        match (ranks.min().filter(|&rank| rank < 1), alphas.into_iter().find(|alpha| !alpha.is_finite())) {
            (Some(rank), _) => Err(Error::input(format!("LoRA rank {rank}: the rank must be at least 1"))),
            (_, Some(alpha)) => Err(Error::input(format!("LoRA alpha {alpha}: alpha must be finite"))),
            (None, None) => Ok(()),
        }
    }

    /// Sites with their ranks.
    fn placed(&self, model: &Model) -> Result<Vec<(Site, i64)>> {
        self.check()?;
        let sites = self.sites.of(model)?;
        let paths: Vec<String> = sites.iter().map(|site| site.path.clone()).collect();
        for patterns in self.ranks.iter().map(|(patterns, _)| patterns).chain(self.alphas.iter().map(|(patterns, _)| patterns)) {
            selection(patterns)?.of(&paths)?;
        }
        sites.into_iter().map(|site| Ok((site.clone(), first(&self.ranks, &site.path)?.unwrap_or(self.rank)))).collect()
    }

    fn alpha_of(&self, path: &str) -> Result<f64> {
        Ok(first(&self.alphas, path)?.unwrap_or(self.alpha))
    }

    /// What PEFT's settings say of ranks, alphas, dropout and sites.
    pub(super) fn of_settings(settings: &mut Settings, model: &Model) -> Result<Self> {
        let Settings { keys, .. } = settings;
        let mut lora = Self::rank(keys.needed_size("r")?);
        lora.alpha = keys.needed_number("lora_alpha")?;
        lora.dropout = keys.number("lora_dropout")?.unwrap_or(0.0);
        lora.rank_stabilised = keys.flag("use_rslora", false)?;
        keys.only("bias", "none", "trained biases")?;
        keys.only("lora_bias", false, "a bias of the update")?;
        peft::transposed(keys, model)?;
        // Other ways to start change the base weights, too, so that the saved update belongs to no model on disk.
        if let Some(start) =
            keys.value("init_lora_weights").filter(|start| !start.is_boolean() && start != "gaussian" && start != "orthogonal")
        {
            return Err(keys.error(format!("`init_lora_weights` is {start}: a start that changes the base weights is not supported here")));
        }
        keys.ignore(&["loftq_config", "eva_config", "corda_config", "lora_ga_config", "megatron_config", "megatron_core"]);
        // Of weights that are tied to others and trained; none of those can be here.
        keys.ignore(&["qalora_group_size", "runtime_config", "ensure_weight_tying"]);
        let paths = settings.targets(model)?;
        let (ranks, alphas) = (settings.per_module("rank_pattern", &paths, model)?, settings.per_module("alpha_pattern", &paths, model)?);
        for (path, rank) in ranks {
            if rank.fract() != 0.0 || rank < 1.0 {
                return Err(settings.keys.error(format!("`rank_pattern` gives `{path}` the rank {rank}")));
            }
            lora.ranks.push((path, rank as i64));
        }
        lora.alphas = alphas;
        lora.sites = Sites::spelled(&paths, model);
        Ok(lora)
    }

    /// How likely training drops each component of an update's input.
    pub(super) fn dropout_probability(&self) -> f64 {
        self.dropout
    }

    /// Settings and factors on what PEFT knows.
    pub(super) fn on_wholes(&self, parameters: &Parameters, base: &Base) -> Result<(Self, Named)> {
        let groups = fused::groups(parameters, base);
        let paths: Vec<&str> = groups.iter().map(fused::Group::path).collect();
        let mut lora = Self { sites: Sites::new(&paths.join(", ")), ranks: Vec::new(), alphas: Vec::new(), ..self.clone() };
        let mut tensors = Vec::new();
        for (group, path) in groups.iter().zip(paths) {
            let (a, b) = group.factors(parameters)?;
            let rank = a.size()[0];
            let alpha = match group {
                fused::Group::One(site) => self.alpha_of(site)?,
                fused::Group::Parts(_, parts) => {
                    let updates = parts.iter().map(|part| self.update(parameters, part)).collect::<Result<Vec<_>>>()?;
                    let scales: Vec<f64> = updates.iter().flatten().map(|update| update.scale).collect();
                    if let Some(other) = scales.iter().find(|scale| **scale != scales[0]) {
                        return Err(Error::input(format!(
                            "{}: the updates of {} are scaled by {} and {other}, but this family's files hold `{path}` as one matrix, of which \
                             PEFT knows one update with one scale: give them the same alpha and rank, or use the site `{path}`",
                            self.name(),
                            parts.join(" and "),
                            scales[0]
                        )));
                    }
                    scales[0] * if self.rank_stabilised { (rank as f64).sqrt() } else { rank as f64 }
                }
            };
            if rank != self.rank {
                lora.ranks.push((path.to_string(), rank));
            }
            if alpha != self.alpha {
                lora.alphas.push((path.to_string(), alpha));
            }
            tensors.extend([(format!("{path}.{LORA_A}"), a), (format!("{path}.{LORA_B}"), b)]);
        }
        Ok((lora, tensors))
    }

    /// The update at a site, if there is one.
    pub(super) fn update(&self, parameters: &Parameters, site: &str) -> Result<Option<LowRank>> {
        let (Some(a), Some(b)) = (parameters.find(&format!("{site}.{LORA_A}")), parameters.find(&format!("{site}.{LORA_B}"))) else {
            return Ok(None);
        };
        let rank = a.size()[0] as f64;
        let scale = self.alpha_of(site)? / if self.rank_stabilised { rank.sqrt() } else { rank };
        Ok(Some(LowRank { a, b, scale }))
    }
}

/// The value of the first pattern that matches.
fn first<T: Copy>(patterns: &[(String, T)], path: &str) -> Result<Option<T>> {
    for (pattern, value) in patterns {
        if selection(pattern)?.matches(path) {
            return Ok(Some(*value));
        }
    }
    Ok(None)
}

impl Tuning for Lora {
    fn name(&self) -> String {
        let stabilised = if self.rank_stabilised { "rs" } else { "" };
        let dropout = if self.dropout > 0.0 { format!(" dropout={}", self.dropout) } else { String::new() };
        let mut name = format!("{stabilised}LoRA r={} alpha={}{dropout} on {}", self.rank, self.alpha, self.sites);
        for (patterns, rank) in &self.ranks {
            name.push_str(&format!(", r={rank} at {patterns}"));
        }
        for (patterns, alpha) in &self.alphas {
            name.push_str(&format!(", alpha={alpha} at {patterns}"));
        }
        name
    }

    fn layout(&self, model: &Model) -> Result<Vec<(String, Vec<i64>)>> {
        let both = |(site, rank): (Site, i64)| {
            [(format!("{}.{LORA_A}", site.path), vec![rank, site.inputs]), (format!("{}.{LORA_B}", site.path), vec![site.outputs, rank])]
        };
        Ok(self.placed(model)?.into_iter().flat_map(both).collect())
    }

    fn start(&self, model: &Model, seed: u64) -> Result<Vec<(String, Tensor)>> {
        let kind = wide(model.kind());
        let mut tensors = Vec::new();
        for (Site { path, index, inputs, outputs }, rank) in self.placed(model)? {
            if rank > inputs.min(outputs) {
                return Err(Error::input(format!("LoRA rank {rank} exceeds the widths {inputs} and {outputs} of `{path}`")));
            }
            let mut draws = Random::new(seed, "LoRA A", index as u64);
            let bound = 1.0 / (inputs as f64).sqrt();
            let a: Vec<f32> = (0..rank * inputs).map(|_| ((draws.unit() * 2.0 - 1.0) * bound) as f32).collect();
            tensors.push((format!("{path}.{LORA_A}"), Tensor::from_slice(&a).view([rank, inputs]).to_kind(kind)));
            tensors.push((format!("{path}.{LORA_B}"), Tensor::zeros([outputs, rank], (kind, Device::Cpu))));
        }
        Ok(tensors)
    }

    fn draws(&self) -> bool {
        self.dropout > 0.0
    }

    fn attach(&self, parameters: &Parameters, _config: &Config) -> Result<Rc<dyn Adapt>> {
        let mut updates = BTreeMap::new();
        for site in parameters.sites() {
            if let Some(update) = self.update(parameters, site)? {
                updates.insert(site.to_string(), update);
            }
        }
        Ok(Rc::new(Updates { updates, dropout: self.dropout }))
    }

    fn write(&self, parameters: &Parameters, base: &Base) -> Result<Value> {
        let (mut ranks, mut alphas) = (Map::new(), Map::new());
        let sites = parameters.sites();
        for &site in &sites {
            let rank = parameters.get(&format!("{site}.{LORA_A}"))?.size()[0];
            let alpha = self.alpha_of(site)?;
            // Full paths: PEFT reads these keys as regular expressions of a path's end, and a full path matches only itself.
            if rank != self.rank {
                ranks.insert(base.own(site), rank.into());
            }
            if alpha != self.alpha {
                alphas.insert(base.own(site), peft::number(alpha));
            }
        }
        Ok(json!({
            "r": self.rank, "lora_alpha": peft::number(self.alpha), "lora_dropout": self.dropout, "use_rslora": self.rank_stabilised,
            "rank_pattern": ranks, "alpha_pattern": alphas, "target_modules": base.owns(&sites), "bias": "none",
            "fan_in_fan_out": base.is_transposed(),
            "init_lora_weights": true, "layers_to_transform": null, "layers_pattern": null, "modules_to_save": null, "use_dora": false,
        }))
    }

    fn read(settings: &mut Settings, model: &Model) -> Result<Self> {
        settings.keys.only("use_dora", false, "DoRA's magnitudes")?;
        Self::of_settings(settings, model)
    }

    fn at_wholes(&self, parameters: &Parameters, base: &Base) -> Result<(AdapterConfig, Named)> {
        self.on_wholes(parameters, base).map(|(lora, tensors)| (lora.into(), tensors))
    }

    fn scaled(&self, parameters: &Parameters, factor: f64) -> Result<(AdapterConfig, Vec<(String, Tensor)>)> {
        let mut lora = self.clone();
        lora.alpha *= factor;
        lora.alphas.iter_mut().for_each(|(_, alpha)| *alpha *= factor);
        // A finite factor times a finite alpha may be infinite.
        lora.check()?;
        let tensors = parameters.entries().iter().map(|(name, tensor)| (name.clone(), tensor.detach())).collect();
        Ok((lora.into(), tensors))
    }

    fn merged(&self, parameters: &Parameters, site: &str, weight: &Tensor, bias: Option<&Tensor>) -> Result<Option<Merged>> {
        let Some(update) = self.update(parameters, site)? else { return Ok(None) };
        let kind = wide(weight.kind());
        let merged = weight.to_kind(kind) + update.delta().to_kind(kind);
        Ok(Some((merged.to_kind(weight.kind()), bias.map(Tensor::shallow_clone))))
    }
}

impl LowRank {
    /// `scale B A`, `[out, in]`.
    pub fn delta(&self) -> Tensor {
        self.b.detach().matmul(&self.a.detach()) * self.scale
    }

    /// What tells it from another, at its site.
    pub(super) fn numbers(&self, site: &str) -> Vec<(String, Tensor)> {
        let named = |name: &str, value: Tensor| (format!("{site}.{name}"), value);
        vec![named(LORA_A, self.a.detach()), named(LORA_B, self.b.detach()), named("scale", Tensor::from(self.scale))]
    }
}

impl Show for LowRank {
    fn bundle(&self) -> Bundle {
        let (a, b) = (self.a.size(), self.b.size());
        Bundle::text(format!("LowRank({} B A of rank {}, [out {}, in {}])", self.scale, a[0], b[0], a[1]))
    }
}

impl Adapter {
    /// The low-rank update at a site (see [`Model::sites`]), sharing memory with the adapter; `None` where it has none, as (IA)³ and virtual
    /// tokens never have; nor has DoRA, whose update is not one of low rank.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn update(&self, site: &str) -> Result<Option<LowRank>> {
        match &self.config {
            AdapterConfig::Lora(lora) => {
                let update = lora.update(&self.parameters, site)?;
                Ok(update.map(|LowRank { a, b, scale }| LowRank { a: a.detach(), b: b.detach(), scale }))
            }
            _ => Ok(None),
        }
    }

    /// The linear modules that the adapter sits on; none for virtual tokens.
    pub fn sites(&self) -> Vec<&str> {
        self.parameters.sites()
    }
}

#[derive(Debug)]
struct Updates {
    updates: BTreeMap<String, LowRank>,
    dropout: f64,
}

impl Adapt for Updates {
    fn applies_at(&self, site: &str) -> bool {
        self.updates.contains_key(site)
    }

    fn low_rank(&self, site: &str) -> Option<LowRankUpdate<'_>> {
        let LowRank { a, b, scale } = self.updates.get(site)?;
        Some(LowRankUpdate { a, b, scale: *scale, dropout: self.dropout })
    }

    fn numbers(&self) -> Vec<(String, Tensor)> {
        self.updates.iter().flat_map(|(site, update)| update.numbers(site)).collect()
    }
}
