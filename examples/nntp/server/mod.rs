//! The server, without its sources and its command line, so that another
//! program can run one: [`serve`] a [`Spool`].
//!
//! Reading order: `session.rs` (the handler: records in, replies out),
//! `commands/` (the table of commands, then a file for each family),
//! `conduct.rs` and `guesses.rs` (when it hangs up, and when it takes its time), `spool.rs` and `article.rs` (what is
//! served), `incoming.rs`, `admission.rs` and `store.rs` (the way of a post),
//! `complaint.rs` (what the log says of a disk that fails), and the small languages of the
//! protocol: `wildmat.rs`, `range.rs`, `date.rs`, `head.rs`, `crlf.rs`.

// In a program `pub` is what a module offers its neighbours.
#![allow(unreachable_pub)]

mod admission;
pub mod article;
mod commands;
pub mod complaint;
mod conduct;
mod crlf;
pub mod date;
mod guesses;
pub mod head;
mod incoming;
pub mod passwords;
mod range;
mod session;
pub mod spool;
pub mod store;
mod wildmat;

use std::cell::{RefCell, RefMut};
use std::rc::Rc;
use std::time::Duration;

use asynchat::{Channel, Deadlines, Limits, Remote, Result, Server};

use guesses::Guesses;
use passwords::Passwords;
use session::Session;
pub use spool::Spool;
use store::Store;

/// How to serve.
pub struct Options {
    /// The server's name in Path, Xref and the Message-IDs it makes.
    pub name: String,
    /// Octets of the longest article taken.
    pub max_article: usize,
    /// Octets of memory that posts may take together.
    pub max_spool: u64,
    /// How many connections there may be, and what each may hold.
    pub limits: Limits,
    /// How long a connection may be silent, take over a command line, and leave
    /// what it is sent.
    pub deadlines: Deadlines,
    /// How long an article may take to come in.
    pub article_time: Duration,
    /// So many bad commands in a row end a session.
    pub max_bad_commands: usize,
    /// So many failed log-ins end a session.
    pub max_failed_logins: usize,
    /// How long the reply to an address's first failed log-in waits; each further one doubles it.
    pub login_delay: Duration,
    /// Who may come in; everybody without it.
    pub passwords: Option<Passwords>,
    /// Where posts are kept; without it, in memory.
    pub store: Option<Box<dyn Store>>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            name: "news.asynchat.invalid".to_owned(),
            max_article: 1 << 20,
            max_spool: 64 << 20,
            // 512 octets with the CRLF: RFC 3977, section 3.1.
            limits: Limits::default().record(510),
            // Section 3.1 also has the idle time three minutes at least.
            deadlines: Deadlines::default()
                .idle(Duration::from_secs(600))
                .record(Duration::from_secs(60))
                .drain(Duration::from_secs(60)),
            article_time: Duration::from_secs(600),
            max_bad_commands: 10,
            max_failed_logins: 3,
            login_delay: Duration::from_secs(1),
            passwords: None,
            store: None,
        }
    }
}

/// Serves the spool on `addr`, on this thread's loop.
pub fn serve(addr: impl Into<asynchat::Target>, spool: Spool, options: Options) -> Result<Channel> {
    let server = Server::new(addr)
        .limits(options.limits)
        .deadlines(options.deadlines)
        // In the place of a greeting: RFC 3977, section 5.1.1.
        .refusal("400 too many connections, try again later\r\n");
    let guesses = Guesses::new(options.login_delay);
    let service = Rc::new(Service {
        remote: asynchat::remote()?,
        options,
        spool: RefCell::new(spool),
        guesses,
    });
    server.listen(move |chat| Session::new(chat, Rc::clone(&service)))
}

/// What all sessions share. No handle method calls user code, so the spool may
/// be borrowed while replies are pushed.
struct Service {
    /// The way back to this loop from the store's thread.
    remote: Remote,
    options: Options,
    spool: RefCell<Spool>,
    guesses: Guesses,
}

impl Service {
    fn spool(&self) -> RefMut<'_, Spool> {
        self.spool.borrow_mut()
    }

    /// Brings in the posts that have become durable.
    fn settle(&self) {
        if let Some(store) = &self.options.store {
            store.settle(&mut self.spool());
        }
    }
}
