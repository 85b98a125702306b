//! What panics stays out of the sources: words that do, and numbers of callers between the brackets of an index.

use super::*;

/// What ends in a panic, or does where it is false.
const PANICS: &[&str] =
    &[".unwrap(", ".expect(", "panic!(", "todo!(", "unimplemented!(", "unreachable!(", "dbg!(", "assert!(", "assert_eq!(", "assert_ne!("];

#[test]
fn errors_are_returned_not_panicked() {
    let mut wrong = Vec::new();
    for file in files(&source()) {
        for (number, line) in code(&file) {
            // `debug_assert!` ends in `assert!`.
            wrong.extend(PANICS.iter().filter(|word| line.contains(**word)).map(|word| format!("{}:{number}: `{word}`", file.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Public functions that index by a number they are given, and why they cannot panic.
const INDEXED: &[(&str, &str, &str)] = &[
    ("dataset/split.rs", "few_shot", "`shuffled` refuses more than there are rows"),
    ("dataset/split.rs", "few_shot_balanced", "the same, and as many are drawn as it says"),
];

/// Line and name of each public function with a parameter of a number, or of many, that stands between the brackets of an index or is handed to
/// what panics at a wrong one.
fn indexed_by_callers(lines: &[(usize, String)]) -> Vec<(usize, String)> {
    let numbers = ["usize", "u32", "u64", "i32", "i64", "f64", "Duration"];
    let calls = [".split_at(", ".remove(", ".swap_remove(", ".split_off(", ".step_by(", ".chunks(", ".windows(", "from_secs_f64("];
    let mut found = Vec::new();
    let mut function: Option<(String, String, Vec<String>)> = None;
    for (number, line) in lines {
        let indent: String = line.chars().take_while(|letter| *letter == ' ').collect();
        if let Some(rest) = line.trim_start().strip_prefix("pub fn ") {
            function = Some((format!("{indent}}}"), word(rest), Vec::new()));
        }
        let Some((end, name, parameters)) = &mut function else { continue };
        if line == end {
            function = None;
            continue;
        }
        // A parameter: `name: type`, on the line of the signature or on its own.
        for (place, _) in line.match_indices(": ").filter(|_| !line.trim_start().starts_with("let ")) {
            let own: String =
                line[..place].chars().rev().take_while(|letter| is_of_a_word(*letter)).collect::<Vec<_>>().into_iter().rev().collect();
            let kind = line[place + 2..].trim_start_matches(['&', '[']);
            if numbers.contains(&word(kind).as_str()) {
                parameters.push(own);
            }
        }
        let inside = |text: &str, end: char| text.split(end).next().unwrap_or_default().to_owned();
        let brackets = line
            .match_indices('[')
            .filter(|(place, _)| line[..*place].ends_with(|letter| is_of_a_word(letter) || [')', ']'].contains(&letter)));
        let mut places: Vec<String> = brackets.map(|(place, _)| inside(&line[place + 1..], ']')).collect();
        places.extend(calls.iter().flat_map(|call| line.match_indices(call).map(|(place, call)| inside(&line[place + call.len()..], ')'))));
        let is_given = |text: &String| text.split(|letter| !is_of_a_word(letter)).any(|word| parameters.iter().any(|own| own == word));
        if places.iter().any(is_given) {
            found.push((*number, name.clone()));
        }
    }
    found
}

#[test]
fn no_public_function_indexes_by_a_number_it_did_not_check() {
    let mut used = std::collections::BTreeSet::new();
    let mut wrong = Vec::new();
    for file in files(&source()) {
        let own = file.strip_prefix(source()).unwrap().to_str().unwrap().to_string();
        for (number, name) in indexed_by_callers(&code(&file)) {
            match INDEXED.iter().find(|(file, function, _)| *file == own && *function == name) {
                Some(known) => drop(used.insert(known)),
                None => wrong.push(format!("src/{own}:{number}: `{name}` indexes by its argument: use `get`, and say what was wrong")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let idle: Vec<_> = INDEXED.iter().filter(|known| !used.contains(known)).collect();
    assert!(idle.is_empty(), "no longer needed: {idle:?}");
    // The law itself.
    let text = "pub fn a(&self, row: usize) -> f64 {\n    self.rows[row + 1]\n}\npub fn b(rows: &[usize]) {\n    c[d(rows[0])];\n}\n\
                pub fn e(by: usize) {\n    f.get(by);\n    g[0];\n    h.chunks(by);\n}\nfn i(at: usize) {\n    j[at];\n}";
    let lines = strip(text);
    let found: Vec<(usize, String)> = indexed_by_callers(&lines);
    assert_eq!(found, [(2, "a".to_owned()), (5, "b".to_owned()), (10, "e".to_owned())]);
}
