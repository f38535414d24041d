//! The names in a folder, in order. They are read and sorted in parts, because to sort all at once takes too long, and the
//! parts are merged by a heap: a folder of a hundred thousand files delays no other client.
//!
//! The memory is bounded. Of a larger folder the first names that the system has are sorted and given out, then the next
//! ones: all of them come, in several runs that are each in order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::{OsStr, OsString};
use std::{io, vec};

use crate::tree::{Entry, Listing};

/// How many names a call of [`SortedNames::read`] reads and sorts.
const PART: usize = 500;

/// The most names of a run. They take about a megabyte, and seven if each is as long as possible.
const RUN: usize = 20_000;

pub struct SortedNames {
    listing: Listing,
    parts: Vec<vec::IntoIter<OsString>>,
    /// The next name of each part, with the number of the part.
    next: BinaryHeap<Reverse<(OsString, usize)>>,
    /// How many names may be added to the run.
    room: usize,
    /// Whether the listing has no further names.
    is_read: bool,
}

impl SortedNames {
    pub fn new(listing: Listing) -> SortedNames {
        SortedNames {
            listing,
            parts: Vec::new(),
            next: BinaryHeap::new(),
            room: RUN,
            is_read: false,
        }
    }

    /// This name of a folder alone.
    pub fn only(listing: Listing, name: OsString) -> SortedNames {
        let mut names = SortedNames::new(listing);
        names.add(vec![name]);
        names.is_read = true;
        names
    }

    /// Reads some names. Returns false once there is nothing to read before [`SortedNames::pop`].
    pub fn read(&mut self) -> io::Result<bool> {
        if self.is_read || self.room == 0 {
            return Ok(false);
        }
        let mut names = Vec::with_capacity(PART.min(self.room));
        while names.len() < PART.min(self.room) {
            match self.listing.next_name() {
                Some(name) => names.push(name?),
                None => {
                    self.is_read = true;
                    break;
                }
            }
        }
        self.room -= names.len();
        self.add(names);
        Ok(true)
    }

    /// The next name of the run. After `None` there is another run, unless [`SortedNames::is_at_end`].
    pub fn pop(&mut self) -> Option<OsString> {
        match self.next.pop() {
            Some(Reverse((name, part))) => {
                self.push_next(part);
                Some(name)
            }
            None => {
                self.parts.clear();
                self.room = RUN;
                None
            }
        }
    }

    pub fn is_at_end(&self) -> bool {
        self.is_read && self.next.is_empty()
    }

    /// What has this name now. `None` if it is not served.
    pub fn look(&self, name: &OsStr) -> Option<Entry> {
        self.listing.look(name)
    }

    fn add(&mut self, mut names: Vec<OsString>) {
        names.sort_unstable();
        self.parts.push(names.into_iter());
        self.push_next(self.parts.len() - 1);
    }

    fn push_next(&mut self, part: usize) {
        if let Some(name) = self.parts.get_mut(part).and_then(Iterator::next) {
            self.next.push(Reverse((name, part)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::names::Names;
    use crate::tree::Tree;

    #[test]
    fn all_names_come_in_runs_that_are_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let count = RUN + PART + 10;
        for n in 0..count {
            File::create(folder.path().join(format!("{n:05}"))).unwrap();
        }
        let tree = Tree::open(folder.path(), false).unwrap();
        let listing = tree.list(&Names::default()).unwrap();
        let mut names = SortedNames::new(listing);
        let mut runs = Vec::new();
        while !names.is_at_end() {
            while names.read().unwrap() {}
            let mut run = Vec::new();
            run.extend(std::iter::from_fn(|| names.pop()));
            assert!(run.is_sorted());
            runs.push(run);
        }
        let lengths: Vec<_> = runs.iter().map(Vec::len).collect();
        assert_eq!(lengths, [RUN, PART + 10]);
        let mut all = runs.concat();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
