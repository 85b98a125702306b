//! What an entry of the table of objectives says.

use super::{Distilled, OBJECTIVES, Objective, Targets};
use crate::compat::Compat;
use crate::display::{Bundle, Show, number};
use crate::error::{Error, Result};

/// The weight of cross-entropy in an objective that has one, unless a grid says otherwise.
const BETA: f64 = 0.5;

/// An objective: what it is called, what it minimises, and how it is made of targets.
#[derive(Clone, Copy, Debug)]
pub struct ObjectiveEntry {
    /// Name for grids and frames, singular snake_case.
    pub name: &'static str,
    /// The formula of one example's loss.
    pub formula: &'static str,
    /// The least value it can take.
    pub minimum: f64,
    /// Whether it learns from targets.
    pub(crate) targets: bool,
    /// Whether these must hold distributions.
    pub(crate) distributions: bool,
    /// Whether its loss has a weight beta, over which a grid goes, and a part `sft` by which it is chosen.
    pub(crate) beta: bool,
    /// Whether its samples are drawn again in each step.
    pub(crate) on_policy: bool,
    pub(super) make: fn(&Given<'_>) -> Result<Box<dyn Objective>>,
}

/// What an entry is made of.
pub(crate) struct Given<'t> {
    pub targets: Option<&'t Targets>,
    pub compat: Compat,
    pub beta: f64,
    pub self_distillation: Distilled,
}

impl<'t> Given<'t> {
    pub(super) fn targets(&self) -> Result<&'t Targets> {
        self.targets.ok_or_else(|| Error::internal("an objective that learns from targets was given none"))
    }
}

/// What most entries have; each says its own name, formula and how it is made.
pub(super) const PLAIN: ObjectiveEntry = ObjectiveEntry {
    name: "",
    formula: "",
    minimum: 0.0,
    targets: true,
    distributions: false,
    beta: false,
    on_policy: false,
    make: |_| Err(Error::internal("an objective that nobody makes")),
};

impl ObjectiveEntry {
    /// The objective of that name.
    ///
    /// # Errors
    /// An input error that lists the known names.
    pub fn named(name: &str) -> Result<Self> {
        OBJECTIVES.iter().find(|known| known.name == name).copied().ok_or_else(|| {
            let known = OBJECTIVES.iter().map(|known| known.name).collect::<Vec<_>>().join(", ");
            Error::input(format!("there is no objective `{name}`; there are {known}"))
        })
    }

    /// The objective on these targets.
    ///
    /// # Errors
    /// The targets lack what it needs.
    pub fn of(&self, targets: &Targets) -> Result<Box<dyn Objective>> {
        self.made(&Given { targets: Some(targets), compat: Compat::Corrected, beta: BETA, self_distillation: Distilled::default() })
    }

    pub(crate) fn made(&self, given: &Given<'_>) -> Result<Box<dyn Objective>> {
        (self.make)(given)
    }
}

impl Show for ObjectiveEntry {
    fn bundle(&self) -> Bundle {
        Bundle::text(format!("{}: {}, at least {}", self.name, self.formula, number(self.minimum)))
    }
}

/// A training takes an objective, or what a table or a grid gives.
impl<T: Objective + 'static> From<T> for Box<dyn Objective> {
    fn from(objective: T) -> Self {
        Box::new(objective)
    }
}
