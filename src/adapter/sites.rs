//! Which linear modules an adapter sits on.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::Model;
use crate::nn::{Paths, Selection, layer_of};

/// The setters of an adapter with `sites`.
macro_rules! setters {
    () => {
        /// Where it sits: patterns of module paths separated by commas, or a module's bare name for every layer
        /// (`q_proj, v_proj`, `model.layers.0.self_attn.*`).
        pub fn sites(mut self, patterns: &str) -> Self {
            self.sites.patterns = patterns.to_string();
            self
        }

        /// Only in these layers.
        pub fn layers(mut self, layers: impl IntoIterator<Item = usize>) -> Self {
            self.sites.layers = Some(layers.into_iter().collect());
            self
        }
    };
}
pub(super) use setters;

/// Patterns of module paths separated by commas, and perhaps only some layers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sites {
    pub patterns: String,
    pub layers: Option<Vec<usize>>,
}

/// One linear module.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub path: String,
    /// Its place among all linear modules of the model.
    pub index: usize,
    pub inputs: i64,
    pub outputs: i64,
}

impl Sites {
    pub(super) fn new(patterns: &str) -> Self {
        Self { patterns: patterns.to_string(), layers: None }
    }

    /// The modules selected; a pattern or layer that selects none is an error.
    ///
    /// Patterns are read in the common spelling and in that of the family's own files. The whole of modules that such files hold as one matrix is
    /// chosen by its name alone: `*` means its parts.
    pub(super) fn of(&self, model: &Model) -> Result<Vec<Site>> {
        let (sites, fused) = (model.sites(), model.decoder().fused());
        let own = |path: &str| model.config().family.own_path(path);
        let parts = Paths::new(sites.iter().map(|(path, _)| path.clone()).collect(), own);
        let wholes = Paths::new(fused.iter().map(|fused| fused.path().to_string()).collect(), own);
        let mut paths = Vec::new();
        for pattern in self.patterns.split(',') {
            let selection = selection(pattern)?;
            paths.extend(match parts.select(&selection) {
                Err(error) => wholes.select(&selection).map_err(|_| error)?,
                Ok(paths) => paths,
            });
        }
        if let Some(layer) = self.layers.iter().flatten().find(|&&layer| layer as i64 >= model.config().layers) {
            return Err(Error::input(format!("layer {layer} is not there: the model's layers are 0 to {}", model.config().layers - 1)));
        }
        let in_layer = |path: &str| match (&self.layers, layer_of(path)) {
            (Some(layers), Some(layer)) => layers.contains(&layer),
            (Some(_), None) => false,
            (None, _) => true,
        };
        for whole in fused.iter().filter(|whole| paths.iter().any(|path| path == whole.path())) {
            if let Some(part) = whole.parts().iter().find(|part| paths.contains(part)) {
                return Err(Error::input(format!("{self} selects `{}` and its part `{part}`: choose one of the two", whole.path())));
            }
        }
        let all = sites.into_iter().chain(fused.into_iter().map(|fused| (fused.path().to_string(), fused.widths())));
        let chosen = all.enumerate().filter(|(_, (path, _))| paths.contains(path) && in_layer(path));
        let chosen: Vec<Site> = chosen.map(|(index, (path, (inputs, outputs)))| Site { path, index, inputs, outputs }).collect();
        if chosen.is_empty() {
            return Err(Error::input(format!("{self} selects no linear module: see `model.sites()`")));
        }
        Ok(chosen)
    }

    /// The shortest spelling of `chosen` paths: bare names, bare names in some layers, or all paths.
    pub(super) fn spelled(chosen: &[String], model: &Model) -> Self {
        let mut names: Vec<&str> = Vec::new();
        let mut layers: Vec<usize> = Vec::new();
        for path in chosen {
            let name = path.rsplit('.').next().unwrap_or(path);
            if !names.contains(&name) {
                names.push(name);
            }
            layers.extend(layer_of(path).filter(|layer| !layers.contains(layer)));
        }
        layers.sort_unstable();
        let whole = layers.len() as i64 == model.config().layers;
        let short = Self { patterns: names.join(", "), layers: (!whole).then_some(layers) };
        let same = short.of(model).is_ok_and(|sites| sites.len() == chosen.len() && sites.iter().all(|site| chosen.contains(&site.path)));
        if same { short } else { Self::new(&chosen.join(", ")) }
    }
}

impl std::fmt::Display for Sites {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.patterns)?;
        match &self.layers {
            Some(layers) => write!(f, " of layers {layers:?}"),
            None => Ok(()),
        }
    }
}

/// Paths selected by patterns separated by commas, in which `q_proj` means that module in every layer.
pub(super) fn selection(patterns: &str) -> Result<Selection> {
    let full = |pattern: &str| match pattern.contains('.') || pattern.is_empty() {
        true => pattern.to_string(),
        false => format!("model.layers.*.*.{pattern}"),
    };
    Selection::new(&patterns.split(',').map(|pattern| full(pattern.trim())).collect::<Vec<_>>().join(","))
}
