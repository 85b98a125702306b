//! STF: questions to be answered by implicit reasoning, yes or no.

use super::entry::{Answers, Class, Entry, Layout, Made, QUESTION, Subset, classified};
use crate::dataset::read::{Format, Reason, Record};

pub(super) const ENTRY: Entry = Entry {
    name: "STF",
    title: "Questions that need several steps: 0 false, 1 true",
    paper: "Geva et al. 2021, Did Aristotle Use a Laptop? A Question Answering Benchmark with Implicit Reasoning Strategies, arXiv:2101.02235",
    license: "MIT",
    source: "eladsegal/strategyqa (`data/strategyqa/train.json`, `dev.json`), or strategyqa_dataset.zip (`strategyqa_train.json`); on Hugging \
             Face `ChilleD/StrategyQA` or `wics/strategy-qa`",
    checked: true,
    note: "2,290 rows in the whole files, train and dev together; the published test part has no answers",
    folders: &["strategyqa", "strategyqa_dataset"],
    template: QUESTION,
    answers: Answers::Labels(&["0", "1"]),
    ood: &[],
    learn: &[Subset::Train, Subset::Dev],
    test: &[],
    authors: None,
    layouts: &[
        Layout {
            what: "the project's files",
            format: Format::Array,
            files: &[
                (Subset::Train, &["train.json", "data/strategyqa/train.json"]),
                (Subset::Dev, &["dev.json", "data/strategyqa/dev.json"]),
            ],
            row,
        },
        Layout {
            what: "the released file",
            format: Format::Array,
            files: &[(Subset::Train, &["strategyqa_train.json", "strategyqa_dataset/strategyqa_train.json"])],
            row,
        },
        // Here `test` is a part of the labelled questions.
        Layout {
            what: "Hugging Face's parquet files",
            format: Format::Parquet,
            files: &[
                (Subset::Train, &["data/train-*.parquet", "default/train/*.parquet"]),
                (Subset::Dev, &["data/test-*.parquet", "default/test/*.parquet"]),
            ],
            row,
        },
        Layout {
            what: "Hugging Face's one parquet file",
            format: Format::Parquet,
            files: &[(Subset::Train, &["*/test/*.parquet", "test-*.parquet", "test.parquet"])],
            row,
        },
    ],
};

fn row(record: &Record, _: &mut crate::random::Random) -> Result<Made, Reason> {
    classified(record.text("question")?, record, "answer", &[("false", Class::Label("0")), ("true", Class::Label("1"))])
}
