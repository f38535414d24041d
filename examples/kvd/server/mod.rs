//! The server: what its sessions share, how it starts, and what it does between requests.
//!
//! `session.rs`: the handler of a connection. `client.rs`: what others see of it. `pubsub.rs`, `waiting.rs`: clients
//! that get messages, and clients that wait for elements. `config.rs`, `info.rs`: parameters and figures.

pub mod client;
pub mod config;
pub mod info;
pub mod pubsub;
pub mod session;
pub mod waiting;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use asynchat::bytes::Bytes;
use asynchat::{Channel, Chat, Error, Limits, TimerId};
use client::Client;
use config::Config;
use info::Stats;
use pubsub::PubSub;
use session::{Session, Tools};
use waiting::Waiting;

use crate::commands::Failure;
use crate::disk::journal::Journal;
use crate::resp::reply::Reply;
use crate::store::keyspace::Keyspace;

/// How many keys are removed at a time when many expire at once.
const EXPIRED_AT_ONCE: usize = 1000;

/// What the command line says.
pub struct Options {
    pub config: Config,
    pub most_clients: usize,
    /// The time in milliseconds since 1970.
    pub clock: fn() -> i64,
    /// The database on disk, and what was in it.
    pub disk: Option<(Journal, Keyspace)>,
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
    since.map_or(0, |since| since.as_millis() as i64)
}

/// What all sessions of a loop share. Only the keyspace would be shared by several loops.
pub struct Server {
    pub keyspace: RefCell<Keyspace>,
    pub config: RefCell<Config>,
    pub clients: RefCell<BTreeMap<u64, Rc<Client>>>,
    pub pubsub: RefCell<PubSub>,
    pub waiting: RefCell<Waiting>,
    pub stats: Stats,
    pub started: Instant,
    /// Taken out while a session uses them.
    tools: Cell<Option<Box<Tools>>>,
    clock: fn() -> i64,
    next_client: Cell<u64>,
    /// The timer of the key that expires next, and when that is.
    expiry: Cell<Option<(TimerId, i64)>>,
    /// `None` without a disk.
    journal: Option<Journal>,
    /// Itself, for timers.
    this: Weak<Server>,
}

impl Server {
    pub fn new(options: Options) -> Rc<Server> {
        let (journal, keyspace) = match options.disk {
            Some((journal, keyspace)) => (Some(journal), keyspace),
            None => (None, Keyspace::default()),
        };
        let server = Rc::new_cyclic(|this| Server {
            keyspace: RefCell::new(keyspace),
            config: RefCell::new(options.config),
            clients: RefCell::default(),
            pubsub: RefCell::default(),
            waiting: RefCell::default(),
            stats: Stats::new(options.most_clients),
            started: Instant::now(),
            tools: Cell::default(),
            clock: options.clock,
            next_client: Cell::new(1),
            expiry: Cell::default(),
            journal,
            this: this.clone(),
        });
        server.after_requests();
        server
    }

    /// Listens on this thread's loop.
    pub fn serve(self: &Rc<Self>, listen: &str) -> Result<Channel, Error> {
        let limits = Limits::default()
            .connections(self.stats.most_clients)
            .per_address(Limits::UNLIMITED)
            .output(self.config.borrow().output);
        let server = Rc::clone(self);
        asynchat::Server::new(listen)
            .limits(limits)
            .refusal("-ERR max number of clients reached\r\n")
            .listen(move |chat| Session::new(&server, chat))
    }

    pub fn now(&self) -> i64 {
        (self.clock)()
    }

    fn add_client(&self, chat: Chat) -> Rc<Client> {
        let id = self.next_client.get();
        self.next_client.set(id + 1);
        let config = self.config.borrow();
        let (is_open, output) = (config.password.is_empty(), config.output);
        // CONFIG SET may have changed it since the server began to listen.
        if chat.limits().output != output {
            chat.set_limits(chat.limits().output(output));
        }
        let client = Client::new(id, chat, self.now(), is_open);
        drop(config);
        self.apply_timeout(&client);
        self.clients.borrow_mut().insert(id, Rc::clone(&client));
        client
    }

    fn remove_client(&self, client: &Rc<Client>) {
        self.clients.borrow_mut().remove(&client.id);
        self.pubsub.borrow_mut().remove(client);
        self.forget_blocked(client);
        client.transaction.take();
        client.unwatch(&mut self.keyspace.borrow_mut());
    }

