//! The ways to teach a model that are compared.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::vector::Kind;

/// A way to teach a model a task from a few examples, or a reference to measure the others by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The untouched model on queries alone.
    ZeroShot,
    /// The untouched model after the training examples as demonstrations.
    Icl,
    /// ICL with each label's probability divided by the one that it has after the same demonstrations and a query without content
    /// ([`contextual`](crate::calibrate::contextual)). For tasks with labels.
    IclContextual,
    /// ICL with each label's probability divided by its mean over all test queries, which so are used together
    /// ([`batch_calibrated`](crate::metric::batch_calibrated)). For tasks with labels.
    IclBatch,
    /// What the residual stream holds under ICL, in its place without demonstrations ([`TaskVector`](crate::vector::TaskVector)).
    TaskVector,
    /// What the heads that carry the task write under ICL, added without demonstrations ([`FunctionVector`](crate::vector::FunctionVector)).
    FunctionVector,
    /// What demonstrations add to the residual stream, on average, added without them ([`Steering`](crate::vector::Steering)).
    Steering,
    /// Fine-tuning on the golds.
    Sft,
    /// SFT of the same run, adapter settings and learning rate, with one temperature fitted on dev ([`fit_temperature`](crate::metric::fit_temperature)). For
    /// tasks with labels.
    SftTemperature,
    /// Fine-tuning on the model's own answers under ICL.
    SftOnIcl,
    /// Matching the distributions over the next token under ICL.
    Soft,
    /// On-policy self-distillation: matching those distributions on answers of the trained model's own
    /// ([`SelfDistillation`](crate::objective::SelfDistillation) as it is by default: reverse KL to the untouched model).
    SelfDistillation,
    /// A prefix that begins as the keys and values of the training examples, trained to those distributions
    /// ([`Cartridge`](crate::adapter::Cartridge) and [`SoftSft`](crate::objective::SoftSft)), whatever the grid's adapters are. With more examples N it
    /// has more virtual tokens V: those of all N demonstrations up to 1,024, as far as the longest query leaves room for them in the context.
    Cartridge,
    /// Matching the activations under ICL.
    Ia2,
    /// SFT from the IA2 adapter of the same run, adapter settings and learning rate.
    Ia2ThenSft,
    /// IA2 from the SFT adapter of the same run, adapter settings and learning rate.
    SftThenIa2,
    /// Both in one loss, cross-entropy on the answers under ICL weighted by beta.
    Ia2PlusSft,
}

impl Method {
    /// Every method; what a method goes on from stands before it.
    pub const ALL: [Self; 17] = [
        Self::ZeroShot,
        Self::Icl,
        Self::IclContextual,
        Self::IclBatch,
        Self::TaskVector,
        Self::FunctionVector,
        Self::Steering,
        Self::Sft,
        Self::SftTemperature,
        Self::SftOnIcl,
        Self::Soft,
        Self::SelfDistillation,
        Self::Cartridge,
        Self::Ia2,
        Self::Ia2ThenSft,
        Self::SftThenIa2,
        Self::Ia2PlusSft,
    ];

    /// Its name in frames.
    pub fn name(self) -> &'static str {
        match self {
            Self::ZeroShot => "zero-shot",
            Self::Icl => "ICL",
            Self::IclContextual => "ICL, contextual calibration",
            Self::IclBatch => "ICL, batch calibration",
            Self::TaskVector => Kind::Task.name(),
            Self::FunctionVector => Kind::Function.name(),
            Self::Steering => Kind::Steering.name(),
            Self::Sft => "SFT",
            Self::SftTemperature => "SFT + temperature",
            Self::SftOnIcl => "SFT on ICL",
            Self::Soft => "soft labels",
            Self::SelfDistillation => "self-distillation",
            Self::Cartridge => "cartridge",
            Self::Ia2 => "IA2",
            Self::Ia2ThenSft => "IA2 → SFT",
            Self::SftThenIa2 => "SFT → IA2",
            Self::Ia2PlusSft => "IA2 + SFT",
        }
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

    /// Whether it trains an adapter.
    pub fn is_trained(self) -> bool {
        !matches!(self, Self::ZeroShot | Self::SftTemperature) && !self.is_under_icl() && self.vector().is_none()
    }

    /// Whether it is asked after the demonstrations.
    pub fn is_under_icl(self) -> bool {
        matches!(self, Self::Icl | Self::IclContextual | Self::IclBatch)
    }

    /// Whether it is defined only where answers are labels.
    pub fn needs_labels(self) -> bool {
        matches!(self, Self::IclContextual | Self::IclBatch | Self::SftTemperature)
    }

    /// The vector that it puts into the residual stream.
    pub fn vector(self) -> Option<Kind> {
        match self {
            Self::TaskVector => Some(Kind::Task),
            Self::FunctionVector => Some(Kind::Function),
            Self::Steering => Some(Kind::Steering),
            _ => None,
        }
    }

    /// Whether there is a run of it for each adapter and learning rate.
    pub(super) fn has_rates(self) -> bool {
        self.is_trained() || self == Self::SftTemperature
    }

    /// Whether it trains nothing but finds something, which its record tells of.
    pub(super) fn finds(self) -> bool {
        self.vector().is_some() || self == Self::SftTemperature
    }

    /// Whether it trains an adapter of a kind of its own, whatever the grid's are.
    pub(super) fn brings_adapter(self) -> bool {
        self == Self::Cartridge
    }

    /// The method whose adapter it goes on from.
    pub fn after(self) -> Option<Self> {
        match self {
            Self::Ia2ThenSft => Some(Self::Ia2),
            Self::SftThenIa2 | Self::SftTemperature => Some(Self::Sft),
            _ => None,
        }
    }

    /// Whether its loss has a beta.
    pub fn has_beta(self) -> bool {
        self == Self::Ia2PlusSft
    }

    /// Whether it learns from the model under ICL: from targets.
    pub fn needs_targets(self) -> bool {
        self.needs_distributions()
            || matches!(self, Self::SftOnIcl | Self::SelfDistillation | Self::Ia2 | Self::SftThenIa2 | Self::Ia2PlusSft)
    }

    /// Whether it learns from the model's distributions under ICL.
    pub(super) fn needs_distributions(self) -> bool {
        matches!(self, Self::Soft | Self::Cartridge)
    }

    /// These methods and those they go on from, each once and in an order in which they can be run.
    pub(super) fn with_earlier(methods: &[Self]) -> Vec<Self> {
        let wanted = |method: &Self| methods.contains(method) || methods.iter().any(|other| other.after() == Some(*method));
        Self::ALL.into_iter().filter(wanted).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_method_goes_on_from_comes_before_it() {
        let place = |method| Method::ALL.iter().position(|other| *other == method);
        for method in Method::ALL {
            assert!(method.after().is_none_or(|earlier| place(earlier) < place(method)));
            assert_eq!(Method::named(method.name()).unwrap(), method);
        }
        assert_eq!(Method::with_earlier(&[Method::Ia2ThenSft, Method::Icl]), [Method::Icl, Method::Ia2, Method::Ia2ThenSft]);
        let all = Method::ALL.map(Method::name);
        assert!(Method::list(&all.join(",")).unwrap() == Method::ALL && Method::list(&all.join(", ")).unwrap() == Method::ALL);
        assert!(Method::list("ICL,batch").unwrap_err().to_string().contains("`batch`"));
        assert!(Method::named("sft").unwrap_err().to_string().contains("IA2 → SFT"));
    }
}
