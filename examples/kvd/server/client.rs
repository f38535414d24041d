//! What the server knows of a client. Every worker may look at it; only the worker that has the connection changes it,
//! except where a field says otherwise.

use std::collections::HashSet;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use asynchat::{ChannelId, Chat, Remote, TimerId};
use crossbeam_utils::atomic::AtomicCell;

use super::Server;
use super::config::Config;
use super::output::OutputLimits;
use super::pubsub::Names;
use super::session::Session;
use super::shared::lock;
use super::tracking::{Mode, Tracker};
use crate::commands::Command;
use crate::resp::message::Encoded;
use crate::resp::request::OwnedArgs;
use crate::store::dropper::{Droppable, MANY};
use crate::store::text::Text;
use crate::store::watch::Watch;

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

/// Why the reply to a command comes later, behind which the connection continues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blocking {
    No,
    /// It waits for an element. Its input is read meanwhile, because its end has to be noticed: a client that has left must
    /// not take an element with it.
    OnKeys,
    /// Its command takes several turns. Its input is not read meanwhile: what it has sent behind the command is executed
    /// and answered, also if it has ended its input. Only a reset ends the wait, where the system
    /// reports one meanwhile (Linux).
    OnCommand,
    /// The clients are paused. Its input is read meanwhile, and the request that waits is in it.
    OnPause,
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

impl Droppable for Option<Box<Transaction>> {
    fn is_long(&self) -> bool {
        self.as_ref().is_some_and(|it| it.queued.len() > MANY)
    }
}

/// WATCH.
#[derive(Default)]
pub struct Watched {
    pub watch: Watch,
    /// With the numbers of their databases.
    pub keys: HashSet<(usize, Text)>,
    /// The memory of all that, about.
    pub size: usize,
}

impl Watched {
    /// The memory of a key, about: it is in a table of its client, and of its database.
    pub fn size_of(key: &[u8]) -> usize {
        200 + 2 * key.len()
    }
}

/// The command that waits for an element.
pub struct Blocked {
    /// Its place in the queues.
    pub ticket: u64,
    pub command: &'static Command,
    pub args: OwnedArgs,
    pub database: usize,
    pub keys: Vec<Text>,
    /// A timer of its connection.
    pub timer: Option<TimerId>,
}

impl Blocked {
    /// The memory of its arguments and its keys, about.
    pub fn size(&self) -> usize {
        2 * self.args.size() + 200 * self.keys.len()
    }
}

pub struct Client {
    pub id: u64,
    /// The number of its worker.
    worker: usize,
    pub channel: ChannelId,
    /// The loop of its worker.
    remote: Remote,
    pub addr: String,
    pub local_addr: String,
    /// The bytes that it retains, which [`Data`](super::shared::Data) counts.
    pub retained: AtomicCell<usize>,
    /// CLIENT NO-EVICT: whether `maxmemory-clients` does not end it.
    pub no_evict: AtomicCell<bool>,
    /// CLIENT NO-TOUCH, which changes nothing else.
    pub no_touch: AtomicCell<bool>,
    pub name: Mutex<Box<str>>,
    pub library: Mutex<(Box<str>, Box<str>)>,
    pub database: AtomicCell<usize>,
    pub resp3: AtomicCell<bool>,
    pub authenticated: AtomicCell<bool>,
    pub reply_mode: AtomicCell<ReplyMode>,
    pub connected: i64,
    pub last_active: AtomicCell<i64>,
    pub last_command: AtomicCell<Option<&'static Command>>,
    pub transaction: Mutex<Option<Box<Transaction>>>,
    pub is_in_transaction: AtomicCell<bool>,
    pub watched: Mutex<Watched>,
    pub subscriptions: Mutex<Names<()>>,
    pub subscription_count: AtomicCell<usize>,
    /// CLIENT TRACKING, while it is on. Any worker may change it.
    pub tracker: Mutex<Option<Box<Tracker>>>,
    /// Whether it has become one that gets invalidations: its own, or those of another client, whose worker sets this.
    pub gets_invalidations: AtomicCell<bool>,
    /// What it waits for, while it is in a queue. Any worker may take it out.
    pub blocked: Mutex<Option<Box<Blocked>>>,
    /// From the beginning of the wait until the connection continues.
    pub blocking: AtomicCell<Blocking>,
    /// Its place among the clients that wait for the end of a pause.
    pub pause_ticket: AtomicCell<u64>,
    /// The memory of the arguments of the command that it is blocked on. It is a part of what the client retains.
    pub command_size: AtomicCell<usize>,
    /// No further request is executed until what it waits for calls: the end of the queued output, a promise of the
    /// disk, or its next turn.
    pub waits: AtomicCell<bool>,
    /// No further request is executed, and the connection closes behind the reply. The client takes no element any more.
    /// Any worker may set it. It is set before the connection is ended.
    pub closes: AtomicCell<bool>,
    /// Whether the connection closes when it is idle.
    has_timeout: AtomicCell<bool>,
    /// Whether `timeout` is applied when its replies do not wait for the disk any more.
    timeout_follows: AtomicBool,
    /// What was pushed last is a promise of replies that wait for the disk.
    pub delays_replies: AtomicCell<bool>,
    /// How many promises of its replies wait for the disk. The threads that write change it.
    delayed: AtomicUsize,
    /// The bytes of its replies that were promised and are not sent yet.
    pub promised: AtomicCell<usize>,
    /// The bytes of output that wait, if they are many.
    pub output: AtomicCell<usize>,
    /// The bytes of long replies that are queued.
    pub replies: AtomicCell<usize>,
    pub output_limits: Arc<AtomicCell<OutputLimits>>,
    /// Its output has exceeded the soft limit, and is watched.
    pub exceeds_soft_limit: AtomicCell<bool>,
}

