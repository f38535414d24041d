//! The session of a connection to a server: it receives responses, and forwards them piece by piece.

use std::mem;
use std::rc::Rc;

use asynchat::{AsyncChat, AtShutdown, Chat, Close, Eof, Result, Terminator};

use super::client::Client;
use super::exchange::{Exchange, MARK, Slot};
use super::response::{self, Head};
use crate::http1::body::Next;
use crate::http1::{self, Body, Response, Version, chunked};
use crate::server::Proxy;
use crate::server::dial::check_own_host;
use crate::server::failure::Failure;

/// The most interim responses to a request.
const MOST_INTERIM: u32 = 32;

/// The session. A connection serves one client only: what a server sends for one client never reaches another one.
pub struct Upstream {
    chat: Chat,
    proxy: Rc<Proxy>,
    slot: Slot,
    /// The part of a head that has arrived.
    head: Vec<u8>,
    interim: u32,
    /// The response whose head was forwarded.
    response: Option<Receiving>,
}

struct Receiving {
    body: Body,
    /// Whether it is sent to the client in chunks.
    chunked: bool,
    /// Whether the server accepts another request.
    keep_alive: bool,
}

impl Upstream {
    pub fn new(chat: Chat, proxy: Rc<Proxy>, slot: Slot) -> Upstream {
        chat.set_terminator(proxy.head.clone());
        chat.set_idle_timeout(proxy.options.idle);
        Upstream {
            chat,
            proxy,
            slot,
            head: vec![],
            interim: 0,
            response: None,
        }
    }

    fn exchange(&self) -> Option<Rc<Exchange>> {
        self.slot.borrow().clone()
    }

    fn found_head(&mut self, head: &[u8]) {
        let Some(exchange) = self.exchange() else {
            return self.chat.close();
        };
        let mut space = http1::field_space();
        let response = match Response::parse(head, &exchange.method, &mut space) {
            Ok(response) => response,
            Err(rejected) => return self.fail(Failure::BadResponse, rejected.why),
        };
        if response.is_interim() {
            return self.found_interim(&response, &exchange);
        }
        if response.status == 101 {
            return self.fail(Failure::BadResponse, "101 without an Upgrade field");
        }
        // A client that waited for 100 may now send its body or not. The proxy could not tell the body from the next request.
        if !exchange.request_complete.get() {
            exchange.keep_alive.set(false);
        }
        let head = match Head::new(&response, &exchange, &self.proxy.options.name) {
            Ok(head) => head,
            Err(rejected) => return self.fail(Failure::BadResponse, rejected.why),
        };
        exchange.client.push(head.bytes);
        exchange.status.set(response.status);
        exchange.limit_silence(&self.chat);
        exchange.sent.set(head.sent);
        self.response = Some(Receiving {
            body: Body::new(response.framing),
            chunked: head.chunked,
            keep_alive: response.keep_alive(),
        });
        self.advance();
    }

    /// RFC 9110 section 15.2: interim responses are forwarded, but not to a client of HTTP/1.0.
    fn found_interim(&mut self, response: &Response<'_>, exchange: &Rc<Exchange>) {
        self.interim += 1;
        if self.interim > MOST_INTERIM {
            return self.fail(Failure::BadResponse, "too many interim responses");
        }
        if exchange.version == Version::Http11 {
            match response::interim(response, &self.proxy.options.name) {
                Ok(head) => {
                    exchange.client.push(head);
                    self.wait_for_client(exchange);
                }
                Err(rejected) => self.fail(Failure::BadResponse, rejected.why),
            }
        }
    }

    /// Stops reading while too much is queued for the client.
    fn wait_for_client(&self, exchange: &Rc<Exchange>) {
        if exchange.client.queued() <= MARK {
            return;
        }
        // A slow client does not make the server's connection idle.
        self.chat.pause_reading();
        exchange.server_is_paused.set(true);
        exchange.limit_silence(&self.chat);
        let (chat, paused) = (self.chat.clone(), Rc::clone(exchange));
        exchange.client.push_hook(move || {
            paused.server_is_paused.set(false);
            paused.limit_silence(&chat);
            chat.resume_reading();
        });
    }

    /// A record of the body is complete.
    fn advance(&mut self) {
        match self.response.as_ref().map(|it| it.body.terminator()) {
            Some(Some(terminator)) => self.chat.set_terminator(terminator),
            Some(None) => self.complete(),
            None => {}
        }
    }

    /// The response is complete. What the server sends before the next request is no response to it.
    fn complete(&mut self) {
        let (Some(response), Some(exchange)) = (self.response.take(), self.slot.take()) else {
            return;
        };
        if response.chunked {
            exchange.client.push(chunked::LAST_CHUNK);
        }
        self.interim = 0;
        if !exchange.request_complete.get() {
            // The server must not take the request for complete.
            self.chat.abort();
        } else if response.keep_alive {
            self.chat.set_terminator(Terminator::none());
        } else {
            self.chat.close();
        }
        let client = exchange.client.clone();
        // An error means that the client has left.
        let _ = client.post::<Client>(move |client| {
            client.response_received(exchange);
            Ok(())
        });
    }

