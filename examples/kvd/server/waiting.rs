//! Blocked commands: BLPOP and its kind. Clients that wait for the same key are served in the order of their arrival.
//!
//! When a key has received elements, the command of the first client is executed once more, and so on until the
//! elements are used up. The worker that has executed the command which has brought the elements does all of that, so
//! that nothing comes in between. It posts the replies to the connections that have waited.

use std::collections::{BTreeMap, HashMap};
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use asynchat::{Chat, TimerId};

use super::Server;
use super::client::{Blocked, Blocking, Client};
use super::session::{Session, skip_reply};
use super::shared::{Data, lock};
use crate::commands::{Context, Mode, PANICKED, flag};
use crate::resp::reply::{Part, Reply};
use crate::store::text::Text;
use crate::store::value::Value;

/// The clients that wait for each key of a database.
#[derive(Default)]
pub struct Waiting {
    queues: HashMap<(usize, Text), BTreeMap<u64, Arc<Client>>>,
    pub clients: usize,
    last_ticket: u64,
}

impl Waiting {
    /// The first client that waits for a key, from this ticket on.
    fn next(&self, place: &(usize, Text), from: u64) -> Option<(u64, Arc<Client>)> {
        let mut rest = self.queues.get(place)?.range(from..);
        rest.next()
            .map(|(ticket, client)| (*ticket, Arc::clone(client)))
    }
}

/// How a wait ends without an element.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Timeout,
    /// CLIENT UNBLOCK id ERROR.
    Error,
}

const UNBLOCKED: &str = "UNBLOCKED client unblocked via CLIENT UNBLOCK";

/// What a connection has to do when its wait is over.
struct End {
    reply: Vec<Part>,
    has_written: bool,
    written: usize,
    has_taken: bool,
    timer: Option<TimerId>,
}

impl Data {
    /// Makes a client wait, which has this connection. `seconds` of 0 are for ever.
    pub fn block(&mut self, client: &Arc<Client>, chat: &Chat, mut blocked: Blocked, seconds: f64) {
        let waiting = &mut self.waiting;
        waiting.last_ticket += 1;
        blocked.ticket = waiting.last_ticket;
        let database = self.keyspace.database(blocked.database);
        for key in &blocked.keys {
            let queue = waiting
                .queues
                .entry((blocked.database, key.clone()))
                .or_default();
            // A key may be given twice.
            if queue.insert(blocked.ticket, Arc::clone(client)).is_none() {
                database.awaited.entry(key.clone()).or_default().clients += 1;
            }
        }
        waiting.clients += 1;
        if seconds > 0.0 {
            blocked.timer = Some(chat.call_later(Duration::from_secs_f64(seconds)));
        }
        lock(&client.blocked).replace(Box::new(blocked));
        client.blocking.store(Blocking::OnKeys);
        client.apply_timeout(chat, self.config.timeout);
    }

    /// Removes a client from the queues. Returns what it has waited for.
    pub fn leave(&mut self, client: &Client) -> Option<Box<Blocked>> {
        let blocked = lock(&client.blocked).take()?;
        let database = self.keyspace.database(blocked.database);
        for key in &blocked.keys {
            let place = (blocked.database, key.clone());
            let Some(queue) = self.waiting.queues.get_mut(&place) else {
                continue;
            };
            let has_waited = queue.remove(&blocked.ticket).is_some();
            let is_empty = queue.is_empty();
            if has_waited && let Some(awaited) = database.awaited.get_mut(key) {
                awaited.clients -= 1;
                if awaited.clients == 0 {
                    database.awaited.remove(key);
                }
            }
            if is_empty {
                self.waiting.queues.remove(&place);
            }
        }
        self.waiting.clients -= 1;
        Some(blocked)
    }

    /// Ends a wait without an element. Returns whether the client was waiting.
    pub fn unblock(&mut self, client: &Client, outcome: Outcome) -> bool {
        let mut reply = Reply {
            resp3: client.resp3.load(),
            ..Reply::default()
        };
        match outcome {
            Outcome::Error => reply.error(UNBLOCKED),
            Outcome::Timeout => reply.null_array(),
        }
        let has_waited = self.end_wait(client, reply);
        if has_waited && outcome == Outcome::Error {
            self.stats.note_error(UNBLOCKED);
        }
        has_waited
    }

    /// Ends a wait with this reply. Returns whether the client was waiting.
    fn end_wait(&mut self, client: &Client, reply: Reply) -> bool {
        let Some(blocked) = self.leave(client) else {
            return false;
        };
        end_wait(client, reply, blocked.timer);
        true
    }
}

