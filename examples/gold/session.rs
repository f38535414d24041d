//! The handler of a connection, with two modes of waiting for the work.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use asynchat::{AsyncChat, Chat, Remote, Result, Terminator};

use crate::furnace::{Furnace, Gold};

/// What a connection does while its bucket is being worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// It is not read until the reply is queued.
    Paused,
    /// It is read; replies are sent in the order of the requests.
    Pipelined,
}

/// The state that all sessions share.
pub(crate) struct Service {
    /// Does the work.
    pub(crate) furnace: Furnace,
    pub(crate) mode: Mode,
    /// How many replies to TURN may be pending on a pipelined connection.
    pub(crate) max_pending: usize,
    /// The maximum size of a bucket in bytes.
    pub(crate) bucket: usize,
    /// Workers call the sessions through it.
    pub(crate) remote: Remote,
}

/// The handler of a connection.
pub(crate) struct Session {
    chat: Chat,
    service: Rc<Service>,
    reading: Reading,
    /// How many replies to TURN are pending.
    pending: Rc<Cell<usize>>,
    /// Workers have a weak reference to it. When the session is dropped, they cancel its work.
    alive: Arc<()>,
}

/// What the next record is.
enum Reading {
    Command,
    /// A bucket, with the water that has arrived so far.
    Bucket(Vec<u8>),
    /// A bucket that is too large, whose content is discarded.
    Oversized,
}

impl Session {
    /// Creates the session of a connection.
    pub(crate) fn new(chat: Chat, service: Rc<Service>) -> Self {
        Session {
            chat,
            service,
            reading: Reading::Command,
            pending: Rc::default(),
            alive: Arc::default(),
        }
    }

    fn command(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let (verb, argument) = line.split_once(' ').unwrap_or((&line, ""));
        match verb.to_ascii_uppercase().as_str() {
            "TURN" => match argument.parse() {
                Ok(size) => self.receive(size),
                // The amount of water that follows is unknown, so the next command cannot be found.
                Err(_) => {
                    self.chat.push("501 TURN n, and n bytes of water\r\n");
                    self.chat.close_when_done();
                }
            },
            "PING" => self.chat.push("200 pong\r\n"),
            "QUIT" => {
                self.chat.push("221 bye\r\n");
                self.chat.close_when_done();
            }
            _ => self.chat.push("500 TURN n, PING or QUIT\r\n"),
        }
    }

    /// Receives a bucket. It is streamed, so that the water is collected in the buffer that the furnace gets.
    fn receive(&mut self, size: u64) {
        self.reading = match usize::try_from(size) {
            Ok(size) if size <= self.service.bucket => Reading::Bucket(Vec::new()),
            _ => Reading::Oversized,
        };
        self.chat.set_terminator(Terminator::count(size).streamed());
        // Reading is paused only when one bucket more arrives than may be pending: a connection that is
        // read notices a reset.
        if self.pending.get() >= self.service.max_pending {
            self.chat.pause_reading();
        }
    }

    fn turn(&self, water: Vec<u8>) {
        match self.service.mode {
            Mode::Paused => self.turn_paused(water),
            Mode::Pipelined => self.turn_pipelined(water),
        }
    }

    /// Pauses reading. The worker posts the reply to this session. If the session has ended by then, the post
    /// is dropped.
    fn turn_paused(&self, water: Vec<u8>) {
        self.chat.pause_reading();
        let (id, remote) = (self.chat.id(), self.service.remote.clone());
        let client = Arc::downgrade(&self.alive);
        self.service.furnace.turn(water, client, move |gold| {
            // `post_to` fails if the loop has ended, and then the session has ended, too.
            let _ = remote.post_to(id, move |session: &mut Session| {
                session.chat.push(reply(gold));
                session.chat.resume_reading();
                Ok(())
            });
        });
    }

    /// Queues a promise of the reply, and a hook behind it that runs when the reply has been sent. A reply
    /// that is ready but queued behind others counts as pending, because it uses memory.
    fn turn_pipelined(&self, water: Vec<u8>) {
        let promise = self.chat.promise();
        self.pending.set(self.pending.get() + 1);
        let (chat, pending) = (self.chat.clone(), Rc::clone(&self.pending));
        self.chat.push_hook(move || {
            pending.set(pending.get() - 1);
            chat.resume_reading();
        });
        let client = Arc::downgrade(&self.alive);
        let deliver = |gold| promise.fulfill(reply(gold));
        self.service.furnace.turn(water, client, deliver);
    }
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        match std::mem::replace(&mut self.reading, Reading::Command) {
            Reading::Command => {
                self.command(record);
                return Ok(());
            }
            Reading::Bucket(water) => self.turn(water),
            Reading::Oversized => self.chat.push("552 the bucket is too large\r\n"),
        }
        self.chat.set_terminator(Terminator::crlf());
        Ok(())
    }

    fn collect_incoming_data(&mut self, chunk: &[u8]) -> Result {
        if let Reading::Bucket(water) = &mut self.reading {
            water.extend_from_slice(chunk);
        }
        Ok(())
    }
}

fn reply(gold: Gold) -> String {
    match gold {
        Ok(gold) => format!("250 gold {gold:016x}\r\n"),
        Err(why) => format!("451 {why}\r\n"),
    }
}
