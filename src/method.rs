//! The ways to teach a model that are compared: one table, which experiments, tables and figures read.

#[cfg(test)]
#[path = "../tests/recipes/method.rs"]
mod recipe;

use std::borrow::Cow;

use polars::prelude::DataFrame;
use serde::{Deserialize, Serialize};

use crate::adapter::{AdapterConfig, Cartridge};
use crate::calibrate::{CONTENT_FREE, calibrated};
use crate::display::show_as_text;
use crate::error::{Error, Result};
use crate::metric::batch_calibrated;
use crate::model::Model;
use crate::objective::{ObjectiveEntry, ia2, ia2_sft, self_distillation, sft, soft_sft};
use crate::prompt::Prompts;
use crate::vector::VectorKind;

/// What is said of a method.
struct Entry {
    /// Its name in frames.
    name: &'static str,
    /// Other names that frames may have for it.
    spellings: &'static [&'static str],
    /// Its colour and marker in figures, as the palette counts them: no other method's.
    style: usize,
    /// Whether it is defined only where answers are labels.
    needs_labels: bool,
    /// The method whose adapter it goes on from.
    after: Option<Method>,
    way: Way,
}

/// How a method comes to its answers.
pub(crate) enum Way {
    /// The untouched model is asked the queries alone.
    Alone,
    /// It is asked after the demonstrations, once for all such methods; this makes the method's answers of what it said.
    Icl(fn(&Model, &Prompts, &DataFrame) -> Result<DataFrame>),
    /// Nothing is trained: a vector that is found on train and dev goes into the residual stream.
    Vector(VectorKind),
    /// Nothing is trained: the method that it goes on from gets one temperature, fitted on dev.
    Temperature,
    /// An adapter learns this: one of the grid's, or one that the method brings, whatever the grid's are.
    Trained(ObjectiveEntry, Option<fn() -> AdapterConfig>),
}

/// What most methods have.
const PLAIN: Entry = Entry { name: "", spellings: &[], style: 0, needs_labels: false, after: None, way: Way::Alone };

/// A method that trains one of the grid's adapters.
const fn trained(name: &'static str, style: usize, objective: ObjectiveEntry) -> Entry {
    Entry { name, style, way: Way::Trained(objective, None), ..PLAIN }
}

