//! Objectives: what training minimises.
//!
//! Every objective is computed from the same forward: queries without demonstrations, their responses teacher-forced. An objective says which
//! responses, what it needs to see of the forward, and the loss of each example. It may draw its responses again in each step, and have a
//! teacher ([`Objective::draw`], [`Objective::teach`]). One file per objective.

mod distilled;
#[cfg(test)]
mod family_tests;
pub(crate) mod ia2;
pub(crate) mod ia2_sft;
mod outputs;
#[cfg(test)]
mod parity_tests;
#[cfg(test)]
#[path = "../../tests/recipes/objective.rs"]
mod recipe;
mod registry;
mod responses;
pub(crate) mod self_distillation;
#[cfg(test)]
mod self_distillation_tests;
pub(crate) mod sft;
pub(crate) mod soft_sft;
mod targets;

use tch::Tensor;

pub(crate) use distilled::Distilled;
pub use distilled::{Divergence, Teacher};
pub use ia2::{Distance, Ia2};
pub use ia2_sft::Ia2Sft;
pub use outputs::Outputs;
pub(crate) use registry::Given;
pub use registry::ObjectiveEntry;
pub use self_distillation::SelfDistillation;
pub use sft::Sft;
pub use soft_sft::SoftSft;
pub use targets::{Collect, Targets};

use crate::compat::Compat;
use crate::dataset::Split;
use crate::error::Result;
use crate::model::{Model, Sample};

crate::display::show_as_text!(Distance, Divergence, Ia2, Ia2Sft, Outputs, LossTerm, Samples, SelfDistillation, Sft, SoftSft, Teacher);

/// Every objective: one file each, and its line here.
#[rustfmt::skip]
pub const OBJECTIVES: &[ObjectiveEntry] = &[
    sft::GOLD,
    sft::ENTRY,
    soft_sft::ENTRY,
    self_distillation::ENTRY,
    ia2::ENTRY,
    ia2_sft::ENTRY,
];

/// What training minimises.
///
/// # An objective of your own
/// A type that says which samples it teaches, what it needs to see, and the loss of each example. This one is SFT on the gold answers with a
/// price on certainty: `mean over tokens of -log p(gold token) + weight x sum_v p_v log p_v` (Pereyra et al. 2017, arXiv:1701.06548).
/// What cannot be used is an [`Error`](crate::Error) of yours, with the words that whoever runs it shall read.
///
/// ```
/// use ia2::objective::{Objective, Outputs, LossTerm, Samples};
/// use ia2::prelude::*;
///
/// #[derive(Debug)]
/// struct Modest {
///     weight: f64,
/// }
///
/// impl Objective for Modest {
///     fn name(&self) -> String {
///         "modest SFT".into()
///     }
///
///     // Each is a column of the history; the loss is the sum of weight x part.
///     fn parts(&self) -> Vec<LossTerm> {
///         vec![LossTerm { name: "sft".into(), weight: 1.0 }, LossTerm { name: "negative_entropy".into(), weight: self.weight }]
///     }
///
///     // Those of SFT: the gold answers of the train set, then of the dev set.
///     fn samples(&self, model: &Model, split: &Split) -> Result<Samples> {
///         if !(0.0..=1.0).contains(&self.weight) {
///             return Err(Error::input(format!("the weight {} is not in [0, 1]: choose a smaller one", self.weight)));
///         }
///         Sft::gold().samples(model, split)
///     }
///
///     fn needs_logits(&self) -> bool {
///         true
///     }
///
///     // `[example]` for each part, in the order of `parts`; gradients flow through `outputs`.
///     fn losses(&self, examples: &[usize], outputs: &Outputs) -> Result<Vec<Tensor>> {
///         let logits = outputs.logits.as_ref().ok_or_else(|| Error::input("this objective needs logits"))?;
///         let logs = logits.to_kind(Kind::Float).log_softmax(-1, Kind::Float);
///         let negative_entropy = (logs.exp() * &logs).sum_dim_intlist([-1i64].as_slice(), false, Kind::Float);
///         let sft = Sft::gold().losses(examples, outputs)?.remove(0);
///         Ok(vec![sft, outputs.per_example(&negative_entropy)])
///     }
///
///     // A checkpoint of one weight does not go on under another.
///     fn identity(&self) -> Vec<u8> {
///         self.weight.to_le_bytes().to_vec()
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let model = Model::open("tiny-icl")?;
/// let split = Task::open("sentiment")?.test_at_most(16)?.few_shot(4, 0)?;
/// let tuned = Training::new(Lora::rank(4), Modest { weight: 0.1 }).epochs(2).run(&model, &split)?;
/// println!("{:?}", tuned.history()?);
/// # assert!(tuned.history()?.get_column_names().iter().any(|name| name.contains("negative_entropy")));
///
/// let refused = Training::new(Lora::rank(4), Modest { weight: 7.0 }).run(&model, &split).unwrap_err();
/// assert!(refused.is_input() && refused.to_string().contains("choose a smaller one"));
/// # Ok(())
/// # }
/// ```
pub trait Objective: std::fmt::Debug {
    /// A short name for frames and messages.
    fn name(&self) -> String;

