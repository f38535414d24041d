//! The names in a folder, in order. They are read and sorted in parts, because to sort all at once takes too long, and the
//! parts are merged by a heap: a folder of a hundred thousand files delays no other client.
//!
//! The memory is bounded. Of a larger folder the first names that the system has are sorted and given out, then the next
//! ones: all of them come, in several runs that are each in order. The runs become shorter as more clients receive large
//! folders: each of them can be slow, and an address can have a thousand connections.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::{OsStr, OsString};
use std::{io, vec};

use crate::tree::{Entry, Listing};

#[path = "sorted/pattern.rs"]
mod pattern;

pub use pattern::Pattern;

/// How many names a call of [`SortedNames::read`] reads and sorts.
const PART: usize = 500;

/// A call compares names with a pattern until this may have taken so many steps, of about 5 ns each. With names and a pattern of
/// a usual length this is no limit. But who may write can give long names to many files, and send a pattern that they almost
/// match.
const STEPS: usize = 100_000;

/// The most names of a run. They take about a megabyte, and seven if each is as long as possible.
const RUN: usize = 20_000;

/// The most names of all listings together, except that each listing may have a short run.
const MOST: usize = 200_000;
const SHORT_RUN: usize = 50;

/// A run takes at most this part of what the other listings leave. So a few slow clients do not take it all.
const SHARE: usize = 8;

thread_local! {
    /// The names that all listings have in memory.
    static IN_MEMORY: Cell<usize> = const { Cell::new(0) };
}

pub struct SortedNames {
    listing: Listing,
    /// Other names are left out.
    pattern: Option<Pattern>,
    parts: Vec<vec::IntoIter<OsString>>,
    /// The next name of each part, with the number of the part.
    next: BinaryHeap<Reverse<(OsString, usize)>>,
    /// How many names may be added to the run.
    room: usize,
    /// How many names are in memory.
    count: usize,
    /// Whether the listing has no further names.
    is_read: bool,
}

