//! FinS: sentences of financial news.

use super::entry::{Answers, Class, Entry, Layout, Subset, TEXT, classified};
use super::parquet;
use crate::dataset::read::Format;

pub(super) const ENTRY: Entry = Entry {
    name: "FinS",
    title: "Sentiment of sentences of financial news, at least half of the annotators agreeing: 0 negative, 1 positive",
    paper: "Malo et al. 2014, Good Debt or Bad Debt: Detecting Semantic Orientations in Economic Texts, arXiv:1307.5336",
    license: "CC BY-NC-SA 3.0",
    source: "FinancialPhraseBank-v1.0.zip (`Sentences_50Agree.txt`); on Hugging Face `takala/financial_phrasebank` with `sentences_50agree`",
    checked: false,
    note: "neutral sentences are left out",
    folders: &["financial_phrasebank", "FinancialPhraseBank-v1.0"],
    template: TEXT,
    answers: Answers::Labels(&["0", "1"]),
    ood: &["SST2", "PoemS"],
    learn: &[Subset::Train],
    test: &[],
    authors: None,
    layouts: &[
        Layout {
            what: "the original file",
            format: Format::At,
            files: &[(Subset::Train, &["Sentences_50Agree.txt", "FinancialPhraseBank-v1.0/Sentences_50Agree.txt"])],
            row: |record, _| {
                let classes = [("negative", Class::Label("0")), ("positive", Class::Label("1")), ("neutral", Class::Left("neutral"))];
                classified(record.text("sentence")?, record, "class", &classes)
            },
        },
        parquet!("sentences_50agree", |record, _| {
            let classes = [("0", Class::Label("0")), ("2", Class::Label("1")), ("1", Class::Left("neutral"))];
            classified(record.text("sentence")?, record, "label", &classes)
        }),
    ],
};
