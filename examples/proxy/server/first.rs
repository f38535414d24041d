//! The first byte of a connection tells the protocol, whose session then replaces this one.

use std::rc::Rc;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Result, Terminator, TimerId};

use super::Proxy;
use super::http::Client;
use super::places::Place;
use super::socks::Socks;
use crate::http1;

/// How long a client may take for the first byte if it is refused: there is no place for it.
const REFUSED: Duration = Duration::from_secs(2);

/// The session of a connection whose protocol is not known yet.
pub struct First {
    chat: Chat,
    proxy: Rc<Proxy>,
    timer: TimerId,
    /// `None` if there are too many connections.
    place: Option<Place>,
}

impl First {
    pub fn new(chat: Chat, proxy: Rc<Proxy>) -> First {
        chat.set_terminator(Terminator::count(1));
        let place = proxy.places.take(chat.peer_addr().as_ref());
        let idle = proxy.options.idle;
        let timer = chat.call_later(match place {
            Some(_) => idle,
            None => idle.min(REFUSED),
        });
        First {
            chat,
            proxy,
            timer,
            place,
        }
    }

    /// Says in the client's protocol that there are too many connections.
    fn refuse(&self, first: u8) {
        tracing::warn!("refused: too many connections, in all or of this address");
        match first {
            // RFC 1928 has no code for it before the request. No method is acceptable now.
            5 => self.chat.push_slice(&[5, 0xff]),
            4 => self.chat.push_slice(&SOCKS_4_REJECTED),
            _ => {
                let text = "too many connections, try again later\r\n";
                self.chat.push(http1::status::refusal(text));
            }
        }
        self.chat.close_when_done();
    }
}

/// SOCKS 4 has the reply 91: rejected.
const SOCKS_4_REJECTED: [u8; 8] = [0, 91, 0, 0, 0, 0, 0, 0];

impl AsyncChat for First {
    fn found_terminator(&mut self, first: &[u8]) -> Result {
        let (chat, proxy) = (self.chat.clone(), Rc::clone(&self.proxy));
        let Some(place) = self.place.take() else {
            self.refuse(first[0]);
            return Ok(());
        };
        match first {
            [5] => self
                .chat
                .replace_session(Socks::new(chat, proxy, self.timer, place)),
            [4] => {
                self.chat.push_slice(&SOCKS_4_REJECTED);
                return Err("SOCKS 4 is not supported".into());
            }
            [0x16] => return Err("TLS to the proxy itself is not supported".into()),
            // The byte belongs to the request.
            first => self
                .chat
                .replace_session(Client::new(chat, proxy, self.timer, first, place)),
        }
        Ok(())
    }

    /// The client has sent nothing.
    fn handle_timer(&mut self, _: TimerId) -> Result {
        self.chat.close();
        Ok(())
    }
}
