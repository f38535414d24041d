//! How a client gets invalidations.
//!
//! They are left in the [`Outbox`] of the client that has read the keys, and its session is woken once for all of them. The
//! session pushes them behind its replies. If another connection is to get them, the session queues a hook there, and
//! passes them on when the replies are sent, or after a second: a client that does not read, or has left, must not keep them
//! from others. The next ones wait until that connection has got the last ones.

use std::cell::Cell;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use asynchat::bytes::Bytes;

use crate::resp::message::Encoded;
use crate::resp::reply::Reply;
use crate::server::Server;
use crate::server::client::Client;
use crate::server::session::Session;
use crate::server::shared::lock;

/// An outbox with more invalidations than this, or more bytes, becomes an invalidation of all keys.
const MOST: usize = 10_000;
const MOST_BYTES: usize = 16 << 20;

/// How long invalidations for another connection wait for the replies before them.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Which keys have changed.
#[derive(Clone)]
pub enum Invalid {
    /// These, as they are sent: an array.
    Keys(Bytes),
    All,
}

impl Invalid {
    pub fn keys<'a>(keys: impl ExactSizeIterator<Item = &'a [u8]>) -> Invalid {
        let mut reply = Reply::default();
        reply.array(keys.len());
        keys.for_each(|key| reply.bulk(key));
        Invalid::Keys(reply.buffer.into())
    }

    fn size(&self) -> usize {
        match self {
            Invalid::Keys(keys) => keys.len(),
            Invalid::All => 0,
        }
    }

    pub fn encode(&self, resp3: bool) -> Encoded {
        let keys = match self {
            Invalid::Keys(keys) => Some(keys),
            Invalid::All => None,
        };
        Encoded::invalidation(keys, resp3)
    }
}

/// What the session of a client has not sent yet.
#[derive(Default)]
pub struct Outbox {
    all: Vec<Invalid>,
    size: usize,
    /// Whether the session is about to take them.
    is_woken: bool,
}

impl Outbox {
    pub fn add(&mut self, invalid: Invalid) {
        self.size += invalid.size();
        let is_full = self.all.len() >= MOST || self.size > MOST_BYTES;
        if is_full || matches!(invalid, Invalid::All) {
            self.all = vec![Invalid::All];
            self.size = 0;
        } else {
            self.all.push(invalid);
        }
    }

    pub fn take(&mut self) -> Vec<Invalid> {
        self.size = 0;
        mem::take(&mut self.all)
    }
}

impl Client {
    /// Whether another client gets its invalidations.
    pub fn redirects(&self) -> bool {
        lock(&self.tracker)
            .as_ref()
            .is_some_and(|it| it.settings.redirect.is_some())
    }

    /// Lets the session send an invalidation.
    pub fn invalidate(&self, invalid: Invalid) {
        let mut tracker = lock(&self.tracker);
        let Some(tracker) = &mut *tracker else {
            return;
        };
        tracker.outbox.add(invalid);
        if !mem::replace(&mut tracker.outbox.is_woken, true) {
            self.post(Session::send_invalidations);
        }
    }

    /// Lets the session send invalidations of another client, which tracks nothing any more.
    pub fn invalidate_redirected(&self, all: Vec<Invalid>) {
        if !all.is_empty() {
            self.post(move |session| session.deliver_invalidations(&all, true));
        }
    }
}

/// Invalidations on their way to another connection. When they have arrived, or that has left, the session sends the next ones.
struct Passed(Arc<Client>);

impl Drop for Passed {
    fn drop(&mut self) {
        self.0.post(Session::send_invalidations);
    }
}

impl Session {
    fn send_invalidations(&mut self) {
        let (all, redirect) = {
            let mut tracker = lock(&self.client.tracker);
            let Some(tracker) = &mut *tracker else {
                return;
            };
            let all = tracker.outbox.take();
            // The next ones wait for these only if they go to another connection.
            let redirect = tracker.settings.redirect;
            tracker.outbox.is_woken = redirect.is_some() && !all.is_empty();
            (all, redirect)
        };
        match redirect {
            _ if all.is_empty() => {}
            None => self.deliver_invalidations(&all, false),
            Some(other) => {
                let (server, client) = (Rc::clone(&self.server), Arc::clone(&self.client));
                let pass_on = Cell::new(Some(move || server.pass_on(&client, other, all)));
                let (pass_on, in_time) = (Rc::new(pass_on), Rc::new(Cell::new(None)));
                let (later, pass_on_later) = (Rc::clone(&in_time), Rc::clone(&pass_on));
                let timer = asynchat::call_later(LONGEST_WAIT, move || {
                    later.take();
                    pass_on_later
                        .take()
                        .into_iter()
                        .for_each(|pass_on| pass_on());
                });
                in_time.set(Some(timer));
                self.chat.push_hook(move || {
                    in_time.take().map(asynchat::cancel);
                    pass_on.take().into_iter().for_each(|pass_on| pass_on());
                });
            }
        }
    }

    /// With version 2 of the protocol, only a subscriber can get them, and only those of others.
    fn deliver_invalidations(&self, all: &[Invalid], is_redirected: bool) {
        let resp3 = self.client.resp3.load();
        self.client.gets_invalidations.store(true);
        if resp3 || (is_redirected && self.client.subscription_count.load() > 0) {
            for invalid in all {
                self.client.deliver(&self.chat, &invalid.encode(resp3));
            }
        }
    }

    /// The client that should have got the invalidations has left.
    fn report_broken_redirect(&self, other: u64) {
        if let Some(tracker) = &mut *lock(&self.client.tracker)
            && tracker.settings.redirect == Some(other)
        {
            tracker.is_redirect_broken = true;
        }
        if self.client.resp3.load() {
            let message = Encoded::broken_redirect(other);
            self.client.deliver(&self.chat, &message);
        }
    }
}

impl Server {
    /// Passes invalidations of a client on to another one.
    fn pass_on(&self, client: &Arc<Client>, other: u64, all: Vec<Invalid>) {
        let passed = Passed(Arc::clone(client));
        let other_client = self.shared.lock().clients.get(&other).cloned();
        match other_client {
            Some(receiver) => receiver.post(move |session| {
                session.deliver_invalidations(&all, true);
                drop(passed);
            }),
            None => client.post(move |session| {
                session.report_broken_redirect(other);
                drop(passed);
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outbox_with_too_much_becomes_an_invalidation_of_all_keys() {
        let short = || Invalid::keys([&b"a"[..]].into_iter());
        let long = || Invalid::keys([&[b'x'; MOST_BYTES / 4][..]].into_iter());
        for (number, invalid) in [(MOST, &short as &dyn Fn() -> Invalid), (3, &long)] {
            let mut outbox = Outbox::default();
            (0..number).for_each(|_| outbox.add(invalid()));
            assert_eq!(outbox.all.len(), number);
            outbox.add(invalid());
            let all = outbox.take();
            assert!(matches!(all[..], [Invalid::All]));
            outbox.add(short());
            outbox.add(short());
            assert_eq!(outbox.take().len(), 2);
        }
    }
}
