//! CLIENT TRACKING: clients that keep copies of values learn which keys have changed.
//!
//! A key that a client has read is in a [`Table`](table::Table) with the client, until the key changes. A client in
//! broadcasting mode learns of all keys with its [prefixes](prefixes::Prefixes), whether it has read them or not. The keyspace
//! notes the changed keys. Behind each command, while the lock is still held, they are looked up, and the invalidations go
//! to a queue. The command delivers the first ones to the clients, and the others are delivered a part at a time: a key may
//! have very many readers. What changes a prefix in a turn is one invalidation.
//!
//! A late invalidation does no harm, and one that is too much does not either. None is lost, and none comes before the reply
//! with the old value: it is posted to the connection that has read the key, and pushed there behind the replies. To
//! another connection (REDIRECT) it goes on when these replies are sent. See [`delivery`].
//!
//! All of this has limits. The table gives up keys, with an invalidation, when they are too many. Each tracked read delivers
//! at least as much from the queue as it adds to the table. What waits for one client, or has changed in a turn, becomes an
//! invalidation of all keys when it is too much.
//!
//! A client that has left stays in the table until its keys change, or until there are too many readers.

pub mod delivery;
pub mod prefixes;
pub mod table;

use std::collections::{BTreeSet, VecDeque};
use std::mem;
use std::sync::Arc;

use asynchat::bytes::Bytes;

use super::Server;
use super::client::Client;
use super::shared::{Data, lock};
use crate::store::dropper;
use crate::store::text::Text;
use delivery::{Invalid, Outbox};
use prefixes::{Batch, Prefixes};
use table::{Readers, Table};

/// How many invalidations a command delivers itself, and how many are delivered in a turn later. Each is a system call of its
/// connection in the next turn: this takes about a millisecond.
const BEHIND_COMMAND: usize = 100;
const AT_ONCE: usize = 200;

/// Of which keys a client learns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Of those that it reads.
    #[default]
    Reads,
    /// Of those that it reads with the command behind CLIENT CACHING YES.
    OptIn,
    /// Of those that it reads, but not with the command behind CLIENT CACHING NO.
    OptOut,
    /// Of those with its prefixes.
    Broadcast,
}

/// What CLIENT TRACKING ON sets.
#[derive(Clone, Copy, Default)]
pub struct Settings {
    pub mode: Mode,
    /// The client that gets the invalidations instead.
    pub redirect: Option<u64>,
    /// NOLOOP: whether it does not learn of what it changes itself.
    pub skips_own: bool,
}

/// A client that tracks keys.
#[derive(Default)]
pub struct Tracker {
    pub settings: Settings,
    /// The other client was not there when it should have got an invalidation.
    pub is_redirect_broken: bool,
    /// CLIENT CACHING was sent before the present request.
    pub has_chosen: bool,
    pub prefixes: BTreeSet<Bytes>,
    outbox: Outbox,
}

impl Tracker {
    fn tracks_reads(&self) -> bool {
        match self.settings.mode {
            Mode::Reads => true,
            Mode::OptIn => self.has_chosen,
            Mode::OptOut => !self.has_chosen,
            Mode::Broadcast => false,
        }
    }
}

#[derive(Default)]
pub struct Tracking {
    /// How many clients track keys.
    pub clients: usize,
    pub table: Table,
    pub prefixes: Prefixes,
    queue: VecDeque<Work>,
    /// Whether a worker delivers a part of the queue in its next turn.
    is_scheduled: bool,
}

/// Invalidations that are not delivered yet.
enum Work {
    /// Of a key, which this client has changed, for these clients.
    Key(Invalid, Option<u64>, <Readers as IntoIterator>::IntoIter),
    /// Of the keys with a prefix that have changed, for its clients from this one on.
    Prefix(Batch, u64),
    /// Of all keys, for all clients from the first of these ids to the last one.
    All(u64, u64),
}

impl Tracking {
    #[inline]
    pub fn is_on(&self) -> bool {
        self.clients > 0
    }

    /// Gives everything up. Another thread drops it.
    fn clear(&mut self) {
        let table = mem::take(&mut self.table);
        let (queue, batches) = (mem::take(&mut self.queue), self.prefixes.take_batches());
        if table.len() > 0 || !queue.is_empty() || !batches.is_empty() {
            dropper::drop_elsewhere((table, queue, batches));
        }
    }

