//! What the server knows of a client. Other sessions, pub/sub and blocked commands refer to it; the keyspace does not.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use asynchat::bytes::Bytes;
use asynchat::{Chat, TimerId};

use crate::commands::Command;
use crate::resp::request::OwnedArgs;
use crate::store::keyspace::Keyspace;
use crate::store::text::Text;

/// Which replies the client wants: CLIENT REPLY.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplyMode {
    On,
    Off,
    /// Not the reply to the next command.
    SkipNext,
    /// Not this one.
    Skip,
}

/// A request in a transaction.
pub type Queued = (&'static Command, OwnedArgs);

/// MULTI.
#[derive(Default)]
pub struct Transaction {
    pub queued: Vec<Queued>,
    /// Their bytes, which count as input.
    pub size: usize,
    /// A request could not be queued, so EXEC fails.
    pub failed: bool,
}

/// A watched key, with how often it had changed.
pub struct Watch {
    pub database: usize,
    pub key: Text,
    pub version: u64,
}

/// The command that waits for an element.
pub struct Blocked {
    /// Its place in the queues.
    pub ticket: u64,
    pub command: &'static Command,
    pub args: OwnedArgs,
    pub database: usize,
    pub keys: Vec<Text>,
    pub timer: Option<TimerId>,
}

/// The channels and patterns of a subscriber.
#[derive(Default)]
pub struct Subscriptions {
    pub channels: BTreeSet<Bytes>,
    pub patterns: BTreeSet<Bytes>,
}

impl Subscriptions {
    pub fn len(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }
}

pub struct Client {
    pub id: u64,
    pub chat: Chat,
    pub addr: String,
    pub local_addr: String,
    pub name: RefCell<Box<str>>,
    pub library: RefCell<(Box<str>, Box<str>)>,
    pub database: Cell<usize>,
    pub resp3: Cell<bool>,
    pub authenticated: Cell<bool>,
    pub reply_mode: Cell<ReplyMode>,
    pub connected: i64,
    pub last_active: Cell<i64>,
    pub last_command: Cell<&'static str>,
    pub transaction: RefCell<Option<Box<Transaction>>>,
    pub watches: RefCell<Vec<Watch>>,
    pub subscriptions: RefCell<Option<Box<Subscriptions>>>,
    pub blocked: RefCell<Option<Box<Blocked>>>,
    /// No further request is executed until the output that is queued has been sent.
    pub waits_for_output: Cell<bool>,
    /// The connection closes behind the reply.
    pub closes: Cell<bool>,
    /// Whether the connection closes when it is idle.
    pub has_timeout: Cell<bool>,
    /// What was pushed last is a promise of replies that wait for the disk.
    pub holds_replies: Cell<bool>,
}

impl Client {
    pub fn new(id: u64, chat: Chat, now: i64, authenticated: bool) -> Rc<Client> {
        let text = |addr: Option<asynchat::Addr>| {
            addr.map_or_else(String::new, |addr| match addr.inet() {
                Some(addr) => addr.to_string(),
                None => "unix:0".to_owned(),
            })
        };
        Rc::new(Client {
            id,
            addr: text(chat.peer_addr()),
            local_addr: text(chat.local_addr()),
            chat,
            name: RefCell::default(),
            library: RefCell::default(),
            database: Cell::new(0),
            resp3: Cell::new(false),
            authenticated: Cell::new(authenticated),
            reply_mode: Cell::new(ReplyMode::On),
            connected: now,
            last_active: Cell::new(now),
            last_command: Cell::new("NULL"),
            transaction: RefCell::default(),
            watches: RefCell::default(),
            subscriptions: RefCell::default(),
            blocked: RefCell::default(),
            waits_for_output: Cell::new(false),
            closes: Cell::new(false),
            has_timeout: Cell::new(false),
            holds_replies: Cell::new(false),
        })
    }

    /// Whether its next request has to wait.
    #[inline]
    pub fn is_held(&self) -> bool {
        self.waits_for_output.get() || self.closes.get() || self.is_blocked()
    }

    #[inline]
    pub fn is_blocked(&self) -> bool {
        self.blocked.borrow().is_some()
    }

    /// Ends all watches.
    pub fn unwatch(&self, keyspace: &mut Keyspace) {
        for watch in self.watches.take() {
            let database = keyspace.database(watch.database);
            database.unwatch(watch.key.as_bytes());
        }
    }

    /// Pushes a message that answers no request.
    pub fn deliver(&self, message: Bytes) {
        self.chat.push(message);
        self.holds_replies.set(false);
    }

    pub fn subscription_count(&self) -> usize {
        self.subscriptions
            .borrow()
            .as_ref()
            .map_or(0, |it| it.len())
    }

    /// A line of CLIENT LIST.
    pub fn describe(&self, now: i64) -> String {
        let (channels, patterns) = match &*self.subscriptions.borrow() {
            Some(all) => (all.channels.len(), all.patterns.len()),
            None => (0, 0),
        };
        let multi = match &*self.transaction.borrow() {
            Some(transaction) => transaction.queued.len() as i64,
            None => -1,
        };
        let mut flags = String::new();
        for (set, flag) in [
            (self.is_blocked(), 'b'),
            (multi >= 0, 'x'),
            (channels + patterns > 0, 'P'),
            (self.closes.get(), 'c'),
        ] {
            if set {
                flags.push(flag);
            }
        }
        if flags.is_empty() {
            flags.push('N');
        }
        let (library, version) = &*self.library.borrow();
        format!(
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={flags} db={} sub={channels} psub={patterns} \
             ssub=0 multi={multi} omem={} cmd={} user=default redir=-1 resp={} lib-name={library} lib-ver={version}",
            self.id,
            self.addr,
            self.local_addr,
            self.name.borrow(),
            (now - self.connected) / 1000,
            (now - self.last_active.get()) / 1000,
            self.database.get(),
            self.chat.queued(),
            self.last_command.get(),
            if self.resp3.get() { 3 } else { 2 },
        )
    }
}
