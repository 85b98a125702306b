//! Adapters as folders that Python's PEFT reads and writes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tch::Tensor;

use super::fused;
use super::peft::{self, Settings};
use super::provenance::{self, HISTORY, MANIFEST};
use super::{Adapter, AdapterConfig, Base, KINDS, Parameters};
use crate::display::few;
use crate::error::{Error, Result};
use crate::file::{self, Holds};
use crate::hub::{self, Holding, Name};
use crate::kind::{is_float, wide};
use crate::model::{Config, Keys, Model};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// Where the weights' file says which adapter of parts it was made of (`AdapterConfig` as JSON).
const PARTS: &str = "ia2_parts";
/// What to do about files that are not what was saved.
const REMEDY: &str = "save the adapter again, or take it from where it came from (`Adapter::open_as_it_is` opens it all the same)";

/// Writes the two files, and `others` by their names: none takes its place before all are on the disk, and no reader finds halves of two.
pub(super) fn save(adapter: &Adapter, folder: &Path, others: &[(&str, &[u8])]) -> Result<()> {
    let (base, revision) = base_model(Path::new(&adapter.base.folder));
    let mut config = json!({
        "auto_mapping": null, "base_model_name_or_path": base, "inference_mode": true,
        "peft_type": adapter.config.peft_type(), "revision": revision, "task_type": "CAUSAL_LM",
    });
    let mut metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    let wholes;
    let (settings, parameters) = if fused::is_on_parts(&adapter.parameters, &adapter.base) {
        let (config, tensors) = adapter.config.method().at_wholes(&adapter.parameters, &adapter.base)?;
        wholes = (config, Parameters::new(tensors, adapter.parameters.flat().device())?);
        let own = serde_json::to_string(&adapter.config).map_err(|error| Error::internal("writing JSON").because(error))?;
        metadata.insert(PARTS.to_string(), own);
        (&wholes.0, &wholes.1)
    } else {
        (&adapter.config, &adapter.parameters)
    };
    if let (Some(config), Value::Object(own)) = (config.as_object_mut(), settings.method().write(parameters, &adapter.base)?) {
        config.extend(own);
    }
    let tensors: Vec<(String, Tensor)> =
        parameters.entries().iter().map(|(name, tensor)| (peft::key(name, &adapter.base), tensor.detach())).collect();
    let text = serde_json::to_string_pretty(&config).map_err(|error| Error::internal("writing JSON").because(error))?;
    file::folder(folder)?;
    let mut files = others.to_vec();
    // Last: every reader asks for it first.
    files.push((CONFIG, text.as_bytes()));
    // What an earlier training left tells of other parameters.
    file::replace(folder, (WEIGHTS, &tensors, metadata), &files, &[MANIFEST, HISTORY])
}

/// Whether a folder holds an adapter's files, whatever is in them.
pub(super) fn are_there(folder: &Path) -> bool {
    [CONFIG, WEIGHTS].iter().all(|name| folder.join(name).is_file())
}

/// A folder as it is, else a name on the hub; unless it is wanted `as_it_is`, only as it was saved and for the model that it was trained on.
pub(super) fn open(name: &Path, model: &Model, as_it_is: bool) -> Result<Adapter> {
    match Name::parse(&name.to_string_lossy()).filter(|_| !name.exists()) {
        Some(name) => open_folder(&hub::folder(&name, Holding::Adapter)?, model, as_it_is),
        None => open_folder(name, model, as_it_is),
    }
}

