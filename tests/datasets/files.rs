//! Files of one's own, and files that are not right.

use super::*;

#[test]
fn one_file_is_a_task_too() -> Result<()> {
    for (name, file, rows) in [
        ("SST2", "original/dev.tsv", 2),
        ("AGN", "parquet/data/test-00000-of-00001.parquet", 1),
        ("BBCN", "lines/test.jsonl", 2),
        ("HMathA", "original/test/algebra/2.json", 1),
    ] {
        let task = Task::benchmark(name, samples(name).join(file))?;
        assert_eq!((task.len(), task.held_out().len()), (rows, 0), "{name}");
    }
    refused(
        Task::benchmark("SST2", samples("FinS/original/Sentences_50Agree.txt")),
        &["Sentences_50Agree.txt", "ends in `.tsv`", "`.parquet`"],
    );
    Ok(())
}

#[test]
fn a_malformed_row_names_file_place_and_reason() {
    let poem = "0\tgood\t1\n";
    for (name, file, content, words) in [
        ("PoemS", "train.tsv", format!("{poem}1\tgood\n"), ["train.tsv`, line 2", "2 fields between tabs, 3 expected"]),
        ("PoemS", "train.tsv", format!("{poem}\n1\tbad\t7\n"), ["train.tsv`, line 3", "\"7\" of `label` is none of -1, 1, 0, 2"]),
        ("PoemS", "train.tsv", format!("{poem}1\t \t-1\n"), ["train.tsv`, line 2", "the text is empty"]),
        ("FinS", "Sentences_50Agree.txt", "a@positive\nno class\n".into(), ["50Agree.txt`, line 2", "no `@`"]),
        ("FinS", "Sentences_50Agree.txt", "a@good\n".into(), ["line 1", "none of negative, positive, neutral"]),
        ("BBCN", "bbc-text.csv", "category,text\nsport,\"a\n\nb\"\nsport\n".into(), ["bbc-text.csv`, line 5", "1 fields between commas"]),
        ("BBCN", "bbc-text.csv", "class,text\nsport,a\n".into(), ["line 2", "there is no `category`; there are `class`, `text`"]),
        ("BBCN", "weather/1.txt", "rain".into(), ["weather/1.txt`", "\"weather\" of `class` is none of"]),
        ("GSM8Ks", "GSM_symbolic.jsonl", "{\"question\": \"q\"".into(), ["GSM_symbolic.jsonl`, line 1", "not JSON"]),
        (
            "GSM8Ks",
            "GSM_symbolic.jsonl",
            "{\"question\": 1, \"answer\": \"#### 1\"}".into(),
            ["line 1", "`question` must be a string, it is 1"],
        ),
        (
            "STF",
            "strategyqa_train.json",
            "[{\"question\": \"q\", \"answer\": null}]".into(),
            ["item 1", "`answer` must be text, a whole number or true/false"],
        ),
        ("STF", "strategyqa_train.json", "{}".into(), ["strategyqa_train.json`", "no JSON array"]),
        ("STF", "strategyqa_train.json", "[1]".into(), ["item 1", "not an object: 1"]),
        ("FinS", "data/train-0.parquet", "PAR1".into(), ["train-0.parquet`", "no readable parquet file"]),
        (
            "GSM8Ks",
            "GSM_symbolic.jsonl",
            "{\"question\": \"q\", \"answer\": \"1\"}".into(),
            ["GSM8Ks has no row to learn from", "GSM_symbolic.jsonl"],
        ),
    ] {
        refused(Task::benchmark(name, folder(file, content.as_bytes()).path()), &words);
    }
    let latin = folder("train.tsv", b"0\tgood\t1\n1\tcaf\xe9\t1\n");
    refused(Task::benchmark("PoemS", latin.path()), &["train.tsv`, line 2", "not UTF-8"]);
    let choice = "{\"question\": {\"stem\": \"q\", \"choices\": [{\"text\": \"t\", \"label\": \"A\"}]}, \"answerKey\": \"A\"}\n";
    let three = open("QASCr").subsets(&[Subset::Train], &[]).unwrap();
    refused(three.read(folder("train.jsonl", choice.as_bytes()).path()), &["train.jsonl`, line 1", "1 choices, 8 expected"]);
    refused(
        three.read(folder("train.jsonl", choice.replace(": \"A\"}\n", ": \"I\"}\n").as_bytes()).path()),
        &["line 1", "\"I\" is none of A"],
    );
}

