//! The session of a client that speaks HTTP: it receives requests, one at a time.

mod dialing;
mod login;
mod replies;
mod upload;

use std::cell::Cell;
use std::io;
use std::mem;
use std::rc::Rc;
use std::time::Duration;

use asynchat::bytes::Bytes;
use asynchat::{
    AsyncChat, AtShutdown, Chat, Close, Eof, More, Overflow, Producer, RecordLimit, Result, TimerId,
};

use self::login::Sender;
use self::replies::Event;
use super::exchange::{Exchange, Sent, Slot};
use super::request::{Absolute, is_idempotent, max_forwards};
use crate::http1::{self, Body, Framing, Rejected, Request, Version};
use crate::server::Proxy;
use crate::server::dial::{Destination, LookUp, look_up};
use crate::server::failure::Failure;
use crate::server::places::Place;
use crate::server::tunnel::{log_end, was_half_closed};
use crate::server::under_way::Begun;

/// The session. The next request is not read before the response is complete, so pipelined requests are served in
/// order.
pub struct Client {
    chat: Chat,
    proxy: Rc<Proxy>,
    /// Bounds the time for a head, for silence between two requests, for a look-up, and for each part of a body.
    timer: TimerId,
    /// The part of a head that has arrived. It is the next one if a request is being forwarded.
    head: Vec<u8>,
    next: Next,
    /// The user of the latest request, set once its password was right. A claimed name may be a password that was typed into
    /// the wrong field, so it is logged at debug level only.
    user: Option<String>,
    state: State,
    /// How many replies the proxy has made itself since the latest response of a server.
    own_replies: u32,
    /// Whether the next reply is the last one, because of a shutdown or a log-in that has taken too long.
    is_last: bool,
    /// The connection to the server of the latest request, for more requests to it.
    server: Option<Link>,
    _place: Place,
}

enum State {
    Head,
    /// The head is complete, and the password in it is being checked.
    LoggingIn,
    Tunnel(Tunnel),
    Forward(Forwarding),
    /// The connection closes after a reply.
    Ended,
}

/// The next request, while one is being forwarded.
enum Next {
    Incomplete,
    /// Its head is complete.
    Complete,
    Rejected(Rejected),
}

/// A tunnel, or the way to one.
struct Tunnel {
    to: Destination,
    dialing: Dialing,
    _under_way: Begun,
}

enum Dialing {
    LookingUp(#[expect(dead_code, reason = "dropping it withdraws the look-up")] LookUp),
    Connecting(Chat),
}

/// A request that is being forwarded.
struct Forwarding {
    exchange: Rc<Exchange>,
    to: Destination,
    /// The head for the server.
    head: Bytes,
    /// The rest of the body.
    body: Body,
    chunked: bool,
    /// The rest of its length, or more if it is not known.
    left: u64,
    /// How much of the body has arrived since its progress was checked.
    received: u64,
    look_up: Option<LookUp>,
    /// Whether the request may be sent again on another connection.
    may_repeat: bool,
    _under_way: Begun,
}

impl Tunnel {
    fn is_looking_up(&self) -> bool {
        matches!(self.dialing, Dialing::LookingUp(_))
    }
}

struct Link {
    to: Destination,
    chat: Chat,
    slot: Slot,
}

impl Client {
    /// `received` is the beginning of the first head. `timer` bounds the time for it.
    pub fn new(
        chat: Chat,
        proxy: Rc<Proxy>,
        timer: TimerId,
        received: &[u8],
        place: Place,
    ) -> Client {
        chat.set_terminator(proxy.head.clone());
        Client {
            chat,
            proxy,
            timer,
            head: received.to_vec(),
            next: Next::Incomplete,
            user: None,
            state: State::Head,
            own_replies: 0,
            is_last: false,
            server: None,
            _place: place,
        }
    }

    fn set_timer(&mut self, delay: Duration) {
        if !self.chat.reschedule(self.timer, delay) {
            self.timer = self.chat.call_later(delay);
        }
    }

    // ---- requests

    fn found_head(&mut self, head: &[u8]) {
        if http1::is_blank(head) {
            return;
        }
        let mut space = http1::field_space();
        let request = match Request::parse(head, &mut space) {
            Ok(request) => request,
            Err(rejected) => return self.refuse(rejected),
        };
        match self.log_in(&request) {
            Some(sender) => self.serve(&request, sender),
            None => self.wait_for_login(head),
        }
    }

