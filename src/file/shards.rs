//! Checkpoints that are known by the names of their files: several that no index lists, and GGUF.

use std::path::{Path, PathBuf};

use crate::display::few;

/// True if a path ends as GGUF files do.
pub(crate) fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"))
}

/// The GGUF files in a folder, sorted.
pub(crate) fn gguf_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_gguf(path) && path.is_file()).collect();
    found.sort_unstable();
    found
}

/// The number of a shard and how many there are: `model-00002-of-00003.safetensors`, as transformers names them.
fn number(name: &str) -> Option<(usize, usize)> {
    let (number, count) = name.strip_prefix("model-")?.strip_suffix(".safetensors")?.split_once("-of-")?;
    let digits = |text: &str| text.bytes().all(|letter| letter.is_ascii_digit()).then(|| text.parse().ok())?;
    Some((digits(number)?, digits(count)?))
}

/// The shards among the names of a folder, sorted; none where no file is called like one. Or what is wrong with them: they must be each of
/// 1 to their count once.
pub(crate) fn numbered_shards(names: impl Iterator<Item = String>) -> Result<Vec<String>, String> {
    let mut there: Vec<String> = names.filter(|name| number(name).is_some()).collect();
    there.sort_unstable();
    let numbers: Vec<(usize, usize)> = there.iter().filter_map(|name| number(name)).collect();
    let Some(&(_, count)) = numbers.first() else { return Ok(there) };
    if numbers.iter().any(|(_, other)| *other != count) || count > 99_999 {
        return Err(format!("its shards are of different sets: {}", few(&there)));
    }
    let lacking: Vec<String> =
        (1..=count).filter(|wanted| !numbers.iter().any(|(number, _)| number == wanted)).map(|number| number.to_string()).collect();
    match lacking.is_empty() {
        true if numbers.len() == count => Ok(there),
        true => Err(format!("there is more than one file for some of its {count} shards: {}", few(&there))),
        false => Err(format!("{} of its {count} shards are missing, number {}", lacking.len(), few(&lacking))),
    }
}
