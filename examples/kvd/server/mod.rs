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
}

impl Default for Options {
    fn default() -> Self {
        Options {
            config: Config::default(),
            most_clients: 10_000,
            clock: wall_clock,
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
    /// Itself, for timers.
    this: Weak<Server>,
}

impl Server {
    pub fn new(options: Options) -> Rc<Server> {
        Rc::new_cyclic(|this| Server {
            keyspace: RefCell::default(),
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
            this: this.clone(),
        })
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
        let is_open = self.config.borrow().password.is_empty();
        let client = Client::new(id, chat, self.now(), is_open);
        self.clients.borrow_mut().insert(id, Rc::clone(&client));
        client
    }

    fn remove_client(&self, client: &Rc<Client>) {
        self.clients.borrow_mut().remove(&client.id);
        self.pubsub.borrow_mut().remove(client);
        self.forget_blocked(client);
        client.transaction.take();
        self.unwatch(client, &mut self.keyspace.borrow_mut());
    }

    /// Ends all watches of a client.
    pub fn unwatch(&self, client: &Client, keyspace: &mut Keyspace) {
        for watch in client.watches.take() {
            keyspace.database(watch.database).unwatch(watch.key.as_bytes());
        }
    }

    /// Why a client is refused, if it is: a server without a password, which listens beyond loopback by mistake,
    /// must not be open to everybody.
    fn refusal(&self, client: &Client) -> Option<Bytes> {
        let config = self.config.borrow();
        let peer = client.chat.peer_addr()?.ip()?;
        let is_protected = config.protected && config.password.is_empty();
        (is_protected && !peer.is_loopback()).then(|| Bytes::from_static(DENIED.as_bytes()))
    }

    /// Pushes the replies of a client.
    #[inline]
    pub fn push(&self, client: &Client, reply: &mut Reply) {
        reply.flush(&client.chat);
    }

    /// A command has changed the keyspace.
    pub fn note_write(&self) {}

    /// Whether commands may change the keyspace.
    #[inline]
    pub fn check_writable(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Applies a limit of the output that others cause to all connections.
    pub fn apply_output_limit(&self) {
        let output = self.config.borrow().output;
        for client in self.clients.borrow().values() {
            client.chat.set_limits(client.chat.limits().output(output));
        }
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
        if let Some(next) = next {
            self.schedule_expiry(next);
        }
    }
}

/// Begins as the text of Redis, which clients recognise.
const DENIED: &str = "-DENIED Redis is running in protected mode because protected mode is enabled and no password is \
set for the default user. In this mode connections are only accepted from the loopback interface. If you want to \
connect from external computers, set a password with --requirepass, or start the server with --protected-mode no.\r\n";
