//! Numbers for names.

use std::collections::HashMap;
use std::hash::Hash;

/// Things by the order in which they first came.
#[derive(Clone, Debug)]
pub(crate) struct Numbered<T>(HashMap<T, usize>);

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Clone + Eq + Hash> Numbered<T> {
    /// The number of `thing`, a new one where it has none.
    pub(crate) fn of(&mut self, thing: &T) -> usize {
        match self.0.get(thing) {
            Some(number) => *number,
            None => {
                let next = self.0.len();
                self.0.insert(thing.clone(), next);
                next
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
