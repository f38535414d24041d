//! The server: what the sessions of a worker share, how it starts, and what it does between requests.
//!
//! `shared.rs`: what all workers share. `session.rs`: the handler of a connection. `rest.rs`: the input that waits
//! there. `parts.rs`: commands that take several turns. `client.rs`: what others see of it. `output.rs`: the limits of
//! output. `results.rs`: the memory of long replies. `retained.rs`: what else clients retain. `leftovers.rs`: what they
//! leave behind. `pubsub.rs`, `mailbox.rs`: clients that get messages. `tracking/`: clients that keep copies of values.
//! `waiting.rs`: clients that wait for elements. `pause.rs`: clients that are paused.
//! `targets.rs`: commands that wait for others. `tasks.rs`: which of them has its turn. `progress.rs`: what a part of a
//! task returns. `config.rs`, `info.rs`: parameters and figures.

pub mod client;
pub mod config;
pub mod info;
pub mod leftovers;
pub mod mailbox;
pub mod output;
pub mod parts;
pub mod pause;
pub mod progress;
pub mod pubsub;
pub mod rest;
pub mod results;
pub mod retained;
pub mod session;
pub mod shared;
pub mod targets;
mod tasks;
pub mod tracking;
pub mod waiting;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use asynchat::bytes::Bytes;
use asynchat::{Addr, Channel, Chat, Deadlines, Error, Limits, Remote, TimerId};
use client::Client;
use config::Config;
use info::Counts;
use leftovers::Leftovers;
use mailbox::Mailbox;
use pause::AfterPause;
use pubsub::Subscriptions;
use session::{Session, Tools};
use shared::{Shared, Worker};
use targets::WaitingCommand;
use tasks::Tasks;

use crate::commands::Failure;
use crate::disk::journal::Journal;
use crate::disk::writer::Writer;
use crate::resp::reply::Reply;
use crate::store::dropper;
use crate::store::keyspace::Keyspace;

/// How many keys are removed at a time when many expire at once.
const EXPIRED_AT_ONCE: usize = 1000;

/// After so many milliseconds the timer of the key that expires next looks at the clock again. A timer does not notice that
/// the clock was set, nor that the system was suspended.
const LONGEST_DELAY: i64 = 5_000;

/// What the command line says.
pub struct Options {
    pub config: Config,
    pub most_clients: usize,
    /// The time in microseconds since 1970.
    pub clock: fn() -> i64,
    /// The files on disk, and what was in them.
    pub disk: Option<(Writer, Keyspace)>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            config: Config::default(),
            most_clients: 10_000,
            clock: wall_clock,
            disk: None,
        }
    }
}

fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as i64)
}

/// The server on one worker: what its sessions share with each other only.
pub struct Server {
    pub shared: Arc<Shared>,
    /// The number of the worker.
    pub number: usize,
    remote: Remote,
    /// The subscribers of this worker.
    subscriptions: RefCell<Subscriptions>,
    /// Those of clients that have left.
    leftovers: RefCell<Leftovers>,
    /// Messages for them.
    undelivered: RefCell<Mailbox>,
    /// How many of them the requests of this read have published. A message counts once for each subscription.
    deliveries: Cell<usize>,
    /// The commands of clients of this worker that wait for a target.
    waiting_commands: RefCell<HashMap<u64, WaitingCommand>>,
    /// Results that are being made.
    tasks: Tasks,
    /// Taken out while a session uses them.
    tools: Cell<Option<Box<Tools>>>,
    /// What this worker had counted at the last CONFIG RESETSTAT.
    counts_before: Cell<Counts>,
    /// The timer of the key that expires next, and when that is.
    expiry: Cell<Option<(TimerId, i64)>>,
    /// The timer of the end of a pause that a client of this worker has begun.
    pause_timer: Cell<Option<TimerId>>,
    after_pause: AfterPause,
    /// `None` without a disk.
    journal: Option<Journal>,
    /// Itself, for timers.
    this: Weak<Server>,
}

