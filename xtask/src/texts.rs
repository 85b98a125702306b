//! What readers see first holds together: links lead somewhere, tables have heads, and one version of Rust is named everywhere.

use std::path::Path;

use crate::setup::CHECKED;

const LONGEST_README: usize = 120;
const TEXTS: [&str; 14] = [
    "README.md",
    "CONTRIBUTING.md",
    "DESIGN.md",
    "CHANGELOG.md",
    "data/studies/README.md",
    "xtask/BENCHMARKS.md",
    "src/cookbook.md",
    "src/guide/models.md",
    "src/guide/cluster.md",
    "src/guide/numbers.md",
    "src/guide/methods.md",
    "src/guide/agreement.md",
    "src/guide/compared.md",
    "src/guide/limits.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Targets of `[text](target)` that are files, relative to the text.
fn files_linked(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let files = targets.filter(|target| !target.starts_with(['#', '<']) && !target.contains("::") && !target.contains("://"));
    files.map(|target| target.split('#').next().unwrap_or_default().to_owned()).collect()
}

/// Lines that head a table and name nothing in one of their columns.
fn blank_heads(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let heads = lines.windows(2).filter(|pair| pair[1].starts_with("|--")).map(|pair| pair[0]);
    heads.filter(|head| head.trim_matches('|').split('|').any(|cell| cell.trim().is_empty())).collect()
}

#[test]
fn links_lead_to_files() {
    for name in TEXTS {
        let folder = root().join(name);
        for file in files_linked(&read(name)) {
            assert!(folder.parent().unwrap().join(&file).exists(), "{name}: there is no `{file}`");
        }
    }
    assert_eq!(files_linked("[a](b.md#c) [d](https://e) [f](crate::g) [h](#i) ![j](k.png)"), ["b.md", "k.png"]);
}

#[test]
fn tables_have_heads() {
    for name in TEXTS {
        assert_eq!(blank_heads(&read(name)), [""; 0], "{name}");
    }
    assert_eq!(blank_heads("| | b |\n|---|---|\n| c | |\n"), ["| | b |"]);
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= LONGEST_README, "README.md has {lines} lines; what is more belongs to src/guide or xtask/BENCHMARKS.md");
}

#[test]
fn one_release_of_rust_is_named() {
    let image = read("Dockerfile");
    assert!(image.contains(&format!("FROM rust:{CHECKED}-slim-")) && image.contains(&format!("RUSTUP_TOOLCHAIN={CHECKED}\n")), "{image}");
}

/// A Rust that is promised to do, and that a dependency refuses, would fail in the middle of set-up.
#[test]
fn no_dependency_needs_a_newer_rust_than_is_promised() {
    let mut cargo = std::process::Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--locked", "--offline", "--manifest-path"]).arg(root().join("Cargo.toml"));
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let numbers = |text: &str| text.split('.').map(|number| number.parse::<u32>().unwrap()).chain([0, 0]).take(3).collect::<Vec<_>>();
    let needed: Vec<_> = said.split("\"rust_version\":\"").skip(1).filter_map(|rest| Some(numbers(rest.split('"').next()?))).collect();
    let promised = numbers(env!("CARGO_PKG_RUST_VERSION"));
    assert!(
        needed.len() > 100 && needed.iter().all(|needed| *needed <= promised),
        "{:?} is needed, {promised:?} promised",
        needed.iter().max()
    );
    assert!(promised <= numbers(CHECKED));
}

#[test]
fn the_containers_are_made_of_steps_that_can_be_tried() {
    let mut check = std::process::Command::new("python3");
    let output = check.arg(root().join("xtask/python/container.py")).arg("--check").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What tests say of other programs, by name: `agrees("losses", worst)`.
fn compared(folder: &Path, names: &mut Vec<String>) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            compared(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(path).unwrap();
            names.extend(text.split("agrees(\"").skip(1).filter_map(|rest| Some(rest.split_once("\", ")?.0.to_owned())));
        }
    }
}

/// By name: its numbers are those of one machine, and bounds stand in the tests.
#[test]
fn the_page_of_agreement_lists_what_tests_compare() {
    let mut names = Vec::new();
    ["src", "tests"].iter().for_each(|place| compared(&root().join(place), &mut names));
    let page = read("src/guide/agreement.md");
    let rows = page.lines().filter(|line| line.starts_with("| ")).skip(1).map(|line| line[2..].split(" | ").next().unwrap());
    let mut rows: Vec<&str> = rows.collect();
    names.sort_unstable();
    rows.sort_unstable();
    assert_eq!(names, rows);
}

/// `tables.py` of a folder with this argument.
fn tables(folder: &Path, argument: &str) -> (bool, String) {
    let mut tables = std::process::Command::new("python3");
    let output = tables.arg("-B").arg(folder.join("data/studies/tables.py")).arg(argument).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn tables_of_studies_are_those_of_their_frames() {
    assert_eq!(tables(root(), "--check"), (true, String::new()));
}

/// A number that somebody changed in a text is noticed, and set right without a change to anything else.
#[test]
fn a_table_that_differs_from_its_frame_is_noticed() {
    let folder = std::env::temp_dir().join(format!("ia2-tables-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("data/studies")).unwrap();
    for entry in std::fs::read_dir(root().join("data/studies")).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), folder.join("data/studies").join(entry.file_name())).unwrap();
        }
    }
    let (readme, right) = (folder.join("README.md"), read("README.md"));
    let row = right.split_once("<!-- table real -->").unwrap().1.split_once("\n| IA2 → SFT |").unwrap().1.lines().next().unwrap();
    std::fs::write(&readme, right.replace(row, &row.replacen('.', "1.", 1))).unwrap();
    let (checked, written, after) = (tables(&folder, "--check"), tables(&folder, "--write"), std::fs::read_to_string(readme).unwrap());
    std::fs::remove_dir_all(folder).unwrap();
    assert!(!checked.0 && checked.1.contains("`real` of README.md"), "{}", checked.1);
    assert_eq!((written, after), ((true, String::new()), right));
}
