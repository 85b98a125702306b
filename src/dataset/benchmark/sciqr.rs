//! SciQr: science questions with four choices that are called by words.

use super::entry::{Answers, CHOICES, Entry, Layout, Made, Subset, chosen};
use super::{WORDS, parquet};
use crate::dataset::read::{Format, Reason, Record};
use crate::random::Random;

const NAMES: &[&str] = WORDS.split_at(4).0;

pub(super) const ENTRY: Entry = Entry {
    name: "SciQr",
    title: "Science questions with four choices in an order drawn per question, called apple, Friday, banana and Saturday",
    paper: super::sciq::ENTRY.paper,
    license: super::sciq::ENTRY.license,
    source: super::sciq::ENTRY.source,
    checked: false,
    note: "each choice is a line `[apple]text`; the code's form has a blank line before `Answer:`",
    folders: super::sciq::ENTRY.folders,
    template: CHOICES,
    answers: Answers::Labels(NAMES),
    ood: &["QASCr"],
    learn: &[Subset::Train],
    test: &[Subset::Dev],
    authors: None,
    layouts: &[Layout { what: "the original files", format: Format::Array, files: super::sciq::ORIGINAL, row }, parquet!("default", row)],
};

fn row(record: &Record, random: &mut Random) -> Result<Made, Reason> {
    let columns = ["distractor1", "distractor2", "distractor3", "correct_answer"];
    let order = random.order(columns.len());
    let choices = order.iter().map(|&place| record.text(columns[place])).collect::<Result<Vec<_>, _>>()?;
    let right = order.iter().position(|&place| place == 3).unwrap_or_default();
    chosen(record.text("question")?, &choices, right, NAMES)
}