    /// The first client that an invalidation of all keys has not reached yet.
    fn next_of_all(&self) -> u64 {
        let next = self.queue.iter().find_map(|work| match work {
            Work::All(next, _) => Some(*next),
            _ => None,
        });
        next.unwrap_or(0)
    }

    fn add_key(&mut self, key: &Text, by: Option<u64>) {
        if let Some(readers) = self.table.remove(key.as_bytes()) {
            let keys = Invalid::keys([key.as_bytes()].into_iter());
            self.queue
                .push_back(Work::Key(keys, by, readers.into_iter()));
        }
    }
}

impl Data {
    /// Turns the tracking of a client on, with these prefixes and those that it has. The caller ends clients that retain
    /// too much.
    pub fn track(&mut self, client: &Client, settings: Settings, prefixes: &[&[u8]]) {
        client.gets_invalidations.store(settings.redirect.is_none());
        let mut tracker = lock(&client.tracker);
        if tracker.is_none() {
            self.tracking.clients += 1;
            self.keyspace.note_touched(true);
        }
        let tracker = tracker.get_or_insert_default();
        tracker.settings = settings;
        tracker.is_redirect_broken = false;
        for prefix in prefixes {
            let prefix = Bytes::copy_from_slice(prefix);
            if tracker.prefixes.insert(prefix.clone()) {
                self.retain(client, prefixes::size_of(&prefix));
                self.tracking.prefixes.add(prefix, client.id);
            }
        }
    }

    /// Turns the tracking of a client off.
    pub fn untrack(&mut self, client: &Client) {
        let Some(mut tracker) = lock(&client.tracker).take() else {
            return;
        };
        client.gets_invalidations.store(false);
        // No reply can be overtaken any more.
        let redirect = tracker.settings.redirect;
        if let Some(receiver) = redirect.and_then(|id| self.clients.get(&id)) {
            receiver.invalidate_redirected(tracker.outbox.take());
        }
        for prefix in &tracker.prefixes {
            self.tracking.prefixes.remove(prefix, client.id);
            self.release(client, prefixes::size_of(prefix));
        }
        self.tracking.clients -= 1;
        if self.tracking.clients == 0 {
            self.keyspace.note_touched(false);
            self.tracking.clear();
        }
    }

    /// The client has read these keys.
    fn note_read<'a>(&mut self, client: &Client, keys: impl Iterator<Item = &'a [u8]>) {
        let clients = &self.clients;
        let tracks = |id| {
            let client: Option<&Arc<Client>> = clients.get(&id);
            client.is_some_and(|it| lock(&it.tracker).is_some())
        };
        for key in keys {
            self.tracking.table.add(key, client.id, tracks);
        }
    }

    /// Queues invalidations for what this client has changed.
    pub fn queue_touched(&mut self, by: Option<u64>) {
        let touched = self.keyspace.take_touched();
        let tracking = &mut self.tracking;
        if touched.all {
            // Clients may remove all keys often. So each time goes once around, from where the last one has come to.
            let from = tracking.next_of_all();
            tracking.clear();
            let works = [
                Work::All(from, self.last_client),
                Work::All(0, from.saturating_sub(1)),
            ];
            tracking.queue.extend(works);
        }
        for key in &touched.expired {
            tracking.add_key(key, None);
            tracking.prefixes.note_change(key, None);
        }
        for key in &touched.keys {
            tracking.add_key(key, by);
            tracking.prefixes.note_change(key, by);
        }
    }

    fn has_too_many_keys(&self) -> bool {
        let table = &self.tracking.table;
        table.len() > self.config.tracked_keys || table.size() > self.config.results
    }

    fn has_queued(&self) -> bool {
        !self.tracking.queue.is_empty() || self.has_too_many_keys()
    }

    /// Delivers about so many invalidations, but not those for this client. Returns these.
    fn deliver_invalidations(&mut self, most: usize, current: Option<u64>) -> Vec<Invalid> {
        let mut own = Outbox::default();
        let mut left = most;
        while left > 0 {
            let Some(mut work) = self.tracking.queue.pop_front() else {
                if !self.has_too_many_keys() {
                    break;
                }
                if let Some(key) = self.tracking.table.any_key() {
                    self.tracking.add_key(&key, None);
                }
                left -= 1;
                continue;
            };
            let is_complete = work.advance(self, &mut left, &mut |client, invalid| {
                if current == Some(client.id) && !client.redirects() {
                    own.add(invalid);
                } else {
                    client.invalidate(invalid);
                }
            });
            if !is_complete {
                self.tracking.queue.push_front(work);
            }
        }
        own.take()
    }
}

