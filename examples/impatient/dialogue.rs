//! A blocking client: it sends one command, and runs the loop until the response is complete.

use std::cell::RefCell;
use std::rc::Rc;

use asynchat::{AsyncChat, Chat, Close, Result, Terminator};
use bytes::Bytes;

use crate::TIMEOUT;
use crate::endpoint::Endpoint;
use crate::plan::Exchange;

/// The limit of 64 MiB suffices for the LIST response of a server that has every existing group.
const BLOCK: Terminator = Terminator::dot_block().limit(64 << 20);

pub struct Dialogue {
    chat: Chat,
    /// The session stores the reply here, and stops the loop.
    reply: Rc<RefCell<Option<Result<Exchange>>>>,
}

impl Dialogue {
    /// Connects, and returns the greeting as an exchange with an empty command.
    pub fn open(endpoint: &Endpoint) -> Result<(Dialogue, Exchange)> {
        let reply = Rc::<RefCell<_>>::default();
        let chat = endpoint.connector().connect({
            let reply = Rc::clone(&reply);
            move |chat| Session::new(&chat, reply)
        })?;
        let dialogue = Dialogue { chat, reply };
        let greeting = dialogue.wait()?;
        Ok((dialogue, greeting))
    }

    /// Sends a command and returns its reply.
    pub fn ask(&self, command: &str) -> Result<Exchange> {
        let command = Bytes::from(format!("{command}\r\n"));
        self.chat.post(|session: &mut Session| {
            session.ask(command);
            Ok(())
        })?;
        self.wait()
    }

    /// Runs the loop until the session stops it. If there is no reply, Ctrl-C has stopped it.
    fn wait(&self) -> Result<Exchange> {
        asynchat::run()?;
        let reply = self.reply.borrow_mut().take();
        reply.unwrap_or_else(|| Err("interrupted".into()))
    }
}

struct Session {
    dialogue: asynchat::Dialogue<Session>,
    reply: Rc<RefCell<Option<Result<Exchange>>>>,
}

impl Session {
    fn new(chat: &Chat, reply: Rc<RefCell<Option<Result<Exchange>>>>) -> Session {
        chat.set_idle_timeout(TIMEOUT);
        let mut dialogue = asynchat::Dialogue::new(chat);
        dialogue.expect(Terminator::crlf(), |session: &mut Session, line| {
            session.finish(Bytes::new(), Bytes::copy_from_slice(line), None)
        });
        Session { dialogue, reply }
    }

    fn ask(&mut self, command: Bytes) {
        self.dialogue.send(command.clone(), |session, line| {
            let line = Bytes::copy_from_slice(line);
            if !Exchange::has_block(&command, &line) {
                return session.finish(command, line, None);
            }
            session.dialogue.expect(BLOCK, |session, block| {
                session.finish(command, line, Some(Bytes::copy_from_slice(block)))
            });
            Ok(())
        });
    }

    fn finish(&self, command: Bytes, line: Bytes, block: Option<Bytes>) -> Result {
        *self.reply.borrow_mut() = Some(Ok(Exchange {
            command,
            line,
            block,
        }));
        asynchat::stop();
        Ok(())
    }
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        let then = self.dialogue.receive(record)?;
        then(self)
    }

    fn handle_close(&mut self, why: &Close) {
        if let Err(error) = self.dialogue.outcome(why) {
            *self.reply.borrow_mut() = Some(Err(error.into()));
            asynchat::stop();
        }
    }
}
