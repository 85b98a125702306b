//! Rooms import only what stands before them: the order in which the library is read.

use std::path::{Path, PathBuf};

/// `file` and `random` are private helpers.
const ORDER: [&str; 21] = [
    "error",
    "axes",
    "progress",
    "display",
    "libtorch",
    "file",
    "random",
    "nn",
    "similarity",
    "tokenizer",
    "prompt",
    "dataset",
    "model",
    "activations",
    "adapter",
    "objective",
    "train",
    "evaluate",
    "metric",
    "table",
    "figure",
];

#[test]
fn no_room_imports_a_later_one() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = std::collections::BTreeSet::new();
    let mut wrong = Vec::new();
    for file in files(&source) {
        let path = file.strip_prefix(&source).unwrap().to_string_lossy().into_owned();
        let room = path.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
        if room == "lib" {
            continue;
        }
        let here = ORDER.iter().position(|name| *name == room).unwrap_or_else(|| panic!("`{room}` has no place in the order"));
        seen.insert(here);
        for (line, used) in uses(&std::fs::read_to_string(&file).unwrap()) {
            if ORDER.iter().position(|name| *name == used).is_some_and(|place| place > here) {
                wrong.push(format!("{path}:{line} uses {used}"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
    assert_eq!(seen.len(), ORDER.len(), "a room of the order is gone");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let here = files.into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
    here.chain(folders.iter().flat_map(|folder| crate::files(folder))).collect()
}

/// Line and room of every `crate::room` in code; comments and unit tests may look further ahead.
fn uses(text: &str) -> Vec<(usize, String)> {
    let code = text.lines().enumerate().take_while(|(_, line)| line.trim() != "#[cfg(test)]");
    let code = code.filter(|(_, line)| !line.trim_start().starts_with("//"));
    let rooms = code.flat_map(|(number, line)| {
        let after = line.split("crate::").skip(1);
        after.map(move |rest| (number + 1, rest.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()))
    });
    rooms.collect()
}
