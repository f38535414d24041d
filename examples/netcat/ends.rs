//! The handlers of the two ends. The pipe between them forwards the data; they note how it ends.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Close, Result};

/// The error that the program exits with.
pub type Failure = Rc<Cell<Option<String>>>;

/// The handler of the connection to the peer.
pub struct Peer {
    chat: Chat,
    name: String,
    quiet: Duration,
    has_finished: bool,
    failure: Failure,
}

impl Peer {
    pub fn new(chat: Chat, name: String, quiet: Duration, failure: Failure) -> Self {
        Peer {
            chat,
            name,
            quiet,
            has_finished: false,
            failure,
        }
    }
}

impl AsyncChat for Peer {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }

    fn handle_piped(&mut self, chunk: &[u8]) -> Result {
        if chunk.is_empty() {
            self.has_finished = true;
            // TCP does not show whether the peer has closed the connection or half-closed it.
            self.chat.set_idle_timeout(self.quiet);
        }
        Ok(())
    }

    fn handle_close(&mut self, why: &Close) {
        let name = &self.name;
        let failure = match why {
            why if why.is_local() => return,
            Close::Eof | Close::Piped(_) => return,
            // The peer had closed the connection.
            Close::Timeout(_) | Close::Reset if self.has_finished => return,
            Close::Truncated => format!("{name}: {why}: the output may be incomplete"),
            why => format!("{name}: {why}"),
        };
        self.failure.set(Some(failure));
    }
}

/// The handler of standard input and output. The text of an error names the one that failed.
pub struct Terminal(pub Failure);

impl AsyncChat for Terminal {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }

    fn handle_close(&mut self, why: &Close) {
        // If a reader such as `head` closes the pipe, that is not a failure.
        if let Close::Io(error) = why {
            self.0.set(Some(error.to_string()));
        }
    }
}
