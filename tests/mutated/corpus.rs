//! Inputs that once fell: small ones as files in `tests/corpus/<reader>`, large ones made here.

use std::path::Path;

use crate::readers::Reader;
use crate::slug;

/// A file's name begins with the name of the reader it is for, or of all readers that begin so.
pub fn of(reader: &Reader) -> Vec<(String, Vec<u8>)> {
    let name = slug(&reader.name);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut found = Vec::new();
    for folder in std::fs::read_dir(&root).into_iter().flatten().flatten() {
        if name.starts_with(&*folder.file_name().to_string_lossy()) {
            for entry in std::fs::read_dir(folder.path()).unwrap().flatten() {
                found.push((entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap()));
            }
        }
    }
    found.sort();
    for (start, label, input) in made() {
        if reader.name.starts_with(start) {
            found.push((label.into(), input.into_bytes()));
        }
    }
    found
}

/// Reader, label, input.
fn made() -> Vec<(&'static str, &'static str, String)> {
    let mut made = vec![
        ("answer", "3,000 nested fractions", format!("\\boxed{{{}1{}}}", "\\frac{".repeat(3_000), "}".repeat(3_000))),
        ("answer", "100,000 nested fractions", format!("\\boxed{{{}1{}}}", "\\frac{".repeat(100_000), "}".repeat(100_000))),
        ("answer", "20,000 boxes that nobody closes", "\\boxed{".repeat(20_000)),
        ("answer", "20,000 fractions that nobody closes", format!("\\boxed{{{}}}", "\\frac{\\}".repeat(20_000))),
        ("pattern", "a million stars", "*".repeat(1_000_000)),
        ("pattern", "ten stars", format!("{}!", "*a".repeat(10))),
        ("pattern", "thirty stars", format!("model.layers.{}!", "*e*".repeat(15))),
    ];
    for (label, depth) in [("nested to 100", 100), ("nested to 1,000", 1_000), ("nested to 1,000,000", 1_000_000)] {
        made.push(("", label, "[".repeat(depth)));
        made.push(("", label, format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth))));
    }
    for text in ["", "\0", "{", "{}", "[]", "null", "\u{feff}{}", "NaN", "\"", "\n\n\n"] {
        made.push(("", "almost nothing", text.into()));
    }
    made
}
