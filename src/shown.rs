//! Settings and parts, which show themselves as Rust writes them (`{:?}`).
//!
//! Values that a notebook is about have a [`Show`] of their own beside their type; a test demands one or the other of every public type.

use crate::display::{Bundle, Show};

macro_rules! show_as_written {
    ($($kind:ty,)+) => {
        $(impl Show for $kind {
            fn bundle(&self) -> Bundle {
                Bundle::text(format!("{self:?}"))
            }
        })+
    };
}

show_as_written! {
    crate::activations::Capture,
    crate::activations::Keep,
    crate::activations::Place,
    crate::activations::Positions,
    crate::activations::Tokens,
    crate::adapter::AdapterConfig,
    crate::adapter::Ia3,
    crate::adapter::Lora,
    crate::adapter::PrefixTuning,
    crate::adapter::PromptTuning,
    crate::adapter::Start,
    crate::compat::Compat,
    crate::dataset::Part,
    crate::experiment::Choice,
    crate::experiment::Experiment,
    crate::experiment::Method,
    crate::figure::Chart,
    crate::figure::HeatMap,
    crate::figure::Kind,
    crate::figure::Reliability,
    crate::metric::Binning,
    crate::metric::Direction,
    crate::metric::Metric,
    crate::model::Config,
    crate::model::Decoder,
    crate::model::Depth,
    crate::model::Ending,
    crate::model::Generation,
    crate::model::OpenOptions,
    crate::model::Sample,
    crate::model::family::Family,
    crate::model::weights::Weights,
    crate::nn::Attention,
    crate::nn::AttentionShape,
    crate::nn::KvCache,
    crate::nn::Linear,
    crate::nn::Mlp,
    crate::nn::Prefix,
    crate::nn::RmsNorm,
    crate::nn::Selection,
    crate::nn::Virtual,
    crate::nn::rope::Rope,
    crate::nn::rope::Scaling,
    crate::objective::Distance,
    crate::objective::Ia2,
    crate::objective::Ia2Sft,
    crate::objective::Known,
    crate::objective::Outputs,
    crate::objective::Part,
    crate::objective::Samples,
    crate::objective::Sft,
    crate::objective::SoftSft,
    crate::progress::Progress,
    crate::prompt::AnswerForm,
    crate::prompt::LabelTokens,
    crate::similarity::Invariance,
    crate::similarity::Measure,
    crate::similarity::Pca,
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
}
