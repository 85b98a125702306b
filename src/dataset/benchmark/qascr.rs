//! QASCr: science questions with eight choices that are called by words.

use super::entry::{Answers, CHOICES, Entry, Layout, Made, Subset, chosen};
use super::{WORDS, parquet};
use crate::dataset::read::{Format, Reason, Record};
use crate::random::Random;

pub(super) const ENTRY: Entry = Entry {
    name: "QASCr",
    title: "Science questions with eight choices in the data set's order, called by words",
    paper: "Khot et al. 2020, QASC: A Dataset for Question Answering via Sentence Composition, arXiv:1910.11473",
    license: "CC BY 4.0",
    source: "QASC_Dataset.tar.gz (`train.jsonl`, `dev.jsonl`); on Hugging Face `allenai/qasc`",
    checked: false,
    note: "each choice is a line `[apple]text`; the code's form has a blank line before `Answer:`; the published test part has no answers",
    folders: &["qasc", "QASC_Dataset"],
    template: CHOICES,
    answers: Answers::Labels(&WORDS),
    ood: &[],
    learn: &[Subset::Train],
    test: &[Subset::Dev],
    authors: None,
    layouts: &[
        Layout {
            what: "the original files",
            format: Format::Lines,
            files: &[
                (Subset::Train, &["train.jsonl", "QASC_Dataset/train.jsonl"]),
                (Subset::Dev, &["dev.jsonl", "QASC_Dataset/dev.jsonl"]),
                (Subset::Test, &["test.jsonl", "QASC_Dataset/test.jsonl"]),
            ],
            row: original,
        },
        parquet!("default", converted),
    ],
};

fn original(record: &Record, _: &mut Random) -> Result<Made, Reason> {
    let question = record.inner("question")?;
    let choices = question.get("choices")?.as_array().ok_or("`choices` must be a list")?;
    let choices = choices.iter().map(|choice| Record::of(choice.clone())).collect::<Result<Vec<_>, _>>()?;
    let column = |name: &str| choices.iter().map(|choice| choice.text(name)).collect::<Result<Vec<_>, _>>();
    made(question.text("stem")?, &column("text")?, &column("label")?, record)
}

fn converted(record: &Record, _: &mut Random) -> Result<Made, Reason> {
    let choices = record.inner("choices")?;
    made(record.text("question")?, &choices.texts("text")?, &choices.texts("label")?, record)
}

fn made(question: &str, texts: &[&str], letters: &[&str], record: &Record) -> Result<Made, Reason> {
    let key = match record.get("answerKey") {
        Ok(_) => record.text("answerKey")?,
        Err(_) => "",
    };
    if key.is_empty() {
        return Ok(Made::Dropped("no answer"));
    }
    let right =
        letters.iter().position(|letter| *letter == key).ok_or_else(|| format!("the answer {key:?} is none of {}", letters.join(", ")))?;
    chosen(question, texts, right, &WORDS)
}
