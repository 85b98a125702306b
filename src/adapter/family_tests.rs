//! Adapters on families whose files and positions are other than Llama's.

use tch::{Device, Kind, Tensor};

use super::{Adapter, AdapterConfig, Cartridge, Ia3, Lora, PrefixTuning, PromptTuning};
use crate::error::Result;
use crate::model::Generation;
use crate::model::family::Family;
use crate::model::parts_tests::{apart, prompts, saved};

fn disturbed(adapter: &Adapter) {
    let _constant = tch::no_grad_guard();
    tch::manual_seed(3);
    let flat = adapter.parameters().flat();
    let noise = Tensor::randn(flat.size(), (Kind::Double, Device::Cpu)) * 0.2;
    let _ = flat.shallow_clone().g_add_(&noise);
}

#[test]
fn wholes_and_parts_merge_into_fused_and_transposed_matrices() -> Result<()> {
    for (name, sites, fused) in [
        ("gpt2", "c_attn", 1),
        ("gpt2", "transformer.h.*.attn.c_attn, c_fc", 2),
        ("gpt2", "c_proj", 2),
        ("gpt_neox", "query_key_value, dense", 2),
        ("gpt_neox", "q_proj, v_proj", 2),
        ("phi3", "qkv_proj, gate_up_proj", 2),
        ("phi3", "k_proj, up_proj", 2),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let model = saved(name, folder.path())?;
        for config in [AdapterConfig::from(Lora::rank(2).sites(sites)), Ia3::new().sites(sites).into()] {
            let adapter = Adapter::new(&model, config, 1)?;
            assert_eq!(adapter.sites().len(), fused * 3, "{name} {sites}");
            disturbed(&adapter);
            let (base, adapted) = (model.forward(&prompts())?.values, model.with(&adapter)?.forward(&prompts())?.values);
            assert!(apart(&adapted, &base) > 1e-3, "{name} {sites}");
            let merged = adapter.merge(&model)?;
            assert!(merged.relative < 1e-10 && merged.modules == fused * 3, "{name} {sites}: {merged:?}");
        }
        let both = Lora::rank(2).sites("q_proj, self_attn.qkv_proj");
        let error = Adapter::new(&model, both, 1).unwrap_err().to_string();
        assert!(error.contains("selects none") || error.contains("and its part"), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let model = saved("phi3", folder.path())?;
    let error = Adapter::new(&model, Lora::rank(2).sites("q_proj, qkv_proj"), 1).unwrap_err().to_string();
    assert!(error.contains("and its part `model.layers.0.self_attn.q_proj`: choose one"), "{error}");
    Ok(())
}

#[test]
fn virtual_tokens_are_tokens_in_front_whatever_the_positions() -> Result<()> {
    for family in Family::all() {
        let (name, folder) = (family.model_type(), tempfile::tempdir().unwrap());
        let model = saved(name, folder.path())?;
        let front: Vec<u32> = vec![7, 30, 2, 11];
        let ids: Vec<i64> = front.iter().map(|&id| i64::from(id)).collect();
        let adapter = Adapter::new(&model, PromptTuning::tokens(front.len()), 1)?;
        {
            let _constant = tch::no_grad_guard();
            adapter.parameters().flat().shallow_clone().copy_(&model.decoder().embed(&Tensor::from_slice(&ids))?.reshape([-1]));
        }
        let adapted = model.with(&adapter)?;
        // A cartridge is the cache of the same tokens: the keys have been turned already.
        let cartridge = Adapter::new(&model, Cartridge::of(&front), 1)?;
        let cut = Adapter::new(&model, Cartridge::of(&[&front[..], &[5, 6]].concat()).at_most(front.len()), 1)?;
        assert_eq!(cut.parameters().flat(), cartridge.parameters().flat(), "{name}");
        for row in prompts() {
            let whole = model.forward(&[[front.clone(), row.clone()].concat()])?.values;
            let behind = whole.narrow(1, front.len() as i64, row.len() as i64);
            assert!(apart(&adapted.forward(std::slice::from_ref(&row))?.values, &behind) < 1e-9, "{name}");
            assert!(apart(&model.with(&cartridge)?.forward(&[row])?.values, &behind) < 1e-9, "{name}, a cartridge");
        }
        for response in adapted.generate(&prompts(), &Generation::greedy(6).ignore_eos())? {
            let alone = adapted.generate(std::slice::from_ref(&response.tokens.prompt), &Generation::greedy(6).ignore_eos())?;
            assert_eq!(alone[0].tokens.response, response.tokens.response, "{name}");
        }
        // Keys and values start as those of the embeddings with the same seed.
        let [prompt, prefix] =
            [AdapterConfig::from(PromptTuning::tokens(5)), PrefixTuning::tokens(5).into()].map(|config| Adapter::new(&model, config, 2));
        let (prompt, prefix) = (model.with(&prompt?)?.forward(&prompts())?.values, model.with(&prefix?)?.forward(&prompts())?.values);
        assert!(apart(&prefix.narrow(1, 0, 2), &prompt.narrow(1, 0, 2)) < 1e-9, "{name}");
    }
    Ok(())
}
