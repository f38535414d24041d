//! The handler of a connection: heads and bodies in turn, replies in the order of the requests, and time limits with a
//! last reply.

use std::cell::Cell;
use std::mem;
use std::rc::Rc;
use std::time::{Duration, Instant};

use asynchat::{AsyncChat, AtShutdown, Chat, Close, Eof, Overflow, RecordLimit, Result, TimerId};
use tracing::debug;

use super::auth::{self, Sender};
use super::incoming::{Incoming, MOST_DISCARDED};
use super::reply::{self, Content, Exchange, Reply};
use super::{Service, get, host, put};
use crate::access_log;
use crate::author::Author;
use crate::http1::{self, Framing, Rejected, Request, Version};
use crate::status::{Connection, Record};

/// So many replies of a connection may have a file open. Further requests wait: a client that asks for a thousand files
/// at once must not take a thousand descriptors.
const MOST_OPEN: usize = 4;

/// The status of a request whose client left before the reply, as nginx logs it.
const CUT: u16 = 499;

pub struct Session {
    chat: Chat,
    service: Rc<Service>,
    /// Whether the client has connected to a loopback address.
    on_loopback: bool,
    /// For the status page.
    connection: Rc<Connection>,
    state: State,
    /// What has arrived of a head. It has no capacity between two requests.
    head: Vec<u8>,
    /// When the head began, or the empty lines before it while there is nothing else.
    since: Instant,
    waits: Rc<Waits>,
    /// Is set while something is incomplete, and then fires once.
    timer: Option<TimerId>,
    /// Whether the next reply is the last one: the server shuts down, or a password was not checked in time.
    is_last: bool,
    /// Ends a request that is incomplete before the grace of a shutdown is over.
    end_timer: Option<TimerId>,
}

enum State {
    /// The next request is awaited, or its head is being received.
    Head,
    /// The head is complete, and its password is being checked. If the client leaves, the request is counted and logged
    /// without a user.
    Login(Box<Record>),
    /// The body is being received, to be kept or to be discarded.
    Body(Box<Incoming>),
}

/// What the next request waits for.
#[derive(Default)]
struct Waits {
    /// How many replies are being sent that have a file open.
    open: Cell<usize>,
    /// Whether a password is being checked.
    for_login: Cell<bool>,
}

impl Session {
    pub fn new(
        chat: Chat,
        service: Rc<Service>,
        protocol: &'static str,
        on_loopback: bool,
    ) -> Session {
        chat.set_terminator(service.head_terminator.clone());
        let connection = service.status.connected(protocol, chat.peer_addr());
        Session {
            chat,
            service,
            on_loopback,
            connection,
            state: State::Head,
            head: Vec::new(),
            since: asynchat::now(),
            waits: Rc::default(),
            timer: None,
            is_last: false,
            end_timer: None,
        }
    }

    fn collect_head(&mut self, piece: &[u8]) {
        if self.head.is_empty() {
            if self.head.capacity() == 0 {
                self.head = self.service.received.take();
            }
            self.since = asynchat::now();
        }
        let had_begun = self.has_begun();
        let start = self.head.len();
        self.head.extend_from_slice(piece);
        // A request has all of its time. Some clients send the empty line long before it.
        if !had_begun && self.has_begun() {
            self.since = asynchat::now();
        }
        // Most heads are complete at once, and need no timer.
        if !self.head.ends_with(http1::HEAD_END) {
            self.set_timer(self.service.options.receive_time);
        }
        if http1::has_bare_lf(&self.head, start) {
            self.refuse(Rejected::bad("a line ends with CR LF"));
        }
    }

    fn head_is_complete(&mut self) {
        let head = mem::take(&mut self.head);
        if http1::is_blank(&head) {
            self.expect_request();
            return self.recycle(head);
        }
        let mut space = http1::field_space();
        match Request::parse(&head, &mut space) {
            Ok(request) => match self.sender(&request) {
                Some(sender) => self.begin(&request, &sender),
                None => {
                    self.wait_for_login(&request);
                    self.head = head;
                    return;
                }
            },
            Err(rejected) => self.refuse(rejected),
        }
        self.recycle(head);
    }

    /// After empty lines. Their time began with the first of them: otherwise a client that sends nothing else would have its
    /// connection for ever.
    fn expect_request(&mut self) {
        self.head = b"\r\n".to_vec();
        self.set_timer(self.service.options.receive_time);
        if self.is_last {
            self.chat.close_when_done();
        }
    }

