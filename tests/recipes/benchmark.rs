//! TREC: questions by what they ask for.

use super::entry::{Answers, Class, Entry, Layout, Subset, TEXT, classified};
use crate::dataset::read::Format;

pub(super) const ENTRY: Entry = Entry {
    name: "TREC",
    title: "What a question asks for: 0 a description, 1 a person, 2 a place",
    paper: "Li and Roth 2002, Learning Question Classifiers",
    license: "not stated",
    source: "the page where the files are published",
    checked: false,
    note: "three of the classes",
    folders: &["trec"],
    template: TEXT,
    answers: Answers::Labels(&["0", "1", "2"]),
    ood: &[],
    learn: &[Subset::Train],
    test: &[Subset::Test],
    authors: None,
    layouts: &[Layout {
        what: "tables of class and question",
        format: Format::Csv(&["class", "question"]),
        files: &[(Subset::Train, &["train.csv"]), (Subset::Test, &["test.csv"])],
        row: |record, _| {
            let classes =
                [("DESC", Class::Label("0")), ("HUM", Class::Label("1")), ("LOC", Class::Label("2")), ("NUM", Class::Left("a number"))];
            classified(record.text("question")?, record, "class", &classes)
        },
    }],
};

#[cfg(test)]
mod tests {
    use super::super::Benchmark;
    use super::*;

    #[test]
    fn questions_have_their_classes() {
        let entry = &ENTRY;
        let (learn, test) = (entry.learn.to_vec(), entry.test.to_vec());
        let benchmark = Benchmark { entry, learn, test, choices: 0, printed: false, compat: Default::default() };
        let folder = tempfile::tempdir().unwrap();
        for (file, rows) in [("train.csv", "HUM,Who wrote Faust?\nNUM,How high is Ararat?\n"), ("test.csv", "LOC,Where is Ulm?\n")] {
            std::fs::write(folder.path().join(file), rows).unwrap();
        }
        let task = benchmark.read(folder.path()).unwrap();
        let test = task.test(1, 0).unwrap();
        assert_eq!((test.rows()[0].query.as_str(), test.rows()[0].gold.as_str()), ("Text:Where is Ulm?\nLabel:", "2"));
        assert!(format!("{}", task.counts().unwrap()).contains("a number"));
    }
}
