//! When the changes go to the disk, and which replies wait for it.

use std::cell::{Cell, RefCell};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use asynchat::Chat;

use super::changes::take_changes;
use super::delayed::{Delayed, not_written};
use super::writer::{Batch, MUCH, Writer};
use crate::resp::reply::Reply;
use crate::server::client::Client;
use crate::store::change::PART;
use crate::store::keyspace::Keyspace;

/// `--appendfsync`: when changes are on disk. In each case a change is in the log before its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AppendFsync {
    /// The system has the log on disk before the reply.
    Always,
    /// All is on disk once a second. A crash of the system loses the last second.
    Everysec,
    /// All is on disk every 30 seconds, about as often as Linux writes files back by itself.
    No,
}

impl AppendFsync {
    /// How long changes may be in the log only.
    pub fn interval(self) -> Duration {
        match self {
            AppendFsync::Always | AppendFsync::Everysec => Duration::from_secs(1),
            AppendFsync::No => Duration::from_secs(30),
        }
    }
}

/// The rows of so many changes are made at once: this takes some milliseconds, in which no command is executed.
const MANY_CHANGES: usize = 1000;

/// A client whose promised replies that are not sent have more bytes than this has to wait until they are, before its
/// next request. It is the high-water mark of output, too.
const MOST_DELAYED: usize = 64 * 1024;

/// A client that has written more bytes than this with one command has to wait if the disk is slower.
const LARGE: usize = PART / 2;

/// What a client waits for before its next request.
#[derive(Clone, Copy)]
struct Waits {
    for_log: bool,
    for_database: bool,
}

/// The part of a worker: it collects the changes, and knows which replies of its clients wait for them.
///
/// A worker collects the changes of all workers, and sends them before it unlocks the keyspace. So whatever its replies
/// acknowledge or show is in the same batch or in one before.
pub struct Journal {
    writer: Arc<Writer>,
    is_scheduled: Cell<bool>,
    /// The replies of this turn that wait.
    delayed: RefCell<Vec<Delayed>>,
    /// The bytes of its changes that were not sent yet.
    written: Cell<usize>,
}

impl Journal {
    pub fn new(writer: &Arc<Writer>) -> Journal {
        Journal {
            writer: Arc::clone(writer),
            is_scheduled: Cell::new(false),
            delayed: RefCell::default(),
            written: Cell::default(),
        }
    }

    /// A command that writes is executed.
    pub fn note_write(&self) {
        self.writer.status.note_write();
    }

    /// Whether the caller has to let the loop [collect](Journal::collect) at the end of the turn.
    pub fn schedule(&self) -> bool {
        !self.is_scheduled.replace(true)
    }

    /// Pushes the reply to one request. While there are changes that are not in the log, it is a promise: the reply may
    /// acknowledge them, or show them. Returns whether the next request of the client has to wait for it.
    pub fn push(&self, client: &Arc<Client>, chat: &Chat, reply: &mut Reply) -> bool {
        let status = &self.writer.status;
        let has_written = mem::take(&mut reply.has_written);
        let has_taken = mem::take(&mut reply.has_taken);
        let written = mem::take(&mut reply.written);
        let is_pending = status.is_pending();
        let is_large = written > LARGE;
        let mut failure = None;
        // What was made in parts may be in the log already.
        if is_pending {
            self.written.set(self.written.get() + written);
            failure = status.log.failure();
        }
        // The next request of the client may make room on a full disk, also behind one that has taken elements, whose reply
        // waits for that.
        let is_log_behind = failure.is_none() && status.is_log_behind();
        let waits = Waits {
            // What the others write meanwhile is before its next change.
            for_log: has_written && (self.has_written_much() || (is_log_behind && !has_taken)),
            // The answer is read once: the thread that writes may change it.
            for_database: has_written && status.is_behind(is_large),
        };
        // A client that wants no replies waits for a slow disk, too.
        if reply.is_empty() && !waits.for_log && !waits.for_database {
            return false;
        }
        match failure {
            Some(why) if !has_taken => {
                if has_written && !reply.is_empty() {
                    drop(reply.take_parts());
                    reply.error(&not_written(&why));
                }
            }
            None if !is_pending && !waits.for_database => {}
            _ => return self.delay(client, chat, reply, (has_written, has_taken), waits),
        }
        client.delays_replies.store(false);
        reply.flush(chat);
        false
    }

    fn delay(
        &self,
        client: &Arc<Client>,
        chat: &Chat,
        reply: &mut Reply,
        (has_written, has_taken): (bool, bool),
        waits: Waits,
    ) -> bool {
        let mut delayed = self.delayed.borrow_mut();
        // A long reply is sent a part at a time, behind an empty promise. One to a command that has written may
        // become an error.
        let is_long = !reply.parts.is_empty();
        if is_long && !has_written {
            delayed.push(Delayed::new(client, chat, false));
            client.delays_replies.store(false);
            reply.flush(chat);
            return false;
        }
        // If nothing else was pushed to this client since its last promise, the reply joins that, unless one is long.
        let is_next = |it: &&mut Delayed| it.client.id == client.id && client.delays_replies.load();
        if is_long || delayed.last_mut().filter(is_next).is_none() {
            delayed.push(Delayed::new(client, chat, is_long));
            client.delays_replies.store(!is_long);
        }
        let Some(last) = delayed.last_mut() else {
            return false;
        };
        last.add(reply, has_written);
        last.has_taken |= has_taken;
        last.waits_for_database |= waits.for_database;
        waits.for_log || waits.for_database || client.promised.load() > MOST_DELAYED
    }

    /// Whether replies wait that nothing was scheduled for.
    pub fn has_delayed(&self) -> bool {
        !self.is_scheduled.get() && !self.delayed.borrow().is_empty()
    }

    /// Sends the changes to the thread that writes.
    pub fn collect(&self, keyspace: &mut Keyspace) {
        self.is_scheduled.set(false);
        self.send(keyspace);
    }

    /// Sends the changes if they are many, or have many bytes.
    #[inline]
    pub fn collect_many(&self, keyspace: &mut Keyspace) {
        if keyspace.change_count() > MANY_CHANGES || self.has_written_much() {
            self.send(keyspace);
        }
    }

    /// Whether the changes have so many bytes that they go to the log before those of the next commands.
    fn has_written_much(&self) -> bool {
        self.written.get() > MUCH
    }

    fn send(&self, keyspace: &mut Keyspace) {
        self.written.set(0);
        self.writer.send(Batch {
            ops: take_changes(keyspace),
            executed: self.writer.status.executed(),
            delayed: self.delayed.take(),
        });
    }

    /// Why commands that write are refused, if they are.
    #[inline]
    pub fn refusal(&self) -> Option<String> {
        self.writer.status.refusal()
    }
}
