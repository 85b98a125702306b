//! Adapters: few trained parameters on a frozen model.
//!
//! An [`AdapterConfig`] says which kind with which settings, an [`Adapter`] holds trained parameters.
//!
//! | kind | changes | parameters |
//! |---|---|---|
//! | [`Lora`] | linear modules: `W x + s B A x` | `A [rank, in]`, `B [out, rank]` per site |
//! | [`Dora`] | linear modules: `m / \|W + s B A\| * (W + s B A) x` | LoRA's, and `m [out]` per site |
//! | [`Ia3`] | linear modules: `l * (W x + b)`, or `W (l * x) + b` | `l [out]` or `l [in]` per site |
//! | [`PromptTuning`] | virtual tokens by their embeddings | `[virtual, hidden]` |
//! | [`PrefixTuning`] | virtual tokens by their keys and values | `[virtual, 2 layer, kv_head, head_dim]` |
//! | [`Cartridge`] | the same, begun as those of demonstrations | `[virtual, 2 layer, kv_head, head_dim]` |
//!
//! A kind is one file (its settings with their `Tuning`) and one line in the table below.

mod cartridge;
mod dora;
#[cfg(test)]
mod family_tests;
mod files;
mod fused;
mod ia3;
mod lora;
mod merge;
mod method;
mod parameters;
mod peft;
mod prefix;
mod prompt;
mod provenance;
#[cfg(test)]
#[path = "../../tests/recipes/adapter.rs"]
mod recipe;
mod sites;
mod start;

use std::path::Path;
use std::rc::Rc;

use polars::prelude::*;
use serde::{Deserialize, Serialize};

pub use cartridge::Cartridge;
pub use dora::Dora;
pub use ia3::Ia3;
pub use lora::{Lora, LowRank};
pub use merge::Merged;
pub(crate) use parameters::Parameters;
pub use prefix::PrefixTuning;
pub use prompt::PromptTuning;
pub(crate) use provenance::{FORMAT, HISTORY, MANIFEST};
pub use start::Start;

use crate::dataset::Split;
use crate::display::{Bundle, Show, headed};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::libtorch::guarded;
use crate::model::{Change, Config, Model};
use crate::nn::Fused;
use method::Tuning;

crate::display::show_as_text!(AdapterConfig, Cartridge, Dora, Ia3, Lora, PrefixTuning, PromptTuning, Start);

/// The table of kinds: each with what Python's PEFT calls it, the one with a further setting before the one without.
macro_rules! kinds {
    ($($(#[$doc:meta])* $Kind:ident = $peft_type:literal $(with $flag:literal)?,)+) => {
        /// Which adapter, with which settings.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum AdapterConfig {
            $($(#[$doc])* $Kind($Kind),)+
        }

        /// The kinds there are, as PEFT's files call them (`peft_type`), some with a setting that makes them another.
        pub const KINDS: &[&str] = &[$(concat!($peft_type $(, " with ", $flag)?)),+];

        impl AdapterConfig {
            /// What PEFT's files call this kind.
            pub fn peft_type(&self) -> &'static str {
                match self {
                    $(Self::$Kind(_) => $peft_type,)+
                }
            }

            /// Its entry in [`KINDS`].
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$Kind(_) => concat!($peft_type $(, " with ", $flag)?),)+
                }
            }

            fn method(&self) -> &dyn Tuning {
                match self {
                    $(Self::$Kind(method) => method,)+
                }
            }

            /// Reads the settings of the kind that PEFT calls `peft_type`; `None` if there is none.
            fn read(peft_type: &str, settings: &mut peft::Settings, model: &Model) -> Result<Option<Self>> {
                match peft_type {
                    $($peft_type $(if settings.keys.flag($flag, false)?)? => $Kind::read(settings, model).map(|method| Some(Self::$Kind(method))),)+
                    _ => Ok(None),
                }
            }
        }

        $(impl From<$Kind> for AdapterConfig {
            fn from(method: $Kind) -> Self {
                Self::$Kind(method)
            }
        })+
    };
}

