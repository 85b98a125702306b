//! Adapters of q, k and v where a family's files hold the three as one matrix: PEFT knows the one matrix alone.
//!
//! What sits on parts is written as the adapter of the whole that has the same effect, and read again as what it was: LoRA's `B_p A_p` of the parts
//! become `B A` with `A` the rows of all `A_p` and `B` a matrix of blocks, zero where a part's rows meet another part's columns.

use std::collections::BTreeMap;

use tch::Tensor;

use super::peft::{IA3, LORA_A, LORA_B, MAGNITUDE, site_of};
use super::{AdapterConfig, Base, Parameters};
use crate::error::{Error, Result};
use crate::nn::Fused;

/// Names and values of parameters, in their order.
pub(super) type Named = Vec<(String, Tensor)>;

/// What an adapter sits on, as PEFT would know it.
pub(super) enum Group<'a> {
    /// A module that the files hold by itself, or a whole.
    One(&'a str),
    /// Parts of a whole.
    Parts(&'a Fused, Vec<&'a str>),
}

impl Group<'_> {
    /// The path of what PEFT knows.
    pub(super) fn path(&self) -> &str {
        match self {
            Self::One(path) => path,
            Self::Parts(fused, _) => fused.path(),
        }
    }

    /// The modules that the adapter sits on.
    pub(super) fn sites(&self) -> Vec<&str> {
        match self {
            Self::One(path) => vec![path],
            Self::Parts(_, parts) => parts.clone(),
        }
    }

    /// The whole's value with this suffix from those of its parts, joined along their rows; `absent` stands for that of a part without adapter.
    pub(super) fn rows(&self, parameters: &Parameters, suffix: &str, absent: &dyn Fn(i64) -> Result<Tensor>) -> Result<Tensor> {
        let Self::Parts(fused, parts) = self else { return Ok(parameters.get(&format!("{}.{suffix}", self.path()))?.detach()) };
        let of = |(part, &rows): (&String, &i64)| match parts.contains(&part.as_str()) {
            true => Ok(parameters.get(&format!("{part}.{suffix}"))?.detach()),
            false => absent(rows),
        };
        fused.join(&fused.parts().iter().zip(fused.outputs()).map(of).collect::<Result<Vec<_>>>()?, 0)
    }

    /// LoRA's two factors.
    pub(super) fn factors(&self, parameters: &Parameters) -> Result<(Tensor, Tensor)> {
        let get = |site: &str, suffix: &str| Ok::<_, Error>(parameters.get(&format!("{site}.{suffix}"))?.detach());
        let Self::Parts(fused, parts) = self else { return Ok((get(self.path(), LORA_A)?, get(self.path(), LORA_B)?)) };
        let a = Tensor::f_cat(&parts.iter().map(|part| get(part, LORA_A)).collect::<Result<Vec<_>>>()?, 0)?;
        let rank = a.size()[0];
        let mut start = 0;
        let mut blocks = Vec::new();
        for (part, &rows) in fused.parts().iter().zip(fused.outputs()) {
            let block = Tensor::f_zeros([rows, rank], (a.kind(), a.device()))?;
            if parts.contains(&part.as_str()) {
                let b = get(part, LORA_B)?;
                let width = b.size()[1];
                block.f_narrow(1, start, width)?.f_copy_(&b)?;
                start += width;
            }
            blocks.push(block);
        }
        Ok((a, fused.join(&blocks, 0)?))
    }
}

/// The modules of an adapter by what PEFT knows, in their order; parts in the whole's.
pub(super) fn groups<'a>(parameters: &'a Parameters, base: &'a Base) -> Vec<Group<'a>> {
    let sites = parameters.sites();
    let mut groups: Vec<Group<'a>> = Vec::new();
    for &site in &sites {
        match base.fused.iter().find(|fused| fused.parts().iter().any(|part| part == site)) {
            None => groups.push(Group::One(site)),
            Some(fused) if groups.iter().any(|group| group.path() == fused.path()) => {}
            Some(fused) => {
                let own = fused.parts().iter().map(String::as_str).filter(|part| sites.contains(part));
                groups.push(Group::Parts(fused, own.collect()));
            }
        }
    }
    groups
}