    /// What the loss is made of: `sum weight x part`. The history of a run has a column for each.
    fn parts(&self) -> Vec<LossTerm> {
        vec![LossTerm { name: self.name(), weight: 1.0 }]
    }

    /// The samples to learn from, then those of the dev set; their order is the index that [`Objective::losses`] is given.
    ///
    /// # Errors
    /// The objective does not fit the split, or a text cannot be encoded.
    fn samples(&self, model: &Model, split: &Split) -> Result<Samples>;

    /// Hook points whose activations the loss needs.
    fn hook_points(&self) -> &[String] {
        &[]
    }

    /// Whether the loss needs logits.
    fn needs_logits(&self) -> bool;

    /// Where activations and distributions are read on prompt tuning (an adapter whose V virtual tokens are embeddings).
    ///
    /// [`Compat::Paper`] counts response positions from the first virtual token, as the authors' code does, so [`Outputs::activations`] and
    /// [`Outputs::misplaced_logits`] are those of V tokens before the response positions. The default is right: virtual tokens do not count.
    fn compat(&self) -> Compat {
        Compat::Corrected
    }

    /// Samples of these examples that take the place of the `given` ones ([`Objective::samples`]) in the step, or the look at the dev set, that is
    /// about to be made: drawn from the adapted model as it is now, `student`. They may be of any length, but never without tokens. `None`, the
    /// default, learns from those given. What is random must follow from `seed`, which is another in each step and the same at each dev check.
    /// No gradients are recorded.
    ///
    /// # Errors
    /// What keeps samples from being drawn.
    fn draw(&self, examples: &[usize], given: &[&Sample], student: &Model, seed: u64) -> Result<Option<Vec<Sample>>> {
        let _ = (examples, given, student, seed);
        Ok(None)
    }

    /// A teacher's logits `[token, vocab]` at the response tokens of these samples, which [`Objective::losses`] finds in [`Outputs::teacher`]. `student`
    /// is the adapted model as it is now, `average` the one that [`Objective::average`] asks for. `None`, the default: there is no teacher.
    /// No gradients are recorded.
    ///
    /// # Errors
    /// What keeps the teacher from reading them.
    fn teach(&self, examples: &[usize], samples: &[&Sample], student: &Model, average: Option<&Model>) -> Result<Option<Tensor>> {
        let _ = (examples, samples, student, average);
        Ok(None)
    }

    /// Tokens that it takes to draw these samples and to teach them in one forward, besides those that the student reads to learn from them. `first` says
    /// that the run has not come to these examples before: what is read once in a run counts then. 0 unless an objective says otherwise.
    ///
    /// # Errors
    /// What keeps them from being counted.
    fn tokens_besides(&self, examples: &[usize], samples: &[&Sample], student: &Model, first: bool) -> Result<u64> {
        let _ = (examples, samples, student, first);
        Ok(0)
    }

    /// The rate, in (0, 1], at which averaged parameters follow the adapter's after each step, if the objective has use for them. They begin as
    /// the adapter's and are kept in checkpoints.
    fn average(&self) -> Option<f64> {
        None
    }

    /// The loss of each example, `[example]`, by part and without the parts' weights; `examples` are their indices among the samples.
    ///
    /// # Errors
    /// Shapes that do not agree.
    fn losses(&self, examples: &[usize], outputs: &Outputs) -> Result<Vec<Tensor>>;

    /// Bytes that tell this objective's data from another's beyond the samples: a checkpoint belongs to one run.
    fn identity(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// One term of a loss.
#[derive(Clone, Debug, PartialEq)]
pub struct LossTerm {
    /// What it is called in a history.
    pub name: String,
    /// What it is multiplied with.
    pub weight: f64,
}

/// Samples of the train set, then of the dev set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Samples {
    /// Prompt and response tokens.
    pub rows: Vec<Sample>,
    /// How many of the rows, from the first, are trained on; the rest is the dev set.
    pub train: usize,
}
