//! Which model this is: digests of all that decides what it computes.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Model;
use crate::error::{Error, Result};
use crate::file::{self, Source};
use crate::interrupt;

/// What one model has and no other: manifests, checkpoints, targets on disk and the records of experiments know a model by it.
///
/// All bytes of the weights count. A file is read once, at the speed of SHA-256 (measured: 0.5 s of a processor with instructions for it for 1 GB), when the identity is first asked for, and remembered by its path, inode, size and times of change: in this process and, from
/// 64 MiB on, in `ia2/digests` of the user's cache folder (`XDG_CACHE_HOME`, else `~/.cache`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Of the configuration as it was understood.
    pub config: String,
    /// SHA-256 of the weight file as `sha256sum` has it, of several of these in the order of their names; `numbers ` and a digest of the tensors in
    /// memory for a model that is in no file (any more).
    pub weights: String,
    /// Of the tokenizer, if there is one.
    pub tokenizer: Option<String>,
}

/// SHA-256 of the bytes of a file that a model was opened from; `None` if they are not those any more.
fn digest(source: &Source) -> std::io::Result<Option<String>> {
    let digest = remembered("sha256", source.path(), source.file(), || {
        let mut digest = Sha256::new();
        let mut rest = file::From(source.file(), 0);
        let mut piece = vec![0; 1 << 20];
        loop {
            match rest.read(&mut piece)? {
                0 => return Ok(format!("{:x}", digest.finalize())),
                read => digest.update(&piece[..read]),
            }
            interrupt::io()?;
        }
    })?;
    Ok(Some(digest).filter(|_| source.is_as_opened()))
}

/// Refuses a file whose checksum, in its first bytes `head`, is not that of its content. Read once, as [`Identity`] says.
pub(super) fn check_seal(path: &Path, file: &File, head: &[u8]) -> Result<()> {
    let holds = remembered("checksum", path, file, || Ok(format!("{:?}", file::holds(head, file::From(file, head.len() as u64))?)));
    match holds {
        Ok(holds) if holds == "Some(true)" => Ok(()),
        Ok(_) => Err(file::broken(
            path,
            "save the model again, or take it from where it came from (`OpenOptions::as_it_is` opens it all the same)",
        )),
        Err(error) => Err(Error::file(format!("cannot read {}", path.display())).because(error)),
    }
}

/// Files from this size on are remembered on disk.
const LARGE: u64 = 64 << 20;
/// A file that was changed so shortly ago may be changed again within the same tick of the clock.
const SETTLED: Duration = Duration::from_secs(2);

#[derive(Serialize, Deserialize)]
struct Note {
    of: String,
    value: String,
}

/// What `compute` gives for a file, computed once for as long as the file does not change.
fn remembered(what: &str, path: &Path, file: &File, compute: impl FnOnce() -> std::io::Result<String>) -> std::io::Result<String> {
    static KNOWN: LazyLock<Mutex<HashMap<String, String>>> = LazyLock::new(Mutex::default);
    let stamp = || {
        let meta = file.metadata()?;
        let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
        Ok::<_, std::io::Error>((format!("{what} {} {} {} {} {times:?}", path.display(), meta.dev(), meta.ino(), meta.size()), meta))
    };
    let (of, meta) = stamp()?;
    let note = cache().filter(|_| meta.size() >= LARGE).map(|folder| folder.join(format!("{:x}.json", Sha256::digest(&of))));
    let known = || KNOWN.lock().ok()?.get(&of).cloned();
    let noted = || {
        let note: Note = file::read_json(note.as_ref().filter(|path| path.is_file())?, "a digest", "remove it").ok()?;
        (note.of == of).then_some(note.value)
    };
    if let Some(value) = known().or_else(noted) {
        return Ok(value);
    }
    let value = compute()?;
    let settled = UNIX_EPOCH + Duration::from_secs(meta.ctime().max(meta.mtime()).max(0) as u64) + SETTLED < SystemTime::now();
    if settled && stamp()?.0 == of {
        if let Ok(mut known) = KNOWN.lock() {
            known.insert(of.clone(), value.clone());
        }
        // Where nothing can be kept it is computed again.
        let kept = note.as_ref().and_then(|path| Some((path, path.parent()?, file::json(&Note { of, value: value.clone() }).ok()?)));
        let _ = kept.map(|(path, folder, text)| file::folder(folder).and_then(|()| file::write(path, text.as_bytes())));
    }
    Ok(value)
}

fn cache() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    Some(set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?.join("ia2/digests"))
}

impl Model {
    /// Which model this is, without its adapter.
    pub(crate) fn identity(&self) -> Result<&Identity> {
        if self.base.identity.get().is_none() {
            let _ = self.base.identity.set(self.identify()?);
        }
        self.base.identity.get().ok_or_else(|| Error::internal("a model's identity got lost"))
    }

    fn identify(&self) -> Result<Identity> {
        let config = format!("{:x}", Sha256::digest(format!("{:?}", self.config())));
        let tokenizer = self.base.tokenizer.as_ref().map(|tokenizer| tokenizer.digest()).transpose()?;
        Ok(Identity { config, weights: self.of_files().map_or_else(|| self.of_numbers(), Ok)?, tokenizer })
    }

