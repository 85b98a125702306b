//! The benchmarks: what each must have, samples in every public format, real files, and what is said of files that are not right.
//!
//! The samples in tests/data/benchmarks are made by tests/python/make_samples.py, with Python's writers of each format.

#[path = "../common/mod.rs"]
mod common;
mod files;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use common::{refused, shared};
use ia2::dataset::{Benchmark, Card, Columns, Subset};
use ia2::prelude::*;
use ia2::prompt::{AnswerForm, Example, Examples};

/// What a benchmark's samples must become: the template, the first query's example, and the number of rows to learn from and held out.
struct Expected {
    name: &'static str,
    template: &'static str,
    first: (&'static str, &'static str),
    golds: &'static [&'static str],
    held_out: &'static [&'static str],
}

const TEXT: &str = "Text:<X>\nLabel:";
const QUESTION: &str = "Question:<X>\nAnswer:";
const CHOICES: &str = "Question:<X>\nChoices:\n<choices>\nAnswer:";

#[rustfmt::skip]
const EXPECTED: &[Expected] = &[
    Expected { name: "SST2", template: TEXT, first: ("Text:a \"fine\" film \nLabel:", "1"), golds: &["1", "0", "0"], held_out: &["1"] },
    Expected { name: "FinS", template: TEXT, first: ("Text:Profit of Kärkkäinen Oy fell to EUR 1.2 mn .\nLabel:", "0"), golds: &["0", "1"], held_out: &[] },
    Expected { name: "PoemS", template: TEXT, first: ("Text:with \"bitter\" tears--\nLabel:", "0"), golds: &["0", "1"], held_out: &[] },
    Expected { name: "STF", template: QUESTION, first: ("Question:Could a \"llama\" read \\?\nAnswer:", "0"), golds: &["0", "1", "0"], held_out: &[] },
    Expected { name: "AGN", template: TEXT, first: ("Text:Fears for \"T N\" Unions say\\they are 'sad', he said.\nLabel:", "2"), golds: &["2", "3", "0"], held_out: &["1"] },
    Expected { name: "BBCN", template: TEXT, first: ("Text:Ad sales Profit rose, \"a lot\".\nLabel:", "2"), golds: &["2", "0", "1", "3", "0"], held_out: &[] },
    Expected { name: "SciQr", template: CHOICES, first: ("Question:What \"stuff\" burns?\nChoices:\n[apple]", ""), golds: &["", ""], held_out: &[""] },
    Expected { name: "QASCr", template: CHOICES, first: ("Question:What \"floats\"?\nChoices:\n[apple]wood 0\n[Friday]wood 1\n[banana]wood 2\n[Saturday]wood 3\n[Thursday]wood 4\n[Sunday]wood 5\n[Wednesday]wood 6\n[Monday]wood 7\n\nAnswer:", "banana"), golds: &["banana", "Monday"], held_out: &["apple"] },
    Expected { name: "GSM8K", template: QUESTION, first: ("Question:Amy has 3 \"red\" nuts. How many?\nAnswer:", "Amy has 1+2=<<1+2=3>>3 nuts.\n#### 3"), golds: &["3", "1080"], held_out: &["-5"] },
    Expected { name: "GSM8Ks", template: QUESTION, first: ("Question:Bo has 4 nuts. How many?\nAnswer:", "Bo has 4.\n#### 4"), golds: &["4", "5"], held_out: &[] },
    Expected { name: "HMathA", template: QUESTION, first: ("Question:Find $x$ if $2x = 1$.\nAnswer:", "Halve it.\n\nThen $x = \\boxed{\\frac{1}{2}}$."), golds: &["\\frac{1}{2}"], held_out: &["3"] },
    Expected { name: "SciQ", template: QUESTION, first: ("Question:What \"stuff\" burns?\nAnswer:", "Fire needs it.\n#### oxygen"), golds: &["oxygen", "d"], held_out: &["rain"] },
];

fn samples(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/benchmarks").join(name)
}