thread_local! {
    static CURRENT: RefCell<Weak<Server>> = const { RefCell::new(Weak::new()) };
}

impl Server {
    /// The server of a worker, which is this thread.
    pub fn new(shared: &Arc<Shared>) -> Result<Rc<Server>, Error> {
        let remote = asynchat::remote()?;
        let mut data = shared.lock();
        let number = data.workers.len();
        data.workers.push(Worker::new(remote.clone()));
        drop(data);
        let server = Rc::new_cyclic(|this| Server {
            shared: Arc::clone(shared),
            number,
            remote,
            subscriptions: RefCell::default(),
            leftovers: RefCell::default(),
            undelivered: RefCell::default(),
            deliveries: Cell::default(),
            waiting_commands: RefCell::default(),
            tasks: Tasks::default(),
            tools: Cell::default(),
            counts_before: Cell::default(),
            expiry: Cell::default(),
            pause_timer: Cell::default(),
            after_pause: AfterPause::default(),
            journal: shared.journal(),
            this: this.clone(),
        });
        CURRENT.set(Rc::downgrade(&server));
        let expiry = shared.lock().keyspace.next_expiry();
        server.schedule_expiry(expiry);
        Ok(server)
    }

    /// The server of this thread, for posts from other workers.
    pub fn current() -> Option<Rc<Server>> {
        CURRENT.with_borrow(Weak::upgrade)
    }

    /// Listens on this thread's loop.
    pub fn serve(self: &Rc<Self>, listen: &str) -> Result<Channel, Error> {
        let server = Rc::clone(self);
        let factory = move |chat| Session::new(&server, chat);
        self.listener(listen).listen(factory)
    }

    /// Listens together with the other workers.
    pub fn serve_with(
        self: &Rc<Self>,
        worker: &asynchat::Worker,
        listen: &str,
    ) -> Result<Addr, Error> {
        let server = Rc::clone(self);
        let factory = move |chat| Session::new(&server, chat);
        worker.listen(self.listener(listen), factory)
    }

    fn listener(&self, listen: &str) -> asynchat::Server {
        let limits = Limits::default()
            .connections(self.shared.most_clients)
            .per_address(Limits::UNLIMITED)
            // Several publishers send a subscriber more in a turn than one of them sends to the server. Without this, the
            // output of a subscriber that reads everything would grow to its limit. In Redis the ratio is the same.
            .turn_write(4 * Limits::default().turn_read)
            // `output.rs` has limits of its own.
            .output(Limits::UNLIMITED);
        // A client that goes on to send after an error in its protocol is read for up to 15 times as long.
        let deadlines = Deadlines::default().linger(Duration::from_secs(1));
        asynchat::Server::new(listen)
            .limits(limits)
            .deadlines(deadlines)
            .refusal("-ERR max number of clients reached\r\n")
    }

    /// The time in milliseconds since 1970.
    pub fn now(&self) -> i64 {
        (self.shared.clock)() / 1000
    }

    fn add_client(&self, chat: &Chat) -> Arc<Client> {
        let mut data = self.shared.lock();
        data.last_client += 1;
        data.stats.connections += 1;
        let id = data.last_client;
        let is_open = data.config.password.is_empty();
        let client = Arc::new(Client::new(id, self, chat, is_open));
        client.apply_timeout(chat, data.config.timeout);
        data.clients.insert(id, Arc::clone(&client));
        client
    }

    fn remove_client(&self, client: &Client, chat: &Chat) {
        let mut data = self.shared.lock();
        data.clients.remove(&client.id);
        data.leave(client);
        data.pause.leave(client);
        // A command that is executed in parts ends.
        client.closes.store(true);
        let command = self.leave_target(&mut data, client.id);
        data.untrack(client);
        data.release_all(client);
        self.unwatch(&mut data, client);
        self.leave_subscriptions(&mut data, client, chat);
        drop(data);
        drop(command);
        // After a panic there may be messages that its requests have published.
        self.deliver();
        dropper::drop_later(shared::lock(&client.transaction).take());
    }

