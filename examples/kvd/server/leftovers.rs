//! What clients leave behind: keys that they do not watch any more, and the subscriptions of those that have disconnected.
//!
//! A client may have many hundred thousands of them, and each is removed under the lock. So a worker removes some in each
//! turn. WATCH and SUBSCRIBE remove as many as they add, so that the leftovers of a worker do not grow faster than they are
//! removed.

use std::collections::{VecDeque, btree_map, hash_set};
use std::mem;

use asynchat::bytes::Bytes;
use asynchat::{ChannelId, Chat};

use super::Server;
use super::client::{Client, Watched};
use super::pubsub::Kind;
use super::shared::{Data, lock};
use crate::store::dropper;
use crate::store::text::Text;
use crate::store::watch::Watch;

/// How many are removed at a time: this takes less than a millisecond.
const AT_ONCE: usize = 1000;

#[derive(Default)]
pub struct Leftovers {
    all: VecDeque<Leftover>,
    /// Whether some are removed in the next turn.
    is_scheduled: bool,
}

enum Leftover {
    Watches(Watch, hash_set::IntoIter<(usize, Text)>),
    /// Of a connection that has ended.
    Subscriptions(ChannelId, Kind, btree_map::IntoKeys<Bytes, ()>),
}

impl Server {
    /// Ends all watches of a client.
    pub fn unwatch(&self, data: &mut Data, client: &Client) {
        let Watched { watch, keys, size } = mem::take(&mut *lock(&client.watched));
        data.release(client, size);
        if !keys.is_empty() {
            self.leave(data, Leftover::Watches(watch, keys.into_iter()));
        }
    }

    /// Ends the subscriptions of a client that has disconnected.
    pub fn leave_subscriptions(&self, data: &mut Data, client: &Client, chat: &Chat) {
        let names = mem::take(&mut *lock(&client.subscriptions));
        for (kind, names) in [
            (Kind::Channel, names.channels),
            (Kind::Pattern, names.patterns),
        ] {
            if !names.is_empty() {
                let names = names.into_keys();
                self.leave(data, Leftover::Subscriptions(chat.id(), kind, names));
            }
        }
    }

    fn leave(&self, data: &mut Data, leftover: Leftover) {
        self.leftovers.borrow_mut().all.push_back(leftover);
        self.remove_leftovers(data, AT_ONCE);
        self.schedule_leftovers();
    }

    /// Removes at most so many.
    pub fn remove_leftovers(&self, data: &mut Data, most: usize) {
        let all = &mut self.leftovers.borrow_mut().all;
        let mut left = most;
        while let Some(first) = all.front_mut() {
            left -= first.remove(self, data, left);
            if left == 0 {
                return;
            }
            all.pop_front();
        }
    }

    fn schedule_leftovers(&self) {
        let leftovers = &mut *self.leftovers.borrow_mut();
        if leftovers.all.is_empty() || leftovers.is_scheduled {
            return;
        }
        leftovers.is_scheduled = true;
        let this = self.this.clone();
        asynchat::call_soon(move || {
            if let Some(server) = this.upgrade() {
                server.leftovers.borrow_mut().is_scheduled = false;
                server.remove_leftovers(&mut server.shared.lock(), AT_ONCE);
                dropper::join_freed_blocks();
                server.schedule_leftovers();
            }
        });
    }
}

impl Leftover {
    /// Removes at most so many, and returns how many. These are fewer if there are no others.
    fn remove(&mut self, server: &Server, data: &mut Data, most: usize) -> usize {
        let mut count = 0;
        match self {
            Leftover::Watches(watch, keys) => {
                for (number, key) in keys.take(most) {
                    let database = data.keyspace.database(number);
                    database.unwatch(key.as_bytes(), watch);
                    count += 1;
                }
            }
            Leftover::Subscriptions(channel, kind, names) => {
                for name in names.take(most) {
                    server.remove_subscription(data, *channel, *kind, &name);
                    count += 1;
                }
            }
        }
        count
    }
}
