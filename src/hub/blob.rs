//! One file's content: continued where it broke off, checked, and only then given its name.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::cache::Cache;
use super::client::{Client, Entry, Wanted};
use super::refusal::{Failure, Patience, no_answer};
use crate::error::{Error, Result};
use crate::file;
use crate::progress::Progress;

const PIECE: usize = 1 << 20;
/// What is downloaded between two failures for the count of failures to begin anew.
const PROGRESS: u64 = 8 << 20;
const MEGABYTE: u64 = 1_000_000;

/// Megabytes done, for [`Progress`].
pub(super) struct Meter {
    progress: Progress,
    bytes: u64,
}

impl Meter {
    pub(super) fn new(what: &str, bytes: u64) -> Self {
        Self { progress: Progress::new(&format!("{what} (MB)"), (bytes / MEGABYTE).max(1)), bytes: 0 }
    }

    fn add(&mut self, bytes: u64, file: &str) {
        let before = self.bytes / MEGABYTE;
        self.bytes += bytes;
        self.progress.tick(self.bytes / MEGABYTE - before, file);
    }

    pub(super) fn finish(self) {
        self.progress.finish();
    }
}

/// True if the blob is there.
pub(super) fn is_there(cache: &Cache, entry: &Entry) -> bool {
    // It takes its name only when it is whole; the length sees files that were cut since.
    cache.blob(&entry.checksum).metadata().is_ok_and(|blob| blob.len() == entry.size)
}

/// The bytes of a blob that are still to be downloaded.
pub(super) fn left(cache: &Cache, entry: &Entry) -> u64 {
    let kept = partial(&cache.blob(&entry.checksum)).metadata().map_or(0, |partial| partial.len());
    if is_there(cache, entry) { 0 } else { entry.size.saturating_sub(kept) }
}

/// Where a download grows. A name of our own: Python's partial files may have holes, and ours are of no use to it.
fn partial(blob: &Path) -> PathBuf {
    blob.with_extension("ia2.incomplete")
}

/// Downloads a blob into the cache, unless another program does so first.
pub(super) fn fetch(client: &Client, wanted: Wanted, address: &str, entry: &Entry, cache: &Cache, meter: &mut Meter) -> Result<()> {
    let name = wanted.file.unwrap_or_default();
    let blob = cache.blob(&entry.checksum);
    let _lock = lock(&cache.lock(&entry.checksum), name)?;
    if is_there(cache, entry) {
        return Ok(());
    }
    file::folder(blob.parent().unwrap_or(&blob))?;
    let partial = partial(&blob);
    let mut content = Content::open(&partial, entry)?;
    let mut patience = Patience::default();
    let mut mark = content.length;
    while content.length < entry.size {
        match stream(client, wanted, address, &mut content, meter) {
            Ok(()) => {}
            Err(failure) => {
                if content.length >= mark + PROGRESS {
                    mark = content.length;
                    patience.renew();
                }
                patience.after(failure)?;
            }
        }
    }
    let Content { file, hash, .. } = content;
    let found = hash.hexadecimal();
    if found != entry.checksum {
        let removed = std::fs::remove_file(&partial);
        removed.map_err(|error| Error::file(format!("cannot remove {}, which is damaged", partial.display())).because(error))?;
        return Err(Error::file(format!(
            "`{name}` arrived damaged: its checksum is {found}, not {}; what was downloaded is removed: open the model again",
            entry.checksum
        )));
    }
    let named = file.sync_all().and_then(|()| std::fs::rename(&partial, &blob));
    named.map_err(|error| Error::unwritten(&blob, error))
}

/// One connection's worth of content.
fn stream(client: &Client, wanted: Wanted, address: &str, content: &mut Content, meter: &mut Meter) -> std::result::Result<(), Failure> {
    let (answer, continued) = client.get(wanted, address, content.length)?;
    if !continued {
        content.restart().map_err(Failure::Lasting)?;
    }
    let mut body = answer.into_body().into_reader();
    let mut piece = vec![0; PIECE];
    loop {
        let read = match body.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(no_answer(client, wanted, error.into())),
        };
        content.append(&piece[..read]).map_err(Failure::Lasting)?;
        meter.add(read as u64, wanted.file.unwrap_or_default());
    }
    match content.length < content.size {
        // Without a length in its answer, a broken connection looks like an end.
        true => Err(no_answer(client, wanted, std::io::Error::from(ErrorKind::UnexpectedEof).into())),
        false => Ok(()),
    }
}

