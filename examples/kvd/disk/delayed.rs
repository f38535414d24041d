//! Replies that wait for the log.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use asynchat::bytes::Bytes;
use asynchat::{Chat, Promise};

use super::later::Later;
use super::size::Size;
use super::status::Status;
use crate::resp::reply::{Part, Reply};
use crate::server::client::Client;

/// Replies of a client, one after another, behind a promise.
pub struct Delayed {
    pub client: Arc<Client>,
    promise: Promise,
    /// Where the replies go if they are long.
    later: Option<Later>,
    pub answers: Vec<Answers>,
    /// Whether they wait for the database, too, because the disk is slower than all clients.
    pub waits_for_database: bool,
    /// Whether they have what a command has removed.
    pub has_taken: bool,
    /// The hook behind the promise, which knows when the replies are sent, reads it.
    size: Arc<AtomicUsize>,
}

/// The memory of a promise without its replies, about.
const PROMISE: usize = 256;

/// Consecutive replies of one kind.
pub struct Answers {
    /// How many of them answer commands that have written. The others answer none of these.
    written: usize,
    parts: Vec<Part>,
}

impl Delayed {
    /// Has no replies yet. `is_long`: the replies will have parts.
    pub fn new(client: &Arc<Client>, chat: &Chat, is_long: bool) -> Delayed {
        let promise = chat.promise();
        let later = is_long.then(Later::default);
        if let Some(later) = &later {
            chat.push_with_producer(later.clone());
        }
        client.note_promise(chat);
        client.promised.fetch_add(PROMISE);
        let size = Arc::new(AtomicUsize::new(PROMISE));
        let (sent, this) = (Arc::clone(&size), Arc::clone(client));
        chat.push_hook(move || {
            this.promised.fetch_sub(sent.load(Relaxed));
        });
        Delayed {
            client: Arc::clone(client),
            promise,
            later,
            answers: Vec::new(),
            waits_for_database: false,
            has_taken: false,
            size,
        }
    }

    /// Adds the reply to one request. An empty one stands for no reply.
    pub fn add(&mut self, reply: &mut Reply, has_written: bool) {
        if reply.is_empty() {
            return;
        }
        let parts = reply.parts.iter().map(Part::size);
        let size = reply.len() + parts.sum::<usize>();
        self.size.fetch_add(size, Relaxed);
        self.client.promised.fetch_add(size);
        let written = usize::from(has_written);
        match self.answers.last_mut() {
            Some(last) if (last.written > 0) == has_written => {
                last.written += written;
                append(&mut last.parts, reply);
            }
            _ => self.answers.push(Answers {
                written,
                parts: reply.take_parts(),
            }),
        }
    }

    /// The bytes of memory, as far as they are known.
    pub fn size(&self) -> Size {
        Size::of(self.size.load(Relaxed))
    }

    /// Sends the replies.
    pub fn send(mut self, status: &Status) {
        self.note_end(status);
        let answers = mem::take(&mut self.answers).into_iter();
        self.provide(answers.flat_map(|it| it.parts));
    }

    /// Sends this error instead of each reply to a command that has written.
    pub fn refuse(mut self, error: &str, status: &Status) {
        self.note_end(status);
        let answers = mem::take(&mut self.answers).into_iter();
        self.provide(answers.flat_map(|it| match it.written {
            0 => it.parts,
            written => {
                let mut reply = Reply::default();
                (0..written).for_each(|_| reply.error(error));
                reply.take_parts()
            }
        }));
    }

    fn note_end(&self, status: &Status) {
        status.remove_waiting(self.size());
        self.client.note_answer();
    }

    fn provide(self, parts: impl Iterator<Item = Part>) {
        let replies = match self.later {
            Some(later) => {
                later.provide(parts);
                Bytes::new()
            }
            None => join(parts),
        };
        self.promise.fulfill(replies);
    }
}

/// Short replies in one piece.
fn join(parts: impl Iterator<Item = Part>) -> Bytes {
    let mut all = Vec::new();
    for part in parts {
        if let Part::Copied(data) = part {
            if all.is_empty() {
                all = data;
            } else {
                all.extend_from_slice(&data);
            }
        }
    }
    all.into()
}

/// Appends a reply to others.
fn append(parts: &mut Vec<Part>, reply: &mut Reply) {
    match parts.last_mut() {
        Some(Part::Copied(last)) if reply.parts.is_empty() => {
            last.extend_from_slice(&reply.buffer);
            reply.buffer.clear();
        }
        _ => parts.extend(reply.take_parts()),
    }
}

/// The error reply to a command whose change could not be written.
pub fn not_written(why: &str) -> String {
    format!(
        "MISCONF Errors writing to the AOF file: {why}. The command was executed: its change is in memory, and is \
         written when that is possible"
    )
}
