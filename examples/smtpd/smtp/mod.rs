//! The server, without its command line, so that another program can run one:
//! a test, mostly. [`Service::open`] a maildir and [`Service::serve`] it.
//!
//! Reading order: `session.rs` (the handler: records in, replies out),
//! `transfer.rs` (a message on its way in), `courier.rs` (its last step, off
//! the loop), `maildir.rs` (where it goes), `envelope.rs` (what is written
//! before it), and the language of the protocol: `command.rs`, `address.rs`.

// In a program `pub` is what a module offers its neighbours.
#![allow(unreachable_pub)]

pub mod address;
pub mod command;
pub mod courier;
mod envelope;
mod maildir;
mod session;
mod transfer;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use asynchat::{Channel, Deadlines, Error, Limits, Result, Server};

use address::Mailbox;
use courier::Couriers;
use maildir::Maildir;
pub use session::Session;

/// How to serve.
pub struct Options {
    /// The server's name in greetings, Received lines and file names.
    pub name: String,
    /// Whose mail is taken; `*` is everybody's.
    pub domains: Vec<String>,
    /// Octets of the longest message taken.
    pub max_size: u64,
    /// Recipients that a message may have. RFC 5321, section 4.5.3.1.8, wants
    /// 100 at least.
    pub max_recipients: usize,
    /// So many bad commands in a row end a session.
    pub max_bad_commands: usize,
    /// How many connections there may be, and what each may hold.
    pub limits: Limits,
    /// How long a connection may be silent, take over a command line, and leave
    /// what it is sent.
    pub deadlines: Deadlines,
    /// How long a message may take to come in.
    pub message_time: Duration,
    /// Threads that wait for the disk; with none of them the loop does.
    pub couriers: usize,
    /// Whether a message is on the disk before the client is told that it is
    /// taken.
    pub fsync: bool,
    /// What the time is.
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
            // Section 4.5.3.2.7: a server waits five minutes for a command.
            deadlines: Deadlines::default()
                .idle(Duration::from_secs(300))
                .record(Duration::from_secs(60))
                .drain(Duration::from_secs(60)),
            message_time: Duration::from_secs(600),
            couriers: 4,
            fsync: true,
            clock: SystemTime::now,
        }
    }
}

/// What all sessions share.
pub struct Service {
    options: Options,
    maildir: RefCell<Maildir>,
    couriers: Couriers,
}

impl Service {
    /// A service that delivers to this maildir, made if it is not there.
    pub fn open(maildir: &Path, options: Options) -> Result<Rc<Service>> {
        let opened = Maildir::open(maildir, &options.name, options.fsync)
            .map_err(|error| Error::from(error).context(maildir.display()))?;
        let couriers = Couriers::new(options.couriers)
            .map_err(|error| Error::from(error).context("start the couriers"))?;
        Ok(Rc::new(Service {
            maildir: RefCell::new(opened),
            couriers,
            options,
        }))
    }

    /// Serves on `addr`, on this thread's loop.
    pub fn serve(self: Rc<Self>, addr: impl Into<asynchat::Target>) -> Result<Channel> {
        let name = &self.options.name;
        Server::new(addr)
            .limits(self.options.limits)
            .deadlines(self.options.deadlines)
            // In the place of a greeting: RFC 5321, section 3.8.
            .refusal(format!(
                "421 {name} too many connections, try again later\r\n"
            ))
            .listen(move |chat| Session::new(chat, Rc::clone(&self)))
    }

    /// Whether mail to this mailbox is taken. All other would have to be
    /// relayed, and this relays nothing.
    fn is_local(&self, mailbox: &Mailbox) -> bool {
        let is = |domain: &String| domain == "*" || domain.eq_ignore_ascii_case(&mailbox.domain);
        self.options.domains.iter().any(is)
    }
}
