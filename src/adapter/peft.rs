//! How Python's PEFT spells things: keys of tensors, and settings that choose modules.

use serde_json::Value;
use tokenizers::utils::SysRegex;

use super::Base;
use crate::error::Result;
use crate::model::{Config, Keys, Model};
use crate::nn::layer_of;

/// What PEFT puts before the path of an adapted module.
const PREFIX: &str = "base_model.model.";

pub(super) const LORA_A: &str = "lora_A.weight";
pub(super) const LORA_B: &str = "lora_B.weight";
/// DoRA's norms of a weight's rows, next to the two factors.
pub(super) const MAGNITUDE: &str = "lora_magnitude_vector";
pub(super) const IA3: &str = "ia3_l";
pub(super) const PROMPT: &str = "prompt_embeddings";

/// A parameter's key in `adapter_model.safetensors`: under the family's own name of the module.
pub(super) fn key(name: &str, base: &Base) -> String {
    match site_of(name) {
        Some(site) => format!("{PREFIX}{}{}", base.own(site), &name[site.len()..]),
        None => name.to_string(),
    }
}

/// All keys that it may have there: transformers has moved text models inside those of several senses.
pub(super) fn keys(name: &str, config: &Config) -> Vec<String> {
    match site_of(name) {
        Some(site) => config.family.file_paths(site).iter().map(|own| format!("{PREFIX}{own}{}", &name[site.len()..])).collect(),
        None => vec![name.to_string()],
    }
}

/// PEFT says so of the weights that it meets as `[in, out]`, and asks for nothing by it.
pub(super) fn transposed(keys: &mut Keys, model: &Model) -> Result<()> {
    match model.config().family.is_transposed() {
        true => keys.flag("fan_in_fan_out", true).map(drop),
        false => keys.only("fan_in_fan_out", false, "transposed weights"),
    }
}

/// What PEFT knows of a model's linear modules, each with the paths that it has in transformers: of parts of one matrix the whole.
fn modules(model: &Model) -> Vec<(String, Vec<String>)> {
    let fused = model.decoder().fused();
    let is_part = |path: &String| fused.iter().any(|fused| fused.parts().contains(path));
    let sites = model.sites().into_iter().map(|(path, _)| path).filter(|path| !is_part(path));
    let sites = sites.chain(fused.iter().map(|fused| fused.path().to_string()));
    sites.map(|path| (model.config().family.file_paths(&path), path)).map(|(own, path)| (path, own)).collect()
}

/// What is no site here.
const OUTSIDE: [&str; 2] = ["lm_head", "model.embed_tokens"];

/// What a key of PEFT's holds that no adapter here does; `None` for a key that is merely unexpected.
pub(super) fn unsupported(key: &str, config: &Config) -> Option<&'static str> {
    let name = key.strip_prefix(PREFIX)?;
    let own = OUTSIDE.iter().flat_map(|module| config.family.file_paths(module));
    let outside = own.into_iter().any(|module| name.strip_prefix(&module).is_some_and(|rest| rest.starts_with('.')));
    if name.contains(".trainable_tokens_") || name.contains("token_adapter.") {
        Some("embeddings of single tokens trained next to the adapter (`trainable_token_indices`)")
    } else if outside && name.contains("lora_") {
        Some("a LoRA update of the output layer or the embedding")
    } else if outside && name.contains(IA3) {
        Some("(IA)³ factors of the output layer or the embedding")
    } else if outside {
        Some("an embedding or output layer saved next to the adapter (as PEFT does where the vocabulary was enlarged)")
    } else if name.contains(".modules_to_save.") {
        Some("a whole module trained next to the adapter")
    } else {
        None
    }
}

/// The module that a parameter belongs to: its name is `<module>.<parameter>`, for some with PEFT's `.weight` behind it, and without a module just the name.
pub(super) fn site_of(name: &str) -> Option<&str> {
    name.strip_suffix(".weight").unwrap_or(name).rsplit_once('.').map(|(site, _)| site)
}

/// A whole number as JSON's integer, as PEFT's own files have it.
pub(super) fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e9 { Value::from(value as i64) } else { Value::from(value) }
}

/// What is left to read of an `adapter_config.json`.
pub(crate) struct Settings {
    pub keys: Keys,
}

impl Settings {
    /// The linear modules that `target_modules` and its companions choose (`check_target_module_exists` in PEFT's `tuners_utils.py`).
    ///
    /// A list holds paths or their ends; a string is `all-linear` or a regular expression of the whole path.
    pub(super) fn targets(&mut self, model: &Model) -> Result<Vec<String>> {
        let Some(target) = self.keys.value("target_modules") else { return Err(self.keys.missing("target_modules")) };
        let target = Modules::new(self, "target_modules", &target)?;
        let excluded = match self.keys.value("exclude_modules") {
            Some(value) => Some(Modules::new(self, "exclude_modules", &value)?),
            None => None,
        };
        let layers = self.layers(model)?;
        let mut chosen = Vec::new();
        for (path, own) in modules(model) {
            let outside = layers.as_ref().is_some_and(|layers| !layer_of(&path).is_some_and(|layer| layers.contains(&(layer as i64))));
            // Layers restrict names only, not paths and patterns.
            let found = match &target {
                Modules::Named(names) => own.iter().any(|own| names.contains(own) || (!outside && target.ends(own))),
                Modules::Pattern(_) => own.iter().any(|own| target.matches(own)),
            };
            if found && !excluded.as_ref().is_some_and(|excluded| own.iter().any(|own| excluded.matches(own))) {
                chosen.push(path);
            }
        }
        if chosen.is_empty()
            && let Some(outside) = OUTSIDE.iter().flat_map(|path| model.config().family.file_paths(path)).find(|path| target.matches(path))
        {
            return Err(self
                .keys
                .error(format!("`target_modules` chooses `{outside}`: an update of the output layer or the embedding is not supported")));
        }
        match chosen.is_empty() {
            true => Err(self.keys.error("`target_modules` chooses no linear module of this model: a wrong base model?")),
            false => Ok(chosen),
        }
    }

