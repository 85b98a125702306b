//! What the cache holds, compared with the checksums that the hub published.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cache::Cache;
use super::checksum::{Hash, is_checksum};
use crate::error::{Error, Result};
use crate::file;
use crate::interrupt;
use crate::progress::Progress;

const PIECE: usize = 1 << 20;
const MEGABYTE: u64 = 1_000_000;
/// What has been seen whole, by the name of its blob.
const SEEN: &str = "ia2-verified.json";

/// One file of a snapshot.
pub(crate) struct Verified {
    pub(crate) name: String,
    /// In bytes.
    pub(crate) size: u64,
    /// As the hub published it; `None` for a file that is no link to a blob.
    pub(crate) checksum: Option<String>,
    /// Whether its bytes were read this time.
    pub(crate) read: bool,
}

/// By what a file that was seen whole is known again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Mark {
    size: u64,
    /// Time of change: seconds since 1970, and nanoseconds.
    changed: (i64, i64),
    inode: u64,
}

impl Mark {
    fn of(metadata: &Metadata) -> Self {
        // Not the time of modification, which programs may set as they like.
        Self { size: metadata.len(), changed: (metadata.ctime(), metadata.ctime_nsec()), inode: metadata.ino() }
    }
}

/// Every file of a snapshot's folder, or the one file of it that `place` is; an error names the first that is not what the hub published.
pub(crate) fn verify(place: &Path) -> Result<Vec<Verified>> {
    // A file is a link into the cache's contents: where it leads, nothing tells the snapshot.
    let alone = place.file_name().and_then(|name| name.to_str()).filter(|_| place.is_file());
    let folder = if alone.is_some() { place.parent().unwrap_or(place) } else { place };
    let folder = &folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let cache = Cache::of_snapshot(folder).ok_or_else(|| {
        Error::input(format!(
            "`{}` is no model's snapshot in the hub's cache: there are no checksums to compare its files with",
            folder.display()
        ))
    })?;
    let memory = cache.locks().join(SEEN);
    // It only saves time: one that cannot be read is as one that is not there.
    let mut seen: BTreeMap<String, Mark> =
        file::read_text(&memory).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let (mut files, before) = (Vec::new(), seen.clone());
    let names = match alone {
        Some(name) => vec![name.to_owned()],
        None => names(folder)?,
    };
    let outcome = names.into_iter().try_for_each(|name| {
        files.push(one(&cache, folder, name, &mut seen)?);
        Ok(())
    });
    if seen != before
        && let Ok(text) = serde_json::to_string(&seen)
    {
        // So does writing it: the cache may belong to another user.
        let _ = file::folder(cache.locks()).and_then(|()| file::write(&memory, text.as_bytes()));
    }
    outcome.map(|()| files)
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let unreadable = |error| Error::file(format!("cannot read the folder `{}`", folder.display())).because(error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        // A link that leads nowhere is one of the names, too.
        if !entry.path().is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn one(cache: &Cache, folder: &Path, name: String, seen: &mut BTreeMap<String, Mark>) -> Result<Verified> {
    let place = folder.join(&name);
    let gone = |error| {
        Error::file(format!(
            "`{name}` in `{}` leads to nothing: open the model again with the feature `hub`, or in Python",
            folder.display()
        ))
        .because(error)
    };
    let checksum = blob(cache, &place);
    let metadata = place.metadata().map_err(gone)?;
    let mark = Mark::of(&metadata);
    let Some(checksum) = checksum else { return Ok(Verified { name, size: mark.size, checksum: None, read: false }) };
    let blob = cache.blobs().join(&checksum);
    if seen.get(&checksum) == Some(&mark) {
        return Ok(Verified { name, size: mark.size, checksum: Some(checksum), read: false });
    }
    seen.remove(&checksum);
    let found = if metadata.is_file() { digest(&blob, &name, &checksum, mark.size)? } else { "none: it is no file".to_owned() };
    if found != checksum {
        return Err(Error::file(format!(
            "`{name}` is not what the hub published: its checksum is {found}, not {checksum}; remove `{}` and open the model again",
            blob.display()
        )));
    }
    seen.insert(checksum.clone(), mark.clone());
    Ok(Verified { name, size: mark.size, checksum: Some(checksum), read: true })
}

/// The checksum that a snapshot's file is published under: it is a link to the blob of that name.
fn blob(cache: &Cache, place: &Path) -> Option<String> {
    let target: PathBuf = std::fs::read_link(place).ok()?;
    let checksum = target.file_name()?.to_str()?.to_owned();
    let same = |path: &Path| std::fs::canonicalize(path).ok();
    let beside = place.parent()?.join(target.parent()?);
    (is_checksum(&checksum) && same(&beside).is_some() && same(&beside) == same(&cache.blobs())).then_some(checksum)
}

fn digest(blob: &Path, name: &str, checksum: &str, size: u64) -> Result<String> {
    let unreadable = |error| Error::file(format!("cannot read `{}`", blob.display())).because(error);
    let mut file = file::open(blob).map_err(unreadable)?;
    let (mut hash, mut piece) = (Hash::new(checksum, size), vec![0; PIECE]);
    let mut progress = Progress::new("verifying (MB)", size / MEGABYTE);
    let mut done = 0;
    while done < size {
        interrupt::at(done / MEGABYTE, size / MEGABYTE, "MB")?;
        let read = file.read(&mut piece).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        hash.update(&piece[..read]);
        let before = done / MEGABYTE;
        done += read as u64;
        progress.tick(done / MEGABYTE - before, name);
    }
    progress.finish();
    Ok(hash.hexadecimal())
}