/// The folders of a benchmark's samples, one per layout.
fn layouts(name: &str) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(samples(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

fn open(name: &str) -> Benchmark {
    Benchmark::named(name).unwrap()
}

/// Each row as query and what its gold is read as, in the order of the queries: folders of classes are read class by class.
fn read(examples: &Examples) -> Vec<(String, String)> {
    let gold = |row: &Example| examples.form().gold(&row.gold).unwrap();
    let mut rows: Vec<_> = examples.rows().iter().map(|row| (row.query.clone(), gold(row))).collect();
    rows.sort();
    rows
}

fn sorted(golds: &[&str]) -> Vec<String> {
    let mut golds: Vec<String> = golds.iter().map(ToString::to_string).collect();
    golds.sort();
    golds
}

/// Part, outcome or reason, and number of each line of the counts.
fn counts(task: &Task) -> Vec<(String, String, u32)> {
    let frame = task.counts().unwrap();
    assert_eq!(frame.get_column_names(), ["file", "part", "use", "outcome", "reason", "row"]);
    let text = |name: &str, row: usize| frame.column(name).unwrap().str().unwrap().get(row).unwrap().to_owned();
    let outcome = |row| match text("outcome", row).as_str() {
        "kept" => format!("{}, kept", text("use", row)),
        _ => text("reason", row),
    };
    let rows = frame.column("row").unwrap().u32().unwrap();
    (0..frame.height()).map(|row| (text("part", row), outcome(row), rows.get(row).unwrap())).collect()
}

fn counted(lines: &[(&str, &str, u32)]) -> Vec<(String, String, u32)> {
    lines.iter().map(|(part, outcome, rows)| (part.to_string(), outcome.to_string(), *rows)).collect()
}

/// A folder with one benchmark file.
fn folder(file: &str, content: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
    folder
}

#[test]
fn every_benchmark_has_a_card_a_template_and_samples_of_every_layout() -> Result<()> {
    let names: Vec<_> = Benchmark::all().iter().map(Benchmark::name).collect();
    assert_eq!(names, EXPECTED.iter().map(|expected| expected.name).collect::<Vec<_>>(), "one entry of EXPECTED each");
    let table = Benchmark::table()?;
    let files = table.column("file")?.str()?;
    for (place, expected) in EXPECTED.iter().enumerate() {
        let name = expected.name;
        let card: Card = open(name).card();
        assert_eq!(card.template, expected.template, "{name}");
        assert!(![&card.title, &card.source, &card.license, &card.note].iter().any(|text| text.is_empty()), "{name}: {card}");
        assert!(card.paper.is_some_and(|paper| paper.contains(" 20")), "{name}: no paper with its year");
        let read_for_real = ["SST2", "PoemS", "STF", "AGN", "GSM8K", "HMathA"].contains(&name);
        assert_eq!(card.note.contains("original files: not yet checked on a real file"), !read_for_real, "{name}: {}", card.note);
        assert!(card.note.contains("parquet files: not yet checked on a real file"), "{name}: {}", card.note);
        assert!(card.ood.iter().all(|ood| names.contains(&ood.as_str())), "{name}");
        let known = files.get(place).unwrap().split("; ").count();
        assert!(layouts(name).len() >= known, "{name} has {known} layouts: {}", files.get(place).unwrap());
    }
    Ok(())
}

#[test]
fn every_layout_gives_the_same_rows() -> Result<()> {
    for expected in EXPECTED {
        let mut first: Option<Task> = None;
        for folder in layouts(expected.name) {
            let task = Task::benchmark(expected.name, &folder).map_err(|error| panic!("{}: {error}", folder.display())).unwrap();
            assert_eq!(task.name(), expected.name);
            let first = first.get_or_insert_with(|| task.clone());
            assert_eq!(read(task.examples()), read(first.examples()), "{}", folder.display());
            assert_eq!(read(task.held_out()), read(first.held_out()), "{}", folder.display());
            let (query, gold) = expected.first;
            if expected.name.starts_with("SciQr") {
                // Which word is right is the draw's; what it stands for is not.
                for row in task.examples().rows().iter().chain(task.held_out().rows()) {
                    let right = row.query.lines().find_map(|line| line.strip_prefix(&format!("[{}]", row.gold))).unwrap();
                    assert!(["oxygen", "d", "rain"].contains(&right), "{row:?}");
                    assert!(row.query.ends_with("\n\nAnswer:"), "{row:?}");
                }
                assert!(task.examples().rows()[0].query.starts_with(query));
                assert_eq!(task.len(), 2);
                continue;
            }
            assert!(task.examples().rows().contains(&Example::new(query, gold)), "{}: {:?}", folder.display(), task.examples().rows());
            let golds = |examples: &Examples| {
                let mut golds: Vec<_> = read(examples).into_iter().map(|row| row.1).collect();
                golds.sort();
                golds
            };
            assert_eq!((golds(task.examples()), golds(task.held_out())), (sorted(expected.golds), sorted(expected.held_out)));
        }
    }
    Ok(())
}

#[test]
fn what_is_left_out_is_counted_with_its_reason() -> Result<()> {
    let task = Task::benchmark("SST2", samples("SST2/original"))?;
    let repeated = "the query of an earlier row";
    assert_eq!(
        counts(&task),
        counted(&[
            ("train", "learn, kept", 3),
            ("train", "the query of an earlier row, with another gold", 1),
            ("dev", "test, kept", 1),
            ("dev", repeated, 1)
        ])
    );
    assert_eq!((task.repeated(), task.disputed()?.height()), (2, 1));
    let task = open("PoemS").subsets(&[Subset::Train, Subset::Dev, Subset::Test], &[])?.read(samples("PoemS/parquet"))?;
    let expected = [
        ("train", "learn, kept", 2),
        ("train", "no impact", 1),
        ("train", "mixed", 1),
        ("dev", "learn, kept", 1),
        ("test", "learn, kept", 1),
    ];
    assert_eq!(counts(&task), counted(&expected));
    let task = Task::benchmark("HMathA", samples("HMathA/mixed"))?;
    let (kept, other, boxless) = ("learn, kept", "not algebra", "no \\boxed{} in the solution");
    assert_eq!(counts(&task)[..3], counted(&[("train", kept, 1), ("train", other, 1), ("train", boxless, 1)]));
    let task = open("QASCr").subsets(&[Subset::Train, Subset::Test], &[])?.read(samples("QASCr/original"))?;
    assert_eq!(counts(&task), counted(&[("train", kept, 2), ("test", kept, 0), ("test", "no answer", 1)]));
    let task = Task::of(Examples::new("t", AnswerForm::free(), vec![Example::new("a", "b"), Example::new("a", "c")])?, Card::default());
    assert_eq!(counts(&task), counted(&[("", kept, 1), ("", "the query of an earlier row, with another gold", 1)]));
    let task = Task::of(Examples::new("t", AnswerForm::free(), vec![Example::new("a", "b"), Example::new("a", "b")])?, Card::default());
    assert_eq!(counts(&task), counted(&[("", kept, 1), ("", repeated, 1)]));
    Ok(())
}

#[test]
fn forms_are_the_papers() -> Result<()> {
    let form = |name: &str| open(name).form().unwrap();
    for (name, labels) in [("SST2", 2), ("FinS", 2), ("PoemS", 2), ("STF", 2), ("AGN", 4), ("BBCN", 4), ("SciQr", 4), ("QASCr", 8)] {
        assert_eq!((form(name).label_set().len(), form(name).max_new_tokens()), (labels, 1), "{name}");
    }
    assert_eq!(form("QASCr").label_set(), ["apple", "Friday", "banana", "Saturday", "Thursday", "Sunday", "Wednesday", "Monday"]);
    for (name, tokens) in [("GSM8K", 200), ("GSM8Ks", 200), ("HMathA", 400), ("SciQ", 200)] {
        assert_eq!((form(name).label_set().len(), form(name).max_new_tokens(), form(name).stop()), (0, tokens, Some("\n\n")), "{name}");
    }
    let ood = |name: &str| open(name).card().ood.join(" ");
    let pairs = ["SST2", "FinS", "AGN", "SciQr", "GSM8K", "HMathA"].map(|name| (name, ood(name)));
    let expected =
        [("SST2", "FinS PoemS"), ("FinS", "SST2 PoemS"), ("AGN", "BBCN"), ("SciQr", "QASCr"), ("GSM8K", "GSM8Ks"), ("HMathA", "")];
    assert_eq!(pairs.each_ref().map(|(name, ood)| (*name, ood.as_str())), expected);
    let paper = open("GSM8K").compat(Compat::Paper).form()?;
    assert_eq!((form("GSM8K").answer("#### -5").as_deref(), paper.answer("#### -5").as_deref()), (Some("-5"), Some("5")));
    Ok(())
}

#[test]
fn bbc_news_as_the_authors_read_it_is_cut_and_tested_on_the_hubs_test_part() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let article = |topic: &str| format!("{topic} {}", "word ".repeat(60)).trim_end().to_string();
    let lines = |topics: &[&str]| {
        let line = |topic: &&str| serde_json::json!({"text": article(topic), "label_text": "sport"}).to_string() + "\n";
        topics.iter().map(line).collect::<String>()
    };
    std::fs::write(folder.path().join("train.jsonl"), lines(&["ball", "bat"])).unwrap();
    std::fs::write(folder.path().join("test.jsonl"), lines(&["net"])).unwrap();
    let whole = open("BBCN").read(folder.path())?;
    assert_eq!((whole.len(), whole.held_out().len()), (3, 0));
    assert_eq!(whole.examples().rows()[0].query, format!("Text:{}\nLabel:", article("ball")));
    let paper = open("BBCN").compat(Compat::Paper).read(folder.path())?;
    assert_eq!((paper.len(), paper.held_out().len()), (2, 1));
    // 256 characters of it go through the word that is left out.
    let kept = format!("ball {}", "word ".repeat(50)).trim_end().to_string();
    assert!(kept.len() <= 256 && article("ball")[..256].starts_with(&format!("{kept} ")));
    assert_eq!(paper.examples().rows()[0].query, format!("Text:{kept}\nLabel:"));
    assert!(paper.held_out().rows()[0].query.starts_with("Text:net word"));
    // Parts that were chosen stay, and the way back leads back.
    let chosen = open("BBCN").subsets(&[Subset::Train], &[])?.compat(Compat::Paper).read(folder.path())?;
    assert_eq!((chosen.len(), chosen.held_out().len()), (2, 0));
    assert_eq!(open("BBCN").compat(Compat::Paper).compat(Compat::Corrected).read(folder.path())?.examples(), whole.examples());
    // The makers' folders have no test part.
    let error = open("BBCN").compat(Compat::Paper).read(samples("BBCN/original")).unwrap_err().to_string();
    assert!(error.contains("Only train is there"), "{error}");
    Ok(())
}

#[test]
fn the_printed_form_has_spaces_and_so_have_its_answers() -> Result<()> {
    let first = |name: &str| open(name).printed().read(samples(name).join("original")).unwrap().examples().rows()[0].clone();
    assert_eq!(first("SST2"), Example::new("Text: a \"fine\" film \nLabel:", " 1"));
    assert_eq!(
        first("GSM8K"),
        Example::new("Question: Amy has 3 \"red\" nuts. How many?\nAnswer:", " Amy has 1+2=<<1+2=3>>3 nuts.\n#### 3")
    );
    let choices: Vec<String> = EXPECTED[7].golds.iter().map(ToString::to_string).collect();
    let row = first("QASCr");
    assert!(row.query.starts_with("Question: What \"floats\"?\nChoices: [apple]wood 0 [Friday]wood 1 "), "{row:?}");
    assert!(row.query.ends_with("[Monday]wood 7 Answer:") && row.gold == format!(" {}", choices[0]), "{row:?}");
    assert_eq!(open("AGN").printed().card().template, "Text: <X>\nLabel:");
    Ok(())
}

#[test]
fn choices_are_shuffled_by_their_seed_and_each_row_by_itself() -> Result<()> {
    let task = |seed| open("SciQr").choices(seed).read(samples("SciQr/original")).unwrap();
    assert_eq!(task(3).examples(), task(3).examples());
    let orders: HashSet<String> = (0..40).map(|seed| task(seed).examples().rows()[0].query.clone()).collect();
    assert!(orders.len() > 10, "{} of 24 orders in 40 draws", orders.len());
    let golds: HashSet<String> = (0..40).map(|seed| task(seed).examples().rows()[1].gold.clone()).collect();
    assert_eq!(golds.len(), 4, "the right choice has been everywhere");
    let same = (0..40).filter(|&seed| task(seed).examples().rows()[0].gold == task(seed).examples().rows()[1].gold).count();
    assert!(same < 25, "rows are drawn for themselves: {same} of 40 alike");
    Ok(())
}

#[test]
fn test_sets_are_held_out_and_out_of_distribution_sets_are_the_same_for_all() -> Result<()> {
    let task = Task::benchmark("AGN", samples("AGN/original"))?;
    let split = task.few_shot(2, 0)?;
    assert_eq!((split.train.len(), split.dev.len(), split.test.rows()), (2, 1, task.held_out().rows()));
    let other = Task::benchmark("BBCN", samples("BBCN/parquet"))?.test(500, 0)?;
    let prompts = other.with_demonstrations(&split.train, 0)?;
    assert_eq!(prompts.len(), 5, "AGN's demonstrations and BBCN's queries share their labels");
    Ok(())
}

#[test]
fn real_files_have_their_counts() -> Result<()> {
    let Some(data) = shared("data") else { return Ok(()) };
    let kept = "learn, kept";
    let task = |name| Task::benchmark(name, &data);
    assert_eq!(counts(&task("SST2")?), counted(&[("train", kept, 2_000), ("dev", "test, kept", 872)]));
    assert_eq!(counts(&task("STF")?), counted(&[("train", kept, 600), ("dev", kept, 229)]));
    assert_eq!(counts(&task("GSM8K")?), counted(&[("train", kept, 1_000), ("test", "test, kept", 500)]));
    assert_eq!(counts(&task("HMathA")?), counted(&[("train", kept, 150), ("test", "test, kept", 100)]));
    // Its train file is not there.
    refused(task("AGN"), &["train `train.csv`", "Only test is there"]);
    let news = open("AGN").subsets(&[Subset::Test], &[])?.read(&data)?;
    assert_eq!(counts(&news), counted(&[("test", kept, 2_000)]));
    // Of the train part positive and negative rows are the paper's 288; of all parts together they are 359.
    let poems = task("PoemS")?;
    assert_eq!(counts(&poems), counted(&[("train", kept, 288), ("train", "no impact", 555), ("train", "mixed", 49)]));
    let of = |task: &Task, label: &str| task.examples().rows().iter().filter(|row| row.gold == label).count();
    assert_eq!((of(&poems, "0"), of(&poems, "1")), (155, 133));
    let all = open("PoemS").subsets(&[Subset::Train, Subset::Dev, Subset::Test], &[])?.read(&data)?;
    assert_eq!((all.len(), of(&all, "0"), of(&all, "1")), (359, 193, 166));
    // Texts as they stand in the files.
    assert_eq!(task("SST2")?.examples().rows()[0], Example::new("Text:hide new secretions from the parental units \nLabel:", "0"));
    let first = &news.examples().rows()[1];
    assert!(first.query.contains("(SPACE.com) SPACE.com - TORONTO, Canada -- A second\\team of rocketeers"), "{first:?}");
    assert_eq!((of(&news, "0"), of(&news, "1"), of(&news, "2"), of(&news, "3")), (511, 526, 449, 514));
    let numbers = task("GSM8K")?;
    for row in numbers.examples().rows().iter().chain(numbers.held_out().rows()) {
        let last = row.gold.lines().last().and_then(|line| line.strip_prefix("#### ")).unwrap().replace(',', "");
        assert_eq!(numbers.form().gold(&row.gold), Some(last), "{row:?}");
    }
    let boxes = task("HMathA")?;
    let golds = boxes.examples().rows().iter().chain(boxes.held_out().rows()).filter_map(|row| boxes.form().gold(&row.gold));
    let (all, plain) = golds.fold((0, 0), |(all, plain), gold| (all + 1, plain + usize::from(!gold.contains([' ', '$']))));
    assert_eq!((all, plain), (250, 250), "every solution has an answer, without what sets it apart on the page");
    Ok(())
}

#[test]
fn a_large_file_is_read_in_well_under_a_second() -> Result<()> {
    let rows: String = (0..67_349).map(|row| format!("a film of some words that is number {row} \t{}\n", row % 2)).collect();
    let files = folder("train.tsv", format!("sentence\tlabel\n{rows}").as_bytes());
    let start = Instant::now();
    let task = open("SST2").subsets(&[Subset::Train], &[])?.read(files.path())?;
    let took = start.elapsed();
    assert_eq!(task.len(), 67_349);
    println!("67,349 rows in {took:.2?}");
    // Several times what it takes, so that a busy machine does not fail it.
    assert!(took.as_secs_f64() < 3.0, "{took:?}");
    Ok(())
}
