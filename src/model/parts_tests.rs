//! What the parts of a decoder make possible, on a tiny random model of each family in f64: both spellings, caches, merges, files.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::family::Family;
use super::storage::Files;
use super::{Config, Decoder, Depth, Generation, Model, OpenOptions, Sample, TeacherForcing};
use crate::adapter::{Adapter, Lora, PromptTuning};
use crate::error::Result;
use crate::nn::{Edit, Hooks, Steer};
use crate::random::Random;

/// A small configuration of each family; windows of 5 tokens where it has any.
fn config(name: &str) -> Value {
    let base = json!({
        "model_type": name, "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "torch_dtype": "float32"
    });
    let own = match name {
        "gpt2" => {
            return json!({"model_type": name, "vocab_size": 40, "n_embd": 16, "n_layer": 3, "n_head": 4, "n_positions": 128, "n_inner": null});
        }
        "gpt_neox" => json!({"num_key_value_heads": 4, "rotary_pct": 0.5, "layer_norm_eps": 1e-5}),
        "gemma2" => json!({"head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 6, "final_logit_softcapping": 2.0}),
        "gemma3_text" => json!({"head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 6, "sliding_window_pattern": 3}),
        "mistral" | "phi3" | "olmo3" => json!({"sliding_window": 5}),
        "qwen2" | "qwen3" => json!({"use_sliding_window": true, "sliding_window": 5, "max_window_layers": 1, "head_dim": 4}),
        "smollm3" => json!({"no_rope_layer_interval": 2}),
        "granite" => {
            json!({"embedding_multiplier": 3, "residual_multiplier": 0.5, "attention_multiplier": 0.3, "logits_scaling": 2})
        }
        "qwen3_moe" => json!({"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "mlp_only_layers": [0]}),
        _ => json!({}),
    };
    let mut all = base;
    all.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    all
}

/// A random model, saved as the family's own files and opened again in f64.
pub(crate) fn saved(name: &str, folder: &Path) -> Result<Model> {
    saved_as(&config(name), folder)
}

fn saved_as(config: &Value, folder: &Path) -> Result<Model> {
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let config = Config::open(folder)?;
    let draw = |name: &str, shape: &[i64]| {
        let mut draws = Random::new(5, name, 0);
        let count = shape.iter().product::<i64>();
        let width = *shape.last().unwrap() as f64;
        let spread = if shape.len() > 1 { 3.0 / width.sqrt() } else { 1.0 };
        let values: Vec<f32> = (0..count).map(|_| ((draws.unit() - 0.5) * spread) as f32).collect();
        Tensor::from_slice(&values).view(shape)
    };
    let decoder = Decoder::new(&config, &mut |name, shape| Ok(draw(name, shape)))?;
    let stored = Files::of(&config, config.family.storage(), |_| false).write(decoder.weights())?;
    Tensor::write_safetensors(&stored, folder.join("model.safetensors"))?;
    OpenOptions::new().kind(Kind::Double).device(Device::Cpu).open(folder)
}

fn each(check: impl Fn(&str, &Model) -> Result<()>) -> Result<()> {
    for family in Family::all() {
        let folder = tempfile::tempdir().unwrap();
        let name = family.model_type();
        check(name, &saved(name, folder.path()).map_err(|error| error.context(name))?).map_err(|error| error.context(name))?;
    }
    Ok(())
}

pub(crate) fn prompts() -> Vec<Vec<u32>> {
    vec![(0..19).map(|place| 2 + place * 7 % 37).collect(), vec![3, 9], vec![8, 1, 30, 12, 7, 22, 5]]
}

pub(crate) fn apart(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[]) / b.abs().max().double_value(&[])
}

#[test]
fn files_hold_what_the_decoder_holds() -> Result<()> {
    each(|name, model| {
        let folder = tempfile::tempdir().unwrap();
        OpenOptions::new().open(model.folder())?.save(folder.path().join("again"))?;
        let again = OpenOptions::new().kind(Kind::Double).open(folder.path().join("again"))?;
        assert_eq!(again.forward(&prompts())?.values, model.forward(&prompts())?.values, "{name}");
        // Each weight is drawn by its name, so a part in another's place would be seen.
        let (_, there) = &again.decoder().weights()[2];
        assert_eq!(there, &model.decoder().weights()[2].1);
        Ok(())
    })
}

#[test]
fn caches_and_batches_change_nothing_where_windows_pass_over_padding() -> Result<()> {
    each(|name, model| {
        let alike: Vec<Vec<u32>> =
            [vec![5], vec![9, 11, 3, 4, 6, 8, 2], vec![8, 8]].iter().map(|tail| [(2..24).collect(), tail.clone()].concat()).collect();
        for rows in [prompts(), alike] {
            for response in model.generate(&rows, &Generation::greedy(9).ignore_eos())? {
                let mut row = response.tokens.prompt;
                for token in response.tokens.response {
                    let logits = model.forward(&[row.clone()])?.values.select(1, row.len() as i64 - 1);
                    let (best, given) = (logits.max().double_value(&[]), logits.double_value(&[0, i64::from(token)]));
                    assert!(best - given < 1e-9, "{name}: {given} chosen where {best} is there, at {}", row.len());
                    row.push(token);
                }
            }
        }
        Ok(())
    })
}

#[test]
fn a_window_is_seen() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let model = saved("mistral", folder.path())?;
    // Three layers of windows of 5 reach 12 tokens back.
    let long: Vec<u32> = (0..20).collect();
    let changed: Vec<u32> = std::iter::once(30).chain(1..20).collect();
    let both = model.forward(&[long, changed])?.values;
    let differs = |token: i64| (both.get(0).get(token) - both.get(1).get(token)).abs().max().double_value(&[]) > 0.0;
    assert!(differs(12) && !differs(13));
    Ok(())
}

#[test]
fn the_familys_own_spelling_is_the_same_place() -> Result<()> {
    for (name, own, common, whole) in [
        ("gpt2", "transformer.h.*.attn", "model.layers.*.self_attn", Some("transformer.h.1.attn.c_attn")),
        ("gpt_neox", "gpt_neox.layers.*.attention", "model.layers.*.self_attn", Some("gpt_neox.layers.1.attention.query_key_value")),
        ("phi3", "model.layers.*.self_attn", "model.layers.*.self_attn", Some("model.layers.1.self_attn.qkv_proj")),
        ("gpt2", "transformer.h.*.mlp.c_fc", "model.layers.*.mlp.up_proj", None),
        ("gemma3_text", "model.language_model.layers.*.mlp", "model.layers.*.mlp", None),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let model = saved(name, folder.path())?;
        let caught = |pattern: &str| -> Result<HashMap<String, Tensor>> {
            let mut values = HashMap::new();
            let mut hooks = Hooks::new();
            hooks.observe(pattern, |point, value| {
                values.insert(point.path.to_string(), value.copy());
                Ok(())
            });
            model.forward_with(&prompts(), &mut hooks)?;
            drop(hooks);
            Ok(values)
        };
        let (ours, theirs) = (caught(common)?, caught(own)?);
        assert!(ours.len() == 3 && ours == theirs, "{name}");
        let Some(whole) = whole else { continue };
        // The whole holds its parts' values, which are there, too; asking for it changes none.
        let parts = caught("model.layers.1.self_attn.*_proj")?;
        let whole = caught(whole)?.remove("model.layers.1.self_attn.qkv_proj").unwrap();
        let fused = model.decoder().fused().into_iter().find(|fused| fused.path() == "model.layers.1.self_attn.qkv_proj").unwrap();
        assert_eq!(model.width_at(fused.path())?, whole.size()[2]);
        for (part, value) in fused.parts().iter().zip(fused.split(&whole, -1)?) {
            assert!(apart(&value, &parts[part]) < 1e-12, "{name} {part}");
        }
    }
    Ok(())
}

#[test]
fn packed_samples_are_what_padded_ones_are() -> Result<()> {
    let lengths = [(19, 2), (1, 4), (7, 1), (7, 3)];
    let word = |place: usize| 2 + (place * 7 % 37) as u32;
    let samples: Vec<Sample> = (0..)
        .zip(lengths)
        .map(|(row, (prompt, response))| Sample {
            prompt: (0..prompt).map(|place| word(place + 5 * row)).collect(),
            response: (0..response).map(|place| word(place + 3 * row)).collect(),
        })
        .collect();
    let samples: Vec<&Sample> = samples.iter().collect();
    each(|name, model| {
        for (kind, most) in [(Kind::Double, 1e-11), (Kind::Float, 2e-5), (Kind::BFloat16, 0.04)] {
            let wide = if kind == Kind::Double { kind } else { Kind::Float };
            let model = OpenOptions::new().kind(kind).device(Device::Cpu).open(model.folder())?;
            let adapter = Adapter::new(&model, Lora::rank(2), 1)?;
            tch::manual_seed(3);
            adapter.parameters().set(&(Tensor::randn(adapter.parameters().flat().size(), (wide, Device::Cpu)) * 0.3))?;
            let model = model.with(&adapter)?;
            let taught = |narrow: bool, packed: bool| -> Result<(Tensor, Tensor)> {
                // What hooks see at the tokens that are asked for, in a layer that may be narrowed and in one that never is.
                let mut sizes = Vec::new();
                let mut hooks = Hooks::new();
                hooks.observe("model.layers.*", |_, value| {
                    sizes.push(value.size()[..2].to_vec());
                    Ok(())
                });
                hooks.bind(model.points())?;
                let teaching = TeacherForcing { depth: Depth::Full, narrow, packed, draws: None };
                let hidden = model.teacher_forced(&samples, teaching, Some(&mut hooks))?.hidden.unwrap().to_kind(wide);
                drop(hooks);
                let (all, kept) = if packed { ([1, 40], [1, 10]) } else { ([4, 20], [4, 4]) };
                assert_eq!(sizes, [all, all, if narrow { kept } else { all }], "{name}");
                // Another weight for each value, so that no gradient is lost in a sum.
                let weights = (Tensor::arange(hidden.numel() as i64, (wide, Device::Cpu)) * 0.7).sin().view_as(&hidden);
                let gradient = adapter.parameters().gradient(&(&hidden * weights).sum(None))?;
                Ok((hidden.detach(), gradient))
            };
            let (hidden, gradient) = taught(false, false)?;
            for narrow in [false, true] {
                let (ours, of_ours) = taught(narrow, true)?;
                let distances = (apart(&ours, &hidden), apart(&of_ours, &gradient));
                assert!(distances.0 < most && distances.1 < most, "{name} {kind:?} narrow {narrow}: {distances:?}");
            }
        }
        Ok(())
    })
}

#[test]
fn samples_are_packed_only_where_nothing_tells() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let of = |changes: Value| -> Result<Model> {
        let mut all = config("llama");
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        saved_as(&all, folder.path())
    };
    let model = of(json!({"hidden_size": 256}))?;
    assert!(model.packs(true, false) && model.with(&Adapter::new(&model, Lora::rank(2), 1)?)?.packs(true, false));
    assert!(!model.packs(false, false) && !model.packs(true, true));
    assert!(!model.with(&Adapter::new(&model, PromptTuning::tokens(2), 1)?)?.packs(true, false));
    let vector = Tensor::zeros([256], (Kind::Double, Device::Cpu));
    assert!(!model.steered(Rc::new(Steer { layer: 1, edit: Edit::Add, vector })).packs(true, false));
    let scaling = json!({"rope_type": "dynamic", "factor": 2.0});
    assert!(!of(json!({"hidden_size": 256, "rope_scaling": scaling}))?.packs(true, false));
    assert!(!of(json!({}))?.packs(true, false));
    Ok(())
}
