//! The one error of the crate: what was wrong, where, and what to do.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::Path;

/// `Result` with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// For the server's answer ESTALE.
const STALE: &str = "the network disk has it no more (stale file handle): it was moved, or the disk was mounted anew; open its folder again, or \
                     choose another node";

/// What kind of thing went wrong; ask with [`Error::is_input`] and its siblings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Input,
    File,
    Numeric,
    Torch,
    Internal,
    Interrupted,
}

/// An error that a person can act on. `Display` carries the whole chain of causes, because a notebook cell prints nothing else.
///
/// It is opaque: match on its predicates, not on its text.
///
/// Hooks, objectives and other code of your own return it, too: make one with [`Error::input`], [`Error::file`] or [`Error::numeric`], and
/// say more with [`Error::because`] and [`Error::context`].
///
/// ```
/// use ia2::{Error, Result};
///
/// fn threshold(text: &str) -> Result<f64> {
///     let value: f64 = text.parse().map_err(|cause| Error::input(format!("{text:?} is no number")).because(cause))?;
///     if value.is_finite() { Ok(value) } else { Err(Error::numeric(format!("the threshold is {value}"))) }
/// }
///
/// let error = threshold("1,5").map_err(|error| error.context("reading the settings")).unwrap_err();
/// assert!(error.is_input());
/// assert_eq!(error.to_string(), "reading the settings: \"1,5\" is no number\n  because: invalid float literal");
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), source: None }))
    }

    /// An argument, a setting or data that cannot be used as given. A message says what is wrong, where, and what to do.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(Kind::Input, message)
    }

    /// A file that is missing, unreadable, malformed or cannot be written.
    pub fn file(message: impl Into<String>) -> Self {
        Self::new(Kind::File, message)
    }

    /// A file that cannot be written, for the reason the system gives.
    pub(crate) fn unwritten(path: &Path, error: io::Error) -> Self {
        let remedy = match error.kind() {
            io::ErrorKind::StorageFull => "its disk is full: free some space, or choose another disk",
            io::ErrorKind::QuotaExceeded => "your share of its disk is used up: free some space, or choose another disk",
            io::ErrorKind::FileTooLarge => "it would be larger than this disk, or `ulimit -f`, allows: choose another disk",
            io::ErrorKind::ReadOnlyFilesystem => "its disk can only be read: choose another disk",
            io::ErrorKind::StaleNetworkFileHandle => STALE,
            _ => "is its folder there and writable?",
        };
        Self::file(format!("cannot write {}: {remedy}", path.display())).because(error)
    }

    /// A file that cannot be read, for the reason the system gives.
    pub(crate) fn unread(path: &Path, error: io::Error) -> Self {
        let remedy = match error.kind() {
            io::ErrorKind::StaleNetworkFileHandle => format!(": {STALE}"),
            _ => String::new(),
        };
        Self::file(format!("cannot read {}{remedy}", path.display())).because(error)
    }

    /// Whether the disk, rather than one file, is at fault: it is full, can only be read, or is gone.
    pub(crate) fn is_of_disk(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StaleNetworkFileHandle, StorageFull};
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
            if kind.is_some_and(|kind| matches!(kind, StorageFull | QuotaExceeded | ReadOnlyFilesystem | StaleNetworkFileHandle)) {
                return true;
            }
            cause = error.source();
        }
        false
    }

    /// NaN or infinity where a number is needed.
    pub fn numeric(message: impl Into<String>) -> Self {
        Self::new(Kind::Numeric, message)
    }

    /// libtorch is missing, of the wrong version, or refused an operation.
    pub(crate) fn torch(message: impl Into<String>) -> Self {
        Self::new(Kind::Torch, message)
    }

    /// A panic caught by the crate's guard: a bug of ours.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// A long call was asked to stop, by [`interrupt::check`](crate::interrupt::check).
    pub(crate) fn interrupted(message: impl Into<String>) -> Self {
        Self::new(Kind::Interrupted, message)
    }

    /// Attaches the cause, which is shown below the message. Where that is an [interrupt](crate::interrupt), nothing was wrong, and it is all that is
    /// said.
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let source = source.into();
        if let Some(interrupt) = interrupt_in(source.as_ref()) {
            return Self::interrupted(interrupt.0.message.clone());
        }
        self.0.source = Some(source);
        self
    }

    /// Says what was being done: `context: message`.
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }

    /// True if an argument, a setting or data was at fault.
    pub fn is_input(&self) -> bool {
        self.0.kind == Kind::Input
    }

    /// True if a file was at fault.
    pub fn is_file(&self) -> bool {
        self.0.kind == Kind::File
    }

    /// True if NaN or infinity appeared.
    pub fn is_numeric(&self) -> bool {
        self.0.kind == Kind::Numeric
    }

    /// True if libtorch was at fault.
    pub fn is_torch(&self) -> bool {
        self.0.kind == Kind::Torch
    }

    /// True if this is a bug of the library.
    pub fn is_internal(&self) -> bool {
        self.0.kind == Kind::Internal
    }

    /// True if nothing was wrong: a long call was asked to stop and did ([`interrupt`](crate::interrupt)).
    pub fn is_interrupted(&self) -> bool {
        self.0.kind == Kind::Interrupted
    }
}

