//! Files: read with errors that name them, written whole or not at all, and changed ones told from those that were saved.

mod misidentified;
mod read;
mod seal;
mod shards;
mod tensors;

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest, Sha256};
use tch::Tensor;
use tempfile::NamedTempFile;

use crate::error::{Error, Result};
use crate::interrupt;
pub(crate) use misidentified::misidentified;
pub(crate) use read::{Holds, PIECE, Source, bytes, open, text};
pub(crate) use seal::{From, broken, holds, json, read_json};
pub(crate) use shards::{gguf_files, is_gguf, numbered_shards};
pub(crate) use tensors::{Head, LENGTH, is_ours, read_tensors, read_values};

/// Makes a folder and those above it.
pub(crate) fn folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|error| Error::unwritten(path, error))
}

pub(crate) fn read_text(path: &Path) -> Result<String> {
    text(path, Holds::Settings).map_err(|error| Error::unread(path, error))
}

/// Removes a file that may not be there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::unwritten(path, error)),
        _ => Ok(()),
    }
}

/// What a file is to hold.
pub(crate) enum Content<'c> {
    /// These bytes.
    Bytes(&'c [u8]),
    /// Tensors and text metadata as a safetensors file with its checksum, one tensor in memory at a time.
    Tensors(&'c [(String, Tensor)], HashMap<String, String>),
}

/// What a file is called until it is whole; hidden, and of a kind that nobody looks for.
const PREFIX: &str = ".ia2-";
const SUFFIX: &str = ".partial";

/// Writes next to the target and renames: a reader sees the old file or the new one, never half of it.
///
/// What a killed process left of its own writes into the folder is removed.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    prepared(path, &Content::Bytes(bytes))?.take_its_place()
}

/// Tensors and text metadata as one safetensors file with its checksum.
pub(crate) fn write_safetensors(path: &Path, tensors: &[(String, Tensor)], metadata: HashMap<String, String>) -> Result<()> {
    prepared(path, &Content::Tensors(tensors, metadata))?.take_its_place()
}

/// The metadata's key of the digests of the other files in a [`replace`].
const COMPANIONS: &str = "ia2_files";

/// Writes the files of one thing, by their names in `folder`: the tensors, which hold digests of the others, and the others, of which the
/// last is the one that every reader asks for first. `stale` are files of what was there before that must not stay next to it.
///
/// None takes its place before all are on the disk. Then, while no other process of this library reads or writes there, the old others go,
/// and the new files come, the last of them last. Whenever the process is killed, whoever looks finds the old thing whole, the new one whole, or
/// one that lacks the file which is asked for first: never halves of two.
pub(crate) fn replace(
    folder: &Path,
    (name, tensors, mut metadata): (&str, &[(String, Tensor)], HashMap<String, String>),
    others: &[(&str, &[u8])],
    stale: &[&str],
) -> Result<()> {
    let digests: std::collections::BTreeMap<&str, String> =
        others.iter().map(|(name, bytes)| (*name, format!("{:x}", Sha256::digest(bytes)))).collect();
    let digests = serde_json::to_string(&digests).map_err(|error| Error::internal("writing JSON").because(error))?;
    metadata.insert(COMPANIONS.into(), digests);
    let mut written = vec![prepared(&folder.join(name), &Content::Tensors(tensors, metadata))?];
    for (name, bytes) in others {
        written.push(prepared(&folder.join(name), &Content::Bytes(bytes))?);
    }
    let _lock = Lock::exclusive(folder)?;
    for name in others.iter().rev().map(|(name, _)| name).chain(stale) {
        remove(&folder.join(name))?;
    }
    written.into_iter().try_for_each(Prepared::take_its_place)
}

/// Refuses a file next to tensors that [`replace`] wrote if it is not the one that was saved with them. `texts` is the tensors' metadata.
pub(crate) fn check_companion(texts: &HashMap<String, String>, path: &Path, bytes: &[u8], remedy: &str) -> Result<()> {
    let Some(digests) = texts.get(COMPANIONS) else { return Ok(()) };
    let digests: Option<HashMap<String, String>> = serde_json::from_str(digests).ok();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // What was put next to it later is nobody's claim.
    let saved = digests.map(|digests| digests.get(name.as_ref()).is_none_or(|digest| *digest == format!("{:x}", Sha256::digest(bytes))));
    match saved {
        Some(true) => Ok(()),
        _ => Err(Error::file(format!(
            "{} is not the file that was saved with the weights next to it: it was edited or damaged, or belongs to another; {remedy}",
            path.display()
        ))),
    }
}

/// A file that is whole and on the disk, but not in its place yet.
struct Prepared {
    path: PathBuf,
    file: NamedTempFile,
}

impl Prepared {
    fn take_its_place(self) -> Result<()> {
        self.file.persist(&self.path).map(drop).map_err(|error| Error::unwritten(&self.path, error.error))
    }
}

