//! CLIENT PAUSE: the requests of all clients wait, or only those that write, until a time or CLIENT UNPAUSE.
//!
//! A request that waits stays in the input of its connection, and is executed when the pause is over. The clients of a worker
//! go on in the order of their requests. Each of them is read meanwhile, up to the limit of its input: as in Redis, the
//! request of a client that leaves is not executed.
//!
//! No key changes during a pause, except in the transaction that has begun it. A key whose time is over is not found any more,
//! and is removed behind the pause. A command that makes a value in parts, and has begun before the pause, stores the value
//! behind it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use asynchat::Chat;

use super::client::{Blocking, Client};
use super::session::Session;
use super::shared::{Data, lock};
use super::{LONGEST_DELAY, Server};
use crate::commands::{Command, flag};

/// Which requests wait. A pause that is extended has the greater of both.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Paused {
    #[default]
    None,
    Writes,
    All,
}

#[derive(Default)]
pub struct Pause {
    paused: Paused,
    /// When it is over, in milliseconds since 1970.
    until: i64,
    /// The clients whose requests wait, in the order in which these have come.
    waiting: BTreeMap<u64, Arc<Client>>,
    last_ticket: u64,
}

/// What has to happen behind a pause.
type Later = Box<dyn FnOnce()>;

/// The calls of a worker that wait for the end of a pause.
#[derive(Default)]
pub(super) struct AfterPause(RefCell<Vec<Later>>);

impl Pause {
    #[inline]
    pub fn is_on(&self) -> bool {
        self.paused != Paused::None
    }

    /// How many clients wait.
    pub fn clients(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a request waits for the end. EXEC does if one of its commands does.
    pub fn stops(&self, client: &Client, command: &Command) -> bool {
        let writes = |it: &Command| it.flags & flag::WRITE != 0 || it.name == "publish";
        match self.paused {
            Paused::None => false,
            Paused::All => true,
            Paused::Writes if command.name == "exec" => {
                let transaction = lock(&client.transaction);
                let mut queued = transaction.iter().flat_map(|it| &it.queued);
                queued.any(|(command, _)| writes(command))
            }
            Paused::Writes => writes(command),
        }
    }

    /// A client has left, and waits no longer.
    pub fn leave(&mut self, client: &Client) {
        if client.blocking.load() == Blocking::OnPause {
            self.waiting.remove(&client.pause_ticket.load());
        }
    }
}

impl Data {
    /// Lets the request of a client wait, which has this connection.
    pub fn postpone(&mut self, client: &Arc<Client>, chat: &Chat) {
        let pause = &mut self.pause;
        pause.last_ticket += 1;
        client.pause_ticket.store(pause.last_ticket);
        pause.waiting.insert(pause.last_ticket, Arc::clone(client));
        client.blocking.store(Blocking::OnPause);
        client.apply_timeout(chat, self.config.timeout);
    }
}

impl Server {
    /// Begins a pause, or extends it. This worker ends it at that time.
    pub fn pause(&self, data: &mut Data, paused: Paused, until: i64) {
        let pause = &mut data.pause;
        pause.paused = pause.paused.max(paused);
        pause.until = pause.until.max(until);
        if pause.until <= self.now() {
            return self.end_pause(data);
        }
        let until = pause.until;
        data.keyspace.set_static(true);
        self.schedule_end_of_pause(until);
    }

    /// The requests that have waited are executed in the next turns.
    pub fn end_pause(&self, data: &mut Data) {
        data.pause.paused = Paused::None;
        data.pause.until = 0;
        data.keyspace.set_static(false);
        for client in std::mem::take(&mut data.pause.waiting).into_values() {
            client.post(Session::end_pause);
        }
        for worker in &data.workers {
            worker.post(Server::run_after_pause);
        }
        self.schedule_expiry(data.keyspace.next_expiry());
    }

    fn schedule_end_of_pause(&self, until: i64) {
        if let Some(timer) = self.pause_timer.take() {
            asynchat::cancel(timer);
        }
        let delay = until.saturating_sub(self.now()).clamp(1, LONGEST_DELAY);
        let this = self.this.clone();
        let timer = asynchat::call_later(Duration::from_millis(delay as u64), move || {
            if let Some(server) = this.upgrade() {
                server.end_due_pause();
            }
        });
        self.pause_timer.set(Some(timer));
    }

    /// Ends the pause if its time is over. It may have been extended, or the clock was set back.
    fn end_due_pause(&self) {
        self.pause_timer.set(None);
        let data = &mut *self.shared.lock();
        if !data.pause.is_on() {
            return;
        }
        if data.pause.until <= self.now() {
            self.end_pause(data);
        } else {
            self.schedule_end_of_pause(data.pause.until);
        }
    }

    /// Calls this on this worker when the pause is over.
    pub fn call_after_pause(self: &Rc<Self>, call: impl FnOnce() + 'static) {
        self.after_pause.0.borrow_mut().push(Box::new(call));
    }

    fn run_after_pause(&self) {
        let calls = self.after_pause.0.take();
        calls.into_iter().for_each(|call| call());
    }
}

impl Session {
    /// The pause is over for which the next request has waited.
    fn end_pause(&mut self) {
        self.client.blocking.store(Blocking::No);
        let timeout = self.server.shared.lock().config.timeout;
        self.client.apply_timeout(&self.chat, timeout);
        if !self.client.has_to_wait() {
            self.resume();
        }
    }
}
