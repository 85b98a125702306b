//! Where the authors' code differs from what is right, and which of the two is wanted.

use serde::{Deserialize, Serialize};

/// Which behaviour, at the places where the published code of the paper does something else than its text or than is right.
///
/// | place | right | the authors' code |
/// |---|---|---|
/// | [`Training::compat`](crate::train::Training::compat) | a step is the mean over its batch; the best weights on dev | sums over min(4, N) examples, the rest carried into the next epoch; the last weights |
/// | [`Ia3::compat`](crate::adapter::Ia3::compat) | scales outputs | scales inputs |
/// | [`Ia2::compatible`](crate::objective::Ia2::compatible), [`SoftSft::compatible`](crate::objective::SoftSft::compatible) | response positions whatever the number of virtual tokens | not moved behind those of prompt tuning |
/// | [`Binning::standard`](crate::metric::Binning::standard), [`as_reported`](crate::metric::as_reported) | equal-width bins, probabilities | equal-count bins, a softmax of probabilities |
/// | [`AnswerForm::compat`](crate::prompt::AnswerForm::compat) | signs kept, braces matched | the first number of the first pattern, minus lost; up to the line's last brace |
/// | [`Experiment::compat`](crate::experiment::Experiment::compat) | learning rate by dev loss | by accuracy on the test set |
///
/// The default is what is right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compat {
    /// What is right.
    #[default]
    Corrected,
    /// What the authors' code does, to compare with their numbers.
    Paper,
}
