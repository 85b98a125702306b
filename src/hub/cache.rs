//! The cache's layout: `models--org--name/{blobs,snapshots,refs,.no_exist}`, and `.locks` next to them.

use std::path::{Path, PathBuf};

use super::{Holding, Name, is_plain};
use crate::file::{self, Holds};

/// `HF_HUB_CACHE`, else `hub` in the folder of [`home`].
pub(super) fn folder(variable: impl Fn(&str) -> Option<String>) -> PathBuf {
    variable("HF_HUB_CACHE").map_or_else(|| home(&variable).join("hub"), PathBuf::from)
}

/// `HF_HOME`, else `~/.cache/huggingface`.
pub(super) fn home(variable: impl Fn(&str) -> Option<String>) -> PathBuf {
    variable("HF_HOME").map(PathBuf::from).unwrap_or_else(|| {
        let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
        cache.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache"))).unwrap_or_default().join("huggingface")
    })
}

/// What the cache holds of one model.
pub(super) struct Cache {
    root: PathBuf,
    locks: PathBuf,
}

impl Cache {
    pub(super) fn of(cache: &Path, name: &Name) -> Self {
        let folder = format!("models--{}", name.repository.replace('/', "--"));
        Self { root: cache.join(&folder), locks: cache.join(".locks").join(folder) }
    }

    /// The cache and the commit of a snapshot's folder; `None` for any other folder.
    pub(super) fn of_snapshot(folder: &Path) -> Option<Self> {
        super::origin(folder)?;
        let root = folder.parent()?.parent()?;
        Some(Self { root: root.to_owned(), locks: root.parent()?.join(".locks").join(root.file_name()?) })
    }

    /// Where downloaders wait for each other: the one place that Python's tools do not take for a part of a model.
    pub(super) fn locks(&self) -> &Path {
        &self.locks
    }

    /// The folder of contents under their checksums.
    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The snapshot of a revision: one with its kind's settings, or, for a model, with GGUF files alone.
    pub(super) fn snapshot(&self, revision: &str, holding: Holding) -> Option<PathBuf> {
        let snapshot = self.place(revision)?;
        let as_gguf = || holding == Holding::Model && !file::gguf_files(&snapshot).is_empty();
        (snapshot.join(holding.config()).exists() || as_gguf()).then_some(snapshot)
    }

    /// A file in the snapshot of a revision.
    pub(super) fn file(&self, revision: &str, name: &str) -> Option<PathBuf> {
        let file = self.place(revision)?.join(name);
        file.is_file().then_some(file)
    }

    /// Where the snapshot of a revision belongs that is a commit, or whose commit stands in `refs`. What stands there is a name and no path: one
    /// would lead out of the cache.
    fn place(&self, revision: &str) -> Option<PathBuf> {
        let commit = file::text(&self.root.join("refs").join(revision), Holds::Settings).unwrap_or_else(|_| revision.to_owned());
        let commit = commit.trim();
        commit.split('/').all(is_plain).then(|| self.root.join("snapshots").join(commit))
    }
}

#[cfg(feature = "hub")]
mod write {
    use super::*;
    use crate::error::{Error, Result};

    impl Cache {
        /// A commit's folder, which need not be there yet.
        pub(in crate::hub) fn commit(&self, commit: &str) -> PathBuf {
            self.root.join("snapshots").join(commit)
        }

        /// A file's content under its checksum.
        pub(in crate::hub) fn blob(&self, checksum: &str) -> PathBuf {
            self.blobs().join(checksum)
        }

        /// Where the downloaders of a blob, Python's among them, wait for each other.
        pub(in crate::hub) fn lock(&self, checksum: &str) -> PathBuf {
            self.locks.join(format!("{checksum}.lock"))
        }

        /// True if a snapshot holds a file, or the cache knows that the model has none of that name.
        pub(in crate::hub) fn knows(&self, snapshot: &Path, name: &str) -> bool {
            let commit = snapshot.file_name().unwrap_or_default();
            snapshot.join(name).exists() || self.root.join(".no_exist").join(commit).join(name).exists()
        }

