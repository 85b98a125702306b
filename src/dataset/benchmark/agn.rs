//! AGN: news in four classes.

use super::entry::{Answers, Class, Entry, Layout, Subset, TEXT, classified};
use super::parquet;
use crate::dataset::read::Format;

pub(super) const ENTRY: Entry = Entry {
    name: "AGN",
    title: "Topic of news: 0 world, 1 sports, 2 business, 3 science and technology",
    paper: "Zhang, Zhao and LeCun 2015, Character-level Convolutional Networks for Text Classification, arXiv:1509.01626",
    license: "for research and other non-commercial use, as its readme says",
    source: "ag_news_csv (`train.csv`, `test.csv`); on Hugging Face `fancyzhx/ag_news`",
    checked: true,
    note: "a text is title, space, description, as on Hugging Face; a backslash stands where a line broke",
    folders: &["ag_news", "ag_news_csv"],
    template: TEXT,
    answers: Answers::Labels(&["0", "1", "2", "3"]),
    ood: &["BBCN"],
    learn: &[Subset::Train],
    test: &[Subset::Test],
    authors: None,
    layouts: &[
        Layout {
            what: "the original files",
            format: Format::Csv(&["class", "title", "description"]),
            files: &[(Subset::Train, &["train.csv", "ag_news_csv/train.csv"]), (Subset::Test, &["test.csv", "ag_news_csv/test.csv"])],
            row: |record, _| {
                let text = format!("{} {}", record.text("title")?, record.text("description")?);
                let classes = [("1", Class::Label("0")), ("2", Class::Label("1")), ("3", Class::Label("2")), ("4", Class::Label("3"))];
                classified(text, record, "class", &classes)
            },
        },
        parquet!("default", |record, _| {
            let classes = [("0", Class::Label("0")), ("1", Class::Label("1")), ("2", Class::Label("2")), ("3", Class::Label("3"))];
            classified(record.text("text")?, record, "label", &classes)
        }),
    ],
};
