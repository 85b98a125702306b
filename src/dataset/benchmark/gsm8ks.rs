//! GSM8Ks: GSM8K's problems with other names and numbers.

use super::entry::{Answers, Entry, Layout, QUESTION, Subset};
use super::gsm8k::row;
use super::parquet;
use crate::dataset::read::Format;

pub(super) const ENTRY: Entry = Entry {
    name: "GSM8Ks",
    title: "GSM-Symbolic: 100 problems of GSM8K with 50 draws of names and numbers each",
    paper: "Mirzadeh et al. 2024, GSM-Symbolic: Understanding the Limitations of Mathematical Reasoning in Large Language Models, arXiv:2410.05229",
    license: "CC BY-NC-ND 4.0",
    source: "apple/ml-gsm-symbolic (`generated_data/GSM_symbolic.jsonl`); on Hugging Face `apple/GSM-Symbolic` with `main`",
    checked: false,
    note: "50 rows are variants of one problem, so sets drawn from it are less varied than they are large",
    folders: &["gsm_symbolic", "GSM-Symbolic", "ml-gsm-symbolic"],
    template: QUESTION,
    answers: Answers::Number { at_most: 200 },
    ood: &[],
    learn: &[Subset::Test],
    test: &[],
    authors: None,
    layouts: &[
        Layout {
            what: "the original file",
            format: Format::Lines,
            files: &[(Subset::Test, &["GSM_symbolic.jsonl", "generated_data/GSM_symbolic.jsonl", "main/test.jsonl"])],
            row,
        },
        parquet!("main", row),
    ],
};
