//! Blocked commands: BLPOP and its kind. Clients that wait for the same key are served in the order of their arrival.
//!
//! When a key has received elements, the command of the first client is executed once more, and so on until the
//! elements are used up.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;

use super::Server;
use super::client::{Blocked, Client};
use super::session::Session;
use crate::commands::{Context, Mode};
use crate::resp::reply::Reply;
use crate::store::keyspace::Keyspace;
use crate::store::text::Text;
use crate::store::value::Value;

/// The clients that wait for each key of a database.
#[derive(Default)]
pub struct Waiting {
    queues: HashMap<(usize, Text), BTreeMap<u64, Rc<Client>>>,
    pub clients: usize,
    last_ticket: u64,
}

impl Waiting {
    /// The first client that waits for a key, from this ticket on.
    fn next(&self, place: &(usize, Text), from: u64) -> Option<(u64, Rc<Client>)> {
        let mut rest = self.queues.get(place)?.range(from..);
        rest.next()
            .map(|(ticket, client)| (*ticket, Rc::clone(client)))
    }
}

/// How a wait ends without an element.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Timeout,
    /// CLIENT UNBLOCK id ERROR.
    Error,
}

impl Server {
    /// Makes a client wait. `seconds` of 0 are for ever.
    pub fn block(
        &self,
        client: &Rc<Client>,
        keyspace: &mut Keyspace,
        mut blocked: Blocked,
        seconds: f64,
    ) {
        let mut waiting = self.waiting.borrow_mut();
        waiting.last_ticket += 1;
        blocked.ticket = waiting.last_ticket;
        let database = keyspace.database(blocked.database);
        for key in &blocked.keys {
            let queue = waiting
                .queues
                .entry((blocked.database, key.clone()))
                .or_default();
            // A key may be given twice.
            if queue.insert(blocked.ticket, Rc::clone(client)).is_none() {
                database.awaited.entry(key.clone()).or_default().clients += 1;
            }
        }
        waiting.clients += 1;
        if seconds > 0.0 {
            blocked.timer = Some(client.chat.call_later(Duration::from_secs_f64(seconds)));
        }
        client.blocked.replace(Some(Box::new(blocked)));
        self.apply_timeout(client);
    }

    /// Removes a client from the queues. Returns what it has waited for.
    fn leave(&self, client: &Client, keyspace: &mut Keyspace) -> Option<Box<Blocked>> {
        let blocked = client.blocked.take()?;
        let mut waiting = self.waiting.borrow_mut();
        let database = keyspace.database(blocked.database);
        for key in &blocked.keys {
            let place = (blocked.database, key.clone());
            let Some(queue) = waiting.queues.get_mut(&place) else {
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
                waiting.queues.remove(&place);
            }
        }
        waiting.clients -= 1;
        self.apply_timeout(client);
        if let Some(timer) = blocked.timer {
            client.chat.cancel(timer);
        }
        Some(blocked)
    }

    /// A client that waits has left.
    pub fn forget_blocked(&self, client: &Client) {
        if client.is_blocked() {
            self.leave(client, &mut self.keyspace.borrow_mut());
        }
    }

    /// Ends a wait without an element. Returns whether the client was waiting.
    pub fn unblock(&self, client: &Rc<Client>, outcome: Outcome) -> bool {
        let blocked = match self.keyspace.try_borrow_mut() {
            Ok(mut keyspace) => self.leave(client, &mut keyspace),
            Err(_) => None,
        };
        self.end_wait(client, blocked.is_some(), outcome)
    }

    /// The same for a command, which uses the keyspace.
    pub fn unblock_in(
        &self,
        client: &Rc<Client>,
        keyspace: &mut Keyspace,
        outcome: Outcome,
    ) -> bool {
        let blocked = self.leave(client, keyspace);
        self.end_wait(client, blocked.is_some(), outcome)
    }

    fn end_wait(&self, client: &Rc<Client>, was_blocked: bool, outcome: Outcome) -> bool {
        if !was_blocked {
            return false;
        }
        let mut reply = Reply {
            resp3: client.resp3.get(),
            ..Reply::default()
        };
        match outcome {
            Outcome::Error => reply.error("UNBLOCKED client unblocked via CLIENT UNBLOCK"),
            Outcome::Timeout => reply.null_array(),
        }
        self.push(client, &mut reply);
        resume(client);
        true
    }

    /// Serves the clients that wait for keys which have received elements.
    #[inline]
    pub fn serve_ready(self: &Rc<Self>, keyspace: &mut Keyspace) {
        if self.waiting.borrow().clients > 0 {
            self.serve_waiting(keyspace);
        }
    }

    #[cold]
    fn serve_waiting(self: &Rc<Self>, keyspace: &mut Keyspace) {
        // Serving BLMOVE may make another key ready.
        while let Some(place) = keyspace.take_ready() {
            let (number, key) = (place.0, place.1.as_bytes());
            let mut from = 0;
            loop {
                // Who waits for another type goes on to wait.
                let group = match keyspace.database(number).find(key) {
                    Some(Value::List(_)) => "list",
                    Some(Value::Sorted(_)) => "sorted-set",
                    _ => break,
                };
                let next = self.waiting.borrow().next(&place, from);
                let Some((ticket, client)) = next else {
                    break;
                };
                from = ticket + 1;
                self.serve_one(&client, keyspace, key, group);
            }
        }
    }

    /// Executes the command of a client that waits, if it is of this group.
    fn serve_one(
        self: &Rc<Self>,
        client: &Rc<Client>,
        keyspace: &mut Keyspace,
        ready: &[u8],
        group: &str,
    ) {
        let Some(blocked) = client.blocked.take() else {
            return;
        };
        let mut reply = Reply {
            resp3: client.resp3.get(),
            has_written: true,
            ..Reply::default()
        };
        let mut outcome = Ok(());
        if blocked.command.group == group {
            let mut context = Context {
                server: self,
                client,
                keyspace,
                reply: &mut reply,
                mode: Mode::Serving(ready),
            };
            outcome = (blocked.command.run)(&mut context, blocked.args.args());
        }
        client.blocked.replace(Some(blocked));
        if outcome.is_ok() && reply.is_empty() {
            return;
        }
        // The target of BLMOVE may have a value of another type.
        if let Err(failure) = outcome {
            reply.error(&failure.0);
        }
        self.leave(client, keyspace);
        self.note_write();
        self.push(client, &mut reply);
        resume(client);
    }
}

/// Lets the session of a client continue, in the next turn.
fn resume(client: &Client) {
    // An error means that the client has left.
    let _ = client.chat.post(|session: &mut Session| {
        session.resume();
        Ok(())
    });
}
