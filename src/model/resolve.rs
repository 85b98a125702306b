//! From a model's name to its folder on this machine.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The models that come with the library: `tiny-icl` means the same in every working folder.
const BUNDLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/models");

/// A folder as it is; else a bundled model's name; else `org/name` (or `org/name@revision`) in the Hugging Face cache.
pub(super) fn folder(name: &Path) -> Result<PathBuf> {
    if name.is_dir() {
        return Ok(name.to_path_buf());
    }
    let text = name.to_string_lossy();
    let bundled = Path::new(BUNDLED).join(name);
    if !text.is_empty() && !text.contains(['/', '\\', '.']) && bundled.is_dir() {
        return Ok(bundled);
    }
    let (repository, revision) = text.split_once('@').unwrap_or((&text, "main"));
    let is_hub_name = repository.split('/').count() == 2 && !repository.starts_with(['.', '/', '~']) && !repository.ends_with('/');
    if !is_hub_name {
        return Err(Error::file(format!(
            "there is no folder `{text}` (working folder: {}): give a model's folder, the name of a bundled model (`tiny-icl`), or a cached hub name like `org/name`",
            std::env::current_dir().map(|folder| folder.display().to_string()).unwrap_or_default()
        )));
    }
    let cache = hub_cache(|name| std::env::var_os(name).map(PathBuf::from));
    cached(&cache, repository, revision).ok_or_else(|| {
        Error::file(format!(
            "`{text}` is neither a folder here nor in the Hugging Face cache at {} (revision {revision}): download it there first, or give its folder",
            cache.display()
        ))
    })
}

/// `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`.
fn hub_cache(variable: impl Fn(&str) -> Option<PathBuf>) -> PathBuf {
    variable("HF_HUB_CACHE").or_else(|| variable("HF_HOME").map(|home| home.join("hub"))).unwrap_or_else(|| {
        let cache = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
        cache.unwrap_or_default().join("huggingface/hub")
    })
}

/// `models--org--name/snapshots/<commit>`, the commit read from `refs/<revision>` or given itself.
fn cached(cache: &Path, repository: &str, revision: &str) -> Option<PathBuf> {
    let root = cache.join(format!("models--{}", repository.replace('/', "--")));
    let commit = std::fs::read_to_string(root.join("refs").join(revision)).unwrap_or_else(|_| revision.to_string());
    let snapshot = root.join("snapshots").join(commit.trim());
    snapshot.join("config.json").exists().then_some(snapshot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cached_name_is_found_by_its_reference() -> std::io::Result<()> {
        let home = tempfile::tempdir()?;
        let root = home.path().join("hub/models--org--name");
        std::fs::create_dir_all(root.join("refs"))?;
        std::fs::create_dir_all(root.join("snapshots/abc"))?;
        std::fs::write(root.join("refs/main"), "abc\n")?;
        std::fs::write(root.join("snapshots/abc/config.json"), "{}")?;
        let cache = hub_cache(|name| (name == "HF_HOME").then(|| home.path().to_path_buf()));
        assert_eq!(cached(&cache, "org/name", "main"), Some(root.join("snapshots/abc")));
        assert_eq!(cached(&cache, "org/name", "abc"), Some(root.join("snapshots/abc")));
        assert_eq!(cached(&cache, "org/other", "main"), None);
        Ok(())
    }

    #[test]
    fn an_unknown_name_says_where_it_was_looked_for() {
        let text = folder(Path::new("org/surely-not-here")).unwrap_err().to_string();
        assert!(text.contains("Hugging Face cache") && text.contains("org/surely-not-here"), "{text}");
        assert!(folder(Path::new("./nowhere")).unwrap_err().to_string().contains("there is no folder"));
    }
}