    fn layers(&mut self, model: &Model) -> Result<Option<Vec<i64>>> {
        let pattern = self.keys.value("layers_pattern");
        let first = model.config().family.file_path("model.layers.0", false);
        let called = first.rsplit('.').nth(1).unwrap_or("layers");
        let known = |value: &Value| value == called || value.as_array().is_some_and(|list| list.iter().all(|item| item == called));
        if let Some(pattern) = pattern.filter(|pattern| !known(pattern)) {
            return Err(self.keys.error(format!("`layers_pattern` is {pattern}: the layers of this model are called `{called}`")));
        }
        let Some(value) = self.keys.value("layers_to_transform") else { return Ok(None) };
        let one = std::slice::from_ref(&value);
        let layers: Option<Vec<i64>> = value.as_array().map_or(one, Vec::as_slice).iter().map(Value::as_i64).collect();
        match layers {
            Some(layers) => Ok(Some(layers).filter(|layers| !layers.is_empty())),
            None => Err(self.keys.error(format!("`layers_to_transform` is {value}: it must be a layer or a list of layers"))),
        }
    }

    /// The modules among `paths` that `feedforward_modules` names: a list of ends, or a regular expression.
    pub(super) fn feedforward(&mut self, paths: &[String], model: &Model) -> Result<Vec<String>> {
        let Some(value) = self.keys.value("feedforward_modules") else { return Err(self.keys.missing("feedforward_modules")) };
        let modules = Modules::new(self, "feedforward_modules", &value)?;
        let found = |path: &&String| {
            model.config().family.file_paths(path).iter().any(|own| match &modules {
                // PEFT asks for no dot here.
                Modules::Named(names) => names.iter().any(|name| own.ends_with(name)),
                Modules::Pattern(_) => modules.matches(own),
            })
        };
        Ok(paths.iter().filter(found).cloned().collect())
    }

    /// A number for some of the modules: `key` holds regular expressions of a path's end, of which the first that matches counts
    /// (`get_pattern_key` in PEFT's `utils/other.py`). PEFT writes its files sorted, so first is first in the alphabet.
    pub(super) fn per_module(&mut self, key: &str, paths: &[String], model: &Model) -> Result<Vec<(String, f64)>> {
        let Some(value) = self.keys.value(key) else { return Ok(Vec::new()) };
        let Some(patterns) = value.as_object() else { return Err(self.keys.error(format!("`{key}` is {value}: it must be an object"))) };
        let mut rules = Vec::new();
        for (pattern, value) in patterns {
            let Some(number) = value.as_f64() else {
                return Err(self.keys.error(format!("`{key}` gives `{pattern}` no number but {value}")));
            };
            rules.push((self.regex(key, &format!(r"^(.*\.)?({pattern})$"))?, number));
        }
        let first = |path: &String| {
            let own = model.config().family.file_paths(path);
            rules.iter().find(|(regex, _)| own.iter().any(|own| matches(regex, own))).map(|(_, number)| (path.clone(), *number))
        };
        Ok(paths.iter().filter_map(first).collect())
    }

    /// How many virtual tokens; the model they were made for must have these sizes.
    pub(super) fn virtual_tokens(&mut self, layers: i64, heads: i64, width: i64) -> Result<i64> {
        for (key, size) in [("num_layers", layers), ("num_attention_heads", heads), ("token_dim", width)] {
            self.keys.only(key, size, "a wrong base model?")?;
        }
        self.keys.only("num_transformer_submodules", 1, "an encoder-decoder model")?;
        let tokens = self.keys.needed_number("num_virtual_tokens")?;
        match tokens.fract() == 0.0 && (0.0..1e9).contains(&tokens) {
            true => Ok(tokens as i64),
            false => Err(self.keys.error(format!("`num_virtual_tokens` is {tokens}: it must be a whole number"))),
        }
    }

    fn regex(&self, key: &str, pattern: &str) -> Result<SysRegex> {
        SysRegex::new(pattern).map_err(|error| self.keys.error(format!("`{key}`: `{pattern}` is no regular expression")).because(error))
    }
}

fn matches(regex: &SysRegex, text: &str) -> bool {
    regex.find_iter(text).next().is_some()
}

/// A choice of modules.
enum Modules {
    /// By paths or ends of paths.
    Named(Vec<String>),
    /// By a regular expression of the whole path.
    Pattern(SysRegex),
}

impl Modules {
    fn new(settings: &Settings, key: &str, value: &Value) -> Result<Self> {
        // All linear modules but the output layer, which is none of the sites here.
        if value == "all-linear" {
            return Ok(Self::Pattern(settings.regex(key, "^.*$")?));
        }
        if let Some(pattern) = value.as_str() {
            return Ok(Self::Pattern(settings.regex(key, &format!("^(?:{pattern})$"))?));
        }
        let names = value.as_array().and_then(|list| list.iter().map(|name| name.as_str().map(str::to_string)).collect());
        names.map(Self::Named).ok_or_else(|| settings.keys.error(format!("`{key}` is {value}: it must be a string or a list of strings")))
    }

    fn ends(&self, path: &str) -> bool {
        matches!(self, Self::Named(names) if names.iter().any(|name| path.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'))))
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Named(names) => names.iter().any(|name| name == path) || self.ends(path),
            Self::Pattern(regex) => matches(regex, path),
        }
    }
}