kinds! {
    /// Low-rank updates of linear modules split into magnitude and direction.
    Dora = "LORA" with "use_dora",
    /// Low-rank updates of linear modules.
    Lora = "LORA",
    /// Factors on the outputs or inputs of linear modules.
    Ia3 = "IA3",
    /// Virtual tokens, given by their embeddings.
    PromptTuning = "PROMPT_TUNING",
    /// Virtual tokens, given by their keys and values in every layer.
    PrefixTuning = "PREFIX_TUNING",
    /// Virtual tokens that begin as the keys and values of demonstrations.
    Cartridge = "CARTRIDGE",
}

impl AdapterConfig {
    /// `LoRA r=8 alpha=8 on q_proj` and the like, for frames and messages.
    pub fn name(&self) -> String {
        self.method().name()
    }

    /// These settings for a training on `split`.
    pub(crate) fn on(&self, model: &Model, split: &Split) -> Result<Self> {
        Ok(self.method().on(model, split)?.unwrap_or_else(|| self.clone()))
    }

    /// How many numbers are trained on `model`; for a cartridge of demonstrations this is an upper bound.
    pub(crate) fn count(&self, model: &Model) -> Result<i64> {
        Ok(self.method().layout(model)?.iter().map(|(_, size)| size.iter().product::<i64>()).sum())
    }

    /// Whether training with it draws random numbers, as dropout does.
    pub(crate) fn draws(&self) -> bool {
        self.method().draws()
    }
}

/// A set of trained (or freshly started) adapter parameters.
#[derive(Debug)]
pub struct Adapter {
    config: AdapterConfig,
    parameters: Parameters,
    base: Base,
}

/// The model an adapter was made for.
#[derive(Clone, Debug)]
struct Base {
    folder: String,
    config: Config,
    /// The groups of modules that the family's files hold as one matrix each.
    fused: Vec<Fused>,
    /// Whether it is the text part of a model of several senses.
    inside: bool,
}

impl Base {
    fn of(model: &Model) -> Self {
        let fused = model.decoder().fused().into_iter().cloned().collect();
        let inside = files::model_type(model.folder()).is_some_and(|name| model.config().family.is_inside(&name));
        Self { folder: model.folder().display().to_string(), config: model.config().clone(), fused, inside }
    }

    /// The module's path in the family's own files.
    fn own(&self, path: &str) -> String {
        self.config.family.file_path(path, self.inside)
    }

    fn owns(&self, paths: &[&str]) -> Vec<String> {
        paths.iter().map(|path| self.own(path)).collect()
    }

    /// Whether the family's files hold linear weights as `[in, out]`.
    fn is_transposed(&self) -> bool {
        self.config.family.is_transposed()
    }
}

impl Adapter {
    /// Fresh parameters for `model`. The same seed gives the same parameters.
    ///
    /// With fresh [`Lora`], [`Dora`] and [`Ia3`] the adapted model equals the base model; virtual tokens say at [`Start`] how they begin.
    ///
    /// # Errors
    /// Settings that do not fit the model: no such site or layer, a rank of 0 or above the site's widths, a text that cannot be encoded; a module
    /// and the whole that it is a part of; parts of a whole in a way that PEFT's files, which know the whole alone, cannot say.
    pub fn new(model: &Model, config: impl Into<AdapterConfig>, seed: u64) -> Result<Self> {
        let config = config.into();
        guarded("starting an adapter", || {
            let parameters = Parameters::new(config.method().start(model, seed)?, model.device())?;
            let base = Base::of(model);
            // What could not be saved is refused before anything is trained.
            if fused::is_on_parts(&parameters, &base) {
                config.method().at_wholes(&parameters, &base)?;
            }
            Ok(Self { config, parameters, base })
        })
    }

    /// The settings.
    pub fn config(&self) -> &AdapterConfig {
        &self.config
    }

