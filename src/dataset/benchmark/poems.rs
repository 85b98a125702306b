//! PoemS: verses.

use super::entry::{Answers, Class, Entry, Layout, Subset, TEXT, classified};
use super::parquet;
use crate::dataset::read::Format;

pub(super) const ENTRY: Entry = Entry {
    name: "PoemS",
    title: "Sentiment of verses: 0 negative, 1 positive",
    paper: "Sheng and Uthus 2020, Investigating Societal Biases in a Poetry Composition System, arXiv:2011.02686",
    license: "CC BY 4.0",
    source: "google-research-datasets/poem-sentiment (`train.tsv`, `dev.tsv`, `test.tsv`); on Hugging Face `google-research-datasets/poem_sentiment`",
    checked: true,
    note: "verses without effect and mixed ones are left out; of the train part that leaves 155 negative and 133 positive, the paper's 288, \
           and of all three parts 193 and 166",
    folders: &["poem_sentiment", "poem-sentiment"],
    template: TEXT,
    answers: Answers::Labels(&["0", "1"]),
    ood: &[],
    learn: &[Subset::Train],
    test: &[],
    authors: None,
    layouts: &[
        Layout {
            what: "the original files",
            format: Format::Tsv(&["index", "verse", "label"]),
            files: &[
                (Subset::Train, &["train.tsv", "data/train.tsv"]),
                (Subset::Dev, &["dev.tsv", "data/dev.tsv"]),
                (Subset::Test, &["test.tsv", "data/test.tsv"]),
            ],
            row: |record, _| {
                let classes =
                    [("-1", Class::Label("0")), ("1", Class::Label("1")), ("0", Class::Left("no impact")), ("2", Class::Left("mixed"))];
                classified(record.text("verse")?, record, "label", &classes)
            },
        },
        parquet!("default", |record, _| {
            let classes =
                [("0", Class::Label("0")), ("1", Class::Label("1")), ("2", Class::Left("no impact")), ("3", Class::Left("mixed"))];
            classified(record.text("verse_text")?, record, "label", &classes)
        }),
    ],
};