    fn serve(&mut self, request: &Request<'_>, sender: Sender) {
        if !self.admit(request, sender) {
            return;
        }
        match request.method {
            "CONNECT" => self.connect(request),
            // It would show a client's credentials to scripts.
            "TRACE" => self.reply(request, 501, "TRACE is not forwarded"),
            _ if max_forwards(request) == Some(0) => self.reply(request, 200, ""),
            _ => match Absolute::parse(request.target) {
                Ok(target) => self.forward(request, target),
                Err(rejected) => self.reply(request, rejected.status, rejected.why),
            },
        }
    }

    /// CONNECT: RFC 9110 section 9.3.6.
    fn connect(&mut self, request: &Request<'_>) {
        if request.framing != Framing::Empty {
            // What follows would be a body for one parser, and a part of the tunnel for another one.
            return self.reply(request, 400, "CONNECT has no body");
        }
        let Some(to) = Destination::parse(request.target, None) else {
            return self.reply(request, 400, "the target of CONNECT is host:port");
        };
        self.chat.pause_reading();
        self.set_timer(self.proxy.options.connect);
        let asked = look_up::<Client>(&self.proxy, &self.chat, &to);
        self.state = State::Tunnel(Tunnel {
            to,
            dialing: Dialing::LookingUp(asked),
            _under_way: self.proxy.options.under_way.begin(),
        });
    }

    fn forward(&mut self, request: &Request<'_>, target: Absolute<'_>) {
        if let Err(rule) = self.proxy.access.check_port(target.to.port) {
            return self.prohibit(request, rule, &target.to);
        }
        let head = match target.head(request, &self.proxy.options.name) {
            Ok(head) => head,
            Err(rejected) => return self.reply(request, rejected.status, rejected.why),
        };
        let has_body = request.framing != Framing::Empty;
        let exchange = Exchange {
            client: self.chat.clone(),
            method: request.method.to_owned(),
            version: request.version,
            // RFC 9112 appendix C.2.2: a proxy keeps no connection of HTTP/1.0.
            keep_alive: Cell::new(
                request.version == Version::Http11 && request.keep_alive() && !self.is_last,
            ),
            request_complete: Cell::new(!has_body),
            is_paused: Cell::new(false),
            server_is_paused: Cell::new(false),
            has_body,
            client_has_finished: Cell::new(false),
            idle: self.proxy.options.idle,
            status: Cell::new(0),
            sent: Cell::new(Sent::Nothing),
            bytes_before: Cell::new(0),
        };
        self.state = State::Forward(Forwarding {
            exchange: Rc::new(exchange),
            to: target.to,
            head,
            body: Body::new(request.framing),
            chunked: request.framing == Framing::Chunked,
            left: match request.framing {
                Framing::Length(length) => length,
                _ => u64::MAX,
            },
            received: 0,
            look_up: None,
            may_repeat: false,
            _under_way: self.proxy.options.under_way.begin(),
        });
        if has_body {
            // Until there is a connection to the server.
            self.chat.pause_reading();
        }
        self.set_body_terminator();
        self.find_server(is_idempotent(request.method) && !has_body);
    }

    /// Uses the connection of the previous request, or begins to look the server up.
    fn find_server(&mut self, is_repeatable: bool) {
        let State::Forward(forwarding) = &mut self.state else {
            return;
        };
        match self.server.take() {
            Some(link) if link.to == forwarding.to && !link.chat.is_closing() => {
                // The server may close the connection at this very moment (RFC 9112 section 9.3.1).
                forwarding.may_repeat = is_repeatable;
                self.chat.cancel(self.timer);
                link.chat.set_terminator(self.proxy.head.clone());
                return self.send_to(link);
            }
            Some(link) => link.chat.close(),
            None => {}
        }
        forwarding.may_repeat = false;
        forwarding.look_up = Some(look_up::<Client>(&self.proxy, &self.chat, &forwarding.to));
        self.set_timer(self.proxy.options.connect);
    }

    /// Sends the head of the request, and lets its body follow.
    fn send_to(&mut self, link: Link) {
        if let State::Forward(forwarding) = &self.state {
            let exchange = &forwarding.exchange;
            exchange.bytes_before.set(link.chat.stats().bytes_in);
            link.slot.replace(Some(Rc::clone(exchange)));
            exchange.limit_silence(&link.chat);
            link.chat.push(forwarding.head.clone());
            if !exchange.request_complete.get() {
                self.receive_body();
            }
        }
        self.server = Some(link);
    }

