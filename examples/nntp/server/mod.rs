//! The server without the command line and the sources of `nntp`, so that other
//! programs can include it. [`serve`] serves a [`Spool`], and [`Service`] does so on
//! several addresses.
//!
//! Reading order:
//!
//! * `session.rs`: the handler of a connection;
//! * `commands/`: the table of commands, and a file for each group of commands;
//! * `client_errors.rs`: what a client's errors lead to;
//! * `spool.rs`, `article.rs`: groups and articles;
//! * `incoming.rs`, `admission.rs`, `store.rs`: receiving, checking and storing a
//!   post;
//! * `throttled_warning.rs`: log messages about failing disks;
//! * `wildmat.rs`, `range.rs`, `date.rs`, `head.rs`, `crlf.rs`: the protocol's
//!   formats.

#![allow(
    unreachable_pub,
    reason = "in a program, `pub` items are visible to the other modules only"
)]

mod admission;
pub mod article;
mod client_errors;
mod commands;
mod crlf;
pub mod date;
pub mod head;
mod incoming;
#[path = "../../common/linger.rs"]
mod linger;
pub mod passwords;
mod range;
mod session;
pub mod spool;
pub mod store;
pub mod throttled_warning;
mod wildmat;

use std::cell::{RefCell, RefMut};
use std::rc::Rc;
use std::time::Duration;

use asynchat::proxy_protocol::Network;
use asynchat::{Channel, Chat, Deadlines, Error, Limits, Remote, Result, Server, Target};

use passwords::CheckPassword;
pub use session::Session;
pub use spool::Spool;
use store::Store;

/// The options of a [`Service`].
pub struct Options {
    /// The server's name in Path, Xref and generated Message-IDs.
    pub name: String,
    /// The maximum length of a posted article, in octets.
    pub max_article: usize,
    /// Octets of memory that all posts may use together.
    pub max_spool: u64,
    /// The limits on connections and on their records and queues.
    pub limits: Limits,
    /// The networks of the proxies that send the client's address; if empty, there is no proxy.
    pub proxies: Vec<Network>,
    /// The deadlines for idle connections, command lines and unread replies.
    pub deadlines: Deadlines,
    /// The time limit for receiving an article.
    pub article_time: Duration,
    /// This many bad commands in a row end a session.
    pub max_bad_commands: usize,
    /// This many failed log-ins end a session.
    pub max_failed_logins: usize,
    /// How long the check of a password may take, with the time that it waits for others.
    pub password_time: Duration,
    /// If set, clients must log in. It is a function because it may start threads and may use crates that other programs
    /// with this module do not have.
    pub check_password: Option<Box<CheckPassword>>,
    /// Whether passwords are accepted without TLS.
    pub insecure_auth: bool,
    /// Begins TLS on a connection, for STARTTLS. This is a function because some programs that include this
    /// module are built without TLS.
    pub start_tls: Option<Box<StartTls>>,
    /// Stores posts. Without it, posts are in memory.
    pub store: Option<Box<dyn Store>>,
}

pub type StartTls = dyn Fn(&Chat) -> Result<(), Error>;

impl Default for Options {
    fn default() -> Options {
        Options {
            name: "news.asynchat.invalid".to_owned(),
            max_article: 1 << 20,
            max_spool: 64 << 20,
            // 512 octets with the CRLF: RFC 3977, section 3.1.
            limits: Limits::default().record(510),
            proxies: Vec::new(),
            // The idle timeout must be at least three minutes: section 3.1.
            deadlines: Deadlines::default()
                .idle(Duration::from_secs(600))
                .record(Duration::from_secs(60))
                .drain(Duration::from_secs(60)),
            article_time: Duration::from_secs(600),
            max_bad_commands: 10,
            max_failed_logins: 3,
            password_time: Duration::from_secs(30),
            check_password: None,
            insecure_auth: false,
            start_tls: None,
            store: None,
        }
    }
}

/// Serves the spool on `addr`, on this thread's loop.
#[allow(dead_code, reason = "`nntp` itself may have two listeners")]
pub fn serve(addr: impl Into<Target>, spool: Spool, options: Options) -> Result<Channel, Error> {
    Service::new(spool, options)?.serve(addr)
}

/// The state that all sessions share. No method of a handle calls user code, so
/// the spool may be borrowed while replies are pushed.
pub struct Service {
    /// The store's thread posts its results to this loop through it.
    remote: Remote,
    options: Options,
    spool: RefCell<Spool>,
}

impl Service {
    pub fn new(spool: Spool, options: Options) -> Result<Rc<Service>, Error> {
        Ok(Rc::new(Service {
            remote: asynchat::remote()?,
            options,
            spool: RefCell::new(spool),
        }))
    }

    /// Serves on `addr`, on this thread's loop.
    pub fn serve(self: &Rc<Self>, addr: impl Into<Target>) -> Result<Channel, Error> {
        self.listen(self.server(addr), false)
    }

    /// Serves on `addr` with TLS from the beginning (RFC 8143), which `with_tls` adds to the builder.
    pub fn serve_tls(
        self: &Rc<Self>,
        addr: impl Into<Target>,
        with_tls: impl FnOnce(Server) -> Server,
    ) -> Result<Channel, Error> {
        self.listen(with_tls(self.server(addr)), true)
    }

    fn server(&self, addr: impl Into<Target>) -> Server {
        let server = Server::new(addr)
            .limits(self.options.limits)
            .deadlines(self.options.deadlines)
            // Sent instead of a greeting: RFC 3977, section 5.1.1.
            .refusal("400 too many connections, try again later\r\n");
        if self.options.proxies.is_empty() {
            server
        } else {
            server.proxy_protocol(self.options.proxies.iter().copied())
        }
    }

    fn listen(self: &Rc<Self>, server: Server, is_secure: bool) -> Result<Channel, Error> {
        let service = Rc::clone(self);
        server.listen(move |chat| Session::new(chat, Rc::clone(&service), is_secure))
    }

    fn spool(&self) -> RefMut<'_, Spool> {
        self.spool.borrow_mut()
    }

    /// Files the posts that the store has written since the last call.
    fn file_finished_posts(&self) {
        if let Some(store) = &self.options.store {
            store.file_finished(&mut self.spool());
        }
    }
}
