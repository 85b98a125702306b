//! The model families: one thin file and one entry in the table of this file each.
//!
//! A family says how its `config.json` maps onto [`Config`], which names the parts of the one shared decoder, and how its files name and store
//! the weights. To add a family: write `family/<name>.rs` like its siblings, list it here, and add its golden files (`tests/python`).

mod gemma2;
mod gemma3;
mod gpt2;
mod gpt_neox;
mod granite;
mod llama;
mod mistral;
mod olmo2;
mod olmo3;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen3_moe;
#[cfg(test)]
#[path = "../../../tests/recipes/family.rs"]
mod recipe;
mod smollm3;

use super::config::Config;
use super::gguf::layout::Layout;
use super::keys::Keys;
use super::storage::{self, Storage};
use crate::error::{Error, Result};

/// The table: all that is known.
#[rustfmt::skip]
const FAMILIES: &[Family] = &[
    llama::LLAMA, qwen2::QWEN2, qwen3::QWEN3, mistral::MISTRAL, gemma2::GEMMA2, gemma3::GEMMA3, gpt2::GPT2, gpt_neox::GPT_NEOX, phi3::PHI3,
    olmo2::OLMO2, olmo3::OLMO3, smollm3::SMOLLM3, granite::GRANITE, qwen3_moe::QWEN3_MOE,
    #[cfg(test)] recipe::TOY,
];

/// A family of models that the shared decoder can run; the entry of the table.
#[derive(Clone, Copy)]
pub struct Family {
    /// `model_type` in `config.json`.
    model_type: &'static str,
    /// The class in `config.json`'s `architectures`.
    architecture: &'static str,
    /// The same two of a model of several senses, whose `text_config` is this family's.
    within: Option<(&'static str, &'static str)>,
    /// How llama.cpp stores it in GGUF files; `None` where such files are not read.
    gguf: Option<Layout>,
    /// How its files name and store the weights.
    storage: Storage,
    /// Whether the rotary embedding may turn a part of each head.
    partial: bool,
    /// The paper's weights beta for it.
    betas: &'static [f64],
    /// Reads the family's own keys; the shared ones through [`Config::shared`].
    pub(super) read: fn(&mut Keys, Family) -> Result<Config>,
}

/// What most families have; each says its own name and how it is read.
const PLAIN: Family = Family {
    model_type: "",
    architecture: "",
    within: None,
    gguf: None,
    storage: storage::PLAIN,
    partial: false,
    betas: &[0.1, 0.5, 0.7, 0.9],
    read: |keys, family| Config::shared(keys, family, super::config::Defaults::PLAIN),
};

impl Family {
    /// Every family that can be opened.
    pub fn all() -> Vec<Family> {
        FAMILIES.to_vec()
    }

