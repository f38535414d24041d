//! The impatient client: sends all its commands without waiting, then checks the replies.

use std::mem;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Close, Eof, IterProducer, Result, TimerId};

use crate::TIMEOUT;
use crate::endpoint::Endpoint;
use crate::plan::Script;
use crate::replies::Replies;
use crate::tally::Tally;

/// If the kernel accepts no output for this time, its buffers count as full.
const STALL_INTERVAL: Duration = Duration::from_millis(5);

pub struct Impatient {
    chat: Chat,
    name: String,
    replies: Replies,
    tally: Rc<Tally>,
    /// How many bytes the kernel had accepted when the timer last fired.
    sent: u64,
}

impl Impatient {
    /// Starts a client.
    pub fn connect(endpoint: &Endpoint, name: String, script: Script, tally: Rc<Tally>) -> Result {
        endpoint.connector().connect(|chat| {
            chat.set_idle_timeout(TIMEOUT);
            Impatient {
                chat,
                name,
                replies: Replies::new(script),
                tally,
                sent: 0,
            }
        })?;
        Ok(())
    }

    /// Queues all commands at once. The producer makes them while the kernel accepts them, so a million
    /// commands need no more memory than a thousand.
    ///
    /// Reading is paused until the last command has been sent (the hook resumes it), or until the kernel
    /// accepts no more output (the timer resumes it). The timer prevents a deadlock: a server that limits
    /// its output stops reading from a client that does not read, and then the buffers of both ends are
    /// full. After that the client writes the remaining commands and reads responses at the same time.
    /// Even then, no command waits for a response.
    fn send_barrage(&self) {
        let tally = Rc::clone(&self.tally);
        let commands = self.replies.script().clone().barrage();
        let counted = commands.inspect(move |_| tally.count_command());
        self.chat.pause_reading();
        self.chat.push_with_producer(IterProducer::new(counted));
        let chat = self.chat.clone();
        self.chat.push_hook(move || chat.resume_reading());
        self.chat.call_every(STALL_INTERVAL);
    }
}

impl AsyncChat for Impatient {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        if !self.replies.found_terminator(&self.chat, record)? {
            return Ok(());
        }
        match self.replies.count() {
            Script::BARRAGE => self.send_barrage(),
            count if count > Script::BARRAGE => self.tally.count_response(),
            count => {
                let next = self.replies.script().exchange(count);
                self.chat
                    .push(next.map(|e| e.command.clone()).unwrap_or_default());
            }
        }
        Ok(())
    }

    fn collect_incoming_data(&mut self, chunk: &[u8]) -> Result {
        self.replies.collect_incoming_data(chunk)
    }

    fn handle_timer(&mut self, timer: TimerId) -> Result {
        let sent = self.chat.stats().bytes_out;
        if mem::replace(&mut self.sent, sent) == sent {
            self.chat.resume_reading();
            asynchat::cancel(timer);
        }
        Ok(())
    }

    fn handle_eof(&mut self, partial: &[u8]) -> Result<Eof> {
        match partial {
            [] => Ok(Eof::CloseWhenDone),
            _ => Err(format!("cut off after `{}`", partial.escape_ascii()).into()),
        }
    }

    fn handle_close(&mut self, why: &Close) {
        self.tally.count_bytes(self.chat.stats().bytes_in);
        let missing = self.replies.missing();
        self.tally.finish(match why {
            // The program closes the client before it has finished.
            why if why.is_local() => return,
            Close::Eof if missing == 0 => Ok(()),
            Close::Handler(error) => Err(format!("{}: {error}", self.name)),
            why if missing == 0 => Err(format!("{}: no end of file after QUIT: {why}", self.name)),
            why => Err(format!(
                "{}: {why}; {missing} responses are missing",
                self.name
            )),
        });
    }
}