        /// Notes that a model has no file of that name.
        pub(in crate::hub) fn note_absent(&self, commit: &str, name: &str) -> Result<()> {
            let folder = self.root.join(".no_exist").join(commit);
            file::folder(&folder)?;
            file::write(&folder.join(name), b"")
        }

        /// Gives a blob its name in a snapshot: a relative link, so that the cache can be moved.
        pub(in crate::hub) fn link(&self, commit: &str, name: &str, checksum: &str) -> Result<()> {
            let folder = self.commit(commit);
            file::folder(&folder)?;
            let (place, target) = (folder.join(name), Path::new("../../blobs").join(checksum));
            if std::fs::read_link(&place).is_ok_and(|old| old == target) {
                return Ok(());
            }
            // A link takes its name by renaming, so that another program never finds the name gone.
            let fresh = tempfile::Builder::new().prefix(".ia2-").make_in(&folder, |path| std::os::unix::fs::symlink(&target, path));
            let linked = fresh.and_then(|fresh| fresh.persist(&place).map_err(|error| error.error));
            linked.map(drop).map_err(|error| Error::file(format!("cannot make the link {}", place.display())).because(error))
        }

        /// Notes which commit a branch or a tag means.
        pub(in crate::hub) fn refer(&self, revision: &str, commit: &str) -> Result<()> {
            if revision == commit {
                return Ok(());
            }
            let place = self.root.join("refs").join(revision);
            file::folder(place.parent().unwrap_or(&self.root))?;
            file::write(&place, commit.as_bytes())
        }
    }
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
        let hub = folder(|name| (name == "HF_HOME").then(|| home.path().to_string_lossy().into_owned()));
        let find = |name: &str| Name::parse(name).and_then(|name| Cache::of(&hub, &name).snapshot(&name.revision, Holding::Model));
        let file = |file: &str| Name::parse("org/name").and_then(|name| Cache::of(&hub, &name).file(&name.revision, file));
        assert_eq!(find("org/name"), Some(root.join("snapshots/abc")));
        assert_eq!(find("org/name@abc"), Some(root.join("snapshots/abc")));
        assert_eq!(find("org/other"), None);
        // A reference names a commit. One that is a path would take a model from anywhere on the disk.
        let elsewhere = root.join("snapshots/abc");
        std::fs::write(root.join("snapshots/abc/a.gguf"), "")?;
        for planted in [elsewhere.to_str().unwrap_or_default(), "../snapshots/abc", "abc/../abc", "./abc", "", "abc/"] {
            std::fs::write(root.join("refs/main"), planted)?;
            assert_eq!(find("org/name"), None, "{planted}");
            assert_eq!(file("a.gguf"), None, "{planted}");
        }
        std::fs::remove_file(root.join("snapshots/abc/a.gguf"))?;
        let adapter = Name::parse("org/name@abc").and_then(|name| Cache::of(&hub, &name).snapshot(&name.revision, Holding::Adapter));
        assert_eq!(adapter, None);
        // A model that is there as GGUF alone.
        std::fs::write(root.join("refs/main"), "abc")?;
        std::fs::remove_file(root.join("snapshots/abc/config.json"))?;
        assert_eq!(find("org/name"), None);
        std::fs::write(root.join("snapshots/abc/a.Q4_0.gguf"), "")?;
        assert_eq!(find("org/name"), Some(root.join("snapshots/abc")));
        assert_eq!(file("a.Q4_0.gguf"), Some(root.join("snapshots/abc/a.Q4_0.gguf")));
        assert_eq!(file("b.gguf"), None);
        Ok(())
    }

    #[test]
    fn the_cache_stands_where_python_has_it() {
        let place = |set: &[(&str, &str)]| folder(|name| set.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned()));
        assert_eq!(place(&[("HOME", "/h")]), Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(place(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(place(&[("HOME", "/h"), ("HF_HOME", "/f")]), Path::new("/f/hub"));
        assert_eq!(place(&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
    }
}
