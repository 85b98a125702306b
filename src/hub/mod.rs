//! Models by their name on the Hugging Face hub: found in its cache on this machine, else downloaded into it (feature `hub`).
//!
//! The cache is the one Python's `huggingface_hub` keeps, in its layout, so that each finds what the other has downloaded.

#[cfg(feature = "hub")]
mod blob;
mod cache;
mod checksum;
#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
mod download;
#[cfg(feature = "hub")]
mod pace;
#[cfg(feature = "hub")]
mod refusal;
#[cfg(feature = "hub")]
mod settings;
mod verify;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::file;
use cache::Cache;
pub(crate) use verify::verify;

/// What a repository is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holding {
    /// A model in the layout of the transformers library.
    Model,
    /// An adapter in PEFT's.
    Adapter,
}

impl Holding {
    /// The file without which it is none.
    fn config(self) -> &'static str {
        match self {
            Self::Model => "config.json",
            Self::Adapter => "adapter_config.json",
        }
    }
}

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Model { "model" } else { "adapter" })
    }
}

/// A model's name on the hub with its revision: `org/name`, which means its branch `main`, or `org/name@revision`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Name {
    repository: String,
    revision: String,
}

impl Name {
    /// `None` if the text cannot be a name on the hub; what can be is safe as a path and in an address.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (repository, revision) = text.split_once('@').unwrap_or((text, "main"));
        let parts: Vec<&str> = repository.split('/').collect();
        let is_name = parts.len() == 2 && parts.into_iter().all(|part| is_plain(part) && !part.contains("--"));
        let is_name = is_name && revision.split('/').all(is_plain);
        is_name.then(|| Self { repository: repository.to_owned(), revision: revision.to_owned() })
    }

    /// A name with a GGUF file of the model after it: `org/name/file.gguf`, `org/name@revision/file.gguf`.
    pub(crate) fn with_file(text: &str) -> Option<(Self, String)> {
        let (name, file) = text.rsplit_once('/')?;
        let is_file = is_plain(file) && file::is_gguf(Path::new(file));
        Some((Self::parse(name)?, file.to_owned())).filter(|_| is_file)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if self.revision != "main" { write!(f, "@{}", self.revision) } else { Ok(()) }
    }
}

/// A word of letters, digits, `.`, `_` and `-` that begins with no dot: no path leads out of a folder by it, and no address needs escapes.
fn is_plain(word: &str) -> bool {
    !word.is_empty() && !word.starts_with('.') && word.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter))
}

/// The folder of a model's or adapter's snapshot in the cache; with the feature `hub`, what it lacks is downloaded.
///
/// What the cache holds is taken as it is, without asking whether the hub has something newer: a program gives the same result tomorrow.
pub(crate) fn folder(name: &Name, holding: Holding) -> Result<PathBuf> {
    let cache = Cache::of(&cache::folder(variable), name);
    let found = cache.snapshot(&name.revision, holding);
    #[cfg(feature = "hub")]
    return download::complete(name, holding, &cache, found);
    #[cfg(not(feature = "hub"))]
    found.ok_or_else(|| {
        crate::error::Error::file(format!(
            "`{name}` is neither a folder here nor in the Hugging Face cache ({}), and this build of the library cannot download: \
             build it with its feature `hub` (in a notebook's first cell `:dep ia2 = {{ path = {:?}, features = [\"hub\"] }}`), \
             download the {holding} in Python (`hf download {}`), or give its folder",
            cache.root().display(),
            env!("CARGO_MANIFEST_DIR"),
            name.repository
        ))
    })
}

/// A file of a model by its name, in the cache; with the feature `hub`, it is downloaded if it is not there.
pub(crate) fn file(name: &Name, file: &str) -> Result<PathBuf> {
    let cache = Cache::of(&cache::folder(variable), name);
    if let Some(found) = cache.file(&name.revision, file) {
        return Ok(found);
    }
    #[cfg(feature = "hub")]
    return download::one(name, &cache, file);
    #[cfg(not(feature = "hub"))]
    Err(crate::error::Error::file(format!(
        "`{file}` of `{name}` is neither a file here nor in the Hugging Face cache ({}), and this build of the library cannot download: build \
         it with its feature `hub`, download the file in Python (`hf download {} {file}`), or give its path",
        cache.root().display(),
        name.repository
    )))
}

/// The name and the commit of the model whose snapshot in a cache `folder` is; `None` for any other folder.
pub(crate) fn origin(folder: &Path) -> Option<(String, String)> {
    let (commit, snapshots) = (folder.file_name()?.to_str()?, folder.parent()?);
    let (organisation, model) = snapshots.parent()?.file_name()?.to_str()?.strip_prefix("models--")?.split_once("--")?;
    let name = Name::parse(&format!("{organisation}/{model}"))?;
    (snapshots.file_name()? == "snapshots").then(|| (name.repository, commit.to_owned()))
}

/// The folder in this machine's cache of a model by its name on the hub and its commit; `None` where it is not there, or no such name.
pub(crate) fn cached(name: &str, commit: Option<&str>) -> Option<PathBuf> {
    let name = Name::parse(name)?;
    Cache::of(&cache_folder(), &name).snapshot(commit.unwrap_or(&name.revision), Holding::Model)
}

/// Where models of the hub are kept on this machine.
pub(crate) fn cache_folder() -> PathBuf {
    cache::folder(variable)
}

/// An environment variable; one that is set to nothing counts as not set.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_paths() {
        let name = |text: &str| Name::parse(text).map(|name| (name.repository, name.revision));
        let pair = |repository: &str, revision: &str| Some((repository.to_owned(), revision.to_owned()));
        assert_eq!(name("Qwen/Qwen3-0.6B"), pair("Qwen/Qwen3-0.6B", "main"));
        assert_eq!(name("org/name@refs/pr/1"), pair("org/name", "refs/pr/1"));
        for path in
            ["", "name", "./a", "../a", "a/..", "~/a", "/a", "a/", "a/b/c", "a/b c", "a/b@", "a/b@../x", "a/b@x/../../y", "a--b/c", "a/b?c"]
        {
            assert_eq!(name(path), None, "{path}");
        }
    }

    #[test]
    fn a_file_may_follow_a_name() {
        let split = |text: &str| Name::with_file(text).map(|(name, file)| (name.to_string(), file));
        assert_eq!(split("org/name-GGUF/a.Q4_0.gguf"), Some(("org/name-GGUF".into(), "a.Q4_0.gguf".into())));
        assert_eq!(split("org/name@refs/pr/1/a.gguf"), Some(("org/name@refs/pr/1".into(), "a.gguf".into())));
        for path in ["org/a.gguf", "a.gguf", "org/name", "org/name/a.bin", "./org/name/a.gguf", "/org/name/a.gguf", "org/name/../a.gguf"] {
            assert_eq!(split(path), None, "{path}");
        }
    }

    #[test]
    fn a_snapshot_tells_its_name_and_commit() {
        let origin = |path: &str| origin(Path::new(path));
        let there = origin("/cache/hub/models--Qwen--Qwen3-0.6B/snapshots/c1899de2");
        assert_eq!(there, Some(("Qwen/Qwen3-0.6B".to_owned(), "c1899de2".to_owned())));
        for path in
            ["", "/", "a/models--Qwen--Qwen3-0.6B", "models--Qwen--Qwen3-0.6B/blobs/c1", "models--Qwen/snapshots/c1", "Qwen/snapshots/c1"]
        {
            assert_eq!(origin(path), None, "{path}");
        }
    }
}
