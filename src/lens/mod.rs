//! A model's inside, read and changed, as frames.
//!
//! | | question |
//! |---|---|
//! | [`logit_lens`] | when does the model know? Each layer's output read as if it were the last one's |
//! | [`attention_patterns`] | where does it look? Every weight of every head |
//! | [`patch`] | what carries the answer? One activation replaced by another prompt's |
//! | [`patch_map`] | where does it lie? How much of the donor's answer each layer and position brings back |
//! | [`ablate`] | what is needed? Heads or modules switched off, one at a time |
//!
//! All work on adapted models and in every kind, in batches. Frames are long, and their columns have the same names throughout: `index` (the
//! prompt's place in its set, as in the frames of prompts, responses and [`evaluate`](crate::evaluate::evaluate)), `hook_point`, `layer`, `head`, `position`.
//! What the library has no function for is made of [`Hooks`](crate::nn::Hooks), with
//! [`evaluate_with`](crate::evaluate::evaluate_with) to count and [`axes::long`](crate::axes::long) to make a frame of any tensor.

mod ablate;
mod attention;
mod logits;
mod patch;
mod patch_map;

pub use ablate::{Ablation, ablate};
pub use attention::attention_patterns;
pub use logits::logit_lens;
pub use patch::patch;
pub use patch_map::patch_map;

use crate::error::{Error, Result};
use crate::model::Model;
use crate::prompt::Prompts;

crate::display::show_as_text!(Ablation);

/// Prompts per forward.
const BATCH: usize = 16;

/// How many of the last tokens of each row are read.
fn last_of(rows: &[Vec<u32>], last: usize) -> Result<Vec<usize>> {
    if last == 0 {
        return Err(Error::input("0 tokens asked for: ask for the last 1 of each prompt, or for all with `usize::MAX`"));
    }
    Ok(rows.iter().map(|row| row.len().min(last)).collect())
}

/// The prompts' tokens; none is an error.
fn encoded(model: &Model, prompts: &Prompts) -> Result<Vec<Vec<u32>>> {
    if prompts.is_empty() {
        return Err(Error::input("there are no prompts to look at"));
    }
    model.encode(prompts)
}
