//! One file's content: continued where it broke off, checked, and only then given its name.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cache::Cache;
use super::checksum::Hash;
use super::client::{Client, Entry, Wanted};
use super::pace::Paced;
use super::refusal::{Failure, Patience, no_answer};
use crate::error::{Error, Result};
use crate::file;
use crate::interrupt;
use crate::progress::Progress;

const PIECE: usize = 1 << 20;
/// How often a file that another program replaces is opened again.
const TRIES: usize = 8;
/// What is downloaded between two failures for the count of failures to begin again.
const PROGRESS: u64 = 8 << 20;
const MEGABYTE: u64 = 1_000_000;
/// Downloads below this are counted in kilobytes, so that slow ones are seen to move.
const LARGE: u64 = 1_000 * MEGABYTE;

/// How much is done, for [`Progress`].
pub(super) struct Meter {
    progress: Progress,
    /// Bytes of one unit shown.
    unit: u64,
    total: u64,
    /// What is there of the bytes to be downloaded.
    bytes: u64,
    /// Units shown; what is downloaded again counts once.
    shown: u64,
}

impl Meter {
    pub(super) fn new(what: &str, total: u64) -> Self {
        let (unit, name) = if total < LARGE { (1_000, "kB") } else { (MEGABYTE, "MB") };
        Self { progress: Progress::new(&format!("{what} ({name})"), (total / unit).max(1)), unit, total, bytes: 0, shown: 0 }
    }

    fn add(&mut self, bytes: u64, file: &str) {
        self.bytes += bytes;
        let units = self.bytes.min(self.total) / self.unit;
        self.progress.tick(units.saturating_sub(self.shown), file);
        self.shown = self.shown.max(units);
    }

    /// Bytes that were thrown away, and are to be downloaded again.
    fn lose(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
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
        meter.lose(content.length);
        content.restart().map_err(Failure::Lasting)?;
    }
    let mut body = Paced::new(answer.into_body().into_reader(), client.patience);
    let mut piece = vec![0; PIECE];
    loop {
        interrupt::check().map_err(Failure::Lasting)?;
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
        let mut file = own(path, OpenOptions::new().read(true).append(true).create(true)).map_err(cannot)?;
        let mut hash = Hash::new(&entry.checksum, entry.size);
        let mut length = 0;
        let mut piece = vec![0; PIECE];
        loop {
            let read = file.read(&mut piece).map_err(cannot)?;
            if read == 0 || length > entry.size {
                break;
            }
            interrupt::check()?;
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

/// Opens a file of the cache that only programs like this one make: anything else of its name, a link above all, which would be followed to
/// wherever it leads, is removed first.
fn own(path: &Path, options: &OpenOptions) -> std::io::Result<File> {
    let is_plain = |metadata: &Metadata| metadata.is_file() && metadata.nlink() == 1;
    for _ in 0..TRIES {
        if path.symlink_metadata().is_ok_and(|there| !is_plain(&there)) {
            std::fs::remove_file(path)?;
        }
        let file = options.open(path)?;
        // Another may have taken the name in between.
        let opened = file.metadata()?;
        let same = |there: Metadata| is_plain(&there) && (opened.dev(), opened.ino()) == (there.dev(), there.ino());
        if path.symlink_metadata().is_ok_and(same) {
            return Ok(file);
        }
    }
    Err(std::io::Error::other("another program replaces it again and again"))
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
    let file = own(path, OpenOptions::new().write(true).create(true).truncate(false)).map_err(cannot)?;
    let mut waiting = Progress::new(&format!("another program downloads {name}; seconds waited:"), 0);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                interrupt::check()?;
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
    fn no_more_than_all_is_shown_however_often_it_is_downloaded() {
        let mut meter = Meter::new("downloading", 5_000);
        for _ in 0..5 {
            meter.add(4_000, "");
            meter.lose(4_000);
        }
        assert_eq!((meter.shown, meter.bytes), (4, 0));
        // What an earlier process had downloaded was not counted, and comes again.
        meter.add(9_000, "");
        assert_eq!(meter.shown, 5);
        // What is thrown away was not all counted.
        meter.lose(20_000);
        assert_eq!(meter.bytes, 0);
    }

    #[test]
    fn a_planted_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, place) = (folder.path().join("victim"), folder.path().join("abc.ia2.incomplete"));
        let open = || own(&place, OpenOptions::new().read(true).append(true).create(true));
        std::fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, &place).unwrap();
        open().unwrap().write_all(b"theirs").unwrap();
        assert_eq!(std::fs::read(&victim).unwrap(), b"mine");
        assert_eq!((place.is_symlink(), std::fs::read(&place).unwrap()), (false, b"theirs".to_vec()));
        // One that leads to nothing makes nothing there.
        std::fs::remove_file(&place).unwrap();
        std::os::unix::fs::symlink(folder.path().join("new"), &place).unwrap();
        open().unwrap();
        assert!(!folder.path().join("new").exists());
        // Nor a second name of another file.
        std::fs::remove_file(&place).unwrap();
        std::fs::hard_link(&victim, &place).unwrap();
        open().unwrap().write_all(b"theirs").unwrap();
        assert_eq!(std::fs::read(&victim).unwrap(), b"mine");
        // What is ours is kept.
        open().unwrap().write_all(b"!").unwrap();
        assert_eq!(std::fs::read(&place).unwrap(), b"theirs!");
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
