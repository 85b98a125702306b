//! SciQ: science questions, answered with their support.

use super::entry::{Answers, Entry, Layout, Made, QUESTION, Subset};
use super::parquet;
use crate::dataset::read::{Format, Reason, Record};
use crate::random::Random;

pub(super) const ORIGINAL: &[(Subset, &[&str])] = &[
    (Subset::Train, &["train.json", "SciQ dataset-2 3/train.json"]),
    (Subset::Dev, &["valid.json", "SciQ dataset-2 3/valid.json"]),
    (Subset::Test, &["test.json", "SciQ dataset-2 3/test.json"]),
];

pub(super) const ENTRY: Entry = Entry {
    name: "SciQ",
    title: "Science questions: a supporting text, then #### and the answer",
    paper: "Welbl, Liu and Gardner 2017, Crowdsourcing Multiple Choice Science Questions, arXiv:1707.06209",
    license: "CC BY-NC 3.0",
    source: "SciQ.zip (`train.json`, `valid.json`, `test.json`); on Hugging Face `allenai/sciq`",
    checked: false,
    note: "some questions have no support: their gold begins with the line break before ####, as in the authors' code",
    folders: &["sciq", "SciQ"],
    template: QUESTION,
    answers: Answers::Marked { at_most: 200 },
    ood: &[],
    learn: &[Subset::Train],
    test: &[Subset::Dev],
    authors: None,
    layouts: &[Layout { what: "the original files", format: Format::Array, files: ORIGINAL, row }, parquet!("default", row)],
};

fn row(record: &Record, _: &mut Random) -> Result<Made, Reason> {
    let gold = format!("{}\n#### {}", record.text("support")?, record.text("correct_answer")?);
    Ok(Made::example(record.text("question")?, gold))
}
