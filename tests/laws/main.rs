//! The laws of the house, read from the sources.

mod panics;

use std::path::{Path, PathBuf};

/// The rooms, lowest first; a room may import those of earlier lines, itself, and its neighbours on the same line that stand before it.
const ORDER: &[&[&str]] = &[
    &["error", "compat", "axes", "interrupt", "memory", "kind", "display", "progress", "libtorch", "file", "hub", "random"],
    &["frame", "sample", "doctor"],
    &["plot"],
    &["nn"],
    &["similarity"],
    &["tokenizer", "prompt", "dataset"],
    &["model"],
    &["activations"],
    &["adapter"],
    &["objective"],
    &["train", "evaluate"],
    &["lens", "vector"],
    &["statistics", "metric", "calibrate", "method", "table", "figure"],
    &["experiment"],
];

/// What a room must not name even though it stands lower: it is meant to know nothing of it.
const IGNORANT: &[(&str, &[&str])] = &[
    ("similarity", &["nn", "polars"]),
    ("tokenizer", &["nn", "similarity", "tch"]),
    ("prompt", &["nn", "similarity", "tch"]),
    ("dataset", &["nn", "similarity", "tch"]),
    ("statistics", &["nn", "model", "activations", "tch"]),
    ("metric", &["nn", "model", "activations", "tch"]),
    ("table", &["nn", "model", "activations", "tch"]),
    ("figure", &["nn", "model", "activations", "tch"]),
    ("plot", &["tch", "polars"]),
];

const LONGEST_FILE: usize = 450;

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    files_in(folder, "rs")
}

fn files_in(folder: &Path, language: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files_in(&path, language)),
            false if path.extension().is_some_and(|extension| extension == language) => found.push(path),
            false => {}
        }
    }
    found.sort();
    found
}

/// The room a file belongs to.
fn room(file: &Path) -> String {
    let first = file.strip_prefix(source()).unwrap().components().next().unwrap();
    first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_string()
}

/// A file's lines with their numbers, without comments, strings' contents and what stands under `#[cfg(test)]`.
fn code(file: &Path) -> Vec<(usize, String)> {
    if is_test_file(file) {
        return Vec::new();
    }
    let text = std::fs::read_to_string(file).unwrap();
    strip(&text)
}

/// A file of a module that its parent declares under `#[cfg(test)]`.
fn is_test_file(file: &Path) -> bool {
    let name = file.file_stem().unwrap().to_str().unwrap();
    let folder = file.parent().unwrap();
    let parents = [folder.join("mod.rs"), folder.with_extension("rs"), folder.join("lib.rs")];
    parents.iter().filter_map(|parent| std::fs::read_to_string(parent).ok()).any(|text| {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        lines.windows(2).any(|pair| pair[0] == "#[cfg(test)]" && pair[1].trim_start_matches("pub(crate) ") == format!("mod {name};"))
    })
}

/// What stands under `#[cfg(test)]` ends at the closing brace below it, as rustfmt sets it.
fn strip(text: &str) -> Vec<(usize, String)> {
    let mut kept = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push((number + 1, bare(line)));
            continue;
        }
        let end = line.replace("#[cfg(test)]", "}");
        let item = lines.find(|(_, line)| !line.trim().starts_with("#["));
        if item.is_some_and(|(_, item)| item.trim_end().ends_with('{')) {
            lines.find(|(_, line)| *line == end);
        }
    }
    kept
}

/// A line without its comment and without the insides of its strings and characters.
fn bare(line: &str) -> String {
    let mut kept = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let character = ["'\"'", "'\\''", "'\\\\'", "'{'", "'}'", "'/'"].iter().find(|quoted| rest.starts_with(**quoted));
        if rest.starts_with("//") {
            break;
        } else if let Some(character) = character {
            rest = &rest[character.len()..];
        } else if first == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|letter| {
                let ends = letter == '"' && !escaped;
                escaped = letter == '\\' && !escaped;
                ends
            });
            rest = end.map_or("", |end| &rest[end + 2..]);
        } else {
            kept.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    kept
}

fn is_of_a_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn word(text: &str) -> String {
    text.chars().take_while(|letter| is_of_a_word(*letter)).collect()
}

/// How many modules a file's own module lies below the crate.
fn depth(file: &Path) -> usize {
    let path = file.strip_prefix(source()).unwrap();
    path.components().count() - usize::from(path.ends_with("mod.rs") || path.ends_with("lib.rs"))
}