    /// Whether the head of a request has begun. Empty lines before it are no part of it.
    fn has_begun(&self) -> bool {
        !http1::is_blank(&self.head)
    }

    /// Whether a part of a request has arrived, and the rest is awaited.
    fn is_incomplete(&self) -> bool {
        matches!(self.state, State::Body(_)) || self.has_begun()
    }

    fn recycle(&self, mut head: Vec<u8>) {
        head.clear();
        self.service.received.set(head);
    }

    /// Who sends a request. Nobody, if it needs no user.
    fn sender(&self, request: &Request<'_>) -> Option<Sender> {
        if self.needs_user(request) && self.is_host(request) {
            auth::sender(request.fields, &self.service.options, &self.chat)
        } else {
            Some(Sender::Nobody)
        }
    }

    fn is_host(&self, request: &Request<'_>) -> bool {
        let hosts = &self.service.options.hosts;
        hosts.accept(request, self.on_loopback)
    }

    fn needs_user(&self, request: &Request<'_>) -> bool {
        let options = &self.service.options;
        match request.method {
            "PUT" | "DELETE" => options.write || !options.anonymous,
            // A load balancer has no password.
            _ => !options.anonymous && request.target != "/-/health",
        }
    }

    fn wait_for_login(&mut self, request: &Request<'_>) {
        self.connection.begin(request.method, request.target);
        self.state = State::Login(Box::new(self.record(request, None)));
        self.waits.for_login.set(true);
        self.chat.pause_reading();
        self.set_timer(self.service.options.receive_time);
    }

    /// The password of a request was checked.
    pub fn checked(&mut self, sender: &Sender) {
        if self.chat.is_closing() {
            return;
        }
        if let State::Login(record) = mem::replace(&mut self.state, State::Head) {
            record.dismiss();
        }
        let head = mem::take(&mut self.head);
        self.waits.for_login.set(false);
        self.waits.resume(&self.chat);
        let mut space = http1::field_space();
        match Request::parse(&head, &mut space) {
            Ok(request) => self.begin(&request, sender),
            Err(rejected) => self.refuse(rejected),
        }
        self.recycle(head);
    }

    /// Replies to a request, or begins to receive what it uploads.
    fn begin(&mut self, request: &Request<'_>, sender: &Sender) {
        let service = Rc::clone(&self.service);
        let user = sender.user();
        self.connection.begin(request.method, request.target);
        let wants_another = request.keep_alive();
        let mut exchange = Exchange {
            is_head: request.method == "HEAD",
            version: request.version,
            // What follows CONNECT at once is for the tunnel that there is not, and must not be taken for a request.
            keep_alive: wants_another && request.method != "CONNECT",
            client_is_done: !wants_another
                && request.framing == Framing::Empty
                && request.method != "CONNECT"
                && self.waits.open.get() == 0,
            is_private: self.is_private(),
            record: self.record(request, user),
        };
        let allowed = if service.options.write {
            "GET, HEAD, OPTIONS, PUT, DELETE"
        } else {
            "GET, HEAD, OPTIONS"
        };
        let expects = request.expects_continue();
        let author = |user| Author::new(user, self.connection.peer.as_ref());
        let reply = match (request.method, user) {
            _ if host::is_missing(request) => Reply::text(400, "the target has no host"),
            _ if !self.is_host(request) => Reply::text(421, host::refusal(request)),
            _ if expects.is_err() => Reply::text(417, "the expectation is not known"),
            (_, None) if self.needs_user(request) => sender.refusal(&service.options, &self.chat),
            ("GET" | "HEAD", _) => {
                let client = self.connection.peer.as_ref();
                let client = client.filter(|_| !self.is_unnamed());
                get::get(&service, request, (&self.chat, client), self.is_last)
            }
            ("PUT", Some(user)) if service.options.write => {
                match put::begin(&service, request, &self.connection, author(user)) {
                    Ok(upload) => {
                        if expects == Ok(true) {
                            self.chat.push("HTTP/1.1 100 Continue\r\n\r\n");
                        }
                        return self.receive(request.framing, Some((upload, exchange)));
                    }
                    Err(reply) => reply,
                }
            }
            ("DELETE", Some(user)) if service.options.write => {
                put::delete(&service, request, &self.connection, &author(user))
            }
            ("OPTIONS", _) => Reply::new(204, Content::None).field("Allow", allowed),
            ("PUT" | "DELETE" | "POST" | "PATCH" | "TRACE" | "CONNECT", _) => {
                Reply::text(405, format_args!("{allowed} are possible")).field("Allow", allowed)
            }
            _ => Reply::text(501, "the method is not known"),
        };
        // A client that has waited does not send the body, or it does: where the next request begins is not known.
        let is_discarded = match request.framing {
            Framing::Empty => true,
            Framing::Length(length) => length <= MOST_DISCARDED && expects == Ok(false),
            _ => expects == Ok(false),
        };
        exchange.keep_alive &= is_discarded;
        self.send(exchange, reply);
        if request.framing != Framing::Empty {
            self.receive(request.framing, None);
        }
    }

