//! The folders that were searched for the parts of uploads, for `parts.rs` and `portable_parts.rs`.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::Hash;

/// So many folders are remembered. Then all are forgotten, and searched again when a file is received for them.
const MOST_FOLDERS: usize = 1000;

/// So many names are read in a folder. The loop waits meanwhile. Behind them parts stay.
pub const MOST_NAMES: usize = 10_000;

/// `K` identifies a folder.
pub struct Searched<K>(RefCell<HashSet<K>>);

impl<K> Default for Searched<K> {
    fn default() -> Self {
        Searched(RefCell::default())
    }
}

impl<K: Eq + Hash> Searched<K> {
    /// Notes a folder. Returns whether it was not noted before.
    pub fn add(&self, folder: K) -> bool {
        let mut searched = self.0.borrow_mut();
        if searched.len() == MOST_FOLDERS && !searched.contains(&folder) {
            searched.clear();
        }
        searched.insert(folder)
    }

    /// A folder that was not searched to its end is searched again.
    #[cfg(unix)]
    pub fn forget(&self, folder: &K) {
        self.0.borrow_mut().remove(folder);
    }
}
