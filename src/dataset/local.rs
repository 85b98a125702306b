//! Tasks in files of one's own: `.jsonl`, `.json`, `.csv`, `.tsv`, `.parquet`.

use std::path::{Path, PathBuf};

use super::read::{ENDINGS, Format};
use super::{Card, Columns, Source, Task, card};
use crate::error::{Error, Result};
use crate::prompt::{AnswerForm, Examples, check};

/// A path to a file.
pub(super) const PATHS: Source = Source { what: || "paths".into(), names: || Ok(Vec::new()), open: |path, _| open_path(path) };

/// The names in the folder of tasks.
pub(super) const FOLDER: Source =
    Source { what: || format!("in `{}`", folder().display()), names: || names_in(&folder()), open: |name, _| open_in(&folder(), name) };

/// Where tasks are looked up by name.
pub(super) fn folder() -> PathBuf {
    let own = || concat!(env!("CARGO_MANIFEST_DIR"), "/data/tasks").into();
    std::env::var_os("IA2_DATA").filter(|folder| !folder.is_empty()).map_or_else(own, PathBuf::from)
}

fn open_path(path: &str) -> Result<Option<Task>> {
    let path = Path::new(path);
    match Format::of(path) {
        None => Ok(None),
        Some(format) => read(path, format, &Columns::default()).map(Some),
    }
}

/// The task in a file whose columns are called as `columns` says.
pub(super) fn open_with(path: &Path, columns: &Columns) -> Result<Task> {
    columns.check()?;
    let format = Format::of(path).ok_or_else(|| Error::input(format!("`{}` ends in none of {ENDINGS}", path.display())))?;
    read(path, format, columns)
}

/// The task `name` of `folder`, or `None` when it has no such file.
pub(super) fn open_in(folder: &Path, name: &str) -> Result<Option<Task>> {
    // A name is no path: `../x` must not leave the folder.
    if name.is_empty() || name.contains(['/', '\\']) {
        return Ok(None);
    }
    let file = folder.join(format!("{name}.jsonl"));
    if !file.is_file() {
        return Ok(None);
    }
    read(&file, Format::Lines, &Columns::default()).map(Some)
}