    /// Of the files' bytes; `None` where there are none, or not the same any more.
    fn of_files(&self) -> Option<String> {
        let digests = self.base.sources.iter().map(|source| digest(source).ok()?).collect::<Option<Vec<_>>>()?;
        match digests.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            several => Some(format!("{:x}", Sha256::digest(several.join("\n")))),
        }
    }

    /// Of all numbers in memory, with their names, kinds and shapes.
    fn of_numbers(&self) -> Result<String> {
        let mut digest = Sha256::new();
        for (name, tensor) in self.decoder().weights() {
            interrupt::check()?;
            digest.update(format!("{name} {:?} {:?} ", tensor.kind(), tensor.size()));
            digest.update(file::content(tensor));
        }
        Ok(format!("numbers {:x}", digest.finalize()))
    }

    /// A digest of the numbers of the adapter and the vector, if there are some on the model.
    pub(crate) fn adapter_digest(&self) -> Option<String> {
        if !self.is_adapted() {
            return None;
        }
        let mut digest = Sha256::new();
        for (name, tensor) in self.adapter.iter().flat_map(|adapter| adapter.numbers()).chain(self.steering()) {
            digest.update(format!("{name} {:?} {:?} ", tensor.kind(), tensor.size()));
            digest.update(file::content(&tensor));
        }
        Some(format!("{:x}", digest.finalize()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    /// A model's folder with `bytes` more in its weight file, in a tensor's place that the model ignores.
    fn copied() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/llama_biases");
        for name in ["config.json", "model.safetensors"] {
            std::fs::copy(from.join(name), folder.path().join(name)).unwrap();
        }
        folder
    }

    fn weights(folder: &Path) -> String {
        Model::open(folder).unwrap().identity().unwrap().weights.clone()
    }

    #[test]
    fn a_file_is_known_by_all_of_its_bytes() {
        let (folder, elsewhere) = (copied(), copied());
        let file = folder.path().join("model.safetensors");
        let bytes = std::fs::read(&file).unwrap();
        let before = weights(folder.path());
        assert_eq!(before, format!("{:x}", Sha256::digest(&bytes)), "as sha256sum has it");
        assert_eq!(weights(elsewhere.path()), before, "wherever it lies");
        let model = Model::open(folder.path()).unwrap();
        // Any byte, the length and the settled time of change being the same.
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for place in [header, header + (bytes.len() - header) / 3, bytes.len() - 4] {
            let time = std::fs::metadata(&file).unwrap().modified().unwrap();
            let writer = File::options().write(true).open(&file).unwrap();
            writer.write_all_at(&[bytes[place] ^ 1], place as u64).unwrap();
            writer.set_modified(time).unwrap();
            assert_ne!(weights(folder.path()), before, "at {place}");
            writer.write_all_at(&bytes[place..=place], place as u64).unwrap();
            writer.set_modified(time).unwrap();
            assert_eq!(weights(folder.path()), before);
        }
        // What was opened is what is known, although the file is another now, or gone.
        std::fs::write(folder.path().join("new"), [bytes.as_slice(), b"more"].concat()).unwrap();
        std::fs::rename(folder.path().join("new"), &file).unwrap();
        assert_eq!(model.identity().unwrap().weights, before);
        let model = Model::open(elsewhere.path()).unwrap();
        drop(elsewhere);
        assert_eq!(model.identity().unwrap().weights, before);
    }

    #[test]
    fn numbers_in_memory_count_to_the_last() {
        let folder = copied();
        let model = Model::open(folder.path()).unwrap();
        let name = "model.layers.1.self_attn.q_proj.bias";
        let of = |change: f64| {
            let weight = model.weight(name).unwrap().copy();
            let last = weight.numel() as i64 - 1;
            let _ = weight.narrow(0, last, 1).g_add_scalar_(change);
            model.with_weights(HashMap::from([(name.to_string(), weight)])).unwrap().identity().unwrap().clone()
        };
        assert!(of(0.0).weights.starts_with("numbers "));
        assert_eq!(of(0.0), of(0.0));
        assert_ne!(of(0.0).weights, of(1e-3).weights);
        // Overwritten in place after it was opened: memory holds what the file does not any more.
        let opened = Model::open(folder.path()).unwrap();
        let file = File::options().write(true).open(folder.path().join("model.safetensors")).unwrap();
        file.write_all_at(b" ", file.metadata().unwrap().len() - 1).unwrap();
        assert!(opened.identity().unwrap().weights.starts_with("numbers "));
    }

    #[test]
    fn a_digest_is_computed_once_until_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "one").unwrap();
        let count = std::cell::Cell::new(0);
        let ask = || {
            let file = File::open(&path).unwrap();
            remembered("test", &path, &file, || {
                count.set(count.get() + 1);
                Ok(count.get().to_string())
            })
            .unwrap()
        };
        // Too fresh to be sure of.
        assert_eq!((ask(), ask()), ("1".into(), "2".into()));
        std::thread::sleep(SETTLED + Duration::from_secs(1));
        assert_eq!((ask(), ask()), ("3".into(), "3".into()));
        std::fs::write(&path, "two").unwrap();
        assert_eq!(ask(), "4");
    }
}