    /// How many numbers are trained.
    pub fn count(&self) -> i64 {
        self.parameters.flat().numel() as i64
    }

    /// How many of the first of them training leaves as they are.
    pub(crate) fn frozen(&self) -> i64 {
        self.config.method().frozen(&self.base.config)
    }

    pub(crate) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// A parameter's key in PEFT's files.
    #[cfg(test)]
    pub(crate) fn key(&self, name: &str) -> String {
        peft::key(name, &self.base)
    }

    /// A copy with parameters of its own.
    pub fn duplicate(&self) -> Result<Self> {
        guarded("copying an adapter", || {
            Ok(Self { config: self.config.clone(), parameters: self.parameters.duplicate()?, base: self.base.clone() })
        })
    }

    /// A copy under settings that say the same of these parameters in other words: after a round trip through PEFT's files sites are spelled
    /// another way and how virtual tokens started is forgotten. Dropout, which belongs to training, may differ.
    ///
    /// # Errors
    /// The parameters do not fit the model, or the settings call for others.
    pub(crate) fn under(&self, config: &AdapterConfig, model: &Model) -> Result<Self> {
        self.check_fit(model)?;
        let copy = Self { config: config.clone(), ..self.duplicate()? };
        let effect = |adapter: &Self| Ok::<_, Error>(adapter.config.method().attach(&adapter.parameters, model.config())?.numbers());
        let same_kind = config.peft_type() == self.config.peft_type();
        // Not compared where the settings are equal word for word: NaN, which training reports, differs from itself.
        if *config == self.config || same_kind && copy.check_fit(model).is_ok() && effect(&copy)? == effect(self)? {
            return Ok(copy);
        }
        let (ours, theirs) = (config.name(), self.config.name());
        Err(Error::input(format!("a training of {ours} cannot go on from {theirs}: use one adapter, with the same settings")))
    }

    /// A copy at `factor` of its strength: 0 is the base model, 1 this adapter, and what lies between or beyond in proportion.
    ///
    /// LoRA's update becomes `factor s B A` (its alphas are multiplied); an (IA)³ factor `l` becomes `1 + factor (l - 1)`.
    ///
    /// # Errors
    /// Virtual tokens and DoRA, which have no strength; a factor that is not finite.
    pub fn scaled(&self, factor: f64) -> Result<Self> {
        if !factor.is_finite() {
            return Err(Error::input(format!("an adapter cannot be scaled by {factor}: use a finite number")));
        }
        guarded("scaling an adapter", || {
            let (config, tensors) = self.config.method().scaled(&self.parameters, factor)?;
            let parameters = Parameters::new(tensors, self.parameters.flat().device())?;
            Ok(Self { config, parameters, base: self.base.clone() })
        })
    }

    /// One row per tensor: `parameter`, `rows`, `columns`, `norm` (Frobenius).
    ///
    /// # Errors
    /// When libtorch or polars refuse.
    pub fn frame(&self) -> Result<DataFrame> {
        guarded("summarising an adapter", || {
            let entries = self.parameters.entries();
            let size = |axis: usize| entries.iter().map(|(_, tensor)| tensor.size().get(axis).copied().unwrap_or(1)).collect::<Vec<_>>();
            Ok(df!(
                "parameter" => entries.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
                "rows" => size(0),
                "columns" => size(1),
                "norm" => entries.iter().map(|(_, tensor)| tensor.detach().norm().double_value(&[])).collect::<Vec<_>>(),
            )?)
        })
    }