    /// Whether a request is being forwarded, and was received to its end.
    fn is_waiting(&self) -> bool {
        matches!(&self.state, State::Forward(it) if it.exchange.request_complete.get())
    }

    /// The next request waits. Nothing more is read before the response is complete.
    fn set_next(&mut self, next: Next) {
        self.next = next;
        self.chat.pause_reading();
    }

    /// A call of a server's session may be about an earlier exchange.
    fn is_forwarding(&self, exchange: &Rc<Exchange>) -> bool {
        matches!(&self.state, State::Forward(it) if Rc::ptr_eq(&it.exchange, exchange))
    }

    // ---- responses

    /// The response is complete. What its server has sent behind it may be delivered in the next turn of the loop only,
    /// and closes the connection. The next request waits for that, or it would be taken for the response to it.
    pub fn response_received(&mut self, exchange: Rc<Exchange>) {
        // It has not ended: this is a call of it.
        let _ = self.chat.post::<Client>(move |client| {
            client.response_done(&exchange);
            Ok(())
        });
    }

    fn response_done(&mut self, exchange: &Rc<Exchange>) {
        if self.is_forwarding(exchange) {
            self.own_replies = 0;
            self.log(exchange.status.get(), "");
            self.finish(exchange.keep_alive.get() && exchange.request_complete.get());
        }
    }

    /// The response is incomplete or missing. If `may_repeat`, the server has ended the connection.
    pub fn response_failed(&mut self, exchange: &Rc<Exchange>, why: Failure, may_repeat: bool) {
        if !self.is_forwarding(exchange) {
            return;
        }
        let link = self.server.take();
        let State::Forward(forwarding) = &self.state else {
            return;
        };
        let received = link.map(|link| link.chat.stats().bytes_in);
        let is_untouched = received == Some(exchange.bytes_before.get());
        match exchange.sent.get() {
            Sent::Nothing if may_repeat && forwarding.may_repeat && is_untouched => {
                self.find_server(false);
            }
            Sent::Nothing => self.fail(why),
            // The body must not look complete. Its length or the last chunk is missing.
            Sent::Head => {
                self.log(exchange.status.get(), "cut");
                self.finish(false);
            }
            // Here only a reset shows it.
            Sent::HeadUntilClose => {
                self.log(exchange.status.get(), "cut");
                self.chat.push_with_producer(Cut);
                self.finish(false);
            }
        }
    }

    /// The next request may follow, or the connection ends.
    fn finish(&mut self, keep_alive: bool) {
        if !keep_alive {
            self.state = State::Ended;
            return self.chat.close_when_done();
        }
        self.state = State::Head;
        self.set_timer(self.proxy.options.idle);
        self.chat.resume_reading();
        match mem::replace(&mut self.next, Next::Incomplete) {
            Next::Incomplete => {}
            Next::Complete => {
                let head = mem::take(&mut self.head);
                self.found_head(&head);
            }
            Next::Rejected(rejected) => self.refuse(rejected),
        }
    }
}

impl AsyncChat for Client {
    fn collect_incoming_data(&mut self, piece: &[u8]) -> Result {
        let is_waiting = self.is_waiting();
        if !is_waiting && !matches!(self.state, State::Head) {
            self.forward_piece(piece);
            return Ok(());
        }
        let start = self.head.len();
        let was_blank = http1::is_blank(&self.head);
        self.head.extend_from_slice(piece);
        // A client that sends empty lines only is idle: it would have its connection for ever.
        if was_blank && !http1::is_blank(&self.head) && !is_waiting {
            self.set_timer(self.proxy.options.idle);
        }
        if http1::has_bare_lf(&self.head, start) {
            let rejected = Rejected::bad("a line ends with CR LF");
            if is_waiting {
                self.set_next(Next::Rejected(rejected));
            } else {
                self.refuse(rejected);
            }
        }
        Ok(())
    }

    fn found_terminator(&mut self, record: &[u8]) -> Result {
        if self.is_waiting() {
            if http1::is_blank(&self.head) {
                self.head.clear();
            } else {
                self.set_next(Next::Complete);
            }
            return Ok(());
        }
        match &mut self.state {
            State::Head => {
                let head = mem::take(&mut self.head);
                self.found_head(&head);
            }
            State::Forward(forwarding) => match forwarding.body.found_terminator(record) {
                Ok(()) => self.set_body_terminator(),
                Err(rejected) => self.refuse_body(rejected),
            },
            State::LoggingIn | State::Tunnel(..) | State::Ended => {}
        }
        Ok(())
    }

