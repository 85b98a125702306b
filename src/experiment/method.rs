//! The ways to teach a model that are compared.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A way to teach a model a task from a few examples, or a reference to measure the others by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The untouched model on queries alone.
    ZeroShot,
    /// The untouched model after the training examples as demonstrations.
    Icl,
    /// Fine-tuning on the golds.
    Sft,
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
    pub const ALL: [Self; 11] = [
        Self::ZeroShot,
        Self::Icl,
        Self::Sft,
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
            Self::Sft => "SFT",
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

    /// Whether it trains an adapter.
    pub fn is_trained(self) -> bool {
        !matches!(self, Self::ZeroShot | Self::Icl)
    }

    /// The method whose adapter it goes on from.
    pub fn after(self) -> Option<Self> {
        match self {
            Self::Ia2ThenSft => Some(Self::Ia2),
            Self::SftThenIa2 => Some(Self::Sft),
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
        assert!(Method::named("sft").unwrap_err().to_string().contains("IA2 → SFT"));
    }
}
