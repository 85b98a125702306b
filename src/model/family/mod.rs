//! The model families: one thin file and one entry in the table of this file each.
//!
//! A family says how its `config.json` maps onto [`Config`]; what is computed from there is the one shared decoder's.
//! To add a family: write `family/<name>.rs` like its siblings, list it here, and add its golden files.

mod llama;
mod qwen2;
mod qwen3;

use super::config::Config;
use super::gguf::Layout;
use super::keys::Keys;
use crate::error::{Error, Result};

/// The table: all that is known.
const FAMILIES: [Family; 3] = [llama::LLAMA, qwen2::QWEN2, qwen3::QWEN3];

/// A family of models that the shared decoder can run; the entry of the table.
#[derive(Clone, Copy)]
pub struct Family {
    /// `model_type` in `config.json`.
    model_type: &'static str,
    /// The class in `config.json`'s `architectures`.
    architecture: &'static str,
    /// How llama.cpp stores it in GGUF files.
    gguf: Layout,
    /// Reads the family's own keys; the shared ones through [`Config::shared`].
    pub(super) read: fn(&mut Keys, Family) -> Result<Config>,
}

impl Family {
    /// Every family that can be opened.
    pub fn all() -> Vec<Family> {
        FAMILIES.to_vec()
    }

    /// The family's name in `config.json`'s `model_type`, such as `qwen3`.
    pub fn model_type(&self) -> &'static str {
        self.model_type
    }

    /// A module's path in the family's own files.
    pub(crate) fn own_path(&self, path: &str) -> String {
        path.to_string()
    }

    /// Whether the family's files hold linear weights as `[in, out]`.
    pub(crate) fn is_transposed(&self) -> bool {
        false
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
        let Some(model_type) = model_type else {
            return Err(keys.error(format!("`model_type` is missing; the families that can be opened are {}", known.join(", "))));
        };
        let Some(family) = FAMILIES.into_iter().find(|family| family.model_type == model_type) else {
            let known = known.join(", ");
            return Err(keys.error(format!("the model family `{model_type}` is unknown; the families that can be opened are {known}")));
        };
        if !architectures.is_empty() && !architectures.iter().any(|name| name == family.architecture) {
            return Err(keys.error(format!(
                "`architectures` names {}, but of the family `{model_type}` only {} can be opened: a language model with its output layer",
                architectures.join(", "),
                family.architecture
            )));
        }
        Ok(family)
    }

    /// The family that a GGUF file names in `general.architecture`, and how it is stored there; a file error lists the known ones.
    pub(super) fn in_gguf(architecture: &str) -> Result<(Family, Layout)> {
        let found = FAMILIES.into_iter().find(|family| family.gguf.name == architecture);
        found.map(|family| (family, family.gguf)).ok_or_else(|| {
            let known: Vec<&str> = FAMILIES.iter().map(|family| family.gguf.name).collect();
            let architecture: String = architecture.chars().take(60).collect();
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

/// Qwen's keys for windowed attention: refused when they ask for a window, ignored when they only describe one that is off.
fn no_sliding_window(keys: &mut Keys) -> Result<()> {
    keys.only("use_sliding_window", false, "attention over a sliding window")?;
    // The window's length and first layer, which `use_sliding_window: false` makes void.
    keys.ignore(&["sliding_window", "max_window_layers"]);
    Ok(())
}
