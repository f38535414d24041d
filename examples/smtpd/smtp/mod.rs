//! The server without the command line, so that tests can run it.
//! [`Service::open`] opens a maildir, and [`Service::serve`] starts the server.
//!
//! Reading order: `session.rs` (the handler), `transfer.rs` (receiving a message),
//! `workers.rs` (threads for its delivery), `maildir.rs` (the files), `envelope.rs`
//! (the lines that are added before a message), `command.rs` and `address.rs` (the
//! parsers).

#![allow(
    unreachable_pub,
    reason = "in a program, `pub` items are visible to the other modules only"
)]

pub mod address;
pub mod command;
mod envelope;
#[path = "../../common/linger.rs"]
mod linger;
mod maildir;
mod session;
mod transfer;
pub mod workers;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use asynchat::proxy_protocol::Network;
use asynchat::{Channel, Deadlines, Error, Limits, Result, Server, Target, tls};

use address::Mailbox;
use maildir::Maildir;
pub use session::Session;
use workers::Workers;

/// The options of a [`Service`].
pub struct Options {
    /// The server's name in greetings, Received lines and file names.
    pub name: String,
    /// Mail for these domains is accepted; `*` means all domains.
    pub domains: Vec<String>,
    /// The maximum size of a message in octets.
    pub max_size: u64,
    /// The maximum number of recipients of a message. RFC 5321, section
    /// 4.5.3.1.8, requires at least 100.
    pub max_recipients: usize,
    /// This many bad commands in a row end a session.
    pub max_bad_commands: usize,
    /// The limits on connections and on their queues.
    pub limits: Limits,
    /// The networks of the proxies that send the client's address; if empty, there is no proxy.
    pub proxies: Vec<Network>,
    /// The deadlines for idle connections, command lines and unread replies.
    pub deadlines: Deadlines,
    /// The time limit for receiving a message.
    pub message_time: Duration,
    /// How many threads write to the disk. With 0, the loop's thread does.
    pub workers: usize,
    /// Whether a message is on the disk before its delivery is confirmed.
    pub fsync: bool,
    /// The certificate for STARTTLS and for [`Service::serve_tls`]. Without it the server has no TLS.
    pub tls: Option<tls::Acceptor>,
    /// The clock for dates and file names.
    pub clock: fn() -> SystemTime,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            name: "localhost".to_owned(),
            domains: vec!["localhost".to_owned()],
            max_size: 32 << 20,
            max_recipients: 100,
            max_bad_commands: 10,
            limits: Limits::default(),
            proxies: Vec::new(),
            // Section 4.5.3.2.7: a server waits five minutes for a command.
            deadlines: Deadlines::default()
                .idle(Duration::from_secs(300))
                .record(Duration::from_secs(60))
                .drain(Duration::from_secs(60)),
            message_time: Duration::from_secs(600),
            workers: 4,
            fsync: true,
            tls: None,
            clock: SystemTime::now,
        }
    }
}

/// The state that all sessions share.
pub struct Service {
    options: Options,
    maildir: RefCell<Maildir>,
    workers: Workers,
}

impl Service {
    /// Opens a service for this maildir, which is created if it does not exist.
    pub fn open(maildir: &Path, options: Options) -> Result<Rc<Service>, Error> {
        let opened = Maildir::open(maildir, &options.name, options.fsync)
            .map_err(|error| Error::from(error).context(maildir.display()))?;
        let workers = Workers::new(options.workers)
            .map_err(|error| Error::from(error).context("start the worker threads"))?;
        Ok(Rc::new(Service {
            maildir: RefCell::new(opened),
            workers,
            options,
        }))
    }

    /// Serves on `addr`, on this thread's loop. With a certificate, clients can begin TLS with STARTTLS.
    pub fn serve(self: &Rc<Self>, addr: impl Into<Target>) -> Result<Channel, Error> {
        self.listen(self.server(addr))
    }

    /// Serves on `addr` with TLS from the beginning (RFC 8314).
    pub fn serve_tls(self: &Rc<Self>, addr: impl Into<Target>) -> Result<Channel, Error> {
        let acceptor = self.options.tls.as_ref();
        let acceptor = acceptor.ok_or_else(|| Error::new("TLS needs a certificate"))?;
        self.listen(self.server(addr).tls(acceptor))
    }

    fn server(&self, addr: impl Into<Target>) -> Server {
        let name = &self.options.name;
        // Sent instead of a greeting: RFC 5321, section 3.8.
        let refusal = format!("421 {name} too many connections, try again later\r\n");
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

    fn listen(self: &Rc<Self>, server: Server) -> Result<Channel, Error> {
        let service = Rc::clone(self);
        server.listen(move |chat| Session::new(chat, Rc::clone(&service)))
    }

    /// Whether mail to this mailbox is accepted. Other mail would have to be
    /// relayed, and this server does not relay.
    fn is_local(&self, mailbox: &Mailbox) -> bool {
        let is = |domain: &String| domain == "*" || domain.eq_ignore_ascii_case(&mailbox.domain);
        self.options.domains.iter().any(is)
    }
}
