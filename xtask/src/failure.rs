//! One kind of error: what went wrong, and what to do about it.

use std::fmt;

pub type Result<T = ()> = std::result::Result<T, Failure>;

#[derive(Debug)]
pub struct Failure {
    what: String,
    remedy: String,
}

impl Failure {
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Failure {
        Failure { what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  what to do: {}", self.what, self.remedy)
    }
}

/// Gives an input-output error the file it is about.
pub trait At<T> {
    fn at(self, path: &std::path::Path) -> Result<T>;
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, path: &std::path::Path) -> Result<T> {
        self.map_err(|error| {
            let remedy = match error.kind() {
                std::io::ErrorKind::PermissionDenied => "make the folder writable for you, or clone the project where you may write",
                std::io::ErrorKind::StorageFull => "free some disk space (a full set-up takes about 8 GB) and run the command again",
                _ => "look at the path above; deleting .ia2 in the project and running the command again starts set-up anew",
            };
            Failure::new(format!("{}: {error}", path.display()), remedy)
        })
    }
}
