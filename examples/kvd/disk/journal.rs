//! When the changes go to the disk, and which replies wait for it.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use asynchat::Chat;

use super::rows::take_changes;
use super::writer::{Batch, Delayed, Writer};
use crate::resp::reply::{Part, Reply};
use crate::server::client::Client;
use crate::store::keyspace::Keyspace;

/// `--appendfsync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AppendFsync {
    /// At the end of each turn of a loop. Replies to commands that write are sent when the change is on disk.
    Always,
    /// Once a second. A crash loses the last second.
    Everysec,
    /// Every 30 seconds, about as often as Linux writes files back by itself.
    No,
}

impl AppendFsync {
    /// How long changes may wait. `None` for the end of the turn.
    fn delay(self) -> Option<Duration> {
        match self {
            AppendFsync::Always => None,
            AppendFsync::Everysec => Some(Duration::from_secs(1)),
            AppendFsync::No => Some(Duration::from_secs(30)),
        }
    }
}

/// The rows of so many changes are made at once: this takes some milliseconds, in which no command is executed.
const MANY_CHANGES: usize = 1000;

/// The part of a worker: it collects the changes, and knows which replies of its clients wait for them.
///
/// A worker collects the changes of all workers, and sends them before it unlocks the keyspace. So whatever its replies
/// acknowledge is in the same batch or in one before.
pub struct Journal {
    writer: Arc<Writer>,
    sync: AppendFsync,
    is_scheduled: Cell<bool>,
    /// The replies of this turn that wait.
    delayed: RefCell<Vec<Delayed>>,
}

impl Journal {
    pub fn new(writer: &Arc<Writer>, sync: AppendFsync) -> Journal {
        Journal {
            writer: Arc::clone(writer),
            sync,
            is_scheduled: Cell::new(false),
            delayed: RefCell::default(),
        }
    }

    /// Whether replies wait for the disk, so that each has to be known by itself.
    pub fn delays_replies(&self) -> bool {
        self.sync == AppendFsync::Always
    }

    /// A command has written. Returns when to [collect](Journal::collect) if that is not scheduled: `None` if it is,
    /// `Some(None)` for the end of the turn.
    pub fn note_write(&self) -> Option<Option<Duration>> {
        (!self.is_scheduled.replace(true)).then(|| self.sync.delay())
    }

    /// Whether a client that has written has to wait, because the disk is slower than all clients.
    #[inline]
    pub fn has_to_wait(&self, reply: &Reply) -> bool {
        reply.has_written && self.writer.status.is_behind()
    }

    /// Pushes the replies, or a promise of them if they wait for the disk. `has_to_wait`: the client waits for a slow disk.
    pub fn push(&self, client: &Client, chat: &Chat, reply: &mut Reply, has_to_wait: bool) {
        let has_written = std::mem::take(&mut reply.has_written);
        // A client that wants no replies waits for a slow disk, too.
        if reply.is_empty() && !has_to_wait {
            return;
        }
        if !(has_to_wait || has_written && self.delays_replies()) {
            client.delays_replies.store(false);
            return reply.flush(chat);
        }
        let mut delayed = self.delayed.borrow_mut();
        // Nothing else was pushed to this client since its last promise: both are one.
        match delayed
            .last_mut()
            .filter(|it| it.client == client.id && client.delays_replies.load())
        {
            Some(last) => append(&mut last.replies, reply),
            None => {
                client.delays_replies.store(true);
                delayed.push(Delayed {
                    client: client.id,
                    promise: chat.promise(),
                    replies: reply.take_parts(),
                });
            }
        }
    }

    /// Sends the changes to the writer, which writes them.
    pub fn collect(&self, keyspace: &mut Keyspace) {
        self.is_scheduled.set(false);
        self.send(keyspace, true);
    }

    /// Sends the changes to the writer if they are many. It writes them with the next ones that are
    /// [collected](Journal::collect).
    #[inline]
    pub fn collect_many(&self, keyspace: &mut Keyspace) {
        if keyspace.change_count() > MANY_CHANGES {
            self.send(keyspace, false);
        }
    }

    fn send(&self, keyspace: &mut Keyspace, is_due: bool) {
        let batch = Batch {
            ops: take_changes(keyspace),
            delayed: self.delayed.take(),
            is_due,
        };
        self.writer.send(batch);
    }

    /// Why commands that write are refused, if they are.
    #[inline]
    pub fn refusal(&self) -> Option<String> {
        self.writer.status.refusal()
    }
}

/// Appends a reply to those that wait.
fn append(replies: &mut Vec<Part>, reply: &mut Reply) {
    match replies.last_mut() {
        Some(Part::Copied(last)) if reply.parts.is_empty() => {
            last.extend_from_slice(&reply.buffer);
            reply.buffer.clear();
        }
        _ => replies.extend(reply.take_parts()),
    }
}