    fn handle_overflow(&mut self, _: &RecordLimit) -> Result<Overflow> {
        let is_waiting = self.is_waiting();
        if !is_waiting && !matches!(self.state, State::Head) {
            self.refuse_body(Rejected::bad("a line of the chunked body is too long"));
            return Ok(Overflow::CloseWhenDone);
        }
        let has_line = memchr::memchr(b'\n', &self.head).is_some();
        let (status, why) = if has_line {
            (431, "the head of the request is too long")
        } else {
            (414, "the target is too long")
        };
        let rejected = Rejected { status, why };
        if is_waiting {
            self.set_next(Next::Rejected(rejected));
            return Ok(Overflow::Discard);
        }
        self.refuse(rejected);
        Ok(Overflow::CloseWhenDone)
    }

    fn handle_eof(&mut self, _: &[u8]) -> Result<Eof> {
        let State::Forward(forwarding) = &self.state else {
            return Ok(Eof::CloseWhenDone);
        };
        if !self.is_waiting() {
            // The request will not be completed. A response in progress must not look complete.
            self.chat.abort();
            return Ok(Eof::CloseWhenDone);
        }
        let exchange = &forwarding.exchange;
        exchange.keep_alive.set(false);
        exchange.client_has_finished.set(true);
        if let Some(link) = &self.server {
            exchange.limit_silence(&link.chat);
        }
        Ok(Eof::StayOpen)
    }

    /// Of a tunnel.
    fn handle_piped(&mut self, chunk: &[u8]) -> Result {
        if chunk.is_empty() {
            was_half_closed(&self.proxy, &self.chat);
        }
        Ok(())
    }

    fn handle_timer(&mut self, _: TimerId) -> Result {
        match &self.state {
            // An idle connection is closed without a word: RFC 9112 section 9.5.
            State::Head if http1::is_blank(&self.head) => self.chat.close_when_done(),
            State::Head => {
                let why = "the request was not complete in time";
                self.refuse(Rejected { status: 408, why });
            }
            State::LoggingIn => {
                self.is_last = true;
                self.checked(Sender::Unchecked);
            }
            State::Tunnel(it) if it.is_looking_up() => self.fail(Failure::TimedOut),
            State::Forward(it) if it.look_up.is_some() => self.fail(Failure::TimedOut),
            State::Forward(_) => self.check_progress(),
            State::Tunnel(..) | State::Ended => {}
        }
        Ok(())
    }

    /// A request that has begun gets its reply. A tunnel ends by itself.
    fn handle_shutdown(&mut self) -> Result<AtShutdown> {
        Ok(match &self.state {
            State::Head if http1::is_blank(&self.head) => AtShutdown::CloseWhenDone,
            State::Ended => AtShutdown::CloseWhenDone,
            State::Head | State::LoggingIn => {
                self.is_last = true;
                AtShutdown::Stay
            }
            State::Tunnel(..) => AtShutdown::Stay,
            State::Forward(forwarding) => {
                forwarding.exchange.keep_alive.set(false);
                AtShutdown::Stay
            }
        })
    }

    fn handle_close(&mut self, why: &Close) {
        match &self.state {
            State::Tunnel(tunnel) => {
                let is_open = match &tunnel.dialing {
                    Dialing::Connecting(far) if far.is_connecting() => {
                        far.close();
                        false
                    }
                    Dialing::Connecting(_) => true,
                    Dialing::LookingUp(_) => false,
                };
                let user = self.user.as_deref();
                log_end("CONNECT", &self.chat, user, Some(&tunnel.to), is_open, why);
            }
            State::Forward(forwarding) => {
                let server = self.server.as_ref();
                let event = if server.is_some_and(|link| !link.chat.is_connecting()) {
                    Event::Response
                } else {
                    Event::Failed
                };
                let status = forwarding.exchange.status.get();
                self.log_request(event, status, &format!("client: {why}"));
            }
            State::Head | State::LoggingIn | State::Ended => {}
        }
        if let Some(link) = self.server.take() {
            match link.slot.take() {
                // The server must not take the rest of the request for granted, and need not finish its response.
                Some(_) => link.chat.abort(),
                None => link.chat.close(),
            }
        }
    }
}

/// Fails: the client receives what was pushed before, and then a reset.
struct Cut;

impl Producer for Cut {
    fn more(&mut self, _: usize) -> io::Result<More> {
        Err(io::Error::other("the response of the server is incomplete"))
    }
}
