//! Adapters as folders that Python's PEFT reads and writes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::peft::{self, Settings};
use super::{Adapter, AdapterConfig, Base, KINDS, Parameters};
use crate::error::{Error, Result};
use crate::file::{self, Content};
use crate::hub;
use crate::model::{Keys, Model};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// Writes the two files, and `others` by their names: none takes its place before all are on the disk.
pub(super) fn save(adapter: &Adapter, folder: &Path, others: &[(&str, &[u8])]) -> Result<()> {
    let (base, revision) = base_model(Path::new(&adapter.base.folder));
    let mut config = json!({
        "auto_mapping": null, "base_model_name_or_path": base, "inference_mode": true,
        "peft_type": adapter.config.peft_type(), "revision": revision, "task_type": "CAUSAL_LM",
    });
    if let (Some(config), Value::Object(own)) = (config.as_object_mut(), adapter.config.method().write(&adapter.parameters, &adapter.base)?)
    {
        config.extend(own);
    }
    let tensors: Vec<(String, Tensor)> =
        adapter.parameters.entries().iter().map(|(name, tensor)| (peft::key(name), tensor.detach())).collect();
    let text = serde_json::to_string_pretty(&config).map_err(|error| Error::internal("writing JSON").because(error))?;
    file::folder(folder)?;
    let weights = Content::Tensors(&tensors, HashMap::from([("format".into(), "pt".into())]));
    let mut files = vec![(folder.join(WEIGHTS), weights), (folder.join(CONFIG), Content::Bytes(text.as_bytes()))];
    files.extend(others.iter().map(|(name, bytes)| (folder.join(name), Content::Bytes(bytes))));
    file::write_together(&files)
}

pub(super) fn open(folder: &Path, model: &Model) -> Result<Adapter> {
    let path = folder.join(CONFIG);
    if !path.exists() {
        return Err(nothing_to_open(folder));
    }
    let config = settings(Keys::open(&path)?, folder, model)?;
    let mut there = file::read_safetensors(&folder.join(WEIGHTS))?;
    let (mut tensors, mut missing, mut misshaped) = (Vec::new(), Vec::new(), Vec::new());
    let kind = super::method::wide(model.kind());
    for (name, shape) in config.method().layout(model)? {
        match there.remove(&peft::key(&name)) {
            None => missing.push(peft::key(&name)),
            Some(tensor) if tensor.size() != shape => misshaped.push(format!("`{name}` is {:?} and should be {shape:?}", tensor.size())),
            Some(tensor) if !matches!(tensor.kind(), Kind::Float | Kind::Half | Kind::BFloat16 | Kind::Double) => {
                return Err(Error::file(format!("{WEIGHTS}: `{name}` holds {:?}, not floats", tensor.kind())));
            }
            Some(tensor) => tensors.push((name, tensor.to_kind(kind))),
        }
    }
    let mut unexpected: Vec<String> = there.into_keys().collect();
    unexpected.sort_unstable();
    let complaints = [("mis-shaped", &misshaped), ("missing", &missing), ("unexpected", &unexpected)];
    let complaints: Vec<String> =
        complaints.iter().filter(|(_, names)| !names.is_empty()).map(|(what, names)| format!("{what}: {}", few(names))).collect();
    if !complaints.is_empty() {
        let text = format!("{} does not fit this model (a wrong base model?); {}", folder.join(WEIGHTS).display(), complaints.join("; "));
        return Err(Error::file(text));
    }
    if let Some((name, _)) = tensors.iter().find(|(_, tensor)| tensor.isfinite().logical_not().any().int64_value(&[]) != 0) {
        return Err(Error::numeric(format!("{}: `{name}` holds NaN or infinity", folder.join(WEIGHTS).display())));
    }
    Ok(Adapter { config, parameters: Parameters::new(tensors, model.device())?, base: Base::of(model) })
}

/// The settings in a file of PEFT's: each is used, ignored, or refused by name.
fn settings(mut keys: Keys, folder: &Path, model: &Model) -> Result<AdapterConfig> {
    let Some(kind) = keys.word("peft_type")? else { return Err(keys.missing("peft_type")) };
    keys.only("task_type", "CAUSAL_LM", "a model with another head")?;
    keys.refuse("modules_to_save", "whole modules trained beside the adapter")?;
    if let Some(base) = keys.word("base_model_name_or_path")? {
        let revision = keys.word("revision")?;
        let places = [Some(folder.join(&base)), Some(PathBuf::from(&base)), hub::cached(&base, revision.as_deref())];
        same_family(&keys, &base, places.into_iter().flatten(), model)?;
    }
    keys.ignore(&["auto_mapping", "inference_mode", "peft_version", "revision"]);
    let mut settings = Settings { keys };
    let Some(config) = AdapterConfig::read(&kind, &mut settings, model)? else {
        return Err(settings.keys.error(format!("`peft_type` is {kind}, which is not supported; these are: {}", KINDS.join(", "))));
    };
    // What PEFT writes of all it could do but does not.
    settings.keys.ignore_unset();
    settings.keys.finish()?;
    Ok(config)
}

/// What Python's PEFT is to open the base model by, from whatever folder it runs in: the name on the hub and the commit, or the whole path.
fn base_model(folder: &Path) -> (String, Option<String>) {
    if let Some((name, commit)) = hub::origin(folder) {
        return (name, Some(commit));
    }
    // A GGUF file of the cache is a link to content whose name tells nothing.
    if let Some((name, commit)) = folder.parent().filter(|_| folder.is_file()).and_then(hub::origin) {
        return (name, Some(commit));
    }
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    (whole.display().to_string(), None)
}

/// Refuses an adapter whose base model is at hand and of another family; shapes alone may agree by chance.
fn same_family(keys: &Keys, base: &str, places: impl Iterator<Item = PathBuf>, model: &Model) -> Result<()> {
    let ours = model.config().family.model_type();
    for place in places {
        let Ok(text) = std::fs::read_to_string(place.join("config.json")) else { continue };
        let theirs = serde_json::from_str::<Value>(&text).ok().and_then(|config| Some(config["model_type"].as_str()?.to_string()));
        if let Some(theirs) = theirs.filter(|theirs| theirs != ours) {
            return Err(keys.error(format!("its base model `{base}` is a {theirs}, this one a {ours}: a wrong base model")));
        }
        break;
    }
    Ok(())
}

fn nothing_to_open(folder: &Path) -> Error {
    let below = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut named: Vec<String> = below
        .filter(|entry| entry.path().join(CONFIG).exists())
        .map(|entry| format!("`{}`", entry.file_name().to_string_lossy()))
        .collect();
    named.sort_unstable();
    let hint = match named.is_empty() {
        true => "an adapter is a folder with adapter_config.json and adapter_model.safetensors".to_string(),
        false => format!("but it holds the named adapters {}: open one of these folders", named.join(", ")),
    };
    Error::file(format!("`{}` holds no {CONFIG}: {hint}", folder.display()))
}

/// The first names, and how many more there are.
fn few(names: &[String]) -> String {
    let more = if names.len() > 6 { format!(" and {} more", names.len() - 6) } else { String::new() };
    format!("{}{more}", names[..names.len().min(6)].join(", "))
}
