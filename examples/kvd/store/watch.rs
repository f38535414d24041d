//! Watches of keys: they notice that one of their keys changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A watch of any number of keys. Clones are the same watch. The first change of one of the keys breaks it, so that EXEC need
/// not look at each of them (`CLIENT_DIRTY_CAS` of Redis).
#[derive(Clone, Debug, Default)]
pub struct Watch(Arc<AtomicBool>);

impl Watch {
    pub fn break_it(&self) {
        self.0.store(true, Relaxed);
    }

    pub fn is_broken(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// All keys with this beginning and this end.
#[derive(Clone, Debug, Default)]
pub struct Family {
    pub start: Vec<u8>,
    pub end: Vec<u8>,
}

impl Family {
    pub fn contains(&self, key: &[u8]) -> bool {
        let rest = key.strip_prefix(&self.start[..]);
        rest.is_some_and(|rest| rest.ends_with(&self.end))
    }
}

impl PartialEq for Watch {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
