//! Settings and parts, which show themselves as text: in their own words (`{}`), or as Rust writes them (`{:?}`).
//!
//! Values that a notebook is about have a [`Show`] of their own beside their type; a test demands one or the other of every public type.

use crate::display::{Bundle, Show, number};

macro_rules! show_as_text {
    ($format:literal: $($kind:ty,)+) => {
        $(impl Show for $kind {
            fn bundle(&self) -> Bundle {
                Bundle::text(format!($format, self))
            }
        })+
    };
}

show_as_text! { "{}":
    crate::metric::Binning,
    crate::metric::Direction,
    crate::model::Config,
    crate::model::family::Family,
    crate::prompt::AnswerForm,
}

show_as_text! { "{:?}":
    crate::activations::Capture,
    crate::activations::Keep,
    crate::activations::Place,
    crate::activations::Positions,
    crate::activations::Tokens,
    crate::adapter::AdapterConfig,
    crate::adapter::Cartridge,
    crate::adapter::Dora,
    crate::adapter::Ia3,
    crate::adapter::Lora,
    crate::adapter::PrefixTuning,
    crate::adapter::PromptTuning,
    crate::adapter::Start,
    crate::compat::Compat,
    crate::dataset::Part,
    crate::display::Live,
    crate::experiment::Choice,
    crate::experiment::Demonstrations,
    crate::experiment::Experiment,
    crate::experiment::Method,
    crate::experiment::Rollouts,
    crate::experiment::Slurm,
    crate::experiment::Worker,
    crate::figure::AttentionHeads,
    crate::figure::Chart,
    crate::figure::CriticalDifference,
    crate::figure::Forest,
    crate::figure::HeatMap,
    crate::figure::Reliability,
    crate::figure::Spread,
    crate::figure::TokenText,
    crate::lens::Ablation,
    crate::metric::Confidence,
    crate::model::Decoder,
    crate::model::Depth,
    crate::model::Ending,
    crate::model::Generation,
    crate::model::OpenOptions,
    crate::model::Sample,
    crate::model::config::LayerParts,
    crate::model::config::NormPlace,
    crate::model::config::Parts,
    crate::model::weights::Weights,
    crate::nn::Activation,
    crate::nn::Attention,
    crate::nn::AttentionShape,
    crate::nn::Draws,
    crate::nn::Edit,
    crate::nn::Experts,
    crate::nn::ExpertsShape,
    crate::nn::Fused,
    crate::nn::KvCache,
    crate::nn::Linear,
    crate::nn::Mlp,
    crate::nn::MlpShape,
    crate::nn::Norm,
    crate::nn::NormKind,
    crate::nn::Order,
    crate::nn::Paths,
    crate::nn::Precision,
    crate::nn::Prefix,
    crate::nn::QkNorm,
    crate::nn::Selection,
    crate::nn::Virtual,
    crate::nn::rope::Rope,
    crate::nn::rope::Scaling,
    crate::objective::Distance,
    crate::objective::Divergence,
    crate::objective::Ia2,
    crate::objective::Ia2Sft,
    crate::objective::Outputs,
    crate::objective::Part,
    crate::objective::Samples,
    crate::objective::SelfDistillation,
    crate::objective::Sft,
    crate::objective::SoftSft,
    crate::objective::Teacher,
    crate::progress::Progress,
    crate::prompt::LabelTokens,
    crate::prompt::Orders,
    crate::similarity::Invariance,
    crate::similarity::Pca,
    crate::similarity::PrincipalComponents,
    crate::similarity::Probe,
    crate::similarity::Representation,
    crate::similarity::Side,
    crate::table::Best,
    crate::table::Summary,
    crate::tokenizer::Tokenizer,
    crate::train::Optimizer,
    crate::train::Schedule,
    crate::train::Stopped,
    crate::train::Training,
    crate::vector::FunctionVector,
    crate::vector::Kind,
    crate::vector::Steering,
    crate::vector::TaskVector,
}

// Entries of the registries hold functions, which have only addresses to show.

impl Show for crate::metric::Metric {
    fn bundle(&self) -> Bundle {
        let (least, most) = self.range;
        Bundle::text(format!(
            "{}: {} ({}, {} to {}, better: {}; reads {})",
            self.name,
            self.what,
            self.unit,
            number(least),
            number(most),
            self.direction,
            self.columns.join(", ")
        ))
    }
}

impl Show for crate::similarity::Measure {
    fn bundle(&self) -> Bundle {
        let (least, most) = self.range;
        Bundle::text(format!("{}: {} ({} to {}; undefined for {})", self.name, self.about, number(least), number(most), self.undefined))
    }
}

impl Show for crate::objective::Known {
    fn bundle(&self) -> Bundle {
        Bundle::text(format!("{}: {}, at least {}", self.name, self.formula, number(self.minimum)))
    }
}

impl Show for crate::figure::Kind {
    fn bundle(&self) -> Bundle {
        Bundle::text(format!("{}: {} (reads {})", self.name, self.about, self.columns.join(", ")))
    }
}