/// The interrupt that an error of another library tells of: reading and writing hand it on as one of the system's.
pub(crate) fn interrupt_in<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(|error| error.get_ref()).and_then(|inner| inner.downcast_ref());
        if let Some(found) = error.downcast_ref::<Error>().or(inner).filter(|error| error.is_interrupted()) {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&brief(&self.0.message))?;
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            // A libtorch message carries its C++ stack; the first line is what a person reads.
            let text = error.to_string();
            write!(f, "\n  because: {}", brief(text.lines().next().unwrap_or_default()))?;
            cause = error.source();
        }
        match self.0.kind {
            Kind::Internal => f.write_str("\n  this is a bug in ia2: please report it, with these lines and what `ia2::doctor()` says"),
            _ => Ok(()),
        }
    }
}

/// The longest message that is shown whole. Some hold what they complain of, which may be a name or a pattern of a million letters.
const LONGEST: usize = 4000;

/// The beginning and the end of a text that is too long to be read.
fn brief(text: &str) -> Cow<'_, str> {
    let letters = text.chars().count();
    if letters <= LONGEST {
        return text.into();
    }
    let (start, end): (String, String) = (text.chars().take(LONGEST / 2).collect(), text.chars().skip(letters - LONGEST / 2).collect());
    format!("{start} [... {} letters ...] {end}", letters - 2 * (LONGEST / 2)).into()
}

// `unwrap()` in a test and `?` out of `main` print Debug: show the same readable text.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Self::torch("libtorch refused an operation").because(error)
    }
}

impl From<polars::prelude::PolarsError> for Error {
    fn from(error: polars::prelude::PolarsError) -> Self {
        Self::input("polars refused an operation").because(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_carries_the_chain_and_drops_the_native_stack() {
        let inner = std::io::Error::other("disk on fire\nframe #0: at 0x00");
        let error = Error::file("cannot write `a/b`: make the folder writable").because(inner).context("saving the adapter");
        assert_eq!(error.to_string(), "saving the adapter: cannot write `a/b`: make the folder writable\n  because: disk on fire");
        assert!(error.is_file() && !error.is_input());
        // 28 is ENOSPC, 27 EFBIG, 30 EROFS, 13 EACCES, 122 EDQUOT.
        for (code, words) in [
            (28, "disk is full: free"),
            (27, "larger than"),
            (30, "only be read"),
            (13, "folder there"),
            (122, "share of"),
            (116, "stale file handle"),
        ] {
            let error = Error::unwritten(Path::new("a/b"), io::Error::from_raw_os_error(code));
            assert!(error.is_file() && error.to_string().contains("cannot write a/b: ") && error.to_string().contains(words), "{error}");
        }
        let gone = io::Error::from_raw_os_error(116);
        let error = Error::unread(Path::new("a/b"), gone);
        assert!(error.is_file() && error.is_of_disk() && error.to_string().starts_with("cannot read a/b: the network disk"), "{error}");
        assert!(Error::unwritten(Path::new("a"), io::Error::from_raw_os_error(28)).context("c").is_of_disk());
        assert!(!Error::unread(Path::new("a"), io::Error::from_raw_os_error(2)).is_of_disk());
        let long = Error::input(format!("no `{}`: what to do", "é".repeat(1_000_000))).to_string();
        assert!(
            long.starts_with("no `éé") && long.contains("é [... 9") && long.ends_with("é`: what to do") && long.len() < 10_000,
            "{}",
            long.len()
        );
        let interrupt = || Error::interrupted("interrupted: reading");
        for wrapped in [Error::file("cannot read").because(interrupt()), Error::file("cannot read").because(io::Error::other(interrupt()))]
        {
            assert!(wrapped.is_interrupted() && wrapped.to_string() == "interrupted: reading", "{wrapped}");
        }
        let bug = Error::internal("a value got lost").to_string();
        assert!(bug.starts_with("a value got lost\n  this is a bug in ia2: please report it"), "{bug}");
    }
}
