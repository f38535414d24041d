//! The patient client: asks, waits for the reply, takes the time, asks again.

use std::rc::Rc;
use std::time::Instant;

use asynchat::{AsyncChat, Chat, Close, Connector, Result, Target};

use crate::PATIENCE;
use crate::plan::Script;
use crate::replies::Replies;
use crate::tally::Tally;

pub struct Patient {
    chat: Chat,
    name: String,
    replies: Replies,
    tally: Rc<Tally>,
    asked: Instant,
}

impl Patient {
    /// Sends one to the server; it stays until its channel is closed.
    pub fn connect(target: Target, name: String, script: Script, tally: Rc<Tally>) -> Result {
        Connector::new(target)
            .connect_timeout(PATIENCE)
            .connect(|chat| {
                chat.set_idle_timeout(PATIENCE);
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
            // The program ends.
            Close::Local | Close::Shutdown => {}
            Close::Handler(error) => self.tally.fail(format!("{}: {error}", self.name)),
            why => self.tally.fail(format!("{}: {why}", self.name)),
        }
    }
}
