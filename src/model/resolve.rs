//! From a model's name to its folder on this machine.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::hub::{self, Holding, Name};

/// The models that come with the library: `tiny-icl` means the same in every working folder.
const BUNDLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/models");

/// A folder as it is; else a bundled model's name; else `org/name` (or `org/name@revision`) on the Hugging Face hub.
pub(super) fn folder(name: &Path) -> Result<PathBuf> {
    if name.is_dir() {
        return Ok(name.to_path_buf());
    }
    let text = name.to_string_lossy();
    let bundled = Path::new(BUNDLED).join(name);
    if !text.is_empty() && !text.contains(['/', '\\', '.']) && bundled.is_dir() {
        return Ok(bundled);
    }
    let on_hub = Name::parse(&text).ok_or_else(|| {
        Error::file(format!(
            "there is no folder `{text}` (working folder: {}): give a model's folder, the name of a bundled model (`tiny-icl`), or one on the Hugging Face hub like `org/name`",
            std::env::current_dir().map(|folder| folder.display().to_string()).unwrap_or_default()
        ))
    })?;
    hub::folder(&on_hub, Holding::Model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_a_folder_nor_a_name_says_so() {
        let text = folder(Path::new("./nowhere")).unwrap_err().to_string();
        assert!(text.contains("there is no folder `./nowhere`") && text.contains("org/name"), "{text}");
    }
}