impl SortedNames {
    pub fn new(listing: Listing) -> SortedNames {
        SortedNames {
            listing,
            pattern: None,
            parts: Vec::new(),
            next: BinaryHeap::new(),
            room: RUN,
            count: 0,
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

    /// The names that match.
    pub fn matching(listing: Listing, pattern: Pattern) -> SortedNames {
        let mut names = SortedNames::new(listing);
        names.pattern = Some(pattern);
        names
    }

    /// Reads some names. Returns false once there is nothing to read before [`SortedNames::pop`].
    pub fn read(&mut self) -> io::Result<bool> {
        let left = MOST.saturating_sub(IN_MEMORY.get() - self.count);
        let longest = (left / SHARE).max(SHORT_RUN);
        self.room = self.room.min(longest.saturating_sub(self.count));
        let part = PART.min(self.room);
        if self.is_read || part == 0 {
            return Ok(false);
        }
        let names = self.read_part(part)?;
        self.room -= names.len();
        self.add(names);
        Ok(true)
    }

    /// Reads at most so many names, and returns those that match.
    fn read_part(&mut self, most: usize) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        let mut steps = 0;
        for _ in 0..most {
            let Some(name) = self.listing.next_name() else {
                self.is_read = true;
                break;
            };
            let name = name?;
            let Some(pattern) = &self.pattern else {
                names.push(name);
                continue;
            };
            steps += pattern.most_steps(&name);
            if pattern.matches(&name) {
                names.push(name);
            }
            if steps >= STEPS {
                break;
            }
        }
        Ok(names)
    }

    /// The next name of the run. After `None` there is another run, unless [`SortedNames::is_at_end`].
    pub fn pop(&mut self) -> Option<OsString> {
        match self.next.pop() {
            Some(Reverse((name, part))) => {
                self.push_next(part);
                self.set_count(self.count - 1);
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
        if names.is_empty() {
            return;
        }
        names.sort_unstable();
        self.set_count(self.count + names.len());
        self.parts.push(names.into_iter());
        self.push_next(self.parts.len() - 1);
    }

    fn set_count(&mut self, count: usize) {
        IN_MEMORY.set(IN_MEMORY.get() - self.count + count);
        self.count = count;
    }

    fn push_next(&mut self, part: usize) {
        if let Some(name) = self.parts.get_mut(part).and_then(Iterator::next) {
            self.next.push(Reverse((name, part)));
        }
    }
}

impl Drop for SortedNames {
    fn drop(&mut self) {
        self.set_count(0);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::names::Names;
    use crate::tree::Tree;

    fn folder(count: usize) -> (tempfile::TempDir, Tree) {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..count {
            File::create(folder.path().join(format!("{n:05}"))).unwrap();
        }
        let tree = Tree::open(folder.path(), false).unwrap();
        (folder, tree)
    }

    /// The clients of a thousand connections that ask for a large folder, and do not read it.
    #[test]
    fn the_memory_of_all_listings_is_bounded() {
        let (_folder, tree) = folder(1500);
        let listing = || SortedNames::new(tree.list(&Names::default()).unwrap());
        let mut listings: Vec<_> = std::iter::repeat_with(listing).take(300).collect();
        let mut read = |names: &mut SortedNames| names.read().unwrap();
        while listings
            .iter_mut()
            .map(&mut read)
            .filter(|more| *more)
            .count()
            > 0
        {}
        let count = IN_MEMORY.get();
        let most = MOST + 300 * SHORT_RUN;
        assert!((MOST / 10 * 9..=most).contains(&count), "{count}");
        // Those that are short have all names, too.
        let mut names = listings.pop().unwrap();
        drop(listings);
        let mut count = 0;
        while !names.is_at_end() {
            while names.read().unwrap() {}
            count += std::iter::from_fn(|| names.pop()).count();
        }
        assert_eq!(count, 1500);
        drop(names);
        assert_eq!(IN_MEMORY.get(), 0);
    }

    /// The clients of ten connections do the same.
    #[test]
    fn a_few_slow_listings_leave_others_in_order() {
        let (_folder, tree) = folder(RUN);
        let listing = || SortedNames::new(tree.list(&Names::default()).unwrap());
        let mut listings: Vec<_> = std::iter::repeat_with(listing).take(100).collect();
        let mut lengths = Vec::new();
        for names in &mut listings {
            while names.read().unwrap() {}
            lengths.push(names.count);
        }
        assert_eq!(lengths[..3], [RUN; 3]);
        assert!(lengths[10] >= 5000, "{lengths:?}");
        assert!(lengths.is_sorted_by(|one, next| one >= next), "{lengths:?}");
        assert_eq!(lengths[99], SHORT_RUN);
    }

    /// A pattern that matches no name, or few, delays no other client either.
    #[test]
    fn the_names_are_compared_with_a_pattern_in_parts() {
        let (folder, tree) = folder(3 * PART + 10);
        let calls = |pattern: &str| {
            let pattern = Pattern::new(pattern.as_bytes()).unwrap();
            let listing = tree.list(&Names::default()).unwrap();
            let mut names = SortedNames::matching(listing, pattern);
            let calls = std::iter::from_fn(|| names.read().unwrap().then_some(())).count();
            let found: Vec<_> = std::iter::from_fn(|| names.pop()).collect();
            assert!(names.is_at_end());
            (calls, found)
        };
        assert_eq!(calls("*x"), (4, vec![]));
        assert_eq!(calls("0?000"), (4, vec!["00000".into(), "01000".into()]));
        // A comparison with a long name that almost matches takes as long as many others.
        let many = 100;
        for n in 0..many {
            File::create(folder.path().join("a".repeat(200) + &n.to_string())).unwrap();
        }
        let (count, found) = calls(&("*".to_owned() + &"a".repeat(120) + "x"));
        assert_eq!(found, [""; 0]);
        assert!(count >= many * 200 * 120 / STEPS, "{count}");
    }

    #[test]
    fn all_names_come_in_runs_that_are_in_order() {
        let count = RUN + PART + 10;
        let (_folder, tree) = folder(count);
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
