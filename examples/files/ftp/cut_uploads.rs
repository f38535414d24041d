//! The files whose last upload was cut. Nothing of such an upload is kept, so a client that continues it would mix its
//! content with the old one: it asks for the size of the file, which is that of the old one, and sends the rest.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::Metadata;
use std::time::SystemTime;

use crate::names::Names;

/// So many are remembered. Then the oldest is forgotten.
const MOST: usize = 1000;

#[derive(Default)]
pub struct CutUploads(RefCell<VecDeque<CutUpload>>);

struct CutUpload {
    names: Names,
    /// Of the old file.
    version: Version,
}

/// What changes when somebody else replaces the file: a client of HTTP, or another program.
#[derive(PartialEq, Eq)]
struct Version {
    length: u64,
    modified: Option<SystemTime>,
}

impl Version {
    fn of(file: &Metadata) -> Version {
        Version {
            length: file.len(),
            modified: file.modified().ok(),
        }
    }
}

impl CutUploads {
    /// An upload that was to replace this file was cut.
    pub fn add(&self, names: Names, file: &Metadata) {
        self.forget(&names);
        let mut cut = self.0.borrow_mut();
        if cut.len() == MOST {
            cut.pop_front();
        }
        let version = Version::of(file);
        cut.push_back(CutUpload { names, version });
    }

    /// The path leads to another file now, or to none.
    pub fn forget(&self, names: &Names) {
        let mut cut = self.0.borrow_mut();
        cut.retain(|cut| !cut.is_for(names));
    }

    /// Whether the last upload of this file was cut, and the file is still the old one.
    pub fn contain(&self, names: &Names, file: &Metadata) -> bool {
        let cut = self.0.borrow();
        let found = cut.iter().find(|cut| cut.is_for(names));
        found.is_some_and(|cut| cut.version == Version::of(file))
    }
}

impl CutUpload {
    /// Compares the bytes of the paths, which is much faster than to compare their names.
    fn is_for(&self, names: &Names) -> bool {
        self.names.as_path().as_os_str() == names.as_path().as_os_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_too_many_is_forgotten() {
        let file = tempfile::tempfile().unwrap().metadata().unwrap();
        let names = |n: usize| Names::default().join(&n.to_string());
        let cut = CutUploads::default();
        for n in [0, 1].into_iter().chain(0..MOST) {
            cut.add(names(n), &file);
        }
        assert!(cut.contain(&names(0), &file));
        cut.add(names(MOST), &file);
        assert!(!cut.contain(&names(0), &file));
        assert!((1..=MOST).all(|n| cut.contain(&names(n), &file)));
    }
}