    /// Why a client is refused, if it is: a server without a password, which listens beyond loopback by mistake,
    /// must not be open to everybody.
    fn refusal(&self, client: &Client) -> Option<Bytes> {
        let config = self.config.borrow();
        let peer = client.chat.peer_addr()?.ip()?;
        let is_protected = config.protected && config.password.is_empty();
        (is_protected && !peer.is_loopback()).then(|| Bytes::from_static(DENIED.as_bytes()))
    }

    /// Pushes the replies of a client. Those to commands that have written may wait for the disk.
    #[inline]
    pub fn push(&self, client: &Client, reply: &mut Reply) {
        match &self.journal {
            None => reply.flush(&client.chat),
            Some(journal) => journal.push(client, reply),
        }
    }

    /// Whether replies wait for the disk, so that each has to be pushed by itself.
    #[inline]
    pub fn holds_replies(&self) -> bool {
        self.journal.as_ref().is_some_and(Journal::holds_replies)
    }

    /// Whether a client that has written has to wait, because the disk is slower than all clients. Its reply follows
    /// the next transaction then, which is sent at the end of the turn.
    #[inline]
    fn has_to_wait(&self, reply: &Reply) -> bool {
        let is_behind = reply.has_written && self.journal.as_ref().is_some_and(Journal::is_behind);
        if is_behind && !self.holds_replies() {
            self.schedule_journal(None);
        }
        is_behind
    }

    /// A command changes the keyspace.
    #[inline]
    pub fn note_write(&self) {
        if let Some(journal) = &self.journal
            && let Some(delay) = journal.note_write()
        {
            self.schedule_journal(delay);
        }
    }

    /// Collects the changes after this time, or at the end of the turn.
    fn schedule_journal(&self, delay: Option<Duration>) {
        let this = self.this.clone();
        let collect = move || {
            if let Some(server) = this.upgrade() {
                server.collect_changes();
            }
        };
        match delay {
            None => asynchat::call_soon(collect),
            Some(delay) => drop(asynchat::call_later(delay, collect)),
        }
    }

    fn collect_changes(&self) {
        if let Some(journal) = &self.journal {
            journal.collect(&mut self.keyspace.borrow_mut());
        }
    }

    /// Writes what is left to the disk. The loop has ended. An error means that changes are not on disk.
    pub fn close(&self) -> Result<(), crate::disk::writer::Error> {
        self.collect_changes();
        self.journal.as_ref().map_or(Ok(()), Journal::close)
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

    /// Applies a limit of the output that others cause, and the timeout, to all connections.
    pub fn apply_config(&self) {
        let output = self.config.borrow().output;
        for client in self.clients.borrow().values() {
            client.chat.set_limits(client.chat.limits().output(output));
            self.apply_timeout(client);
        }
    }

    /// Applies the timeout to a client. One that waits, for an element or for messages, is not idle.
    pub fn apply_timeout(&self, client: &Client) {
        let seconds = self.config.borrow().timeout;
        if seconds == 0 && !client.has_timeout.get() {
            return;
        }
        let is_waiting = client.is_blocked() || client.subscription_count() > 0;
        let after = (seconds > 0 && !is_waiting).then(|| Duration::from_secs(seconds));
        client.has_timeout.set(after.is_some());
        client.chat.set_idle_timeout(after);
    }

    /// For CONFIG GET and INFO.
    pub fn set_address(&self, addr: SocketAddr) {
        let mut config = self.config.borrow_mut();
        config.set_initial("bind", addr.ip().to_string());
        config.set_initial("port", addr.port().to_string());
    }

    /// What follows the requests of a read: the timer of the key that expires next.
    #[inline]
    fn after_requests(&self) {
        let Some(next) = self.keyspace.borrow_mut().take_new_expiry() else {
            return;
        };
        self.schedule_expiry(next);
    }

    fn schedule_expiry(&self, next: i64) {
        match self.expiry.get() {
            Some((_, when)) if when <= next => return,
            Some((timer, _)) => drop(asynchat::cancel(timer)),
            None => {}
        }
        let delay = Duration::from_millis((next - self.now()).clamp(1, 86_400_000) as u64);
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
            let mut keyspace = self.keyspace.borrow_mut();
            keyspace.set_time(self.now());
            keyspace.expire_due(EXPIRED_AT_ONCE);
            keyspace.next_expiry()
        };
        self.note_write();
        if let Some(next) = next {
            self.schedule_expiry(next);
        }
    }
}

/// Begins as the text of Redis, which clients recognise.
const DENIED: &str = "-DENIED Redis is running in protected mode because protected mode is enabled and no password is \
set for the default user. In this mode connections are only accepted from the loopback interface. If you want to \
connect from external computers, set a password with --requirepass, or start the server with --protected-mode no.\r\n";
