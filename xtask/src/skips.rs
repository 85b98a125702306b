//! What `cargo xtask test` leaves out: by name and reason, counted, and compared with a list of what is expected to be left out.

use crate::command::SKIPPED;
use crate::project::Project;

/// One line each: `step: test: reason`.
pub struct Skips {
    root: String,
    found: Vec<String>,
}

impl Skips {
    pub fn new(project: &Project) -> Skips {
        Skips { root: project.root.display().to_string(), found: Vec::new() }
    }

    /// Reads a line of a step's output. Says whether a test of it said that it was left out: Rust's test runner takes that test as passed.
    pub fn read(&mut self, step: &str, line: &str) -> bool {
        if let Some((_, why)) = line.split_once(SKIPPED) {
            self.add(step, why);
            return true;
        }
        if let Some((test, why)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ignored")) {
            let why = why.trim_start_matches([',', ' ']);
            // What another test starts is not left out.
            if !why.starts_with("the child of ") {
                // Modules and lines move; names stay.
                let test = test.split(" (line").next().unwrap_or(test).rsplit("::").next().unwrap_or(test);
                self.add(step, &format!("{test}: {}", if why.is_empty() { "ignored" } else { why }));
            }
        }
        false
    }

    /// `why` with the paths of any checkout.
    pub fn add(&mut self, step: &str, why: &str) {
        self.found.push(format!("{step}: {}", why.trim().replace(&format!("{}/", self.root), "")));
        self.found.sort();
    }

    pub fn found(&self) -> &[String] {
        &self.found
    }

    /// What was left out and is not in the list (each line once for each time), and what is in the list and was not left out.
    pub fn compare(&self, list: &str) -> (Vec<String>, Vec<String>) {
        let mut gone: Vec<String> =
            list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect();
        let mut new = Vec::new();
        for found in &self.found {
            match gone.iter().position(|line| line == found) {
                Some(place) => drop(gone.remove(place)),
                None => new.push(found.clone()),
            }
        }
        (new, gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skips() -> Skips {
        Skips::new(&Project { root: "/a/b".into() })
    }

    #[test]
    fn what_is_left_out_is_named() {
        let mut skips = skips();
        assert!(skips.read("tests", "SKIPPED: reads: /a/b/../shared/data is absent"));
        assert!(!skips.read("tests", "test a::gallery ... ignored, writes pictures"));
        assert!(!skips.read("tests", "test src/a.md - a::b (line 12) ... ignored"));
        assert!(!skips.read("tests", "test a::child ... ignored, the child of `a`"));
        assert!(!skips.read("tests", "test a::fine ... ok"));
        assert_eq!(skips.found(), ["tests: b: ignored", "tests: gallery: writes pictures", "tests: reads: ../shared/data is absent"]);
    }

    /// Elsewhere a test would be left out without its name.
    #[test]
    fn one_function_of_the_library_and_one_of_its_tests_say_it() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let (mut folders, mut saying) = (vec![root.join("src"), root.join("tests")], Vec::new());
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                match path.extension().and_then(|extension| extension.to_str()) {
                    None if path.is_dir() => folders.push(path),
                    Some("rs") if std::fs::read_to_string(&path).unwrap().contains(SKIPPED) => {
                        saying.push(path.strip_prefix(root).unwrap().display().to_string());
                    }
                    _ => {}
                }
            }
        }
        saying.sort();
        assert_eq!(saying, ["src/lib.rs", "tests/common/mod.rs"], "call `crate::skipped` or `common::skipped`");
    }

    #[test]
    fn a_change_is_seen_either_way() {
        let mut skips = skips();
        skips.add("tests", "one: no CUDA");
        skips.add("tests", "one: no CUDA");
        let (new, gone) = skips.compare("# why\ntests: one: no CUDA\ntests: other: no pdflatex\n");
        assert_eq!((new, gone), (vec!["tests: one: no CUDA".to_owned()], vec!["tests: other: no pdflatex".to_owned()]));
        assert_eq!(skips.compare("tests: one: no CUDA\n\ntests: one: no CUDA"), (vec![], vec![]));
    }
}
