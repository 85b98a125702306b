//! GSM8K: word problems of grade school mathematics.

use super::entry::{Answers, Entry, Layout, Made, QUESTION, Subset};
use super::parquet;
use crate::dataset::read::{Format, Reason, Record};
use crate::random::Random;

pub(super) const ENTRY: Entry = Entry {
    name: "GSM8K",
    title: "Word problems of grade school mathematics: reasoning, then #### and a number",
    paper: "Cobbe et al. 2021, Training Verifiers to Solve Math Word Problems, arXiv:2110.14168",
    license: "MIT",
    source: "openai/grade-school-math (`grade_school_math/data/train.jsonl`, `test.jsonl`); on Hugging Face `openai/gsm8k` with `main`",
    checked: true,
    note: "the golds keep their calculator notes, `<<48/2=24>>`, as in the authors' code",
    folders: &["gsm8k", "grade-school-math"],
    template: QUESTION,
    answers: Answers::Number { at_most: 200 },
    ood: &["GSM8Ks"],
    learn: &[Subset::Train],
    test: &[Subset::Test],
    authors: None,
    layouts: &[
        Layout {
            what: "the original files",
            format: Format::Lines,
            files: &[
                (Subset::Train, &["train.jsonl", "grade_school_math/data/train.jsonl"]),
                (Subset::Test, &["test.jsonl", "grade_school_math/data/test.jsonl"]),
            ],
            row,
        },
        parquet!("main", row),
    ],
};

pub(super) fn row(record: &Record, _: &mut Random) -> Result<Made, Reason> {
    let gold = record.text("answer")?;
    if !gold.contains("####") {
        return Ok(Made::Dropped("no #### in the answer"));
    }
    Ok(Made::example(record.text("question")?, gold))
}