    /// There will be no response, or no complete one.
    fn fail(&mut self, failure: Failure, why: &str) {
        tracing::info!("{why}");
        self.report(failure, false);
        self.chat.abort();
    }

    fn report(&mut self, failure: Failure, may_repeat: bool) {
        if let Some(exchange) = self.slot.take() {
            let client = exchange.client.clone();
            // An error means that the client has left.
            let _ = client.post::<Client>(move |client| {
                client.response_failed(&exchange, failure, may_repeat);
                Ok(())
            });
        }
    }
}

impl AsyncChat for Upstream {
    fn handle_connect(&mut self) -> Result {
        if let Err(rule) = check_own_host(&self.proxy, &self.chat) {
            self.report(Failure::Prohibited(rule), false);
            self.chat.abort();
        }
        Ok(())
    }

    fn found_terminator(&mut self, record: &[u8]) -> Result {
        match &mut self.response {
            None => {
                let head = mem::take(&mut self.head);
                self.found_head(&head);
            }
            Some(response) => match response.body.found_terminator(record) {
                Ok(()) => self.advance(),
                Err(rejected) => self.fail(Failure::BadResponse, rejected.why),
            },
        }
        Ok(())
    }

    fn collect_incoming_data(&mut self, piece: &[u8]) -> Result {
        let Some(exchange) = self.exchange() else {
            // Bytes that no request has asked for.
            self.chat.close();
            return Ok(());
        };
        let Some(response) = &self.response else {
            let start = self.head.len();
            self.head.extend_from_slice(piece);
            if http1::has_bare_lf(&self.head, start) {
                self.fail(Failure::BadResponse, "a line ends with CR LF");
            }
            return Ok(());
        };
        let client = &exchange.client;
        if response.chunked {
            chunked::push_chunk(client, piece);
        } else {
            client.push_slice(piece);
        }
        self.wait_for_client(&exchange);
        Ok(())
    }

    fn handle_eof(&mut self, _: &[u8]) -> Result<Eof> {
        let until_close = |it: &Receiving| it.body.next() == Next::UntilClose;
        if self.response.as_ref().is_some_and(until_close) {
            self.complete();
        } else if self.slot.borrow().is_some() {
            self.report(Failure::Incomplete, true);
            self.chat.abort();
        }
        Ok(Eof::CloseWhenDone)
    }

    fn handle_shutdown(&mut self) -> Result<AtShutdown> {
        Ok(if self.slot.borrow().is_some() {
            AtShutdown::Stay
        } else {
            AtShutdown::CloseWhenDone
        })
    }

    fn handle_close(&mut self, why: &Close) {
        let Some(exchange) = self.exchange() else {
            return;
        };
        tracing::info!(target: "proxy::throttled", "server: {why}");
        match why {
            Close::ConnectFailed(error) => self.report(Failure::of_connect(error), false),
            // The server waited for the rest of the request.
            Close::Timeout(_) if !exchange.request_complete.get() && !exchange.is_paused.get() => {
                self.report(Failure::SlowRequest, false);
            }
            Close::Timeout(_) => self.report(Failure::TimedOut, false),
            Close::Shutdown | Close::Interrupted => self.report(Failure::Unavailable, false),
            Close::Reset | Close::Io(_) => self.report(Failure::Incomplete, true),
            _ => self.report(Failure::BadResponse, false),
        }
    }
}

#[cfg(all(test, feature = "sim"))]
mod tests {
    use std::net::SocketAddr;

    use asynchat::sim::{Ended, Network};

    use super::*;
    use crate::server::Options;
    use crate::server::dial::connect;

    /// As for a tunnel: the address was not checked before, and is the same at both ends.
    #[test]
    fn nothing_is_sent_to_the_host_of_the_proxy() -> Result {
        let to = SocketAddr::from(([127, 0, 0, 1], 9000));
        for is_listed in [false, true] {
            let mut options = Options::default();
            if is_listed {
                options.access.allow.push("127.0.0.1/32".parse()?);
            }
            let network = Network::new(1);
            let service = network.listen(to)?;
            let event_loop = network.event_loop()?;
            event_loop.call_soon(move || {
                let limits = options.limits;
                let proxy = Proxy::new(options).unwrap();
                let of_session = Rc::clone(&proxy);
                let server = connect(&proxy, vec![to], limits, |chat| {
                    Upstream::new(chat, of_session, Slot::default())
                });
                server.unwrap().push("a request");
            });
            network.settle(&event_loop)?;
            let server = service.accept().ok_or("it was not connected to")?;
            network.settle(&event_loop)?;
            let (received, ended) = if is_listed {
                ("a request", None)
            } else {
                ("", Some(Ended::Reset))
            };
            assert_eq!(server.received(), received.as_bytes());
            assert_eq!(server.ended(), ended);
        }
        Ok(())
    }
}
