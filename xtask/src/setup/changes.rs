//! Exact changes to the text of another project, read from a document that gives the reason of each (`xtask/kernel/CHANGES.md`).
//!
//! A change is a place in the text, found exactly once, and what stands there instead. A place that is not found, or is found twice, is an
//! error: the text is not the one that the change was written for.

use std::fs;
use std::path::Path;

use crate::failure::{At, Failure, Result};

#[derive(Debug, PartialEq)]
pub struct Change {
    /// The heading it stands under.
    title: String,
    file: String,
    old: String,
    new: String,
}

/// Reads `## title`, ``In `file` ``, and two code blocks: the text as it is, and as it becomes. Everything else is for the reader.
pub fn parse(document: &str) -> Result<Vec<Change>> {
    let wrong = |line: usize, what: &str| {
        Failure::new(
            format!("xtask/kernel/CHANGES.md, line {line}: {what}"),
            "write each change as the others there: ``In `file` ``, a code block with the text as it is, one with the text as it becomes",
        )
    };
    let (mut changes, mut title, mut file, mut old) = (Vec::new(), None, None, None);
    let mut lines = document.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if let Some(heading) = line.strip_prefix("## ") {
            title = Some(heading.trim().to_owned());
        } else if let Some(name) = line.strip_prefix("In `").and_then(|rest| rest.split('`').next()) {
            if file.is_some() {
                return Err(wrong(number + 1, "the change before this one has no second code block"));
            }
            file = Some(name.to_owned());
        } else if line.starts_with("```") {
            let mut text = String::new();
            loop {
                match lines.next() {
                    Some((_, "```")) => break,
                    Some((_, inside)) => text.extend([inside, "\n"]),
                    None => return Err(wrong(number + 1, "this code block does not end")),
                }
            }
            match (&file, old.take()) {
                (None, _) => return Err(wrong(number + 1, "this code block belongs to no file")),
                (Some(_), None) => old = Some(text),
                (Some(_), Some(old)) => {
                    let title = title.clone().ok_or_else(|| wrong(number + 1, "this change stands under no heading"))?;
                    changes.push(Change { title, file: file.take().unwrap_or_default(), old, new: text });
                }
            }
        }
    }
    if file.is_some() {
        return Err(wrong(document.lines().count(), "the last change has no second code block"));
    }
    Ok(changes)
}

/// Makes the changes to the files of a folder, in their order.
pub fn apply(changes: &[Change], folder: &Path) -> Result {
    for change in changes {
        let path = folder.join(&change.file);
        let text = fs::read_to_string(&path).at(&path)?;
        fs::write(&path, changed(change, &text)?).at(&path)?;
    }
    Ok(())
}

fn changed(change: &Change, text: &str) -> Result<String> {
    let found = text.match_indices(&change.old).count();
    if found != 1 || change.old.trim().is_empty() {
        let first = change.old.trim().lines().next().unwrap_or_default();
        return Err(Failure::new(
            format!(
                "the change \"{}\" of xtask/kernel/CHANGES.md does not fit {}: the text that begins with `{first}` is there {found} times, \
                 not once",
                change.title, change.file
            ),
            "use the version of evcxr that set-up names; for another one, read what the place has become and write the change anew",
        ));
    }
    Ok(text.replacen(&change.old, &change.new, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "# Changes\nWhy.\n\n## One\nReason.\n\nIn `a/b.rs`\n\n```rust\nlet a = 1;\n    let b = 2;\n```\n\nbecomes\n\n```rust\n\
                            let a = 3;\n```\n\nIn `c.rs`\n\n```rust\nx\n```\n\n```rust\n```\n";

    fn said(result: Result<impl std::fmt::Debug>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn changes_are_read() {
        let changes = parse(DOCUMENT).unwrap();
        let change = |file: &str, old: &str, new: &str| Change { title: "One".into(), file: file.into(), old: old.into(), new: new.into() };
        assert_eq!(changes, [change("a/b.rs", "let a = 1;\n    let b = 2;\n", "let a = 3;\n"), change("c.rs", "x\n", "")]);
    }

    #[test]
    fn what_is_no_change_is_said() {
        assert!(said(parse("## One\n```rust\nx\n```\n")).contains("line 2: this code block belongs to no file"));
        assert!(said(parse("## One\nIn `a`\n```rust\nx\n")).contains("line 3: this code block does not end"));
        assert!(said(parse("## One\nIn `a`\n```rust\nx\n```\nIn `b`\n")).contains("line 6: the change before"));
        assert!(said(parse("## One\nIn `a`\n```rust\nx\n```\n")).contains("no second code block"));
        assert!(said(parse("In `a`\n```\nx\n```\n```\ny\n```\n")).contains("under no heading"));
    }

    #[test]
    fn a_text_is_found_once_or_refused() {
        let [change, _] = &parse(DOCUMENT).unwrap()[..] else { panic!("two changes") };
        assert_eq!(changed(change, "fn f() {\nlet a = 1;\n    let b = 2;\n}\n").unwrap(), "fn f() {\nlet a = 3;\n}\n");
        let never = said(changed(change, "let a = 1;\nlet b = 2;\n"));
        assert!(never.contains("\"One\"") && never.contains("a/b.rs") && never.contains("`let a = 1;` is there 0 times"), "{never}");
        let twice = said(changed(change, "let a = 1;\n    let b = 2;\nlet a = 1;\n    let b = 2;\n"));
        assert!(twice.contains("2 times, not once"), "{twice}");
    }

    #[test]
    fn the_changes_to_the_kernel_can_be_read() {
        let changes = parse(super::super::evcxr::CHANGES).unwrap();
        assert!(changes.len() > 2, "{changes:?}");
        assert!(changes.iter().all(|change| change.file.starts_with("evcxr/src/") || change.file.starts_with("evcxr_jupyter/src/")));
    }
}
