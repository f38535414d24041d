//! A client's session, and the two ways in which it waits for its gold.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use asynchat::{AsyncChat, Chat, Promise, Remote, Result, Terminator};

use crate::furnace::{Furnace, Gold};

/// What a connection does while its bucket is in the works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// It waits for the gold before it reads on.
    Paused,
    /// It reads on; replies leave in the order of the requests.
    Pipelined,
}

/// What holds for all sessions.
pub(crate) struct Terms {
    /// Where the work is done.
    pub(crate) furnace: Furnace,
    /// How a session waits.
    pub(crate) mode: Mode,
    /// How many buckets of a pipelined session may be in the works.
    pub(crate) in_works: usize,
    /// The largest bucket, in bytes.
    pub(crate) bucket: usize,
    /// The way back.
    pub(crate) remote: Remote,
}

/// A session.
pub(crate) struct Alchemist {
    chat: Chat,
    terms: Rc<Terms>,
    reading: Reading,
    /// How many promises of gold are in the queue.
    promised: Rc<Cell<usize>>,
    /// Dropped with the session, which is how its work knows that nobody waits for it any more.
    here: Arc<()>,
}

/// What the next record is.
enum Reading {
    Command,
    /// The water that has come so far.
    Bucket(Vec<u8>),
    /// A bucket that is too large, which is not kept.
    Spill,
}

impl Alchemist {
    /// The session of this connection.
    pub(crate) fn new(chat: Chat, terms: Rc<Terms>) -> Self {
        Alchemist {
            chat,
            terms,
            reading: Reading::Command,
            promised: Rc::default(),
            here: Arc::default(),
        }
    }

    fn command(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let (verb, argument) = line.split_once(' ').unwrap_or((&line, ""));
        match verb.to_ascii_uppercase().as_str() {
            "TURN" => match argument.parse() {
                Ok(size) => self.receive(size),
                // How much water follows is anybody's guess: the commands behind it are lost.
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

    /// Streamed, so that the water comes straight into the bucket that goes to the furnace.
    fn receive(&mut self, size: u64) {
        self.reading = match usize::try_from(size) {
            Ok(size) if size <= self.terms.bucket => Reading::Bucket(Vec::new()),
            _ => Reading::Spill,
        };
        self.chat.set_terminator(Terminator::count(size).streamed());
        // Not before there is one more than may be: a connection that is read notices a reset.
        if self.promised.get() >= self.terms.in_works {
            self.chat.pause_reading();
        }
    }

    fn turn(&self, water: Vec<u8>) {
        match self.terms.mode {
            Mode::Paused => self.turn_paused(water),
            Mode::Pipelined => self.turn_pipelined(water),
        }
    }

    /// The worker visits this very session with the gold. If the session has ended by then, the
    /// visit is dropped.
    fn turn_paused(&self, water: Vec<u8>) {
        self.chat.pause_reading();
        let (id, remote) = (self.chat.id(), self.terms.remote.clone());
        let client = Arc::downgrade(&self.here);
        self.terms.furnace.turn(water, client, move |gold| {
            // An error means that the loop is gone, and the session with it.
            let _ = remote.post_to(id, move |session: &mut Alchemist| {
                session.chat.push(reply(gold));
                session.chat.resume_reading();
                Ok(())
            });
        });
    }

    /// The reply takes its place in the queue now, and the hook behind it is called when it is out:
    /// gold that is ready but has to wait for its turn counts, too, for it takes memory.
    fn turn_pipelined(&self, water: Vec<u8>) {
        let (promise, later) = Promise::new(&self.chat);
        self.chat.push_with_producer(later);
        self.promised.set(self.promised.get() + 1);
        let (chat, promised) = (self.chat.clone(), Rc::clone(&self.promised));
        self.chat.push_hook(move || {
            promised.set(promised.get() - 1);
            chat.resume_reading();
        });
        let client = Arc::downgrade(&self.here);
        let deliver = |gold| promise.fulfill(reply(gold));
        self.terms.furnace.turn(water, client, deliver);
    }
}

impl AsyncChat for Alchemist {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        match std::mem::replace(&mut self.reading, Reading::Command) {
            Reading::Command => {
                self.command(record);
                return Ok(());
            }
            Reading::Bucket(water) => self.turn(water),
            Reading::Spill => self.chat.push("552 the bucket is too large\r\n"),
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