    /// Whether a proxy has not named the client. Then the address of the client is that of the proxy.
    fn is_unnamed(&self) -> bool {
        let header = || self.chat.proxy_header();
        !self.service.options.proxies.is_empty() && header().is_none_or(|it| it.source().is_none())
    }

    /// Whether a browser can read here what the pages of other sites cannot request themselves.
    fn is_private(&self) -> bool {
        self.on_loopback || !self.service.options.anonymous
    }

    /// Counts and logs a request at its end.
    fn record(&self, request: &Request<'_>, user: Option<&str>) -> Record {
        let fields = request.fields;
        let line = self.service.options.access_log.as_ref().map(|log| {
            let request = access_log::Request {
                user,
                method: request.method,
                target: request.target,
                protocol: match request.version {
                    Version::Http10 => "HTTP/1.0",
                    Version::Http11 => "HTTP/1.1",
                },
                referer: fields.only("referer"),
                user_agent: fields.only("user-agent"),
            };
            let mut clock = self.service.clock.borrow_mut();
            log.request(self.connection.peer.as_ref(), clock.log_date(), &request)
        });
        let methods = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"];
        let known = methods.into_iter().find(|it| *it == request.method);
        self.new_record(known.unwrap_or("other"), line)
    }

    /// For what is no request.
    fn record_of_none(&self) -> Record {
        let line = self.service.options.access_log.as_ref().map(|log| {
            let mut clock = self.service.clock.borrow_mut();
            log.refused(self.connection.peer.as_ref(), clock.log_date())
        });
        self.new_record("none", line)
    }

    fn new_record(&self, method: &'static str, line: Option<access_log::Line>) -> Record {
        let protocol = self.connection.protocol.get();
        Record::new(&self.service.status, protocol, method, CUT, line)
    }

    fn receive(&mut self, framing: Framing, upload: Option<(put::Upload, Exchange)>) {
        let incoming = Incoming::new(framing, upload, &self.connection);
        self.go_on(Box::new(incoming));
    }

    /// Sets the terminator of the next part of a body, or of the next head.
    fn go_on(&mut self, incoming: Box<Incoming>) {
        match incoming.terminator() {
            Some(terminator) => {
                self.chat.set_terminator(terminator);
                self.state = State::Body(incoming);
                self.set_timer(self.service.options.receive_time);
            }
            None => {
                self.chat
                    .set_terminator(self.service.head_terminator.clone());
                if let Some((upload, exchange)) = incoming.upload {
                    let reply = upload.finish(&self.service);
                    self.send(exchange, reply);
                }
            }
        }
    }

    fn send(&mut self, mut exchange: Exchange, reply: Reply) {
        exchange.keep_alive &= !self.is_last;
        debug!(reply.status);
        if reply::send(&self.chat, &self.service, &self.connection, exchange, reply) {
            self.wait_for_files();
        }
    }

    /// Stops reading requests while too many files are open.
    fn wait_for_files(&self) {
        let (chat, waits) = (self.chat.clone(), Rc::clone(&self.waits));
        waits.open.set(waits.open.get() + 1);
        if waits.open.get() >= MOST_OPEN {
            chat.pause_reading();
        }
        self.chat.push_hook(move || {
            waits.open.set(waits.open.get() - 1);
            waits.resume(&chat);
        });
    }

    /// The last reply to a client that sends what is no request. Its further input is ignored, and an upload leaves
    /// nothing.
    fn refuse(&mut self, why: impl Into<Reply>) {
        if self.chat.is_closing() {
            return;
        }
        let exchange = match mem::replace(&mut self.state, State::Head) {
            State::Body(incoming) => match incoming.upload {
                Some((_, exchange)) => exchange,
                // The reply to the request is on its way.
                None => return self.chat.close_when_done(),
            },
            State::Head | State::Login(_) => Exchange {
                is_head: false,
                version: Version::Http11,
                keep_alive: false,
                client_is_done: false,
                is_private: self.is_private(),
                record: self.record_of_none(),
            },
        };
        let exchange = Exchange {
            keep_alive: false,
            ..exchange
        };
        self.send(exchange, why.into());
    }

