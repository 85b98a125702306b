//! SST2: single sentences of film reviews.

use super::entry::{Answers, Class, Entry, Layout, Subset, TEXT, classified};
use super::parquet;
use crate::dataset::read::Format;

const CLASSES: [(&str, Class); 3] = [("0", Class::Label("0")), ("1", Class::Label("1")), ("-1", Class::Left("no label"))];

pub(super) const ENTRY: Entry = Entry {
    name: "SST2",
    title: "Sentiment of phrases of film reviews: 0 negative, 1 positive",
    paper: "Socher et al. 2013, Recursive Deep Models for Semantic Compositionality Over a Sentiment Treebank; Wang et al. 2019, GLUE",
    license: "not stated by GLUE; Hugging Face's card: unknown",
    source: "GLUE's SST-2.zip (`train.tsv`, `dev.tsv`); on Hugging Face `stanfordnlp/sst2`, or `nyu-mll/glue` with `sst2`",
    checked: true,
    note: "GLUE's test part has no labels",
    folders: &["sst2", "SST-2"],
    template: TEXT,
    answers: Answers::Labels(&["0", "1"]),
    ood: &["FinS", "PoemS"],
    learn: &[Subset::Train],
    test: &[Subset::Dev],
    authors: None,
    layouts: &[
        Layout {
            what: "GLUE's files",
            format: Format::Tsv(&[]),
            files: &[(Subset::Train, &["train.tsv", "SST-2/train.tsv"]), (Subset::Dev, &["dev.tsv", "SST-2/dev.tsv"])],
            row: |record, _| classified(record.text("sentence")?, record, "label", &CLASSES),
        },
        parquet!("sst2", |record, _| classified(record.text("sentence")?, record, "label", &CLASSES)),
    ],
};