fn prepared(path: &Path, content: &Content<'_>) -> Result<Prepared> {
    // What a rename would refuse only after an earlier one has been done.
    if path.is_dir() {
        return Err(Error::file(format!("cannot write {}: a folder has that name; choose another", path.display())));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    remove_leftovers(parent);
    let mut file = partial(parent).map_err(|error| Error::unwritten(path, error))?;
    let whole = match content {
        Content::Bytes(bytes) => file.write_all(bytes),
        Content::Tensors(tensors, metadata) => tensors::Layout::new(tensors, metadata)?.write(file.as_file_mut()),
    };
    let whole = whole.and_then(|()| file.as_file().sync_all());
    // Temporary files are private; these are made to be shared, as any file a program writes.
    let whole = whole.and_then(|()| file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644)));
    whole.map_err(|error| Error::unwritten(path, error))?;
    Ok(Prepared { path: path.to_path_buf(), file })
}

/// A folder that others of this library leave alone meanwhile: those who change the files of one thing, and those who read them. The lock ends
/// with the process, however that ends. Where the disk knows no locks, there is none.
pub(crate) struct Lock(#[allow(dead_code, reason = "held until it is dropped")] Option<File>);

impl Lock {
    /// How long others are waited for: far longer than the largest model takes to be read.
    const PATIENCE: Duration = Duration::from_secs(120);

    /// For reading: many may.
    pub(crate) fn shared(folder: &Path) -> Result<Self> {
        Self::wait(folder, File::try_lock_shared)
    }

    /// For writing: one may, when nobody reads.
    fn exclusive(folder: &Path) -> Result<Self> {
        Self::wait(folder, File::try_lock)
    }

    fn wait(folder: &Path, lock: fn(&File) -> std::result::Result<(), TryLockError>) -> Result<Self> {
        let Ok(file) = File::open(if folder.as_os_str().is_empty() { Path::new(".") } else { folder }) else { return Ok(Self(None)) };
        let began = Instant::now();
        loop {
            interrupt::check()?;
            match lock(&file) {
                Ok(()) => return Ok(Self(Some(file))),
                Err(TryLockError::WouldBlock) if began.elapsed() < Self::PATIENCE => std::thread::sleep(Duration::from_millis(2)),
                Err(TryLockError::WouldBlock) => {
                    let seconds = Self::PATIENCE.as_secs();
                    return Err(Error::file(format!(
                        "another process has held the folder {} for {seconds} s, reading or saving there: end it, or choose another folder",
                        folder.display()
                    )));
                }
                Err(TryLockError::Error(_)) => return Ok(Self(None)),
            }
        }
    }
}

/// A new file that is locked as long as this process writes it: the lock ends with the process, however that ends.
fn partial(folder: &Path) -> std::io::Result<NamedTempFile> {
    loop {
        let file = tempfile::Builder::new().prefix(&format!("{PREFIX}{}-", *KERNEL)).suffix(SUFFIX).tempfile_in(folder)?;
        // Another process may have taken it for a leftover before it was locked. (Some network disks know no locks; there nothing is.)
        let taken = matches!(file.as_file().try_lock(), Err(TryLockError::WouldBlock)) || !file.path().exists();
        if !taken {
            return Ok(file);
        }
    }
}

/// Of the running kernel, in the names of its files: many network disks keep locks to one machine, where another sees none.
static KERNEL: LazyLock<String> = LazyLock::new(|| {
    let boot = text(Path::new("/proc/sys/kernel/random/boot_id"), Holds::Settings).unwrap_or_default();
    format!("{:x}", Sha256::digest(boot.trim()))[..8].to_string()
});
/// What another kernel left is nobody's after this time.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);
/// A folder is looked through not more often than this: one of a large grid has tens of thousands of names.
const TIDY: Duration = Duration::from_secs(60);

/// Removes the files that a process died over; those that are being written are locked. What cannot be removed harms nobody.
fn remove_leftovers(folder: &Path) {
    static LAST: Mutex<Option<HashMap<PathBuf, Instant>>> = Mutex::new(None);
    if let Ok(mut last) = LAST.lock() {
        let last = last.get_or_insert_default();
        last.retain(|_, at| at.elapsed() < TIDY);
        if last.contains_key(folder) {
            return;
        }
        last.insert(folder.to_path_buf(), Instant::now());
    }
    let named = |name: &str| name.starts_with(PREFIX) && name.ends_with(SUFFIX);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.file_name().to_str().is_some_and(named)) {
        let ours = entry.file_name().to_string_lossy()[PREFIX.len()..].starts_with(&*KERNEL);
        let old = || {
            let changed = entry.metadata().and_then(|meta| meta.modified());
            changed.is_ok_and(|changed| SystemTime::now().duration_since(changed).is_ok_and(|age| age > ABANDONED))
        };
        if !ours && !old() {
            continue;
        }
        // Locked until it is gone: whoever has just made it, and not locked it yet, sees one or the other and makes another.
        if let Ok(file) = open(&entry.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A tensor's bytes in their order, wherever it lies.
pub(crate) fn content(tensor: &Tensor) -> Bytes {
    Bytes(tensor.detach().to_device(tch::Device::Cpu).contiguous())
}

/// The bytes of a tensor that is contiguous and in memory; read where they lie, as a copy took longer than their digest.
pub(crate) struct Bytes(Tensor);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        match self.0.numel() * self.0.kind().elt_size_in_bytes() {
            0 => &[],
            // SAFETY: this many bytes of the tensor lie there, and it is borrowed as long as they are.
            bytes => unsafe { std::slice::from_raw_parts(self.0.data_ptr().cast(), bytes) },
        }
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_ref()
    }
}

/// SHA-256 of tensors' bytes, one after the other.
pub(crate) fn digest(tensors: &[&Tensor]) -> String {
    let mut digest = Sha256::new();
    for tensor in tensors {
        digest.update(content(tensor));
    }
    format!("{:x}", digest.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_written_whole_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!((read_text(&path).unwrap().as_str(), names(folder.path())), ("two", vec!["a.json".to_string()]));
        // An error leaves the old file, and nothing else.
        let strange = [("t".to_string(), Tensor::from_slice(&[true]))];
        replace(folder.path(), ("b", &strange, HashMap::new()), &[("a.json", b"three")], &[]).unwrap_err();
        assert_eq!((read_text(&path).unwrap().as_str(), names(folder.path())), ("two", vec!["a.json".to_string()]));
    }

    #[test]
    fn what_a_killed_process_left_goes_with_the_next_write_and_what_is_being_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        let left = partial(folder.path()).unwrap().into_temp_path();
        // As by a kill: the file stays, its lock is gone.
        std::mem::forget(left);
        fs::write(folder.path().join(".ia2-mine"), "of somebody else").unwrap();
        // Of another machine, whose locks this one may not see: it stays while it may be being written.
        let [elsewhere, long_ago] = [".ia2-00000000-a.partial", ".ia2-00000000-b.partial"].map(|name| folder.path().join(name));
        fs::write(&elsewhere, "half").unwrap();
        fs::write(&long_ago, "half").unwrap();
        let two_days = SystemTime::now() - 2 * ABANDONED;
        File::options().write(true).open(&long_ago).unwrap().set_modified(two_days).unwrap();
        let mut under_way = partial(folder.path()).unwrap();
        under_way.write_all(b"half").unwrap();
        write(&folder.path().join("a"), b"one").unwrap();
        let being_written = under_way.path().file_name().unwrap().to_str().unwrap().to_string();
        let mut expected = [".ia2-00000000-a.partial".to_string(), ".ia2-mine".to_string(), being_written, "a".to_string()];
        expected.sort();
        assert_eq!(names(folder.path()), expected);
        under_way.persist(folder.path().join("b")).unwrap();
        assert_eq!(read_text(&folder.path().join("b")).unwrap(), "half");
    }

    #[test]
    fn many_who_write_into_one_folder_leave_each_other_alone() {
        let folder = tempfile::tempdir().unwrap();
        let writer = |name: usize| {
            let path = folder.path().join(format!("{name}.json"));
            (0..150).try_for_each(|round| write(&path, format!("{name} {round}").as_bytes()))
        };
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..6).map(|name| scope.spawn(move || writer(name).map_err(|error| error.to_string()))).collect();
            for writer in writers {
                assert_eq!(writer.join().unwrap(), Ok(()));
            }
        });
        assert_eq!(names(folder.path()).len(), 6);
    }

    #[test]
    fn the_files_of_one_thing_are_those_of_one_writer() {
        let folder = tempfile::tempdir().unwrap();
        let save = |writer: i64| {
            let tensors = [("t".to_string(), Tensor::from_slice(&[writer]))];
            let text = writer.to_string();
            replace(
                folder.path(),
                ("t.safetensors", &tensors, HashMap::new()),
                &[("late.txt", text.as_bytes()), ("first.txt", text.as_bytes())],
                &["old.txt"],
            )
        };
        fs::write(folder.path().join("old.txt"), "of what was there before").unwrap();
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|writer| scope.spawn(move || (0..60).try_for_each(|_| save(writer)).map_err(|error| error.to_string())))
                .collect();
            for _ in 0..200 {
                let _lock = Lock::shared(folder.path()).unwrap();
                let Ok(text) = fs::read_to_string(folder.path().join("first.txt")) else { continue };
                let read = read_tensors(&folder.path().join("t.safetensors"), "").unwrap();
                for name in ["first.txt", "late.txt"] {
                    check_companion(&read.texts, &folder.path().join(name), text.as_bytes(), "").unwrap();
                }
                assert_eq!(i64::try_from(&read.tensors["t"]).unwrap().to_string(), text);
            }
            for writer in writers {
                assert_eq!(writer.join().unwrap(), Ok(()));
            }
        });
        assert_eq!(names(folder.path()), ["first.txt", "late.txt", "t.safetensors"]);
        let read = read_tensors(&folder.path().join("t.safetensors"), "").unwrap();
        let other = check_companion(&read.texts, &folder.path().join("first.txt"), b"9", "save again").unwrap_err();
        assert!(other.to_string().contains("first.txt") && other.to_string().contains("save again"), "{other}");
    }
}