    /// Writes PEFT's `adapter_config.json` and `adapter_model.safetensors` into `folder`. What was there is replaced only when all is written, with
    /// the manifest and history of the training that made it, and in such an order that nobody ever finds the weights of one adapter next to the
    /// settings of another: a reader waits until they are written, and a save that is killed in the moment of replacing leaves a folder
    /// without `adapter_config.json`. The weights hold a checksum over their file, and a digest of the settings, which [`open`](Self::open)
    /// compares; PEFT passes over both.
    ///
    /// # Errors
    /// The folder cannot be made or written; another process keeps it locked.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<()> {
        self.save_with(folder.as_ref(), &[])
    }

    /// The same, with other files that belong to it, by their names.
    pub(crate) fn save_with(&self, folder: &Path, others: &[(&str, &[u8])]) -> Result<()> {
        guarded("saving an adapter", || interrupt::saving(|| files::save(self, folder, others)))
    }

    /// Reads an adapter that this library or Python's PEFT wrote, for `model`: a folder, or a name on the Hugging Face hub like `org/name`
    /// (`org/name@revision`), found or downloaded as [`Model::open`] does. Stored F32, F16 or BF16, the parameters are held in f32.
    ///
    /// What this library wrote is opened only as it was saved. Where the manifest of its training lies next to it, its parameters must be those that
    /// the training came to, and `model` the one that it was trained on.
    ///
    /// # Errors
    /// Missing or malformed files, settings not supported here, missing, unexpected or mis-shaped parameters, files that were changed since they
    /// were saved or do not belong together, another base model: each named. Not supported are updates of the embedding and the output
    /// layer, whole modules saved next to the adapter, repeated layers, and pickles.
    pub fn open(name: impl AsRef<Path>, model: &Model) -> Result<Self> {
        guarded("opening an adapter", || files::open(name.as_ref(), model, false))
    }

    /// [`open`](Self::open) without asking whether the settings were edited since they were saved, whose parameters the manifest tells of, and which
    /// base model the adapter was trained on: its family and shapes must fit `model`, and damaged weights are refused all the same.
    ///
    /// # Errors
    /// As [`open`](Self::open), but for these.
    pub fn open_as_it_is(name: impl AsRef<Path>, model: &Model) -> Result<Self> {
        guarded("opening an adapter", || files::open(name.as_ref(), model, true))
    }

    /// Whether a folder holds an adapter's files, whatever is in them.
    pub(crate) fn is_in(folder: &Path) -> bool {
        files::are_there(folder)
    }

    /// SHA-256 of the parameters, as a manifest and a record have it.
    pub(crate) fn digest(&self) -> String {
        crate::file::digest(&[self.parameters.flat()])
    }

    /// Refuses a model that the parameters do not fit.
    fn check_fit(&self, model: &Model) -> Result<()> {
        // Shapes alone may agree by chance.
        let (made, here) = (self.base.config.family, model.config().family);
        if made != here {
            let (name, made, here) = (self.config.name(), made.model_type(), here.model_type());
            return Err(Error::input(format!(
                "{name} made for `{}`, a {made}, does not fit a {here}: a wrong base model",
                self.base.folder
            )));
        }
        let expected = self.config.method().layout(model).unwrap_or_default();
        let there = self.parameters.entries();
        if expected.len() != there.len() || expected.iter().zip(there).any(|(a, b)| a.0 != b.0 || a.1 != b.1.size()) {
            return Err(Error::input(format!("{} made for `{}` does not fit {model:?}", self.config.name(), self.base.folder)));
        }
        let device = self.parameters.flat().device();
        if device != model.device() {
            return Err(Error::input(format!("the adapter is on {device:?}, the model on {:?}: open both on one device", model.device())));
        }
        Ok(())
    }
}

impl Change for Adapter {
    /// The model shares the adapter's parameters: what changes a forward reads them where they lie, and an optimiser's step shows at once.
    ///
    /// # Errors
    /// The parameters do not fit the model.
    fn on(&self, model: &Model) -> Result<Model> {
        self.check_fit(model)?;
        let adapt: Rc<dyn crate::nn::Adapt> = self.config.method().attach(&self.parameters, model.config())?;
        Ok(model.adapted(adapt))
    }
}

impl Show for Adapter {
    fn bundle(&self) -> Bundle {
        headed(&format!("Adapter({}, {} parameters)", self.config.name(), self.count()), self.frame())
    }
}
