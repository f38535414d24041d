use std::cell::Cell;
use std::rc::Rc;

use asynchat::{AsyncChat, Channel, Chat, Close, Eof, Limits, Result, Terminator};

struct Half {
    chat: Chat,
    other: Chat,
    one_has_ended: Rc<Cell<bool>>,
}

impl Half {
    fn new(chat: Chat, other: Chat, one_has_ended: &Rc<Cell<bool>>) -> Self {
        chat.set_terminator(Terminator::none());
        // Each way rests by itself. By default a full queue stops the input beside it, too: right
        // for commands and their answers, but two ways that wait for each other would hang.
        chat.set_limits(Limits::default().water(0, Limits::UNLIMITED));
        let one_has_ended = Rc::clone(one_has_ended);
        Half {
            chat,
            other,
            one_has_ended,
        }
    }
}

impl AsyncChat for Half {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(()) // nothing terminates
    }

    fn collect_incoming_data(&mut self, chunk: &[u8]) -> Result {
        self.other.push_slice(chunk);
        self.chat.pause_reading(); // until the other side has taken it
        let chat = self.chat.clone();
        self.other.push_hook(move || chat.resume_reading());
        Ok(())
    }

    fn handle_eof(&mut self, _: &[u8]) -> Result<Eof> {
        self.other.shutdown_write();
        Ok(match self.one_has_ended.replace(true) {
            true => Eof::CloseWhenDone,
            false => Eof::StayOpen, // for the answer
        })
    }

    fn handle_close(&mut self, _: &Close) {
        self.other.close_when_done();
    }
}

pub fn start(addr: &str, upstream: &str) -> Result<Channel> {
    let upstream = upstream.to_owned();
    asynchat::listen(addr, move |client| {
        let one_has_ended = Rc::default();
        let (near, ended) = (client.clone(), Rc::clone(&one_has_ended));
        let server = asynchat::connect(&upstream, move |chat| Half::new(chat, near, &ended));
        let other = server.unwrap_or_else(|_| {
            client.close(); // no descriptors are left
            client.clone()
        });
        Half::new(client, other, &one_has_ended)
    })
}
