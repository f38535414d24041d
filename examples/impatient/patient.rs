//! The patient client: sends one command, waits for its reply, records the latency, and repeats.

use std::rc::Rc;
use std::time::Instant;

use asynchat::{AsyncChat, Chat, Close, Result};

use crate::TIMEOUT;
use crate::endpoint::Endpoint;
use crate::plan::Script;
use crate::replies::Replies;
use crate::tally::Tally;

pub struct Patient {
    chat: Chat,
    name: String,
    replies: Replies,
    tally: Rc<Tally>,
    /// When the last command was sent.
    asked: Instant,
}

impl Patient {
    /// Starts a client. It continues until its channel is closed.
    pub fn connect(endpoint: &Endpoint, name: String, script: Script, tally: Rc<Tally>) -> Result {
        endpoint.connector().connect(|chat| {
            chat.set_idle_timeout(TIMEOUT);
            Patient {
                chat,
                name,
                replies: Replies::new(script),
                tally,
                asked: Instant::now(),
            }
        })?;
        Ok(())
    }
}

impl AsyncChat for Patient {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        if !self.replies.found_terminator(&self.chat, record)? {
            return Ok(());
        }
        let count = self.replies.count();
        if count > Script::OPENING as u64 {
            self.tally.record_latency(self.asked.elapsed());
        }
        if let Some(next) = self.replies.script().exchange(count) {
            self.chat.push(next.command.clone());
            self.asked = Instant::now();
        }
        Ok(())
    }

    fn collect_incoming_data(&mut self, chunk: &[u8]) -> Result {
        self.replies.collect_incoming_data(chunk)
    }

    fn handle_close(&mut self, why: &Close) {
        match why {
            // The program closes the client.
            why if why.is_local() => {}
            Close::Handler(error) => self.tally.fail(format!("{}: {error}", self.name)),
            why => self.tally.fail(format!("{}: {why}", self.name)),
        }
    }
}
