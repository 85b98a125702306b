//! Claims of cells: names that are made exclusively, once each, and never changed.
//!
//! A cell's claims are numbered. Who makes `CELL.1` has the cell; who finds its holder dead makes `CELL.2`, which only one can. The highest
//! number has the cell, and a holder who comes back to life sees that there is a higher one. Nothing is renamed or removed, so that no moment
//! between looking and taking can be missed: exclusive creation is all that the disk must do in one piece, and network disks do that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::folder::GridFolder;
use crate::error::{Error, Result};
use crate::file::{self, Holds};

/// What the names say of a cell.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// The highest number; 0 where nobody has had it.
    pub number: u64,
    /// The numbers that were given back.
    freed: BTreeSet<u64>,
    /// What was finished of it.
    done: BTreeSet<String>,
}

impl State {
    /// Whether nobody holds it.
    pub(super) fn is_free(&self) -> bool {
        self.number == 0 || self.freed.contains(&self.number)
    }

    pub(super) fn is_done(&self, mark: &str) -> bool {
        self.done.contains(mark)
    }
}

/// The claims of a grid.
#[derive(Clone, Debug)]
pub(super) struct Claims(PathBuf);

impl Claims {
    pub(super) fn new(place: &GridFolder) -> Self {
        Self(place.claims())
    }

    /// Every cell that anybody has had.
    pub(super) fn list(&self) -> Result<BTreeMap<String, State>> {
        let unread = |error| Error::unread(&self.0, error);
        let mut states: BTreeMap<String, State> = BTreeMap::new();
        let entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(states),
            Err(error) => return Err(unread(error)),
        };
        for entry in entries {
            let name = entry.map_err(unread)?.file_name();
            let Some((cell, rest)) = name.to_str().and_then(|name| name.split_once('.')) else { continue };
            // What is none of ours says nothing.
            let mut words = rest.split('.');
            match (words.next(), words.next()) {
                (Some("done"), Some(mark)) => drop(states.entry(cell.into()).or_default().done.insert(mark.into())),
                (Some(number), after) => {
                    let Ok(number) = number.parse::<u64>() else { continue };
                    let state = states.entry(cell.into()).or_default();
                    state.number = state.number.max(number);
                    if after == Some("free") {
                        state.freed.insert(number);
                    }
                }
                (None, _) => {}
            }
        }
        Ok(states)
    }

    /// The worker who made a claim; none where it has not yet written its name there, or never will.
    pub(super) fn holder(&self, cell: &str, number: u64) -> Option<String> {
        let text = file::text(&self.path(cell, number), Holds::Settings).ok()?;
        text.strip_suffix('\n').map(Into::into)
    }

    /// Takes the cell with this number; none where another was quicker.
    pub(super) fn take(&self, cell: &str, number: u64, worker: &str) -> Result<Option<Claim>> {
        let path = self.path(cell, number);
        let Some(mut file) = made(&path)? else { return Ok(None) };
        file.write_all(format!("{worker}\n").as_bytes()).map_err(|error| Error::unwritten(&path, error))?;
        Ok(Some(Claim { claims: self.clone(), cell: cell.into(), number }))
    }

    fn path(&self, cell: &str, number: u64) -> PathBuf {
        self.0.join(format!("{cell}.{number}"))
    }
}

/// A cell that is this worker's.
#[derive(Debug)]
pub(super) struct Claim {
    claims: Claims,
    pub cell: String,
    number: u64,
}

impl Claim {
    /// Whether nobody has taken it over.
    pub(super) fn is_held(&self) -> Result<bool> {
        let next = self.claims.path(&self.cell, self.number + 1);
        next.try_exists().map(|taken| !taken).map_err(|error| Error::unread(&next, error))
    }

    /// Says that this is finished.
    pub(super) fn done(&self, mark: &str) -> Result<()> {
        made(&self.claims.0.join(format!("{}.done.{mark}", self.cell))).map(drop)
    }

    /// Gives it back.
    pub(super) fn free(self) -> Result<()> {
        made(&self.claims.0.join(format!("{}.{}.free", self.cell, self.number))).map(drop)
    }
}

/// A file that was not there before.
fn made(path: &Path) -> Result<Option<File>> {
    match File::create_new(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(Error::unwritten(path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> (tempfile::TempDir, Claims) {
        let folder = tempfile::tempdir().unwrap();
        let place = GridFolder::new(folder.path());
        file::folder(&place.claims()).unwrap();
        (folder, Claims::new(&place))
    }

    #[test]
    fn of_many_who_want_a_cell_one_has_it() {
        let (_folder, claims) = claims();
        for number in 1..40 {
            let taken: Vec<Option<Claim>> = std::thread::scope(|scope| {
                let takers: Vec<_> = (0..8)
                    .map(|worker| {
                        let claims = claims.clone();
                        scope.spawn(move || claims.take("c", number, &format!("w{worker}")).map_err(|error| error.to_string()))
                    })
                    .collect();
                takers.into_iter().map(|taker| taker.join().unwrap().unwrap()).collect()
            });
            assert_eq!(taken.iter().flatten().count(), 1);
            let winner = taken.iter().position(Option::is_some).unwrap();
            assert_eq!(claims.holder("c", number).unwrap(), format!("w{winner}"));
        }
    }

    #[test]
    fn a_holder_knows_that_it_was_taken_over_and_a_finished_part_stays_finished() {
        let (folder, claims) = claims();
        assert_eq!(claims.list().unwrap().len(), 0);
        let first = claims.take("c", 1, "a").unwrap().unwrap();
        let state = |claims: &Claims| claims.list().unwrap().remove("c").unwrap();
        assert!(first.is_held().unwrap() && !state(&claims).is_free());
        let second = claims.take("c", 2, "b").unwrap().unwrap();
        assert!(!first.is_held().unwrap() && second.is_held().unwrap());
        // The old holder gives back what it has lost: the cell is the new one's all the same.
        first.free().unwrap();
        assert!(!state(&claims).is_free());
        second.done("m").unwrap();
        second.free().unwrap();
        let now = state(&claims);
        assert!(now.is_free() && now.is_done("m") && !now.is_done("other") && now.number == 2);
        std::fs::write(GridFolder::new(folder.path()).claims().join("notes.txt"), "").unwrap();
        assert_eq!(state(&claims), now);
        // A holder that died before it wrote its name.
        File::create(GridFolder::new(folder.path()).claims().join("d.1")).unwrap();
        assert_eq!(claims.holder("d", 1), None);
    }
}
