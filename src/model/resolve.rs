//! From a model's name to its folder or its GGUF file on this machine.

use std::path::{Path, PathBuf};

use super::gguf;
use crate::error::{Error, Result};
use crate::file;
use crate::hub::{self, Holding, Name};

/// Where a plain name is looked for, so that it means the same in every working folder: the models that come with the library, and those
/// that `cargo xtask model` has fetched.
const KEPT: [&str; 2] = [concat!(env!("CARGO_MANIFEST_DIR"), "/data/models"), concat!(env!("CARGO_MANIFEST_DIR"), "/.ia2/models")];

/// A folder or a GGUF file as it is; else a kept model's name; else `org/name` (or `org/name@revision`) on the Hugging Face hub, perhaps
/// with `/file.gguf`. The result is a folder with weights in safetensors, or a GGUF file.
pub(super) fn place(name: &Path) -> Result<PathBuf> {
    if name.is_file() {
        return match file::is_gguf(name) {
            true => Ok(name.to_path_buf()),
            false => Err(Error::file(format!("`{}` is a file, but no `.gguf`: give the folder of the model", name.display()))),
        };
    }
    let folder = folder(name)?;
    // What the hub gives for a file's name.
    if folder.is_file() {
        return Ok(folder);
    }
    Ok(gguf::in_folder(&folder)?.unwrap_or(folder))
}

fn folder(name: &Path) -> Result<PathBuf> {
    if name.is_dir() {
        return Ok(name.to_path_buf());
    }
    let text = name.to_string_lossy();
    if !text.is_empty() && !text.contains(['/', '\\', '.']) {
        let kept = KEPT.iter().map(|folder| Path::new(folder).join(name)).find(|folder| folder.is_dir());
        return kept.ok_or_else(|| {
            nowhere(
                format!(
                    "and no model of that name in {}: `tiny-icl` comes with the library, and `cargo xtask model` lists those it can fetch",
                    KEPT.join(" or ")
                ),
                &text,
            )
        });
    }
    if let Some((on_hub, file)) = Name::with_file(&text) {
        return hub::file(&on_hub, &file);
    }
    let on_hub = Name::parse(&text).ok_or_else(|| {
        let what = if file::is_gguf(name) { "file" } else { "folder" };
        nowhere(format!("so there is no {what} to open: give a model's folder or its GGUF file, the name of a kept model (`tiny-icl`), or one on the Hugging Face hub like `org/name`"), &text)
    })?;
    hub::folder(&on_hub, Holding::Model)
}

fn nowhere(remedy: String, text: &str) -> Error {
    let working = std::env::current_dir().map(|folder| folder.display().to_string()).unwrap_or_default();
    Error::file(format!("there is no folder `{text}` (working folder: {working}), {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_a_folder_nor_a_name_says_so() {
        let text = |name: &str| place(Path::new(name)).unwrap_err().to_string();
        let nowhere = text("./nowhere");
        assert!(nowhere.contains("there is no folder `./nowhere`") && nowhere.contains("org/name"), "{nowhere}");
        let kept = text("tiny-icm");
        assert!(
            kept.contains("there is no folder `tiny-icm`") && kept.contains("data/models") && kept.contains("cargo xtask model"),
            "{kept}"
        );
        assert!(text("./model.gguf").contains("no file to open"));
        assert!(text("").contains("there is no folder"));
    }

    #[test]
    fn a_file_is_taken_from_its_folder_when_it_is_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        assert_eq!(place(folder.path()).unwrap(), folder.path());
        std::fs::write(path("a.Q4_0.gguf"), "").unwrap();
        assert_eq!(place(folder.path()).unwrap(), path("a.Q4_0.gguf"));
        assert_eq!(place(&path("a.Q4_0.gguf")).unwrap(), path("a.Q4_0.gguf"));
        std::fs::write(path("b.GGUF"), "").unwrap();
        let text = place(folder.path()).unwrap_err().to_string();
        assert!(text.contains("several models") && text.contains("a.Q4_0.gguf") && text.contains("b.GGUF"), "{text}");
        // Weights in safetensors are what a folder is opened by.
        std::fs::write(path("model.safetensors"), "").unwrap();
        assert_eq!(place(folder.path()).unwrap(), folder.path());
        assert!(place(&path("model.safetensors")).unwrap_err().to_string().contains("no `.gguf`"));
    }
}