fn open_folder(folder: &Path, model: &Model, as_it_is: bool) -> Result<Adapter> {
    let _lock = file::Lock::shared(folder)?;
    let path = folder.join(CONFIG);
    if !path.exists() {
        return Err(nothing_to_open(folder));
    }
    if !folder.join(WEIGHTS).exists() {
        return Err(no_weights(folder));
    }
    let keys = Keys::open(&path)?;
    let stored = file::read_tensors(&folder.join(WEIGHTS), REMEDY)?;
    if !as_it_is {
        file::check_companion(&stored.texts, &path, file::read_text(&path)?.as_bytes(), REMEDY)?;
    }
    let (config, base) = (settings(keys, folder, model)?, Base::of(model));
    let mut there = stored.tensors;
    let (mut tensors, mut missing, mut misshaped) = (Vec::new(), Vec::new(), Vec::new());
    for (name, shape) in config.method().layout(model)? {
        let key = peft::key(&name, &base);
        let found = peft::keys(&name, model.config()).iter().find_map(|key| there.remove(key));
        match found {
            None => missing.push(key),
            Some(tensor) if tensor.size() != shape => misshaped.push(format!("`{name}` is {:?} and should be {shape:?}", tensor.size())),
            Some(tensor) if !is_float(tensor.kind()) => {
                return Err(Error::file(format!("{WEIGHTS}: `{name}` holds {:?}, not floats", tensor.kind())));
            }
            Some(tensor) => tensors.push((name, tensor)),
        }
    }
    let mut unexpected: Vec<String> = there.into_keys().collect();
    unexpected.sort_unstable();
    let mut others: Vec<(&str, &str)> =
        unexpected.iter().filter_map(|key| Some((peft::unsupported(key, model.config())?, key.as_str()))).collect();
    others.sort_unstable();
    others.dedup_by_key(|(what, _)| *what);
    if !others.is_empty() {
        let others: Vec<String> = others.into_iter().map(|(what, key)| format!("{what} (`{key}`)")).collect();
        return Err(Error::file(format!(
            "{} holds {}, which is not supported: merge it in Python (`PeftModel.from_pretrained(..).merge_and_unload()`), save that, and open \
             it as a model",
            folder.join(WEIGHTS).display(),
            others.join(" and ")
        )));
    }
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
    // As PEFT wrote or would take it, it stays an adapter of the wholes.
    let (config, tensors) = match stored.texts.get(PARTS).filter(|_| !as_it_is) {
        Some(text) => {
            let own: AdapterConfig = serde_json::from_str(text)
                .map_err(|error| Error::file(format!("{WEIGHTS}: `{PARTS}` is not readable: {REMEDY}")).because(error))?;
            let parts = fused::of_wholes(&own, &own.method().layout(model)?, tensors, &model.decoder().fused())?;
            (own, parts)
        }
        None => (config, tensors),
    };
    if !as_it_is {
        provenance::check(folder, &tensors.iter().map(|(_, tensor)| tensor.shallow_clone()).collect::<Vec<_>>(), model)?;
    }
    let kind = wide(model.kind());
    let tensors = tensors.into_iter().map(|(name, tensor)| (name, tensor.to_kind(kind))).collect();
    Ok(Adapter { config, parameters: Parameters::new(tensors, model.device())?, base })
}

/// The settings in a file of PEFT's: each is used, ignored, or refused by name.
fn settings(mut keys: Keys, folder: &Path, model: &Model) -> Result<AdapterConfig> {
    let Some(kind) = keys.word("peft_type")? else { return Err(keys.missing("peft_type")) };
    keys.only("task_type", "CAUSAL_LM", "a model with another head")?;
    keys.refuse("modules_to_save", "whole modules trained next to the adapter")?;
    keys.refuse("layer_replication", "layers of the base model repeated")?;
    keys.refuse("trainable_token_indices", "embeddings of single tokens trained next to the adapter")?;
    keys.refuse("target_parameters", "updates of parameters that no linear module holds")?;
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
        let theirs = if place.is_file() {
            Config::open(&place).ok().map(|config| config.family.model_type().to_string())
        } else {
            let Some(name) = model_type(&place) else { continue };
            Some(name)
        };
        let inside = |name: &String| model.config().family.is_inside(name);
        if let Some(theirs) = theirs.filter(|theirs| theirs != ours && !inside(theirs)) {
            return Err(keys.error(format!("its base model `{base}` is a {theirs}, this one a {ours}: a wrong base model")));
        }
        break;
    }
    Ok(())
}

/// What a model's `config.json` says it is.
pub(super) fn model_type(folder: &Path) -> Option<String> {
    let text = file::text(&folder.join("config.json"), Holds::Settings).ok()?;
    Some(serde_json::from_str::<Value>(&text).ok()?["model_type"].as_str()?.to_string())
}

fn no_weights(folder: &Path) -> Error {
    let place = folder.display();
    Error::file(match folder.join("adapter_model.bin").exists() {
        true => format!(
            "`{place}` holds its weights only as `adapter_model.bin`, a Python pickle, which can run code when it is read and is therefore not \
             opened: convert it in Python, where you trust it, with `PeftModel.from_pretrained(model, \"{place}\").save_pretrained(\"<new folder>\")`"
        ),
        false => format!("`{place}` holds no {WEIGHTS}: download the weights too"),
    })
}

fn nothing_to_open(folder: &Path) -> Error {
    let below = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut named: Vec<String> = below
        .filter(|entry| entry.path().join(CONFIG).exists())
        .map(|entry| format!("`{}`", entry.file_name().to_string_lossy()))
        .collect();
    named.sort_unstable();
    let hint = match named.is_empty() {
        true if folder.join("config.json").exists() => "it holds a model: open it with `Model::open`".to_string(),
        true => "an adapter is a folder with adapter_config.json and adapter_model.safetensors, or a name on the Hugging Face hub like `org/name`".to_string(),
        false => format!("but it holds the named adapters {}: open one of these folders", named.join(", ")),
    };
    Error::file(format!("`{}` holds no {CONFIG}: {hint}", folder.display()))
}