impl Client {
    pub fn new(id: u64, server: &Server, chat: &Chat, authenticated: bool) -> Client {
        let text = |addr: Option<asynchat::Addr>| {
            addr.map_or_else(String::new, |addr| match addr.inet() {
                Some(addr) => addr.to_string(),
                None => "unix:0".to_owned(),
            })
        };
        let now = server.now();
        Client {
            id,
            worker: server.number,
            channel: chat.id(),
            remote: server.remote.clone(),
            addr: text(chat.peer_addr()),
            local_addr: text(chat.local_addr()),
            retained: AtomicCell::new(0),
            no_evict: AtomicCell::new(false),
            no_touch: AtomicCell::new(false),
            name: Mutex::default(),
            library: Mutex::default(),
            database: AtomicCell::new(0),
            resp3: AtomicCell::new(false),
            authenticated: AtomicCell::new(authenticated),
            reply_mode: AtomicCell::new(ReplyMode::On),
            connected: now,
            last_active: AtomicCell::new(now),
            last_command: AtomicCell::new(None),
            transaction: Mutex::default(),
            is_in_transaction: AtomicCell::new(false),
            watched: Mutex::default(),
            subscriptions: Mutex::default(),
            subscription_count: AtomicCell::new(0),
            tracker: Mutex::default(),
            gets_invalidations: AtomicCell::new(false),
            blocked: Mutex::default(),
            blocking: AtomicCell::new(Blocking::No),
            pause_ticket: AtomicCell::new(0),
            command_size: AtomicCell::new(0),
            waits: AtomicCell::new(false),
            closes: AtomicCell::new(false),
            has_timeout: AtomicCell::new(false),
            timeout_follows: AtomicBool::new(false),
            delays_replies: AtomicCell::new(false),
            delayed: AtomicUsize::new(0),
            promised: AtomicCell::new(0),
            output: AtomicCell::new(0),
            replies: AtomicCell::new(0),
            output_limits: Arc::clone(&server.shared.output_limits),
            exceeds_soft_limit: AtomicCell::new(false),
        }
    }

    /// Lets its session do something on its worker, in the next turn there.
    pub fn post(&self, call: impl FnOnce(&mut Session) + Send + 'static) {
        // An error means that the worker has ended, and its clients with it.
        let _ = self.remote.post_to(self.channel, |session| {
            call(session);
            Ok(())
        });
    }

    /// Whether its next request has to wait.
    #[inline]
    pub fn has_to_wait(&self) -> bool {
        self.waits.load() || self.closes.load() || self.is_blocked()
    }

    /// Whether the reply to its command comes later.
    #[inline]
    pub fn is_blocked(&self) -> bool {
        self.blocking.load() != Blocking::No
    }

    /// Whether it may send every command: it has logged in, or there is no password any more.
    #[inline]
    pub fn is_admitted(&self, config: &Config) -> bool {
        self.authenticated.load() || config.password.is_empty()
    }

