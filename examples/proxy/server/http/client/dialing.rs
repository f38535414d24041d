//! The way of a request to its server, when its address was looked up.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use asynchat::{Addr, Result};

use super::super::exchange::{SERVER_HIGH_WATER, Slot};
use super::super::upstream::Upstream;
use super::{Client, Dialing, Link, State};
use crate::server::dial::{LooksUp, connect};
use crate::server::failure::Failure;
use crate::server::tunnel::{Opens, open};

impl LooksUp for Client {
    fn looked_up(&mut self, outcome: Result<Vec<SocketAddr>, Failure>) -> Result {
        self.chat.cancel(self.timer);
        match &mut self.state {
            State::Tunnel(tunnel) => {
                match outcome.and_then(|addrs| open::<Client>(&self.proxy, &self.chat, addrs)) {
                    Ok(far) => tunnel.dialing = Dialing::Connecting(far),
                    Err(why) => self.fail(why),
                }
            }
            State::Forward(forwarding) => {
                forwarding.look_up = None;
                let slot: Slot = Rc::new(RefCell::new(None));
                let limits = self.proxy.options.limits.high_water(SERVER_HIGH_WATER);
                let of_server = (Rc::clone(&self.proxy), Rc::clone(&slot));
                let chat = outcome.and_then(|addrs| {
                    let (proxy, slot) = of_server;
                    connect(&self.proxy, addrs, limits, |chat| {
                        Upstream::new(chat, proxy, slot)
                    })
                });
                let to = forwarding.to.clone();
                match chat {
                    Ok(chat) => self.send_to(Link { to, chat, slot }),
                    Err(why) => self.fail(why),
                }
            }
            State::Head | State::LoggingIn | State::Ended => {}
        }
        Ok(())
    }
}

impl Opens for Client {
    fn opened(_: Option<Addr>) -> Vec<u8> {
        b"HTTP/1.1 200 Connection established\r\n\r\n".to_vec()
    }

    fn failed(&mut self, why: Failure) -> Result {
        self.fail(why);
        Ok(())
    }
}
