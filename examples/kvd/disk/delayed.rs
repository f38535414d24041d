//! Replies that wait for the log.

use asynchat::Promise;

use crate::resp::reply::{Part, Reply, encode};

/// Replies of a client, one after another, behind a promise.
pub struct Delayed {
    pub client: u64,
    pub promise: Promise,
    pub answers: Vec<Answers>,
    /// Whether they wait for the database, too, because the disk is slower than all clients.
    pub waits_for_database: bool,
    /// The bytes of memory, as far as they are known.
    pub size: usize,
}

/// Consecutive replies of one kind.
pub struct Answers {
    /// How many of them answer commands that have written. The others answer none of these.
    written: usize,
    parts: Vec<Part>,
}

/// The replies of a client that have waited are in memory as a whole, so they have a maximum.
const MOST: usize = 1 << 30;

impl Delayed {
    pub fn new(client: u64, promise: Promise) -> Delayed {
        Delayed {
            client,
            promise,
            answers: Vec::new(),
            waits_for_database: false,
            size: 0,
        }
    }

    /// Adds the reply to one request. An empty one stands for no reply.
    pub fn add(&mut self, reply: &mut Reply, has_written: bool) {
        if reply.is_empty() {
            return;
        }
        let parts = reply.parts.iter().map(Part::size);
        self.size += reply.len() + parts.sum::<usize>();
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

    /// Sends the replies, with everything that their producers make. They are made on the calling thread, because a
    /// client may get many elements of a list that it has removed, and the others of its loop must not wait for that.
    pub fn send(self) {
        let parts = self.answers.into_iter().flat_map(|it| it.parts);
        send(self.client, self.promise, parts.collect());
    }

    /// Sends this error instead of each reply to a command that has written.
    pub fn refuse(self, error: &str) {
        let answers = self.answers.into_iter();
        let parts = answers.flat_map(|it| match it.written {
            0 => it.parts,
            written => {
                let mut reply = Reply::default();
                (0..written).for_each(|_| reply.error(error));
                reply.take_parts()
            }
        });
        send(self.client, self.promise, parts.collect());
    }
}

fn send(client: u64, promise: Promise, parts: Vec<Part>) {
    match encode(parts, MOST) {
        Some(replies) => promise.fulfill(replies),
        None => {
            tracing::warn!(
                client,
                "the replies to commands that write are too long, connection closed"
            );
            promise.fail("the replies are too long");
        }
    }
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
