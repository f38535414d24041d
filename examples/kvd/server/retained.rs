//! Memory that clients retain beside their requests and replies: the keys that they watch, what they have subscribed to,
//! and their names. Of all clients together it has the limit `maxmemory-clients`. If it is exceeded, the client with the
//! most is ended, as in Redis, unless it has sent CLIENT NO-EVICT.

use std::fmt;
use std::sync::Arc;

use super::client::Client;
use super::shared::Data;

impl Data {
    /// A client retains so many more bytes. The caller ends clients that retain too much, when its command is executed.
    pub fn retain(&mut self, client: &Client, bytes: usize) {
        client.retained.fetch_add(bytes);
        self.retained += bytes;
    }

    /// A client retains so many bytes less. One that was ended for them retains none.
    pub fn release(&mut self, client: &Client, bytes: usize) {
        let bytes = bytes.min(client.retained.load());
        client.retained.fetch_sub(bytes);
        self.retained -= bytes;
    }

    pub fn release_all(&mut self, client: &Client) {
        self.retained -= client.retained.swap(0);
    }

    /// Ends clients that retain too much.
    pub fn limit_retained(&mut self) {
        while self.retained > self.config.results
            && let Some(client) = self.largest()
        {
            self.leave(&client);
            self.release_all(&client);
            self.stats.evicted += 1;
            client.closes.store(true);
            client.post(|session| session.end_with(&Exceeded));
        }
    }

    /// The client that retains most, of those that may be ended.
    fn largest(&self) -> Option<Arc<Client>> {
        let clients = self.clients.values();
        let evictable = clients.filter(|it| !it.no_evict.load() && it.retained.load() > 0);
        evictable.max_by_key(|it| it.retained.load()).cloned()
    }
}

struct Exceeded;

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the memory that clients retain exceeds maxmemory-clients")
    }
}
