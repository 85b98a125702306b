//! Reading: of regular files alone, and no more of them than their kind can hold.
//!
//! A pipe without a writer keeps its reader waiting for ever, `/dev/zero` never ends, and a file of a terabyte of zeros takes no disk.
//! A law in `tests/laws` has every reader of the crate come by here.

use std::fs::{File, FileType, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::interrupt;

/// `O_NONBLOCK` of Linux on x86-64: a pipe that took the place of a file meanwhile is opened without waiting for a writer.
const NO_WAITING: i32 = 0o4000;

/// What a file holds, by which its size has a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// Settings, cards, records, manifests, references: 64 MiB.
    Settings,
    /// A vocabulary or the index of a model's files: 1 GiB.
    Vocabulary,
    /// Rows of a data set: 16 GiB.
    Rows,
    /// Tensors: whatever the memory has room for.
    Tensors,
}

impl Holds {
    fn limit(self) -> Option<u64> {
        match self {
            Self::Settings => Some(64 << 20),
            Self::Vocabulary => Some(1 << 30),
            Self::Rows => Some(16 << 30),
            Self::Tensors => None,
        }
    }
}

/// Opens a regular file for reading, or says what else stands there.
pub(crate) fn open(path: &Path) -> Result<File> {
    // Asked before opening, which some devices take for an order.
    demand_regular(path.metadata()?.file_type())?;
    let file = OpenOptions::new().read(true).custom_flags(NO_WAITING).open(path)?;
    demand_regular(file.metadata()?.file_type())?;
    Ok(file)
}

fn demand_regular(found: FileType) -> Result<()> {
    let what = match found {
        found if found.is_file() => return Ok(()),
        found if found.is_dir() => "a folder",
        found if found.is_fifo() => "a pipe",
        found if found.is_socket() => "a socket",
        _ => "a device",
    };
    Err(Error::new(ErrorKind::InvalidInput, format!("{what} stands there: put a regular file in its place")))
}

/// A file kept open: what is replaced or removed later stays readable here. It is not mapped: what others cut short is an error, and no signal that
/// ends the process.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    file: File,
    size: u64,
    changed: (i64, i64),
}

impl Source {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = open(path)?;
        let meta = file.metadata()?;
        Ok(Self { path: path.to_owned(), file, size: meta.size(), changed: (meta.mtime(), meta.mtime_nsec()) })
    }

    pub(crate) fn try_clone(&self) -> Result<Self> {
        Ok(Self { path: self.path.clone(), file: self.file.try_clone()?, size: self.size, changed: self.changed })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// When it was opened.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Whether nobody has written into the file since it was opened.
    pub(crate) fn is_as_opened(&self) -> bool {
        let now = self.file.metadata().map(|meta| (meta.size(), (meta.mtime(), meta.mtime_nsec())));
        now.is_ok_and(|now| now == (self.size, self.changed))
    }
}

/// Bytes between two questions whether to stop.
pub(crate) const PIECE: usize = 16 << 20;

/// Asks before each piece that is none of a small file.
struct Asking<R>(R);

impl<R: Read> Read for Asking<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let most = buffer.len().min(PIECE);
        // The standard library reads more and more at a time.
        if most > PIECE / 64 {
            interrupt::io()?;
        }
        self.0.read(&mut buffer[..most])
    }
}

/// The whole content of a file.
pub(crate) fn bytes(path: &Path, holds: Holds) -> Result<Vec<u8>> {
    if matches!(holds, Holds::Rows | Holds::Tensors) {
        interrupt::io()?;
    }
    let file = open(path)?;
    let size = file.metadata()?.len();
    // The kernel's own files (`/proc`) say that they are empty.
    let limit = holds.limit().unwrap_or(size);
    let much = |size: u64| {
        let text = format!("it holds {size} bytes or more, and such a file has at most {limit}: take the right file");
        Error::new(ErrorKind::FileTooLarge, text)
    };
    if size > limit {
        return Err(much(size));
    }
    let mut content = Vec::new();
    let room = usize::try_from(size).map(|size| content.try_reserve_exact(size));
    if !matches!(room, Ok(Ok(()))) {
        return Err(Error::new(ErrorKind::OutOfMemory, format!("there is no memory for its {size} bytes")));
    }
    let read = Asking(file.take(limit.saturating_add(1))).read_to_end(&mut content)? as u64;
    if read > limit { Err(much(read)) } else { Ok(content) }
}

/// The whole content of a file of text.
pub(crate) fn text(path: &Path, holds: Holds) -> Result<String> {
    String::from_utf8(bytes(path, holds)?).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        Error::new(ErrorKind::InvalidData, format!("it is no UTF-8 text (byte {place})"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    fn refusal(path: &Path) -> String {
        let error = bytes(path, Holds::Tensors).unwrap_err();
        assert_eq!(open(path).unwrap_err().to_string(), error.to_string());
        error.to_string()
    }

    #[test]
    fn only_regular_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        assert!(Command::new("mkfifo").arg(place("pipe")).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(place("socket")).unwrap();
        std::fs::write(place("file"), "text").unwrap();
        for (link, target) in [("zero", Path::new("/dev/zero")), ("link", &place("file")), ("loop", &place("loop")), ("gone", &place("no"))]
        {
            symlink(target, place(link)).unwrap();
        }
        for (name, what) in [("pipe", "a pipe"), ("socket", "a socket"), ("zero", "a device"), (".", "a folder")] {
            assert_eq!(refusal(&place(name)), format!("{what} stands there: put a regular file in its place"), "{name}");
        }
        assert!(refusal(&place("loop")).contains("symbolic links"));
        assert_eq!(bytes(&place("gone"), Holds::Rows).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(text(&place("link"), Holds::Settings).unwrap(), "text");
        // Sizes that the file system does not know, as the kernel's own files have.
        assert!(text(Path::new("/proc/self/status"), Holds::Settings).unwrap().contains("VmRSS"));
    }

    #[test]
    fn what_no_such_file_can_hold_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sparse");
        let file = File::create(&path).unwrap();
        file.set_len((64 << 20) + 1).unwrap();
        let error = bytes(&path, Holds::Settings).unwrap_err();
        assert!(error.kind() == ErrorKind::FileTooLarge && error.to_string().contains("at most 67108864"), "{error}");
        for holds in [Holds::Settings, Holds::Vocabulary, Holds::Rows, Holds::Tensors] {
            file.set_len(1 << 43).unwrap();
            assert!(matches!(bytes(&path, holds).unwrap_err().kind(), ErrorKind::FileTooLarge | ErrorKind::OutOfMemory), "{holds:?}");
        }
        file.set_len(0).unwrap();
        std::fs::write(&path, [b'a', 0xff]).unwrap();
        assert_eq!(text(&path, Holds::Settings).unwrap_err().to_string(), "it is no UTF-8 text (byte 1)");
    }
}