    /// The password that is being checked comes too late.
    fn end_login(&mut self) {
        self.is_last = true;
        self.checked(&Sender::Unchecked);
        self.chat.close_when_done();
    }

    /// The grace of a shutdown is about to end.
    fn end_request(&mut self) {
        match self.state {
            State::Login(_) => self.end_login(),
            _ if self.is_incomplete() => {
                self.refuse(Reply::text(503, "the server shuts down"));
            }
            _ => {}
        }
    }

    fn set_timer(&mut self, after: Duration) {
        if self.timer.is_none() {
            self.timer = Some(self.chat.call_later(after));
        }
    }
}

impl Waits {
    fn resume(&self, chat: &Chat) {
        if self.open.get() < MOST_OPEN && !self.for_login.get() {
            chat.resume_reading();
        }
    }
}

impl AsyncChat for Session {
    fn collect_incoming_data(&mut self, piece: &[u8]) -> Result {
        let max_upload = self.service.options.max_upload;
        match &mut self.state {
            State::Head | State::Login(_) => self.collect_head(piece),
            State::Body(incoming) => {
                if let Err(reply) = incoming.collect(piece, max_upload) {
                    self.refuse(reply);
                }
            }
        }
        Ok(())
    }

    fn found_terminator(&mut self, record: &[u8]) -> Result {
        match mem::replace(&mut self.state, State::Head) {
            State::Body(mut incoming) => match incoming.found_terminator(record) {
                Ok(()) => self.go_on(incoming),
                Err(rejected) => {
                    self.state = State::Body(incoming);
                    self.refuse(rejected);
                }
            },
            // Nothing is received while a password is checked.
            State::Head | State::Login(_) => self.head_is_complete(),
        }
        Ok(())
    }

    /// A head is too long, or a line of a chunked body.
    fn handle_overflow(&mut self, _: &RecordLimit) -> Result<Overflow> {
        let (status, why) = match (&self.state, self.head.contains(&b'\n')) {
            (State::Body(_), _) => (400, "a line of a chunk is too long"),
            (_, true) => (431, "the head is too long"),
            (_, false) => (414, "the target is too long"),
        };
        self.refuse(Rejected { status, why });
        Ok(Overflow::CloseWhenDone)
    }

    fn handle_eof(&mut self, _: &[u8]) -> Result<Eof> {
        if self.is_incomplete() {
            self.refuse(Rejected::bad("the request is incomplete"));
        }
        Ok(Eof::CloseWhenDone)
    }

    /// What is incomplete has had its time. While a reply is sent, the client may be busy with it.
    fn handle_timer(&mut self, timer: TimerId) -> Result {
        if self.end_timer == Some(timer) {
            self.end_request();
            return Ok(());
        }
        self.timer = None;
        let time = self.service.options.receive_time;
        let is_sending = self.chat.queued() > 0 || self.waits.open.get() > 0;
        let since = match &mut self.state {
            State::Head if self.head.is_empty() => return Ok(()),
            State::Head | State::Login(_) => self.since,
            State::Body(incoming) => incoming.last_progress(),
        };
        let left = time.saturating_sub(asynchat::now() - since);
        if !left.is_zero() {
            self.set_timer(left);
        } else if let State::Login(_) = self.state {
            self.end_login();
        } else if is_sending {
            self.set_timer(time);
        } else if self.is_incomplete() {
            self.refuse(Rejected {
                status: 408,
                why: "the request has taken too long",
            });
        } else {
            self.chat.close_when_done();
        }
        Ok(())
    }

    /// A request that has begun gets its reply, and an upload may be completed. Otherwise the client would send it again.
    /// Close to the end of the grace, what is still incomplete is cut, with a reply.
    fn handle_shutdown(&mut self) -> Result<AtShutdown> {
        self.is_last = match &self.state {
            State::Head => self.has_begun(),
            State::Login(_) => true,
            State::Body(incoming) => incoming.upload.is_some(),
        };
        if !self.is_last {
            return Ok(AtShutdown::CloseWhenDone);
        }
        let time = self.service.options.grace.mul_f64(0.9);
        self.end_timer = Some(self.chat.call_later(time));
        Ok(AtShutdown::Stay)
    }

    fn handle_close(&mut self, why: &Close) {
        self.connection.closed(why);
    }
}
