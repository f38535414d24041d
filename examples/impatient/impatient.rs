//! The impatient client: says all it has to say at once, and counts the replies afterwards.

use std::mem;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Close, Connector, Eof, IterProducer, Result, Target, TimerId};

use crate::PATIENCE;
use crate::plan::Script;
use crate::replies::Replies;
use crate::tally::Tally;

/// The kernel counts as full when it has taken nothing for so long.
const STANDSTILL: Duration = Duration::from_millis(5);

pub struct Impatient {
    chat: Chat,
    name: String,
    replies: Replies,
    tally: Rc<Tally>,
    /// What the kernel had taken when last looked.
    taken: u64,
}

impl Impatient {
    /// Sends one to the server.
    pub fn connect(target: Target, name: String, script: Script, tally: Rc<Tally>) -> Result {
        Connector::new(target)
            .connect_timeout(PATIENCE)
            .connect(|chat| {
                chat.set_idle_timeout(PATIENCE);
                Impatient {
                    chat,
                    name,
                    replies: Replies::new(script),
                    tally,
                    taken: 0,
                }
            })?;
        Ok(())
    }

    /// All the commands, in one go. The producer makes them as the kernel takes them, so that a
    /// million need no more memory than a thousand.
    ///
    /// Meanwhile nothing is read: until all is sent, which the hook tells, or until the kernel
    /// takes no more, which the timer finds out. To insist on sending it all first would be to
    /// wait for ever: a server that bounds its output stops reading those who do not read, and
    /// then the buffers of both ends are full. From there on the rest is written and the
    /// responses are read side by side, and still no command waits for a response.
    fn fire(&self) {
        let tally = Rc::clone(&self.tally);
        let commands = self.replies.script().clone().barrage();
        let counted = commands.inspect(move |_| tally.count_command());
        self.chat.pause_reading();
        self.chat.push_with_producer(IterProducer::new(counted));
        let chat = self.chat.clone();
        self.chat.push_hook(move || chat.resume_reading());
        self.chat.call_every(STANDSTILL);
    }
}

impl AsyncChat for Impatient {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        if !self.replies.found_terminator(&self.chat, record)? {
            return Ok(());
        }
        match self.replies.count() {
            Script::BARRAGE => self.fire(),
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
        let taken = self.chat.stats().bytes_out;
        if mem::replace(&mut self.taken, taken) == taken {
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
            // The program ends before the client does.
            Close::Local | Close::Shutdown => return,
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