#[test]
fn a_damaged_parquet_file_is_an_error_and_no_panic() {
    let whole = std::fs::read(samples("QASCr/parquet/data/train-00000-of-00001.parquet")).unwrap();
    let folder = folder("train.parquet", &whole);
    let path = folder.path().join("train.parquet");
    let mut errors = 0;
    // Byte 1133 is one of those that make the reader itself panic.
    for place in (0..whole.len()).step_by(11) {
        let mut flipped = whole.clone();
        flipped[place] ^= 0x55;
        for damaged in [&flipped, &whole[..place]] {
            std::fs::write(&path, damaged).unwrap();
            let Err(error) = Task::benchmark("QASCr", &path) else { continue };
            assert!(error.is_file() && error.to_string().contains("train.parquet`"), "byte {place}: {error}");
            errors += 1;
        }
    }
    assert!(errors > whole.len() / 11, "{errors} errors");
}

#[test]
fn damaged_parquet_files_of_every_packing_are_errors_and_no_panics() {
    for name in ["zstd.parquet", "gzip.parquet", "plain.parquet"] {
        let whole = std::fs::read(own(name)).unwrap();
        let folder = folder(name, &whole);
        let (path, mut errors) = (folder.path().join(name), 0);
        for place in (0..whole.len()).step_by(3) {
            let mut flipped = whole.clone();
            flipped[place] ^= 0x55;
            for damaged in [&flipped, &whole[..place]] {
                std::fs::write(&path, damaged).unwrap();
                let Err(error) = Task::open_with(&path, &Columns::named("sentence", "label")) else { continue };
                assert!(error.is_file() && error.to_string().contains(name), "{name}, byte {place}: {error}");
                errors += 1;
            }
        }
        assert!(errors > whole.len() / 3, "{errors} errors");
    }
}

#[test]
fn missing_files_say_which_and_where_to_get_them() {
    let empty = tempfile::tempdir().unwrap();
    let words = ["files of SST2 are not in", "train `train.tsv`", "dev `dev.tsv`", "data/validation-*.parquet", "stanfordnlp/sst2"];
    refused(Task::benchmark("SST2", empty.path()), &words);
    let half = folder("sst2/train.tsv", b"sentence\tlabel\nfine\t1\n");
    refused(Task::benchmark("SST2", half.path()), &["Only train is there", "Benchmark::named(\"SST2\")?.subsets(&[Subset::Train], &[])?"]);
    assert_eq!(open("SST2").subsets(&[Subset::Train], &[]).unwrap().read(half.path()).unwrap().len(), 1);
    refused(Task::benchmark("SST3", empty.path()), &["no benchmark `SST3`", "SST2, FinS", "SciQ"]);
    refused(open("SST2").subsets(&[], &[Subset::Dev]), &["no part to learn from"]);
    refused(open("SST2").subsets(&[Subset::Dev], &[Subset::Dev]), &["`dev` is named twice"]);
    // By name: in the library's own data folder no benchmark is installed.
    if std::env::var_os("IA2_DATA").is_none() {
        refused(Task::open("HMathA"), &["files of HMathA are not in", "data/tasks/math_algebra", "EleutherAI/hendrycks_math"]);
        refused(Task::open("nothing"), &["no task `nothing`", "sentiment", "SST2"]);
    }
}

#[test]
fn a_frame_is_a_task() -> Result<()> {
    let frame = df!("gold" => ["0", "1", "0"], "query" => ["a", "b", "a"], "note" => [1, 2, 3])?;
    let task = Task::from_frame("mine", &frame)?.labelled(["0", "1"])?;
    assert_eq!((task.len(), task.repeated(), task.examples().rows()[1].clone()), (2, 1, Example::new("b", "1")));
    refused(Task::from_frame("mine", &df!("query" => ["a"])?), &["no column `gold`; there are `query`"]);
    let whole = Task::from_frame("mine", &df!("query" => ["a", "b"], "gold" => [1, 0])?)?.labelled(["0", "1"])?;
    assert_eq!(whole.examples().rows()[0].gold, "1");
    refused(Task::from_frame("mine", &df!("query" => ["a"], "gold" => [0.5])?), &["row 0", "`gold` must be text, a whole number"]);
    refused(Task::from_frame("mine", &df!("query" => [Some("a"), None], "gold" => ["0", "1"])?), &["row 1", "null"]);
    Ok(())
}

fn own(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/own").join(name)
}

