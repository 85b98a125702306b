//! The recipes of CONTRIBUTING.md: their code is what the rooms compile (`tests/recipes`), and every place that they name is there.

use std::collections::BTreeSet;
use std::path::Path;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// One recipe: its kind, the files it makes with their text, and the places below which it puts lines: file, lines that are there, lines that come.
#[derive(Default)]
struct Recipe {
    kind: String,
    made: Vec<(String, String)>,
    edits: Vec<(String, String, String)>,
}

/// The rest of a block of code.
fn block<'a>(lines: &mut std::str::Lines<'a>) -> impl Iterator<Item = &'a str> {
    lines.take_while(|line| *line != "```").collect::<Vec<_>>().into_iter()
}

/// A block of code is that of the path in the last line before it.
fn recipes(page: &str) -> Vec<Recipe> {
    let (mut found, mut path, mut lines): (Vec<Recipe>, _, _) = (Vec::new(), String::new(), page.lines());
    while let Some(line) = lines.next() {
        if let Some(title) = line.strip_prefix("### ") {
            found.push(Recipe { kind: title.rsplit(' ').next().unwrap().to_string(), ..Recipe::default() });
        }
        let Some(recipe) = found.last_mut() else { continue };
        if line.ends_with("`:") {
            path = line.trim_end_matches("`:").rsplit('`').next().unwrap().to_string();
        }
        match line {
            "```rust" => recipe.made.push((path.clone(), block(&mut lines).map(|line| format!("{line}\n")).collect())),
            "```diff" => {
                let (mut there, mut come) = (String::new(), String::new());
                for line in block(&mut lines).chain([" "]) {
                    let (sign, rest) = line.split_at(1);
                    if sign == " " && !come.is_empty() {
                        recipe.edits.push((path.clone(), std::mem::take(&mut there), std::mem::take(&mut come)));
                    }
                    let text = if sign == "+" { &mut come } else { &mut there };
                    text.push_str(rest);
                    text.push('\n');
                }
            }
            _ => {}
        }
    }
    found
}

#[test]
fn each_recipe_is_one_file_and_its_lines_in_one_other_and_its_code_is_compiled() {
    let recipes = recipes(&read("CONTRIBUTING.md"));
    for Recipe { kind, made, edits } in &recipes {
        assert_eq!(made.len(), 1, "{kind}");
        let (path, text) = &made[0];
        assert!(!Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists(), "{path} is there: the recipe wants another name");
        assert!(*text == read(&format!("tests/recipes/{kind}.rs")), "the code of {path} in CONTRIBUTING.md is not tests/recipes/{kind}.rs");
        let files: BTreeSet<&String> = edits.iter().map(|(file, ..)| file).collect();
        assert_eq!(files.len(), 1, "{kind} changes {files:?}");
        for (file, there, come) in edits {
            let source = read(file);
            assert_eq!(source.matches(there.as_str()).count(), 1, "{file}: the recipe puts lines below\n{there}");
            assert!(!source.contains(come.as_str()), "{file} has already\n{come}");
            // The room compiles the code.
            assert!(source.contains(&format!("tests/recipes/{kind}.rs")), "{file} does not compile tests/recipes/{kind}.rs in its tests");
        }
    }
    let kinds: Vec<&str> = recipes.iter().map(|recipe| recipe.kind.as_str()).collect();
    assert_eq!(kinds, ["measure", "metric", "objective", "method", "adapter", "family", "benchmark", "figure"]);
    let there = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recipes")).unwrap();
    assert_eq!(there.count(), kinds.len(), "a file of tests/recipes without its recipe");
}
