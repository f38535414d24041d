//! A patient conversation: one question, and the loop runs until its answer is there.

use std::cell::RefCell;
use std::rc::Rc;

use asynchat::{AsyncChat, Chat, Close, Connector, Error, Result, Target, Terminator};
use bytes::Bytes;

use crate::PATIENCE;
use crate::plan::Exchange;

/// The largest block that is listened to: the LIST of a server with every group there is.
const BLOCK: Terminator = Terminator::dot_block().limit(64 << 20);

pub struct Dialogue {
    chat: Chat,
    heard: Rc<RefCell<Heard>>,
}

#[derive(Default)]
struct Heard {
    /// The command that waits for its reply.
    command: Option<Bytes>,
    /// The status line of a reply whose block is still coming.
    line: Option<Bytes>,
    reply: Option<Result<Exchange>>,
}

impl Dialogue {
    /// Connects, and listens to the greeting.
    pub fn open(target: Target) -> Result<(Dialogue, Exchange)> {
        let heard = Rc::<RefCell<Heard>>::default();
        let chat = Connector::new(target).connect_timeout(PATIENCE).connect({
            let heard = Rc::clone(&heard);
            move |chat| Listener { chat, heard }
        })?;
        let dialogue = Dialogue { chat, heard };
        let greeting = dialogue.say(Bytes::new())?;
        Ok((dialogue, greeting))
    }

    pub fn ask(&self, command: &str) -> Result<Exchange> {
        self.say(Bytes::from(format!("{command}\r\n")))
    }

    /// Runs the loop until the listener stops it.
    fn say(&self, command: Bytes) -> Result<Exchange> {
        self.heard.borrow_mut().command = Some(command.clone());
        self.chat.push(command);
        asynchat::run()?;
        let mut heard = self.heard.borrow_mut();
        let reply = heard.reply.take();
        reply.unwrap_or_else(|| {
            // It was somebody else who stopped it, and nobody waits any more.
            heard.command = None;
            Err("interrupted".into())
        })
    }
}

struct Listener {
    chat: Chat,
    heard: Rc<RefCell<Heard>>,
}

impl AsyncChat for Listener {
    fn handle_connect(&mut self) -> Result {
        self.chat.set_idle_timeout(PATIENCE);
        Ok(())
    }

    fn found_terminator(&mut self, record: &[u8]) -> Result {
        let mut heard = self.heard.borrow_mut();
        let command = heard.command.take();
        let command = command.ok_or("the server speaks without being asked")?;
        let record = Bytes::copy_from_slice(record);
        let (line, block) = match heard.line.take() {
            Some(line) => (line, Some(record)),
            None if Exchange::has_block(&command, &record) => {
                heard.line = Some(record);
                heard.command = Some(command);
                self.chat.set_terminator(BLOCK);
                return Ok(());
            }
            None => (record, None),
        };
        self.chat.set_terminator(Terminator::crlf());
        heard.reply = Some(Ok(Exchange {
            command,
            line,
            block,
        }));
        asynchat::stop();
        Ok(())
    }

    fn handle_close(&mut self, why: &Close) {
        let mut heard = self.heard.borrow_mut();
        if let Some(command) = heard.command.take() {
            let error = Error::new(why.to_string());
            heard.reply = Some(Err(match command.trim_ascii() {
                b"" => error,
                command => error.context(command.escape_ascii()),
            }));
            asynchat::stop();
        }
    }
}