/// The names of all tasks in `folder`, sorted; none when there is no such folder.
pub(super) fn names_in(folder: &Path) -> Result<Vec<String>> {
    let cannot = |error| Error::file(format!("cannot list the folder of tasks `{}`", folder.display())).because(error);
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(cannot(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.map_err(cannot)?.path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

fn read(file: &Path, format: Format, columns: &Columns) -> Result<Task> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let (card, form) = card::read(folder)?.remove(&name).unwrap_or_else(|| (Card::default(), AnswerForm::free()));
    let mut rows = Vec::new();
    format.read(file, &mut |record| {
        if matches!(format, Format::Tsv(_))
            && let Some(field) = record.quoted()
        {
            return Err(format!("`{field}` is quoted as in a `.csv`; nothing is in a `.tsv`: save it as a `.csv` or `.jsonl`"));
        }
        let row = columns.example(&record)?;
        check(&row, &form).map_err(|error| error.to_string())?;
        rows.push(row);
        Ok(())
    })?;
    if rows.is_empty() {
        return Err(Error::file(format!("the task file `{}` has no rows", file.display())));
    }
    Ok(Task::of_file(Examples::new(name, form, rows)?, card, file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::Example;

    const CARDS: &str =
        r#"{"mood": {"type": "label", "labels": ["0", "1"], "max_new_tokens": 1, "stop": "\n\n", "license": "MIT", "source": "s"}}"#;

    fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn a_task_opens_by_name_and_by_path_with_its_card() {
        let rows =
            "{\"query\": \"Text:a\\nLabel:\", \"gold\": \"0\", \"extra\": 1}\n\n{\"query\": \"Text:b\\nLabel:\", \"gold\": \"1\"}\r\n";
        let folder = folder_with(&[("mood.jsonl", rows), ("tasks.json", CARDS), ("notes.txt", "")]);
        let task = Task::open_in(folder.path(), "mood").unwrap();
        assert_eq!((task.name(), task.len(), task.card().license.as_str()), ("mood", 2, "MIT"));
        assert_eq!(task.examples().rows()[1], Example::new("Text:b\nLabel:", "1"));
        let by_path = Task::open(folder.path().join("mood.jsonl").to_str().unwrap()).unwrap();
        assert_eq!(by_path.examples(), task.examples());
        assert_eq!(names_in(folder.path()).unwrap(), ["mood"]);
    }

    #[test]
    fn a_file_without_a_card_has_free_answers() {
        let folder = folder_with(&[("sum.jsonl", r#"{"query": "Question:1+1\nAnswer:", "gold": "one and one #### 2"}"#)]);
        let task = Task::open_in(folder.path(), "sum").unwrap();
        assert!(task.labels().is_empty());
        assert_eq!(task.form(), &AnswerForm::free());
    }

    #[test]
    fn a_csv_names_its_columns_in_its_first_line() {
        let rows = "Gold,note,query\n0,,\"Text:a, \"\"b\"\"\nLabel:\"\n1,x,Text:c\nLabel:\n";
        let folder = folder_with(&[("mood.csv", rows), ("tasks.json", CARDS)]);
        let open = || Task::open(folder.path().join("mood.csv").to_str().unwrap());
        let error = open().unwrap_err().to_string();
        assert!(
            error.contains("mood.csv`, line 5") && error.contains("1 fields between commas, 3 expected (Gold, note, query)"),
            "{error}"
        );
        std::fs::write(folder.path().join("mood.csv"), &rows[..rows.len() - "1,x,Text:c\nLabel:\n".len()]).unwrap();
        assert_eq!(open().unwrap().examples().rows(), [Example::new("Text:a, \"b\"\nLabel:", "0")]);
        assert_eq!(open().unwrap().card().license, "MIT");
    }

    #[test]
    fn a_bad_row_names_file_line_and_reason() {
        let good = "{\"query\": \"q\", \"gold\": \"0\"}\n";
        for (line, reason) in [
            ("{\"query\": ", "not JSON ("),
            ("[1]", "not an object"),
            ("{\"question\": \"q\", \"gold\": \"0\"}", "there is no `query`; there are `gold`, `question`"),
            ("{\"query\": \"q\"}", "there is no `gold`"),
            ("{\"query\": 7, \"gold\": \"0\"}", "`query` must be a string, it is 7"),
            ("{\"query\": \"q\", \"gold\": 0.5}", "`gold` must be text, a whole number or true/false, it is 0.5"),
            ("{\"query\": \"q\", \"gold\": null}", "`gold` must be text, a whole number or true/false, it is null"),
            ("{\"query\": \" \", \"gold\": \"0\"}", "the query is empty"),
            ("{\"query\": \"q\", \"gold\": \"\"}", "the gold is empty"),
            ("{\"query\": \"q\", \"gold\": \"7\"}", "the gold \"7\" is not among the labels 0, 1"),
        ] {
            let folder = folder_with(&[("mood.jsonl", &format!("{good}{line}\n{good}")), ("tasks.json", CARDS)]);
            let error = Task::open_in(folder.path(), "mood").unwrap_err();
            let text = error.to_string();
            assert!(error.is_file() && text.contains("mood.jsonl`, line 2: ") && text.contains(reason), "{text}");
        }
        let folder = folder_with(&[("latin.jsonl", "")]);
        std::fs::write(folder.path().join("latin.jsonl"), b"{\"query\": \"caf\xe9\", \"gold\": \"0\"}").unwrap();
        assert!(Task::open_in(folder.path(), "latin").unwrap_err().to_string().contains("line 1: not JSON"));
    }

    #[test]
    fn what_is_not_there_is_said() {
        let folder = folder_with(&[("mood.jsonl", "\n"), ("tense.jsonl", "")]);
        let text = |name: &str| Task::open_in(folder.path(), name).unwrap_err().to_string();
        assert!(text("mood").contains("has no rows"));
        assert!(text("moods").contains("there are mood, tense"));
        assert!(text("../mood").contains("there is no task"));
        let error = Task::open_in(folder.path().join("nowhere"), "mood").unwrap_err();
        assert!(error.to_string().contains("holds no `.jsonl` file"), "{error}");
        let error = Task::open(folder.path().join("nothing.jsonl").to_str().unwrap()).unwrap_err();
        assert!(error.is_file() && error.to_string().contains("nothing.jsonl"), "{error}");
    }

    #[test]
    fn the_bundled_tasks_have_cards_and_rows() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/data/tasks"));
        if !folder.join("tasks.json").is_file() {
            return crate::skipped(&format!("`{}` is not here", folder.display()));
        }
        let (names, cards) = (names_in(folder).unwrap(), card::read(folder).unwrap());
        assert_eq!(names, cards.keys().cloned().collect::<Vec<_>>(), "one entry for each file");
        for name in names {
            let task = Task::open_in(folder, &name).unwrap();
            assert!(!task.card().license.is_empty() && !task.card().source.is_empty(), "{name}");
            let split = task.few_shot(16, 0).unwrap();
            assert_eq!((split.train.len(), split.dev.len()), (16, 8), "{name}");
        }
    }
}
