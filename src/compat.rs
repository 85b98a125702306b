//! Where the authors' code differs from what is right, and which of the two is wanted.

use serde::{Deserialize, Serialize};

/// Which behaviour, at the places where the published code of the paper does something else than its text or than is right.
///
/// | place | right | the authors' code |
/// |---|---|---|
/// | [`Training::compat`](crate::train::Training::compat) | a step is the mean over its batch; the best weights on dev | sums over min(4, N) examples, the rest carried into the next epoch; the last weights |
/// | [`Ia3::compat`](crate::adapter::Ia3::compat) | scales outputs | scales inputs |
/// | [`Ia2::compat`](crate::objective::Ia2::compat), [`SoftSft::compat`](crate::objective::SoftSft::compat) | response positions whatever the number of virtual tokens | not moved behind those of prompt tuning |
/// | [`Binning::standard`](crate::metric::Binning::standard), [`as_reported`](crate::metric::as_reported) | equal-width bins, probabilities | equal-count bins, a softmax of probabilities |
/// | [`Collect::compat`](crate::objective::Collect::compat) | orders of demonstrations that share their prefixes | an order of its own for each query |
/// | [`AnswerForm::compat`](crate::prompt::AnswerForm::compat) | signs kept, braces matched | the first number of the first pattern, minus lost; up to the line's last brace |
/// | [`Benchmark::compat`](crate::dataset::Benchmark::compat) | answers as above; BBCN: whole articles, tests from all parts | answers as above; BBCN: articles cut to 256 characters less the last word, tests from the hub's test part |
/// | [`Choice`](crate::experiment::Choice) | learning rate by dev loss, in each run | one for all runs of a method and N, by the mean top-1 accuracy on the very test queries |
/// | [`Demonstrations`](crate::experiment::Demonstrations) | ICL shows all N training examples, in one order | min(256, N - 1) others of the train part, drawn again for each query |
/// | [`Rollouts`](crate::experiment::Rollouts) | asim of both sides at the answers given under ICL | each side at its own answers, over the shorter length |
/// | [`top_1_ece`](crate::metric::top_1_ece) | probability in the whole vocabulary | divided by that of the ten likeliest tokens |
///
/// [`Experiment::compat`](crate::experiment::Experiment::compat) makes all of these choices for a grid; each can be made alone. The authors' prompts,
/// early stopping and targets are the default: where they differ from the paper's text, the code is meant.
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