/// Lets the connection of a client that has waited continue, behind this reply.
pub fn end_wait(client: &Client, mut reply: Reply, timer: Option<TimerId>) {
    let end = End {
        reply: reply.take_parts(),
        has_written: reply.has_written,
        written: reply.written,
        has_taken: reply.has_taken,
        timer,
    };
    client.post(|session| session.end_wait(end));
}

impl Server {
    /// Serves the clients that wait for keys which have received elements, from this client.
    #[inline]
    pub fn serve_ready(self: &Rc<Self>, chat: &Chat, data: &mut Data, by: u64) {
        if data.waiting.clients > 0 {
            if data.tracking.is_on() {
                data.queue_touched(Some(by));
            }
            self.serve_waiting(chat, data);
            self.invalidate(data, None);
        }
    }

    #[cold]
    fn serve_waiting(self: &Rc<Self>, chat: &Chat, data: &mut Data) {
        // Serving BLMOVE may make another key ready.
        while let Some(place) = data.keyspace.take_ready() {
            let (number, key) = (place.0, place.1.as_bytes());
            let mut from = 0;
            loop {
                // Who waits for another type goes on to wait.
                let group = match data.keyspace.database(number).find(key) {
                    Some(Value::List(_)) => "list",
                    Some(Value::Sorted(_)) => "sorted-set",
                    _ => break,
                };
                let Some((ticket, client)) = data.waiting.next(&place, from) else {
                    break;
                };
                from = ticket + 1;
                self.serve_one(chat, data, &client, key, group);
                if data.tracking.is_on() {
                    data.queue_touched(Some(client.id));
                }
            }
        }
    }

    /// Executes the command of a client that waits, if it is of this group. A client whose connection ends takes no element:
    /// nobody would get it.
    fn serve_one(
        self: &Rc<Self>,
        chat: &Chat,
        data: &mut Data,
        client: &Arc<Client>,
        ready: &[u8],
        group: &str,
    ) {
        if client.closes.load() {
            return;
        }
        let Some(blocked) = lock(&client.blocked).take() else {
            return;
        };
        let mut reply = Reply {
            resp3: client.resp3.load(),
            has_written: true,
            has_taken: blocked.command.flags & flag::TAKES != 0,
            ..Reply::default()
        };
        let mut outcome = Ok(());
        if blocked.command.group == group {
            let mut context = Context {
                server: self,
                client,
                chat,
                data,
                reply: &mut reply,
                mode: Mode::Serving(ready),
            };
            let run = || (blocked.command.run)(&mut context, blocked.args.args());
            // The command belongs to this client, so a panic ends its connection, and not the one that has sent the
            // element.
            outcome = panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
                client.closes.store(true);
                Err(PANICKED)
            });
        }
        lock(&client.blocked).replace(blocked);
        reply.written = data.keyspace.take_written();
        if outcome.is_ok() && reply.is_empty() {
            return;
        }
        // The target of BLMOVE may have a value of another type.
        if let Err(failure) = outcome {
            drop(reply.take_parts());
            data.stats.note_error(&failure.0);
            reply.error(&failure.0);
        }
        self.note_write();
        data.end_wait(client, reply);
    }
}

impl Session {
    /// Takes the client out of the queues before its connection closes: another worker may still have elements for it.
    /// Returns whether a reply with elements is under way. Then the connection closes behind that.
    pub fn leave_queues(&self) -> bool {
        let is_waiting = self.client.blocking.load() == Blocking::OnKeys;
        let is_served = is_waiting && self.server.shared.lock().leave(&self.client).is_none();
        if is_served {
            self.client.closes.store(true);
        }
        is_served
    }

    /// The wait of the client is over.
    fn end_wait(&mut self, end: End) {
        let mut reply = Reply {
            parts: end.reply,
            has_written: end.has_written,
            written: end.written,
            has_taken: end.has_taken,
            ..Reply::default()
        };
        skip_reply(&self.client, &mut reply);
        if let Some(timer) = end.timer {
            self.chat.cancel(timer);
        }
        self.send(&mut reply);
        self.client.blocking.store(Blocking::No);
        let timeout = {
            let data = &mut *self.server.shared.lock();
            data.release_command(&self.client);
            data.config.timeout
        };
        self.client.apply_timeout(&self.chat, timeout);
        if !self.client.has_to_wait() {
            self.resume();
        }
    }
}
