//! Python PEFT's files.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::{Adapter, AdapterConfig, Lora, Parameters};
use crate::error::{Error, Result};
use crate::file;
use crate::model::Model;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// What PEFT puts before a module's path.
const PREFIX: &str = "base_model.model.";

pub(super) fn save(adapter: &Adapter, folder: &Path) -> Result<()> {
    let AdapterConfig::Lora(lora) = &adapter.config;
    let mut paths: Vec<&str> = Vec::new();
    for (name, _) in adapter.parameters.entries() {
        if let Some(path) = name.strip_suffix(".lora_A.weight") {
            paths.push(path);
        }
    }
    let config = json!({
        "alpha_pattern": {}, "auto_mapping": null, "base_model_name_or_path": adapter.base_model, "bias": "none", "fan_in_fan_out": false,
        "inference_mode": true, "init_lora_weights": true, "layers_pattern": null, "layers_to_transform": null, "lora_alpha": lora.alpha,
        "lora_dropout": 0.0, "modules_to_save": null, "peft_type": "LORA", "r": lora.rank, "rank_pattern": {}, "revision": null,
        // Full paths, so that PEFT adapts just these, be they in all layers or in some.
        "target_modules": paths, "task_type": "CAUSAL_LM", "use_dora": false, "use_rslora": false,
    });
    let tensors: Vec<(String, Tensor)> =
        adapter.parameters.entries().iter().map(|(name, tensor)| (format!("{PREFIX}{name}"), tensor.detach())).collect();
    let weights = file::safetensors_bytes(&tensors, HashMap::from([("format".into(), "pt".into())]))?;
    let text = serde_json::to_string_pretty(&config).map_err(|error| Error::internal("writing JSON").because(error))?;
    file::folder(folder)?;
    file::write_together(&[(&folder.join(WEIGHTS), &weights), (&folder.join(CONFIG), text.as_bytes())])
}

pub(super) fn open(folder: &Path, model: &Model) -> Result<Adapter> {
    let path = folder.join(CONFIG);
    let text = file::read_text(&path)?;
    let config: Value =
        serde_json::from_str(&text).map_err(|error| Error::file(format!("{} is not JSON", path.display())).because(error))?;
    let there = file::read_safetensors(&folder.join(WEIGHTS))?;
    let lora = lora_config(&config, &path, there.keys())?;
    let mut tensors = Vec::new();
    let mut there = there;
    let mut missing = Vec::new();
    let config = AdapterConfig::Lora(lora);
    for (name, start) in config.start(model, 0)? {
        match there.remove(&format!("{PREFIX}{name}")) {
            None => missing.push(name),
            Some(tensor) if tensor.size() != start.size() => {
                let text =
                    format!("{WEIGHTS}: `{name}` is {:?}, this model and rank need {:?}: a wrong base model?", tensor.size(), start.size());
                return Err(Error::file(text));
            }
            Some(tensor) if !matches!(tensor.kind(), Kind::Float | Kind::Half | Kind::BFloat16 | Kind::Double) => {
                return Err(Error::file(format!("{WEIGHTS}: `{name}` holds {:?}, not floats", tensor.kind())));
            }
            Some(tensor) => tensors.push((name, tensor.to_kind(start.kind()))),
        }
    }
    let mut unexpected: Vec<String> = there.into_keys().collect();
    unexpected.sort_unstable();
    if !missing.is_empty() || !unexpected.is_empty() {
        let text = format!("{} does not fit this model: missing {missing:?}, unexpected {unexpected:?}", folder.join(WEIGHTS).display());
        return Err(Error::file(text));
    }
    let base_model = model.folder().display().to_string();
    Ok(Adapter { config, parameters: Parameters::new(tensors, model.device())?, base_model })
}

/// Reads the settings that matter; those that would change the result in a way not built here are refused by name.
fn lora_config<'k>(config: &Value, path: &Path, keys: impl Iterator<Item = &'k String>) -> Result<Lora> {
    let refuse = |what: String| Err(Error::file(format!("{}: {what}", path.display())));
    match config["peft_type"].as_str() {
        Some("LORA") => {}
        other => return refuse(format!("peft_type {other:?} is not supported here: only LORA is")),
    }
    for key in ["use_dora", "use_rslora", "fan_in_fan_out", "lora_bias"] {
        if config[key].as_bool() == Some(true) {
            return refuse(format!("`{key}` is not supported here"));
        }
    }
    for key in ["rank_pattern", "alpha_pattern"] {
        if config[key].as_object().is_some_and(|patterns| !patterns.is_empty()) {
            return refuse(format!("`{key}` is not supported here"));
        }
    }
    if !config["modules_to_save"].is_null() || !matches!(config["bias"].as_str(), None | Some("none")) {
        return refuse("`modules_to_save` and trained biases are not supported here".into());
    }
    let (Some(rank), Some(alpha)) = (config["r"].as_i64(), config["lora_alpha"].as_f64()) else {
        return refuse("`r` and `lora_alpha` must be numbers".into());
    };
    // The sites are those that have weights: PEFT's own patterns have many spellings, the keys one.
    let mut sites: Vec<&str> = keys.filter_map(|key| key.strip_prefix(PREFIX)?.strip_suffix(".lora_A.weight")).collect();
    sites.sort_unstable();
    if sites.is_empty() {
        return refuse(format!("{WEIGHTS} beside it holds no `{PREFIX}….lora_A.weight`"));
    }
    Ok(Lora { rank, alpha, sites: sites.join(",") })
}