    /// The family's name in `config.json`'s `model_type`, such as `qwen3`.
    pub fn model_type(&self) -> &'static str {
        self.model_type
    }

    /// A module's path in transformers' model; `inside` one of several senses, where the family has such.
    pub(crate) fn file_path(&self, path: &str, inside: bool) -> String {
        self.storage().own_paths(path).swap_remove(if inside { self.storage().base.len() - 1 } else { 0 })
    }

    /// All paths that a module has or had in transformers' models.
    pub(crate) fn file_paths(&self, path: &str) -> Vec<String> {
        self.storage().own_paths(path)
    }

    /// Whether `config.json`'s `model_type` is that of a model of several senses, whose text model is of this family.
    pub(crate) fn is_inside(&self, model_type: &str) -> bool {
        self.within.is_some_and(|(outer, _)| outer == model_type)
    }

    /// Whether the family's files hold linear weights as `[in, out]`.
    pub(crate) fn is_transposed(&self) -> bool {
        self.storage().transposed
    }

    /// The family's name in `config.json`'s `architectures`, such as `Qwen3ForCausalLM`.
    pub fn architecture(&self) -> &'static str {
        self.architecture
    }

    /// The family that `config.json` names in `model_type` and, when there, `architectures`; a file error lists the known ones.
    pub(super) fn of(keys: &mut Keys) -> Result<Family> {
        let model_type = keys.word("model_type")?;
        let architectures = keys.words("architectures")?.unwrap_or_default();
        let known: Vec<String> = FAMILIES.iter().map(|family| format!("{} ({})", family.model_type, family.architecture)).collect();
        let known = known.join(", ");
        let recipe =
            "a new one is a file in src/model/family that names its parts, a line in the table there and golden files from transformers";
        let Some(model_type) = model_type else {
            return Err(keys.error(format!("`model_type` is missing; the families that can be opened are {known}")));
        };
        let within = |family: &Family| family.within.is_some_and(|(own, _)| own == model_type);
        let Some(family) = FAMILIES.iter().copied().find(|family| family.model_type == model_type || within(family)) else {
            return Err(
                keys.error(format!("the model family `{model_type}` is unknown; the families that can be opened are {known}; {recipe}"))
            );
        };
        let architecture = match family.within.filter(|_| within(&family)) {
            Some((_, architecture)) => {
                keys.unwrap_object("text_config")?;
                keys.ignore(&["model_type", "architectures"]);
                architecture
            }
            None => family.architecture,
        };
        if !architectures.is_empty() && !architectures.iter().any(|name| name == architecture) {
            return Err(keys.error(format!(
                "`architectures` names {}, but of the family `{model_type}` only {architecture} can be opened: a language model with its output layer",
                architectures.join(", "),
            )));
        }
        Ok(family)
    }

    /// Whether GGUF files of this family can be opened.
    pub fn is_in_gguf(&self) -> bool {
        self.gguf.is_some()
    }

    /// How its files name and store the weights.
    pub(super) fn storage(&self) -> &'static Storage {
        let own = |family: &&Family| family == &self;
        FAMILIES.iter().find(own).map_or(&PLAIN.storage, |family| &family.storage)
    }

    /// Other spellings of a module's path: the family's own.
    pub(crate) fn own_path(&self, path: &str) -> Vec<String> {
        self.storage.spellings(path)
    }

    /// Whether the rotary embedding may turn a part of each head.
    pub(super) fn turns_a_part(&self) -> bool {
        self.partial
    }

    /// The weights beta that the paper tries for models of this family.
    pub(crate) fn betas(&self) -> &'static [f64] {
        self.betas
    }

    /// What a saved model's `config.json` says where the one it was opened with is that of a model of several senses.
    pub(super) fn alone(&self, config: serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        let Value::Object(mut outer) = config else { return config };
        let Some(Value::Object(inner)) = outer.remove("text_config").filter(|_| self.within.is_some()) else { return Value::Object(outer) };
        outer.retain(|key, _| !key.ends_with("_config") && !key.contains("token_index") && key != "mm_tokens_per_image");
        outer.extend(inner.into_iter().filter(|(_, value)| !value.is_null()));
        outer.insert("model_type".into(), self.model_type.into());
        outer.insert("architectures".into(), serde_json::json!([self.architecture]));
        Value::Object(outer)
    }

    /// The family that a GGUF file names in `general.architecture`, and how it is stored there; a file error lists the known ones. `has` says
    /// whether a key of the metadata is there.
    pub(super) fn in_gguf(architecture: &str, has: impl Fn(&str) -> bool) -> Result<(Family, Layout)> {
        let stored = FAMILIES.iter().copied().filter_map(|family| Some((family, family.gguf?)));
        let fits = |layout: &Layout| layout.name == architecture && layout.mark.is_none_or(|mark| has(&format!("{architecture}.{mark}")));
        stored.clone().filter(|(_, layout)| fits(layout)).max_by_key(|(_, layout)| layout.mark.is_some()).ok_or_else(|| {
            let known: Vec<&str> = stored.filter(|(_, layout)| layout.mark.is_none()).map(|(_, layout)| layout.name).collect();
            let architecture = crate::display::shortened(architecture, 60);
            Error::file(format!(
                "the architecture {architecture:?} (`general.architecture`) cannot be opened; these can: {}",
                known.join(", ")
            ))
        })
    }
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.model_type == other.model_type
    }
}

impl Eq for Family {}

impl std::fmt::Debug for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.model_type)
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.model_type)
    }
}

/// Qwen's keys for attention over a window: off unless `use_sliding_window`, and then on from the layer `max_window_layers` on.
fn read_upper_windows(keys: &mut Keys, config: &mut Config) -> Result<()> {
    let on = keys.flag("use_sliding_window", false)?;
    let (window, first) = (keys.size("sliding_window")?, keys.number("max_window_layers")?.unwrap_or(28.0));
    config.read_windows(keys, window.filter(|_| on), |layer| layer as f64 >= first)
}
