//! The first byte of a connection tells the protocol, whose session then replaces this one.

use std::rc::Rc;

use asynchat::{AsyncChat, Chat, Result, Terminator, TimerId};

use super::Proxy;
use super::http::Client;
use super::socks::Socks;

/// The session of a connection whose protocol is not known yet.
pub struct First {
    chat: Chat,
    proxy: Rc<Proxy>,
    timer: TimerId,
}

impl First {
    pub fn new(chat: Chat, proxy: Rc<Proxy>) -> First {
        chat.set_terminator(Terminator::count(1));
        let timer = chat.call_later(proxy.options.idle);
        First { chat, proxy, timer }
    }
}

impl AsyncChat for First {
    fn found_terminator(&mut self, first: &[u8]) -> Result {
        let (chat, proxy) = (self.chat.clone(), Rc::clone(&self.proxy));
        match first {
            [5] => self
                .chat
                .replace_session(Socks::new(chat, proxy, self.timer)),
            [4] => {
                // SOCKS 4 has the reply 91: rejected.
                self.chat.push_slice(&[0, 91, 0, 0, 0, 0, 0, 0]);
                return Err("SOCKS 4 is not supported".into());
            }
            [0x16] => return Err("TLS to the proxy itself is not supported".into()),
            // The byte belongs to the request.
            first => self
                .chat
                .replace_session(Client::new(chat, proxy, self.timer, first)),
        }
        Ok(())
    }

    /// The client has sent nothing.
    fn handle_timer(&mut self, _: TimerId) -> Result {
        self.chat.close();
        Ok(())
    }
}
