//! BBCN: news in five classes, mapped to those of AGN.

use super::entry::{Answers, Authors, Class, Entry, Layout, Made, Subset, TEXT, classified};
use super::parquet;
use crate::dataset::read::{Format, Reason, Record};

pub(super) const ENTRY: Entry = Entry {
    name: "BBCN",
    title: "Topic of BBC articles, in AGN's classes: 0 entertainment and politics, 1 sport, 2 business, 3 tech",
    paper: "Greene and Cunningham 2006, Practical Solutions to the Problem of Diagonal Dominance in Kernel Document Clustering",
    license: "for non-commercial research only, all rights the BBC's",
    source: "bbc-fulltext.zip (`business/001.txt` and so on); on Kaggle `bbc-text.csv` or `BBC News Train.csv`; on Hugging Face `SetFit/bbc-news`",
    checked: false,
    note: "an article becomes one line; the authors cut it to 256 characters less the last word, and test on the test part of Hugging Face's files (`Compat::Paper`)",
    folders: &["bbc_news", "bbc-news", "bbc"],
    template: TEXT,
    answers: Answers::Labels(&["0", "1", "2", "3"]),
    ood: &[],
    learn: &[Subset::Train, Subset::Test],
    test: &[],
    authors: Some(Authors { learn: &[Subset::Train], test: &[Subset::Test], text: cut }),
    layouts: &[
        Layout {
            what: "the original folders",
            format: Format::Text,
            files: &[(Subset::Train, &["*/*.txt", "bbc/*/*.txt"])],
            row: |record, _| row(record, "class"),
        },
        Layout {
            what: "Kaggle's file",
            format: Format::Csv(&[]),
            files: &[(Subset::Train, &["bbc-text.csv", "BBC News Train.csv"])],
            row: |record, _| row(record, "category"),
        },
        Layout {
            what: "Hugging Face's files",
            format: Format::Lines,
            files: &[(Subset::Train, &["train.jsonl"]), (Subset::Test, &["test.jsonl"])],
            row: |record, _| row(record, "label_text"),
        },
        parquet!("default", |record, _| row(record, "label_text")),
    ],
};

/// Letters of an article that the authors keep; the last word of these may be a part of one.
const KEPT: usize = 256;

/// As the authors cut an article: its beginning, less the last word.
fn cut(text: &str) -> &str {
    match text.char_indices().nth(KEPT) {
        None => text,
        Some((end, _)) => text[..end].rsplit_once(' ').map_or(&text[..end], |(kept, _)| kept),
    }
}

fn row(record: &Record, class: &str) -> Result<Made, Reason> {
    let classes = [
        ("entertainment", Class::Label("0")),
        ("politics", Class::Label("0")),
        ("sport", Class::Label("1")),
        ("business", Class::Label("2")),
        ("tech", Class::Label("3")),
    ];
    // A blank line would end the demonstration it stands in.
    let lines: Vec<&str> = record.text("text")?.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    classified(lines.join(" "), record, class, &classes)
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn an_article_is_cut_before_the_word_that_the_cut_goes_through() {
        assert_eq!(cut("short enough"), "short enough");
        let exact = "é".repeat(256);
        assert_eq!(cut(&exact), exact);
        // 250 letters, a space, and a word that ends behind the cut, or exactly at it.
        for word in ["sixsix", "sixsi", "sixsixsix"] {
            assert_eq!(cut(&format!("{} {word} more", "é".repeat(250))), "é".repeat(250), "{word}");
        }
        assert_eq!(cut(&format!("{} a bcd e", "é".repeat(250))), format!("{} a", "é".repeat(250)));
        assert_eq!(cut(&"x".repeat(300)).len(), 256, "one word alone");
    }
}
