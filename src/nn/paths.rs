//! Module paths in both spellings.

use super::hook::{Selection, none_of};
use crate::error::Result;

/// Module paths as they are called here, and as a family's own files call the same modules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Paths {
    common: Vec<String>,
    /// Other spellings of each.
    own: Vec<Vec<String>>,
}

impl Paths {
    /// `common` paths; `own` gives the other spellings of one.
    pub(crate) fn new(common: Vec<String>, own: impl Fn(&str) -> Vec<String>) -> Self {
        let own = common.iter().map(|path| own(path)).collect();
        Self { common, own }
    }

    /// The common spellings, in their order.
    pub(crate) fn common(&self) -> &[String] {
        &self.common
    }

    /// The paths that a selection chooses in either spelling, in the order given and in the common spelling; a pattern that selects none is an
    /// error.
    ///
    /// # Errors
    /// It names the pattern and the paths there are.
    pub(crate) fn select(&self, selection: &Selection) -> Result<Vec<String>> {
        let chosen = |pattern: &str, place: usize| {
            Selection::holds(pattern, &self.common[place]) || self.own[place].iter().any(|own| Selection::holds(pattern, own))
        };
        let places = 0..self.common.len();
        for pattern in selection.patterns() {
            if !places.clone().any(|place| chosen(pattern, place)) {
                return Err(none_of(pattern, &self.common));
            }
        }
        let found = places.filter(|&place| selection.patterns().iter().any(|pattern| chosen(pattern, place)));
        Ok(found.map(|place| self.common[place].clone()).collect())
    }

    /// The common spelling of one path in either; `None` for one that is not here.
    pub(crate) fn find(&self, path: &str) -> Option<&str> {
        let is = |place: &usize| self.common[*place] == path || self.own[*place].iter().any(|own| own == path);
        (0..self.common.len()).find(is).map(|place| self.common[place].as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_mean_one_place() -> Result<()> {
        let paths: Vec<String> = (0..2).flat_map(|layer| ["self_attn", "mlp"].map(|name| format!("model.layers.{layer}.{name}"))).collect();
        let paths = Paths::new(paths, |path| {
            let own = path.replace("self_attn", "attn");
            vec![own.replace("model.layers", "transformer.h"), own]
        });
        let select = |pattern: &str| paths.select(&Selection::new(pattern)?);
        let attention = select("model.layers.*.self_attn")?;
        assert_eq!(attention.len(), 2);
        for own in ["transformer.h.*.attn", "model.layers.*.attn", "transformer.h.*.attn, model.layers.1.self_attn"] {
            assert_eq!(select(own)?, attention, "{own}");
        }
        assert_eq!(select("transformer.h.1.*")?, ["model.layers.1.self_attn", "model.layers.1.mlp"]);
        assert_eq!(paths.find("transformer.h.1.attn"), Some("model.layers.1.self_attn"));
        let error = select("transformer.h.2.attn").unwrap_err().to_string();
        assert!(error.contains("transformer.h.2.attn") && error.contains("model.layers.0.self_attn"), "{error}");
        Ok(())
    }
}
