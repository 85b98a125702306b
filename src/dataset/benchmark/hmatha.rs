//! HMathA: algebra of mathematics competitions.

use super::entry::{Answers, Entry, Layout, Made, QUESTION, Subset};
use super::parquet;
use crate::dataset::read::{Format, Reason, Record};
use crate::random::Random;

pub(super) const ENTRY: Entry = Entry {
    name: "HMathA",
    title: "Algebra problems of competitions: a solution with its answer in \\boxed{}",
    paper: "Hendrycks et al. 2021, Measuring Mathematical Problem Solving With the MATH Dataset, arXiv:2103.03874",
    license: "MIT",
    source: "hendrycks/math, MATH.tar (`train/algebra/*.json`, `test/algebra/*.json`); on Hugging Face `EleutherAI/hendrycks_math` with `algebra`",
    checked: true,
    note: "answers of up to 400 tokens in evaluation; the authors collect targets of up to 200",
    folders: &["math_algebra", "MATH", "math"],
    template: QUESTION,
    answers: Answers::Boxed { at_most: 400 },
    ood: &[],
    learn: &[Subset::Train],
    test: &[Subset::Test],
    authors: None,
    layouts: &[
        Layout {
            what: "the original files",
            format: Format::Object,
            files: &[
                (Subset::Train, &["train/algebra/*.json", "MATH/train/algebra/*.json"]),
                (Subset::Test, &["test/algebra/*.json", "MATH/test/algebra/*.json"]),
            ],
            row,
        },
        parquet!("algebra", row),
    ],
};

fn row(record: &Record, _: &mut Random) -> Result<Made, Reason> {
    // Some copies hold all subjects in one file.
    if record.text("type")? != "Algebra" {
        return Ok(Made::Dropped("not algebra"));
    }
    let gold = record.text("solution")?;
    if crate::prompt::AnswerForm::boxed().gold(gold).is_none() {
        return Ok(Made::Dropped("no \\boxed{} in the solution"));
    }
    Ok(Made::example(record.text("problem")?, gold))
}