#[test]
fn files_of_ones_own_open_by_their_ending_whatever_their_columns_are_called() -> Result<()> {
    let columns = Columns::named("Sentence", "label");
    let expected = [Example::new("a \"fine\" film", "1"), Example::new("so, so", "0"), Example::new("Käse?", "1")];
    let golds =
        |golds: [&str; 3]| expected.clone().into_iter().zip(golds).map(|(row, gold)| Example::new(row.query, gold)).collect::<Vec<_>>();
    // Made by pandas or pyarrow: whole numbers, in text files and typed; booleans; other columns next to them.
    for name in
        ["rows.jsonl", "marked.jsonl", "array.json", "lines.json", "rows.csv", "rows.tsv", "zstd.parquet", "gzip.parquet", "plain.parquet"]
    {
        let task = Task::open_with(own(name), &columns).map_err(|error| panic!("{name}: {error}")).unwrap().labelled(["0", "1"])?;
        assert_eq!(task.examples().rows(), expected, "{name}");
    }
    for name in ["rows.jsonl", "array.json", "zstd.parquet"] {
        let task = Task::open_with(own(name), &Columns::named("sentence", "good"))?.labelled(["true", "false"])?;
        assert_eq!(task.examples().rows(), golds(["true", "false", "true"]), "{name}");
    }
    let made = Columns::named("", "label").template("Text:{sentence} ({stars})\nLabel:");
    for name in ["lines.json", "rows.csv", "gzip.parquet"] {
        let task = Task::open_with(own(name), &made)?;
        assert_eq!(task.examples().rows()[1].query, "Text:so, so (2.5)\nLabel:", "{name}");
    }
    // Without columns named, the file must have the usual ones.
    refused(Task::open(own("zstd.parquet").to_str().unwrap()), &["row 1", "no `query`; there are"]);
    refused(Task::open_with(own("rows.xlsx"), &columns), &["rows.xlsx` ends in none of `.jsonl`, `.json`"]);
    refused(Task::open_with(own("rows.csv"), &columns.template("no column")), &["names no column"]);
    Ok(())
}

#[test]
fn files_of_ones_own_that_are_not_right_are_refused_with_the_line() {
    let opened = |name: &str, bytes: &[u8]| {
        let files = folder(name, bytes);
        Task::open(files.path().join(name).to_str().unwrap())
    };
    for ending in ["\r\n", "\n", "\r"] {
        let text = ["query,gold", "\"two", "lines\",0", "", "b,1", "c"].join(ending);
        refused(opened("own.csv", text.as_bytes()), &["own.csv`, line 6: 1 fields"]);
    }
    for ending in ["\r\n", "\n"] {
        let text = ["{\"query\": \"a\", \"gold\": 1}", "", "{\"query\": \"b\"}"].join(ending);
        refused(opened("own.jsonl", text.as_bytes()), &["own.jsonl`, line 3: there is no `gold`"]);
        let text = ["query\tgold", "a\t1", "", "b"].join(ending);
        refused(opened("own.tsv", text.as_bytes()), &["own.tsv`, line 4: 1 fields"]);
    }
    refused(opened("own.jsonl", b"{\"query\": \"a\", \"gold\": 1}\n{\"query\": \"b\", \"gold\"}"), &["line 2: not JSON", "at column 22"]);
    refused(opened("own.csv", b"query,gold,gold\na,0,1\n"), &["line 1: two columns are called `gold`"]);
    refused(opened("own.tsv", b"query\tgold\n\"say \"\"a\"\"\"\t1\n"), &["line 2", "is quoted as in a `.csv`"]);
    refused(opened("own.json", br#"{"query": {"0": "a"}, "gold": {"0": 1}}"#), &["one JSON object", "array of objects"]);
    refused(opened("own.json", br#"[{"query": "a", "gold": 1}, 7]"#), &["item 2: not an object"]);
    refused(opened("own.json", br#"{"query": "a"}"#), &["line 1: there is no `gold`"]);
    let wide: Vec<u8> = "query,gold\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    refused(opened("own.csv", &[&[0xff, 0xfe], wide.as_slice()].concat()), &["UTF-16", "save the file as UTF-8"]);
    let task = opened("own.csv", b"\xef\xbb\xbfquery,gold\r\na,0\r\nb,1\r\na,1\r\n").unwrap();
    assert_eq!((task.len(), task.repeated(), task.disputed().unwrap().height()), (2, 1, 1));
}