    /// Pushes a message that answers no request.
    pub fn deliver(self: &Arc<Client>, chat: &Chat, message: &Encoded) {
        let mut size = 0;
        for part in message.parts() {
            size += part.len();
            chat.push(part);
        }
        self.delays_replies.store(false);
        self.note_output(chat, size);
    }

    /// Applies `timeout`, in seconds. A client that waits is not idle: for an element, for messages, or for the disk.
    pub fn apply_timeout(&self, chat: &Chat, seconds: u64) {
        // `note_answer` reads these two the other way round, so that one of both notices.
        self.timeout_follows.store(seconds > 0, SeqCst);
        let waits_for_disk = self.delayed.load(SeqCst) > 0;
        if !waits_for_disk {
            self.timeout_follows.store(false, SeqCst);
        }
        if seconds == 0 && !self.has_timeout.load() {
            return;
        }
        let is_waiting = waits_for_disk || self.is_blocked() || self.subscription_count.load() > 0;
        let after = (seconds > 0 && !is_waiting).then(|| Duration::from_secs(seconds));
        self.has_timeout.store(after.is_some());
        chat.set_idle_timeout(after);
    }

    /// Its replies are promised, and wait for the disk.
    #[inline]
    pub fn note_promise(&self, chat: &Chat) {
        if self.has_timeout.load() {
            self.has_timeout.store(false);
            chat.set_idle_timeout(None);
            self.timeout_follows.store(true, SeqCst);
        }
        self.delayed.fetch_add(1, SeqCst);
    }

    /// The disk has answered a promise. When it has answered all of them, `timeout` is applied again, also if the client
    /// does not read the replies.
    pub fn note_answer(&self) {
        let was_last = self.delayed.fetch_sub(1, SeqCst) == 1;
        if was_last && self.timeout_follows.load(SeqCst) {
            self.post(|session| {
                let timeout = session.server.shared.lock().config.timeout;
                session.client.apply_timeout(&session.chat, timeout);
            });
        }
    }

    /// A line of CLIENT LIST.
    pub fn describe(&self, now: i64) -> String {
        let (channels, patterns) = {
            let all = lock(&self.subscriptions);
            (all.channels.len(), all.patterns.len())
        };
        let (multi, multi_size) = match &*lock(&self.transaction) {
            Some(transaction) => (transaction.queued.len() as i64, transaction.size),
            None => (-1, 0),
        };
        let (mut tracks, mut broadcast, mut is_broken, mut redirect) = (false, false, false, -1);
        if let Some(tracker) = &*lock(&self.tracker) {
            tracks = true;
            broadcast = tracker.settings.mode == Mode::Broadcast;
            is_broken = tracker.is_redirect_broken;
            redirect = tracker.settings.redirect.map_or(0, |id| id as i64);
        }
        let mut flags = String::new();
        for (set, flag) in [
            (self.is_blocked(), 'b'),
            (multi >= 0, 'x'),
            (channels + patterns > 0, 'P'),
            (tracks, 't'),
            (is_broken, 'R'),
            (broadcast, 'B'),
            (self.closes.load(), 'c'),
            (self.no_evict.load(), 'e'),
            (self.no_touch.load(), 'T'),
        ] {
            if set {
                flags.push(flag);
            }
        }
        if flags.is_empty() {
            flags.push('N');
        }
        let (library, version) = &*lock(&self.library);
        format!(
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={flags} db={} sub={channels} psub={patterns} \
             ssub=0 multi={multi} qbuf=0 qbuf-free=0 argv-mem={} multi-mem={multi_size} rbs=0 rbp=0 obl=0 oll=0 omem={} \
             tot-mem={} events=r cmd={} user=default redir={redirect} resp={} lib-name={library} lib-ver={version} \
             io-thread={}",
            self.id,
            self.addr,
            self.local_addr,
            lock(&self.name),
            (now - self.connected) / 1000,
            (now - self.last_active.load()) / 1000,
            self.database.load(),
            self.command_size.load(),
            self.output.load(),
            self.retained.load() + multi_size + self.output.load(),
            self.last_command.load().map_or("NULL", |it| it.name),
            if self.resp3.load() { 3 } else { 2 },
            self.worker,
        )
    }
}