impl Work {
    /// Passes at most `left` invalidations to `deliver`, and returns whether there are no more.
    fn advance(
        &mut self,
        data: &Data,
        left: &mut usize,
        deliver: &mut dyn FnMut(&Arc<Client>, Invalid),
    ) -> bool {
        let tracker = |id: u64, is_wanted: &dyn Fn(&Tracker) -> bool| {
            let client = data.clients.get(&id)?;
            let is_wanted = lock(&client.tracker).as_deref().is_some_and(is_wanted);
            is_wanted.then_some(client)
        };
        match self {
            Work::Key(invalid, by, readers) => {
                while *left > 0 {
                    let Some(id) = readers.next() else {
                        return true;
                    };
                    *left -= 1;
                    let is_own = *by == Some(id);
                    let is_wanted = |it: &Tracker| {
                        it.settings.mode != Mode::Broadcast && !(is_own && it.settings.skips_own)
                    };
                    if let Some(client) = tracker(id, &is_wanted) {
                        deliver(client, invalid.clone());
                    }
                }
            }
            Work::Prefix(batch, next) => {
                while *left > 0 {
                    let Some(id) = data.tracking.prefixes.next_client(batch.prefix(), *next) else {
                        return true;
                    };
                    *next = id + 1;
                    *left -= 1;
                    let Some(client) = tracker(id, &|_| true) else {
                        continue;
                    };
                    let skipped = tracker(id, &|it| it.settings.skips_own).map(|it| it.id);
                    let (invalid, cost) = batch.invalid(skipped);
                    *left = left.saturating_sub(cost);
                    invalid.into_iter().for_each(|it| deliver(client, it));
                }
            }
            Work::All(next, last) => {
                while *left > 0 {
                    let mut rest = data.clients.range(*next..*last + 1);
                    let Some((id, _)) = rest.next() else {
                        return true;
                    };
                    *next = id + 1;
                    *left -= 1;
                    if let Some(client) = tracker(*id, &|_| true) {
                        deliver(client, Invalid::All);
                    }
                }
            }
        }
        false
    }
}

impl Server {
    /// Invalidates what has changed, by this client, since the last call.
    pub fn invalidate(&self, data: &mut Data, by: Option<u64>) {
        if data.tracking.is_on() {
            data.queue_touched(by);
            data.deliver_invalidations(BEHIND_COMMAND, None);
            self.schedule_invalidations(data);
        }
    }

    /// The same behind a command of a client, which has read these keys. Returns the invalidations that follow its reply.
    #[must_use]
    pub fn invalidate_behind(
        &self,
        data: &mut Data,
        client: &Client,
        keys: &[&[u8]],
    ) -> Vec<Invalid> {
        // What the command has removed, because its time was over, was removed before it has read.
        data.queue_touched(Some(client.id));
        let tracks_reads = |it: &Tracker| it.tracks_reads();
        if !keys.is_empty() && lock(&client.tracker).as_deref().is_some_and(tracks_reads) {
            data.note_read(client, keys.iter().copied());
        }
        let most = BEHIND_COMMAND.max(2 * keys.len());
        let own = data.deliver_invalidations(most, Some(client.id));
        self.schedule_invalidations(data);
        own
    }

    /// Delivers in the next turn what is left.
    pub fn schedule_invalidations(&self, data: &mut Data) {
        let has_more = data.has_queued() || data.tracking.prefixes.has_changed();
        if !has_more || mem::replace(&mut data.tracking.is_scheduled, true) {
            return;
        }
        let this = self.this.clone();
        asynchat::call_soon(move || {
            if let Some(server) = this.upgrade() {
                server.deliver_part();
            }
        });
    }

    fn deliver_part(&self) {
        let data = &mut *self.shared.lock();
        data.tracking.is_scheduled = false;
        if data.tracking.queue.is_empty() {
            let batches = data.tracking.prefixes.take_batches();
            let works = batches.into_iter().map(|it| Work::Prefix(it, 0));
            data.tracking.queue.extend(works);
        }
        data.deliver_invalidations(AT_ONCE, None);
        dropper::join_freed_blocks();
        self.schedule_invalidations(data);
    }
}
