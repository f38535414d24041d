//! The memory of results whose replies are not complete: `maxmemory-clients`.
//!
//! SORT, SUNION, KEYS and their kind, and EXEC, make a result as a whole before its reply begins. A client that does not read would
//! keep it for ever, and many of them would use a multiple of the memory of the collection. So all results together have
//! a limit. If it is exceeded, the connection ends whose reply has waited longest for its client: one that reads goes on
//! while others do not read. But a result that alone has more than half of the limit then ends its own connection, so
//! that it does not end all others before. CLIENT NO-EVICT protects a client from both.
//!
//! Redis has these replies in the output of the client. It ends the client that has the most when all together exceed
//! `maxmemory-clients`, and a client that exceeds `client-output-buffer-limit`; by default both are unlimited.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::client::Client;
use super::shared::lock;

pub struct Results {
    limit: AtomicUsize,
    all: Mutex<All>,
}

#[derive(Default)]
struct All {
    /// By when they were used last.
    sizes: BTreeMap<u64, (usize, Arc<Client>)>,
    total: usize,
    last_use: u64,
    /// How many connections were ended.
    evicted: u64,
}

impl Results {
    pub fn new(limit: usize) -> Results {
        Results {
            limit: AtomicUsize::new(limit),
            all: Mutex::default(),
        }
    }

    /// It applies when a result is used the next time.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Relaxed);
    }

    /// The bytes of all results.
    pub fn total(&self) -> usize {
        lock(&self.all).total
    }

    /// How many connections were ended.
    pub fn evicted(&self) -> u64 {
        lock(&self.all).evicted
    }
}

/// The memory of one result. It is given back when this is dropped.
pub struct ResultMemory {
    results: Arc<Results>,
    client: Arc<Client>,
    last_use: Option<u64>,
}

impl ResultMemory {
    pub fn new(results: &Arc<Results>, client: &Arc<Client>) -> ResultMemory {
        ResultMemory {
            results: Arc::clone(results),
            client: Arc::clone(client),
            last_use: None,
        }
    }

    /// The client takes a part of the result, or the result grows. It has so many bytes now. An error ends the connection.
    pub fn note_use(&mut self, size: usize) -> io::Result<()> {
        let all = &mut *lock(&self.results.all);
        if self.last_use.is_some_and(|it| !all.remove(it)) {
            return Err(exceeded());
        }
        all.last_use += 1;
        all.total += size;
        let entry = (size, Arc::clone(&self.client));
        all.sizes.insert(all.last_use, entry);
        self.last_use = Some(all.last_use);
        let limit = self.results.limit.load(Relaxed);
        let may_be_ended = !self.client.no_evict.load();
        if all.total > limit && size > limit / 2 && may_be_ended {
            all.remove(all.last_use);
            all.evicted += 1;
            return Err(exceeded());
        }
        while all.total > limit
            && let Some((last_use, client)) = all.pop_first()
        {
            all.evicted += 1;
            if self.last_use == Some(last_use) {
                return Err(exceeded());
            }
            client.post(|session| session.end_with(&exceeded()));
        }
        Ok(())
    }
}

impl Drop for ResultMemory {
    fn drop(&mut self) {
        if let Some(last_use) = self.last_use {
            lock(&self.results.all).remove(last_use);
        }
    }
}

impl All {
    /// Removes the one that was used longest ago, of those whose clients may be ended.
    fn pop_first(&mut self) -> Option<(u64, Arc<Client>)> {
        let mut all = self.sizes.iter();
        let (last_use, (_, client)) = all.find(|(_, (_, client))| !client.no_evict.load())?;
        let (last_use, client) = (*last_use, Arc::clone(client));
        self.remove(last_use);
        Some((last_use, client))
    }

    /// Returns false if it is not there any more.
    fn remove(&mut self, last_use: u64) -> bool {
        let found = self.sizes.remove(&last_use);
        if let Some((size, _)) = &found {
            self.total -= size;
        }
        found.is_some()
    }
}

fn exceeded() -> io::Error {
    io::Error::other("the results of commands exceed maxmemory-clients")
}
