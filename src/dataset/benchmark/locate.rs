//! Which of a benchmark's layouts lies in a folder.

use std::path::{Path, PathBuf};

use super::entry::{Entry, Layout, Subset};
use crate::error::{Error, Result};

/// The files of each part, in the parts' order.
pub(super) type Found = Vec<(Subset, Vec<PathBuf>)>;

impl Layout {
    /// The files of one part below `folder`, in a fixed order; none when they are not there.
    fn files(&self, folder: &Path, part: Subset) -> Vec<PathBuf> {
        let patterns = self.files.iter().filter(|(own, _)| *own == part).flat_map(|(_, patterns)| patterns.iter());
        patterns.map(|pattern| matching(folder, pattern)).find(|files| !files.is_empty()).unwrap_or_default()
    }

    fn lists(&self, part: Subset) -> bool {
        self.files.iter().any(|(own, _)| *own == part)
    }

    /// The files that are looked for.
    fn wanted(&self, parts: &[Subset]) -> String {
        let wanted = self.files.iter().filter(|(part, _)| parts.contains(part));
        // The usual two places; the others are spellings of them.
        let either = |patterns: &[&str]| patterns.iter().take(2).map(|pattern| format!("`{pattern}`")).collect::<Vec<_>>().join(" or ");
        let wanted: Vec<String> = wanted.map(|(part, patterns)| format!("{part} {}", either(patterns))).collect();
        format!("{}: {}", self.what, wanted.join(" and "))
    }
}

/// The files that are looked for, in all layouts.
pub(super) fn wanted(entry: &Entry, parts: &[Subset]) -> String {
    entry.layouts.iter().map(|layout| layout.wanted(parts)).collect::<Vec<_>>().join("; ")
}

/// The first layout of which every part is there. A part to learn from that a layout does not know is no part of it: its rows stand in
/// another one.
///
/// # Errors
/// A file error that says what is looked for, what is there, and where to get the rest.
pub(super) fn locate(entry: &'static Entry, folder: &Path, learn: &[Subset], test: &[Subset]) -> Result<(&'static Layout, Found)> {
    let mut partly = Vec::new();
    for layout in entry.layouts {
        let parts = learn.iter().filter(|part| layout.lists(**part)).chain(test);
        let found: Found = parts.map(|&part| (part, layout.files(folder, part))).collect();
        if found.iter().any(|(part, _)| learn.contains(part)) && found.iter().all(|(_, files)| !files.is_empty()) {
            return Ok((layout, found));
        }
        partly.extend(found.into_iter().filter(|(_, files)| !files.is_empty()).map(|(part, _)| part));
    }
    let remedy = match partly.first() {
        None => String::new(),
        Some(part) => format!(
            " Only {part} is there; to draw everything from it: Benchmark::named(\"{}\")?.subsets(&[Subset::{part:?}], &[])?",
            entry.name
        ),
    };
    Err(Error::file(format!(
        "the files of {} are not in `{}`. Looked for {}. Where to get them: {}.{remedy}",
        entry.name,
        folder.display(),
        wanted(entry, &[learn, test].concat()),
        entry.source
    )))
}

/// The parts of which there are files, in the first layout that has any.
pub(super) fn there(entry: &'static Entry, folder: &Path, parts: &[Subset]) -> Vec<Subset> {
    let of = |layout: &Layout| parts.iter().copied().filter(|&part| !layout.files(folder, part).is_empty()).collect::<Vec<_>>();
    entry.layouts.iter().map(of).find(|found| !found.is_empty()).unwrap_or_default()
}

/// The layout whose files end as this file does.
///
/// # Errors
/// A file error naming the endings.
pub(super) fn layout_of(entry: &'static Entry, file: &Path) -> Result<&'static Layout> {
    let extension = file.extension().unwrap_or_default().to_string_lossy();
    entry.layouts.iter().find(|layout| layout.format.extension() == extension).ok_or_else(|| {
        let known = entry.layouts.iter().map(|layout| format!("`.{}` ({})", layout.format.extension(), layout.what)).collect::<Vec<_>>();
        Error::file(format!("`{}`: a file of {} ends in {}", file.display(), entry.name, known.join(", ")))
    })
}

/// The files below `folder` that match a path with `*`, sorted by length and name so that `2.json` comes before `10.json`.
fn matching(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut paths = vec![folder.to_owned()];
    for name in pattern.split('/') {
        paths = match name.split_once('*') {
            None => paths.into_iter().map(|path| path.join(name)).filter(|path| path.exists()).collect(),
            Some((head, tail)) => paths.iter().flat_map(|path| listed(path, head, tail)).collect(),
        };
    }
    // What is no file is refused when it is read: left out in silence, its rows would be missed by nobody.
    paths.retain(|path| path.exists());
    paths
}

fn listed(folder: &Path, head: &str, tail: &str) -> Vec<PathBuf> {
    // A folder that cannot be listed has none of the files; that is what the caller then says.
    let entries = std::fs::read_dir(folder).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    let names = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> =
        names.filter(|name| name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)).collect();
    names.sort_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
    names.into_iter().map(|name| folder.join(name)).collect()
}