    /// Why a client is refused, if it is: a server without a password, which listens beyond loopback by mistake,
    /// must not be open to everybody.
    fn refusal(&self, chat: &Chat) -> Option<Bytes> {
        let config = &self.shared.lock().config;
        let peer = chat.peer_addr()?.ip()?;
        let is_protected = config.protected && config.password.is_empty();
        (is_protected && !peer.is_loopback()).then(|| Bytes::from_static(DENIED.as_bytes()))
    }

    /// Pushes the reply to a request, or several while there is no disk: they may have to wait for the disk. Returns
    /// whether the client's next request has to wait, too.
    #[inline]
    pub fn push(&self, client: &Arc<Client>, chat: &Chat, reply: &mut Reply) -> bool {
        let Some(journal) = &self.journal else {
            reply.flush(chat);
            return false;
        };
        let has_to_wait = journal.push(client, chat, reply);
        if journal.has_delayed() {
            self.schedule_journal(journal);
        }
        has_to_wait
    }

    /// A command changes the keyspace.
    #[inline]
    pub fn note_write(&self) {
        if let Some(journal) = &self.journal {
            journal.note_write();
            self.schedule_journal(journal);
        }
    }

    /// Collects the changes at the end of the turn.
    fn schedule_journal(&self, journal: &Journal) {
        if !journal.schedule() {
            return;
        }
        let this = self.this.clone();
        asynchat::call_soon(move || {
            if let Some(server) = this.upgrade() {
                server.collect_changes();
            }
        });
    }

    /// What follows the requests of a read, before the lock is given back.
    #[inline]
    fn after_requests(&self, keyspace: &mut Keyspace) {
        if let Some(journal) = &self.journal {
            journal.collect_many(keyspace);
        }
        self.schedule_expiry(keyspace.take_new_expiry());
    }

    fn collect_changes(&self) {
        if let Some(journal) = &self.journal {
            journal.collect(&mut self.shared.lock().keyspace);
        }
    }

    /// Whether the keyspace is on disk too.
    pub fn is_durable(&self) -> bool {
        self.journal.is_some()
    }

    /// Whether commands may change the keyspace.
    #[inline]
    pub fn check_writable(&self) -> Result<(), Failure> {
        let refusal = self.journal.as_ref().and_then(Journal::refusal);
        refusal.map_or(Ok(()), |text| Err(text.into()))
    }

    /// Sets the timer for the key that expires next, unless an earlier one is set. The worker that executes a command
    /// sets it for the keys that the command has changed.
    #[inline]
    pub fn schedule_expiry(&self, next: Option<i64>) {
        if let Some(next) = next {
            self.set_expiry_timer(next);
        }
    }

    fn set_expiry_timer(&self, next: i64) {
        match self.expiry.get() {
            Some((_, when)) if when <= next => return,
            Some((timer, _)) => drop(asynchat::cancel(timer)),
            None => {}
        }
        let delay = next.saturating_sub(self.now()).clamp(1, LONGEST_DELAY);
        let delay = Duration::from_millis(delay as u64);
        let this = self.this.clone();
        let timer = asynchat::call_later(delay, move || {
            if let Some(server) = this.upgrade() {
                server.expire_due();
            }
        });
        self.expiry.set(Some((timer, next)));
    }

    /// Removes the keys whose time is over. Many of them take several turns.
    fn expire_due(&self) {
        self.expiry.set(None);
        let next = {
            let data = &mut *self.shared.lock();
            data.keyspace.set_time(self.now());
            data.keyspace.expire_due(EXPIRED_AT_ONCE);
            self.invalidate(data, None);
            data.keyspace.next_expiry()
        };
        self.note_write();
        self.schedule_expiry(next);
    }
}

/// Begins as the text of Redis, which clients recognise.
const DENIED: &str = "-DENIED Redis is running in protected mode because protected mode is enabled and no password is \
set for the default user. In this mode connections are only accepted from the loopback interface. If you want to \
connect from external computers, set a password with --requirepass, or start the server with --protected-mode no.\r\n";
