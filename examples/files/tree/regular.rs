//! The files that were regular ones a moment ago. To find the type of a file before it is opened takes a system call, which is a
//! tenth of the time of a request for a small file. These are opened without it.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// How many are remembered. Another file can take the place of one.
const MOST: usize = 256;

/// How long. If a file is replaced by a pipe meanwhile, the pipe is opened, and then refused.
const TIME: Duration = Duration::from_secs(1);

/// The path of a file or a folder.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key(u64);

pub struct Regular {
    hasher: RandomState,
    found: RefCell<Vec<Option<(Key, Instant)>>>,
}

impl Default for Regular {
    fn default() -> Regular {
        Regular {
            hasher: RandomState::new(),
            found: RefCell::new(vec![None; MOST]),
        }
    }
}

impl Regular {
    pub fn key(&self, path: &OsStr) -> Key {
        Key(self.hasher.hash_one(path))
    }

    pub fn key_in(&self, folder: Key, name: &OsStr) -> Key {
        Key(self.hasher.hash_one((folder.0, name)))
    }

    pub fn has(&self, key: Key) -> bool {
        let found = self.found.borrow()[place(key)];
        found.is_some_and(|(it, at)| it == key && asynchat::now() - at < TIME)
    }

    /// A file was opened, and is a regular one.
    pub fn add(&self, key: Key) {
        self.found.borrow_mut()[place(key)] = Some((key, asynchat::now()));
    }
}

fn place(key: Key) -> usize {
    key.0 as usize % MOST
}