/// What is downloaded so far, and its checksum.
struct Content<'a> {
    path: &'a Path,
    file: File,
    hash: Hash,
    length: u64,
    size: u64,
    checksum: &'a str,
}

impl<'a> Content<'a> {
    fn open(path: &'a Path, entry: &'a Entry) -> Result<Self> {
        let cannot = |error| Error::unwritten(path, error);
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(cannot)?;
        let mut hash = Hash::new(&entry.checksum, entry.size);
        let mut length = 0;
        let mut piece = vec![0; PIECE];
        loop {
            let read = file.read(&mut piece).map_err(cannot)?;
            if read == 0 || length > entry.size {
                break;
            }
            hash.update(&piece[..read]);
            length += read as u64;
        }
        let mut content = Self { path, file, hash, length, size: entry.size, checksum: &entry.checksum };
        if length > entry.size {
            content.restart()?;
        }
        Ok(content)
    }

    fn restart(&mut self) -> Result<()> {
        if self.length > 0 {
            let cut = self.file.set_len(0);
            cut.map_err(|error| Error::unwritten(self.path, error))?;
        }
        (self.length, self.hash) = (0, Hash::new(self.checksum, self.size));
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.length + bytes.len() as u64 > self.size {
            self.restart()?;
            return Err(Error::file(format!("the server sends more than the {} bytes it announced: look at HF_ENDPOINT", self.size)));
        }
        self.file.write_all(bytes).map_err(|error| {
            let advice = match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                    let left = (self.size - self.length).div_ceil(MEGABYTE);
                    format!("the disk is full: free {left} MB or more, or move the cache (HF_HUB_CACHE), and open the model again; what is downloaded is kept")
                }
                _ => "does its disk work, and is the folder writable?".to_owned(),
            };
            Error::file(format!("cannot write {}: {advice}", self.path.display())).because(error)
        })?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// The two checksums that the hub names content by.
enum Hash {
    Sha256(Sha256),
    /// Git's name of a blob: SHA-1 of a header with the size, and the content.
    Git(Sha1),
}

impl Hash {
    /// The hash that a checksum is of, as its length tells.
    fn new(checksum: &str, size: u64) -> Self {
        match checksum.len() {
            64 => Self::Sha256(Sha256::new()),
            _ => Self::Git(Sha1::new_with_prefix(format!("blob {size}\0"))),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Git(hash) => hash.update(bytes),
        }
    }

    fn hexadecimal(self) -> String {
        match self {
            Self::Sha256(hash) => format!("{:x}", hash.finalize()),
            Self::Git(hash) => format!("{:x}", hash.finalize()),
        }
    }
}

/// Waits until no other program, ours or Python's, downloads the same; the lock ends with the process, however that ends.
fn lock(path: &Path, name: &str) -> Result<File> {
    let cannot = |error| {
        Error::file(format!(
            "cannot lock {}: is the cache's folder writable, and its disk one that knows locks? HF_HUB_CACHE moves it",
            path.display()
        ))
        .because(error)
    };
    file::folder(path.parent().unwrap_or(path))?;
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(cannot)?;
    let mut waiting = Progress::new(&format!("another program downloads {name}; seconds waited:"), 0);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                std::thread::sleep(Duration::from_secs(1));
                waiting.tick(1, "");
            }
            Err(TryLockError::Error(error)) => return Err(cannot(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_sha256sum_and_git() {
        let hash = |checksum: &str| {
            let mut hash = Hash::new(checksum, 6);
            hash.update(b"hel");
            hash.update(b"lo\n");
            hash.hexadecimal()
        };
        // printf 'hello\n' | sha256sum; printf 'hello\n' | git hash-object --stdin
        assert_eq!(hash(&"0".repeat(64)), "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
        assert_eq!(hash(&"0".repeat(40)), "ce013625030ba8dba906f756967f9e9ca394464a");
    }

    #[test]
    fn a_full_disk_says_so() {
        let path = Path::new("/dev/full");
        let (file, checksum) = (OpenOptions::new().write(true).open(path).unwrap(), "0".repeat(64));
        let mut content = Content { path, file, hash: Hash::new(&checksum, 5_000_000), length: 0, size: 5_000_000, checksum: &checksum };
        let error = content.append(b"hello").unwrap_err().to_string();
        for word in ["the disk is full", "free 5 MB", "HF_HUB_CACHE", "what is downloaded is kept"] {
            assert!(error.contains(word), "`{word}` is missing in: {error}");
        }
        assert_eq!(content.length, 0);
    }
}
