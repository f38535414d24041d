//! Memory that clients retain beside their requests and replies: the keys that they watch, what they have subscribed to,
//! their prefixes of CLIENT TRACKING, their names, and the arguments of commands that take several turns. Of all clients
//! together it has the limit `maxmemory-clients`. If it is exceeded, the client with the most is ended, as in Redis. A client
//! that has sent CLIENT NO-EVICT is not ended, and what it retains does not count.

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;

use super::client::Client;
use super::shared::Data;

impl Data {
    /// A client retains so many more bytes. The caller ends clients that retain too much, when its command is executed.
    pub fn retain(&mut self, client: &Client, bytes: usize) {
        client.retained.fetch_add(bytes);
        self.retained += bytes;
        if client.no_evict.load() {
            self.protected += bytes;
        }
    }

    /// A client retains so many bytes less. One that was ended for them retains none.
    pub fn release(&mut self, client: &Client, bytes: usize) {
        let bytes = bytes.min(client.retained.load());
        client.retained.fetch_sub(bytes);
        self.retained -= bytes;
        if client.no_evict.load() {
            self.protected -= bytes;
        }
    }

    /// A client waits for its command, whose arguments have so many bytes. Many clients may wait for the same key.
    #[cold]
    pub fn retain_command(&mut self, client: &Client, bytes: usize) {
        client.command_size.store(bytes);
        self.retain(client, bytes);
        self.limit_retained();
    }

    /// A client does not wait for its command any more.
    pub fn release_command(&mut self, client: &Client) {
        self.release(client, client.command_size.swap(0));
    }

    pub fn release_all(&mut self, client: &Client) {
        self.release(client, client.retained.load());
    }

    /// CLIENT NO-EVICT. The caller ends clients that retain too much.
    pub fn protect(&mut self, client: &Client, is_protected: bool) {
        let bytes = client.retained.load();
        match (client.no_evict.swap(is_protected), is_protected) {
            (false, true) => self.protected += bytes,
            (true, false) => self.protected -= bytes,
            _ => {}
        }
    }

    /// Ends clients that retain too much.
    pub fn limit_retained(&mut self) {
        if !self.exceeds_limit() {
            return;
        }
        for client in self.largest_first() {
            if !self.exceeds_limit() {
                return;
            }
            self.leave(&client);
            self.release_all(&client);
            self.stats.evicted += 1;
            client.closes.store(true);
            client.post(|session| session.end_with(&Exceeded));
        }
    }

    fn exceeds_limit(&self) -> bool {
        self.retained - self.protected > self.config.results
    }

    /// The clients that retain something and may be ended.
    fn largest_first(&self) -> Vec<Arc<Client>> {
        let clients = self.clients.values();
        let evictable = clients.filter(|it| !it.no_evict.load() && it.retained.load() > 0);
        let mut evictable: Vec<_> = evictable.cloned().collect();
        evictable.sort_by_cached_key(|it| Reverse(it.retained.load()));
        evictable
    }
}

struct Exceeded;

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the memory that clients retain exceeds maxmemory-clients")
    }
}
