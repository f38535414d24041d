//! A blocking client: it sends one command, and runs the loop until the response is complete.

use std::cell::RefCell;
use std::rc::Rc;

use asynchat::{AsyncChat, Chat, Close, Connector, Error, Result, Target, Terminator};
use bytes::Bytes;

use crate::TIMEOUT;
use crate::plan::Exchange;

/// The limit of 64 MiB suffices for the LIST response of a server that has every existing group.
const BLOCK: Terminator = Terminator::dot_block().limit(64 << 20);

pub struct Dialogue {
    chat: Chat,
    progress: Rc<RefCell<InProgress>>,
}

/// The exchange that is in progress. The session fills it in.
#[derive(Default)]
struct InProgress {
    /// The command whose reply is not complete.
    command: Option<Bytes>,
    /// The status line of a reply whose block is not complete.
    line: Option<Bytes>,
    reply: Option<Result<Exchange>>,
}

impl Dialogue {
    /// Connects, and returns the greeting as an exchange with an empty command.
    pub fn open(target: Target) -> Result<(Dialogue, Exchange)> {
        let progress = Rc::<RefCell<InProgress>>::default();
        let chat = Connector::new(target).connect_timeout(TIMEOUT).connect({
            let progress = Rc::clone(&progress);
            move |chat| Session { chat, progress }
        })?;
        let dialogue = Dialogue { chat, progress };
        let greeting = dialogue.exchange(Bytes::new())?;
        Ok((dialogue, greeting))
    }

    /// Sends a command and returns its reply.
    pub fn ask(&self, command: &str) -> Result<Exchange> {
        self.exchange(Bytes::from(format!("{command}\r\n")))
    }

    /// Sends a command and runs the loop until the session stops it.
    fn exchange(&self, command: Bytes) -> Result<Exchange> {
        self.progress.borrow_mut().command = Some(command.clone());
        self.chat.push(command);
        asynchat::run()?;
        let mut progress = self.progress.borrow_mut();
        let reply = progress.reply.take();
        reply.unwrap_or_else(|| {
            // Ctrl-C stopped the loop.
            progress.command = None;
            Err("interrupted".into())
        })
    }
}

struct Session {
    chat: Chat,
    progress: Rc<RefCell<InProgress>>,
}

impl AsyncChat for Session {
    fn handle_connect(&mut self) -> Result {
        self.chat.set_idle_timeout(TIMEOUT);
        Ok(())
    }

    fn found_terminator(&mut self, record: &[u8]) -> Result {
        let mut progress = self.progress.borrow_mut();
        let command = progress.command.take();
        let command = command.ok_or("the server sent a line without a command")?;
        let record = Bytes::copy_from_slice(record);
        let (line, block) = match progress.line.take() {
            Some(line) => (line, Some(record)),
            None if Exchange::has_block(&command, &record) => {
                progress.line = Some(record);
                progress.command = Some(command);
                self.chat.set_terminator(BLOCK);
                return Ok(());
            }
            None => (record, None),
        };
        self.chat.set_terminator(Terminator::crlf());
        progress.reply = Some(Ok(Exchange {
            command,
            line,
            block,
        }));
        asynchat::stop();
        Ok(())
    }

    fn handle_close(&mut self, why: &Close) {
        let mut progress = self.progress.borrow_mut();
        if let Some(command) = progress.command.take() {
            let error = Error::new(why.to_string());
            progress.reply = Some(Err(match command.trim_ascii() {
                b"" => error.into(),
                command => error.context(command.escape_ascii()).into(),
            }));
            asynchat::stop();
        }
    }
}