/// The table: each method once, after what it goes on from.
macro_rules! methods {
    ($($(#[$doc:meta])* $Method:ident = $entry:expr;)+) => {
        /// A way to teach a model a task from a few examples, or a reference to measure the others by.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Method {
            $($(#[$doc])* $Method,)+
        }

        impl Method {
            /// Every method; what a method goes on from stands before it.
            pub const ALL: [Self; [$(Self::$Method),+].len()] = [$(Self::$Method),+];

            fn entry(self) -> &'static Entry {
                match self {
                    $(Self::$Method => {
                        static ENTRY: Entry = $entry;
                        &ENTRY
                    })+
                }
            }
        }
    };
}

methods! {
    /// The untouched model on queries alone.
    ZeroShot = Entry { name: "zero-shot", style: 6, ..PLAIN };
    /// The untouched model after the training examples as demonstrations.
    Icl = Entry { name: "ICL", style: 0, way: Way::Icl(|_, _, answers| Ok(answers.clone())), ..PLAIN };
    /// ICL with each label's probability divided by the one that it has after the same demonstrations and a query without content
    /// ([`contextual`](crate::calibrate::contextual)). For tasks with labels.
    IclContextual = Entry {
        name: "ICL, contextual calibration",
        style: 9,
        needs_labels: true,
        way: Way::Icl(|model, prompts, answers| calibrated(model, prompts, answers, &CONTENT_FREE)),
        ..PLAIN
    };
    /// ICL with each label's probability divided by its mean over all test queries, which so are used together
    /// ([`batch_calibrated`](crate::metric::batch_calibrated)). For tasks with labels.
    IclBatch = Entry {
        name: "ICL, batch calibration",
        style: 10,
        needs_labels: true,
        way: Way::Icl(|_, _, answers| batch_calibrated(answers)),
        ..PLAIN
    };
    /// What the residual stream holds under ICL, in its place without demonstrations ([`TaskVector`](crate::vector::TaskVector)).
    TaskVector = Entry { name: VectorKind::Task.name(), style: 11, way: Way::Vector(VectorKind::Task), ..PLAIN };
    /// What the heads that carry the task write under ICL, added without demonstrations ([`FunctionVector`](crate::vector::FunctionVector)).
    FunctionVector = Entry { name: VectorKind::Function.name(), style: 12, way: Way::Vector(VectorKind::Function), ..PLAIN };
    /// What demonstrations add to the residual stream, on average, added without them ([`Steering`](crate::vector::Steering)).
    Steering = Entry { name: VectorKind::Steering.name(), style: 13, way: Way::Vector(VectorKind::Steering), ..PLAIN };
    /// Fine-tuning on the golds.
    Sft = Entry { spellings: &["SFT only"], ..trained("SFT", 1, sft::GOLD) };
    /// SFT of the same run, adapter settings and learning rate, with one temperature fitted on dev ([`fit_temperature`](crate::metric::fit_temperature)). For
    /// tasks with labels.
    SftTemperature = Entry {
        name: "SFT + temperature",
        style: 14,
        needs_labels: true,
        after: Some(Method::Sft),
        way: Way::Temperature,
        ..PLAIN
    };
    /// Fine-tuning on the model's own answers under ICL.
    SftOnIcl = Entry { spellings: &["SFT on ICL responses"], ..trained("SFT on ICL", 7, sft::ENTRY) };
    /// Matching the distributions over the next token under ICL.
    Soft = trained("soft labels", 4, soft_sft::ENTRY);
    /// On-policy self-distillation: matching those distributions on answers of the trained model's own
    /// ([`SelfDistillation`](crate::objective::SelfDistillation); reverse KL to the untouched model unless
    /// [`Experiment::self_distillation`](crate::experiment::Experiment::self_distillation) says otherwise).
    SelfDistillation = trained("self-distillation", 15, self_distillation::ENTRY);
    /// A prefix that begins as the keys and values of the training examples, trained to those distributions
    /// ([`Cartridge`](crate::adapter::Cartridge) and [`SoftSft`](crate::objective::SoftSft)), whatever the grid's adapters are. With more examples N it
    /// has more virtual tokens V: those of all N demonstrations up to 1,024, as far as the longest query leaves room for them in the context.
    Cartridge = Entry { name: "cartridge", style: 16, way: Way::Trained(soft_sft::ENTRY, Some(|| Cartridge::new().into())), ..PLAIN };
    /// Matching the activations under ICL.
    Ia2 = Entry { spellings: &["IA2 only"], ..trained("IA2", 2, ia2::ENTRY) };
    /// SFT from the IA2 adapter of the same run, adapter settings and learning rate.
    Ia2ThenSft = Entry { spellings: &["IA2 -> SFT"], after: Some(Method::Ia2), ..trained("IA2 → SFT", 3, sft::GOLD) };
    /// IA2 from the SFT adapter of the same run, adapter settings and learning rate.
    SftThenIa2 = Entry { spellings: &["SFT -> IA2"], after: Some(Method::Sft), ..trained("SFT → IA2", 8, ia2::ENTRY) };
    /// Both in one loss, cross-entropy on the answers under ICL weighted by beta.
    Ia2PlusSft = trained("IA2 + SFT", 5, ia2_sft::ENTRY);
}

show_as_text!(Method);

impl Method {
    /// Its name in frames.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// The method of that name; `->` stands for `→`.
    ///
    /// # Errors
    /// An input error that lists the names.
    pub fn named(name: &str) -> Result<Self> {
        let wanted = name.replace("->", "→");
        Self::ALL.into_iter().find(|method| method.name() == wanted).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::input(format!("there is no method `{name}`; there are {names}"))
        })
    }

    /// The methods of these names, with commas between them: `ICL, ICL, batch calibration, SFT` are three.
    ///
    /// # Errors
    /// As [`named`](Self::named).
    pub fn list(names: &str) -> Result<Vec<Self>> {
        let parts: Vec<&str> = names.split(',').map(str::trim).collect();
        let (mut methods, mut at) = (Vec::new(), 0);
        while at < parts.len() {
            // Some names have a comma of their own.
            let longer = parts.get(at + 1).and_then(|next| Self::named(&format!("{}, {next}", parts[at])).ok());
            at += if longer.is_some() { 2 } else { 1 };
            methods.push(longer.map_or_else(|| Self::named(parts[at - 1]), Ok)?);
        }
        Ok(methods)
    }

    /// The method of this name or another spelling of it.
    fn spelled(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name || method.entry().spellings.contains(&name))
    }

    /// Where tables and figures have the method of this name, however it is spelled.
    pub(crate) fn place(name: &str) -> Option<usize> {
        Self::spelled(name).map(|method| method as usize)
    }

    /// How figures draw the method of this name.
    pub(crate) fn style(name: &str) -> Option<usize> {
        Self::spelled(name).map(|method| method.entry().style)
    }

    /// The name as all write it; of a pair (`SFT only / IA2 only`), both. What is no method stays as it is.
    pub(crate) fn canonical(name: &str) -> Cow<'_, str> {
        fn one(name: &str) -> &str {
            Method::spelled(name).map_or(name, |method| method.name())
        }
        match name.contains(" / ") {
            true => Cow::Owned(name.split(" / ").map(one).collect::<Vec<_>>().join(" / ")),
            false => Cow::Borrowed(one(name)),
        }
    }

    pub(crate) fn way(self) -> &'static Way {
        &self.entry().way
    }

    /// What it trains toward.
    pub(crate) fn objective(self) -> Option<ObjectiveEntry> {
        match self.way() {
            Way::Trained(objective, _) => Some(*objective),
            _ => None,
        }
    }

    /// The adapter that it trains whatever the grid's are.
    pub(crate) fn own_adapter(self) -> Option<AdapterConfig> {
        match self.way() {
            Way::Trained(_, own) => own.map(|own| own()),
            _ => None,
        }
    }

    /// Whether it trains an adapter.
    pub fn is_trained(self) -> bool {
        self.objective().is_some()
    }

    /// Whether it is asked after the demonstrations.
    pub fn is_under_icl(self) -> bool {
        matches!(self.way(), Way::Icl(_))
    }

    /// Whether it leaves the model as it is.
    pub(crate) fn is_untouched(self) -> bool {
        matches!(self.way(), Way::Alone | Way::Icl(_))
    }

    /// Whether it is defined only where answers are labels.
    pub fn needs_labels(self) -> bool {
        self.entry().needs_labels
    }

    /// The vector that it puts into the residual stream.
    pub fn vector(self) -> Option<VectorKind> {
        match self.way() {
            Way::Vector(kind) => Some(*kind),
            _ => None,
        }
    }

    /// Whether there is a run of it for each adapter and learning rate.
    pub(crate) fn has_rates(self) -> bool {
        matches!(self.way(), Way::Trained(..) | Way::Temperature)
    }

    /// Whether it trains nothing but finds something, which its record tells of.
    pub(crate) fn finds(self) -> bool {
        matches!(self.way(), Way::Vector(_) | Way::Temperature)
    }

    /// The method whose adapter it goes on from.
    pub fn after(self) -> Option<Self> {
        self.entry().after
    }

    /// Whether its loss has a beta.
    pub fn has_beta(self) -> bool {
        self.objective().is_some_and(|objective| objective.beta)
    }

    /// Whether it learns from the model under ICL: from targets.
    pub fn needs_targets(self) -> bool {
        self.objective().is_some_and(|objective| objective.targets)
    }

    /// Whether it learns from answers of its own.
    pub(crate) fn is_on_policy(self) -> bool {
        self.objective().is_some_and(|objective| objective.on_policy)
    }

    /// Whether it learns from the model's distributions under ICL.
    pub(crate) fn needs_distributions(self) -> bool {
        self.objective().is_some_and(|objective| objective.distributions)
    }

    /// These methods and those they go on from, each once and in an order in which they can be run.
    pub(crate) fn with_earlier(methods: &[Self]) -> Vec<Self> {
        let wanted = |method: &Self| methods.contains(method) || methods.iter().any(|other| other.after() == Some(*method));
        Self::ALL.into_iter().filter(wanted).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_method_goes_on_from_comes_before_it() {
        for method in Method::ALL {
            assert!(method.after().is_none_or(|earlier| earlier < method));
            assert_eq!(Method::named(method.name()).unwrap(), method);
        }
        assert_eq!(Method::with_earlier(&[Method::Ia2ThenSft, Method::Icl]), [Method::Icl, Method::Ia2, Method::Ia2ThenSft]);
        let all = Method::ALL.map(Method::name);
        assert!(Method::list(&all.join(",")).unwrap() == Method::ALL && Method::list(&all.join(", ")).unwrap() == Method::ALL);
        assert!(Method::list("ICL,batch").unwrap_err().to_string().contains("`batch`"));
        assert!(Method::named("sft").unwrap_err().to_string().contains("IA2 → SFT"));
    }

    #[test]
    fn one_method_has_one_name_and_one_style() {
        let names = ["SFT only", "IA2 -> SFT", "IA2 only / IA2 -> SFT", "SFT / x", "block"];
        assert_eq!(names.map(Method::canonical), ["SFT", "IA2 → SFT", "IA2 / IA2 → SFT", "SFT / x", "block"]);
        assert_eq!([Method::place("SFT only"), Method::place("SFT"), Method::place("other")], [Some(7), Some(7), None]);
        let mut styles = Method::ALL.map(|method| method.entry().style);
        styles.sort_unstable();
        assert!(styles.windows(2).all(|pair| pair[0] < pair[1]), "two methods have one style: {styles:?}");
        let spellings = Method::ALL.into_iter().flat_map(|method| method.entry().spellings.iter().copied().chain([method.name()]));
        for name in spellings.clone() {
            assert_eq!(spellings.clone().filter(|other| *other == name).count(), 1, "{name} stands for two methods");
        }
    }

    #[test]
    fn records_and_keys_call_methods_as_ever() {
        let words = [
            ("zero_shot", "zero-shot"),
            ("icl", "ICL"),
            ("icl_contextual", "ICL, contextual calibration"),
            ("icl_batch", "ICL, batch calibration"),
            ("task_vector", "task vector"),
            ("function_vector", "function vector"),
            ("steering", "mean-difference steering"),
            ("sft", "SFT"),
            ("sft_temperature", "SFT + temperature"),
            ("sft_on_icl", "SFT on ICL"),
            ("soft", "soft labels"),
            ("self_distillation", "self-distillation"),
            ("cartridge", "cartridge"),
            ("ia2", "IA2"),
            ("ia2_then_sft", "IA2 → SFT"),
            ("sft_then_ia2", "SFT → IA2"),
            ("ia2_plus_sft", "IA2 + SFT"),
        ];
        for (word, name) in words {
            let method: Method = serde_json::from_str(&format!("\"{word}\"")).unwrap();
            assert_eq!(method.name(), name);
        }
    }
}
