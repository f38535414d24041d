//! The folder over HTTP/1.1 (RFC 9110, RFC 9112).
//!
//! Reading order: `session.rs` (the handler: heads, bodies, time), `incoming.rs`, `get.rs`, `put.rs`, then what these use:
//! `host.rs`, `reply.rs`, `conditions.rs`, `range.rs`, `coding.rs`, `page.rs`; and what is below `/-/`: `own.rs`,
//! `events.rs`.

mod auth;
pub mod coding;
pub mod conditions;
mod events;
pub mod get;
pub mod host;
mod incoming;
mod own;
mod page;
mod put;
pub mod range;
mod reply;
pub mod session;

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use asynchat::proxy_protocol::Network;
use asynchat::{Channel, Deadlines, Error, Limits, Result, Server, Target, Terminator, tls};

use crate::access_log::AccessLog;
use crate::clock::Clock;
use crate::http1;
use crate::status::{Connection, Status};
use crate::tree::Tree;
use crate::users::{Client, Logins, Share, Shares};
use events::Events;
use host::Hosts;
use session::Session;

/// The options of a [`Service`].
pub struct Options {
    /// The names by which clients may call the server.
    pub hosts: Hosts,
    /// Whether everybody may read. Otherwise each request needs a user.
    pub anonymous: bool,
    /// Whether PUT and DELETE are enabled, for [`Options::logins`].
    pub write: bool,
    /// Users. The services of a program can share their log-ins.
    pub logins: Logins,
    /// Whether a password is accepted without TLS, although there is [`Options::tls`].
    pub insecure_auth: bool,
    /// The longest upload in bytes.
    pub max_upload: u64,
    /// The time for a head, from its first byte, and for each 64 KiB of a body.
    pub receive_time: Duration,
    /// The grace of a shutdown. Shortly before its end uploads are cut, with a reply.
    pub grace: Duration,
    pub limits: Limits,
    /// The files and folders that may be open while they are sent or received, and the large files that were removed, until
    /// they are closed. The services of a program share them.
    pub open_files: Shares,
    /// Proxies that send the address of the client first (the PROXY protocol). If there are some, nobody else may connect.
    pub proxies: Vec<Network>,
    /// For peers that do not take a reply, and for connections without a request.
    pub deadlines: Deadlines,
    pub access_log: Option<AccessLog>,
    pub tls: Option<tls::Acceptor>,
    /// What the status page shows. The services of a program share it.
    pub status: Rc<Status>,
    /// Whether there are the status page and the metrics.
    pub has_status_page: bool,
    /// Clients that may see the status page, besides those on this host.
    pub viewers: Vec<Network>,
    /// The clock for dates.
    pub clock: fn() -> SystemTime,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            hosts: Hosts::default(),
            anonymous: true,
            write: false,
            logins: Logins::default(),
            insecure_auth: false,
            max_upload: 1 << 30,
            receive_time: Duration::from_secs(30),
            grace: Duration::from_secs(5),
            // A request takes as long as the system calls for a file, and for the compressed ones beside it.
            limits: Limits::default().turn_records(16),
            open_files: Shares::unlimited(),
            proxies: Vec::new(),
            deadlines: Deadlines::default()
                .idle(Duration::from_secs(75))
                .drain(Duration::from_secs(60)),
            access_log: None,
            tls: None,
            status: Status::new(Path::new("."), SystemTime::now),
            has_status_page: true,
            viewers: Vec::new(),
            clock: SystemTime::now,
        }
    }
}

/// What all sessions share.
pub struct Service {
    pub options: Options,
    pub tree: Tree,
    status: Rc<Status>,
    events: Events,
    clock: RefCell<Clock>,
    head_terminator: Terminator,
    /// Buffers that a session uses while it receives or sends a head.
    received: Cell<Vec<u8>>,
    sent: Cell<Vec<u8>>,
}

impl Service {
    pub fn new(tree: Tree, options: Options) -> Rc<Service> {
        Rc::new(Service {
            clock: RefCell::new(Clock::new(options.clock)),
            head_terminator: http1::head_terminator().streamed(),
            received: Cell::default(),
            sent: Cell::default(),
            status: Rc::clone(&options.status),
            events: Events::default(),
            options,
            tree,
        })
    }

    /// Serves on `addr`, on this thread's loop.
    pub fn serve(self: &Rc<Self>, addr: impl Into<Target>) -> Result<Channel, Error> {
        self.listen(self.server(addr), "http")
    }

    /// Serves on `addr` with TLS.
    pub fn serve_tls(self: &Rc<Self>, addr: impl Into<Target>) -> Result<Channel, Error> {
        let acceptor = self.options.tls.as_ref();
        let acceptor = acceptor.ok_or_else(|| Error::new("TLS needs a certificate"))?;
        self.listen(self.server(addr).tls(acceptor), "https")
    }

    /// Counts an open file of a client. `None` if the client has its share.
    fn open_file(&self, connection: &Connection) -> Option<Arc<Share>> {
        let client = Client::new(connection.peer.as_ref());
        self.options.open_files.take(client).map(Arc::new)
    }

    fn server(&self, addr: impl Into<Target>) -> Server {
        let refusal = http1::status::refusal("too many connections, try again later\n");
        let server = Server::new(addr)
            .limits(self.options.limits)
            .deadlines(self.options.deadlines)
            .refusal(refusal);
        if self.options.proxies.is_empty() {
            server
        } else {
            server.proxy_protocol(self.options.proxies.iter().copied())
        }
    }

    fn listen(self: &Rc<Self>, server: Server, protocol: &'static str) -> Result<Channel, Error> {
        let service = Rc::clone(self);
        let on_loopback = Rc::new(Cell::new(None));
        let of_sessions = Rc::clone(&on_loopback);
        let listener = server.listen(move |chat| {
            let on_loopback = of_sessions
                .get()
                .unwrap_or_else(|| host::is_on_loopback(&chat));
            Session::new(chat, Rc::clone(&service), protocol, on_loopback)
        })?;
        on_loopback.set(
            listener
                .local_addr()
                .as_ref()
                .and_then(host::are_on_loopback),
        );
        Ok(listener)
    }
}