/// What stands in a line after each path to the crate itself: `crate::`, or as many `super::` as the module lies deep.
fn from_the_crate(line: &str, depth: usize) -> Vec<&str> {
    let starts = |place: usize| !line[..place].ends_with(|letter| is_of_a_word(letter) || letter == ':');
    let mut found: Vec<&str> =
        line.match_indices("crate::").filter(|(place, _)| starts(*place)).map(|(place, word)| &line[place + word.len()..]).collect();
    for (place, _) in line.match_indices("super::").filter(|(place, _)| starts(*place)) {
        let rest = line[place..].trim_start_matches("super::");
        if (line.len() - place - rest.len()) / "super::".len() >= depth {
            found.push(rest);
        }
    }
    found
}

/// The rooms a line names, grouped imports (`use crate::{a, b::c}`) included.
fn named(line: &str, depth: usize) -> Vec<String> {
    let mut rooms = Vec::new();
    for rest in from_the_crate(line, depth) {
        match rest.strip_prefix('{') {
            None => rooms.push(word(rest)),
            Some(group) => {
                let mut depth = 0;
                for part in group.split_inclusive([',', '{', '}']) {
                    if depth == 0 {
                        rooms.push(word(part.trim()));
                    }
                    depth += i32::from(part.ends_with('{')) - i32::from(part.ends_with('}'));
                }
            }
        }
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

fn height(room: &str) -> Option<(usize, usize)> {
    ORDER.iter().enumerate().find_map(|(line, rooms)| rooms.iter().position(|own| *own == room).map(|place| (line, place)))
}

/// Line number and room of each breach of the order, in a file whose module lies so many below the crate.
fn breaches(room: &str, depth: usize, lines: &[(usize, String)]) -> Vec<String> {
    let mut found = Vec::new();
    let ignorant: &[&str] = IGNORANT.iter().find(|(own, _)| *own == room).map_or(&[], |(_, unknown)| unknown);
    for (number, line) in lines {
        for other in named(line, depth) {
            // Items that lib.rs itself hands out, such as `crate::Result`, are the error room's.
            let Some(theirs) = height(&other) else { continue };
            let allowed = other == room || height(room).is_none_or(|own| own > theirs);
            if !allowed || ignorant.contains(&other.as_str()) {
                found.push(format!("line {number}: `{room}` imports `{other}`"));
            }
        }
        for library in ignorant.iter().filter(|name| ["tch", "polars"].contains(*name)) {
            if line.contains(&format!("{library}::")) || line.trim() == format!("use {library};") {
                found.push(format!("line {number}: `{room}` uses `{library}`"));
            }
        }
    }
    found
}

#[test]
fn each_room_imports_only_what_stands_before_it() {
    let mut wrong = Vec::new();
    for file in files(&source()) {
        let room = room(&file);
        wrong.extend(breaches(&room, depth(&file), &code(&file)).into_iter().map(|breach| format!("{}, {breach}", file.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_has_its_place() {
    for file in files(&source()) {
        let room = room(&file);
        assert!(["lib", "prelude"].contains(&room.as_str()) || height(&room).is_some(), "`{room}` is missing in the order of rooms");
    }
}

#[test]
fn the_design_has_the_rooms_in_their_order() {
    let design = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("DESIGN.md")).unwrap();
    let table = design.split("\n## ").find(|part| part.starts_with("Rooms")).unwrap();
    let cells = table.lines().filter(|line| line.starts_with("| ")).skip(1).filter_map(|line| line.split(" | ").next());
    let rooms: Vec<&str> = cells.flat_map(|cell| cell.trim_start_matches("| ").split(", ")).collect();
    assert_eq!(rooms, ORDER.concat());
}

#[test]
fn the_law_itself_sees_breaches() {
    let lines = |text: &str| strip(text);
    assert_eq!(breaches("nn", 1, &lines("use crate::error::Result;\nuse crate::model::Model;")), ["line 2: `nn` imports `model`"]);
    assert_eq!(breaches("nn", 1, &lines("use crate::{error::{Error, Result}, train};")), ["line 1: `nn` imports `train`"]);
    assert_eq!(breaches("figure", 1, &lines("use tch::Tensor;")), ["line 1: `figure` uses `tch`"]);
    assert_eq!(breaches("prompt", 1, &lines("fn f() -> crate::dataset::Split {}")).len(), 1);
    // The way up is one to the crate, too; and not from further below.
    let up = "use super::super::model::Model;\nuse super::train::x;\nfn f(a: super::super::super::lens::A) {}";
    assert_eq!(breaches("nn", 2, &lines(up)), ["line 1: `nn` imports `model`", "line 3: `nn` imports `lens`"]);
    assert_eq!(breaches("nn", 1, &lines("use super::{error::Error, train};")), ["line 1: `nn` imports `train`"]);
    assert_eq!([depth(&source().join("nn/mod.rs")), depth(&source().join("nn/hook.rs")), depth(&source().join("random.rs"))], [1, 2, 1]);
    assert!(breaches("nn", 1, &lines("use $crate::model::Model;\nuse my_crate::model;")).len() == 1);
    assert!(breaches("nn", 1, &lines("/// See [`crate::model::Model`].\nlet text = \"crate::model\";")).is_empty());
    assert!(breaches("nn", 1, &lines("#[cfg(test)]\nmod tests {\n    use crate::model::Model;\n}\n")).is_empty());
    let kept: Vec<usize> =
        lines("a();\n#[cfg(test)]\nfn b() {\n    c();\n}\nd();\n#[cfg(test)]\nmod e;\nf();").into_iter().map(|line| line.0).collect();
    assert_eq!(kept, [1, 6, 9]);
    assert_eq!(bare("let a = '\"'; b(\"// \\\" x\"); // c.unwrap()"), "let a = ; b(); ");
}

/// Room and name of each public type that owns all it holds; a borrowing one cannot be a variable of a notebook.
fn public_types(room: &str, lines: &[(usize, String)]) -> Vec<(String, String)> {
    let declared = lines.iter().filter_map(|(_, line)| line.trim().strip_prefix("pub struct ").or(line.trim().strip_prefix("pub enum ")));
    declared.filter(|rest| !rest[word(rest).len()..].starts_with("<'")).map(|rest| (room.to_string(), word(rest))).collect()
}

/// Room and name of each type that is given a way to show itself.
fn shown_types(room: &str, lines: &[(usize, String)]) -> Vec<(String, String)> {
    let placed = |room: &str, path: &str| match path.strip_prefix("crate::").map(|path| path.split("::").collect::<Vec<_>>()) {
        Some(words) => (words[0].to_string(), words[words.len() - 1].to_string()),
        None => (room.to_string(), path.rsplit("::").next().unwrap_or(path).to_string()),
    };
    let mut found = Vec::new();
    for (_, line) in lines {
        let line = line.trim();
        if let Some((_, name)) = line.split_once("Show for ") {
            found.push(placed(room, name.trim_end_matches(['{', '}', ' '])));
        } else if let Some((_, names)) = line.split_once("show_as_text!(") {
            let names = names.trim_end_matches(");").rsplit(": ").next().unwrap_or_default();
            found.extend(names.split(", ").map(|name| placed(room, name)));
        }
    }
    found
}

/// Public inside the crate alone, where Rust's own lint sees to it.
const NOT_PUBLIC_AFTER_ALL: &[&str] = &["hub"];

#[test]
fn every_public_value_shows_itself() {
    let (mut public, mut shown) = (Vec::new(), Vec::new());
    for file in files(&source()) {
        let (room, lines) = (room(&file), code(&file));
        if !NOT_PUBLIC_AFTER_ALL.contains(&room.as_str()) {
            public.extend(public_types(&room, &lines));
        }
        shown.extend(shown_types(&room, &lines));
    }
    assert!(public.len() > 100, "only {} public types found", public.len());
    let missing: Vec<String> =
        public.iter().filter(|known| !shown.contains(known)).map(|(room, name)| format!("`{room}::{name}`")).collect();
    assert!(missing.is_empty(), "without `Show` (of its own, or by `show_as_text!`): {}", missing.join(", "));
    // The law itself.
    let lines =
        strip("pub struct A<'a> {\npub struct B(u8);\npub(crate) struct C;\n#[cfg(test)]\nmod tests {\n    pub struct D;\n}\npub enum E {");
    let of = |name: &str| ("nn".to_string(), name.to_string());
    assert_eq!(public_types("nn", &lines), [of("B"), of("E")]);
    assert_eq!(shown_types("nn", &strip("impl Show for B {\nimpl Show for crate::nn::E {")), [of("B"), of("E")]);
    let texts = strip("crate::display::show_as_text!(B, E);\nshow_as_text!(\"{}\": rope::E);");
    assert_eq!(shown_types("nn", &texts), [of("B"), of("E"), of("E")]);
}

/// Who opens files without `src/file/read.rs`, which takes regular ones alone and bounds what they hold, and why.
const OPENS_FILES: &[(&str, &str)] = &[
    ("file/read.rs", "it is the one"),
    ("hub/blob.rs", "opens to write what is downloaded"),
    ("file.rs", "opens folders, to lock them"),
    ("libtorch/copies.rs", "the kernel's /proc, below the room of files"),
    ("libtorch/operations.rs", "the kernel's /proc, below the room of files"),
];

/// The lines that open a file.
fn openings(lines: &[(usize, String)]) -> Vec<usize> {
    // A model has options to open it, too.
    let of_files = lines.iter().any(|(_, line)| line.contains("fs::") && line.contains("OpenOptions"));
    let words = ["fs::read(", "fs::read_to_string(", "File::open(", "File::options(", "from_file(", "Tensor::read_", "::load("];
    // `PlanFile::open` is not `File::open`.
    let stands = |line: &str, word: &str| {
        line.match_indices(word).any(|(at, _)| word.starts_with(':') || !line[..at].ends_with(char::is_alphanumeric))
    };
    let opens = |line: &str| words.iter().any(|word| stands(line, word)) || of_files && line.contains("OpenOptions::new(");
    lines.iter().filter(|(_, line)| opens(line)).map(|(number, _)| *number).collect()
}

#[test]
fn files_are_opened_in_one_place() {
    let mut wrong = Vec::new();
    for file in files(&source()) {
        let name = file.strip_prefix(source()).unwrap().to_str().unwrap().to_string();
        if !OPENS_FILES.iter().any(|(own, _)| *own == name) {
            wrong.extend(openings(&code(&file)).into_iter().map(|line| format!("src/{name}:{line}: use `crate::file` to open it")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The law itself.
    let lines = |text: &str| openings(&strip(text));
    assert_eq!(lines("use std::fs::{self, OpenOptions};\nlet a = fs::read(path)?;\nlet b = OpenOptions::new().read(true);"), [2, 3]);
    assert_eq!(lines("let a = std::fs::read_to_string(path);\nlet b = File::open(path)?;\nTensor::f_from_file(name)"), [1, 2, 3]);
    assert!(
        lines("OpenOptions::new().device(device).open(folder)\nfs::read_dir(folder)\nfs::read_link(path)\nPlanFile::open(home)").is_empty()
    );
}

/// Every file that people write, in Rust and in Python.
fn written() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rust = ["src", "bin", "examples", "tests", "xtask/src"].map(|folder| files(&root.join(folder)));
    let python = ["data", "tests/python", "xtask"].map(|folder| files_in(&root.join(folder), "py"));
    rust.into_iter().chain(python).flatten().collect()
}

#[test]
fn files_stay_small() {
    let all = written();
    assert!(
        ["src/lib.rs", "tests/laws", "xtask/src/main.rs", "notebooks.py", "make_golden.py"]
            .iter()
            .all(|one| all.iter().any(|path| path.to_str().unwrap().contains(one)))
    );
    for file in all {
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines, more than {LONGEST_FILE}: cut a part out of it", file.display());
    }
}

/// Words of GGUF files that some family's name is, too: tokenizers and their pre-tokenisers.
const OTHER_THINGS: &[&str] = &["model/gguf/tokens.rs"];

/// The lines outside of tests that name a family: in a string, or by its file or constant.
fn names_a_family(text: &str, families: &[&str]) -> Vec<String> {
    let kept: Vec<usize> = strip(text).into_iter().map(|(number, _)| number).collect();
    let lines = text.lines().enumerate().filter(|(number, _)| kept.contains(&(number + 1)));
    let code = lines.filter(|(_, line)| !line.trim_start().starts_with("//")).map(|(number, line)| (number + 1, line.to_string()));
    let named = |line: &str| {
        families.iter().any(|name| {
            let path = [format!("{name}::"), format!("family::{name}"), format!("::{}", name.to_uppercase())];
            line.contains(&format!("\"{name}\"")) || path.iter().any(|word| line.contains(word.as_str()))
        })
    };
    code.filter(|(_, line)| named(line)).map(|(number, line)| format!("{number}: {}", line.trim())).collect()
}

#[test]
fn a_family_is_named_in_its_own_file_and_the_table_alone() {
    let all = ia2::model::family::Family::all();
    let families: Vec<&str> = all.iter().map(|family| family.model_type()).collect();
    let mut wrong = Vec::new();
    for file in files(&source()) {
        let name = file.strip_prefix(source()).unwrap().to_str().unwrap().to_string();
        if name.starts_with("model/family/") || OTHER_THINGS.contains(&name.as_str()) || is_test_file(&file) {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        wrong.extend(names_a_family(&text, &families).into_iter().map(|line| format!("src/{name}:{line}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A family's file names no other's, but what it takes over.
    for family in families {
        let lines = source().join(format!("model/family/{}.rs", family.trim_end_matches("_text")));
        let lines = std::fs::read_to_string(&lines).unwrap().lines().count();
        assert!(lines <= 70, "{family}: {lines} lines, more than a description of its parts takes");
    }
    // The law itself.
    let text = "// llama here\nlet a = name == \"llama\";\nuse super::family::llama::LLAMA;\n#[cfg(test)]\nmod tests {\n    \"llama\";\n}\n\"llama3\"";
    assert_eq!(names_a_family(text, &["llama"]).len(), 2);
}