/// Whether the adapter sits on parts of wholes.
pub(super) fn is_on_parts(parameters: &Parameters, base: &Base) -> bool {
    groups(parameters, base).iter().any(|group| matches!(group, Group::Parts(..)))
}

/// The parameters of `config`, whose names and shapes are `layout`, out of those of the wholes that they were written as.
pub(super) fn of_wholes(config: &AdapterConfig, layout: &[(String, Vec<i64>)], wholes: Named, fused: &[&Fused]) -> Result<Named> {
    let wholes: BTreeMap<String, Tensor> = wholes.into_iter().collect();
    let mut places: BTreeMap<&str, i64> = BTreeMap::new();
    let of = |(name, shape): &(String, Vec<i64>)| {
        if let Some(tensor) = wholes.get(name) {
            return Ok((name.clone(), tensor.shallow_clone()));
        }
        let site = site_of(name).unwrap_or_default();
        let found = fused.iter().find_map(|fused| Some((fused, fused.parts().iter().position(|part| part == site)?)));
        let missing = || Error::file(format!("{}: no `{name}` in the file", config.name()));
        let (fused, place) = found.ok_or_else(missing)?;
        let suffix = &name[site.len() + 1..];
        let whole = wholes.get(&format!("{}.{suffix}", fused.path())).ok_or_else(missing)?;
        // The first of a part's factors moves the place in the ranks on.
        let start = places.entry(fused.path()).or_insert(0);
        let tensor = match suffix {
            LORA_A => {
                *start += shape[0];
                whole.f_narrow(0, *start - shape[0], shape[0])?
            }
            LORA_B => fused.split(whole, 0)?.swap_remove(place).f_narrow(1, *start - shape[1], shape[1])?,
            MAGNITUDE | IA3 => fused.split(whole, 0)?.swap_remove(place),
            _ => return Err(missing()),
        };
        match tensor.size() == *shape {
            true => Ok((name.clone(), tensor.f_contiguous()?)),
            false => Err(missing()),
        }
    };
    // Parts in the whole's order, as they were joined: so are the ranks.
    let mut order: Vec<usize> = (0..layout.len()).collect();
    order.sort_by_key(|&index| {
        let site = site_of(&layout[index].0).unwrap_or_default();
        let whole = fused.iter().position(|fused| fused.parts().iter().any(|part| part == site));
        let part = whole.and_then(|whole| fused[whole].parts().iter().position(|part| part == site));
        (whole, part, index)
    });
    let mut of = of;
    let mut tensors: Vec<(usize, (String, Tensor))> =
        order.into_iter().map(|index| Ok((index, of(&layout[index])?))).collect::<Result<_>>()?;
    tensors.sort_by_key(|(index, _)| *index);
    Ok(tensors.into_iter().map(|(_, named)| named).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tch::{Device, Kind};

    use super::super::{Adapter, Dora, Ia3, Lora};
    use super::*;
    use crate::compat::Compat;
    use crate::model::Model;
    use crate::nn::{FusedLayout, Linear};

    const LAYER: &str = "model.layers.0.self_attn";

    /// A model of plain matrices, an adapter on it with numbers that differ, and a base that holds q, k and v of layer 0 as one in this order.
    fn adapted(config: AdapterConfig, order: FusedLayout) -> Result<(Adapter, Base)> {
        let model = Model::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/llama_full"))?;
        let adapter = Adapter::new(&model, config, 0)?;
        let count = adapter.parameters.flat().numel() as i64;
        adapter.parameters.set(&(Tensor::arange(count, (Kind::Float, Device::Cpu)) * 0.7).sin())?;
        let linear = |name: &str| {
            Linear::new(format!("{LAYER}.{name}"), 32, 32, false, &mut |_, shape| Ok(Tensor::zeros(shape, (Kind::Float, Device::Cpu))))
        };
        let (q, k, v) = (linear("q_proj")?, linear("k_proj")?, linear("v_proj")?);
        let mut base = Base::of(&model);
        base.fused = vec![Fused::new(format!("{LAYER}.qkv_proj"), &[&q, &k, &v], order)];
        Ok((adapter, base))
    }

    fn orders() -> [FusedLayout; 2] {
        [FusedLayout::Stacked, FusedLayout::ByHead { heads: 4 }]
    }

    #[test]
    fn what_is_written_for_the_whole_has_the_same_effect_and_is_read_again_bit_for_bit() -> Result<()> {
        for order in orders() {
            for config in [
                Lora::rank(2).alpha(3.0).into(),
                Lora::rank(3).rank_stabilised().sites("k_proj, v_proj, o_proj").layers([0]).into(),
                Dora::of(Lora::rank(2).sites("q_proj, k_proj, v_proj, down_proj")).into(),
                AdapterConfig::from(Ia3::new().sites("v_proj, q_proj, down_proj").scale_inputs("down_proj")),
            ] {
                let (adapter, base) = adapted(config, order)?;
                let (whole_config, wholes) = adapter.config.method().at_wholes(&adapter.parameters, &base)?;
                let whole = Parameters::new(wholes.iter().map(|(name, tensor)| (name.clone(), tensor.copy())).collect(), Device::Cpu)?;
                assert!(is_on_parts(&adapter.parameters, &base) && !is_on_parts(&whole, &base));
                let named = |parameters: &Parameters| -> Named {
                    parameters.entries().iter().map(|(name, tensor)| (name.clone(), tensor.detach())).collect()
                };
                let own = named(&adapter.parameters);
                let layout: Vec<(String, Vec<i64>)> = own.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect();
                let again = of_wholes(&adapter.config, &layout, wholes, &base.fused.iter().collect::<Vec<_>>())?;
                assert_eq!(again, own, "{} {order:?}", adapter.config.name());
                // The merged whole is the merged parts.
                let weights =
                    [0.3, 0.5, 0.9].map(|phase| (Tensor::arange(32 * 32, (Kind::Float, Device::Cpu)) + phase).sin().view([32, 32]));
                let merged = |config: &AdapterConfig, parameters: &Parameters, site: &str, weight: &Tensor| -> Result<Tensor> {
                    Ok(config.method().merged(parameters, site, weight, None)?.map_or_else(|| weight.copy(), |(weight, _)| weight))
                };
                let fused = &base.fused[0];
                let joined = merged(&whole_config, &whole, fused.path(), &fused.join(&weights, 0)?)?;
                let parts = fused.parts().iter().zip(&weights);
                let apart =
                    parts.map(|(part, weight)| merged(&adapter.config, &adapter.parameters, part, weight)).collect::<Result<Vec<_>>>()?;
                let distance = (joined - fused.join(&apart, 0)?).abs().max().double_value(&[]);
                assert!(distance < 1e-5, "{} {order:?}: {distance:.1e}", adapter.config.name());
            }
        }
        Ok(())
    }

    #[test]
    fn what_peft_cannot_say_of_the_whole_is_refused() -> Result<()> {
        for (config, words) in [
            (AdapterConfig::from(Lora::rank(2).alpha_at("k_proj", 3.0)), ["scaled by 4 and 1.5", "the same alpha and rank"]),
            (Dora::rank(2).into(), ["magnitudes of all its rows", "all of its parts"]),
            (Ia3::new().compat(Compat::Paper).into(), ["scales the one input", "scale outputs"]),
        ] {
            let (adapter, base) = adapted(config, FusedLayout::Stacked)?;
            let error = adapter.config.method().at_wholes(&adapter.parameters, &base).unwrap_err();
            assert!(error.is_input() && words.iter().all(|word| error.to_string().contains(word)), "{error}");
            assert!(error.to_string().contains("self_attn.qkv_proj"), "{error}");
        }
        Ok(())
    }
}
